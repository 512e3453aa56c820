// Calls methods of the generated client. Usage: driver URL MODE [COUNT]; prints what came of each as JSON.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"sync"
	"time"

	"clients/gallery"
	"clients/nobody"
)

var ctx = context.Background()

func main() {
	client := &gallery.Client{URL: os.Args[1]}
	defer client.Close()
	switch os.Args[2] {
	case "call":
		callAll(client)
	case "lose":
		client.Timeout = time.Minute
		lose(client)
	case "wait":
		client.Timeout = time.Second
		wait(client)
	case "close":
		client.Timeout = time.Minute
		closeIt(client)
	case "garbage":
		count, _ := strconv.Atoi(os.Args[3])
		decode(client, count)
	case "add":
		client.Timeout = time.Minute
		sum, err := client.Add(ctx, 1, 2)
		report("add", sum, err)
	}
}

func report(name string, result any, err error) {
	line, err := json.Marshal([]any{name, outcome(result, err)})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func outcome(result any, err error) any {
	var remote *gallery.RemoteError
	switch {
	case errors.As(err, &remote):
		result = []any{remote.Code, remote.Type, remote.Message, remote.Retryable, remote.Details, remote.Executed}
	case errors.Is(err, gallery.ErrTimeout) && errors.Is(err, context.DeadlineExceeded):
		result = []any{"timeout", "maybe"}
	case errors.Is(err, nobody.ErrUnroutable):
		result = []any{"unroutable", "no"}
	case errors.Is(err, gallery.ErrConnectionLost):
		result = []any{"lost", err.Error()}
	case errors.Is(err, gallery.ErrBadReply):
		result = []any{"undecoded yes", err.Error()}
	case errors.Is(err, gallery.ErrBadArguments):
		result = []any{"unencoded no", err.Error()}
	case err != nil:
		result = err.Error()
	}
	return result
}

func numbers(data []byte) []int {
	all := make([]int, len(data))
	for i, each := range data {
		all[i] = int(each)
	}
	return all
}

func callAll(client *gallery.Client) {
	height, de, title, times, mark := int64(4), "de", "Dr", int64(2), "?"
	picture := gallery.Picture{
		ID:     "12345678-1234-5678-1234-567812345678",
		Frame:  gallery.Frame{Colour: gallery.ColourRed, Size: gallery.Size{FullWidth: 3, Height: &height}},
		At:     gallery.Point{X: 1, Y: 2},
		Labels: []gallery.Label{{Text: "a"}, {Text: "b", Lang: &de}},
	}
	sum, err := client.Add(ctx, 1, -2)
	report("add", sum, err)
	greeting, err := client.Greet(ctx, "Ann", nil)
	report("greet", greeting, err)
	greeting, err = client.Greet(ctx, "Ann", &gallery.GreetOptions{Title: &title, Times: &times, Mark: &mark})
	report("greet with options", greeting, err)
	end, err := client.End(ctx, "x", true, nil, map[string]int64{"a": 1})
	report("end", end, err)
	data, err := client.Reverse(ctx, []byte{0, 200, 3}, nil)
	report("reverse", numbers(data), err)
	more := []byte("c")
	data, err = client.Reverse(ctx, []byte("ab"), &gallery.ReverseOptions{More: &more})
	report("reverse with options", numbers(data), err)
	sorted, err := client.Sort(ctx, []int64{2, 1, 3}, []any{1, "one"}, "down", "1.10", nil)
	report("sort", sorted, err)
	anything := []any{1, map[string]any{"a": nil}}
	options := &gallery.SortOptions{Anything: anything}
	sorted, err = client.Sort(ctx, []int64{2, 1}, []any{1, "one"}, "up", "1.10", options)
	report("sort with options", sorted, err)
	painted, err := client.Paint(ctx, picture, gallery.ColourDarkGreen, "2024-05-06T07:08:09Z")
	report("paint", painted, err)
	moved, err := client.Move(ctx, gallery.MoveRequest{Picture: picture, To: gallery.Point{X: 4, Y: 0}})
	report("move", moved, err)
	report("check", nil, client.Check(ctx, 1))
	report("check of a wrong value", nil, client.Check(ctx, -1))
	found, err := client.Find(ctx, 7)
	report("find", found, err)
	report("sleep", nil, client.Sleep(ctx))
	unserved := &nobody.Client{URL: client.URL}
	defer unserved.Close()
	report("nobody", nil, unserved.Nothing(ctx))
	many(client)
}

func many(client *gallery.Client) {
	sums := make([]int64, 200)
	errs := make([]error, len(sums))
	var group sync.WaitGroup
	for n := range sums {
		group.Add(1)
		go func() {
			defer group.Done()
			sums[n], errs[n] = client.Add(ctx, int64(n), int64(n))
		}()
	}
	group.Wait()
	report("many", sums, errors.Join(errs...))
}

func lose(client *gallery.Client) {
	_, err := client.Add(ctx, 1, 2)
	report("ready", true, err)
	report("lost", nil, client.Sleep(ctx))
	lines := bufio.NewReader(os.Stdin)
	lines.ReadString('\n')
	_, err = client.Add(ctx, 1, 2)
	report("still lost", nil, err)
	lines.ReadString('\n')
	sum, err := client.Add(ctx, 1, 2)
	report("found again", sum, err)
}

func wait(client *gallery.Client) {
	outcomes := make([]any, 4)
	var group sync.WaitGroup
	for n := range outcomes {
		group.Add(1)
		go func() {
			defer group.Done()
			sum, err := client.Add(ctx, 1, 2)
			outcomes[n] = outcome(sum, err)
		}()
	}
	group.Wait()
	report("wait", outcomes, nil)
	bufio.NewReader(os.Stdin).ReadString('\n')
	sum, err := client.Add(ctx, 1, 2)
	for errors.Is(err, gallery.ErrConnectionLost) { // what was begun before is about to end
		sum, err = client.Add(ctx, 1, 2)
	}
	report("found awake", sum, err)
}

func closeIt(client *gallery.Client) {
	pending := make(chan any)
	go func() {
		sum, err := client.Add(ctx, 1, 2)
		pending <- outcome(sum, err)
	}()
	bufio.NewReader(os.Stdin).ReadString('\n')
	client.Close()
	report("close", <-pending, nil)
}

func decode(client *gallery.Client, count int) {
	for n := range count {
		found, err := client.Find(ctx, n)
		report(fmt.Sprint("find ", n), found, err)
	}
	data, err := client.Reverse(ctx, []byte("a"), nil)
	report("reverse", data, err)
	sum, err := client.Add(ctx, 1, 2)
	report("add", sum, err)
	report("check", nil, client.Check(ctx, 1))
	nan := math.NaN()
	end, err := client.End(ctx, "x", true, &nan, nil)
	report("not a number", end, err)
}
