package serial

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// A Type says what a frame is for.
type Type uint8

// The types of frames; the package comment says what they carry.
const (
	Hello Type = 1 + iota
	Ack
	Data
	More
)

// A Frame is what stands between two zeros. Its payload has at most MaxPayload
// bytes.
type Frame struct {
	Type    Type
	Seq     uint8
	Payload []byte
}

// Append writes the frame with a zero on either side.
func (f Frame) Append(b []byte) []byte {
	plain := make([]byte, 0, maxPlain)
	plain = append(plain, byte(f.Type), f.Seq)
	plain = append(plain, f.Payload...)
	plain = binary.BigEndian.AppendUint16(plain, crc(plain))
	return append(stuff(append(b, 0), plain), 0)
}

// crc is CRC-16/CCITT-FALSE.
func crc(b []byte) uint16 {
	sum := uint16(0xffff)
	for _, c := range b {
		sum ^= uint16(c) << 8
		for range 8 {
			carry := sum >> 15
			sum = sum<<1 ^ carry*0x1021
		}
	}
	return sum
}

// stuff is COBS of at most 254 bytes: every zero becomes the distance to the next
// one, and a byte in front is the distance to the first.
func stuff(b, plain []byte) []byte {
	at := len(b)
	b = append(b, 0)
	for _, c := range plain {
		if c != 0 {
			b = append(b, c)
			continue
		}
		b[at] = byte(len(b) - at)
		at = len(b)
		b = append(b, 0)
	}
	b[at] = byte(len(b) - at)
	return b
}

var errStuffed = errors.New("bytes are not stuffed as COBS says")

// unstuff undoes stuff, in place. Only what stuff writes is accepted: with 254
// bytes without a zero another block could follow, and here none does.
func unstuff(b []byte) ([]byte, error) {
	for at := 0; at < len(b); {
		next := at + int(b[at])
		if b[at] == 0 || next > len(b) || bytes.IndexByte(b[at+1:next], 0) >= 0 || b[at] == 255 && next < len(b) {
			return nil, errStuffed
		}
		b[at] = 0
		at = next
	}
	if len(b) == 0 {
		return nil, errStuffed
	}
	return b[1:], nil
}

// A Deframer finds the frames in what a line brings, noise and all. The zero
// Deframer is ready.
type Deframer struct {
	buf  [maxCoded]byte
	n    int
	lost bool // too long to be a frame: wait for a zero

	Dropped uint64 // runs of bytes that were no frame
}

// Write takes bytes and calls yield with every frame that they complete. The
// payload is valid during the call.
func (d *Deframer) Write(b []byte, yield func(Frame)) {
	for _, c := range b {
		switch {
		case c == 0:
			d.end(yield)
		case d.n == len(d.buf):
			d.lost = true
		default:
			d.buf[d.n] = c
			d.n++
		}
	}
}

func (d *Deframer) end(yield func(Frame)) {
	coded, lost := d.buf[:d.n], d.lost
	d.n, d.lost = 0, false
	if len(coded) == 0 {
		return
	}
	if f, ok := parse(coded); ok && !lost {
		yield(f)
		return
	}
	d.Dropped++
}

// parse reads what stood between two zeros, in place.
func parse(coded []byte) (f Frame, ok bool) {
	plain, err := unstuff(coded)
	if err != nil || len(plain) < head+checksum {
		return f, false
	}
	body := plain[:len(plain)-checksum]
	if crc(body) != binary.BigEndian.Uint16(plain[len(body):]) {
		return f, false
	}
	f = Frame{Type(body[0]), body[1], body[head:]}
	switch f.Type {
	case Hello, Data, More:
		return f, true
	case Ack:
		return f, len(f.Payload) == 0
	}
	return f, false
}

// greeting is the payload of a HELLO.
type greeting struct {
	answer      bool
	mine, yours uint32
	max         uint16
	name        string
}

const (
	version      = 1
	flagAnswer   = 1
	greetingHead = 12
)

func (g greeting) append(b []byte) []byte {
	flags := byte(0)
	if g.answer {
		flags = flagAnswer
	}
	b = append(b, version, flags)
	b = binary.BigEndian.AppendUint32(b, g.mine)
	b = binary.BigEndian.AppendUint32(b, g.yours)
	b = binary.BigEndian.AppendUint16(b, g.max)
	return append(b, g.name...)
}

func readGreeting(b []byte) (g greeting, ok bool) {
	if len(b) < greetingHead || len(b) > greetingHead+maxName || b[0] != version {
		return g, false
	}
	g = greeting{
		answer: b[1]&flagAnswer != 0,
		mine:   binary.BigEndian.Uint32(b[2:]), yours: binary.BigEndian.Uint32(b[6:]),
		max: binary.BigEndian.Uint16(b[10:]), name: string(b[greetingHead:]),
	}
	return g, g.mine != 0 && g.max >= MinMessage
}
