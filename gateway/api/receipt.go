package api

import (
	"context"
	"crypto/sha256"

	"github.com/danielgtaylor/huma/v2"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
)

// proving gives out receipts that anybody can check offline (coinop receipt verify).
func (a *API) proving() {
	huma.Register(a.huma, op("GET", "/v1/orders/{id}/receipt", Public, "The seller's signed statement of an order. The device's acknowledgement is in it for the seller, and for who shows the proof"), func(ctx context.Context, in *Ordered) (*body[receipt.Sale], error) {
		o, err := a.order(ctx, in.ID, "")
		if err != nil {
			return nil, problem(err)
		}
		if !who(ctx).May(Read) {
			goods := o.Payload
			o = forStrangers(o)
			o.Payload = goods // only its hash is shown
		}
		return answer(a.sale(o, nil))
	})
	huma.Register(a.huma, op("POST", "/v1/orders/{id}/receipt", Public, "The same with the buyer's own receipt and the device's acknowledgement, for who shows the proof"), func(ctx context.Context, in *struct {
		Ordered
		Body Claim
	}) (*body[receipt.Sale], error) {
		p, err := in.Body.proof(who(ctx))
		if err != nil {
			return nil, problem(err)
		}
		o, err := a.shop.Claim(ctx, p)
		if err == nil && o.ID != in.ID {
			err = invalid("the proof is of another order")
		}
		if err != nil {
			return nil, problem(err)
		}
		return answer(a.sale(o, in.Body.Receipt))
	})
}

// sale states what became of an order.
func (a *API) sale(o earn.Order, paid *money.Receipt) (s receipt.Sale, err error) {
	if o.State == "quoted" {
		return s, notFound("order " + o.ID.String() + " is not paid, or of another machine")
	}
	s = receipt.Sale{
		Order: o.ID, State: o.State, Item: o.Item, Units: o.Units, Due: o.Due, Paid: o.Paid, Back: o.Back,
		Currency: o.Rate.Currency, Rate: o.Rate.Micro, Source: o.Rate.Source, RateAt: o.Rate.At,
		Device: o.Device, Ack: o.Ack, Test: o.Test, At: o.At, Payment: paid,
	}
	if len(o.Payload) > 0 {
		sum := sha256.Sum256(o.Payload)
		s.Goods = sum[:]
	}
	if a.Fleet != nil && o.Device != "" {
		if d, ok := a.Fleet.Device(o.Device); ok {
			s.DeviceKey = d.Key
		}
	}
	return s.Sign(a.Machine.Key), nil
}
