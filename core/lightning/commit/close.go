package commit

import (
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// A Closing is a transaction that ends a channel by agreement: it pays each side
// at once.
type Closing struct {
	Tx       *wire.MsgTx // without a witness
	Fee      int64       // capacity less outputs, satoshi
	ToLocal  int         // vout of what pays us, or -1
	ToRemote int         // vout of what pays the peer, or -1

	channel *Channel
}

// ErrClosing means that a closing transaction cannot be made as asked.
var ErrClosing = errors.New("no closing transaction")

// Closing is the transaction of closing_signed (BOLT 3, closing transaction):
// the opener pays fee satoshi, and what is below our dust limit is left out.
// Amounts are msat and add up to at most the capacity.
func (c *Channel) Closing(local, remote money.Amount, localScript, remoteScript []byte, fee int64) (*Closing, error) {
	values, err := c.payouts(c.Opener, local, remote, fee)
	if err != nil {
		return nil, err
	}
	for o := range values {
		if values[o] < c.Local.Dust {
			values[o] = 0
		}
	}
	return c.closing(values, localScript, remoteScript, wire.MaxTxInSequenceNum, 0)
}

// A Variant says which outputs a closing transaction of option_simple_close has.
// Its names are those of the TLVs that carry the signatures.
type Variant uint8

const (
	CloserAndClosee Variant = iota // closer_and_closee_outputs
	CloserOnly                     // closer_output_only
	CloseeOnly                     // closee_output_only
)

// simpleSequence lets a closing transaction be replaced and have a lock time.
const simpleSequence = wire.MaxTxInSequenceNum - 2

// SimpleClosing is the transaction of closing_complete (BOLT 3, closing
// transaction of option_simple_close): closer, the side that sends
// closing_complete, pays fee satoshi. An output to OP_RETURN carries nothing.
func (c *Channel) SimpleClosing(closer Owner, v Variant, local, remote money.Amount, localScript, remoteScript []byte, fee int64, lockTime uint32) (*Closing, error) {
	values, err := c.payouts(closer, local, remote, fee)
	if err != nil {
		return nil, err
	}
	scripts := [2][]byte{localScript, remoteScript}
	if v == CloserOnly {
		scripts[closer.Other()] = nil
	}
	if v == CloseeOnly {
		scripts[closer] = nil
	}
	return c.closing(values, scripts[Local], scripts[Remote], simpleSequence, lockTime)
}

// payouts are the satoshi of both sides, by Owner, after payer's fee.
func (c *Channel) payouts(payer Owner, local, remote money.Amount, fee int64) (values [2]int64, err error) {
	total, ok := local.Add(remote)
	if !ok || total.Sats() > c.Capacity {
		return values, fmt.Errorf("%w: %v and %v are more than the capacity of %d sat", ErrClosing, local, remote, c.Capacity)
	}
	values = [2]int64{Local: local.Sats(), Remote: remote.Sats()}
	if fee < 0 || fee > values[payer] {
		return values, fmt.Errorf("%w: a fee of %d sat; the %v side pays it and has %d sat", ErrClosing, fee, payer, values[payer])
	}
	values[payer] -= fee
	return values, nil
}

// closing assembles outputs with a script and a value (OP_RETURN needs none) in
// BIP 69 order.
func (c *Channel) closing(values [2]int64, localScript, remoteScript []byte, sequence, lockTime uint32) (*Closing, error) {
	var outputs []draft
	for o, script := range [2][]byte{localScript, remoteScript} {
		isReturn := IsReturn(script)
		if isReturn && sequence == simpleSequence {
			values[o] = 0
		}
		if len(script) > 0 && (values[o] > 0 || isReturn && sequence == simpleSequence) {
			outputs = append(outputs, draft{value: values[o], pkScript: script, what: o})
		}
	}
	if len(outputs) == 0 {
		return nil, fmt.Errorf("%w: it would have no output", ErrClosing)
	}
	slices.SortFunc(outputs, func(a, b draft) int { return order(&a, &b) })
	k := &Closing{Tx: wire.NewMsgTx(2), Fee: c.Capacity, ToLocal: -1, ToRemote: -1, channel: c}
	k.Tx.LockTime = lockTime
	k.Tx.AddTxIn(&wire.TxIn{PreviousOutPoint: c.Funding, Sequence: sequence})
	for i, o := range outputs {
		k.Tx.AddTxOut(wire.NewTxOut(o.value, o.pkScript))
		k.Fee -= o.value
		if Owner(o.what) == Local {
			k.ToLocal = i
		} else {
			k.ToRemote = i
		}
	}
	return k, nil
}

// Without is k without what pays o: BOLT 3 lets each side leave out its own
// output, and the signature tells which variant it means. It fails if nothing
// would be left or there is no such output.
func (k *Closing) Without(o Owner) (*Closing, error) {
	gone, left := k.ToLocal, k.ToRemote
	if o == Remote {
		gone, left = left, gone
	}
	if gone < 0 || left < 0 {
		return nil, fmt.Errorf("%w: it would have no output", ErrClosing)
	}
	v := &Closing{Tx: k.Tx.Copy(), Fee: k.Fee + k.Tx.TxOut[gone].Value, ToLocal: 0, ToRemote: -1, channel: k.channel}
	v.Tx.TxOut = []*wire.TxOut{v.Tx.TxOut[left]}
	if o == Local {
		v.ToLocal, v.ToRemote = -1, 0
	}
	return v, nil
}

// Digest is what both sides sign.
func (k *Closing) Digest() [32]byte { return k.channel.fundingDigest(k.Tx) }

// Sign is our signature.
func (k *Closing) Sign(s Secrets) keys.Signature { return s.Funding.Sign(k.Digest()) }

// Verify checks the peer's signature; the error wraps ErrSignature.
func (k *Closing) Verify(sig keys.Signature) error {
	if !k.channel.Remote.Funding.Verify(k.Digest(), sig) {
		return fmt.Errorf("%w: closing transaction with a fee of %d sat", ErrSignature, k.Fee)
	}
	return nil
}

// Signed is the closing transaction with both signatures, ready to publish.
func (k *Closing) Signed(s Secrets, theirs keys.Signature) *wire.MsgTx {
	return k.channel.signed(k.Tx, s, theirs)
}

// Sizes of the data that an OP_RETURN of shutdown may carry (BOLT 2).
const (
	minReturn       = 6
	maxDirectReturn = 75
	maxReturn       = 80
)

// ValidShutdown reports whether a script may stand in shutdown (BOLT 2): P2WPKH
// and P2WSH always, later witness versions with option_shutdown_anysegwit, and
// OP_RETURN with option_simple_close. Scripts from before segwit are refused.
func ValidShutdown(script []byte, anySegwit, simpleClose bool) bool {
	n := len(script)
	if n < 4 {
		return false
	}
	push := int(script[1])
	switch version := script[0]; {
	case version == txscript.OP_0:
		return n == 2+push && (push == 20 || push == 32)
	case version >= txscript.OP_1 && version <= txscript.OP_16:
		return anySegwit && n == 2+push && push >= 2 && push <= 40
	case version == txscript.OP_RETURN && push == txscript.OP_PUSHDATA1:
		return simpleClose && n == 3+int(script[2]) && n > 3+maxDirectReturn && n <= 3+maxReturn
	case version == txscript.OP_RETURN:
		return simpleClose && n == 2+push && push >= minReturn && push <= maxDirectReturn
	}
	return false
}

// IsReturn reports whether a script is OP_RETURN: nobody can spend it.
func IsReturn(script []byte) bool { return len(script) > 0 && script[0] == txscript.OP_RETURN }

// DustLimit is the least satoshi that nodes relay in an output to a script (BOLT
// 3, dust limits).
func DustLimit(script []byte) int64 {
	switch {
	case IsReturn(script):
		return 0
	case txscript.IsPayToPubKeyHash(script):
		return 546
	case txscript.IsPayToScriptHash(script):
		return 540
	case txscript.IsPayToWitnessPubKeyHash(script):
		return 294
	case txscript.IsPayToWitnessScriptHash(script):
		return 330
	default:
		return 354
	}
}
