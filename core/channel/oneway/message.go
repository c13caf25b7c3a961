package oneway

import (
	"encoding/binary"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
)

// Message types, two bytes, odd and above 32768: custom messages that a peer
// who does not know them ignores (BOLT 1).
const (
	typeOpen   = 0x8101 + 2*iota // payer: a proposal
	typeAccept                   // payee: its answer
	typeReject                   // payee: no, and why
	typeFunded                   // payer: the terms with the funding output
	typeReady                    // payee: the funding is deep enough
	typeTicket                   // payer: a promise of the running total
	typeTaken                    // payee: its stamp on the orders of some tickets
	typeOffer                    // payer: a signature to close now
	typeLeave                    // payee: please offer to close
	typeEnd
)

// Owns reports whether a message type belongs to this package.
func Owns(typ uint16) bool { return typ >= typeOpen && typ < typeEnd && typ%2 == 1 }

// A Message is anything the two ends send each other. Core names the core that
// takes it; "" is for Open, Accept and Reject, which come before there is one.
type Message interface {
	Core() string
	// Append encodes it behind its two-byte type.
	Append(b []byte) []byte
}

// Open proposes a channel.
type Open struct {
	ID ID
	Proposal
}

// Accept answers Open.
type Accept struct {
	ID ID
	Answer
}

// Reject answers Open with a reason for people.
type Reject struct {
	ID  ID
	Why string
}

// Funded tells the payee where the funding output is. It carries the whole
// terms, so the payee needs no memory of the proposal.
type Funded struct{ Terms Terms }

// Ready tells the payer that tickets are taken from now on.
type Ready struct{ ID ID }

// A Ticket promises Total, of which the tickets of the run made these orders.
type Ticket struct {
	ID    ID
	Total money.Amount
	receipt.Run
	Sig keys.Signature // over the closing transaction at Total
}

// Taken is the payee's stamp. Its root is over the orders of tickets From+1 to
// To.
type Taken struct {
	ID ID
	receipt.Stamped
}

// Offer is the payer's signature over a closing transaction at Total with Fee
// satoshi: sign and publish it.
type Offer struct {
	ID    ID
	Total money.Amount
	Fee   int64
	Sig   keys.Signature
}

// Leave asks the payer for an Offer.
type Leave struct{ ID ID }

func (m Open) Core() string   { return "" }
func (m Accept) Core() string { return "" }
func (m Reject) Core() string { return "" }
func (m Funded) Core() string { return PayeeName(m.Terms.ID()) }
func (m Ready) Core() string  { return PayerName(m.ID) }
func (m Ticket) Core() string { return PayeeName(m.ID) }
func (m Taken) Core() string  { return PayerName(m.ID) }
func (m Offer) Core() string  { return PayeeName(m.ID) }
func (m Leave) Core() string  { return PayerName(m.ID) }

func head(b []byte, typ uint16, id ID) []byte {
	b = binary.BigEndian.AppendUint16(b, typ)
	return append(b, id[:]...)
}

func (m Open) Append(b []byte) []byte   { return m.Proposal.append(head(b, typeOpen, m.ID)) }
func (m Accept) Append(b []byte) []byte { return m.Answer.append(head(b, typeAccept, m.ID)) }
func (m Reject) Append(b []byte) []byte {
	return codec.AppendBytes(head(b, typeReject, m.ID), m.Why[:min(len(m.Why), maxWhy)])
}
func (m Funded) Append(b []byte) []byte { return m.Terms.append(head(b, typeFunded, m.Terms.ID())) }
func (m Ready) Append(b []byte) []byte  { return head(b, typeReady, m.ID) }
func (m Taken) Append(b []byte) []byte  { return m.Stamped.Append(head(b, typeTaken, m.ID)) }
func (m Leave) Append(b []byte) []byte  { return head(b, typeLeave, m.ID) }

func (m Ticket) Append(b []byte) []byte {
	b = codec.AppendUint(head(b, typeTicket, m.ID), m.Total)
	return append(m.Run.Append(b), m.Sig[:]...)
}

func (m Offer) Append(b []byte) []byte {
	b = codec.AppendUint(head(b, typeOffer, m.ID), m.Total)
	b = codec.AppendUint(b, m.Fee)
	return append(b, m.Sig[:]...)
}

// maxWhy bounds a reason in bytes; more of a stranger's text is not worth
// showing.
const maxWhy = 200

// Decode reads one message. Anything that is not exactly one is an error.
func Decode(b []byte) (Message, error) {
	r := codec.NewReader(b)
	typ := r.U16()
	var id ID
	r.Fill(id[:])
	var m Message
	switch typ {
	case typeOpen:
		m = Open{id, readProposal(r)}
	case typeAccept:
		m = Accept{id, readAnswer(r)}
	case typeReject:
		m = Reject{id, r.String(maxWhy, "reason")}
	case typeFunded:
		t := readTerms(r)
		if r.Err() == nil && t.ID() != id {
			r.Fail(fmt.Errorf("terms are of channel %v, not %v", t.ID(), id))
		}
		m = Funded{t}
	case typeReady:
		m = Ready{id}
	case typeTicket:
		t := Ticket{ID: id, Total: r.Amount(), Run: receipt.ReadRun(r)}
		r.Fill(t.Sig[:])
		m = t
	case typeTaken:
		m = Taken{id, receipt.ReadStamped(r)}
	case typeOffer:
		o := Offer{ID: id, Total: r.Amount(), Fee: int64(r.Amount())}
		r.Fill(o.Sig[:])
		m = o
	case typeLeave:
		m = Leave{id}
	default:
		r.Fail(fmt.Errorf("message type %d is not of a one-way channel", typ))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("message type %d: %w", typ, err)
	}
	return m, nil
}
