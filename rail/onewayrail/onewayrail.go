// Package onewayrail pays and is paid over one-way channels.
//
//	oneway://<payee key>@<host>:<port>?capacity=200000sat   pays that payee
//	oneway:?host=<host>:<port>                              is paid by anybody
//
// Opening one as payer proposes a channel, funds it from the machine's wallet
// and waits for its confirmations; an open channel to the same payee is used
// again.
package onewayrail

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

// Scheme is the rail's word.
const Scheme = "oneway"

// Driver opens one-way rails.
type Driver struct{}

// Open opens the paying end if u names a payee, and the earning end if not.
func (Driver) Open(ctx context.Context, u *url.URL, env rail.Env) (rail.Conn, error) {
	if env.Machine.Chain == nil {
		return nil, errors.New("a one-way channel is funded on a chain; configure one")
	}
	if u.User == nil && u.Host == "" {
		return openPayee(ctx, u, env.Machine)
	}
	return openPayer(ctx, u, env.Machine)
}

// Defaults of the URI's parameters.
const (
	defaultCapacity = 200_000 * money.Sat
	defaultLife     = 2016 // blocks until the payer may refund: two weeks
	defaultDepth    = 1    // what a payee asks for
)

// payer is the paying end.
type payer struct {
	m    *engine.Machine
	node keys.Public
	to   string
	id   oneway.ID
}

func openPayer(ctx context.Context, u *url.URL, m *engine.Machine) (rail.Conn, error) {
	node, addr, err := engine.Address(u.User.Username() + "@" + u.Host)
	if err != nil {
		return nil, err
	}
	q := rail.Query(u)
	p := oneway.Proposal{
		PayerNode: m.Key.Public(),
		Capacity:  q.Amount("capacity", defaultCapacity),
		Expiry:    int32(q.Int("life", defaultLife, oneway.MinLife, 1<<20)),
		FeeRate:   tx.FeeRate(q.Int("fee_rate", int(tx.MinFeeRate), int(tx.MinFeeRate), int(tx.MaxFeeRate))),
	}
	if err := q.Close(); err != nil {
		return nil, err
	}
	c := &payer{m: m, node: node, to: Scheme + "://" + u.User.Username() + "@" + u.Host}
	reused, err := c.reuse(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.Connect(ctx, addr, node); err != nil {
		return nil, err
	}
	if !reused {
		if err := c.open(ctx, p); err != nil {
			return nil, err
		}
	}
	return c, c.waitOpen(ctx)
}

// reuse loads every payer this store has, so that refunds and closings go on,
// and picks an open one to this payee.
func (c *payer) reuse(ctx context.Context) (found bool, err error) {
	ids, err := rail.Channels[oneway.ID](c.m.DB, oneway.PayerPrefix)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		p, err := oneway.LoadPayer(c.m.DB, id, c.m.Key)
		if err != nil {
			return false, err
		}
		s := p.Summary()
		if err := ensure(ctx, c.m, oneway.PayerName(id), p, trade.Buyer); err != nil {
			return false, err
		}
		if p.Payee.Node == c.node && (s.State == "open" || s.State == "opening") {
			c.id, found = id, true
		}
	}
	return found, nil
}

// ensure adds a core to the machine unless it is there.
func ensure(ctx context.Context, m *engine.Machine, name string, core drive.Core, listener string) error {
	there := false
	if err := m.Host.Do(ctx, func(machine *drive.Machine) { there = machine.Core(name) != nil }); err != nil || there {
		return err
	}
	return m.Host.Add(ctx, name, core, listener)
}

// open proposes a channel, funds it and starts its payer. The funding
// transaction is published by the core, after its record is on disk.
func (c *payer) open(ctx context.Context, p oneway.Proposal) error {
	var nonce [8]byte
	rand.Read(nonce[:])
	index := binary.BigEndian.Uint64(nonce[:])
	wallet := tx.WalletKey(c.m.Key)
	p.PayerKey = oneway.FundingKey(c.m.Key, index).Public()
	p.PayerScript = tx.P2WPKH(wallet.Public())
	tip, _, err := c.m.Chain.Tip(ctx)
	if err != nil {
		return err
	}
	p.Expiry += tip
	c.id = oneway.IDOf(p.PayerKey, c.node)
	answer, err := c.propose(ctx, p)
	if err != nil {
		return err
	}
	terms := oneway.Terms{Proposal: p, Answer: answer}
	coins, err := c.m.Chain.Coins(ctx, p.PayerScript)
	if err != nil {
		return err
	}
	var spendable []tx.Coin
	for _, coin := range coins {
		if coin.Spendable() && coin.Depth > 0 {
			spendable = append(spendable, coin.Coin)
		}
	}
	funding, _, err := tx.Pay(wallet, spendable, []*wire.TxOut{terms.Output()}, p.FeeRate)
	if err != nil {
		return fmt.Errorf("fund a channel of %v: %w", p.Capacity, err)
	}
	terms.Point = wire.OutPoint{Hash: funding.TxHash()}
	core, err := oneway.NewPayer(terms, c.m.Key, index, funding)
	if err != nil {
		return err
	}
	return c.m.Host.Add(ctx, oneway.PayerName(c.id), core, trade.Buyer)
}

// proposeAgain is when a proposal that nobody has answered is sent again.
const proposeAgain = time.Second

// propose sends the proposal until the payee answers it. The door lets other
// rails' answers pass.
func (c *payer) propose(ctx context.Context, p oneway.Proposal) (a oneway.Answer, err error) {
	accepted, rejected := make(chan oneway.Answer, 1), make(chan string, 1)
	id, node := c.id, c.node
	c.m.AddDoor(func(from keys.Public, msg message.Message) bool {
		switch msg := msg.(type) {
		case oneway.Accept:
			return from == node && msg.ID == id && engine.Offer(accepted, msg.Answer)
		case oneway.Reject:
			return from == node && msg.ID == id && engine.Offer(rejected, msg.Why)
		}
		return false
	})
	for {
		c.m.Send(c.node, oneway.Open{ID: c.id, Proposal: p})
		select {
		case a := <-accepted:
			return a, nil
		case why := <-rejected:
			return a, fmt.Errorf("the payee rejects the channel: %q", why)
		case <-time.After(proposeAgain): // links lose messages
		case <-ctx.Done():
			return a, fmt.Errorf("no answer to the proposal of a channel: %w", ctx.Err())
		}
	}
}

// pollOpen is how often waitOpen looks; confirmations come in minutes.
const pollOpen = 20 * time.Millisecond

// waitOpen blocks until the channel takes orders.
func (c *payer) waitOpen(ctx context.Context) error {
	for {
		s, err := c.summary(ctx)
		if err != nil {
			return err
		}
		if s.State == "open" && s.Depth > 0 {
			return nil
		}
		select {
		case <-time.After(pollOpen):
		case <-ctx.Done():
			return fmt.Errorf("channel %v is %s, its funding has %d confirmations: %w", c.id, s.State, s.Depth, ctx.Err())
		case <-c.m.Stopped():
			return drive.ErrStopped
		}
	}
}

func (c *payer) summary(ctx context.Context) (s oneway.Summary, err error) {
	err = c.m.Host.Do(ctx, func(m *drive.Machine) {
		if p, ok := m.Core(c.Core()).(*oneway.Payer); ok {
			s = p.Summary()
		}
	})
	return s, err
}

// Core makes the rail Native.
func (c *payer) Core() string { return oneway.PayerName(c.id) }

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

// Verify checks a receipt of this rail offline.
func (c *payer) Verify(r money.Receipt) error { return rail.VerifyStamp(r) }

// Close leaves the channel open for the next time.
func (c *payer) Close() error { return nil }

// Shut closes the channel together with the payee. A payer cannot force it: if
// the payee never answers, the refund comes at the expiry by itself.
func (c *payer) Shut(ctx context.Context, _ bool) error {
	_, err := c.m.Host.Ask(ctx, c.Core(), oneway.Shut, oneway.Close{})
	return err
}

// Summary is Summaries for whoever only shows them.
func (c *payer) Summary(ctx context.Context) ([]any, error) {
	s, err := c.summary(ctx)
	return []any{s}, err
}

// Summaries reads the state of the rail's channels.
func (c *payer) Summaries(ctx context.Context) ([]oneway.Summary, error) {
	s, err := c.summary(ctx)
	return []oneway.Summary{s}, err
}

// Terms returns what the channel was opened with.
func (c *payer) Terms(ctx context.Context) (t oneway.Terms, err error) {
	err = c.m.Host.Do(ctx, func(m *drive.Machine) {
		if p, ok := m.Core(c.Core()).(*oneway.Payer); ok {
			t = p.Terms
		}
	})
	return t, err
}
