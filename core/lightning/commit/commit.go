// Package commit builds, signs and checks what BOLT 3 describes: the commitment
// transactions of a channel, the second-stage transactions of their HTLCs, the
// closing transactions, and the keys and secrets all of them need.
//
// It keeps no state and decides nothing. A Channel is what never changes, a
// State is what a commitment pays out, and a Commitment is one owner's
// transaction for one State. Both ends build the same transaction from mirrored
// arguments; whose it is decides which outputs wait and which can be revoked.
//
// Two kinds of channel, both with a static key for to_remote: static_remotekey
// and anchors_zero_fee_htlc_tx.
package commit

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/money"
)

// Type is the kind of commitment transaction that a channel has.
type Type uint8

const (
	// StaticRemoteKey is option_static_remotekey (feature bits 12 and 13).
	StaticRemoteKey Type = iota
	// Anchors is option_anchors (feature bits 22 and 23, which need
	// static_remotekey): anchor outputs, and HTLC transactions without a fee.
	Anchors
)

// String is the name of the feature.
func (t Type) String() string {
	if t == Anchors {
		return "anchors"
	}
	return "static_remotekey"
}

const (
	// AnchorValue is what each anchor output carries, in satoshi.
	AnchorValue int64 = 330
	// MaxHTLCs is how many HTLCs one commitment may have: BOLT 2 lets each side
	// offer 483, so that a penalty transaction over all of them fits the relay
	// limit.
	MaxHTLCs = 2 * 483
	// MaxNumber is the last commitment number: it has 48 bits.
	MaxNumber = 1<<48 - 1
)

// Owner says whose commitment transaction is meant.
type Owner uint8

const (
	Local  Owner = iota // ours
	Remote              // the peer's
)

// Other is the other side.
func (o Owner) Other() Owner { return o ^ 1 }

// String is "local" or "remote".
func (o Owner) String() string {
	if o == Local {
		return "local"
	}
	return "remote"
}

// A Party is one side of a channel.
type Party struct {
	Basepoints
	Dust  int64  // satoshi: outputs below are left out of its commitments
	Delay uint16 // blocks that this party's own money waits in its commitment
}

// A Channel is what both sides agreed to when it opened. It does not change.
type Channel struct {
	Type          Type
	Funding       wire.OutPoint
	Capacity      int64 // satoshi
	Opener        Owner // pays the commitment fee and the anchors
	Local, Remote Party
}

// Party returns one side.
func (c *Channel) Party(o Owner) *Party {
	if o == Local {
		return &c.Local
	}
	return &c.Remote
}

// An HTLC is a payment that hangs in a commitment.
type HTLC struct {
	Ours   bool         // offered by us
	Amount money.Amount // msat
	Hash   [32]byte     // SHA-256 of the preimage
	Expiry uint32       // block height
}

// A State is what one commitment pays out. Its amounts add up to the capacity.
type State struct {
	Number        uint64       // of the commitment, from 0
	FeeRate       int64        // satoshi per 1,000 weight
	Local, Remote money.Amount // msat of each side without HTLCs, before fee and anchors
	HTLCs         []HTLC
}

// Errors of Build, Verify and the closing transactions.
var (
	// ErrState means that a State cannot be a commitment of its channel.
	ErrState = errors.New("not a state of this channel")
	// ErrSignature means that a signature of the peer's does not fit.
	ErrSignature = errors.New("the peer's signature does not fit the transaction")
)

// check reports why s is no state of c.
func (c *Channel) check(s State) error {
	sum, ok := s.Local.Add(s.Remote)
	for i := range s.HTLCs {
		if ok {
			sum, ok = sum.Add(s.HTLCs[i].Amount)
		}
	}
	capacity, fits := money.FromSats(c.Capacity)
	switch {
	case len(s.HTLCs) > MaxHTLCs:
		return fmt.Errorf("%w: it has %d HTLCs; the limit is %d", ErrState, len(s.HTLCs), MaxHTLCs)
	case s.Number > MaxNumber:
		return fmt.Errorf("%w: its number is %d; the limit is %d", ErrState, s.Number, uint64(MaxNumber))
	case s.FeeRate < 0 || s.FeeRate > MaxFeeRate:
		return fmt.Errorf("%w: its fee rate is %d sat/kw; it must be 0 to %d", ErrState, s.FeeRate, int64(MaxFeeRate))
	case !ok || !fits || sum != capacity:
		return fmt.Errorf("%w: its amounts do not add up to the capacity of %d sat", ErrState, c.Capacity)
	}
	return nil
}
