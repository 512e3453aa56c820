// Command caller asks the calculator that some worker serves, in whatever language:
//
//	caller [URL [SERVICE [ENCODING]]]
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	pb "calculator/calculatorpb"
	"calculator/wire"
)

const messages = "com.github.sstone.amqp.proxy.calculator.Calculator$"

type parameters struct {
	X int32 `json:"x"`
	Y int32 `json:"y"`
}

func (c *client) add(x, y int32) (int32, error) {
	if strings.HasSuffix(c.encoding, "protobuf") {
		var reply pb.AddResponse
		err := c.call(messages+"AddRequest", &pb.AddRequest{X: &x, Y: &y}, &reply)
		return reply.GetSum(), err
	}
	var sum int32
	err := c.call(c.service+".add", parameters{x, y}, &sum)
	return sum, err
}

func (c *client) divide(x, y int32) (float64, error) {
	if strings.HasSuffix(c.encoding, "protobuf") {
		var reply pb.DivideResponse
		err := c.call(messages+"DivideRequest", &pb.DivideRequest{X: &x, Y: &y}, &reply)
		return reply.GetQuotient(), err
	}
	var quotient float64
	err := c.call(c.service+".divide", parameters{x, y}, &quotient)
	return quotient, err
}

func run(url, service, encoding string) error {
	connection, err := amqp.Dial(url)
	if err != nil {
		return err
	}
	defer connection.Close()
	calculator, err := newClient(connection, service, encoding)
	if err != nil {
		return err
	}

	sum, err := calculator.add(1, 2)
	if err != nil {
		return err
	}
	fmt.Println("1 + 2 =", sum)

	quotient, err := calculator.divide(1, 0)
	if failure := new(wire.Failure); errors.As(err, &failure) {
		fmt.Println("1 / 0:", failure)
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Println("1 / 0 =", quotient)
	return nil
}

func main() {
	log.SetFlags(0)
	flag.Parse()
	url := cmp.Or(flag.Arg(0), os.Getenv("AMQPROXY_URL"), "amqp://guest:guest@localhost/")
	if err := run(url, cmp.Or(flag.Arg(1), "calculator"), cmp.Or(flag.Arg(2), "json")); err != nil {
		log.Fatal(err)
	}
}
