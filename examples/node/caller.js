// Asks the calculator that some worker serves, in whatever language: node caller.js [URL [SERVICE [ENCODING]]]
import { randomUUID } from 'node:crypto'
import amqp from 'amqplib'
import encodings from './encodings.js'

const FAILURE = 'com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure'
const MESSAGES = 'com.github.sstone.amqp.proxy.calculator.Calculator$'
const TIME_LIMIT = 5000 // milliseconds

const [
  url = process.env.AMQPROXY_URL ?? 'amqp://guest:guest@localhost/', service = 'calculator', encoding = 'json'
] = process.argv.slice(2)

class WorkerFailure extends Error {}

const connection = await amqp.connect(url)
const channel = await connection.createChannel()
const waiting = new Map() // by correlation id: as many calls at once as you like

const { queue: replyTo } = await channel.assertQueue('', { exclusive: true })
await channel.consume(replyTo, (reply) => {
  waiting.get(reply.properties.correlationId)?.resolve(reply)
}, { noAck: true })
channel.on('return', ({ fields, properties }) => {
  waiting.get(properties.correlationId)?.reject(new Error(`nobody serves ${service}: ${fields.replyText}`))
})

async function call (type, request) {
  const codec = encodings.get(encoding)
  if (codec === undefined) throw new Error(`unknown encoding: ${encoding}`)
  const correlationId = randomUUID()
  const replied = new Promise((resolve, reject) => waiting.set(correlationId, { resolve, reject }))
  const late = () => waiting.get(correlationId).reject(new Error(`${type}: no reply within ${TIME_LIMIT} ms`))
  const timer = setTimeout(late, TIME_LIMIT)
  try {
    channel.publish('', service, codec.encode(request, type), {
      contentType: type,
      contentEncoding: encoding,
      replyTo,
      correlationId,
      expiration: TIME_LIMIT, // nobody starts on it after we have given up
      mandatory: true // a request that no queue takes comes back at once
    })
    const { content, properties } = await replied
    if (properties.contentType === FAILURE) throw new WorkerFailure(JSON.parse(content.toString()).message)
    return codec.decode(content, properties.contentType)
  } finally {
    clearTimeout(timer)
    waiting.delete(correlationId)
  }
}

// JSON has plain parameters and bare values, protobuf a message each way.
async function add (x, y) {
  if (encoding.endsWith('protobuf')) return (await call(`${MESSAGES}AddRequest`, { x, y })).sum
  return call(`${service}.add`, { x, y })
}

async function divide (x, y) {
  if (encoding.endsWith('protobuf')) return (await call(`${MESSAGES}DivideRequest`, { x, y })).quotient
  return call(`${service}.divide`, { x, y })
}

try {
  console.log('1 + 2 =', await add(1, 2))
  try {
    console.log('1 / 0 =', await divide(1, 0))
  } catch (error) {
    if (!(error instanceof WorkerFailure)) throw error
    console.log('1 / 0:', error.message)
  }
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
} finally {
  await connection.close()
}
