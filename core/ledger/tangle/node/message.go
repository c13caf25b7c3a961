package node

import (
	"encoding/binary"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/tangle"
)

// Limits of single messages. All of them fit a gossip.Frame.
const (
	MaxGreetTips    = 64     // tips that a greeting names
	MaxAsk          = 512    // blocks that one message asks for
	MaxConePiece    = 1000   // blocks of a milestone that one message lists
	MaxSnapshotData = 60_000 // bytes of a snapshot in one message
	maxBlocksBytes  = 60_000 // of blocks in one message, unless one alone is more
	minBlock        = 46     // bytes of the smallest block, so that a message holds few
)

// Version of the protocol between nodes, which is coinop's own.
const Version = 1

const (
	kindGreet = 1 + iota
	kindBlocks
	kindAsk
	kindAskMilestone
	kindCone
	kindPropose
	kindSign
	kindAskSnapshot
	kindSnapshot
)

// A Message is what nodes say to each other in frames.
type Message interface {
	append([]byte) []byte // with its kind
}

type (
	// Greet says where a node stands. It is sent to a new peer and every
	// GreetEvery, so that what was lost is missed.
	Greet struct {
		Network uint64           // tangle.Network.ID
		Latest  uint32           // milestone that the node has confirmed
		Oldest  uint32           // milestone whose blocks it still has
		Tips    []tangle.BlockID // some of its tips
	}
	// Blocks carries blocks, which a node relays once to peers that it did not
	// have them from.
	Blocks struct{ Raw [][]byte }
	// Ask wants blocks by their IDs.
	Ask struct{ Blocks []tangle.BlockID }
	// AskMilestone wants a piece of what a milestone includes.
	AskMilestone struct {
		Index uint32
		Piece uint16
	}
	// Cone is a milestone's block, and a piece of the list of blocks that it
	// includes, in white-flag order. The whole list leads to its inclusion root,
	// so nobody has to be believed.
	Cone struct {
		Index  uint32
		Pieces uint16 // the list has so many; 0 if nothing was included
		Piece  uint16
		Block  []byte
		IDs    []tangle.BlockID
	}
	// Propose is a milestone with the signature of the coordinator that proposes
	// it, and perhaps of more.
	Propose struct{ Milestone *tangle.Milestone }
	// Sign is another coordinator's signature of a proposal.
	Sign struct {
		Index     uint32
		Milestone tangle.MilestoneID
		Signature tangle.Signature
	}
	// AskSnapshot wants a piece of a ledger state.
	AskSnapshot struct {
		Digest tangle.Hash
		Piece  uint16
	}
	// Piece is one of a snapshot.
	Piece struct {
		Digest tangle.Hash
		Pieces uint16
		Piece  uint16
		Data   []byte
	}
)

// Frame encodes a message for the wire.
func Frame(m Message) gossip.Frame {
	return gossip.Frame{Ledger: gossip.Tangle, Raw: m.append(nil)}
}

func (m Greet) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, kindGreet, Version), m.Network)
	b = binary.BigEndian.AppendUint32(b, m.Latest)
	b = binary.BigEndian.AppendUint32(b, m.Oldest)
	return appendIDs(b, m.Tips)
}

func (m Blocks) append(b []byte) []byte {
	b = append(b, kindBlocks)
	for _, raw := range m.Raw {
		b = codec.AppendBytes(b, raw)
	}
	return b
}

func (m Ask) append(b []byte) []byte { return appendIDs(append(b, kindAsk), m.Blocks) }

func (m AskMilestone) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, kindAskMilestone), m.Index)
	return binary.BigEndian.AppendUint16(b, m.Piece)
}

func (m Cone) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, kindCone), m.Index)
	b = binary.BigEndian.AppendUint16(b, m.Pieces)
	b = binary.BigEndian.AppendUint16(b, m.Piece)
	return appendIDs(codec.AppendBytes(b, m.Block), m.IDs)
}

func (m Propose) append(b []byte) []byte { return m.Milestone.Append(append(b, kindPropose)) }

func (m Sign) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, kindSign), m.Index)
	b = append(append(b, m.Milestone[:]...), m.Signature.Public[:]...)
	return append(b, m.Signature.Signature[:]...)
}

func (m AskSnapshot) append(b []byte) []byte {
	b = append(append(b, kindAskSnapshot), m.Digest[:]...)
	return binary.BigEndian.AppendUint16(b, m.Piece)
}

func (m Piece) append(b []byte) []byte {
	b = append(append(b, kindSnapshot), m.Digest[:]...)
	b = binary.BigEndian.AppendUint16(b, m.Pieces)
	b = binary.BigEndian.AppendUint16(b, m.Piece)
	return codec.AppendBytes(b, m.Data)
}

func appendIDs(b []byte, ids []tangle.BlockID) []byte {
	b = codec.AppendUint(b, len(ids))
	for i := range ids {
		b = append(b, ids[i][:]...)
	}
	return b
}

// Decode reads exactly one message. Raw blocks in it are not read, and are
// parts of raw.
func Decode(raw []byte) (m Message, err error) {
	r := codec.NewReader(raw)
	switch kind := r.U8(); kind {
	case kindGreet:
		if v := r.U8(); v != Version && r.Err() == nil {
			return nil, fmt.Errorf("tangle: a peer speaks version %d; this node speaks %d", v, Version)
		}
		m = Greet{Network: r.U64(), Latest: r.U32(), Oldest: r.U32(), Tips: ids(r, MaxGreetTips, "tips")}
	case kindBlocks:
		var blocks Blocks
		for r.Len() > 0 {
			block := r.Take(r.Int(tangle.MaxBlockSize, "block length"))
			if len(block) < minBlock {
				r.Fail(fmt.Errorf("a block is %d bytes; the smallest has %d", len(block), minBlock))
				break
			}
			blocks.Raw = append(blocks.Raw, block)
		}
		m = blocks
	case kindAsk:
		m = Ask{ids(r, MaxAsk, "blocks asked for")}
	case kindAskMilestone:
		m = AskMilestone{Index: r.U32(), Piece: r.U16()}
	case kindCone:
		m = Cone{
			Index: r.U32(), Pieces: r.U16(), Piece: r.U16(),
			Block: r.Take(r.Int(tangle.MaxBlockSize, "block length")),
			IDs:   ids(r, MaxConePiece, "blocks of a milestone"),
		}
	case kindPropose:
		p, err := tangle.DecodeMilestone(r.Take(r.Len()))
		if err != nil {
			return nil, fmt.Errorf("tangle: %w", err)
		}
		m = Propose{p}
	case kindSign:
		var s Sign
		s.Index = r.U32()
		r.Fill(s.Milestone[:])
		r.Fill(s.Signature.Public[:])
		r.Fill(s.Signature.Signature[:])
		m = s
	case kindAskSnapshot:
		var a AskSnapshot
		r.Fill(a.Digest[:])
		a.Piece = r.U16()
		m = a
	case kindSnapshot:
		var p Piece
		r.Fill(p.Digest[:])
		p.Pieces, p.Piece = r.U16(), r.U16()
		p.Data = r.Take(r.Int(MaxSnapshotData, "piece length"))
		m = p
	default:
		r.Fail(fmt.Errorf("message kind %d is unknown", kind))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("tangle: %w", err)
	}
	return m, nil
}

func ids(r *codec.Reader, limit int, what string) []tangle.BlockID {
	n := r.Int(limit, what)
	if n*32 > r.Len() {
		r.Fail(codec.ErrShort)
		return nil
	}
	list := make([]tangle.BlockID, n)
	for i := range list {
		r.Fill(list[i][:])
	}
	return list
}
