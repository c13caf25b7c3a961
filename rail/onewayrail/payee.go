package onewayrail

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"coinop.dev/core/channel/oneway"
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
)

// payee is the earning end, for any number of payers.
type payee struct {
	*rail.Earner
	m      *engine.Machine
	policy oneway.Policy

	mu  sync.Mutex
	ids map[oneway.ID]bool
}

func openPayee(ctx context.Context, u *url.URL, m *engine.Machine) (rail.Conn, error) {
	q := rail.Query(u)
	c := &payee{m: m, ids: map[oneway.ID]bool{}}
	host := q.Text("host", "")
	c.policy = oneway.Policy{
		MinCapacity: q.Amount("min_capacity", oneway.MinCapacity),
		MaxCapacity: q.Amount("max_capacity", 10*money.BTC),
		MinDepth:    int32(q.Int("min_depth", defaultDepth, 1, oneway.MaxDepth)),
	}
	if err := q.Close(); err != nil {
		return nil, err
	}
	ids, err := rail.Channels[oneway.ID](m.DB, oneway.PayeePrefix)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		p, err := oneway.LoadPayee(m.DB, id, m.Key)
		if err != nil {
			return nil, err
		}
		c.ids[id] = true
		if err := ensure(ctx, m, oneway.PayeeName(id), p, trade.Seller); err != nil {
			return nil, err
		}
	}
	c.Earner = rail.NewEarner(m, rail.PayToAt(Scheme, m, host), oneway.PayeePrefix)
	m.AddDoor(c.door)
	return c, nil
}

// door answers proposals, and takes in a channel when its funding is announced.
func (c *payee) door(from keys.Public, msg message.Message) bool {
	switch msg := msg.(type) {
	case oneway.Open:
		answer, err := c.consider(from, msg.Proposal)
		if err != nil {
			c.m.Send(from, oneway.Reject{ID: msg.ID, Why: err.Error()})
		} else {
			c.m.Send(from, oneway.Accept{ID: msg.ID, Answer: answer})
		}
		return true
	case oneway.Funded:
		if err := c.admit(from, msg.Terms); err != nil {
			c.m.Log.Warn("channel refused", "peer", from, "err", err)
			c.m.Send(from, oneway.Reject{ID: msg.Terms.ID(), Why: err.Error()})
			return true
		}
		return false // the core wants to hear it too
	}
	return false
}

func (c *payee) consider(from keys.Public, p oneway.Proposal) (oneway.Answer, error) {
	if p.PayerNode != from {
		return oneway.Answer{}, errors.New("the proposal is another node's")
	}
	c.mu.Lock()
	full := len(c.ids) >= MaxChannels
	c.mu.Unlock()
	if full {
		return oneway.Answer{}, fmt.Errorf("%d channels are the limit of this payee", MaxChannels)
	}
	return oneway.Consider(p, c.policy, c.m.Key, c.m.Tip())
}

// admit checks that announced terms are what this payee would answer, and
// starts the channel's core if it is new.
func (c *payee) admit(from keys.Public, t oneway.Terms) error {
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
	if answer.MinDepth != t.MinDepth || string(answer.PayeeScript) != string(t.PayeeScript) || answer.Payee != t.Payee {
		return errors.New("the terms are not what this payee answered")
	}
	core, err := oneway.NewPayee(t, c.m.Key)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.ids[t.ID()] = true
	c.mu.Unlock()
	return c.m.Host.Add(context.Background(), oneway.PayeeName(t.ID()), core, trade.Seller)
}

// Shut asks every payer to close, or claims at once with the last tickets.
func (c *payee) Shut(ctx context.Context, force bool) error {
	c.mu.Lock()
	var ids []oneway.ID
	for id := range c.ids {
		ids = append(ids, id)
	}
	c.mu.Unlock()
	for _, id := range ids {
		if _, err := c.m.Host.Ask(ctx, oneway.PayeeName(id), oneway.Shut, oneway.Close{Force: force}); err != nil {
			return err
		}
	}
	return nil
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
func (c *payee) Summaries(ctx context.Context) (all []oneway.Summary, err error) {
	err = c.m.Host.Do(ctx, func(m *drive.Machine) {
		for _, name := range m.Names() {
			if p, ok := m.Core(name).(*oneway.Payee); ok {
				all = append(all, p.Summary())
			}
		}
	})
	return all, err
}
