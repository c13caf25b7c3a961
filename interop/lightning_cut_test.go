package interop

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/interop/peers"
	"coinop.dev/rail/lndrail/lnrpc"
)

// A scissors is a proxy in front of an lnd that cuts the connection when so many
// more bytes have passed in one direction.
type scissors struct {
	net.Listener
	mu    sync.Mutex
	armed bool
	out   bool // the direction: from coinop to lnd
	left  int
	cut   func() // called after each cut
}

func newScissors(t *testing.T, to string) *scissors {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	s := &scissors{Listener: l, cut: func() {}}
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				a.Close()
				continue
			}
			go s.pass(b, a, true)
			go s.pass(a, b, false)
		}
	}()
	return s
}

// arm has the connection cut after so many bytes.
func (s *scissors) arm(out bool, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed, s.out, s.left = true, out, bytes
}

// disarm reports whether the connection was not cut.
func (s *scissors) disarm() (whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	whole, s.armed = s.armed, false
	return whole
}

// let is how many of some bytes may pass.
func (s *scissors) let(out bool, bytes int) (n int, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.armed || s.out != out {
		return bytes, false
	}
	if s.left > bytes {
		s.left -= bytes
		return bytes, false
	}
	s.armed = false
	go s.cut()
	return s.left, true
}

func (s *scissors) pass(to, from net.Conn, out bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			let, cut := s.let(out, n)
			if _, err := to.Write(buf[:let]); err != nil || cut {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// TestCutEverywhere: the connection between coinop and lnd is cut at every place
// of a payment's dance, in both directions of the wire and of the money. Each
// payment is made, and made once.
func TestCutEverywhere(t *testing.T) {
	// The shortest message of a payment is update_fulfill_htlc, with 108 bytes on
	// the wire: so a cut falls between any two, and in the middle of the long ones.
	const step = 100
	ctx, btcd, nodes := lnds(t, 1)
	lnd := nodes[0]
	b := newBox(t, ctx, btcd, "coinop", 10_000_000)
	s := newScissors(t, lnd.Peer)
	direct := lnd.Peer
	lnd.Peer = s.Addr().String()
	t.Cleanup(func() { lnd.Peer = direct })
	point := b.open(lnd, node.Open{Capacity: 5_000_000, Push: 2_000_000_000, Public: true})
	b.idle(lnd, point)
	s.cut = func() { // at once: a machine waits longer each time that a link is lost
		b.m.Disconnect(b.peer(lnd))
		b.m.Connect(ctx, lnd.Peer, b.peer(lnd))
	}

	const sat = 1_000
	want := b.summary().Channels[0].Local
	for _, ours := range []bool{true, false} {
		for _, out := range []bool{true, false} {
			cuts := 0
			for at := 0; ; at += step {
				s.arm(out, at)
				if ours {
					bill, _, err := lnd.Bill(ctx, sat*1000)
					must(t, err)
					b.pay("lightning:"+bill, sat*money.Sat)
					want -= sat * money.Sat
				} else {
					must(t, b.persist(ctx, lnd, point, b.bill(sat*money.Sat, false)))
					want += sat * money.Sat
				}
				b.active(lnd, point)
				b.idle(lnd, point)
				if s.disarm() {
					break
				}
				cuts++
			}
			t.Logf("coinop pays: %v; the connection was cut %d times on the way to lnd: %v", ours, cuts, out)
			if cuts < 5 {
				t.Errorf("only %d cuts", cuts)
			}
			if got := b.summary().Channels[0].Local; got != want {
				t.Fatalf("coinop has %v in the channel, and %v is right", got, want)
			}
		}
	}
}

// persist has an lnd pay an invoice until it is paid: lnd gives up when the
// connection goes before the HTLC is signed for.
func (b *box) persist(ctx context.Context, n *peers.Lnd, point, bill string) (err error) {
	for range 5 {
		p, err := track(ctx, n, &lnrpc.SendPaymentRequest{PaymentRequest: bill})
		if err == nil {
			return nil
		}
		if p == nil {
			return err
		}
		b.active(n, point)
	}
	return fmt.Errorf("lnd does not pay: %w", err)
}
