package claim_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
)

// Whatever Bob publishes and whenever, whatever miners leave out for a while,
// however often the chain is reorganised a little and we crash: in the end all
// money is somebody's, every HTLC has its fate, and we are paid what is ours.
func TestRandomEnds(t *testing.T) {
	for seed := range uint64(28) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := newGame(t, types[seed%2])
			randomEnd(g, rand.New(rand.NewPCG(seed, 9)))
		})
	}
}

func randomEnd(g *game, r *rand.Rand) {
	published := []uint64{0, 3, current, current + 1}[r.IntN(4)] // 0: ours
	g.k.Force = published == 0
	g.begin()
	var b *bobs
	if published != 0 {
		b = g.bobsCommitment(published)
		g.block(b.tx)
	}
	g.stuck = func(m *wire.MsgTx) bool { return published != 0 && r.IntN(3) == 0 }
	knows := int32(start + r.IntN(60))
	for g.tip() < 1100+r.Int32N(100) {
		if g.tip() == knows {
			g.knows("in")
		}
		switch r.IntN(12) {
		case 0:
			g.restart()
		case 1:
			if n := r.IntN(depth - 1); g.tip()-int32(n) > start+1 && g.finished == nil {
				g.undo(n)
				g.tell()
			}
		case 2:
			g.block(g.bobTries(b, r)...)
		default:
			g.block()
		}
	}
	g.stuck = func(*wire.MsgTx) bool { return false }
	g.until(1300)
	f := g.ends()
	for name := range htlcs {
		_, ok := g.resolved[name]
		if inAny := published != 3 || name == "out" || name == "in"; inAny && !ok {
			g.Errorf("HTLC %q has no fate", name)
		}
	}
	least := map[uint64]int64{0: 5_400_000, 3: 9_900_000, current: 5_400_000, current + 1: 5_400_000}[published]
	if f.Ours < least {
		g.Errorf("only %d sat are ours", f.Ours)
	}
}

// bobTries is what Bob could have mined in the next block.
func (g *game) bobTries(b *bobs, r *rand.Rand) []*wire.MsgTx {
	name := []string{"out", "in", "stranger"}[r.IntN(3)]
	var t *wire.MsgTx
	switch {
	case b == nil && g.spends[g.channel.Funding].by != nil:
		t = g.bobTakes(name)
	case b != nil && (b.has(name)):
		t = b.stage(name)
	default:
		return nil
	}
	if _, err := g.valid(t, nil); err != nil {
		return nil
	}
	return []*wire.MsgTx{t}
}

func (b *bobs) has(name string) bool {
	for _, o := range b.Outputs {
		if o.Hash == hashOf(name) {
			return true
		}
	}
	return false
}

// Sizes that fees are computed from are those of what is published.
func TestNoTransactionPaysMoreThanItsRate(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.stuck = func(*wire.MsgTx) bool { return true }
		g.begin()
		g.block(g.bobsCommitment(3).tx)
		for _, m := range g.mempool {
			fee, err := g.valid(m, nil)
			if err != nil {
				t.Fatal(err)
			}
			if size := tx.VSize(m); fee < g.k.FeeRate.For(size) || fee > g.k.FeeRate.For(size+len(m.TxIn)) {
				t.Errorf("%d inputs, %d vB: a fee of %d sat", len(m.TxIn), size, fee)
			}
		}
	})
}
