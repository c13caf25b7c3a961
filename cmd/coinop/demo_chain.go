//go:build !omit_demo

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/regtest"
)

// chained is what the demos on a Bitcoin chain have in common.
type chained struct {
	*demo
	funds int64 // satoshi that the faucet gives, in all
	node  *regtest.Node
	end   *chainEnd // nil until it is settled
}

// A chainEnd is what the chain says at the end.
type chainEnd struct {
	txids     []chainhash.Hash // that closed the channels; or the newest that paid
	onchain   map[string]int64 // satoshi, by the machines' names
	fees      int64
	left      int64 // satoshi in outputs that nobody has taken
	conserved bool
	more      map[string]any // for the report
	words     []string       // the same for a person
}

// sum is all of it.
func (e *chainEnd) sum() (sum int64) {
	for _, sat := range e.onchain {
		sum += sat
	}
	return sum + e.fees + e.left
}

func (d *chained) ground(context.Context) (err error) {
	d.node, err = regtest.Open(regtest.Options{Dir: filepath.Join(d.dir, "chain")})
	if err == nil {
		d.note(page.Info, "a Bitcoin regtest chain starts, with the mainnet's consensus rules")
	}
	return err
}

func (d *chained) clear() {
	if d.node != nil {
		d.node.Close()
	}
}

// sees is the chain itself, or where a light client finds it.
func (d *chained) sees(m *demoMachine) (chain.Source, string) {
	switch {
	case m.blind:
		return nil, ""
	case d.chain != demoChains[0]:
		return nil, d.chain + "://" + d.node.Addr()
	}
	return d.node, ""
}

// beat lets a block come by itself.
func (d *chained) beat() { d.node.Mine(1) }

func (d *chained) heal() {}

// buttons are those of every chain, and more.
func (d *chained) buttons(reorg func(context.Context) error) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{"mine": d.mine, "reorg": reorg}
}

func (d *chained) mine(context.Context) error {
	if _, err := d.node.Mine(1); err != nil {
		return err
	}
	d.note(page.Info, "a block is mined")
	return nil
}

// fund gives a machine's wallet money, in a block.
func (d *chained) fund(m *demoMachine, sat int64) (script []byte, point wire.OutPoint, err error) {
	key, err := loadKey(m.config.Data)
	if err != nil {
		return nil, point, err
	}
	script = tx.P2WPKH(tx.WalletKey(key).Public())
	if point, err = d.node.Faucet(script, sat); err != nil {
		return nil, point, err
	}
	_, err = d.node.Mine(1)
	return script, point, err
}

func (d *chained) mineEvery(ctx context.Context, every time.Duration) {
	for t := time.NewTicker(every); ; {
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
			d.node.Mine(1)
		}
	}
}

func (d *chained) onchain(ctx context.Context, script []byte) (sum int64, err error) {
	coins, err := d.node.Coins(ctx, script)
	for _, c := range coins {
		if c.Depth > 0 {
			sum += c.Value
		}
	}
	return sum, err
}

// showChain puts the chain onto the page, before a course adds to it.
func (d *chained) showChain(p *page.State) {
	p.Chain = page.Chain{StartSat: d.funds}
	if d.node != nil {
		height, tip, _ := d.node.Tip(context.Background())
		p.Chain.Height, p.Chain.Tip = height, tip.String()
	}
}

// showEnd comes after what a course has added.
func (d *chained) showEnd(p *page.State) {
	if e := d.end; e != nil {
		p.Chain.CloseTxid, p.Chain.FeesSat, p.Chain.Conserved = e.txids[0].String(), e.fees, &e.conserved
		p.Buyer.ChannelMsat, p.Seller.ChannelMsat = 0, 0
	}
}

// finish is the end as the demo reports it.
func (d *chained) finish(e *chainEnd) *settlement {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end = e
	sums := "read back from the chain: "
	for _, m := range slices.Backward(d.machines) {
		m.onchain = e.onchain[m.name]
		sums += fmt.Sprintf("%s %d sat, ", m.name, m.onchain)
	}
	s := &settlement{conserved: e.conserved, more: map[string]any{
		"settle_txid": e.txids[0].String(), "fees_sat": e.fees,
		"seller_onchain_sat": e.onchain[d.seller.name], "buyer_onchain_sat": e.onchain[d.buyer.name],
	}}
	for name, v := range e.more {
		s.more[name] = v
	}
	s.words = append(e.words, fmt.Sprintf("%sfees %d sat; together %d sat, as at the start: %v", sums, e.fees, e.sum(), e.conserved))
	s.wrong = fmt.Sprintf("%v and fees of %d sat do not add up to %d, or the seller did not get the %v it was paid", e.onchain, e.fees, d.funds, d.paid)
	return s
}
