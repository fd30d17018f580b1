package main

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

func queue(t *try) error {
	// One who waits for the first.
	items := recipe.NewQueue(t.client, t.prefix+"order")
	var value string
	waiting := later(func() (err error) {
		value, err = items.Dequeue()
		return err
	})
	if err := first(waits("the consumer", waiting), items.Enqueue("0"), <-waiting, same("first", value, "0")); err != nil {
		return err
	}
	for number := range 5 {
		if err := items.Enqueue(fmt.Sprint(number)); err != nil {
			return err
		}
	}
	for number := range 5 {
		value, err := items.Dequeue()
		if err = first(err, same("in order", value, number)); err != nil {
			return err
		}
	}
	// Many who take turns.
	const each, producers = 20, 4
	shared := t.prefix + "shared"
	var lock sync.Mutex
	seen := map[string]int{}
	err := gather(2*producers, func(number int) error {
		client, err := t.connect()
		if err != nil {
			return err
		}
		items := recipe.NewQueue(client, shared)
		for item := range each {
			if number < producers {
				if err := items.Enqueue(fmt.Sprint(number, "-", item)); err != nil {
					return err
				}
				continue
			}
			value, err := items.Dequeue()
			if err != nil {
				return err
			}
			lock.Lock()
			seen[value]++
			lock.Unlock()
		}
		return nil
	})
	values, errValues := t.values()
	return first(err, errValues, same("different items", len(seen), each*producers), same("what is left", values, "[]"))
}

func priorityQueue(t *try) error {
	items := recipe.NewPriorityQueue(t.client, t.prefix+"q")
	for _, priority := range []uint16{3, 1, 2, 1, 65535, 0} {
		if err := items.Enqueue(fmt.Sprint("of ", priority), priority); err != nil {
			return err
		}
	}
	for _, priority := range []uint16{0, 1, 1, 2, 3, 65535} {
		value, err := items.Dequeue()
		if err = first(err, same("next", value, fmt.Sprint("of ", priority))); err != nil {
			return err
		}
	}
	return nil
}

func barrier(t *try) error {
	held := recipe.NewBarrier(t.client, t.prefix+"barrier")
	if err := held.Hold(); err != nil {
		return err
	}
	if err := held.Hold(); err == nil {
		return errors.New("a barrier is held twice")
	}
	waiting := later(func() error {
		return gather(4, func(int) error {
			client, err := t.connect()
			if err != nil {
				return err
			}
			return recipe.NewBarrier(client, t.prefix+"barrier").Wait()
		})
	})
	return first(
		waits("those at the barrier", waiting),
		held.Release(),
		<-waiting,
		// Nobody waits at one that nobody holds.
		held.Wait(),
	)
}

func doubleBarrier(t *try) error {
	const count = 4
	var inside atomic.Int32
	all := gather(count, func(int) error {
		session, err := t.contender()
		if err != nil {
			return err
		}
		both := recipe.NewDoubleBarrier(session, t.prefix+"both", count)
		inside.Add(1)
		if err := both.Enter(); err != nil {
			return err
		}
		if err := same("who came before anybody was in", inside.Load() >= count, true); err != nil {
			return err
		}
		inside.Add(1)
		if err := both.Leave(); err != nil {
			return err
		}
		return same("who was to leave before anybody left", inside.Load(), 2*count)
	})
	return all
}

func readersAndWriters(t *try) error {
	name := t.prefix + "lock"
	lock := func() (*recipe.RWMutex, *concurrency.Session, error) {
		session, err := t.contender()
		if err != nil {
			return nil, nil, err
		}
		return recipe.NewRWMutex(session, name), session, nil
	}
	one, _, err := lock()
	if err != nil {
		return err
	}
	two, _, err := lock()
	if err != nil {
		return err
	}
	writer, session, err := lock()
	if err != nil {
		return err
	}
	late, _, err := lock()
	if err != nil {
		return err
	}
	if err := first(one.RLock(), two.RLock()); err != nil {
		return err
	}
	writing := later(writer.Lock)
	if err := waits("the writer", writing); err != nil {
		return err
	}
	// A reader that comes after a writer waits for it.
	reading := later(late.RLock)
	if err := first(
		waits("the late reader", reading),
		one.RUnlock(),
		waits("the writer, for the second reader", writing),
		two.RUnlock(),
		<-writing,
		waits("the late reader, for the writer", reading),
	); err != nil {
		return err
	}
	// A writer that vanishes lets go.
	if err := session.Close(); err != nil {
		return err
	}
	return first(<-reading, late.RUnlock())
}
