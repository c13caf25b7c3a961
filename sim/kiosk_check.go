package sim

import (
	"fmt"
	"regexp"
	"strings"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// invariants hold after every step, whatever has failed.
func (k *Kiosk) invariants() error {
	if k.branch == nil || len(k.things) < 4 {
		return nil
	}
	if err := k.believed(); err != nil {
		return err
	}
	if err := k.follow(); err != nil {
		return err
	}
	return k.counters()
}

// follow is after the money: what came in is earned; that is in orders, in
// sessions, or has gone back; and what has gone back went once.
func (k *Kiosk) follow() error {
	_, payee := k.ends()
	hold, till := k.rail(holdName), k.till().Summary()
	if in := payee.Paid + hold.taken() + k.rail(cashName).taken(); in != till.Earned {
		return fmt.Errorf("%v came in, and the till has earned %v", in, till.Earned)
	}
	orders, back := money.Amount(0), money.Amount(0)
	for _, s := range k.sales {
		o := k.till().Order(s.id)
		mine := o.Paid
		switch {
		case o.State == "held" || o.State == "delivered":
			mine = o.Back // the rest is not yet the till's
		case o.How == "never taken" || k.heldTooLong(s, o):
			mine = o.Back
		case o.State == "failed" && hold.holds(s.id) > 0 && k.rail(cashName).takenOf(s.id) < o.Paid:
			mine = o.Back
		}
		orders += mine
		back += o.Back
		if o.State == "held" && o.Paid-o.Back != hold.holds(s.id) {
			return fmt.Errorf("order %v is held with %v, and the rail holds %v", s.id, o.Paid, hold.holds(s.id))
		}
		if o.State == "settled" && o.Paid < o.Due {
			return fmt.Errorf("order %v is settled for %v of %v", s.id, o.Paid, o.Due)
		}
		if err := k.session(s, o); err != nil {
			return err
		}
	}
	if orders != till.Earned || back != till.Back {
		return fmt.Errorf("orders have %v and have given back %v; the till says %v and %v", orders, back, till.Earned, till.Back)
	}
	return nil
}

// heldTooLong is the one way to deliver for nothing: the gateway slept, with a
// delivery on its way to it, until the rail had given the money back by itself.
func (k *Kiosk) heldTooLong(s *sale, o earn.Order) bool {
	if o.State != "failed" || !strings.Contains(o.Why, "delivered, and the held money went back") {
		return false
	}
	for _, p := range k.rail(holdName).payments {
		if p.order == s.id && p.state == payReturned && p.until <= k.clock(k.seller)+30*step.Second {
			return true
		}
	}
	return false
}

// session holds what an order has put into a session against what is there, and
// what its buyer was given back by whatever way.
func (k *Kiosk) session(s *sale, o earn.Order) error {
	credit := o.Credit
	if o.Tab && o.State == "settled" {
		credit = o.Paid
	}
	b, _ := k.tabs().Balance(s.id)
	refunded, out, last := money.Amount(0), money.Amount(0), money.Amount(0)
	if p := k.purse[payout{s.id, 0}]; p != nil {
		refunded = p.amount
	}
	for n := uint64(1); k.purse[payout{s.id, n}] != nil; n++ {
		last = k.purse[payout{s.id, n}].amount
		out += last
	}
	if b.State == "closing" && b.Back == last && b.In+out-last == credit {
		out -= last // the purse has paid, and the session does not know
	}
	if b.In+out != credit {
		return fmt.Errorf("order %v has given %v for credit; its session has %v and %v was paid out of it", s.id, credit, b.In, out)
	}
	if b.Left+b.Held+b.Back > b.In {
		return fmt.Errorf("session %v has %v in, and %v left, %v held, %v on its way out", s.id, b.In, b.Left, b.Held, b.Back)
	}
	if d := k.draws[s.id]; d != nil {
		if d.used > credit-out {
			return fmt.Errorf("session %v had %v, less %v paid out, and was drawn for %v", s.id, credit, out, d.used)
		}
		if b.Left+b.Back+d.used > b.In { // what is held is used, until it is settled
			return fmt.Errorf("session %v has %v in, %v left and %v on its way out, and was drawn for %v", s.id, b.In, b.Left, b.Back, d.used)
		}
	}
	switch {
	case refunded > 0 && o.State != "failed" && !(o.State == "refunded" && o.Back-o.Credit == refunded):
		return fmt.Errorf("order %v was paid back %v, and is %s %s with %v back", s.id, refunded, o.State, o.How, o.Back)
	case o.State == "refunded" && o.How != "credit" && o.How != "never taken" && o.Back-o.Credit != refunded:
		return fmt.Errorf("order %v says that it gave back %v to %s, and the purse has paid %v", s.id, o.Back, o.How, refunded)
	}
	return nil
}

// counters checks that no counter of a device's acknowledgements is believed twice,
// and that what is believed is its device's own word.
func (k *Kiosk) counters() error {
	type counted struct {
		device  string
		counter uint64
	}
	seen := map[counted]money.OrderID{}
	for _, s := range k.sales {
		o := k.till().Order(s.id)
		if len(o.Ack) == 0 {
			continue
		}
		a, err := fleet.ParseAck(o.Ack)
		if err != nil {
			return fmt.Errorf("order %v: %w", s.id, err)
		}
		if k.named(s.Device).said[string(o.Ack)] != s.id {
			return fmt.Errorf("order %v counts as delivered by a word that device %s has not given", s.id, s.Device)
		}
		if other, twice := seen[counted{a.Device, a.Counter}]; twice {
			return fmt.Errorf("orders %v and %v are delivered by acknowledgement %d of device %s", other, s.id, a.Counter, a.Device)
		}
		seen[counted{a.Device, a.Counter}] = s.id
	}
	return nil
}

// path is how the journal may tell of an order, not counting payments: what became
// of it, once, and after that perhaps that its owner gave the money back.
var path = regexp.MustCompile(`^T?(DS|DF|FR?|R)?(FR?)?$`)

// settled is what must hold once all is calm.
func (k *Kiosk) settled() error {
	for _, s := range k.sales {
		o := k.till().Order(s.id)
		k.log("order ends as %s %s, to %s, by %s", o.State, o.How, s.To, s.rail)
		acted := s.To == earn.Device && k.within[s.id]
		if t := k.named(s.Device); t != nil {
			acted = t.acted[s.id] > 0
		}
		switch o.State {
		case "quoted":
			if k.rail(holdName).takenOf(s.id)+k.rail(cashName).takenOf(s.id) > 0 || s.rail == "" && s.pays > 0 {
				return fmt.Errorf("order %v was paid, and is not known", s.id)
			}
			continue
		case "paid":
			if o.Item != "" || s.claims && o.Paid >= s.Quote.Due {
				return fmt.Errorf("order %v is paid with %v of %v and nothing has become of it: %s", s.id, o.Paid, s.Quote.Due, o.Why)
			}
			continue
		case "settled":
			if s.To != earn.Tab && !acted {
				return fmt.Errorf("order %v is settled, and nothing was done", s.id)
			}
		case "refunded":
			if strings.Contains(o.Why, "the device has not acted") && acted && !k.named(s.Device).restored {
				return fmt.Errorf("order %v is given back because nothing was done, and it was", s.id)
			}
		case "failed":
			if p := k.purse[payout{s.id, 0}]; (p == nil || !p.stuck) && !k.heldTooLong(s, o) {
				return fmt.Errorf("order %v failed, and its money did not go back: %s", s.id, o.Why)
			}
		default:
			return fmt.Errorf("order %v ends as %s", s.id, o.State)
		}
		told, way := k.books.orders[s.id], k.books.paths[s.id]
		if !path.MatchString(strings.ReplaceAll(way, "P", "")) || way[0] != 'P' && way[0] != 'T' && way[0] != 'F' {
			return fmt.Errorf("the journal tells of order %v as %q", s.id, way)
		}
		if told.State != o.State || told.Paid != o.Paid || told.Back != o.Back || told.How != o.How || told.Test != o.Test {
			return fmt.Errorf("order %v: the books say %s, %v paid, %v back; the till %s, %v, %v", s.id, told.State, told.Paid, told.Back, o.State, o.Paid, o.Back)
		}
	}
	for n := range k.rail(holdName).payments {
		if p := k.rail(holdName).payments[n]; p.state != payTaken && p.state != payReturned {
			return fmt.Errorf("payment %d of order %v is held for ever", n, p.order)
		}
	}
	return k.believed()
}
