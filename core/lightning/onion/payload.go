package onion

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// TLV types of a payload (BOLT 4, "payload format").
const (
	typeAmount    = 2
	typeExpiry    = 4
	typeNext      = 6
	typePayment   = 8
	typeEncrypted = 10
	typePathKey   = 12
	typeMetadata  = 16
	typeTotal     = 18

	// CustomType is where types that BOLT 4 does not hand out begin.
	CustomType = 65536

	// typeKeysend carries the preimage of a payment without an invoice. No BOLT
	// has it; bLIP 3 does.
	typeKeysend = 5482373484
)

// MaxRecords is how many custom records a payload may have.
const MaxRecords = 64

// A Payload is what an onion says to one hop. Zero means absent, except for
// Amount and Expiry outside a blinded path, which every payload has there.
type Payload struct {
	Amount money.Amount // amt_to_forward: what the next channel, or the final node, is to get
	Expiry uint32       // outgoing_cltv_value: block height at which that HTLC ends
	Next   uint64       // short_channel_id to forward over; 0 at the final node

	Secret [32]byte     // payment_secret of the invoice; never zero if there is one
	Total  money.Amount // of all parts: total_msat beside Secret, total_amount_msat beside Encrypted

	Metadata []byte    // payment_metadata of the invoice
	Keysend  *[32]byte // the preimage, in a payment without an invoice
	Records  []Record  // types from CustomType, increasing, without Keysend

	Encrypted []byte      // encrypted_recipient_data: this hop is in a blinded path
	PathKey   keys.Public // current_path_key, at the first hop of the path only; any 33 bytes until Unblind
}

// A Record is a TLV record whose meaning payer and payee know. Its type must be
// odd: ParsePayload refuses what is even.
type Record struct {
	Type  uint64
	Value []byte
}

// Append writes the payload as a TLV stream.
func (p Payload) Append(b []byte) []byte {
	open := len(p.Encrypted) == 0
	if open || p.Amount != 0 {
		b = appendTU(b, typeAmount, uint64(p.Amount))
	}
	if open || p.Expiry != 0 {
		b = appendTU(b, typeExpiry, uint64(p.Expiry))
	}
	if p.Next != 0 {
		b = append(b, typeNext, 8)
		b = binary.BigEndian.AppendUint64(b, p.Next)
	}
	if p.Secret != [32]byte{} {
		var total [8]byte
		tail := codec.AppendTU(total[:0], p.Total)
		b = append(b, typePayment, byte(len(p.Secret)+len(tail)))
		b = append(append(b, p.Secret[:]...), tail...)
	}
	if !open {
		b = codec.AppendTLV(b, typeEncrypted, p.Encrypted)
	}
	if p.PathKey != (keys.Public{}) {
		b = codec.AppendTLV(b, typePathKey, p.PathKey[:])
	}
	if len(p.Metadata) != 0 {
		b = codec.AppendTLV(b, typeMetadata, p.Metadata)
	}
	if !open && p.Total != 0 {
		b = appendTU(b, typeTotal, uint64(p.Total))
	}
	return p.appendRecords(b)
}

func (p Payload) appendRecords(b []byte) []byte {
	keysend := p.Keysend
	for _, r := range p.Records {
		if keysend != nil && r.Type > typeKeysend {
			b, keysend = codec.AppendTLV(b, typeKeysend, keysend[:]), nil
		}
		b = codec.AppendTLV(b, r.Type, r.Value)
	}
	if keysend != nil {
		b = codec.AppendTLV(b, typeKeysend, keysend[:])
	}
	return b
}

// appendTU writes a record that is one truncated integer.
func appendTU(b []byte, typ byte, v uint64) []byte {
	var value [8]byte
	tail := codec.AppendTU(value[:0], v)
	return append(append(b, typ, byte(len(tail))), tail...)
}

// A PayloadError is the record that a payload fails on. Type and Offset, in
// bytes, are zero if the stream itself is broken.
type PayloadError struct {
	Type   uint64
	Offset uint16
	Err    error
}

func (e *PayloadError) Error() string {
	return fmt.Sprintf("payload: TLV type %d at byte %d: %v", e.Type, e.Offset, e.Err)
}

func (e *PayloadError) Unwrap() error { return e.Err }

// Failure is invalid_onion_payload, to seal and send back.
func (e *PayloadError) Failure() Failure { return InvalidOnionPayload(e.Type, e.Offset) }

var (
	errMissing = errors.New("it is missing")
	errZero    = errors.New("it is zero, which means nothing here")
	errForeign = errors.New("it does not belong in this place of the route")
	errRecords = fmt.Errorf("more than %d custom records", MaxRecords)
)

// ParsePayload reads a payload, whose slices stay pieces of b. Unknown records
// of odd type are dropped below CustomType and kept from there on; those of
// even type are refused. Every error is a *PayloadError. Check says whether the
// payload fits its place in the route.
func ParsePayload(b []byte) (Payload, error) {
	var p Payload
	var seen uint64 // a bit for each type that BOLT 4 knows, and bit 0 for all others
	err := codec.TLVs(b, func(typ uint64, value []byte) (bool, error) {
		understood, err := p.read(typ, value)
		if understood && typ <= typeTotal {
			seen |= 1 << typ
		} else {
			seen |= 1
		}
		return understood, err
	})
	var fault *codec.TLVError
	switch {
	case errors.As(err, &fault):
		return Payload{}, &PayloadError{fault.Type, uint16(min(fault.Offset, math.MaxUint16)), fault.Err}
	case err != nil:
		return Payload{}, &PayloadError{Err: err}
	}
	if len(p.Encrypted) != 0 {
		return p, only(seen, 1<<typeAmount|1<<typeExpiry|1<<typeEncrypted|1<<typePathKey|1<<typeTotal)
	}
	for _, typ := range []uint64{typeAmount, typeExpiry} {
		if seen&(1<<typ) == 0 {
			return Payload{}, &PayloadError{Type: typ, Err: errMissing}
		}
	}
	return p, only(seen, ^uint64(1<<typePathKey|1<<typeTotal))
}

// only refuses the first type of seen that is not allowed.
func only(seen, allowed uint64) error {
	foreign := seen &^ allowed
	if foreign == 0 {
		return nil
	}
	return &PayloadError{Type: uint64(bits.TrailingZeros64(foreign)), Err: errForeign}
}

// read takes one record. The caller refuses what is even and not understood.
func (p *Payload) read(typ uint64, value []byte) (understood bool, err error) {
	r := codec.NewReader(value)
	switch typ {
	case typeAmount:
		p.Amount = readTU64(r)
	case typeExpiry:
		p.Expiry = r.TU32()
	case typeNext:
		if p.Next = r.U64(); p.Next == 0 {
			r.Fail(errZero)
		}
	case typePayment:
		r.Fill(p.Secret[:])
		if p.Total = readTU64(r); p.Secret == [32]byte{} {
			r.Fail(errZero)
		}
	case typeEncrypted:
		if p.Encrypted = r.Take(r.Len()); len(value) == 0 {
			r.Fail(errZero)
		}
	case typePathKey:
		if r.Fill(p.PathKey[:]); p.PathKey == (keys.Public{}) {
			r.Fail(errZero)
		}
	case typeMetadata:
		p.Metadata = r.Take(r.Len())
	case typeTotal:
		p.Total = readTU64(r)
	case typeKeysend:
		p.Keysend = new([32]byte)
		r.Fill(p.Keysend[:])
	default:
		return false, p.keep(typ, value)
	}
	return true, r.Close()
}

func (p *Payload) keep(typ uint64, value []byte) error {
	if typ < CustomType || typ%2 == 0 {
		return nil
	}
	if len(p.Records) == MaxRecords {
		return errRecords
	}
	p.Records = append(p.Records, Record{typ, value})
	return nil
}

func readTU64(r *codec.Reader) money.Amount {
	v := money.Amount(r.TU64())
	if v > money.MaxAmount {
		r.Fail(errAmount)
	}
	return v
}

// Check says whether p has what its place in the route needs and nothing that
// is meant for another. Peel tells which place it is: final if there is no next
// packet. The error is a *PayloadError.
func (p Payload) Check(final bool) error {
	blinded := len(p.Encrypted) != 0
	for _, f := range [...]struct {
		typ              uint64
		has, must, never bool
	}{
		{typeAmount, p.Amount != 0, blinded && final, blinded && !final},
		{typeExpiry, p.Expiry != 0, blinded && final, blinded && !final},
		{typeNext, p.Next != 0, !blinded && !final, final},
		{typePayment, p.Secret != [32]byte{}, false, !final},
		{typeTotal, p.Total != 0, blinded && final, !final},
	} {
		switch {
		case f.must && !f.has:
			return &PayloadError{Type: f.typ, Err: errMissing}
		case f.never && f.has:
			return &PayloadError{Type: f.typ, Err: errForeign}
		}
	}
	return nil
}
