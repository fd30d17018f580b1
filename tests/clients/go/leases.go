package main

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func keepAlive(t *try) error {
	const ttl = 3
	lease, err := t.client.Grant(t, ttl)
	if err != nil {
		return err
	}
	if _, err := t.put("a", "1", clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	answers, err := t.client.KeepAlive(t, lease.ID)
	if err != nil {
		return err
	}
	begin := time.Now()
	for time.Since(begin) < 2*ttl*time.Second {
		answer, open := <-answers
		if !open {
			return fmt.Errorf("the lease is lost after %v", time.Since(begin))
		}
		if err := same("TTL", answer.TTL, ttl); err != nil {
			return err
		}
	}
	values, err := t.values()
	if err = first(err, same("what is there", values, "[a=1]")); err != nil {
		return err
	}
	told, err := t.client.TimeToLive(t, lease.ID, clientv3.WithAttachedKeys())
	if err = first(err, same("keys of the lease", len(told.Keys), 1), same("granted", told.GrantedTTL, ttl)); err != nil {
		return err
	}
	if _, err := t.client.Revoke(t, lease.ID); err != nil {
		return err
	}
	// Answers that were under way come first.
	for range answers {
	}
	values, err = t.values()
	return first(err, same("what is there after", values, "[]"))
}

func expiry(t *try) error {
	lease, err := t.client.Grant(t, 2)
	if err != nil {
		return err
	}
	granted := time.Now()
	revision, err := t.put("a", "1", clientv3.WithLease(lease.ID))
	if err != nil {
		return err
	}
	if _, err := t.put("b", "1", clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	leases, err := t.client.Leases(t)
	if err != nil {
		return err
	}
	listed := false
	for _, one := range leases.Leases {
		listed = listed || one.ID == lease.ID
	}
	if !listed {
		return fmt.Errorf("leases: %v (expected: %x among them)", leases.Leases, lease.ID)
	}
	deleted := t.client.Watch(t, t.prefix, clientv3.WithPrefix(), clientv3.WithRev(revision), clientv3.WithFilterPut(), clientv3.WithPrevKV())
	told := <-deleted
	if lasted := time.Since(granted); lasted < 1900*time.Millisecond {
		return fmt.Errorf("expired after %v (expected: 2 s)", lasted)
	}
	if err := first(told.Err(), same("events at the one revision", len(told.Events), 2)); err != nil {
		return err
	}
	if _, err := t.client.KeepAliveOnce(t, lease.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("kept alive after the end: %v", err)
	}
	left, err := t.client.TimeToLive(t, lease.ID)
	if err != nil {
		return err
	}
	return first(
		same("time left", left.TTL, -1),
		same("the first that went", string(told.Events[0].Kv.Key), t.prefix+"a"),
		same("the value before", string(told.Events[1].PrevKv.Value), "1"),
	)
}
