package receipt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
)

func secret(t testing.TB, name string) keys.Secret {
	k, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var channel = [16]byte{5}

func entry(i int) receipt.Entry {
	e := receipt.Entry{Amount: money.Amount(i + 1)}
	binary.BigEndian.PutUint32(e.Order[:], uint32(i))
	return e
}

func batch(t testing.TB, n int) *receipt.Batch {
	node := secret(t, "node")
	stamp := node.Stamp("test")
	b := &receipt.Batch{Channel: channel, Payee: receipt.Bind(node, channel, stamp.Public()), Stamped: receipt.Stamped{From: 7, To: 9, Total: 1000}}
	for i := range n {
		b.Entries = append(b.Entries, entry(i))
	}
	b.Tree = receipt.NewTree(b.Entries)
	b.Stamped.Sign(stamp, channel, b.Tree.Root())
	return b
}

// Every order of a batch has a proof, and it proves no other order.
func TestEveryOrderOfABatchIsProved(t *testing.T) {
	node := secret(t, "node").Public()
	for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 32, 33, 100} {
		b := batch(t, n)
		for i := range n {
			proof := b.Proof(i)
			if got, err := receipt.Verify(entry(i), node, proof); err != nil || got != channel {
				t.Fatalf("order %d of %d: %v", i, n, err)
			}
			for _, other := range []int{i + 1, i - 1, (i + n/2) % n, n} {
				if _, err := receipt.Verify(entry(other), node, proof); other != i && err == nil {
					t.Fatalf("the proof of order %d of %d proves order %d", i, n, other)
				}
			}
			more := entry(i)
			more.Amount++
			if _, err := receipt.Verify(more, node, proof); !errors.Is(err, receipt.ErrForged) {
				t.Fatalf("order %d of %d is proved for more: %v", i, n, err)
			}
		}
	}
}

func TestTheLargestBatch(t *testing.T) {
	b := batch(t, receipt.MaxEntries)
	for _, i := range []int{0, 1, receipt.MaxEntries / 2, receipt.MaxEntries - 1} {
		if _, err := receipt.Verify(entry(i), b.Payee.Node, b.Proof(i)); err != nil {
			t.Errorf("order %d: %v", i, err)
		}
	}
}

// A proof cannot be bent: every change of a bit breaks it.
func TestNoOtherProofWillDo(t *testing.T) {
	node := secret(t, "node").Public()
	for _, n := range []int{1, 3, 5} {
		b := batch(t, n)
		proof := b.Proof(n / 2)
		for i := range proof {
			for bit := range 8 {
				bad := bytes.Clone(proof)
				bad[i] ^= 1 << bit
				if _, err := receipt.Verify(entry(n/2), node, bad); err == nil {
					t.Errorf("%d orders: bit %d of byte %d can be changed", n, bit, i)
				}
			}
		}
	}
}

func TestWhoMayStamp(t *testing.T) {
	b := batch(t, 2)
	proof := b.Proof(0)
	if _, err := receipt.Verify(entry(0), secret(t, "other").Public(), proof); !errors.Is(err, receipt.ErrForged) {
		t.Errorf("another node: %v", err)
	}
	// A stamp key that the node did not vouch for on this channel.
	other := secret(t, "other")
	b.Payee = receipt.Bind(other, channel, other.Stamp("test").Public())
	b.Payee.Node = secret(t, "node").Public()
	if _, err := receipt.Verify(entry(0), b.Payee.Node, b.Proof(0)); !errors.Is(err, receipt.ErrForged) {
		t.Errorf("a stranger's stamp key: %v", err)
	}
	node := secret(t, "node")
	b = batch(t, 2)
	b.Payee = receipt.Bind(node, [16]byte{6}, b.Payee.Stamp)
	if _, err := receipt.Verify(entry(0), node.Public(), b.Proof(0)); !errors.Is(err, receipt.ErrForged) {
		t.Errorf("a stamp key of another channel: %v", err)
	}
}

func TestEntries(t *testing.T) {
	b := batch(t, 50)
	raw := receipt.AppendEntries(nil, b.Entries)
	r := codec.NewReader(raw)
	got := receipt.ReadEntries(r)
	if r.Close() != nil || len(got) != 50 || got[49] != entry(49) {
		t.Errorf("read back %v, %v", got, r.Close())
	}
	if sum, ok := receipt.Sum(got); !ok || sum != 50*51/2 {
		t.Errorf("they add up to %v", sum)
	}
	if _, ok := receipt.Sum([]receipt.Entry{{Amount: money.MaxAmount}, {Amount: 1}}); ok {
		t.Error("a sum of more than there can be")
	}
	// A short message cannot ask for much memory.
	r = codec.NewReader(codec.AppendUint(nil, receipt.MaxEntries))
	if receipt.ReadEntries(r); r.Close() == nil {
		t.Error("4096 entries in two bytes")
	}
}

func FuzzVerify(f *testing.F) {
	for _, n := range []int{1, 5} {
		b := batch(f, n)
		f.Add(b.Proof(n - 1))
	}
	node := secret(f, "node").Public()
	good := map[string]bool{}
	for _, n := range []int{1, 5} {
		good[string(batch(f, n).Proof(n-1))] = true
	}
	f.Fuzz(func(t *testing.T, proof []byte) {
		for _, i := range []int{0, 4} {
			if _, err := receipt.Verify(entry(i), node, proof); err == nil && !good[string(proof)] {
				t.Errorf("proof %x is forged", proof)
			}
		}
	})
}
