package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// kioskBudget is what each device may spend in a day, at both gateways together.
const kioskBudget money.Amount = 20_000

// kioskQuota is the keeper of the budgets that the gateways share, and what their
// devices have paid of them.
type kioskQuota struct {
	held  map[string]map[*Machine]fleet.Leased // by device and window
	paid  map[string]money.Amount              // by device and day
	day   map[string]step.Time                 // the latest that a gateway has seen, by gateway and device
	asked map[string]*outgo                    // by the outcome's ID
}

// outgo is a payment of a device's.
type outgo struct {
	spend fleet.Spend
	sum   string // what it counts in, once it is allowed
	over  bool
}

func (q *kioskQuota) init() {
	q.held, q.paid = map[string]map[*Machine]fleet.Leased{}, map[string]money.Amount{}
	q.day, q.asked = map[string]step.Time{}, map[string]*outgo{}
}

// lease answers a gateway, over a bad line.
func (q *kioskQuota) lease(k *Kiosk, m *Machine, l fleet.Lease) {
	r := k.Random("quota")
	for range k.copies(r) {
		k.At(k.Now+k.lag(r), func() {
			answer, ok := q.take(m, l)
			if !ok {
				return
			}
			for range k.copies(r) {
				k.Tell(k.Now+k.lag(r), m, fleet.Name, answer)
			}
		})
	}
}

func (k *Kiosk) lag(r *rand.Rand) step.Time { return step.Time(r.Int64N(900)) }

func (k *Kiosk) copies(r *rand.Rand) int {
	if k.calm {
		return 1
	}
	return []int{0, 1, 1, 1, 2}[r.IntN(5)]
}

// take is Lease's contract.
func (q *kioskQuota) take(m *Machine, l fleet.Lease) (fleet.Leased, bool) {
	key := fmt.Sprint(l.Device, " ", l.Window)
	if q.held[key] == nil {
		q.held[key] = map[*Machine]fleet.Leased{}
	}
	if l.N < q.held[key][m].N {
		return fleet.Leased{}, false
	}
	free := l.Limit
	for other, h := range q.held[key] {
		if other != m {
			free -= min(free, h.Hold)
		}
	}
	answer := fleet.Leased{Device: l.Device, Window: l.Window, Hold: min(l.Hold, free), N: l.N}
	q.held[key][m] = answer
	return answer, true
}

// spending has a device pay at one of the gateways.
func (k *Kiosk) spending(r *rand.Rand) {
	m := []*Machine{k.seller, k.branch}[r.IntN(2)]
	if r.IntN(15) == 0 {
		k.Tell(k.Now, m, fleet.Name, fleet.Release{})
		return
	}
	s := fleet.Spend{Device: k.things[r.IntN(len(k.things))].name, ID: k.newID(r), Amount: 1 + money.Amount(r.Uint64N(2500)), To: "x://shop"}
	k.quota.asked[fleet.SpendID(s.Device, s.ID)] = &outgo{spend: s}
	for range 1 + r.IntN(2) {
		k.Tell(k.Now+step.Time(r.Int64N(3000)), m, fleet.Name, s)
	}
}

// answered counts what a gateway has allowed, in the day that it counts in: its
// clock's, unless that has been in a later one.
func (q *kioskQuota) answered(k *Kiosk, m *Machine, o step.Outcome) {
	a := q.asked[o.ID]
	if o.Err != nil || a == nil || a.sum != "" || a.over {
		return
	}
	r, day := k.Random("spent"), k.clock(m)/step.Day
	of := m.Name + " " + a.spend.Device
	q.day[of] = max(q.day[of], day)
	a.sum = fmt.Sprint(a.spend.Device, " ", q.day[of])
	q.paid[a.sum] += a.spend.Amount
	if q.paid[a.sum] > kioskBudget {
		k.Fail(fmt.Errorf("device %s has spent %v of %v", a.spend.Device, q.paid[a.sum], kioskBudget))
	}
	at := k.Now + step.Time(r.Int64N(int64(5*step.Second)))
	if r.IntN(4) == 0 {
		k.At(at, func() { // it has not gone out: others may have it, as soon as a gateway knows
			q.paid[a.sum] -= a.spend.Amount
			a.over = true
			k.Tell(k.Now, m, fleet.Name, fleet.Unspent{Device: a.spend.Device, ID: a.spend.ID})
		})
		return
	}
	k.Tell(at, m, fleet.Name, fleet.Spent{Device: a.spend.Device, ID: a.spend.ID})
}

// kioskBooks tail the journal: they keep what they have read, and crash before and
// after they have said so.
type kioskBooks struct {
	events []journal.Event
	orders map[money.OrderID]earn.Order // as the last event says
	paths  map[money.OrderID]string     // a letter for each event
}

func (b *kioskBooks) tick(k *Kiosk) func(*rand.Rand) {
	return func(r *rand.Rand) {
		if r.IntN(6) == 0 {
			return // away
		}
		b.read(k, 1+r.IntN(40))
		if n := len(b.events); n > 0 && r.IntN(4) > 0 {
			upTo := n - r.IntN(min(n, 3)) // an older word may come later
			k.Tell(k.Now+step.Time(r.Int64N(1000)), k.seller, journal.Name, journal.Trim{UpTo: uint64(upTo)})
		}
	}
}

var letters = map[string]string{
	journal.OrderPaid: "P", journal.TestFired: "T", journal.OrderDelivered: "D",
	journal.OrderSettled: "S", journal.OrderFailed: "F", journal.OrderRefunded: "R",
}

// read takes the next events, which must be the next ones.
func (b *kioskBooks) read(k *Kiosk, most int) {
	if b.orders == nil {
		b.orders, b.paths = map[money.OrderID]earn.Order{}, map[money.OrderID]string{}
	}
	for _, e := range k.seller.Core(journal.Name).(*journal.Journal).Since(uint64(len(b.events)), most) {
		if e.N != uint64(len(b.events))+1 {
			k.Fail(fmt.Errorf("the books have %d events, and the next one in the journal is %d", len(b.events), e.N))
			return
		}
		e.Data = bytes.Clone(e.Data)
		b.events = append(b.events, e)
		letter := letters[e.Type]
		if letter == "" {
			continue
		}
		var o earn.Order
		if err := json.Unmarshal(e.Data, &o); err != nil || o.ID.String() != e.Subject {
			k.Fail(fmt.Errorf("event %d, %s of %s: %v", e.N, e.Type, e.Subject, err))
			return
		}
		b.orders[o.ID] = o
		b.paths[o.ID] += letter
	}
}
