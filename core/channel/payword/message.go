package payword

import (
	"encoding/binary"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
)

// Message types, two bytes, odd and above 32768: custom messages that a peer
// who does not know them ignores (BOLT 1).
const (
	typeOpen   = 0x8201 + 2*iota // payer: a proposal
	typeAccept                   // payee: its answer
	typeReject                   // payee: no, and why
	typeAgreed                   // payer: the terms
	typeReady                    // payee: coins are taken
	typeCoins                    // payer: a word, and the orders it pays
	typeTaken                    // payee: its stamp on the orders of some tickets
	typeEnd
)

// Owns reports whether a message type belongs to this package.
func Owns(typ uint16) bool { return typ >= typeOpen && typ < typeEnd && typ%2 == 1 }

// A Message is anything the two ends send each other.
type Message interface {
	// Channel is the channel it is about.
	Channel() ID
	// Core is the core that takes it, or "" for whoever opens channels.
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

// Agreed tells the payee that the channel is open. It carries the whole terms,
// so the payee needs no memory of the proposal.
type Agreed struct{ Terms Terms }

// Ready tells the payer that coins are taken from now on.
type Ready struct{ ID ID }

// Coins pays the orders of a run of tickets, by showing the word at Index
// of an epoch's chain. A word covers all before it; one that arrives late or
// twice does no harm.
type Coins struct {
	ID          ID
	Epoch       uint64
	Index       uint64
	Word        Word
	Commit      *Commitment // to the epoch's chain; nil once the payee has it
	receipt.Run             // of entries in whole coins
}

// Taken is the payee's stamp. Its root is over the orders of tickets From+1 to
// To.
type Taken struct {
	ID ID
	receipt.Stamped
}

func (m Open) Channel() ID   { return m.ID }
func (m Accept) Channel() ID { return m.ID }
func (m Reject) Channel() ID { return m.ID }
func (m Agreed) Channel() ID { return m.Terms.ID() }
func (m Ready) Channel() ID  { return m.ID }
func (m Coins) Channel() ID  { return m.ID }
func (m Taken) Channel() ID  { return m.ID }

func (m Open) Core() string   { return "" }
func (m Accept) Core() string { return "" }
func (m Reject) Core() string { return "" }
func (m Agreed) Core() string { return PayeeName(m.Terms.ID()) }
func (m Ready) Core() string  { return PayerName(m.ID) }
func (m Coins) Core() string  { return PayeeName(m.ID) }
func (m Taken) Core() string  { return PayerName(m.ID) }

func head(b []byte, typ uint16, id ID) []byte {
	b = binary.BigEndian.AppendUint16(b, typ)
	return append(b, id[:]...)
}

func (m Open) Append(b []byte) []byte   { return m.Proposal.append(head(b, typeOpen, m.ID)) }
func (m Accept) Append(b []byte) []byte { return m.Payee.Append(head(b, typeAccept, m.ID)) }
func (m Reject) Append(b []byte) []byte {
	return codec.AppendBytes(head(b, typeReject, m.ID), m.Why[:min(len(m.Why), maxWhy)])
}
func (m Agreed) Append(b []byte) []byte { return m.Terms.append(head(b, typeAgreed, m.Terms.ID())) }
func (m Ready) Append(b []byte) []byte  { return head(b, typeReady, m.ID) }
func (m Taken) Append(b []byte) []byte  { return m.Stamped.Append(head(b, typeTaken, m.ID)) }

func (m Coins) Append(b []byte) []byte {
	b = head(b, typeCoins, m.ID)
	b = codec.AppendUint(b, m.Epoch)
	b = codec.AppendUint(b, m.Index)
	b = append(b, m.Word[:]...)
	if m.Commit == nil {
		b = append(b, 0)
	} else {
		b = m.Commit.append(append(b, 1))
	}
	return m.Run.Append(b)
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
		m = Accept{id, Answer{receipt.ReadPayee(r)}}
	case typeReject:
		m = Reject{id, r.String(maxWhy, "reason")}
	case typeAgreed:
		t := readTerms(r)
		if r.Err() == nil && t.ID() != id {
			r.Fail(fmt.Errorf("terms are of channel %v, not %v", t.ID(), id))
		}
		m = Agreed{t}
	case typeReady:
		m = Ready{id}
	case typeCoins:
		m = readCoins(r, id)
	case typeTaken:
		m = Taken{id, receipt.ReadStamped(r)}
	default:
		r.Fail(fmt.Errorf("message type %d is not of a payword channel", typ))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("message type %d: %w", typ, err)
	}
	return m, nil
}

func readCoins(r *codec.Reader, id ID) Coins {
	m := Coins{ID: id, Epoch: r.Uvarint(), Index: uint64(r.Int(MaxLength, "index"))}
	r.Fill(m.Word[:])
	switch has := r.U8(); has {
	case 0:
	case 1:
		c := readCommitment(r)
		m.Commit = &c
		if c.Epoch != m.Epoch || c.Start > uint64(money.MaxAmount) {
			r.Fail(fmt.Errorf("commitment is to epoch %d from coin %d, in a message of epoch %d", c.Epoch, c.Start, m.Epoch))
		}
	default:
		r.Fail(fmt.Errorf("message has %d commitments", has))
	}
	m.Run = receipt.ReadRun(r)
	return m
}
