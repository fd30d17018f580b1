package main

import (
	"strconv"

	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

func push(p *peer, arguments []string) (string, error) {
	return "", recipe.NewQueue(p.client, arguments[0]).Enqueue(arguments[1])
}

func pop(p *peer, arguments []string) (string, error) {
	return recipe.NewQueue(p.client, arguments[0]).Dequeue()
}

func pushPriority(p *peer, arguments []string) (string, error) {
	priority, err := strconv.ParseUint(arguments[1], 10, 16)
	if err != nil {
		return "", err
	}
	return "", recipe.NewPriorityQueue(p.client, arguments[0]).Enqueue(arguments[2], uint16(priority))
}

func popPriority(p *peer, arguments []string) (string, error) {
	return recipe.NewPriorityQueue(p.client, arguments[0]).Dequeue()
}

func hold(p *peer, arguments []string) (string, error) {
	return "", recipe.NewBarrier(p.client, arguments[0]).Hold()
}

func release(p *peer, arguments []string) (string, error) {
	return "", recipe.NewBarrier(p.client, arguments[0]).Release()
}

func wait(p *peer, arguments []string) (string, error) {
	return "", recipe.NewBarrier(p.client, arguments[0]).Wait()
}

func (p *peer) rwMutex(name string) *recipe.RWMutex {
	return had(p.readWrite, name, func() *recipe.RWMutex { return recipe.NewRWMutex(p.session, name) })
}

func readLock(p *peer, arguments []string) (string, error) {
	return "", p.rwMutex(arguments[0]).RLock()
}

func readUnlock(p *peer, arguments []string) (string, error) {
	return "", p.rwMutex(arguments[0]).RUnlock()
}

func writeLock(p *peer, arguments []string) (string, error) {
	return "", p.rwMutex(arguments[0]).Lock()
}

func writeUnlock(p *peer, arguments []string) (string, error) {
	return "", p.rwMutex(arguments[0]).Unlock()
}

func enter(p *peer, arguments []string) (string, error) {
	count, err := strconv.Atoi(arguments[1])
	if err != nil {
		return "", err
	}
	barrier := recipe.NewDoubleBarrier(p.session, arguments[0], count)
	p.barriers[arguments[0]] = barrier
	return "", barrier.Enter()
}

func leave(p *peer, arguments []string) (string, error) {
	return "", p.barriers[arguments[0]].Leave()
}
