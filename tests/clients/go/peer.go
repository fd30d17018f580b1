package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

// peer does one thing with a recipe, for a test that does the other one:
//
//	<endpoint> enqueue|dequeue <queue> <count> [<priority>|by-priority]
//	<endpoint> hold|release|wait <barrier> -
func peer(arguments []string) error {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   arguments[:1],
		DialTimeout: 10 * time.Second,
		Logger:      zap.NewNop(),
		Context:     context.Background(),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	barrier := recipe.NewBarrier(client, arguments[2])
	switch arguments[1] {
	case "hold":
		return barrier.Hold()
	case "release":
		return barrier.Release()
	case "wait":
		fmt.Println("waits")
		return barrier.Wait()
	}
	count, err := strconv.Atoi(arguments[3])
	if err != nil {
		return err
	}
	for number := range count {
		if err := once(client, arguments, number); err != nil {
			return err
		}
	}
	return nil
}

func once(client *clientv3.Client, arguments []string, number int) (err error) {
	name, value := arguments[2], fmt.Sprint("go ", number)
	byPriority := len(arguments) > 4
	switch {
	case arguments[1] == "enqueue" && byPriority:
		priority, err := strconv.ParseUint(arguments[4], 10, 16)
		if err != nil {
			return err
		}
		return recipe.NewPriorityQueue(client, name).Enqueue(value, uint16(priority))
	case arguments[1] == "enqueue":
		return recipe.NewQueue(client, name).Enqueue(value)
	case byPriority:
		value, err = recipe.NewPriorityQueue(client, name).Dequeue()
	default:
		value, err = recipe.NewQueue(client, name).Dequeue()
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(os.Stdout, value)
	return err
}
