package header_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/header/headertest"
	"coinop.dev/core/step"
)

// TestLoadEqualsMemory does to chains whatever may happen to them, in any order,
// and loads them after each step.
func TestLoadEqualsMemory(t *testing.T) {
	p := brisk()
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 1))
		c, d := header.New(p), newDisk()
		headers := genesis(p)
		for range 40 {
			switch r.IntN(8) {
			case 0: // a sync from far behind
				headers = grow(p, headers, 1+r.IntN(2500), steady+r.Int64N(300), r.Uint64())
				syncs(t, c, headers[max(1, tip(c)+1):])
			case 1, 2, 3: // a reorganisation; it may make the chain shorter
				fork := len(headers) - 1 - r.IntN(min(len(headers), 1500))
				branch := grow(p, headers[:fork+1], min(1+r.IntN(len(headers)-fork), 40), 60+r.Int64N(600), r.Uint64())
				branch = grow(p, branch, r.IntN(len(headers)-fork), steady+r.Int64N(300), r.Uint64())
				_, better, err := c.Connect(branch[fork+1:], late)
				if err != nil {
					t.Fatal(err)
				}
				if better {
					headers = branch
				}
			default: // a few blocks
				headers = grow(p, headers, 1+r.IntN(3), steady+100, r.Uint64())
				syncs(t, c, headers[tip(c)+1:])
			}
			if r.IntN(3) == 0 {
				continue // the owner puts later
			}
			d.put(c.Changes("h/"))
			if more := c.Changes("h/"); more != nil {
				t.Fatalf("%d records are put twice", len(more))
			}
			loaded, err := header.Load(d, "h/", p)
			if err != nil {
				t.Fatal(err)
			}
			if err := header.Equal(loaded, c); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			wantTip(t, loaded, headers)
			pages, leaves := tip(c)/16-c.Base()/16+1, tip(c)/header.Interval/64+1
			if len(d) != int(pages+leaves+1) {
				t.Fatalf("%d records are on disk; %d pages, %d leaves and one more should be", len(d), pages, leaves)
			}
			if r.IntN(2) == 0 {
				c = loaded // the machine restarts
			}
		}
	}
}

func tip(c *header.Chain) int32 {
	height, _ := c.Tip()
	return height
}

func TestNothingOnDiskIsTheFirstBlock(t *testing.T) {
	c, err := header.Load(newDisk(), "h/", &chaincfg.MainNetParams)
	if err != nil || tip(c) != 0 {
		t.Fatal(c, err)
	}
	d := newDisk()
	d.put(c.Changes("h/"))
	again, err := header.Load(d, "h/", &chaincfg.MainNetParams)
	if err != nil || header.Equal(again, c) != nil {
		t.Errorf("first block: %v", err)
	}
}

// TestABlockPutsLittle: a new block writes one page, now and then two.
func TestABlockPutsLittle(t *testing.T) {
	p := headertest.Params()
	headers := slices.Collect(headertest.Synthetic(p, 7000))
	c := header.New(p)
	syncs(t, c, headers[:5000])
	c.Changes("h/")
	most := 0
	for i := 5000; i < 7000; i++ {
		syncs(t, c, headers[i:i+1])
		size := 0
		for _, r := range c.Changes("h/") {
			size += len(r.Value)
		}
		most = max(most, size)
	}
	if most > 4000 {
		t.Errorf("a block puts up to %d bytes", most)
	}
}

// TestDiskThatLost names what is wrong and what to do.
func TestDiskThatLost(t *testing.T) {
	p := brisk()
	headers := slices.Collect(headertest.Synthetic(p, 3000))
	c, d := header.New(p), newDisk()
	syncs(t, c, headers)
	d.put(c.Changes("h/"))
	for key, value := range d {
		for name, harmed := range map[string][]byte{
			"missing": nil,
			"cut":     value[:len(value)-1],
			"longer":  append(slices.Clone(value), 0),
			"flipped": flipped(value, len(value)/2),
			"end":     flipped(value, len(value)-1),
		} {
			if key == "h/chain" && (name == "missing" || name == "flipped" || name == "cut") {
				continue // nothing is there, or the parent of the lowest header
			}
			if strings.HasPrefix(key, "h/leaf/") && (name == "flipped" || name == "end") {
				continue // a mark below the tail says nothing about itself
			}
			other := newDisk()
			for k, v := range d {
				other[k] = v
			}
			other[key] = harmed
			if _, err := header.Load(other, "h/", p); err == nil || !strings.Contains(err.Error(), "remove its records") {
				t.Errorf("%s %s: %v", key, name, err)
			}
		}
	}
	if _, err := header.Load(d, "h/", &chaincfg.MainNetParams); err == nil {
		t.Error("a chain of another network is loaded")
	}
}

func flipped(b []byte, i int) []byte {
	b = slices.Clone(b)
	b[i] ^= 1
	return b
}

// FuzzLoad: what is on disk may be anything, and Load neither panics nor takes
// what does not hold together.
func FuzzLoad(f *testing.F) {
	p := brisk()
	c, d := header.New(p), newDisk()
	for h := range headertest.Synthetic(p, 20) {
		c.Connect([]wireHeader{h}, late)
	}
	d.put(c.Changes(""))
	f.Add(d["chain"], d["page/00000000"], d["leaf/00000000"])
	f.Fuzz(func(t *testing.T, state, page, leaf []byte) {
		r := disk{"chain": state, "page/00000000": page, "page/00000001": d["page/00000001"], "leaf/00000000": leaf}
		c, err := header.Load(r, "", p)
		if err != nil {
			return
		}
		c.Connect(grow(p, genesis(p), 1, 600, 1)[1:], step.Time(0))
		c.Locator()
	})
}
