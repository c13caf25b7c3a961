// Package watch is what a core asks of a chain and what it is told: outputs to
// watch, transactions to publish, and the status of a watched output as the
// best chain has it now.
//
// Statuses are levels, not edges. Each one says everything about the output as
// of one tip, so a lost or repeated status does no harm and a reorganisation is
// simply a status whose depth went down.
package watch

import (
	"errors"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
)

// Chain is the outlet that Watch and Publish are sent to and Status comes from.
const Chain = "chain"

// An Output asks to be told about one transaction output, now and after every
// change of the tip, until the process ends. Asking again is harmless.
type Output struct {
	Point  wire.OutPoint
	Script []byte // its scriptPubKey, for filters and scripthash servers
	Since  int32  // no block below this height has it; 0 if unknown
}

// ErrRefused means that the network, or the chain, will not have a transaction.
var ErrRefused = errors.New("transaction refused")

// Publish asks for a transaction to be broadcast. Publishing one that is
// already known or mined is harmless.
type Publish struct{ Tx *wire.MsgTx }

// A Status is what the best chain says of a watched output.
type Status struct {
	Point wire.OutPoint
	// Tip is the height of the best block.
	Tip int32
	// Depth is how many blocks confirm the output: 1 when it is in the tip, 0
	// when it is in no block of the best chain.
	Depth int32
	// Index is the place of the output's transaction in its block; 0 while Depth
	// is 0.
	Index int32
	// Value is the output's value in satoshi; 0 while Depth is 0.
	Value int64
	// Spender is the transaction of the best chain that spends the output, or
	// nil. SpendDepth counts as Depth does.
	Spender    *wire.MsgTx
	SpendDepth int32
}

// A Script asks to be told of the coins that pay a script, now and after every
// change of the tip that changes them, until the process ends. Asking again is
// harmless.
type Script struct {
	Script []byte
	Since  int32 // no block below this height pays or spends it; 0 if unknown
	Prove  bool  // coins come with their proofs
}

// Coins is all unspent outputs that pay a script, as of one tip.
type Coins struct {
	Script []byte
	Tip    int32
	Coins  []Coin
}

// A Coin is an unspent output and how sure it is.
type Coin struct {
	tx.Coin
	Depth    int32         // as in Status; 0 while it waits for a block
	Coinbase bool          // a block reward
	Tx       *wire.MsgTx   // the transaction it is an output of; may be nil unless Prove
	Proof    *merkle.Proof // that Tx is in its block; nil unless Prove and Depth > 0
}

// Maturity is the depth at which the next block may spend a block reward.
const Maturity = 100

// Spendable tells whether the next block may spend the coin.
func (c Coin) Spendable() bool { return !c.Coinbase || c.Depth >= Maturity }

// HeadersAfter asks for the headers that follow the first hash of a locator
// that is in the best chain, once.
type HeadersAfter struct {
	To      string // who asked, given back
	Locator []chainhash.Hash
	// At, if it is not zero, takes the place of the locator: the headers from that
	// height up to the next multiple of a thousand.
	At int32
}

// Headers answers HeadersAfter: at most 2,000, the first at height From.
type Headers struct {
	To      string
	At      int32 // as it was asked
	From    int32
	Headers []wire.BlockHeader
}
