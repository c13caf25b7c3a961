package lab

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/channel/payword"
	"coinop.dev/rail/bitcoinrail"
	"coinop.dev/rail/lnrail"
	"coinop.dev/world/chain/regtest"
)

const lightning = lnrail.Scheme

// bench is one run: the ends in the order in which money passes them, the payer
// first, the payee last, between them the routers.
type bench struct {
	Options
	node  *regtest.Node
	dir   string
	ends  []*party
	gifts map[chainhash.Hash]bool // what the faucet gave
	funds int64                   // all of it
	// paid is how many payments were made, and had what the ends' channels held
	// before them, in millisatoshi.
	paid uint64
	had  []int64
	// prints is what the fees were paid for.
	prints footprint
}

// A party is an end as the bench sees it.
type party struct {
	*child
	name   string
	script []byte   // what it owns on chain
	addr   string   // key@host:port, if it listens
	joined question // by which it opened its rails, and opens them again
}

func newBench(o Options, node *regtest.Node, dir string) *bench {
	b := &bench{Options: o, node: node, dir: dir, gifts: map[chainhash.Hash]bool{}}
	for i := range o.Hops + 1 {
		name := fmt.Sprintf("router %d", i)
		switch i {
		case 0:
			name = "payer"
		case o.Hops:
			name = "payee"
		}
		b.ends = append(b.ends, &party{name: name})
	}
	return b
}

func (b *bench) payer() *party { return b.ends[0] }
func (b *bench) payee() *party { return b.ends[len(b.ends)-1] }

// stop ends all processes, whoever pays first.
func (b *bench) stop() {
	for _, p := range b.ends {
		p.child.stop()
	}
}

// file is a place of a party's own; the name says what is there.
func (b *bench) file(p *party, what string) string {
	return filepath.Join(b.dir, strings.ReplaceAll(p.name, " ", "-")+what)
}

// storeURI is where a party keeps its records.
func (b *bench) storeURI(p *party) string {
	if b.Store == "mem" {
		return "mem:"
	}
	return (&url.URL{Scheme: b.Store, Path: filepath.ToSlash(b.file(p, ""))}).String()
}

// boot starts a party's process, with the key and the records that it has or
// with new ones.
func (b *bench) boot(ctx context.Context, p *party) (err error) {
	if p.child, err = start(p.name, b.Command); err != nil {
		return err
	}
	q := question{Do: "start", Store: b.storeURI(p), Chain: "p2p://" + b.node.Addr(), Dir: b.dir, Key: b.file(p, ".key"), Wallet: b.Rail == onchain}
	if b.Profile != "" {
		q.Profile = filepath.Join(b.Profile, strings.ReplaceAll(p.name, " ", "-"))
	}
	a, err := p.ask(ctx, q)
	p.script = a.Script
	return err
}

// open starts all ends, gives those money who need it, and has them open their
// rails: the payee first, so that everybody knows whom to pay.
func (b *bench) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	for _, p := range b.ends {
		if err := b.boot(ctx, p); err != nil {
			return err
		}
		if p == b.payee() {
			break
		}
		sat := int64(b.Channels)*(b.capacity()+fundingRoom) + fundingRoom
		gift, err := b.node.Faucet(p.script, sat)
		if err != nil {
			return err
		}
		b.gifts[gift.Hash] = true
		b.funds += sat
	}
	if _, err := b.node.Mine(1); err != nil {
		return err
	}
	defer b.mine(ctx)()
	echo := ""
	for i := len(b.ends) - 1; i >= 0; i-- {
		p := b.ends[i]
		p.joined = b.join(i)
		p.joined.Echo = echo
		a, err := p.ask(ctx, p.joined)
		if err != nil {
			return err
		}
		p.addr, p.joined.Listen = a.Addr, a.Listen
		if i == len(b.ends)-1 {
			echo = a.Echo
		}
	}
	return b.connected(ctx)
}

// join is how an end opens its rails. Those after it in the row have theirs.
func (b *bench) join(i int) question {
	q := question{Do: "join"}
	if i > 0 {
		q.Earns = b.rails("")
	}
	if i < len(b.ends)-1 {
		q.Pays = b.rails(b.ends[i+1].addr)
	}
	if i > 0 && i < len(b.ends)-1 {
		q.Pays[0] += "&public=1" // or nobody would know the way
	}
	if i == 0 {
		q.To = b.Rail + "://" + b.payee().addr
		q.Channels, q.Capacity, q.Static = b.Channels, b.capacity(), b.Static
		for _, p := range b.ends[min(2, len(b.ends)):] {
			q.Links = append(q.Links, p.addr) // for terms, and to hear of channels
		}
	}
	return q
}

// rails lists what an end opens, what the rail settles over first: to pay peer,
// or to be paid if there is none.
func (b *bench) rails(peer string) []string {
	at := func(scheme, earn, spend string) string {
		if peer == "" {
			return scheme + ":" + earn
		}
		return scheme + "://" + peer + spend
	}
	capacity := fmt.Sprintf("?capacity=%dsat", b.capacity())
	switch b.Rail {
	case lightning:
		if b.Static {
			capacity += "&static=1"
		}
		return []string{at(lightning, "", capacity)}
	case "oneway":
		return []string{at("oneway", "", capacity)}
	case "payword":
		// The coin is the payment, and the credit what a channel of such coins
		// can have at most.
		coin := uint64(b.Amount)
		return []string{
			at("oneway", "", capacity),
			at("payword", fmt.Sprintf("?max_credit=%dmsat", coin*payword.MaxGap), fmt.Sprintf("?coin=%dmsat", coin)),
		}
	}
	if b.Rail == onchain && peer != "" {
		return []string{onchain + "://" + bitcoinrail.Self}
	}
	return []string{at(b.Rail, "", "")}
}

// announceDepth is when a channel is announced (BOLT 7).
const announceDepth = 6

// connected waits until the payer knows the way, by paying once.
func (b *bench) connected(ctx context.Context) (err error) {
	if b.had, err = b.balances(ctx); err != nil || b.Hops == 1 {
		return err
	}
	if _, err := b.node.Mine(announceDepth); err != nil {
		return err
	}
	for {
		_, err := b.pay(ctx, 1, func(uint64) {})
		if err == nil {
			return nil
		}
		select {
		case <-time.After(probeEvery):
		case <-ctx.Done():
			return err
		}
	}
}

const probeEvery = 50 * time.Millisecond

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

// pay has the payer pay so often.
func (b *bench) pay(ctx context.Context, payments int, progress func(uint64)) (*paid, error) {
	q := question{Do: "pay", Payments: payments, Concurrency: b.Concurrency, Amount: b.Amount, Orders: b.Orders, Pause: b.Pause}
	a, err := b.payer().follow(ctx, q, progress)
	if err != nil {
		return nil, err
	}
	b.paid += uint64(payments)
	return a.Paid, nil
}

// measure warms up, pays, and looks at all ends before and after.
func (b *bench) measure(ctx context.Context, r *Result, progress func(uint64)) error {
	idle, err := b.count(ctx, true)
	if err != nil {
		return err
	}
	stop := b.mineOnchain(ctx)
	_, err = b.pay(ctx, b.warmUp()-int(b.paid), func(uint64) {})
	stop()
	if err != nil {
		return err
	}
	before, err := b.count(ctx, false)
	if err != nil {
		return err
	}
	small, err := b.sizes()
	if err != nil {
		return err
	}
	risk := b.watchPayee(ctx)
	stop = b.mineOnchain(ctx)
	paid, err := b.pay(ctx, b.Payments, progress)
	stop()
	atRisk := risk()
	if err != nil {
		return err
	}
	after, err := b.count(ctx, false)
	if err != nil {
		return err
	}
	large, err := b.sizes()
	if err != nil {
		return err
	}
	rested, err := b.count(ctx, true)
	if err != nil {
		return err
	}
	a, err := b.payer().ask(ctx, question{Do: "limits"})
	if err != nil {
		return err
	}
	*r = newResult(b, paid, stages{idle, before, after, rested}, a.Limits)
	r.PayerAtRiskMsat, r.PayeeAtRiskMsat = msat(paid.AtRisk), msat(atRisk)
	r.grown(small, large, float64(b.Payments))
	return nil
}

// count reads the counters of all ends; with rest each first gives back what
// memory it can.
func (b *bench) count(ctx context.Context, rest bool) (all []counts, err error) {
	for _, p := range b.ends {
		a, err := p.ask(ctx, question{Do: "count", Rest: rest})
		if err != nil {
			return nil, err
		}
		all = append(all, *a.Counts)
	}
	return all, nil
}

// balances are what the ends' Lightning channels hold, when nothing is in flight
// any more.
func (b *bench) balances(ctx context.Context) (msat []int64, err error) {
	for _, p := range b.ends {
		a, err := p.ask(ctx, question{Do: "balance"})
		if err != nil {
			return nil, err
		}
		msat = append(msat, int64(a.Booked))
	}
	return msat, nil
}
