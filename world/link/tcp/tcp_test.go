package tcp_test

import (
	"context"
	"fmt"
	"net"
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
	if near, err = tcp.Dial(b.Context(), l.Addr().String(), self, peer.Public()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { near.Close() })
	if far, err = l.Accept(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { far.Close() })
	return near, far
}
