// As kratos has it: an app, over its registry for etcd.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	etcd "github.com/go-kratos/kratos/contrib/registry/etcd/v2"
	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/selector/filter"
	kratosgrpc "github.com/go-kratos/kratos/v2/transport/grpc"
	"github.com/go-kratos/kratos/v2/transport/http"
)

func serveKratos(s settings) error {
	client, err := s.connect()
	if err != nil {
		return err
	}
	served := []kratosgrpc.ServerOption{kratosgrpc.Address(s.address)}
	if s.certificate != "" {
		certificate, err := tls.LoadX509KeyPair(s.certificate, s.key)
		if err != nil {
			return err
		}
		config := &tls.Config{Certificates: []tls.Certificate{certificate}}
		served = append(served, kratosgrpc.TLSConfig(config))
	}
	server := kratosgrpc.NewServer(served...)
	register(server, s.address)
	ttl := etcd.RegisterTTL(time.Duration(s.ttl) * time.Second)
	options := []kratos.Option{
		kratos.Name(s.service),
		kratos.Version(s.version),
		kratos.Metadata(s.pairs()),
		// As most apps of kratos' do, it serves HTTP too, which its record tells beside gRPC.
		kratos.Server(server, http.NewServer(http.Address("127.0.0.1:0"))),
		kratos.Registrar(etcd.New(client, ttl)),
		kratos.AfterStart(func(context.Context) error {
			fmt.Println("published")
			return nil
		}),
	}
	if s.id != "" {
		options = append(options, kratos.ID(s.id))
	}
	return kratos.New(options...).Run()
}

func callKratos(s settings) error {
	client, err := s.connect()
	if err != nil {
		return err
	}
	options := []kratosgrpc.ClientOption{
		kratosgrpc.WithEndpoint("discovery:///" + s.service),
		kratosgrpc.WithDiscovery(etcd.New(client)),
	}
	if s.version != "" {
		options = append(options, kratosgrpc.WithNodeFilter(filter.Version(s.version)))
	}
	dial := kratosgrpc.DialInsecure
	if s.ca != "" {
		pem, err := os.ReadFile(s.ca)
		if err != nil {
			return err
		}
		trusted := x509.NewCertPool()
		trusted.AppendCertsFromPEM(pem)
		options = append(options, kratosgrpc.WithTLSConfig(&tls.Config{RootCAs: trusted}))
		dial = kratosgrpc.Dial
	}
	connection, err := dial(context.Background(), options...)
	if err != nil {
		return err
	}
	return call(connection)
}
