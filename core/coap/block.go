package coap

import (
	"errors"
	"fmt"
)

// Limits of block-wise transfer.
const (
	MaxBlock = 1024 // bytes; its exponent is MaxSZX
	MaxSZX   = 6
	MaxBody  = 64 << 10 // bytes of a body in blocks: a message of world/link
	maxNum   = 1<<20 - 1
)

// A Block is the value of Block1 and Block2: which block of which size, and
// whether more follow.
type Block struct {
	Num  uint32
	More bool
	SZX  uint8 // the size is 16 << SZX
}

var errBlock = errors.New("CoAP block option has more than 3 bytes or the reserved size 7")

// Block reads option n. ok is false if there is none.
func (m Message) Block(n Number) (b Block, ok bool, err error) {
	raw, ok := m.Get(n)
	if !ok {
		return b, false, nil
	}
	v, _ := m.Uint(n)
	b = Block{v >> 4, v&8 != 0, uint8(v & 7)}
	if len(raw) > 3 || b.SZX > MaxSZX {
		return b, true, errBlock
	}
	return b, true, nil
}

// Value is the option's number, for AddUint.
func (b Block) Value() uint32 {
	v := b.Num<<4 | uint32(b.SZX)
	if b.More {
		v |= 8
	}
	return v
}

// Size is the block's size in bytes.
func (b Block) Size() int { return 16 << b.SZX }

// Start is where the block begins in the body.
func (b Block) Start() int { return int(b.Num) * b.Size() }

// Cut is block b of body and b with More as it is. A block behind the end is an
// error.
func (b Block) Cut(body []byte) ([]byte, Block, error) {
	start := b.Start()
	if b.Num > maxNum || start > len(body) || start == len(body) && start > 0 {
		return nil, b, fmt.Errorf("block %d of %d bytes lies behind the end of %d bytes", b.Num, b.Size(), len(body))
	}
	end := min(start+b.Size(), len(body))
	b.More = end < len(body)
	return body[start:end], b, nil
}

// An Assembly is a body that comes block by block, in order.
type Assembly struct{ Body []byte }

// ErrOrder means that a block is not the next one: the sender must begin again.
var ErrOrder = errors.New("a block is missing before this one: begin again with block 0")

// Take adds a block. The block that came last may come again. Block 0 begins
// anew.
func (a *Assembly) Take(b Block, payload []byte) error {
	start := b.Start()
	switch {
	case b.More && len(payload) != b.Size() || len(payload) > b.Size():
		return fmt.Errorf("block %d has %d bytes; its size is %d", b.Num, len(payload), b.Size())
	case b.Num == 0:
		a.Body = nil
	case start == len(a.Body)-len(payload) && len(payload) > 0:
		return nil
	case start != len(a.Body):
		return ErrOrder
	}
	if start+len(payload) > MaxBody {
		return fmt.Errorf("body has more than %d bytes", MaxBody)
	}
	a.Body = append(a.Body, payload...)
	return nil
}

// Newer reports whether the notification with number b, which came elapsed
// milliseconds after the one with number a, is the newer one (RFC 7641, section
// 3.4).
func Newer(a, b uint32, elapsed int64) bool {
	return a < b && b-a < 1<<23 || a > b && a-b > 1<<23 || elapsed > 128_000
}
