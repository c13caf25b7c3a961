package consent

import (
	"slices"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/keys"
	"coinop.dev/core/step"
)

// consent signs what judge found right.
func (s *Signer) consent(p *Proposal, v *verdict) *given {
	t := v.tx().Copy()
	fetch := txscript.NewMultiPrevOutFetcher(v.shown())
	cache := txscript.NewTxSigHashes(t, fetch)
	c := Consent{ID: p.ID, Counter: s.counter + 1, Signatures: make([][]byte, len(v.own))}
	for i, o := range v.own {
		c.Signatures[i] = s.sign(t, &o, cache, fetch)
		s.signs++
	}
	for i, o := range v.own {
		t.TxIn[o.input].SignatureScript, t.TxIn[o.input].Witness = Unlock(o.script, c.Signatures[i])
	}
	for _, o := range v.own {
		proveSigned(t, &o, cache, fetch)
	}
	g := &given{
		Consent: c, digest: p.digest(v.tx()), txid: v.tx().TxHash(), cost: v.cost, points: v.points,
		orders: slices.Clone(p.Orders), before: p.Replaces,
	}
	if v.settled() {
		g.final = t.TxHash()
	}
	mark, err := g.mark(g.txid, s.Identity)
	step.Assert(err == nil, "consent: no mark: %v", err)
	g.Mark = mark
	return g
}

// settled reports whether no signature of others changes the transaction's ID:
// their inputs, if any, are shown as native witness ones (BIP 141). If that is a
// lie there will be no transaction of the ID, and none that spends it.
func (v *verdict) settled() bool {
	signed := map[int]bool{}
	for _, o := range v.own {
		signed[o.input] = true
	}
	for i, in := range v.tx().TxIn {
		prev := v.prevs[in.PreviousOutPoint]
		if !signed[i] && (prev == nil || !txscript.IsWitnessProgram(prev.PkScript)) {
			return false
		}
	}
	return true
}

// shown is the outputs that the inputs spend. One that is not shown is empty:
// judge lets that pass only where no signature covers it.
func (v *verdict) shown() map[wire.OutPoint]*wire.TxOut {
	all := make(map[wire.OutPoint]*wire.TxOut, len(v.prevs))
	for point, prev := range v.prevs {
		if prev == nil {
			prev = new(wire.TxOut)
		}
		all[point] = prev
	}
	return all
}

// sign makes the signature of one input as a transaction carries it.
func (s *Signer) sign(t *wire.MsgTx, o *own, cache *txscript.TxSigHashes, fetch txscript.PrevOutputFetcher) []byte {
	key, err := s.accounts[o.account].SigningKey(o.branch, o.index)
	step.Assert(err == nil, "consent: no key at %d/%d, whose script was derived: %v", o.branch, o.index, err)
	digest, err := sighash(t, o, cache, fetch)
	step.Assert(err == nil, "consent: input %d has no sighash: %v", o.input, err)
	if o.script.Kind != descriptor.TR {
		der := key.Sign(digest).DER()
		return append(der, byte(o.hash))
	}
	sig := signSchnorr(key, digest)
	if o.hash != txscript.SigHashDefault {
		sig = append(sig, byte(o.hash))
	}
	return sig
}

func sighash(t *wire.MsgTx, o *own, cache *txscript.TxSigHashes, fetch txscript.PrevOutputFetcher) (digest [32]byte, err error) {
	var d []byte
	switch o.script.Kind {
	case descriptor.TR:
		d, err = txscript.CalcTaprootSignatureHash(cache, o.hash, t, o.input, fetch)
	case descriptor.PKH:
		d, err = txscript.CalcSignatureHash(o.script.Script, o.hash, t, o.input)
	case descriptor.SHWPKH:
		d, err = txscript.CalcWitnessSigHash(o.script.Redeem, cache, o.hash, t, o.input, o.value)
	default:
		d, err = txscript.CalcWitnessSigHash(o.script.Script, cache, o.hash, t, o.input, o.value)
	}
	copy(digest[:], d)
	return digest, err
}

// signSchnorr is BIP 340's signature with the nonce of RFC 6979: the same
// proposal always gets the same bytes. It does not check itself: proveSigned does.
func signSchnorr(key keys.Secret, digest [32]byte) []byte {
	b := key.Reveal()
	defer clear(b)
	private := secp256k1.PrivKeyFromBytes(b)
	defer private.Zero()
	sig, err := schnorr.Sign(private, digest[:], schnorr.FastSign())
	step.Assert(err == nil, "consent: no Schnorr signature: %v", err)
	return sig.Serialize()
}

// Unlock is what an input of a script's carries with its signature.
func Unlock(s descriptor.Script, sig []byte) (sigScript []byte, witness wire.TxWitness) {
	push := func(b []byte) []byte { return append([]byte{byte(len(b))}, b...) } // all are below 76 bytes
	switch s.Kind {
	case descriptor.TR:
		return nil, wire.TxWitness{sig}
	case descriptor.PKH:
		return append(push(sig), push(s.Key[:])...), nil
	case descriptor.SHWPKH:
		return push(s.Redeem), wire.TxWitness{sig, s.Key[:]}
	}
	return nil, wire.TxWitness{sig, s.Key[:]}
}

// proveSigned runs Bitcoin's script engine on a signed input. A signature that
// fails here was hit by a fault, and shown to anybody it could tell the key.
func proveSigned(t *wire.MsgTx, o *own, cache *txscript.TxSigHashes, fetch txscript.PrevOutputFetcher) {
	vm, err := txscript.NewEngine(o.script.Script, t, o.input, txscript.StandardVerifyFlags, nil, cache, o.value, fetch)
	if err == nil {
		err = vm.Execute()
	}
	step.Assert(err == nil, "consent: the signature of input %d does not verify: %v", o.input, err)
}
