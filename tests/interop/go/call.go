// The client: each subject is tried on servers, over one connection to each, in turn. What is not as
// it should be goes to standard error, and the program returns 1.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Far more than any subject takes, on a busy machine too.
const limit = 60 * time.Second

var subjects = map[string]func(context.Context, client, []string) error{
	"kinds":    kinds,
	"metadata": bothWays,
	"errors":   failures,
	"deadline": deadline,
	"hang":     hang,
	"drop":     drop,
	"gzip":     compressed,
	"shares":   shares,
	"loop":     loop,
}

func call(arguments []string) error {
	if len(arguments) < 2 {
		return errors.New("arguments: too few (expected: a subject, and addresses)")
	}
	subject, addresses := subjects[arguments[0]], arguments[1:]
	if subject == nil {
		return fmt.Errorf("subject: %s (expected: one of call.go's)", arguments[0])
	}
	c, err := connect(addresses)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return subject(ctx, c, addresses)
}

// connect returns a client that calls all servers in turn.
func connect(addresses []string) (client, error) {
	list := manual.NewBuilderWithScheme("list")
	state := resolver.State{}
	for _, address := range addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}})
	}
	list.InitialState(state)
	connection, err := grpc.NewClient("list:///greeter",
		grpc.WithResolvers(list),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largest)),
	)
	return client{connection}, err
}

// connectAll does so, and calls until each server has answered.
func connectAll(ctx context.Context, addresses []string) (client, error) {
	c, err := connect(addresses)
	if err != nil {
		return c, err
	}
	return c, c.reachAll(ctx, addresses)
}

func (c client) reachAll(ctx context.Context, addresses []string) error {
	reached := map[string]bool{}
	for len(reached) < len(addresses) {
		reply, err := c.sayHello(ctx, "you", grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		reached[reply.servedBy] = true
	}
	return nil
}

// kinds calls in all four ways, with few messages, many, and large ones.
func kinds(ctx context.Context, c client, _ []string) error {
	large := strings.Repeat("x", 8<<20)
	for _, name := range []string{"", "you", large} {
		reply, err := c.sayHello(ctx, name)
		if err != nil {
			return fmt.Errorf("one call: %w", err)
		}
		if err := same("its reply", len(reply.message), len(name)+len("Hello, !")); err != nil {
			return err
		}
	}
	for _, count := range []int{0, 1, 10_000} {
		if err := first(
			prefixed("replies", replies(ctx, c, count)),
			prefixed("requests", requests(ctx, c, count)),
			prefixed("both", both(ctx, c, count)),
		); err != nil {
			return fmt.Errorf("%d messages: %w", count, err)
		}
	}
	return nil
}

func replies(ctx context.Context, c client, count int) error {
	stream, err := c.sayHellos(ctx, &hellosRequest{name: "you", count: uint32(count)})
	if err != nil {
		return err
	}
	received := 0
	for ; ; received++ {
		_, err := stream.Recv()
		if err == io.EOF {
			return same("replies", received, count)
		}
		if err != nil {
			return err
		}
	}
}

func requests(ctx context.Context, c client, count int) error {
	stream, err := c.greetAll(ctx)
	if err != nil {
		return err
	}
	names := []string{}
	for number := range count {
		names = append(names, strconv.Itoa(number))
		// After EOF the reply says why there is nothing more to send.
		if err := stream.Send(&helloRequest{name: strconv.Itoa(number)}); err != nil && err != io.EOF {
			return err
		}
	}
	reply, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	return same("the reply to all", reply.message, "Hello, "+strings.Join(names, ", ")+"!")
}

func both(ctx context.Context, c client, count int) error {
	stream, err := c.chat(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		for number := range count {
			if err := stream.Send(&helloRequest{name: strconv.Itoa(number)}); err != nil {
				sent <- fmt.Errorf("sending: %w", err)
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	for number := 0; ; number++ {
		reply, err := stream.Recv()
		if err == io.EOF {
			return first(same("replies", number, count), <-sent)
		}
		if err != nil {
			return err
		}
		if err := same("a reply", reply.message, fmt.Sprintf("Hello, %d!", number)); err != nil {
			return err
		}
	}
}

// bothWays sends metadata that comes back, in the headers, and in the trailers of a call that fails.
func bothWays(ctx context.Context, c client, _ []string) error {
	binary := string([]byte{0, 1, 254, 255})
	ctx = metadata.AppendToOutgoingContext(ctx,
		"echo-text", "some text", "echo-more", "one", "echo-more", "two", "echo-bytes-bin", binary,
		"trail-text", "at last", "trail-bytes-bin", binary)
	var headers, trailers metadata.MD
	if _, err := c.sayHello(ctx, "you", grpc.Header(&headers)); err != nil {
		return err
	}
	_, err := c.sayHello(ctx, "fail", grpc.Trailer(&trailers))
	err = first(
		same("code", status.Code(err), codes.ResourceExhausted),
		echoed(headers, binary),
		trailed(trailers, binary),
	)
	if err != nil {
		return fmt.Errorf("one call: %w", err)
	}
	stream, err := c.chat(ctx)
	if err != nil {
		return err
	}
	// They are there before any message is.
	headers, err = stream.Header()
	if err != nil {
		return err
	}
	if err := stream.Send(&helloRequest{name: "fail"}); err != nil {
		return err
	}
	_, err = stream.Recv()
	return first(
		same("code", status.Code(err), codes.ResourceExhausted),
		echoed(headers, binary),
		trailed(stream.Trailer(), binary),
	)
}

func echoed(headers metadata.MD, binary string) error {
	return first(
		same("echo-text", headers["echo-text"], []string{"some text"}),
		same("echo-more", headers["echo-more"], []string{"one", "two"}),
		same("echo-bytes-bin", headers["echo-bytes-bin"], []string{binary}),
	)
}

func trailed(trailers metadata.MD, binary string) error {
	return first(
		same("trail-text", trailers["trail-text"], []string{"at last"}),
		same("trail-bytes-bin", trailers["trail-bytes-bin"], []string{binary}),
	)
}

// failures sees an error as it was made.
func failures(ctx context.Context, c client, _ []string) error {
	_, err := c.sayHello(ctx, "fail")
	failure := status.Convert(err)
	details := failure.Details()
	if len(details) != 1 {
		return fmt.Errorf("details: %v (expected: one)", details)
	}
	detail, ok := details[0].(*wrapperspb.StringValue)
	if !ok {
		return fmt.Errorf("detail: %T (expected: a string)", details[0])
	}
	return first(
		same("code", failure.Code(), codes.ResourceExhausted),
		same("message", failure.Message(), "no luck today: 100 % ü\n"),
		same("detail", detail.GetValue(), "tomorrow"),
	)
}

// deadline sends one, which the server is to know and which ends a call that has no answer.
func deadline(ctx context.Context, c client, _ []string) error {
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	reply, err := c.sayHello(limited, "deadline")
	if err != nil {
		return err
	}
	left, err := strconv.Atoi(reply.message)
	if err != nil || left > 20_000 || left < 10_000 {
		return fmt.Errorf("left: %s ms (expected: 20 s, or a little less)", reply.message)
	}
	reply, err = c.sayHello(context.Background(), "deadline")
	if err != nil {
		return err
	}
	return same("what is left without a deadline", reply.message, "none")
}

// hang makes a call of one second that is not answered.
func hang(ctx context.Context, c client, _ []string) error {
	limited, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	begin := time.Now()
	_, err := c.sayHello(limited, "hang")
	if took := time.Since(begin); took < time.Second {
		return fmt.Errorf("over after: %v (expected: 1 s)", took)
	}
	// A server of tonic's that is first to see the deadline pass says so in its own way.
	if s := status.Convert(err); s.Code() == codes.Canceled && s.Message() == "Timeout expired" {
		return nil
	}
	return same("code", status.Code(err), codes.DeadlineExceeded)
}

// drop gives a call up when it is told to, by a line.
func drop(ctx context.Context, c client, _ []string) error {
	given, cancel := context.WithCancel(ctx)
	go func() {
		awaitLine()
		cancel()
	}()
	_, err := c.sayHello(given, "hang")
	return same("code", status.Code(err), codes.Canceled)
}

// compressed sends and gets gzip.
func compressed(ctx context.Context, c client, _ []string) error {
	long := strings.Repeat("long ", 10_000)
	var headers metadata.MD
	reply, err := c.sayHello(ctx, "compression", grpc.UseCompressor(gzip.Name))
	if err != nil {
		return err
	}
	if err := same("how the server saw it compressed", reply.message, "gzip"); err != nil {
		return err
	}
	reply, err = c.sayHello(ctx, long, grpc.UseCompressor(gzip.Name), grpc.Header(&headers))
	if err != nil {
		return err
	}
	return same("the reply", reply.message, "Hello, "+long+"!")
}

// shares tells how many of so many calls each server had.
func shares(ctx context.Context, c client, addresses []string) error {
	if err := c.reachAll(ctx, addresses); err != nil {
		return err
	}
	had := map[string]int{}
	for range 100 * len(addresses) {
		reply, err := c.sayHello(ctx, "you")
		if err != nil {
			return err
		}
		had[reply.servedBy]++
	}
	for _, address := range addresses {
		if err := same("calls of "+address, had[address], 100); err != nil {
			return err
		}
	}
	return nil
}

// loop calls, eight at a time and each for 20 ms, until it is told to stop, by a line; it tells when
// all servers were reached, and at last how many calls each served.
func loop(ctx context.Context, c client, addresses []string) error {
	if err := c.reachAll(ctx, addresses); err != nil {
		return err
	}
	fmt.Println("reached")
	told, stop := context.WithCancel(ctx)
	go func() {
		awaitLine()
		stop()
	}()
	var lock sync.Mutex
	had, failed := map[string]int{}, []error{}
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for told.Err() == nil {
				reply, err := c.sayHello(ctx, "wait:20")
				lock.Lock()
				if err != nil {
					failed = append(failed, err)
				} else {
					had[reply.servedBy]++
				}
				lock.Unlock()
			}
		})
	}
	workers.Wait()
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("%d calls failed: %w", len(failed), err)
	}
	sort.Strings(addresses)
	for _, address := range addresses {
		fmt.Println("served", address, had[address])
	}
	return nil
}

// awaitLine returns when there is a line to read, or none will come.
func awaitLine() {
	bufio.NewScanner(os.Stdin).Scan()
}

// same is an error unless two values print alike.
func same(what string, seen, expected any) error {
	if seen, expected := fmt.Sprint(seen), fmt.Sprint(expected); seen != expected {
		return fmt.Errorf("%s: %.200q (expected: %.200q)", what, seen, expected)
	}
	return nil
}

// prefixed says of what an error is, if it is one.
func prefixed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// first returns the first of errors that is one.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
