package light_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/light"
	"coinop.dev/core/bitcoin/watch"
)

// longChain is a chain of 5,300 blocks that pays script n at height 300*n. It is
// made once: who mines on it does so on a tree of its own.
func longChain() (tr *tree, tip *block) {
	tr, tip = builtLong()
	return tr.fork(), tip
}

var builtLong = sync.OnceValues(func() (tr *tree, tip *block) {
	tr = newTree(regtest())
	tip = tr.first
	for n := 1; n <= 17; n++ {
		tip = tr.mine(tr.grow(tip, 299), pay(tr.nowhere(), script(n)))
	}
	return tr, tr.grow(tip, 200)
})

func TestRescanFindsOldBlocksWhileNewOnesComeFirst(t *testing.T) {
	t.Parallel()
	tr, tip := longChain()
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(17))
	h := newNode("h", tip)
	b.join(h)
	b.agrees(tip, script(17))
	clear(b.filters)
	b.watch(0, script(1), script(9), script(16))
	if b.client.Looked(script(1), 0) {
		t.Fatal("nothing was looked through for it yet")
	}
	for b.filters[900] == 0 {
		b.step(b.queue[0])
		b.queue = b.queue[1:]
	}
	tip = tr.mine(tip, pay(tr.nowhere(), script(17)))
	h.follow(tip)
	b.queue = slices.Insert(b.queue, 0, nil)
	b.queue = b.queue[1:]
	b.say(h, headersOf([]*block{tip}))
	for at := int32(0); at != tip.height; at, _ = b.client.Tip() {
		b.step(b.queue[0])
		b.queue = b.queue[1:]
	}
	if b.filters[2100] > 0 {
		t.Error("the new block waited for old ones")
	}
	b.run()
	b.agrees(tip, script(1), script(9), script(16), script(17))
	for height, n := range b.filters {
		if n > 1 && height != tip.height { // that one is looked through for the others first
			t.Errorf("the filter at height %d came %d times", height, n)
		}
	}
	for height, n := range b.blocks {
		if n > 1 {
			t.Errorf("block %d came %d times", height, n)
		}
	}
}

// A rescan goes on where it was when the machine stopped, whenever that is.
func TestRescanGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	tr, tip := longChain()
	b := newBench(t, tr, light.Options{})
	h := newNode("h", tip)
	b.join(h)
	b.agrees(tip)
	saved := maps.Clone(b.disk)
	for _, stops := range [][]int{{700}, {1200, 1300}, {2300, 100, 900}, {4700}} {
		b.disk = maps.Clone(saved)
		b.restart()
		clear(b.filters)
		clear(b.blocks)
		b.watch(0, script(1), script(2), script(3), script(10), script(16))
		b.connect(h)
		for _, stop := range stops {
			for n := 0; n < stop && len(b.queue) > 0; n++ {
				b.step(b.queue[0])
				b.queue = b.queue[1:]
			}
			b.check()
			b.restart()
			b.connect(h)
		}
		b.run()
		b.check()
		b.agrees(tip, script(1), script(2), script(3), script(10), script(16))
		total, most := 0, 5300+1000*len(stops)
		for _, n := range b.filters {
			total += n
		}
		if total > most {
			t.Errorf("%d filters came for %v restarts; an interval more for each are %d", total, stops, most)
		}
		for height, n := range b.blocks {
			if n > 1+len(stops) {
				t.Errorf("block %d came %d times", height, n)
			}
		}
	}
}

func TestScriptsAddedWhileARescanRuns(t *testing.T) {
	tr, tip := longChain()
	b := newBench(t, tr, light.Options{})
	h := newNode("h", tip)
	b.join(h)
	b.watch(0, script(2))
	for i := 3; i <= 16; i++ {
		for range 150 {
			if len(b.queue) > 0 {
				b.step(b.queue[0])
				b.queue = b.queue[1:]
			}
		}
		b.watch(0, script(i))
	}
	b.run()
	var all [][]byte
	for i := 2; i <= 16; i++ {
		all = append(all, script(i))
	}
	b.agrees(tip, all...)
}

// A script comes while the filters of the tip's range come, after the one of the
// block that pays it.
func TestAScriptAddedAfterItsFilterHasPassed(t *testing.T) {
	tr := newTree(regtest())
	tip, paid, _, _, _ := payment(tr)
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(3))
	b.connect(newNode("h", tip))
	b.runUntil(func() bool { return b.filters[paid.height] > 0 })
	b.watch(paid.height, script(1))
	b.run()
	if s := b.client.Status(watch.Output{Point: out(paid.Transactions[1], 0), Script: script(1)}); s.Depth == 0 || s.Spender == nil {
		t.Errorf("status is %+v; want the payment and its spend", s)
	}
}

// One peer tells of another chain while a second one's filters come, which is asked
// for them once more: those that are on their way are no reason to hang up.
func TestFiltersOfAChainThatIsGone(t *testing.T) {
	tr := newTree(regtest())
	tip, paid, _, _, _ := payment(tr)
	side := tr.grow(tr.mine(tip.parent.parent, pay(tr.nowhere(), script(2))), 3)
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1), script(2))
	x, y := newNode("x", tip), newNode("y", tip)
	b.connect(x, y)
	b.runUntil(func() bool { return b.filters[paid.height] > 0 })
	onTheWay := b.queue
	b.queue = nil
	b.announce(side, y)
	b.queue = append(b.queue, onTheWay...)
	b.run()
	b.announce(side, x)
	b.run()
	b.isKept(x, y)
	b.agrees(side, script(1), script(2))
}

// A script that was looked for from some height on is looked for below it when
// somebody asks.
func TestAnEarlierSinceLooksFurtherBack(t *testing.T) {
	tr := newTree(regtest())
	paid := tr.mine(tr.grow(tr.first, 4), pay(tr.nowhere(), script(1)))
	tip := tr.grow(tr.mine(tr.grow(paid, 4), pay(tr.nowhere(), script(1))), 5)
	b := newBench(t, tr, light.Options{})
	b.join(newNode("h", tip))
	b.watch(8, script(1))
	b.run()
	if n := len(b.client.Coins(script(1))); !b.client.Looked(script(1), 8) || n != 1 {
		t.Fatalf("%d coins from height 8 on", n)
	}
	if b.client.Looked(script(1), 0) {
		t.Fatal("it says that it has looked everywhere")
	}
	b.watch(0, script(1))
	b.run()
	b.agrees(tip, script(1))
	b.restart()
	if !b.client.Looked(script(1), 0) {
		t.Error("it is forgotten")
	}
}

// A script that is only watched because of what was published is looked for in
// older blocks when it is asked for.
func TestAScriptThatWasWatchedBriefly(t *testing.T) {
	tr := newTree(regtest())
	tip := tr.grow(tr.mine(tr.first, pay(tr.nowhere(), script(1))), 5)
	b := newBench(t, tr, light.Options{})
	h := newNode("h", tip)
	b.join(h)
	b.step(light.Publish{Tx: pay(tr.nowhere(), script(1))})
	b.run()
	b.watch(0, script(1))
	b.run()
	if coins := b.client.Coins(script(1)); len(coins) != 2 || coins[0].Depth != 6 || coins[1].Depth != 0 {
		t.Errorf("coins are %+v", coins)
	}
}

func TestNothingBelowTheBirthdayIsFetched(t *testing.T) {
	t.Parallel()
	tr, tip := longChain()
	for _, birthday := range []int32{1, 1000, 2500, 4999, 5299} {
		b := newBench(t, tr, light.Options{Birthday: birthday})
		b.watch(0, script(4), script(10))
		h := newNode("h", tip)
		b.connect(h)
		for range 3 { // in the middle of the headers, too
			b.step(b.queue[0])
			b.queue = b.queue[1:]
			b.restart()
			b.connect(h)
		}
		b.run()
		b.watch(0, script(12))
		b.run()
		b.synced(tip)
		var want int
		for _, n := range []int32{4, 10, 12} {
			if birthday <= 300*n {
				want++
			}
		}
		if got := len(b.client.Coins(script(4))) + len(b.client.Coins(script(10))) + len(b.client.Coins(script(12))); got != want {
			t.Errorf("birthday %d: %d coins; want %d", birthday, got, want)
		}
		for height := range b.blocks {
			if height < birthday {
				t.Errorf("birthday %d: block %d was fetched", birthday, height)
			}
		}
		for height := range b.filters {
			if height <= (birthday-1)/1000*1000 {
				t.Errorf("birthday %d: the filter at height %d was fetched", birthday, height)
			}
		}
		b.step(light.Want{Height: birthday / 1000 * 1000}, light.Want{Height: min(999, birthday/1000*1000-1)})
		b.run()
		if birthday > 1000 {
			if o := b.outcome(light.WantID(999)); !errors.Is(o.Err, light.ErrOlder) {
				t.Errorf("birthday %d: block 999 gives %v", birthday, o.Err)
			}
		}
	}
}

func TestABirthdayAboveTheTip(t *testing.T) {
	tr := newTree(regtest())
	tip := tr.grow(tr.first, 10)
	b := newBench(t, tr, light.Options{Birthday: 13})
	b.watch(0, script(1))
	h := newNode("h", tip)
	b.join(h)
	if ok, _ := b.client.State(); ok {
		t.Error("it answers questions about blocks that are not there")
	}
	b.restart()
	b.join(h)
	tip = tr.grow(tr.mine(tr.grow(tip, 2), pay(tr.nowhere(), script(1))), 3)
	b.announce(tip, h)
	b.run()
	b.agrees(tip, script(1))
}

// A lower birthday than the records are of has it begin again.
func TestALowerBirthdayThanBefore(t *testing.T) {
	tr, tip := longChain()
	b := newBench(t, tr, light.Options{Birthday: 4000})
	b.watch(0, script(4), script(14))
	h := newNode("h", tip)
	b.join(h)
	b.options.Birthday = 0
	b.restart()
	b.connect(h)
	b.watch(0, script(4), script(14))
	b.run()
	b.agrees(tip, script(4), script(14))
}

// Callers want blocks of several intervals that are on disk, while a rescan needs
// others.
func TestBlocksOfManyIntervalsAtOnce(t *testing.T) {
	tr, tip := longChain()
	b := newBench(t, tr, light.Options{})
	h := newNode("h", tip)
	b.join(h, newNode("i", tip))
	b.watch(0, script(1), script(6))
	var heights []int32
	for i := range int32(40) {
		heights = append(heights, 1+i*131)
		b.step(light.Want{Height: 1 + i*131})
	}
	b.step(light.Want{Height: 0}, light.Want{Height: tip.height + 1}, light.Want{Height: -1})
	b.run()
	b.isKept(h)
	b.agrees(tip, script(1), script(6))
	path := tip.path()
	for _, height := range append(heights, 0) {
		o := b.outcome(light.WantID(height))
		if k, ok := o.Value.(*wire.MsgBlock); !ok || k == nil || k.BlockHash() != path[height].hash {
			t.Errorf("block %d: %v, error %v", height, k, o.Err)
		}
	}
	if o := b.outcome(light.WantID(tip.height + 1)); !errors.Is(o.Err, light.ErrAbove) {
		t.Errorf("a block above the tip: %v", o.Err)
	}
	for i := range light.MaxWanted + 10 {
		b.step(light.Want{Height: int32(1 + i)})
	}
	b.run()
}

// The chain comes in pieces of any size, so that intervals end in the middle of
// them: all hashes are on disk.
func TestHashesOnDiskAreThoseOfTheChain(t *testing.T) {
	t.Parallel()
	tr, tip := longChain()
	path := tip.path()
	for _, first := range []int32{1, 43, 60, 500, 999, 1000, 1001, 2042, 2043, 2044, 2100, 3000} {
		b := newBench(t, tr, light.Options{})
		h := newNode("h", path[first])
		b.join(h)
		b.announce(tip, h)
		b.run()
		for i := int32(0); i < 5; i++ {
			hashes := light.ReadHashes(b.disk[light.HashesKey(i)])
			for n, hash := range hashes {
				if hash != path[i*1000+int32(n)+1].hash {
					t.Fatalf("the first %d blocks alone: on disk, height %d has hash %v", first, i*1000+int32(n)+1, hash)
				}
			}
			if len(hashes) == 0 {
				t.Fatalf("the first %d blocks alone: interval %d is not on disk", first, i)
			}
		}
	}
}

// Statuses never show a block that is not counted yet.
func TestDepthIsNeverNegative(t *testing.T) {
	tr := newTree(regtest())
	tip := tr.mine(tr.first, pay(tr.nowhere(), script(1)))
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1))
	h := newNode("h", tip)
	b.join(h)
	for i := range 60 {
		tip = tr.mine(tip, pay(tr.nowhere(), script(1), script(i%5)))
	}
	b.announce(tip, h)
	for len(b.queue) > 0 {
		b.step(b.queue[0])
		b.queue = b.queue[1:]
		for _, coin := range b.client.Coins(script(1)) {
			s := b.client.Status(watch.Output{Point: coin.Point})
			if coin.Depth < 1 || s.Depth < 1 || s.Depth > s.Tip {
				t.Fatalf("coin %+v, status %+v", coin, s)
			}
		}
	}
	b.agrees(tip, script(1))
}

// The filter headers that are kept one by one move on while a rescan uses them.
func TestRescanWhileFilterHeadersAreTrimmed(t *testing.T) {
	t.Parallel()
	tr := newTree(regtest())
	tip := tr.first
	for i := range 12 {
		tip = tr.mine(tr.grow(tip, 335), pay(tr.nowhere(), script(i)))
	}
	b := newBench(t, tr, light.Options{})
	h := newNode("h", tr.first)
	b.join(h)
	for _, k := range tip.path()[1:] { // a few at a time, so that all are kept
		if k.height%7 == 0 || k == tip {
			b.announce(k, h)
			b.run()
		}
	}
	b.agrees(tip)
	for i := range 12 {
		b.watch(0, script(i))
		for n := range 8 {
			tip = tr.mine(tip, pay(tr.nowhere(), script(n)))
			b.announce(tip, h)
			b.step(b.queue[0])
			b.queue = b.queue[1:]
		}
		b.run()
		b.isKept(h)
		b.agrees(tip, script(i))
	}
	if fmt.Sprint(b.dropped) != "map[]" {
		t.Error(b.dropped)
	}
}
