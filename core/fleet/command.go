package fleet

import (
	"container/heap"
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
)

const (
	// Window is how many numbers of one gateway's commands a device remembers. A
	// number is used only when the command that is Window older has ended, so a
	// device never has to forget one that may still come.
	Window = 32
	// MaxOutstanding bounds the commands of a device that wait for an answer.
	MaxOutstanding = 16
	// MaxLate is how many commands of a device may be in doubt: given up without
	// knowing what it did. They are kept to know an answer that comes too late, and
	// not to begin their orders again while the books ask for them. A device with so
	// many is told nothing more until doubtFor has passed since the books last asked.
	MaxLate  = 8
	doubtFor = step.Minute

	// A command is repeated after retryFirst, then after twice as long each time.
	retryFirst = 1 * step.Second
	retryMost  = 60 * step.Second
)

// Acked brings an acknowledgement that came through a door. Name is who the door
// has authenticated. It has no outcome.
type Acked struct {
	Name string
	Ack  Ack
}

// Outlet is the name of where a device's commands go, when it is not linked as a
// peer. The door that the device is at registers it.
func Outlet(device string) string { return "device/" + device }

// command is one that a device was told, until it has answered; and for a while
// after its deadline.
type command struct {
	device *device
	seq    uint64
	order  money.OrderID
	item   string
	units  uint64
	until  step.Time
	test   bool
	late   bool   // given up; kept to know an answer that comes too late
	said   uint64 // counter of the ack that did not know; 0 for none

	tries int       // since the start
	due   step.Time // when it is repeated or given up; of a late one, when the books last asked
	at    int       // place in the queue
}

func (d *device) outstanding() (n int) {
	for _, c := range d.commands {
		n += bit(!c.late)
	}
	return n
}

// deliver turns what the books want delivered into a command. One order has one
// command at a time: while that is outstanding, being told again only repeats it.
func (f *Fleet) deliver(m earn.Deliver, now step.Time, fx *step.Effects) {
	if c := f.commands[m.Order]; c != nil {
		f.send(c, now, fx)
		return
	}
	d := f.devices[m.Device]
	refuse := func(kind money.Kind, err error) {
		err = &money.Error{Kind: kind, Op: "deliver by device " + m.Device, Err: err}
		fx.Send = append(fx.Send, step.Packet{To: earn.Name, Msg: earn.Delivered{Order: m.Order, Err: err}})
	}
	switch {
	case d == nil:
		refuse(money.Invalid, errUnknown)
		return
	case d.Revoked:
		refuse(money.Invalid, errRevoked)
		return
	case !offer.ValidName(m.Item):
		refuse(money.Invalid, fmt.Errorf("%.80q is no name", m.Item))
		return
	case m.Until != 0 && m.Until <= now:
		refuse(money.Refused, errors.New("it is too late; the device was not told"))
		return
	case d.inDoubt(m.Order, now):
		refuse(money.Pending, errNoAnswer)
		return
	case len(f.doubts(d, now)) >= MaxLate:
		refuse(money.Unpaid, fmt.Errorf("what it did for %d orders is not known, so it is told nothing more for a minute; look after it", MaxLate))
		return
	case d.outstanding() >= MaxOutstanding || d.oldest()+Window <= d.next:
		refuse(money.Unpaid, fmt.Errorf("%d commands wait for its answer already; the device was not told", d.outstanding()))
		return
	}
	c := &command{device: d, seq: d.next, order: m.Order, item: m.Item, units: m.Units, until: m.Until, test: m.Test, due: now}
	d.next++
	f.touch(d)
	d.commands = append(d.commands, c)
	f.commands[c.order] = c
	heap.Push(&f.due, c)
	fx.Put = append(fx.Put, c.record())
	f.send(c, now, fx)
}

// inDoubt reports whether an order was given up without knowing what the device
// did, and notes that the books ask for it.
func (d *device) inDoubt(order money.OrderID, now step.Time) bool {
	for _, c := range d.commands {
		if c.late && c.order == order {
			c.due = now
			return true
		}
	}
	return false
}

// doubts is the late commands that the books may still ask for.
func (f *Fleet) doubts(d *device, now step.Time) (some []*command) {
	for _, c := range d.commands {
		if c.late && now-max(c.due, f.began) < doubtFor {
			some = append(some, c)
		}
	}
	return some
}

// oldest is the number of the first command that has not ended, or the next.
func (d *device) oldest() uint64 {
	for _, c := range d.commands {
		if !c.late {
			return c.seq
		}
	}
	return d.next
}

// send tells the device, and plans when to do it again.
func (f *Fleet) send(c *command, now step.Time, fx *step.Effects) {
	d := c.device
	m := Command{
		Gateway: f.config.Number, Device: d.Name, Seq: c.seq, Order: c.order, Verb: Open,
		Item: c.item, Units: c.units, Until: c.until, Test: c.test,
	}
	fx.Send = append(fx.Send, step.Packet{To: d.door(), Msg: m.Seal(f.config.Node, d.Key, f.shared(d))})
	c.due = now + min(retryFirst<<min(c.tries, 10), retryMost)
	if c.until != 0 {
		c.due = min(c.due, c.until)
	}
	c.tries++
	heap.Fix(&f.due, c.at)
}

// overdue repeats commands, and gives up those whose deadline has passed: before
// anything else in a step, so that an answer that came with the deadline's alarm
// is late in whatever order the two stand. In the first step after a start all
// commands are due.
func (f *Fleet) overdue(now step.Time, fx *step.Effects) {
	for len(f.due) > 0 && f.due[0].due <= now {
		c := f.due[0]
		if c.until != 0 && c.until <= now {
			f.giveUp(c, earn.Delivered{Err: c.error(money.Pending, errNoAnswer)}, now, fx)
			continue
		}
		f.send(c, now, fx)
	}
	for len(f.waiting) > 0 && f.waiting[0].until <= now {
		w := f.waiting[0]
		f.waiting = f.waiting[1:]
		f.lack(w.Spend, errQuota, now, fx)
	}
}

var errNoAnswer = errors.New("no acknowledgement before its deadline; the device may or may not have acted")

// sendAll repeats a device's commands, now and from the shortest pause on.
func (f *Fleet) sendAll(d *device, now step.Time, fx *step.Effects) {
	for _, c := range d.commands {
		if !c.late {
			c.tries = 0
			f.send(c, now, fx)
		}
	}
}

var errWithdrawn = errors.New("its order was given back")

// giveUp ends a command without knowing what the device did. While it is kept the
// order is not begun again.
func (f *Fleet) giveUp(c *command, why earn.Delivered, now step.Time, fx *step.Effects) {
	f.answer(c, why, fx)
	heap.Remove(&f.due, c.at)
	c.late, c.due = true, now
	fx.Put = append(fx.Put, c.record())
	d := c.device
	keep := f.doubts(d, now)
	for _, old := range slices.Clone(d.commands) {
		if late := len(d.commands) - d.outstanding(); late > MaxLate && old.late && !slices.Contains(keep, old) {
			f.drop(old, fx)
		}
	}
}

func (c *command) error(kind money.Kind, why error) error {
	return &money.Error{Kind: kind, Op: "deliver by device " + c.device.Name, Err: why}
}

// answer tells the books how a command ended. It ends once.
func (f *Fleet) answer(c *command, d earn.Delivered, fx *step.Effects) {
	delete(f.commands, c.order)
	d.Order = c.order
	fx.Send = append(fx.Send, step.Packet{To: earn.Name, Msg: d})
}

// drop forgets a command that has ended.
func (f *Fleet) drop(c *command, fx *step.Effects) {
	d := c.device
	d.commands = slices.DeleteFunc(d.commands, func(x *command) bool { return x == c })
	if len(d.commands) == 0 {
		d.commands = nil
	}
	fx.Put = append(fx.Put, step.Record{Key: c.key()})
}

// acked ends a command by the device's word. What is forged, or repeats, or
// belongs to nothing, changes no order.
func (f *Fleet) acked(d *device, m Ack, now step.Time, fx *step.Effects) {
	if d == nil || d.Name != m.Device || m.Gateway != f.config.Number || m.check() != nil {
		return
	}
	if !m.Verify(d.Key, f.shared(d)) {
		f.fault(d, "an acknowledgement whose signature is not the device's was ignored", now, fx)
		return
	}
	i := slices.IndexFunc(d.commands, func(c *command) bool { return c.seq == m.Seq })
	switch {
	case m.Seq >= d.next:
		f.ahead(d, m, now, fx)
		return
	case i < 0:
		return // of a command that has ended
	}
	c := d.commands[i]
	switch {
	case c.order != m.Order:
		f.renumber(c, m, now, fx)
		return
	case c.said != 0 && c.said == m.Counter:
		return // again
	case !d.acks.use(m.Counter):
		f.fault(d, fmt.Sprintf("acknowledgement %d was used before: the device runs twice, or from an old copy of its memory", m.Counter), now, fx)
		return
	}
	f.touch(d)
	if c.late {
		f.lateAck(c, m, now, fx)
		return
	}
	got := earn.Delivered{Ack: m.Append(nil)}
	if m.Unknown {
		f.fault(d, "unknown whether it acted: "+m.Why, now, fx)
		c.said = m.Counter
		got.Err = c.error(money.Pending, errors.New("the device cannot say whether it has acted: "+m.Why))
		f.giveUp(c, got, now, fx)
		return
	}
	heap.Remove(&f.due, c.at)
	f.drop(c, fx)
	got.Payload = m.Reading
	if !m.OK {
		f.fault(d, "not acted: "+m.Why, now, fx)
		// With a deadline somebody stands there and waits for the money. Without one
		// the order is owed until it is delivered, and tried again.
		kind := money.Refused
		if c.until == 0 {
			kind = money.Unpaid
		}
		got.Err = c.error(kind, errors.New("the device has not acted: "+m.Why))
	}
	f.answer(c, got, fx)
}

// lateAck takes note of what came after the books had their answer. They are told
// of a success all the same where they may still ask, because the order has no
// deadline or the clock went back: it must not be begun again.
func (f *Fleet) lateAck(c *command, m Ack, now step.Time, fx *step.Effects) {
	f.drop(c, fx)
	if m.OK && f.commands[c.order] == nil && (c.until == 0 || now < c.until) {
		f.answer(c, earn.Delivered{Payload: m.Reading, Ack: m.Append(nil)}, fx)
	}
	if m.OK {
		f.fault(c.device, fmt.Sprintf("order %v was delivered after its refund", c.order), now, fx)
	}
	if m.Unknown {
		f.fault(c.device, fmt.Sprintf("order %v may have been delivered before its refund: %s", c.order, m.Why), now, fx)
	}
}

// renumber gives a command another number: the device has proved that it knows
// this one as another order's, so it cannot have acted on the command.
func (f *Fleet) renumber(c *command, m Ack, now step.Time, fx *step.Effects) {
	d := c.device
	f.fault(d, fmt.Sprintf("command %d is another order's: this gateway's store is an old copy", m.Seq), now, fx)
	if c.late {
		return
	}
	d.commands = slices.DeleteFunc(d.commands, func(x *command) bool { return x == c })
	fx.Put = append(fx.Put, step.Record{Key: c.key()})
	d.next = max(d.next, m.Seq+Window)
	c.seq, c.tries = d.next, 0
	d.next++
	d.commands = append(d.commands, c)
	fx.Put = append(fx.Put, c.record())
	f.send(c, now, fx)
}

// ahead catches up with a device that has seen numbers which this gateway has not
// yet given: its store is an old copy. Commands whose place the device has used
// since are given up; nobody knows what it did.
func (f *Fleet) ahead(d *device, m Ack, now step.Time, fx *step.Effects) {
	if m.Seq > maxTime {
		return // no honest device has counted that far
	}
	f.fault(d, fmt.Sprintf("the device has had command %d already: this gateway's store is an old copy", m.Seq), now, fx)
	d.next = m.Seq + 1
	for _, c := range slices.Clone(d.commands) {
		if !c.late && c.seq%Window == m.Seq%Window {
			f.giveUp(c, earn.Delivered{Err: c.error(money.Pending, errNoAnswer)}, now, fx)
		}
	}
}

// acks is which counters of acknowledgements were used: the highest, and of the
// 64 up to it a bit each. They come in any order, each once.
type acks struct{ last, used uint64 }

// use takes a counter, unless it was used or is too old to tell.
func (a *acks) use(counter uint64) bool {
	switch {
	case counter > a.last:
		if shift := counter - a.last; shift < 64 {
			a.used = a.used<<shift | 1
		} else {
			a.used = 1
		}
		a.last = counter
		return true
	case a.last-counter >= 64 || a.used>>(a.last-counter)&1 == 1:
		return false
	}
	a.used |= 1 << (a.last - counter)
	return true
}

// queue is commands by when they are due, and by number where that is the same.
type queue []*command

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	switch {
	case a.due != b.due:
		return a.due < b.due
	case a.device != b.device:
		return a.device.Name < b.device.Name
	}
	return a.seq < b.seq
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

// Push is heap.Interface's.
func (q *queue) Push(c any) {
	c.(*command).at = len(*q)
	*q = append(*q, c.(*command))
}

// Pop is heap.Interface's.
func (q *queue) Pop() any {
	old := *q
	c := old[len(old)-1]
	*q = old[:len(old)-1]
	return c
}
