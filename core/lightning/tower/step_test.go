package tower_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/lightning/tower"
	"coinop.dev/core/step"
)

// pair is a client and its tower, with a network between them that encodes
// every message and may lose, repeat and reorder them.
type pair struct {
	t           *testing.T
	random      *rand.Rand
	loss        float64
	now         step.Time
	link        uint64
	client      *tower.Client
	server      *tower.Server
	clientDisk  disk
	serverDisk  disk
	toClient    []tower.Message
	toServer    []tower.Message
	alarm       step.Time
	outcomes    []step.Outcome // of the client
	found       []step.Outcome // of the tower
	published   []*wire.MsgTx
	watched     []watch.Output
	serverPeer  string
	clientPeer  string
	offer       tower.Offer
	options     tower.Options
	serverSteps int
}

func newPair(t *testing.T, seed uint64) *pair {
	node := secret(t, "tower")
	p := &pair{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), clientDisk: disk{}, serverDisk: disk{},
		serverPeer: node.Public().PeerName(), clientPeer: secret(t, "client").Public().PeerName(),
		offer:   tower.Offer{Reward: terms.Reward, MaxBlobs: 1000, Capacity: 3000, MinRate: 2000},
		options: tower.Options{Tower: node.Public(), Rates: rates, Blobs: 2000, MaxBase: 1000, MaxPPM: 10_000, Payout: payout},
	}
	p.boot()
	return p
}

func (p *pair) boot() {
	p.t.Helper()
	var err error
	if p.client, err = tower.LoadClient(p.clientDisk, p.options, secret(p.t, "client")); err != nil {
		p.t.Fatal(err)
	}
	if p.server, err = tower.LoadServer(p.serverDisk, p.offer); err != nil {
		p.t.Fatal(err)
	}
	p.toClient, p.toServer, p.alarm = nil, nil, 0
	p.stepClient(step.Rang{ID: step.Start})
	p.stepServer(step.Rang{ID: step.Start})
	p.relink()
}

func (p *pair) relink() {
	p.link++
	p.stepClient(step.Unlinked{Peer: p.serverPeer, Link: p.link - 1}, step.Linked{Peer: p.serverPeer, Link: p.link})
	p.stepServer(step.Linked{Peer: p.clientPeer, Link: p.link})
}

func (p *pair) stepClient(events ...any) {
	p.t.Helper()
	fx := p.client.Step(step.Input{At: p.now, Events: events})
	p.clientDisk.put(fx.Put)
	p.clientDisk.is(p.t, p.client.Durable())
	for _, s := range fx.Send {
		if s.To != p.serverPeer {
			p.t.Fatalf("the client sends %T to %s", s.Msg, s.To)
		}
		p.toServer = append(p.toServer, p.carried(s.Msg))
	}
	for _, a := range fx.Wake {
		p.alarm = a.At
	}
	p.outcomes = append(p.outcomes, fx.Done...)
}

func (p *pair) stepServer(events ...any) {
	p.t.Helper()
	fx := p.server.Step(step.Input{At: p.now, Events: events})
	p.serverDisk.put(fx.Put)
	if p.serverSteps++; p.serverSteps%7 == 0 {
		p.serverDisk.is(p.t, p.server.Durable())
	}
	for _, s := range fx.Send {
		switch msg := s.Msg.(type) {
		case watch.Publish:
			p.published = append(p.published, msg.Tx)
		case watch.Output:
			p.watched = append(p.watched, msg)
		default:
			if s.To == p.clientPeer {
				p.toClient = append(p.toClient, p.carried(s.Msg))
			}
		}
	}
	p.found = append(p.found, fx.Done...)
}

// carried is a message after it was bytes.
func (p *pair) carried(msg any) tower.Message {
	p.t.Helper()
	raw := msg.(tower.Message).Append(nil)
	if len(raw) > 65535 {
		p.t.Fatalf("%T is %d bytes", msg, len(raw))
	}
	m, err := tower.Decode(raw)
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// take is what arrives of a queue.
func (p *pair) take(queue *[]tower.Message, from string) (events []any) {
	all := *queue
	*queue = nil
	for _, m := range all {
		if p.random.Float64() < p.loss {
			continue
		}
		events = append(events, step.Recv{From: from, Msg: m})
		if p.random.Float64() < p.loss {
			events = append(events, step.Recv{From: from, Msg: m})
		}
	}
	if p.loss > 0 {
		p.random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	}
	return events
}

// run carries messages until all is quiet.
func (p *pair) run() {
	p.t.Helper()
	for range 10_000 {
		if events := p.take(&p.toServer, p.clientPeer); events != nil {
			p.stepServer(events...)
		}
		if events := p.take(&p.toClient, p.serverPeer); events != nil {
			p.stepClient(events...)
		}
		if len(p.toClient)+len(p.toServer) > 0 {
			continue
		}
		if p.alarm == 0 {
			return
		}
		p.now, p.alarm = max(p.now, p.alarm), 0
		p.stepClient(step.Rang{ID: "again"})
	}
	p.t.Fatal("client and tower do not come to rest")
}

// last is the last outcome of the client of a kind.
func last[T any](p *pair) (found T, ok bool) {
	for _, o := range slices.Backward(p.outcomes) {
		if v, ok := o.Value.(T); ok {
			return v, true
		}
	}
	return found, false
}

func (p *pair) failure(want error) bool {
	return slices.ContainsFunc(p.outcomes, func(o step.Outcome) bool { return errors.Is(o.Err, want) })
}

// A channel is guarded, cheated on while its owner is away, and made good by
// the tower: the whole story, over a network that loses a third, with crashes.
func TestTheTowerServes(t *testing.T) {
	for seed := range uint64(6) {
		for _, typ := range types {
			p := newPair(t, seed)
			p.loss = float64(seed%3) / 6
			l := open(t, typ)
			p.stepClient(tower.Cover{Channel: l.id})
			p.run()
			if v, ok := last[tower.Covered](p); !ok || v.Terms.Blobs != 1000 || v.Terms.Reward.Base != 1000 {
				t.Fatalf("covered %v, %v; %v", v, ok, p.outcomes)
			}
			const states = 40
			for n := range uint64(states) {
				p.stepClient(step.Recv{From: "lightning", Msg: l.guard(l.state(n, int(n%4)))})
				switch n {
				case 10, 30:
					p.boot() // both crash
				case 20:
					p.run()
				}
			}
			if p.client.AtRisk(l.id) == 0 {
				t.Error("nothing waits for the tower's word")
			}
			p.run()
			if v, _ := last[tower.Guarded](p); v.Number != states-1 || p.client.AtRisk(l.id) != 0 {
				t.Fatalf("guarded up to %d, %d at risk", v.Number, p.client.AtRisk(l.id))
			}
			p.boot()

			p.stepServer(tower.Block{Height: 99, Txs: []*wire.MsgTx{l.breach(l.state(states, 0)), wire.NewMsgTx(2)}})
			if len(p.published)+len(p.found) != 0 {
				t.Fatal("the latest commitment was punished")
			}
			breach := l.breach(l.state(17, 1))
			p.stepServer(tower.Block{Height: 100, Txs: []*wire.MsgTx{wire.NewMsgTx(2), breach}})
			if v, ok := p.found[0].Value.(tower.Breached); !ok || v.ID != breach.TxHash() || v.Height != 100 || !v.Followed || v.Penalties != len(p.published) {
				t.Errorf("found %+v", p.found)
			}
			spent, paid := punished(t, breach, p.published, rates[0])
			if len(spent) != 3 || paid[string(towerScript)] == 0 {
				t.Errorf("took %v, paid %v", spent, paid)
			}
			p.follow(breach)
		}
	}
}

// follow is what becomes of a breach: penalties that do not confirm, a higher
// fee, a crash, confirmation, a reorganisation, and in the end rest.
func (p *pair) follow(breach *wire.MsgTx) {
	p.t.Helper()
	id := breach.TxHash()
	points := slices.Clone(p.watched)
	if len(points) != 3 {
		p.t.Fatalf("watches %v", points)
	}
	tell := func(tip int32, spender *wire.MsgTx, depth int32) {
		for _, o := range points {
			p.stepServer(step.Recv{From: watch.Chain, Msg: watch.Status{Point: o.Point, Tip: tip, Depth: tip - 99, Value: breach.TxOut[o.Point.Index].Value, Spender: spender, SpendDepth: depth}})
		}
	}
	published := func() []*wire.MsgTx {
		all := p.published
		p.published = nil
		return all
	}
	published()
	tell(100, nil, 0)
	if len(published()) != 0 {
		p.t.Error("published again at the same tip")
	}
	tell(101, nil, 0)
	punished(p.t, breach, published(), rates[0])
	tell(100+tower.UrgentAfter, nil, 0)
	punished(p.t, breach, published()[:1], rates[1])

	// A crash forgets nothing.
	p.watched, p.published = nil, nil
	p.serverDisk.is(p.t, p.server.Durable())
	p.boot()
	if len(p.watched) != 3 || len(published()) == 0 {
		p.t.Errorf("after a crash it watches %v", p.watched)
	}
	tell(110, breach, 1) // spent by something
	published()
	tell(111, breach, 2)
	if len(published()) != 0 {
		p.t.Error("publishes what is spent")
	}
	tell(111, nil, 0) // that block was undone
	tell(112, nil, 0)
	if len(published()) == 0 {
		p.t.Error("does not publish what is unspent again")
	}
	p.found = nil
	tell(300, breach, tower.Buried)
	if len(p.found) != 1 || p.found[0].Value != (tower.Served{ID: id}) {
		p.t.Errorf("in the end: %v", p.found)
	}
	for key := range p.serverDisk {
		if key == "ln/tower/j/"+id.String() {
			p.t.Error("the case is still on disk")
		}
	}
}

// A cheater gives its victim's tower blobs with the hints of its own
// commitments, before the victim can. The tower tries them all.
func TestJunkWithTheSameHint(t *testing.T) {
	p := newPair(t, 1)
	l := open(t, commit.Anchors)
	s := l.state(3, 3)
	j, id := l.justice(terms, s)
	junk := j.Seal(id)
	junk[0].Sealed[50] ^= 1
	forged := *j // opens, but is not signed by who could
	forged.Payout = towerScript
	ask := tower.Ask{ID: tower.SessionID{1}, Rates: rates, Blobs: 100}
	p.stepServer(step.Recv{From: "peer/cheater", Msg: ask}, step.Recv{From: "peer/cheater", Msg: tower.Put{ID: ask.ID, Blobs: append(junk, forged.Seal(id)...)}})
	p.stepClient(tower.Cover{Channel: l.id})
	p.run()
	p.stepClient(l.guard(s))
	p.run()
	late := ask
	late.ID[0]++
	p.stepServer(step.Recv{From: "peer/cheater", Msg: late}, step.Recv{From: "peer/cheater", Msg: tower.Put{ID: late.ID, Blobs: append(forged.Seal(id), junk...)}})

	breach := l.breach(s)
	p.stepServer(tower.Block{Height: 7, Txs: []*wire.MsgTx{breach}})
	_, paid := punished(t, breach, p.published, rates[0])
	k := l.build(s)
	if won := k.Tx.TxOut[k.ToLocal].Value; paid[string(payout)] < won*9/10 {
		t.Errorf("of %d sat the victim gets %d", won, paid[string(payout)])
	}
	// The cheater leaves; the victim's blobs stay found.
	p.stepServer(step.Recv{From: "peer/cheater", Msg: tower.Delete{ID: ask.ID}}, step.Recv{From: "peer/cheater", Msg: tower.Delete{ID: late.ID}})
	p.serverDisk.is(t, p.server.Durable())
	if p.server.Sessions() != 1 || p.server.Blobs() != 3 {
		t.Errorf("%d blobs in %d sessions", p.server.Blobs(), p.server.Sessions())
	}
	p.published = nil
	p.boot()
	if len(p.published) == 0 {
		t.Error("the case is gone")
	}
}

func TestForget(t *testing.T) {
	p := newPair(t, 2)
	p.loss = 0.3
	var lives []*life
	for n := range 3 {
		l := openNamed(t, commit.Anchors, fmt.Sprint(n))
		lives = append(lives, l)
		p.stepClient(tower.Cover{Channel: l.id}, tower.Cover{Channel: l.id})
	}
	p.run()
	for _, l := range lives {
		p.stepClient(l.guard(l.state(1, 2)))
	}
	p.run()
	p.stepClient(lives[1].guard(lives[1].state(2, 0)), tower.Forget{Channel: lives[1].id}, tower.Forget{Channel: lives[1].id})
	p.run()
	if v, ok := last[tower.Forgotten](p); !ok || v.Channel != lives[1].id {
		t.Errorf("outcomes are %v", p.outcomes)
	}
	if p.server.Sessions() != 2 || p.server.Blobs() != 4 {
		t.Errorf("%d blobs in %d sessions", p.server.Blobs(), p.server.Sessions())
	}
	p.serverDisk.is(t, p.server.Durable())
	p.boot()
	p.stepServer(tower.Block{Height: 7, Txs: []*wire.MsgTx{lives[1].breach(lives[1].state(1, 2))}})
	if p.server.Height() != 7 {
		t.Errorf("height is %d", p.server.Height())
	}
	if len(p.published) != 0 {
		t.Error("a forgotten channel is guarded")
	}
	p.stepServer(tower.Block{Height: 7, Txs: []*wire.MsgTx{lives[2].breach(lives[2].state(1, 2))}})
	if len(p.published) == 0 {
		t.Error("a channel beside it is not")
	}
	// The channel may come back.
	p.stepClient(tower.Cover{Channel: lives[1].id})
	p.run()
	if p.server.Sessions() != 3 {
		t.Errorf("%d sessions", p.server.Sessions())
	}
}

func TestRefusals(t *testing.T) {
	t.Run("no session", func(t *testing.T) {
		p := newPair(t, 1)
		l := open(t, commit.Anchors)
		p.stepClient(l.guard(l.state(1, 0)))
		if !p.failure(tower.ErrNoSession) {
			t.Errorf("%v", p.outcomes)
		}
	})
	t.Run("dear", func(t *testing.T) {
		p := newPair(t, 1)
		p.options.MaxPPM = 9_999
		p.boot()
		p.stepClient(tower.Cover{Channel: tower.ChannelID{1}})
		p.run()
		if !p.failure(tower.ErrDear) || p.server.Sessions() != 0 || len(p.clientDisk) != 0 {
			t.Errorf("%v, %d sessions", p.outcomes, p.server.Sessions())
		}
	})
	t.Run("rate", func(t *testing.T) {
		p := newPair(t, 1)
		p.options.Rates = [2]tx.FeeRate{1999}
		p.boot()
		p.stepClient(tower.Cover{Channel: tower.ChannelID{1}})
		p.run()
		if !p.failure(tower.ErrNoSession) || len(p.clientDisk) != 0 {
			t.Errorf("%v", p.outcomes)
		}
	})
	t.Run("no room", func(t *testing.T) {
		p := newPair(t, 1)
		for n := range byte(4) {
			p.stepClient(tower.Cover{Channel: tower.ChannelID{n}})
		}
		p.run()
		if !p.failure(tower.ErrNoSession) || p.server.Sessions() != 3 {
			t.Errorf("%v", p.outcomes)
		}
	})
	t.Run("too large", func(t *testing.T) {
		p := newPair(t, 1)
		p.options.Blobs = 4
		p.boot()
		l := open(t, commit.Anchors)
		p.stepClient(tower.Cover{Channel: l.id})
		p.run()
		p.stepClient(l.guard(l.state(1, 20)))
		p.run()
		if !p.failure(tower.ErrFull) || p.client.AtRisk(l.id) != 0 || p.server.Sessions() != 1 {
			t.Errorf("%v", p.outcomes)
		}
	})
	t.Run("lost", func(t *testing.T) {
		p := newPair(t, 1)
		l := open(t, commit.Anchors)
		p.stepClient(tower.Cover{Channel: l.id})
		p.run()
		p.serverDisk = disk{}
		p.boot()
		p.stepClient(l.guard(l.state(1, 0)))
		p.run()
		if !p.failure(tower.ErrLost) || len(p.clientDisk) != 0 {
			t.Errorf("%v", p.outcomes)
		}
	})
	t.Run("client lost its disk", func(t *testing.T) {
		p := newPair(t, 1)
		l := open(t, commit.Anchors)
		p.stepClient(tower.Cover{Channel: l.id})
		p.run()
		p.stepClient(l.guard(l.state(1, 0)))
		p.run()
		p.clientDisk = disk{}
		p.boot()
		p.stepClient(tower.Cover{Channel: l.id})
		p.run()
		p.stepClient(l.guard(l.state(2, 0)))
		p.run()
		if p.server.Blobs() != 2 {
			t.Errorf("the tower has %d blobs", p.server.Blobs())
		}
	})
	t.Run("strangers", func(t *testing.T) {
		p := newPair(t, 1)
		l := open(t, commit.Anchors)
		p.stepClient(tower.Cover{Channel: l.id})
		p.run()
		p.stepClient(l.guard(l.state(1, 0)))
		put := p.toServer[len(p.toServer)-1].(tower.Put)
		p.stepClient(step.Recv{From: "peer/other", Msg: tower.Ack{ID: put.ID, Taken: 1}}, step.Recv{From: "peer/other", Msg: tower.Reject{ID: put.ID}})
		if p.client.AtRisk(l.id) != 1 {
			t.Error("another peer's word counts")
		}
		p.stepClient(step.Recv{From: p.serverPeer, Msg: tower.Ack{ID: put.ID, Taken: 1000}})
		if p.client.AtRisk(l.id) != 0 {
			t.Error("what the tower claims beyond is no reason to wait")
		}
		p.stepServer(step.Recv{From: "peer/other", Msg: tower.Delete{ID: put.ID}})
		if p.server.Sessions() != 1 {
			t.Error("another peer deletes a session")
		}
	})
}

// A block costs a tower next to nothing: almost no transaction looks like a
// commitment.
func BenchmarkBlock(b *testing.B) {
	server, err := tower.NewServer(tower.Offer{MaxBlobs: 1000, Capacity: 10_000})
	if err != nil {
		b.Fatal(err)
	}
	ask := tower.Ask{Rates: rates, Blobs: 100}
	server.Step(step.Input{Events: []any{step.Recv{From: "peer/a", Msg: ask}, step.Recv{From: "peer/a", Msg: tower.Put{Blobs: make([]tower.Blob, 100)}}}})
	l := open(b, commit.Anchors)
	block := tower.Block{Txs: slices.Repeat([]*wire.MsgTx{wire.NewMsgTx(2)}, 4000)}
	for i := range block.Txs {
		block.Txs[i].TxIn = l.build(l.state(1, 0)).Tx.TxIn
		if i < 200 {
			block.Txs[i] = l.build(l.state(1, 0)).Tx
		}
	}
	for b.Loop() {
		server.Step(step.Input{Events: []any{block}})
	}
}
