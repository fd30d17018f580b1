package main

import (
	"errors"
	"fmt"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func (p *peer) mutex(name string) *concurrency.Mutex {
	return had(p.mutexes, name, func() *concurrency.Mutex { return concurrency.NewMutex(p.session, name) })
}

func (p *peer) election(name string) *concurrency.Election {
	return had(p.elections, name, func() *concurrency.Election { return concurrency.NewElection(p.session, name) })
}

// token returns the revision since which a mutex' key is there, which the package keeps to itself.
func (p *peer) token(mutex *concurrency.Mutex) (int64, error) {
	got, err := p.client.Get(p, mutex.Key())
	if err != nil {
		return 0, err
	}
	if len(got.Kvs) != 1 {
		return 0, errors.New("the lock's key is gone")
	}
	return got.Kvs[0].CreateRevision, nil
}

func lock(p *peer, arguments []string) (string, error) {
	mutex := p.mutex(arguments[0])
	if err := mutex.Lock(p); err != nil {
		return "", err
	}
	token, err := p.token(mutex)
	return fmt.Sprint(token), err
}

func tryLock(p *peer, arguments []string) (string, error) {
	mutex := p.mutex(arguments[0])
	err := mutex.TryLock(p)
	if errors.Is(err, concurrency.ErrLocked) {
		return "taken", nil
	}
	if err != nil {
		return "", err
	}
	token, err := p.token(mutex)
	return fmt.Sprint(token), err
}

func unlock(p *peer, arguments []string) (string, error) {
	return "", p.mutex(arguments[0]).Unlock(p)
}

// count adds to a number so many times, each time under a lock: it reads and writes the number apart.
// It says `token <token>` while it has the lock.
func count(p *peer, arguments []string) (string, error) {
	mutex, counter := p.mutex(arguments[0]), arguments[1]
	turns, err := strconv.Atoi(arguments[2])
	if err != nil {
		return "", err
	}
	for range turns {
		if err := mutex.Lock(p); err != nil {
			return "", err
		}
		token, err := p.token(mutex)
		if err != nil {
			return "", err
		}
		got, err := p.client.Get(p, counter)
		if err != nil {
			return "", err
		}
		number := 0
		if len(got.Kvs) == 1 {
			if number, err = strconv.Atoi(string(got.Kvs[0].Value)); err != nil {
				return "", err
			}
		}
		if _, err := p.client.Put(p, counter, strconv.Itoa(number+1)); err != nil {
			return "", err
		}
		fmt.Println("token", number, token)
		if err := mutex.Unlock(p); err != nil {
			return "", err
		}
	}
	return "", nil
}

func campaign(p *peer, arguments []string) (string, error) {
	election := p.election(arguments[0])
	if err := election.Campaign(p, arguments[1]); err != nil {
		return "", err
	}
	return fmt.Sprint(election.Rev()), nil
}

func proclaim(p *peer, arguments []string) (string, error) {
	return "", p.election(arguments[0]).Proclaim(p, arguments[1])
}

func resign(p *peer, arguments []string) (string, error) {
	return "", p.election(arguments[0]).Resign(p)
}

func leader(p *peer, arguments []string) (string, error) {
	leader, err := p.election(arguments[0]).Leader(p)
	if errors.Is(err, concurrency.ErrElectionNoLeader) {
		return "none", nil
	}
	if err != nil {
		return "", err
	}
	return value(leader), nil
}

// observe says `leader <value>` for each that is observed, until the process ends.
func observe(p *peer, arguments []string) (string, error) {
	for leader := range p.election(arguments[0]).Observe(p) {
		fmt.Println("leader", value(&leader))
	}
	return "", errors.New("the observer was left alone")
}

func value(of *clientv3.GetResponse) string {
	return string(of.Kvs[0].Value)
}
