package header_test

import (
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/header/headertest"
	"coinop.dev/core/step"
)

// brisk is a network whose difficulty changes every 16 headers.
func brisk() *chaincfg.Params {
	p := headertest.Params()
	p.TargetTimespan = 16 * p.TargetTimePerBlock
	return p
}

func genesis(p *chaincfg.Params) []wire.BlockHeader {
	return []wire.BlockHeader{p.GenesisBlock.Header}
}

// steady is the seconds a block that keep brisk as easy as it is: 16 headers are
// 15 intervals.
const steady = 640

// grow mines n headers more, spaced by so many seconds.
func grow(p *chaincfg.Params, headers []wire.BlockHeader, n int, spacing int64, salt uint64) []wire.BlockHeader {
	headers = headers[:len(headers):len(headers)] // never into a sibling's array
	for range n {
		unix := headers[len(headers)-1].Timestamp.Unix() + spacing
		headers = append(headers, headertest.Next(p, headers, unix, salt))
	}
	return headers
}

// at mines h again with another time.
func at(h wire.BlockHeader, unix int64) wire.BlockHeader { return headertest.Mine(h, unix) }

// unruly is 36 headers: five at the end of the second period are ahead of time,
// the five of the third have just the median of those before them, plus one.
func unruly() []wire.BlockHeader {
	p := brisk()
	headers := grow(p, genesis(p), 26, steady, 1)
	unix := headers[26].Timestamp.Unix()
	for i := range int64(5) {
		headers = append(headers, headertest.Next(p, headers, unix+5000+i, 1))
	}
	for i := range int64(5) {
		headers = append(headers, headertest.Next(p, headers, unix+1+i, 1))
	}
	return headers
}

// TestEachRule shows for every rule a header that breaks just that one, and the
// nearest one that does not.
func TestEachRule(t *testing.T) {
	storm := brisk()
	storm.EnforceBIP94 = true
	old := brisk()
	old.BIP0034Height, old.BIP0066Height, old.BIP0065Height = 10, 15, 20
	pinned := brisk()
	marked := grow(pinned, genesis(pinned), 20, 600, 7)
	mark := marked[20].BlockHash()
	pinned.Checkpoints = []chaincfg.Checkpoint{{Height: 20, Hash: &mark}}

	// The tip's time is the latest of all but where a case says otherwise.
	calm := func(p *chaincfg.Params, n int) []wire.BlockHeader { return grow(p, genesis(p), n, 600, 7) }
	tip := func(headers []wire.BlockHeader) int64 { return headers[len(headers)-1].Timestamp.Unix() }
	median := func(headers []wire.BlockHeader) int64 { return headers[len(headers)-6].Timestamp.Unix() }
	version := func(p *chaincfg.Params, headers []wire.BlockHeader, v int32) wire.BlockHeader {
		h := headertest.Next(p, headers, tip(headers)+600, 1)
		h.Version = v
		return at(h, tip(headers)+600)
	}

	for _, c := range []struct {
		name   string
		params *chaincfg.Params
		before []wire.BlockHeader
		make   func(p *chaincfg.Params, before []wire.BlockHeader, broken bool) wire.BlockHeader
		rule   header.Rule
	}{
		{"difficulty bits kept where they must change", brisk(), calm(brisk(), 31), func(p *chaincfg.Params, before []wire.BlockHeader, broken bool) wire.BlockHeader {
			h := headertest.Next(p, before, tip(before)+600, 1)
			if broken {
				h.Bits = before[31].Bits
			}
			return at(h, tip(before)+600)
		}, header.RuleBits},
		{"difficulty bits changed where they must stay", brisk(), calm(brisk(), 40), func(p *chaincfg.Params, before []wire.BlockHeader, broken bool) wire.BlockHeader {
			h := headertest.Next(p, before, tip(before)+600, 1)
			if broken {
				h.Bits-- // harder, and still not what is asked
			}
			return at(h, tip(before)+600)
		}, header.RuleBits},
		{"no proof of work", brisk(), calm(brisk(), 40), func(p *chaincfg.Params, before []wire.BlockHeader, broken bool) wire.BlockHeader {
			h := headertest.Next(p, before, tip(before)+600, 1)
			for target := headertest.Expand(h.Bits); broken && number(h.BlockHash()).Cmp(target) <= 0; {
				h.Nonce++
			}
			return h
		}, header.RuleWork},
		{"time that is the median", brisk(), calm(brisk(), 40), func(p *chaincfg.Params, before []wire.BlockHeader, broken bool) wire.BlockHeader {
			unix := median(before) + 1
			if broken {
				unix--
			}
			return headertest.Next(p, before, unix, 1)
		}, header.RuleMedian},
		{"time that is the median, most of which the last period says", brisk(), unruly(), func(p *chaincfg.Params, before []wire.BlockHeader, broken bool) wire.BlockHeader {
			unix := tip(before) + 1
			if broken {
				unix--
			}
			return headertest.Next(p, before, unix, 1)
		}, header.RuleMedian},
		{"time two hours and a second from now", brisk(), calm(brisk(), 40), func(p *chaincfg.Params, before []wire.BlockHeader, broken bool) wire.BlockHeader {
			unix := tip(before) + header.MaxAhead
			if broken {
				unix++
			}
			return headertest.Next(p, before, unix, 1)
		}, header.RuleFuture},
		{"period begins before the last one ended", storm, calm(storm, 31), func(p *chaincfg.Params, before []wire.BlockHeader, broken bool) wire.BlockHeader {
			unix := tip(before) - header.MaxBack
			if broken {
				unix--
			}
			return headertest.Next(p, before, unix, 1)
		}, header.RuleBack},
		{"version 1 after BIP 34", old, calm(old, 9), func(p *chaincfg.Params, before []wire.BlockHeader, broken bool) wire.BlockHeader {
			if broken {
				return version(p, before, 1)
			}
			return version(p, before, 2)
		}, header.RuleVersion},
		{"version 2 after BIP 66", old, calm(old, 14), func(p *chaincfg.Params, before []wire.BlockHeader, broken bool) wire.BlockHeader {
			if broken {
				return version(p, before, 2)
			}
			return version(p, before, 3)
		}, header.RuleVersion},
		{"version 3 after BIP 65", old, calm(old, 19), func(p *chaincfg.Params, before []wire.BlockHeader, broken bool) wire.BlockHeader {
			if broken {
				return version(p, before, 3)
			}
			return version(p, before, 0x20000000)
		}, header.RuleVersion},
		{"another header at a checkpoint", pinned, marked[:20], func(p *chaincfg.Params, before []wire.BlockHeader, broken bool) wire.BlockHeader {
			if broken {
				return headertest.Next(p, before, tip(before)+600, 1)
			}
			return marked[20]
		}, header.RuleCheckpoint},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := step.Time(slices.MaxFunc(c.before, func(a, b wire.BlockHeader) int { return a.Timestamp.Compare(b.Timestamp) }).Timestamp.Unix()) * step.Second
			chain := header.New(c.params)
			if _, better, err := chain.Connect(c.before[1:], now); err != nil || !better {
				t.Fatalf("chain before: better %v, %v", better, err)
			}
			before := chain.Clone()
			bad := c.make(c.params, c.before, true)
			_, better, err := chain.Connect([]wire.BlockHeader{bad}, now)
			wantRule(t, err, c.rule)
			if err := header.Equal(chain, before); better || err != nil {
				t.Errorf("a header that was refused changed the chain: %v", err)
			}
			good := c.make(c.params, c.before, false)
			if _, better, err := chain.Connect([]wire.BlockHeader{good}, now); err != nil || !better {
				t.Errorf("the nearest good header: better %v, %v", better, err)
			}
		})
	}
}

func TestBranchWhoseHeadersDoNotLinkUp(t *testing.T) {
	p := brisk()
	headers := grow(p, genesis(p), 10, 600, 1)
	other := grow(p, headers[:5], 5, 600, 2)
	c := header.New(p)
	branch := append(append([]wire.BlockHeader(nil), headers[1:5]...), other[6:]...)
	_, better, err := c.Connect(branch, late)
	wantRule(t, err, header.RuleLink)
	if height, _ := c.Tip(); better || height != 0 {
		t.Errorf("the good part of a lie was taken: tip is at %d", height)
	}
}

// TestMinimumDifficulty is testnet's rule: twenty minutes without a block, and
// one may be easy; the next one may not, and a retarget begins from what stands.
func TestMinimumDifficulty(t *testing.T) {
	for _, storm := range []bool{false, true} {
		p := brisk()
		p.ReduceMinDifficulty, p.MinDiffReductionTime = true, 20*time.Minute
		p.EnforceBIP94 = storm
		headers := grow(p, genesis(p), 36, 200, 1) // difficulty rises
		hard := headers[36].Bits
		slow := grow(p, headers, 1, 1201, 1)
		fast := grow(p, slow, 1, 600, 1)
		if hard == p.PowLimitBits || slow[37].Bits != p.PowLimitBits || fast[38].Bits != hard {
			t.Fatalf("bits are %08x, then %08x and %08x", hard, slow[37].Bits, fast[38].Bits)
		}
		// The period ends with an easy one: BIP 94 looks at its first instead.
		end := grow(p, grow(p, fast, 8, 200, 1), 1, 1201, 1)
		next := grow(p, end, 20, 200, 1)
		if easy := headertest.Expand(next[48].Bits).Cmp(headertest.Expand(hard)) > 0; easy == storm {
			t.Errorf("BIP 94 %v: bits are %08x after %08x", storm, next[48].Bits, hard)
		}
		c := header.New(p)
		syncs(t, c, next[1:])

		impatient := headertest.Next(p, headers, headers[36].Timestamp.Unix()+1200, 1)
		impatient.Bits = p.PowLimitBits
		c = header.New(p)
		syncs(t, c, headers[1:])
		_, _, err := c.Connect([]wire.BlockHeader{at(impatient, headers[36].Timestamp.Unix()+1200)}, late)
		wantRule(t, err, header.RuleBits)
	}
}

// TestTimewarp lies about time as far as the rules let it: every period ends
// with a time far ahead and the next begins with one far behind, so that each
// seems to take long. Mainnet's rules allow it, BIP 94 does not.
func TestTimewarp(t *testing.T) {
	warp := func(p *chaincfg.Params) []wire.BlockHeader {
		headers := grow(p, genesis(p), 47, 300, 1)
		for range 3 {
			unix := headers[len(headers)-1].Timestamp.Unix()
			headers = append(headers, headertest.Next(p, headers, unix-1200, 1))
			headers = grow(p, headers, 14, 1, 1)
			headers = append(headers, headertest.Next(p, headers, unix+7200, 1))
		}
		return headers
	}
	p := brisk()
	c, lie := header.New(p), warp(p)
	syncs(t, c, lie[1:])
	p.EnforceBIP94 = true
	_, _, err := header.New(p).Connect(warp(p)[1:], late)
	wantRule(t, err, header.RuleBack)
}

func TestNetworkWithoutRetargeting(t *testing.T) {
	p := &chaincfg.RegressionNetParams
	headers := grow(p, genesis(p), 2100, 1, 1)
	c := header.New(p)
	syncs(t, c, headers[1:])
	if height, hash := c.Tip(); height != 2100 || hash != chainhash.Hash(headers[2100].BlockHash()) {
		t.Errorf("tip is %v at %d", hash, height)
	}
}
