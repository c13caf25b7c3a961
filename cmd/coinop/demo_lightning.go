//go:build !omit_demo

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/rail"
	"coinop.dev/rail/lnrail"
)

// What the router asks for a payment. The node's own default, 1 sat, would be a
// large part of what a reading costs.
const (
	relayFeeBase = 100 * money.Msat
	relayFeePPM  = 1000
	// relayRate is how many payments there are in a second unless --rate says
	// otherwise.
	relayRate = 100
	// relayMaxDust bounds what hangs in one channel and is too small for the
	// chain.
	relayMaxDust = 5_000 * money.Sat
	// relayCapacity of each channel is eight minutes of charging: little enough
	// that one can see it go.
	relayCapacity = 500_000 * money.Sat
	// relayRouterFunds, in satoshi, are enough for four channels to the charger:
	// the first, and three after cheating.
	relayRouterFunds = 2_100_000
	// relayFunds, in satoshi, are the car's.
	relayFunds = 1_000_000
	// relayDeep is how many confirmations make a channel public (BOLT 7).
	relayDeep = 6
)

// A relay is the demo of three machines over Lightning: a car pays a charger
// through a router. Car and charger have a link, for terms and goods, and no
// channel.
type relay struct {
	chained
	router demoMachine

	gifts   []watch.Output // of the faucet
	wallets map[string]*demoMachine
	near    relayChannel // car to router
	far     relayChannel // router to charger
	fees    money.Amount
	relayed money.Amount // by channels to the charger that are no more
	dust    money.Amount
	words   string // the router's liquidity
	early   *wire.MsgTx
	cheat   *page.Cheat
	cheated bool // the charger may have more than it was paid
}

// A relayChannel is a channel as its opener, the payer's end, sees it.
type relayChannel struct {
	node.ChannelSummary
	point wire.OutPoint
}

// open funds car and router, starts the three from the charger on, and waits
// until the car knows the whole way.
func (d *relay) open(ctx context.Context) error {
	d.seller, d.router, d.buyer = d.newMachine("charger", "lightning:"), d.newMachine("router"), d.newMachine("car")
	d.machines = []*demoMachine{&d.buyer, &d.router, &d.seller}
	d.wallets = map[string]*demoMachine{}
	d.sells(&d.seller)
	for _, m := range []*demoMachine{&d.seller, &d.router} {
		m.config.Listen = "127.0.0.1:0"
	}
	for m, sat := range map[*demoMachine]int64{&d.seller: 0, &d.router: relayRouterFunds, &d.buyer: relayFunds} {
		if err := d.give(m, sat); err != nil {
			return err
		}
	}
	// Opening waits for confirmations, so blocks must come meanwhile.
	mining, stop := context.WithCancel(ctx)
	defer stop()
	go d.mineEvery(mining, 100*time.Millisecond)

	if err := d.start(&d.seller); err != nil {
		return err
	}
	d.seller.config.Listen, d.sellerKey = d.seller.station.Addr, d.seller.station.Key.Public()
	d.router.config.Rails = []string{
		fmt.Sprintf("lightning:?alias=router&fee_base=%dmsat&fee_ppm=%d&max_dust=%dsat", uint64(relayFeeBase), relayFeePPM, relayMaxDust.Sats()),
		relayTo(d.seller.station),
	}
	if err := d.start(&d.router); err != nil {
		return err
	}
	d.router.config.Listen = d.router.station.Addr
	d.note(page.Good, fmt.Sprintf("the router has a public channel of %v to the charger", relayCapacity))
	d.buyer.config.Rails = []string{relayTo(d.router.station)}
	if err := d.start(&d.buyer); err != nil {
		return err
	}
	d.note(page.Good, fmt.Sprintf("the car has a channel of %v to the router, and none to the charger", relayCapacity))
	if err := d.known(ctx, 0); err != nil {
		return err
	}
	d.note(page.Good, "the car has heard of the router's channel: it knows a way to the charger")
	return nil
}

// relayTo is the rail of whoever has a channel to a machine.
func relayTo(s *station) string {
	return fmt.Sprintf("lightning://%v@%s?capacity=%dsat&public=1&max_dust=%dsat", s.Key.Public(), s.Addr, relayCapacity.Sats(), relayMaxDust.Sats())
}

// give makes a machine's wallet known, and puts money into it.
func (d *relay) give(m *demoMachine, sat int64) error {
	key, err := loadKey(m.config.Data)
	if err != nil {
		return err
	}
	d.wallets[string(tx.P2WPKH(tx.WalletKey(key).Public()))] = m
	if sat == 0 {
		return nil
	}
	script, point, err := d.fund(m, sat)
	d.gifts = append(d.gifts, watch.Output{Point: point, Script: script})
	return err
}

// started links the car to the charger: what is sold and its terms go straight
// from one to the other, and only the money goes through the router.
func (d *relay) started(ctx context.Context, m *demoMachine, s *station) error {
	if m != &d.buyer {
		return nil
	}
	return s.Engine.Connect(ctx, d.seller.config.Listen, d.sellerKey)
}

// known waits until the channel to the charger is deep, and the car has heard of
// it: its map of the network has more than so many channels. Then it remembers
// the router's commitment, which is early.
func (d *relay) known(ctx context.Context, channels int) error {
	for {
		far, err := d.channelOf(ctx, &d.router, d.sellerKey)
		if err != nil {
			return err
		}
		near, err := d.channelOf(ctx, &d.buyer, d.keyOf(&d.router))
		if err != nil {
			return err
		}
		if far.Usable && far.Depth >= relayDeep && near.Usable && d.graph(ctx) > channels {
			d.mu.Lock()
			d.near, d.far = near, far
			d.mu.Unlock()
			return d.remember(ctx)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the car does not hear of the router's channel, which is %d blocks deep: %w", far.Depth, ctx.Err())
		}
	}
}

// graph is how many channels the car has heard of.
func (d *relay) graph(ctx context.Context) int {
	d.mu.Lock()
	s := d.buyer.station
	d.mu.Unlock()
	if s == nil {
		return 0
	}
	sum, _ := lnrail.Summary(ctx, s.Engine)
	return sum.Graph
}

// channelOf is a machine's newest channel with a peer that is not closed.
func (d *relay) channelOf(ctx context.Context, m *demoMachine, peer keys.Public) (c relayChannel, err error) {
	d.mu.Lock()
	s := m.station
	d.mu.Unlock()
	if s == nil {
		return c, errors.New("the " + m.name + " is down")
	}
	sum, err := lnrail.Summary(ctx, s.Engine)
	if err != nil {
		return c, err
	}
	for _, ch := range sum.Channels {
		if ch.Peer == peer && ch.State != "closed" {
			c.ChannelSummary = ch
			if p, err := wire.NewOutPointFromString(ch.Funding); err == nil {
				c.point = *p
			}
		}
	}
	return c, nil
}

// look asks the nodes and the chain.
func (d *relay) look(ctx context.Context) {
	d.mu.Lock()
	router := d.router.station
	d.mu.Unlock()
	near, nearErr := d.channelOf(ctx, &d.buyer, d.keyOf(&d.router))
	far, farErr := d.channelOf(ctx, &d.router, d.sellerKey)
	var sum node.Summary
	if router != nil {
		sum, _ = lnrail.Summary(ctx, router.Engine)
	}
	sats := map[*demoMachine]int64{}
	for script, m := range d.wallets {
		sats[m], _ = d.onchain(ctx, []byte(script))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if nearErr == nil && near.Capacity > 0 {
		d.near = near
	}
	if farErr == nil && far.Capacity > 0 {
		d.far = far
	}
	if len(sum.Channels) > 0 {
		d.dust, d.words = sum.Dust, sum.Sentence
		d.earned(sum)
	}
	for m, sat := range sats {
		m.onchain = sat
	}
}

// earned reads the router's fees from its channels. While something is on its
// way, what came in and what went out are not of the same payments: then it is
// at least the fee of each that has arrived. It is called with d.mu held.
func (d *relay) earned(sum node.Summary) {
	price, _ := d.item.Price.Times(d.scenario.units(d.rate))
	d.fees = max(d.fees, money.Amount(d.payments)*(relayFeeBase+price*relayFeePPM/1_000_000))
	in, out := money.Amount(0), d.relayed
	for _, c := range sum.Channels {
		switch {
		case c.HTLCs > 0:
			return
		case c.State == "closed":
		case c.Opener:
			out += c.Remote
		default:
			in += c.Local
		}
	}
	if in >= out {
		d.fees = in - out
	}
}

func (d *relay) keyOf(m *demoMachine) keys.Public {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.station == nil {
		return d.near.Peer
	}
	return m.station.Key.Public()
}

func (d *relay) show(p *page.State) {
	d.showChain(p)
	defer d.showEnd(p)
	p.CapacityMsat, p.LeftMsat = uint64(money.Amount(d.near.Capacity)*money.Sat), uint64(d.near.Local)
	p.AtRiskBuyerMsat = uint64(d.dust)
	p.Buyer.ChannelMsat, p.Seller.ChannelMsat = uint64(d.near.Local), uint64(d.far.Remote)
	p.Chain.FundingDepth = min(d.near.Depth, d.far.Depth)
	if d.near.Capacity > 0 {
		p.Chain.FundingTxid = d.near.point.Hash.String()
	}
	r := &page.Route{
		Router: d.router.picture(), FeesMsat: uint64(d.fees), FeeBaseMsat: uint64(relayFeeBase), FeePPM: relayFeePPM,
		Near: d.near.picture(), Far: d.far.picture(), MaxDustMsat: uint64(relayMaxDust), Liquidity: d.words,
	}
	r.Router.ChannelMsat = uint64(d.near.Remote + d.far.Local)
	for m, shown := range map[*demoMachine]*page.Machine{&d.buyer: &p.Buyer, &d.router: &r.Router, &d.seller: &p.Seller} {
		if m.station != nil {
			shown.NodeKey = m.station.Key.Public().String()
		}
	}
	if d.cheat != nil {
		c := *d.cheat
		r.Cheat = &c
	}
	if d.end != nil {
		r.Router.ChannelMsat = 0
		r.Near.CloseTxid, r.Far.CloseTxid = d.end.txids[0].String(), d.end.txids[1].String()
		r.LeftSat = d.end.left
	}
	p.Route = r
}

func (c relayChannel) picture() page.Channel {
	shown := page.Channel{
		SCID: c.SCID, CapacityMsat: uint64(money.Amount(c.Capacity) * money.Sat), NearMsat: uint64(c.Local), FarMsat: uint64(c.Remote),
		HTLCs: c.HTLCs, Usable: c.Usable, Depth: c.Depth,
	}
	if c.Capacity > 0 {
		shown.FundingTxid = c.point.Hash.String()
	}
	return shown
}

func (d *relay) cut(down bool) { d.buyer.station.Engine.Cut(d.router.station.Key.Public(), down) }

func (d *relay) actions() map[string]func(context.Context) error {
	all := d.buttons(d.reorg)
	all["kill-router"] = func(context.Context) error { return d.kill(&d.router) }
	all["cheat"] = d.cheatNow
	return all
}

// relayReorg is less deep than a public channel's funding.
const relayReorg = 3

func (d *relay) reorg(context.Context) error {
	if err := d.node.Reorg(relayReorg); err != nil {
		return err
	}
	d.note(page.Warn, fmt.Sprintf("%d blocks are undone and others mined; both fundings are deeper, and paying goes on", relayReorg))
	return nil
}

// spent reports whether the channels are used up. An order that finds no way
// may find one later: when a machine or a link is back.
func (d *relay) spent(err error) bool {
	if !errors.Is(err, money.Unpaid) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase != page.Paying || d.paused || d.linkDown || d.down() {
		return false
	}
	price, _ := d.item.Price.Times(d.scenario.units(d.rate))
	for _, c := range []relayChannel{d.near, d.far} {
		if c.Usable && c.Spendable < price+relayFeeBase {
			return true
		}
	}
	return false
}

// settle closes both channels, mines, and follows the money through the chain.
func (d *relay) settle(ctx context.Context) (*settlement, error) {
	mining, stop := context.WithCancel(ctx)
	defer stop()
	go d.mineEvery(mining, 150*time.Millisecond)
	if err := d.uncheated(ctx); err != nil {
		return nil, err
	}
	if err := d.quiet(ctx); err != nil {
		return nil, err
	}
	d.look(ctx)
	for _, s := range []*station{d.buyer.station, d.router.station} {
		for _, r := range s.Rails() {
			if c, ok := rail.As[rail.Closer](r); ok {
				if err := c.Shut(ctx, false); err != nil {
					return nil, err
				}
			}
		}
	}
	stop()
	s := &chainEnd{onchain: map[string]int64{}}
	for _, c := range []relayChannel{d.near, d.far} {
		id, err := d.spender(ctx, c.point)
		if err != nil {
			return nil, err
		}
		s.txids = append(s.txids, id)
	}
	for script, m := range d.wallets {
		sat, err := d.onchain(ctx, []byte(script))
		if err != nil {
			return nil, err
		}
		s.onchain[m.name] = sat
	}
	var err error
	if s.fees, s.left, err = d.follow(ctx); err != nil {
		return nil, err
	}
	seller := s.onchain[d.seller.name]
	paid := seller == d.paid.Sats() || d.paid.Sats() < tx.DustP2WPKH && seller == 0 || d.cheated && seller >= d.paid.Sats()
	s.conserved = s.sum() == d.funds && paid
	s.more = map[string]any{
		"hops": 2, "router_fees_msat": uint64(d.fees), "router_onchain_sat": s.onchain[d.router.name],
		"settle_txids": s.txids, "left_sat": s.left,
	}
	if d.cheat != nil {
		s.more["cheat"] = d.cheat
	}
	s.words = closedBy(s.txids)
	d.note(page.Good, "both channels are closed, and the closing transactions mined")
	return d.finish(s), nil
}

// quiet waits until nothing hangs in any channel.
func (d *relay) quiet(ctx context.Context) error {
	for {
		hanging := 0
		for _, m := range d.machines {
			sum, err := lnrail.Summary(ctx, m.station.Engine)
			if err != nil {
				return err
			}
			hanging += sum.Paying
			for _, c := range sum.Channels {
				if c.State != "closed" {
					hanging += c.HTLCs
				}
			}
		}
		if hanging == 0 {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d payments still hang in the channels: %w", hanging, ctx.Err())
		}
	}
}

// spender is the transaction of the chain that spends an output.
func (d *relay) spender(ctx context.Context, point wire.OutPoint) (id chainhash.Hash, err error) {
	t, _ := d.node.Tx(point.Hash)
	if t == nil {
		return id, fmt.Errorf("the chain has no transaction %v", point.Hash)
	}
	s, err := d.node.Status(ctx, watch.Output{Point: point, Script: t.TxOut[point.Index].PkScript})
	if err == nil && s.Spender == nil {
		err = fmt.Errorf("nothing in the chain spends %v", point)
	}
	if err != nil {
		return id, err
	}
	return s.Spender.TxHash(), nil
}

// follow goes from the faucet's gifts through every transaction of the chain
// that spends them or what came of them. It adds up the fees of those
// transactions, and what is in outputs that are no wallet's.
func (d *relay) follow(ctx context.Context) (fees, left int64, err error) {
	seen := map[chainhash.Hash]bool{}
	for queue := d.gifts; len(queue) > 0; queue = queue[1:] {
		o := queue[0]
		t, _ := d.node.Tx(o.Point.Hash)
		if t == nil {
			return 0, 0, fmt.Errorf("the chain has no transaction %v", o.Point.Hash)
		}
		s, err := d.node.Status(ctx, o)
		if err != nil {
			return 0, 0, err
		}
		value := t.TxOut[o.Point.Index].Value
		if s.Spender == nil {
			if d.wallets[string(o.Script)] == nil {
				left += value
			}
			continue
		}
		fees += value
		id := s.Spender.TxHash()
		if seen[id] {
			continue
		}
		seen[id] = true
		for i, out := range s.Spender.TxOut {
			fees -= out.Value
			queue = append(queue, watch.Output{Point: wire.OutPoint{Hash: id, Index: uint32(i)}, Script: out.PkScript})
		}
	}
	return fees, left, nil
}
