package node

import (
	"encoding/binary"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/step"
)

// A Block is one with the names that are dear to compute.
type Block struct {
	*tangle.Block
	ID  tangle.BlockID
	Raw []byte
	Tx  tangle.TransactionID // of the payload, if it is a transaction
}

// ReadBlock decodes a block, and keeps raw.
func ReadBlock(raw []byte) (*Block, error) {
	b, err := tangle.DecodeBlock(raw)
	if err != nil {
		return nil, err
	}
	return named(b, raw), nil
}

func named(b *tangle.Block, raw []byte) *Block {
	block := &Block{Block: b, ID: tangle.IDOf(raw), Raw: raw}
	if _, ok := b.Payload.(*tangle.Transaction); ok {
		block.Tx = tangle.TransactionID(payloadID(raw, b))
	}
	return block
}

// payloadID is the hash of the payload's bytes, which stand between the parents
// and the nonce: for a transaction, its ID.
func payloadID(raw []byte, b *tangle.Block) [32]byte {
	return tangle.IDOf(raw[2+32*len(b.Parents)+4 : len(raw)-tangle.NonceSize])
}

// Transaction is the block's payload, or nil.
func (b *Block) Transaction() *tangle.Transaction {
	t, _ := b.Payload.(*tangle.Transaction)
	return t
}

// Milestone is the block's payload, or nil.
func (b *Block) Milestone() *tangle.Milestone {
	m, _ := b.Payload.(*tangle.Milestone)
	return m
}

// A Conflict is why a transaction that a milestone includes changed nothing. The
// numbers are Stardust's.
type Conflict uint8

const (
	NoConflict       Conflict = 0
	AlreadySpent     Conflict = 1 // by an earlier milestone's transaction
	SpentBefore      Conflict = 2 // by one of this milestone's, which comes before
	NotFound         Conflict = 3 // nothing has made the output, or it is pruned
	SumMismatch      Conflict = 4
	WrongUnlock      Conflict = 9 // not by the key of the output's address
	WrongCommitment  Conflict = 10
	InvalidOtherwise Conflict = 255
)

var conflicts = map[Conflict]string{
	NoConflict: "none", AlreadySpent: "an input was spent by an earlier milestone",
	SpentBefore: "an input was spent before, in the same milestone", NotFound: "an input does not exist",
	SumMismatch: "what goes in is not what comes out", WrongUnlock: "an input is not unlocked by the key of its address",
	WrongCommitment: "the transaction commits to other inputs", InvalidOtherwise: "the transaction is invalid",
}

func (c Conflict) Error() string {
	if text, ok := conflicts[c]; ok {
		return "conflict: " + text
	}
	return fmt.Sprintf("conflict %d", uint8(c))
}

// A Mark is the milestone that something is done by.
type Mark struct {
	Index uint32
	Time  uint32 // Unix seconds, as the milestone says
}

// An Output is one of the ledger.
type Output struct {
	tangle.BasicOutput
	ID      tangle.OutputID
	Block   tangle.BlockID // that its transaction was in; zero for the genesis
	Booked  Mark
	Spent   Mark // Index 0 if it is not
	SpentBy tangle.TransactionID
}

// outputSize is of an unspent one's record, spentSize of the rest.
const (
	outputSize = 8 + 33 + 32 + 4 + 4
	spentSize  = 4 + 4 + 32
)

func (o *Output) record() []byte {
	size := outputSize
	if o.Spent.Index != 0 {
		size += spentSize
	}
	b := binary.BigEndian.AppendUint64(make([]byte, 0, size), o.Amount)
	b = append(append(b, o.Address[:]...), o.Block[:]...)
	b = o.Booked.append(b)
	if o.Spent.Index != 0 {
		b = append(o.Spent.append(b), o.SpentBy[:]...)
	}
	return b
}

func (m Mark) append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, m.Index), m.Time)
}

func readMark(r *codec.Reader) Mark { return Mark{Index: r.U32(), Time: r.U32()} }

// readOutput reads a record; it is our own, so what is wrong with it is a
// damaged disk.
func readOutput(id tangle.OutputID, value []byte) (o Output) {
	r := codec.NewReader(value)
	o.ID, o.Amount = id, r.U64()
	r.Fill(o.Address[:])
	r.Fill(o.Block[:])
	o.Booked = readMark(r)
	if r.Len() > 0 {
		o.Spent = readMark(r)
		r.Fill(o.SpentBy[:])
	}
	err := r.Close()
	step.Assert(err == nil, "tangle: record of output %v: %v; restore the store", id, err)
	return o
}

// Facts are records by their keys, nil where there is none.
type Facts map[string][]byte

// Wants names the records that decide what a block does to the ledger: the
// outputs that its transaction consumes.
func Wants(b *Block) []string {
	t := b.Transaction()
	if t == nil {
		return nil
	}
	keys := make([]string, len(t.Essence.Inputs))
	for i, in := range t.Essence.Inputs {
		keys[i] = outputKey(in)
	}
	return keys
}

// Judge decides what a block does to the ledger when a milestone's order comes to
// it: the records that change, or a Conflict. That the signatures hold was checked
// when the block came. Of a block without a transaction nothing changes.
func Judge(b *Block, at Mark, facts Facts) ([]step.Record, error) {
	t := b.Transaction()
	if t == nil {
		return nil, nil
	}
	e := &t.Essence
	inputs := make([]Output, len(e.Inputs))
	spent := make([]tangle.BasicOutput, len(e.Inputs))
	for i, in := range e.Inputs {
		value, asked := facts[outputKey(in)]
		step.Assert(asked, "tangle: nobody asked for input %v of block %v", in, b.ID)
		if value == nil {
			return nil, NotFound
		}
		inputs[i] = readOutput(in, value)
		switch {
		case inputs[i].Spent.Index == 0:
		case inputs[i].Spent.Index == at.Index:
			return nil, SpentBefore
		default:
			return nil, AlreadySpent
		}
		spent[i] = inputs[i].BasicOutput
	}
	if err := t.CheckSpent(spent); err != nil {
		return nil, whyNot(t, spent)
	}
	records := make([]step.Record, 0, 2*(len(inputs)+len(e.Outputs)))
	for i := range inputs {
		o := &inputs[i]
		o.Spent, o.SpentBy = at, b.Tx
		records = append(records, step.Record{Key: outputKey(o.ID), Value: o.record()}, step.Record{Key: ownerKey(o)})
	}
	for i, basic := range e.Outputs {
		o := Output{BasicOutput: basic, ID: tangle.NewOutputID(b.Tx, uint16(i)), Block: b.ID, Booked: at}
		records = append(records, o.records()...)
	}
	return records, nil
}

// records are those of a new output.
func (o *Output) records() []step.Record {
	return []step.Record{{Key: outputKey(o.ID), Value: o.record()}, {Key: ownerKey(o), Value: binary.BigEndian.AppendUint64(nil, o.Amount)}}
}

// whyNot sorts a refusal of CheckSpent by Stardust's numbers.
func whyNot(t *tangle.Transaction, spent []tangle.BasicOutput) Conflict {
	if tangle.InputsCommitment(spent) != t.Essence.Commitment {
		return WrongCommitment
	}
	var in, out uint64 // together at most the supply
	for _, o := range spent {
		in += o.Amount
	}
	for _, o := range t.Essence.Outputs {
		out += o.Amount
	}
	if in != out {
		return SumMismatch
	}
	return WrongUnlock
}
