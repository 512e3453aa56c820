# frozen_string_literal: true

# How requests and replies are written, by content-encoding. Delete what you have no use for.

require 'json'
require 'thrift'
require_relative 'calculator_pb'
require_relative 'calculator_types'
begin
  require 'snappy'
rescue LoadError
  # Without the gem there are no snappy encodings.
end

METHODS = { 'add' => :sum, 'divide' => :quotient }.freeze

# Plain parameters in JSON: an object by name or an array by position, and the bare result.
class JsonCodec
  def initialize(service)
    @service = service
  end

  def request(method, x, y) = ["#{@service}.#{method}", JSON.generate({ x:, y: })]

  def result(_method, body) = JSON.parse(body)

  def method_of(type) = METHODS.keys.find { |method| type == "#{@service}.#{method}" }

  def arguments(_method, body)
    parameters = JSON.parse(body)
    parameters = parameters.values_at('x', 'y') if parameters.is_a?(Hash) && parameters.size == 2
    parameters => [Integer, Integer]
    parameters
  end

  def reply(method, _x, _y, result) = ["#{@service}.#{method}.Reply", JSON.generate(result)]
end

# One generated class for each request and each response.
class MessageCodec
  def initialize(prefix, classes, dump, load)
    @prefix = prefix
    @classes = classes
    @dump = dump
    @load = load
  end

  def request(method, x, y) = write("#{method.capitalize}Request", x:, y:)

  def result(method, body) = read("#{method.capitalize}Response", body).public_send(METHODS[method])

  def method_of(type) = METHODS.keys.find { |method| type == "#{@prefix}#{method.capitalize}Request" }

  def arguments(method, body) = read("#{method.capitalize}Request", body).then { |request| [request.x, request.y] }

  def reply(method, x, y, result)
    method == 'add' ? write('AddResponse', x:, y:, sum: result) : write('DivideResponse', quotient: result)
  end

  private

  def write(name, **fields) = ["#{@prefix}#{name}", @dump.call(@classes.const_get(name).new(fields))]

  def read(name, body) = @load.call(@classes.const_get(name), body)
end

# Another codec's bodies, each as one raw block of snappy.
class SnappyCodec
  def initialize(codec)
    @codec = codec
  end

  def request(...) = deflated(*@codec.request(...))
  def result(method, body) = @codec.result(method, Snappy.inflate(body))
  def method_of(type) = @codec.method_of(type)
  def arguments(method, body) = @codec.arguments(method, Snappy.inflate(body))
  def reply(...) = deflated(*@codec.reply(...))

  private

  def deflated(type, body) = [type, Snappy.deflate(body)]
end

# Ruby's protobuf takes messages that lack required fields.
def decoded(type, body)
  message = type.decode(body)
  missing = type.descriptor.select { |field| field.label == :required && !field.has?(message) }
  raise ArgumentError, "without #{missing.map(&:name).join(' and ')}" if missing.any?

  message
end

# Thrift's own Deserializer does not mind bytes after the struct.
def read_struct(type, body)
  transport = Thrift::MemoryBufferTransport.new(body)
  struct = type.new
  struct.read(Thrift::BinaryProtocol.new(transport))
  raise ArgumentError, "#{transport.available} bytes after the end" if transport.available.positive?

  struct
end

def codecs(service)
  package = 'com.github.sstone.amqp.proxy.calculator'
  plain = {
    'json' => JsonCodec.new(service),
    'protobuf' => MessageCodec.new(
      "#{package}.Calculator$", Com::Github::Sstone::Amqp::Proxy::Calculator, :to_proto.to_proc,
      ->(type, body) { decoded(type, body) }
    ),
    'thrift' => MessageCodec.new(
      "#{package}.", Object, ->(struct) { Thrift::Serializer.new.serialize(struct) },
      ->(type, body) { read_struct(type, body) }
    )
  }
  return plain unless defined?(Snappy)

  plain.merge(plain.to_h { |encoding, codec| ["snappy-#{encoding}", SnappyCodec.new(codec)] })
end
