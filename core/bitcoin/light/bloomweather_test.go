package light_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/step"
)

// TestBloomAnyWeather cuts connections, takes back blocks, restarts the client
// and adds scripts at any moment, with a liar among the peers. In the end it
// knows every payment and every spend, and no honest peer was banned.
func TestBloomAnyWeather(t *testing.T) {
	t.Parallel()
	caught := 0
	for seed := range uint64(40) {
		dice := rand.New(rand.NewPCG(seed, 37))
		w := newBloomWorld(t)
		var payments []*wire.MsgTx
		spent := map[int]*wire.MsgTx{}
		branch := byte(0)
		liar := func() func(wire.Message) []wire.Message {
			if len(payments) == 0 {
				return nil
			}
			return w.blind(payments[dice.IntN(len(payments))])
		}
		build := func() {
			var txs []*wire.MsgTx
			switch n := len(payments); {
			case dice.IntN(3) == 0:
				p := bloomPay(bloomPoint(n+1), bloomScript("ours", n%5))
				payments, txs = append(payments, p), append(txs, p)
				if dice.IntN(2) == 0 { // and spends it in the same block
					spent[n] = bloomPay(wire.OutPoint{Hash: p.TxHash()}, bloomScript("other", n))
					txs = append(txs, spent[n])
				}
			case n > 0 && dice.IntN(2) == 0:
				if i := dice.IntN(n); spent[i] == nil {
					spent[i] = bloomPay(wire.OutPoint{Hash: payments[i].TxHash()}, bloomScript("other", i))
					txs = append(txs, spent[i])
				}
			}
			w.mine(branch, txs...)
		}
		for range 120 {
			build()
		}
		w.watch(bloomScript("ours", 0))
		for range 60 {
			switch names := []string{"a", "b", "liar"}; dice.IntN(9) {
			case 0, 1:
				if name := names[dice.IntN(3)]; w.peers[name] == nil {
					lie := liar()
					if name != "liar" {
						lie = nil
					}
					w.connect(name, lie)
				}
			case 2:
				if name := names[dice.IntN(3)]; w.peers[name] != nil {
					w.queue = slices.DeleteFunc(w.queue, func(p step.Packet) bool { return p.From == name })
					w.disconnect(name)
				}
			case 3:
				build()
				w.announce(w.tip())
			case 4:
				w.watch(bloomScript("ours", dice.IntN(5)))
			case 5:
				if dice.IntN(4) == 0 {
					w.restart()
				}
			case 6:
				branch++
				from := w.tip() - int32(dice.IntN(8))
				lost := slices.Clone(w.blocks[from:])
				w.blocks = w.blocks[:from]
				for _, b := range lost { // all of it is mined again, one block later
					w.mine(branch)
					w.mine(branch, b.Transactions[1:]...)
				}
				w.announce(from)
			default:
				w.carry(dice.IntN(200))
			}
		}
		for i := range 5 {
			w.watch(bloomScript("ours", i))
		}
		for _, name := range []string{"a", "b"} {
			if w.peers[name] == nil {
				w.connect(name, nil)
			}
		}
		w.run()
		depth := map[chainhash.Hash]int32{}
		for h, b := range w.blocks {
			for _, tx := range b.Transactions {
				depth[tx.TxHash()] = w.tip() - int32(h) + 1
			}
		}
		for i, p := range payments {
			w.sees(p, depth[p.TxHash()])
			want := int32(0)
			if spent[i] != nil {
				want = depth[spent[i].TxHash()]
			}
			if got := w.status(p); got.SpendDepth != want {
				t.Errorf("seed %d: payment %d has a spender at depth %d; want %d", seed, i, got.SpendDepth, want)
			}
		}
		for _, why := range w.bans {
			if !strings.HasPrefix(why, "liar: ") {
				t.Errorf("seed %d: an honest peer was banned: %s", seed, why)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d: banned: %q dropped: %q", seed, w.bans, w.drops)
		}
		caught += len(w.bans)
	}
	if caught == 0 {
		t.Error("no liar was caught, so this shows little")
	}
	t.Logf("%d liars were caught", caught)
}
