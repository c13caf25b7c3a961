package receipt

import (
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// MaxStamps bounds the stamps a payee keeps for a payer that has not said it
// has them. An honest payer has at most MaxPending orders without one.
const MaxStamps = MaxPending

// Stamps is the payee's side of stamped tickets: the stamps that the payer may
// not have yet, oldest first.
type Stamps struct {
	prefix  string
	channel [16]byte
	payee   Payee
	key     keys.Stamp
	list    []Stamped
}

// NewStamps returns none, with records under prefix. key is the secret of
// payee.Stamp.
func NewStamps(prefix string, channel [16]byte, payee Payee, key keys.Stamp) Stamps {
	return Stamps{prefix: prefix, channel: channel, payee: payee, key: key}
}

// Stamp acknowledges the entries of tickets from+1 to to, with total in all,
// and reports each as an outcome whose value is a Paid.
func (s *Stamps) Stamp(from, to uint64, total money.Amount, entries []Entry, fx *step.Effects) {
	b := &Batch{Channel: s.channel, Payee: s.payee, Stamped: Stamped{From: from, To: to, Total: total}, Entries: entries, Tree: NewTree(entries)}
	b.Stamped.Sign(s.key, s.channel, b.Tree.Root())
	if len(s.list) == MaxStamps {
		s.Drop(s.list[0].To, fx) // its payer never said it has it, and never will
	}
	s.list = append(s.list, b.Stamped)
	fx.Put = append(fx.Put, s.record(b.Stamped))
	for i := range entries {
		fx.Done = append(fx.Done, b.Outcome(i))
	}
}

// Outcome is what a channel core reports of entry i.
func (b *Batch) Outcome(i int) step.Outcome {
	return step.Outcome{ID: b.Entries[i].Order.Key(), Value: Paid{b, i}}
}

// Drop forgets the stamps of tickets up to acked, which the payer says it has.
func (s *Stamps) Drop(acked uint64, fx *step.Effects) {
	n := 0
	for n < len(s.list) && s.list[n].To <= acked {
		fx.Put = append(fx.Put, step.Record{Key: stampKey(s.prefix, s.list[n].To)})
		n++
	}
	s.list = s.list[n:]
}

// Since returns the stamps of tickets after base.
func (s *Stamps) Since(base uint64) []Stamped {
	for i := range s.list {
		if s.list[i].From >= base {
			return s.list[i:]
		}
	}
	return nil
}

// Len is how many stamps are kept.
func (s *Stamps) Len() int { return len(s.list) }

// Check asserts that the last stamp is for what is held.
func (s *Stamps) Check(seq uint64, total money.Amount) {
	step.Assert(len(s.list) <= MaxStamps, "%s: %d stamps kept", s.prefix, len(s.list))
	if n := len(s.list); n > 0 {
		last := s.list[n-1]
		step.Assert(last.To == seq && last.Total == total, "%s: stamped %d to %v, holds %d to %v", s.prefix, last.To, last.Total, seq, total)
	}
}

func (s *Stamps) record(stamp Stamped) step.Record {
	return step.Record{Key: stampKey(s.prefix, stamp.To), Value: stamp.Append(nil)}
}

// Durable is the stamps as they are on disk.
func (s *Stamps) Durable() (all []step.Record) {
	for _, stamp := range s.list {
		all = append(all, s.record(stamp))
	}
	return all
}

// Load reads the stamps back.
func (s *Stamps) Load(db step.Reader) error {
	return codec.Scan(db, s.prefix+"s/", func(_ string, r *codec.Reader) { s.list = append(s.list, ReadStamped(r)) })
}
