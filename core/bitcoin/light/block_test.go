package light_test

import (
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/light"
)

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

// A node has left our chain and has not told yet: it is asked for its headers, and
// kept.
func TestNotFoundAfterAReorganisation(t *testing.T) {
	tr := newTree(regtest())
	_, _, spent, _, _ := payment(tr)
	one := tr.mine(spent, pay(tr.nowhere(), script(1)))
	two := tr.grow(tr.mine(spent, pay(tr.nowhere(), script(2))), 2)
	h := newNode("h", one)
	h.twist = func(ask wire.Message, say []wire.Message) []wire.Message {
		if get, ok := ask.(*wire.MsgGetData); ok && get.InvList[0].Hash == one.hash {
			h.follow(two)
			say = h.answer(ask)
		}
		return say
	}
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1), script(2))
	b.join(h)
	b.isKept(h)
	b.agrees(two, script(1), script(2))
}
