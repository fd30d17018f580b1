// As go-zero has it: zrpc, over core/discov.
package main

import (
	"fmt"
	"strconv"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/zrpc"
	"google.golang.org/grpc"
)

// serveGoZero publishes as a zrpc server with `Etcd` set does, but with a publisher at hand, which it
// pauses and resumes as the lines it reads say.
func serveGoZero(s settings) error {
	var config zrpc.RpcServerConf
	if err := conf.FillDefault(&config); err != nil {
		return err
	}
	config.ListenOn = s.address
	server, err := zrpc.NewServer(config, func(server *grpc.Server) { register(server, s.address) })
	if err != nil {
		return err
	}
	var options []discov.PubOption
	if s.id != "" {
		id, err := strconv.ParseInt(s.id, 10, 64)
		if err != nil {
			return err
		}
		options = append(options, discov.WithId(id))
	}
	discov.TimeToLive = s.ttl
	publisher := discov.NewPublisher([]string{s.etcd}, s.service, s.address, options...)
	if err := publisher.KeepAlive(); err != nil {
		return err
	}
	fmt.Println("published")
	go func() {
		for line := range lines() {
			switch line {
			case "pause":
				publisher.Pause()
			case "resume":
				publisher.Resume()
			}
		}
	}()
	server.Start()
	return nil
}

func callGoZero(s settings) error {
	var config zrpc.RpcClientConf
	if err := conf.FillDefault(&config); err != nil {
		return err
	}
	config.Etcd = discov.EtcdConf{Hosts: []string{s.etcd}, Key: s.service}
	client, err := zrpc.NewClient(config)
	if err != nil {
		return err
	}
	return call(client.Conn())
}
