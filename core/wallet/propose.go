package wallet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/consent"
	"coinop.dev/core/keys"
	"coinop.dev/core/step"
)

// maxPause is the longest time between two sendings of a proposal.
const maxPause = 10 * step.Minute

// name gives each share its proposal's ID: never the same for two transactions,
// and never for two things said of one.
func (v *version) name(b *batch) {
	id := v.id()
	for _, s := range v.shares {
		m := b.members[s.member]
		s.replaces = m.agreed
		s.baptize(b.n, id[:], m)
	}
}

func (s *share) baptize(n uint64, txid []byte, m *member) {
	sum := keys.Digest("coinop/wallet/proposal", binary.BigEndian.AppendUint64(nil, n), txid, s.replaces[:], []byte(m.account))
	copy(s.id[:], sum[:])
}

// propose makes v the version that waits for consents.
func (w *Wallet) propose(b *batch, v *version, fx *step.Effects) {
	b.versions = append(b.versions, v)
	w.touched[b] = true
	w.lock(b)
	for _, s := range v.shares {
		w.sendProposal(b, v, s, fx)
	}
}

func (w *Wallet) sendProposal(b *batch, v *version, s *share, fx *step.Effects) {
	m := b.members[s.member]
	s.pause = min(max(2*s.pause, resendAfter), maxPause)
	s.next = w.now + s.pause
	w.wake(s.next)
	s.refused = false
	p := consent.Proposal{}
	if s.held != nil {
		p = readHeld(s.held)
	} else {
		w.proveAgain(b, m)
		p = v.proposal(b, s)
	}
	w.send(w.accounts[m.account].signer, p, fx)
}

// proveAgain takes the proofs of a member's coins as the chain has them now: a
// reorganisation puts them into other blocks.
func (w *Wallet) proveAgain(b *batch, m *member) {
	for _, in := range m.inputs {
		for _, c := range w.accounts[m.account].coins[string(in.script.Script.Script)] {
			if c.point == in.point && c.proof != nil && (in.proof == nil || !bytes.Equal(c.proof.Append(nil), in.proof.Append(nil))) {
				in.proof = c.proof
				w.touched[b] = true
			}
		}
	}
}

// readHeld reads a proposal that was kept to be sent again.
func readHeld(raw []byte) consent.Proposal {
	m, err := consent.Decode(raw)
	p, ok := m.(consent.Proposal)
	step.Assert(err == nil && ok, "wallet: a proposal that was kept: %v", err)
	return p
}

// linkedTo shows a signer that has come the consent it gave last, for it to see
// whether its disk is older, and what waits for another.
func (w *Wallet) linkedTo(peer string, fx *step.Effects) {
	w.linked[peer] = true
	for _, a := range w.owned(peer) {
		if a.seen != nil {
			w.send(peer, *a.seen, fx)
		}
		if len(a.waiting) > 0 {
			w.hungry[a.name] = true
		}
	}
	w.proposeNow(peer, fx)
}

// proposeNow sends a signer all that waits for its consent.
func (w *Wallet) proposeNow(signer string, fx *step.Effects) {
	w.eachUnsigned(func(b *batch, v *version, s *share) {
		if w.accounts[b.members[s.member].account].signer == signer {
			w.sendProposal(b, v, s, fx)
		}
	})
}

// proposeAgain sends again what has waited long enough.
func (w *Wallet) proposeAgain(fx *step.Effects) {
	w.eachUnsigned(func(b *batch, v *version, s *share) {
		if s.next <= w.now {
			w.sendProposal(b, v, s, fx)
			return
		}
		w.wake(s.next)
	})
}

func (w *Wallet) eachUnsigned(do func(*batch, *version, *share)) {
	for _, b := range w.batches {
		v := b.proposed()
		if v == nil {
			continue
		}
		for _, s := range v.shares {
			if s.sigs == nil {
				do(b, v, s)
			}
		}
	}
}

// proposal is what one signer is shown: its own inputs in full, others' with
// what they spend, and where its change goes.
func (v *version) proposal(b *batch, s *share) consent.Proposal {
	m := b.members[s.member]
	p := consent.Proposal{ID: s.id, Replaces: s.replaces, PSBT: v.psbt(b, s), Proofs: v.proofs(b, s)}
	for i, o := range m.orders {
		out := v.tx.TxOut[s.outs[i]]
		p.Orders = append(p.Orders, consent.Order{ID: o.Order, Output: s.outs[i], Script: out.PkScript, Amount: satoshi(out.Value)})
	}
	return p
}

// psbt is BIP 174's, with 371's fields for taproot.
func (v *version) psbt(b *batch, own *share) []byte {
	p, err := psbt.NewFromUnsignedTx(v.tx)
	step.Assert(err == nil, "wallet: transaction of our own: %v", err)
	for i, t := range v.tx.TxIn {
		in, s := v.inputOf(b, t.PreviousOutPoint)
		field := &p.Inputs[i]
		if s != own || in.script.Kind == descriptor.TR {
			field.WitnessUtxo = in.out()
		}
		if s != own {
			continue
		}
		field.NonWitnessUtxo, field.RedeemScript = in.tx, in.script.Redeem
		if in.script.Kind == descriptor.TR {
			field.TaprootInternalKey = in.script.Key[1:]
			field.TaprootBip32Derivation = taprootDerivation(&in.script.Script)
		} else {
			field.Bip32Derivation = derivation(&in.script.Script)
		}
	}
	if own.change > 0 {
		m := b.members[own.member]
		back, err := m.inputs[0].script.account.script(change, m.changeIndex)
		step.Assert(err == nil, "wallet: change of our own: %v", err)
		field := &p.Outputs[own.changeOut]
		field.RedeemScript = back.Redeem
		if back.Kind == descriptor.TR {
			field.TaprootInternalKey = back.Key[1:]
			field.TaprootBip32Derivation = taprootDerivation(&back.Script)
		} else {
			field.Bip32Derivation = derivation(&back.Script)
		}
	}
	var raw bytes.Buffer
	err = p.Serialize(&raw)
	step.Assert(err == nil, "wallet: PSBT of our own: %v", err)
	return raw.Bytes()
}

func derivation(s *descriptor.Script) []*psbt.Bip32Derivation {
	return []*psbt.Bip32Derivation{{PubKey: s.Key[:], MasterKeyFingerprint: fingerprint(s), Bip32Path: s.Path}}
}

func taprootDerivation(s *descriptor.Script) []*psbt.TaprootBip32Derivation {
	return []*psbt.TaprootBip32Derivation{{XOnlyPubKey: s.Key[1:], MasterKeyFingerprint: fingerprint(s), Bip32Path: s.Path}}
}

// fingerprint is as the library wants it: its four bytes are written as they
// stand in the descriptor.
func fingerprint(s *descriptor.Script) uint32 { return binary.LittleEndian.Uint32(s.Fingerprint[:]) }

// proofs has one for each own input in the order of the transaction, or none at
// all if the chain could not prove one of them.
func (v *version) proofs(b *batch, own *share) (all []merkle.Proof) {
	for _, t := range v.tx.TxIn {
		in, s := v.inputOf(b, t.PreviousOutPoint)
		switch {
		case s != own:
		case in.proof != nil:
			all = append(all, *in.proof)
		case b.child():
			all = append(all, merkle.Proof{}) // its transaction waits for a block
		default:
			return nil
		}
	}
	return all
}

func (in *input) out() *wire.TxOut { return wire.NewTxOut(in.value, in.script.Script.Script) }

// consented takes a signer's consent. One that does not sign is a refusal.
func (w *Wallet) consented(from string, m consent.Consent, fx *step.Effects) {
	b, v, s := w.asked(from, m.ID)
	switch {
	case s == nil || s.sigs != nil:
		return
	case s.held != nil:
		w.consentedBefore(b, v, s, m, fx)
		return
	}
	own := v.own(b, s)
	if len(m.Signatures) != len(own) {
		w.no(b, v, s, &ConsentError{consent.ReasonMalformed, fmt.Sprintf("it sent %d signatures for %d inputs", len(m.Signatures), len(own))}, fx)
		return
	}
	signed := v.tx.Copy()
	for k, i := range own {
		in, _ := v.inputOf(b, signed.TxIn[i].PreviousOutPoint)
		if err := in.finalize(signed.TxIn[i], m.Signatures[k]); err == nil {
			err = v.verify(b, signed, i)
			if err == nil {
				continue
			}
		}
		w.no(b, v, s, &ConsentError{consent.ReasonMalformed, fmt.Sprintf("its signature of input %d does not fit", i)}, fx)
		return
	}
	s.sigs = m.Signatures
	b.members[s.member].agreed = s.id
	w.touched[b] = true
	w.saw(w.accounts[b.members[s.member].account], v.id(), m)
	for _, s := range v.shares {
		if s.sigs == nil {
			return
		}
	}
	w.finish(b, v, fx)
}

// saw keeps the consent with the highest counter.
func (w *Wallet) saw(a *account, txid chainhash.Hash, m consent.Consent) {
	if a.seen == nil || m.Counter > a.seen.Consent.Counter {
		a.seen = &consent.Seen{TxID: txid, Consent: m}
		w.dirty[a.name] = true
	}
}

// consentedBefore takes the consent to a proposal that is overtaken: what comes
// now replaces it.
func (w *Wallet) consentedBefore(b *batch, v *version, s *share, m consent.Consent, fx *step.Effects) {
	p, err := psbt.NewFromRawBytes(bytes.NewReader(readHeld(s.held).PSBT), false)
	step.Assert(err == nil, "wallet: PSBT of our own: %v", err)
	w.saw(w.accounts[b.members[s.member].account], p.UnsignedTx.TxHash(), m)
	b.members[s.member].agreed = s.open.id
	w.goOn(b, v, s, fx)
}

// asked finds the share that a signer speaks of, if it waits for an answer.
func (w *Wallet) asked(from string, id consent.ID) (*batch, *version, *share) {
	b := w.proposals[id]
	if b == nil || b.proposed() == nil {
		return nil, nil, nil
	}
	v := b.proposed()
	for _, s := range v.shares {
		if a := w.accounts[b.members[s.member].account]; s.waitsFor(id) && a.signer == from && !a.revoked {
			return b, v, s
		}
	}
	return nil, nil, nil
}

// waitsFor tells whether an answer to a proposal is the next one.
func (s *share) waitsFor(id consent.ID) bool {
	if s.held != nil {
		return id == s.open.id
	}
	return id == s.id
}

// own lists a share's inputs in the order of the transaction.
func (v *version) own(b *batch, own *share) (all []int) {
	for i, t := range v.tx.TxIn {
		if _, s := v.inputOf(b, t.PreviousOutPoint); s == own {
			all = append(all, i)
		}
	}
	return all
}

var errSignature = errors.New("signature has the wrong length")

// finalize puts a signature where its script wants it.
func (in *input) finalize(t *wire.TxIn, sig []byte) error {
	if len(sig) < 9 || len(sig) > 73 {
		return errSignature
	}
	key := in.script.Key[:]
	switch in.script.Kind {
	case descriptor.TR:
		t.Witness = wire.TxWitness{sig}
		return nil
	case descriptor.PKH:
		script, err := txscript.NewScriptBuilder().AddData(sig).AddData(key).Script()
		t.SignatureScript = script
		return err
	case descriptor.SHWPKH:
		script, err := txscript.NewScriptBuilder().AddData(in.script.Redeem).Script()
		if err != nil {
			return err
		}
		t.SignatureScript = script
	}
	t.Witness = wire.TxWitness{sig, key}
	return nil
}

// verify runs the script of one input as a node would.
func (v *version) verify(b *batch, signed *wire.MsgTx, i int) error {
	fetch := txscript.NewMultiPrevOutFetcher(nil)
	for _, t := range signed.TxIn {
		in, _ := v.inputOf(b, t.PreviousOutPoint)
		fetch.AddPrevOut(t.PreviousOutPoint, in.out())
	}
	in, _ := v.inputOf(b, signed.TxIn[i].PreviousOutPoint)
	hashes := txscript.NewTxSigHashes(signed, fetch)
	vm, err := txscript.NewEngine(in.script.Script.Script, signed, i, txscript.StandardVerifyFlags, nil, hashes, in.value, fetch)
	if err != nil {
		return err
	}
	return vm.Execute()
}

// finish puts a version together that all have signed, and publishes it.
func (w *Wallet) finish(b *batch, v *version, fx *step.Effects) {
	signed := v.tx.Copy()
	for _, s := range v.shares {
		for k, i := range v.own(b, s) {
			in, _ := v.inputOf(b, signed.TxIn[i].PreviousOutPoint)
			err := in.finalize(signed.TxIn[i], s.sigs[k])
			step.Assert(err == nil, "wallet: a signature that was checked: %v", err)
		}
		delete(w.proposals, s.id)
	}
	for i := range signed.TxIn {
		err := v.verify(b, signed, i)
		step.Assert(err == nil, "wallet: input %d of a transaction that all have signed: %v", i, err)
	}
	v.tx, v.full = signed, true
	b.height = w.tip
	w.byTx[v.id()] = b
	w.watchBatch(b, fx)
	w.publish(b, fx)
}

// publish hands the newest complete version to the network.
func (w *Wallet) publish(b *batch, fx *step.Effects) {
	v := b.complete()
	if v == nil || b.mined >= 0 {
		return
	}
	for _, s := range b.spends {
		if s.Spender != nil {
			return // somebody else was quicker
		}
	}
	w.send(watch.Chain, watch.Publish{Tx: v.tx}, fx)
}

// watchBatch asks what becomes of the coins that a published batch spends; who
// spends them tells which version was mined, or that none can be. Without change
// a payee's script is watched, too, for the Merkle proof.
func (w *Wallet) watchBatch(b *batch, fx *step.Effects) {
	v := b.complete()
	if v == nil {
		return
	}
	ours := false
	for _, s := range v.shares {
		m := b.members[s.member]
		ours = ours || s.change > 0
		for _, in := range m.inputs[:s.inputs] {
			w.follows[in.point] = b
			w.send(watch.Chain, watch.Output{Point: in.point, Script: in.script.Script.Script, Since: in.script.account.since}, fx)
		}
	}
	if !ours {
		w.send(watch.Chain, watch.Script{Script: v.tx.TxOut[0].PkScript, Since: max(b.height-1, 0), Prove: true}, fx)
	}
}
