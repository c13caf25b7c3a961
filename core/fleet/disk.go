package fleet

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

// The records of a fleet: its head; of each device its profile and what is known
// of it, and its budget once it has spent; each command that is outstanding or
// late; each payment that is open or remembered; each invitation.
const (
	headKey       = "fleet/head"
	devicePrefix  = "fleet/d/"
	budgetPrefix  = "fleet/b/"
	commandPrefix = "fleet/c/"
	spendPrefix   = "fleet/s/"
)

func deviceKey(name string) string { return devicePrefix + name }
func budgetKey(name string) string { return budgetPrefix + name }

func (f *Fleet) head() step.Record {
	return step.Record{Key: headKey, Value: codec.AppendUint(nil, f.generation)}
}

func (f *Fleet) readHead(r *codec.Reader) {
	f.generation = uint32(r.Uint(math.MaxUint32, "generation"))
}

func (l Limits) append(b []byte) []byte {
	for _, a := range []money.Amount{l.Order, l.UnitPrice, l.Total, l.Payee} {
		b = codec.AppendUint(b, a)
	}
	b = codec.AppendUint(b, l.PerMinute)
	period := ""
	if l.Period != (spend.Period{}) {
		period = l.Period.String()
	}
	return codec.AppendBytes(b, period)
}

func readLimits(r *codec.Reader) (l Limits) {
	l.Order, l.UnitPrice, l.Total, l.Payee = r.Amount(), r.Amount(), r.Amount(), r.Amount()
	l.PerMinute = r.Int(maxPerMinute, "orders in a minute")
	period, err := spend.ParsePeriod(r.String(maxPeriod, "period"))
	if err != nil {
		r.Fail(err)
	}
	l.Period = period
	return l
}

func (p Profile) append(b []byte) []byte {
	b = codec.AppendBytes(b, p.Name)
	b = codec.AppendBytes(b, p.Tenant)
	b = codec.AppendUint(b, len(p.Tags))
	for _, tag := range p.Tags {
		b = codec.AppendBytes(b, tag)
	}
	b = p.Limits.append(b)
	b = codec.AppendUint(b, len(p.Payees))
	for _, to := range p.Payees {
		b = codec.AppendBytes(b, to)
	}
	b = append(b, p.Key[:]...)
	b = codec.AppendUint(b, p.Generation)
	b = append(b, byte(bit(p.Revoked)))
	return codec.AppendUint(b, p.Version)
}

func readProfile(r *codec.Reader) Profile {
	p := Profile{Name: r.String(trade.MaxName, "name"), Tenant: r.String(trade.MaxName, "tenant")}
	for n := r.Int(MaxTags, "number of tags"); n > 0 && r.Err() == nil; n-- {
		p.Tags = append(p.Tags, r.String(trade.MaxName, "tag"))
	}
	p.Limits = readLimits(r)
	for n := r.Int(MaxPolicyPayees, "number of payees"); n > 0 && r.Err() == nil; n-- {
		p.Payees = append(p.Payees, r.String(maxTo, "payee"))
	}
	r.Fill(p.Key[:])
	p.Generation = uint32(r.Uint(math.MaxUint32, "generation"))
	p.Revoked, p.Version = readBit(r), r.Uvarint()
	return p
}

func (d *device) record() step.Record {
	b := d.Profile.append(nil)
	b = codec.AppendBytes(b, d.firmware)
	b = codec.AppendUint(b, int64(d.seen))
	b = codec.AppendUint(b, d.next)
	b = codec.AppendUint(b, d.acks.last)
	b = codec.AppendUint(b, d.acks.used)
	b = codec.AppendUint(b, len(d.faults))
	for _, f := range d.faults {
		b = codec.AppendUint(b, int64(f.At))
		b = codec.AppendBytes(b, f.Text)
		b = codec.AppendUint(b, f.Count)
	}
	return step.Record{Key: deviceKey(d.Name), Value: b}
}

func (f *Fleet) readDevice(name string, r *codec.Reader) {
	d := &device{Profile: readProfile(r)}
	d.firmware, d.seen, d.next = r.String(MaxFirmware, "firmware"), readTime(r), r.Uvarint()
	d.acks = acks{r.Uvarint(), r.Uvarint()}
	for n := r.Int(MaxFaults, "number of faults"); n > 0 && r.Err() == nil; n-- {
		d.faults = append(d.faults, Fault{readTime(r), r.String(MaxText, "fault"), r.Int(math.MaxInt32, "count")})
	}
	if d.Name != name {
		r.Fail(fmt.Errorf("it is of device %q", d.Name))
		return
	}
	d.Name = d.Profile.Name
	f.devices[d.Name] = d
	f.sorted = append(f.sorted, d) // the store scans by name
	if d.Key != (keys.Public{}) {
		f.byKey[d.Key] = d
	}
}

func (d *device) budgetRecord() step.Record {
	b := d.budget.tally.append(nil)
	b = codec.AppendUint(b, zigzag(d.budget.lease.window))
	b = codec.AppendUint(b, d.budget.lease.hold)
	return step.Record{Key: budgetKey(d.Name), Value: codec.AppendUint(b, d.budget.lease.n)}
}

func (f *Fleet) readBudget(name string, r *codec.Reader) {
	b := &budget{tally: readTally(r)}
	b.lease = lease{window: unzigzag(r.Uvarint()), hold: r.Amount(), n: r.Uvarint()}
	if d := f.owner(name, r); d != nil {
		d.budget = b
	}
}

// owner is the device that a record belongs to.
func (f *Fleet) owner(name string, r *codec.Reader) *device {
	d := f.devices[name]
	if d == nil {
		r.Fail(fmt.Errorf("there is no device %q; the store is damaged, restore a backup", name))
	}
	return d
}

func (c *command) key() string {
	return string(binary.BigEndian.AppendUint64([]byte(commandPrefix+c.device.Name+"/"), c.seq))
}

func (c *command) record() step.Record {
	b := append([]byte(nil), c.order[:]...)
	b = codec.AppendBytes(b, c.item)
	b = codec.AppendUint(b, c.units)
	b = codec.AppendUint(b, int64(c.until))
	b = codec.AppendUint(b, c.said)
	return step.Record{Key: c.key(), Value: append(b, byte(bit(c.test)+2*bit(c.late)))}
}

func (f *Fleet) readCommand(name string, r *codec.Reader) {
	c := &command{}
	r.Fill(c.order[:])
	c.item, c.units, c.until, c.said = r.String(trade.MaxName, "item"), r.Uvarint(), readTime(r), r.Uvarint()
	flags := r.Int(3, "flags")
	c.test, c.late = flags&1 == 1, flags&2 == 2
	cut := len(name) - 9
	if cut < 1 || name[cut] != '/' {
		r.Fail(fmt.Errorf("%q is no command", name))
		return
	}
	if c.device = f.owner(name[:cut], r); c.device == nil {
		return
	}
	c.seq = binary.BigEndian.Uint64([]byte(name[cut+1:]))
	c.device.commands = append(c.device.commands, c)
	if !c.late {
		f.commands[c.order] = c
		c.at = len(f.due)
		f.due = append(f.due, c) // all are due now, so any order is a heap
	}
}

func (s *spending) key() string { return spendPrefix + s.device + "/" + s.id.Key() }

func (s *spending) record() step.Record {
	b := codec.AppendUint(nil, s.nth)
	b = codec.AppendUint(b, s.amount)
	b = codec.AppendUint(b, zigzag(s.start))
	return step.Record{Key: s.key(), Value: append(b, s.who[:]...)}
}

func (f *Fleet) readSpend(name string, r *codec.Reader) {
	s := &spending{nth: r.Uvarint(), amount: r.Amount(), start: unzigzag(r.Uvarint())}
	r.Fill(s.who[:])
	cut := len(name) - len(s.id) - 1
	if cut < 1 || name[cut] != '/' {
		r.Fail(fmt.Errorf("%q is no payment", name))
		return
	}
	s.device = name[:cut]
	s.id, _ = money.OrderIDFromKey(name[cut+1:])
	f.spends[s.spendKey] = s
	if s.nth != 0 {
		f.settled = append(f.settled, s)
		f.nth = max(f.nth, s.nth)
		return
	}
	if d := f.owner(s.device, r); d != nil {
		d.spends++
		f.open++
		if d.budget == nil {
			r.Fail(fmt.Errorf("device %s has paid and has no budget; the store is damaged, restore a backup", d.Name))
		}
	}
}

// order puts what was loaded into its order.
func (f *Fleet) order() {
	slices.SortFunc(f.settled, func(a, b *spending) int {
		if a.nth < b.nth {
			return -1
		}
		return 1
	})
	slices.SortFunc(f.sorted, func(a, b *device) int { return byName(a, b.Name) })
	for i, c := range f.due { // by number where all are due
		c.at = i
	}
}
