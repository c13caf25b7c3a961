// Package tower is the watchtower's pure part: what a client seals, what a tower
// keeps and cannot read, and what it publishes when a block shows the key.
//
// For every commitment that its peer revokes, the client signs the penalties
// that take that commitment's outputs (Justice) and seals them under its txid
// (Blob). The tower stores blobs by hints that say nothing, looks for hints of
// the transactions of every block, and on a match can open the blob, build the
// penalties and publish them. Before that it learns how many commitments there
// were, and no more: all blobs have one size, and no amount, key or channel is
// in the open.
//
//	client                                  tower
//	Cover   ──── Ask ────────────────────▶
//	Covered ◀─── Grant, the terms ────────
//	Guard   ──── Put, numbered blobs ────▶  on disk
//	Guarded ◀─── Ack, how many it has ────
//	                                        Block: Breached, watch.Publish
//	Forget  ──── Delete ─────────────────▶
//
// Not covered are the outputs of second-stage transactions: what the cheater
// takes of an HTLC that way before the penalty confirms can only be won back by
// who has the revocation key.
package tower

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
)

// Sigs are the signatures of one input, for the two fee rates of the terms. One
// that is zero is not there.
type Sigs [2]keys.Signature

// Justice is everything that takes the outputs of one revoked commitment, but
// its txid.
//
// A cheater may spend an HTLC output by its second stage before a penalty
// confirms. So only to_local, which it cannot, is spent by a transaction of its
// own (SIGHASH_ALL, with the tower's reward). All other outputs are signed as
// pairs, one input and one output (SIGHASH_SINGLE and ANYONECANPAY), and the
// tower puts together those that are left.
type Justice struct {
	Type   commit.Type
	Keys   commit.Keys // HTLC and OtherHTLC only if there are HTLCs
	Delay  uint16      // blocks, of to_local
	Payout []byte      // the client's script: P2WPKH, P2WSH or P2TR

	ToLocal, ToRemote Sigs
	HTLCs             []HTLC
}

// An HTLC is an HTLC output of the revoked commitment.
type HTLC struct {
	Vout    uint16
	Offered bool // by the cheater
	Expiry  uint32
	Hash    [32]byte
	Sigs    Sigs
}

// pairHash is what a pair is signed with.
const pairHash = txscript.SigHashSingle | txscript.SigHashAnyOneCanPay

// replaceable is a sequence that lets a higher fee replace a transaction.
const replaceable = wire.MaxTxInSequenceNum - 2

// MaxPairs bounds the pairs in one transaction, for the relay limit of 100,000
// vbytes.
const MaxPairs = 250

// A spend is an input of a penalty.
type spend struct {
	point    wire.OutPoint
	value    int64
	script   []byte // that is signed: the witness script, or P2WPKH's own
	sequence uint32
	key      keys.Public
	middle   []byte // what stands between signature and script in the witness
	sigs     *Sigs
}

func (s *spend) witness(sig []byte) wire.TxWitness {
	if tx.IsP2WPKH(s.script) {
		return wire.TxWitness{sig, s.key[:]}
	}
	if s.middle == nil {
		return wire.TxWitness{sig, s.script}
	}
	return wire.TxWitness{sig, s.middle, s.script}
}

func (s *spend) input() *wire.TxIn {
	return &wire.TxIn{PreviousOutPoint: s.point, Sequence: s.sequence, Witness: s.witness(make([]byte, maxWitnessSig))}
}

// maxWitnessSig is the size of the longest signature in a witness: DER with a
// low S, and the sighash byte.
const maxWitnessSig = 72

// find gives the output of t that pays to script.
func find(t *wire.MsgTx, script []byte) (vout int, ok bool) {
	for i, o := range t.TxOut {
		if string(o.PkScript) == string(script) {
			return i, true
		}
	}
	return 0, false
}

// toLocal finds the cheater's own output, if it has one.
func (j *Justice) toLocal(breach *wire.MsgTx, id chainhash.Hash) (s spend, ok bool) {
	script := commit.ToLocalScript(j.Keys.Revocation, j.Keys.Delayed, j.Delay)
	vout, ok := find(breach, tx.P2WSH(script))
	if !ok {
		return s, false
	}
	return spend{
		point: wire.OutPoint{Hash: id, Index: uint32(vout)}, value: breach.TxOut[vout].Value, script: script,
		sequence: replaceable, key: j.Keys.Revocation, middle: []byte{1}, sigs: &j.ToLocal,
	}, true
}

// others finds the outputs that are spent as pairs: to_remote and the HTLCs.
func (j *Justice) others(breach *wire.MsgTx, id chainhash.Hash) (all []spend) {
	pk := j.Type.ToRemotePkScript(j.Keys.Payment)
	if vout, ok := find(breach, pk); ok {
		s := spend{
			point: wire.OutPoint{Hash: id, Index: uint32(vout)}, value: breach.TxOut[vout].Value,
			script: pk, sequence: replaceable, key: j.Keys.Payment, sigs: &j.ToRemote,
		}
		if j.Type == commit.Anchors {
			s.script, s.sequence = commit.ToRemoteScript(j.Keys.Payment), 1
		}
		all = append(all, s)
	}
	for i := range j.HTLCs {
		h := &j.HTLCs[i]
		script := j.Type.HTLCScript(j.Keys, h.Offered, h.Hash, h.Expiry)
		if int(h.Vout) >= len(breach.TxOut) || string(breach.TxOut[h.Vout].PkScript) != string(tx.P2WSH(script)) {
			continue
		}
		all = append(all, spend{
			point: wire.OutPoint{Hash: id, Index: uint32(h.Vout)}, value: breach.TxOut[h.Vout].Value, script: script,
			sequence: replaceable, key: j.Keys.Revocation, middle: j.Keys.Revocation[:], sigs: &h.Sigs,
		})
	}
	return all
}

// penalty spends to_local, or is nil if nothing would be left after the fee and
// the reward. Its witness has the size of the real one.
func (j *Justice) penalty(t *Terms, version int, s *spend) *wire.MsgTx {
	if t.Rates[version] == 0 {
		return nil
	}
	p := wire.NewMsgTx(2)
	p.AddTxIn(s.input())
	reward := t.Reward.of(s.value)
	p.AddTxOut(wire.NewTxOut(s.value-reward, j.Payout))
	if reward > 0 {
		p.AddTxOut(wire.NewTxOut(reward, t.Reward.Script))
	}
	p.TxOut[0].Value -= t.Rates[version].For(tx.VSize(p))
	if p.TxOut[0].Value < dust {
		return nil
	}
	return p
}

// pair spends s alone, or is nil if nothing would be left. Its fee is that of a
// transaction of its own, so any number of pairs pay enough together.
func (j *Justice) pair(t *Terms, version int, s *spend) *wire.MsgTx {
	if t.Rates[version] == 0 {
		return nil
	}
	p := wire.NewMsgTx(2)
	p.AddTxIn(s.input())
	p.AddTxOut(wire.NewTxOut(s.value, j.Payout))
	p.TxOut[0].Value -= t.Rates[version].For(tx.VSize(p))
	if p.TxOut[0].Value < dust {
		return nil
	}
	return p
}

// sighash is the BIP 143 digest of the only input of p.
func (s *spend) sighash(p *wire.MsgTx, typ txscript.SigHashType) [32]byte {
	fetch := txscript.NewCannedPrevOutputFetcher(nil, s.value)
	hash, err := txscript.CalcWitnessSigHash(s.script, txscript.NewTxSigHashes(p, fetch), typ, p, 0, s.value)
	if err != nil {
		panic("sighash of a script of ours: " + err.Error())
	}
	return [32]byte(hash)
}

// ErrNothing means that a revoked commitment has no output worth a penalty at
// the session's fee rates.
var ErrNothing = errors.New("no output of the commitment is worth a penalty")

// NewJustice signs the penalties for k, the peer's commitment, which it has
// revoked by revealing its per-commitment secret. Payout is where they pay to.
func NewJustice(t Terms, c *commit.Channel, k *commit.Commitment, s commit.Secrets, revealed [32]byte, payout []byte) (*Justice, error) {
	if !payable(payout) {
		return nil, errors.New("payout script is no P2WPKH, P2WSH or P2TR")
	}
	revocation, err := commit.RevocationSecret(s.Revocation, revealed)
	if err != nil {
		return nil, err
	}
	if k.Owner != commit.Remote || revocation.Public() != k.Keys.Revocation {
		return nil, errors.New("the revealed secret does not revoke this commitment of the peer's")
	}
	j := &Justice{Type: c.Type, Keys: k.Keys, Delay: c.Remote.Delay, Payout: payout}
	for _, o := range k.Outputs {
		j.HTLCs = append(j.HTLCs, HTLC{Vout: uint16(o.Vout), Offered: o.Offered, Expiry: o.Expiry, Hash: o.Hash})
	}
	theirs, ours := batch{key: revocation}, batch{key: s.Payment}
	if own, ok := j.toLocal(k.Tx, k.ID); ok {
		theirs.add(&own, txscript.SigHashAll, func(v int) *wire.MsgTx { return j.penalty(&t, v, &own) })
	}
	for _, other := range j.others(k.Tx, k.ID) {
		by := &theirs
		if other.sigs == &j.ToRemote {
			by = &ours
		}
		by.add(&other, pairHash, func(v int) *wire.MsgTx { return j.pair(&t, v, &other) })
	}
	if len(theirs.sigs) == 0 {
		return nil, ErrNothing // what is ours anyway needs no tower
	}
	theirs.sign()
	ours.sign()
	return j, nil
}

// A batch is what one key has to sign.
type batch struct {
	key     keys.Secret
	digests [][32]byte
	sigs    []*keys.Signature
}

// add takes both versions of a penalty, those that there are.
func (b *batch) add(s *spend, typ txscript.SigHashType, version func(int) *wire.MsgTx) {
	for v := range s.sigs {
		if p := version(v); p != nil {
			b.digests = append(b.digests, s.sighash(p, typ))
			b.sigs = append(b.sigs, &s.sigs[v])
		}
	}
}

func (b *batch) sign() {
	for i, sig := range b.key.SignAll(b.digests) {
		*b.sigs[i] = sig
	}
}

// checked is p, whose input s has the client's signature of a version, or nil
// if p is nil or the signature does not fit.
func (s *spend) checked(p *wire.MsgTx, version int, typ txscript.SigHashType) *wire.MsgTx {
	if p == nil {
		return nil
	}
	sig := s.sigs[version]
	if sig == (keys.Signature{}) || !s.key.Verify(s.sighash(p, typ), sig) {
		return nil
	}
	p.TxIn[0].Witness = s.witness(append(sig.DER(), byte(typ)))
	return p
}

// Penalties are the transactions that take what is left of the outputs of a
// breach, whose txid is id: at the second fee rate if urgent, where there is
// one. It fails if there never was anything to take, or if the client's
// signatures do not fit.
func (j *Justice) Penalties(t Terms, breach *wire.MsgTx, id chainhash.Hash, urgent bool, spent func(wire.OutPoint) bool) (all []*wire.MsgTx, err error) {
	found, valid := 0, 0
	best := func(s *spend, typ txscript.SigHashType, build func(*Terms, int, *spend) *wire.MsgTx) *wire.MsgTx {
		found++
		for v := 1; v >= 0; v-- {
			if v == 1 && !urgent {
				continue
			}
			if p := s.checked(build(&t, v, s), v, typ); p != nil {
				valid++
				return p
			}
		}
		return nil
	}
	if own, ok := j.toLocal(breach, id); ok {
		if p := best(&own, txscript.SigHashAll, j.penalty); p != nil && !spent(own.point) {
			all = append(all, p)
		}
	}
	var pairs *wire.MsgTx
	for _, other := range j.others(breach, id) {
		p := best(&other, pairHash, j.pair)
		if p == nil || spent(other.point) {
			continue
		}
		if pairs == nil || len(pairs.TxIn) == MaxPairs {
			pairs = wire.NewMsgTx(2)
			all = append(all, pairs)
		}
		pairs.AddTxIn(p.TxIn[0])
		pairs.AddTxOut(p.TxOut[0])
	}
	if valid == 0 {
		return nil, fmt.Errorf("breach %v: of %d outputs found none has a signature that fits", id, found)
	}
	return all, nil
}

// Outputs are the outputs of a breach that there are penalties for.
func (j *Justice) Outputs(breach *wire.MsgTx, id chainhash.Hash) (all []wire.OutPoint) {
	if own, ok := j.toLocal(breach, id); ok && *own.sigs != (Sigs{}) {
		all = append(all, own.point)
	}
	for _, s := range j.others(breach, id) {
		if *s.sigs != (Sigs{}) {
			all = append(all, s.point)
		}
	}
	return all
}
