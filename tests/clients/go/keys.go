package main

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func ranges(t *try) error {
	var revisions []int64
	for _, pair := range [][2]string{{"b", "1"}, {"a", "3"}, {"c", "2"}, {"b", "4"}} {
		revision, err := t.put(pair[0], pair[1])
		if err != nil {
			return err
		}
		revisions = append(revisions, revision)
	}
	for _, c := range []struct {
		what     string
		options  []clientv3.OpOption
		expected string
	}{
		{"all", nil, "[a=3 b=4 c=2]"},
		{"serializable", []clientv3.OpOption{clientv3.WithSerializable()}, "[a=3 b=4 c=2]"},
		{"keys only", []clientv3.OpOption{clientv3.WithKeysOnly()}, "[a= b= c=]"},
		{"count only", []clientv3.OpOption{clientv3.WithCountOnly()}, "[]"},
		{"at a revision", []clientv3.OpOption{clientv3.WithRev(revisions[1])}, "[a=3 b=1]"},
		{"min mod", []clientv3.OpOption{clientv3.WithMinModRev(revisions[2])}, "[b=4 c=2]"},
		{"max mod", []clientv3.OpOption{clientv3.WithMaxModRev(revisions[2])}, "[a=3 c=2]"},
		{"min create", []clientv3.OpOption{clientv3.WithMinCreateRev(revisions[1])}, "[a=3 c=2]"},
		{"max create", []clientv3.OpOption{clientv3.WithMaxCreateRev(revisions[1])}, "[a=3 b=4]"},
		{"last created", clientv3.WithLastCreate(), "[c=2]"},
		{"first modified", clientv3.WithFirstRev(), "[a=3]"},
		{"last key", clientv3.WithLastKey(), "[c=2]"},
		{"by value", []clientv3.OpOption{
			clientv3.WithSort(clientv3.SortByValue, clientv3.SortDescend), clientv3.WithLimit(2),
		}, "[b=4 a=3]"},
	} {
		seen, err := t.values(c.options...)
		if err = first(err, same(c.what, seen, c.expected)); err != nil {
			return err
		}
	}
	limited, err := t.client.Get(t, t.prefix, clientv3.WithPrefix(), clientv3.WithLimit(2))
	if err != nil {
		return err
	}
	all, err := t.client.Get(t, t.prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	return first(
		same("count and more of a limited range", fmt.Sprint(limited.Count, limited.More), "3 true"),
		same("count and more", fmt.Sprint(all.Count, all.More), "3 false"),
		same("version of what was put twice", limited.Kvs[1].Version, 2),
	)
}

func nestedTransactions(t *try) error {
	for _, key := range []string{"a", "c"} {
		if _, err := t.put(key, "1"); err != nil {
			return err
		}
	}
	a, b, c := t.prefix+"a", t.prefix+"b", t.prefix+"c"
	// What an inner transaction compares is what was there before the outer one.
	inner := clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.Value(a), "=", "1")},
		[]clientv3.Op{clientv3.OpPut(b, "inner"), clientv3.OpGet(a)},
		[]clientv3.Op{clientv3.OpPut(b, "other")},
	)
	done, err := t.client.Txn(t).
		If(clientv3.Compare(clientv3.CreateRevision(b), "=", 0)).
		Then(clientv3.OpPut(a, "2"), inner, clientv3.OpGet(b), clientv3.OpDelete(c, clientv3.WithPrevKV())).
		Else(clientv3.OpGet(a)).
		Commit()
	if err != nil {
		return err
	}
	answers := done.Responses
	nested := answers[1].GetResponseTxn()
	values, err := t.values()
	return first(
		err,
		same("succeeded", done.Succeeded, true),
		same("inner succeeded", nested.Succeeded, true),
		same("a, inside", nested.Responses[1].GetResponseRange().Kvs[0].Value, []byte("2")),
		same("b, after", answers[2].GetResponseRange().Kvs[0].Value, []byte("inner")),
		same("c, deleted", answers[3].GetResponseDeleteRange().PrevKvs[0].Value, []byte("1")),
		same("revision of the put", answers[0].GetResponsePut().Header.Revision, done.Header.Revision),
		same("what is left", values, "[a=2 b=inner]"),
	)
}

func errorTypes(t *try) error {
	key := t.prefix + "a"
	revision, err := t.put("a", "1")
	if err != nil {
		return err
	}
	put := clientv3.OpPut(key, "1")
	tooMany := make([]clientv3.Op, 129)
	for number := range tooMany {
		tooMany[number] = clientv3.OpPut(fmt.Sprint(key, number), "1")
	}
	for _, c := range []struct {
		what     string
		run      func() error
		expected error
	}{
		{"a revision ahead", func() error {
			_, err := t.client.Get(t, key, clientv3.WithRev(revision+1_000_000))
			return err
		}, rpctypes.ErrFutureRev},
		{"an empty key", func() error { _, err := t.client.Put(t, "", "1"); return err }, rpctypes.ErrEmptyKey},
		{"two puts of a key", func() error {
			_, err := t.client.Txn(t).Then(put, put).Commit()
			return err
		}, rpctypes.ErrDuplicateKey},
		{"a put of what is deleted", func() error {
			_, err := t.client.Txn(t).Then(clientv3.OpDelete(t.prefix, clientv3.WithPrefix()), put).Commit()
			return err
		}, rpctypes.ErrDuplicateKey},
		{"too many operations", func() error {
			_, err := t.client.Txn(t).Then(tooMany...).Commit()
			return err
		}, rpctypes.ErrTooManyOps},
		{"a lease that is not", func() error {
			_, err := t.put("b", "1", clientv3.WithLease(1234))
			return err
		}, rpctypes.ErrLeaseNotFound},
		{"revoking it", func() error { _, err := t.client.Revoke(t, 1234); return err }, rpctypes.ErrLeaseNotFound},
		{"keeping it alive", func() error { _, err := t.client.KeepAliveOnce(t, 1234); return err }, rpctypes.ErrLeaseNotFound},
		{"a TTL of centuries", func() error { _, err := t.client.Grant(t, 9_000_000_001); return err }, rpctypes.ErrLeaseTTLTooLarge},
		{"a value that is to stay", func() error {
			_, err := t.put("nothing", "", clientv3.WithIgnoreValue())
			return err
		}, rpctypes.ErrKeyNotFound},
		{"compaction ahead", func() error {
			_, err := t.client.Compact(t, revision+1_000_000)
			return err
		}, rpctypes.ErrFutureRev},
	} {
		if err := c.run(); !errors.Is(err, c.expected) {
			return fmt.Errorf("%s: %v (expected: %v)", c.what, err, c.expected)
		}
		// Keeping a lease alive is a stream, whose answers tell of one that is not there.
		expected := c.expected.(rpctypes.EtcdError).Code()
		if code := t.lastCode(); code != expected && c.what != "keeping it alive" {
			return fmt.Errorf("code of %s: %v (expected: %v)", c.what, code, expected)
		}
	}
	values, err := t.values()
	return first(err, same("what is there", values, "[a=1]"))
}

func members(t *try) error {
	list, err := t.client.MemberList(t)
	if err != nil {
		return err
	}
	status, err := t.client.Status(t, t.endpoint)
	if err != nil {
		return err
	}
	alarms, err := t.client.AlarmList(t)
	if err != nil {
		return err
	}
	// From now on the client dials what the server says of itself.
	if err := t.client.Sync(t); err != nil {
		return err
	}
	_, err = t.put("a", "1")
	return first(
		err,
		same("members", len(list.Members), 1),
		same("the leader", status.Leader, list.Members[0].ID),
		same("the member of the header", status.Header.MemberId, list.Members[0].ID),
		same("alarms", len(alarms.Alarms), 0),
		same("endpoints", t.client.Endpoints(), []string{"http://" + t.endpoint}),
	)
}

func compacted(t *try) error {
	var revision int64
	for _, value := range []string{"1", "2", "3"} {
		var err error
		if revision, err = t.put("a", value); err != nil {
			return err
		}
	}
	if _, err := t.client.Compact(t, revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	key := t.prefix + "a"
	if _, err := t.client.Get(t, key, clientv3.WithRev(revision-1)); !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("an old read: %v (expected: %v)", err, rpctypes.ErrCompacted)
	}
	if _, err := t.client.Compact(t, revision); !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("compacted twice: %v (expected: %v)", err, rpctypes.ErrCompacted)
	}
	got, err := t.client.Get(t, key, clientv3.WithRev(revision))
	if err = first(err, same("values at the compacted revision", len(got.Kvs), 1)); err != nil {
		return err
	}
	// One of a stream's watches is refused, and the other goes on.
	whole := t.client.Watch(t, key, clientv3.WithRev(revision))
	refused := <-t.client.Watch(t, key, clientv3.WithRev(revision-1))
	if !errors.Is(refused.Err(), rpctypes.ErrCompacted) || refused.CompactRevision != revision {
		return fmt.Errorf("an old watch: %v at %d (expected: compacted at %d)", refused.Err(), refused.CompactRevision, revision)
	}
	told := <-whole
	return first(told.Err(), same("events", len(told.Events), 1))
}
