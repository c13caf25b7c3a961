package claim_test

import (
	"crypto/sha256"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/lightning/claim"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// many is a revoked commitment with n HTLCs, mined.
func many(t testing.TB, n int) *game {
	g := newGame(t, commit.Anchors)
	s := stateOf(3, 6_000_000)
	g.k.Traces = nil
	for i := range n {
		h := commit.HTLC{Ours: i%2 == 0, Amount: 10_000 * money.Sat, Hash: sha256.Sum256([]byte{byte(i), byte(i >> 8)}), Expiry: 1100}
		if h.Ours {
			s.Local -= h.Amount
		} else {
			s.Remote -= h.Amount
		}
		s.HTLCs = append(s.HTLCs, h)
		g.k.Traces = append(g.k.Traces, claim.Trace{HTLC: h, First: 3, Last: 3})
	}
	g.states[3] = s
	return g
}

// With as many HTLCs as a commitment can have from one side, everything is taken
// in a few transactions that are relayed.
func TestManyHTLCs(t *testing.T) {
	g := many(t, 483)
	g.begin()
	g.block(g.bobsCommitment(3).tx)
	if n := len(g.mempool); n != 6 { // 484 outputs in hundreds, and to_remote
		t.Errorf("%d transactions in the mempool", n)
	}
	g.until(1010)
	if f := g.ends(); f.Theirs != commit.AnchorValue {
		t.Errorf("%+v", f)
	}
	g.noRefusals()
}

// A block while 484 outputs of a revoked commitment wait: statuses in, penalties
// out.
func BenchmarkBlockWithManyHTLCs(b *testing.B) {
	g := many(b, 483)
	g.begin()
	g.stuck = func(*wire.MsgTx) bool { return true }
	g.block(g.bobsCommitment(3).tx)
	var events []any
	for p := range g.watched {
		events = append(events, step.Recv{From: watch.Chain, Msg: g.status(p)})
	}
	published := 0
	b.ReportAllocs()
	for b.Loop() {
		g.c.Step(step.Input{Events: []any{step.Rang{ID: "again"}}})
		published += len(g.c.Step(step.Input{Events: events}).Send)
	}
}
