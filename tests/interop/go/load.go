// The load: calls in a closed loop over all servers in turn. It says `ready` once each has answered.
// Then, for each line that it reads,
//
//	<in flight> <bytes of a name> <messages, or 0 for a unary call> <deadline in ms, or 0> <time in ms>
//
// it calls for that time, and says what that was: calls a second, microseconds of CPU a call, and the
// median and the 99th percentile of how long a call took, in microseconds.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

type round struct {
	inFlight, bytes, messages, deadlineMs, timeMs int
}

func load(addresses []string) error {
	c, err := connectAll(context.Background(), addresses)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var r round
		_, err := fmt.Sscan(lines.Text(), &r.inFlight, &r.bytes, &r.messages, &r.deadlineMs, &r.timeMs)
		if err != nil {
			return fmt.Errorf("line: %q (expected: five numbers): %w", lines.Text(), err)
		}
		if err := r.run(c); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (r round) run(c client) error {
	name := strings.Repeat("x", r.bytes)
	took := make([][]time.Duration, r.inFlight)
	failed := make([]error, r.inFlight)
	cpuBefore, begin := cpu(), time.Now()
	var workers sync.WaitGroup
	for worker := range r.inFlight {
		workers.Go(func() {
			for time.Since(begin) < time.Duration(r.timeMs)*time.Millisecond {
				start := time.Now()
				if failed[worker] = r.call(c, name); failed[worker] != nil {
					return
				}
				took[worker] = append(took[worker], time.Since(start))
			}
		})
	}
	workers.Wait()
	passed, used := time.Since(begin), cpu()-cpuBefore
	if err := first(failed...); err != nil {
		return err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	quantile := func(share float64) float64 {
		return micros(all[min(int(share*float64(len(all))), len(all)-1)])
	}
	calls := float64(len(all))
	fmt.Println(calls/passed.Seconds(), micros(used)/calls, quantile(0.5), quantile(0.99))
	return nil
}

func (r round) call(c client, name string) error {
	ctx := context.Background()
	if r.deadlineMs > 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(r.deadlineMs)*time.Millisecond)
		defer cancel()
		ctx = limited
	}
	if r.messages == 0 {
		_, err := c.sayHello(ctx, name)
		return err
	}
	stream, err := c.sayHellos(ctx, &hellosRequest{name: name, count: uint32(r.messages)})
	if err != nil {
		return err
	}
	for {
		if _, err := stream.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func micros(time time.Duration) float64 {
	return float64(time.Nanoseconds()) / 1e3
}

// cpu returns the time that this process has had, of all processors.
func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
