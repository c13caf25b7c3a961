package wallet

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
)

// MaxProofHeaders bounds the headers of a proof: a day of them.
const MaxProofHeaders = 144

// Paid is the value of a settled order's outcome: a receipt.Evidence.
type Paid struct {
	Order  money.OrderID
	Amount money.Amount
	proof  []byte
}

// Entry is the order that was paid.
func (p Paid) Entry() receipt.Entry { return receipt.Entry{Order: p.Order, Amount: p.Amount} }

// Proof is what Verify checks.
func (p Paid) Proof() []byte { return p.proof }

// A proof is a version, the output that pays, and what all orders of a
// transaction have in common: the transaction, whether there is more, the
// Merkle proof, and the headers from its block on.
const proofVersion = 1

func (o *order) proof() []byte {
	if o.batch == nil {
		return nil
	}
	b := codec.AppendUint([]byte{proofVersion}, o.out)
	return append(b, o.batch.proof...)
}

func commonProof(t *wire.MsgTx, b *batch, headers []wire.BlockHeader) []byte {
	bare := t.Copy()
	for _, in := range bare.TxIn {
		in.Witness = nil // the transaction's ID does not cover it: anybody could bend it
	}
	out := codec.AppendBytes(nil, tx.Bytes(bare))
	if len(headers) == 0 || b.merkle == nil {
		return append(out, 0)
	}
	out = b.merkle.Append(append(out, 1))
	out = codec.AppendUint(out, len(headers))
	return appendHeaders(out, headers)
}

func appendHeaders(b []byte, headers []wire.BlockHeader) []byte {
	raw := bytes.NewBuffer(b)
	for i := range headers {
		_ = headers[i].Serialize(raw) // a bytes.Buffer does not fail
	}
	return raw.Bytes()
}

func readHeader(r *codec.Reader) (h wire.BlockHeader) {
	if raw := r.Take(header.Size); raw != nil {
		if err := h.Deserialize(bytes.NewReader(raw)); err != nil {
			r.Fail(err)
		}
	}
	return h
}

// Proven is what a proof shows.
type Proven struct {
	Tx     *wire.MsgTx
	Output uint32
	// Depth is the number of headers, the block of the transaction included; 0 if
	// the proof has none, and then nothing shows that the transaction was mined.
	Depth  int32
	Height int32 // as the proof says; the headers do not show it
	Block  chainhash.Hash
	// Headers are the hashes of the headers, that of Block first.
	Headers []chainhash.Hash
	// Work is how many hashes the headers have cost on average: what a forger
	// would have to spend.
	Work *big.Int
}

// ErrForged means a proof does not prove what it should.
var ErrForged = errors.New("proof does not fit")

// Verify checks offline that an output pays an order's amount to script, and
// that its transaction is in a block that has depth headers, itself included,
// each with the work that it names. Whether that chain is the best one takes
// somebody who follows it: Proven.Block is what to look for.
func Verify(e receipt.Entry, script []byte, depth int32, p *chaincfg.Params, proof []byte) (Proven, error) {
	got, branch, headers, err := readProof(proof)
	if err != nil {
		return got, err
	}
	forged := func(format string, args ...any) (Proven, error) {
		return got, fmt.Errorf("%w: %s", ErrForged, fmt.Sprintf(format, args...))
	}
	if int(got.Output) >= len(got.Tx.TxOut) {
		return forged("it names output %d of %d", got.Output, len(got.Tx.TxOut))
	}
	out := got.Tx.TxOut[got.Output]
	if want := (e.Amount + money.Sat - 1).Sats(); e.Amount > money.MaxAmount || out.Value != want || !bytes.Equal(out.PkScript, script) {
		return forged("output %d pays %d sat to %x; order %v is %d sat to %x", got.Output, out.Value, out.PkScript, e.Order, want, script)
	}
	if got.Depth < depth {
		return forged("it has %d headers; %d are needed", got.Depth, depth)
	}
	if got.Depth == 0 {
		return got, nil
	}
	root, err := branch.Root(got.Tx)
	if err != nil {
		return forged("%v", err)
	}
	if root != headers[0].MerkleRoot {
		return forged("transaction %v is not in block %v", got.Tx.TxHash(), headers[0].BlockHash())
	}
	got.Block, got.Work = headers[0].BlockHash(), new(big.Int)
	for i := range headers {
		h := &headers[i]
		if i > 0 && h.PrevBlock != headers[i-1].BlockHash() {
			return forged("header %d does not follow the one before", i)
		}
		got.Headers = append(got.Headers, header.Hash(h))
		work, met, ok := header.Claimed(h, p.PowLimit)
		switch {
		case !ok:
			return forged("header %d names a target that %s does not have", i, p.Name)
		case !met:
			return forged("header %d has not the work that it names", i)
		}
		got.Work.Add(got.Work, work.Big())
	}
	return got, nil
}

func readProof(proof []byte) (got Proven, branch merkle.Branch, headers []wire.BlockHeader, err error) {
	r := codec.NewReader(proof)
	if v := r.U8(); v != proofVersion && r.Err() == nil {
		return got, branch, nil, fmt.Errorf("proof has version %d; this build reads version %d", v, proofVersion)
	}
	got.Output = uint32(r.Int(tx.MaxSize, "output"))
	raw := r.Bytes(tx.MaxSize, "transaction")
	if readBool(r) {
		p := merkle.ReadProof(r)
		got.Height, branch = p.Height, p.Branch
		n := r.Int(MaxProofHeaders, "number of headers")
		if n == 0 || n > r.Len()/header.Size {
			r.Fail(codec.ErrShort)
			n = 0
		}
		for range n {
			headers = append(headers, readHeader(r))
		}
	}
	if err := r.Close(); err != nil {
		return got, branch, nil, fmt.Errorf("proof: %w", err)
	}
	got.Depth = int32(len(headers))
	if got.Tx, err = tx.Parse(raw); err == nil && got.Tx.HasWitness() {
		err = fmt.Errorf("%w: it shows witnesses, which nothing in it proves", ErrForged)
	}
	return got, branch, headers, err
}

func satoshi(v int64) money.Amount { return money.Amount(v) * money.Sat }
