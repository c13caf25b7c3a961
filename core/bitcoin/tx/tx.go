// Package tx builds and signs the few kinds of Bitcoin transaction coinop
// makes: witness version 0 outputs (BIP 141), signed as BIP 143 says, with
// explicit fees and no dust.
package tx

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"golang.org/x/crypto/ripemd160" //lint:ignore SA1019 Bitcoin's HASH160 is RIPEMD-160 over SHA-256

	"coinop.dev/core/keys"
)

// A FeeRate is satoshi per 1,000 virtual bytes.
type FeeRate int64

const (
	// MinFeeRate is what nodes relay by default: 1 sat/vB.
	MinFeeRate FeeRate = 1000
	// MaxFeeRate is where a fee is a mistake: 1,000 sat/vB.
	MaxFeeRate FeeRate = 1_000_000
)

// For returns the fee in satoshi for a size in virtual bytes, rounded up.
func (r FeeRate) For(vbytes int) int64 { return (int64(r)*int64(vbytes) + 999) / 1000 }

// Dust is the smallest output in satoshi that nodes relay (Bitcoin Core's
// GetDustThreshold at 3 sat/vB).
const (
	DustP2WPKH int64 = 294
	DustP2WSH  int64 = 330
)

// MaxSize bounds a transaction read from a peer or a record, in bytes.
const MaxSize = 100_000

// Hash160 is RIPEMD160(SHA256(b)).
func Hash160(b []byte) []byte {
	sum := sha256.Sum256(b)
	h := ripemd160.New()
	h.Write(sum[:])
	return h.Sum(nil)
}

// P2WPKH is the script that pays the holder of a key: OP_0 <hash160(key)>.
func P2WPKH(p keys.Public) []byte {
	return append([]byte{txscript.OP_0, txscript.OP_DATA_20}, Hash160(p[:])...)
}

// P2WSH is the script that pays whoever satisfies script: OP_0 <sha256(script)>.
func P2WSH(script []byte) []byte {
	sum := sha256.Sum256(script)
	return append([]byte{txscript.OP_0, txscript.OP_DATA_32}, sum[:]...)
}

// IsP2WPKH tells the shape of a script. A payout script of any other shape
// would make dust and size unknowable, so channels refuse it.
func IsP2WPKH(script []byte) bool {
	return len(script) == 22 && script[0] == txscript.OP_0 && script[1] == txscript.OP_DATA_20
}

// Bytes serialises t with witnesses.
func Bytes(t *wire.MsgTx) []byte {
	var b bytes.Buffer
	b.Grow(t.SerializeSize())
	if err := t.Serialize(&b); err != nil {
		panic(err) // a bytes.Buffer does not fail
	}
	return b.Bytes()
}

// Parse reads one transaction of at most MaxSize bytes and nothing after it.
func Parse(raw []byte) (*wire.MsgTx, error) {
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("transaction is %d bytes; the limit is %d", len(raw), MaxSize)
	}
	t, r := new(wire.MsgTx), bytes.NewReader(raw)
	if err := t.Deserialize(r); err != nil {
		return nil, fmt.Errorf("transaction: %w", err)
	}
	if r.Len() != 0 {
		return nil, fmt.Errorf("transaction is followed by %d bytes", r.Len())
	}
	return t, nil
}

// VSize is the size in virtual bytes (BIP 141).
func VSize(t *wire.MsgTx) int {
	return (3*t.SerializeSizeStripped() + t.SerializeSize() + 3) / 4
}

// Sighash is the BIP 143 digest of the only input of t that spends a witness
// output of value satoshi with witness script, for SIGHASH_ALL.
func Sighash(t *wire.MsgTx, input int, script []byte, value int64) [32]byte {
	fetch := txscript.NewCannedPrevOutputFetcher(nil, value)
	hash, err := txscript.CalcWitnessSigHash(script, txscript.NewTxSigHashes(t, fetch), txscript.SigHashAll, t, input, value)
	if err != nil {
		panic("sighash of a script of ours: " + err.Error())
	}
	return [32]byte(hash)
}

// WitnessSig is a signature as a witness carries it: DER and the sighash byte.
func WitnessSig(sig keys.Signature) []byte { return append(sig.DER(), byte(txscript.SigHashAll)) }

// WalletKey holds what a machine has on the chain: what it earned there, what it
// got back, what it opens channels with.
func WalletKey(node keys.Secret) keys.Secret { return node.Derive("wallet/0") }

// A Coin is an output that a key can spend.
type Coin struct {
	Point wire.OutPoint
	Value int64 // satoshi
}

// ErrFunds means the coins do not cover the amount and its fee.
var ErrFunds = errors.New("not enough coins")

// Sizes in virtual bytes of the parts of a payment from P2WPKH coins.
const (
	vsizeBase   = 11
	vsizeInput  = 68
	vsizeP2WPKH = 31
)

// Pay spends coins of key to outs, largest coin first, with change back to the
// key when it is worth an output. It returns the signed transaction and its fee
// in satoshi.
func Pay(key keys.Secret, coins []Coin, outs []*wire.TxOut, rate FeeRate) (*wire.MsgTx, int64, error) {
	if rate < MinFeeRate || rate > MaxFeeRate {
		return nil, 0, fmt.Errorf("fee rate is %d sat/kvB; it must be %d to %d", rate, MinFeeRate, MaxFeeRate)
	}
	coins = slices.Clone(coins)
	slices.SortStableFunc(coins, func(a, b Coin) int { return cmp.Compare(b.Value, a.Value) })
	t, need, size := wire.NewMsgTx(2), int64(0), vsizeBase
	for _, o := range outs {
		t.AddTxOut(o)
		need += o.Value
		size += 9 + len(o.PkScript)
	}
	have, used := int64(0), 0
	for used < len(coins) && have < need+rate.For(size) {
		t.AddTxIn(wire.NewTxIn(&coins[used].Point, nil, nil))
		have += coins[used].Value
		size += vsizeInput
		used++
	}
	fee := rate.For(size)
	if have < need+fee {
		return nil, 0, fmt.Errorf("%w: %d sat in %d coins, and %d sat with a fee of %d sat is needed", ErrFunds, have, len(coins), need+fee, fee)
	}
	script := P2WPKH(key.Public())
	if change := have - need - rate.For(size+vsizeP2WPKH); change >= DustP2WPKH {
		t.AddTxOut(wire.NewTxOut(change, script))
		fee = have - need - change
	} else {
		fee = have - need
	}
	for i := range t.TxIn {
		t.TxIn[i].Witness = WitnessP2WPKH(key, t, i, coins[i].Value)
	}
	return t, fee, nil
}

// WitnessP2WPKH signs input i of t, which spends value satoshi paid to key.
func WitnessP2WPKH(key keys.Secret, t *wire.MsgTx, i int, value int64) wire.TxWitness {
	pub := key.Public()
	sig := key.Sign(Sighash(t, i, P2WPKH(pub), value))
	return wire.TxWitness{WitnessSig(sig), pub[:]}
}
