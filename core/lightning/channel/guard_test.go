package channel_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// What a guarded channel says of a revoked commitment is the commitment that the
// peer once had: a watchtower finds it by its txid.
func TestRevokedIsWhatThePeerHad(t *testing.T) {
	for seed := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, 2))
		w := open(t, channel.Proposal{Type: commit.Type(seed % 2), Push: 5_000_000_000})
		had := map[string]chainhash.Hash{}
		preimages := map[[32]byte][32]byte{}
		checked := 0
		note := func(e *end) {
			if key := fmt.Sprint(e.name, e.c.Number()); had[key] == (chainhash.Hash{}) {
				had[key] = e.c.Commitment().TxHash()
			}
		}
		for _, e := range []*end{w.a, w.b} {
			e.c.Guarded = true
			note(e)
		}
		pass := func(from, to *end) {
			if len(from.out) == 0 {
				return
			}
			m := from.out[0]
			from.out = from.out[1:]
			to.do(func(c *channel.Channel) {
				c.Recv(m, nil)
				for _, ev := range c.Events {
					ev, ok := ev.(channel.Revoked)
					if !ok {
						continue
					}
					point, err := commit.PointOf(ev.Secret)
					w.must(err)
					k, err := c.Commit.Build(commit.Remote, point, *ev.State)
					w.must(err)
					checked++
					if want := had[fmt.Sprint(from.name, ev.Number)]; k.ID != want || ev.State.Number != ev.Number {
						t.Fatalf("seed %d: commitment %d of %s is %v; it had %v", seed, ev.Number, from.name, k.ID, want)
					}
				}
			})
			note(to)
		}
		for n := range 150 {
			e, other := w.a, w.b
			if r.IntN(2) == 0 {
				e, other = other, e
			}
			switch k := r.IntN(10); {
			case k < 3:
				p := preimageOf(e.name, n)
				preimages[sha256.Sum256(p[:])] = p
				e.add(n, money.Amount(1+r.Int64N(3_000_000)))
			case k < 5:
				for id, h := range e.lockedIn {
					delete(e.lockedIn, id)
					e.do(func(c *channel.Channel) {
						if p, ok := preimages[h.Hash]; ok && k == 3 {
							c.Fulfill(id, p)
						} else {
							c.Fail(id, []byte("no"))
						}
					})
					break
				}
			default:
				pass(other, e)
			}
		}
		for len(w.a.out)+len(w.b.out) > 0 {
			pass(w.a, w.b)
			pass(w.b, w.a)
		}
		if checked < 10 || w.a.broke+w.b.broke != "" {
			t.Errorf("seed %d: %d commitments were revoked; broke %q %q", seed, checked, w.a.broke, w.b.broke)
		}
	}
}

// Payments too small for the chain are refused beyond the limit, those that wait
// included, until some of them are answered.
func TestDustIsBounded(t *testing.T) {
	w := open(t, channel.Proposal{Type: commit.Anchors})
	w.a.c.MaxDust = 1_000_000
	add := func(n int, amount money.Amount) error { return w.a.add(n, amount) }
	w.a.do(func(c *channel.Channel) { // in one step: all wait
		for n := range 3 {
			p := preimageOf("a", n)
			w.must(c.Add(&channel.HTLC{Amount: 300_000, Hash: sha256.Sum256(p[:]), Expiry: 500, Onion: &[ln.OnionSize]byte{}}))
		}
		if got := c.DustInFlight(); got != 900_000 {
			t.Errorf("%v wait", got)
		}
		p := preimageOf("a", 3)
		if err := c.Add(&channel.HTLC{Amount: 100_001, Hash: sha256.Sum256(p[:]), Expiry: 500, Onion: &[ln.OnionSize]byte{}}); !errors.Is(err, channel.ErrDust) {
			t.Errorf("one too many: %v", err)
		}
	})
	w.settle()
	if err := add(4, 100_001); !errors.Is(err, channel.ErrDust) {
		t.Errorf("one too many: %v", err)
	}
	w.must(add(5, 5_000_000)) // the chain enforces this one
	w.settle()
	w.b.do(func(c *channel.Channel) { c.Fulfill(0, preimageOf("a", 0)) })
	w.settle()
	if got := w.a.c.DustInFlight(); got != 600_000 {
		t.Errorf("%v are in flight", got)
	}
	w.must(add(6, 300_000))
	w.must(add(7, 100_000))
	w.settle()
	if got := w.a.c.DustInFlight(); got != 1_000_000 || w.a.broke != "" {
		t.Errorf("%v are in flight, broke %q", got, w.a.broke)
	}
}
