package consent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/veraison/go-cose"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
	"coinop.dev/core/money"
)

// The compact form of a proposal. Both ends know the accounts' descriptors, so a
// script of theirs is a place; an order's script and amount are its output's; a
// taproot coin's transaction is left out, because the signature covers the
// amount. What is usual is left out too.
type (
	compactProposal struct {
		ID       []byte          `cbor:"1,keyasint"`
		Replaces []byte          `cbor:"2,keyasint,omitempty"`
		Version  int32           `cbor:"3,keyasint,omitempty"` // less usualVersion
		LockTime uint32          `cbor:"4,keyasint,omitempty"`
		Inputs   []compactInput  `cbor:"5,keyasint"`
		Outputs  []compactOutput `cbor:"6,keyasint"`
		Orders   []compactOrder  `cbor:"7,keyasint,omitempty"`
		Proofs   []byte          `cbor:"8,keyasint,omitempty"` // as in the message, one after the other
	}
	compactInput struct {
		TxID     []byte        `cbor:"1,keyasint"`
		Index    uint32        `cbor:"2,keyasint,omitempty"`
		Sequence uint32        `cbor:"3,keyasint,omitempty"` // usualSequence less it
		Place    *compactPlace `cbor:"4,keyasint,omitempty"` // nil if it is another's
		Value    int64         `cbor:"5,keyasint,omitempty"` // if Prev is left out
		Script   []byte        `cbor:"6,keyasint,omitempty"` // if Prev and Place are
		Prev     []byte        `cbor:"7,keyasint,omitempty"` // the previous transaction, without witnesses
		Sighash  uint32        `cbor:"8,keyasint,omitempty"`
	}
	compactOutput struct {
		Value  int64         `cbor:"1,keyasint,omitempty"`
		Script []byte        `cbor:"2,keyasint,omitempty"`
		Place  *compactPlace `cbor:"3,keyasint,omitempty"`
	}
	compactPlace struct {
		_       struct{} `cbor:",toarray"`
		Account uint32
		Branch  uint32
		Index   uint32
	}
	compactOrder struct {
		ID     []byte `cbor:"1,keyasint"`
		Output uint32 `cbor:"2,keyasint,omitempty"`
		Index  uint32 `cbor:"3,keyasint,omitempty"`
	}
)

const (
	usualVersion  = 2
	usualSequence = wire.MaxTxInSequenceNum - 2 // BIP 125
)

// Compact is the proposal for radio: COSE_Sign1 (RFC 9052) by the wallet's key
// around CBOR with integer keys. accounts are the signer's, in its order. A PSBT
// field that a signer does not look at is left out.
func (m *Proposal) Compact(accounts []descriptor.Descriptor, by cose.Signer) ([]byte, error) {
	p, err := parse(m.PSBT)
	if err != nil {
		return nil, err
	}
	t := p.UnsignedTx
	c := compactProposal{ID: m.ID[:], Version: t.Version - usualVersion, LockTime: t.LockTime}
	if !m.Replaces.IsZero() {
		c.Replaces = m.Replaces[:]
	}
	for i := range p.Inputs {
		in, err := compactIn(&p.Inputs[i], t.TxIn[i], accounts)
		if err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		c.Inputs = append(c.Inputs, in)
	}
	for i, out := range t.TxOut {
		at := locate(derivations(p.Outputs[i].Bip32Derivation, p.Outputs[i].TaprootBip32Derivation), accounts)
		o := compactOutput{Value: out.Value, Place: at}
		if at == nil {
			o.Script = out.PkScript
		}
		c.Outputs = append(c.Outputs, o)
	}
	for i := range m.Orders {
		o := &m.Orders[i]
		if o.Output >= uint32(len(t.TxOut)) || !bytes.Equal(t.TxOut[o.Output].PkScript, o.Script) || money.Amount(t.TxOut[o.Output].Value)*money.Sat != o.Amount {
			return nil, fmt.Errorf("order %v is not what output %d pays", o.ID, o.Output)
		}
		c.Orders = append(c.Orders, compactOrder{o.ID[:], o.Output, o.Index})
	}
	for _, proof := range m.Proofs {
		c.Proofs = proof.Append(c.Proofs)
	}
	return sign1(&c, by)
}

func sign1(payload any, by cose.Signer) ([]byte, error) {
	b, err := encoding.Marshal(payload)
	if err != nil {
		return nil, err
	}
	msg := cose.NewSign1Message()
	msg.Headers.Protected.SetAlgorithm(by.Algorithm())
	msg.Payload = b
	if err := msg.Sign(nil, nil, by); err != nil {
		return nil, err
	}
	return msg.MarshalCBOR()
}

// locate finds the first of the derivations that leads into an account.
func locate(all []derivation, accounts []descriptor.Descriptor) *compactPlace {
	for _, d := range all {
		for i, a := range accounts {
			if (a.Kind() == descriptor.TR) != (len(d.key) == 32) {
				continue
			}
			if branch, index, ok := a.Locate(d.fingerprint, d.path); ok {
				return &compactPlace{Account: uint32(i), Branch: branch, Index: index}
			}
		}
	}
	return nil
}

func compactIn(in *psbt.PInput, txin *wire.TxIn, accounts []descriptor.Descriptor) (c compactInput, err error) {
	point := txin.PreviousOutPoint
	c = compactInput{
		TxID: point.Hash[:], Index: point.Index, Sequence: usualSequence - txin.Sequence, Sighash: uint32(in.SighashType),
		Place: locate(derivations(in.Bip32Derivation, in.TaprootBip32Derivation), accounts),
	}
	switch {
	case in.NonWitnessUtxo != nil:
		c.Prev = tx.Bytes(withoutWitness(in.NonWitnessUtxo))
	case in.WitnessUtxo == nil && c.Place != nil:
		return c, errors.New("it does not show the output it spends")
	case in.WitnessUtxo != nil:
		c.Value = in.WitnessUtxo.Value
		if c.Place == nil {
			c.Script = in.WitnessUtxo.PkScript
		}
	}
	return c, nil
}

// withoutWitness is what a transaction's ID is of, and no more.
func withoutWitness(t *wire.MsgTx) *wire.MsgTx {
	t = t.Copy()
	for _, in := range t.TxIn {
		in.Witness = nil
	}
	return t
}

// ExpandProposal reads what Compact wrote, if the wallet with that key did. What
// it says is judged as any proposal is.
func ExpandProposal(b []byte, accounts []descriptor.Descriptor, wallet cose.Verifier) (m Proposal, err error) {
	fail := func(err error) (Proposal, error) { return Proposal{}, fmt.Errorf("compact proposal: %w", err) }
	msg, err := parseSign1(b)
	if err != nil {
		return fail(err)
	}
	if err := msg.Verify(nil, wallet); err != nil {
		return fail(fmt.Errorf("it is not the wallet's: %w", err))
	}
	if m, err = expand(msg.Payload, accounts); err != nil {
		return fail(err)
	}
	return m, nil
}

// expand makes a proposal of a payload, whoever signed it.
func expand(payload []byte, accounts []descriptor.Descriptor) (m Proposal, err error) {
	var c compactProposal
	if err := decoding.Unmarshal(payload, &c); err != nil {
		return m, err
	}
	if len(c.ID) != len(m.ID) || c.Replaces != nil && len(c.Replaces) != len(m.ID) {
		return m, fmt.Errorf("an ID is %d bytes, not %d", len(c.ID), len(m.ID))
	}
	if len(c.Inputs) > MaxInputs || len(c.Outputs) > MaxOutputs || len(c.Orders) > MaxOrders {
		return m, fmt.Errorf("it has %d inputs, %d outputs and %d orders; the limits are %d, %d and %d", len(c.Inputs), len(c.Outputs), len(c.Orders), MaxInputs, MaxOutputs, MaxOrders)
	}
	copy(m.ID[:], c.ID)
	copy(m.Replaces[:], c.Replaces)
	t := wire.NewMsgTx(c.Version + usualVersion)
	t.LockTime = c.LockTime
	p := &psbt.Packet{UnsignedTx: t}
	for i := range c.Inputs {
		if err := c.Inputs[i].expand(p, accounts); err != nil {
			return m, fmt.Errorf("input %d: %w", i, err)
		}
	}
	for i := range c.Outputs {
		if err := c.Outputs[i].expand(p, accounts); err != nil {
			return m, fmt.Errorf("output %d: %w", i, err)
		}
	}
	for i := range c.Orders {
		o := &c.Orders[i]
		if len(o.ID) != len(money.OrderID{}) || o.Output >= uint32(len(t.TxOut)) || o.Index > maxIndex {
			return m, fmt.Errorf("order %d has an ID of %d bytes and output %d of %d", i, len(o.ID), o.Output, len(t.TxOut))
		}
		out := t.TxOut[o.Output]
		amount, ok := money.FromSats(out.Value)
		if !ok || len(out.PkScript) > MaxScript {
			return m, fmt.Errorf("order %d is of %d sat to a script of %d bytes", i, out.Value, len(out.PkScript))
		}
		m.Orders = append(m.Orders, Order{ID: money.OrderID(o.ID), Output: o.Output, Script: out.PkScript, Amount: amount, Index: o.Index})
	}
	r := codec.NewReader(c.Proofs)
	for r.Len() > 0 && r.Err() == nil && len(m.Proofs) < MaxInputs {
		m.Proofs = append(m.Proofs, merkle.ReadProof(r))
	}
	if err := r.Close(); err != nil {
		return m, err
	}
	var raw bytes.Buffer
	if err := p.Serialize(&raw); err != nil {
		return m, err
	}
	m.PSBT = raw.Bytes()
	return m, nil
}

func (c *compactInput) expand(p *psbt.Packet, accounts []descriptor.Descriptor) error {
	if len(c.TxID) != 32 {
		return fmt.Errorf("transaction ID is %d bytes", len(c.TxID))
	}
	txin := &wire.TxIn{Sequence: usualSequence - c.Sequence}
	copy(txin.PreviousOutPoint.Hash[:], c.TxID)
	txin.PreviousOutPoint.Index = c.Index
	in := psbt.PInput{SighashType: txscript.SigHashType(c.Sighash)}
	if c.Prev != nil {
		if _, _, err := walkTx(codec.NewReader(c.Prev), true); err != nil {
			return err
		}
		prev, err := tx.Parse(c.Prev)
		if err != nil {
			return err
		}
		in.NonWitnessUtxo = prev
	}
	if c.Script != nil {
		in.WitnessUtxo = wire.NewTxOut(c.Value, c.Script)
	}
	if c.Place != nil {
		s, err := c.Place.script(accounts)
		if err != nil {
			return err
		}
		in.Bip32Derivation, in.TaprootBip32Derivation = Derivation(s)
		in.RedeemScript = s.Redeem
		if c.Prev == nil {
			in.WitnessUtxo = wire.NewTxOut(c.Value, s.Script)
		}
	}
	p.UnsignedTx.AddTxIn(txin)
	p.Inputs = append(p.Inputs, in)
	return nil
}

func (c *compactOutput) expand(p *psbt.Packet, accounts []descriptor.Descriptor) error {
	script, out := c.Script, psbt.POutput{}
	if c.Place != nil {
		s, err := c.Place.script(accounts)
		if err != nil {
			return err
		}
		script = s.Script
		out.Bip32Derivation, out.TaprootBip32Derivation = Derivation(s)
	}
	p.UnsignedTx.AddTxOut(wire.NewTxOut(c.Value, script))
	p.Outputs = append(p.Outputs, out)
	return nil
}

func (c *compactPlace) script(accounts []descriptor.Descriptor) (descriptor.Script, error) {
	if c.Account >= uint32(len(accounts)) {
		return descriptor.Script{}, fmt.Errorf("there is no account %d; there are %d", c.Account, len(accounts))
	}
	return accounts[c.Account].At(c.Branch, c.Index)
}

// Derivation is what a PSBT says of a script's key (BIP 174, and 371 for
// taproot): one of the two is nil.
func Derivation(s descriptor.Script) ([]*psbt.Bip32Derivation, []*psbt.TaprootBip32Derivation) {
	fingerprint := binary.LittleEndian.Uint32(s.Fingerprint[:])
	if s.Kind == descriptor.TR {
		return nil, []*psbt.TaprootBip32Derivation{{XOnlyPubKey: s.Key[1:], MasterKeyFingerprint: fingerprint, Bip32Path: s.Path}}
	}
	return []*psbt.Bip32Derivation{{PubKey: s.Key[:], MasterKeyFingerprint: fingerprint, Bip32Path: s.Path}}, nil
}
