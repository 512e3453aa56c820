// Streams numbers to callers in any language, and answers broadcasts: node stream_worker.js [URL [SERVICE]]
import { hostname } from 'node:os'
import { setImmediate } from 'node:timers/promises'
import amqp from 'amqplib'

const FAILURE = 'com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure'
const QUIET = 500 // milliseconds after which a stream gives a sign of life
const MOST = 10_000 // items in one answer
const NAME = `${hostname()}.${process.pid}.node`

const [
  url = process.env.AMQPROXY_URL ?? 'amqp://guest:guest@localhost/', service = 'numbers'
] = process.argv.slice(2)

class Refusal extends Error {
  constructor (code, message, executed = 'no') {
    super(message)
    this.name = 'Refusal'
    this.code = code
    this.executed = executed
  }
}

// What is served: plain functions answer once, generators stream. Parameters come by name or by position.
async function * count (parameters) {
  const to = Array.isArray(parameters) ? parameters[0] : parameters.to
  if (!Number.isSafeInteger(to)) throw new Refusal('invalid_argument', 'an integer is needed, to')
  try {
    for (let number = 0; number < to; number += 1) yield number
  } finally {
    console.log('count has ended')
  }
}

const handlers = new Map([[`${service}.count`, count], [`${service}.who`, () => NAME]])

// A call that runs: how many items its caller takes, and whether it still wants any.
class Call {
  credit = 0
  stopped = false
  #wake = () => {}

  grant (items) {
    const valid = Number.isSafeInteger(items) && items >= 0 && this.credit + items < 2 ** 31
    if (valid) this.credit += items
    else this.stop(new Refusal('invalid_argument', 'a credit is a number of items, from 0', 'yes'))
    this.#wake()
  }

  stop (error) {
    this.error ??= error
    this.stopped = true
    this.#wake()
  }

  // Whether another item may be sent, once that is known.
  async room () {
    await setImmediate() // for messages that have come meanwhile
    while (this.credit === 0 && !this.stopped) await new Promise((resolve) => { this.#wake = resolve })
    if (this.error) throw this.error
    return !this.stopped
  }
}

const connection = await amqp.connect(url)
const channel = await connection.createChannel()
await channel.assertQueue(service, { durable: true })
await channel.bindQueue(service, 'amq.direct', service)
const { exchange } = await channel.assertExchange(`amqproxy.${service}`, 'fanout', { durable: true })
const { queue: address } = await channel.assertQueue('', { exclusive: true, autoDelete: true })
await channel.bindQueue(address, exchange, '')
await channel.prefetch(10) // so many requests run here at once

const calls = new Map() // those that run, by reply-to and correlation id
const abandoned = new Map() // those that were cancelled before they came, and until when they may come
const keyOf = ({ replyTo, correlationId }) => JSON.stringify([replyTo, correlationId])

// Sends what a generator yields, as far as the credit goes.
async function stream (items, call, type, send) {
  let sent = false
  const reply = { contentType: type, contentEncoding: 'json', replyTo: address }
  const alive = () => {
    if (!sent) send({ contentType: 'amqproxy.Alive', replyTo: address })
    sent = false
  }
  if (call.credit === 0) alive() // else the caller does not know where to ask for more
  const timer = setInterval(alive, QUIET)
  try {
    for (let number = 0; await call.room(); number += 1) {
      const { value, done } = await items.next()
      if (done) return send({ ...reply, headers: { 'x-seq': number, 'x-end': true } })
      call.credit -= 1
      send({ ...reply, headers: { 'x-seq': number } }, value)
      sent = true
    }
  } finally {
    clearInterval(timer)
    await items.return()
  }
}

// For callers that take no stream.
async function collected (items, call) {
  const all = []
  for await (const item of items) {
    await setImmediate()
    if (call.stopped) break
    if (all.push(item) > MOST) throw new Refusal('resource_exhausted', `over ${MOST} items: ask for a stream`, 'yes')
  }
  return all
}

// Answers a request. One that came to all workers is answered with the name of this one.
async function answer (request, call, headers = {}) {
  const { contentType, contentEncoding, replyTo, correlationId, headers: asked = {} } = request.properties
  const send = (properties, value) => {
    const body = Buffer.from(value === undefined ? '' : JSON.stringify(value))
    if (replyTo) channel.publish('', replyTo, body, { correlationId, persistent: false, mandatory: true, ...properties })
  }
  const type = `${contentType}.Reply`
  try {
    const handle = handlers.get(contentType)
    if (handle === undefined) throw new Refusal('unimplemented', `${contentType} is not served here`)
    if (contentEncoding && contentEncoding !== 'json') throw new Refusal('unimplemented', `no ${contentEncoding} here`)
    let result = handle(parse(request.content))
    if (result[Symbol.asyncIterator]) {
      const credit = asked['x-stream-credit']
      if (credit !== undefined && !headers['x-worker']) {
        call.grant(Number(credit))
        return await stream(result, call, type, send)
      }
      result = await collected(result, call)
    }
    if (!call.stopped) send({ contentType: type, contentEncoding: 'json', headers }, result)
  } catch (error) {
    const [code, executed] = error instanceof Refusal ? [error.code, error.executed] : ['unknown', 'yes']
    send({ contentType: FAILURE, contentEncoding: 'json', headers }, {
      message: error.message,
      throwableAsString: `${error.name}: ${error.message}`,
      error: { code, type: error.name, retryable: false, executed }
    })
  }
}

function parse (body) {
  try {
    return JSON.parse(body)
  } catch (error) {
    throw new Refusal('invalid_argument', error.message)
  }
}

async function run (request, headers) {
  const key = keyOf(request.properties)
  const call = new Call()
  calls.set(key, call)
  await answer(request, call, headers)
  calls.delete(key)
}

async function serve (request) {
  const key = keyOf(request.properties)
  const wanted = !(abandoned.get(key) > Date.now())
  abandoned.delete(key)
  if (wanted) await run(request)
  channel.ack(request) // only now: the request of a worker that dies is given to another
}

// What comes to this worker's own queue.
function told (message) {
  if (message === null) throw new Error("this worker's own queue was deleted")
  const { contentType, replyTo, correlationId, headers = {} } = message.properties
  const signed = { 'x-worker': NAME }
  const key = keyOf(message.properties)
  const call = calls.get(key)
  switch (contentType) {
    case 'amqproxy.Credit':
      return call?.grant(Number(message.content))
    case 'amqproxy.Cancel':
      if (call === undefined) forget(key, Number(headers['x-timeout-ms'] ?? 30_000))
      return call?.stop()
    case 'amqproxy.Ping': {
      const presence = Buffer.from(JSON.stringify({ running: calls.size, busy: call !== undefined }))
      return channel.publish('', replyTo, presence, { contentType, correlationId, headers: signed })
    }
  }
  if (headers['x-seq'] === undefined) return run(message, signed)
}

function forget (key, milliseconds) {
  for (const [old, until] of abandoned) if (until < Date.now()) abandoned.delete(old)
  abandoned.set(key, Date.now() + milliseconds)
}

const running = new Set()
const { consumerTag: all } = await channel.consume(address, told, { noAck: true })
const { consumerTag: requests } = await channel.consume(service, (request) => {
  if (request === null) throw new Error('the queue was deleted')
  const done = serve(request).finally(() => running.delete(done))
  running.add(done)
})
channel.on('return', ({ fields, properties }) => { // the caller is gone
  calls.get(JSON.stringify([fields.routingKey, properties.correlationId]))?.stop()
})
console.log('ready')

async function stop () {
  await channel.cancel(requests)
  await channel.cancel(all)
  for (const call of calls.values()) call.stop(new Refusal('unavailable', 'this worker stops', 'yes'))
  await Promise.all(running)
  await connection.close()
}
process.once('SIGTERM', stop).once('SIGINT', stop)

// As in worker.js: the loss of the link ends the process.
connection.on('close', (error) => {
  if (error === undefined) return
  console.error(error.message)
  process.exit(1)
})
