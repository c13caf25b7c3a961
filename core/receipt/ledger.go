package receipt

import (
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

const (
	// MaxPending bounds the orders that are promised and not stamped. All of
	// them fit one message (BOLT 8's 65,535 bytes), so one resend recovers
	// everything.
	MaxPending = 2048

	// Keep is how many stamped orders a payer remembers, so that an order
	// handed over again is answered with the same proof and not paid twice. It
	// must be at least what a purse can have open.
	Keep = 4096
)

// ErrBacklog means MaxPending orders wait for the payee.
var ErrBacklog = fmt.Errorf("%d orders wait for the payee's stamp; try again when it answers", MaxPending)

// A Ticket is what one step of a payer promised: some orders, and then some
// ticks of meters, which are paid but not remembered one by one.
type Ticket struct {
	Seq     uint64
	Total   money.Amount // promised in all, with this one
	Orders  int          // so many of the entries are orders
	Entries []Entry
}

// A Settled is the tickets under one stamp.
type Settled struct {
	*Batch
	Tickets []Ticket
}

// Each walks the entries: orders by their place in the batch, and ticks.
func (s Settled) Each(order func(i int), tick func(Entry)) {
	i := 0
	for _, t := range s.Tickets {
		for k := range t.Entries {
			if k < t.Orders {
				order(i)
			} else {
				tick(t.Entries[k])
			}
			i++
		}
	}
}

// A Ledger is the payer's side of stamped tickets: what is promised, what is
// stamped, and where each order is. Tickets are numbered from 1 without gaps.
type Ledger struct {
	prefix  string
	channel [16]byte
	payee   Payee

	Seq, Acked     uint64 // last ticket made, last ticket stamped
	Total, Stamped money.Amount

	pending []Ticket
	orders  int // entries in pending
	batches []Settled
	kept    int // entries in batches
	where   map[money.OrderID]Paid
	early   map[uint64]Stamped // stamps that wait for the one before, by From
}

// NewLedger returns an empty ledger whose records are under prefix.
func NewLedger(prefix string, channel [16]byte, payee Payee) Ledger {
	return Ledger{prefix: prefix, channel: channel, payee: payee, where: map[money.OrderID]Paid{}, early: map[uint64]Stamped{}}
}

// Find tells whether an order is known, and where it is: its Batch is nil while
// it is pending.
func (l *Ledger) Find(id money.OrderID) (at Paid, known bool) {
	at, known = l.where[id]
	return at, known
}

// Expect makes an order known before its ticket is, and Forsake takes it back.
func (l *Ledger) Expect(id money.OrderID) { l.where[id] = Paid{} }

// Forsake forgets an order that was expected.
func (l *Ledger) Forsake(id money.OrderID) { delete(l.where, id) }

// Full reports whether more orders would pass MaxPending.
func (l *Ledger) Full(more int) bool { return l.orders+more >= MaxPending }

// Pending is the tickets without a stamp, oldest first.
func (l *Ledger) Pending() []Ticket { return l.pending }

// Promise adds a ticket. The caller puts its own head after it.
func (l *Ledger) Promise(total money.Amount, orders int, entries []Entry, fx *step.Effects) {
	l.Seq++
	l.Total = total
	t := Ticket{l.Seq, total, orders, entries}
	l.pending = append(l.pending, t)
	l.orders += len(entries)
	fx.Put = append(fx.Put, l.ticketRecord(t))
}

// Run is what to send of the pending tickets: the last one, or all.
func (l *Ledger) Run(all bool) Run {
	tickets := l.pending
	if !all {
		tickets = tickets[len(tickets)-1:]
	}
	r := Run{Base: tickets[0].Seq - 1, Acked: l.Acked, Seq: l.Seq, Sizes: make([]int, len(tickets)), Entries: join(tickets)}
	for i := range tickets {
		r.Sizes[i] = len(tickets[i].Entries)
	}
	return r
}

func join(tickets []Ticket) (all []Entry) {
	n := 0
	for i := range tickets {
		n += len(tickets[i].Entries)
	}
	all = make([]Entry, 0, n)
	for i := range tickets {
		all = append(all, tickets[i].Entries...)
	}
	return all
}

// Taken settles the tickets that a stamp covers, and those of stamps that
// waited for it. A stamp that comes before its turn waits; a stale, repeated or
// forged one changes nothing. Older batches beyond Keep orders are forgotten.
//
// The records are lazy: the payee keeps a stamp until a ticket says that the
// payer has it, and gives it again. So a ticket that says so (its Acked) must
// not leave before they are on disk: the owner puts a head that is not lazy
// with every ticket it sends.
func (l *Ledger) Taken(s Stamped, fx *step.Effects) (settled, forgotten []Settled) {
	if s.From < l.Acked || s.To > l.Seq {
		return nil, nil
	}
	if len(l.early) < MaxStamps || s.From == l.Acked {
		l.early[s.From] = s
	}
	for {
		next, ok := l.early[l.Acked]
		if !ok {
			break
		}
		delete(l.early, l.Acked)
		if b, ok := l.settle(next, fx); ok {
			settled = append(settled, b)
		}
	}
	if len(l.pending) == 0 {
		clear(l.early)
	}
	return settled, l.forget(fx)
}

// settle checks a stamp whose turn it is.
func (l *Ledger) settle(s Stamped, fx *step.Effects) (b Settled, ok bool) {
	n := s.To - s.From
	if n > uint64(len(l.pending)) || s.Total != l.pending[n-1].Total {
		return b, false
	}
	b = l.batch(s, l.pending[:n])
	if !s.Verify(l.payee.Stamp, l.channel, b.Tree.Root()) {
		return b, false
	}
	l.pending = append([]Ticket(nil), l.pending[n:]...)
	l.orders -= len(b.Entries)
	l.Acked, l.Stamped = s.To, s.Total
	l.remember(b)
	fx.Put = append(fx.Put, step.Record{Key: stampKey(l.prefix, s.To), Value: s.Append(nil), Lazy: true})
	return b, true
}

// batch puts tickets under their stamp; they share the batch's entries.
func (l *Ledger) batch(s Stamped, tickets []Ticket) Settled {
	all := join(tickets)
	b := Settled{&Batch{Channel: l.channel, Payee: l.payee, Stamped: s, Entries: all, Tree: NewTree(all)}, append([]Ticket(nil), tickets...)}
	for i := range b.Tickets {
		n := len(b.Tickets[i].Entries)
		b.Tickets[i].Entries, all = all[:n:n], all[n:]
	}
	return b
}

func (l *Ledger) remember(b Settled) {
	l.batches = append(l.batches, b)
	l.kept += len(b.Entries)
	b.Each(func(i int) { l.where[b.Entries[i].Order] = Paid{b.Batch, i} }, func(Entry) {})
}

// forget drops the oldest batches while the rest still hold Keep orders.
func (l *Ledger) forget(fx *step.Effects) (forgotten []Settled) {
	n := 0
	for n < len(l.batches) && l.kept-len(l.batches[n].Entries) >= Keep {
		b := l.batches[n]
		b.Each(func(i int) { delete(l.where, b.Entries[i].Order) }, func(Entry) {})
		for _, t := range b.Tickets {
			fx.Put = append(fx.Put, step.Record{Key: ticketKey(l.prefix, t.Seq), Lazy: true})
		}
		fx.Put = append(fx.Put, step.Record{Key: stampKey(l.prefix, b.Stamped.To), Lazy: true})
		l.kept -= len(b.Entries)
		n++
	}
	forgotten, l.batches = l.batches[:n], l.batches[n:]
	return forgotten
}

// Known is how many orders the ledger can answer for.
func (l *Ledger) Known() int { return len(l.where) }

// Kept is how many stamped entries the ledger remembers.
func (l *Ledger) Kept() int { return l.kept }

// Remembered is the batches that are kept, oldest first.
func (l *Ledger) Remembered() []Settled { return l.batches }

// Check asserts that tickets have no gaps and add up.
func (l *Ledger) Check() {
	step.Assert(l.Stamped <= l.Total, "%s: stamped %v of %v", l.prefix, l.Stamped, l.Total)
	seq, total, orders := l.Acked, l.Stamped, 0
	for i := range l.pending {
		t := &l.pending[i]
		seq++
		step.Assert(t.Seq == seq && t.Total > total, "%s: ticket %d to %v after %d to %v", l.prefix, t.Seq, t.Total, seq-1, total)
		total = t.Total
		orders += len(t.Entries)
	}
	step.Assert(seq == l.Seq && total == l.Total && orders == l.orders, "%s: %d tickets to %v, promised %d to %v", l.prefix, seq, total, l.Seq, l.Total)
}

// Records: tickets under t/ and stamps under s/, by number. The owner keeps
// Seq, Acked, Total and Stamped in a head of its own.

func ticketKey(prefix string, seq uint64) string { return fmt.Sprintf("%st/%016x", prefix, seq) }
func stampKey(prefix string, seq uint64) string  { return fmt.Sprintf("%ss/%016x", prefix, seq) }

func (l *Ledger) ticketRecord(t Ticket) step.Record {
	b := codec.AppendUint(nil, t.Total)
	b = codec.AppendUint(b, t.Orders)
	return step.Record{Key: ticketKey(l.prefix, t.Seq), Value: AppendEntries(b, t.Entries)}
}

// AppendHead writes what ReadHead reads.
func (l *Ledger) AppendHead(b []byte) []byte {
	b = codec.AppendUint(b, l.Seq)
	b = codec.AppendUint(b, l.Acked)
	b = codec.AppendUint(b, l.Total)
	return codec.AppendUint(b, l.Stamped)
}

// ReadHead reads the counters.
func (l *Ledger) ReadHead(r *codec.Reader) {
	l.Seq, l.Acked, l.Total, l.Stamped = r.Uvarint(), r.Uvarint(), r.Amount(), r.Amount()
}

// Durable is the tickets and stamps as they are on disk.
func (l *Ledger) Durable() (all []step.Record) {
	for _, b := range l.batches {
		all = append(all, step.Record{Key: stampKey(l.prefix, b.Stamped.To), Value: b.Stamped.Append(nil)})
		for _, t := range b.Tickets {
			all = append(all, l.ticketRecord(t))
		}
	}
	for _, t := range l.pending {
		all = append(all, l.ticketRecord(t))
	}
	return all
}

// Load reads the tickets and stamps back; ReadHead comes first.
func (l *Ledger) Load(db step.Reader) error {
	var tickets []Ticket
	err := codec.Scan(db, l.prefix+"t/", func(name string, r *codec.Reader) {
		t := Ticket{}
		if _, err := fmt.Sscanf(name, "%016x", &t.Seq); err != nil {
			r.Fail(err)
		}
		t.Total, t.Orders, t.Entries = r.Amount(), r.Int(MaxPending, "orders of a ticket"), ReadEntries(r)
		if t.Orders > len(t.Entries) {
			r.Fail(fmt.Errorf("ticket %d has %d orders among %d entries", t.Seq, t.Orders, len(t.Entries)))
		}
		tickets = append(tickets, t)
	})
	if err != nil {
		return err
	}
	err = codec.Scan(db, l.prefix+"s/", func(_ string, r *codec.Reader) {
		s := ReadStamped(r)
		n := s.To - s.From
		if r.Err() == nil && (n > uint64(len(tickets)) || tickets[0].Seq != s.From+1) {
			r.Fail(fmt.Errorf("stamp of tickets %d to %d without them", s.From+1, s.To))
		}
		if r.Err() == nil {
			l.remember(l.batch(s, tickets[:n]))
			tickets = tickets[n:]
		}
	})
	if err != nil {
		return err
	}
	l.pending = tickets
	for _, t := range tickets {
		l.orders += len(t.Entries)
		for _, e := range t.Entries[:t.Orders] {
			l.where[e.Order] = Paid{}
		}
	}
	return nil
}
