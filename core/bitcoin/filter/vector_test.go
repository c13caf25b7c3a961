package filter_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
	"coinop.dev/core/bitcoin/merkle"
)

// A vector is a line of testdata/testnet-19.json, the test vectors of BIP 158
// (bitcoin/bips, bip-0158/testnet-19.json at commit aa353e3e, BSD-2-Clause),
// unmodified.
type vector struct {
	height       int
	block        *wire.MsgBlock
	hash         chainhash.Hash
	prevScripts  [][]byte // of the inputs, in order
	prev, header chainhash.Hash
	filter       []byte
	notes        string
}

func vectors(t testing.TB) []vector {
	text, err := os.ReadFile("testdata/testnet-19.json")
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]json.RawMessage
	if err := json.Unmarshal(text, &lines); err != nil {
		t.Fatal(err)
	}
	var all []vector
	for _, l := range lines[1:] { // the first one names the columns
		var v vector
		var hash, block, prev, raw, header string
		var scripts []string
		for i, to := range []any{&v.height, &hash, &block, &scripts, &prev, &raw, &header, &v.notes} {
			if err := json.Unmarshal(l[i], to); err != nil {
				t.Fatal(err)
			}
		}
		v.block = new(wire.MsgBlock)
		if err := v.block.Deserialize(bytes.NewReader(unhex(t, block))); err != nil {
			t.Fatal(err)
		}
		for _, s := range scripts {
			v.prevScripts = append(v.prevScripts, unhex(t, s))
		}
		v.hash, v.prev, v.header, v.filter = id(t, hash), id(t, prev), id(t, header), unhex(t, raw)
		all = append(all, v)
	}
	return all
}

// known answers for the outputs that the block spends.
func (v vector) known() func(wire.OutPoint) []byte {
	scripts := map[wire.OutPoint][]byte{}
	rest := v.prevScripts
	for _, t := range v.block.Transactions[1:] {
		for _, in := range t.TxIn {
			if len(rest) > 0 {
				scripts[in.PreviousOutPoint], rest = rest[0], rest[1:]
			}
		}
	}
	return func(p wire.OutPoint) []byte { return scripts[p] }
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func id(t testing.TB, s string) chainhash.Hash {
	h, err := chainhash.NewHashFromStr(s)
	if err != nil {
		t.Fatal(err)
	}
	return *h
}

func TestVectorsOfBIP158(t *testing.T) {
	all := vectors(t)
	if len(all) != 10 {
		t.Fatalf("%d vectors", len(all))
	}
	for _, v := range all {
		if v.block.BlockHash() != v.hash || merkle.CheckBlock(v.block) != nil {
			t.Errorf("block %d (%s) was not copied well: %v", v.height, v.notes, merkle.CheckBlock(v.block))
		}
		got, err := filter.Build(v.block, v.known())
		if err != nil || !bytes.Equal(got, v.filter) {
			t.Errorf("block %d (%s): filter %x, %v; want %x", v.height, v.notes, got, err, v.filter)
		}
		if got := filter.Header(filter.Hash(v.filter), v.prev); got != v.header {
			t.Errorf("block %d (%s): filter header %v; want %v", v.height, v.notes, got, v.header)
		}
		if lie, why := filter.Contradicts(v.filter, v.block); lie {
			t.Errorf("block %d (%s): its filter is accused: %s", v.height, v.notes, why)
		}
	}
}

func TestVectorsMatchEveryScriptAlone(t *testing.T) {
	for _, v := range vectors(t) {
		scripts := v.prevScripts
		for _, tx := range v.block.Transactions {
			for _, out := range tx.TxOut {
				if len(out.PkScript) > 0 && out.PkScript[0] != 0x6a {
					scripts = append(scripts, out.PkScript)
				}
			}
		}
		for _, s := range scripts {
			q := filter.NewQuery()
			q.Add(s)
			if found, err := q.Match(v.filter, v.hash); err != nil || found != (len(s) > 0) {
				t.Errorf("block %d: script %x: %v, %v", v.height, s, found, err)
			}
		}
	}
}
