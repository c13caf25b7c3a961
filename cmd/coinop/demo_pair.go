//go:build !omit_demo

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/money"
	"coinop.dev/rail"
)

// A pair is the demo of two machines with one channel, by signatures or by
// hash-chain coins.
type pair struct {
	chained
	channel    oneway.Terms
	left       money.Amount // as the two channel ends say
	sellerRisk money.Amount
	depth      int32
}

// open funds the buyer, starts both machines and opens the rail.
func (d *pair) open(ctx context.Context) error {
	d.seller, d.buyer = d.newMachine("seller", "oneway:"), d.newMachine("buyer")
	d.machines = []*demoMachine{&d.buyer, &d.seller}
	d.seller.config.Listen = "127.0.0.1:0"
	if d.demoOptions.rail == "payword" {
		d.seller.config.Rails = append(d.seller.config.Rails, fmt.Sprintf("payword:?max_credit=%dsat", demoCredit.Sats()))
	}
	d.sells(&d.seller)
	if err := d.start(&d.seller); err != nil {
		return err
	}
	// A restarted seller is found at the same place.
	d.seller.config.Listen = d.seller.station.Addr
	d.sellerKey = d.seller.station.Key.Public()
	if _, _, err := d.fund(&d.buyer, demoFunds); err != nil {
		return err
	}
	at := fmt.Sprintf("://%v@%s", d.sellerKey, d.seller.station.Addr)
	d.buyer.config.Rails = []string{fmt.Sprintf("oneway%s?capacity=%dsat", at, demoCapacity.Sats())}
	if d.demoOptions.rail == "payword" {
		d.buyer.config.Rails = append(d.buyer.config.Rails, fmt.Sprintf("payword%s?coin=%dmsat&credit=%dsat", at, uint64(d.item.Price), demoCredit.Sats()))
	}
	// Opening waits for a confirmation, so blocks must come meanwhile.
	mining, stop := context.WithCancel(ctx)
	defer stop()
	go d.mineEvery(mining, 150*time.Millisecond)
	if err := d.start(&d.buyer); err != nil {
		return err
	}
	terms, err := d.terms(ctx)
	d.mu.Lock()
	d.channel = terms
	d.mu.Unlock()
	d.note(page.Good, fmt.Sprintf("a channel of %v is open; it is funded by %v", terms.Capacity, terms.Point.Hash))
	return err
}

func (d *pair) started(context.Context, *demoMachine, *station) error { return nil }

func (d *pair) terms(ctx context.Context) (t oneway.Terms, err error) {
	r := d.buyer.station.Rail("oneway")
	if r == nil {
		return t, errors.New("the buyer has no channel")
	}
	termed, ok := rail.As[interface {
		Terms(context.Context) (oneway.Terms, error)
	}](r)
	if !ok {
		return t, errors.New("the buyer's rail has no terms")
	}
	return termed.Terms(ctx)
}

func (d *pair) look(ctx context.Context) {
	d.mu.Lock()
	buyer, seller := d.buyer.station, d.seller.station
	d.mu.Unlock()
	ask := func(s *station) (sum oneway.Summary) {
		if s == nil {
			return sum
		}
		if r := s.Rail("oneway"); r != nil {
			if c, ok := rail.As[interface {
				Summaries(context.Context) ([]oneway.Summary, error)
			}](r); ok {
				if all, err := c.Summaries(ctx); err == nil && len(all) > 0 {
					return all[0]
				}
			}
		}
		return sum
	}
	b, s := ask(buyer), ask(seller)
	status, _ := d.node.Status(ctx, d.channel.Watched())
	wallet, _ := d.onchain(ctx, d.channel.PayerScript)
	earned, _ := d.onchain(ctx, d.channel.PayeeScript)
	d.mu.Lock()
	defer d.mu.Unlock()
	if buyer != nil {
		d.left = b.Left
	}
	if seller != nil {
		d.sellerRisk = s.AtRisk
	}
	d.depth = status.Depth
	d.buyer.onchain, d.seller.onchain = wallet, earned
}

func (d *pair) show(p *page.State) {
	d.showChain(p)
	defer d.showEnd(p)
	p.CapacityMsat, p.LeftMsat = uint64(d.channel.Capacity), uint64(d.left)
	p.AtRiskBuyerMsat, p.AtRiskSellerMsat = uint64(d.inFlight), uint64(d.sellerRisk)
	p.Buyer.ChannelMsat, p.Seller.ChannelMsat = uint64(d.channel.Capacity)-uint64(d.paid), uint64(d.paid)
	p.Seller.NodeKey, p.Buyer.NodeKey = d.channel.Payee.Node.String(), d.channel.PayerNode.String()
	p.Chain.FundingDepth = d.depth
	if d.channel.Capacity > 0 {
		p.Chain.FundingTxid = d.channel.Point.Hash.String()
	}
}

func (d *pair) cut(down bool) { d.buyer.station.Engine.Cut(d.sellerKey, down) }

func (d *pair) actions() map[string]func(context.Context) error { return d.buttons(d.reorg) }

// reorg undoes the block with the channel's funding, if it is not too deep: the
// seller then waits until it is mined again.
func (d *pair) reorg(ctx context.Context) error {
	s, err := d.node.Status(ctx, d.channel.Watched())
	if err != nil {
		return err
	}
	depth := int(min(max(s.Depth, 1), 20))
	if err := d.node.Reorg(depth); err != nil {
		return err
	}
	d.note(page.Warn, fmt.Sprintf("%d blocks are undone, and the channel's funding with them; no ticket is taken until it is back", depth))
	time.AfterFunc(2*time.Second, func() {
		if _, err := d.node.Mine(1); err == nil {
			d.note(page.Good, "the funding is mined again")
		}
	})
	return nil
}

func (d *pair) spent(err error) bool { return errors.Is(err, oneway.ErrFull) }

// settle closes the channel, mines, and reads the balances from the chain.
func (d *pair) settle(ctx context.Context) (*settlement, error) {
	mining, stop := context.WithCancel(ctx)
	defer stop()
	go d.mineEvery(mining, 150*time.Millisecond)
	// The rail opened last is closed first: a meter settles over its channel.
	for _, r := range slices.Backward(d.buyer.station.Rails()) {
		if c, ok := rail.As[rail.Closer](r); ok {
			if err := c.Shut(ctx, false); err != nil {
				return nil, err
			}
		}
	}
	stop()
	spent, err := d.node.Status(ctx, d.channel.Watched())
	if err != nil {
		return nil, err
	}
	if spent.Spender == nil {
		return nil, errors.New("the closing transaction is not in the chain")
	}
	seller, err := d.onchain(ctx, d.channel.PayeeScript)
	if err != nil {
		return nil, err
	}
	buyer, err := d.onchain(ctx, d.channel.PayerScript)
	if err != nil {
		return nil, err
	}
	funding, _ := d.node.Tx(d.channel.Point.Hash)
	fees := int64(demoFunds)
	for _, out := range funding.TxOut {
		fees -= out.Value // the funding's own fee
	}
	fees += d.channel.Capacity.Sats()
	for _, out := range spent.Spender.TxOut {
		fees -= out.Value
	}
	s := &chainEnd{txids: []chainhash.Hash{spent.Spender.TxHash()}, onchain: map[string]int64{d.seller.name: seller, d.buyer.name: buyer}, fees: fees}
	paidOnChain := seller == d.paid.Sats() || d.paid.Sats() < tx.DustP2WPKH && seller == 0
	s.conserved = s.sum() == demoFunds && paidOnChain
	s.words = closedBy(s.txids)
	d.note(page.Good, fmt.Sprintf("the last ticket is mined: %v", s.txids[0]))
	return d.finish(s), nil
}

// closedBy names the transactions that closed channels.
func closedBy(ids []chainhash.Hash) (words []string) {
	for _, id := range ids {
		words = append(words, "closed by "+id.String())
	}
	return words
}
