package claim_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/claim"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

func secretOf(name string) keys.Secret {
	seed := sha256.Sum256([]byte(name))
	s, err := keys.SecretFromBytes(seed[:])
	if err != nil {
		panic(err)
	}
	return s
}

func preimageOf(name string) [32]byte { return sha256.Sum256([]byte("preimage of " + name)) }

// game is a channel of Alice, who is us, and Bob, who does what the test wants.
type game struct {
	*chain
	channel, bobs commit.Channel // the two views
	alice, bob    commit.Secrets
	wallet        keys.Secret
	k             claim.Case
	c             *claim.Claim
	disk          disk
	watched       map[wire.OutPoint]bool
	asked         map[wire.OutPoint]claim.Bump
	lent          map[wire.OutPoint]tx.Coin
	released      []tx.Coin
	poor          bool // the wallet has nothing
	cheats        bool // Bob's commitment is revoked
	resolved      map[string]claim.Resolved
	twins         map[int]bool // fates by index, when names do not tell
	revoked       []claim.Revoked
	finished      *claim.Finished
	bobsTx        map[*wire.MsgTx]bool
	states        map[uint64]commit.State // Bob's commitments by number, as Alice sees them
	now           step.Time
}

const (
	start    = 1000
	capacity = 10_000_000
	depth    = 6
)

// htlcs are what hangs in the latest commitments, by name.
var htlcs = map[string]commit.HTLC{
	"out":      {Ours: true, Amount: 500_000_000, Hash: hashOf("out"), Expiry: 1100},
	"in":       {Ours: false, Amount: 400_000_000, Hash: hashOf("in"), Expiry: 1090},
	"dust":     {Ours: true, Amount: 100_000, Hash: hashOf("dust"), Expiry: 1080},
	"stranger": {Ours: false, Amount: 300_000_000, Hash: hashOf("stranger"), Expiry: 1120},
}

func hashOf(name string) [32]byte { p := preimageOf(name); return sha256.Sum256(p[:]) }

// stateOf shares what the named HTLCs leave.
func stateOf(n uint64, alice int64, names ...string) commit.State {
	s := commit.State{Number: n, FeeRate: 500, Local: money.Amount(alice) * money.Sat, Remote: capacity * money.Sat}
	s.Remote -= s.Local
	for _, name := range names {
		h := htlcs[name]
		s.HTLCs = append(s.HTLCs, h)
		if h.Ours {
			s.Local -= h.Amount
		} else {
			s.Remote -= h.Amount
		}
	}
	return s
}

// current is the number of Bob's commitment that he has not revoked.
const current = 5

func newGame(t testing.TB, typ commit.Type) *game {
	g := &game{
		chain: newChain(t, start), alice: commit.NewSecrets(secretOf("alice")), bob: commit.NewSecrets(secretOf("bob")),
		wallet: secretOf("wallet"), bobsTx: map[*wire.MsgTx]bool{}, states: map[uint64]commit.State{},
		asked: map[wire.OutPoint]claim.Bump{}, lent: map[wire.OutPoint]tx.Coin{}, resolved: map[string]claim.Resolved{},
	}
	g.channel = commit.Channel{
		Type: typ, Capacity: capacity, Opener: commit.Local,
		Local:  commit.Party{Basepoints: g.alice.Basepoints(), Dust: 354, Delay: 20},
		Remote: commit.Party{Basepoints: g.bob.Basepoints(), Dust: 546, Delay: 30},
	}
	g.channel.Funding = g.gift("funding", g.channel.FundingOutput())
	g.bobs = g.channel
	g.bobs.Local, g.bobs.Remote, g.bobs.Opener = g.channel.Remote, g.channel.Local, commit.Remote
	local := stateOf(7, 6_000_000, "out", "in", "dust", "stranger")
	g.states[3] = stateOf(3, 2_000_000, "out", "in")
	g.states[current] = stateOf(current, 6_000_000, "out", "in", "dust", "stranger")
	g.states[current+1] = stateOf(current+1, 6_000_000, "out", "in", "dust")
	k, err := g.bobs.Build(commit.Remote, g.alice.Point(local.Number), mirror(local))
	if err != nil {
		t.Fatal(err)
	}
	sig, second := k.Sign(g.bob)
	next := g.states[current+1]
	g.k = claim.Case{
		Channel: g.channel, Local: local, LocalSig: sig, LocalHTLCSigs: second,
		Remote: g.states[current], RemotePoint: g.bob.Point(current), Next: &next, NextPoint: g.bob.Point(current + 1),
		Payout: tx.P2WPKH(g.wallet.Public()), FeeRate: 2_000, Depth: depth, Height: start,
	}
	for n := range uint64(current) {
		if err := g.k.Revealed.Add(n, g.bob.PerCommitment(n)); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range g.states[3].HTLCs {
		g.k.Traces = append(g.k.Traces, claim.Trace{HTLC: h, First: 2, Last: 4})
	}
	return g
}

// begin opens the case.
func (g *game) begin() {
	g.Helper()
	c, err := claim.New(g.k, g.alice, g.wallet)
	if err != nil {
		g.Fatal(err)
	}
	g.c, g.disk, g.watched = c, disk{}, map[wire.OutPoint]bool{}
	g.do(step.Rang{ID: step.Start})
}

// restart loads the claim from disk, as after a crash.
func (g *game) restart() {
	g.Helper()
	c, err := claim.Load(g.disk, g.k.ID(), g.alice, g.wallet)
	if err != nil {
		g.Fatal(err)
	}
	g.c, g.watched = c, map[wire.OutPoint]bool{}
	g.do(step.Rang{ID: step.Start})
}

// do steps the claim and carries out what it wants until it is quiet.
func (g *game) do(events ...any) {
	g.Helper()
	for len(events) > 0 {
		fx := g.c.Step(step.Input{At: g.now, Events: events})
		events = nil
		for _, r := range fx.Put {
			g.disk[r.Key] = bytes.Clone(r.Value)
		}
		if len(fx.Put) > 0 {
			g.sameOnDisk()
		}
		for _, p := range fx.Send {
			events = append(events, g.send(p)...)
		}
		for _, o := range fx.Done {
			g.outcome(o)
		}
	}
}

func (g *game) sameOnDisk() {
	g.Helper()
	c, err := claim.Load(g.disk, g.k.ID(), g.alice, g.wallet)
	if err != nil {
		g.Fatal(err)
	}
	mine, read := g.c.Durable(), c.Durable()
	if len(mine) != len(read) || len(mine) != len(g.disk) {
		g.Fatalf("%d records in memory, %d read, %d on disk", len(mine), len(read), len(g.disk))
	}
	for i, r := range mine {
		if r.Key != read[i].Key || !bytes.Equal(r.Value, read[i].Value) || !bytes.Equal(r.Value, g.disk[r.Key]) {
			g.Fatalf("record %s differs", r.Key)
		}
	}
}

func (g *game) send(p step.Packet) []any {
	switch msg := p.Msg.(type) {
	case watch.Output:
		g.watched[msg.Point] = true
		return []any{step.Recv{From: watch.Chain, Msg: g.status(msg.Point)}}
	case watch.Publish:
		g.broadcast(msg.Tx)
	case claim.Bump:
		g.asked[msg.For] = msg
		if g.poor {
			return nil
		}
		coin, ok := g.lent[msg.For]
		if !ok {
			coin.Value = msg.Sats
			coin.Point = g.gift(fmt.Sprint("coin", len(g.lent)), wire.NewTxOut(coin.Value, tx.P2WPKH(g.wallet.Public())))
			g.lent[msg.For] = coin
		}
		return []any{step.Recv{From: claim.Wallet, Msg: claim.Funds{For: msg.For, Coin: coin}}}
	case claim.Release:
		g.released = append(g.released, msg.Coin)
	default:
		g.Fatalf("a packet %T", msg)
	}
	return nil
}

func (g *game) outcome(o step.Outcome) {
	g.Helper()
	switch v := o.Value.(type) {
	case claim.Resolved:
		if g.twins != nil {
			g.twins[v.Index] = v.Preimage != nil
			return
		}
		for name, h := range htlcs {
			if h.Hash != v.Hash {
				continue
			}
			if _, twice := g.resolved[name]; twice {
				g.Errorf("HTLC %q is resolved twice", name)
			}
			g.resolved[name] = v
		}
	case claim.Revoked:
		g.revoked = append(g.revoked, v)
	case claim.Finished:
		if g.finished != nil {
			g.Error("it is finished twice")
		}
		g.finished = &v
		g.allDeep(g.channel.Funding)
	}
}

// allDeep asserts that whatever spends the channel's money is buried.
func (g *game) allDeep(p wire.OutPoint) {
	g.Helper()
	by, ok := g.spends[p]
	if !ok {
		return
	}
	if d := g.tip() - by.height + 1; d < depth {
		g.Errorf("it is finished at %d, when a spend is %d blocks deep", g.tip(), d)
	}
	for i := range by.by.TxOut {
		g.allDeep(wire.OutPoint{Hash: by.by.TxHash(), Index: uint32(i)})
	}
}

// block mines and tells the claim.
func (g *game) block(must ...*wire.MsgTx) {
	g.Helper()
	g.mine(must...)
	g.tell()
}

func (g *game) tell() {
	g.Helper()
	var events []any
	for p := range g.watched {
		events = append(events, step.Recv{From: watch.Chain, Msg: g.status(p)})
	}
	g.do(events...)
}

// until mines to a height.
func (g *game) until(height int32) {
	g.Helper()
	for g.tip() < height {
		g.block()
	}
}

func (g *game) knows(name string) {
	g.Helper()
	g.do(step.Recv{From: "node", Msg: claim.Preimage{Preimage: preimageOf(name)}})
}

func mirror(s commit.State) commit.State {
	s.Local, s.Remote = s.Remote, s.Local
	all := s.HTLCs
	s.HTLCs = nil
	for _, h := range all {
		h.Ours = !h.Ours
		s.HTLCs = append(s.HTLCs, h)
	}
	return s
}

// bobs is a commitment of Bob's with what he needs to go on from it.
type bobs struct {
	*game
	*commit.Commitment
	tx     *wire.MsgTx
	second []keys.Signature // Alice's, for its HTLCs
	state  commit.State
}

func (g *game) bobsCommitment(n uint64) *bobs {
	g.Helper()
	s := g.states[n]
	k, err := g.channel.Build(commit.Remote, g.bob.Point(n), s)
	if err != nil {
		g.Fatal(err)
	}
	sig, second := k.Sign(g.alice)
	own, err := g.bobs.Build(commit.Local, g.bob.Point(n), mirror(s))
	if err != nil {
		g.Fatal(err)
	}
	g.cheats = n < current
	b := &bobs{g, own, own.Signed(g.bob, sig), second, s}
	g.bobsTx[b.tx] = true
	return b
}

// output is where an HTLC hangs in Bob's commitment.
func (b *bobs) output(name string) (int, *commit.HTLCOutput) {
	b.Helper()
	for i := range b.Outputs {
		if o := &b.Outputs[i]; o.Hash == hashOf(name) {
			return i, o
		}
	}
	b.Fatalf("no output for %q", name)
	return 0, nil
}

// stage is the second stage of an HTLC in Bob's commitment.
func (b *bobs) stage(name string) *wire.MsgTx {
	b.Helper()
	i, o := b.output(name)
	t := b.HTLCTx(i)
	preimage := preimageOf(name)
	rest := preimage[:]
	if o.Offered {
		rest = nil
	}
	mine := commit.DeriveSecret(b.bob.HTLC, b.Point).Sign(tx.Sighash(t, 0, o.Script, o.Value))
	t.TxIn[0].Witness = wire.TxWitness{nil, append(b.second[i].DER(), byte(b.channel.Type.HTLCSigHash())), tx.WitnessSig(mine), rest, o.Script}
	b.bobsTx[t] = true
	return t
}

// bobTakes is Bob's spend of an HTLC in Alice's commitment: with the preimage if
// she offered it, else after it expired.
func (g *game) bobTakes(name string) *wire.MsgTx {
	g.Helper()
	k, err := g.channel.Build(commit.Local, g.alice.Point(g.k.Local.Number), g.k.Local)
	if err != nil {
		g.Fatal(err)
	}
	for i := range k.Outputs {
		o := &k.Outputs[i]
		if o.Hash != hashOf(name) {
			continue
		}
		t := wire.NewMsgTx(2)
		t.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: k.ID, Index: o.Vout}, Sequence: g.channel.Type.HTLCSequence()})
		t.AddTxOut(wire.NewTxOut(o.Value-1_000, tx.P2WPKH(g.bob.Payment.Public())))
		preimage := preimageOf(name)
		rest := preimage[:]
		if !o.Offered {
			rest, t.LockTime = nil, o.Expiry
		}
		sig := commit.DeriveSecret(g.bob.HTLC, k.Point).Sign(tx.Sighash(t, 0, o.Script, o.Value))
		t.TxIn[0].Witness = wire.TxWitness{tx.WitnessSig(sig), rest, o.Script}
		g.bobsTx[t] = true
		return t
	}
	g.Fatalf("no output for %q", name)
	return nil
}

// ends asserts that it is finished, and that what it says is what is on the
// chain: every satoshi is Alice's, Bob's or a fee.
func (g *game) ends() claim.Finished {
	g.Helper()
	if g.finished == nil {
		g.Fatalf("it is not finished at %d; refused: %v", g.tip(), g.refused)
	}
	ours, theirs := g.count(g.channel.Funding)
	f := *g.finished
	if f.Ours != ours || f.Theirs != theirs || f.Ours+f.Theirs+f.Fees != capacity {
		g.Errorf("%+v; on the chain %d sat are ours and %d theirs", f, ours, theirs)
	}
	if f.Fees < 0 || f.Fees > capacity/10 {
		g.Errorf("%d sat are fees", f.Fees)
	}
	return f
}

// count follows the money from the funding output down.
func (g *game) count(from wire.OutPoint) (ours, theirs int64) {
	wallet := tx.P2WPKH(g.wallet.Public())
	anchors := [][]byte{tx.P2WSH(commit.AnchorScript(g.alice.Funding.Public()))}
	seen := map[*wire.MsgTx]bool{}
	for queue := []wire.OutPoint{from}; len(queue) > 0; queue = queue[1:] {
		out := g.coins[queue[0]]
		by, isSpent := g.spends[queue[0]]
		switch {
		case isSpent && seen[by.by]:
		case isSpent:
			seen[by.by] = true
			for i := range by.by.TxOut {
				queue = append(queue, wire.OutPoint{Hash: by.by.TxHash(), Index: uint32(i)})
			}
			fee := int64(0)
			for _, in := range by.by.TxIn {
				fee += g.coins[in.PreviousOutPoint].Value
				for _, lent := range g.lent {
					if lent.Point == in.PreviousOutPoint {
						ours -= lent.Value
					}
				}
			}
			for _, o := range by.by.TxOut {
				fee -= o.Value
			}
			if g.bobsTx[by.by] && queue[0] != from && !g.cheats {
				theirs += fee // he pays it of his own
			}
		case bytes.Equal(out.PkScript, wallet):
			ours += out.Value
		case bytes.Equal(out.PkScript, anchors[0]):
		default:
			theirs += out.Value
		}
	}
	return ours, theirs
}

func (g *game) want(name string, preimage bool) {
	g.Helper()
	r, ok := g.resolved[name]
	switch {
	case !ok:
		g.Errorf("HTLC %q is not resolved at %d", name, g.tip())
	case (r.Preimage != nil) != preimage:
		g.Errorf("HTLC %q is resolved with preimage: %v", name, r.Preimage != nil)
	case r.Preimage != nil && *r.Preimage != preimageOf(name):
		g.Errorf("HTLC %q is resolved with another preimage", name)
	}
}

func (g *game) wantNot(name string) {
	g.Helper()
	if _, ok := g.resolved[name]; ok {
		g.Errorf("HTLC %q is resolved at %d already", name, g.tip())
	}
}

// noRefusals says that nothing was broadcast that a node would not take, but for
// replacements that came to the same fee.
func (g *game) noRefusals() {
	g.Helper()
	for _, err := range g.refused {
		g.Error("refused:", err)
	}
}

var types = []commit.Type{commit.StaticRemoteKey, commit.Anchors}

func both(t *testing.T, story func(t *testing.T, g *game)) {
	t.Helper()
	for _, typ := range types {
		t.Run(typ.String(), func(t *testing.T) { story(t, newGame(t, typ)) })
	}
}

// stage1 is stage for a block that has the commitment too, if the type of the
// channel lets it.
func (b *bobs) stage1(t *testing.T, name string) *wire.MsgTx {
	if b.channel.Type == commit.Anchors {
		b.mine(b.tx)
		b.tell()
		b.tx = wire.NewMsgTx(2)
	}
	return b.stage(name)
}

func (g *game) trace(traces []claim.Trace) {
	g.Helper()
	g.do(step.Recv{From: "node", Msg: claim.Traces{Traces: traces}})
}
