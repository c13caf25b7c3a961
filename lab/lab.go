// Package lab measures rails: a workload over a rail, a store and a link, both
// ends as processes of their own, every figure from a counter or the kernel.
//
// Run starts the two ends as children (End is what they run) and tells them over
// pipes what to do. The chain is a regtest node in Run's own process, which both
// ends reach over Bitcoin's network protocol; it is no part of what is measured.
// A figure that could not be had is nil, never zero.
package lab

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev"
	"coinop.dev/core/channel/payword"
	"coinop.dev/rail"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/store"

	_ "coinop.dev/rail/all"
	_ "coinop.dev/world/chain/all"
	_ "coinop.dev/world/store/all"
)

const (
	// MaxPayments bounds a run: the latency of each is kept.
	MaxPayments = 10_000_000
	// MaxConcurrency is what a channel takes that waits for stamps.
	MaxConcurrency = 2048

	openTimeout  = time.Minute
	closeTimeout = time.Minute
	// poll is how often the miner looks for work. Opening and closing wait for
	// it; paying does not.
	poll = 2 * time.Millisecond
)

// Options say what to measure.
type Options struct {
	Rail        string // scheme
	Store       string // scheme
	Payments    int
	Concurrency int // payments in flight
	Hops        int
	Amount      coinop.Amount // of a payment
	Orders      bool          // pay by orders even if the rail has a meter
	Dir         string        // where the stores are made; "" is the system's place for such
	Profile     string        // a directory for CPU and heap profiles; "" makes none
	// Command starts an end: a program and its arguments.
	Command []string
}

// Fill sets what is not said.
func (o *Options) Fill() {
	o.Rail, o.Store = cmp.Or(o.Rail, "oneway"), cmp.Or(o.Store, "pebble")
	o.Payments, o.Concurrency, o.Hops = cmp.Or(o.Payments, 20_000), cmp.Or(o.Concurrency, 1000), cmp.Or(o.Hops, 1)
	o.Amount = cmp.Or(o.Amount, 10*coinop.Sat)
}

// Check reports what cannot be measured, before anything is started.
func (o *Options) Check() error {
	invalid := func(format string, args ...any) error {
		return &coinop.Error{Kind: coinop.Invalid, Op: "lab", Err: fmt.Errorf(format, args...)}
	}
	switch {
	case o.Payments < 1 || o.Payments > MaxPayments:
		return invalid("payments is %d; it must be 1 to %d", o.Payments, MaxPayments)
	case o.Concurrency < 1 || o.Concurrency > MaxConcurrency:
		return invalid("concurrency is %d; it must be 1 to %d", o.Concurrency, MaxConcurrency)
	case o.Hops < 1:
		return invalid("hops is %d; it must be at least 1", o.Hops)
	case o.Hops > 1:
		// No rail routes yet. The first that does will say how many it takes.
		return invalid("rail %s pays the payee directly; it has no routing, so hops must be 1", o.Rail)
	case o.Amount < 1 || o.Amount > maxTotal/coinop.Amount(o.Payments+o.warmUp()):
		return invalid("amount is %v; %d payments and %d to warm up cannot come to more than %v", o.Amount, o.Payments, o.warmUp(), maxTotal)
	case store.Default[o.Store] == nil:
		return invalid("no store of this build is called %q", o.Store)
	}
	if _, err := rail.Default.Parse(o.Rail + ":"); err != nil {
		return invalid("%w", err)
	}
	return nil
}

// warmUp is how many payments come before the measured ones: enough for every
// table, buffer and connection to have its size.
func (o *Options) warmUp() int { return max(100, min(2*o.Concurrency, 4096)) }

// capacity is what all payments need, with room for the fee and the dust.
func (o *Options) capacity() int64 {
	total, _ := o.Amount.Times(uint64(o.Payments + o.warmUp()))
	if o.Rail == "lightning" {
		// A hundredth is the peer's reserve, and the opener keeps what full
		// commitments cost at twice the fee rate.
		return total.Sats() + total.Sats()/50 + 200_000
	}
	return total.Sats() + 10_000
}

// maxTotal is what the faucet of a young chain can give in one piece.
const maxTotal = 10 * coinop.BTC

// fundingRoom is what a wallet has beside the channel's capacity, for fees.
const fundingRoom = 100_000

// Run measures once. progress hears how many payments are done.
func Run(ctx context.Context, o Options, progress func(done uint64)) (r Result, err error) {
	if err := o.Check(); err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp(o.Dir, "coinop-lab-")
	if err != nil {
		return r, fmt.Errorf("lab: %w", err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	node, err := regtest.Open(regtest.Options{})
	if err != nil {
		return r, err
	}
	defer node.Close()
	b := &bench{Options: o, node: node, dir: dir}
	defer func() { b.payer.stop(); b.payee.stop() }()
	if err := b.open(ctx); err != nil {
		return r, fmt.Errorf("open the rail: %w", err)
	}
	if err := b.measure(ctx, &r, progress); err != nil {
		return r, fmt.Errorf("pay: %w", err)
	}
	if err := b.close(ctx, &r); err != nil {
		return r, fmt.Errorf("close the rail: %w", err)
	}
	return r, nil
}

// bench is one run.
type bench struct {
	Options
	node         *regtest.Node
	dir          string
	payer, payee *child
	scripts      [2][]byte // what payer and payee own on chain
	faucet       chainhash.Hash
	funds        int64
}

// storeURI is where one end keeps its records.
func (b *bench) storeURI(name string) string {
	if b.Store == "mem" {
		return "mem:"
	}
	return (&url.URL{Scheme: b.Store, Path: filepath.ToSlash(filepath.Join(b.dir, name))}).String()
}

// open starts both ends, gives the payer money and lets it open the rail.
func (b *bench) open(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	for i, end := range []struct {
		c    **child
		name string
	}{{&b.payer, "payer"}, {&b.payee, "payee"}} {
		if *end.c, err = start(end.name, b.Command); err != nil {
			return err
		}
		a, err := (*end.c).ask(ctx, question{Do: "start", Store: b.storeURI(end.name), Chain: "p2p://" + b.node.Addr(), Dir: b.dir, Profile: b.profile(end.name)})
		if err != nil {
			return err
		}
		b.scripts[i] = a.Script
	}
	b.funds = b.capacity() + fundingRoom
	gift, err := b.node.Faucet(b.scripts[0], b.funds)
	if err != nil {
		return err
	}
	b.faucet = gift.Hash
	if _, err := b.node.Mine(1); err != nil {
		return err
	}
	earns, err := b.payee.ask(ctx, question{Do: "earn", Rails: b.rails("")})
	if err != nil {
		return err
	}
	stop := b.mine(ctx)
	defer stop()
	_, err = b.payer.ask(ctx, question{Do: "spend", Rails: b.rails(earns.Addr), Peer: earns.Addr, Echo: earns.Echo})
	return err
}

// rails lists what an end opens, what the rail settles over first. An end that
// is to pay is told whom.
func (b *bench) rails(payee string) []string {
	at := func(scheme, earn, spend string) string {
		if payee == "" {
			return scheme + ":" + earn
		}
		return scheme + "://" + payee + spend
	}
	oneway := at("oneway", "", fmt.Sprintf("?capacity=%dsat", b.capacity()))
	switch b.Rail {
	case "oneway":
		return []string{oneway}
	case "lightning":
		return []string{at("lightning", "", fmt.Sprintf("?capacity=%dsat", b.capacity()))}
	case "payword":
		// The coin is the payment, and the credit what a channel of such coins
		// can have at most.
		coin := uint64(b.Amount)
		return []string{oneway, at("payword", fmt.Sprintf("?max_credit=%dmsat", coin*payword.MaxGap), fmt.Sprintf("?coin=%dmsat", coin))}
	}
	return []string{at(b.Rail, "", "")}
}

func (b *bench) profile(name string) string {
	if b.Profile == "" {
		return ""
	}
	return filepath.Join(b.Profile, name)
}

// mine puts whatever waits into a block at once, until stop is called.
func (b *bench) mine(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for t := time.NewTicker(poll); ; {
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-t.C:
				if len(b.node.MempoolTxs()) > 0 {
					b.node.Mine(1)
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

// measure warms up, pays, and looks at both ends before and after.
func (b *bench) measure(ctx context.Context, r *Result, progress func(uint64)) error {
	if _, err := b.payer.ask(ctx, question{Do: "pay", Payments: b.warmUp(), Concurrency: b.Concurrency, Amount: b.Amount, Orders: b.Orders}); err != nil {
		return err
	}
	before, err := b.count(ctx)
	if err != nil {
		return err
	}
	paid, err := b.payer.follow(ctx, question{Do: "pay", Payments: b.Payments, Concurrency: b.Concurrency, Amount: b.Amount, Orders: b.Orders}, progress)
	if err != nil {
		return err
	}
	after, err := b.count(ctx)
	if err != nil {
		return err
	}
	limits, err := b.payer.ask(ctx, question{Do: "limits"})
	if err != nil {
		return err
	}
	*r = newResult(b.Options, paid, before, after, limits.Limits)
	return nil
}

// count reads the counters of payer and payee.
func (b *bench) count(ctx context.Context) (c [2]counts, err error) {
	for i, end := range []*child{b.payer, b.payee} {
		a, err := end.ask(ctx, question{Do: "count"})
		if err != nil {
			return c, err
		}
		c[i] = *a.Counts
	}
	return c, nil
}

// close closes the channel and reads from the chain what it all came to.
func (b *bench) close(ctx context.Context, r *Result) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	begin := time.Now()
	stop := b.mine(ctx)
	_, err := b.payer.ask(ctx, question{Do: "shut"})
	stop()
	if err != nil {
		return err
	}
	r.FinalityMs = figure(float64(time.Since(begin).Microseconds()) / 1000)
	spent, err := b.payer.ask(ctx, question{Do: "book"})
	if err != nil {
		return err
	}
	earned, err := b.payee.ask(ctx, question{Do: "book"})
	if err != nil {
		return err
	}
	return b.audit(r, spent.Booked, earned.Booked)
}

// audit checks that nothing appeared and nothing went: on the books of both
// ends, and in the transactions of the chain.
func (b *bench) audit(r *Result, spent, earned coinop.Amount) error {
	var onchain [2]int64
	fees, seen := int64(0), map[chainhash.Hash]bool{b.faucet: true}
	for i, script := range b.scripts {
		coins, err := b.node.Coins(context.Background(), script)
		if err != nil {
			return err
		}
		for _, c := range coins {
			onchain[i] += c.Value
			fee, err := b.fees(c.Point.Hash, seen)
			if err != nil {
				return err
			}
			fees += fee
		}
	}
	all := uint64(b.Payments + b.warmUp())
	due, _ := b.Amount.Times(all)
	r.FeeMsatPerPayment = figure(float64(fees*1000) / float64(all))
	r.Conserved = spent == due && earned == due && onchain[1] == due.Sats() && onchain[0]+onchain[1]+fees == b.funds
	r.PaidMsat, r.PayeeOnchainSat, r.PayerOnchainSat, r.FeesSat = due, onchain[1], onchain[0], fees
	return nil
}

// fees is what a transaction and those before it paid to miners, back to the
// faucet's.
func (b *bench) fees(id chainhash.Hash, seen map[chainhash.Hash]bool) (sum int64, err error) {
	if seen[id] {
		return 0, nil
	}
	seen[id] = true
	t, _ := b.node.Tx(id)
	if t == nil {
		return 0, fmt.Errorf("transaction %v is not in the chain", id)
	}
	for _, out := range t.TxOut {
		sum -= out.Value
	}
	for _, in := range t.TxIn {
		from, _ := b.node.Tx(in.PreviousOutPoint.Hash)
		if from == nil {
			return 0, fmt.Errorf("transaction %v is not in the chain", in.PreviousOutPoint.Hash)
		}
		sum += from.TxOut[in.PreviousOutPoint.Index].Value
		before, err := b.fees(in.PreviousOutPoint.Hash, seen)
		if err != nil {
			return 0, err
		}
		sum += before
	}
	return sum, nil
}
