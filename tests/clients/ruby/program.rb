# frozen_string_literal: true

# The scenarios with Ruby's bunny. Usage: program.rb URL PREFIX; prints what it saw, one scenario a line.

require 'bunny'
require 'json'
require 'timeout'

PATIENCE = 10
BIG = (0..255).to_a.pack('C*') * 4096

# One method a scenario: each opens the channels it needs, and returns what it saw.
class Scenarios
  NAMES = %i[
    topic fanout headers exchange_binding alternate_exchange confirms mandatory reject_publish prefetch requeue get
    purge_and_delete dead_letter time_to_live max_length priorities server_named exclusive cancel_notify reply_to
    transaction missing_queue inequivalent unknown_tag properties big_body recovery wrong_password missing_vhost close
  ].freeze

  def initialize(url, prefix)
    @url = url.chomp('/') # which bunny takes for a virtual host without a name
    @prefix = prefix
    @connection = connect(@url)
  end

  def report
    NAMES.each { |scenario| puts JSON.generate([scenario, outcome(scenario)]) }
  end

  private

  def outcome(scenario)
    Timeout.timeout(2 * PATIENCE) { send(scenario) }
  rescue StandardError => e
    e.inspect
  end

  def connect(url, **options)
    Bunny.new(url, logger: Logger.new(IO::NULL), **options).start
  end

  def name(name)
    "#{@prefix}.#{name}"
  end

  def channel
    @connection.create_channel
  end

  def queue(channel, named = nil, **arguments)
    arguments = arguments.to_h { |key, value| ["x-#{key.to_s.tr('_', '-')}", value] }
    channel.queue(named ? name(named) : '', exclusive: true, arguments: arguments)
  end

  def exchange(channel, named, kind, **arguments)
    channel.exchange(name(named), type: kind, auto_delete: true, arguments: arguments.transform_keys(&:to_s))
  end

  def bodies(queue)
    got = []
    while (body = queue.pop[2])
      got << body
    end
    got
  end

  # The messages of a consumer, one after the other.
  def consume(queue, **options)
    messages = Queue.new
    queue.subscribe(**options) { |*message| messages << message }
    messages
  end

  def topic
    channel = self.channel
    exchange = exchange(channel, 'topic', :topic)
    queue = queue(channel)
    %w[log.*.error audit.#].each { |key| queue.bind(exchange, routing_key: key) }
    %w[log.db.error log.db.info log.error audit audit.a.b].each { |key| exchange.publish(key, routing_key: key) }
    bodies(queue)
  end

  def fanout
    channel = self.channel
    exchange = exchange(channel, 'fanout', :fanout)
    queues = [queue(channel).bind(exchange), queue(channel).bind(exchange)]
    exchange.publish('news', routing_key: 'any')
    queues.map { |queue| bodies(queue) }
  end

  def headers
    channel = self.channel
    exchange = exchange(channel, 'headers', :headers)
    queues = %w[all any].to_h do |match|
      [match, queue(channel).bind(exchange, arguments: { 'x-match' => match, 'kind' => 'pdf', 'pages' => 2 })]
    end
    { both: { kind: 'pdf', pages: 2 }, one: { kind: 'pdf' }, none: { kind: 'png' } }.each do |body, headers|
      exchange.publish(body.to_s, headers: headers)
    end
    queues.transform_values { |queue| bodies(queue) }
  end

  def exchange_binding
    channel = self.channel
    source = exchange(channel, 'source', :fanout)
    sink = exchange(channel, 'sink', :direct)
    queue = queue(channel).bind(sink, routing_key: 'key')
    sink.bind(source)
    source.publish('hop', routing_key: 'key')
    bodies(queue)
  end

  def alternate_exchange
    channel = self.channel
    stray = exchange(channel, 'stray', :fanout)
    strict = exchange(channel, 'strict', :direct, 'alternate-exchange': stray.name)
    queue = queue(channel).bind(stray)
    queue(channel).bind(strict, routing_key: 'known')
    strict.publish('lost and found', routing_key: 'unknown')
    bodies(queue)
  end

  def confirms
    channel = self.channel
    channel.confirm_select
    queue = queue(channel)
    3.times { |number| queue.publish(number.to_s) }
    channel.wait_for_confirms
    bodies(queue)
  end

  def mandatory
    channel = self.channel
    channel.confirm_select
    returned = Queue.new
    exchange = channel.default_exchange
    exchange.on_return { |info, _, body| returned << [info.reply_code, info.reply_text, info.exchange, info.routing_key, body] }
    exchange.publish('lost', routing_key: name('nowhere'), mandatory: true)
    returned.pop
  end

  def reject_publish
    channel = self.channel
    channel.confirm_select
    queue = queue(channel, max_length: 1, overflow: 'reject-publish')
    Array.new(2) do
      queue.publish('')
      channel.wait_for_confirms
    end
  end

  def prefetch
    channel = self.channel
    queue = queue(channel, 'prefetch')
    5.times { queue.publish('') }
    channel.prefetch(2)
    messages = consume(queue, manual_ack: true)
    tags = Array.new(2) { messages.pop[0].delivery_tag }
    waiting = queue.message_count
    channel.ack(tags.last, true)
    tags += Array.new(2) { messages.pop[0].delivery_tag }
    channel.ack(tags.last, true)
    [waiting, messages.pop[0].delivery_tag.to_i]
  end

  def requeue
    channel = self.channel
    queue = queue(channel)
    queue.publish('again')
    messages = consume(queue, manual_ack: true)
    first, = messages.pop
    channel.nack(first.delivery_tag, false, true)
    second, = messages.pop
    channel.reject(second.delivery_tag, true)
    third, = messages.pop
    channel.ack(third.delivery_tag)
    [first, second, third].map(&:redelivered?)
  end

  def get
    channel = self.channel
    queue = queue(channel)
    empty = queue.pop[2].nil?
    %w[one two].each { |body| queue.publish(body) }
    info, _, body = queue.pop(manual_ack: true)
    channel.ack(info.delivery_tag)
    [empty, body, queue.message_count, info.redelivered?] # bunny drops the count that came with the message
  end

  def purge_and_delete
    channel = self.channel
    queue = queue(channel)
    3.times { queue.publish('') }
    purged = channel.queue_purge(queue.name).message_count
    queue.publish('')
    [purged, channel.queue_delete(queue.name).message_count]
  end

  def dead_letter
    channel = self.channel
    dead = queue(channel)
    queue = queue(channel, 'work', dead_letter_exchange: '', dead_letter_routing_key: dead.name)
    queue.publish('poison')
    channel.reject(queue.pop(manual_ack: true)[0].delivery_tag)
    _, properties, body = consume(dead).pop
    death, = properties.headers['x-death']
    first = properties.headers['x-first-death-reason']
    [body, first, *death.values_at('reason', 'queue', 'exchange', 'routing-keys', 'count')]
  end

  def time_to_live
    channel = self.channel
    dead = queue(channel)
    queue = queue(channel, message_ttl: 60_000, dead_letter_exchange: '', dead_letter_routing_key: dead.name)
    queue.publish('old', expiration: '20')
    _, properties, body = consume(dead).pop
    death, = properties.headers['x-death']
    [body, death['reason'], death['original-expiration'], properties.expiration]
  end

  def max_length
    queue = queue(channel, max_length: 2)
    3.times { |number| queue.publish(number.to_s) }
    bodies(queue)
  end

  def priorities
    queue = queue(channel, max_priority: 5)
    [1, 5, 3].each { |priority| queue.publish(priority.to_s, priority: priority) }
    bodies(queue)
  end

  def server_named
    queue(channel).name[0, 8]
  end

  def exclusive
    queue = queue(channel, 'mine')
    other = connect(@url)
    refusal { other.create_channel.queue(queue.name, passive: true) }
  ensure
    other.close
  end

  def cancel_notify
    queue = queue(channel)
    cancelled = Queue.new
    queue.subscribe(on_cancellation: ->(cancel) { cancelled << cancel.consumer_tag }, consumer_tag: 'observer') {}
    channel.queue_delete(queue.name)
    cancelled.pop == 'observer'
  end

  def reply_to
    queue = queue(channel)
    client = channel
    answers = consume(client.queue('amq.rabbitmq.reply-to', no_declare: true))
    client.default_exchange.publish(
      'ping', routing_key: queue.name, reply_to: 'amq.rabbitmq.reply-to', correlation_id: '7'
    )
    _, asked, body = consume(queue).pop
    channel.default_exchange.publish("#{body} pong #{asked.correlation_id}", routing_key: asked.reply_to)
    [answers.pop[2]]
  end

  def transaction
    channel = self.channel
    queue = queue(channel)
    channel.tx_select
    %i[tx_rollback tx_commit].map do |finish|
      queue.publish('')
      channel.send(finish)
      queue.message_count
    end
  end

  def missing_queue
    refused = refusal { channel.queue(name('no'), passive: true) }
    [*refused, channel.open?]
  end

  def inequivalent
    queue(channel, 'odd', max_length: 1)
    refusal { queue(channel, 'odd', max_length: 2) }
  end

  def unknown_tag
    channel = self.channel
    closed = Queue.new
    channel.on_error { |_, close| closed << [close.reply_code, close.reply_text] }
    channel.ack(99)
    closed.pop
  end

  def refusal
    yield
  rescue Bunny::ChannelLevelException => e
    [e.channel_close.reply_code, e.channel_close.reply_text]
  end

  def properties
    queue = queue(channel)
    headers = {
      text: 'grüße', int: 7, big: 2**40, flag: true, void: nil, list: [1, 'two'], table: { deep: { er: 'x' } }
    }
    queue.publish(
      '',
      headers: headers, content_type: 'text/plain', content_encoding: 'utf-8', persistent: true, priority: 4,
      correlation_id: 'c-1', reply_to: 'answers', expiration: '60000', message_id: 'm-1',
      timestamp: 1_700_000_000, type: 'greeting', user_id: 'guest', app_id: 'clients'
    )
    got = queue.pop[1].to_h
    got[:timestamp] = got[:timestamp].to_i
    headers = got.delete(:headers)
    [got, headers]
  end

  def big_body
    queue = queue(channel)
    queue.publish(BIG)
    queue.pop[2] == BIG
  end

  # The client's own recovery brings back the exclusive queue and its consumer after the socket is lost.
  def recovery
    recovering = connect(@url, network_recovery_interval: 0.1)
    queue = queue(recovering.create_channel, 'recovered')
    messages = consume(queue)
    recovered = Queue.new
    recovering.after_recovery_completed { recovered << true } if recovering.respond_to?(:after_recovery_completed)
    recovering.transport.socket.shutdown
    channel.default_exchange.publish('after', routing_key: queue.name) until sleep(0.1) && !messages.empty?
    messages.pop[2]
  ensure
    recovering.close
  end

  def wrong_password
    connect(@url.sub('guest:guest', 'guest:wrong'))
  rescue Bunny::AuthenticationFailureError
    true
  end

  def missing_vhost
    connect("#{@url}/#{name('vhost')}")
  rescue Bunny::NotAllowedError
    true
  end

  def close
    @connection.close
    @connection.closed?
  end
end

$stdout.sync = true
Scenarios.new(*ARGV).report
