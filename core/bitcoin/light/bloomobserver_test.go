package light_test

import (
	"math/bits"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2/bloom"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/light"
)

// bloomFilterOf is the filter that a client with a tweak and noise sends for
// scripts, and what it sends over its next connection, once payments are mined.
func bloomFilterOf(t *testing.T, seed byte, scripts [][]byte, payments ...*wire.MsgTx) (first, next *wire.MsgFilterLoad) {
	w := newBloomWorld(t)
	w.options.Tweak, w.options.Noise = uint32(seed)*0x01234567, bloomNoise(seed)
	w.client = light.New(w.options)
	w.mine(0, payments...)
	w.watch(scripts...)
	a := w.connect("a", nil)
	w.run()
	w.restart()
	w.mine(0)
	b := w.connect("b", nil)
	w.run()
	return a.filters[0], b.filters[0]
}

// TestBloomObserver plays the peer, which tries 100,000 scripts of the chain on
// what it was sent: it must find ours among them, and the question is how many
// others with them. It learns nothing from a restart. It learns nearly all from
// two filters with different tweaks, which is what a wallet sends that keeps
// nothing, and from what is added to one.
func TestBloomObserver(t *testing.T) {
	t.Parallel()
	const candidates = 100_000
	var all [][]byte
	for i := range candidates {
		all = append(all, bloomScript("candidate", i))
	}
	// others counts the scripts that are not ours and pass.
	others := func(ours int, pass func(data []byte) bool) (n int) {
		for i, script := range all {
			switch match := pass(script[2:]); {
			case match && i >= ours:
				n++
			case !match && i < ours:
				t.Errorf("script %d, which is ours, does not match", i)
			}
		}
		return n
	}
	for _, ours := range []int{10, 100} {
		sent, next := bloomFilterOf(t, 1, all[:ours])
		first, restarted := bloom.LoadFilter(sent), bloom.LoadFilter(next)
		other, _ := bloomFilterOf(t, 2, all[:ours])
		larger, _ := bloomFilterOf(t, 1, all[:ours+1])
		fresh, more := bloom.LoadFilter(other), bloom.LoadFilter(larger)
		points := map[string]wire.OutPoint{} // where the chain pays the candidates
		var payments []*wire.MsgTx
		for i, script := range all {
			points[string(script[2:])] = bloomPoint(i)
			if i < ours {
				payments = append(payments, bloomPay(bloomPoint(i), script))
				points[string(script[2:])] = wire.OutPoint{Hash: payments[i].TxHash()}
			}
		}
		_, later := bloomFilterOf(t, 1, all[:ours], payments...)
		afterPay := bloom.LoadFilter(later)
		plain := bloom.NewFilter(uint32(ours), 1, 1.0/512, wire.BloomUpdateAll)
		plainFresh := bloom.NewFilter(uint32(ours), 2, 1.0/512, wire.BloomUpdateAll)
		for _, script := range all[:ours] {
			plain.Add(script[2:])
			plainFresh.Add(script[2:])
		}
		one := others(ours, first.Matches)
		same := others(ours, func(d []byte) bool { return first.Matches(d) && restarted.Matches(d) })
		two := others(ours, func(d []byte) bool { return first.Matches(d) && fresh.Matches(d) })
		added := others(0, func(d []byte) bool { return more.Matches(d) && !first.Matches(d) })
		coins := others(ours, func(d []byte) bool {
			point := points[string(d)]
			return afterPay.Matches(d) && afterPay.MatchesOutPoint(&point)
		})
		plainTwo := others(ours, func(d []byte) bool { return plain.Matches(d) && plainFresh.Matches(d) })
		t.Logf("%3d of ours among %d scripts; others that match: one filter %d; the same after a restart %d; two tweaks %d (without decoys one %d, two %d); a script that was added: %d match the new filter and not the old, itself among them; all were paid: %d match with their output",
			ours, candidates, one, same, two, others(ours, plain.Matches), plainTwo, added, coins)
		if one < 100 || one > 400 {
			t.Errorf("one filter matches %d others; it should match 1 in 512", one)
		}
		if same != one {
			t.Errorf("a restart leaves %d of %d others", same, one)
		}
		if two >= one/20 {
			t.Errorf("two tweaks leave %d of %d others, so this test shows nothing", two, one)
		}
		fill := 0
		for _, b := range sent.Filter {
			fill += bits.OnesCount8(b)
		}
		if share := float64(fill) / float64(8*len(sent.Filter)); share < 0.48 || share > 0.52 {
			t.Errorf("the filter is filled to %.3f with %d scripts; it should not tell how many there are", share, ours)
		}
	}
}
