// The scenarios with amqp091-go. Usage: client URL PREFIX; prints what it saw, one scenario a line.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const patience = 10 * time.Second

var (
	url, prefix string
	connection  *amqp.Connection
	big         []byte
)

type table = amqp.Table

func main() {
	url, prefix = os.Args[1], os.Args[2]
	for i := range 256 * 4096 {
		big = append(big, byte(i))
	}
	connection = must(amqp.Dial(url))
	for _, scenario := range scenarios {
		line := must(json.Marshal([]any{scenario.name, outcome(scenario.run)}))
		fmt.Println(string(line))
	}
}

func outcome(run func() any) (saw any) {
	defer func() {
		if failure := recover(); failure != nil {
			saw = fmt.Sprint(failure)
		}
	}()
	return run()
}

var scenarios = []struct {
	name string
	run  func() any
}{
	{"topic", topic},
	{"fanout", fanout},
	{"headers", headers},
	{"exchange_binding", exchangeBinding},
	{"alternate_exchange", alternateExchange},
	{"confirms", confirms},
	{"mandatory", mandatory},
	{"reject_publish", rejectPublish},
	{"prefetch", prefetch},
	{"requeue", requeue},
	{"get", get},
	{"purge_and_delete", purgeAndDelete},
	{"dead_letter", deadLetter},
	{"time_to_live", timeToLive},
	{"max_length", maxLength},
	{"priorities", priorities},
	{"server_named", serverNamed},
	{"exclusive", exclusive},
	{"cancel_notify", cancelNotify},
	{"reply_to", replyTo},
	{"transaction", transaction},
	{"missing_queue", missingQueue},
	{"inequivalent", inequivalent},
	{"unknown_tag", unknownTag},
	{"properties", properties},
	{"big_body", bigBody},
	{"recovery", recovery},
	{"wrong_password", wrongPassword},
	{"missing_vhost", missingVhost},
	{"close", closing},
}

func topic() any {
	channel := open()
	exchange, queue := declareExchange(channel, "topic", "topic", nil), declare(channel, "", nil)
	for _, key := range []string{"log.*.error", "audit.#"} {
		check(channel.QueueBind(queue, key, exchange, false, nil))
	}
	for _, key := range []string{"log.db.error", "log.db.info", "log.error", "audit", "audit.a.b"} {
		publish(channel, exchange, key, amqp.Publishing{Body: []byte(key)})
	}
	return bodies(channel, queue)
}

func fanout() any {
	channel := open()
	exchange := declareExchange(channel, "fanout", "fanout", nil)
	one, two := declare(channel, "", nil), declare(channel, "", nil)
	for _, queue := range []string{one, two} {
		check(channel.QueueBind(queue, "", exchange, false, nil))
	}
	publish(channel, exchange, "any", amqp.Publishing{Body: []byte("news")})
	return []any{bodies(channel, one), bodies(channel, two)}
}

func headers() any {
	channel := open()
	exchange := declareExchange(channel, "headers", "headers", nil)
	all, either := declare(channel, "", nil), declare(channel, "", nil)
	wanted := func(match string) table { return table{"x-match": match, "kind": "pdf", "pages": 2} }
	check(channel.QueueBind(all, "", exchange, false, wanted("all")))
	check(channel.QueueBind(either, "", exchange, false, wanted("any")))
	publish(channel, exchange, "", amqp.Publishing{Body: []byte("both"), Headers: table{"kind": "pdf", "pages": 2}})
	publish(channel, exchange, "", amqp.Publishing{Body: []byte("one"), Headers: table{"kind": "pdf"}})
	publish(channel, exchange, "", amqp.Publishing{Body: []byte("none"), Headers: table{"kind": "png"}})
	return map[string]any{"all": bodies(channel, all), "any": bodies(channel, either)}
}

func exchangeBinding() any {
	channel := open()
	source, sink := declareExchange(channel, "source", "fanout", nil), declareExchange(channel, "sink", "direct", nil)
	queue := declare(channel, "", nil)
	check(channel.QueueBind(queue, "key", sink, false, nil))
	check(channel.ExchangeBind(sink, "", source, false, nil))
	publish(channel, source, "key", amqp.Publishing{Body: []byte("hop")})
	return bodies(channel, queue)
}

func alternateExchange() any {
	channel := open()
	stray := declareExchange(channel, "stray", "fanout", nil)
	exchange := declareExchange(channel, "strict", "direct", table{"alternate-exchange": stray})
	queue, other := declare(channel, "", nil), declare(channel, "", nil)
	check(channel.QueueBind(queue, "", stray, false, nil))
	check(channel.QueueBind(other, "known", exchange, false, nil))
	publish(channel, exchange, "unknown", amqp.Publishing{Body: []byte("lost and found")})
	return bodies(channel, queue)
}

func confirms() any {
	channel := open()
	check(channel.Confirm(false))
	queue := declare(channel, "", nil)
	for _, body := range []string{"0", "1", "2"} {
		confirmed(channel, queue, body)
	}
	return bodies(channel, queue)
}

func mandatory() any {
	channel := open()
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	check(channel.Publish("", named("nowhere"), true, false, amqp.Publishing{Body: []byte("lost")}))
	back := receive(returns)
	return []any{back.ReplyCode, back.ReplyText, back.Exchange, back.RoutingKey, string(back.Body)}
}

func rejectPublish() any {
	channel := open()
	check(channel.Confirm(false))
	queue := declare(channel, "", table{"x-max-length": 1, "x-overflow": "reject-publish"})
	return []bool{confirmed(channel, queue, "in"), confirmed(channel, queue, "out")}
}

func prefetch() any {
	channel := open()
	queue := declare(channel, "prefetch", nil)
	for range 5 {
		publish(channel, "", queue, amqp.Publishing{})
	}
	check(channel.Qos(2, 0, false))
	deliveries := consume(channel, queue, false)
	receive(deliveries)
	second := receive(deliveries)
	waiting := must(channel.QueueDeclarePassive(queue, false, false, true, false, nil)).Messages
	check(second.Ack(true))
	receive(deliveries)
	fourth := receive(deliveries)
	check(fourth.Ack(true))
	return []any{waiting, receive(deliveries).DeliveryTag}
}

func requeue() any {
	channel := open()
	queue := declare(channel, "", nil)
	publish(channel, "", queue, amqp.Publishing{Body: []byte("again")})
	deliveries := consume(channel, queue, false)
	first := receive(deliveries)
	check(first.Nack(false, true))
	second := receive(deliveries)
	check(second.Reject(true))
	third := receive(deliveries)
	check(third.Ack(false))
	return []bool{first.Redelivered, second.Redelivered, third.Redelivered}
}

func get() any {
	channel := open()
	queue := declare(channel, "", nil)
	_, found, err := channel.Get(queue, false)
	check(err)
	for _, body := range []string{"one", "two"} {
		publish(channel, "", queue, amqp.Publishing{Body: []byte(body)})
	}
	message := take(channel, queue, false)
	check(message.Ack(false))
	return []any{!found, string(message.Body), message.MessageCount, message.Redelivered}
}

func purgeAndDelete() any {
	channel := open()
	queue := declare(channel, "", nil)
	for range 3 {
		publish(channel, "", queue, amqp.Publishing{})
	}
	purged := must(channel.QueuePurge(queue, false))
	publish(channel, "", queue, amqp.Publishing{})
	return []int{purged, must(channel.QueueDelete(queue, false, false, false))}
}

func deadLetter() any {
	channel := open()
	dead := declare(channel, "", nil)
	queue := declare(channel, "work", table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	publish(channel, "", queue, amqp.Publishing{Body: []byte("poison")})
	poison := take(channel, queue, false)
	check(poison.Reject(false))
	message := receive(consume(channel, dead, true))
	death := message.Headers["x-death"].([]any)[0].(table)
	saw := []any{string(message.Body), message.Headers["x-first-death-reason"]}
	for _, key := range []string{"reason", "queue", "exchange", "routing-keys", "count"} {
		saw = append(saw, death[key])
	}
	return saw
}

func timeToLive() any {
	channel := open()
	dead := declare(channel, "", nil)
	queue := declare(channel, "ttl", table{
		"x-message-ttl": 60_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead,
	})
	publish(channel, "", queue, amqp.Publishing{Body: []byte("old"), Expiration: "20"})
	message := receive(consume(channel, dead, true))
	death := message.Headers["x-death"].([]any)[0].(table)
	return []any{string(message.Body), death["reason"], death["original-expiration"], orNil(message.Expiration)}
}

func maxLength() any {
	channel := open()
	queue := declare(channel, "", table{"x-max-length": 2})
	for _, body := range []string{"0", "1", "2"} {
		publish(channel, "", queue, amqp.Publishing{Body: []byte(body)})
	}
	return bodies(channel, queue)
}

func priorities() any {
	channel := open()
	queue := declare(channel, "", table{"x-max-priority": 5})
	for _, priority := range []uint8{1, 5, 3} {
		publish(channel, "", queue, amqp.Publishing{Body: fmt.Append(nil, priority), Priority: priority})
	}
	return bodies(channel, queue)
}

func serverNamed() any {
	return declare(open(), "", nil)[:8]
}

func exclusive() any {
	queue := declare(open(), "mine", nil)
	other := must(amqp.Dial(url))
	defer other.Close()
	_, err := must(other.Channel()).QueueDeclarePassive(queue, false, false, false, false, nil)
	return refusal(err)
}

func cancelNotify() any {
	channel := open()
	queue := declare(channel, "", nil)
	cancelled := channel.NotifyCancel(make(chan string, 1))
	must(channel.Consume(queue, "observer", false, false, false, false, nil))
	must(open().QueueDelete(queue, false, false, false))
	return receive(cancelled) == "observer"
}

func replyTo() any {
	server, client := open(), open()
	queue := declare(server, "", nil)
	answers := consume(client, "amq.rabbitmq.reply-to", true)
	publish(client, "", queue, amqp.Publishing{
		Body: []byte("ping"), ReplyTo: "amq.rabbitmq.reply-to", CorrelationId: "7",
	})
	asked := receive(consume(server, queue, true))
	publish(server, "", asked.ReplyTo, amqp.Publishing{Body: append(asked.Body, " pong "+asked.CorrelationId...)})
	return []string{string(receive(answers).Body)}
}

func transaction() any {
	channel := open()
	queue := declare(channel, "", nil)
	check(channel.Tx())
	counts := []int{}
	for _, end := range []func() error{channel.TxRollback, channel.TxCommit} {
		publish(channel, "", queue, amqp.Publishing{})
		check(end())
		counts = append(counts, must(channel.QueueDeclarePassive(queue, false, false, true, false, nil)).Messages)
	}
	return counts
}

func missingQueue() any {
	_, err := open().QueueDeclarePassive(named("no"), false, false, false, false, nil)
	return append(refusal(err), open().Close() == nil)
}

func inequivalent() any {
	declare(open(), "odd", table{"x-max-length": 1})
	_, err := open().QueueDeclare(named("odd"), false, false, true, false, table{"x-max-length": 2})
	return refusal(err)
}

func unknownTag() any {
	channel := open()
	closed := channel.NotifyClose(make(chan *amqp.Error, 1))
	check(channel.Ack(99, false))
	return refusal(receive(closed))
}

func properties() any {
	channel := open()
	queue := declare(channel, "", nil)
	publish(channel, "", queue, amqp.Publishing{
		Headers: table{
			"text": "grüße", "int": 7, "big": int64(1) << 40, "flag": true, "void": nil,
			"list": []any{1, "two"}, "table": table{"deep": table{"er": "x"}},
		},
		ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: amqp.Persistent, Priority: 4,
		CorrelationId: "c-1", ReplyTo: "answers", Expiration: "60000", MessageId: "m-1",
		Timestamp: time.Unix(1_700_000_000, 0), Type: "greeting", UserId: "guest", AppId: "clients",
	})
	got := take(channel, queue, true)
	return []any{map[string]any{
		"content_type": got.ContentType, "content_encoding": got.ContentEncoding, "delivery_mode": got.DeliveryMode,
		"priority": got.Priority, "correlation_id": got.CorrelationId, "reply_to": got.ReplyTo,
		"expiration": got.Expiration, "message_id": got.MessageId, "timestamp": got.Timestamp.Unix(),
		"type": got.Type, "user_id": got.UserId, "app_id": got.AppId,
	}, got.Headers}
}

func bigBody() any {
	channel := open()
	queue := declare(channel, "", nil)
	publish(channel, "", queue, amqp.Publishing{Body: big})
	return bytes.Equal(take(channel, queue, true).Body, big)
}

// The client's own recovery brings back the exclusive queue and its consumer after the socket is lost.
func recovery() any {
	sockets := make(chan net.Conn, 8)
	recovering := must(amqp.DialConfig(url, amqp.Config{
		Recovery: &amqp.Recovery{
			ReconnectionConfig: &amqp.ReconnectionConfig{MaxRetryCount: 50, RetryInterval: 100 * time.Millisecond},
		},
		Dial: func(network, address string) (net.Conn, error) {
			socket, err := amqp.DefaultDial(patience)(network, address)
			sockets <- socket
			return socket, err
		},
	}))
	defer recovering.Close()
	channel := must(recovering.Channel())
	queue := declare(channel, "recovered", nil)
	deliveries := consume(channel, queue, true)
	check(receive(sockets).Close())
	receive(sockets)
	return untilPublished(queue, deliveries)
}

func untilPublished(queue string, deliveries <-chan amqp.Delivery) any {
	publisher := open()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		publish(publisher, "", queue, amqp.Publishing{Body: []byte("after")})
		select {
		case message := <-deliveries:
			return string(message.Body)
		case <-time.After(100 * time.Millisecond):
		}
	}
	panic("nothing was delivered after the recovery")
}

func wrongPassword() any {
	_, err := amqp.Dial(strings.Replace(url, "guest:guest", "guest:wrong", 1))
	return refusal(err)[0] == amqp.AccessRefused
}

func missingVhost() any {
	_, err := amqp.Dial(url + named("vhost"))
	return refusal(err)[0] == amqp.NotAllowed
}

func closing() any {
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	check(connection.Close())
	return receive(closed) == nil
}

func named(name string) string {
	return prefix + "." + name
}

func open() *amqp.Channel {
	return must(connection.Channel())
}

func declare(channel *amqp.Channel, name string, arguments table) string {
	if name != "" {
		name = named(name)
	}
	return must(channel.QueueDeclare(name, false, false, true, false, arguments)).Name
}

func declareExchange(channel *amqp.Channel, name, kind string, arguments table) string {
	check(channel.ExchangeDeclare(named(name), kind, false, true, false, false, arguments))
	return named(name)
}

func publish(channel *amqp.Channel, exchange, key string, message amqp.Publishing) {
	check(channel.Publish(exchange, key, false, false, message))
}

func confirmed(channel *amqp.Channel, queue, body string) bool {
	message := amqp.Publishing{Body: []byte(body)}
	confirmation := must(channel.PublishWithDeferredConfirm("", queue, false, false, message))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return must(confirmation.WaitContext(ctx))
}

func consume(channel *amqp.Channel, queue string, autoAck bool) <-chan amqp.Delivery {
	return must(channel.Consume(queue, "", autoAck, false, false, false, nil))
}

func take(channel *amqp.Channel, queue string, autoAck bool) amqp.Delivery {
	message, found, err := channel.Get(queue, autoAck)
	check(err)
	if !found {
		panic("the queue is empty")
	}
	return message
}

func bodies(channel *amqp.Channel, queue string) []string {
	got := []string{}
	for {
		message, found, err := channel.Get(queue, true)
		check(err)
		if !found {
			return got
		}
		got = append(got, string(message.Body))
	}
}

func receive[T any](from <-chan T) T {
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		panic("nothing came")
	}
}

func refusal(err error) []any {
	var refused *amqp.Error
	if !errors.As(err, &refused) {
		panic(err)
	}
	return []any{refused.Code, refused.Reason}
}

func orNil(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
