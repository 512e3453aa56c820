# frozen_string_literal: true

# Calls a calculator through RabbitMQ. Usage: ruby caller.rb [URL [SERVICE [ENCODING]]]

require 'bunny'
require 'securerandom'
require 'timeout'
require_relative 'codecs'

# A calculator that lives elsewhere.
class Calculator
  FAILURE = 'com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure'
  SECONDS = 10

  class Failure < StandardError; end
  class Unroutable < StandardError; end

  def initialize(channel, service, encoding)
    @service = service
    @encoding = encoding
    @codec = codecs(service).fetch(encoding)
    @answers = Queue.new # of this program; bunny's threads fill it
    @reply_queue = channel.queue('', exclusive: true)
    @reply_queue.subscribe { |_delivery, properties, body| @answers << [properties, body] }
    @exchange = channel.default_exchange
    @exchange.on_return { |info, properties, _body| @answers << [properties, nil, info.reply_text] }
  end

  def add(x, y) = call('add', x, y)

  def divide(x, y) = call('divide', x, y)

  private

  def call(method, x, y)
    type, body = @codec.request(method, x, y)
    id = SecureRandom.uuid
    @exchange.publish(
      body,
      routing_key: @service, mandatory: true, persistent: false, expiration: (SECONDS * 1000).to_s,
      content_type: type, content_encoding: @encoding, reply_to: @reply_queue.name, correlation_id: id, message_id: id
    )
    properties, answer, returned = Timeout.timeout(SECONDS, nil, "no answer in #{SECONDS} s") { answer_to(id) }
    raise Unroutable, "nobody serves #{@service}: #{returned}" if returned
    raise Failure, JSON.parse(answer)['message'] if properties.content_type == FAILURE

    @codec.result(method, answer)
  end

  # What comes too late, for a call that was given up, is passed over.
  def answer_to(id)
    loop do
      answer = @answers.pop
      return answer if answer.first.correlation_id == id
    end
  end
end

url = ARGV[0] || ENV.fetch('AMQPROXY_URL', 'amqp://guest:guest@localhost/')
connection = Bunny.new(url.chomp('/')).start # with the slash, bunny asks for a virtual host without a name
begin
  calculator = Calculator.new(connection.create_channel, ARGV[1] || 'calculator', ARGV[2] || 'json')
  puts "1 + 2 = #{calculator.add(1, 2)}"
  begin
    calculator.divide(1, 0)
  rescue Calculator::Failure => e
    puts "1 / 0: #{e.message}"
  end
ensure
  connection.close
end
