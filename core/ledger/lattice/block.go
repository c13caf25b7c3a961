package lattice

import (
	"encoding/binary"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/eddsa"
)

// A Block is a state block: all of what an account is after it. The zero Previous
// makes it the account's first.
type Block struct {
	Account        Key
	Previous       Hash
	Representative Key
	Balance        Raw
	Link           [32]byte // who is paid, or the hash of the send that is received, or zero
	Signature      [64]byte
	Work           uint64
}

// BlockSize is how many bytes a block takes.
const BlockSize = 216

// preamble tells state blocks from the older kinds, which have none.
var preamble = [32]byte{31: typeState}

// A Kind is what a block does to its account.
type Kind uint8

// Kinds; zero is a block that does nothing that a block may do.
const (
	Send Kind = iota + 1
	Receive
	Open
	Change
	Epoch // an upgrade of Nano's own ledger; our networks have none and refuse it
)

// kinds are the subtypes of Nano's RPC.
var kinds = [...]string{"none", "send", "receive", "open", "change", "epoch"}

func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return kinds[0]
}

// Kind decides by the balance that the account had before; first is that it has no
// block yet.
func (b *Block) Kind(previous Raw, first bool) Kind {
	change := b.Balance.Cmp(previous)
	switch {
	case IsEpochLink(b.Link) && (first || change == 0):
		return Epoch
	case first:
		if !b.Previous.IsZero() || b.Link == [32]byte{} {
			return 0
		}
		return Open
	case b.Previous.IsZero():
		return 0
	case change < 0:
		return Send
	case b.Link == [32]byte{}:
		if change > 0 {
			return 0
		}
		return Change
	case change > 0:
		return Receive
	}
	return 0
}

// Hash is what the account's owner signs.
func (b *Block) Hash() Hash {
	var raw [len(preamble) + BlockSize]byte
	out := append(raw[:0], preamble[:]...)
	out = b.appendSigned(out)
	return sum(out)
}

// Root is what the block's work is done on, and what elections are held about: no
// two blocks that can both stand have the same.
func (b *Block) Root() [32]byte {
	if b.Previous.IsZero() {
		return b.Account
	}
	return b.Previous
}

// Sign signs as the account's owner.
func (b *Block) Sign(s eddsa.Secret) {
	hash := b.Hash()
	b.Signature = s.Sign(hash[:])
}

// Signed reports whether the account's owner has signed; see Verify.
func (b *Block) Signed() bool {
	hash := b.Hash()
	return Verify(b.Account, hash[:], b.Signature)
}

func (b *Block) appendSigned(out []byte) []byte {
	out = append(out, b.Account[:]...)
	out = append(out, b.Previous[:]...)
	out = append(out, b.Representative[:]...)
	out = b.Balance.Append(out)
	return append(out, b.Link[:]...)
}

// Append encodes the block as a publish message has it.
func (b *Block) Append(out []byte) []byte {
	out = append(b.appendSigned(out), b.Signature[:]...)
	return binary.BigEndian.AppendUint64(out, b.Work)
}

// DecodeBlock reads what Append wrote.
func DecodeBlock(raw []byte) (Block, error) {
	r := codec.NewReader(raw)
	b := readBlock(r)
	return b, r.Close()
}

func readBlock(r *codec.Reader) (b Block) {
	r.Fill(b.Account[:])
	r.Fill(b.Previous[:])
	r.Fill(b.Representative[:])
	b.Balance = readRaw(r)
	r.Fill(b.Link[:])
	r.Fill(b.Signature[:])
	b.Work = r.U64()
	return b
}

func readRaw(r *codec.Reader) Raw { return Raw{Hi: r.U64(), Lo: r.U64()} }
