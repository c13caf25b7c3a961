// Package lnrail pays and is paid over Lightning, with a node of this machine's
// own (core/lightning/node).
//
//	lightning://<node>@<host>:<port>?capacity=1000000sat   pays anybody, by a channel to that node
//	lightning:?host=<host>:<port>                          is paid, and forwards for others
//
// Both ends of a machine's rails share one node; what a URI says about the node
// counts when the first of them is opened. A payment URI is
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

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/lightning/node"
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

// Open opens the node, if it is not open yet, and a channel to the peer that u
// names, if there is none.
func (Driver) Open(ctx context.Context, u *url.URL, env rail.Env) (rail.Conn, error) {
	m := env.Machine
	if m.Chain == nil {
		return nil, errors.New("a Lightning channel is funded on a chain; configure one")
	}
	q := rail.Query(u)
	config, err := configure(q, m)
	if err != nil {
		return nil, err
	}
	o := node.Open{
		Capacity: q.Amount("capacity", defaultCapacity).Sats(),
		Push:     q.Amount("push", 0),
		Public:   q.Int("public", 0, 0, 1) == 1,
		Static:   q.Int("static", 0, 0, 1) == 1,
	}
	host := q.Text("host", "")
	if err := q.Close(); err != nil {
		return nil, err
	}
	if err := start(ctx, m, config); err != nil {
		return nil, err
	}
	c := &conn{m: m}
	if u.User == nil && u.Host == "" {
		if host == "" {
			return nil, errors.New("to be paid, say where payers find this machine: lightning:?host=<host>:<port>")
		}
		return &earner{c, paid{rail.NewEarner(m, rail.PayToAt(Scheme, m, host), node.Name)}}, nil
	}
	peer, addr, err := engine.Address(u.User.Username() + "@" + u.Host)
	if err != nil {
		return nil, err
	}
	if err := m.Connect(ctx, addr, peer); err != nil {
		return nil, err
	}
	m.Host.Tell(ctx, node.Name, node.Reached{Peer: peer, Address: addr})
	o.Peer = peer
	return c, c.ensure(ctx, o)
}

// Defaults of the URI's parameters.
const defaultCapacity = 1_000_000 * coinop.Sat

var networks = map[string]*chaincfg.Params{
	"mainnet": &chaincfg.MainNetParams, "testnet": &chaincfg.TestNet3Params, "signet": &chaincfg.SigNetParams,
	"regtest": &chaincfg.RegressionNetParams, "simnet": &chaincfg.SimNetParams,
}

var prefixes = map[string]string{
	"mainnet": invoice.Mainnet, "testnet": invoice.Testnet, "signet": invoice.Signet, "regtest": invoice.Regtest, "simnet": invoice.Simnet,
}

// configure reads the node's settings.
func configure(q *rail.Params, m *engine.Machine) (c node.Config, err error) {
	network := q.Text("network", "regtest")
	if networks[network] == nil {
		return c, fmt.Errorf("parameter network: %.20q is not mainnet, testnet, signet, regtest or simnet", network)
	}
	c = node.Config{
		Chain: *networks[network].GenesisHash, Network: prefixes[network], Alias: q.Text("alias", ""),
		Policy: graph.Policy{
			FeeBase: q.Amount("fee_base", coinop.Sat), FeePPM: uint32(q.Int("fee_ppm", 100, 0, 1_000_000)),
			CLTVDelta: uint16(q.Int("cltv_delta", 40, 6, 2016)), Min: 1,
		},
		FinalCLTV:  uint32(q.Int("final_cltv", 18, 6, 2016)),
		MaxDust:    q.Amount("max_dust", 50_000*coinop.Sat),
		MinDepth:   int32(q.Int("min_depth", 1, 1, 144)),
		ClaimDepth: int32(q.Int("claim_depth", 6, 1, 144)),
		Delay:      uint16(q.Int("delay", 144, 1, 2016)),
		FeeRate:    int64(q.Int("fee_rate", 253, 253, 100_000)),
		Payout:     tx.P2WPKH(tx.WalletKey(m.Key).Public()),
	}
	return c, nil
}

// start puts the node into the machine unless it is there.
func start(ctx context.Context, m *engine.Machine, c node.Config) error {
	there := false
	if err := m.Host.Do(ctx, func(machine *drive.Machine) { there = machine.Core(node.Name) != nil }); err != nil || there {
		return err
	}
	c.Generation = m.Start
	n, err := node.Load(m.DB, m.Key, c)
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
	attach(ctx, m)
	keepBackups(m)
	stranded := n.Stranded()
	if err := m.Host.Add(ctx, node.Name, n, trade.Buyer, trade.Seller); err != nil {
		return err
	}
	if err := recall(ctx, m); err != nil {
		return err
	}
	find(m, stranded)
	for _, p := range m.Peers() { // they linked before the node was there
		if p.Link != 0 {
			m.Host.Tell(ctx, node.Name, step.Linked{Peer: p.Key.PeerName(), Link: p.Link})
		}
	}
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
func (c *conn) Pay(ctx context.Context, o coinop.Order) (coinop.Receipt, error) {
	v, err := c.m.Host.Ask(ctx, node.Name, o.ID.Key(), o)
	if err != nil {
		return coinop.Receipt{}, err
	}
	return rail.Receipt(v.(receipt.Evidence), rail.Payee(o.To), c.m.Host.Now()), nil
}

// Verify checks a receipt of this rail offline.
func (c *conn) Verify(r coinop.Receipt) error { return Verify(r) }

// Verify checks a receipt of this rail offline. A payment by keysend has none
// worth the name: its preimage was the payer's own, and only its length is
// looked at.
func Verify(r coinop.Receipt) error {
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
func (c *conn) Prove(ctx context.Context, id coinop.OrderID) (coinop.Receipt, error) {
	v, err := c.m.Host.Ask(ctx, node.Name, id.Key(), coinop.Inquiry{Order: id})
	if err != nil {
		return coinop.Receipt{}, err
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

// Node reads the node.
func (c *conn) Node(ctx context.Context) (s node.Summary, err error) { return Summary(ctx, c.m) }

// Summary reads the node of a machine.
func Summary(ctx context.Context, m *engine.Machine) (s node.Summary, err error) {
	err = m.Host.Do(ctx, func(machine *drive.Machine) {
		if n, ok := machine.Core(node.Name).(*node.Node); ok {
			s = n.Summary()
		}
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
	var nonce [8]byte
	rand.Read(nonce[:])
	o.Tag = hex.EncodeToString(nonce[:])
	if o.FeeRate == 0 {
		o.FeeRate = 253
	}
	greeted, stop := context.WithTimeout(ctx, greeting)
	defer stop()
	var v any
	for {
		// A peer that has just been linked may not have said hello.
		if v, err = m.Host.Ask(ctx, node.Name, node.FundID+o.Tag, o); err == nil || coinop.KindOf(err) != coinop.Refused || !node.NotGreeted(err) {
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
	t, err := fund(ctx, m, v.(node.Funding).Output)
	if err != nil {
		m.Host.Tell(ctx, node.Name, node.Fund{Tag: o.Tag})
		return opened, fmt.Errorf("fund a channel of %d sat: %w", o.Capacity, err)
	}
	v, err = m.Host.Ask(ctx, node.Name, node.OpenID+o.Tag, node.Fund{Tag: o.Tag, Tx: t})
	if err != nil {
		return opened, err
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
