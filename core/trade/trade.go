// Package trade is what a buyer and a seller say to each other about goods.
// Money is not mentioned twice: how an order is paid is the rail's business,
// and an order's ID ties the two together.
package trade

import (
	"encoding/binary"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
)

// Limits in bytes and items, per message.
const (
	MaxItems   = 256
	MaxName    = 64
	MaxPayload = 32 << 10
	MaxWhy     = 200
)

// Message types, odd and custom (BOLT 1).
const (
	typeBrowse = 0x8301 + 2*iota
	typeTariff
	typeBuy
	typeGoods
	typeGot
	typeDecline
	typeEnd
)

// Owns reports whether a message type belongs to this package.
func Owns(typ uint16) bool { return typ >= typeBrowse && typ < typeEnd && typ%2 == 1 }

// An Item is something a machine sells by the unit.
type Item struct {
	Name  string       `json:"name"`
	Unit  string       `json:"unit"`
	Price money.Amount `json:"price_msat"` // per unit
}

// Browse asks what is for sale.
type Browse struct{}

// Tariff answers Browse. PayTo is the payment URI of each rail the seller can
// be paid by, best first.
type Tariff struct {
	Items []Item
	PayTo []string
}

// Buy says what an order is for. The seller delivers when the order is paid, in
// whichever sequence the two arrive.
type Buy struct {
	Order money.OrderID
	Item  string
	Units uint64
}

// Goods delivers an order. Repeated ones carry the same payload.
type Goods struct {
	Order   money.OrderID
	Payload []byte
}

// Got says the buyer has the goods on its own disk; the seller may forget them.
type Got struct{ Order money.OrderID }

// Decline says an order will not be delivered for what it pays, and why.
type Decline struct {
	Order money.OrderID
	Due   money.Amount // what it would cost; 0 if it is not for sale
	Why   string
}

// A Message is one of the types above. Core names the core that takes it.
type Message interface {
	Core() string
	Append(b []byte) []byte
}

// The names of the two books, which lie below this package.
const (
	Buyer  = "spend"
	Seller = "earn"
)

// Claim is what a core tells the book of its own machine: Order pays for what
// that core has sold on credit, so its payment belongs to the core, as a
// step.Outcome, and is not earned a second time. It never goes over a link.
type Claim struct{ Order money.OrderID }

// Core is the seller's book.
func (Browse) Core() string { return Seller }

// Core is nobody: whoever browses waits for the answer itself.
func (Tariff) Core() string { return "" }

// Core is the seller's book.
func (Buy) Core() string { return Seller }

// Core is the buyer's book.
func (Goods) Core() string { return Buyer }

// Core is the seller's book.
func (Got) Core() string { return Seller }

// Core is the buyer's book.
func (Decline) Core() string { return Buyer }

func head(b []byte, typ uint16) []byte { return binary.BigEndian.AppendUint16(b, typ) }

// Append encodes the message behind its two-byte type.
func (Browse) Append(b []byte) []byte { return head(b, typeBrowse) }

// Append encodes the message behind its two-byte type.
func (m Tariff) Append(b []byte) []byte {
	b = codec.AppendUint(head(b, typeTariff), len(m.Items))
	for _, it := range m.Items {
		b = codec.AppendBytes(b, it.Name)
		b = codec.AppendBytes(b, it.Unit)
		b = codec.AppendUint(b, it.Price)
	}
	b = codec.AppendUint(b, len(m.PayTo))
	for _, uri := range m.PayTo {
		b = codec.AppendBytes(b, uri)
	}
	return b
}

// Append encodes the message behind its two-byte type.
func (m Buy) Append(b []byte) []byte {
	b = append(head(b, typeBuy), m.Order[:]...)
	b = codec.AppendBytes(b, m.Item)
	return codec.AppendUint(b, m.Units)
}

// Append encodes the message behind its two-byte type.
func (m Goods) Append(b []byte) []byte {
	return codec.AppendBytes(append(head(b, typeGoods), m.Order[:]...), m.Payload)
}

// Append encodes the message behind its two-byte type.
func (m Got) Append(b []byte) []byte { return append(head(b, typeGot), m.Order[:]...) }

// Append encodes the message behind its two-byte type.
func (m Decline) Append(b []byte) []byte {
	b = append(head(b, typeDecline), m.Order[:]...)
	b = codec.AppendUint(b, m.Due)
	return codec.AppendBytes(b, m.Why[:min(len(m.Why), MaxWhy)])
}

// maxURI bounds a payment URI in bytes, maxRails how many a tariff names.
const (
	maxURI   = 512
	maxRails = 16
)

// Decode reads one message. Anything that is not exactly one is an error.
func Decode(b []byte) (Message, error) {
	r := codec.NewReader(b)
	typ := r.U16()
	var m Message
	switch typ {
	case typeBrowse:
		m = Browse{}
	case typeTariff:
		m = readTariff(r)
	case typeBuy:
		m = Buy{readOrder(r), r.String(MaxName, "item"), r.Uvarint()}
	case typeGoods:
		m = Goods{readOrder(r), r.Bytes(MaxPayload, "payload")}
	case typeGot:
		m = Got{readOrder(r)}
	case typeDecline:
		m = Decline{readOrder(r), r.Amount(), r.String(MaxWhy, "reason")}
	default:
		r.Fail(fmt.Errorf("message type %d is not about trade", typ))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("message type %d: %w", typ, err)
	}
	return m, nil
}

func readOrder(r *codec.Reader) (id money.OrderID) {
	r.Fill(id[:])
	return id
}

func readTariff(r *codec.Reader) (t Tariff) {
	for n := r.Int(MaxItems, "number of items"); n > 0 && r.Err() == nil; n-- {
		t.Items = append(t.Items, Item{r.String(MaxName, "item"), r.String(MaxName, "unit"), r.Amount()})
	}
	for n := r.Int(maxRails, "number of rails"); n > 0 && r.Err() == nil; n-- {
		t.PayTo = append(t.PayTo, r.String(maxURI, "payment URI"))
	}
	return t
}
