// Tries etcd's own Go packages on a server, each check below a prefix of its own.
//
//	go run . 127.0.0.1:2379
//
// It writes one line a check, `ok <name>` or `FAILED <name>: <what was seen>`, and returns 1 if one
// has failed.
package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Far more than any check takes, on a busy machine too.
const limit = 90 * time.Second

// How long one who waits is seen to wait.
const aWhile = 300 * time.Millisecond

type check struct {
	name string
	run  func(t *try) error
}

// These run all at once, as the clients of one server do.
var together = []check{
	{"a_range_has_all_its_options", ranges},
	{"transactions_nest", nestedTransactions},
	{"errors_are_known_by_their_types", errorTypes},
	{"members_are_synchronized_with", members},
	{"a_lease_is_kept_alive_over_its_time", keepAlive},
	{"a_lease_that_is_not_kept_expires", expiry},
	{"a_watch_tells_all_in_order_from_the_past_on", watchInOrder},
	{"a_watch_leaves_out_what_it_is_told_to", watchFilters},
	{"a_thousand_watches_share_a_stream", manyWatches},
	{"progress_is_told_when_it_is_asked_for", progress},
	{"a_large_revision_comes_in_fragments", fragments},
	{"a_session_ends_with_its_lease", session},
	{"a_mutex_has_one_owner", mutex},
	{"a_lock_is_tried_and_told_of_as_taken", tryLock},
	{"an_election_has_one_leader_after_the_other", election},
	{"transfers_in_software_transactions_lose_nothing", transfers},
	{"a_queue_gives_everything_once_and_in_order", queue},
	{"a_priority_queue_gives_the_first_first", priorityQueue},
	{"a_barrier_holds_until_it_is_released", barrier},
	{"a_double_barrier_lets_all_in_and_all_out", doubleBarrier},
	{"readers_share_and_a_writer_does_not", readersAndWriters},
	{"a_namespace_hides_its_prefix", namespaces},
	{"reads_are_in_order", ordered},
	{"a_mirror_follows", mirrored},
	{"a_leased_cache_is_coherent", cached},
	{"endpoints_are_published_and_watched", endpointNaming},
}

// These run by themselves, since what they do is felt by all, or the other way round.
var alone = []check{
	{"a_watch_of_what_is_to_come_waits_for_it", watchAhead},
	{"a_compacted_revision_is_gone", compacted},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "arguments: one endpoint of etcd (expected: host:port)")
		os.Exit(2)
	}
	endpoint := os.Args[1]

	results := make(chan bool)
	for _, c := range together {
		go func() { results <- report(endpoint, c) }()
	}
	passed := true
	for range together {
		passed = <-results && passed
	}
	for _, c := range alone {
		passed = report(endpoint, c) && passed
	}
	if !passed {
		os.Exit(1)
	}
}

var output sync.Mutex

func report(endpoint string, c check) bool {
	begin := time.Now()
	err := attempt(endpoint, c)
	output.Lock()
	defer output.Unlock()
	if err != nil {
		fmt.Printf("FAILED %s: %v (after %v)\n", c.name, err, time.Since(begin).Round(time.Millisecond))
		return false
	}
	fmt.Printf("ok %s\n", c.name)
	return true
}

// attempt runs a check to its end or to the limit, whether or not it heeds its context: the recipes
// have none.
func attempt(endpoint string, c check) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		// Of a recipe whose watch is lost, one dereferences nil.
		defer func() {
			if panicked := recover(); panicked != nil {
				done <- fmt.Errorf("panic: %v", panicked)
			}
		}()
		t := &try{Context: ctx, endpoint: endpoint, prefix: c.name + "/"}
		defer t.close()
		client, err := t.connect()
		if err != nil {
			done <- err
			return
		}
		t.client = client
		done <- c.run(t)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("not done within %v", limit)
	}
}

// try is what a check works with.
type try struct {
	context.Context
	endpoint string
	// Ends in a slash; all keys of the check are below it.
	prefix string
	client *clientv3.Client

	lock   sync.Mutex
	opened []*clientv3.Client
	code   codes.Code
}

// remember keeps the last code as it was on the wire: the client makes its own of the message.
func (t *try) remember(
	ctx context.Context, method string, request, answer any,
	connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	err := invoke(ctx, method, request, answer, connection, options...)
	t.lock.Lock()
	defer t.lock.Unlock()
	t.code = status.Code(err)
	return err
}

func (t *try) lastCode() codes.Code {
	t.lock.Lock()
	defer t.lock.Unlock()
	return t.code
}

// connect returns a client with a connection of its own, which is closed after the check.
func (t *try) connect() (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{t.endpoint},
		DialTimeout: 30 * time.Second,
		Context:     t,
		Logger:      zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(t.remember)},
	})
	if err != nil {
		return nil, err
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	t.opened = append(t.opened, client)
	return client, nil
}

func (t *try) close() {
	t.lock.Lock()
	defer t.lock.Unlock()
	for _, client := range t.opened {
		client.Close()
	}
}

func (t *try) put(key, value string, options ...clientv3.OpOption) (int64, error) {
	put, err := t.client.Put(t, t.prefix+key, value, options...)
	if err != nil {
		return 0, err
	}
	return put.Header.Revision, nil
}

// values returns what there is below the check's prefix, as `key=value` without that prefix.
func (t *try) values(options ...clientv3.OpOption) ([]string, error) {
	options = append([]clientv3.OpOption{clientv3.WithPrefix()}, options...)
	got, err := t.client.Get(t, t.prefix, options...)
	if err != nil {
		return nil, err
	}
	values := []string{}
	for _, kv := range got.Kvs {
		values = append(values, string(kv.Key[len(t.prefix):])+"="+string(kv.Value))
	}
	return values, nil
}

// eventually polls until holds is true.
func (t *try) eventually(what string, holds func() (bool, error)) error {
	for {
		held, err := holds()
		if err != nil || held {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Done():
			return fmt.Errorf("never: %s", what)
		}
	}
}

// same is an error unless two values print alike.
func same(what string, seen, expected any) error {
	if fmt.Sprint(seen) != fmt.Sprint(expected) {
		return fmt.Errorf("%s: %v (expected: %v)", what, seen, expected)
	}
	return nil
}

// first returns the first of errors that is one.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// gather runs count functions at once, and returns the first error.
func gather(count int, run func(number int) error) error {
	errs := make(chan error, count)
	for number := range count {
		go func() {
			defer func() {
				if panicked := recover(); panicked != nil {
					errs <- fmt.Errorf("panic: %v", panicked)
				}
			}()
			errs <- run(number)
		}()
	}
	for range count {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// later runs a function that is expected to wait; the channel has its outcome.
func later(run func() error) <-chan error {
	outcome := make(chan error, 1)
	go func() {
		defer func() {
			if panicked := recover(); panicked != nil {
				outcome <- fmt.Errorf("panic: %v", panicked)
			}
		}()
		outcome <- run()
	}()
	return outcome
}

// waits is an error if the outcome is there before a while has passed.
func waits(what string, outcome <-chan error) error {
	select {
	case err := <-outcome:
		return fmt.Errorf("%s did not wait: %v", what, err)
	case <-time.After(aWhile):
		return nil
	}
}
