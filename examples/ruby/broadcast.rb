# frozen_string_literal: true

# Asks all workers of a pool who they are. Usage: ruby broadcast.rb [URL [SERVICE]]

require 'bunny'
require 'json'
require 'securerandom'
require 'timeout'

FAILURE = 'com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure'
SECONDS = 5

# Yields the worker and its answer, for each that answers in time, or the worker, nil, and what it failed with.
def ask_all(channel, service, method, parameters)
  workers = channel.queue_declare(service, passive: true).consumer_count # raises if nobody ever served this
  answers = Queue.new # of this program; bunny's threads fill it
  replies = channel.queue('', exclusive: true)
  replies.subscribe { |_delivery, properties, body| answers << [properties, body] }
  channel.fanout("amqproxy.#{service}", durable: true).publish(
    JSON.generate(parameters),
    persistent: false, expiration: (SECONDS * 1000).to_s, headers: { 'x-timeout-ms' => SECONDS * 1000 },
    content_type: "#{service}.#{method}", content_encoding: 'json', reply_to: replies.name,
    correlation_id: SecureRandom.uuid
  )
  Timeout.timeout(SECONDS) do
    workers.times do
      properties, body = answers.pop
      answer = JSON.parse(body)
      failed = properties.content_type == FAILURE
      yield properties.headers['x-worker'], failed ? nil : answer, failed ? answer['message'] : nil
    end
  end
rescue Timeout::Error # some worker is gone, or takes no broadcasts
end

url = ARGV[0] || ENV.fetch('AMQPROXY_URL', 'amqp://guest:guest@localhost/')
connection = Bunny.new(url.chomp('/')).start # with the slash, bunny asks for a virtual host without a name
begin
  ask_all(connection.create_channel, ARGV[1] || 'numbers', 'who', {}) do |worker, answer, failure|
    puts "#{worker}: #{failure || answer}"
  end
ensure
  connection.close
end
