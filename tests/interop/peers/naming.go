// As etcd's own package has it: client/v3/naming, under grpc-go.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func serveNaming(s settings) error {
	client, err := s.connect()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	register(server, s.address)
	leave, err := enter(client, s)
	if err != nil {
		return err
	}
	fmt.Println("published")
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		if err := leave(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		server.GracefulStop()
	}()
	return server.Serve(listener)
}

// enter puts the endpoint where clients look, and returns what takes it away.
func enter(client *clientv3.Client, s settings) (leave func() error, err error) {
	ctx := context.Background()
	manager, err := endpoints.NewManager(client, s.service)
	if err != nil {
		return nil, err
	}
	lease, err := client.Grant(ctx, s.ttl)
	if err != nil {
		return nil, err
	}
	renewals, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return nil, err
	}
	go func() {
		for range renewals {
		}
	}()
	key := s.service + "/" + s.address
	if s.id != "" {
		key = s.service + "/" + s.id
	}
	endpoint := endpoints.Endpoint{Addr: s.address, Metadata: s.pairs()}
	leave = func() error { return manager.DeleteEndpoint(ctx, key) }
	return leave, manager.AddEndpoint(ctx, key, endpoint, clientv3.WithLease(lease.ID))
}

func callNaming(s settings) error {
	client, err := s.connect()
	if err != nil {
		return err
	}
	resolvers, err := resolver.NewBuilder(client)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient("etcd:///"+s.service,
		grpc.WithResolvers(resolvers),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// With the deadline that the frameworks have unless told otherwise.
		grpc.WithDefaultServiceConfig(`{
			"loadBalancingConfig": [{"round_robin": {}}],
			"methodConfig": [{"name": [{}], "timeout": "2s"}]
		}`),
	)
	if err != nil {
		return err
	}
	return call(connection)
}
