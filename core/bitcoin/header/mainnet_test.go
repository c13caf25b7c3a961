package header_test

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
)

// Mainnet's headers 1 to 12,100 of btcd v0.26.2's blockchain/testdata
// (blk_0_to_14131.dat), 40 bytes each: Merkle root, time, nonce. The version of
// all of them is 1, their bits are 1d00ffff, and the rest follows.
//
//go:embed testdata/mainnet_1_12100.bin
var firstHeaders []byte

//go:embed testdata/mainnet_retargets.txt
var retargets string

func mainnet() []wire.BlockHeader {
	headers := []wire.BlockHeader{chaincfg.MainNetParams.GenesisBlock.Header}
	for raw := firstHeaders; len(raw) > 0; raw = raw[40:] {
		full := []byte{1, 0, 0, 0}
		prev := headers[len(headers)-1].BlockHash()
		full = append(full, prev[:]...)
		full = append(full, raw[:36]...)
		full = append(full, 0xff, 0xff, 0x00, 0x1d)
		full = append(full, raw[36:40]...)
		headers = append(headers, parse(full))
	}
	return headers
}

func parse(raw []byte) (h wire.BlockHeader) {
	if err := h.Deserialize(bytes.NewReader(raw)); err != nil {
		panic(err)
	}
	return h
}

func mainnetRetargets(t *testing.T) map[int32]wire.BlockHeader {
	headers := make(map[int32]wire.BlockHeader)
	for line := range strings.Lines(retargets) {
		var height int32
		var digits string
		if strings.HasPrefix(line, "#") {
			continue
		}
		if _, err := fmt.Sscan(line, &height, &digits); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		raw, err := hex.DecodeString(digits)
		if err != nil || len(raw) != header.Size {
			t.Fatalf("header %d has %d bytes: %v", height, len(raw), err)
		}
		headers[height] = parse(raw)
	}
	return headers
}

func TestMainnetsFirstHeadersAreAccepted(t *testing.T) {
	all := mainnet()
	c := header.New(&chaincfg.MainNetParams)
	syncs(t, c, all[1:])
	height, hash := c.Tip()
	if int(height) != len(all)-1 || hash != all[height].BlockHash() {
		t.Fatalf("tip is %v at height %d", hash, height)
	}
	// Known from many places: the chain's work at 1d00ffff is 0x100010001 a block.
	if got, want := c.Work().String(), fmt.Sprintf("%064x", 0x100010001*uint64(len(all))); got != want {
		t.Errorf("work is %s; wanted is %s", got, want)
	}
	if h, ok := c.At(c.Base()); !ok || h != all[c.Base()] || c.Base() < 4000 || c.Base()%2016 != 0 {
		t.Errorf("the tail starts at %d with %v", c.Base(), h)
	}
	for h := c.Base(); h <= height; h++ {
		if got, _ := c.At(h); got != all[h] {
			t.Fatalf("header at %d is %v; it was %v", h, got, all[h])
		}
	}
	for h := int32(0); h <= height; h += header.Interval {
		if got, ok := c.Hash(h); !ok || got != all[h].BlockHash() {
			t.Errorf("hash at %d is %v", h, got)
		}
	}
}

func TestMainnetsCheckpointRefusesAnotherHeader(t *testing.T) {
	all := mainnet()
	point := chaincfg.MainNetParams.Checkpoints[0]
	if point.Height != 11111 || all[11111].BlockHash() != *point.Hash {
		t.Fatalf("first checkpoint is %v at height %d", point.Hash, point.Height)
	}
	elsewhere := chaincfg.MainNetParams
	wrong := all[11110].BlockHash()
	elsewhere.Checkpoints = []chaincfg.Checkpoint{{Height: 11111, Hash: &wrong}}
	c := header.New(&elsewhere)
	syncs(t, c, all[1:11001])
	_, better, err := c.Connect(all[11001:11200], late)
	wantRule(t, err, header.RuleCheckpoint)
	if height, _ := c.Tip(); better || height != 11000 {
		t.Errorf("tip moved to %d", height)
	}
	syncs(t, c, all[11001:11111]) // up to it all is well
}

func TestFirstBlocks(t *testing.T) {
	for _, p := range []*chaincfg.Params{
		&chaincfg.MainNetParams, &chaincfg.TestNet3Params, &chaincfg.TestNet4Params,
		&chaincfg.SigNetParams, &chaincfg.RegressionNetParams, &chaincfg.SimNetParams,
	} {
		c := header.New(p)
		height, hash := c.Tip()
		got, ok := c.At(0)
		if height != 0 || hash != *p.GenesisHash || !ok || got != p.GenesisBlock.Header {
			t.Errorf("%s starts with %v at %d", p.Name, hash, height)
		}
	}
}

// TestRetargetsOfMainnet computes the bits of every period's first header from
// the real headers of the period before.
func TestRetargetsOfMainnet(t *testing.T) {
	p, headers, checked := &chaincfg.MainNetParams, mainnetRetargets(t), 0
	for height, h := range headers {
		target, _ := header.Expand(h.Bits)
		if hash := h.BlockHash(); header.FromBig(number(hash)).Cmp(target) > 0 {
			t.Errorf("header %d is miscopied: it has no proof of work", height)
		}
		last, ok := headers[height-1]
		first, ok2 := headers[height-2016]
		if height%2016 != 0 || !ok || !ok2 {
			continue
		}
		checked++
		j := header.NewJudge(p, height-2016, &first)
		j.Take(height-1, &last)
		if got := j.Required(uint32(h.Timestamp.Unix())); got != h.Bits {
			t.Errorf("bits at height %d are %08x; computed are %08x", height, h.Bits, got)
		}
		// Taking the period for 2016 intervals, as it should have been, is wrong.
		if off := header.RetargetAfter(p, last.Bits, uint32(first.Timestamp.Unix()), uint32(h.Timestamp.Unix())); off == h.Bits {
			t.Errorf("bits at height %d do not tell 2015 intervals from 2016", height)
		}
	}
	if checked != 9 {
		t.Errorf("%d retargets checked; the file has 9", checked)
	}
}

// TestMainnetAcrossARetarget judges headers 554391 to 554408 by all rules.
func TestMainnetAcrossARetarget(t *testing.T) {
	headers := mainnetRetargets(t)
	first, before := headers[552384], headers[554390]
	j := header.NewJudge(&chaincfg.MainNetParams, 552384, &first)
	j.Take(554390, &before)
	for height := int32(554391); height <= 554408; height++ {
		h := headers[height]
		if height == 554400 { // with the old bits it would not do
			stale := h
			stale.Bits = before.Bits
			wantRule(t, j.Next(&stale), header.RuleBits)
		}
		if err := j.Next(&h); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRetargetArithmetic has the vectors of Bitcoin Core's pow_tests.cpp, of
// mainnet's first retargets, and of the periods that headers at hand begin and
// end.
func TestRetargetArithmetic(t *testing.T) {
	for _, v := range []struct {
		name              string
		first, last       uint32
		bits, want        uint32
		firstAt, retarget int
	}{
		{"the first one: slow, but as easy as can be", 1231006505, 1233061996, 0x1d00ffff, 0x1d00ffff, 0, 2016},
		{"the first one that changed anything", 1261130161, 1262152739, 0x1d00ffff, 0x1d00d86a, 30240, 32256},
		{"clamped to a fourth", 1279008237, 1279297671, 0x1c05a3f4, 0x1c0168fd, 66528, 68544},
		{"clamped to the fourfold (not a real time)", 1263163443, 1269211443, 0x1c387f6f, 0x1d00e1fd, 44352, 46368},
	} {
		if got := header.RetargetAfter(&chaincfg.MainNetParams, v.bits, v.first, v.last); got != v.want {
			t.Errorf("%s (%d): bits are %08x; wanted are %08x", v.name, v.retarget, got, v.want)
		}
	}
}

func wantRule(t *testing.T, err error, rule header.Rule) {
	t.Helper()
	var invalid *header.Invalid
	if !errors.As(err, &invalid) {
		t.Fatalf("error is %v; wanted is one of the rule of %s", err, rule)
	}
	if invalid.Rule != rule || invalid.Got == "" || invalid.Want == "" {
		t.Fatalf("error is %v; wanted is one of the rule of %s", err, rule)
	}
}
