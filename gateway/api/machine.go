package api

import (
	"context"
	"errors"
	"fmt"

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

// pay pays for an operator, or for a device within its budget.
func (a *API) pay(ctx context.Context, p Payment) (r money.Receipt, err error) {
	o, err := coinop.Bill(p.To)
	if p.Amount > 0 {
		o = money.Order{ID: purse.NewOrderID(), To: rail.Payee(p.To), Amount: p.Amount}
		err = nil
	}
	if err != nil {
		return r, err
	}
	o.For = p.For
	if p.Order != nil {
		o.ID = *p.Order
	}
	device := who(ctx).Grant
	if device == nil {
		return a.Machine.Purse.Pay(ctx, o)
	}
	o.ID = devicesOrder(device.Device, o.ID)
	host := a.Machine.Engine.Host
	ask := fleet.Spend{Device: device.Device, ID: o.ID, Amount: o.Amount, To: o.To, Under: device.Limits}
	if _, err := host.Ask(ctx, fleet.Name, fleet.SpendID(device.Device, o.ID), ask); err != nil {
		return r, err
	}
	r, err = a.Machine.Purse.Pay(ctx, o)
	// A payment that nobody knows the end of stays on the budget.
	settled := a.Machine.Engine.Context()
	switch kind := money.KindOf(err); {
	case err == nil:
		host.Tell(settled, fleet.Name, fleet.Spent{Device: device.Device, ID: o.ID})
	case kind == money.Unpaid || kind == money.Refused || kind == money.Invalid:
		host.Tell(settled, fleet.Name, fleet.Unspent{Device: device.Device, ID: o.ID})
	}
	return r, err
}

// devicesOrder keeps devices from paying, or seeing, each other's orders: an ID is
// of its device.
func devicesOrder(device string, id money.OrderID) money.OrderID {
	return gateway.Derived(fmt.Sprintf("coinop/payment/%s/", device), id)
}
