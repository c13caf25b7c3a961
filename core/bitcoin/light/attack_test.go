package light_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/light"
	"coinop.dev/core/step"
)

// payment is a chain of 30 blocks whose 10th pays script 1 and whose 20th spends
// that to script 2.
func payment(tr *tree) (tip, paid, spent *block, coin, spend *wire.MsgTx) {
	coin = pay(tr.nowhere(), script(1), script(9))
	paid = tr.mine(tr.grow(tr.first, 9), coin)
	spend = pay(out(coin, 0), script(2))
	spent = tr.mine(tr.grow(paid, 9), spend)
	return tr.grow(spent, 10), paid, spent, coin, spend
}

func TestHonestPeers(t *testing.T) {
	t.Parallel()
	tr := newTree(regtest())
	tip, _, _, _, _ := payment(tr)
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1), script(2))
	x, y := newNode("x", tip), newNode("y", tip)
	b.join(x, y)
	b.agrees(tip, script(1), script(2))
	b.isKept(x, y)
	for range 3 {
		tip = tr.mine(tip, pay(tr.nowhere(), script(1)))
		b.announce(tip, x)
		b.run()
		b.agrees(tip, script(1), script(2))
		b.announce(tip, y)
		b.run()
	}
	b.isKept(x, y)
	side := tr.grow(tr.mine(tip.parent.parent, pay(tr.nowhere(), script(2))), 2)
	b.announce(side, y)
	b.run()
	b.agrees(side, script(1), script(2))
	b.announce(side, x)
	b.run()
	b.isKept(x, y)
}

// A filter that lacks the output is a lie that the block proves, whoever comes
// first and however many say it.
func TestLyingFilterThatDropsAnElement(t *testing.T) {
	t.Parallel()
	tr := newTree(regtest())
	_, paid, spent, _, _ := payment(tr)
	tips := map[int]*block{} // by how many blocks are above, so that checkpoints are needed
	for _, length := range []int{0, 1500, 3200} {
		tips[length] = tr.grow(spent, 10+length)
	}
	for _, c := range []struct {
		name   string
		order  []string // who comes; liars start with l
		atOnce bool
	}{
		{"the liar first", []string{"l1", "h"}, true},
		{"the liar second", []string{"h", "l1"}, true},
		{"two liars against one honest", []string{"l1", "l2", "h"}, true},
		{"two liars around one honest", []string{"l1", "h", "l2"}, true},
		{"the liar long before", []string{"l1", "h"}, false},
		{"two liars long before", []string{"l1", "l2", "h"}, false},
		{"the liar long after", []string{"h", "l1"}, false},
	} {
		for length, tip := range tips {
			t.Run(fmt.Sprintf("%s/%d", c.name, length), func(t *testing.T) {
				b := newBench(t, tr, light.Options{})
				b.watch(0, script(1), script(2))
				nodes := map[string]*node{}
				for _, name := range c.order {
					n := newNode(name, tip)
					if name[0] == 'l' {
						n = hiding(tr, name, tip, paid)
					}
					nodes[name] = n
					if c.atOnce {
						b.connect(n)
					} else {
						b.join(n)
					}
				}
				b.run()
				for name, n := range nodes {
					if name[0] == 'l' {
						b.isBanned(n, "filter")
					} else {
						b.isKept(n)
					}
				}
				b.agrees(tip, script(1), script(2))
			})
		}
	}
}

// A taproot key spend does not show what it spends: a filter without it cannot be
// disproved, so the block is looked through whole.
func TestUndecidableDispute(t *testing.T) {
	for _, before := range []bool{false, true} {
		tr := newTree(regtest())
		ours := append([]byte{0x51, 0x20}, chainhash.HashB([]byte("key"))...)
		coin := pay(tr.nowhere(), ours)
		paid := tr.mine(tr.grow(tr.first, 5), coin)
		spend := pay(out(coin, 0), script(7))
		spend.TxIn[0].Witness = wire.TxWitness{make([]byte, 64)}
		spent := tr.mine(tr.grow(paid, 5), spend)
		tip := tr.grow(spent, 5)
		b := newBench(t, tr, light.Options{})
		b.watch(0, ours)
		hides := func(name string) *node {
			n := newNode(name, tr.first)
			hidden := *spent.MsgBlock
			hidden.Transactions = slices.Clone(hidden.Transactions)
			hidden.Transactions[1] = pay(tr.nowhere(), script(7))
			tr.scripts[hidden.Transactions[1].TxIn[0].PreviousOutPoint] = script(7)
			raw := tr.filterOf(&hidden)
			n.filter = func(k *block) []byte {
				if k == spent {
					return raw
				}
				return nil
			}
			n.follow(tip)
			return n
		}
		h := newNode("h", tip)
		if before {
			b.join(hides("a"), hides("b"))
			b.join(h)
		} else {
			b.join(hides("a"), h, hides("b"))
		}
		b.agrees(tip, ours)
		b.watch(1, script(7)) // a script that is looked for later sees the block too
		b.run()
		b.agrees(tip, ours, script(7))
		if len(b.banned) > 0 {
			t.Errorf("banned without proof: %v", b.banned)
		}
	}
}

func TestFilterThatIsGarbage(t *testing.T) {
	for _, garbage := range [][]byte{{}, {0}, {1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {5, 1, 2, 3}} {
		tr := newTree(regtest())
		tip, paid, _, _, _ := payment(tr)
		liar, h := newNode("a", tr.first), newNode("h", tip)
		liar.filter = func(k *block) []byte {
			if k == paid {
				return garbage
			}
			return nil
		}
		liar.follow(tip)
		b := newBench(t, tr, light.Options{})
		b.watch(0, script(1), script(2))
		b.join(liar) // alone it is believed, and what cannot be read hides nothing
		if len(garbage) > 1 {
			b.agrees(tip, script(1), script(2))
		}
		b.join(h)
		b.isBanned(liar, "filter")
		b.isKept(h)
		b.agrees(tip, script(1), script(2))
	}
}

// Filters that do not fit the filter headers that their own peer has told.
func TestFiltersThatDoNotFitTheirHeaders(t *testing.T) {
	for _, length := range []int{0, 2500} {
		tr := newTree(regtest())
		_, paid, spent, _, _ := payment(tr)
		tip := tr.grow(spent, 10+length)
		liar, h := newNode("a", tip), newNode("h", tip)
		liar.twist = func(ask wire.Message, say []wire.Message) []wire.Message {
			for i, m := range say {
				if f, ok := m.(*wire.MsgCFilter); ok && f.BlockHash == paid.hash {
					say[i] = wire.NewMsgCFilter(f.FilterType, &f.BlockHash, tr.first.filter)
				}
			}
			return say
		}
		b := newBench(t, tr, light.Options{})
		b.watch(0, script(1), script(2))
		b.join(liar, h)
		b.isBanned(liar, "its filter")
		b.isKept(h)
		b.agrees(tip, script(1), script(2))
	}
}

// Who left in the middle of an interval has lied, not who came after.
func TestTheNextPeerDoesNotAnswerForALiarThatLeft(t *testing.T) {
	tr := newTree(regtest())
	_, paid, spent, _, _ := payment(tr)
	tip := tr.grow(spent, 2500)
	liar, h := newNode("a", tip), newNode("h", tip)
	liar.twist = func(ask wire.Message, say []wire.Message) []wire.Message {
		if _, ok := ask.(*wire.MsgGetCFilters); ok {
			say = say[:500]
			say[paid.height-1] = wire.NewMsgCFilter(0, &paid.hash, tr.first.filter)
		}
		return say
	}
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1), script(2))
	b.join(liar, h)
	b.leave(liar)
	b.run()
	b.isKept(h)
	b.agrees(tip, script(1), script(2))
}

func TestLyingCheckpoints(t *testing.T) {
	t.Parallel()
	tr := newTree(regtest())
	_, _, spent, _, _ := payment(tr)
	tip := tr.grow(spent, 3500)
	for _, c := range []struct {
		name string
		lie  func(m *wire.MsgCFCheckpt)
	}{
		{"one is false", func(m *wire.MsgCFCheckpt) { m.FilterHeaders[1] = &chainhash.Hash{1} }},
		{"the last is false", func(m *wire.MsgCFCheckpt) { m.FilterHeaders[2] = &chainhash.Hash{1} }},
		{"one is missing", func(m *wire.MsgCFCheckpt) { m.FilterHeaders = m.FilterHeaders[1:] }},
		{"there are more", func(m *wire.MsgCFCheckpt) { m.FilterHeaders = append(m.FilterHeaders, &chainhash.Hash{}) }},
	} {
		for _, names := range []string{"ah", "ha"} {
			for _, atOnce := range []bool{true, false} {
				t.Run(fmt.Sprint(c.name, names, atOnce), func(t *testing.T) {
					b := newBench(t, tr, light.Options{})
					b.watch(0, script(1), script(2))
					liar, h := newNode("a", tip), newNode("h", tip)
					liar.twist = func(_ wire.Message, say []wire.Message) []wire.Message {
						for _, m := range say {
							if m, ok := m.(*wire.MsgCFCheckpt); ok {
								c.lie(m)
							}
						}
						return say
					}
					for _, name := range names {
						n := map[rune]*node{'a': liar, 'h': h}[name]
						if b.connect(n); !atOnce {
							b.run()
						}
					}
					b.run()
					b.isKept(h)
					b.agrees(tip, script(1), script(2))
					if b.dropped["a"] == nil && (atOnce || names == "ah") {
						t.Error("the liar is still there")
					}
				})
			}
		}
	}
}

func TestFalseFilterHeaderChain(t *testing.T) {
	for name, lie := range map[string]func(m *wire.MsgCFHeaders){
		"another one before": func(m *wire.MsgCFHeaders) { m.PrevFilterHeader[0]++ },
		"too few":            func(m *wire.MsgCFHeaders) { m.FilterHashes = m.FilterHashes[1:] },
		"none":               func(m *wire.MsgCFHeaders) { m.FilterHashes = nil },
		"another hash":       func(m *wire.MsgCFHeaders) { m.FilterHashes[len(m.FilterHashes)-1] = &chainhash.Hash{1} },
	} {
		for _, names := range []string{"ah", "ha"} {
			t.Run(name+names, func(t *testing.T) {
				tr := newTree(regtest())
				tip, _, _, _, _ := payment(tr)
				liar, h := newNode("a", tip), newNode("h", tip)
				liar.twist = func(_ wire.Message, say []wire.Message) []wire.Message {
					for _, m := range say {
						if m, ok := m.(*wire.MsgCFHeaders); ok {
							lie(m)
						}
					}
					return say
				}
				b := newBench(t, tr, light.Options{})
				b.watch(0, script(1), script(2))
				for _, name := range names {
					b.join(map[rune]*node{'a': liar, 'h': h}[name])
				}
				b.isBanned(liar, "")
				b.isKept(h)
				b.agrees(tip, script(1), script(2))
			})
		}
	}
}

func TestUnsolicitedMessages(t *testing.T) {
	tr := newTree(regtest())
	tip, paid, _, _, _ := payment(tr)
	false_ := *paid.MsgBlock
	false_.Transactions = []*wire.MsgTx{false_.Transactions[0], pay(tr.nowhere(), script(1))}
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1), script(2))
	n := newNode("n", tip)
	b.join(n)
	for range 3 {
		b.say(n, wire.NewMsgCFilter(0, &tip.hash, []byte{0}), &false_, tip.MsgBlock, wire.NewMsgCFHeaders(),
			wire.NewMsgCFCheckpt(0, &tip.hash, 0), pay(tr.nowhere(), script(1)), wire.NewMsgNotFound(), wire.NewMsgHeaders(),
			&wire.MsgMerkleBlock{Header: tip.Header}, wire.NewMsgPong(1), wire.NewMsgGetData(), wire.NewMsgInv())
		b.run()
	}
	b.isKept(n)
	b.agrees(tip, script(1), script(2))
}

func TestAPeerThatStalls(t *testing.T) {
	t.Parallel()
	tr := newTree(regtest())
	_, _, spent, _, _ := payment(tr)
	tip := tr.grow(spent, 1200)
	for name, stalls := range map[string]func(m wire.Message) bool{
		"headers":     func(m wire.Message) bool { return m.Command() == wire.CmdGetHeaders },
		"checkpoints": func(m wire.Message) bool { return m.Command() == wire.CmdGetCFCheckpt },
		"hashes":      func(m wire.Message) bool { return m.Command() == wire.CmdGetCFHeaders },
		"filters":     func(m wire.Message) bool { return m.Command() == wire.CmdGetCFilters },
		"blocks":      func(m wire.Message) bool { return m.Command() == wire.CmdGetData },
	} {
		for _, how := range []string{"mute", "half", "babbling"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				b := newBench(t, tr, light.Options{})
				b.watch(0, script(1), script(2))
				a, h := newNode("a", tip), newNode("h", tip)
				switch how {
				case "mute":
					a.mute = stalls
				case "half": // the first half of an answer of many messages
					a.twist = func(ask wire.Message, say []wire.Message) []wire.Message {
						if stalls(ask) {
							return say[:len(say)/2]
						}
						return say
					}
				case "babbling": // it says things that answer nothing, for ever
					a.mute = stalls
				}
				b.join(a, h)
				for range 20 {
					if how == "babbling" && b.nodes["a"] != nil {
						b.say(a, wire.NewMsgPing(1), tr.first.MsgBlock, wire.NewMsgCFHeaders(), wire.NewMsgCFCheckpt(0, &chainhash.Hash{}, 0), wire.NewMsgNotFound())
					}
					b.pass(2 * step.Second)
				}
				b.agrees(tip, script(1), script(2))
				b.isKept(h)
				if err := b.dropped["a"]; err == nil && a.taken[wire.CmdGetHeaders] > 0 {
					t.Error("the one that stalls is still there")
				} else if b.banned["a"] != nil {
					t.Errorf("it is banned, though slow is no lie: %v", err)
				}
			})
		}
	}
}

// A peer that has not seen the last block yet is not asked about it, for many
// nodes hang up then.
func TestASlowPeerIsNotAskedForWhatItHasNot(t *testing.T) {
	tr := newTree(regtest())
	tip, _, _, _, _ := payment(tr)
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1), script(2))
	x, y := newNode("x", tip), newNode("y", tip)
	for _, n := range []*node{x, y} {
		n.twist = func(ask wire.Message, say []wire.Message) []wire.Message {
			if ask.Command() == wire.CmdGetCFHeaders && len(say) == 0 {
				t.Errorf("%s was asked about a block it has not got", n.name)
			}
			return say
		}
	}
	b.join(x, y)
	for i := range 4 {
		tip = tr.mine(tip, pay(tr.nowhere(), script(1)))
		first, second := x, y
		if i%2 == 1 {
			first, second = y, x
		}
		b.announce(tip, first)
		b.run()
		b.agrees(tip, script(1), script(2))
		b.announce(tip, second)
		b.run()
	}
	b.pass(2 * light.AnswerTime)
	b.isKept(x, y)
}

// What was published is sent again to a peer that comes back, which may have
// forgotten it, and alarms end once it is mined.
func TestPublishedIsOfferedAgainAfterAReconnect(t *testing.T) {
	tr := newTree(regtest())
	tip := tr.grow(tr.first, 3)
	b := newBench(t, tr, light.Options{})
	h := newNode("h", tip)
	b.join(h)
	sent := pay(tr.nowhere(), script(1))
	b.step(light.Publish{Tx: sent})
	b.run()
	if o := b.outcome(sent.TxHash().String()); o.Err != nil || h.pool[sent.TxHash()] == nil {
		t.Fatalf("publish gives %v, the pool has %v", o.Err, h.pool)
	}
	b.leave(h)
	clear(h.pool)
	b.join(h)
	if h.pool[sent.TxHash()] == nil {
		t.Error("it was not sent again")
	}
	tip = tr.mine(tip, sent)
	b.announce(tip, h)
	b.run()
	b.join(newNode("mute", tip))
	b.pass(step.Hour)
}
