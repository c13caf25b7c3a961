package c_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/fleet"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/mem"
)

// gateway is a machine that earns: the real payees of both channels, and a book
// that knows as much as they need of one.
type gateway struct {
	t       testing.TB
	d       *commissioned
	host    *drive.Host
	coins   *payword.Payee
	tickets *oneway.Payee
	deliver func([]byte)          // to the device
	fleet   func(message.Message) // what a fleet would take
	drop    func() bool           // whether the link loses a message

	mu   sync.Mutex
	paid map[money.OrderID]money.Amount // and what for
}

// book counts income, and hands settlements to the channel that claims them, as
// core/earn does.
type book struct {
	g       *gateway
	claimed map[money.OrderID]string
}

func (b *book) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		recv, ok := event.(step.Recv)
		if !ok {
			continue
		}
		switch msg := recv.Msg.(type) {
		case trade.Claim:
			b.claimed[msg.Order] = recv.From
		case step.Outcome:
			p, ok := msg.Value.(receipt.Paid)
			if !ok {
				continue
			}
			e := p.Entry()
			if to := b.claimed[e.Order]; to != "" {
				fx.Send = append(fx.Send, step.Packet{To: to, Msg: msg})
				continue
			}
			b.g.mu.Lock()
			b.g.paid[e.Order] += e.Amount
			b.g.mu.Unlock()
		}
	}
	return fx
}

func newGateway(t testing.TB, d *commissioned) *gateway {
	t.Helper()
	g := &gateway{t: t, d: d, paid: map[money.OrderID]money.Amount{}, deliver: func([]byte) {}, drop: func() bool { return false }}
	var err error
	if g.coins, err = payword.NewPayee(d.coins, d.gateway); err != nil {
		t.Fatal(err)
	}
	if g.tickets, err = oneway.NewPayee(d.tickets, d.gateway); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	g.host = drive.NewHost(db, func() step.Time { return step.Time(time.Since(start).Milliseconds()) })
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { g.host.Run(ctx); close(stopped) }()
	t.Cleanup(func() { stop(); <-stopped })
	g.host.Outlet(d.key.Public().PeerName(), func(p step.Packet) {
		if !g.drop() {
			g.deliver(p.Msg.(message.Message).Append(nil))
		}
	})
	g.host.Hear(func(o step.Outcome) {
		if o.ID == drive.Died {
			t.Errorf("%s: %v", o.Core, o.Err)
		}
	})
	for _, core := range []struct {
		name string
		drive.Core
		listeners []string
	}{
		{trade.Seller, &book{g, map[money.OrderID]string{}}, nil}, // first, or it misses the first claim
		{payword.PayeeName(d.coins.ID()), g.coins, []string{trade.Seller}},
		{oneway.PayeeName(d.tickets.ID()), g.tickets, []string{trade.Seller}},
	} {
		if err := g.host.Add(ctx, core.name, core.Core, core.listeners...); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// mined tells the payee that the funding is deep enough.
func (g *gateway) mined() {
	status := watch.Status{Point: g.d.tickets.Point, Tip: g.d.tickets.Expiry - 2*oneway.ClaimMargin, Depth: 6, Value: g.d.tickets.Capacity.Sats()}
	g.host.Tell(context.Background(), oneway.PayeeName(g.d.tickets.ID()), step.Recv{From: watch.Chain, Msg: status})
}

// take hands a device's message to the core that it is for, as a door does.
func (g *gateway) take(b []byte) {
	if g.drop() {
		return
	}
	m, err := message.Decode(b)
	if err != nil {
		g.t.Errorf("the device says %x: %v", b, err)
		return
	}
	if m == nil || string(m.Append(nil)) != string(b) {
		g.t.Errorf("the device says %x, which Go writes %x", b, m)
		return
	}
	if m.Core() == fleet.Name {
		if g.fleet != nil {
			g.fleet(m)
		}
		return
	}
	g.host.Tell(context.Background(), m.Core(), step.Recv{From: g.d.key.Public().PeerName(), Msg: m})
}

// look reads both payees.
func (g *gateway) look() (coins payword.Summary, tickets oneway.Summary) {
	g.t.Helper()
	if err := g.host.Do(context.Background(), func(*drive.Machine) { coins, tickets = g.coins.Summary(), g.tickets.Summary() }); err != nil {
		g.t.Fatal(err)
	}
	return coins, tickets
}

// income is what the book has of an order.
func (g *gateway) income(id money.OrderID) money.Amount {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.paid[id]
}

// until waits for what should become true.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// closeChannel has the payee ask the device to close, and waits for the
// transaction that both have signed.
func closeChannel(t *testing.T, p *pair) {
	t.Helper()
	published := make(chan *wire.MsgTx, 16)
	p.g.host.Outlet(watch.Chain, func(packet step.Packet) {
		if m, ok := packet.Msg.(watch.Publish); ok {
			select {
			case published <- m.Tx:
			default:
			}
		}
	})
	_, summary := p.g.look()
	p.g.host.Tell(context.Background(), oneway.PayeeName(p.g.d.tickets.ID()), oneway.Close{})
	select {
	case c := <-published:
		out := p.g.d.tickets.Output()
		fetch := txscript.NewCannedPrevOutputFetcher(out.PkScript, out.Value)
		vm, err := txscript.NewEngine(out.PkScript, c, 0, txscript.StandardVerifyFlags, nil, txscript.NewTxSigHashes(c, fetch), out.Value, fetch)
		if err == nil {
			err = vm.Execute()
		}
		if err != nil || c.TxOut[0].Value != summary.Paid.Sats() {
			t.Errorf("the closing pays %d sat of %v: %v", c.TxOut[0].Value, summary.Paid, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no closing was published")
	}
}
