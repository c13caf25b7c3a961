package paywordrail

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"coinop.dev"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

const (
	// MaxChannels bounds the channels a payee has at a time.
	MaxChannels = 10_000
	// maxPerPeer bounds those of one payer, who is given credit for each.
	maxPerPeer = 16
	// maxUnheard bounds the payments that Settled has not returned yet. The
	// till's book has every one of them.
	maxUnheard = 1024

	defaultMaxCredit = payword.MaxGap * coinop.Msat
	defaultMinSettle = coinop.Sat
)

// payee is the earning end, for any number of payers.
//
// Its settlements arrive on another rail and reach the till's book like any
// payment there. Each channel claims its own from the book (trade.Claim), which
// hands them over instead of counting them: they were counted as coins. So it
// does not matter which rail settles, or in which sequence rails are opened.
type payee struct {
	m      *engine.Machine
	payTo  string // kept, because a public key takes a multiplication on the curve
	policy payword.Policy
	heard  chan coinop.Receipt

	mu    sync.Mutex
	ids   map[payword.ID]bool
	peers map[keys.Public]int
}

func openPayee(ctx context.Context, u *url.URL, m *engine.Machine) (rail.Conn, error) {
	q := rail.Query(u)
	c := &payee{
		m: m, payTo: Scheme + "://" + m.Key.Public().String() + "@" + q.Text("host", ""), heard: make(chan coinop.Receipt, maxUnheard),
		policy: payword.Policy{MaxCredit: q.Amount("max_credit", defaultMaxCredit), MinSettle: q.Amount("min_settle", defaultMinSettle)},
		ids:    map[payword.ID]bool{}, peers: map[keys.Public]int{},
	}
	if err := q.Close(); err != nil {
		return nil, err
	}
	ids, err := channels(m.DB, payword.PayeePrefix)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		p, err := payword.LoadPayee(m.DB, id, m.Key)
		if err != nil {
			return nil, err
		}
		if err := c.add(ctx, p); err != nil {
			return nil, err
		}
	}
	m.Host.Hear(c.hear)
	m.AddDoor(c.door)
	return c, nil
}

func (c *payee) add(ctx context.Context, p *payword.Payee) error {
	c.mu.Lock()
	c.ids[p.ID()] = true
	c.peers[p.PayerNode]++
	c.mu.Unlock()
	return add(ctx, c.m, payword.PayeeName(p.ID()), p, trade.Seller, func(*drive.Machine) {})
}

// door answers proposals, and takes in a channel when it is agreed.
func (c *payee) door(from keys.Public, msg message.Message) bool {
	switch msg := msg.(type) {
	case payword.Open:
		answer, err := c.consider(from, msg.Proposal)
		if err != nil {
			c.m.Send(from, payword.Reject{ID: msg.ID, Why: err.Error()})
		} else {
			c.m.Send(from, payword.Accept{ID: msg.ID, Answer: answer})
		}
		return true
	case payword.Agreed:
		if err := c.admit(from, msg.Terms); err != nil {
			c.m.Log.Warn("channel refused", "peer", from, "err", err)
			c.m.Send(from, payword.Reject{ID: msg.Terms.ID(), Why: err.Error()})
			return true
		}
		return false // the core wants to hear it too
	}
	return false
}

func (c *payee) consider(from keys.Public, p payword.Proposal) (payword.Answer, error) {
	if p.PayerNode != from {
		return payword.Answer{}, errors.New("the proposal is another node's")
	}
	c.mu.Lock()
	all, its := len(c.ids), c.peers[from]
	c.mu.Unlock()
	switch {
	case all >= MaxChannels:
		return payword.Answer{}, fmt.Errorf("%d channels are the limit of this payee", MaxChannels)
	case its >= maxPerPeer:
		return payword.Answer{}, fmt.Errorf("%d channels are the limit for one payer", maxPerPeer)
	}
	return payword.Consider(p, c.policy, c.m.Key)
}

// admit checks that the terms are what this payee would answer, and starts the
// channel's core if it is new.
func (c *payee) admit(from keys.Public, t payword.Terms) error {
	c.mu.Lock()
	known := c.ids[t.ID()]
	c.mu.Unlock()
	if known {
		return nil
	}
	answer, err := c.consider(from, t.Proposal)
	if err != nil {
		return err
	}
	if answer != t.Answer {
		return errors.New("the terms are not what this payee answered")
	}
	core, err := payword.NewPayee(t, c.m.Key)
	if err != nil {
		return err
	}
	return c.add(context.Background(), core)
}

// hear offers payments to Settled; when nobody takes them the oldest go.
func (c *payee) hear(o step.Outcome) {
	paid, ok := o.Value.(receipt.Paid)
	if !ok || !strings.HasPrefix(o.Core, payword.PayeePrefix) {
		return
	}
	if len(c.heard) == cap(c.heard) {
		select {
		case <-c.heard:
		default:
		}
	}
	// The proof is not made here: this runs for every payment, on the host.
	e := paid.Entry()
	c.heard <- coinop.Receipt{Order: e.Order, Amount: e.Amount, To: c.PayTo(), At: int64(c.m.Host.Now())}
}

// PayTo is the payment URI of this machine.
func (c *payee) PayTo() string { return c.payTo }

// Bill puts a bill's order and amount into the payment URI.
func (c *payee) Bill(b coinop.Bill) (string, error) {
	if b.Amount == 0 || b.Amount > coinop.MaxAmount {
		return "", &coinop.Error{Kind: coinop.Invalid, Op: "bill " + b.ID.String(), Err: fmt.Errorf("the amount is %v", b.Amount)}
	}
	return fmt.Sprintf("%s?order=%v&amount_msat=%d", c.PayTo(), b.ID, uint64(b.Amount)), nil
}

// Settled returns the next payment.
func (c *payee) Settled(ctx context.Context) (coinop.Receipt, error) {
	select {
	case r := <-c.heard:
		return r, nil
	case <-ctx.Done():
		return coinop.Receipt{}, ctx.Err()
	}
}

// Pay refuses: this end earns.
func (c *payee) Pay(_ context.Context, o coinop.Order) (coinop.Receipt, error) {
	return coinop.Receipt{}, &coinop.Error{Kind: coinop.Unpaid, Op: "pay " + o.To, Err: errors.New("this rail only earns; open one that names the payee")}
}

// Verify checks a receipt of this rail offline.
func (c *payee) Verify(r coinop.Receipt) error { return rail.VerifyStamp(r) }

// Close leaves the channels open for the next time.
func (c *payee) Close() error { return nil }

// Summary is Summaries for whoever only shows them.
func (c *payee) Summary(ctx context.Context) (all []any, err error) {
	channels, err := c.Summaries(ctx)
	for _, s := range channels {
		all = append(all, s)
	}
	return all, err
}

// Summaries reads the state of all channels.
func (c *payee) Summaries(ctx context.Context) (all []payword.Summary, err error) {
	err = c.m.Host.Do(ctx, func(m *drive.Machine) {
		for _, name := range m.Names() {
			if p, ok := m.Core(name).(*payword.Payee); ok {
				all = append(all, p.Summary())
			}
		}
	})
	return all, err
}
