package graph_test

import (
	"bytes"
	"errors"
	"testing"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// seconds is the time of the tests, as gossip writes it.
const seconds = uint32(now / step.Second)

// couple is two nodes and their funding keys, in BOLT 7's order.
type couple struct{ node, bitcoin [2]keys.Secret }

func newCouple(t testing.TB, a, b byte) couple {
	c := couple{[2]keys.Secret{secret(t, a), secret(t, b)}, [2]keys.Secret{secret(t, a+100), secret(t, b+100)}}
	x, y := c.node[0].Public(), c.node[1].Public()
	if bytes.Compare(x[:], y[:]) > 0 {
		c.node[0], c.node[1] = c.node[1], c.node[0]
		c.bitcoin[0], c.bitcoin[1] = c.bitcoin[1], c.bitcoin[0]
	}
	return c
}

func (c couple) announce(scid wire.SCID, edit ...func(*wire.ChannelAnnouncement)) *wire.ChannelAnnouncement {
	m := &wire.ChannelAnnouncement{
		ChainHash: chain, ShortChannelID: scid,
		NodeID1: c.node[0].Public(), NodeID2: c.node[1].Public(), BitcoinKey1: c.bitcoin[0].Public(), BitcoinKey2: c.bitcoin[1].Public(),
	}
	for _, e := range edit {
		e(m)
	}
	d := m.Digest()
	m.NodeSignature1, m.NodeSignature2 = c.node[0].Sign(d), c.node[1].Sign(d)
	m.BitcoinSignature1, m.BitcoinSignature2 = c.bitcoin[0].Sign(d), c.bitcoin[1].Sign(d)
	return m
}

func (c couple) update(scid wire.SCID, side uint8, timestamp uint32, edit ...func(*wire.ChannelUpdate)) *wire.ChannelUpdate {
	m := &wire.ChannelUpdate{
		ChainHash: chain, ShortChannelID: scid, Timestamp: timestamp, MessageFlags: wire.MustBeOne, ChannelFlags: side,
		CLTVExpiryDelta: 40, HTLCMinimumMsat: 1, FeeBaseMsat: 1000, FeeProportionalMillionths: 100, HTLCMaximumMsat: money.BTC,
	}
	for _, e := range edit {
		e(m)
	}
	m.Signature = c.node[side].Sign(m.Digest())
	return m
}

func (c couple) describe(side int, timestamp uint32, features wire.Features) *wire.NodeAnnouncement {
	m := &wire.NodeAnnouncement{NodeID: c.node[side].Public(), Timestamp: timestamp, Features: features, Extra: []byte{7}}
	m.Signature = c.node[side].Sign(m.Digest())
	return m
}

// must fails unless gossip is taken as fresh, or as stale.
func must(t *testing.T, want bool) func(fresh bool, err error) {
	return func(fresh bool, err error) {
		t.Helper()
		if err != nil || fresh != want {
			t.Errorf("fresh %v, %v; want fresh %v", fresh, err, want)
		}
	}
}

// refused fails unless gossip is refused for a reason; nil is any.
func refused(t *testing.T, want error) func(fresh bool, err error) {
	return func(fresh bool, err error) {
		t.Helper()
		if err == nil || fresh || want != nil && !errors.Is(err, want) {
			t.Errorf("fresh %v, %v; want an error, %v", fresh, err, want)
		}
	}
}

// A channel is announced, both sides say what they charge, a payment passes.
func TestAChannelBecomesKnown(t *testing.T) {
	g := graph.New(chain, graph.Limits{})
	c := newCouple(t, 1, 2)
	must(t, true)(g.Announce(c.announce(5), 0))
	must(t, false)(g.Announce(c.announce(5), 0))
	r := graph.Request{From: c.node[0].Public(), To: c.node[1].Public(), Amount: 1000, At: now}
	if _, err := g.Route(r, nil); !errors.Is(err, graph.ErrNoPath) {
		t.Errorf("a channel without a policy is used: %v", err)
	}
	must(t, true)(g.Update(c.update(5, 0, seconds), now))
	if _, err := g.Route(r, nil); err != nil {
		t.Error(err)
	}
	r.From, r.To = r.To, r.From
	if _, err := g.Route(r, nil); !errors.Is(err, graph.ErrNoPath) {
		t.Errorf("the policy of one side is used for the other: %v", err)
	}
	must(t, true)(g.Update(c.update(5, 1, seconds, func(m *wire.ChannelUpdate) { m.FeeBaseMsat = 7 }), now))
	if _, err := g.Route(r, nil); err != nil {
		t.Error(err)
	}
	k, _ := g.Channel(5)
	if k.Policies[0].FeeBase != 1000 || k.Policies[1].FeeBase != 7 || k.Policies[1].CLTVDelta != 40 || k.Policies[1].Max != money.BTC {
		t.Errorf("the channel is %+v", k)
	}
	must(t, true)(g.Announce(c.announce(5), 1_000_000)) // somebody has looked at the chain
	if k, _ = g.Channel(5); k.Capacity != 1_000_000 || k.Updated[0] != seconds {
		t.Errorf("the channel is %+v", k)
	}
	must(t, false)(g.Announce(c.announce(5), 1_000_000))
}

// Every byte that is signed is covered, and every signature is checked.
func TestForgeriesAreRefused(t *testing.T) {
	c, other := newCouple(t, 1, 2), secret(t, 3)
	for i, forge := range []func(m *wire.ChannelAnnouncement){
		func(m *wire.ChannelAnnouncement) { m.NodeSignature1 = other.Sign(m.Digest()) },
		func(m *wire.ChannelAnnouncement) { m.NodeSignature2 = other.Sign(m.Digest()) },
		func(m *wire.ChannelAnnouncement) { m.BitcoinSignature1 = other.Sign(m.Digest()) },
		func(m *wire.ChannelAnnouncement) { m.BitcoinSignature2 = other.Sign(m.Digest()) },
		func(m *wire.ChannelAnnouncement) { m.BitcoinSignature2 = keys.Signature{} },
		func(m *wire.ChannelAnnouncement) { m.ShortChannelID++ },
		func(m *wire.ChannelAnnouncement) { m.Features = "\x02" },
		func(m *wire.ChannelAnnouncement) { m.Extra = []byte{1} },
		func(m *wire.ChannelAnnouncement) { m.BitcoinKey1 = other.Public() },
		func(m *wire.ChannelAnnouncement) { m.NodeID1, m.NodeID2 = m.NodeID2, m.NodeID1 },
		func(m *wire.ChannelAnnouncement) { m.NodeID2 = m.NodeID1 },
		func(m *wire.ChannelAnnouncement) { m.NodeID1 = keys.Public{} },
	} {
		g := graph.New(chain, graph.Limits{})
		m := c.announce(5)
		forge(m)
		refused(t, graph.ErrForged)(g.Announce(m, 0))
		if g.Channels() != 0 || g.Nodes() != 0 {
			t.Errorf("forgery %d leaves something behind", i)
		}
	}

	g := graph.New(chain, graph.Limits{})
	must(t, true)(g.Announce(c.announce(5), 0))
	for _, forge := range []func(m *wire.ChannelUpdate){
		func(m *wire.ChannelUpdate) { m.Signature[5] ^= 1 },
		func(m *wire.ChannelUpdate) { m.FeeBaseMsat++ },
		func(m *wire.ChannelUpdate) { m.Extra = []byte{1} },
		func(m *wire.ChannelUpdate) { m.ChannelFlags ^= wire.Direction },
		func(m *wire.ChannelUpdate) { m.Signature = other.Sign(m.Digest()) },
	} {
		m := c.update(5, 0, seconds)
		forge(m)
		refused(t, graph.ErrForged)(g.Update(m, now))
	}
	if k, _ := g.Channel(5); k.Updated != [2]uint32{} {
		t.Error("a forged update is taken")
	}
	n := c.describe(0, seconds, "")
	n.Alias = wire.NewAlias("not mine")
	refused(t, graph.ErrForged)(g.Node(n))
	n = c.describe(0, seconds, "")
	n.NodeID = c.node[1].Public()
	refused(t, graph.ErrForged)(g.Node(n))
}

func TestAnotherChainsGossipIsRefused(t *testing.T) {
	g := graph.New(chain, graph.Limits{})
	c := newCouple(t, 1, 2)
	refused(t, nil)(g.Announce(c.announce(5, func(m *wire.ChannelAnnouncement) { m.ChainHash[31] = 1 }), 0))
	must(t, true)(g.Announce(c.announce(5), 0))
	refused(t, nil)(g.Update(c.update(5, 0, seconds, func(m *wire.ChannelUpdate) { m.ChainHash[31] = 1 }), now))
	refused(t, nil)(g.Announce(c.announce(6), -1))
	refused(t, graph.ErrUnknown)(g.Update(c.update(6, 0, seconds), now))
	refused(t, graph.ErrUnknown)(g.Node(newCouple(t, 3, 4).describe(0, seconds, "")))
}

// Time goes forward, and not far ahead.
func TestTimestamps(t *testing.T) {
	g := graph.New(chain, graph.Limits{})
	c := newCouple(t, 1, 2)
	must(t, true)(g.Announce(c.announce(5), 0))
	must(t, false)(g.Update(c.update(5, 0, 0), now))
	must(t, false)(g.Update(c.update(5, 0, seconds-graph.Stale-1), now))
	must(t, true)(g.Update(c.update(5, 0, seconds-graph.Stale), now))
	must(t, true)(g.Update(c.update(5, 0, seconds), now))
	must(t, false)(g.Update(c.update(5, 0, seconds), now))
	must(t, false)(g.Update(c.update(5, 0, seconds-1), now))
	must(t, true)(g.Update(c.update(5, 1, seconds-1), now)) // the other side has its own
	must(t, true)(g.Update(c.update(5, 0, seconds+graph.Ahead), now))
	refused(t, nil)(g.Update(c.update(5, 1, seconds+graph.Ahead+1), now))
	must(t, true)(g.Node(c.describe(0, 5, "")))
	must(t, false)(g.Node(c.describe(0, 5, "")))
	must(t, true)(g.Node(c.describe(0, 6, "")))
}

// A channel may change its mind ten times at once, then once an hour. Forged
// updates use nothing up.
func TestUpdatesAreRationed(t *testing.T) {
	g := graph.New(chain, graph.Limits{})
	c := newCouple(t, 1, 2)
	must(t, true)(g.Announce(c.announce(5), 0))
	at, stamp := now, seconds
	next := func(side uint8) *wire.ChannelUpdate {
		stamp++
		return c.update(5, side, stamp)
	}
	for range 3 * graph.UpdateBurst {
		m := next(0)
		m.Signature[9] ^= 1
		refused(t, graph.ErrForged)(g.Update(m, at))
	}
	for range graph.UpdateBurst {
		must(t, true)(g.Update(next(0), at))
	}
	refused(t, graph.ErrTooMany)(g.Update(next(0), at))
	must(t, true)(g.Update(next(1), at))
	at += graph.UpdateEvery * step.Second
	must(t, true)(g.Update(next(0), at))
	refused(t, graph.ErrTooMany)(g.Update(next(0), at))
	at += 1000 * step.Hour
	stamp = uint32(at / step.Second)
	for range graph.UpdateBurst {
		must(t, true)(g.Update(next(0), at))
	}
	refused(t, graph.ErrTooMany)(g.Update(next(0), at))
}

// Features that we do not know and that are required close a node or a channel
// for what passes through; a payee may require what it likes, its invoice tells.
func TestUnknownFeaturesCloseTheWay(t *testing.T) {
	strange := wire.NewFeatures(1000)
	odd := wire.NewFeatures(1001, 14, 17)
	build := func(channel wire.Features) (*graph.Graph, couple, couple, graph.Request) {
		g := graph.New(chain, graph.Limits{})
		ab, bc := newCouple(t, 1, 2), newCouple(t, 2, 3)
		must(t, true)(g.Announce(ab.announce(5, func(m *wire.ChannelAnnouncement) { m.Features = channel }), 0))
		must(t, true)(g.Announce(bc.announce(6), 0))
		for side := range uint8(2) {
			must(t, true)(g.Update(ab.update(5, side, seconds), now))
			must(t, true)(g.Update(bc.update(6, side, seconds), now))
		}
		return g, ab, bc, graph.Request{From: secret(t, 1).Public(), To: secret(t, 3).Public(), Amount: 1000, MaxFee: 2000}
	}
	side := func(c couple, n byte) int {
		if c.node[0].Public() == secret(t, n).Public() {
			return 0
		}
		return 1
	}
	g, ab, bc, r := build(odd)
	must(t, true)(g.Node(ab.describe(side(ab, 2), 1, odd)))
	must(t, true)(g.Node(bc.describe(side(bc, 3), 1, strange)))
	if _, err := g.Route(r, nil); err != nil {
		t.Error(err)
	}
	must(t, true)(g.Node(ab.describe(side(ab, 2), 2, strange)))
	if p, err := g.Route(r, nil); !errors.Is(err, graph.ErrNoPath) {
		t.Errorf("a payment passes a node that we do not understand: %v, %v", p, err)
	}
	g, _, _, r = build(strange)
	if p, err := g.Route(r, nil); !errors.Is(err, graph.ErrNoPath) {
		t.Errorf("a payment passes a channel that we do not understand: %v, %v", p, err)
	}
}

// An update that no HTLC can satisfy disables; another one enables again.
func TestDisabledAndBack(t *testing.T) {
	for _, edit := range []func(m *wire.ChannelUpdate){
		func(m *wire.ChannelUpdate) { m.ChannelFlags |= wire.Disable },
		func(m *wire.ChannelUpdate) { m.HTLCMaximumMsat, m.HTLCMinimumMsat = 0, 0 },
		func(m *wire.ChannelUpdate) { m.HTLCMaximumMsat, m.HTLCMinimumMsat = 5000, 5001 },
	} {
		g := graph.New(chain, graph.Limits{})
		c := newCouple(t, 1, 2)
		must(t, true)(g.Announce(c.announce(5), 0))
		must(t, true)(g.Update(c.update(5, 0, seconds, edit), now))
		if k, _ := g.Channel(5); !k.Policies[0].Disabled || !graph.PolicyOf(c.update(5, 0, 1, edit)).Disabled {
			t.Errorf("%+v is not disabled", k)
		}
		must(t, true)(g.Update(c.update(5, 0, seconds+1), now))
		if k, _ := g.Channel(5); k.Policies[0].Disabled {
			t.Errorf("%+v is disabled for good", k)
		}
	}
}

// A channel goes when it is spent, when a side is silent for two weeks, or when
// it never says what it charges. Its nodes go with their last channel.
func TestChannelsEnd(t *testing.T) {
	g := graph.New(chain, graph.Limits{})
	ab, bc := newCouple(t, 1, 2), newCouple(t, 2, 3)
	must(t, true)(g.Announce(ab.announce(5), 0))
	must(t, true)(g.Announce(bc.announce(6), 0))
	must(t, true)(g.Announce(bc.announce(7), 0))
	must(t, true)(g.Update(bc.update(6, 0, seconds), now))
	must(t, true)(g.Update(bc.update(6, 1, seconds+1000), now))
	if n := g.Prune(now + graph.Stale*step.Second); n != 0 {
		t.Errorf("%d channels are pruned at once", n)
	}
	must(t, true)(g.Update(bc.update(7, 1, seconds+100), now)) // 5 still says nothing
	if n := g.Prune(now + graph.Stale*step.Second); n != 1 || g.Nodes() != 2 {
		t.Errorf("%d channels are pruned, %d nodes left; want the silent one gone, and its first node", n, g.Nodes())
	}
	if n := g.Prune(now + (graph.Stale+1)*step.Second); n != 1 {
		t.Errorf("%d channels are pruned two weeks and a second after one side was heard", n)
	}
	if _, ok := g.Channel(7); !ok || g.Channels() != 1 {
		t.Error("the wrong channel is left")
	}
	if !g.Forget(7) || g.Forget(7) || g.Channels() != 0 || g.Nodes() != 0 {
		t.Errorf("%d channels and %d nodes are left", g.Channels(), g.Nodes())
	}
	must(t, true)(g.Announce(ab.announce(5), 0)) // and may come again
}

// Two announcements of one output: the one the chain proves is right.
func TestWhoeverProvesAnOutputHasIt(t *testing.T) {
	g := graph.New(chain, graph.Limits{})
	ab, cd := newCouple(t, 1, 2), newCouple(t, 3, 4)
	must(t, true)(g.Announce(ab.announce(5), 0))
	refused(t, nil)(g.Announce(cd.announce(5), 0))
	must(t, true)(g.Announce(cd.announce(5), 1000))
	refused(t, nil)(g.Announce(ab.announce(5), 1000))
	if k, _ := g.Channel(5); k.Nodes[0] != cd.node[0].Public() || g.Nodes() != 2 {
		t.Errorf("the channel is %+v", k)
	}
}

// A full graph refuses what nobody has proven, and gives it up for what is.
func TestProofMakesRoom(t *testing.T) {
	for _, limits := range []graph.Limits{{MaxChannels: 2}, {MaxNodes: 4}, {MaxBytes: 1200}} {
		g := graph.New(chain, limits)
		must(t, true)(g.Announce(newCouple(t, 1, 2).announce(1), 0))
		must(t, true)(g.Announce(newCouple(t, 3, 4).announce(2), 0))
		refused(t, graph.ErrFull)(g.Announce(newCouple(t, 5, 6).announce(3), 0))
		must(t, true)(g.Announce(newCouple(t, 1, 2).announce(1), 1000)) // proven late
		must(t, true)(g.Announce(newCouple(t, 5, 6).announce(3), 1000))
		refused(t, graph.ErrFull)(g.Announce(newCouple(t, 7, 8).announce(4), 1000))
		if !g.Forget(1) || g.Forget(2) {
			t.Error("the proven channel was given up, not the unproven one")
		}
		must(t, true)(g.Announce(newCouple(t, 7, 8).announce(4), 1000))
		refused(t, graph.ErrFull)(g.Announce(newCouple(t, 9, 10).announce(5), 1000))
		if _, ok := g.Channel(3); !ok || g.Channels() != 2 || g.Nodes() != 4 {
			t.Errorf("%+v: %d channels and %d nodes", limits, g.Channels(), g.Nodes())
		}
		for i := range 4 { // no slot is lost
			if !g.Forget(wire.SCID(3 + i)) {
				t.Fatalf("channel %d is not there", 3+i)
			}
			must(t, true)(g.Announce(newCouple(t, byte(11+2*i), byte(12+2*i)).announce(wire.SCID(5+i)), 1000))
		}
	}
}

// Whatever a peer sends, in whatever order: nothing panics, and the graph stays
// one that can be written and read.
func FuzzGossip(f *testing.F) {
	c := newCouple(f, 1, 2)
	var all []byte
	for _, m := range []wire.Message{c.announce(5), c.update(5, 0, seconds), c.update(5, 1, seconds), c.describe(0, seconds, "\x40"), c.announce(6)} {
		raw := m.Append(nil)
		all = append(append(all, byte(len(raw)>>8), byte(len(raw))), raw...)
		f.Add(append([]byte{byte(len(raw) >> 8), byte(len(raw))}, raw...))
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, raw []byte) {
		g := graph.New(chain, graph.Limits{MaxChannels: 3})
		for len(raw) > 2 {
			n := min(int(raw[0])<<8|int(raw[1]), len(raw)-2)
			m, _ := wire.Decode(raw[2 : 2+n])
			raw = raw[2+n:]
			switch m := m.(type) {
			case *wire.ChannelAnnouncement:
				g.Announce(m, int64(n%3))
			case *wire.ChannelUpdate:
				g.Update(m, now)
			case *wire.NodeAnnouncement:
				g.Node(m)
			}
		}
		for _, to := range []keys.Public{c.node[1].Public(), name(1)} {
			g.Route(graph.Request{From: c.node[0].Public(), To: to, Amount: 1000, MaxFee: money.BTC}, nil)
		}
		g.Prune(now)
		r := codec.NewReader(g.Append(nil))
		again := graph.Read(r, chain, graph.Limits{})
		if err := r.Close(); err != nil || again.Channels() != g.Channels() {
			t.Errorf("the graph is not read as it was written: %v", err)
		}
	})
}
