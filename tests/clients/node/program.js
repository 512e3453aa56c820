// The scenarios with Node's amqplib. Usage: program.js URL PREFIX; prints what it saw, one scenario a line.
'use strict'

const amqp = require('amqplib')

const [url, prefix] = process.argv.slice(2)
const BIG = Buffer.alloc(256 * 4096, Buffer.from(Uint8Array.from({ length: 256 }, (_, i) => i)))
let connection

const name = (name) => `${prefix}.${name}`

const channel = async () => quiet(await connection.createChannel())
const confirming = async () => quiet(await connection.createConfirmChannel())

// A channel's error also reaches whoever asked for what failed.
function quiet (channel) {
  channel.refused = new Promise((resolve) => channel.on('error', resolve))
  return channel
}

async function queue (channel, { named = '', ...options } = {}) {
  return (await channel.assertQueue(named && name(named), { exclusive: true, ...options })).queue
}

async function exchange (channel, named, kind, options = {}) {
  return (await channel.assertExchange(name(named), kind, { durable: false, autoDelete: true, ...options })).exchange
}

async function bodies (channel, queue) {
  const got = []
  for (let message; (message = await channel.get(queue, { noAck: true }));) got.push(message.content.toString())
  return got
}

// Whatever is to be called back becomes a list that can be waited for.
function arrivals () {
  const got = []
  let wake = () => {}
  return {
    push: (item) => { got.push(item); wake() },
    async until (count) {
      while (got.length < count) await new Promise((resolve) => { wake = resolve })
      return got
    }
  }
}

async function awaited (channel, queue) {
  const messages = arrivals()
  const { consumerTag } = await channel.consume(queue, messages.push, { noAck: true })
  const [message] = await messages.until(1)
  await channel.cancel(consumerTag)
  return message
}

async function refusal (channel, action) {
  action(channel).catch(() => {})
  const error = await channel.refused
  return [error.code, error.message.replace(/^.*with message "(.*)"$/, '$1')]
}

const SCENARIOS = {
  async topic () {
    const ch = await channel()
    const topic = await exchange(ch, 'topic', 'topic')
    const q = await queue(ch)
    for (const key of ['log.*.error', 'audit.#']) await ch.bindQueue(q, topic, key)
    for (const key of ['log.db.error', 'log.db.info', 'log.error', 'audit', 'audit.a.b']) {
      ch.publish(topic, key, Buffer.from(key))
    }
    return bodies(ch, q)
  },

  async fanout () {
    const ch = await channel()
    const fanout = await exchange(ch, 'fanout', 'fanout')
    const queues = [await queue(ch), await queue(ch)]
    for (const q of queues) await ch.bindQueue(q, fanout, '')
    ch.publish(fanout, 'any', Buffer.from('news'))
    return [await bodies(ch, queues[0]), await bodies(ch, queues[1])]
  },

  async headers () {
    const ch = await channel()
    const headers = await exchange(ch, 'headers', 'headers')
    const queues = { all: await queue(ch), any: await queue(ch) }
    for (const match in queues) {
      await ch.bindQueue(queues[match], headers, '', { 'x-match': match, kind: 'pdf', pages: 2 })
    }
    const sent = { both: { kind: 'pdf', pages: 2 }, one: { kind: 'pdf' }, none: { kind: 'png' } }
    for (const body in sent) ch.publish(headers, '', Buffer.from(body), { headers: sent[body] })
    return { all: await bodies(ch, queues.all), any: await bodies(ch, queues.any) }
  },

  async exchange_binding () {
    const ch = await channel()
    const source = await exchange(ch, 'source', 'fanout')
    const sink = await exchange(ch, 'sink', 'direct')
    const q = await queue(ch)
    await ch.bindQueue(q, sink, 'key')
    await ch.bindExchange(sink, source, '')
    ch.publish(source, 'key', Buffer.from('hop'))
    return bodies(ch, q)
  },

  async alternate_exchange () {
    const ch = await channel()
    const stray = await exchange(ch, 'stray', 'fanout')
    const strict = await exchange(ch, 'strict', 'direct', { alternateExchange: stray })
    const [q, other] = [await queue(ch), await queue(ch)]
    await ch.bindQueue(q, stray, '')
    await ch.bindQueue(other, strict, 'known')
    ch.publish(strict, 'unknown', Buffer.from('lost and found'))
    return bodies(ch, q)
  },

  async confirms () {
    const ch = await confirming()
    const q = await queue(ch)
    for (const body of ['0', '1', '2']) ch.sendToQueue(q, Buffer.from(body))
    await ch.waitForConfirms()
    return bodies(ch, q)
  },

  async mandatory () {
    const ch = await confirming()
    const returned = arrivals()
    ch.on('return', returned.push)
    ch.publish('', name('nowhere'), Buffer.from('lost'), { mandatory: true })
    await ch.waitForConfirms()
    const [{ fields, content }] = await returned.until(1)
    return [fields.replyCode, fields.replyText, fields.exchange, fields.routingKey, content.toString()]
  },

  async reject_publish () {
    const ch = await confirming()
    const q = await queue(ch, { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } })
    const send = () => new Promise((resolve) => ch.sendToQueue(q, Buffer.from(''), {}, (error) => resolve(!error)))
    return [await send(), await send()]
  },

  async prefetch () {
    const ch = await channel()
    const q = await queue(ch, { named: 'prefetch' })
    for (const body of ['0', '1', '2', '3', '4']) ch.sendToQueue(q, Buffer.from(body))
    await ch.prefetch(2)
    const messages = arrivals()
    await ch.consume(q, messages.push)
    let got = await messages.until(2)
    const { messageCount } = await ch.checkQueue(q)
    ch.ack(got[1], true)
    got = await messages.until(4)
    ch.ack(got[3], true)
    return [messageCount, (await messages.until(5)).length]
  },

  async requeue () {
    const ch = await channel()
    const q = await queue(ch)
    ch.sendToQueue(q, Buffer.from('again'))
    const messages = arrivals()
    await ch.consume(q, messages.push)
    ch.nack((await messages.until(1))[0])
    ch.reject((await messages.until(2))[1])
    const got = await messages.until(3)
    ch.ack(got[2])
    return got.map((message) => message.fields.redelivered)
  },

  async get () {
    const ch = await channel()
    const q = await queue(ch)
    const empty = await ch.get(q) === false
    for (const body of ['one', 'two']) ch.sendToQueue(q, Buffer.from(body))
    const message = await ch.get(q)
    ch.ack(message)
    return [empty, message.content.toString(), message.fields.messageCount, message.fields.redelivered]
  },

  async purge_and_delete () {
    const ch = await channel()
    const q = await queue(ch)
    for (let i = 0; i < 3; i++) ch.sendToQueue(q, Buffer.from(''))
    const purged = (await ch.purgeQueue(q)).messageCount
    ch.sendToQueue(q, Buffer.from(''))
    return [purged, (await ch.deleteQueue(q)).messageCount]
  },

  async dead_letter () {
    const ch = await channel()
    const dead = await queue(ch)
    const q = await queue(ch, { named: 'work', deadLetterExchange: '', deadLetterRoutingKey: dead })
    ch.sendToQueue(q, Buffer.from('poison'))
    ch.reject(await ch.get(q), false)
    const { content, properties: { headers } } = await awaited(ch, dead)
    const [death] = headers['x-death']
    return [content.toString(), headers['x-first-death-reason'], death.reason, death.queue, death.exchange,
      death['routing-keys'], death.count]
  },

  async time_to_live () {
    const ch = await channel()
    const dead = await queue(ch)
    const q = await queue(ch, { messageTtl: 60000, deadLetterExchange: '', deadLetterRoutingKey: dead })
    ch.sendToQueue(q, Buffer.from('old'), { expiration: 20 })
    const { content, properties } = await awaited(ch, dead)
    const [death] = properties.headers['x-death']
    return [content.toString(), death.reason, death['original-expiration'], properties.expiration ?? null]
  },

  async max_length () {
    const ch = await channel()
    const q = await queue(ch, { maxLength: 2 })
    for (const body of ['0', '1', '2']) ch.sendToQueue(q, Buffer.from(body))
    return bodies(ch, q)
  },

  async priorities () {
    const ch = await channel()
    const q = await queue(ch, { maxPriority: 5 })
    for (const priority of [1, 5, 3]) ch.sendToQueue(q, Buffer.from(String(priority)), { priority })
    return bodies(ch, q)
  },

  async server_named () {
    return (await queue(await channel())).slice(0, 8)
  },

  async exclusive () {
    const q = await queue(await channel(), { named: 'mine' })
    const other = await amqp.connect(url)
    const refused = await refusal(quiet(await other.createChannel()), (ch) => ch.checkQueue(q))
    await other.close()
    return refused
  },

  async cancel_notify () {
    const ch = await channel()
    const q = await queue(ch)
    const messages = arrivals()
    await ch.consume(q, messages.push)
    await (await channel()).deleteQueue(q)
    return (await messages.until(1))[0] === null
  },

  async reply_to () {
    const [server, client] = [await channel(), await channel()]
    const q = await queue(server)
    const answers = arrivals()
    await client.consume('amq.rabbitmq.reply-to', answers.push, { noAck: true })
    client.sendToQueue(q, Buffer.from('ping'), { replyTo: 'amq.rabbitmq.reply-to', correlationId: '7' })
    const { content, properties } = await awaited(server, q)
    server.sendToQueue(properties.replyTo, Buffer.from(`${content} pong ${properties.correlationId}`))
    return (await answers.until(1)).map((message) => message.content.toString())
  },

  async missing_queue () {
    const refused = await refusal(await channel(), (ch) => ch.checkQueue(name('no')))
    return [...refused, await (await channel()).close() === undefined]
  },

  async inequivalent () {
    await queue(await channel(), { named: 'odd', maxLength: 1 })
    return refusal(await channel(), (ch) => queue(ch, { named: 'odd', maxLength: 2 }))
  },

  async unknown_tag () {
    return refusal(await channel(), async (ch) => ch.ack({ fields: { deliveryTag: 99 } }))
  },

  async properties () {
    const ch = await channel()
    const q = await queue(ch)
    const headers = {
      text: 'grüße', int: 7, big: 2 ** 40, flag: true, void: null, list: [1, 'two'], table: { deep: { er: 'x' } }
    }
    ch.sendToQueue(q, Buffer.from(''), {
      headers,
      contentType: 'text/plain',
      contentEncoding: 'utf-8',
      persistent: true,
      priority: 4,
      correlationId: 'c-1',
      replyTo: 'answers',
      expiration: 60000,
      messageId: 'm-1',
      timestamp: 1700000000,
      type: 'greeting',
      userId: 'guest',
      appId: 'clients'
    })
    const { properties: { headers: got, ...others } } = await ch.get(q, { noAck: true })
    const snaked = Object.entries(others).map(([key, value]) => [key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`), value])
    return [Object.fromEntries(snaked.filter(([key]) => key !== 'cluster_id')), got]
  },

  async big_body () {
    const ch = await channel()
    const q = await queue(ch)
    ch.sendToQueue(q, BIG)
    return (await ch.get(q, { noAck: true })).content.equals(BIG)
  },

  async wrong_password () {
    return refused(url.replace('guest:guest', 'guest:wrong'), /403 \(ACCESS-REFUSED\)/)
  },

  async missing_vhost () {
    return refused(url + encodeURIComponent(name('vhost')), /got <ConnectionClose/)
  },

  async close () {
    const closed = new Promise((resolve) => connection.on('close', (error) => resolve(!error)))
    await connection.close()
    return closed
  }
}

async function refused (url, text) {
  try {
    await amqp.connect(url)
  } catch (error) {
    return text.test(error.message) || error.message
  }
}

async function main () {
  connection = await amqp.connect(url)
  for (const [scenario, run] of Object.entries(SCENARIOS)) {
    console.log(JSON.stringify([scenario, await run().catch(String)]))
  }
}

main()
