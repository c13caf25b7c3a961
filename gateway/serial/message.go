package serial

import (
	"encoding/binary"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

// Limits of a message, in bytes: what a display shows and a microcontroller keeps.
const (
	MaxText    = 128
	MaxPay     = 1024
	MaxToken   = 512
	MaxReading = 256
	maxState   = 16
	maxTime    = 1<<48 - 1
)

// Message types, odd and custom (BOLT 1). They go over a serial line only.
const (
	typePrice = 0x9101 + 2*iota
	typeAsk
	typeOffer
	typeState
	typeMeter
	typeLeft
	typePrepay
	typeNo
	typeEnd
)

// Owns reports whether a message type belongs to this package.
func Owns(typ uint16) bool { return typ >= typePrice && typ < typeEnd && typ%2 == 1 }

// A Message is one of those below.
type Message interface{ Append(b []byte) []byte }

// Price is something for sale, for the display. Amount is for Per units; it is 0 if
// the price is only known when it is asked for, and Text says it.
type Price struct {
	Service string
	Unit    string
	Per     uint64
	Amount  money.Amount
	Text    string
}

// Ask says that somebody wants to buy: a button was pressed. Its number is told
// again in the Offer or the No.
type Ask struct {
	Nonce   uint32
	Service string
	Units   uint64
}

// Prepay is Ask for a session: units that are paid now and metered later.
type Prepay struct {
	Nonce   uint32
	Service string
	Units   uint64
}

// Offer is what the display shows as a QR code, and until when.
type Offer struct {
	Nonce   uint32 // 0 if nobody asked
	Order   money.OrderID
	Service string
	Units   uint64
	Due     money.Amount
	Until   step.Time
	Pay     string // payment URI; empty if it is free
	Token   []byte // to buy it at another door; empty if it is longer than MaxToken
}

// State says what has become of an offer: paid, delivered, settled, refunded,
// expired or failed.
type State struct {
	Order money.OrderID
	State string
	Why   string
}

// Meter says how many units have been given in a session since its start. It is
// cumulative: one that is lost does no harm.
type Meter struct {
	Session money.OrderID
	Service string
	Total   uint64
	Reading []byte
}

// Left answers a Meter: up to Total all is paid. Without Go the device must stop.
type Left struct {
	Session money.OrderID
	Total   uint64
	Amount  money.Amount
	Go      bool
}

// No refuses an Ask or a Prepay, or with nonce 0 whatever came last.
type No struct {
	Nonce uint32
	Why   string
}

func head(b []byte, typ uint16) []byte { return binary.BigEndian.AppendUint16(b, typ) }

func cut(text string, limit int) string { return text[:min(len(text), limit)] }

// Append encodes the message behind its two-byte type.
func (m Price) Append(b []byte) []byte {
	b = codec.AppendBytes(head(b, typePrice), m.Service)
	b = codec.AppendBytes(b, m.Unit)
	b = codec.AppendUint(b, m.Per)
	b = codec.AppendUint(b, m.Amount)
	return codec.AppendBytes(b, cut(m.Text, MaxText))
}

// Append encodes the message behind its two-byte type.
func (m Ask) Append(b []byte) []byte { return appendAsk(head(b, typeAsk), m) }

// Append encodes the message behind its two-byte type.
func (m Prepay) Append(b []byte) []byte { return appendAsk(head(b, typePrepay), Ask(m)) }

func appendAsk(b []byte, m Ask) []byte {
	b = binary.BigEndian.AppendUint32(b, m.Nonce)
	b = codec.AppendBytes(b, m.Service)
	return codec.AppendUint(b, m.Units)
}

// Append encodes the message behind its two-byte type.
func (m Offer) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(head(b, typeOffer), m.Nonce)
	b = append(b, m.Order[:]...)
	b = codec.AppendBytes(b, m.Service)
	b = codec.AppendUint(b, m.Units)
	b = codec.AppendUint(b, m.Due)
	b = codec.AppendUint(b, uint64(m.Until))
	b = codec.AppendBytes(b, m.Pay)
	return codec.AppendBytes(b, m.Token)
}

// Append encodes the message behind its two-byte type.
func (m State) Append(b []byte) []byte {
	b = append(head(b, typeState), m.Order[:]...)
	b = codec.AppendBytes(b, m.State)
	return codec.AppendBytes(b, cut(m.Why, trade.MaxWhy))
}

// Append encodes the message behind its two-byte type.
func (m Meter) Append(b []byte) []byte {
	b = append(head(b, typeMeter), m.Session[:]...)
	b = codec.AppendBytes(b, m.Service)
	b = codec.AppendUint(b, m.Total)
	return codec.AppendBytes(b, m.Reading)
}

// Append encodes the message behind its two-byte type.
func (m Left) Append(b []byte) []byte {
	b = append(head(b, typeLeft), m.Session[:]...)
	b = codec.AppendUint(b, m.Total)
	b = codec.AppendUint(b, m.Amount)
	if m.Go {
		return append(b, 1)
	}
	return append(b, 0)
}

// Append encodes the message behind its two-byte type.
func (m No) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(head(b, typeNo), m.Nonce)
	return codec.AppendBytes(b, cut(m.Why, trade.MaxWhy))
}

// Decode reads one message. Anything that is not exactly one is an error.
func Decode(b []byte) (Message, error) {
	r := codec.NewReader(b)
	typ := r.U16()
	var m Message
	switch typ {
	case typePrice:
		m = Price{r.String(trade.MaxName, "service"), r.String(trade.MaxName, "unit"), r.Uvarint(), r.Amount(), r.String(MaxText, "text")}
	case typeAsk:
		m = readAsk(r)
	case typePrepay:
		m = Prepay(readAsk(r))
	case typeOffer:
		o := Offer{Nonce: r.U32()}
		r.Fill(o.Order[:])
		o.Service, o.Units, o.Due = r.String(trade.MaxName, "service"), r.Uvarint(), r.Amount()
		o.Until = step.Time(r.Uint(maxTime, "time"))
		o.Pay, o.Token = r.String(MaxPay, "payment URI"), r.Bytes(MaxToken, "token")
		m = o
	case typeState:
		s := State{}
		r.Fill(s.Order[:])
		s.State, s.Why = r.String(maxState, "state"), r.String(trade.MaxWhy, "reason")
		m = s
	case typeMeter:
		v := Meter{}
		r.Fill(v.Session[:])
		v.Service, v.Total, v.Reading = r.String(trade.MaxName, "service"), r.Uvarint(), r.Bytes(MaxReading, "reading")
		m = v
	case typeLeft:
		v := Left{}
		r.Fill(v.Session[:])
		v.Total, v.Amount, v.Go = r.Uvarint(), r.Amount(), r.Int(1, "flag") == 1
		m = v
	case typeNo:
		m = No{r.U32(), r.String(trade.MaxWhy, "reason")}
	default:
		r.Fail(fmt.Errorf("message type %d is not of a serial line", typ))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("message type %d: %w", typ, err)
	}
	return m, nil
}

func readAsk(r *codec.Reader) Ask {
	return Ask{r.U32(), r.String(trade.MaxName, "service"), r.Uvarint()}
}
