package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"calculator/wire"
)

const timeLimit = 5 * time.Second

// A client calls one service, one call at a time.
type client struct {
	channel           *amqp.Channel
	service, encoding string
	replyTo           string
	replies           <-chan amqp.Delivery
	returns           <-chan amqp.Return
}

func newClient(connection *amqp.Connection, service, encoding string) (*client, error) {
	channel, err := connection.Channel()
	if err != nil {
		return nil, err
	}
	// The broker names the queue, which is ours alone and dies with the connection.
	queue, err := channel.QueueDeclare("", false, false, true, false, nil)
	if err != nil {
		return nil, err
	}
	replies, err := channel.Consume(queue.Name, "", true, true, false, false, nil)
	if err != nil {
		return nil, err
	}
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	return &client{channel, service, encoding, queue.Name, replies, returns}, nil
}

// call sends a request and reads its reply into reply. A worker's failure is returned as a *wire.Failure.
func (c *client) call(class string, request, reply any) error {
	body, err := wire.Marshal(c.encoding, request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeLimit)
	defer cancel()
	id := rand.Text()
	const mandatory = true // a request that no queue takes comes back at once
	err = c.channel.PublishWithContext(ctx, "", c.service, mandatory, false, amqp.Publishing{
		ContentType:     class,
		ContentEncoding: c.encoding,
		ReplyTo:         c.replyTo,
		CorrelationId:   id,
		Expiration:      fmt.Sprint(timeLimit.Milliseconds()), // nobody starts on it after we have given up
		DeliveryMode:    amqp.Transient,
		Body:            body,
	})
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: no reply within %s", class, timeLimit)
		case returned, open := <-c.returns:
			if !open {
				return amqp.ErrClosed
			}
			return fmt.Errorf("nobody serves %s: %s", c.service, returned.ReplyText)
		case delivery, open := <-c.replies:
			if !open {
				return amqp.ErrClosed
			}
			if delivery.CorrelationId != id {
				continue // the reply to a call that was given up
			}
			if delivery.ContentType == wire.FailureType {
				failure := new(wire.Failure)
				if err := json.Unmarshal(delivery.Body, failure); err != nil {
					return err
				}
				return failure
			}
			return wire.Unmarshal(delivery.ContentEncoding, delivery.Body, reply)
		}
	}
}
