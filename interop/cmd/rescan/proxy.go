package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"sync"
	"sync/atomic"

	"github.com/btcsuite/btcd/wire/v2"
)

// A meter stands between a client and the server and counts what passes.
type meter struct {
	listener net.Listener
	to       string
	in, out  atomic.Int64 // bytes, as the client sees it
	dials    atomic.Int64
	kinds    kinds // both ways
	running  sync.WaitGroup
}

func newMeter(ctx context.Context, to string) (*meter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &meter{listener: l, to: to}
	m.running.Go(func() { m.accept(ctx) })
	return m, nil
}

func (m *meter) addr() string { return m.listener.Addr().String() }

func (m *meter) accept(ctx context.Context) {
	for {
		client, err := m.listener.Accept()
		if err != nil {
			return
		}
		m.dials.Add(1)
		m.running.Go(func() { m.carry(ctx, client) })
	}
}

// carry ends with either side.
func (m *meter) carry(ctx context.Context, client net.Conn) {
	defer client.Close()
	var dialer net.Dialer
	server, err := dialer.DialContext(ctx, "tcp", m.to)
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{}, 2)
	pass := func(to, from net.Conn, count *atomic.Int64) {
		io.Copy(&counted{to: to, count: count, kinds: &m.kinds}, from)
		done <- struct{}{}
	}
	go pass(server, client, &m.out)
	go pass(client, server, &m.in)
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// close ends when all that was under way has.
func (m *meter) close() error {
	err := m.listener.Close()
	m.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// counted is a writer that counts what passes, by the message it is part of. It
// hides what would let a copy pass without being seen.
type counted struct {
	to    io.Writer
	count *atomic.Int64
	kinds *kinds

	head []byte // of the message that is coming
	kind string
	left int // bytes of its payload
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.count.Add(int64(n))
	c.follow(b[:n])
	return n, err
}

func (c *counted) follow(b []byte) {
	for len(b) > 0 {
		if c.left > 0 {
			part := min(c.left, len(b))
			c.kinds.add(c.kind, 0, part)
			c.left -= part
			b = b[part:]
			continue
		}
		part := min(wire.MessageHeaderSize-len(c.head), len(b))
		c.head = append(c.head, b[:part]...)
		b = b[part:]
		if len(c.head) == wire.MessageHeaderSize {
			c.kind = string(bytes.TrimRight(c.head[4:16], "\x00"))
			c.left = int(binary.LittleEndian.Uint32(c.head[16:]))
			c.kinds.add(c.kind, 1, len(c.head))
			c.head = c.head[:0]
		}
	}
}

// kinds are messages by their command.
type kinds struct {
	mu  sync.Mutex
	all map[string]Kind
}

// A Kind is the messages of one command.
type Kind struct {
	Count int `json:"count"`
	Bytes int `json:"bytes"`
}

func (k *kinds) add(command string, count, bytes int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.all == nil {
		k.all = map[string]Kind{}
	}
	sum := k.all[command]
	k.all[command] = Kind{sum.Count + count, sum.Bytes + bytes}
}

func (k *kinds) copy() map[string]Kind {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.all)
}
