package main

import (
	"fmt"
	"strconv"

	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

// load does one thing so many times, one after the other, for who takes the time; see
// `benches/recipes`.
func load(p *peer, arguments []string) (string, error) {
	what, name := arguments[0], arguments[1]
	times, err := strconv.Atoi(arguments[2])
	if err != nil {
		return "", err
	}
	once, err := p.loop(what, name)
	if err != nil {
		return "", err
	}
	for range times {
		if err := once(); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (p *peer) loop(what, name string) (func() error, error) {
	switch what {
	case "lock":
		mutex := concurrency.NewMutex(p.session, name)
		return func() error {
			if err := mutex.Lock(p); err != nil {
				return err
			}
			return mutex.Unlock(p)
		}, nil
	case "campaign":
		election := concurrency.NewElection(p.session, name)
		return func() error {
			if err := election.Campaign(p, "leader"); err != nil {
				return err
			}
			return election.Resign(p)
		}, nil
	case "push":
		queue := recipe.NewQueue(p.client, name)
		return func() error { return queue.Enqueue("item") }, nil
	case "pop":
		queue := recipe.NewQueue(p.client, name)
		return func() error {
			_, err := queue.Dequeue()
			return err
		}, nil
	case "push_priority":
		queue := recipe.NewPriorityQueue(p.client, name)
		return func() error { return queue.Enqueue("item", 7) }, nil
	case "pop_priority":
		queue := recipe.NewPriorityQueue(p.client, name)
		return func() error {
			_, err := queue.Dequeue()
			return err
		}, nil
	default:
		return nil, fmt.Errorf("load: %s (expected: lock, campaign, push, pop, push_priority or pop_priority)", what)
	}
}
