// Package fragment carries a message over a radio whose frames are small: it is
// split into frames of at most FrameSize bytes, joined whatever their order, and
// what is lost is sent again, and only that.
//
// A data frame is
//
//	0xd5  id:2  index:1  last:1  part
//
// with the message's frames numbered from 0 to last, all parts of one length but
// the last, which may be shorter. The parts are the message and four bytes of
// its SHA-256 behind it. The answer to a frame is
//
//	0xda  id:2  last:1  bitmap
//
// with a bit for each frame that is there, bit 0 of the first byte for frame 0.
//
// The sum finds accidents: a lost frame, two messages of one id. It keeps out no
// attacker; what is carried says itself who made it (COSE, core/consent).
package fragment

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// FrameSize is the payload of a LoRaWAN frame at the slowest data rate of
	// EU868 (Regional Parameters RP002, N at DR0).
	FrameSize = 51
	// MinFrame is the smallest frame that Split can use: the answer to MaxFrames
	// frames has 36 bytes.
	MinFrame = 36
	// MaxFrames bounds the frames of a message: an index is a byte.
	MaxFrames = 256
	// MaxMessage is the longest message in bytes, in frames of FrameSize.
	MaxMessage = MaxFrames*(FrameSize-dataHead) - sumSize
	// MaxOpen bounds the messages that a Joiner has parts of. One more drops the
	// one that was touched longest ago.
	MaxOpen = 4
	// MaxDone bounds the messages that a Joiner remembers to have joined, so that
	// a late frame does not begin one anew.
	MaxDone = 8
)

const (
	kindData = 0xd5
	kindAck  = 0xda
	dataHead = 5
	ackHead  = 4
	sumSize  = 4
)

var (
	// ErrForeign means that a frame is none of ours, or damaged.
	ErrForeign = errors.New("frame is not a fragment")
	// ErrSum means that the frames of a message do not belong together. They
	// are dropped; the answer asks for all of them.
	ErrSum = errors.New("fragments do not add up to their message")
)

// Split cuts a message into frames of at most size bytes. Of two messages that
// are on their way at once the id must differ.
func Split(id uint16, message []byte, size int) ([][]byte, error) {
	if size < MinFrame || size > FrameSize {
		return nil, fmt.Errorf("frame of %d bytes; it must be %d to %d", size, MinFrame, FrameSize)
	}
	sum := sha256.Sum256(message)
	b := append(bytes.Clone(message), sum[:sumSize]...)
	part := size - dataHead
	n := (len(b) + part - 1) / part
	if n > MaxFrames {
		return nil, fmt.Errorf("message of %d bytes; the limit in frames of %d is %d", len(message), size, MaxFrames*part-sumSize)
	}
	frames := make([][]byte, n)
	for i := range frames {
		f := binary.BigEndian.AppendUint16([]byte{kindData}, id)
		f = append(f, byte(i), byte(n-1))
		frames[i] = append(f, b[i*part:min((i+1)*part, len(b))]...)
	}
	return frames, nil
}

// Missing reads an answer: which of the frames are to be sent again. done means
// none, for the message is there. An answer to another message changes nothing
// and is neither.
func Missing(frames [][]byte, answer []byte) (again [][]byte, done bool, err error) {
	last := len(frames) - 1
	if len(answer) < ackHead || answer[0] != kindAck || len(frames) == 0 || len(answer) != ackHead+int(answer[3])/8+1 {
		return nil, false, fmt.Errorf("%w: answer of %d bytes", ErrForeign, len(answer))
	}
	if !bytes.Equal(answer[1:3], frames[0][1:3]) || int(answer[3]) != last {
		return nil, false, nil
	}
	for i, f := range frames {
		if answer[ackHead+i/8]>>(i%8)&1 == 0 {
			again = append(again, f)
		}
	}
	return again, len(again) == 0, nil
}

// A Joiner joins the frames that one peer sends. The zero Joiner is ready.
type Joiner struct {
	open []*partial // touched last stands last
	done []finished // joined last stands last
}

type partial struct {
	id    uint16
	last  byte
	parts [][]byte
	have  int
}

type finished struct {
	id   uint16
	last byte
}

// Take takes one frame. message is not nil when it was the last that was
// missing. answer says what is there now; the peer wants it when it stops
// hearing, or after every frame if that costs nothing. A frame that is refused
// changes nothing and has no answer, but for ErrSum.
func (j *Joiner) Take(frame []byte) (message, answer []byte, err error) {
	if len(frame) <= dataHead || len(frame) > FrameSize || frame[0] != kindData || frame[3] > frame[4] {
		return nil, nil, fmt.Errorf("%w: %d bytes", ErrForeign, len(frame))
	}
	id, index, last := binary.BigEndian.Uint16(frame[1:]), int(frame[3]), frame[4]
	for _, f := range j.done {
		if f == (finished{id, last}) {
			return nil, full(id, last), nil
		}
	}
	p := j.partial(id, last)
	part := bytes.Clone(frame[dataHead:])
	if p.parts[index] != nil && !bytes.Equal(p.parts[index], part) {
		*p = newPartial(id, last) // the id names a new message
	}
	if p.parts[index] == nil {
		p.parts[index] = part
		p.have++
	}
	if p.have <= int(last) {
		return nil, p.answer(), nil
	}
	j.open = j.open[:len(j.open)-1]
	if message, err = p.join(); err != nil {
		*p = newPartial(id, last)
		return nil, p.answer(), fmt.Errorf("message %d of %d frames: %w", id, int(last)+1, err)
	}
	if j.done = append(j.done, finished{id, last}); len(j.done) > MaxDone {
		j.done = j.done[1:]
	}
	return message, full(id, last), nil
}

// Forget lets the ids be used again, after a restart of the peer.
func (j *Joiner) Forget() { *j = Joiner{} }

// partial finds the message of a frame, or begins it, and puts it last.
func (j *Joiner) partial(id uint16, last byte) *partial {
	for i, p := range j.open {
		if p.id == id {
			if p.last != last {
				*p = newPartial(id, last)
			}
			j.open = append(append(j.open[:i:i], j.open[i+1:]...), p)
			return p
		}
	}
	if len(j.open) == MaxOpen {
		j.open = j.open[1:]
	}
	p := newPartial(id, last)
	j.open = append(j.open, &p)
	return &p
}

func newPartial(id uint16, last byte) partial {
	return partial{id: id, last: last, parts: make([][]byte, int(last)+1)}
}

func (p *partial) join() ([]byte, error) {
	size := len(p.parts[0])
	for i, part := range p.parts {
		if i < int(p.last) && len(part) != size || len(part) > size {
			return nil, ErrSum
		}
	}
	b := bytes.Join(p.parts, nil)
	if len(b) < sumSize {
		return nil, ErrSum
	}
	message := b[: len(b)-sumSize : len(b)-sumSize]
	if sum := sha256.Sum256(message); !bytes.Equal(sum[:sumSize], b[len(b)-sumSize:]) {
		return nil, ErrSum
	}
	return message, nil
}

func (p *partial) answer() []byte {
	b := blank(p.id, p.last)
	for i, part := range p.parts {
		if part != nil {
			b[ackHead+i/8] |= 1 << (i % 8)
		}
	}
	return b
}

func full(id uint16, last byte) []byte {
	b := blank(id, last)
	for i := range int(last) + 1 {
		b[ackHead+i/8] |= 1 << (i % 8)
	}
	return b
}

func blank(id uint16, last byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{kindAck}, id)
	b = append(b, last)
	return append(b, make([]byte, int(last)/8+1)...)
}
