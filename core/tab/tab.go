// Package tab keeps prepaid balances: what somebody has paid ahead, and draws
// down request by request, or second by second, at a door.
//
// A draw is two steps, as with a card at a pump: Draw reserves what a request may
// cost, before it is served, and Settle says what it did cost. The balance on disk
// is the one after the reservation, so ten requests at once cannot spend the last
// unit ten times, and a crash in between leaves the request at its estimate: no
// record of open reservations is kept or needed.
//
// A tab is opened by the order that pays for it (core/earn with To: Tab), by a
// refund that is credit, and grows by whatever is paid for the order later.
//
// Invariants, asserted at every step: a balance is what came in less what was
// drawn and paid out, and never less than nothing.
package tab

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/earn"
	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Name is the core's name: earn delivers to it.
const Name = earn.Tab

const (
	// MaxTabs bounds the tabs that have a balance. Money for one more is refused,
	// and so goes back; a tab that is used up gives way to it.
	MaxTabs = 131_072
	// MaxHolds bounds the draws of a tab that are not settled.
	MaxHolds = 1024
)

// A Draw reserves Amount of a tab. It is answered by the outcome DrawID: Drawn, or
// an error of kind Refused that is a *Short. Hold tells it from the other draws of
// its tab that are not settled.
type Draw struct {
	Tab    money.OrderID
	Hold   uint64
	Amount money.Amount
}

// Settle says what a draw did cost: at most what it reserved. The rest is back in
// the tab. Settled twice it is settled once.
type Settle struct {
	Tab  money.OrderID
	Hold uint64
	Used money.Amount
}

// PayOut closes a tab and pays what is left of it to a payment URI. It is answered
// by the outcome PayOutID: Balance, or an error.
type PayOut struct {
	Tab money.OrderID
	To  string
}

// Drawn is the answer to a Draw that is granted.
type Drawn struct{ Left money.Amount }

// Short is the answer to a Draw that is not.
type Short struct {
	Tab        money.OrderID
	Want, Left money.Amount
}

func (s *Short) Error() string {
	return fmt.Sprintf("session %v has %v left, and this costs up to %v: top it up by paying its order again", s.Tab, s.Left, s.Want)
}

// DrawID is the ID of a draw's outcome.
func DrawID(id money.OrderID, hold uint64) string {
	return string(binary.BigEndian.AppendUint64(id[:], hold))
}

// PayOutID is the ID of the outcome of a PayOut.
func PayOutID(id money.OrderID) string { return "out/" + id.Key() }

// A Balance is what people ask about a tab.
type Balance struct {
	Tab  money.OrderID `json:"session"`
	In   money.Amount  `json:"paid_msat"` // ever
	Left money.Amount  `json:"left_msat"`
	Held money.Amount  `json:"held_msat,omitempty"` // reserved now
	Back money.Amount  `json:"refunded_msat,omitempty"`
	// State is open, closing while what is left is being paid back, or closed.
	State string `json:"state"`
}

type tab struct {
	id     money.OrderID
	n      uint64
	in     money.Amount
	left   money.Amount // not reserved
	back   money.Amount // paid out, or being paid out
	to     string       // where to; empty while it is open
	closed bool         // it has been paid out
	outs   uint64       // how often that was tried, and answered
	holds  map[uint64]money.Amount
}

// Tabs is the core.
type Tabs struct {
	// Journal makes it tell the journal of tabs that open and close.
	Journal bool

	tabs  map[money.OrderID]*tab
	queue []*tab // oldest first
	next  uint64
	now   step.Time
}

// New returns a core without tabs.
func New() *Tabs { return &Tabs{tabs: map[money.OrderID]*tab{}} }

// Step does draws and settlements.
func (t *Tabs) Step(in step.Input) step.Effects {
	var fx step.Effects
	t.now = in.At
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Recv:
			switch msg := ev.Msg.(type) {
			case earn.Deliver:
				t.open(msg, &fx)
			case earn.Credit:
				t.credit(msg.Order, msg.Amount, &fx)
			}
		case Draw:
			t.draw(ev, &fx)
		case Settle:
			t.settle(ev, &fx)
		case PayOut:
			t.payOut(ev, &fx)
		case earn.Refunded:
			t.refunded(ev, &fx)
		case step.Rang:
			t.payAgain(&fx)
		case step.Linked, step.Unlinked:
		default:
			panic(fmt.Sprintf("tab: cannot handle %T", event))
		}
	}
	t.check()
	return fx
}

// open takes an order that pays for a tab. The book that sends it writes in the
// same round, so the same order does not come twice unless it was refused.
func (t *Tabs) open(d earn.Deliver, fx *step.Effects) {
	answer := earn.Delivered{Order: d.Order}
	if t.tabs[d.Order] == nil && !t.credit(d.Order, d.Paid, fx) {
		answer.Err = &money.Error{Kind: money.Refused, Op: "open session", Err: fmt.Errorf("all %d sessions are in use", MaxTabs)}
	}
	fx.Send = append(fx.Send, step.Packet{To: earn.Name, Msg: answer})
}

func (t *Tabs) credit(id money.OrderID, amount money.Amount, fx *step.Effects) bool {
	o := t.tabs[id]
	if o == nil {
		if len(t.queue) >= MaxTabs && !t.drop(fx) {
			return false
		}
		o = &tab{id: id, n: t.next}
		t.next++
		t.tabs[id] = o
		t.queue = append(t.queue, o)
		t.note(journal.SessionOpened, o, amount, fx)
	}
	o.in += amount
	o.left += amount
	if o.closed { // paid once more after it was paid out
		o.closed, o.to = false, ""
	}
	fx.Put = append(fx.Put, o.record())
	return true
}

// drop makes room by forgetting the oldest tab that is used up.
func (t *Tabs) drop(fx *step.Effects) bool {
	for i, o := range t.queue {
		if o.left == 0 && len(o.holds) == 0 && (o.to == "" || o.closed) {
			t.queue = slices.Delete(t.queue, i, i+1)
			delete(t.tabs, o.id)
			fx.Put = append(fx.Put, step.Record{Key: key(o.id)})
			return true
		}
	}
	return false
}

func (t *Tabs) draw(d Draw, fx *step.Effects) {
	o := t.tabs[d.Tab]
	refuse := func(err error) {
		fx.Done = append(fx.Done, step.Outcome{ID: DrawID(d.Tab, d.Hold), Err: &money.Error{Kind: money.Refused, Op: "draw", Err: err}})
	}
	switch {
	case o == nil:
		refuse(&Short{d.Tab, d.Amount, 0})
		return
	case o.to != "":
		refuse(fmt.Errorf("session %v is closed", d.Tab))
		return
	case o.left < d.Amount:
		refuse(&Short{d.Tab, d.Amount, o.left})
		return
	case o.holds[d.Hold] != 0 || len(o.holds) >= MaxHolds:
		refuse(fmt.Errorf("session %v has %d requests under way; the limit is %d", d.Tab, len(o.holds), MaxHolds))
		return
	}
	if d.Amount > 0 {
		if o.holds == nil {
			o.holds = map[uint64]money.Amount{}
		}
		o.holds[d.Hold] = d.Amount
		o.left -= d.Amount
		fx.Put = append(fx.Put, o.record())
	}
	fx.Done = append(fx.Done, step.Outcome{ID: DrawID(d.Tab, d.Hold), Value: Drawn{o.left}})
}

// settle gives back what was reserved and not used. That it is lazy loses, in a
// crash, what its caller would have got back: the request stays at its estimate.
func (t *Tabs) settle(s Settle, fx *step.Effects) {
	o := t.tabs[s.Tab]
	if o == nil {
		return
	}
	reserved := o.holds[s.Hold]
	if delete(o.holds, s.Hold); reserved > s.Used {
		o.left += reserved - s.Used
		r := o.record()
		r.Lazy = true
		fx.Put = append(fx.Put, r)
	}
	if len(o.holds) == 0 {
		o.holds = nil
	}
}

func (t *Tabs) payOut(p PayOut, fx *step.Effects) {
	o := t.tabs[p.Tab]
	var err error
	switch {
	case o == nil:
		err = fmt.Errorf("there is no session %v", p.Tab)
	case o.to != "":
		err = fmt.Errorf("session %v is closed already", p.Tab)
	case len(o.holds) > 0:
		err = fmt.Errorf("session %v has %d requests under way; ask when they have ended", p.Tab, len(o.holds))
	case o.left == 0:
		err = fmt.Errorf("session %v has nothing left", p.Tab)
	case p.To == "" || len(p.To) > maxTo:
		err = fmt.Errorf("a payment URI has 1 to %d bytes", maxTo)
	}
	if err != nil {
		fx.Done = append(fx.Done, step.Outcome{ID: PayOutID(p.Tab), Err: &money.Error{Kind: money.Refused, Op: "pay out", Err: err}})
		return
	}
	o.to, o.back, o.left = p.To, o.left, 0
	fx.Put = append(fx.Put, o.record())
	t.pay(o, fx)
}

func (t *Tabs) pay(o *tab, fx *step.Effects) {
	fx.Send = append(fx.Send, step.Packet{To: earn.Refunds, Msg: earn.Refund{Order: o.id, Nth: o.outs + 1, To: o.to, Amount: o.back}})
	fx.Wake = append(fx.Wake, step.Alarm{ID: "pay", At: t.now + payAgain})
}

// payAgain is how often an open payment is asked for again.
const payAgain = 30 * step.Second

func (t *Tabs) payAgain(fx *step.Effects) {
	for _, o := range t.queue {
		if o.to != "" && !o.closed {
			t.pay(o, fx)
		}
	}
}

func (t *Tabs) refunded(r earn.Refunded, fx *step.Effects) {
	o := t.tabs[r.Order]
	if o == nil || o.to == "" || o.closed || r.Nth != 0 && r.Nth != o.outs+1 || r.Err != nil && money.KindOf(r.Err) == money.Pending {
		return
	}
	o.outs++
	if r.Err != nil { // that way is closed: the money is in the tab as before
		o.left, o.back, o.to = o.left+o.back, 0, ""
	} else {
		o.in, o.back, o.closed = o.in-o.back, 0, true
		t.note(journal.SessionClosed, o, 0, fx)
		if o.left > 0 { // paid once more while it was paid out
			o.closed, o.to = false, ""
		}
	}
	fx.Put = append(fx.Put, o.record())
	fx.Done = append(fx.Done, step.Outcome{ID: PayOutID(o.id), Value: o.balance(), Err: r.Err})
}

func (t *Tabs) note(typ string, o *tab, amount money.Amount, fx *step.Effects) {
	if !t.Journal {
		return
	}
	b := o.balance()
	b.In += amount
	b.Left += amount
	data, err := json.Marshal(b)
	step.Assert(err == nil, "tab: %v", err)
	fx.Send = append(fx.Send, step.Packet{To: journal.Name, Msg: journal.Note{Type: typ, Subject: o.id.String(), Data: data}})
}

func (o *tab) balance() Balance {
	b := Balance{Tab: o.id, In: o.in, Left: o.left, Back: o.back, State: "open"}
	for _, a := range o.holds {
		b.Held += a
	}
	switch {
	case o.closed:
		b.State = "closed"
	case o.to != "":
		b.State = "closing"
	}
	return b
}

// Balance reads one tab.
func (t *Tabs) Balance(id money.OrderID) (Balance, bool) {
	if o := t.tabs[id]; o != nil {
		return o.balance(), true
	}
	return Balance{}, false
}

// Summary is what people ask of all tabs.
type Summary struct {
	Open int          `json:"open"`
	Left money.Amount `json:"left_msat"` // what this machine owes in services
	Held money.Amount `json:"held_msat"`
}

// Summary adds them up.
func (t *Tabs) Summary() (s Summary) {
	for _, o := range t.queue {
		if b := o.balance(); b.State != "closed" && b.Left+b.Held+b.Back > 0 {
			s.Open++
			s.Left += b.Left + b.Back
			s.Held += b.Held
		}
	}
	return s
}

func (t *Tabs) check() {
	step.Assert(len(t.tabs) == len(t.queue) && len(t.queue) <= MaxTabs, "tab: %d tabs, %d in the queue", len(t.tabs), len(t.queue))
}

// Records.

const maxTo = 4200

func key(id money.OrderID) string { return "tab/" + id.Key() }

func (o *tab) record() step.Record {
	step.Assert(o.left+o.back <= o.in, "tab %v: %v came in, %v left and %v on its way back", o.id, o.in, o.left, o.back)
	b := codec.AppendUint(nil, o.n)
	b = codec.AppendUint(b, o.in)
	b = codec.AppendUint(b, o.left)
	if o.to != "" || o.outs > 0 {
		b = codec.AppendUint(b, o.back)
		b = codec.AppendBytes(b, o.to)
		if o.closed {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	if o.outs > 0 {
		b = codec.AppendUint(b, o.outs)
	}
	return step.Record{Key: key(o.id), Value: b}
}

// Durable is everything the core has on disk, for whoever wants to check it.
func (t *Tabs) Durable() (all []step.Record) {
	for _, o := range t.queue {
		all = append(all, o.record())
	}
	slices.SortFunc(all, func(a, b step.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// Load reads the tabs back.
func Load(db step.Reader) (*Tabs, error) {
	t := New()
	err := codec.Scan(db, "tab/", func(name string, r *codec.Reader) {
		id, ok := money.OrderIDFromKey(name)
		if !ok {
			r.Fail(fmt.Errorf("key %q is not a session's", name))
			return
		}
		o := &tab{id: id, n: r.Uvarint(), in: r.Amount(), left: r.Amount()}
		if r.Len() > 0 {
			o.back, o.to, o.closed = r.Amount(), r.String(maxTo, "payment URI"), r.U8() == 1
		}
		if r.Len() > 0 {
			o.outs = r.Uvarint()
		}
		if in := o.left + o.back; in > o.in {
			r.Fail(fmt.Errorf("%v are left of %v that came in", in, o.in))
		}
		t.tabs[id] = o
		t.queue = append(t.queue, o)
		t.next = max(t.next, o.n+1)
	})
	slices.SortFunc(t.queue, func(x, y *tab) int { return int(int64(x.n) - int64(y.n)) })
	return t, err
}
