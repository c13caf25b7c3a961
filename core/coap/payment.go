package coap

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"coinop.dev/core/money"
)

// The numbers of payments, from the ranges for experiments (RFC 7252, sections
// 12.2 and 12.3). Code 4.02 means Bad Option and is not used: what must be paid
// is 4.03 with FormatOffer. Both options are elective, safe to forward and part
// of a cache's key, so a proxy that knows nothing of them does no harm.
const (
	OptionProof   Number = 65000 // of a request: a Proof in CBOR
	OptionReceipt Number = 65004 // of a response: a Receipt in CBOR

	FormatOffer   uint32 = 65000 // an Offer in CBOR
	FormatProof   uint32 = 65001 // a Proof in CBOR, posted to /pay
	FormatMessage uint32 = 65002 // one core/message message, posted to /m

	FormatText   uint32 = 0
	FormatOctets uint32 = 42
	FormatJSON   uint32 = 50
	FormatCBOR   uint32 = 60
)

// Limits of what is said about a payment.
const (
	MaxProof = 1024 // bytes as an option; a longer one is posted to /pay
	MaxWays  = 8    // of an offer
)

// An Offer is what something costs and how to pay it: CBOR with the keys that
// the tags say, in the order of RFC 8949, section 4.2.1.
type Offer struct {
	Order   money.OrderID `cbor:"0,keyasint"`
	Service string        `cbor:"1,keyasint"`
	Units   uint64        `cbor:"2,keyasint"`
	Due     money.Amount  `cbor:"3,keyasint"` // msat
	Until   int64         `cbor:"4,keyasint"` // Unix milliseconds
	Token   []byte        `cbor:"5,keyasint"` // to be shown with the proof
	Ways    []Way         `cbor:"6,keyasint"` // cheapest first
	Unit    string        `cbor:"7,keyasint,omitempty"`
	Left    *money.Amount `cbor:"8,keyasint,omitempty"` // what a session has left, if it is too little
}

// A Way is one way to pay.
type Way struct {
	Rail string `cbor:"0,keyasint"`
	Pay  string `cbor:"1,keyasint"`           // payment URI
	Hash []byte `cbor:"2,keyasint,omitempty"` // payment hash, if the proof is its preimage
}

// A Proof shows that an offer is paid: with the preimage of its invoice, or with the
// payer's receipt. Of what is free the token is enough.
type Proof struct {
	Token    []byte   `cbor:"0,keyasint"`
	Preimage []byte   `cbor:"1,keyasint,omitempty"`
	Receipt  *Receipt `cbor:"2,keyasint,omitempty"`
	// Session draws on what the offer has prepaid, instead of taking its one
	// delivery.
	Session bool `cbor:"3,keyasint,omitempty"`
}

// A Receipt is money.Receipt on this wire. In a response Proof is empty, To is
// the state of the order, and Amount what it has cost.
type Receipt struct {
	Order  money.OrderID `cbor:"0,keyasint"`
	Amount money.Amount  `cbor:"1,keyasint"` // msat
	To     string        `cbor:"2,keyasint"`
	At     int64         `cbor:"3,keyasint"` // Unix milliseconds
	Proof  []byte        `cbor:"4,keyasint,omitempty"`
}

var (
	encoding = must(cbor.EncOptions{Sort: cbor.SortCoreDeterministic, NilContainers: cbor.NilContainerAsEmpty}.EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 16,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the options above are constants
	}
	return v
}

// Encode is the offer, proof or receipt in CBOR.
func Encode[T Offer | Proof | Receipt](v T) []byte {
	return must(encoding.Marshal(v))
}

// Parse reads what Encode writes, and nothing else: a second encoding of the
// same thing is refused.
func Parse[T Offer | Proof | Receipt](b []byte) (v T, err error) {
	if err := decoding.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("%T is not the CBOR of this version: %w", v, err)
	}
	if string(Encode(v)) != string(b) {
		return v, fmt.Errorf("%T is not in the deterministic encoding of RFC 8949, section 4.2.1", v)
	}
	if o, ok := any(v).(Offer); ok && (len(o.Ways) > MaxWays || o.Due > money.MaxAmount) {
		return v, fmt.Errorf("offer has %d ways to pay %d msat; the limits are %d and all the bitcoin there can be", len(o.Ways), uint64(o.Due), MaxWays)
	}
	return v, nil
}
