package mqtt

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Packet types (MQTT 5, section 2.1.2), as the high half of a first byte.
const (
	typeConnect     = 0x10
	typeConnack     = 0x20
	typePublish     = 0x30
	typePuback      = 0x40
	typeSubscribe   = 0x82
	typeSuback      = 0x90
	typeUnsubscribe = 0xa2
	typeUnsuback    = 0xb0
	typePingreq     = 0xc0
	typePingresp    = 0xd0
	typeDisconnect  = 0xe0
	flagRetain      = 1
	protocolLevel5  = 5
	protocolLevel31 = 4 // 3.1.1
)

// Properties of MQTT 5 (section 2.2.2.2) that are written or kept.
const (
	propResponseTopic   = 0x08
	propCorrelationData = 0x09
	propReasonString    = 0x1f
	propUser            = 0x26

	propAssignedClientID    = 0x12
	propServerKeepalive     = 0x13
	propReceiveMaximum      = 0x21
	propMaximumQoS          = 0x24
	propMaximumPacket       = 0x27
	propSubscriptionIDs     = 0x29
	propSharedSubscriptions = 0x2a
)

var errMalformed = errors.New("packet is malformed")

func appendString[T ~string | ~[]byte](b []byte, s T) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// appendVarint is a variable byte integer, which is a uvarint of at most four
// bytes (section 1.5.5).
func appendVarint(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

func varintSize(n int) int {
	size := 1
	for ; n >= 128; n >>= 7 {
		size++
	}
	return size
}

func userSize(user []Property) (n int) {
	for _, p := range user {
		n += 5 + len(p.Name) + len(p.Value)
	}
	return n
}

func appendUser(b []byte, user []Property) []byte {
	for _, p := range user {
		b = appendString(append(b, propUser), p.Name)
		b = appendString(b, p.Value)
	}
	return b
}

// appendPublish writes a PUBLISH packet. id is not 0 if m.QoS is 1.
func appendPublish(b []byte, m *Message, id uint16, v5 bool) []byte {
	size := 2 + len(m.Topic) + len(m.Payload)
	if m.QoS > 0 {
		size += 2
	}
	props := 0
	if v5 {
		if m.Reply != "" {
			props += 3 + len(m.Reply)
		}
		if m.Match != nil {
			props += 3 + len(m.Match)
		}
		props += userSize(m.User)
		size += varintSize(props) + props
	}
	first := byte(typePublish) | m.QoS<<1
	if m.Retain {
		first |= flagRetain
	}
	b = appendVarint(append(b, first), size)
	b = appendString(b, m.Topic)
	if m.QoS > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	if v5 {
		b = appendVarint(b, props)
		if m.Reply != "" {
			b = appendString(append(b, propResponseTopic), m.Reply)
		}
		if m.Match != nil {
			b = appendString(append(b, propCorrelationData), m.Match)
		}
		b = appendUser(b, m.User)
	}
	return append(b, m.Payload...)
}

// appendPuback writes a PUBACK packet. MQTT 3.1.1 has no room for a verdict.
func appendPuback(b []byte, id uint16, v Verdict, v5 bool) []byte {
	if !v5 || v.Code == Success && len(v.User) == 0 {
		return binary.BigEndian.AppendUint16(append(b, typePuback, 2), id)
	}
	props := userSize(v.User)
	b = appendVarint(append(b, typePuback), 3+varintSize(props)+props)
	b = append(binary.BigEndian.AppendUint16(b, id), v.Code)
	return appendUser(appendVarint(b, props), v.User)
}

func appendConnect(b []byte, l Login, will *Message, keepalive uint16, v5 bool) []byte {
	var body []byte
	level := byte(protocolLevel31)
	if v5 {
		level = protocolLevel5
	}
	flags := byte(2) // clean start
	if l.User != "" {
		flags |= 0xc0
	}
	if will != nil {
		flags |= 4 | will.QoS<<3
	}
	body = append(appendString(body, "MQTT"), level, flags)
	body = binary.BigEndian.AppendUint16(body, keepalive)
	if v5 {
		body = append(body, 0)
	}
	body = appendString(body, l.ClientID)
	if will != nil {
		if v5 {
			body = append(body, 0)
		}
		body = appendString(appendString(body, will.Topic), will.Payload)
	}
	if l.User != "" {
		body = appendString(appendString(body, l.User), l.Password)
	}
	return append(appendVarint(append(b, typeConnect), len(body)), body...)
}

func appendSubscribe(b []byte, id uint16, qos byte, v5 bool, filters ...string) []byte {
	body := binary.BigEndian.AppendUint16(nil, id)
	if v5 {
		body = append(body, 0)
	}
	for _, f := range filters {
		body = append(appendString(body, f), qos)
	}
	return append(appendVarint(append(b, typeSubscribe), len(body)), body...)
}

// readPacket reads one packet into buf, which it returns, grown if need be.
func readPacket(r *bufio.Reader, buf []byte) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, buf, err
	}
	size := 0
	for shift := 0; ; shift += 7 {
		c, err := r.ReadByte()
		if err != nil {
			return 0, buf, err
		}
		size |= int(c&0x7f) << shift
		if c < 0x80 {
			break
		}
		if shift == 21 {
			return 0, buf, errMalformed
		}
	}
	if size > MaxPacket {
		return 0, buf, fmt.Errorf("packet is %d bytes; the limit is %d", size, MaxPacket)
	}
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	_, err = io.ReadFull(r, buf)
	return first, buf, err
}

// fields reads what append… writes. Its first failure sticks.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if n > len(f.b) {
		f.b, f.bad = nil, true
		return nil
	}
	taken := f.b[:n:n]
	f.b = f.b[n:]
	return taken
}

func (f *fields) u8() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) u16() uint16 {
	if b := f.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (f *fields) bytes() []byte { return f.take(int(f.u16())) }

func (f *fields) varint() int {
	v, n := binary.Uvarint(f.b)
	if n <= 0 || n > 4 {
		f.b, f.bad = nil, true
		return 0
	}
	f.b = f.b[n:]
	return int(v)
}

// properties reads a property section, and keeps those that this door knows.
func (f *fields) properties(m *Message) {
	p := fields{b: f.take(f.varint())}
	for len(p.b) > 0 {
		switch id := p.u8(); id {
		case 0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2a:
			p.take(1)
		case 0x13, 0x21, 0x22, 0x23:
			p.take(2)
		case 0x02, 0x11, 0x18, 0x27:
			p.take(4)
		case 0x0b:
			p.varint()
		case propResponseTopic:
			m.Reply = string(p.bytes())
		case propCorrelationData:
			m.Match = bytes.Clone(p.bytes())
		case 0x03, 0x12, 0x15, 0x16, 0x1a, 0x1c, propReasonString:
			p.bytes()
		case propUser:
			name, value := p.bytes(), p.bytes()
			if len(m.User) < MaxUser {
				m.User = append(m.User, Property{string(name), string(value)})
			}
		default:
			p.bad, p.b = true, nil
		}
	}
	f.bad = f.bad || p.bad
}

// parsePublish reads the body of a PUBLISH. The payload is not copied.
func parsePublish(first byte, body []byte, v5 bool) (m Message, id uint16, err error) {
	f := fields{b: body}
	m.QoS, m.Retain = first>>1&3, first&flagRetain != 0
	m.Topic = string(f.bytes())
	if m.QoS > 0 {
		id = f.u16()
	}
	if v5 {
		f.properties(&m)
	}
	if f.bad || m.QoS > 1 || m.QoS == 1 && id == 0 {
		return Message{}, 0, errMalformed
	}
	m.Payload = f.b
	return m, id, nil
}

// parsePuback reads the body of a PUBACK.
func parsePuback(body []byte, v5 bool) (id uint16, v Verdict, err error) {
	f := fields{b: body}
	id = f.u16()
	if v5 && len(f.b) > 0 {
		v.Code = f.u8()
		if len(f.b) > 0 {
			var m Message
			f.properties(&m)
			v.User = m.User
		}
	}
	if f.bad || len(f.b) > 0 {
		return 0, Verdict{}, errMalformed
	}
	return id, v, nil
}
