// Package message is every message two machines can send each other: one
// Decode for the links of a running machine and for the simulator.
package message

import (
	"encoding/binary"
	"fmt"

	"coinop.dev/core/billing"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/codec"
	"coinop.dev/core/consent"
	"coinop.dev/core/fleet"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/lightning/tower"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/sealed"
	"coinop.dev/core/trade"
	"coinop.dev/core/wallet"
)

// A Message goes from one machine to another. Core names the core that takes
// it there; "" means it is not for a core.
type Message interface {
	Core() string
	// Append encodes it behind its two-byte type.
	Append(b []byte) []byte
}

// Decode reads one message. An unknown even type is an error, as BOLT 1 says;
// an unknown odd type is nil, to be ignored.
func Decode(b []byte) (Message, error) {
	if len(b) < 2 {
		return nil, codec.ErrShort
	}
	switch typ := binary.BigEndian.Uint16(b); {
	case wire.Owns(typ):
		return wire.Decode(b)
	case oneway.Owns(typ):
		return oneway.Decode(b)
	case payword.Owns(typ):
		return payword.Decode(b)
	case trade.Owns(typ):
		return trade.Decode(b)
	case billing.Owns(typ):
		return billing.Decode(b)
	case node.Owns(typ):
		return node.Decode(b)
	case tower.Owns(typ):
		return tower.Decode(b)
	case fleet.Owns(typ):
		return fleet.Decode(b)
	case sealed.Owns(typ):
		return sealed.Decode(b)
	case consent.Owns(typ):
		return consent.Decode(b)
	case wallet.Owns(typ):
		return wallet.Decode(b)
	case gossip.Owns(typ):
		return gossip.Decode(b)
	case typ%2 == 0:
		return nil, fmt.Errorf("message type %d is unknown, and even, so it must be understood", typ)
	}
	return nil, nil
}
