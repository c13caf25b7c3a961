package fleet

import (
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

const (
	// MaxOpenSpends bounds payments that are reserved and not settled, of the whole
	// fleet and of one device.
	MaxOpenSpends       = 16_384
	MaxOpenSpendsDevice = 256
	// KeepSpends is how many settled payments are remembered. One of them that is
	// asked for again counts once; an older one would be a new payment.
	KeepSpends = 16_384
	// MaxWaiting bounds the payments that wait for a lease.
	MaxWaiting = 4096

	// LeaseParts: a gateway leases at least this part of a budget at a time, so it
	// asks seldom, and a gateway that is cut off strands little.
	LeaseParts = 10
	// leaseWait is how long a payment waits for a lease.
	leaseWait = 2 * step.Second
	// leaseAgain is when a question that has no answer is asked again.
	leaseAgain = 1 * step.Second
)

// Quota is the outlet that leases shared budgets.
const Quota = "quota"

// Spend asks whether a device may pay, and reserves the amount if it may. The
// outcome's ID is SpendID; its error names the limit, what is left and when it
// renews (*spend.Refusal). Asked again with the same ID it counts once.
type Spend struct {
	Device string
	ID     money.OrderID
	Amount money.Amount
	Units  uint64 // 0 if it is not by the unit
	To     string // payment URI; what is before "?" names the payee
	Under  Limits // of the credential that was shown, if they are narrower than the device's
}

// SpendID is the ID of the outcome of a Spend.
func SpendID(device string, id money.OrderID) string { return "spend/" + device + "/" + id.Key() }

// Spent says that a payment went out, or cannot be taken back.
type Spent struct {
	Device string
	ID     money.OrderID
}

// Unspent says that a payment has certainly not gone out: its amount is given
// back, if the period still runs. Neither has an outcome.
type Unspent struct {
	Device string
	ID     money.OrderID
}

// Lease asks Quota that this gateway may hold so much of a device's budget, in
// all, in the period that began at Window. Quota keeps for each device, window
// and gateway what is held, and N: it ignores a lease with a lower N than the last
// one's. A lower Hold than before gives back; a higher one gets what is free, so
// that all gateways together never hold more than Limit. It is a sum and not a
// step, so a lease that is lost or repeated, by a crash on either side, loses
// nothing.
type Lease struct {
	Device string
	Window step.Time
	Limit  money.Amount
	Hold   money.Amount
	N      uint64
}

// Leased answers a Lease with what the gateway holds now.
type Leased struct {
	Device string
	Window step.Time
	Hold   money.Amount
	N      uint64
}

// Release gives back what is leased and not spent: before a gateway stops.
type Release struct{}

// budget is what a device has spent here, and what is leased for it.
type budget struct {
	tally tally
	lease lease

	touched bool
}

// lease is how much of a shared budget this gateway holds. What is on disk is at
// most what Quota has in its books, whatever was lost.
type lease struct {
	window step.Time
	hold   money.Amount
	n      uint64

	asked  step.Time    // when; 0 if nothing is asked. Not on disk
	wanted money.Amount // what was asked for
}

// spending is a payment that was allowed.
type spending struct {
	spendKey
	nth    uint64 // at a gateway: of those that are settled, from 1; 0 while it is open
	open   bool   // on a device
	amount money.Amount
	start  step.Time // of the period it counts in
	who    [8]byte
}

type spendKey struct {
	device string
	id     money.OrderID
}

type waiting struct {
	Spend
	until step.Time
}

// rebase keeps what is spent when the period has changed: it counts in the new
// one until that ends.
func (b *budget) rebase(l Limits, now step.Time) {
	b.tally.start, _ = l.Period.Window(now)
	b.lease.hold, b.lease.asked = 0, 0
}

// most is how much a device may spend here in its period.
func (f *Fleet) most(d *device, b budget, t tally) money.Amount {
	switch {
	case d.Limits.Total == 0:
		return money.MaxAmount
	case !f.config.Shared:
		return d.Limits.Total
	case b.lease.window != t.start:
		return 0
	}
	return min(b.lease.hold, d.Limits.Total)
}

func (f *Fleet) spend(ev Spend, now step.Time, fx *step.Effects) {
	if f.spends[spendKey{ev.Device, ev.ID}] != nil {
		f.done(SpendID(ev.Device, ev.ID), ev.Amount, fx)
		return
	}
	b, err := f.mayReserve(ev, now)
	if err != nil {
		fx.Done = append(fx.Done, step.Outcome{ID: SpendID(ev.Device, ev.ID), Err: err})
		return
	}
	d := f.devices[ev.Device]
	switch err := b.tally.short(d.Limits, ev.Amount, f.most(d, b, b.tally), now); {
	case err == nil:
		f.reserve(d, b, ev, fx)
	case f.config.Shared && b.tally.short(d.Limits, ev.Amount, d.Limits.Total, now) == nil && len(f.waiting) < MaxWaiting:
		f.waiting = append(f.waiting, waiting{ev, now + leaseWait})
		f.ask(d, now, fx)
	default:
		fx.Done = append(fx.Done, step.Outcome{ID: SpendID(ev.Device, ev.ID), Err: err})
	}
}

// mayReserve checks everything but what may be spent here of the total, and
// returns the budget as of now.
func (f *Fleet) mayReserve(ev Spend, now step.Time) (b budget, err error) {
	d := f.devices[ev.Device]
	switch {
	case d == nil:
		return b, refusal(money.Invalid, errUnknown)
	case d.Revoked:
		return b, refusal(money.Refused, errRevoked)
	case f.open >= MaxOpenSpends || d.spends >= MaxOpenSpendsDevice:
		return b, refusal(money.Refused, fmt.Errorf("%d payments of the device and %d of the fleet are under way; the limits are %d and %d", d.spends, f.open, MaxOpenSpendsDevice, MaxOpenSpends))
	}
	if d.budget != nil {
		b = *d.budget
	}
	l, err := d.Limits.under(ev.Under)
	if err != nil {
		return b, refusal(money.Refused, err)
	}
	b.tally = b.tally.at(d.Limits, now)
	if err := b.tally.allow(l, ev.Amount, ev.Units, ev.To, now); err != nil || l.Total == d.Limits.Total {
		return b, err
	}
	return b, b.tally.short(l, ev.Amount, l.Total, now)
}

func (f *Fleet) reserve(d *device, b budget, ev Spend, fx *step.Effects) {
	s := &spending{spendKey: spendKey{d.Name, ev.ID}, amount: ev.Amount, start: b.tally.start, who: whois(ev.To)}
	b.tally.add(d.Limits, ev.Amount, s.who)
	f.keep(d, b)
	f.spends[s.spendKey] = s
	f.open++
	d.spends++
	fx.Put = append(fx.Put, s.record())
	f.done(SpendID(d.Name, ev.ID), ev.Amount, fx)
}

// keep replaces a device's budget.
func (f *Fleet) keep(d *device, b budget) {
	if d.budget == nil {
		d.budget = &budget{}
	}
	b.touched = d.budget.touched
	*d.budget = b
	f.touchBudget(d)
}

// settle closes a payment that went out, and remembers it for a while.
func (f *Fleet) settle(ev Spent, fx *step.Effects) {
	s := f.spends[spendKey{ev.Device, ev.ID}]
	if s == nil || s.nth != 0 {
		return
	}
	f.nth++
	s.nth = f.nth
	f.closed(s)
	f.settled = append(f.settled, s)
	fx.Put = append(fx.Put, s.record())
	if len(f.settled) > KeepSpends {
		old := f.settled[0]
		f.settled = f.settled[1:]
		delete(f.spends, old.spendKey)
		fx.Put = append(fx.Put, step.Record{Key: old.key()})
	}
}

func (f *Fleet) closed(s *spending) {
	f.open--
	if d := f.devices[s.device]; d != nil {
		d.spends--
	}
}

func (f *Fleet) unspent(ev Unspent, now step.Time, fx *step.Effects) {
	s := f.spends[spendKey{ev.Device, ev.ID}]
	if s == nil || s.nth != 0 {
		return
	}
	f.closed(s)
	delete(f.spends, s.spendKey)
	fx.Put = append(fx.Put, step.Record{Key: s.key()})
	d := f.devices[ev.Device]
	b := *d.budget
	b.tally = b.tally.at(d.Limits, now)
	b.tally.back(s.start, s.amount, s.who)
	f.keep(d, b)
	// What came back beyond the usual slice is of more use to the other gateways.
	if l := d.budget.lease; f.config.Shared && l.asked == 0 && l.window == b.tally.start && l.hold > b.tally.spent+2*slice(d.Limits) {
		f.give(d, b.tally.spent+slice(d.Limits), fx)
	}
}

func slice(l Limits) money.Amount { return max(l.Total/LeaseParts, 1) }

// ask wants to hold what the payments that wait need, and at least a slice.
func (f *Fleet) ask(d *device, now step.Time, fx *step.Effects) {
	b := budget{}
	if d.budget != nil {
		b = *d.budget
	}
	b.tally = b.tally.at(d.Limits, now)
	if b.lease.window == b.tally.start && b.lease.asked != 0 && now-b.lease.asked < leaseAgain {
		return
	}
	need := money.Amount(0)
	for _, w := range f.waiting {
		if w.Device == d.Name {
			need = plus(need, w.Amount)
		}
	}
	want := min(plus(b.tally.spent, max(need, slice(d.Limits))), d.Limits.Total)
	if b.lease.window != b.tally.start {
		b.lease.window, b.lease.hold = b.tally.start, 0
	}
	b.lease.n++
	b.lease.asked, b.lease.wanted = now, max(want, b.lease.hold)
	f.keep(d, b)
	f.lease(d, b.lease.wanted, fx)
}

func (f *Fleet) lease(d *device, hold money.Amount, fx *step.Effects) {
	l := d.budget.lease
	fx.Send = append(fx.Send, step.Packet{To: Quota, Msg: Lease{Device: d.Name, Window: l.window, Limit: d.Limits.Total, Hold: hold, N: l.n}})
}

func plus(a, b money.Amount) money.Amount {
	if sum, ok := a.Add(b); ok {
		return sum
	}
	return money.MaxAmount
}

// leased takes an answer to the last question, and lets the payments that waited
// for it go ahead. Other answers are old: this gateway has asked for something
// else since, and Quota knows.
func (f *Fleet) leased(ev Leased, now step.Time, fx *step.Effects) {
	d := f.devices[ev.Device]
	if d == nil || d.budget == nil || d.budget.lease.asked == 0 {
		return
	}
	l := &d.budget.lease
	if l.n != ev.N || l.window != ev.Window {
		return
	}
	full := ev.Hold < l.wanted // all that is left
	l.hold, l.asked = min(ev.Hold, l.wanted), 0
	f.touchBudget(d)
	var mine []Spend
	f.waiting = slices.DeleteFunc(f.waiting, func(w waiting) bool {
		if w.Device == d.Name {
			mine = append(mine, w.Spend)
		}
		return w.Device == d.Name
	})
	for _, s := range mine {
		if full {
			f.lack(s, nil, now, fx)
		} else {
			f.spend(s, now, fx)
		}
	}
}

// lack allows a payment from what is held, or refuses it because no more can be
// had.
func (f *Fleet) lack(s Spend, why error, now step.Time, fx *step.Effects) {
	if f.spends[spendKey{s.Device, s.ID}] != nil {
		f.done(SpendID(s.Device, s.ID), s.Amount, fx)
		return
	}
	b, err := f.mayReserve(s, now)
	if err == nil {
		d := f.devices[s.Device]
		if err = b.tally.short(d.Limits, s.Amount, f.most(d, b, b.tally), now); err == nil {
			f.reserve(d, b, s, fx)
			return
		}
		if why != nil {
			err = &money.Error{Kind: money.Refused, Op: "spend", Err: fmt.Errorf("%w: %w", why, err)}
		}
	}
	fx.Done = append(fx.Done, step.Outcome{ID: SpendID(s.Device, s.ID), Err: err})
}

// give lowers what is held, durably before Quota hears of it.
func (f *Fleet) give(d *device, hold money.Amount, fx *step.Effects) {
	l := &d.budget.lease
	l.hold, l.asked = hold, 0
	l.n++
	f.touchBudget(d)
	f.lease(d, hold, fx)
}

// release gives back everything that is not spent.
func (f *Fleet) release(now step.Time, fx *step.Effects) {
	for _, d := range f.sorted {
		if b := d.budget; b != nil && b.lease.hold > 0 {
			t := b.tally.at(d.Limits, now)
			if b.lease.window == t.start && b.lease.hold > t.spent {
				f.give(d, t.spent, fx)
			}
		}
	}
}

// errQuota is what a payment is told that has waited for a lease in vain.
var errQuota = errors.New("the keeper of the shared budget does not answer")
