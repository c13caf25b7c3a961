package tcp_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/world/link"
	"coinop.dev/world/link/linktest"
	"coinop.dev/world/link/tcp"
)

func TestTCP(t *testing.T) {
	linktest.Test(t, func(t *testing.T, story linktest.Story) {
		story(t, linktest.Medium{
			Addr:   "127.0.0.1:0",
			Dial:   tcp.Dial,
			Listen: tcp.Listen,
			DialConn: func(ctx context.Context, addr string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", addr)
			},
			ListenConn: func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) },
		})
	})
}

// BenchmarkRoundTrip sends a message to a peer that sends it back.
func BenchmarkRoundTrip(b *testing.B) {
	for _, size := range []int{300, link.MaxMessage} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			near, far := connect(b)
			go func() {
				for {
					msg, err := far.Recv()
					if err != nil {
						return
					}
					far.Send(msg)
				}
			}()
			msg := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := near.Send(msg); err != nil {
					b.Fatal(err)
				}
				if _, err := near.Recv(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOneWay sends as fast as the peer reads.
func BenchmarkOneWay(b *testing.B) {
	near, far := connect(b)
	done := make(chan error, 1)
	b.SetBytes(300)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			if _, err := far.Recv(); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	msg := make([]byte, 300)
	for range b.N {
		if err := near.Send(msg); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkBurst sends a commitment of 483 HTLCs, each in its message, one write
// for each or as they fit, and counts the writes.
func BenchmarkBurst(b *testing.B) {
	const messages, size = 483, 1450
	msg := make([]byte, size)
	for name, burst := range map[string]func(*link.Session) error{
		"sent": func(l *link.Session) error {
			for range messages {
				if err := l.Send(msg); err != nil {
					return err
				}
			}
			return nil
		},
		"added": func(l *link.Session) error {
			for range messages {
				if err := l.Add(msg); err != nil {
					return err
				}
			}
			return l.Flush()
		},
	} {
		b.Run(name, func(b *testing.B) {
			writes.Store(0)
			near, far := connect(b)
			b.SetBytes(messages * size)
			read := make(chan error)
			go func() {
				for n := 1; ; n++ {
					_, err := far.Recv()
					if err != nil || n%messages == 0 {
						read <- err
					}
					if err != nil {
						return
					}
				}
			}()
			before := writes.Load()
			for b.Loop() {
				if err := burst(near); err != nil {
					b.Fatal(err)
				}
				if err := <-read; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(writes.Load()-before)/float64(b.N), "writes/op")
			b.ReportMetric(float64(b.N*messages)/b.Elapsed().Seconds(), "messages/s")
			near.Close()
			<-read
		})
	}
}

// writes counts the dialler's calls of Write.
var writes atomic.Int64

type counting struct{ net.Conn }

func (c counting) Write(b []byte) (int, error) {
	writes.Add(1)
	return c.Conn.Write(b)
}

func connect(b *testing.B) (near, far *link.Session) {
	root, err := keys.SecretFromBytes([]byte("a key that everybody may know 01"))
	if err != nil {
		b.Fatal(err)
	}
	self, peer := root.Derive("near"), root.Derive("far")
	l, err := tcp.Listen("127.0.0.1:0", peer, link.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	if near, err = link.Initiate(b.Context(), counting{conn}, self, peer.Public()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { near.Close() })
	if far, err = l.Accept(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { far.Close() })
	return near, far
}
