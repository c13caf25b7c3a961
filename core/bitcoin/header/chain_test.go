package header_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/header/headertest"
)

func wantTip(t *testing.T, c *header.Chain, headers []wire.BlockHeader) {
	t.Helper()
	height, hash := c.Tip()
	if int(height) != len(headers)-1 || hash != headers[height].BlockHash() {
		t.Fatalf("tip is %v at height %d; wanted is height %d", hash, height, len(headers)-1)
	}
}

// TestHeavierNotLonger: a branch of few hard headers wins against many easy
// ones, and the chain gets shorter.
func TestHeavierNotLonger(t *testing.T) {
	p := brisk()
	common := grow(p, genesis(p), 60, 600, 1)
	long := grow(p, common, 40, 1200, 2) // slow, so it gets easier
	heavy := grow(p, common, 36, 60, 3)  // fast, so it gets harder
	c := header.New(p)
	syncs(t, c, long[1:])

	// Headers of ours in front are skipped, and the fork is where they end.
	fork, better, err := c.Connect(heavy[50:], late)
	if err != nil || !better || fork != 60 {
		t.Fatalf("heavier branch: fork %d, better %v, %v", fork, better, err)
	}
	wantTip(t, c, heavy)
	if h, ok := c.At(61); !ok || h != heavy[61] {
		t.Errorf("header 61 is %v", h)
	}
	if _, known := c.Height(long[61].BlockHash()); known {
		t.Error("a header of the old branch is still known")
	}
	straight := header.New(p)
	syncs(t, straight, heavy[1:])
	if straight.Work() != c.Work() {
		t.Errorf("work is %v; without the reorganisation it is %v", c.Work(), straight.Work())
	}
	// And the longer one does not win it back.
	work := c.Work()
	fork, better, err = c.Connect(long[61:], late)
	if err != nil || better || fork != 60 || c.Work() != work {
		t.Errorf("longer branch: fork %d, better %v, %v", fork, better, err)
	}
	wantTip(t, c, heavy)
}

func TestFirstSeenWinsATie(t *testing.T) {
	p := brisk()
	common := grow(p, genesis(p), 40, 600, 1)
	one, other := grow(p, common, 3, 600, 2), grow(p, common, 3, 600, 3)
	c := header.New(p)
	syncs(t, c, one[1:])
	if fork, better, err := c.Connect(other[41:], late); fork != 40 || better || err != nil {
		t.Errorf("fork %d, better %v, %v", fork, better, err)
	}
	wantTip(t, c, one)
	other = grow(p, other, 1, 600, 3)
	if fork, better, err := c.Connect(other[41:], late); fork != 40 || !better || err != nil {
		t.Errorf("fork %d, better %v, %v", fork, better, err)
	}
	wantTip(t, c, other)
}

func TestHeadersThatAreKnown(t *testing.T) {
	p := brisk()
	headers := grow(p, genesis(p), 40, 600, 1)
	c := header.New(p)
	syncs(t, c, headers[1:])
	for _, branch := range [][]wire.BlockHeader{nil, headers[1:], headers[10:20]} {
		if _, better, err := c.Connect(branch, late); better || err != nil {
			t.Errorf("%d known headers: better %v, %v", len(branch), better, err)
		}
	}
}

// TestReorganisationsAsDeepAsTheTail follows a branch from every depth that is
// promised, also across retargets, and not from below.
func TestReorganisationsAsDeepAsTheTail(t *testing.T) {
	p := headertest.Params() // periods of 2016, as mainnet
	headers := append(genesis(p), slices.Collect(headertest.Synthetic(p, 6200))...)
	for _, tip := range []int{5000, 6047, 6048, 6058, 6059, 6073, 6100} {
		c := header.New(p)
		syncs(t, c, headers[1:tip+1])
		for _, fork := range []int{tip - header.Tail, tip - 1000, tip - 1} {
			other := grow(p, headers[:fork+1], tip-fork+1000, 60, 9)
			follower := c.Clone()
			got, better, err := follower.Connect(other[fork+1:], late)
			if err != nil || !better || int(got) != fork {
				t.Fatalf("tip %d, fork %d: fork %d, better %v, %v", tip, fork, got, better, err)
			}
			wantTip(t, follower, other)
			for h := follower.Base(); int(h) < len(other); h++ {
				if got, ok := follower.At(h); !ok || got != other[h] {
					t.Fatalf("tip %d, fork %d: header %d is not the branch's", tip, fork, h)
				}
			}
			if length, room := follower.Tails(); length < header.Tail || room > 2*header.Tail+100 {
				t.Errorf("tail has %d headers, room for %d", length, room)
			}
		}
		if c.Base() == 0 {
			continue
		}
		for _, fork := range []int{0, 1000, int(c.Base()) - 1, int(c.Base()), int(c.Base()) + 9} {
			if _, _, err := c.Connect(headertestBranch(p, headers, fork), late); !errors.Is(err, header.ErrOrphan) {
				t.Errorf("tip %d, base %d: a fork at %d gives %v", tip, c.Base(), fork, err)
			}
		}
		if _, _, err := c.Connect(headertestBranch(p, headers, int(c.Base())+10), late); err != nil {
			t.Errorf("tip %d, base %d: a fork at the lowest that can be judged gives %v", tip, c.Base(), err)
		}
	}
}

func headertestBranch(p *chaincfg.Params, headers []wire.BlockHeader, fork int) []wire.BlockHeader {
	return grow(p, headers[:fork+1], 3, 600, 9)[fork+1:]
}

// TestLowWorkFlood: an attacker with little power sends branches for ever. They
// are judged and forgotten: the chain stays as it is, its memory too.
func TestLowWorkFlood(t *testing.T) {
	p := brisk()
	headers := grow(p, grow(p, genesis(p), 2450, steady, 1), 50, 200, 1) // hard in the end
	c := header.New(p)
	syncs(t, c, headers[1:])
	before := c.Clone()
	for salt := range uint64(20) {
		fork := len(headers) - 100 - int(salt)
		flood := grow(p, headers[:fork], 90, 7000, salt) // ever easier
		if got, better, err := c.Connect(flood[fork:], late); better || err != nil || int(got) != fork-1 {
			t.Fatalf("fork %d, better %v, %v", got, better, err)
		}
	}
	if err := header.Equal(c, before); err != nil {
		t.Errorf("the flood left something: %v", err)
	}
	if got := c.Changes("h/"); len(got) == 0 {
		t.Error("changes of the chain are lost")
	}
	flood := grow(p, headers[:2400], 90, 7000, 5)
	c.Connect(flood[2400:], late)
	if got := c.Changes("h/"); got != nil {
		t.Errorf("the flood puts %d records", len(got))
	}
	// Allocations do not grow with what is refused, but for the one error.
	few := testing.AllocsPerRun(20, func() { c.Connect(flood[2400:2402], late) })
	many := testing.AllocsPerRun(20, func() { c.Connect(flood[2400:], late) })
	if many > few+1 {
		t.Errorf("%d headers cost %.0f allocations, 2 cost %.0f", len(flood)-2400, many, few)
	}
}

// TestLowDifficultyFork: a branch that claims to be easy where it must be hard
// is a lie, at its first header.
func TestLowDifficultyFork(t *testing.T) {
	p := brisk()
	headers := grow(p, genesis(p), 100, 150, 1)
	c := header.New(p)
	syncs(t, c, headers[1:])
	easy := headertest.Next(p, headers[:90], headers[89].Timestamp.Unix()+600, 2)
	easy.Bits = headertest.EasyBits
	_, better, err := c.Connect([]wire.BlockHeader{at(easy, easy.Timestamp.Unix())}, late)
	wantRule(t, err, header.RuleBits)
	if better {
		t.Error("it was followed")
	}
}

// TestForkBeforeACheckpoint: once we are past a checkpoint, no branch from below
// it is looked at, however heavy.
func TestForkBeforeACheckpoint(t *testing.T) {
	p := brisk()
	headers := grow(p, genesis(p), 100, 600, 1)
	heavy := grow(p, headers[:50], 70, 100, 2)
	mark := headers[60].BlockHash()
	p.Checkpoints = []chaincfg.Checkpoint{{Height: 60, Hash: &mark}}
	c := header.New(p)
	syncs(t, c, headers[1:])
	_, _, err := c.Connect(heavy[50:], late)
	wantRule(t, err, header.RuleCheckpoint)
	wantTip(t, c, headers)
	heavy = grow(p, headers[:61], 60, 200, 2) // from the checkpoint on it is all right
	if _, better, err := c.Connect(heavy[61:], late); !better || err != nil {
		t.Errorf("better %v, %v", better, err)
	}
	// Before we have reached it, the branch that contradicts it is refused too.
	c = header.New(p)
	syncs(t, c, headers[1:41])
	_, _, err = c.Connect(grow(p, headers[:41], 60, 200, 2)[41:], late)
	wantRule(t, err, header.RuleCheckpoint)
}

func TestUnknownParentIsAnOrphan(t *testing.T) {
	p := brisk()
	headers := grow(p, genesis(p), 10, 600, 1)
	c := header.New(p)
	if _, better, err := c.Connect(headers[5:], late); better || !errors.Is(err, header.ErrOrphan) {
		t.Errorf("better %v, %v", better, err)
	}
}

func TestWhatAChainKnows(t *testing.T) {
	p := brisk()
	headers := append(genesis(p), slices.Collect(headertest.Synthetic(p, 20_500))...)
	c := header.New(p)
	syncs(t, c, headers[1:])
	for h := range int32(len(headers)) {
		inTail, marked := h >= c.Base(), h%header.Interval == 0
		got, ok := c.At(h)
		if ok != inTail || ok && got != headers[h] {
			t.Fatalf("At(%d) is %v, %v", h, got, ok)
		}
		hash, ok := c.Hash(h)
		if ok != (inTail || marked) || ok && hash != headers[h].BlockHash() {
			t.Fatalf("Hash(%d) is %v, %v", h, hash, ok)
		}
		if !ok && h%97 != 0 {
			continue
		}
		if height, known := c.Height(headers[h].BlockHash()); known != ok || known && height != h {
			t.Fatalf("Height of header %d is %d, %v", h, height, known)
		}
	}
	for _, h := range []int32{-1, 20_501, -header.Interval, 21_000} {
		if _, ok := c.At(h); ok {
			t.Errorf("At(%d) is something", h)
		}
		if _, ok := c.Hash(h); ok {
			t.Errorf("Hash(%d) is something", h)
		}
	}

	locator := c.Locator()
	last := int32(len(headers))
	for _, hash := range locator {
		h, ok := c.Height(hash)
		if !ok || h >= last {
			t.Fatalf("locator has %v (height %d, %v) after height %d", hash, h, ok, last)
		}
		last = h
	}
	if locator[0] != headers[20_500].BlockHash() || last != 0 || len(locator) > 40 {
		t.Errorf("locator of %d goes from %v down to %d", len(locator), locator[0], last)
	}
	if got := header.New(p).Locator(); !slices.Equal(got, []chainhash.Hash{*p.GenesisHash}) {
		t.Errorf("locator of the first block is %v", got)
	}
}

// TestVerify proves headers that were forgotten.
func TestVerify(t *testing.T) {
	p := brisk()
	headers := append(genesis(p), slices.Collect(headertest.Synthetic(p, 8000))...)
	c := header.New(p)
	syncs(t, c, headers[1:])
	base := c.Base()
	for _, span := range [][2]int32{{0, 1000}, {1001, 2000}, {1500, 3000}, {5, int32(base)}, {1000, 1000}, {base - 1, base + 4}} {
		if err := c.Verify(headers[span[0]:span[1]+1], span[0]); err != nil {
			t.Errorf("headers %d to %d: %v", span[0], span[1], err)
		}
	}
	// What is in the middle is proved by the end alone.
	forged := slices.Clone(headers[1001:2001])
	forged[499].MerkleRoot[0] ^= 1
	err := c.Verify(forged, 1001)
	wantRule(t, err, header.RuleLink)
	var invalid *header.Invalid
	if errors.As(err, &invalid); invalid.Height != 1500 {
		t.Errorf("the forged header is said to be at %d", invalid.Height)
	}
	wantRule(t, c.Verify(grow(p, headers[:1500], 501, 600, 2)[1500:], 1500), header.RuleLink)
	for _, bad := range []struct {
		headers []wire.BlockHeader
		from    int32
	}{
		{nil, 5}, {headers[1:1500], 1}, {headers, -1}, {headers, 1}, {headers[1:10], 1<<31 - 3},
	} {
		err := c.Verify(bad.headers, bad.from)
		if err == nil || errors.As(err, &invalid) && bad.from == 1 && len(bad.headers) == 1499 {
			t.Errorf("%d headers from %d: %v", len(bad.headers), bad.from, err)
		}
	}
}

func TestCloneGoesItsOwnWay(t *testing.T) {
	p := brisk()
	headers := grow(p, genesis(p), 40, 600, 1)
	c := header.New(p)
	syncs(t, c, headers[1:31])
	clone := c.Clone()
	syncs(t, clone, headers[31:])
	wantTip(t, c, headers[:31])
	wantTip(t, clone, headers)
	syncs(t, c, grow(p, headers[:31], 5, 600, 2)[31:])
	wantTip(t, clone, headers)
}
