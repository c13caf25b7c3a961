package paywordrail

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"coinop.dev/core/channel/payword"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

const (
	// MaxChannels bounds the channels a payee has at a time.
	MaxChannels = 10_000
	// maxPerPeer bounds those of one payer, who is given credit for each.
	maxPerPeer       = 16
	defaultMaxCredit = payword.MaxGap * money.Msat
	defaultMinSettle = money.Sat
)

// payee is the earning end, for any number of payers.
//
// Its settlements arrive on another rail and reach the till's book like any
// payment there. Each channel claims its own from the book (trade.Claim), which
// hands them over instead of counting them: they were counted as coins. So it
// does not matter which rail settles, or in which sequence rails are opened.
type payee struct {
	*rail.Earner
	m      *engine.Machine
	policy payword.Policy

	mu    sync.Mutex
	ids   map[payword.ID]bool
	peers map[keys.Public]int
}

func openPayee(ctx context.Context, u *url.URL, m *engine.Machine) (rail.Conn, error) {
	q := rail.Query(u)
	host := q.Text("host", "")
	c := &payee{
		m:      m,
		policy: payword.Policy{MaxCredit: q.Amount("max_credit", defaultMaxCredit), MinSettle: q.Amount("min_settle", defaultMinSettle)},
		ids:    map[payword.ID]bool{}, peers: map[keys.Public]int{},
	}
	if err := q.Close(); err != nil {
		return nil, err
	}
	ids, err := rail.Channels[payword.ID](m.DB, payword.PayeePrefix)
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
	c.Earner = rail.NewEarner(m, rail.PayToAt(Scheme, m, host), payword.PayeePrefix)
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
