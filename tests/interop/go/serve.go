// The server. It greets as the Rust one does, tells in lines what it sees, and does as some names ask:
// see answer.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The largest message that is taken; grpc-go's own limit is 4 MiB.
const largest = 64 << 20

func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	address := flags.String("address", "127.0.0.1:0", "where to listen")
	age := flags.Duration("max-age", 0, "how old a connection gets; 0 is for ever")
	grace := flags.Duration("grace", 0, "how long streams may outlive that; 0 is for ever")
	streams := flags.Uint("max-streams", 0, "how many streams a connection may have; 0 is any number")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	// The policy against too many pings is the default one, whatever its numbers are.
	options := []grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: *age, MaxConnectionAgeGrace: *grace}),
		grpc.MaxRecvMsgSize(largest),
		grpc.StatsHandler(watcher{}),
	}
	if *streams > 0 {
		options = append(options, grpc.MaxConcurrentStreams(uint32(*streams)))
	}
	server := grpc.NewServer(options...)
	server.RegisterService(&service, &greeter{address: listener.Addr().String()})
	fmt.Println("listening", listener.Addr())
	return server.Serve(listener)
}

type greeter struct {
	// Told in each reply.
	address string
}

func (g *greeter) sayHello(ctx context.Context, request *helloRequest) (*helloReply, error) {
	headers, trailers := echoes(ctx)
	err := errors.Join(grpc.SetHeader(ctx, headers), grpc.SetTrailer(ctx, trailers))
	if err != nil {
		return nil, err
	}
	return g.answer(ctx, "SayHello", request.name)
}

func (g *greeter) sayHellos(request *hellosRequest, stream grpc.ServerStreamingServer[helloReply]) error {
	ctx, err := echo(stream)
	if err != nil {
		return err
	}
	reply, err := g.answer(ctx, "SayHellos", request.name)
	if err != nil {
		return err
	}
	for range request.count {
		if err := wait(ctx, time.Duration(request.intervalMs)*time.Millisecond); err != nil {
			return err
		}
		if err := stream.Send(reply); err != nil {
			return err
		}
	}
	return nil
}

func (g *greeter) greetAll(stream grpc.ClientStreamingServer[helloRequest, helloReply]) error {
	ctx, err := echo(stream)
	if err != nil {
		return err
	}
	var names []string
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			reply, err := g.answer(ctx, "GreetAll", strings.Join(names, ", "))
			if err != nil {
				return err
			}
			return stream.SendAndClose(reply)
		}
		if err != nil {
			fmt.Println("ended GreetAll:", status.Code(err))
			return err
		}
		names = append(names, request.name)
	}
}

func (g *greeter) chat(stream grpc.BidiStreamingServer[helloRequest, helloReply]) error {
	ctx, err := echo(stream)
	if err != nil {
		return err
	}
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			fmt.Println("ended Chat:", status.Code(err))
			return err
		}
		reply, err := g.answer(ctx, "Chat", request.name)
		if err != nil {
			return err
		}
		if err := stream.Send(reply); err != nil {
			return err
		}
	}
}

// answer greets, or does what the name asks for: `hang` waits until the call is given up and tells of
// it; `wait:<milliseconds>` takes so long; `fail` fails with details; `deadline` is told how many
// milliseconds are left; `compression` how the request was compressed; `header:<name>` that header.
func (g *greeter) answer(ctx context.Context, method, name string) (*helloReply, error) {
	begin := time.Now()
	order, argument, _ := strings.Cut(name, ":")
	switch order {
	case "hang":
		fmt.Println("began", method)
		<-ctx.Done()
		fmt.Printf("ended %s: %v after %d ms\n", method, ctx.Err(), time.Since(begin).Milliseconds())
		return nil, status.FromContextError(ctx.Err()).Err()
	case "wait":
		if milliseconds, err := strconv.Atoi(argument); err == nil {
			if err := wait(ctx, time.Duration(milliseconds)*time.Millisecond); err != nil {
				return nil, err
			}
		}
	case "fail":
		failure, err := status.New(codes.ResourceExhausted, "no luck today: 100 % ü\n").
			WithDetails(wrapperspb.String("tomorrow"))
		if err != nil {
			return nil, err
		}
		return nil, failure.Err()
	case "deadline":
		left := "none"
		if deadline, ok := ctx.Deadline(); ok {
			left = strconv.FormatInt(time.Until(deadline).Milliseconds(), 10)
		}
		return g.reply(left), nil
	case "compression":
		return g.reply(seenIn(ctx).compression), nil
	case "header":
		return g.reply(strings.Join(metadata.ValueFromIncomingContext(ctx, argument), " ")), nil
	}
	return g.reply("Hello, " + name + "!"), nil
}

func (g *greeter) reply(message string) *helloReply {
	return &helloReply{message: message, servedBy: g.address}
}

func wait(ctx context.Context, span time.Duration) error {
	if span == 0 {
		return nil
	}
	select {
	case <-time.After(span):
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// echoes returns what of a request's metadata goes back: what begins with `echo-` in the headers, and
// what begins with `trail-` in the trailers.
func echoes(ctx context.Context) (headers, trailers metadata.MD) {
	headers, trailers = metadata.MD{}, metadata.MD{}
	received, _ := metadata.FromIncomingContext(ctx)
	for name, values := range received {
		switch {
		case strings.HasPrefix(name, "echo-"):
			headers[name] = values
		case strings.HasPrefix(name, "trail-"):
			trailers[name] = values
		}
	}
	return headers, trailers
}

// echo does that for a stream, whose headers go out at once if there are any.
func echo(stream grpc.ServerStream) (context.Context, error) {
	headers, trailers := echoes(stream.Context())
	stream.SetTrailer(trailers)
	if len(headers) == 0 {
		return stream.Context(), nil
	}
	return stream.Context(), stream.SendHeader(headers)
}

// seen is what only grpc-go itself sees of a call.
type seen struct {
	compression string
}

type seenKey struct{}

func seenIn(ctx context.Context) *seen {
	return ctx.Value(seenKey{}).(*seen)
}

// watcher tells of connections, and keeps what is seen.
type watcher struct{}

func (watcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, seenKey{}, &seen{})
}

func (watcher) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if header, ok := event.(*stats.InHeader); ok {
		seenIn(ctx).compression = header.Compression
	}
}

func (watcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return ctx
}

func (watcher) HandleConn(_ context.Context, event stats.ConnStats) {
	switch event.(type) {
	case *stats.ConnBegin:
		fmt.Println("connected")
	case *stats.ConnEnd:
		fmt.Println("disconnected")
	}
}
