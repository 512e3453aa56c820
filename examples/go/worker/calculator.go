package main

import (
	"bytes"
	"encoding/json"
	"errors"

	pb "calculator/calculatorpb"
)

const messages = "com.github.sstone.amqp.proxy.calculator.Calculator$"

// calculator has the handlers of each class of requests. With JSON alone, the first two are enough.
func calculator(service string) map[string]handler {
	return map[string]handler{
		// Plain parameters; the reply is the bare value.
		service + ".add": handle(service+".add.Reply", func(p *parameters) (int64, error) {
			return int64(*p.X) + int64(*p.Y), nil
		}),
		service + ".divide": handle(service+".divide.Reply", func(p *parameters) (float64, error) {
			return divide(*p.X, *p.Y)
		}),
		// A protobuf message each way.
		messages + "AddRequest": handle(messages+"AddResponse", func(r *pb.AddRequest) (*pb.AddResponse, error) {
			sum := r.GetX() + r.GetY()
			return &pb.AddResponse{X: r.X, Y: r.Y, Sum: &sum}, nil
		}),
		messages + "DivideRequest": handle(messages+"DivideResponse", func(r *pb.DivideRequest) (*pb.DivideResponse, error) {
			quotient, err := divide(r.GetX(), r.GetY())
			return &pb.DivideResponse{Quotient: &quotient}, err
		}),
	}
}

func divide(x, y int32) (float64, error) {
	if y == 0 {
		return 0, errors.New("division by zero") // to Go it is infinity, which JSON cannot write
	}
	return float64(x) / float64(y), nil
}

type parameters struct{ X, Y *int32 }

// UnmarshalJSON takes both forms that a caller may choose: {"x": 1, "y": 2} and [1, 2].
func (p *parameters) UnmarshalJSON(data []byte) error {
	type byName parameters
	byPosition := []any{&p.X, &p.Y}
	var form any = (*byName)(p)
	if bytes.HasPrefix(data, []byte("[")) {
		form = &byPosition
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(form); err != nil {
		return err
	}
	if p.X == nil || p.Y == nil || len(byPosition) != 2 {
		return errors.New("two integers are needed, x and y")
	}
	return nil
}
