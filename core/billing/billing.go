// Package billing is how the payer of an order gets the Lightning invoice to
// pay it with: it asks the payee over their link, and the payee answers with an
// invoice of its node and its machine's word that whoever pays that has paid
// the order.
//
// The word is what makes a receipt: a preimage alone says that somebody paid
// something.
package billing

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// Limits in bytes, per message.
const (
	// MaxInvoice leaves room for a dozen route hints; without any an invoice
	// has about 300.
	MaxInvoice = 4096
	MaxWhy     = 200
)

// Message types, odd and custom (BOLT 1).
const (
	typeAsk = 0x8601 + 2*iota
	typeBill
	typeRefuse
	typeEnd
)

// Owns reports whether a message type belongs to this package.
func Owns(typ uint16) bool { return typ >= typeAsk && typ < typeEnd && typ%2 == 1 }

// A Message is one of the types below. None is a core's: whoever asks waits
// for the answer itself, and the payee's node has to be asked.
type Message interface {
	Core() string
	Append(b []byte) []byte
}

// Ask asks for the invoice of an order. Asked again, the payee answers the
// same while it can be paid; with another amount it takes the first one back.
type Ask struct {
	Order  money.OrderID
	Amount money.Amount
}

// Bill answers Ask.
type Bill struct {
	Order   money.OrderID
	Invoice string         // BOLT 11, of exactly the amount
	Word    keys.Signature // Sign over the invoice's hash
}

// Refuse answers Ask when there will be no invoice.
type Refuse struct {
	Order money.OrderID
	Why   string
}

func (Ask) Core() string    { return "" }
func (Bill) Core() string   { return "" }
func (Refuse) Core() string { return "" }

func head(b []byte, typ uint16, id money.OrderID) []byte {
	return append(binary.BigEndian.AppendUint16(b, typ), id[:]...)
}

// Append encodes the message behind its two-byte type.
func (m Ask) Append(b []byte) []byte { return codec.AppendUint(head(b, typeAsk, m.Order), m.Amount) }

// Append encodes the message behind its two-byte type.
func (m Bill) Append(b []byte) []byte {
	return append(codec.AppendBytes(head(b, typeBill, m.Order), m.Invoice), m.Word[:]...)
}

// Append encodes the message behind its two-byte type.
func (m Refuse) Append(b []byte) []byte {
	return codec.AppendBytes(head(b, typeRefuse, m.Order), m.Why[:min(len(m.Why), MaxWhy)])
}

// Decode reads one message. Anything that is not exactly one is an error.
func Decode(b []byte) (Message, error) {
	r := codec.NewReader(b)
	typ := r.U16()
	var id money.OrderID
	r.Fill(id[:])
	var m Message
	switch typ {
	case typeAsk:
		m = Ask{id, r.Amount()}
	case typeBill:
		bill := Bill{Order: id, Invoice: r.String(MaxInvoice, "invoice")}
		r.Fill(bill.Word[:])
		m = bill
	case typeRefuse:
		m = Refuse{id, r.String(MaxWhy, "reason")}
	default:
		r.Fail(errors.New("not a message about bills"))
	}
	if err := r.Close(); err != nil {
		return nil, err
	}
	return m, nil
}

// Sign gives the payee's word: whoever shows what hashes to hash has paid the
// order.
func Sign(payee keys.Secret, order money.OrderID, a money.Amount, hash [32]byte) keys.Signature {
	return payee.Sign(digest(order, a, hash))
}

// Verify checks a payee's word.
func Verify(payee keys.Public, order money.OrderID, a money.Amount, hash [32]byte, word keys.Signature) bool {
	return payee.Verify(digest(order, a, hash), word)
}

func digest(order money.OrderID, a money.Amount, hash [32]byte) [32]byte {
	return keys.Digest("coinop/bill", order[:], binary.BigEndian.AppendUint64(nil, uint64(a)), hash[:])
}

// A Proof is what a payer shows: the preimage, and the payee's word on its
// hash. Without a word it is the proof of a plain invoice.
type Proof struct {
	Preimage [32]byte
	Word     keys.Signature
}

// Append writes what ReadProof reads.
func (p Proof) Append(b []byte) []byte { return append(append(b, p.Preimage[:]...), p.Word[:]...) }

// ReadProof reads a whole proof.
func ReadProof(b []byte) (p Proof, err error) {
	r := codec.NewReader(b)
	r.Fill(p.Preimage[:])
	r.Fill(p.Word[:])
	return p, r.Close()
}

// ErrProof means a proof is not of this order, amount and payee.
var ErrProof = errors.New("the payee has not said that this preimage pays this order")

// Verify checks that the payee says the order is paid.
func (p Proof) Verify(payee keys.Public, order money.OrderID, a money.Amount) error {
	if !Verify(payee, order, a, sha256.Sum256(p.Preimage[:]), p.Word) {
		return ErrProof
	}
	return nil
}
