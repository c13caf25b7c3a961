package commit

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
)

// HTLCSigHash is what the peer's signature of a second-stage transaction covers:
// with anchors only the first input and output, so that a fee can be added.
func (t Type) HTLCSigHash() txscript.SigHashType {
	if t == Anchors {
		return txscript.SigHashSingle | txscript.SigHashAnyOneCanPay
	}
	return txscript.SigHashAll
}

// HTLCSequence is the sequence of an input that spends an HTLC output, but for
// the revocation branch: with anchors it waits for the commitment to confirm.
func (t Type) HTLCSequence() uint32 {
	if t == Anchors {
		return 1
	}
	return 0
}

// HTLCTx is the second-stage transaction of Outputs[i], unsigned: HTLC-timeout
// for an HTLC that the owner offered, HTLC-success for one it received.
func (k *Commitment) HTLCTx(i int) *wire.MsgTx {
	o := &k.Outputs[i]
	t := wire.NewMsgTx(2)
	t.LockTime = o.lockTime()
	in := wire.NewTxIn(&wire.OutPoint{Hash: k.ID, Index: o.Vout}, nil, nil)
	in.Sequence = k.channel.Type.HTLCSequence()
	t.AddTxIn(in)
	t.AddTxOut(wire.NewTxOut(o.Value-o.Fee, k.second))
	return t
}

// SecondScript is the witness script of the output of every second-stage
// transaction, and of to_local: they are the same.
func (k *Commitment) SecondScript() []byte {
	return ToLocalScript(k.Keys.Revocation, k.Keys.Delayed, k.channel.Party(k.Owner).Delay)
}

func (o *HTLCOutput) lockTime() uint32 {
	if o.Offered {
		return o.Expiry
	}
	return 0
}

// Digest is what signs the funding input (BIP 143, SIGHASH_ALL).
func (k *Commitment) Digest() [32]byte { return k.channel.fundingDigest(k.Tx) }

// HTLCDigest is what the peer of the owner signs of HTLCTx(i).
func (k *Commitment) HTLCDigest(i int) [32]byte {
	var zero [32]byte
	o := &k.Outputs[i]
	typ := k.channel.Type
	point := wire.OutPoint{Hash: k.ID, Index: o.Vout}
	outputs := k.secondHash(o.Value - o.Fee)
	if typ == Anchors {
		return witnessDigest(&zero, &zero, &point, o.Script, o.Value, typ.HTLCSequence(), &outputs, o.lockTime(), typ.HTLCSigHash())
	}
	var buf [36]byte
	points := double(appendPoint(buf[:0], &point))
	binary.LittleEndian.PutUint32(buf[:4], typ.HTLCSequence())
	sequences := double(buf[:4])
	return witnessDigest(&points, &sequences, &point, o.Script, o.Value, typ.HTLCSequence(), &outputs, o.lockTime(), typ.HTLCSigHash())
}

// secondHash is the hash of the one output of a second-stage transaction.
func (k *Commitment) secondHash(value int64) [32]byte {
	var buf [8 + 1 + pkScriptSize]byte
	binary.LittleEndian.PutUint64(buf[:], uint64(value))
	buf[8] = pkScriptSize
	copy(buf[9:], k.second)
	return double(buf[:])
}

// witnessDigest is BIP 143's digest. It allocates nothing: script is shorter
// than 253 bytes.
func witnessDigest(points, sequences *[32]byte, point *wire.OutPoint, script []byte, value int64, sequence uint32, outputs *[32]byte, lockTime uint32, typ txscript.SigHashType) [32]byte {
	var buf [4 + 32 + 32 + 36 + 1 + maxHTLCScript + 8 + 4 + 32 + 4 + 4]byte
	b := append(buf[:0], 2, 0, 0, 0)
	b = append(b, points[:]...)
	b = append(b, sequences[:]...)
	b = appendPoint(b, point)
	b = append(b, byte(len(script)))
	b = append(b, script...)
	b = binary.LittleEndian.AppendUint64(b, uint64(value))
	b = binary.LittleEndian.AppendUint32(b, sequence)
	b = append(b, outputs[:]...)
	b = binary.LittleEndian.AppendUint32(b, lockTime)
	b = binary.LittleEndian.AppendUint32(b, uint32(typ))
	return double(b)
}

// fundingDigest is what both ends sign of a transaction that spends the funding
// output alone.
func (c *Channel) fundingDigest(t *wire.MsgTx) [32]byte {
	var buf [36]byte
	points := double(appendPoint(buf[:0], &c.Funding))
	binary.LittleEndian.PutUint32(buf[:4], t.TxIn[0].Sequence)
	sequences := double(buf[:4])
	outputs := double(appendOutputs(make([]byte, 0, len(t.TxOut)*(9+pkScriptSize)), t.TxOut))
	return witnessDigest(&points, &sequences, &c.Funding, c.FundingScript(), c.Capacity, t.TxIn[0].Sequence, &outputs, t.LockTime, txscript.SigHashAll)
}

// Sign signs Remote's commitment and the second-stage transaction of each of its
// Outputs, as commitment_signed carries them.
func (k *Commitment) Sign(s Secrets) (keys.Signature, []keys.Signature) {
	sig := s.Funding.Sign(k.Digest())
	if len(k.Outputs) == 0 {
		return sig, nil
	}
	digests := make([][32]byte, len(k.Outputs))
	for i := range digests {
		digests[i] = k.HTLCDigest(i)
	}
	base := k.channel.Party(k.Owner.Other()).HTLC // ours; s.HTLC.Public() costs a multiplication
	htlc, err := s.HTLC.AddTweak(tweak(k.Point, base))
	if err != nil {
		panic(err) // takes a preimage of SHA-256
	}
	return sig, htlc.SignAll(digests)
}

// Verify checks what the other side signed of the owner's commitment: the
// funding input, and the second stage of each of its Outputs in order. The error
// wraps ErrSignature and says which.
func (k *Commitment) Verify(sig keys.Signature, htlcs []keys.Signature) error {
	if len(htlcs) != len(k.Outputs) {
		return fmt.Errorf("%w: it came with %d HTLC signatures; it must be %d", ErrSignature, len(htlcs), len(k.Outputs))
	}
	checks := make([]keys.Check, 1+len(htlcs))
	checks[0] = keys.Check{Key: k.channel.Party(k.Owner.Other()).Funding, Digest: k.Digest(), Sig: sig}
	for i := range htlcs {
		checks[1+i] = keys.Check{Key: k.Keys.OtherHTLC, Digest: k.HTLCDigest(i), Sig: htlcs[i]}
	}
	switch bad := keys.VerifyAll(checks); bad {
	case -1:
		return nil
	case 0:
		return fmt.Errorf("%w: %v commitment", ErrSignature, k.Owner)
	default:
		return fmt.Errorf("%w: HTLC %d of %d in the %v commitment", ErrSignature, bad, len(htlcs), k.Owner)
	}
}

// Signed is our commitment with both signatures, ready to publish.
func (k *Commitment) Signed(s Secrets, theirs keys.Signature) *wire.MsgTx {
	return k.channel.signed(k.Tx, s, theirs)
}

// signed adds our signature of t's only input and puts both in the order of the
// keys in the funding script.
func (c *Channel) signed(t *wire.MsgTx, s Secrets, theirs keys.Signature) *wire.MsgTx {
	one, two := tx.WitnessSig(s.Funding.Sign(c.fundingDigest(t))), tx.WitnessSig(theirs)
	if bytes.Compare(c.Local.Funding[:], c.Remote.Funding[:]) > 0 {
		one, two = two, one
	}
	t = t.Copy()
	t.TxIn[0].Witness = wire.TxWitness{nil, one, two, c.FundingScript()}
	return t
}
