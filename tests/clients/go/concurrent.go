package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// contender returns a session of a client of its own.
func (t *try) contender() (*concurrency.Session, error) {
	client, err := t.connect()
	if err != nil {
		return nil, err
	}
	return concurrency.NewSession(client, concurrency.WithTTL(10))
}

func session(t *try) error {
	lost, err := t.contender()
	if err != nil {
		return err
	}
	if _, err := t.put("lost", "1", clientv3.WithLease(lost.Lease())); err != nil {
		return err
	}
	if _, err := t.client.Revoke(t, lost.Lease()); err != nil {
		return err
	}
	select {
	case <-lost.Done():
	case <-t.Done():
		return errors.New("a session outlives its lease")
	}
	closed, err := t.contender()
	if err != nil {
		return err
	}
	if _, err := t.put("closed", "1", clientv3.WithLease(closed.Lease())); err != nil {
		return err
	}
	if err := closed.Close(); err != nil {
		return err
	}
	orphan, err := t.contender()
	if err != nil {
		return err
	}
	if _, err := t.put("orphan", "1", clientv3.WithLease(orphan.Lease())); err != nil {
		return err
	}
	orphan.Orphan()
	values, err := t.values()
	return first(err, same("what is left", values, "[orphan=1]"))
}

// Contenders add to a number that they read and write apart, which comes out right only if they take
// turns.
func mutex(t *try) error {
	const contenders, turns = 6, 5
	counter := t.prefix + "counter"
	err := gather(contenders, func(int) error {
		session, err := t.contender()
		if err != nil {
			return err
		}
		mutex := concurrency.NewMutex(session, t.prefix+"lock")
		for range turns {
			if err := mutex.Lock(t); err != nil {
				return err
			}
			got, err := t.client.Get(t, counter)
			if err != nil {
				return err
			}
			count := 0
			if len(got.Kvs) == 1 {
				count, _ = strconv.Atoi(string(got.Kvs[0].Value))
			}
			guarded, err := t.client.Txn(t).If(mutex.IsOwner()).Then(clientv3.OpPut(counter, strconv.Itoa(count+1))).Commit()
			if err = first(err, same("owns the lock", guarded.Succeeded, true)); err != nil {
				return err
			}
			if err := mutex.Unlock(t); err != nil {
				return err
			}
		}
		return session.Close()
	})
	values, errValues := t.values()
	return first(err, errValues, same("what is left", values, fmt.Sprintf("[counter=%d]", contenders*turns)))
}

func tryLock(t *try) error {
	owner, err := t.contender()
	if err != nil {
		return err
	}
	other, err := t.contender()
	if err != nil {
		return err
	}
	name := t.prefix + "lock"
	held, wanted := concurrency.NewMutex(owner, name), concurrency.NewMutex(other, name)
	if err := held.TryLock(t); err != nil {
		return err
	}
	if err := wanted.TryLock(t); !errors.Is(err, concurrency.ErrLocked) {
		return fmt.Errorf("tried: %v (expected: %v)", err, concurrency.ErrLocked)
	}
	waiting := later(func() error { return wanted.Lock(t) })
	if err := waits("the second", waiting); err != nil {
		return err
	}
	// Who gives up leaves the line.
	third, err := t.contender()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t, aWhile)
	defer cancel()
	if err := concurrency.NewMutex(third, name).Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("gave up: %v", err)
	}
	// The lock is lost with the session, not only by unlocking.
	if _, err := t.client.Revoke(t, owner.Lease()); err != nil {
		return err
	}
	if err := <-waiting; err != nil {
		return err
	}
	guarded, err := t.client.Txn(t).If(held.IsOwner()).Then(clientv3.OpPut(t.prefix+"a", "1")).Commit()
	return first(
		err,
		same("a write of the one who lost it", guarded.Succeeded, false),
		wanted.Unlock(t),
	)
}

func election(t *try) error {
	name := t.prefix + "leader"
	observing, err := t.contender()
	if err != nil {
		return err
	}
	observed := concurrency.NewElection(observing, name)
	if _, err := observed.Leader(t); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		return fmt.Errorf("nobody leads: %v (expected: %v)", err, concurrency.ErrElectionNoLeader)
	}
	leaders := observed.Observe(t)
	next := func(expected string) error {
		leader, open := <-leaders
		if !open {
			return errors.New("the observer was left alone")
		}
		return same("the leader that is observed", string(leader.Kvs[0].Value), expected)
	}
	first_, err := t.contender()
	if err != nil {
		return err
	}
	second, err := t.contender()
	if err != nil {
		return err
	}
	one, two := concurrency.NewElection(first_, name), concurrency.NewElection(second, name)
	if err := first(one.Campaign(t, "one"), next("one")); err != nil {
		return err
	}
	waiting := later(func() error { return two.Campaign(t, "two") })
	if err := waits("the second", waiting); err != nil {
		return err
	}
	if err := first(one.Proclaim(t, "one, again"), next("one, again"), one.Resign(t), <-waiting, next("two")); err != nil {
		return err
	}
	if err := one.Proclaim(t, "one, too late"); !errors.Is(err, concurrency.ErrElectionNotLeader) {
		return fmt.Errorf("proclaimed after the end: %v", err)
	}
	// A leader that vanishes is followed as well.
	waiting = later(func() error { return one.Campaign(t, "one, once more") })
	if _, err := t.client.Revoke(t, second.Lease()); err != nil {
		return err
	}
	return first(<-waiting, next("one, once more"))
}

func transfers(t *try) error {
	const accounts, workers, rounds, start = 5, 6, 15, 100
	account := func(number int) string { return fmt.Sprint(t.prefix, number%accounts) }
	for _, isolation := range []concurrency.Isolation{
		concurrency.SerializableSnapshot, concurrency.Serializable, concurrency.RepeatableReads,
	} {
		for number := range accounts {
			if _, err := t.client.Put(t, account(number), strconv.Itoa(start)); err != nil {
				return err
			}
		}
		err := gather(workers, func(worker int) error {
			for round := range rounds {
				from, to := account(worker+round), account(worker*round+1)
				if from == to {
					continue
				}
				transfer := func(stm concurrency.STM) error {
					has, _ := strconv.Atoi(stm.Get(from))
					gets, _ := strconv.Atoi(stm.Get(to))
					stm.Put(from, strconv.Itoa(has-1))
					stm.Put(to, strconv.Itoa(gets+1))
					return nil
				}
				options := concurrency.WithIsolation(isolation)
				if _, err := concurrency.NewSTM(t.client, transfer, options, concurrency.WithAbortContext(t)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		sum := 0
		got, err := t.client.Get(t, t.prefix, clientv3.WithPrefix())
		if err != nil {
			return err
		}
		for _, kv := range got.Kvs {
			balance, _ := strconv.Atoi(string(kv.Value))
			sum += balance
		}
		if err := same("the sum", sum, accounts*start); err != nil {
			return err
		}
	}
	return nil
}
