// The greeter of proto/greeter.proto, as far as it takes one call to see who answers. Its messages are
// Google's own with the same shape on the wire: a string in field 1, and strings in fields 1 and 2.
package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/apipb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type (
	helloRequest = wrapperspb.StringValue
	helloReply   = apipb.Mixin
)

const sayHello = "/greeter.v1.Greeter/SayHello"

var greeterService = grpc.ServiceDesc{
	ServiceName: "greeter.v1.Greeter",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "SayHello", Handler: handle}},
}

func register(server grpc.ServiceRegistrar, address string) {
	server.RegisterService(&greeterService, &greeter{address})
}

func handle(server any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	request := &helloRequest{}
	if err := decode(request); err != nil {
		return nil, err
	}
	answer := func(ctx context.Context, request any) (any, error) {
		return server.(*greeter).answer(ctx, request.(*helloRequest).Value)
	}
	if intercept == nil {
		return answer(ctx, request)
	}
	return intercept(ctx, request, &grpc.UnaryServerInfo{Server: server, FullMethod: sayHello}, answer)
}

type greeter struct {
	// Told in each reply.
	address string
}

// answer greets, or does what the name asks for: `hang` waits until the call is given up and tells of
// it; `deadline` is told how many milliseconds are left, and `authority` what the client believes that
// the server is called.
func (g *greeter) answer(ctx context.Context, name string) (*helloReply, error) {
	message := "Hello, " + name + "!"
	switch name {
	case "hang":
		begin := time.Now()
		fmt.Println("began")
		<-ctx.Done()
		fmt.Printf("ended: %v after %d ms\n", ctx.Err(), time.Since(begin).Milliseconds())
		return nil, status.FromContextError(ctx.Err()).Err()
	case "deadline":
		message = "none"
		if deadline, ok := ctx.Deadline(); ok {
			message = strconv.FormatInt(time.Until(deadline).Milliseconds(), 10)
		}
	case "authority":
		message = strings.Join(metadata.ValueFromIncomingContext(ctx, ":authority"), " ")
	}
	return &helloReply{Name: message, Root: g.address}, nil
}
