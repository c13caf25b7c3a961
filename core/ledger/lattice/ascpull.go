package lattice

import (
	"encoding/binary"
	"errors"
	"fmt"

	"coinop.dev/core/codec"
)

const (
	// MaxPullBlocks is how many blocks one answer has.
	MaxPullBlocks = 128
	// MaxFrontiers is how many frontiers one answer has.
	MaxFrontiers = 1000

	ascHead      = 1 + 8
	frontierSize = 32 + 32
)

// What an asc_pull asks for.
const (
	pullBlocks    = 1
	pullAccount   = 2
	pullFrontiers = 3
)

// An AscPullReq asks for a part of the ledger; the answer has its ID.
type AscPullReq struct {
	ID  uint64
	Ask Ask
}

// An Ask is an AskBlocks, an AskAccount or an AskFrontiers.
type Ask interface {
	ask() uint8
	appendAsk(b []byte) []byte
}

// AskBlocks asks for blocks of an account in ascending order.
type AskBlocks struct {
	Start   [32]byte // a block's hash, or an account, whose first block is meant
	Count   uint8    // at most MaxPullBlocks are answered
	ByBlock bool     // Start is a hash
}

// AskAccount asks where an account stands.
type AskAccount struct {
	Target  [32]byte
	ByBlock bool // Target is the hash of any of its blocks
}

// AskFrontiers asks for the newest blocks of accounts in ascending order of their
// keys.
type AskFrontiers struct {
	Start Key
	Count uint16 // at most MaxFrontiers are answered
}

func (AskBlocks) ask() uint8    { return pullBlocks }
func (AskAccount) ask() uint8   { return pullAccount }
func (AskFrontiers) ask() uint8 { return pullFrontiers }

func (a AskBlocks) appendAsk(b []byte) []byte {
	return append(append(b, a.Start[:]...), a.Count, flag(a.ByBlock))
}

func (a AskAccount) appendAsk(b []byte) []byte {
	return append(append(b, a.Target[:]...), flag(a.ByBlock))
}

func (a AskFrontiers) appendAsk(b []byte) []byte {
	return binary.BigEndian.AppendUint16(append(b, a.Start[:]...), a.Count)
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func readFlag(r *codec.Reader) bool {
	v := r.U8()
	if v > 1 {
		r.Fail(fmt.Errorf("kind of hash is %d; it must be 0, an account, or 1, a block", v))
	}
	return v == 1
}

func (*AscPullReq) Type() uint8 { return TypeAscPullReq }

func (m *AscPullReq) Append(b []byte, magic uint16) []byte {
	body := m.Ask.appendAsk(make([]byte, 0, 34))
	return appendAsc(b, magic, TypeAscPullReq, m.Ask.ask(), m.ID, body)
}

func appendAsc(b []byte, magic uint16, typ, kind uint8, id uint64, body []byte) []byte {
	b = header(magic, typ, uint16(len(body))).Append(b)
	b = binary.BigEndian.AppendUint64(append(b, kind), id)
	return append(b, body...)
}

func readAscPullReq(r *codec.Reader) (Message, error) {
	kind := r.U8()
	m := &AscPullReq{ID: r.U64()}
	switch kind {
	case pullBlocks:
		var a AskBlocks
		r.Fill(a.Start[:])
		a.Count, a.ByBlock = r.U8(), readFlag(r)
		m.Ask = a
	case pullAccount:
		var a AskAccount
		r.Fill(a.Target[:])
		a.ByBlock = readFlag(r)
		m.Ask = a
	case pullFrontiers:
		var a AskFrontiers
		r.Fill(a.Start[:])
		a.Count = r.U16()
		m.Ask = a
	default:
		return nil, fmt.Errorf("it asks for %d, which is unknown", kind)
	}
	return m, r.Close()
}

// An AscPullAck answers an AscPullReq.
type AscPullAck struct {
	ID     uint64
	Answer Answer
}

// An Answer is Blocks, an AccountInfo or Frontiers.
type Answer interface {
	answer() uint8
	appendAnswer(b []byte) []byte
}

// Blocks answers AskBlocks: a piece of one account's chain, at most MaxPullBlocks,
// or none.
type Blocks []Block

// AccountInfo answers AskAccount; an unknown account has zeros but for its key.
type AccountInfo struct {
	Account         Key
	Open, Head      Hash // its first and its newest block
	Count           uint64
	Confirmed       Hash // the newest that is cemented
	ConfirmedHeight uint64
}

// A Frontier is an account's newest block.
type Frontier struct {
	Account Key
	Hash    Hash
}

// Frontiers answers AskFrontiers, at most MaxFrontiers.
type Frontiers []Frontier

func (Blocks) answer() uint8      { return pullBlocks }
func (AccountInfo) answer() uint8 { return pullAccount }
func (Frontiers) answer() uint8   { return pullFrontiers }

func (a Blocks) appendAnswer(b []byte) []byte {
	for i := range a {
		b = a[i].Append(append(b, typeState))
	}
	return append(b, typeNone)
}

func (a AccountInfo) appendAnswer(b []byte) []byte {
	b = append(append(append(b, a.Account[:]...), a.Open[:]...), a.Head[:]...)
	b = append(binary.BigEndian.AppendUint64(b, a.Count), a.Confirmed[:]...)
	return binary.BigEndian.AppendUint64(b, a.ConfirmedHeight)
}

func (a Frontiers) appendAnswer(b []byte) []byte {
	for i := range a {
		b = append(append(b, a[i].Account[:]...), a[i].Hash[:]...)
	}
	return append(b, make([]byte, frontierSize)...)
}

func (*AscPullAck) Type() uint8 { return TypeAscPullAck }

func (m *AscPullAck) Append(b []byte, magic uint16) []byte {
	return appendAsc(b, magic, TypeAscPullAck, m.Answer.answer(), m.ID, m.Answer.appendAnswer(nil))
}

func readAscPullAck(r *codec.Reader) (Message, error) {
	kind := r.U8()
	m := &AscPullAck{ID: r.U64()}
	switch kind {
	case pullBlocks:
		m.Answer = readBlocks(r)
	case pullAccount:
		var a AccountInfo
		r.Fill(a.Account[:])
		r.Fill(a.Open[:])
		r.Fill(a.Head[:])
		a.Count = r.U64()
		r.Fill(a.Confirmed[:])
		a.ConfirmedHeight = r.U64()
		m.Answer = a
	case pullFrontiers:
		m.Answer = readFrontiers(r)
	default:
		return nil, fmt.Errorf("it answers %d, which is unknown", kind)
	}
	return m, r.Close()
}

func readBlocks(r *codec.Reader) (blocks Blocks) {
	for r.Err() == nil {
		switch typ := r.U8(); {
		case r.Err() != nil, typ == typeNone:
			return blocks
		case typ != typeState:
			r.Fail(fmt.Errorf("it has a block of type %d; only state blocks, %d, are taken", typ, typeState))
		case len(blocks) == MaxPullBlocks:
			r.Fail(fmt.Errorf("it has more than %d blocks", MaxPullBlocks))
		default:
			blocks = append(blocks, readBlock(r))
		}
	}
	return nil
}

func readFrontiers(r *codec.Reader) (frontiers Frontiers) {
	for r.Err() == nil {
		var f Frontier
		r.Fill(f.Account[:])
		r.Fill(f.Hash[:])
		switch {
		case f == Frontier{}:
			return frontiers
		case len(frontiers) == MaxFrontiers:
			r.Fail(errors.New("it has more frontiers than were asked for"))
		default:
			frontiers = append(frontiers, f)
		}
	}
	return nil
}
