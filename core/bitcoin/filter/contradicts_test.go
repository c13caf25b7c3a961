package filter_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2/gcs/builder"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/ripemd160" //lint:ignore SA1019 Bitcoin's HASH160 is RIPEMD-160 over SHA-256

	"coinop.dev/core/bitcoin/filter"
)

// dice makes keys, signatures and scripts from a seed.
type dice struct{ *rand.Rand }

func (d dice) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(d.Uint32())
	}
	return b
}

func (d dice) secret() *secp256k1.PrivateKey { return secp256k1.PrivKeyFromBytes(d.bytes(32)) }

func (d dice) key() []byte {
	if d.IntN(4) == 0 {
		return d.secret().PubKey().SerializeUncompressed()
	}
	return d.secret().PubKey().SerializeCompressed()
}

func (d dice) signature() []byte {
	return append(ecdsa.Sign(d.secret(), d.bytes(32)).Serialize(), 1)
}

// asking is a script of a channel's kind that asks for signatures, and what
// answers it.
func (d dice) asking() (script []byte, answer [][]byte) {
	switch d.IntN(3) {
	case 0: // 2 of 2
		b := txscript.NewScriptBuilder().AddOp(txscript.OP_2).AddData(d.key()).AddData(d.key())
		script, _ = b.AddOp(txscript.OP_2).AddOp(txscript.OP_CHECKMULTISIG).Script()
		return script, [][]byte{nil, d.signature(), d.signature()}
	case 1: // a key, or another one later
		b := txscript.NewScriptBuilder().AddOp(txscript.OP_IF).AddData(d.key()).AddOp(txscript.OP_ELSE)
		b.AddInt64(144).AddOp(txscript.OP_CHECKSEQUENCEVERIFY).AddOp(txscript.OP_DROP).AddData(d.key()).AddOp(txscript.OP_ENDIF)
		script, _ = b.AddOp(txscript.OP_CHECKSIG).Script()
		return script, [][]byte{d.signature(), nil}
	}
	b := txscript.NewScriptBuilder().AddOp(txscript.OP_SHA256).AddData(d.bytes(32)).AddOp(txscript.OP_EQUALVERIFY)
	script, _ = b.AddData(d.key()).AddOp(txscript.OP_CHECKSIG).Script()
	return script, [][]byte{d.signature(), d.bytes(32)}
}

func pushes(items ...[]byte) []byte {
	b := txscript.NewScriptBuilder()
	for _, x := range items {
		b.AddData(x)
	}
	script, _ := b.Script()
	return script
}

func hash160(b []byte) []byte {
	sum := sha256.Sum256(b)
	h := ripemd160.New()
	h.Write(sum[:])
	return h.Sum(nil)
}

func sha(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] }

func p2sh(redeem []byte) []byte {
	return slices.Concat([]byte{0xa9, 0x14}, hash160(redeem), []byte{0x87})
}

// A kind is a kind of output and of the input that spends it.
type kind struct {
	name  string
	shown bool // the input shows the script
	sure  bool // and cannot show a wrong one
	make  func(d dice) (script, scriptSig []byte, w wire.TxWitness)
}

var kinds = []kind{
	{"P2PKH", true, false, func(d dice) (s, in []byte, w wire.TxWitness) {
		key := d.key()
		return slices.Concat([]byte{0x76, 0xa9, 0x14}, hash160(key), []byte{0x88, 0xac}), pushes(d.signature(), key), nil
	}},
	{"P2SH", true, false, func(d dice) (s, in []byte, w wire.TxWitness) {
		redeem, answer := d.asking()
		return p2sh(redeem), pushes(append(answer, redeem)...), nil
	}},
	{"P2WPKH", true, false, func(d dice) (s, in []byte, w wire.TxWitness) {
		key := d.secret().PubKey().SerializeCompressed()
		return append([]byte{0, 20}, hash160(key)...), nil, wire.TxWitness{d.signature(), key}
	}},
	{"P2WSH", true, false, func(d dice) (s, in []byte, w wire.TxWitness) {
		script, answer := d.asking()
		return append([]byte{0, 32}, sha(script)...), nil, append(answer, script)
	}},
	{"P2SH-P2WPKH", true, true, func(d dice) (s, in []byte, w wire.TxWitness) {
		key := d.secret().PubKey().SerializeCompressed()
		program := append([]byte{0, 20}, hash160(key)...)
		return p2sh(program), pushes(program), wire.TxWitness{d.signature(), key}
	}},
	{"P2SH-P2WSH", true, true, func(d dice) (s, in []byte, w wire.TxWitness) {
		script, answer := d.asking()
		program := append([]byte{0, 32}, sha(script)...)
		return p2sh(program), pushes(program), append(answer, script)
	}},
	{"taproot script path", true, false, func(d dice) (s, in []byte, w wire.TxWitness) {
		leaves := make([]txscript.TapLeaf, 1+d.IntN(5))
		for i := range leaves {
			leaves[i] = txscript.NewBaseTapLeaf(slices.Concat([]byte{0x20}, d.bytes(32), []byte{0xac}))
		}
		tree := txscript.AssembleTaprootScriptTree(leaves...)
		internal := d.secret().PubKey()
		proof := tree.LeafMerkleProofs[d.IntN(len(leaves))]
		block := proof.ToControlBlock(internal)
		control, _ := block.ToBytes()
		root := tree.RootNode.TapHash()
		key := txscript.ComputeTaprootOutputKey(internal, root[:]).SerializeCompressed()
		w = wire.TxWitness{d.bytes(64), proof.Script, control}
		if d.IntN(3) == 0 {
			w = append(w, append([]byte{txscript.TaprootAnnexTag}, d.bytes(d.IntN(40))...))
		}
		return append([]byte{0x51, 0x20}, key[1:]...), nil, w
	}},
	// Those that show nothing; they must not be taken for others.
	{"taproot key path", false, false, func(d dice) (s, in []byte, w wire.TxWitness) {
		w = wire.TxWitness{d.bytes(64 + d.IntN(2))}
		if d.IntN(3) == 0 {
			w = append(w, append([]byte{txscript.TaprootAnnexTag}, d.bytes(d.IntN(40))...))
		}
		return append([]byte{0x51, 0x20}, d.bytes(32)...), nil, w
	}},
	{"P2PK", false, false, func(d dice) (s, in []byte, w wire.TxWitness) {
		return append(pushes(d.key()), 0xac), pushes(d.signature()), nil
	}},
	{"bare multisig", false, false, func(d dice) (s, in []byte, w wire.TxWitness) {
		b := txscript.NewScriptBuilder().AddOp(txscript.OP_1).AddData(d.key()).AddData(d.key())
		s, _ = b.AddOp(txscript.OP_2).AddOp(txscript.OP_CHECKMULTISIG).Script()
		return s, pushes(nil, d.signature()), nil
	}},
	{"a puzzle", false, false, func(d dice) (s, in []byte, w wire.TxWitness) {
		x := d.bytes(d.IntN(80))
		return slices.Concat([]byte{0xa8, 0x20}, sha(x), []byte{0x87}), pushes(x), nil
	}},
	{"P2WSH without signature", false, false, func(d dice) (s, in []byte, w wire.TxWitness) {
		x := d.bytes(32)
		script := slices.Concat([]byte{0xa8, 0x20}, sha(x), []byte{0x87})
		return append([]byte{0, 32}, sha(script)...), nil, wire.TxWitness{x, script}
	}},
	{"an anchor for anyone", false, false, func(d dice) (s, in []byte, w wire.TxWitness) {
		return []byte{0x51, 2, 0x4e, 0x73}, nil, nil
	}},
	{"an empty script", false, false, func(d dice) (s, in []byte, w wire.TxWitness) { return nil, []byte{0x51}, nil }},
	{"nobody's script", false, false, func(d dice) (s, in []byte, w wire.TxWitness) {
		return slices.Concat([]byte{0x76, 0xa9, 0x14}, d.bytes(20), []byte{0x88, 0xac, 0x61}), []byte{0x51}, nil
	}},
}

// A story is a block and what it spends.
type story struct {
	block *wire.MsgBlock
	prev  map[wire.OutPoint][]byte
	spent []spent
}

type spent struct {
	kind
	script []byte
}

func tell(d dice) story {
	s := story{block: paying(nil), prev: map[wire.OutPoint][]byte{}}
	s.block.Header.Nonce = d.Uint32()
	pay := func(t *wire.MsgTx) {
		script, _, _ := kinds[d.IntN(len(kinds))].make(d)
		if d.IntN(8) == 0 {
			script = append([]byte{txscript.OP_RETURN}, d.bytes(d.IntN(30))...)
		}
		t.AddTxOut(wire.NewTxOut(1, script))
	}
	pay(s.block.Transactions[0])
	for range d.IntN(6) {
		t := wire.NewMsgTx(2)
		for range 1 + d.IntN(4) {
			k := kinds[d.IntN(len(kinds))]
			script, in, w := k.make(d)
			point := wire.OutPoint{Hash: chainhash.Hash(d.bytes(32)), Index: d.Uint32N(4)}
			t.AddTxIn(&wire.TxIn{PreviousOutPoint: point, SignatureScript: in, Witness: w})
			s.prev[point] = append([]byte{}, script...)
			s.spent = append(s.spent, spent{k, script})
		}
		for range 1 + d.IntN(3) {
			pay(t)
		}
		// What shows nothing is known within a block. Nobody can spend OP_RETURN.
		last := s.block.Transactions[len(s.block.Transactions)-1]
		if script := last.TxOut[0].PkScript; d.IntN(3) == 0 && (len(script) == 0 || script[0] != txscript.OP_RETURN) {
			point := wire.OutPoint{Hash: last.TxHash()}
			t.AddTxIn(&wire.TxIn{PreviousOutPoint: point, Witness: wire.TxWitness{d.bytes(64)}})
		}
		s.block.Transactions = append(s.block.Transactions, t)
	}
	return s
}

func (s story) known(p wire.OutPoint) []byte { return s.prev[p] }

// elements is what a true filter has, in no order and once each.
func (s story) elements() [][]byte {
	var all [][]byte
	for _, script := range s.prev {
		all = append(all, script)
	}
	for _, t := range s.block.Transactions {
		for _, out := range t.TxOut {
			if len(out.PkScript) > 0 && out.PkScript[0] != txscript.OP_RETURN {
				all = append(all, out.PkScript)
			}
		}
	}
	slices.SortFunc(all, bytes.Compare)
	all = slices.CompactFunc(all, bytes.Equal)
	return slices.DeleteFunc(all, func(s []byte) bool { return len(s) == 0 })
}

// lie is the filter of these elements for the block, as btcutil makes it.
func (s story) lie(t *testing.T, elements [][]byte) []byte {
	block := s.block.BlockHash()
	b := builder.WithKeyHash(&block)
	b.AddEntries(elements)
	f, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := f.NBytes()
	return raw
}

func TestTrueFiltersAreNeverAccused(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(1, 2))}
	seen := map[string]int{}
	for range 700 {
		s := tell(d)
		raw, err := filter.Build(s.block, s.known)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(raw, s.lie(t, s.elements())) {
			t.Fatal("btcutil builds another filter")
		}
		if lie, why := filter.Contradicts(raw, s.block); lie {
			t.Fatalf("accused: %s", why)
		}
		if lie, why := filter.Disproves(raw, s.block); lie {
			t.Fatalf("accused: %s", why)
		}
		for _, x := range s.spent {
			seen[x.name]++
		}
	}
	for _, k := range kinds {
		if seen[k.name] < 50 {
			t.Errorf("%s spent %d times only", k.name, seen[k.name])
		}
	}
}

// A server leaves out one element, to hide a payment, and either says so in the
// number of elements or puts a random one in its place.
func TestDroppedElementsAreFound(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(3, 4))}
	found := map[string]int{}
	for range 200 {
		s := tell(d)
		all := s.elements()
		drop := func(script []byte) (without, replaced []byte) {
			rest := slices.DeleteFunc(slices.Clone(all), func(e []byte) bool { return bytes.Equal(e, script) })
			return s.lie(t, rest), s.lie(t, append(rest, d.bytes(25)))
		}
		try := func(what string, script []byte, judge func([]byte, *wire.MsgBlock) (bool, string)) {
			without, replaced := drop(script)
			// Once in 784,931 a lie is a filter that happens to be true; not here.
			for _, raw := range [][]byte{without, replaced} {
				if lie, why := judge(raw, s.block); !lie {
					t.Fatalf("%s: the script %x was dropped and nobody noticed", what, script)
				} else if !strings.Contains(why, "lacks") {
					t.Fatalf("%s: %s", what, why)
				}
			}
			found[what]++
		}
		for _, tx := range s.block.Transactions {
			for _, out := range tx.TxOut {
				if len(out.PkScript) > 0 && out.PkScript[0] != txscript.OP_RETURN {
					try("output", out.PkScript, filter.Contradicts)
					try("output, surely", out.PkScript, filter.Disproves)
				}
			}
		}
		for _, x := range s.spent {
			if x.shown {
				try(x.name, x.script, filter.Contradicts)
			}
			if x.sure {
				try(x.name+", surely", x.script, filter.Disproves)
			}
		}
	}
	for _, k := range kinds {
		if k.shown && found[k.name] < 20 {
			t.Errorf("%s: dropped %d times only", k.name, found[k.name])
		}
	}
}

func TestWhatABlockPaysAndSpendsItselfIsKnown(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(5, 6))}
	b := paying([][]byte{{0x51, 0x20, 1}})
	spend := wire.NewMsgTx(2)
	spend.AddTxIn(wire.NewTxIn(&wire.OutPoint{Hash: b.Transactions[0].TxHash()}, nil, wire.TxWitness{d.bytes(64)}))
	spend.AddTxOut(wire.NewTxOut(1, []byte{0x51}))
	b.Transactions = append(b.Transactions, spend)
	raw, err := filter.Build(b, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if lie, why := filter.Disproves(raw, b); lie {
		t.Error(why)
	}
	spend.TxIn[0].PreviousOutPoint.Index = 7
	if _, err := filter.Build(b, nothing); err == nil || !strings.Contains(err.Error(), ":7, which it spends") {
		t.Errorf("an unknown output: %v", err)
	}
}

func TestFiltersOfWrongSizeAreFound(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(7, 8))}
	for range 200 {
		s := tell(d)
		all := s.elements()
		// Elements that nobody could have paid or spent, to make us fetch blocks.
		for range len(s.prev) + 1 {
			all = append(all, d.bytes(25))
		}
		lie, why := filter.Contradicts(s.lie(t, all), s.block)
		if !lie || !strings.Contains(why, fmt.Sprintf("filter is of %d elements; the block has", len(all))) {
			t.Fatalf("%d elements too many: %v, %s", len(s.prev)+1, lie, why)
		}
	}
	for _, raw := range [][]byte{nil, {1}, {0, 0}, {0xff}} {
		if lie, why := filter.Disproves(raw, paying(nil)); !lie || why == "" {
			t.Errorf("%x is no filter and nobody noticed", raw)
		}
	}
}

// The price of presumptions, which the comment of Contradicts names: a miner
// spends an output of no standard kind with an input that looks like P2WPKH.
func TestOnlyPresumptionsCanBeForged(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(9, 10))}
	b := paying([][]byte{{0x51}})
	spend := wire.NewMsgTx(2)
	point := wire.OutPoint{Hash: chainhash.Hash{1}}
	spend.AddTxIn(wire.NewTxIn(&point, nil, wire.TxWitness{d.signature(), d.key()}))
	spend.AddTxOut(wire.NewTxOut(1, []byte{0x51}))
	b.Transactions = append(b.Transactions, spend)
	raw, err := filter.Build(b, func(wire.OutPoint) []byte { return []byte{0x52, 2, 1, 2} }) // witness version 2
	if err != nil {
		t.Fatal(err)
	}
	if lie, _ := filter.Contradicts(raw, b); !lie {
		t.Error("the comment of Contradicts is too modest")
	}
	if lie, why := filter.Disproves(raw, b); lie {
		t.Errorf("a true filter is disproved: %s", why)
	}
}

// Inputs that look almost like a standard one show nothing.
func TestLookalikesAreNoGroundsForAccusation(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(11, 12))}
	oldSignature := slices.Concat([]byte{0x30}, d.bytes(48), bytes.Repeat([]byte{0xac}, 22)) // no strict DER, and a script by chance
	key := slices.Concat([]byte{2, 0xff, 0xff}, bytes.Repeat([]byte{0xac}, 30))              // so is this key
	taproot := func() wire.TxWitness {
		for _, k := range kinds {
			if _, _, w := k.make(d); k.name == "taproot script path" {
				return w[:3]
			}
		}
		return nil
	}
	redeem, _ := d.asking()
	odd, short := taproot(), taproot()
	odd[2][0] ^= 1 // the output key's other y, which BIP 341 refuses
	short[2] = short[2][:32]
	for name, in := range map[string]*wire.TxIn{
		"a signature of old for a script": {SignatureScript: pushes(nil, oldSignature)},
		"a key for a script":              {SignatureScript: pushes(d.bytes(8), key)},
		"a key for a witness script":      {Witness: wire.TxWitness{d.bytes(8), key}},
		"a key's other half":              {Witness: odd},
		"a control block cut short":       {Witness: short},
		"a nested script not pushed":      {SignatureScript: slices.Concat([]byte{0x51, 0, 20}, d.bytes(20)), Witness: wire.TxWitness{{1}}},
		"a nested script of no program":   {SignatureScript: pushes(d.bytes(60)), Witness: wire.TxWitness{{1}}},
		"a script that is not all pushes": {SignatureScript: append([]byte{0x61}, pushes(d.signature(), redeem)...)},
		"a push that is cut short":        {SignatureScript: []byte{1, 1, 0x4c}},
	} {
		b := paying([][]byte{{0x51}})
		spend := wire.NewMsgTx(2)
		in.PreviousOutPoint = wire.OutPoint{Hash: chainhash.Hash{1}}
		spend.AddTxIn(in)
		spend.AddTxOut(wire.NewTxOut(1, []byte{0x51}))
		b.Transactions = append(b.Transactions, spend)
		raw, err := filter.Build(b, func(wire.OutPoint) []byte { return []byte{0x60, 2, 1, 2} })
		if err != nil {
			t.Fatal(err)
		}
		if lie, why := filter.Contradicts(raw, b); lie {
			t.Errorf("%s: %s", name, why)
		}
	}
}
