// Serves a calculator to callers in any language: node worker.js [URL [SERVICE]]
import amqp from 'amqplib'
import encodings from './encodings.js'

const FAILURE = 'com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure'
const MESSAGES = 'com.github.sstone.amqp.proxy.calculator.Calculator$'

const [
  url = process.env.AMQPROXY_URL ?? 'amqp://guest:guest@localhost/', service = 'calculator'
] = process.argv.slice(2)

class Refusal extends Error {
  constructor (code, message) {
    super(message)
    this.name = 'Refusal'
    this.code = code
  }
}

function divide (x, y) {
  if (y === 0) throw new RangeError('division by zero') // to JavaScript it is Infinity, which JSON cannot write
  return x / y
}

// A caller gives plain parameters by name, {"x": 1, "y": 2}, or by position, [1, 2].
function plain (calculate) {
  return (body) => {
    const values = Array.isArray(body) ? body : [body?.x, body?.y]
    if (Object.keys(body ?? {}).length !== 2 || !values.every(Number.isSafeInteger)) {
      throw new Refusal('invalid_argument', 'two integers are needed, x and y')
    }
    return calculate(...values)
  }
}

// By content-type: that of the reply, and a function, which may well be async. For JSON alone, the first two do.
const handlers = new Map([
  [`${service}.add`, [`${service}.add.Reply`, plain((x, y) => x + y)]],
  [`${service}.divide`, [`${service}.divide.Reply`, plain(divide)]],
  [`${MESSAGES}AddRequest`, [`${MESSAGES}AddResponse`, ({ x, y }) => ({ x, y, sum: x + y })]],
  [`${MESSAGES}DivideRequest`, [`${MESSAGES}DivideResponse`, ({ x, y }) => ({ quotient: divide(x, y) })]]
])

function decode (codec, { content, properties }) {
  try {
    return codec.decode(content, properties.contentType)
  } catch (error) {
    throw new Refusal('invalid_argument', error.message)
  }
}

// The reply to a request, or a failure in its place: the arguments of channel.publish.
async function answer (request) {
  const { contentType, contentEncoding, correlationId, messageId } = request.properties
  const properties = { correlationId: correlationId ?? messageId, persistent: false }
  try {
    if (!contentType) throw new Refusal('invalid_argument', 'the request has no content-type')
    if (!handlers.has(contentType)) throw new Refusal('unimplemented', `${contentType} is not served here`)
    const [replyType, handle] = handlers.get(contentType)
    const encoding = contentEncoding || 'json'
    const codec = encodings.get(encoding)
    if (codec === undefined) throw new Refusal('unimplemented', `unknown content-encoding: ${encoding}`)
    if (contentType.startsWith(MESSAGES) !== encoding.endsWith('protobuf')) {
      throw new Refusal('unimplemented', `${contentType} is not served in ${encoding}`)
    }
    const body = codec.encode(await handle(decode(codec, request)), replyType)
    return [body, { ...properties, contentType: replyType, contentEncoding: encoding }]
  } catch (error) {
    const [code, executed] = error instanceof Refusal ? [error.code, 'no'] : ['unknown', 'yes']
    const body = JSON.stringify({
      message: error.message,
      throwableAsString: `${error.name}: ${error.message}`,
      error: { code, type: error.name, retryable: false, executed }
    })
    return [Buffer.from(body), { ...properties, contentType: FAILURE, contentEncoding: 'json' }]
  }
}

const connection = await amqp.connect(url)
const channel = await connection.createChannel()
await channel.assertQueue(service, { durable: true })
await channel.bindQueue(service, 'amq.direct', service)
await channel.prefetch(10) // so many requests run here at once

const running = new Set()
async function serve (request) {
  const [body, properties] = await answer(request)
  const { replyTo } = request.properties
  try {
    if (replyTo) channel.publish('', replyTo, body, properties)
  } catch (error) { // what is not UTF-8 in an id or a name comes out longer, and perhaps too long for AMQP
    console.error(`no reply to ${replyTo}: ${error.message}`)
  }
  // Only now: a request that is not acknowledged is given to another worker when this one dies.
  channel.ack(request)
}
const { consumerTag } = await channel.consume(service, (request) => {
  if (request === null) throw new Error('the queue was deleted')
  const done = serve(request).finally(() => running.delete(done))
  running.add(done)
})
console.log('ready')

async function stop () {
  await channel.cancel(consumerTag)
  await Promise.all(running)
  await connection.close()
}
process.once('SIGTERM', stop).once('SIGINT', stop)

// When the link is lost, the process ends, and its supervisor starts it again. Most losses are 'error' events, which do
// that because nobody listens; an operator's closing is none.
connection.on('close', (error) => {
  if (error === undefined) return
  console.error(error.message)
  process.exit(1)
})
