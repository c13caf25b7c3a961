package merkle_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/codec"
)

func TestEveryTransactionIsProvenAndNoOtherPlace(t *testing.T) {
	for n := 1; n < 70; n++ {
		all := txs(n)
		root, err := merkle.Root(ids(all))
		if err != nil {
			t.Fatal(err)
		}
		for i, tx := range all {
			b := merkle.Prove(ids(all), i)
			if got, err := b.Root(tx); err != nil || got != root {
				t.Fatalf("transaction %d of %d: %v, %v", i, n, got, err)
			}
			if got, err := b.Root(all[(i+1)%n]); n > 1 && err == nil && got == root {
				t.Fatalf("the proof of transaction %d of %d holds for another one", i, n)
			}
			// Up to the next power of two and beyond: also the places where an odd
			// row repeats its last node.
			for j := range uint32(4 * n) {
				b.Index = j
				if got, err := b.Root(tx); int(j) != i && err == nil && got == root {
					t.Fatalf("transaction %d of %d is also proven at %d", i, n, j)
				}
			}
		}
	}
}

func TestForgedBranches(t *testing.T) {
	all := txs(11) // rows of 11, 6, 3, 2, 1
	root, _ := merkle.Root(ids(all))
	forge := func(index int, change func(b *merkle.Branch)) error {
		b := merkle.Prove(ids(all), index)
		change(&b)
		got, err := b.Root(all[index])
		if err == nil && got == root {
			t.Errorf("a forged branch leads to the root: %+v", b)
		}
		return err
	}
	for i := range all {
		_ = forge(i, func(b *merkle.Branch) { b.Hashes = b.Hashes[1:] })
		_ = forge(i, func(b *merkle.Branch) { b.Hashes = b.Hashes[:len(b.Hashes)-1] })
		_ = forge(i, func(b *merkle.Branch) { b.Hashes = append(b.Hashes, root) })
		_ = forge(i, func(b *merkle.Branch) { b.Hashes = append(b.Hashes, chainhash.Hash{}) })
		_ = forge(i, func(b *merkle.Branch) { b.Hashes = nil })
		for j := range 4 {
			_ = forge(i, func(b *merkle.Branch) { b.Hashes[j][7] ^= 1 })
		}
	}
	err := forge(10, func(b *merkle.Branch) { b.Index = 16 })
	wantLie(t, "an index beyond the branch", err, "reach 15")
	err = forge(10, func(b *merkle.Branch) { b.Hashes = b.Hashes[:3] })
	wantLie(t, "a branch too short for its index", err, "reach 7")
	err = forge(10, func(b *merkle.Branch) { b.Index = 11 })
	wantLie(t, "a place among the repeated leaves", err, "CVE-2012-2459")
	err = forge(10, func(b *merkle.Branch) { b.Index = 14 })
	wantLie(t, "a place among the repeated nodes", err, "CVE-2012-2459")
	err = forge(10, func(b *merkle.Branch) { b.Hashes[2] = chainhash.Hash{1} })
	wantLie(t, "a neighbour right of the last node", err, "last one of the row")
	err = forge(0, func(b *merkle.Branch) { b.Hashes = make([]chainhash.Hash, merkle.MaxBranch+1) })
	wantLie(t, "a branch too long for any block", err, "the limit is 24")
}

func TestTransactionsThatCouldBeNodesAreRefused(t *testing.T) {
	all := append(txs(3), small())
	_, err := merkle.Prove(ids(all), 3).Root(all[3])
	wantLie(t, "a transaction of 64 bytes", err, "CVE-2017-12842")
}

// A miner puts a transaction of 64 bytes into a block, half of which is the id of
// a payment that never was, and shows a branch that is one hash longer.
func TestPaymentsBelowATransactionAreRefused(t *testing.T) {
	fake, mined := below(t)
	raw := bytes.Buffer{}
	if err := mined.Serialize(&raw); err != nil || raw.Len() != 64 {
		t.Fatal(raw.Len(), err)
	}
	all := append(txs(1), mined)
	root, _ := merkle.Root(ids(all))
	forged := merkle.Branch{Index: 2, Hashes: []chainhash.Hash{chainhash.Hash(raw.Bytes()[32:]), all[0].TxHash()}}
	if honest, _ := merkle.Root([]chainhash.Hash{fake.TxHash(), forged.Hashes[0]}); honest != mined.TxHash() {
		t.Fatal("the fake payment is not below the transaction; the test tests nothing")
	}
	got, err := forged.Root(fake)
	wantLie(t, "a payment below a transaction", err, "is a transaction")
	if got == root {
		t.Error("the forged payment is proven")
	}
}

// below returns a transaction of 64 bytes that starts with the id of another.
func below(t *testing.T) (fake, mined *wire.MsgTx) {
	for i := range 1 << 14 {
		fake = txs(2)[1]
		fake.LockTime = uint32(i)
		id := fake.TxHash()
		var b bytes.Buffer
		if err := small().Serialize(&b); err != nil {
			t.Fatal(err)
		}
		mined = new(wire.MsgTx)
		if mined.Deserialize(bytes.NewReader(append(id[:], b.Bytes()[32:]...))) == nil && mined.TxIn != nil {
			return fake, mined
		}
	}
	t.Fatal("no id looks like the start of a transaction")
	return nil, nil
}

func FuzzReadProof(f *testing.F) {
	all := txs(11)
	root, _ := merkle.Root(ids(all))
	f.Add([]byte{})
	for i := range all {
		f.Add(merkle.Proof{Height: int32(i) << 20, Branch: merkle.Prove(ids(all), i)}.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := codec.NewReader(raw)
		p := merkle.ReadProof(r)
		if r.Close() != nil {
			return
		}
		if again := p.Append(nil); !bytes.Equal(again, raw) {
			t.Fatalf("%x becomes %x", raw, again)
		}
		for i, tx := range all {
			honest := merkle.Prove(ids(all), i)
			got, err := p.Branch.Root(tx)
			if err == nil && got == root && (p.Branch.Index != honest.Index || !slices.Equal(p.Branch.Hashes, honest.Hashes)) {
				t.Fatalf("a second proof of transaction %d: %+v", i, p.Branch)
			}
		}
	})
}

func TestProofsThatCannotBeRead(t *testing.T) {
	good := merkle.Proof{Height: 5, Branch: merkle.Prove(ids(txs(11)), 10)}.Append(nil)
	for name, raw := range map[string][]byte{
		"cut short":        good[:len(good)-1],
		"too long":         append(slices.Clone(good), 0),
		"too many hashes":  {5, merkle.MaxBranch + 1, 0},
		"hashes not there": {5, merkle.MaxBranch, 0},
		"index too large":  append([]byte{5, 1, 2}, make([]byte, 32)...),
		"negative height":  {0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0, 0},
	} {
		r := codec.NewReader(raw)
		if merkle.ReadProof(r); r.Close() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	r := codec.NewReader(good)
	if p := merkle.ReadProof(r); r.Close() != nil || p.Height != 5 || p.Branch.Index != 10 || len(p.Branch.Hashes) != 4 {
		t.Errorf("%+v, %v", p, r.Err())
	}
}

func BenchmarkProve(b *testing.B) {
	all := ids(txs(3000))
	for b.Loop() {
		merkle.Prove(all, 1234)
	}
}
