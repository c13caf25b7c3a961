package channel_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// disk is what an end has kept.
type disk map[string][]byte

func (d disk) Get(key string) ([]byte, error) { return d[key], nil }

func (d disk) Scan(prefix string, yield func(string, []byte) bool) error {
	for _, key := range slices.Sorted(maps.Keys(d)) {
		if strings.HasPrefix(key, prefix) && !yield(key, d[key]) {
			break
		}
	}
	return nil
}

// end is one side of a channel between two.
type end struct {
	t    testing.TB
	name string
	root keys.Secret
	node keys.Public
	disk disk
	c    *channel.Channel
	out  []ln.Message // on their way to the other end

	lockedIn  map[uint64]*channel.HTLC
	fulfilled map[[32]byte]bool
	removed   map[[32]byte]bool
	unsent    map[[32]byte]bool
	agreed    []*wire.MsgTx
	broke     string
	puts      int
}

func newEnd(t testing.TB, name string) *end {
	root, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	if err != nil {
		t.Fatal(err)
	}
	return &end{
		t: t, name: name, root: root, node: root.Derive("node").Public(), disk: disk{},
		lockedIn: map[uint64]*channel.HTLC{}, fulfilled: map[[32]byte]bool{}, removed: map[[32]byte]bool{}, unsent: map[[32]byte]bool{},
	}
}

// do is one step: whatever the end does, its records are kept before its
// messages leave.
func (e *end) do(f func(c *channel.Channel)) {
	var fx step.Effects
	e.c.Begin(&fx)
	f(e.c)
	e.c.Flush()
	e.carry(fx)
	for _, ev := range e.c.Events {
		switch ev := ev.(type) {
		case channel.LockedIn:
			e.lockedIn[ev.ID] = ev.HTLC
		case channel.Fulfilled:
			e.fulfilled[ev.Hash] = true
		case channel.Removed:
			e.removed[ev.Hash] = true
		case channel.Unsent:
			e.unsent[ev.Hash] = true
		case channel.Agreed:
			e.agreed = append(e.agreed, ev.Tx)
		case channel.Broke:
			e.broke = ev.Why
		}
	}
	e.c.Events = nil
}

func (e *end) carry(fx step.Effects) {
	for _, r := range fx.Put {
		e.puts++
		if r.Value == nil {
			delete(e.disk, r.Key)
		} else {
			e.disk[r.Key] = r.Value
		}
	}
	for _, p := range fx.Send {
		m, err := ln.Decode(p.Msg.(ln.Message).Append(nil))
		if err != nil {
			e.t.Fatalf("%s sends %T: %v", e.name, p.Msg, err)
		}
		e.out = append(e.out, m)
	}
}

// restart loads the end from its disk.
func (e *end) restart() {
	c, err := channel.Load(e.disk, 1, e.root)
	if err != nil {
		e.t.Fatalf("%s: %v", e.name, err)
	}
	e.c = c
	e.same()
}

// same checks that memory is what the disk has.
func (e *end) same() {
	c, err := channel.Load(e.disk, 1, e.root)
	if err != nil {
		e.t.Fatalf("%s: %v", e.name, err)
	}
	now, then := e.c.Durable(), c.Durable()
	for i := range max(len(now), len(then)) {
		if i >= len(now) || i >= len(then) || now[i].Key != then[i].Key || !bytes.Equal(now[i].Value, then[i].Value) {
			e.t.Fatalf("%s: memory and disk differ in record %d: %d and %d", e.name, i, len(now), len(then))
		}
	}
}

type world struct {
	t    testing.TB
	a, b *end
	link uint64
}

// open opens a channel from a to b.
func open(t testing.TB, p channel.Proposal) *world {
	w := &world{t: t, a: newEnd(t, "a"), b: newEnd(t, "b"), link: 1}
	p.Index, p.Chain = 1, chainhash.Hash{1}
	p.Peer, p.Payout = w.b.node, append([]byte{0, 20}, make([]byte, 20)...)
	if p.Capacity == 0 {
		p.Capacity = 10_000_000
	}
	if p.FeeRate == 0 {
		p.FeeRate = 253
	}
	mine, m1, err := channel.Offer(p, w.a.root)
	w.must(err)
	theirs := channel.Proposal{Index: 1, Peer: w.a.node, Chain: p.Chain, MinDepth: 1, Payout: append([]byte{0, 20}, bytes.Repeat([]byte{1}, 20)...)}
	yours, m2, err := channel.Accept(m1, theirs, w.b.root)
	w.must(err)
	w.must(mine.Accepted(m2))
	funding := wire.NewMsgTx(2)
	funding.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 7}, nil, nil))
	funding.AddTxOut(mine.Output())
	m3, err := mine.Fund(funding)
	w.must(err)
	var m4 *ln.FundingSigned
	w.b.c, m4, err = yours.Created(m3)
	w.must(err)
	w.a.c, err = mine.Signed(m4)
	w.must(err)
	scid, _ := ln.NewSCID(100, 1, 0)
	for _, e := range []*end{w.a, w.b} {
		e.do(func(c *channel.Channel) { c.Begun(w.link, false) })
		e.do(func(c *channel.Channel) { c.Confirmed(1, scid) })
	}
	w.settle()
	if !w.a.c.Usable() || !w.b.c.Usable() {
		t.Fatal("the channel is not usable")
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// pass delivers the oldest message from an end.
func (w *world) pass(from, to *end) bool {
	if len(from.out) == 0 {
		return false
	}
	m := from.out[0]
	from.out = from.out[1:]
	to.do(func(c *channel.Channel) { c.Recv(m, nil) })
	return true
}

// settle lets everything arrive.
func (w *world) settle() {
	for n := 0; w.pass(w.a, w.b) || w.pass(w.b, w.a); n++ {
		if n > 10_000 {
			w.t.Fatal("they talk for ever")
		}
	}
}

// relink drops what is on its way and connects again.
func (w *world) relink() {
	w.link++
	w.a.out, w.b.out = nil, nil
	for _, e := range []*end{w.a, w.b} {
		e.do(func(c *channel.Channel) { c.Unlinked() })
		e.out = nil
	}
	for _, e := range []*end{w.a, w.b} {
		e.do(func(c *channel.Channel) { c.Linked(w.link, false) })
	}
}

func (e *end) add(n int, amount money.Amount) error {
	preimage := sha256.Sum256(fmt.Append(nil, e.name, n))
	var err error
	e.do(func(c *channel.Channel) {
		err = c.Add(&channel.HTLC{Amount: amount, Hash: sha256.Sum256(preimage[:]), Expiry: 500, Onion: &[ln.OnionSize]byte{byte(n)}, Note: []byte{byte(n)}})
	})
	return err
}

func preimageOf(name string, n int) [32]byte { return sha256.Sum256(fmt.Append(nil, name, n)) }

func TestPaymentBothWays(t *testing.T) {
	for _, kind := range []commit.Type{commit.StaticRemoteKey, commit.Anchors} {
		w := open(t, channel.Proposal{Type: kind, Push: 4_000_000_000})
		w.must(w.a.add(1, 1_000_000))
		w.must(w.b.add(2, 2_000))
		w.settle()
		w.b.do(func(c *channel.Channel) { c.Fulfill(0, preimageOf("a", 1)) })
		w.a.do(func(c *channel.Channel) { c.Fail(0, []byte("no")) })
		w.settle()
		if len(w.a.fulfilled) != 1 || len(w.b.removed) != 1 {
			t.Errorf("%v: %d fulfilled and %d removed", kind, len(w.a.fulfilled), len(w.b.removed))
		}
		if v := w.a.c.Value(); v.Local != 5_999_000_000 || v.HTLCs != 0 {
			t.Errorf("%v: %+v", kind, v)
		}
		w.a.do(func(c *channel.Channel) { w.must(c.Shutdown(300)) })
		w.settle()
		if len(w.a.agreed) != 1 || len(w.b.agreed) != 1 || w.a.agreed[0].TxHash() != w.b.agreed[0].TxHash() {
			t.Errorf("%v: agreed %v and %v", kind, w.a.agreed, w.b.agreed)
		}
	}
}

// A peer that loses its memory between a preimage and its signature fails what it
// has fulfilled. The channel lives on, and the money stays with the payer.
func TestFulfilledAndThenFailed(t *testing.T) {
	for _, malformed := range []bool{false, true} {
		w := open(t, channel.Proposal{Type: commit.Anchors})
		w.must(w.a.add(1, 1_000_000))
		w.settle()
		kept := maps.Clone(w.b.disk)
		w.b.do(func(c *channel.Channel) { c.Fulfill(0, preimageOf("a", 1)) })
		if !w.pass(w.b, w.a) || len(w.a.fulfilled) != 1 {
			t.Fatal("the preimage does not arrive")
		}
		w.b.disk = kept
		w.b.restart()
		w.relink()
		w.settle()
		w.b.do(func(c *channel.Channel) {
			if malformed {
				c.Malformed(0, 0xc005, [32]byte{1})
			} else {
				c.Fail(0, []byte("no"))
			}
		})
		w.pass(w.b, w.a)
		w.a.same()
		w.settle()
		w.a.same()
		if v := w.a.c.Value(); w.a.broke != "" || v.Local != 10_000_000_000 || v.HTLCs != 0 {
			t.Errorf("malformed %v: broke %q, %+v", malformed, w.a.broke, v)
		}
	}
}

// Whatever happens to the connection and to the machines, nothing is paid twice,
// nothing is lost, both ends agree, and each is on its disk what it is in memory.
func TestRandomStories(t *testing.T) {
	for seed := range uint64(24) {
		story(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func story(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	w := open(t, channel.Proposal{Type: commit.Type(seed % 2), Push: 5_000_000_000})
	ends := []*end{w.a, w.b}
	next := 0
	names := map[[32]byte][32]byte{} // preimages by hash
	for range 120 {
		i := r.IntN(2)
		e, other := ends[i], ends[1-i]
		switch k := r.IntN(20); {
		case k < 5:
			next++
			p := preimageOf(e.name, next)
			names[sha256.Sum256(p[:])] = p
			if e.add(next, money.Amount(1+r.Int64N(2_000_000))) != nil {
				next--
			}
		case k < 8:
			for _, id := range slices.Sorted(maps.Keys(e.lockedIn)) {
				h := e.lockedIn[id]
				delete(e.lockedIn, id)
				e.do(func(c *channel.Channel) {
					switch r.IntN(4) {
					case 0:
						c.Fail(h.ID, []byte("reason"))
					case 1:
						c.Malformed(h.ID, 0xc005, [32]byte{1})
					default:
						c.Fulfill(h.ID, names[h.Hash])
					}
				})
				break
			}
		case k < 17:
			w.pass(e, other)
		case k == 17:
			w.a.do(func(c *channel.Channel) { w.must(c.SetFeeRate(253 + r.Int64N(500))) })
		case k == 18:
			w.relink()
		default:
			e.restart()
			e.out = nil
			w.relink()
		}
		w.a.same()
		w.b.same()
		if w.a.broke+w.b.broke != "" {
			t.Errorf("broke: a %q, b %q", w.a.broke, w.b.broke)
			return
		}
	}
	w.relink()
	for range 4 {
		w.settle()
		for _, e := range ends {
			for id, h := range e.lockedIn {
				delete(e.lockedIn, id)
				e.do(func(c *channel.Channel) { c.Fulfill(id, names[h.Hash]) })
			}
		}
	}
	w.settle()
	if w.a.broke+w.b.broke != "" {
		t.Errorf("broke: a %q, b %q", w.a.broke, w.b.broke)
	}
	a, b := w.a.c.Value(), w.b.c.Value()
	if a.HTLCs+b.HTLCs != 0 || a.Local != b.Remote || a.Remote != b.Local {
		t.Errorf("in the end %+v and %+v", a, b)
	}
}
