package tangle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"coinop.dev/core/codec"
)

// Kinds of payload.
const (
	TypeTaggedData  uint32 = 5
	TypeTransaction uint32 = 6
	TypeMilestone   uint32 = 7
)

// A Block is a vertex of the Tangle (TIP-24).
type Block struct {
	Protocol uint8
	Parents  []BlockID // 1 to MaxParents, ascending, unique
	Payload  Payload   // nil is none
	Nonce    uint64    // see Mine
}

// A Payload is *TaggedData, *Transaction or *Milestone.
type Payload interface {
	Type() uint32
	Append([]byte) []byte // with the type
	check() error         // what the format alone demands
}

// NonceSize is how many bytes of a block follow what its work is done for.
const NonceSize = 8

// ID is the block's name.
func (b *Block) ID() BlockID { return IDOf(b.Append(nil)) }

// Append encodes the block.
func (b *Block) Append(raw []byte) []byte {
	return binary.LittleEndian.AppendUint64(b.AppendUnworked(raw), b.Nonce)
}

// AppendUnworked encodes the block without its nonce, as Mine takes it.
func (b *Block) AppendUnworked(raw []byte) []byte {
	raw = appendParents(append(raw, b.Protocol), b.Parents)
	if b.Payload == nil {
		return binary.LittleEndian.AppendUint32(raw, 0)
	}
	return appendSized(raw, b.Payload)
}

// appendSized writes the length of a payload, four bytes, and the payload.
func appendSized(raw []byte, p Payload) []byte {
	at := len(raw)
	raw = p.Append(append(raw, 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(raw[at:], uint32(len(raw)-at-4))
	return raw
}

// DecodeBlock reads exactly one block and checks all that can be without
// knowing the network. It keeps nothing of raw.
func DecodeBlock(raw []byte) (*Block, error) {
	if len(raw) > MaxBlockSize {
		return nil, fmt.Errorf("block is %d bytes; the limit is %d", len(raw), MaxBlockSize)
	}
	r := reader{codec.NewReader(raw)}
	b := &Block{Protocol: r.U8(), Parents: r.parents()}
	if n := r.le32(); n != 0 {
		b.Payload = r.payload(n)
	}
	b.Nonce = r.le64()
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("block: %w", err)
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("block: %w", err)
	}
	return b, nil
}

// check is TIP-24's syntactic validation but for the network and the work.
func (b *Block) check() error {
	if b.Protocol != Protocol {
		return fmt.Errorf("protocol version is %d; only %d is spoken here", b.Protocol, Protocol)
	}
	if err := checkParents(b.Parents); err != nil {
		return err
	}
	if b.Payload == nil {
		return nil
	}
	if err := b.Payload.check(); err != nil {
		return err
	}
	if m, ok := b.Payload.(*Milestone); ok && !equalParents(m.Parents, b.Parents) {
		return errors.New("a milestone's parents must be its block's (TIP-29)")
	}
	return nil
}

// Check is what DecodeBlock did not check: that the payload is one of the
// network n. It checks neither work nor signatures, which Zeros and
// eddsa.Batch do for many blocks at once.
func (b *Block) Check(n *Network) error {
	if err := b.check(); err != nil {
		return err
	}
	switch p := b.Payload.(type) {
	case *Transaction:
		return p.Check(n)
	case *Milestone:
		return p.Check(n)
	}
	return nil
}

func checkParents(ids []BlockID) error {
	if len(ids) < 1 || len(ids) > MaxParents {
		return fmt.Errorf("there are %d parents; there must be 1 to %d", len(ids), MaxParents)
	}
	for i := range ids[1:] {
		if bytes.Compare(ids[i][:], ids[i+1][:]) >= 0 {
			return errors.New("parents must ascend and differ")
		}
	}
	return nil
}

func equalParents(a, b []BlockID) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func appendParents(raw []byte, ids []BlockID) []byte {
	raw = append(raw, byte(len(ids)))
	for _, id := range ids {
		raw = append(raw, id[:]...)
	}
	return raw
}

// TaggedData is data with a tag that means something to whom it is for
// (TIP-23).
type TaggedData struct {
	Tag  []byte // at most MaxTagSize bytes
	Data []byte
}

// Type is TypeTaggedData.
func (*TaggedData) Type() uint32 { return TypeTaggedData }

// Append encodes the payload.
func (d *TaggedData) Append(raw []byte) []byte {
	raw = binary.LittleEndian.AppendUint32(raw, TypeTaggedData)
	raw = append(append(raw, byte(len(d.Tag))), d.Tag...)
	return append(binary.LittleEndian.AppendUint32(raw, uint32(len(d.Data))), d.Data...)
}

func (d *TaggedData) check() error {
	if len(d.Tag) > MaxTagSize {
		return fmt.Errorf("tag is %d bytes; the limit is %d", len(d.Tag), MaxTagSize)
	}
	if len(d.Data) > MaxBlockSize {
		return fmt.Errorf("data is %d bytes; the limit is a block's %d", len(d.Data), MaxBlockSize)
	}
	return nil
}

func (r reader) taggedData() *TaggedData {
	d := new(TaggedData)
	d.Tag = r.bytes(uint32(r.U8()), MaxTagSize, "tag")
	d.Data = r.bytes(r.le32(), MaxBlockSize, "data")
	return d
}

// A reader reads little-endian numbers, as all of this format is.
type reader struct{ *codec.Reader }

func (r reader) le16() uint16 {
	if b := r.Take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r reader) le32() uint32 {
	if b := r.Take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r reader) le64() uint64 {
	if b := r.Take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// count takes a count that must be at most limit.
func (r reader) count(n, limit int, what string) int {
	if n > limit {
		r.Fail(fmt.Errorf("%d %s; the limit is %d", n, what, limit))
		return 0
	}
	return n
}

// bytes copies n bytes, of which there may be limit.
func (r reader) bytes(n uint32, limit int, what string) []byte {
	if int64(n) > int64(limit) {
		r.Fail(fmt.Errorf("%s is %d bytes; the limit is %d", what, n, limit))
	}
	if n == 0 || r.Err() != nil {
		return nil
	}
	return append([]byte(nil), r.Take(int(n))...)
}

func (r reader) parents() []BlockID {
	n := r.count(int(r.U8()), MaxParents, "parents")
	ids := make([]BlockID, n)
	for i := range ids {
		r.Fill(ids[i][:])
	}
	return ids
}

// kind reads a byte that must be want.
func (r reader) kind(want uint8, what string) {
	if got := r.U8(); got != want {
		r.Fail(fmt.Errorf("%s has type %d; only %d is known here", what, got, want))
	}
}

// payload reads a payload of exactly n bytes.
func (r reader) payload(n uint32) Payload {
	if int64(n) > int64(r.Len()) {
		r.Fail(codec.ErrShort)
		return nil
	}
	before := r.Len()
	var p Payload
	switch typ := r.le32(); typ {
	case TypeTaggedData:
		p = r.taggedData()
	case TypeTransaction:
		p = r.transaction()
	case TypeMilestone:
		p = r.milestone()
	default:
		r.Fail(fmt.Errorf("payload has type %d; 5, 6 and 7 are known here", typ))
	}
	if used := before - r.Len(); r.Err() == nil && used != int(n) {
		r.Fail(fmt.Errorf("payload is %d bytes and says %d", used, n))
	}
	return p
}
