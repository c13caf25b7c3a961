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
	"os"
	"time"

	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/money"
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

	// MaxHops is what payments of 10 sat can pay routers for, each a satoshi.
	MaxHops = 8
	// MaxChannels bounds what the payer opens.
	MaxChannels = 100
	// MaxPause bounds what is waited between bursts.
	MaxPause = 10 * time.Second

	openTimeout  = 2 * time.Minute
	closeTimeout = time.Minute
	// settleTimeout is when money that is missing in the channels is not awaited
	// any more.
	settleTimeout = 10 * time.Second
	// poll is how often the miner looks for work. Opening and closing wait for
	// it; paying does not.
	poll = 2 * time.Millisecond
)

// Options say what to measure.
type Options struct {
	Rail        string // scheme
	Store       string // scheme
	Payments    int
	Concurrency int          // payments in flight
	Hops        int          // channels in a row, each but the first opened by a router
	Channels    int          // that the payer opens side by side
	Static      bool         // channels of type static_remotekey, not anchors
	Amount      money.Amount // of a payment
	// Pause is between bursts: Concurrency payments at once, and the next so many
	// when all are done. 0: a payment follows as soon as one is done.
	Pause   time.Duration
	Orders  bool   // pay by orders even if the rail has a meter
	Dir     string // where the stores are made; "" is the system's place for such
	Profile string // a directory for CPU and heap profiles; "" makes none
	// Command starts an end: a program and its arguments.
	Command []string
}

// Fill sets what is not said.
func (o *Options) Fill() {
	o.Rail, o.Store = cmp.Or(o.Rail, "oneway"), cmp.Or(o.Store, "pebble")
	o.Payments, o.Concurrency, o.Hops = cmp.Or(o.Payments, 20_000), cmp.Or(o.Concurrency, 1000), cmp.Or(o.Hops, 1)
	o.Channels = cmp.Or(o.Channels, 1)
	o.Amount = cmp.Or(o.Amount, 10*money.Sat)
}

// Check reports what cannot be measured, before anything is started.
func (o *Options) Check() error {
	invalid := func(format string, args ...any) error {
		return &money.Error{Kind: money.Invalid, Op: "lab", Err: fmt.Errorf(format, args...)}
	}
	switch {
	case o.Payments < 1 || o.Payments > MaxPayments:
		return invalid("payments is %d; it must be 1 to %d", o.Payments, MaxPayments)
	case o.Concurrency < 1 || o.Concurrency > MaxConcurrency:
		return invalid("concurrency is %d; it must be 1 to %d", o.Concurrency, MaxConcurrency)
	case o.Hops < 1 || o.Hops > MaxHops:
		return invalid("hops is %d; it must be 1 to %d", o.Hops, MaxHops)
	case o.Channels < 1 || o.Channels > MaxChannels:
		return invalid("channels is %d; it must be 1 to %d", o.Channels, MaxChannels)
	case o.Rail != lightning && (o.Hops > 1 || o.Channels > 1 || o.Static):
		return invalid("rail %s pays the payee directly, over one channel; hops, channels and static are for %s", o.Rail, lightning)
	case o.Pause < 0 || o.Pause > MaxPause:
		return invalid("pause is %v; it must be 0 to %v", o.Pause, MaxPause)
	case o.Hops > 1 && o.Channels > 1:
		return invalid("%d channels and %d hops; one of them must be 1", o.Channels, o.Hops)
	case o.Amount < 1 || o.Amount > maxTotal/money.Amount(o.Payments+o.warmUp()):
		return invalid("amount is %v; %d payments and %d to warm up cannot come to more than %v", o.Amount, o.Payments, o.warmUp(), maxTotal)
	case o.Rail == onchain && o.Amount < onchainLeast:
		return invalid("amount is %v; the chain relays no output below its dust limit, %v", o.Amount, onchainLeast)
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

// capacity is what a channel needs for its part of all payments, with room for
// the fees and the dust.
func (o *Options) capacity() int64 {
	all := int64(o.Payments + o.warmUp())
	total := money.Amount(all) * o.Amount
	if o.Rail == onchain {
		return total.Sats() + all*onchainFee
	}
	if o.Rail != lightning {
		return total.Sats() + 10_000
	}
	// A hundredth is the peer's reserve, and the opener keeps what full
	// commitments cost at twice the fee rate. A router asks for a satoshi and
	// 100 ppm.
	routers := int64(o.Hops-1) * all * (2 + o.Amount.Sats()/1000)
	return (total.Sats()+total.Sats()/50+routers)/int64(o.Channels) + 200_000
}

// enforceable reports whether a payment has an output of its own in a Lightning
// commitment.
func (o *Options) enforceable() bool {
	c := commit.Channel{Type: commit.Anchors, Local: commit.Party{Dust: channel.Dust}}
	if o.Static {
		c.Type = commit.StaticRemoteKey
	}
	return !c.Trimmed(commit.Local, channel.MinFeeRate, commit.HTLC{Amount: o.Amount})
}

// maxTotal is what the faucet of a young chain can give in one piece.
const maxTotal = 10 * money.BTC

// fundingRoom is what a wallet has beside the channel's capacity, for fees.
const fundingRoom = 100_000

// Run measures once. progress hears how many payments are done.
func Run(ctx context.Context, o Options, progress func(done uint64)) (r Result, err error) {
	err = o.bench(ctx, func(ctx context.Context, b *bench) error {
		if err := b.measure(ctx, &r, progress); err != nil {
			return fmt.Errorf("pay: %w", err)
		}
		if err := b.close(ctx, &r); err != nil {
			return fmt.Errorf("close the rail: %w", err)
		}
		return nil
	})
	return r, err
}

// bench has use work with an open rail, on a chain and in a folder that are gone
// afterwards.
func (o *Options) bench(ctx context.Context, use func(context.Context, *bench) error) error {
	if err := o.Check(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.Dir, "coinop-lab-")
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	node, err := regtest.Open(regtest.Options{})
	if err != nil {
		return err
	}
	defer node.Close()
	b := newBench(*o, node, dir)
	defer b.stop()
	if err := b.open(ctx); err != nil {
		return fmt.Errorf("open the rail: %w", err)
	}
	return use(ctx, b)
}
