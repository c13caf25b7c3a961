package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"coinop.dev"
	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/tab"
	"coinop.dev/gateway"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

// Status is everything that a person asks of a machine.
type Status struct {
	Name     string           `json:"name"`
	Node     string           `json:"node"`
	PayTo    []string         `json:"pay_to"`
	Purse    spend.Summary    `json:"purse"`
	Till     earn.Summary     `json:"till"`
	Sessions tab.Summary      `json:"sessions"`
	Shadows  []gateway.Shadow `json:"shadows,omitempty" doc:"what services that are not charged for would have earned"`
	Outlook  gateway.Outlook  `json:"outlook"`
	More     map[string]any   `json:"more,omitempty"`
}

type bill struct {
	Order  money.OrderID `json:"order"`
	Amount money.Amount  `json:"amount_msat"`
	Pay    []string      `json:"pay" doc:"payment URIs, one for each rail"`
}

// Payment is what this machine is asked to pay.
type Payment struct {
	Order  *money.OrderID `json:"order,omitempty" doc:"names the payment: paid once under it. Default: a new one"`
	To     string         `json:"to" maxLength:"4096" doc:"payment URI"`
	Amount money.Amount   `json:"amount_msat,omitempty" doc:"if the URI does not say it"`
	For    string         `json:"for,omitempty" maxLength:"64"`
}

// machine is what the machine itself is asked.
func (a *API) machine() {
	huma.Register(a.huma, op("GET", "/v1/status", Read, "The machine: purse, till, sessions, liquidity"), func(ctx context.Context, _ *struct{}) (*body[Status], error) {
		s, err := a.Status(ctx)
		return answer(s, err)
	})
	huma.Register(a.huma, op("GET", "/v1/outlook", Public, "Can this machine be paid now, and can it pay?"), func(ctx context.Context, _ *struct{}) (*body[gateway.Outlook], error) {
		return answer(a.shop.Outlook(ctx))
	})
	huma.Register(a.huma, op("POST", "/v1/bills", Sell, "A bill of any amount, for each rail"), func(ctx context.Context, in *struct {
		Body struct {
			Amount money.Amount `json:"amount_msat"`
			For    string       `json:"for,omitempty" maxLength:"64"`
		}
	}) (*body[bill], error) {
		return answer(a.bill(in.Body.Amount, in.Body.For))
	})
	huma.Register(a.huma, op("POST", "/v1/payments", Pay, "Pay out of this machine's purse, within its limits and the credential's budget"), func(ctx context.Context, in *struct{ Body Payment }) (*body[money.Receipt], error) {
		return answer(a.pay(ctx, in.Body))
	})
}

// Status reads the machine.
func (a *API) Status(ctx context.Context) (s Status, err error) {
	m := a.Machine
	s = Status{Name: m.Config.Name, Node: m.Key.Public().String(), PayTo: m.PayTo(), Shadows: a.shop.Shadows()}
	if s.Purse, err = m.Purse.Summary(ctx); err != nil {
		return s, err
	}
	if s.Till, err = m.Till.Summary(ctx); err != nil {
		return s, err
	}
	err = m.Engine.Host.Do(ctx, func(m *drive.Machine) {
		if t, ok := m.Core(tab.Name).(*tab.Tabs); ok {
			s.Sessions = t.Summary()
		}
	})
	if err == nil {
		s.Outlook, err = a.shop.Outlook(ctx)
	}
	if err == nil && a.More != nil {
		s.More = map[string]any{}
		err = a.More(ctx, s.More)
	}
	return s, err
}

func (a *API) bill(amount money.Amount, what string) (b bill, err error) {
	if amount == 0 || amount > money.MaxAmount {
		return b, invalid("a bill is for more than nothing, and less than all the bitcoin there can be")
	}
	b = bill{Order: purse.NewOrderID(), Amount: amount}
	for _, held := range a.Machine.Rails() {
		if biller, ok := rail.As[rail.Biller](held); ok {
			uri, err := biller.Bill(money.Bill{ID: b.Order, Amount: amount, For: what})
			if err != nil {
				return b, err
			}
			b.Pay = append(b.Pay, uri)
		}
	}
	if len(b.Pay) == 0 {
		return b, &money.Error{Kind: money.Refused, Op: "bill", Err: errors.New("this machine has no rail to be paid on")}
	}
	return b, nil
}

// payable reads a payment into an order. Its ID is that of the bill, so that the
// payee knows what is paid; or the one that the caller names; or it follows from the
// Idempotency-Key; or it is new.
func payable(ctx context.Context, p Payment) (o money.Order, err error) {
	u, err := rail.Default.Parse(p.To)
	if err != nil {
		return o, invalid(err.Error())
	}
	uri, q := p.To, u.Query()
	switch said := q.Get("amount_msat"); {
	case said == "" && p.Amount > 0:
		sep := "?"
		if strings.Contains(uri, "?") {
			sep = "&"
		}
		uri = fmt.Sprintf("%s%samount_msat=%d", uri, sep, uint64(p.Amount))
	case said != "" && p.Amount > 0 && said != strconv.FormatUint(uint64(p.Amount), 10):
		return o, invalid(fmt.Sprintf("amount_msat is %d, and the payment URI says %.24s", uint64(p.Amount), said))
	}
	if o, err = coinop.Bill(uri); err != nil {
		return o, err
	}
	o.For = p.For
	if q.Get("order") != "" {
		if p.Order != nil && *p.Order != o.ID {
			return o, invalid("the payment URI names another order")
		}
		return o, nil
	}
	by := who(ctx)
	if id, ok := ctx.Value(orderKey{}).(money.OrderID); ok {
		o.ID = id
	}
	if p.Order != nil {
		// A name that a device has chosen is its own: it cannot reach the order of
		// another one.
		if o.ID = *p.Order; by.Grant != nil {
			o.ID = gateway.Derived("coinop/payment/"+by.Grant.Device+"/", o.ID)
		}
	}
	return o, nil
}

// allows checks what a credential says of payments beside its budget.
func (p Principal) allows(o money.Order) error {
	payee, _, _ := strings.Cut(o.To, "?")
	switch most, limited := p.conditions.Limit("max_payment_msat"); {
	case !p.conditions.Allows("payee", payee):
		return refusal(http.StatusForbidden, "RESTRICTED", "the credential does not name this payee")
	case !p.conditions.Allows("service", o.For):
		return refusal(http.StatusForbidden, "RESTRICTED", "the credential is for certain services: say which one in for")
	case limited && uint64(o.Amount) > most:
		left := money.Amount(most)
		e := refusal(http.StatusForbidden, "QUOTA_EXCEEDED", fmt.Sprintf("%v is more than the credential's limit of %v per order", o.Amount, left))
		e.Limit, e.Left = "order", &left
		return e
	}
	return nil
}

// pay pays for an operator, or for a device within its budget.
func (a *API) pay(ctx context.Context, p Payment) (r money.Receipt, err error) {
	o, err := payable(ctx, p)
	if err != nil {
		return r, err
	}
	by := who(ctx)
	if err := by.allows(o); err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	if by.Grant == nil {
		r, err = a.Machine.Purse.Pay(ctx, o)
		return r, pending(o.ID, err)
	}
	host, device := a.Machine.Engine.Host, by.Grant.Device
	ask := fleet.Spend{Device: device, ID: o.ID, Amount: o.Amount, To: o.To, Under: by.Grant.Limits}
	if _, err := host.Ask(ctx, fleet.Name, fleet.SpendID(device, o.ID), ask); err != nil {
		return r, err
	}
	r, err = a.Machine.Purse.Pay(ctx, o)
	// A payment that nobody knows the end of stays on the budget.
	settled := a.Machine.Engine.Context()
	switch kind := money.KindOf(err); {
	case err == nil:
		host.Tell(settled, fleet.Name, fleet.Spent{Device: device, ID: o.ID})
	case kind == money.Unpaid || kind == money.Refused || kind == money.Invalid:
		host.Tell(settled, fleet.Name, fleet.Unspent{Device: device, ID: o.ID})
	}
	return r, pending(o.ID, err)
}

// pending names the order that nobody knows the end of, so that the caller can ask
// again for the same.
func pending(id money.OrderID, err error) error {
	if err == nil || !errors.Is(err, money.Pending) {
		return err
	}
	p := *problem(err)
	p.Order = &id
	return &p
}
