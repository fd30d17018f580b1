// A greeter in the ways of a Go fleet: go-zero's, kratos', and that of etcd's own naming package. Each
// serves and calls by the framework's own means, with its own defaults.
//
//	go run . serve kratos -etcd 127.0.0.1:2379 -address 127.0.0.1:50051
//	go run . call kratos -etcd 127.0.0.1:2379
//
// A server says `published` when etcd has its record, and what becomes of calls that hang (greeter.go); it
// stops on SIGTERM as its framework does. A client calls as the lines it reads say (call.go).
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zeromicro/go-zero/core/logx"
)

// settings are what a server or a client is told.
type settings struct {
	etcd    string
	service string
	// Of servers.
	address string
	id      string
	ttl     int64
	version string
	// One pair, as in zone=b.
	metadata string
	// Of kratos alone: a server's own certificate and key, and whom a client trusts.
	certificate string
	key         string
	ca          string
}

var commands = map[string]map[string]func(settings) error{
	"serve": {"go-zero": serveGoZero, "kratos": serveKratos, "etcd-naming": serveNaming},
	"call":  {"go-zero": callGoZero, "kratos": callKratos, "etcd-naming": callNaming},
}

func main() {
	if len(os.Args) < 3 || commands[os.Args[1]][os.Args[2]] == nil {
		fmt.Fprintln(os.Stderr, "arguments: (expected: serve or call, and go-zero, kratos or etcd-naming)")
		os.Exit(2)
	}
	// go-zero writes to standard output, which is for what the tests read.
	logx.MustSetup(logx.LogConf{Mode: "console"})
	logx.SetWriter(logx.NewWriter(os.Stderr))
	if err := commands[os.Args[1]][os.Args[2]](parse(os.Args[3:])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func parse(arguments []string) (s settings) {
	flags := flag.NewFlagSet("", flag.ExitOnError)
	flags.StringVar(&s.etcd, "etcd", "127.0.0.1:2379", "where etcd is")
	flags.StringVar(&s.service, "service", "greeter", "the name to serve or to call")
	flags.StringVar(&s.address, "address", "127.0.0.1:50051", "where to listen")
	flags.StringVar(&s.id, "id", "", "of the server; what the framework takes unless set")
	flags.Int64Var(&s.ttl, "ttl", 10, "of the lease, in seconds")
	flags.StringVar(&s.version, "version", "", "of the server, or of those to call")
	flags.StringVar(&s.metadata, "metadata", "", "of the server, one key=value; go-zero has none")
	flags.StringVar(&s.certificate, "certificate", "", "for TLS: the server's own")
	flags.StringVar(&s.key, "key", "", "for TLS: its key")
	flags.StringVar(&s.ca, "ca", "", "for TLS: whom to trust")
	_ = flags.Parse(arguments)
	return s
}

// connect returns etcd's own client.
func (s settings) connect() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{s.etcd}})
}

// pairs returns what a server says of itself.
func (s settings) pairs() map[string]string {
	key, value, found := strings.Cut(s.metadata, "=")
	if !found {
		return nil
	}
	return map[string]string{key: value}
}
