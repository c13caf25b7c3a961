package rail

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"coinop.dev/core/billing"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/engine"
	"coinop.dev/world/drive"
)

const (
	// MaxAsking bounds the questions that a Biller's end answers at a time; one too
	// many is dropped, and asked again.
	MaxAsking = 512

	// askPatience is how long a payee may take to answer. Nothing has been paid
	// then, so the order is Unpaid.
	askPatience = 30 * time.Second
	// askAgain is when a question is repeated, for links lose messages.
	askAgain = time.Second
)

// A Customer asks payees for the bill of an order (core/billing), for rails on
// which the payee has to say what to pay.
type Customer struct {
	m    *engine.Machine
	shut func() // takes the door away

	mu      sync.Mutex
	waiting map[money.OrderID][]question
}

// question is somebody who waits for a payee's answer.
type question struct {
	payee  keys.Public
	answer chan message.Message
}

// NewCustomer opens its door.
func NewCustomer(m *engine.Machine) *Customer {
	c := &Customer{m: m, waiting: map[money.OrderID][]question{}}
	c.shut = m.AddDoor(c.door)
	return c
}

// Close takes its door away.
func (c *Customer) Close() { c.shut() }

// Ask connects to the payee, "<key>@<host>:<port>", and asks until it has
// answered. Whether the bill is for the order, and signed by node, is for the
// caller to see.
func (c *Customer) Ask(ctx context.Context, payee string, o money.Order) (node keys.Public, b billing.Bill, err error) {
	node, addr, err := engine.Address(payee)
	if err != nil {
		return node, b, err
	}
	if node == c.m.Key.Public() {
		return node, b, errors.New("the payee is this machine itself")
	}
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	if err := c.m.Connect(ctx, addr, node); err != nil {
		return node, b, err
	}
	q := question{node, make(chan message.Message, 1)}
	c.mu.Lock()
	c.waiting[o.ID] = append(c.waiting[o.ID], q)
	c.mu.Unlock()
	defer c.leave(o.ID, q)
	for {
		c.m.Send(node, billing.Ask{Order: o.ID, Amount: o.Amount})
		select {
		case answer := <-q.answer:
			if refusal, no := answer.(billing.Refuse); no {
				return node, b, fmt.Errorf("the payee refuses: %.200q", refusal.Why)
			}
			return node, answer.(billing.Bill), nil
		case <-time.After(askAgain):
		case <-c.m.Stopped():
			return node, b, drive.ErrStopped
		case <-ctx.Done():
			return node, b, fmt.Errorf("the payee does not answer with a bill: %w", ctx.Err())
		}
	}
}

func (c *Customer) leave(id money.OrderID, q question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting[id] = slices.DeleteFunc(c.waiting[id], func(other question) bool { return other == q })
	if len(c.waiting[id]) == 0 {
		delete(c.waiting, id)
	}
}

// door takes what payees answer.
func (c *Customer) door(from keys.Public, msg message.Message) (took bool) {
	var id money.OrderID
	switch msg := msg.(type) {
	case billing.Bill:
		id = msg.Order
	case billing.Refuse:
		id = msg.Order
	default:
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range c.waiting[id] {
		if q.payee == from {
			took = engine.Offer(q.answer, msg)
		}
	}
	return took
}

// A Cashier answers Customers, each order one at a time.
type Cashier struct {
	m    *engine.Machine
	bill MakeBill
	shut func() // takes the door away

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	asking map[money.OrderID]bool
}

// MakeBill makes what an order of a peer is paid by, as the rail writes it, and
// the hash that the payee gives its word on. Asked again it is the same.
type MakeBill func(ctx context.Context, from keys.Public, order money.OrderID, amount money.Amount) (bill string, hash [32]byte, err error)

// NewCashier opens its door.
func NewCashier(m *engine.Machine, bill MakeBill) *Cashier {
	c := &Cashier{m: m, bill: bill, asking: map[money.OrderID]bool{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.shut = m.AddDoor(c.door)
	return c
}

// Close takes its door away and ends the answers under way.
func (c *Cashier) Close() {
	c.shut()
	c.mu.Lock() // a door that is open now is the last
	c.cancel()
	c.mu.Unlock()
	c.running.Wait()
}

func (c *Cashier) door(from keys.Public, msg message.Message) bool {
	ask, ok := msg.(billing.Ask)
	if !ok {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil || c.asking[ask.Order] || len(c.asking) >= MaxAsking {
		return true
	}
	c.asking[ask.Order] = true
	c.running.Go(func() {
		c.answer(from, ask)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.asking, ask.Order)
	})
	return true
}

func (c *Cashier) answer(from keys.Public, ask billing.Ask) {
	bill, hash, err := c.bill(c.ctx, from, ask.Order, ask.Amount)
	if c.ctx.Err() != nil {
		return // not a refusal: asked again, the machine that comes back answers
	}
	if err != nil {
		c.m.Log.Warn("no bill for an order", "peer", from, "order", ask.Order, "err", err)
		c.m.Send(from, billing.Refuse{Order: ask.Order, Why: err.Error()})
		return
	}
	word := billing.Sign(c.m.Key, ask.Order, ask.Amount, hash)
	c.m.Send(from, billing.Bill{Order: ask.Order, Invoice: bill, Word: word})
}
