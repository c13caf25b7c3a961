// Package lnrail pays and is paid over Lightning, with a node of this machine's
// own (core/lightning/node).
//
//	lightning://<node>@<host>:<port>?capacity=1000000sat   pays anybody, by a channel to that node
//	lightning:?host=<host>:<port>                          is paid, and forwards for others
//
// Both ends of a machine's rails share one node; what a URI says about the node
// (settings.go) counts when the first of them is opened. A payment URI is
//
//	lightning:<BOLT 11 invoice>
//	lightning://<node>@<host>:<port>[?keysend=1]
//
// The second kind needs a link to the payee, who is asked for terms; the money
// goes whichever way is cheapest.
package lnrail

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

// Scheme is the rail's word.
const Scheme = node.Scheme

// Driver opens Lightning rails.
type Driver struct{}

// Speaks makes the rail one that pays anybody.
func (Driver) Speaks() []string { return []string{Scheme} }

// Verify makes it a rail.Verifier.
func (Driver) Verify(r money.Receipt) error { return Verify(r) }

// Open opens the node, if it is not open yet, and a channel to the peer that u
// names, if there is none.
func (Driver) Open(ctx context.Context, u *url.URL, env rail.Env) (rail.Conn, error) {
	m := env.Machine
	if m.Chain == nil {
		return nil, errors.New("a Lightning channel is funded on a chain; configure one")
	}
	s, err := read(u, m.Key)
	if err != nil {
		return nil, err
	}
	if s.addr == "" && s.host == "" {
		return nil, errors.New("to be paid, say where payers find this machine: lightning:?host=<host>:<port>")
	}
	if err := start(ctx, m, s); err != nil {
		return nil, err
	}
	c := &conn{m: m}
	if s.addr == "" {
		return &earner{c, paid{rail.NewEarner(m, rail.PayToAt(Scheme, m, s.host), node.Name)}}, nil
	}
	if err := Reach(ctx, m, s.open.Peer, s.addr); err != nil {
		return nil, err
	}
	return c, c.ensure(ctx, s.open)
}

// greet connects again with whoever was linked before the node was there: what
// they said first, which is how Lightning begins, is lost.
func greet(m *engine.Machine) {
	for _, p := range m.Peers() {
		if p.Link != 0 {
			m.Cut(p.Key, true)
			m.Cut(p.Key, false)
		}
	}
}

// Reach connects to a peer, and has the node remember where it was found.
func Reach(ctx context.Context, m *engine.Machine, peer keys.Public, addr string) error {
	if err := m.Connect(ctx, addr, peer); err != nil {
		return err
	}
	return m.Host.Tell(ctx, node.Name, node.Reached{Peer: peer, Address: addr})
}

// start puts the node into the machine unless it is there.
func start(ctx context.Context, m *engine.Machine, s settings) error {
	there := false
	if err := m.Host.Do(ctx, func(machine *drive.Machine) { there = machine.Core(node.Name) != nil }); err != nil || there {
		return err
	}
	s.node.Generation = m.Start
	n, err := node.Load(m.DB, m.Key, s.node)
	if err != nil {
		return err
	}
	m.Host.Outlet(node.Wires, func(p step.Packet) {
		if h, ok := p.Msg.(node.HangUp); ok {
			if key, err := keys.ParsePublicHex(strings.TrimPrefix(h.Peer, "peer/")); err == nil {
				m.Disconnect(key)
			}
		}
	})
	attach(ctx, m, s.auto)
	if err := s.guards.start(ctx, m); err != nil {
		return err
	}
	keepBackups(m)
	stranded := n.Stranded()
	if err := m.Host.Add(ctx, node.Name, n, trade.Buyer, trade.Seller); err != nil {
		return err
	}
	if err := recall(ctx, m); err != nil {
		return err
	}
	find(m, stranded)
	if s.node.Auto.Below > 0 {
		find(m, []node.Contact{{Peer: s.node.Auto.Peer, Address: s.auto}})
	}
	greet(m) // they linked before the node was there
	return nil
}

// conn is one open rail of the node's.
type conn struct{ m *engine.Machine }

// An earner is a rail that is paid, too. It pays as a conn does, so what it has
// of rail.Earner lies one level deeper.
type (
	earner struct {
		*conn
		paid
	}
	paid struct{ *rail.Earner }
)

// Core makes the rail Native.
func (c *conn) Core() string { return node.Name }

// Reaches makes it a Network.
func (c *conn) Reaches(string) bool { return true }

// Pay pays without a purse: the order goes straight to the node.
func (c *conn) Pay(ctx context.Context, o money.Order) (money.Receipt, error) {
	v, err := c.m.Host.Ask(ctx, node.Name, o.ID.Key(), o)
	if err != nil {
		return money.Receipt{}, err
	}
	return rail.Receipt(v.(receipt.Evidence), rail.Payee(o.To), c.m.Host.Now()), nil
}

// Verify checks a receipt of this rail offline.
func (c *conn) Verify(r money.Receipt) error { return Verify(r) }

// Verify checks a receipt of this rail offline. A payment by keysend has none
// worth the name: its preimage was the payer's own, and only its length is
// looked at.
func Verify(r money.Receipt) error {
	rest := strings.TrimPrefix(r.To, Scheme+":")
	address, named := strings.CutPrefix(rest, "//")
	if !named {
		return node.VerifyInvoice(rest, r.Amount, r.Proof)
	}
	address, keysend := strings.CutSuffix(address, "?keysend=1")
	key, _, err := engine.Address(address)
	if err != nil {
		return err
	}
	if keysend && len(r.Proof) == 32 {
		return nil
	}
	return node.VerifyNode(receipt.Entry{Order: r.Order, Amount: r.Amount}, key, r.Proof)
}

// Prove returns the receipt of an order that was settled, without paying.
func (c *conn) Prove(ctx context.Context, id money.OrderID) (money.Receipt, error) {
	v, err := c.m.Host.Ask(ctx, node.Name, id.Key(), money.Inquiry{Order: id})
	if err != nil {
		return money.Receipt{}, err
	}
	return rail.Receipt(v.(receipt.Evidence), Scheme+":", c.m.Host.Now()), nil
}

// Close leaves the channels open for the next time.
func (c *conn) Close() error { return nil }

// Invoice makes a BOLT 11 invoice for a bill.
func (c *conn) Invoice(ctx context.Context, b node.Bill) (string, error) {
	v, err := c.m.Host.Ask(ctx, node.Name, node.BillID+b.ID.Key(), b)
	if err != nil {
		return "", err
	}
	return Scheme + ":" + v.(string), nil
}

// Bill is a payment URI of this node. Only an invoice can say that the payment is
// to be held.
func (e *earner) Bill(b money.Bill) (string, error) {
	if !b.Hold {
		return e.paid.Bill(b)
	}
	if err := rail.CheckBill(b); err != nil {
		return "", err
	}
	return e.Invoice(context.Background(), node.Bill{Bill: b})
}

// Seal makes the earner a rail.Sealer.
func (e *earner) Seal(ctx context.Context, b money.Bill) (rail.Sale, error) {
	if err := rail.CheckBill(b); err != nil {
		return rail.Sale{}, err
	}
	v, err := e.m.Host.Ask(ctx, node.Name, node.SaleID+b.ID.Key(), node.Bill{Bill: b, Known: true})
	if err != nil {
		return rail.Sale{}, err
	}
	s := v.(node.Sale)
	return rail.Sale{Pay: Scheme + ":" + s.Invoice, Hash: s.Hash, Key: s.Key}, nil
}

// Node reads the node.
func (c *conn) Node(ctx context.Context) (s node.Summary, err error) { return Summary(ctx, c.m) }

// Summary reads the node of a machine.
func Summary(ctx context.Context, m *engine.Machine) (s node.Summary, err error) {
	err = m.Host.Do(ctx, func(machine *drive.Machine) {
		if n, ok := machine.Core(node.Name).(*node.Node); ok {
			s = n.Summary()
		}
		unguarded(machine, &s)
	})
	return s, err
}

// ensure opens a channel to a peer unless there is one, and waits until it takes
// payments.
func (c *conn) ensure(ctx context.Context, o node.Open) error {
	s, err := Summary(ctx, c.m)
	if err != nil {
		return err
	}
	for _, ch := range s.Channels {
		if ch.Peer == o.Peer && (ch.State == "open" || ch.State == "pending") {
			return c.usable(ctx, o.Peer)
		}
	}
	if _, err := OpenChannel(ctx, c.m, o); err != nil {
		return err
	}
	return c.usable(ctx, o.Peer)
}

// OpenChannel opens a channel with money of the machine's wallet. It returns
// when the funding transaction is published.
func OpenChannel(ctx context.Context, m *engine.Machine, o node.Open) (opened node.Opened, err error) {
	if o.Tag == "" {
		var nonce [8]byte
		rand.Read(nonce[:])
		o.Tag = hex.EncodeToString(nonce[:])
	}
	if o.FeeRate == 0 {
		o.FeeRate = 253
	}
	greeted, stop := context.WithTimeout(ctx, greeting)
	defer stop()
	var v any
	for {
		// A peer that has just been linked may not have said hello.
		if v, err = m.Host.Ask(ctx, node.Name, node.FundID+o.Tag, o); err == nil || money.KindOf(err) != money.Refused || !node.NotGreeted(err) {
			break
		}
		select {
		case <-time.After(pollEvery):
		case <-greeted.Done():
			return opened, err
		}
	}
	if err != nil {
		return opened, err
	}
	m.Wallet.Lock()
	defer m.Wallet.Unlock()
	t, err := fund(ctx, m, v.(node.Funding).Output)
	if err != nil {
		m.Host.Tell(ctx, node.Name, node.Fund{Tag: o.Tag})
		return opened, fmt.Errorf("fund a channel of %d sat: %w", o.Capacity, err)
	}
	v, err = m.Host.Ask(ctx, node.Name, node.OpenID+o.Tag, node.Fund{Tag: o.Tag, Tx: t})
	if err != nil {
		return opened, err
	}
	// The node publishes it, too, some time: whoever takes coins of the wallet next
	// must not find these again.
	if err := m.Chain.Publish(ctx, t); err != nil {
		m.Log.Warn("publish", "txid", t.TxHash(), "err", err)
	}
	return v.(node.Opened), nil
}

const (
	greeting  = 10 * time.Second
	pollEvery = 20 * time.Millisecond
)

// fund makes the transaction that pays a channel's output.
func fund(ctx context.Context, m *engine.Machine, out *wire.TxOut) (*wire.MsgTx, error) {
	wallet := tx.WalletKey(m.Key)
	coins, err := m.Chain.Coins(ctx, tx.P2WPKH(wallet.Public()))
	if err != nil {
		return nil, err
	}
	var spendable []tx.Coin
	for _, coin := range coins {
		if coin.Spendable() && coin.Depth > 0 {
			spendable = append(spendable, coin.Coin)
		}
	}
	t, _, err := tx.Pay(wallet, spendable, []*wire.TxOut{out}, tx.MinFeeRate)
	return t, err
}

// usable waits until a channel with a peer takes payments.
func (c *conn) usable(ctx context.Context, peer keys.Public) error {
	for {
		s, err := Summary(ctx, c.m)
		if err != nil {
			return err
		}
		state := "missing"
		for _, ch := range s.Channels {
			if ch.Peer == peer && ch.Usable {
				return nil
			}
			if ch.Peer == peer {
				state = fmt.Sprintf("%s, its funding has %d confirmations", ch.State, ch.Depth)
			}
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return fmt.Errorf("the channel is %s: %w", state, ctx.Err())
		case <-c.m.Stopped():
			return drive.ErrStopped
		}
	}
}

// Shut closes all channels and waits until the closings are in the chain.
func (c *conn) Shut(ctx context.Context, force bool) error {
	s, err := Summary(ctx, c.m)
	if err != nil {
		return err
	}
	for _, ch := range s.Channels {
		if ch.State == "open" || ch.State == "pending" || force && ch.State == "shutdown" {
			if err := c.m.Host.Tell(ctx, node.Name, node.Close{ID: ch.ID, Force: force}); err != nil {
				return err
			}
		}
	}
	for {
		if s, err = Summary(ctx, c.m); err != nil {
			return err
		}
		open := 0
		for _, ch := range s.Channels {
			if ch.State != "closed" {
				open++
			}
		}
		if open == 0 {
			return nil
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return fmt.Errorf("%d channels are not closed yet: %w", open, ctx.Err())
		case <-c.m.Stopped():
			return drive.ErrStopped
		}
	}
}
