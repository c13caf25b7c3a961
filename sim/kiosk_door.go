package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
)

// comes is a buyer at the door: what it wants, how it pays, and how it asks.
func (k *Kiosk) comes() {
	r := k.Random("load")
	now := k.clock(k.seller)
	s := &sale{id: k.newID(r), claims: r.IntN(20) > 0}
	units := 1 + r.Uint64N(3)
	q := offer.Quote{Order: s.id, Service: "water", Units: units, Due: k.price * money.Amount(units), At: now, Until: now + 30*step.Second}
	s.Sell = earn.Sell{Quote: q, Buyer: "http", To: earn.Fleet, Device: k.things[r.IntN(len(k.things))].name, Within: 2*step.Second + step.Time(r.Int64N(int64(10*step.Second)))}
	s.rail, s.pays = "", q.Due
	if r.IntN(2) == 0 {
		s.Refund = "refund://" + s.id.String()[:8]
	}
	switch r.IntN(10) {
	case 0, 1:
		s.Hold, s.rail = true, holdName
	case 2:
		s.Hold, s.rail, s.To, s.Device, s.Within = true, holdName, earn.Device, "", s.Within*step.Time(r.IntN(2))
	case 3, 4:
		s.To, s.Device, s.Within = earn.Tab, "", 0
		if r.IntN(2) == 0 {
			s.then = k.price
		}
	case 5:
		s.To, s.Device = earn.Device, ""
	case 6:
		s.Test, s.Quote.Due, s.pays = true, 0, 0
	case 7:
		s.Within = 0
	}
	if s.rail == "" && r.IntN(3) == 0 {
		s.rail = cashName
	}
	switch r.IntN(12) {
	case 0: // too little, and perhaps the rest
		if s.pays > 0 && s.rail != "" {
			s.pays--
			s.then = money.Amount(r.IntN(2))
		}
	case 1:
		if s.rail != "" && s.pays > 0 {
			s.pays += 1000
		}
	case 2:
		if s.pays > 0 {
			s.then = s.Quote.Due // twice
		}
	case 3:
		s.pays = 0 // never
	}
	k.sales = append(k.sales, s)
	k.byID[s.id] = s
	k.log("order %v: %+v", s.id, s.Sell)
	k.claim(s, r)
	k.pay(s, r)
}

// regrets is the owner who gives the money of some order back, whatever has become
// of it.
func (k *Kiosk) regrets(r *rand.Rand) {
	if len(k.sales) > 0 {
		s := k.sales[r.IntN(len(k.sales))]
		k.Tell(k.Now, k.seller, earn.Name, earn.GiveBack{Order: s.id, To: s.Refund})
	}
}

// claim tells the till of an order, some times, of which some are lost.
func (k *Kiosk) claim(s *sale, r *rand.Rand) {
	if !s.claims {
		return
	}
	sell := func(at step.Time) {
		k.Tell(at, k.seller, earn.Name, s.Sell)
	}
	at := k.Now + step.Time(r.Int64N(int64(5*step.Second)))
	for range 1 + r.IntN(5) {
		if r.IntN(4) > 0 {
			sell(at)
		}
		at += step.Time(r.Int64N(int64(6 * step.Second)))
	}
	s.again = append(s.again, func() { sell(k.Now) })
}

// pay pays an order, and makes sure of it when all is calm.
func (k *Kiosk) pay(s *sale, r *rand.Rand) {
	do := func(core string, amount money.Amount, until step.Time) {
		at := k.Now + step.Time(r.Int64N(int64(8*step.Second)))
		if until != 0 {
			at += 3 * step.Second // mostly after it was claimed
		}
		k.payments++
		p := pay{n: k.payments, order: s.id, amount: amount}
		again := func() {
			if until != 0 {
				p.until = k.clock(k.seller) + until
			}
			k.Tell(k.Now, k.seller, core, p)
		}
		k.At(at, again)
		s.again = append(s.again, again)
	}
	switch {
	case s.pays == 0:
	case s.rail == holdName:
		do(holdName, s.pays, 5*step.Second+step.Time(r.Int64N(int64(40*step.Second))))
		if r.IntN(2) == 0 { // another invoice of the same order
			do(holdName, s.pays, 40*step.Second)
		}
		s.again = append(s.again, func() { // and another one
			if k.till().Order(s.id).State == "quoted" {
				k.payments++
				p := pay{n: k.payments, order: s.id, amount: s.pays, until: k.clock(k.seller) + 40*step.Second}
				k.Tell(k.Now+step.Second, k.seller, holdName, p)
			}
		})
	case s.rail == cashName:
		do(cashName, s.pays, 0)
	default:
		order := money.Order{ID: s.id, To: "oneway://seller", Amount: s.pays, For: "water", Units: s.Quote.Units}
		again := func() { k.Tell(k.Now, k.buyer, spend.Name, spend.Ask{Order: order, Via: k.via}) }
		k.At(k.Now+step.Time(r.Int64N(int64(5*step.Second))), again)
		s.again = append(s.again, again)
	}
	if s.then > 0 {
		k.At(k.Now+step.Time(r.Int64N(int64(15*step.Second))), func() { do(cashName, s.then, 0) })
	}
}

// drawn is what the door has drawn of one session.
type drawn struct {
	used money.Amount            // of what was granted: all, until it is settled for less
	open map[uint64]money.Amount // requests that are not settled
}

// drawing has ten requests at once ask for more than a session has.
func (k *Kiosk) drawing(r *rand.Rand) {
	var some []money.OrderID
	for _, s := range k.sales {
		if b, ok := k.tabs().Balance(s.id); ok && b.Left > 0 {
			some = append(some, s.id)
		}
	}
	if len(some) == 0 {
		return
	}
	id := some[r.IntN(len(some))]
	d := k.draws[id]
	if d == nil {
		d = &drawn{open: map[uint64]money.Amount{}}
		k.draws[id] = d
	}
	b, _ := k.tabs().Balance(id)
	if r.IntN(12) == 0 {
		k.Tell(k.Now, k.seller, tab.Name, tab.PayOut{Tab: id, To: "refund://session"})
		return
	}
	for range 1 + r.IntN(10) {
		k.requests++
		amount := 1 + money.Amount(r.Uint64N(uint64(b.Left)))
		if r.IntN(2) == 0 {
			amount = 1 + amount/10
		}
		d.open[k.requests] = amount
		k.Tell(k.Now+step.Time(r.IntN(3)), k.seller, tab.Name, tab.Draw{Tab: id, Hold: k.requests, Amount: amount})
	}
}

// granted is the answer to a request: it is served, and settled, or not, or twice.
func (k *Kiosk) granted(o step.Outcome) {
	for _, id := range sortedIDs(k.draws) {
		d := k.draws[id]
		if len(o.ID) != len(id)+8 || !strings.HasPrefix(o.ID, string(id[:])) {
			continue
		}
		hold := uint64(0)
		for _, c := range []byte(o.ID[len(id):]) {
			hold = hold<<8 | uint64(c)
		}
		amount := d.open[hold]
		if o.Err != nil {
			return
		}
		d.used += amount
		r := k.Random("requests")
		used := money.Amount(r.Uint64N(uint64(amount + 1)))
		for range []int{0, 1, 1, 1, 2}[r.IntN(5)] {
			k.At(k.Now+step.Time(r.Int64N(int64(3*step.Second))), func() {
				if _, first := d.open[hold]; first {
					delete(d.open, hold)
					d.used -= amount - used
				}
				k.Tell(k.Now, k.seller, tab.Name, tab.Settle{Tab: id, Hold: hold, Used: used})
			})
		}
	}
}

func (k *Kiosk) outlet(m *Machine, p step.Packet) {
	if k.Chain.Take(m, p) {
		return
	}
	name, device := strings.CutPrefix(p.To, "device/")
	switch msg := p.Msg.(type) {
	case fleet.Act: // which is a Command, too
		k.act(k.thing(m), msg)
	case message.Message:
		if t := k.named(name); device && t != nil {
			k.carry(m, t.m, msg.Append(nil))
		}
	case earn.Deliver:
		k.builtIn(msg)
	case earn.Refund:
		k.refund(m, p.From, msg)
	case vaultWord:
		k.vaulted(m, msg)
	case fleet.Lease:
		k.quota.lease(k, m, msg)
	}
}

func (k *Kiosk) done(m *Machine, o step.Outcome) {
	switch {
	case o.Core == tab.Name && m == k.seller:
		k.granted(o)
	case o.Core == fleet.Name && strings.HasPrefix(o.ID, "spend/"):
		k.quota.answered(k, m, o)
	}
}

// vaulted is the vault: it does what it is told first, and answers what it has done,
// unless that is lost.
func (k *Kiosk) vaulted(m *Machine, w vaultWord) {
	if !k.calm && k.chance("vault", 20) {
		return
	}
	if was, known := k.vault[w.n]; known && was != w.take {
		k.Fail(fmt.Errorf("payment %d is both taken and given back", w.n))
	}
	k.vault[w.n] = w.take
	if k.calm || !k.chance("vault", 20) {
		k.Tell(k.Now+step.Time(k.Random("vault").Int64N(1500)), m, holdName, vaultDone{w.n})
	}
}

// A payout names one refund, as the purse does that pays it.
type payout struct {
	order money.OrderID
	nth   uint64
}

type paidBack struct {
	amount      money.Amount // 0 until it is paid
	shut, stuck bool         // there is no way; nobody will ever know
}

// refund is the purse: it pays an ID once, and says so again however often it is
// asked, and for whatever amount.
func (k *Kiosk) refund(m *Machine, from string, ask earn.Refund) {
	r := k.Random("purse")
	key := payout{ask.Order, ask.Nth}
	p := k.purse[key]
	if p == nil {
		p = &paidBack{shut: r.IntN(4) == 0, stuck: r.IntN(12) == 0}
		k.purse[key] = p
	}
	var err error = &money.Error{Kind: money.Pending, Op: "refund", Err: errors.New("nobody knows")}
	switch {
	case p.amount > 0:
		err = nil
	case p.stuck:
	case p.shut:
		err = &money.Error{Kind: money.Unpaid, Op: "refund", Err: errors.New("no way there")}
	case k.calm || r.IntN(3) > 0:
		k.log("%v is paid back for %v, to %s", ask.Amount, ask.Order, from)
		p.amount = ask.Amount
		err = nil
	}
	if p.amount > 0 && p.amount != ask.Amount {
		k.Fail(fmt.Errorf("%v is paid back for order %v, and %s thinks of %v", p.amount, ask.Order, from, ask.Amount))
	}
	switch n := r.IntN(6); {
	case k.calm:
	case n == 0:
		return
	case n == 1 && !p.shut:
		err = &money.Error{Kind: money.Pending, Op: "refund", Err: errors.New("nobody knows")}
	}
	k.Tell(k.Now+step.Time(r.Int64N(2000)), m, from, earn.Refunded{Order: ask.Order, Nth: ask.Nth, Err: err})
}
