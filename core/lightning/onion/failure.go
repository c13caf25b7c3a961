package onion

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
)

// A Failure is what a hop tells the origin. Data is what the code calls for,
// then perhaps a TLV stream, which we neither write nor read.
type Failure struct {
	Code Code
	Data []byte
}

func (f Failure) Error() string { return f.Code.String() }

// TemporaryChannelFailure says that the outgoing channel cannot take it now.
// Here and below update is the channel_update of that channel as it travels,
// type included.
func TemporaryChannelFailure(update []byte) Failure {
	return Failure{CodeTemporaryChannelFailure, appendUpdate(nil, update)}
}

// AmountBelowMinimum repeats the outgoing amount.
func AmountBelowMinimum(htlc money.Amount, update []byte) Failure {
	return Failure{CodeAmountBelowMinimum, appendUpdate(appendAmount(htlc), update)}
}

// FeeInsufficient repeats the incoming amount.
func FeeInsufficient(htlc money.Amount, update []byte) Failure {
	return Failure{CodeFeeInsufficient, appendUpdate(appendAmount(htlc), update)}
}

// IncorrectCLTVExpiry repeats the outgoing expiry, a block height.
func IncorrectCLTVExpiry(expiry uint32, update []byte) Failure {
	return Failure{CodeIncorrectCLTVExpiry, appendUpdate(binary.BigEndian.AppendUint32(nil, expiry), update)}
}

// ExpiryTooSoon says that too few blocks are left.
func ExpiryTooSoon(update []byte) Failure {
	return Failure{CodeExpiryTooSoon, appendUpdate(nil, update)}
}

// ChannelDisabled says that the outgoing channel is off.
func ChannelDisabled(update []byte) Failure {
	return Failure{CodeChannelDisabled, appendUpdate(make([]byte, 2), update)} // no disabled_flags are defined
}

// UnknownPaymentDetails is the final node's answer to whatever it does not
// expect, with the incoming amount and its block height.
func UnknownPaymentDetails(htlc money.Amount, height uint32) Failure {
	return Failure{CodeUnknownPaymentDetails, binary.BigEndian.AppendUint32(appendAmount(htlc), height)}
}

// FinalIncorrectCLTVExpiry repeats the incoming expiry, a block height.
func FinalIncorrectCLTVExpiry(expiry uint32) Failure {
	return Failure{CodeFinalIncorrectCLTVExpiry, binary.BigEndian.AppendUint32(nil, expiry)}
}

// FinalIncorrectHTLCAmount repeats the incoming amount.
func FinalIncorrectHTLCAmount(htlc money.Amount) Failure {
	return Failure{CodeFinalIncorrectHTLCAmount, appendAmount(htlc)}
}

// InvalidOnionPayload names the record at fault and the byte that it begins at.
func InvalidOnionPayload(typ uint64, offset uint16) Failure {
	return Failure{CodeInvalidOnionPayload, binary.BigEndian.AppendUint16(codec.AppendBigSize(nil, typ), offset)}
}

func appendAmount(a money.Amount) []byte { return binary.BigEndian.AppendUint64(nil, uint64(a)) }

func appendUpdate(b, update []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(update))), update...)
}

// Details is what the data of a failure says; the rest stays zero.
type Details struct {
	Amount money.Amount
	Expiry uint32   // block height
	Height uint32   // of the final node
	Flags  uint16   // disabled_flags
	Update []byte   // channel_update with its type, a piece of the data
	Type   uint64   // of the TLV record at fault
	Offset uint16   // of that record
	Onion  [32]byte // SHA256 of what a BADONION could not read
}

// Details reads the data. Bytes after it are ignored, as BOLT 4 wants.
func (f Failure) Details() (d Details, err error) {
	r := codec.NewReader(f.Data)
	switch f.Code {
	case CodeInvalidOnionVersion, CodeInvalidOnionHMAC, CodeInvalidOnionKey, CodeInvalidOnionBlinding:
		r.Fill(d.Onion[:])
	case CodeAmountBelowMinimum, CodeFeeInsufficient, CodeFinalIncorrectHTLCAmount:
		d.Amount = readAmount(r)
	case CodeIncorrectCLTVExpiry, CodeFinalIncorrectCLTVExpiry:
		d.Expiry = r.U32()
	case CodeUnknownPaymentDetails:
		d.Amount, d.Height = readAmount(r), r.U32()
	case CodeChannelDisabled:
		d.Flags = r.U16()
	case CodeInvalidOnionPayload:
		if r.Len() > 0 { // both are optional
			d.Type, d.Offset = r.BigSize(), r.U16()
		}
	}
	if f.Code.Has(FlagUpdate) {
		d.Update = r.Take(int(r.U16()))
	}
	if r.Err() != nil {
		return Details{}, fmt.Errorf("data of %s: %w", f.Code, r.Err())
	}
	return d, nil
}

func readAmount(r *codec.Reader) money.Amount {
	v := money.Amount(r.U64())
	if v > money.MaxAmount {
		r.Fail(errAmount)
	}
	return v
}

var errAmount = fmt.Errorf("amount is over the limit of %s", money.MaxAmount)

// Sizes of a failure on its way back, in bytes.
const (
	// leastReason hides which failure it is: message and padding together have
	// at least this size (BOLT 4, "Returning Errors").
	leastReason = 256

	// MaxReason is the largest reason that Open looks at. Ours are smaller; to
	// look at one costs MaxHops times its size.
	MaxReason = 8192
)

// Seal writes the reason for update_fail_htlc at the node that fails the HTLC.
// shared is from Peel. Data over 64,000 bytes is cut to fit.
func (f Failure) Seal(shared [32]byte) []byte {
	const limit = 64_000
	data := f.Data[:min(len(f.Data), limit)]
	size := 2 + len(data)
	pad := max(0, leastReason-size)
	reason := make([]byte, macSize, macSize+2+size+2+pad)
	reason = binary.BigEndian.AppendUint16(reason, uint16(size))
	reason = binary.BigEndian.AppendUint16(reason, uint16(f.Code))
	reason = append(reason, data...)
	reason = binary.BigEndian.AppendUint16(reason, uint16(pad))
	reason = reason[:cap(reason)]
	um := derive("um", &shared)
	sum := hmac(um[:], reason[macSize:], nil)
	copy(reason, sum[:])
	return obscure(&shared, reason)
}

// Obscure adds a hop's layer to a reason on its way back and returns a copy.
// shared is from Peel of the same HTLC.
func Obscure(shared [32]byte, reason []byte) []byte {
	return obscure(&shared, append([]byte(nil), reason...))
}

func obscure(shared *[32]byte, reason []byte) []byte {
	ammag := derive("ammag", shared)
	c := stream(&ammag)
	c.XORKeyStream(reason, reason)
	return reason
}

var errNobody = errors.New("no hop of the route sealed this failure: a node on the way changed it")

// Open finds which hop sealed a reason and what it said. secrets are from New.
// If no hop did, hop is -1 and err says so; if a hop did but said nothing that
// can be read, err is of that hop. The work is the same whatever hop failed and
// however long the route is, so the time taken to try again tells nobody.
func Open(secrets [][32]byte, reason []byte) (hop int, f Failure, err error) {
	if len(reason) > MaxReason || len(reason) < macSize {
		return -1, Failure{}, fmt.Errorf("failure has %d bytes; it must have %d to %d", len(reason), macSize, MaxReason)
	}
	if len(secrets) > MaxHops {
		return -1, Failure{}, fmt.Errorf("failure of %d hops; the limit is %d", len(secrets), MaxHops)
	}
	hop = -1
	layer := append([]byte(nil), reason...)
	said := make([]byte, len(reason)-macSize)
	for i := range MaxHops {
		var secret [32]byte // of nobody, once the route has ended
		if i < len(secrets) {
			secret = secrets[i]
		}
		obscure(&secret, layer)
		um := derive("um", &secret)
		sum := hmac(um[:], layer[macSize:], nil)
		match := subtle.ConstantTimeCompare(sum[:], layer[:macSize])
		match &= subtle.ConstantTimeLessOrEq(i+1, len(secrets)) & subtle.ConstantTimeEq(int32(hop), -1)
		hop = subtle.ConstantTimeSelect(match, i, hop)
		subtle.ConstantTimeCopy(match, said, layer[macSize:])
	}
	if hop < 0 {
		return -1, Failure{}, errNobody
	}
	f, err = parseFailure(said)
	if err != nil {
		return hop, Failure{}, fmt.Errorf("failure of hop %d: %w", hop, err)
	}
	return hop, f, nil
}

func parseFailure(said []byte) (Failure, error) {
	r := codec.NewReader(said)
	m := codec.NewReader(r.Take(int(r.U16())))
	if r.Err() != nil {
		return Failure{}, r.Err()
	}
	f := Failure{Code: Code(m.U16())}
	f.Data = m.Take(m.Len())
	return f, m.Err()
}
