// Package watch is what a core asks of a chain and what it is told: outputs to
// watch, transactions to publish, and the status of a watched output as the
// best chain has it now.
//
// Statuses are levels, not edges. Each one says everything about the output as
// of one tip, so a lost or repeated status does no harm and a reorganisation is
// simply a status whose depth went down.
package watch

import (
	"github.com/btcsuite/btcd/wire/v2"
)

// Chain is the outlet that Watch and Publish are sent to and Status comes from.
const Chain = "chain"

// An Output asks to be told about one transaction output, now and after every
// change of the tip, until the process ends. Asking again is harmless.
type Output struct {
	Point  wire.OutPoint
	Script []byte // its scriptPubKey, for filters and scripthash servers
}

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
