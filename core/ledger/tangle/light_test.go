package tangle_test

import (
	"bytes"
	"testing"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
)

func lightSecret(b byte) eddsa.Secret { return eddsa.NewSecret(eddsa.SHA512, [32]byte{b}) }

// applied is a milestone that has applied n blocks with a transaction each, and what
// shows the i-th.
func applied(t testing.TB, net *tangle.Network, n, i int) tangle.Proof {
	t.Helper()
	rich := lightSecret(1)
	var raws [][]byte
	var ids []tangle.BlockID
	for k := range n {
		spent := []tangle.BasicOutput{{Amount: 10, Address: tangle.NewAddress(rich.Public())}}
		e, err := tangle.NewEssence(net, []tangle.OutputID{tangle.GenesisOutput(uint16(k))}, spent, spent, &tangle.TaggedData{Tag: []byte("tag"), Data: []byte{byte(k)}})
		if err != nil {
			t.Fatal(err)
		}
		tx, err := e.Sign(spent, rich)
		if err != nil {
			t.Fatal(err)
		}
		raw := (&tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}}, Payload: tx}).Append(nil)
		raws, ids = append(raws, raw), append(ids, tangle.IDOf(raw))
	}
	m := &tangle.Milestone{Index: 5, Timestamp: 6, Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}}, AppliedRoot: tangle.MerkleRoot(ids)}
	m.Sign(lightSecret(7), lightSecret(8))
	in, err := tangle.NewInclusion(ids, i)
	if err != nil {
		t.Fatal(err)
	}
	return tangle.NewProof(raws[i], m, in)
}

func lightNetwork(t testing.TB) *tangle.Network {
	t.Helper()
	keys := [][32]byte{lightSecret(7).Public(), lightSecret(8).Public(), lightSecret(9).Public()}
	net, err := tangle.NewNetwork("light", "tst", 2, keys, []tangle.BasicOutput{{Amount: 1000, Address: tangle.NewAddress(lightSecret(1).Public())}})
	if err != nil {
		t.Fatal(err)
	}
	return net
}

// Every block of a milestone can be shown to anybody who knows the coordinators,
// and what is shown goes through bytes.
func TestAProofOfEveryBlock(t *testing.T) {
	net := lightNetwork(t)
	for n := 1; n <= 9; n++ {
		for i := range n {
			p := applied(t, net, n, i)
			r := codec.NewReader(p.Append(nil))
			back := tangle.ReadProof(r)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			tx, err := back.Verify(net.Trust())
			if err != nil || tx.Essence.Payload.Data[0] != byte(i) {
				t.Fatalf("block %d of %d: %v", i, n, err)
			}
		}
	}
}

// A proof with any bit changed proves nothing, and one by other coordinators neither.
func TestForgedProofs(t *testing.T) {
	net := lightNetwork(t)
	p := applied(t, net, 5, 3)
	raw := p.Append(nil)
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1 << (i % 8)
		r := codec.NewReader(bad)
		forged := tangle.ReadProof(r)
		if r.Close() != nil {
			continue
		}
		if _, err := forged.Verify(net.Trust()); err == nil {
			t.Errorf("byte %d of %d is changed, and nobody minds", i, len(raw))
		}
	}
	for what, change := range map[string]func(c *tangle.Coordinators){
		"more must sign":   func(c *tangle.Coordinators) { c.Threshold = 3 },
		"one is no longer": func(c *tangle.Coordinators) { c.Keys = c.Keys[:2] },
		"others are":       func(c *tangle.Coordinators) { c.Keys = [][32]byte{{1}, {2}, {3}} },
	} {
		c := net.Trust()
		c.Keys = append([][32]byte(nil), c.Keys...)
		change(&c)
		if c.Digest() == net.Trust().Digest() {
			t.Errorf("%s: the digest is the same", what)
		}
		if _, err := p.Verify(c); err == nil && what != "one is no longer" {
			t.Errorf("%s: the proof holds", what)
		}
	}
}

// FuzzLight: what is read is written the same, and nothing else is read.
func FuzzLight(f *testing.F) {
	net := lightNetwork(f)
	p := applied(f, net, 3, 1)
	f.Add(p.Append(nil))
	f.Add(net.Trust().Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := codec.NewReader(raw)
		if p := tangle.ReadProof(r); r.Close() == nil {
			if again := p.Append(nil); !bytes.Equal(again, raw) {
				t.Errorf("proof %x is written as %x", raw, again)
			}
			p.Verify(net.Trust())
		}
		r = codec.NewReader(raw)
		if c := tangle.ReadCoordinators(r); r.Close() == nil {
			if again := c.Append(nil); !bytes.Equal(again, raw) {
				t.Errorf("coordinators %x are written as %x", raw, again)
			}
		}
	})
}
