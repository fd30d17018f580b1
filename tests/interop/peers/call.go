package main

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// call greets by the names in the lines that it reads, one after the other, with the deadline that the
// framework gives to calls that have none. Of each it says who answered and what, or how it failed.
func call(connection *grpc.ClientConn) error {
	for name := range lines() {
		reply := &helloReply{}
		err := connection.Invoke(context.Background(), sayHello, wrapperspb.String(name), reply)
		if err != nil {
			failure := status.Convert(err)
			fmt.Printf("failed %v %s\n", failure.Code(), failure.Message())
			continue
		}
		fmt.Printf("answered %s %s\n", reply.Root, reply.Name)
	}
	return nil
}

// lines returns those of standard input, to its end.
func lines() iter.Seq[string] {
	return func(yield func(string) bool) {
		for input := bufio.NewScanner(os.Stdin); input.Scan() && yield(input.Text()); {
		}
	}
}
