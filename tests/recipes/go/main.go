// A peer for the recipes of switchboard-coordination: etcd's own Go packages, told what to do.
//
//	go run . 127.0.0.1:2379 10
//
// It has one client and one session, whose TTL in seconds is the second argument. It says
// `ready <lease>`, reads commands, one a line, and does one after the other. Each is answered by one
// line, `ok` and what came of it, or `error` and why; `observe` and `count` say more before that.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
	"go.uber.org/zap"
)

// peer is what the commands work with: what was begun by one is ended by another.
type peer struct {
	context.Context
	client    *clientv3.Client
	session   *concurrency.Session
	mutexes   map[string]*concurrency.Mutex
	elections map[string]*concurrency.Election
	readWrite map[string]*recipe.RWMutex
	barriers  map[string]*recipe.DoubleBarrier
}

// command has its arguments, without its name; it returns what came of it.
type command struct {
	arguments int
	run       func(p *peer, arguments []string) (string, error)
}

var commands = map[string]command{
	"lock":          {1, lock},
	"try_lock":      {1, tryLock},
	"unlock":        {1, unlock},
	"count":         {3, count},
	"campaign":      {2, campaign},
	"proclaim":      {2, proclaim},
	"resign":        {1, resign},
	"leader":        {1, leader},
	"observe":       {1, observe},
	"push":          {2, push},
	"pop":           {1, pop},
	"push_priority": {3, pushPriority},
	"pop_priority":  {1, popPriority},
	"hold":          {1, hold},
	"release":       {1, release},
	"wait":          {1, wait},
	"read_lock":     {1, readLock},
	"read_unlock":   {1, readUnlock},
	"write_lock":    {1, writeLock},
	"write_unlock":  {1, writeUnlock},
	"enter":         {2, enter},
	"leave":         {1, leave},
	"close":         {0, closeSession},
	"load":          {3, load},
}

func main() {
	if len(os.Args) != 3 {
		refuse("arguments: an endpoint of etcd and a TTL in seconds (expected: host:port seconds)")
	}
	ttl, err := strconv.Atoi(os.Args[2])
	if err != nil {
		refuse(fmt.Sprintf("TTL: %s (expected: a number)", os.Args[2]))
	}
	p, err := connect(os.Args[1], ttl)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("ready %x\n", p.session.Lease())
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		said, err := p.do(strings.Fields(input.Text()))
		if err != nil {
			fmt.Println("error", err)
			continue
		}
		fmt.Println(strings.TrimSpace("ok " + said))
	}
}

func connect(endpoint string, ttl int) (*peer, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		DialTimeout: 30 * time.Second,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		return nil, err
	}
	session, err := concurrency.NewSession(client, concurrency.WithTTL(ttl))
	if err != nil {
		return nil, err
	}
	return &peer{
		Context:   context.Background(),
		client:    client,
		session:   session,
		mutexes:   map[string]*concurrency.Mutex{},
		elections: map[string]*concurrency.Election{},
		readWrite: map[string]*recipe.RWMutex{},
		barriers:  map[string]*recipe.DoubleBarrier{},
	}, nil
}

func (p *peer) do(words []string) (said string, err error) {
	// Of a recipe whose watch is lost, one dereferences nil.
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v", panicked)
		}
	}()
	if len(words) == 0 {
		return "", fmt.Errorf("an empty line (expected: a command)")
	}
	command, known := commands[words[0]]
	if !known {
		return "", fmt.Errorf("command: %s (expected: one of those in main.go)", words[0])
	}
	if len(words)-1 != command.arguments {
		return "", fmt.Errorf("arguments of %s: %d (expected: %d)", words[0], len(words)-1, command.arguments)
	}
	return command.run(p, words[1:])
}

// had returns what a map has for a name, and makes it the first time.
func had[T any](all map[string]T, name string, begin func() T) T {
	one, there := all[name]
	if !there {
		one = begin()
		all[name] = one
	}
	return one
}

func closeSession(p *peer, _ []string) (string, error) {
	return "", p.session.Close()
}

func refuse(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}
