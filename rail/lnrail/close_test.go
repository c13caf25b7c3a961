package lnrail_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/rail/lnrail"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/drive"
	"coinop.dev/world/store"
	"coinop.dev/world/store/bbolt"
)

// yard is some machines on one regtest chain that mines only when it is told.
type yard struct {
	t     *testing.T
	ctx   context.Context
	chain *regtest.Node
	mute  bool // machines have no till, which would give back what nobody bought
}

type machine struct {
	y    *yard
	name string
	key  keys.Secret
	db   store.DB
	m    *engine.Machine
	addr string
	rail *rail.Rail
}

func newYard(t *testing.T) *yard {
	n, err := regtest.Open(regtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(func() { stop(); n.Close() })
	return &yard{t: t, ctx: ctx, chain: n}
}

func (y *yard) must(err error) {
	y.t.Helper()
	if err != nil {
		y.t.Fatal(err)
	}
}

// until waits for a condition, mining whatever waits.
func (y *yard) until(what string, mine bool, ok func() bool) {
	y.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			y.t.Fatalf("never: %s", what)
		}
		if mine {
			y.chain.Mine(1)
		}
	}
}

// machine runs a node that is paid, with more in its URI.
func (y *yard) machine(name string, more ...string) *machine {
	key, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	y.must(err)
	db, err := bbolt.Open(filepath.Join(y.t.TempDir(), "store"))
	y.must(err)
	_, err = y.chain.Faucet(tx.P2WPKH(tx.WalletKey(key).Public()), 5_000_000)
	y.must(err)
	y.chain.Mine(1)
	m := &machine{y: y, name: name, key: key, db: db, addr: "127.0.0.1:0"}
	y.t.Cleanup(func() { m.m.Close(); db.Close() })
	m.start(more...)
	return m
}

// start starts the machine, for the first time or again.
func (m *machine) start(more ...string) {
	m.m = engine.New(m.y.ctx, engine.Options{Key: m.key, DB: m.db, Chain: m.y.chain})
	if !m.y.mute {
		book, err := earn.Load(m.db, nil, nil)
		m.y.must(err)
		m.y.must(m.m.Host.Add(m.y.ctx, trade.Seller, book))
	}
	addr, err := m.m.Listen(m.addr)
	m.y.must(err)
	m.addr = addr.String()
	m.open("lightning:?delay=4&claim_depth=3&host=" + m.addr + strings.Join(more, ""))
}

func (m *machine) uri() string { return "lightning://" + m.key.Public().String() + "@" + m.addr }

func (m *machine) open(uri string) {
	m.y.t.Helper()
	var g rail.Registry
	g.Register(lnrail.Scheme, lnrail.Driver{})
	done := make(chan error, 1)
	go func() {
		r, err := g.Open(m.y.ctx, uri, rail.Env{Machine: m.m})
		if err == nil {
			m.rail = r
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			m.y.must(err)
			return
		case <-time.After(10 * time.Millisecond):
			if len(m.y.chain.MempoolTxs()) > 0 {
				m.y.chain.Mine(6)
			}
		}
	}
}

func (m *machine) summary() node.Summary {
	s, err := lnrail.Summary(m.y.ctx, m.m)
	m.y.must(err)
	return s
}

func (m *machine) pay(n byte, to string, amount money.Amount) {
	m.y.t.Helper()
	_, err := m.rail.Pay(m.y.ctx, money.Order{ID: money.OrderID{n}, To: to, Amount: amount})
	m.y.must(err)
}

// coins is what the machine has on the chain.
func (m *machine) coins() (sum int64) {
	coins, err := m.m.Chain.Coins(m.y.ctx, tx.P2WPKH(tx.WalletKey(m.key).Public()))
	m.y.must(err)
	for _, c := range coins {
		if c.Depth > 0 {
			sum += c.Value
		}
	}
	return sum
}

func (m *machine) commitment() (t *wire.MsgTx) {
	m.y.must(m.m.Host.Do(m.y.ctx, func(machine *drive.Machine) {
		t = machine.Core(node.Name).(*node.Node).Channels()[0].Commitment()
	}))
	return t
}

// Whoever publishes a commitment that it has revoked loses everything in it.
func TestRevokedCommitmentIsPunished(t *testing.T) {
	t.Parallel()
	for _, static := range []string{"0", "1"} {
		y := newYard(t)
		a, b := y.machine("alice"), y.machine("bob")
		a.open(b.uri() + "?capacity=1000000sat&static=" + static)
		old := a.commitment() // nearly everything is Alice's
		for i := range byte(5) {
			a.pay(i, b.uri(), 100_000*money.Sat)
		}
		before := b.coins()
		y.must(y.chain.Publish(y.ctx, old))
		y.until("Bob has it all", true, func() bool { return b.coins() > before+950_000 })
		y.until("the channel is over", true, func() bool { return len(b.summary().Channels) == 0 })
	}
}

// A channel is closed by one side alone, with a payment hanging in it: the payee
// has the preimage, and takes the HTLC on the chain.
func TestForcedCloseWithAPaymentInFlight(t *testing.T) {
	t.Parallel()
	for _, static := range []string{"0", "1"} {
		y := newYard(t)
		y.mute = true
		a, b := y.machine("alice"), y.machine("bob")
		a.open(b.uri() + "?capacity=1000000sat&static=" + static)
		a.pay(1, b.uri(), 200_000*money.Sat)
		// Bob holds the next one.
		bill := node.Bill{Bill: money.Bill{ID: money.OrderID{2}, Amount: 100_000 * money.Sat, Hold: true}}
		v, err := b.m.Host.Ask(y.ctx, node.Name, node.BillID+bill.ID.Key(), bill)
		y.must(err)
		held, err := b.m.Host.Await(node.Name, node.HeldID+bill.ID.Key())
		y.must(err)
		paid := make(chan error, 1)
		go func() {
			_, err := a.rail.Pay(y.ctx, money.Order{ID: bill.ID, To: "lightning:" + v.(string), Amount: bill.Amount})
			paid <- err
		}()
		h, err := held(y.ctx)
		y.must(err)
		a.m.Cut(b.key.Public(), true)
		y.must(a.m.Host.Tell(y.ctx, node.Name, node.Close{ID: a.summary().Channels[0].ID, Force: true}))
		y.until("the commitment is published", false, func() bool { return len(y.chain.MempoolTxs()) > 0 })
		y.chain.Mine(1)
		y.must(b.m.Host.Tell(y.ctx, node.Name, receipt.Release{Order: h.(receipt.Held).Holding().Order}))
		y.until("both are done", true, func() bool { return len(a.summary().Channels)+len(b.summary().Channels) == 0 })
		if err := <-paid; err != nil {
			t.Errorf("Alice's payment: %v", err)
		}
		if got := b.coins(); got < 5_000_000+298_000 {
			t.Errorf("Bob has %d", got)
		}
		if got := a.coins(); got < 5_000_000-303_000 {
			t.Errorf("Alice has %d", got)
		}
	}
}
