package header_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/header/headertest"
	"coinop.dev/core/step"
)

type wireHeader = wire.BlockHeader

// FuzzConnect flips bytes of a good branch of 24 headers and mends the work of
// some of them. What Connect takes must be what a slow judge, who has all the
// headers and math/big, takes; what it refuses must leave no trace.
func FuzzConnect(f *testing.F) {
	p := brisk()
	p.ReduceMinDifficulty, p.MinDiffReductionTime = true, 2*p.TargetTimePerBlock
	common := grow(p, genesis(p), 40, 500, 1)
	branch := grow(p, common, 24, 400, 2)[41:]
	chain := header.New(p)
	if _, _, err := chain.Connect(common[1:], late); err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(0), byte(0), byte(0), uint32(1<<31))
	f.Add(uint16(3*80+68), byte(1), byte(24), uint32(1<<31))  // a time, all mined anew
	f.Add(uint16(5*80+72), byte(1), byte(24), uint32(1<<31))  // bits
	f.Add(uint16(7*80+4), byte(128), byte(0), uint32(1<<31))  // a link
	f.Add(uint16(9*80+0), byte(255), byte(24), uint32(0))     // a version; and all in the future
	f.Add(uint16(8*80+70), byte(16), byte(24), uint32(1<<31)) // far ahead: an easy one may follow
	f.Fuzz(func(t *testing.T, place uint16, flip, mend byte, now uint32) {
		headers := mutated(branch, int(place), flip, int(mend))
		c := chain.Clone()
		before := c.Work()
		fork, better, err := c.Connect(headers, step.Time(now)*step.Second)
		bad := slowly(p, common, headers, int64(now))
		switch {
		case err == nil && bad >= 0:
			t.Fatalf("header %d is bad, and is taken", bad)
		case err != nil && bad < 0:
			t.Fatalf("all are good; Connect says %v", err)
		case err == nil && (!better || c.Work().Cmp(before) <= 0 || fork != 40):
			t.Fatalf("fork %d, better %v", fork, better)
		case err == nil:
			return
		}
		var invalid *header.Invalid
		if errors.As(err, &invalid) {
			if int(invalid.Height) != 41+bad {
				t.Fatalf("header %d is bad; Connect says %v", 41+bad, err)
			}
		} else if !errors.Is(err, header.ErrOrphan) || bad != 0 {
			t.Fatalf("header %d is bad; Connect says %v", bad, err)
		}
		if err := header.Equal(c, chain); err != nil {
			t.Fatalf("a branch that is refused left a trace: %v", err)
		}
	})
}

// mutated flips bits of one byte, then mines the first so many headers from
// there on again and links them, so that only what was meant to break is broken.
func mutated(good []wire.BlockHeader, place int, flip byte, mend int) []wire.BlockHeader {
	headers := append([]wire.BlockHeader(nil), good...)
	at := place / header.Size % len(headers)
	raw := header.Raw(&headers[at])
	raw[place%header.Size] ^= flip
	headers[at] = parse(raw[:])
	if flip == 0 {
		return headers
	}
	for i := at; i < len(headers) && i < at+mend; i++ {
		// Only what takes no time to mine: at most some 30,000 hashes.
		if target := headertest.Expand(headers[i].Bits); target.BitLen() < 240 || target.BitLen() > 255 || headers[i].Bits&0x800000 != 0 {
			break
		}
		if i > at {
			headers[i].PrevBlock = headers[i-1].BlockHash()
		}
		headers[i] = headertest.Mine(headers[i], headers[i].Timestamp.Unix())
	}
	return headers
}

// slowly returns the index of the first bad header, or -1.
func slowly(p *chaincfg.Params, before, headers []wire.BlockHeader, now int64) int {
	all := append([]wire.BlockHeader(nil), before...)
	for i, h := range headers {
		var times []int64
		for _, b := range all[max(0, len(all)-11):] {
			times = append(times, b.Timestamp.Unix())
		}
		slices.Sort(times)
		unix := h.Timestamp.Unix()
		if h.PrevBlock != all[len(all)-1].BlockHash() ||
			h.Bits != headertest.Required(p, all, unix) ||
			number(h.BlockHash()).Cmp(headertest.Expand(h.Bits)) > 0 ||
			unix <= times[len(times)/2] || unix > now+7200 || h.Version < 4 {
			return i
		}
		all = append(all, h)
	}
	return -1
}
