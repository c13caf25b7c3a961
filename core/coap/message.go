// Package coap is the Constrained Application Protocol in bytes: messages and
// options (RFC 7252), block-wise transfer (RFC 7959), the order of notifications
// (RFC 7641), and how coinop offers and proves payments in them. It has no
// socket; that is world/link/coap.
package coap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
)

// Limits of a message.
const (
	// MaxMessage is what one Ethernet frame carries as UDP over IPv4, in bytes.
	MaxMessage = 1472
	MaxToken   = 8 // bytes
	MaxOptions = 48

	version    = 1
	headSize   = 4
	marker     = 0xff
	maxSegment = 255 // bytes of a Uri-Path or Uri-Query
)

// A Type is how a message is delivered (RFC 7252, section 4).
type Type uint8

// The four types.
const (
	Confirmable Type = iota
	NonConfirmable
	Acknowledgement
	Reset
)

// A Code is class and detail: 0x45 is 2.05.
type Code uint8

// Codes of RFC 7252, section 12.1, and RFC 7959, section 2.9.
const (
	Empty  Code = 0
	GET    Code = 1
	POST   Code = 2
	PUT    Code = 3
	DELETE Code = 4

	Created            Code = 2<<5 | 1
	Deleted            Code = 2<<5 | 2
	Valid              Code = 2<<5 | 3
	Changed            Code = 2<<5 | 4
	Content            Code = 2<<5 | 5
	Continue           Code = 2<<5 | 31
	BadRequest         Code = 4 << 5
	Unauthorized       Code = 4<<5 | 1
	BadOption          Code = 4<<5 | 2
	Forbidden          Code = 4<<5 | 3
	NotFound           Code = 4<<5 | 4
	MethodNotAllowed   Code = 4<<5 | 5
	NotAcceptable      Code = 4<<5 | 6
	Incomplete         Code = 4<<5 | 8
	TooLarge           Code = 4<<5 | 13
	UnsupportedFormat  Code = 4<<5 | 15
	InternalError      Code = 5 << 5
	ServiceUnavailable Code = 5<<5 | 3
	GatewayTimeout     Code = 5<<5 | 4
)

// Class is the digit before the point: 0 for a request, 2, 4 or 5 for a response.
func (c Code) Class() int { return int(c >> 5) }

// IsRequest reports whether c is a method.
func (c Code) IsRequest() bool { return c.Class() == 0 && c != Empty }

// String is "2.05".
func (c Code) String() string { return fmt.Sprintf("%d.%02d", c>>5, c&31) }

// A Number says what an option is.
type Number uint16

// Options of RFC 7252, section 5.10, RFC 7641, RFC 7959 and RFC 9175.
const (
	IfMatch       Number = 1
	URIHost       Number = 3
	ETag          Number = 4
	IfNoneMatch   Number = 5
	Observe       Number = 6
	URIPort       Number = 7
	LocationPath  Number = 8
	URIPath       Number = 11
	ContentFormat Number = 12
	MaxAge        Number = 14
	URIQuery      Number = 15
	Accept        Number = 17
	Block2        Number = 23
	Block1        Number = 27
	Size2         Number = 28
	ProxyURI      Number = 35
	ProxyScheme   Number = 39
	Size1         Number = 60
	Echo          Number = 252
	RequestTag    Number = 292
)

// Critical reports whether who does not know n must refuse the message.
func (n Number) Critical() bool { return n&1 == 1 }

// noCacheKey reports whether n does not tell one request from another (RFC 7252,
// section 5.4.6).
func (n Number) noCacheKey() bool { return n&0x1e == 0x1c }

// An Option is a number and its bytes.
type Option struct {
	Number Number
	Value  []byte
}

// A Message is a datagram. Options stand in the order of their numbers.
type Message struct {
	Type    Type
	Code    Code
	ID      uint16
	Token   []byte
	Options []Option
	Payload []byte
}

var (
	errVersion = errors.New("CoAP version is not 1")
	errToken   = fmt.Errorf("CoAP token is longer than %d bytes", MaxToken)
	errEmpty   = errors.New("empty CoAP message has something in it")
	errNibble  = errors.New("CoAP option has the reserved length 15")
	errPayload = errors.New("CoAP payload marker has no payload behind it")
)

// Head reads only type and message ID, to refuse what Decode cannot read.
func Head(b []byte) (t Type, id uint16, ok bool) {
	if len(b) < headSize || b[0]>>6 != version {
		return 0, 0, false
	}
	return Type(b[0] >> 4 & 3), binary.BigEndian.Uint16(b[2:]), true
}

// Decode reads a datagram. What it returns shares b's bytes.
func Decode(b []byte) (m Message, err error) {
	if len(b) > MaxMessage {
		return m, fmt.Errorf("CoAP message has %d bytes; the limit is %d: send it in blocks", len(b), MaxMessage)
	}
	r := codec.NewReader(b)
	first := r.U8()
	m.Type, m.Code, m.ID = Type(first>>4&3), Code(r.U8()), r.U16()
	switch {
	case r.Err() != nil:
		return m, r.Err()
	case first>>6 != version:
		return m, errVersion
	case first&15 > MaxToken:
		return m, errToken
	case m.Code == Empty && len(b) > headSize:
		return m, errEmpty
	}
	m.Token = r.Take(int(first & 15))
	for number := 0; r.Len() > 0 && r.Err() == nil; {
		delta, length, more := readHead(r)
		if !more {
			if m.Payload = r.Take(r.Len()); len(m.Payload) == 0 {
				r.Fail(errPayload)
			}
			break
		}
		if number += delta; number > 0xffff || len(m.Options) == MaxOptions {
			return m, fmt.Errorf("CoAP option %d, the %d. of its message: numbers end at 65535, and %d are the limit", number, len(m.Options)+1, MaxOptions)
		}
		m.Options = append(m.Options, Option{Number(number), r.Take(length)})
	}
	return m, r.Close()
}

// readHead reads an option's delta and length; more is false at the payload.
func readHead(r *codec.Reader) (delta, length int, more bool) {
	first := r.U8()
	if first == marker {
		return 0, 0, false
	}
	return readNibble(r, first>>4), readNibble(r, first&15), true
}

func readNibble(r *codec.Reader, n uint8) int {
	switch n {
	case 13:
		return int(r.U8()) + 13
	case 14:
		return int(r.U16()) + 269
	case 15:
		r.Fail(errNibble)
	}
	return int(n)
}

// Append encodes the message; its options are sorted already.
func (m Message) Append(b []byte) []byte {
	b = append(b, version<<6|byte(m.Type)<<4|byte(len(m.Token)), byte(m.Code))
	b = binary.BigEndian.AppendUint16(b, m.ID)
	b = append(b, m.Token...)
	last := Number(0)
	for _, o := range m.Options {
		delta, length := nibble(int(o.Number-last)), nibble(len(o.Value))
		b = append(b, delta<<4|length)
		b = appendNibble(b, int(o.Number-last))
		b = appendNibble(b, len(o.Value))
		b = append(b, o.Value...)
		last = o.Number
	}
	if len(m.Payload) > 0 {
		b = append(append(b, marker), m.Payload...)
	}
	return b
}

func nibble(n int) byte {
	switch {
	case n < 13:
		return byte(n)
	case n < 269:
		return 13
	}
	return 14
}

func appendNibble(b []byte, n int) []byte {
	switch nibble(n) {
	case 13:
		return append(b, byte(n-13))
	case 14:
		return binary.BigEndian.AppendUint16(b, uint16(n-269))
	}
	return b
}

// Add puts an option behind those with its number or a lower one.
func (m *Message) Add(n Number, value []byte) {
	at := len(m.Options)
	for at > 0 && m.Options[at-1].Number > n {
		at--
	}
	m.Options = slices.Insert(m.Options, at, Option{n, value})
}

// AddUint adds a number in its shortest form (RFC 7252, section 3.2).
func (m *Message) AddUint(n Number, v uint32) { m.Add(n, appendUint(nil, v)) }

func appendUint(b []byte, v uint32) []byte {
	for shift := 24; shift >= 0; shift -= 8 {
		if v>>shift != 0 {
			b = append(b, byte(v>>shift))
		}
	}
	return b
}

// Set is Add in place of all that m has of n.
func (m *Message) Set(n Number, value []byte) {
	m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o Option) bool { return o.Number == n })
	m.Add(n, value)
}

// Get is the first option n.
func (m Message) Get(n Number) (value []byte, ok bool) {
	for _, o := range m.Options {
		if o.Number == n {
			return o.Value, true
		}
	}
	return nil, false
}

// Uint is the first option n as a number; more than four bytes are not one.
func (m Message) Uint(n Number) (v uint32, ok bool) {
	b, ok := m.Get(n)
	if !ok || len(b) > 4 {
		return 0, false
	}
	for _, c := range b {
		v = v<<8 | uint32(c)
	}
	return v, true
}

// Path is "/a/b". A segment that has a slash in it, or is longer than a segment
// may be, makes it "".
func (m Message) Path() string {
	var path strings.Builder
	for _, o := range m.Options {
		if o.Number != URIPath {
			continue
		}
		if len(o.Value) > maxSegment || strings.Contains(string(o.Value), "/") {
			return ""
		}
		path.WriteString("/" + string(o.Value))
	}
	if path.Len() == 0 {
		return "/"
	}
	return path.String()
}

// SetPath adds path and query "/a/b?c=1" as options.
func (m *Message) SetPath(path string) {
	path, query, _ := strings.Cut(path, "?")
	for segment := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if segment != "" {
			m.Add(URIPath, []byte(segment))
		}
	}
	for part := range strings.SplitSeq(query, "&") {
		if part != "" {
			m.Add(URIQuery, []byte(part))
		}
	}
}

// Query is what the query says of key: "c" of "?c=1" is "1".
func (m Message) Query(key string) (value string, ok bool) {
	for _, o := range m.Options {
		if k, v, _ := strings.Cut(string(o.Value), "="); o.Number == URIQuery && k == key {
			return v, true
		}
	}
	return "", false
}

// Unknown is the first critical option that is not among known; 0 if there is
// none.
func (m Message) Unknown(known ...Number) Number {
	for _, o := range m.Options {
		if o.Number.Critical() && !slices.Contains(known, o.Number) {
			return o.Number
		}
	}
	return 0
}

// Key tells one request from another for a peer: its method and its options
// without those that only say which part of the exchange it is (RFC 7959,
// section 2.4).
func (m Message) Key() string {
	plain := Message{Code: m.Code}
	for _, o := range m.Options {
		switch o.Number {
		case Block1, Block2, Observe, Echo:
			continue
		}
		if !o.Number.noCacheKey() {
			plain.Options = append(plain.Options, o)
		}
	}
	return string(plain.Append(nil))
}
