package node

import (
	"encoding/binary"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

// The disk has the cemented ledger, and nothing else but the final votes that this
// node has given on what is not cemented yet. A block that is not cemented is in
// memory: whoever wants it in the ledger says it again until it is.
const (
	atAccount    = "lattice/a/" // account → accountRecord
	atBlock      = "lattice/b/" // hash → blockRecord
	atHeight     = "lattice/n/" // account, height u64 → hash
	atReceivable = "lattice/r/" // account, hash of the send → from, amount
	atFinal      = "lattice/f/" // root → the block that a final vote was given on
	atVotes      = "lattice/v/" // root → the final votes that decided about it, if it was contested
	atWeight     = "lattice/w/" // representative → weight
	atCounts     = "lattice/c"
	atTrend      = "lattice/o"
)

func keyAccount(k Key) string        { return atAccount + string(k[:]) }
func keyBlock(h lattice.Hash) string { return atBlock + string(h[:]) }
func keyWeight(k Key) string         { return atWeight + string(k[:]) }
func keyFinal(root lattice.Hash) string {
	return atFinal + string(root[:])
}

func keyVotes(root lattice.Hash) string { return atVotes + string(root[:]) }

func keyHeight(k Key, height uint64) string {
	b := make([]byte, 0, len(atHeight)+40)
	b = append(append(b, atHeight...), k[:]...)
	return string(binary.BigEndian.AppendUint64(b, height))
}

func keyReceivable(k Key, source lattice.Hash) string {
	b := make([]byte, 0, len(atReceivable)+64)
	return string(append(append(append(b, atReceivable...), k[:]...), source[:]...))
}

func readRaw(r *codec.Reader) lattice.Raw { return lattice.Raw{Hi: r.U64(), Lo: r.U64()} }

func (a *Account) encode() []byte {
	b := make([]byte, 0, 160)
	b = append(b, a.Open[:]...)
	b = append(b, a.Frontier[:]...)
	b = append(b, a.Representative[:]...)
	b = a.Balance.Append(b)
	b = binary.BigEndian.AppendUint64(b, a.Height)
	b = binary.BigEndian.AppendUint64(b, a.Pruned)
	return binary.BigEndian.AppendUint64(b, uint64(a.Modified))
}

func decodeAccount(k Key, b []byte) (a Account, err error) {
	r := codec.NewReader(b)
	a.Key = k
	r.Fill(a.Open[:])
	r.Fill(a.Frontier[:])
	r.Fill(a.Representative[:])
	a.Balance, a.Height, a.Pruned, a.Modified = readRaw(r), r.U64(), r.U64(), step.Time(r.U64())
	a.ConfirmedHeight, a.ConfirmedFrontier = a.Height, a.Frontier
	return a, broken("account", r)
}

func (s *Stored) encode() []byte {
	b := make([]byte, 0, lattice.BlockSize+40)
	b = s.Block.Append(b)
	b = append(b, byte(s.Kind))
	b = s.Amount.Append(b)
	b = binary.BigEndian.AppendUint64(b, s.Height)
	return binary.BigEndian.AppendUint64(b, uint64(s.Time))
}

func decodeStored(b []byte) (s Stored, err error) {
	r := codec.NewReader(b)
	if s.Block, err = lattice.DecodeBlock(r.Take(lattice.BlockSize)); err != nil {
		return s, fmt.Errorf("block on disk: %w", err)
	}
	s.Kind, s.Amount, s.Height, s.Time, s.Confirmed = lattice.Kind(r.U8()), readRaw(r), r.U64(), step.Time(r.U64()), true
	return s, broken("block", r)
}

func encodeReceivable(v lattice.Receivable) []byte {
	return v.Amount.Append(append(make([]byte, 0, 48), v.From[:]...))
}

func decodeReceivable(source lattice.Hash, b []byte) (v lattice.Receivable, err error) {
	r := codec.NewReader(b)
	v.Source = source
	r.Fill(v.From[:])
	v.Amount = readRaw(r)
	return v, broken("receivable", r)
}

// broken reports a record that is not what this package writes.
func broken(what string, r *codec.Reader) error {
	if err := r.Close(); err != nil {
		return fmt.Errorf("%s on disk: %w", what, err)
	}
	return nil
}

// totals are the numbers that would take a walk over everything to count.
type totals struct{ blocks, accounts, pruned uint64 }

func (t totals) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, t.blocks)
	b = binary.BigEndian.AppendUint64(b, t.accounts)
	return binary.BigEndian.AppendUint64(b, t.pruned)
}

func decodeTotals(b []byte) (t totals, err error) {
	r := codec.NewReader(b)
	t.blocks, t.accounts, t.pruned = r.U64(), r.U64(), r.U64()
	return t, broken("counts", r)
}

// A disk is the store as the node sees it in the middle of a step: what was put
// before, over what is there.
type disk struct {
	under step.Reader
	put   map[string]int // where in records
	list  []step.Record
	fresh map[string]struct{} // that were not there before the step
}

// Get is step.Reader's. A store that cannot be read is a broken node.
func (d *disk) get(key string) []byte {
	if i, ok := d.put[key]; ok {
		return d.list[i].Value
	}
	v, err := d.under.Get(key)
	step.Assert(err == nil, "read %q: %v", key, err)
	return v
}

// set puts a record, each key once however often it changes within a step.
func (d *disk) set(key string, value []byte) {
	if i, ok := d.put[key]; ok {
		d.list[i].Value = value
		return
	}
	d.put[key] = len(d.list)
	d.list = append(d.list, step.Record{Key: key, Value: value})
}

// add is set for a key that the store cannot have: if the step takes it away again,
// nothing is written.
func (d *disk) add(key string, value []byte) {
	d.set(key, value)
	if d.fresh == nil {
		d.fresh = map[string]struct{}{}
	}
	d.fresh[key] = struct{}{}
}

// take is what the step has put, in the order of its first puts.
func (d *disk) take() []step.Record {
	out := d.list[:0]
	for _, r := range d.list {
		if _, fresh := d.fresh[r.Key]; r.Value != nil || !fresh {
			out = append(out, r)
		}
	}
	d.list = nil
	clear(d.put)
	clear(d.fresh)
	return out
}

// scan is step.Reader's, without what this step has put: for questions between
// steps.
func (d *disk) scan(prefix string, yield func(key string, value []byte) bool) {
	err := d.under.Scan(prefix, yield)
	step.Assert(err == nil, "read %q: %v", prefix, err)
}
