// Package paywordrail pays and is paid with hash-chain coins, which are settled
// over another rail of the same machine.
//
//	payword://<payee key>@<host>:<port>?coin=1msat&every=100sat&credit=200sat&settle=oneway
//	payword:?host=<host>:<port>
//
// The first pays that payee. It wants an open rail, named by settle, that is a
// channel of this machine to the same payee, and settles over it whenever
// another every is owed; credit is what the payee is asked to let run up. The
// second is paid by anybody who has such a channel to it.
package paywordrail

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"

	"coinop.dev/core/channel/payword"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

// Scheme is the rail's word.
const Scheme = "payword"

// Driver opens payword rails.
type Driver struct{}

// Open opens the paying end if u names a payee, and the earning end if not.
func (Driver) Open(ctx context.Context, u *url.URL, env rail.Env) (rail.Conn, error) {
	if u.User == nil && u.Host == "" {
		return openPayee(ctx, u, env.Machine)
	}
	return openPayer(ctx, u, env)
}

// Defaults of the URI's parameters: as much credit as a channel can have in the
// smallest coin, settled by halves.
const (
	defaultCoin   = money.Msat
	defaultCredit = payword.MaxGap // coins
	defaultSettle = "oneway"
)

// payer is the paying end.
type payer struct {
	m     *engine.Machine
	node  keys.Public
	to    string
	id    payword.ID
	meter *meter
}

func openPayer(ctx context.Context, u *url.URL, env rail.Env) (rail.Conn, error) {
	node, addr, err := engine.Address(u.User.Username() + "@" + u.Host)
	if err != nil {
		return nil, err
	}
	proposal, settle, err := read(u)
	if err != nil {
		return nil, err
	}
	c := &payer{m: env.Machine, node: node, to: Scheme + "://" + u.User.Username() + "@" + u.Host}
	proposal.PayerNode = c.m.Key.Public()
	if proposal.Settle, err = c.settler(env, settle); err != nil {
		return nil, err
	}
	reused, err := c.reuse(ctx, proposal)
	if err != nil {
		return nil, err
	}
	if err := c.m.Connect(ctx, addr, node); err != nil {
		return nil, err
	}
	if !reused {
		if err := c.open(ctx, proposal); err != nil {
			return nil, err
		}
	}
	if err := c.waitOpen(ctx); err != nil {
		return nil, err
	}
	c.meter = newMeter(c.m, c.Core(), proposal)
	return c, nil
}

// read makes a proposal of the URI's parameters.
func read(u *url.URL) (p payword.Proposal, settle string, err error) {
	q := rail.Query(u)
	p.Coin = max(q.Amount("coin", defaultCoin), 1)
	credit := q.Amount("credit", p.Coin*defaultCredit)
	every := q.Amount("every", credit/p.Coin/2*p.Coin)
	p.Length = uint64(q.Int("chain", payword.DefaultLength, payword.MinLength, payword.MaxLength))
	settle = q.Text("settle", defaultSettle)
	if err := q.Close(); err != nil {
		return p, "", err
	}
	if credit%p.Coin != 0 || every%p.Coin != 0 {
		return p, "", fmt.Errorf("credit of %v and settlements of %v must be in whole coins of %v", credit, every, p.Coin)
	}
	p.Credit, p.Every = uint64(credit/p.Coin), uint64(every/p.Coin)
	return p, settle, nil
}

// settler names the core that settles: that of an open rail to the same payee.
func (c *payer) settler(env rail.Env, scheme string) (core string, err error) {
	r := (*rail.Rail)(nil)
	if env.Rail != nil {
		r = env.Rail(scheme)
	}
	if r == nil {
		return "", fmt.Errorf("coins are settled over %s, and no such rail is open; open it first", scheme)
	}
	core, native := r.Core()
	if !native {
		return "", fmt.Errorf("coins cannot be settled over %v: it is no channel of this machine", r)
	}
	_, rest, _ := strings.Cut(r.String(), "://")
	rest, _, _ = strings.Cut(rest, "?")
	if node, _, err := engine.Address(rest); err != nil || node != c.node {
		return "", fmt.Errorf("coins cannot be settled over %v: it does not lead to %v", r, c.node)
	}
	return core, nil
}

// reuse loads every payer this store has, so that settling goes on, and picks
// one that is like the proposal.
func (c *payer) reuse(ctx context.Context, want payword.Proposal) (found bool, err error) {
	ids, err := rail.Channels[payword.ID](c.m.DB, payword.PayerPrefix)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		p, err := payword.LoadPayer(c.m.DB, id, c.m.Key)
		if err != nil {
			return false, err
		}
		have, node, state := p.Proposal, p.Payee.Node, p.Summary().State
		if err := c.add(ctx, id, p, have.Settle); err != nil {
			return false, err
		}
		have.Number = want.Number
		if node == c.node && have == want && (state == "open" || state == "opening") {
			c.id, found = id, true
		}
	}
	return found, nil
}

// add adds a payer to the machine unless it is there, and lets it hear how its
// settlements end.
func (c *payer) add(ctx context.Context, id payword.ID, p *payword.Payer, settle string) error {
	name := payword.PayerName(id)
	return add(ctx, c.m, name, p, trade.Buyer, func(m *drive.Machine) { m.Listen(settle, name) })
}

// add adds a core to the machine unless it is there. What wire does is done
// before anything can happen to the core.
func add(ctx context.Context, m *engine.Machine, name string, core drive.Core, listener string, wire func(*drive.Machine)) error {
	there := false
	err := m.Host.Do(ctx, func(machine *drive.Machine) {
		if there = machine.Core(name) != nil; !there {
			machine.Add(name, core, listener)
			wire(machine)
		}
	})
	if err != nil || there {
		return err
	}
	return m.Host.Tell(ctx, name, step.Rang{ID: step.Start})
}

// proposeAgain is when a proposal that nobody has answered is sent again.
const proposeAgain = time.Second

// open proposes a channel and starts its payer.
func (c *payer) open(ctx context.Context, p payword.Proposal) error {
	var number [8]byte
	rand.Read(number[:])
	p.Number = binary.BigEndian.Uint64(number[:])
	c.id = payword.IDOf(p.PayerNode, c.node, p.Number)
	answer, err := c.propose(ctx, p)
	if err != nil {
		return err
	}
	core, err := payword.NewPayer(payword.Terms{Proposal: p, Answer: answer}, c.m.Key)
	if err != nil {
		return err
	}
	return c.add(ctx, c.id, core, p.Settle)
}

// propose sends the proposal until the payee answers it. The door lets other
// rails' answers pass.
func (c *payer) propose(ctx context.Context, p payword.Proposal) (a payword.Answer, err error) {
	accepted, rejected := make(chan payword.Answer, 1), make(chan string, 1)
	id, node := c.id, c.node
	defer c.m.AddDoor(func(from keys.Public, msg message.Message) bool {
		switch msg := msg.(type) {
		case payword.Accept:
			return from == node && msg.ID == id && engine.Offer(accepted, msg.Answer)
		case payword.Reject:
			return from == node && msg.ID == id && engine.Offer(rejected, msg.Why)
		}
		return false
	})()
	for {
		c.m.Send(c.node, payword.Open{ID: c.id, Proposal: p})
		select {
		case a := <-accepted:
			return a, nil
		case why := <-rejected:
			return a, fmt.Errorf("the payee rejects the channel: %q", why)
		case <-time.After(proposeAgain): // links lose messages
		case <-ctx.Done():
			return a, fmt.Errorf("no answer to the proposal of a channel: %w", ctx.Err())
		case <-c.m.Stopped():
			return a, drive.ErrStopped
		}
	}
}

// pollOpen is how often waitOpen looks.
const pollOpen = 5 * time.Millisecond

// waitOpen blocks until the channel takes orders and none of an earlier run is
// on its way, so that the meter knows which stamps are for its coins.
func (c *payer) waitOpen(ctx context.Context) error {
	for {
		s, err := c.summary(ctx)
		if err != nil {
			return err
		}
		if s.State == "open" && s.Pending == 0 {
			return nil
		}
		select {
		case <-time.After(pollOpen):
		case <-ctx.Done():
			return fmt.Errorf("channel %v is %s with %v pending: %w", c.id, s.State, s.Pending, ctx.Err())
		case <-c.m.Stopped():
			return drive.ErrStopped
		}
	}
}

func (c *payer) summary(ctx context.Context) (s payword.Summary, err error) {
	err = c.m.Host.Do(ctx, func(m *drive.Machine) {
		if p, ok := m.Core(c.Core()).(*payword.Payer); ok {
			s = p.Summary()
		}
	})
	return s, err
}

// Core makes the rail Native.
func (c *payer) Core() string { return payword.PayerName(c.id) }

// Pay pays without a purse: the order goes straight to the channel.
func (c *payer) Pay(ctx context.Context, o money.Order) (money.Receipt, error) {
	if to, _, _ := strings.Cut(o.To, "?"); to != c.to {
		return money.Receipt{}, &money.Error{Kind: money.Unpaid, Op: "pay " + o.To, Err: fmt.Errorf("this channel pays %s", c.to)}
	}
	v, err := c.m.Host.Ask(ctx, c.Core(), o.ID.Key(), o)
	if err != nil {
		return money.Receipt{}, err
	}
	return rail.Receipt(v.(receipt.Paid), c.to, c.m.Host.Now()), nil
}

// Meter makes the rail a Meterer.
func (c *payer) Meter(ctx context.Context, session money.OrderID, coins uint64) error {
	return c.meter.pay(ctx, session, coins)
}

// Verify checks a receipt of this rail offline.
func (c *payer) Verify(r money.Receipt) error { return rail.VerifyStamp(r) }

// Close leaves the channel open for the next time.
func (c *payer) Close() error {
	c.meter.close()
	return nil
}

// Shut takes no more orders and waits until all coins are settled. On chain
// that does nothing: the money is in the channel that settles.
func (c *payer) Shut(ctx context.Context, _ bool) error {
	_, err := c.m.Host.Ask(ctx, c.Core(), payword.Shut, payword.Close{})
	return err
}

// Summary is Summaries for whoever only shows them.
func (c *payer) Summary(ctx context.Context) ([]any, error) {
	s, err := c.summary(ctx)
	return []any{s}, err
}

// Summaries reads the state of the rail's channel.
func (c *payer) Summaries(ctx context.Context) ([]payword.Summary, error) {
	s, err := c.summary(ctx)
	return []payword.Summary{s}, err
}
