package main

import (
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/ordering"
)

func namespaces(t *try) error {
	kv := namespace.NewKV(t.client, t.prefix)
	watcher := namespace.NewWatcher(t.client, t.prefix)
	leases := namespace.NewLease(t.client, t.prefix)
	watch := watcher.Watch(t, "", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if told := <-watch; !told.Created {
		return fmt.Errorf("first: %v (expected: created)", told)
	}
	lease, err := leases.Grant(t, 60)
	if err != nil {
		return err
	}
	put, err := kv.Txn(t).If(clientv3.Compare(clientv3.Version("a"), "=", 0)).Then(clientv3.OpPut("a", "1", clientv3.WithLease(lease.ID))).Commit()
	if err = first(err, same("succeeded", put.Succeeded, true)); err != nil {
		return err
	}
	got, err := kv.Get(t, "", clientv3.WithFromKey())
	if err = first(err, same("keys", len(got.Kvs), 1), same("key", string(got.Kvs[0].Key), "a")); err != nil {
		return err
	}
	told := <-watch
	if err := first(told.Err(), same("key that is told", string(told.Events[0].Kv.Key), "a")); err != nil {
		return err
	}
	attached, err := leases.TimeToLive(t, lease.ID, clientv3.WithAttachedKeys())
	if err = first(err, same("keys of the lease", fmt.Sprintf("%s", attached.Keys), "[a]")); err != nil {
		return err
	}
	values, err := t.values()
	return first(err, same("what is there", values, "[a=1]"))
}

func ordered(t *try) error {
	violated := errors.New("an older revision than one that was seen")
	kv := ordering.NewKV(t.client, func(clientv3.Op, clientv3.OpResponse, int64) error { return violated })
	for number := range 50 {
		key := fmt.Sprint(t.prefix, number%3)
		if _, err := kv.Put(t, key, fmt.Sprint(number)); err != nil {
			return err
		}
		got, err := kv.Get(t, key, clientv3.WithSerializable())
		if err = first(err, same("value", string(got.Kvs[0].Value), number)); err != nil {
			return err
		}
		if _, err := kv.Txn(t).Then(clientv3.OpGet(key)).Commit(); err != nil {
			return err
		}
	}
	return nil
}

func mirrored(t *try) error {
	const keys = 2_500 // more than two of the pages that it reads
	for base := 0; base < keys; base += 100 {
		var puts []clientv3.Op
		for number := base; number < base+100; number++ {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("%s%05d", t.prefix, number), "1"))
		}
		if _, err := t.client.Txn(t).Then(puts...).Commit(); err != nil {
			return err
		}
	}
	syncer := mirror.NewSyncer(t.client, t.prefix, 0)
	pages, failures := syncer.SyncBase(t)
	copied := map[string]string{}
	for page := range pages {
		for _, kv := range page.Kvs {
			copied[string(kv.Key)] = string(kv.Value)
		}
	}
	if err := first(<-failures, same("keys", len(copied), keys)); err != nil {
		return err
	}
	updates := syncer.SyncUpdates(t)
	if _, err := t.put("00001", "2"); err != nil {
		return err
	}
	if _, err := t.client.Delete(t, t.prefix+"00002"); err != nil {
		return err
	}
	var seen []string
	for len(seen) < 2 {
		told := <-updates
		if err := told.Err(); err != nil {
			return err
		}
		for _, event := range told.Events {
			seen = append(seen, fmt.Sprint(event.Type, strings.TrimPrefix(string(event.Kv.Key), t.prefix)))
		}
	}
	return same("updates", seen, "[PUT00001 DELETE00002]")
}

func cached(t *try) error {
	one, closeOne, err := leasing.NewKV(t.client, t.prefix+"leases/")
	if err != nil {
		return err
	}
	defer closeOne()
	other, err := t.connect()
	if err != nil {
		return err
	}
	two, closeTwo, err := leasing.NewKV(other, t.prefix+"leases/")
	if err != nil {
		return err
	}
	defer closeTwo()
	key := t.prefix + "keys/a"
	for number := range 20 {
		writer, reader := one, two
		if number%2 == 1 {
			writer, reader = two, one
		}
		if number%3 == 2 {
			_, err = writer.Txn(t).Then(clientv3.OpPut(key, fmt.Sprint(number))).Commit()
		} else {
			_, err = writer.Put(t, key, fmt.Sprint(number))
		}
		if err != nil {
			return err
		}
		for _, kv := range []clientv3.KV{reader, writer, reader} {
			got, err := kv.Get(t, key)
			if err = first(err, same("value", string(got.Kvs[0].Value), number)); err != nil {
				return err
			}
		}
	}
	return nil
}

func endpointNaming(t *try) error {
	service := strings.TrimSuffix(t.prefix, "/")
	manager, err := endpoints.NewManager(t.client, service)
	if err != nil {
		return err
	}
	lease, err := t.client.Grant(t, 60)
	if err != nil {
		return err
	}
	updates, err := manager.NewWatchChannel(t)
	if err != nil {
		return err
	}
	add := func(address string) error {
		return manager.AddEndpoint(t, service+"/"+address, endpoints.Endpoint{Addr: address}, clientv3.WithLease(lease.ID))
	}
	if err := first(add("10.0.0.1:1"), add("10.0.0.2:1")); err != nil {
		return err
	}
	listed, err := manager.List(t)
	if err = first(err, same("endpoints", len(listed), 2)); err != nil {
		return err
	}
	if _, err := t.client.Revoke(t, lease.ID); err != nil {
		return err
	}
	var seen []string
	for len(seen) < 4 {
		told, open := <-updates
		if !open {
			return errors.New("the watch ended")
		}
		for _, update := range told {
			change := "added "
			if update.Op == endpoints.Delete {
				change = "deleted "
			}
			seen = append(seen, change+strings.TrimPrefix(update.Key, t.prefix))
		}
	}
	return same("updates", seen, "[added 10.0.0.1:1 added 10.0.0.2:1 deleted 10.0.0.1:1 deleted 10.0.0.2:1]")
}
