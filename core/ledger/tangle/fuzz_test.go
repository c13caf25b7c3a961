package tangle_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"coinop.dev/core/ledger/tangle"
)

// seed adds the vectors' bytes to what a fuzz target starts from.
func seed(f *testing.F) {
	raw, err := os.ReadFile("testdata/iota.json")
	must(f, err)
	var v vectors
	must(f, json.Unmarshal(raw, &v))
	add := func(text string) {
		b, err := hex.DecodeString(text)
		must(f, err)
		f.Add(b)
	}
	for _, b := range v.Block {
		add(b.Hex)
	}
	for _, x := range v.Transaction {
		add(x.Hex)
	}
	for _, m := range v.Milestone {
		add(m.Hex)
		m, err := tangle.DecodeMilestone(unhex(f, m.Hex))
		must(f, err)
		f.Add((&tangle.Block{Protocol: tangle.Protocol, Parents: m.Parents, Payload: m}).Append(nil))
	}
}

// FuzzBlock: what is read is written as the same bytes, also by way of JSON.
func FuzzBlock(f *testing.F) {
	seed(f)
	n := network(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := tangle.DecodeBlock(raw)
		if err != nil {
			return
		}
		if got := b.Append(nil); !bytes.Equal(got, raw) {
			t.Fatalf("%x comes back as %x", raw, got)
		}
		b.Check(n)
		text, err := json.Marshal(b)
		must(t, err)
		var from tangle.Block
		must(t, json.Unmarshal(text, &from))
		if got := from.Append(nil); !bytes.Equal(got, raw) {
			t.Fatalf("%x comes back from JSON as %x", raw, got)
		}
	})
}

// FuzzPayload does the same for what is kept without its block.
func FuzzPayload(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if x, err := tangle.DecodeTransaction(raw); err == nil {
			if got := x.Append(nil); !bytes.Equal(got, raw) {
				t.Fatalf("%x comes back as %x", raw, got)
			}
			x.CheckSpent(x.Essence.Outputs)
		}
		if m, err := tangle.DecodeMilestone(raw); err == nil {
			if got := m.Append(nil); !bytes.Equal(got, raw) {
				t.Fatalf("%x comes back as %x", raw, got)
			}
		}
	})
}

func FuzzOutput(f *testing.F) {
	f.Add(tangle.BasicOutput{Amount: 5, Address: address(1)}.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if o, err := tangle.DecodeOutput(raw); err == nil && !bytes.Equal(o.Append(nil), raw) {
			t.Fatalf("%x comes back as %x", raw, o.Append(nil))
		}
	})
}

func FuzzInclusion(f *testing.F) {
	p, err := tangle.NewInclusion([]tangle.BlockID{{1}, {2}, {3}}, 2)
	must(f, err)
	f.Add(p.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := tangle.DecodeInclusion(raw)
		if err != nil {
			return
		}
		if got := p.Append(nil); !bytes.Equal(got, raw) {
			t.Fatalf("%x comes back as %x", raw, got)
		}
		p.Root()
	})
}

func FuzzJSON(f *testing.F) {
	b := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{1}}, Payload: &tangle.TaggedData{Tag: []byte("t")}}
	text, err := json.Marshal(b)
	must(f, err)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var b tangle.Block
		if json.Unmarshal(text, &b) != nil {
			return
		}
		back, err := tangle.DecodeBlock(b.Append(nil))
		if err != nil {
			t.Fatalf("%s is a block that is not: %v", text, err)
		}
		if back.ID() != b.ID() {
			t.Fatalf("%s comes back as another block", text)
		}
	})
}

func FuzzAddress(f *testing.F) {
	f.Add("tst", address(1).Bech32("tst"))
	f.Add("smr", "SMR1")
	f.Fuzz(func(t *testing.T, hrp, text string) {
		a, err := tangle.ParseAddress(hrp, text)
		if err != nil {
			return
		}
		back, err := tangle.ParseAddress(hrp, a.Bech32(hrp))
		if err != nil || back != a {
			t.Fatalf("%q comes back as %s: %v", text, back, err)
		}
	})
}

func BenchmarkDecodeTransfer(b *testing.B) {
	n := network(b)
	essence, err := tangle.NewEssence(n, []tangle.OutputID{tangle.GenesisOutput(0)}, n.Genesis[:1], []tangle.BasicOutput{{Amount: 1000, Address: address(3)}}, nil)
	must(b, err)
	x, err := essence.Sign(n.Genesis[:1], secret(1))
	must(b, err)
	raw := (&tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{1}, {2}}, Payload: x}).Append(nil)
	b.ReportMetric(float64(len(raw)), "bytes/block")
	for b.Loop() {
		block, err := tangle.DecodeBlock(raw)
		must(b, err)
		must(b, block.Check(n))
	}
}

// BenchmarkZeros reports the time of one block of 64.
func BenchmarkZeros(b *testing.B) {
	blocks := make([][]byte, tangle.Lanes)
	for i := range blocks {
		blocks[i] = make([]byte, 200+i)
	}
	for b.Loop() {
		tangle.ZerosOf(blocks)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/tangle.Lanes, "ns/block")
}

// BenchmarkSearch reports the time of one nonce.
func BenchmarkSearch(b *testing.B) {
	s := tangle.NewSearch(make([]byte, 200), tangle.MaxZeros)
	for from := uint64(0); b.Loop(); from += tangle.Lanes {
		s.Step(from)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/tangle.Lanes, "ns/nonce")
}

func BenchmarkMerkle(b *testing.B) {
	ids := make([]tangle.BlockID, 1024)
	for b.Loop() {
		tangle.MerkleRoot(ids)
	}
}
