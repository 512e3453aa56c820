# frozen_string_literal: true

# What a Ruby client of the Akka AMQP proxies sends, with the amqp gem on EventMachine: four properties and a JSON body.
#
# Usage: ruby caller.rb [URL [SERVICE]]; examples/shared_messages.py has the service.

require 'amqp'
require 'json'
require 'securerandom'

url = ARGV[0] || ENV.fetch('AMQPROXY_URL', 'amqp://guest:guest@localhost/')
service = ARGV[1] || 'shared-calculator'
x = 1
y = 2

EventMachine.run do
  connection = AMQP.connect(url.chomp('/')) # with the slash, the gem asks for a virtual host without a name
  channel = AMQP::Channel.new(connection)
  EventMachine.add_timer(10) { abort "no answer from #{service}" }

  replies = channel.queue('', exclusive: true, auto_delete: true) do |queue|
    channel.default_exchange.publish(
      JSON.generate({ x:, y: }),
      routing_key: service, reply_to: queue.name, correlation_id: SecureRandom.uuid,
      content_type: 'com.github.sstone.amqp.proxy.Demo$AddRequest', content_encoding: 'json'
    )
  end
  replies.subscribe do |header, body|
    reply = JSON.parse(body)
    abort reply['message'] if header.content_type.end_with?('$ServerFailure')
    puts "#{x} + #{y} = #{reply['sum']}"
    connection.close { EventMachine.stop }
  end
end
