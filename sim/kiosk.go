package sim

import (
	"bytes"
	"math/rand/v2"
	"slices"

	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
	"coinop.dev/world/drive"
)

// Kiosk is the world of a gateway that sells at a door what its devices do: a till,
// sessions, a fleet and a journal on one disk; devices with disks of their own; a
// second gateway that shares the devices' budgets; and around them buyers, an
// outlet for refunds, books and somebody who plays old and forged messages.
type Kiosk struct {
	*shop
	branch *Machine
	fleets [2]fleet.Config
	things []*thing

	sales []*sale
	byID  map[money.OrderID]*sale
	calm  bool

	within map[money.OrderID]bool // the built-in device has done it
	vault  map[uint64]bool        // what the holding rail's vault has done: taken, or given back
	purse  map[payout]*paidBack
	draws  map[money.OrderID]*drawn
	books  kioskBooks
	quota  kioskQuota

	requests, payments uint64 // so far

	heard []money.OrderID // acknowledged in time, in this step
	life  int             // of the gateway in the step before
	kept  [][]byte        // messages that somebody has overheard
}

// NewKiosk sets the world up.
func NewKiosk(seed uint64, f Faults, b Bug) (*Kiosk, error) {
	s, payer, err := newShop(seed, f)
	if err != nil {
		return nil, err
	}
	k := &Kiosk{
		shop: s, byID: map[money.OrderID]*sale{}, vault: map[uint64]bool{}, purse: map[payout]*paidBack{},
		within: map[money.OrderID]bool{}, draws: map[money.OrderID]*drawn{},
	}
	k.quota.init()
	s.via = oneway.PayerName(s.id)
	k.Bug = b
	k.OnDone, k.World.Outlet, k.Sent, k.Check = k.done, k.outlet, k.sent, k.invariants
	k.fleets[0] = fleet.Config{Root: s.sellerKey.Derive("sim/fleet"), Node: s.sellerKey, Shared: true}
	k.fleets[1] = fleet.Config{Root: k.fleets[0].Root, Node: s.sellerKey.Derive("sim/branch"), Number: 1, Shared: true}
	s.buys = func(*drive.Machine, step.Reader) error { return nil }
	s.sells = k.gateway
	if err := s.start(payer); err != nil {
		return nil, err
	}
	k.branch, err = k.Add("branch", func(db step.Reader) (*drive.Machine, error) {
		m := drive.NewMachine()
		f, err := fleet.Load(db, k.fleets[1])
		m.Add(fleet.Name, k.wrap(fleet.Name, f))
		return m, err
	})
	if err != nil {
		return nil, err
	}
	return k, k.furnish()
}

// KioskFleet is what the fleet of a seed's gateway is told, for mistakes that have to
// be planted in it.
func KioskFleet(seed uint64) (fleet.Config, error) {
	s, _, err := newShop(seed, Faults{})
	if err != nil {
		return fleet.Config{}, err
	}
	return fleet.Config{Root: s.sellerKey.Derive("sim/fleet"), Node: s.sellerKey, Shared: true}, nil
}

// gateway adds what a shop's till has beside it.
func (k *Kiosk) gateway(m *drive.Machine, db step.Reader) error {
	unwrap(m.Core(earn.Name)).(*earn.Book).Journal = true
	tabs, err := tab.Load(db)
	if err != nil {
		return err
	}
	tabs.Journal = true
	m.Add(tab.Name, k.wrap(tab.Name, tabs))
	j, err := journal.Load(db)
	if err != nil {
		return err
	}
	m.Add(journal.Name, k.wrap(journal.Name, j))
	f, err := fleet.Load(db, k.fleets[0])
	if err != nil {
		return err
	}
	m.Add(fleet.Name, &witness{k.wrap(fleet.Name, f), k})
	for _, name := range []string{holdName, cashName} {
		r, err := loadKioskRail(db, name)
		if err != nil {
			return err
		}
		m.Add(name, k.wrap(name, r), earn.Name)
	}
	return nil
}

func (k *Kiosk) till() *earn.Book            { return k.seller.Core(earn.Name).(*earn.Book) }
func (k *Kiosk) tabs() *tab.Tabs             { return k.seller.Core(tab.Name).(*tab.Tabs) }
func (k *Kiosk) rail(name string) *kioskRail { return k.seller.Core(name).(*kioskRail) }

// clock is what a machine takes the time for.
func (k *Kiosk) clock(m *Machine) step.Time { return k.Now + m.skew }

// A sale is an order at the door, and what its buyer does about it.
type sale struct {
	earn.Sell
	id     money.OrderID
	rail   string       // who is paid: the channel, holdName or cashName
	pays   money.Amount // at first
	then   money.Amount // and later, in cash
	claims bool         // that it is paid, ever
	again  []func()     // what to do once more when all is calm
}

// Play runs the whole story.
func (k *Kiosk) Play(orders int) error {
	rough := k.Faults
	k.Faults = Faults{DelayMax: 10}
	k.enrol()
	if err := k.Run(k.Now + step.Second); err != nil {
		return err
	}
	k.Faults = rough
	begin := k.Now
	span := step.Time(orders) * step.Second
	k.Weather(begin + span)
	k.Chain.Blocks(begin + span)
	r := k.Random("load")
	for range orders {
		k.At(begin+5*step.Second+step.Time(r.Int64N(int64(span))), k.comes)
	}
	k.trouble(begin+step.Second, begin+span+5*step.Second)
	if err := k.Run(begin + span + 20*step.Second); err != nil {
		return err
	}
	return k.end()
}

// every does something at random times, on the average so often.
func (k *Kiosk) every(stream string, from, to, often step.Time, do func(r *rand.Rand)) {
	r := k.Random(stream)
	for t := from; t < to; t += 1 + step.Time(r.Int64N(int64(2*often))) {
		k.At(t, func() { do(r) })
	}
}

// trouble is what happens beside the sales, while it is rough.
func (k *Kiosk) trouble(from, to step.Time) {
	k.every("draws", from, to, 2*step.Second, k.drawing)
	k.every("spends", from, to, step.Second/2, k.spending)
	k.every("books", from, to, step.Second, k.books.tick(k))
	k.every("attacker", from, to, step.Second/2, k.attack)
	k.every("power", from, to, 6*step.Second, func(r *rand.Rand) {
		machines := []*Machine{k.seller, k.branch}
		for _, t := range k.things {
			machines = append(machines, t.m, t.m)
		}
		k.reboot(machines[r.IntN(len(machines))])
	})
	k.every("owner", from, to, 8*step.Second, k.regrets)
	k.every("clocks", from, to, 10*step.Second, k.clocks)
	if r := k.Random("clocks"); r.IntN(3) == 0 {
		t := k.things[len(k.things)-1]
		k.At(from+step.Time(r.Int64N(int64(to-from)/2)), func() { t.copied = t.m.Disk.copy() })
		k.At(to-step.Time(r.Int64N(int64(to-from)/3)), func() { k.restore(t) })
	}
}

// clocks are set now and then: all go on by hours, as if nothing ran, or one is
// put right by some seconds, either way. Two days do not meet in that.
func (k *Kiosk) clocks(r *rand.Rand) {
	if r.IntN(4) == 0 {
		d := step.Time(r.Int64N(int64(3 * step.Hour)))
		for _, m := range k.order {
			m.skew += d
		}
		k.log("all clocks go on by %d ms", d)
		return
	}
	m := k.order[r.IntN(len(k.order))]
	d := step.Time(r.Int64N(int64(10*step.Second))) - 5*step.Second
	if now := k.clock(m); (now+d)/step.Day == now/step.Day {
		m.skew += d
		k.log("%s sets its clock by %d ms", short(m), d)
	}
}

func (k *Kiosk) reboot(m *Machine) {
	k.log("%s loses power", short(m))
	if err := k.World.start(m); err != nil {
		k.Fail(err)
	}
}

// copy is the disk as it is now, for whoever restores an old one.
func (d *Disk) copy() *Disk { return &Disk{log: bytes.Clone(d.log)} }

// enrol puts the devices into both fleets.
func (k *Kiosk) enrol() {
	var all []fleet.Profile
	period, err := spend.ParsePeriod("daily")
	step.Assert(err == nil, "%v", err)
	for _, t := range k.things {
		p := fleet.Profile{Name: t.name, Limits: fleet.Limits{Total: kioskBudget, Period: period}}
		if !t.config.Key.IsZero() {
			p.Key = t.config.Key.Public()
		}
		all = append(all, p)
	}
	k.Tell(k.Now, k.seller, fleet.Name, fleet.Add{Ask: "add", Devices: all})
	k.Tell(k.Now, k.branch, fleet.Name, fleet.Add{Ask: "add", Devices: all})
}

// end lets all settle, and looks at what has become of it.
func (k *Kiosk) end() error {
	k.Calm()
	k.calm, k.Sample = true, 5
	k.Chain.Blocks(k.Now + 30*step.Second)
	for _, t := range k.things {
		k.reboot(t.m)
	}
	for wait := range step.Time(3) {
		k.At(k.Now+(1+wait*20)*step.Second, func() {
			for _, s := range k.sales {
				for _, again := range s.again {
					again()
				}
			}
		})
	}
	if err := k.Run(k.Now + 3*step.Minute); err != nil {
		return err
	}
	// The owner looks after what nobody can know, and pays sessions out.
	for _, s := range k.sales {
		o := k.till().Order(s.id)
		switch {
		case o.State == "paid" && o.Item != "" && o.Until == 0:
			k.Tell(k.Now+1, k.seller, earn.Name, earn.GiveBack{Order: s.id, To: s.Refund})
		case s.id[5]%3 == 0:
			k.Tell(k.Now+1, k.seller, tab.Name, tab.PayOut{Tab: s.id, To: "refund://session"})
		}
	}
	if err := k.Run(k.Now + 3*step.Minute); err != nil {
		return err
	}
	for range 3 {
		k.books.read(k, journal.MaxKept)
	}
	return k.settled()
}

func (k *Kiosk) newID(r *rand.Rand) (id money.OrderID) {
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

func sortedIDs[V any](m map[money.OrderID]V) (ids []money.OrderID) {
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b money.OrderID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}
