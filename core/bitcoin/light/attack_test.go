package light_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header/headertest"
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
		for _, length := range []int{0, 1500, 3200} { // blocks above, so that checkpoints are needed
			t.Run(fmt.Sprintf("%s/%d", c.name, length), func(t *testing.T) {
				tr := newTree(regtest())
				_, paid, spent, _, _ := payment(tr)
				tip := tr.grow(spent, 10+length)
				b := newBench(t, tr, light.Options{})
				b.every = 1 + length/10
				b.watch(0, script(1), script(2))
				nodes := map[string]*node{}
				for _, name := range c.order {
					n := newNode(name, tr.first)
					if name[0] == 'l' {
						without := *paid.MsgBlock
						without.Transactions = without.Transactions[:1]
						n.filter = func(k *block) []byte {
							if k == paid {
								return tr.filterOf(&without)
							}
							return nil
						}
					}
					n.follow(tip)
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
		b.every = 1 + length/10
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
	b.every = 200
	b.watch(0, script(1), script(2))
	b.join(liar, h)
	b.leave(liar)
	b.run()
	b.isKept(h)
	b.agrees(tip, script(1), script(2))
}

func TestLyingCheckpoints(t *testing.T) {
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
					b.every = 200
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

// Blocks whose header is true and whose transactions are not.
func TestAlteredBlock(t *testing.T) {
	alter := func(b *wire.MsgBlock, f func(b *wire.MsgBlock)) *wire.MsgBlock {
		c := b.Copy()
		f(c)
		return c
	}
	for name, f := range map[string]func(b *wire.MsgBlock){
		"a transaction is missing":   func(b *wire.MsgBlock) { b.Transactions = b.Transactions[:1] },
		"a transaction is another":   func(b *wire.MsgBlock) { b.Transactions[1].TxOut[0].Value++ },
		"the witness is another":     func(b *wire.MsgBlock) { b.Transactions[1].TxIn[0].Witness[0][0]++ },
		"the witness is missing":     func(b *wire.MsgBlock) { b.Transactions[1].TxIn[0].Witness = nil },
		"the last is there twice":    func(b *wire.MsgBlock) { b.Transactions = append(b.Transactions, b.Transactions[2]) },
		"there are no transactions":  func(b *wire.MsgBlock) { b.Transactions = nil },
		"the reward's nonce is gone": func(b *wire.MsgBlock) { b.Transactions[0].TxIn[0].Witness = nil },
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(regtest())
			coin := pay(tr.nowhere(), script(1))
			coin.TxIn[0].Witness = wire.TxWitness{[]byte("preimage")}
			paid := tr.mine(tr.grow(tr.first, 3), coin, pay(tr.nowhere(), script(5)))
			tip := tr.grow(paid, 3)
			liar, h := newNode("a", tip), newNode("h", tip)
			liar.twist = func(_ wire.Message, say []wire.Message) []wire.Message {
				for i, m := range say {
					if m, ok := m.(*wire.MsgBlock); ok {
						say[i] = alter(m, f)
					}
				}
				return say
			}
			b := newBench(t, tr, light.Options{})
			b.watch(0, script(1))
			b.join(liar, h)
			b.isBanned(liar, "block")
			b.agrees(tip, script(1))
		})
	}
}

// A miner could put a transaction of 64 bytes into a block, which is then shown
// to be an inner node: such a block is refused whoever brings it (CVE-2017-12842).
func TestTransactionOf64BytesInABlock(t *testing.T) {
	tr := newTree(regtest())
	small := wire.NewMsgTx(2)
	point := tr.nowhere()
	small.AddTxIn(wire.NewTxIn(&point, nil, nil))
	small.AddTxOut(wire.NewTxOut(1, []byte{0x51, 0x51, 0x51, 0x51}))
	if size := small.SerializeSize(); size != 64 {
		t.Fatalf("it is %d bytes", size)
	}
	tip := tr.mine(tr.first, pay(tr.nowhere(), script(1)), small)
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1))
	n := newNode("a", tip)
	b.join(n)
	b.isBanned(n, "64 bytes")
	if len(b.client.Coins(script(1))) != 0 {
		t.Error("it was believed")
	}
}

// A block whose last transactions are there twice has the same root as the one
// without (CVE-2012-2459).
func TestCVE20122459Block(t *testing.T) {
	tr := newTree(regtest())
	a, c := pay(tr.nowhere(), script(1)), pay(tr.nowhere(), script(2))
	tip := tr.mine(tr.first, a, c)
	twice := tip.Copy()
	twice.Transactions = append(twice.Transactions, twice.Transactions[2])
	liar, h := newNode("a", tip), newNode("h", tip)
	liar.twist = func(_ wire.Message, say []wire.Message) []wire.Message {
		for i, m := range say {
			if _, ok := m.(*wire.MsgBlock); ok {
				say[i] = twice
			}
		}
		return say
	}
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1), script(2))
	b.join(liar, h)
	b.isBanned(liar, "CVE-2012-2459")
	b.agrees(tip, script(1), script(2))
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
	for name, stalls := range map[string]func(m wire.Message) bool{
		"headers":     func(m wire.Message) bool { return m.Command() == wire.CmdGetHeaders },
		"checkpoints": func(m wire.Message) bool { return m.Command() == wire.CmdGetCFCheckpt },
		"hashes":      func(m wire.Message) bool { return m.Command() == wire.CmdGetCFHeaders },
		"filters":     func(m wire.Message) bool { return m.Command() == wire.CmdGetCFilters },
		"blocks":      func(m wire.Message) bool { return m.Command() == wire.CmdGetData },
	} {
		for _, how := range []string{"mute", "half", "babbling"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				tr := newTree(regtest())
				_, _, spent, _, _ := payment(tr)
				tip := tr.grow(spent, 1200)
				b := newBench(t, tr, light.Options{})
				b.every = 100
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

func TestNotFound(t *testing.T) {
	tr := newTree(regtest())
	tip, _, _, _, _ := payment(tr)
	a, h := newNode("a", tip), newNode("h", tip)
	a.twist = func(ask wire.Message, say []wire.Message) []wire.Message {
		if get, ok := ask.(*wire.MsgGetData); ok {
			m := wire.NewMsgNotFound()
			m.InvList = get.InvList
			return []wire.Message{m}
		}
		return say
	}
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1), script(2))
	b.join(a, h)
	b.agrees(tip, script(1), script(2))
	if b.dropped["a"] == nil || b.banned["a"] != nil {
		t.Errorf("dropped: %v, banned: %v", b.dropped["a"], b.banned["a"])
	}
}

func TestEclipseAlarm(t *testing.T) {
	tr := newTree(headertest.Params())
	tip := tr.grow(tr.first, 20)
	b := newBench(t, tr, light.Options{})
	b.join(newNode("a", tip))
	at := step.Time(tip.Header.Timestamp.UnixMilli())
	if s := b.client.Summary(at + light.StaleAfter); s.Stale || !s.Synced {
		t.Errorf("after %v: %+v", time.Duration(light.StaleAfter)*time.Millisecond, s)
	}
	if s := b.client.Summary(at + light.StaleAfter + 1); !s.Stale {
		t.Error("nobody is told that there are no blocks")
	}
}

func TestLowDifficultyFork(t *testing.T) {
	tr := newTree(headertest.Params())
	tr.pace = 150 // so that the second period is four times as hard
	fork := tr.grow(tr.first, 2100)
	tip := tr.grow(fork, 20)
	b := newBench(t, tr, light.Options{})
	b.every = 100
	h, a := newNode("h", tip), newNode("a", tip)
	b.join(h, a)
	b.synced(tip)
	easy := fork
	var branch []*block
	for range 40 {
		k := &block{MsgBlock: &wire.MsgBlock{}, height: easy.height + 1, parent: easy}
		k.Header = headertest.Mine(wire.BlockHeader{Version: 4, PrevBlock: easy.hash, Bits: headertest.EasyBits}, easy.Header.Timestamp.Unix()+150)
		k.hash = k.Header.BlockHash()
		branch, easy = append(branch, k), k
	}
	b.say(a, headersOf(branch))
	b.run()
	b.isBanned(a, "bits")
	b.isKept(h)
	b.synced(tip)
}

func TestHeavierShorterChainWins(t *testing.T) {
	p := headertest.Params()
	p.TargetTimespan = 32 * p.TargetTimePerBlock
	tr := newTree(p)
	fork := tr.grow(tr.first, 20)
	tr.pace = 600
	long := tr.grow(fork, 140)
	tr.pace = 150
	short := tr.grow(fork, 120) // four times as hard from the second period on
	for _, names := range []string{"ls", "sl"} {
		b := newBench(t, tr, light.Options{})
		nodes := map[rune]*node{'l': newNode("l", long), 's': newNode("s", short)}
		for _, name := range names {
			b.join(nodes[name])
		}
		b.synced(short)
		if short.height >= long.height {
			t.Fatal("it is not shorter")
		}
	}
}

// deep is two chains that part below the tail.
func deep() (tr *tree, ours, theirs *block) {
	tr = newTree(regtest())
	fork := tr.grow(tr.first, 50)
	ours = tr.grow(tr.mine(fork, pay(tr.nowhere(), script(1))), 4300)
	theirs = tr.grow(tr.mine(fork, pay(tr.nowhere(), script(2))), 4400)
	return tr, ours, theirs
}

func TestDeepReorgIsFollowedIfItHasMoreWork(t *testing.T) {
	tr, ours, theirs := deep()
	b := newBench(t, tr, light.Options{})
	b.every = 500
	b.watch(0, script(1), script(2))
	h := newNode("h", ours)
	b.join(h)
	b.agrees(ours, script(1), script(2))
	n := newNode("n", theirs)
	b.join(n)
	b.agrees(theirs, script(1), script(2))
	b.announce(theirs, h)
	b.run()
	b.agrees(theirs, script(1), script(2))
	b.restart()
	b.join(n)
	b.agrees(theirs, script(1), script(2))
}

func TestDeepReorgWithLessWorkIsDropped(t *testing.T) {
	tr, theirs, ours := deep()
	b := newBench(t, tr, light.Options{})
	b.every = 500
	b.watch(0, script(1), script(2))
	h, n := newNode("h", ours), newNode("n", theirs)
	b.join(h)
	b.join(n)
	b.agrees(ours, script(1), script(2))
	b.isKept(h)
	if err := b.dropped["n"]; err == nil || !strings.Contains(err.Error(), "less work") {
		t.Errorf("the rival was dropped for %v", err)
	}
}

// A rival's headers never end, or are the same ones for ever: meanwhile others
// are asked, and new blocks are followed.
func TestARivalThatNeverEnds(t *testing.T) {
	tr, ours, theirs := deep()
	b := newBench(t, tr, light.Options{})
	b.every = 500
	b.watch(0, script(1), script(2))
	h, n := newNode("h", ours), newNode("n", theirs)
	asked := 0
	n.twist = func(ask wire.Message, say []wire.Message) []wire.Message {
		if ask.Command() == wire.CmdGetHeaders {
			if asked++; asked > 1 {
				return []wire.Message{headersOf(theirs.path()[1:2001])}
			}
		}
		return say
	}
	b.join(h)
	b.connect(n)
	late := newNode("z", ours)
	b.join(late)
	tip := tr.mine(ours, pay(tr.nowhere(), script(2)))
	b.announce(tip, h, late)
	b.run()
	b.agrees(tip, script(1), script(2))
	b.isKept(h, late)
	if b.dropped["n"] == nil {
		t.Error("it is still there")
	}
}

func (b *block) path() (all []*block) {
	for ; b != nil; b = b.parent {
		all = append(all, b)
	}
	slices.Reverse(all)
	return all
}

// A false chain that is ahead at first, because the true one is easy in the
// beginning, gives way even though the branch is longer than what is kept of one.
func TestALongBranchThatIsHeavierInTheEnd(t *testing.T) {
	p := headertest.Params()
	p.TargetTimespan = 100 * p.TargetTimePerBlock
	tr := newTree(p)
	tr.pace = 150
	hard := tr.grow(tr.first, 350) // 1, 4, 16, 64 times
	tr.pace = 600
	long := tr.grow(tr.first, 9000)
	b := newBench(t, tr, light.Options{})
	b.every = 500
	b.join(newNode("a", hard))
	b.synced(hard)
	b.join(newNode("h", long))
	b.synced(long)
}

// Branches with little work cost a peer its connection and us no memory.
func TestLowWorkFlood(t *testing.T) {
	p := headertest.Params()
	p.TargetTimespan = 100 * p.TargetTimePerBlock
	tr := newTree(p)
	tr.pace = 150
	tip := tr.grow(tr.first, 450)
	tr.pace = 600
	low := tr.grow(tr.first, 6200)
	b := newBench(t, tr, light.Options{})
	b.every = 1
	h := newNode("h", tip)
	b.join(h)
	for i := range 10 {
		a := newNode(fmt.Sprint("a", i), low)
		b.connect(a)
		for from := 1; from < 6000 && b.nodes[a.name] != nil; from += 100 {
			b.say(a, headersOf(low.path()[from:from+100])) // unasked, all of it
			b.run()
		}
		b.run()
		if b.dropped[a.name] == nil {
			t.Errorf("%s is still there", a.name)
		}
	}
	b.isKept(h)
	b.synced(tip)
}

// A peer answers with headers that we have, for ever.
func TestTheSameHeadersForEver(t *testing.T) {
	tr := newTree(regtest())
	tip := tr.grow(tr.first, 2100)
	b := newBench(t, tr, light.Options{})
	b.every = 100
	b.join(newNode("h", tip))
	a := newNode("a", tip)
	a.twist = func(ask wire.Message, say []wire.Message) []wire.Message {
		if ask.Command() == wire.CmdGetHeaders {
			return []wire.Message{headersOf(tip.path()[1:2001])}
		}
		return say
	}
	b.join(a)
	if b.dropped["a"] == nil {
		t.Error("it is still there")
	}
	b.synced(tip)
}

// Two peers see different chains: the heavier is followed, the other one's word
// about it is not asked for, and it comes over when it sees it.
func TestPeersThatDisagree(t *testing.T) {
	tr := newTree(regtest())
	fork := tr.grow(tr.first, 10)
	one := tr.grow(tr.mine(fork, pay(tr.nowhere(), script(1))), 3)
	two := tr.grow(tr.mine(fork, pay(tr.nowhere(), script(2))), 4)
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1), script(2))
	x, y := newNode("x", one), newNode("y", two)
	b.join(x, y)
	b.agrees(two, script(1), script(2))
	for range 3 {
		one, two = tr.grow(one, 2), tr.mine(two)
		b.announce(one, x)
		b.run()
		b.announce(two, y)
		b.run()
	}
	b.agrees(one, script(1), script(2))
	b.announce(one, y)
	b.pass(2 * light.AnswerTime)
	b.isKept(x, y)
	b.agrees(one, script(1), script(2))
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

// reorgs happen in the middle of every stage.
func TestReorgInTheMiddleOfEachStage(t *testing.T) {
	tr := newTree(regtest())
	_, _, spent, coin, _ := payment(tr)
	fork := tr.grow(spent, 1290)
	one := tr.grow(tr.mine(fork, pay(out(coin, 1), script(1))), 30)
	two := tr.grow(tr.mine(fork, pay(out(coin, 1), script(2))), 40)
	for _, command := range []string{wire.CmdGetHeaders, wire.CmdGetCFCheckpt, wire.CmdGetCFHeaders, wire.CmdGetCFilters, wire.CmdGetData} {
		for nth := 1; nth <= 3; nth++ {
			for _, old := range []bool{false, true} { // whether what was asked is answered, as of before
				t.Run(fmt.Sprint(command, nth, old), func(t *testing.T) {
					b := newBench(t, tr, light.Options{})
					b.every = 50
					b.watch(0, script(1))
					x, y := newNode("x", one), newNode("y", one)
					count := 0
					for _, n := range []*node{x, y} {
						n.twist = func(ask wire.Message, say []wire.Message) []wire.Message {
							if ask.Command() != command {
								return say
							}
							if count++; count != nth {
								return say
							}
							n.follow(two)
							if !old {
								say = n.answer(ask)
							}
							return append(say, headersOf(two.path()[fork.height+1:]))
						}
					}
					b.join(x, y)
					b.watch(0, script(2)) // and a scan back
					b.run()
					for range 3 {
						b.announce(two, x, y)
						b.pass(light.AnswerTime)
						b.join(x, y) // as after a redial
					}
					b.agrees(two, script(1), script(2))
					if len(b.banned) > 0 {
						t.Errorf("honest peers are banned: %v", b.banned)
					}
				})
			}
		}
	}
}

// A liar was alone before a restart: what it hid is found when an honest peer
// comes, though the filters it showed were not kept.
func TestALiarThatWasAloneBeforeARestart(t *testing.T) {
	for _, length := range []int{0, 1500} {
		tr := newTree(regtest())
		_, paid, spent, _, _ := payment(tr)
		tip := tr.grow(spent, length)
		liar, h := newNode("a", tr.first), newNode("h", tip)
		without := *paid.MsgBlock
		without.Transactions = without.Transactions[:1:1]
		liar.filter = func(k *block) []byte {
			if k == paid {
				return tr.filterOf(&without)
			}
			return nil
		}
		liar.follow(tip)
		b := newBench(t, tr, light.Options{})
		b.every = 1 + length/10
		b.watch(0, script(1), script(2))
		b.join(liar)
		if len(b.client.Coins(script(2))) != 0 && len(b.client.Coins(script(1))) != 0 {
			t.Fatal("nothing was hidden")
		}
		b.restart()
		b.join(h)
		b.isKept(h)
		b.agrees(tip, script(1), script(2))
	}
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
