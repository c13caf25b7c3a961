package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"coinop.dev/core/earn"
	"coinop.dev/core/macaroon"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
	"coinop.dev/purse"
	"coinop.dev/world/drive"
)

// Place tells the till of an offer before it is paid, so that it is delivered the
// moment it is: for doors whose buyer stands there and waits, and for money that is
// only held. A quote that is not paid is forgotten.
func (s *Shop) Place(ctx context.Context, tokenText, buyer string) (earn.Order, error) {
	t, err := s.read(tokenText, s.m.Host.Now())
	if err != nil {
		return earn.Order{}, err
	}
	return s.sell(ctx, t, Proof{Buyer: buyer})
}

// Claim says that an offer is paid and wants it delivered. Claimed again it is the
// same order, with what was delivered. An error of kind Unpaid means that no money
// has come yet.
func (s *Shop) Claim(ctx context.Context, p Proof) (earn.Order, error) {
	t, err := s.read(p.Token, s.m.Host.Now())
	if err == nil {
		err = s.proves(t, p)
	}
	if err != nil {
		return earn.Order{}, err
	}
	o, err := s.sell(ctx, t, p)
	if err != nil {
		return o, err
	}
	return o, unpaid(o, t.quote)
}

func unpaid(o earn.Order, q offer.Quote) error {
	if o.State != "quoted" && (o.State != "paid" || o.Item != "") {
		return nil
	}
	return &money.Error{Kind: money.Unpaid, Op: "claim", Err: fmt.Errorf("order %v: %v of %v has come", q.Order, o.Paid, q.Due)}
}

func (s *Shop) sell(ctx context.Context, t token, p Proof) (earn.Order, error) {
	v, err := s.find(t.quote.Service)
	if err != nil {
		return earn.Order{}, err
	}
	sell := earn.Sell{Quote: t.quote, Buyer: p.Buyer[:min(len(p.Buyer), maxBuyer)], To: earn.Device, Within: v.Within, Hold: v.Hold, Refund: p.Refund}
	switch device, fleet := strings.CutPrefix(v.From, "device:"); {
	case t.tab:
		sell.To, sell.Within, sell.Hold = earn.Tab, 0, false
	case fleet:
		sell.To, sell.Device = earn.Fleet, device
	case strings.HasPrefix(v.From, "data:"):
		sell.To, sell.Hold = Data, false
	}
	return s.ask(ctx, sell)
}

// Data is the core that sells data (gateway/data).
const Data = "data"

// maxBuyer and maxRefund bound what a door says of a buyer, in bytes.
const (
	maxBuyer  = 80
	maxRefund = 4096
)

func (s *Shop) ask(ctx context.Context, sell earn.Sell) (earn.Order, error) {
	if len(sell.Refund) > maxRefund {
		return earn.Order{}, invalid("sell", fmt.Errorf("the payment URI for a refund is %d bytes; the limit is %d", len(sell.Refund), maxRefund))
	}
	v, err := s.m.Host.Ask(ctx, earn.Name, earn.SellID(sell.Quote.Order), sell)
	if err != nil {
		return earn.Order{}, err
	}
	return v.(earn.Order), nil
}

// Goods says that the buyer of an order has what was delivered.
func (s *Shop) Goods(ctx context.Context, id money.OrderID) error {
	return s.m.Host.Tell(ctx, earn.Name, earn.Got{Order: id})
}

// TestFire delivers without a payment, and the books say that it was a test.
func (s *Shop) TestFire(ctx context.Context, service string, units uint64) (earn.Order, error) {
	v, err := s.find(service)
	if err != nil {
		return earn.Order{}, err
	}
	now := s.m.Host.Now()
	sell := earn.Sell{
		Quote: offer.Quote{Order: purse.NewOrderID(), Service: v.Name, Units: max(units, v.Min, 1), At: now, Until: now + quoteLife},
		Buyer: "test", To: earn.Device, Within: max(v.Within, testWithin), Test: true,
	}
	if device, fleet := strings.CutPrefix(v.From, "device:"); fleet {
		sell.To, sell.Device = earn.Fleet, device
	}
	return s.ask(ctx, sell)
}

// testWithin is how long a device may take to obey a test at least.
const testWithin = 10 * step.Second

// Refund gives an order's money back, whatever has become of it: to a payment URI,
// or as credit if to is empty. What is left of a prepaid session is paid out.
func (s *Shop) Refund(ctx context.Context, id money.OrderID, to string) (earn.Order, error) {
	if len(to) > maxRefund {
		return earn.Order{}, invalid("refund", fmt.Errorf("the payment URI is %d bytes; the limit is %d", len(to), maxRefund))
	}
	o, err := s.Order(ctx, id)
	if err != nil {
		return o, err
	}
	if o.Tab || o.Credit > 0 {
		if to == "" {
			return o, refused("refund", fmt.Errorf("order %v is credit already: name a payment URI to pay it out to", id))
		}
		_, err := s.m.Host.Ask(ctx, tab.Name, tab.PayOutID(id), tab.PayOut{Tab: id, To: to})
		if err != nil {
			return o, err
		}
		return s.Order(ctx, id)
	}
	if err := s.m.Host.Tell(ctx, earn.Name, earn.GiveBack{Order: id, To: to}); err != nil {
		return o, err
	}
	done, err := s.Wait(ctx, id, func(o earn.Order) bool { return o.State == "refunded" || o.State == "failed" })
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // it is on its way
	}
	return done, err
}

// A Session is a prepaid balance that a proof gives access to.
type Session struct {
	Tab     money.OrderID
	Service string
	Units   uint64 // bought at first
	// Conditions are those of the token that opened it.
	Conditions macaroon.Conditions
}

// Session opens the session that a proof has paid for, or finds it again. A proof
// of an order that was given back as credit opens one too.
func (s *Shop) Session(ctx context.Context, p Proof) (Session, error) {
	t, err := s.read(p.Token, s.m.Host.Now())
	if err == nil {
		err = s.proves(t, p)
	}
	if err != nil {
		return Session{}, err
	}
	id := t.quote.Order
	session := Session{Tab: id, Service: t.quote.Service, Units: t.quote.Units, Conditions: t.conditions}
	s.mu.Lock()
	_, known := s.sessions[id]
	s.mu.Unlock()
	if known {
		return session, nil
	}
	o, err := s.sell(ctx, t, p)
	if err == nil {
		err = unpaid(o, t.quote)
	}
	if err == nil && o.State == "paid" { // it was opened in the same round, after this answer
		o, err = s.Wait(ctx, id, func(o earn.Order) bool { return o.State != "paid" })
	}
	switch {
	case err != nil:
		return session, err
	case !t.tab && o.Credit == 0:
		return session, refused("session", fmt.Errorf("order %v pays for one delivery and not for a session", id))
	case t.tab && o.State != "settled":
		return session, refused("session", fmt.Errorf("order %v: %s %s", id, o.State, o.Why))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) >= tab.MaxTabs {
		clear(s.sessions) // they are claimed again
	}
	s.sessions[id] = t.quote
	return session, nil
}

// A Drawn is what a request has reserved of a session.
type Drawn struct {
	s     *Shop
	price price       // of the moment it was drawn
	quote offer.Quote // that the session was bought by, if this shop has seen it
	tab   money.OrderID
	hold  uint64
	// Reserved is for as many units as it was drawn for; Left is what the session
	// has beside it.
	Reserved, Left money.Amount
}

// Draw reserves units of a service from a session. An error of kind Refused that
// is a *tab.Short says what is left.
func (s *Shop) Draw(ctx context.Context, id money.OrderID, service string, units uint64) (*Drawn, error) {
	v, err := s.find(service)
	if err != nil {
		return nil, err
	}
	v.Min, v.Max = 0, 0 // those are of an order
	d := &Drawn{s: s, tab: id, hold: s.hold.Add(1)}
	if units > 0 {
		if d.price, err = s.price(ctx, v, Ask{Service: v.Name, Units: units, Tab: true}); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	if q := s.sessions[id]; q.Service == v.Name {
		d.quote = q
	}
	s.mu.Unlock()
	if d.Reserved, err = d.cost(units); err != nil {
		return nil, err
	}
	got, err := s.m.Host.Ask(ctx, tab.Name, tab.DrawID(id, d.hold), tab.Draw{Tab: id, Hold: d.hold, Amount: d.Reserved})
	if err != nil {
		return nil, err
	}
	d.Left = got.(tab.Drawn).Left
	return d, nil
}

func (d *Drawn) cost(units uint64) (money.Amount, error) {
	if units == 0 {
		return 0, nil
	}
	due, err := d.price.due(units)
	if err == nil && d.quote.Units > 0 {
		// What was bought at a price is had at that price, if it has gone up since.
		due = min(due, money.Share(d.quote.Due, units, d.quote.Units))
	}
	return due, err
}

// Settle says how many units were used after all, at most those that were drawn;
// the rest is back in the session. It returns what they cost.
func (d *Drawn) Settle(units uint64) money.Amount {
	used, err := d.cost(units)
	if err != nil || used > d.Reserved {
		used = d.Reserved // the estimate stands
	}
	d.s.m.Host.Tell(d.s.m.Context(), tab.Name, tab.Settle{Tab: d.tab, Hold: d.hold, Used: used})
	d.Left += d.Reserved - used
	return used
}

// Balance reads one session.
func (s *Shop) Balance(ctx context.Context, id money.OrderID) (b tab.Balance, ok bool, err error) {
	err = s.m.Host.Do(ctx, func(m *drive.Machine) {
		if t, have := m.Core(tab.Name).(*tab.Tabs); have {
			b, ok = t.Balance(id)
		}
	})
	return b, ok, err
}
