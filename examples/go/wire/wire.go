// Package wire has what the caller and the worker must agree on: bodies and failures.
package wire

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/golang/snappy"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// FailureType is the content-type of a reply that tells of a failure. Its body is a Failure, always in JSON.
const FailureType = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"

// MaxSize bounds what is unpacked: a few bytes may claim to hold gigabytes.
const MaxSize = 64 << 20

var (
	// ErrEncoding says that a content-encoding is not one of ours, or does not suit the message.
	ErrEncoding = errors.New("unsupported content-encoding")
	// ErrSize says that a body would unpack to more than MaxSize.
	ErrSize = fmt.Errorf("the body holds more than %d bytes", MaxSize)
)

// Failure is the error of a worker, as it travels.
type Failure struct {
	Message   string `json:"message"`
	Throwable string `json:"throwableAsString"`
	Info      Info   `json:"error"`
}

// Info is for programs: Code is a status name of gRPC's, and Executed is "no" if the request was refused before anything
// was done. Both are empty in the failures of the Akka AMQP proxies.
type Info struct {
	Code      string `json:"code"`
	Type      string `json:"type"`
	Retryable bool   `json:"retryable"`
	Executed  string `json:"executed"`
}

func (f *Failure) Error() string { return f.Message }

// Marshal returns v as the body of a message with that content-encoding. For protobuf, v is a proto.Message.
func Marshal(encoding string, v any) ([]byte, error) {
	compression, format := split(encoding)
	data, err := marshal(format, v)
	if err != nil {
		return nil, err
	}
	switch compression {
	case "":
		return data, nil
	case "snappy-": // one raw block; snappy.NewBufferedWriter would write the framing format
		return snappy.Encode(nil, data), nil
	case "gzip-":
		var packed bytes.Buffer
		writer := gzip.NewWriter(&packed)
		writer.Write(data) // to memory, which cannot fail
		writer.Close()
		return packed.Bytes(), nil
	}
	return nil, fmt.Errorf("%w: %s", ErrEncoding, encoding)
}

// Unmarshal reads the body of a message with that content-encoding into v, a pointer.
func Unmarshal(encoding string, data []byte, v any) error {
	compression, format := split(encoding)
	var err error
	switch compression {
	case "":
	case "snappy-":
		if size, _ := snappy.DecodedLen(data); size > MaxSize {
			return ErrSize
		}
		data, err = snappy.Decode(nil, data)
	case "gzip-":
		var reader *gzip.Reader
		if reader, err = gzip.NewReader(bytes.NewReader(data)); err == nil {
			data, err = io.ReadAll(io.LimitReader(reader, MaxSize+1))
		}
		if len(data) > MaxSize {
			return ErrSize
		}
	default:
		return fmt.Errorf("%w: %s", ErrEncoding, encoding)
	}
	if err != nil {
		return err
	}
	return unmarshal(format, data, v)
}

// split takes "snappy-json" apart, after the dash. A message without a content-encoding is in JSON.
func split(encoding string) (compression, format string) {
	if encoding == "" {
		return "", "json"
	}
	dash := strings.IndexByte(encoding, '-') + 1
	return encoding[:dash], encoding[dash:]
}

func marshal(format string, v any) ([]byte, error) {
	message, isMessage := v.(proto.Message)
	switch {
	case format == "protobuf" && isMessage:
		return proto.Marshal(message)
	case format == "json" && isMessage: // it has a mapping of its own
		return protojson.Marshal(message)
	case format == "json":
		return json.Marshal(v)
	}
	return nil, fmt.Errorf("%w: %s", ErrEncoding, format)
}

func unmarshal(format string, data []byte, v any) error {
	message, isMessage := v.(proto.Message)
	switch {
	case format == "protobuf" && isMessage:
		return proto.Unmarshal(data, message)
	case format == "json" && isMessage:
		return protojson.Unmarshal(data, message)
	case format == "json":
		return json.Unmarshal(data, v)
	}
	return fmt.Errorf("%w: %s", ErrEncoding, format)
}
