// The greeter in grpc-go: a server, and clients, each a subcommand.
//
//	go run . serve -address 127.0.0.1:0        serves; see serve.go
//	go run . call kinds 127.0.0.1:50051 ...    tries one thing on servers; see call.go
//	go run . load 127.0.0.1:50051 ...          calls in a closed loop, as told; see load.go
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		refuse("a subcommand is missing (expected: serve, call or load)")
	}
	arguments := os.Args[2:]
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(arguments)
	case "call":
		err = call(arguments)
	case "load":
		err = load(arguments)
	default:
		refuse(fmt.Sprintf("subcommand: %s (expected: serve, call or load)", os.Args[1]))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func refuse(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}
