package wallet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
	"coinop.dev/core/money"
)

// Message types, odd and custom (BOLT 1). Those of one device and its gateway;
// proposals and consents are core/consent's.
const (
	typeOrder   = 0x8801 + 2*iota // device: pay this
	typeSettled                   // gateway: it is paid
	typeFailed                    // gateway: it is not, and why
	typeClaim                     // device: an account for this descriptor
	typeClaimed                   // gateway: you have it
	typeRefused                   // gateway: no, and why
	typeLook                      // device: what is there?
	typeShown                     // gateway: this
	typeEnd
)

// Owns reports whether a message type belongs to this package.
func Owns(typ uint16) bool { return typ >= typeOrder && typ < typeEnd && typ%2 == 1 }

// Limits in bytes.
const (
	MaxScript     = 42     // the longest witness program (BIP 141)
	MaxProof      = 60_000 // a receipt's; it has to fit a message
	MaxDescriptor = 512
	maxAddress    = 128
)

// A Message is one of the types below. All go to the core called Name: the
// wallet on a gateway, or a device's end of it.
type Message interface {
	Core() string
	Append(b []byte) []byte
}

// Order asks the gateway to pay from the device's account. It is asked again
// until it is answered, and paid once.
type Order struct {
	ID      money.OrderID
	Account string // "" if the device has one
	Script  []byte
	Amount  money.Amount
	Rate    tx.FeeRate // 0: as the gateway thinks fit
}

// Settled answers Order: it is paid, and Proof is its receipt (Verify).
type Settled struct {
	ID    money.OrderID
	Proof []byte
}

// Failed answers Order: it is not paid, and never will be under this ID.
type Failed struct {
	ID   money.OrderID
	Kind money.Kind
	Why  string
}

// Claim asks for the account that a code stands for.
type Claim struct {
	Code       string
	Descriptor string // public keys only
	Since      int32  // no block below it matters; 0: none yet
}

// Claimed answers Claim.
type Claimed struct{ Account string }

// Refused answers what a device may not do.
type Refused struct{ Why string }

// Look asks for an account's state, and with Fresh for a new address.
type Look struct {
	Account string
	Fresh   bool
}

// Shown answers Look, in satoshi as View has them.
type Shown struct {
	Account                      string
	Tip                          int32
	Confirmed, Waiting, Reserved int64
	Index                        uint32 // of the new address, on the receiving branch
	Address                      string // the new one, if it was asked for; the device makes it itself and compares
}

func (Order) Core() string   { return Name }
func (Settled) Core() string { return Name }
func (Failed) Core() string  { return Name }
func (Claim) Core() string   { return Name }
func (Claimed) Core() string { return Name }
func (Refused) Core() string { return Name }
func (Look) Core() string    { return Name }
func (Shown) Core() string   { return Name }

func head(b []byte, typ uint16) []byte { return binary.BigEndian.AppendUint16(b, typ) }

// Append encodes the message behind its two-byte type.
func (m Order) Append(b []byte) []byte {
	b = append(head(b, typeOrder), m.ID[:]...)
	b = codec.AppendBytes(b, m.Account)
	b = codec.AppendBytes(b, m.Script)
	b = codec.AppendUint(b, m.Amount)
	return codec.AppendUint(b, int64(m.Rate))
}

// Append encodes the message behind its two-byte type.
func (m Settled) Append(b []byte) []byte {
	return codec.AppendBytes(append(head(b, typeSettled), m.ID[:]...), m.Proof)
}

// Append encodes the message behind its two-byte type.
func (m Failed) Append(b []byte) []byte {
	b = append(head(b, typeFailed), m.ID[:]...)
	return codec.AppendBytes(append(b, byte(m.Kind)), m.Why[:min(len(m.Why), maxText)])
}

// Append encodes the message behind its two-byte type.
func (m Claim) Append(b []byte) []byte {
	b = codec.AppendBytes(head(b, typeClaim), m.Code)
	b = codec.AppendBytes(b, m.Descriptor)
	return codec.AppendUint(b, m.Since)
}

// Append encodes the message behind its two-byte type.
func (m Claimed) Append(b []byte) []byte { return codec.AppendBytes(head(b, typeClaimed), m.Account) }

// Append encodes the message behind its two-byte type.
func (m Refused) Append(b []byte) []byte {
	return codec.AppendBytes(head(b, typeRefused), m.Why[:min(len(m.Why), maxText)])
}

// Append encodes the message behind its two-byte type.
func (m Look) Append(b []byte) []byte {
	return appendBool(codec.AppendBytes(head(b, typeLook), m.Account), m.Fresh)
}

// Append encodes the message behind its two-byte type.
func (m Shown) Append(b []byte) []byte {
	b = codec.AppendBytes(head(b, typeShown), m.Account)
	b = codec.AppendUint(b, m.Tip)
	for _, n := range []int64{m.Confirmed, m.Waiting, m.Reserved} {
		b = codec.AppendUint(b, n)
	}
	b = codec.AppendUint(b, m.Index)
	return codec.AppendBytes(b, m.Address)
}

// Decode reads one message. Anything that is not exactly one is an error.
func Decode(b []byte) (Message, error) {
	r := codec.NewReader(b)
	typ := r.U16()
	var m Message
	switch typ {
	case typeOrder:
		o := Order{}
		r.Fill(o.ID[:])
		o.Account, o.Script, o.Amount = r.String(maxName, "account"), r.Bytes(MaxScript, "script"), r.Amount()
		o.Rate = tx.FeeRate(r.Int(int(tx.MaxFeeRate), "fee rate"))
		m = o
	case typeSettled:
		s := Settled{}
		r.Fill(s.ID[:])
		s.Proof = r.Bytes(MaxProof, "proof")
		m = s
	case typeFailed:
		f := Failed{}
		r.Fill(f.ID[:])
		if f.Kind = money.Kind(r.U8()); f.Kind > money.Broken {
			r.Fail(fmt.Errorf("kind %d is unknown", f.Kind))
		}
		f.Why = r.String(maxText, "reason")
		m = f
	case typeClaim:
		m = Claim{Code: r.String(MaxCode, "claim code"), Descriptor: r.String(MaxDescriptor, "descriptor"), Since: r.Height()}
	case typeClaimed:
		m = Claimed{r.String(maxName, "account")}
	case typeRefused:
		m = Refused{r.String(maxText, "reason")}
	case typeLook:
		m = Look{r.String(maxName, "account"), readBool(r)}
	case typeShown:
		s := Shown{Account: r.String(maxName, "account"), Tip: r.Height()}
		s.Confirmed, s.Waiting, s.Reserved = readSats(r), readSats(r), readSats(r)
		s.Index = uint32(r.Uint(maxIndex, "index"))
		s.Address = r.String(maxAddress, "address")
		m = s
	default:
		r.Fail(errors.New("not a message of a wallet"))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("message type %d: %w", typ, err)
	}
	return m, nil
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func readBool(r *codec.Reader) bool {
	v := r.U8()
	if v > 1 {
		r.Fail(fmt.Errorf("%d is neither no (0) nor yes (1)", v))
	}
	return v == 1
}

func readSats(r *codec.Reader) int64 {
	return int64(r.Uint(uint64(money.MaxAmount.Sats()), "amount in satoshi"))
}
