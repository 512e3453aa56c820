// What bodies look like, by content-encoding. With JSON alone, JSON.stringify and JSON.parse are enough.
import { fileURLToPath } from 'node:url'
import { gunzipSync, gzipSync } from 'node:zlib'
import protobuf from 'protobufjs'
import snappy from 'snappyjs'

const MAX_SIZE = 64 * 1024 * 1024 // a few bytes may claim to hold gigabytes

const messages = protobuf.loadSync(fileURLToPath(new URL('../../proto/calculator.proto', import.meta.url)))

// On the wire, messages go by the names that protoc gives their classes in Java.
const message = (type) => messages.lookupType(type.replace('Calculator$', ''))

const formats = {
  json: {
    encode: (value) => Buffer.from(JSON.stringify(value)),
    decode: (body) => JSON.parse(body.toString())
  },
  protobuf: {
    encode: (value, type) => message(type).encode(value).finish(),
    decode: (body, type) => message(type).decode(body)
  }
}

const compressions = {
  snappy: { pack: snappy.compress, unpack: (body) => snappy.uncompress(body, MAX_SIZE) },
  gzip: { pack: gzipSync, unpack: (body) => gunzipSync(body, { maxOutputLength: MAX_SIZE }) }
}

// A Map, and no object: names come from outside, and an object has a "constructor".
const encodings = new Map(Object.entries(formats))
for (const [name, { encode, decode }] of Object.entries(formats)) {
  for (const [prefix, { pack, unpack }] of Object.entries(compressions)) {
    encodings.set(`${prefix}-${name}`, {
      encode: (value, type) => Buffer.from(pack(encode(value, type))),
      decode: (body, type) => decode(Buffer.from(unpack(body)), type)
    })
  }
}

export default encodings
