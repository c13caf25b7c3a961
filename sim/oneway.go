package sim

import (
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// Oneway is the world of a buyer who pays a seller over a one-way channel.
type Oneway struct{ *shop }

// NewOneway sets the world up.
func NewOneway(seed uint64, f Faults, b Bug) (*Oneway, error) {
	s, payer, err := newShop(seed, f)
	if err != nil {
		return nil, err
	}
	o := &Oneway{s}
	o.Bug, o.Check = b, o.invariants
	o.to, o.via = "oneway://seller", oneway.PayerName(o.id)
	nothing := func(*drive.Machine, step.Reader) error { return nil }
	o.buys, o.sells = nothing, nothing
	return o, o.start(payer)
}

// Play runs the whole story: trading, and a closing.
func (o *Oneway) Play(orders int) error {
	if err := o.trade(orders); err != nil {
		return err
	}
	return o.close()
}

// invariants hold after every step, whatever has failed.
func (o *Oneway) invariants() error {
	if o.buyer == nil || o.seller == nil {
		return nil
	}
	payer, payee := o.ends()
	purse, till := o.books()
	return agree(purse.Paid, payer.Paid, payer.Pending, payee.Paid, till.Earned)
}
