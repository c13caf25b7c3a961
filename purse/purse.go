// Package purse is how a machine spends: core/spend with a disk and rails, as
// blocking calls.
package purse

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

// A Purse pays orders within its limits, each ID once, over the rails it holds.
type Purse struct {
	m     *engine.Machine
	rails []*rail.Rail
}

// Options are what a purse is made of.
type Options struct {
	Limits spend.Limits
	// Journal makes the book tell the machine's journal of every payment that ends.
	Journal bool
}

// Open loads the book of orders from the machine's store. Rails that are cores
// of the machine must be opened after it, so that their outcomes find the book;
// add them with Hold.
func Open(ctx context.Context, m *engine.Machine, o Options) (*Purse, error) {
	book, err := spend.Load(m.DB, o.Limits)
	if err != nil {
		return nil, fmt.Errorf("purse: %w", err)
	}
	book.Journal = o.Journal
	return &Purse{m: m}, m.Host.Add(ctx, spend.Name, book)
}

// Hold adds a rail to pay with. The first one that fits an order's URI is used.
func (p *Purse) Hold(ctx context.Context, r *rail.Rail) error {
	p.rails = append(p.rails, r)
	if _, native := r.Core(); !native {
		// For as long as the machine lives: ctx is only for holding it.
		p.m.Host.Outlet(outlet(r), func(packet step.Packet) { p.toRail(p.m.Context(), r, packet) })
	}
	// Orders that were open when the machine stopped are handed over again now
	// that their rail is there.
	return p.m.Host.Tell(ctx, spend.Name, step.Rang{ID: step.Start})
}

// outlet names a rail that is no core, without its parameters: they may change
// while an order waits for it.
func outlet(r *rail.Rail) string {
	uri, _, _ := strings.Cut(r.String(), "?")
	return "rail/" + uri
}

// toRail lets a rail that is no core of this machine pay an order, on a
// goroutine of its own; the book bounds how many there are.
func (p *Purse) toRail(ctx context.Context, r *rail.Rail, packet step.Packet) {
	var o money.Order
	switch msg := packet.Msg.(type) {
	case money.Order:
		o = msg
	case money.Inquiry:
		go func() {
			receipt, err := r.Prove(ctx, msg.Order)
			p.answer(ctx, r, msg.Order, receipt, err)
		}()
		return
	default:
		return
	}
	go func() {
		receipt, err := r.Pay(ctx, o)
		p.answer(ctx, r, o.ID, receipt, err)
	}()
}

func (p *Purse) answer(ctx context.Context, r *rail.Rail, id money.OrderID, receipt money.Receipt, err error) {
	p.m.Host.Tell(ctx, spend.Name, step.Recv{From: outlet(r), Msg: step.Outcome{ID: id.Key(), Err: err, Value: receipt}})
}

// ErrNoRail means no rail of the purse can pay an order.
var ErrNoRail = errors.New("no rail of this purse can pay it")

// rail finds the rail that leads to whom a payment URI names. A channel pays its
// payee whatever an order says, so a rail to somebody else must not get it.
func (p *Purse) rail(to string) (*rail.Rail, string, error) {
	scheme, payee := parties(to)
	for _, r := range p.rails {
		if !r.Speaks(scheme) || !reaches(r, to, payee) {
			continue
		}
		if core, native := r.Core(); native {
			return r, core, nil
		}
		return r, outlet(r), nil
	}
	return nil, "", &money.Error{Kind: money.Refused, Op: "pay " + to, Err: ErrNoRail}
}

// reaches reports whether a rail leads to a payee.
func reaches(r *rail.Rail, to, payee string) bool {
	if n, ok := rail.As[rail.Network](r); ok {
		return n.Reaches(to)
	}
	_, leads := parties(r.String())
	return leads == "" || leads == payee
}

// parties splits a URI into its scheme and the node it names, if it does.
func parties(uri string) (scheme, node string) {
	uri, _, _ = strings.Cut(uri, "?")
	scheme, node, _ = strings.Cut(uri, ":")
	node, _, named := strings.Cut(strings.TrimPrefix(node, "//"), "@")
	if !named {
		node = "" // a host alone is where the rail's own server is
	}
	return scheme, node
}

// NewOrderID returns an ID that nobody has used.
func NewOrderID() (id money.OrderID) {
	rand.Read(id[:])
	return id
}

// Pay pays an order and returns its receipt. Calling it again with the same
// order, also after a crash, pays nothing and returns the receipt. If ctx ends
// first the order may still be paid: the error is money.Pending.
func (p *Purse) Pay(ctx context.Context, o money.Order) (money.Receipt, error) {
	return p.ask(ctx, o, "")
}

func (p *Purse) ask(ctx context.Context, o money.Order, seller string) (money.Receipt, error) {
	_, via, err := p.rail(o.To)
	if err != nil {
		return money.Receipt{}, err
	}
	v, err := p.m.Host.Ask(ctx, spend.Name, o.ID.Key(), spend.Ask{Order: o, Via: via, Seller: seller})
	if err != nil {
		return money.Receipt{}, pending(o.To, err)
	}
	switch v := v.(type) {
	case receipt.Evidence:
		return rail.Receipt(v, rail.Payee(o.To), p.m.Host.Now()), nil
	case money.Receipt:
		return v, nil
	}
	return money.Receipt{}, &money.Error{Kind: money.Broken, Op: "pay " + o.To, Err: fmt.Errorf("the rail answers with a %T", v)}
}

// pending gives an error without a kind the one that cannot lose money.
func pending(to string, err error) error {
	var known *money.Error
	if errors.As(err, &known) {
		return err
	}
	return &money.Error{Kind: money.Pending, Op: "pay " + to, Err: err}
}

// Buy pays an order to a seller and waits for its goods. Calling it again with
// the same order, also after a crash, pays nothing and returns the same goods.
func (p *Purse) Buy(ctx context.Context, o money.Order, seller keys.Public) (money.Receipt, trade.Goods, error) {
	wait, err := p.m.Host.Await(spend.Name, spend.GoodsID(o.ID))
	if err != nil {
		return money.Receipt{}, trade.Goods{}, err
	}
	r, err := p.ask(ctx, o, seller.PeerName())
	if err != nil {
		given, giveUp := context.WithCancel(ctx)
		giveUp()
		wait(given)
		return r, trade.Goods{}, err
	}
	v, err := wait(ctx)
	if err != nil {
		return r, trade.Goods{}, pending(o.To, err)
	}
	return r, v.(trade.Goods), nil
}

// Verify checks a receipt of any of the purse's rails, offline.
func (p *Purse) Verify(r money.Receipt) error {
	held, _, err := p.rail(r.To)
	if err != nil {
		return err
	}
	return held.Verify(r)
}

// Summary reads the book.
func (p *Purse) Summary(ctx context.Context) (s spend.Summary, err error) {
	err = p.m.Host.Do(ctx, func(m *drive.Machine) {
		s = m.Core(spend.Name).(*spend.Book).Summary(p.m.Host.Now())
	})
	return s, err
}

// Browse asks a seller, to which the machine has a link, what it sells and how
// it is paid.
func Browse(ctx context.Context, m *engine.Machine, seller keys.Public) (trade.Tariff, error) {
	answer := make(chan trade.Tariff, 1)
	defer m.AddDoor(func(from keys.Public, msg message.Message) bool {
		t, ok := msg.(trade.Tariff)
		if !ok || from != seller {
			return false
		}
		return engine.Offer(answer, t)
	})()
	for {
		m.Send(seller, trade.Browse{})
		select {
		case t := <-answer:
			return t, nil
		case <-time.After(browseAgain):
		case <-ctx.Done():
			return trade.Tariff{}, fmt.Errorf("the seller does not say what it sells: %w", ctx.Err())
		}
	}
}

const browseAgain = time.Second
