package interop

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/engine"
	"coinop.dev/interop/peers"
	"coinop.dev/rail"
	"coinop.dev/rail/lndrail/lnrpc"
	"coinop.dev/rail/lnrail"
	"coinop.dev/world/chain"
	_ "coinop.dev/world/chain/all"
	"coinop.dev/world/store/pebble"
)

// A box is a coinop machine with a Lightning node, on the same btcd as the lnds.
type box struct {
	t     *testing.T
	ctx   context.Context
	chain *peers.Btcd
	name  string
	dir   string
	key   keys.Secret
	addr  string
	delay int // blocks that a peer's money waits if it closes alone

	db     *pebble.DB
	source chain.Source
	m      *engine.Machine
	rail   *rail.Rail
}

// newBox starts a machine with coins.
func newBox(t *testing.T, ctx context.Context, btcd *peers.Btcd, name string, sat int64) *box {
	t.Helper()
	key, err := keys.NewSecret(rand.Reader)
	must(t, err)
	b := &box{t: t, ctx: ctx, chain: btcd, name: name, dir: t.TempDir(), key: key, addr: "127.0.0.1:0", delay: 6}
	if sat > 0 {
		a, err := address.NewAddressWitnessPubKeyHash(tx.P2WPKH(tx.WalletKey(key).Public())[2:], &chaincfg.RegressionNetParams)
		must(t, err)
		must(t, btcd.Fund(a.EncodeAddress(), sat, 4))
	}
	b.start()
	t.Cleanup(b.stop)
	return b
}

// start runs the machine from what its store has.
func (b *box) start() {
	b.t.Helper()
	var err error
	b.db, err = pebble.Open(filepath.Join(b.dir, "store"))
	must(b.t, err)
	b.source, err = chain.Default.Open(b.ctx, "p2p://"+b.chain.Peer)
	must(b.t, err)
	until(b.t, b.name+" has the chain", func() error {
		height, err := b.chain.Height()
		if err != nil {
			return err
		}
		have, _, err := b.source.Tip(b.ctx)
		if err == nil && int64(have) < height {
			err = fmt.Errorf("it has %d of %d blocks", have, height)
		}
		return err
	})
	b.m = engine.New(b.ctx, engine.Options{Key: b.key, DB: b.db, Chain: b.source, Log: slog.New(slog.NewTextHandler(testLog{b.t, b.name}, &slog.HandlerOptions{Level: slog.LevelInfo}))})
	addr, err := b.m.Listen(b.addr)
	must(b.t, err)
	b.addr = addr.String()
	var g rail.Registry
	g.Register(lnrail.Scheme, lnrail.Driver{})
	b.rail, err = g.Open(b.ctx, fmt.Sprintf("lightning:?claim_depth=3&delay=%d&host=%s", b.delay, b.addr), rail.Env{Machine: b.m})
	must(b.t, err)
}

func (b *box) stop() {
	if b.m == nil {
		return
	}
	b.m.Close()
	b.source.Close()
	b.db.Close()
	b.m = nil
}

type testLog struct {
	t    *testing.T
	name string
}

func (l testLog) Write(p []byte) (int, error) { l.t.Logf("%s: %s", l.name, p); return len(p), nil }

func (b *box) uri() string { return "lightning://" + b.key.Public().String() + "@" + b.addr }

func (b *box) summary() node.Summary {
	b.t.Helper()
	s, err := lnrail.Summary(b.ctx, b.m)
	must(b.t, err)
	return s
}

// connect links the machine to an lnd.
func (b *box) connect(n *peers.Lnd) keys.Public {
	b.t.Helper()
	must(b.t, b.m.Connect(b.ctx, n.Peer, b.peer(n)))
	return b.peer(n)
}

// peer is an lnd's key.
func (b *box) peer(n *peers.Lnd) keys.Public {
	b.t.Helper()
	key, err := keys.ParsePublicHex(n.Key)
	must(b.t, err)
	return key
}

// open opens a public channel to an lnd and waits until both can use it.
func (b *box) open(n *peers.Lnd, o node.Open) string {
	b.t.Helper()
	o.Peer = b.connect(n)
	opened, err := lnrail.OpenChannel(b.ctx, b.m, o)
	must(b.t, err)
	must(b.t, b.chain.MineMempool(b.ctx, 1, 6))
	point := opened.Point.String()
	b.active(n, point)
	must(b.t, n.Routes(b.ctx, 1)) // lnd pays over its own channels only when its graph has them
	return point
}

// active waits until both ends can use a channel.
func (b *box) active(n *peers.Lnd, point string) {
	b.t.Helper()
	until(b.t, "the channel is active", func() error {
		c, err := n.Channel(b.ctx, point)
		if err == nil && !c.Active {
			err = fmt.Errorf("lnd says it is not")
		}
		if err != nil {
			return err
		}
		for _, ch := range b.summary().Channels {
			if ch.Funding == point && ch.Usable {
				return nil
			}
		}
		return fmt.Errorf("coinop says it is not: %+v", b.summary().Channels)
	})
}

// idle waits until nothing hangs in a channel, at either end.
func (b *box) idle(n *peers.Lnd, point string) {
	b.t.Helper()
	until(b.t, "nothing hangs in the channel", func() error {
		c, err := n.Channel(b.ctx, point)
		if err == nil && len(c.PendingHtlcs) > 0 {
			err = fmt.Errorf("lnd has %v", c.PendingHtlcs)
		}
		for _, c := range b.summary().Channels {
			if err == nil && c.Funding == point && c.HTLCs > 0 {
				err = fmt.Errorf("coinop has %d HTLCs", c.HTLCs)
			}
		}
		return err
	})
}

// over mines until neither end has anything of a channel left, and says how many
// blocks that took.
func (b *box) over(n *peers.Lnd) (blocks int) {
	b.t.Helper()
	until(b.t, "the channels are over", func() error {
		p, err := n.Lightning.PendingChannels(b.ctx, &lnrpc.PendingChannelsRequest{})
		if err != nil {
			return err
		}
		l, err := n.Lightning.ListChannels(b.ctx, &lnrpc.ListChannelsRequest{})
		if err != nil {
			return err
		}
		left := len(p.PendingForceClosingChannels) + len(p.WaitingCloseChannels) + len(l.Channels)
		if s := b.summary(); left > 0 || len(s.Channels) > 0 {
			err = fmt.Errorf("after %d blocks lnd has %v and coinop %+v", blocks, p, s.Channels)
			blocks++
			return errors.Join(err, b.chain.Mine(1), b.follow(n))
		}
		return nil
	})
	return blocks
}

// follow waits until both ends have the best block, and a moment longer, for
// what they publish upon it.
func (b *box) follow(n *peers.Lnd) error {
	height, err := b.chain.Height()
	if err != nil {
		return err
	}
	until(b.t, "coinop has the best block", func() error {
		// The node hears of blocks by its channels, if it has any.
		s := b.summary()
		tip, _, err := b.source.Tip(b.ctx)
		if len(s.Channels) > 0 {
			tip = min(tip, s.Tip)
		}
		if err == nil && int64(tip) < height {
			err = fmt.Errorf("it is at block %d of %d", tip, height)
		}
		return err
	})
	defer time.Sleep(100 * time.Millisecond)
	return n.Synced(b.ctx)
}

// coins is what the machine has on the chain, in satoshi.
func (b *box) coins() (sat int64) {
	b.t.Helper()
	coins, err := b.source.Coins(b.ctx, tx.P2WPKH(tx.WalletKey(b.key).Public()))
	must(b.t, err)
	for _, c := range coins {
		if c.Depth > 0 {
			sat += c.Value
		}
	}
	return sat
}

func (b *box) pay(to string, amount money.Amount) money.Receipt {
	b.t.Helper()
	r, err := b.try(to, amount, 30*time.Second)
	must(b.t, err)
	return r
}

// try is pay, and may fail.
func (b *box) try(to string, amount money.Amount, patience time.Duration) (money.Receipt, error) {
	var id money.OrderID
	rand.Read(id[:])
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	return b.rail.Pay(ctx, money.Order{ID: id, To: to, Amount: amount})
}

// bill makes an invoice of coinop's, without its scheme.
func (b *box) bill(amount money.Amount, hold bool) string {
	b.t.Helper()
	var id money.OrderID
	rand.Read(id[:])
	v, err := b.m.Host.Ask(b.ctx, node.Name, node.BillID+id.Key(), node.Bill{Bill: money.Bill{ID: id, Amount: amount, For: "interop", Hold: hold}})
	must(b.t, err)
	return v.(string)
}

// keysend has an lnd pay without an invoice.
func keysend(ctx context.Context, n *peers.Lnd, to keys.Public, sat int64) error {
	pre := make([]byte, 32)
	rand.Read(pre)
	hash := sha256.Sum256(pre)
	return pay(ctx, n, &lnrpc.SendPaymentRequest{
		Dest: to[:], AmtMsat: sat * 1000, PaymentHash: hash[:], FinalCltvDelta: 80, DestCustomRecords: map[uint64][]byte{5482373484: pre},
	})
}

// pay follows a payment of an lnd's to its end.
func pay(ctx context.Context, n *peers.Lnd, r *lnrpc.SendPaymentRequest) error {
	_, err := track(ctx, n, r)
	return err
}

// track is pay, and returns what became of it.
func track(ctx context.Context, n *peers.Lnd, r *lnrpc.SendPaymentRequest) (*lnrpc.Payment, error) {
	r.TimeoutSeconds, r.FeeLimitMsat = 30, 1_000_000
	s, err := n.Router.SendPaymentV2(ctx, r)
	if err != nil {
		return nil, err
	}
	for {
		p, err := s.Recv()
		if err != nil {
			return nil, err
		}
		switch p.Status {
		case lnrpc.Payment_SUCCEEDED:
			return p, nil
		case lnrpc.Payment_FAILED:
			return p, fmt.Errorf("the payment failed: %v", p.FailureReason)
		}
	}
}

// TestCoinopAndLnd: a channel that coinop opens to lnd, of both kinds; payments
// both ways by invoice and keysend, above and below dust, held, failing; a
// restart of either side; and a close by agreement.
func TestCoinopAndLnd(t *testing.T) {
	ctx, btcd, nodes := lnds(t, 1)
	lnd := nodes[0]
	b := newBox(t, ctx, btcd, "coinop", 40_000_000)
	for _, static := range []bool{false, true} {
		point := b.open(lnd, node.Open{Capacity: 5_000_000, Push: 2_000_000_000, Public: true, Static: static})
		for _, sat := range []int64{1, 100, 5_000, 300_000} {
			bill, _, err := lnd.Bill(ctx, sat*1000)
			must(t, err)
			r := b.pay("lightning:"+bill, money.Amount(sat)*money.Sat)
			must(t, b.rail.Verify(r))
			_, err = lnd.Pay(ctx, b.bill(money.Amount(sat)*money.Sat, false))
			must(t, err)
		}
		must(t, keysend(ctx, lnd, b.key.Public(), 777))
		b.pay("lightning://"+lnd.Key+"@"+lnd.Peer+"?keysend=1", 888*money.Sat)

		// A restart of either side loses nothing.
		b.stop()
		b.start()
		b.connect(lnd)
		b.active(lnd, point)
		bill, _, err := lnd.Bill(ctx, 4_000_000)
		must(t, err)
		b.pay("lightning:"+bill, 4_000*money.Sat)
		lnd.Kill()
		must(t, lnd.Start(ctx))
		b.connect(lnd)
		b.active(lnd, point)
		_, err = lnd.Pay(ctx, b.bill(3_000*money.Sat, false))
		must(t, err)

		must(t, b.m.Host.Tell(ctx, node.Name, node.Close{ID: b.summary().Channels[0].ID}))
		must(t, btcd.MineMempool(ctx, 1, 1))
		b.over(lnd)
	}
}
