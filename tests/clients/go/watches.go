package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func watchInOrder(t *try) error {
	const writers, puts = 8, 250
	begin, err := t.put("begin", "")
	if err != nil {
		return err
	}
	writing := later(func() error {
		return gather(writers, func(writer int) error {
			for number := range puts {
				if _, err := t.put(fmt.Sprint(writer), fmt.Sprint(number)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	// One from the past, and one that begins when half is done and has to catch up as well.
	check := func() error {
		next := make([]int, writers)
		revision := begin
		seen := 0
		for told := range t.client.Watch(t, t.prefix, clientv3.WithPrefix(), clientv3.WithRev(begin+1)) {
			if err := told.Err(); err != nil {
				return err
			}
			for _, event := range told.Events {
				if event.Kv.ModRevision <= revision {
					return fmt.Errorf("revision %d after %d", event.Kv.ModRevision, revision)
				}
				revision = event.Kv.ModRevision
				var writer int
				fmt.Sscan(string(event.Kv.Key[len(t.prefix):]), &writer)
				if err := same("a writer's next value", string(event.Kv.Value), next[writer]); err != nil {
					return err
				}
				next[writer]++
				seen++
			}
			if seen == writers*puts {
				return nil
			}
		}
		return errors.New("the watch ended")
	}
	early := later(check)
	if err := t.eventually("half of it is done", func() (bool, error) {
		got, err := t.client.Get(t, t.prefix+"0")
		return err == nil && len(got.Kvs) == 1 && got.Kvs[0].Version > puts/2, err
	}); err != nil {
		return err
	}
	return first(check(), <-early, <-writing)
}

func watchAhead(t *try) error {
	now, err := t.put("a", "")
	if err != nil {
		return err
	}
	watch := t.client.Watch(t, t.prefix, clientv3.WithPrefix(), clientv3.WithRev(now+3), clientv3.WithCreatedNotify())
	if told := <-watch; !told.Created {
		return fmt.Errorf("first: %v (expected: created)", told)
	}
	// The third put, unless a lease of before ends meanwhile.
	var expected int64
	for expected < now+3 {
		if expected, err = t.put("a", ""); err != nil {
			return err
		}
	}
	told := <-watch
	return first(told.Err(), same("revision of the first event", told.Events[0].Kv.ModRevision, expected))
}

func watchFilters(t *try) error {
	begin, err := t.put("a", "1")
	if err != nil {
		return err
	}
	from := clientv3.WithRev(begin)
	deletes := t.client.Watch(t, t.prefix, clientv3.WithPrefix(), from, clientv3.WithFilterPut(), clientv3.WithPrevKV())
	puts := t.client.Watch(t, t.prefix, clientv3.WithPrefix(), from, clientv3.WithFilterDelete(), clientv3.WithPrevKV())
	if _, err := t.put("a", "2"); err != nil {
		return err
	}
	if _, err := t.client.Delete(t, t.prefix+"a"); err != nil {
		return err
	}
	if _, err := t.put("a", "3"); err != nil {
		return err
	}
	next := func(watch clientv3.WatchChan, count int) (string, error) {
		var seen []string
		for len(seen) < count {
			told := <-watch
			if err := told.Err(); err != nil {
				return "", err
			}
			for _, event := range told.Events {
				before := ""
				if event.PrevKv != nil {
					before = string(event.PrevKv.Value)
				}
				seen = append(seen, fmt.Sprintf("%v %q %q new=%v", event.Type, event.Kv.Value, before, event.IsCreate()))
			}
		}
		return fmt.Sprint(seen), nil
	}
	gone, err := next(deletes, 1)
	if err != nil {
		return err
	}
	put, err := next(puts, 3)
	return first(
		err,
		same("deletes", gone, `[DELETE "" "2" new=false]`),
		same("puts", put, `[PUT "1" "" new=true PUT "2" "1" new=false PUT "3" "" new=true]`),
	)
}

func manyWatches(t *try) error {
	const watches = 1_000
	ctx, cancel := context.WithCancel(t)
	defer cancel()
	streams := make([]clientv3.WatchChan, watches)
	for number := range watches {
		streams[number] = t.client.Watch(ctx, fmt.Sprint(t.prefix, number), clientv3.WithCreatedNotify())
	}
	for _, stream := range streams {
		told := <-stream
		if err := first(told.Err(), same("created", told.Created, true)); err != nil {
			return err
		}
	}
	for number := range watches {
		if _, err := t.put(fmt.Sprint(number), fmt.Sprint(number)); err != nil {
			return err
		}
	}
	for number, stream := range streams {
		told := <-stream
		if err := first(told.Err(), same("events", len(told.Events), 1), same("value", string(told.Events[0].Kv.Value), number)); err != nil {
			return err
		}
	}
	cancel()
	for _, stream := range streams {
		for range stream {
		}
	}
	// A new one, on the same connection.
	again := t.client.Watch(t, t.prefix+"0", clientv3.WithCreatedNotify())
	told := <-again
	return first(told.Err(), same("created again", told.Created, true))
}

func progress(t *try) error {
	watch := t.client.Watch(t, t.prefix, clientv3.WithPrefix(), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	if told := <-watch; !told.Created {
		return fmt.Errorf("first: %v (expected: created)", told)
	}
	revision, err := t.put("a", "1")
	if err != nil {
		return err
	}
	told := <-watch
	if err := first(told.Err(), same("events", len(told.Events), 1), same("progress", told.IsProgressNotify(), false)); err != nil {
		return err
	}
	if err := t.client.RequestProgress(t); err != nil {
		return err
	}
	told = <-watch
	if told.Header.Revision < revision {
		return fmt.Errorf("progress at %d (expected: %d or later)", told.Header.Revision, revision)
	}
	return first(told.Err(), same("progress", told.IsProgressNotify(), true))
}

// One revision that deletes 5 MB, with what was there before: by hand the fragments are seen, and by
// way of the client they are put together.
func fragments(t *try) error {
	const keys = 100
	value := string(bytes.Repeat([]byte("x"), 50_000))
	stream, err := pb.NewWatchClient(t.client.ActiveConnection()).Watch(t)
	if err != nil {
		return err
	}
	create := &pb.WatchCreateRequest{
		Key: []byte(t.prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(t.prefix)),
		PrevKv: true, Fragment: true, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT},
	}
	request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}
	if err := stream.Send(request); err != nil {
		return err
	}
	if created, err := stream.Recv(); err != nil || !created.Created {
		return fmt.Errorf("the first answer: %v, %v (expected: created)", created, err)
	}
	watch := t.client.Watch(t, t.prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithFragment(),
		clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	if told := <-watch; !told.Created {
		return fmt.Errorf("first: %v (expected: created)", told)
	}
	for number := range keys {
		if _, err := t.put(fmt.Sprint(number), value); err != nil {
			return err
		}
	}
	if _, err := t.client.Delete(t, t.prefix, clientv3.WithPrefix()); err != nil {
		return err
	}
	events, pieces := 0, 0
	for more := true; more; pieces++ {
		piece, err := stream.Recv()
		if err != nil {
			return err
		}
		if piece.Size() > 2<<20 {
			return fmt.Errorf("a fragment of %d bytes (expected: 2 MiB at most)", piece.Size())
		}
		events += len(piece.Events)
		more = piece.Fragment
	}
	if pieces < 2 {
		return fmt.Errorf("fragments: %d (expected: some)", pieces)
	}
	told := <-watch
	return first(
		told.Err(),
		same("events in fragments", events, keys),
		same("events", len(told.Events), keys),
		same("size of the last value", len(told.Events[keys-1].PrevKv.Value), len(value)),
	)
}
