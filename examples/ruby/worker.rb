# frozen_string_literal: true

# Serves a calculator through RabbitMQ, until SIGTERM. Usage: ruby worker.rb [URL [SERVICE]]

require 'bunny'
require_relative 'codecs'

# What is served.
module Calculator
  def self.add(x, y) = x + y

  def self.divide(x, y) = Rational(x, y).to_f
end

# A request that is not run, and why.
class Refused < StandardError
  attr_reader :code

  def initialize(code, message)
    super(message)
    @code = code
  end
end

# Answers the requests of one queue.
class Worker
  FAILURE = 'com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure'

  def initialize(service)
    @codecs = codecs(service)
  end

  # The reply's class, encoding and body.
  def answer(type, encoding, body)
    encoding = 'json' if encoding.to_s.empty?
    codec = @codecs[encoding] or raise Refused.new('unimplemented', "no encoding #{encoding.inspect} here")
    raise Refused.new('invalid_argument', 'the request has no content-type') unless type

    method = codec.method_of(type) or raise Refused.new('unimplemented', "no method for #{type} in #{encoding} here")
    x, y = arguments(codec, method, body)
    type, body = codec.reply(method, x, y, Calculator.public_send(method, x, y))
    [type, encoding, body]
  rescue StandardError => e
    [FAILURE, 'json', failure(e)]
  end

  private

  # Each library has its own exceptions for what it cannot read.
  def arguments(codec, method, body)
    codec.arguments(method, body)
  rescue StandardError => e
    raise Refused.new('invalid_argument', "the body of #{method} is not what it should be: #{e.message}")
  end

  def failure(error)
    code, executed = error.is_a?(Refused) ? [error.code, 'no'] : %w[unknown yes]
    message = error.message.dup.force_encoding(Encoding::UTF_8).scrub # it may quote what came
    JSON.generate(
      message:,
      throwableAsString: "#{error.class}: #{message}",
      error: { code:, type: error.class.name, retryable: false, executed: }
    )
  end
end

url = ARGV[0] || ENV.fetch('AMQPROXY_URL', 'amqp://guest:guest@localhost/')
service = ARGV[1] || 'calculator'
connection = Bunny.new(url.chomp('/')).start # with the slash, bunny asks for a virtual host without a name
channel = connection.create_channel
channel.prefetch(20)
queue = channel.queue(service, durable: true).bind('amq.direct', routing_key: service)
exchange = channel.default_exchange
worker = Worker.new(service)

stop = Queue.new
deleted = ->(_cancel) { stop << 'the queue was deleted' }
consumer = queue.subscribe(manual_ack: true, on_cancellation: deleted) do |delivery, properties, body|
  type, encoding, answer = worker.answer(properties.content_type, properties.content_encoding, body)
  if properties.reply_to
    exchange.publish(
      answer,
      routing_key: properties.reply_to, persistent: false, content_type: type, content_encoding: encoding,
      correlation_id: properties.correlation_id || properties.message_id
    )
  end
  channel.ack(delivery.delivery_tag) # last: the request of a worker that dies before this goes to another
end

trap('TERM') { stop << nil }
trap('INT') { stop << nil }
puts 'ready'
$stdout.flush
error = stop.pop
consumer.cancel # which waits for the requests that are here already
connection.close
abort error if error
