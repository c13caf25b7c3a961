package light_test

import (
	"maps"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/light"
)

// hiding is a node on a chain that shows a block without what pays in it.
func hiding(tr *tree, name string, tip, paid *block) *node {
	without := *paid.MsgBlock
	without.Transactions = without.Transactions[:1:1]
	raw := tr.filterOf(&without)
	n := newNode(name, tr.first)
	n.filter = func(k *block) []byte {
		if k == paid {
			return raw
		}
		return nil
	}
	n.follow(tip)
	return n
}

// A liar was alone before a restart: what it hid is found when an honest peer
// comes, though the filters it showed were not kept.
func TestALiarThatWasAloneBeforeARestart(t *testing.T) {
	t.Parallel()
	for _, length := range []int{0, 1500} {
		tr := newTree(regtest())
		_, paid, spent, _, _ := payment(tr)
		tip := tr.grow(spent, length)
		liar, h := hiding(tr, "a", tip, paid), newNode("h", tip)
		b := newBench(t, tr, light.Options{})
		b.watch(0, script(1), script(2))
		b.join(liar)
		if len(b.client.Coins(script(2))) != 0 && len(b.client.Coins(script(1))) != 0 {
			t.Fatal("nothing was hidden")
		}
		before := maps.Clone(b.disk)
		b.restart()
		b.join(h)
		b.isKept(h)
		b.agrees(tip, script(1), script(2))

		b.disk = before
		delete(b.disk, light.Prefix+"filter") // which is all that tells of its lie
		b.restart()
		b.join(h)
		b.agrees(tip, script(1), script(2))
	}
}

// An honest peer doubts what a liar told, and is elsewhere when that is agreed
// about anew: the liar, alone once more, repeats itself. That is no word of the
// honest one's, and once it is back the liar is found out.
func TestWhoIsAwayTakesNothingBack(t *testing.T) {
	for _, how := range []string{"it leaves", "it comes back on another branch", "it follows another branch"} {
		t.Run(how, func(t *testing.T) {
			tr := newTree(regtest())
			_, paid, spent, _, _ := payment(tr)
			tip := tr.grow(spent, 10)
			side := tr.grow(spent.parent, 5)
			b := newBench(t, tr, light.Options{})
			b.watch(0, script(1), script(2))
			liar, h := hiding(tr, "a", tip, paid), newNode("h", tip)
			b.join(liar)
			var late wire.Message // what the liar has not answered yet
			liar.mute = func(ask wire.Message) bool {
				if ask.Command() == wire.CmdGetCFHeaders {
					late = ask
				}
				return late != nil
			}
			b.join(h)
			if late == nil {
				t.Fatal("nothing was doubted")
			}
			switch how {
			case "it leaves":
				b.leave(h)
			case "it comes back on another branch":
				b.leave(h)
				h.follow(side)
				b.join(h)
			case "it follows another branch":
				b.announce(side, h)
				b.run()
			}
			liar.mute = nil
			b.say(liar, liar.answer(late)...)
			b.run()
			if err := b.dropped["h"]; err != nil {
				t.Fatalf("h, who is honest, was dropped: %v", err)
			}
			b.connect(h)
			tip = tr.mine(tip)
			b.announce(tip, liar, h)
			b.run()
			b.isBanned(liar, "filter")
			b.isKept(h)
			b.agrees(tip, script(1), script(2))
		})
	}
}

// Who doubts and then says what the others say has lied once, and is not to come
// back and do it again.
func TestWhoTakesBackWhatItSaidIsBanned(t *testing.T) {
	t.Parallel()
	for _, length := range []int{0, 1500, 2200} {
		tr := newTree(regtest())
		_, _, spent, _, _ := payment(tr)
		tip := tr.grow(spent, length)
		b := newBench(t, tr, light.Options{})
		b.watch(0, script(1), script(2))
		h, liar := newNode("h", tip), newNode("a", tip)
		lies := 0
		liar.twist = func(ask wire.Message, say []wire.Message) []wire.Message {
			if ask.Command() == wire.CmdGetCFHeaders && lies == 0 {
				lies++
				say[0].(*wire.MsgCFHeaders).PrevFilterHeader[0]++
			}
			return say
		}
		b.join(h)
		b.join(liar)
		b.isBanned(liar, "takes back")
		b.isKept(h)
		b.agrees(tip, script(1), script(2))
	}
}

// A peer that is behind contradicts ours where it has a checkpoint, which is ours:
// it would be asked for ever.
func TestWhoContradictsItsOwnCheckpoint(t *testing.T) {
	tr := newTree(regtest())
	_, _, spent, _, _ := payment(tr)
	behind := tr.grow(spent, 2000-int(spent.height))
	tip := tr.grow(behind, 200)
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1), script(2))
	h, liar := newNode("h", tip), newNode("a", behind)
	liar.twist = func(ask wire.Message, say []wire.Message) []wire.Message {
		if ask.Command() == wire.CmdGetCFHeaders {
			say[0].(*wire.MsgCFHeaders).PrevFilterHeader[0]++
		}
		return say
	}
	b.join(h)
	b.join(liar)
	b.isBanned(liar, "its own checkpoint")
	b.isKept(h)
	b.agrees(tip, script(1), script(2))
}

// The chain goes away and comes back while an answer is on its way: that is taken
// for the answer to what was asked last, which it does not fit, and is no lie.
func TestALateAnswerIsNoLie(t *testing.T) {
	for _, command := range []string{wire.CmdGetCFHeaders, wire.CmdGetCFilters} {
		t.Run(command, func(t *testing.T) {
			tr := newTree(regtest())
			fork := tr.grow(tr.first, 20)
			one := tr.grow(tr.mine(fork, pay(tr.nowhere(), script(1))), 3)
			two := tr.grow(fork, 5)
			b := newBench(t, tr, light.Options{})
			b.watch(0, script(1))
			h := newNode("h", fork)
			b.join(h)
			var asked []wire.Message
			h.mute = func(ask wire.Message) bool {
				if ask.Command() == command {
					asked = append(asked, ask)
					return true
				}
				return false
			}
			var late []wire.Message
			for _, tip := range []*block{one, two, tr.grow(one, 4), tr.grow(two, 6)} {
				b.announce(tip, h)
				b.run()
				for _, ask := range asked {
					late = append(late, h.answer(ask)...)
				}
				asked = nil
			}
			h.mute = nil
			b.say(h, late...)
			b.run()
			if err := b.banned["h"]; err != nil {
				t.Fatalf("h, who is honest, is banned: %v", err)
			}
			b.pass(light.AnswerTime)
			b.join(h)
			b.agrees(h.tip(), script(1))
		})
	}
}

// What is watched only while a transaction of ours waits for a block is not kept,
// even if blocks are looked through once more for it.
func TestADoubtKeepsNoBriefScript(t *testing.T) {
	tr := newTree(regtest())
	_, paid, spent, _, _ := payment(tr)
	tip := tr.grow(spent, 10)
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1), script(2))
	b.join(hiding(tr, "a", tip, paid))
	b.step(light.Publish{Tx: pay(tr.nowhere(), script(5))})
	b.join(newNode("h", tip))
	b.agrees(tip, script(1), script(2))
}
