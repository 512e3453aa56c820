// Takes a stream of numbers from a worker, a few at a time: node stream.js [URL [SERVICE [TO [STOP_AFTER]]]]
import { randomUUID } from 'node:crypto'
import { once, EventEmitter } from 'node:events'
import amqp from 'amqplib'

const FAILURE = 'com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure'
const CREDIT = 8 // items that may be on their way
const TIME_LIMIT = 10_000 // milliseconds without a word from the worker

const [
  url = process.env.AMQPROXY_URL ?? 'amqp://guest:guest@localhost/', service = 'numbers', to = 100, stopAfter = Infinity
] = process.argv.slice(2)

const connection = await amqp.connect(url)
const channel = await connection.createChannel()
const arrivals = new EventEmitter() // an event for each message, named after its correlation id
const { queue: replyTo } = await channel.assertQueue('', { exclusive: true })
await channel.consume(replyTo, (message) => arrivals.emit(message.properties.correlationId, message), { noAck: true })
channel.on('return', ({ fields, properties }) => {
  arrivals.emit(properties.correlationId, new Error(`nobody serves ${service}, or the worker is gone: ${fields.replyText}`))
})

// The messages of one call, in their order. A worker that is silent for a second is asked whether it is there.
async function * messages (id, ask) {
  const waiting = []
  arrivals.on(id, (message) => waiting.push(message))
  try {
    for (let heard = Date.now(); ;) {
      if (waiting.length === 0) {
        await once(arrivals, id, { signal: AbortSignal.timeout(1000) }).catch(ask)
      }
      if (waiting.length > 0) heard = Date.now()
      else if (Date.now() - heard > TIME_LIMIT) throw new Error('nothing from the worker in time')
      yield * waiting.splice(0)
    }
  } finally {
    arrivals.removeAllListeners(id)
  }
}

// What a method streams. Leaving the loop over it stops the worker.
async function * stream (method, parameters) {
  const correlationId = randomUUID()
  const about = { correlationId, replyTo, persistent: false }
  let worker // its own queue, once it is known
  let due = 0 // the number of the next item
  let granted = CREDIT
  let ended = false
  const grant = (items) => channel.publish('', worker, Buffer.from(`${items}`), {
    ...about, contentType: 'amqproxy.Credit', mandatory: true
  })
  channel.publish('', service, Buffer.from(JSON.stringify(parameters)), {
    ...about,
    contentType: `${service}.${method}`,
    contentEncoding: 'json',
    expiration: TIME_LIMIT,
    mandatory: true,
    headers: { 'x-stream-credit': CREDIT, 'x-batch': CREDIT }
  })
  try {
    for await (const message of messages(correlationId, () => worker && grant(0))) {
      const { content, properties } = message
      ended = message instanceof Error || properties.contentType === FAILURE
      if (ended) throw properties ? new Error(JSON.parse(content).message) : message
      const before = worker
      worker = properties.replyTo ?? worker
      if (due > 0 && worker !== before) throw new Error('the worker died in the midst of the stream')
      if (properties.contentType === 'amqproxy.Alive') continue
      const { 'x-seq': first, 'x-batch': count = 1, 'x-end': end = false } = properties.headers
      if (first > due || (!end && first + count > granted)) throw new Error(`item ${first} came, and ${due} was due`)
      ended = end
      if (ended) return
      const items = JSON.parse(content)
      for (const item of (count === 1 ? [items] : items).slice(due - first)) { // but for those that came again
        due += 1
        yield item
        if (granted - due <= CREDIT / 2) { // one message for each item would be too many
          grant(due + CREDIT - granted)
          granted = due + CREDIT
        }
      }
    }
  } finally {
    if (!ended) await cancel(worker, about)
  }
}

// Tells the worker, or all of the pool as long as none has answered, that nobody wants more of this call.
async function cancel (worker, about) {
  const properties = { ...about, contentType: 'amqproxy.Cancel', headers: { 'x-timeout-ms': TIME_LIMIT } }
  if (worker) return channel.publish('', worker, Buffer.alloc(0), properties)
  const { exchange } = await channel.assertExchange(`amqproxy.${service}`, 'fanout', { durable: true })
  channel.publish(exchange, '', Buffer.alloc(0), properties)
}

try {
  let taken = 0
  for await (const number of stream('count', { to: Number(to) })) {
    console.log(number)
    taken += 1
    if (taken === Number(stopAfter)) break
  }
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
} finally {
  await channel.close() // which waits until all is sent
  await connection.close()
}
