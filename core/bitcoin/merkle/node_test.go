package merkle

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

func TestNodesThatAreTransactionsAreKnown(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func() (h chainhash.Hash) {
		for i := range h {
			h[i] = byte(rnd.Uint32())
		}
		return h
	}
	for range 5000 {
		tx := wire.NewMsgTx(int32(rnd.Uint32()))
		point := wire.OutPoint{Hash: random(), Index: rnd.Uint32()}
		n := rnd.IntN(5)
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: point, SignatureScript: make([]byte, n), Sequence: rnd.Uint32()})
		tx.AddTxOut(wire.NewTxOut(rnd.Int64N(maxSatoshi+1), make([]byte, 4-n)))
		tx.LockTime = rnd.Uint32()
		var b bytes.Buffer
		if err := tx.Serialize(&b); err != nil || b.Len() != nodeSize {
			t.Fatal(b.Len(), err)
		}
		raw := b.Bytes()
		if _, err := prove(chainhash.Hash(raw[:32]), chainhash.Hash(raw[32:])); err == nil {
			t.Fatalf("transaction %x passes for a node", raw)
		}
	}
	for range 100_000 {
		if _, err := prove(random(), random()); err != nil {
			t.Fatal(err)
		}
	}
}
