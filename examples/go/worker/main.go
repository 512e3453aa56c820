// Command worker serves a calculator to callers in any language:
//
//	worker [URL [SERVICE]]
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	amqp "github.com/rabbitmq/amqp091-go"

	"calculator/wire"
)

// A handler returns the content-type and the body of the reply to a request of one class.
type handler func(encoding string, body []byte) (string, []byte, error)

// handle puts a function between the bodies of its requests and those of its replies.
func handle[Request, Reply any](replyType string, function func(*Request) (Reply, error)) handler {
	return func(encoding string, body []byte) (string, []byte, error) {
		request := new(Request)
		switch err := wire.Unmarshal(encoding, body, request); {
		case errors.Is(err, wire.ErrEncoding):
			return "", nil, refusal("unimplemented", err)
		case errors.Is(err, wire.ErrSize):
			return "", nil, refusal("resource_exhausted", err)
		case err != nil:
			return "", nil, refusal("invalid_argument", err)
		}
		reply, err := function(request)
		if err != nil {
			return "", nil, err
		}
		body, err = wire.Marshal(encoding, reply)
		return replyType, body, err
	}
}

// refusal says that the request did not get as far as its function.
func refusal(code string, err error) *wire.Failure { return failure(code, "no", err) }

func failure(code, executed string, err error) *wire.Failure {
	kind := fmt.Sprintf("%T", err)
	return &wire.Failure{
		Message:   err.Error(),
		Throwable: kind + ": " + err.Error(),
		Info:      wire.Info{Code: code, Type: kind, Executed: executed},
	}
}

// answer returns what goes back for a request: the reply, or a failure in its place.
func answer(handlers map[string]handler, request amqp.Delivery) amqp.Publishing {
	var class string
	var body []byte
	var err error
	encoding := cmp.Or(request.ContentEncoding, "json")
	if handle, served := handlers[request.ContentType]; served {
		class, body, err = handle(encoding, request.Body)
	} else if request.ContentType == "" {
		err = refusal("invalid_argument", errors.New("the request has no content-type"))
	} else {
		err = refusal("unimplemented", fmt.Errorf("%q is not served here", request.ContentType))
	}
	if err != nil {
		var known *wire.Failure
		if !errors.As(err, &known) {
			known = failure("unknown", "yes", err)
		}
		class, encoding = wire.FailureType, "json"
		body, _ = json.Marshal(known) // nothing in it can fail
	}
	return amqp.Publishing{
		ContentType:     class,
		ContentEncoding: encoding,
		CorrelationId:   cmp.Or(request.CorrelationId, request.MessageId),
		DeliveryMode:    amqp.Transient,
		Body:            body,
	}
}

func serve(ctx context.Context, connection *amqp.Connection, service string) error {
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	if _, err := channel.QueueDeclare(service, true, false, false, false, nil); err != nil {
		return err
	}
	if err := channel.QueueBind(service, service, "amq.direct", false, nil); err != nil {
		return err
	}
	// So many requests wait here behind the one that is answered; the others are left to other workers.
	if err := channel.Qos(10, 0, false); err != nil {
		return err
	}
	// When ctx is done, the broker sends no more, and the loop ends after what it has sent.
	requests, err := channel.ConsumeWithContext(ctx, service, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	fmt.Println("ready")

	handlers := calculator(service)
	for request := range requests {
		reply := answer(handlers, request)
		if request.ReplyTo != "" {
			// Not PublishWithContext: what has been delivered is answered even when ctx is done.
			if err := channel.Publish("", request.ReplyTo, false, false, reply); err != nil {
				return err
			}
		}
		// Only now: a request that is not acknowledged is given to another worker when this one dies.
		if err := request.Ack(false); err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		return errors.New("the link is lost, or the queue was deleted")
	}
	return nil
}

func main() {
	log.SetFlags(0)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	connection, err := amqp.Dial(cmp.Or(flag.Arg(0), os.Getenv("AMQPROXY_URL"), "amqp://guest:guest@localhost/"))
	if err != nil {
		log.Fatal(err)
	}
	if err := serve(ctx, connection, cmp.Or(flag.Arg(1), "calculator")); err != nil {
		log.Fatal(err)
	}
	if err := connection.Close(); err != nil {
		log.Fatal(err)
	}
}
