# frozen_string_literal: true

# Takes a stream of numbers from a worker, a few at a time. Usage: ruby stream.rb [URL [SERVICE [TO [STOP_AFTER]]]]

require 'bunny'
require 'json'
require 'securerandom'
require 'timeout'

# What a method of a worker streams. Leaving the block, with `break` or an exception, stops the worker.
class Stream
  include Enumerable

  FAILURE = 'com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure'
  CREDIT = 8 # items that may be on their way
  SECONDS = 10 # without a word from the worker

  class Failure < StandardError; end
  class Broken < StandardError; end

  def initialize(channel, service, method, parameters)
    @service = service
    @id = SecureRandom.uuid
    @messages = Queue.new # of this program; bunny's threads fill it
    @channel = channel
    @exchange = channel.default_exchange
    @replies = channel.queue('', exclusive: true)
    @replies.subscribe { |_delivery, properties, body| @messages << [properties, body] }
    @exchange.on_return { |info, properties, _body| @messages << [properties, nil, info.reply_text] }
    publish(@service, "#{service}.#{method}", JSON.generate(parameters),
            content_encoding: 'json', expiration: (SECONDS * 1000).to_s,
            headers: { 'x-stream-credit' => CREDIT, 'x-batch' => CREDIT / 2 })
  end

  def each
    due = 0 # the number of the next item
    granted = CREDIT
    until @ended
      first, items = next_items
      raise Broken, "item #{first} came where #{due} was due" if first > due
      raise Broken, 'more items came than were asked for' if first + items.size > granted

      items.drop(due - first).each do |item| # what the broker delivers again is passed over
        due += 1
        yield item
        granted = grant(due, granted)
      end
    end
  ensure
    cancel unless @ended
  end

  private

  def publish(key, type, body, **others)
    @exchange.publish(
      body,
      routing_key: key, mandatory: true, persistent: false,
      content_type: type, correlation_id: @id, reply_to: @replies.name, **others
    )
  end

  # Half of the credit at a time: one message for each item would be too many.
  def grant(due, granted)
    return granted if granted - due > CREDIT / 2

    publish(@worker, 'amqproxy.Credit', (due + CREDIT - granted).to_s)
    due + CREDIT
  end

  # The number of the first item, and the items.
  def next_items
    properties, body, returned = next_message
    @ended = returned || properties.content_type == FAILURE
    raise Broken, "nobody serves #{@service}, or the worker is gone: #{returned}" if returned
    raise Failure, JSON.parse(body)['message'] if @ended

    worker, @worker = @worker, properties.reply_to || @worker
    raise Broken, 'the worker died in the midst of the stream' if @begun && @worker != worker
    return next_items if properties.content_type == 'amqproxy.Alive'

    part(properties.headers || {}, body)
  end

  def part(headers, body)
    @begun = true
    @ended = headers['x-end']
    return [headers['x-seq'], []] if @ended

    items = JSON.parse(body)
    [headers['x-seq'], headers.fetch('x-batch', 1) == 1 ? [items] : items]
  end

  # The next message of this call. A worker that is silent is asked whether it is there.
  def next_message
    SECONDS.times do
      message = Timeout.timeout(1) { @messages.pop }
      return message if message.first.correlation_id == @id
    rescue Timeout::Error
      publish(@worker, 'amqproxy.Credit', '0') if @worker
    end
    raise Broken, "nothing from the worker in #{SECONDS} s"
  end

  # To the worker, or to all of the pool as long as no worker has answered.
  def cancel
    about = { content_type: 'amqproxy.Cancel', correlation_id: @id, reply_to: @replies.name, persistent: false,
              headers: { 'x-timeout-ms' => SECONDS * 1000 } }
    return @exchange.publish('', routing_key: @worker, **about) if @worker

    @channel.fanout("amqproxy.#{@service}", durable: true).publish('', **about)
  end
end

url = ARGV[0] || ENV.fetch('AMQPROXY_URL', 'amqp://guest:guest@localhost/')
service = ARGV[1] || 'numbers'
stop_after = ARGV[3]&.to_i
connection = Bunny.new(url.chomp('/')).start # with the slash, bunny asks for a virtual host without a name
begin
  taken = 0
  Stream.new(connection.create_channel, service, 'count', { to: (ARGV[2] || 100).to_i }).each do |number|
    puts number
    break if (taken += 1) == stop_after
  end
ensure
  connection.close
end
