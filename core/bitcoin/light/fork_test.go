package light_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header/headertest"
	"coinop.dev/core/bitcoin/light"
	"coinop.dev/core/step"
)

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

// deep is two chains that part below the tail. They are made once: who mines on
// them does so on a tree of its own.
func deep() (tr *tree, ours, theirs *block) {
	d := builtDeep()
	return d.tree.fork(), d.ours, d.theirs
}

var builtDeep = sync.OnceValue(func() (d struct {
	tree         *tree
	ours, theirs *block
}) {
	d.tree = newTree(regtest())
	fork := d.tree.grow(d.tree.first, 50)
	d.ours = d.tree.grow(d.tree.mine(fork, pay(d.tree.nowhere(), script(1))), 4300)
	d.theirs = d.tree.grow(d.tree.mine(fork, pay(d.tree.nowhere(), script(2))), 4400)
	return d
})

func TestDeepReorgIsFollowedIfItHasMoreWork(t *testing.T) {
	t.Parallel()
	tr, ours, theirs := deep()
	b := newBench(t, tr, light.Options{})
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
	t.Parallel()
	tr, theirs, ours := deep()
	b := newBench(t, tr, light.Options{})
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
	t.Parallel()
	tr, ours, theirs := deep()
	b := newBench(t, tr, light.Options{})
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
	t.Parallel()
	p := headertest.Params()
	p.TargetTimespan = 100 * p.TargetTimePerBlock
	tr := newTree(p)
	tr.pace = 150
	hard := tr.grow(tr.first, 350) // 1, 4, 16, 64 times
	tr.pace = 600
	long := tr.grow(tr.first, 9000)
	b := newBench(t, tr, light.Options{})
	b.join(newNode("a", hard))
	b.synced(hard)
	b.join(newNode("h", long))
	b.synced(long)
}

// Branches with little work cost a peer its connection and us no memory.
func TestLowWorkFlood(t *testing.T) {
	t.Parallel()
	p := headertest.Params()
	p.TargetTimespan = 100 * p.TargetTimePerBlock
	tr := newTree(p)
	tr.pace = 150
	tip := tr.grow(tr.first, 450)
	tr.pace = 600
	low := tr.grow(tr.first, 6200)
	path := low.path()
	b := newBench(t, tr, light.Options{})
	h := newNode("h", tip)
	b.join(h)
	for i := range 10 {
		a := newNode(fmt.Sprint("a", i), low)
		b.connect(a)
		for from := 1; from < 6000 && b.nodes[a.name] != nil; from += 100 {
			b.say(a, headersOf(path[from:from+100])) // unasked, all of it
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

// reorgs happen in the middle of every stage.
func TestReorgInTheMiddleOfEachStage(t *testing.T) {
	t.Parallel()
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
					b.fair(x, y)
				})
			}
		}
	}
}
