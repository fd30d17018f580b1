// The messages and methods of proto/greeter.proto, by hand: three messages of strings and numbers are
// not worth a protoc. Their wire format is what Google's own protowire writes and reads.
package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

type helloRequest struct {
	name string
}

type hellosRequest struct {
	name       string
	count      uint32
	intervalMs uint32
}

type helloReply struct {
	message  string
	servedBy string
}

// message is what the codec takes.
type message interface {
	appendTo(wire []byte) []byte
	// set takes in one field, whose value is text or number by its type on the wire.
	set(field protowire.Number, text []byte, number uint64)
}

func (m *helloRequest) appendTo(wire []byte) []byte {
	return appendText(wire, 1, m.name)
}

func (m *helloRequest) set(field protowire.Number, text []byte, _ uint64) {
	if field == 1 {
		m.name = string(text)
	}
}

func (m *hellosRequest) appendTo(wire []byte) []byte {
	wire = appendText(wire, 1, m.name)
	wire = appendNumber(wire, 2, m.count)
	return appendNumber(wire, 3, m.intervalMs)
}

func (m *hellosRequest) set(field protowire.Number, text []byte, number uint64) {
	switch field {
	case 1:
		m.name = string(text)
	case 2:
		m.count = uint32(number)
	case 3:
		m.intervalMs = uint32(number)
	}
}

func (m *helloReply) appendTo(wire []byte) []byte {
	wire = appendText(wire, 1, m.message)
	return appendText(wire, 2, m.servedBy)
}

func (m *helloReply) set(field protowire.Number, text []byte, _ uint64) {
	switch field {
	case 1:
		m.message = string(text)
	case 2:
		m.servedBy = string(text)
	}
}

// As proto3 has it, what is empty is left out.
func appendText(wire []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return wire
	}
	wire = protowire.AppendTag(wire, field, protowire.BytesType)
	return protowire.AppendString(wire, text)
}

func appendNumber(wire []byte, field protowire.Number, number uint32) []byte {
	if number == 0 {
		return wire
	}
	wire = protowire.AppendTag(wire, field, protowire.VarintType)
	return protowire.AppendVarint(wire, uint64(number))
}

// codec takes the place of grpc-go's own, which is for generated messages.
type codec struct{}

func init() {
	encoding.RegisterCodecV2(codec{})
}

func (codec) Name() string { return "proto" }

func (codec) Marshal(value any) (mem.BufferSlice, error) {
	m, ok := value.(message)
	if !ok {
		return nil, fmt.Errorf("message: %T (expected: one of the greeter's)", value)
	}
	return mem.BufferSlice{mem.SliceBuffer(m.appendTo(make([]byte, 0, 64)))}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, value any) error {
	m, ok := value.(message)
	if !ok {
		return fmt.Errorf("message: %T (expected: one of the greeter's)", value)
	}
	wire := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer wire.Free()
	return parse(wire.ReadOnlyData(), m)
}

func parse(wire []byte, m message) error {
	for len(wire) > 0 {
		field, kind, length := protowire.ConsumeTag(wire)
		if length < 0 {
			return protowire.ParseError(length)
		}
		wire = wire[length:]
		switch kind {
		case protowire.BytesType:
			var text []byte
			text, length = protowire.ConsumeBytes(wire)
			m.set(field, text, 0)
		case protowire.VarintType:
			var number uint64
			number, length = protowire.ConsumeVarint(wire)
			m.set(field, nil, number)
		default:
			length = protowire.ConsumeFieldValue(field, kind, wire)
		}
		if length < 0 {
			return protowire.ParseError(length)
		}
		wire = wire[length:]
	}
	return nil
}

const (
	sayHello  = "/greeter.v1.Greeter/SayHello"
	sayHellos = "/greeter.v1.Greeter/SayHellos"
	greetAll  = "/greeter.v1.Greeter/GreetAll"
	chat      = "/greeter.v1.Greeter/Chat"
)

var service = grpc.ServiceDesc{
	ServiceName: "greeter.v1.Greeter",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "SayHello",
		Handler: func(server any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			request := &helloRequest{}
			if err := decode(request); err != nil {
				return nil, err
			}
			return server.(*greeter).sayHello(ctx, request)
		},
	}},
	Streams: []grpc.StreamDesc{
		{
			StreamName:    "SayHellos",
			ServerStreams: true,
			Handler: func(server any, stream grpc.ServerStream) error {
				request := &hellosRequest{}
				if err := stream.RecvMsg(request); err != nil {
					return err
				}
				return server.(*greeter).sayHellos(request, &grpc.GenericServerStream[hellosRequest, helloReply]{ServerStream: stream})
			},
		},
		{
			StreamName:    "GreetAll",
			ClientStreams: true,
			Handler: func(server any, stream grpc.ServerStream) error {
				return server.(*greeter).greetAll(&grpc.GenericServerStream[helloRequest, helloReply]{ServerStream: stream})
			},
		},
		{
			StreamName:    "Chat",
			ServerStreams: true,
			ClientStreams: true,
			Handler: func(server any, stream grpc.ServerStream) error {
				return server.(*greeter).chat(&grpc.GenericServerStream[helloRequest, helloReply]{ServerStream: stream})
			},
		},
	},
}

// client calls the greeter.
type client struct {
	*grpc.ClientConn
}

func (c client) sayHello(ctx context.Context, name string, options ...grpc.CallOption) (*helloReply, error) {
	reply := &helloReply{}
	return reply, c.Invoke(ctx, sayHello, &helloRequest{name: name}, reply, options...)
}

func (c client) sayHellos(ctx context.Context, request *hellosRequest, options ...grpc.CallOption) (grpc.ServerStreamingClient[helloReply], error) {
	stream, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, sayHellos, options...)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(request); err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[hellosRequest, helloReply]{ClientStream: stream}, stream.CloseSend()
}

func (c client) greetAll(ctx context.Context, options ...grpc.CallOption) (grpc.ClientStreamingClient[helloRequest, helloReply], error) {
	stream, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, greetAll, options...)
	return &grpc.GenericClientStream[helloRequest, helloReply]{ClientStream: stream}, err
}

func (c client) chat(ctx context.Context, options ...grpc.CallOption) (grpc.BidiStreamingClient[helloRequest, helloReply], error) {
	stream, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, chat, options...)
	return &grpc.GenericClientStream[helloRequest, helloReply]{ClientStream: stream}, err
}
