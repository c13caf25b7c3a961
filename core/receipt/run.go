package receipt

import (
	"fmt"

	"coinop.dev/core/codec"
)

// A Run is consecutive tickets in a message: Base+1 to Seq. Each covers all
// before it, so a run that arrives late or twice does no harm.
type Run struct {
	Base    uint64 // the tickets that the payee is taken to have
	Acked   uint64 // the tickets whose stamps the payer has; older ones may be forgotten
	Seq     uint64
	Sizes   []int // how many entries each ticket has
	Entries []Entry
}

// After returns the entries of the tickets after seq, or false if there is a
// gap before the run, or nothing in it is new.
func (m *Run) After(seq uint64) (entries []Entry, ok bool) {
	if m.Base > seq || m.Seq <= seq {
		return nil, false
	}
	skip := 0
	for _, n := range m.Sizes[:seq-m.Base] {
		skip += n
	}
	return m.Entries[skip:], true
}

// Append writes what ReadRun reads.
func (m *Run) Append(b []byte) []byte {
	b = codec.AppendUint(b, m.Base)
	b = codec.AppendUint(b, m.Base-m.Acked)
	b = codec.AppendUint(b, len(m.Sizes))
	for _, n := range m.Sizes {
		b = codec.AppendUint(b, n)
	}
	return AppendEntries(b, m.Entries)
}

// ReadRun reads a run of at least one ticket and at most MaxPending entries.
func ReadRun(r *codec.Reader) (m Run) {
	m.Base = r.Uvarint()
	behind := r.Uvarint()
	if behind > m.Base {
		r.Fail(fmt.Errorf("run says %d of its first %d tickets are not stamped", behind, m.Base))
	}
	m.Acked = m.Base - behind
	m.Sizes = make([]int, min(r.Int(MaxPending, "number of tickets"), r.Len()))
	entries := 0
	for i := range m.Sizes {
		m.Sizes[i] = r.Int(MaxPending, "orders of a ticket")
		entries += m.Sizes[i]
		if m.Sizes[i] == 0 {
			r.Fail(fmt.Errorf("ticket %d of %d has no orders", i+1, len(m.Sizes)))
		}
	}
	m.Entries = ReadEntries(r)
	m.Seq = m.Base + uint64(len(m.Sizes))
	switch {
	case r.Err() != nil:
	case len(m.Sizes) == 0 || entries != len(m.Entries) || entries > MaxPending:
		r.Fail(fmt.Errorf("run has %d orders in %d tickets and says %d; the limit is %d", len(m.Entries), len(m.Sizes), entries, MaxPending))
	case m.Seq < m.Base:
		r.Fail(fmt.Errorf("ticket number %d is too large", m.Base))
	}
	return m
}
