// Package till is how a machine earns: core/earn with a disk, a device and
// rails, as plain calls.
package till

import (
	"context"
	"fmt"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/world/drive"
)

// MaxDelivering bounds the deliveries that a device does at a time; more wait.
const MaxDelivering = 16

// A Device delivers what was paid for. It may be asked again for an order after
// a crash and should then do the same; an error means it could not, and it is
// asked again later.
type Device func(ctx context.Context, d earn.Deliver) (payload []byte, err error)

// A Till sells items, each order once, for what its rails have been paid.
type Till struct{ m *engine.Machine }

// Options are what a till is made of.
type Options struct {
	Items []trade.Item
	PayTo []string // what the tariff says about how to pay
	// Device delivers; nil if nothing built in does.
	Device Device
	// Journal makes the book tell the machine's journal of every change.
	Journal bool
}

// Open loads the book of orders from the machine's store. Rails that are cores
// of the machine must be opened after it, so that their outcomes find the book,
// and cores that deliver before it.
func Open(ctx context.Context, m *engine.Machine, o Options) (*Till, error) {
	book, err := earn.Load(m.DB, o.Items, o.PayTo)
	if err != nil {
		return nil, fmt.Errorf("till: %w", err)
	}
	book.Journal = o.Journal
	room := make(chan struct{}, MaxDelivering)
	m.Host.Outlet(earn.Device, func(p step.Packet) {
		d, ok := p.Msg.(earn.Deliver)
		if !ok || o.Device == nil {
			return
		}
		go func() {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			defer func() { <-room }()
			payload, err := o.Device(ctx, d)
			if err == nil && len(payload) > trade.MaxPayload {
				err = fmt.Errorf("the device delivers %d bytes; the limit is %d", len(payload), trade.MaxPayload)
			}
			if err != nil {
				m.Log.Warn("delivery failed; it is tried again", "order", d.Order, "item", d.Item, "err", err)
			}
			m.Host.Tell(ctx, earn.Name, earn.Delivered{Order: d.Order, Payload: payload, Err: err})
		}()
	})
	return &Till{m: m}, m.Host.Add(ctx, earn.Name, book)
}

// Summary reads the book.
func (t *Till) Summary(ctx context.Context) (s earn.Summary, err error) {
	err = t.m.Host.Do(ctx, func(m *drive.Machine) { s = m.Core(earn.Name).(*earn.Book).Summary() })
	return s, err
}

// Order reads one order; one that the till has not heard of is not paid.
func (t *Till) Order(ctx context.Context, id money.OrderID) (o earn.Order, err error) {
	err = t.m.Host.Do(ctx, func(m *drive.Machine) { o = m.Core(earn.Name).(*earn.Book).Order(id) })
	return o, err
}
