// Package oneway is a payment channel in one direction: a funding output on
// Bitcoin, and a payer who signs ever larger closing transactions.
//
// A ticket is the payer's signature over the closing transaction that pays the
// running total, so the last ticket is the claim: the payee adds its own
// signature and publishes. No older ticket can hurt it (it would pay the payee
// less, and only the payee can complete it), so nothing is revoked and nobody
// has to watch. The payer's money is never stuck: after Expiry the funding
// output is the payer's alone.
//
// The funding output is P2WSH of
//
//	IF 2 <payer> <payee> 2 CHECKMULTISIG
//	ELSE <expiry> CHECKLOCKTIMEVERIFY DROP <payer> CHECKSIG ENDIF
//
// (the simple payment channel of the Bitcoin wiki's "contract" page, made safe
// from malleability by segwit, BIP 141, and with a refund by BIP 65 in place of
// a pre-signed one).
//
// Invariants, asserted at every step:
//
//   - payer: acked ≤ signed ≤ capacity; pending tickets are consecutive and
//     their orders add up to signed − acked.
//   - payee: held ≤ capacity; held is covered by the kept signature.
//   - an order is in at most one ticket.
package oneway

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
)

// An ID names a channel: the first 16 bytes of a digest of the payer's funding
// key and the payee's node key.
type ID [16]byte

// String is the ID in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is String, for JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// IDOf returns the ID of the channel between two keys. A payer uses a funding
// key once.
func IDOf(payer, payeeNode keys.Public) (id ID) {
	d := keys.Digest("coinop/oneway/id", payer[:], payeeNode[:])
	copy(id[:], d[:])
	return id
}

// Terms are what both ends agreed to when the channel opened. They never
// change.
type Terms struct {
	Proposal
	Answer
	Point wire.OutPoint // the funding output
}

// A Proposal is the payer's half of the terms.
type Proposal struct {
	PayerNode   keys.Public  // who the payer is on the link
	PayerKey    keys.Public  // funding key, used for this channel only
	Capacity    money.Amount // whole satoshi
	Expiry      int32        // block height from which the payer may refund
	FeeRate     tx.FeeRate   // of the closing transaction a ticket signs
	PayerScript []byte       // where change goes: P2WPKH
}

// An Answer is the payee's half of the terms.
type Answer struct {
	PayeeKey    keys.Public
	PayeeScript []byte // where the payee is paid: P2WPKH
	MinDepth    int32  // confirmations before the first ticket is taken
	Payee       receipt.Payee
}

// Limits on the terms.
const (
	// MinCapacity leaves room for one output above dust and the fee at 10
	// sat/vB.
	MinCapacity = 3000 * money.Sat
	// MaxDepth bounds how long a payee may ask the payer to wait.
	MaxDepth = 144
	// ClaimMargin is how many blocks before Expiry the payee claims by itself:
	// three hours for the claim to be mined.
	ClaimMargin = 18
	// MinLife is the least number of blocks between opening and Expiry.
	MinLife = 2 * ClaimMargin
)

// ID names the channel.
func (t *Terms) ID() ID { return IDOf(t.PayerKey, t.Payee.Node) }

// check reports what is wrong with a proposal, whoever made it.
func (p *Proposal) check() error {
	switch {
	case p.Capacity < MinCapacity || p.Capacity > money.MaxAmount:
		return fmt.Errorf("capacity is %v; it must be %v to %v", p.Capacity, MinCapacity, money.MaxAmount)
	case p.Capacity%money.Sat != 0:
		return fmt.Errorf("capacity is %v; it must be whole satoshi", p.Capacity)
	case p.FeeRate < tx.MinFeeRate || p.FeeRate > tx.MaxFeeRate:
		return fmt.Errorf("fee rate is %d sat/kvB; it must be %d to %d", p.FeeRate, tx.MinFeeRate, tx.MaxFeeRate)
	case p.FeeRate.For(closingVSize)+tx.DustP2WPKH > p.Capacity.Sats():
		return fmt.Errorf("capacity of %v cannot pay a closing fee of %d sat", p.Capacity, p.FeeRate.For(closingVSize))
	case !tx.IsP2WPKH(p.PayerScript):
		return errors.New("payer's script is not P2WPKH")
	case p.Expiry <= 0 || p.Expiry >= txscript.LockTimeThreshold:
		return fmt.Errorf("expiry %d is not a block height", p.Expiry)
	}
	_, err := keys.ParsePublic(p.PayerKey[:])
	return err
}

// Check reports what is wrong with the terms, whoever made them.
func (t *Terms) Check() error {
	if err := t.Proposal.check(); err != nil {
		return err
	}
	switch {
	case !tx.IsP2WPKH(t.PayeeScript):
		return errors.New("payee's script is not P2WPKH")
	case t.MinDepth < 1 || t.MinDepth > MaxDepth:
		return fmt.Errorf("minimum depth is %d; it must be 1 to %d", t.MinDepth, MaxDepth)
	case t.PayeeKey == t.PayerKey:
		return errors.New("payer and payee have the same key")
	case !t.Payee.Check(t.ID()):
		return errors.New("payee's node key does not vouch for its stamp key")
	}
	_, err := keys.ParsePublic(t.PayeeKey[:])
	return err
}

// Policy is what a payee takes.
type Policy struct {
	MinCapacity, MaxCapacity money.Amount
	MinDepth                 int32
}

// Consider answers a proposal, or says why not. The answer depends on nothing
// but its arguments, so a payee keeps no state for proposals: when the funding
// arrives it answers again and gets the same.
func Consider(p Proposal, policy Policy, node keys.Secret, tip int32) (Answer, error) {
	if err := p.check(); err != nil {
		return Answer{}, err
	}
	switch {
	case p.Capacity < policy.MinCapacity || p.Capacity > policy.MaxCapacity:
		return Answer{}, fmt.Errorf("capacity is %v; this payee takes %v to %v", p.Capacity, policy.MinCapacity, policy.MaxCapacity)
	case p.Expiry < tip+MinLife:
		return Answer{}, fmt.Errorf("expiry is block %d; it must be at least %d, which is %d blocks from now", p.Expiry, tip+MinLife, MinLife)
	}
	id := IDOf(p.PayerKey, node.Public())
	key := payeeKey(node, id)
	return Answer{
		PayeeKey:    key.Public(),
		PayeeScript: tx.P2WPKH(tx.WalletKey(node).Public()),
		MinDepth:    policy.MinDepth,
		Payee:       receipt.Bind(node, id, node.Stamp(stampPurpose).Public()),
	}, nil
}

// stampPurpose names the stamp key of all one-way channels of a node.
const stampPurpose = "oneway"

func payeeKey(node keys.Secret, id ID) keys.Secret { return node.Derive("oneway/payee/" + id.String()) }

// Script is the witness script of the funding output.
func (t *Terms) Script() []byte {
	script, err := txscript.NewScriptBuilder().
		AddOp(txscript.OP_IF).
		AddOp(txscript.OP_2).AddData(t.PayerKey[:]).AddData(t.PayeeKey[:]).AddOp(txscript.OP_2).AddOp(txscript.OP_CHECKMULTISIG).
		AddOp(txscript.OP_ELSE).
		AddInt64(int64(t.Expiry)).AddOp(txscript.OP_CHECKLOCKTIMEVERIFY).AddOp(txscript.OP_DROP).
		AddData(t.PayerKey[:]).AddOp(txscript.OP_CHECKSIG).
		AddOp(txscript.OP_ENDIF).Script()
	if err != nil {
		panic(err) // the parts have fixed sizes
	}
	return script
}

// Output is the funding output.
func (t *Terms) Output() *wire.TxOut { return wire.NewTxOut(t.Capacity.Sats(), tx.P2WSH(t.Script())) }

// Watched is how to ask a chain about the funding output.
func (t *Terms) Watched() watch.Output {
	return watch.Output{Point: t.Point, Script: t.Output().PkScript}
}

// Sizes in virtual bytes with both signatures and P2WPKH outputs, as bounds; a
// test measures the real ones.
const (
	closingVSize = 184
	refundVSize  = 132
)

// ErrDust means a closing transaction would have no output worth relaying.
var ErrDust = errors.New("nothing above dust to pay out")

// closingFee is the fee of the closing transaction that tickets sign.
func (t *Terms) closingFee() int64 { return t.FeeRate.For(closingVSize) }

// closing is the transaction that pays total to the payee and the rest, less
// the fee, to the payer. The fee comes out of the payer's part first. Amounts
// are rounded down to satoshi in the payer's favour; an output that would be
// dust goes to the fee.
func (t *Terms) closing(total money.Amount, fee int64) (*wire.MsgTx, error) {
	paid := total.Sats()
	change := t.Capacity.Sats() - paid - fee
	if change < 0 {
		paid, change = paid+change, 0
	}
	c := wire.NewMsgTx(2)
	c.AddTxIn(wire.NewTxIn(&t.Point, nil, nil))
	if paid >= tx.DustP2WPKH {
		c.AddTxOut(wire.NewTxOut(paid, t.PayeeScript))
	}
	if change >= tx.DustP2WPKH {
		c.AddTxOut(wire.NewTxOut(change, t.PayerScript))
	}
	if len(c.TxOut) == 0 {
		return nil, ErrDust
	}
	return c, nil
}

// sighash is what both ends sign to close at total.
func (t *Terms) sighash(total money.Amount, fee int64) ([32]byte, error) {
	c, err := t.closing(total, fee)
	if err != nil {
		return [32]byte{}, err
	}
	return tx.Sighash(c, 0, t.Script(), t.Capacity.Sats()), nil
}

// closed is the closing transaction with both signatures.
func (t *Terms) closed(total money.Amount, fee int64, payer, payee keys.Signature) (*wire.MsgTx, error) {
	c, err := t.closing(total, fee)
	if err != nil {
		return nil, err
	}
	// CHECKMULTISIG pops one element too many; the last one selects the branch.
	c.TxIn[0].Witness = wire.TxWitness{nil, tx.WitnessSig(payer), tx.WitnessSig(payee), {1}, t.Script()}
	return c, nil
}

// Refund returns everything to the payer, who has the key of PayerKey, once Expiry
// is reached. Chains do not take it before.
func (t *Terms) Refund(key keys.Secret) *wire.MsgTx {
	r := wire.NewMsgTx(2)
	r.LockTime = uint32(t.Expiry)
	in := wire.NewTxIn(&t.Point, nil, nil)
	in.Sequence = wire.MaxTxInSequenceNum - 1 // or the lock time would not count
	r.AddTxIn(in)
	r.AddTxOut(wire.NewTxOut(t.Capacity.Sats()-t.FeeRate.For(refundVSize), t.PayerScript))
	sig := key.Sign(tx.Sighash(r, 0, t.Script(), t.Capacity.Sats()))
	in.Witness = wire.TxWitness{tx.WitnessSig(sig), nil, t.Script()}
	return r
}

// Claimable is what the payee would get on chain from a ticket for total: all
// of it in whole satoshi, less what a fee larger than the change takes, or
// nothing below dust.
func (t *Terms) Claimable(total money.Amount) money.Amount {
	paid := min(total.Sats(), t.Capacity.Sats()-t.closingFee())
	if paid < tx.DustP2WPKH {
		return 0
	}
	a, _ := money.FromSats(paid)
	return a
}

const maxScript = 34

func (p *Proposal) append(b []byte) []byte {
	b = append(b, p.PayerNode[:]...)
	b = append(b, p.PayerKey[:]...)
	b = codec.AppendUint(b, p.Capacity)
	b = codec.AppendUint(b, p.Expiry)
	b = codec.AppendUint(b, int64(p.FeeRate))
	return codec.AppendBytes(b, p.PayerScript)
}

func readProposal(r *codec.Reader) (p Proposal) {
	r.Fill(p.PayerNode[:])
	r.Fill(p.PayerKey[:])
	p.Capacity, p.Expiry = r.Amount(), r.Height()
	p.FeeRate = tx.FeeRate(r.Int(int(tx.MaxFeeRate), "fee rate"))
	p.PayerScript = r.Bytes(maxScript, "script")
	return p
}

func (a *Answer) append(b []byte) []byte {
	b = append(b, a.PayeeKey[:]...)
	b = codec.AppendBytes(b, a.PayeeScript)
	b = codec.AppendUint(b, a.MinDepth)
	return a.Payee.Append(b)
}

func readAnswer(r *codec.Reader) (a Answer) {
	r.Fill(a.PayeeKey[:])
	a.PayeeScript = r.Bytes(maxScript, "script")
	a.MinDepth = r.Height()
	a.Payee = receipt.ReadPayee(r)
	return a
}

func appendPoint(b []byte, p wire.OutPoint) []byte {
	b = append(b, p.Hash[:]...)
	return codec.AppendUint(b, p.Index)
}

func readPoint(r *codec.Reader) (p wire.OutPoint) {
	r.Fill(p.Hash[:])
	p.Index = uint32(r.Int(math.MaxUint16, "output index"))
	return p
}

func (t *Terms) append(b []byte) []byte {
	b = t.Proposal.append(b)
	b = t.Answer.append(b)
	return appendPoint(b, t.Point)
}

func readTerms(r *codec.Reader) Terms {
	return Terms{Proposal: readProposal(r), Answer: readAnswer(r), Point: readPoint(r)}
}
