package lab

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// capacity is what a device's channel has to carry, in satoshi.
func (t *doorTask) capacity() int64 {
	payments := int64((t.For + 2*doorWarmUp) / paySecond)
	price := coinPrice
	if t.Rail == railOneway {
		price = ticketPrice
	}
	return oneway.MinCapacity.Sats() + firstTicket.Sats() + (payments+2*coinCredit)*price.Sats()
}

// propose has every device propose its channel, and signs the transactions that
// fund them all.
func (c *crowd) propose(ctx context.Context, t *doorTask) (*doorNews, error) {
	capacity, _ := money.FromSats(t.capacity())
	err := c.each(func(d *carrier) error {
		p := oneway.Proposal{
			PayerNode: d.key.Public(), PayerKey: oneway.FundingKey(d.key, 1).Public(), Capacity: capacity,
			Expiry: t.Tip + channelLife, FeeRate: tx.MinFeeRate, PayerScript: t.Script,
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.terms.Proposal = p
		d.say(oneway.Open{ID: oneway.IDOf(p.PayerKey, c.payee), Proposal: p})
		return nil
	})
	if err == nil {
		err = c.all(ctx, "answered")
	}
	if err != nil {
		return nil, err
	}
	n := &doorNews{}
	for i, gift := range t.Gifts {
		point, err := wire.NewOutPointFromString(gift)
		if err != nil {
			return nil, err
		}
		devices := c.devices[i*fundedTogether : min(len(c.devices), (i+1)*fundedTogether)]
		var outs []*wire.TxOut
		for _, d := range devices {
			outs = append(outs, d.terms.Output())
		}
		funding, _, err := tx.Pay(c.wallet, []tx.Coin{{Point: *point, Value: t.Sat}}, outs, tx.MinFeeRate)
		if err != nil {
			return nil, err
		}
		for j, d := range devices {
			d.terms.Point = wire.OutPoint{Hash: funding.TxHash(), Index: uint32(j)}
		}
		n.Txs = append(n.Txs, tx.Bytes(funding))
	}
	return n, nil
}

// each does something for all devices, on all processors.
func (c *crowd) each(f func(*carrier) error) error {
	var next atomic.Int64
	var working sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		working.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(c.devices)); i = next.Add(1) - 1 {
				if err := f(c.devices[i]); err != nil {
					c.fail(err)
					return
				}
			}
		})
	}
	working.Wait()
	if err := c.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// channels starts the payers, now that their funding is in a block, and waits
// until all take payments.
func (c *crowd) channels(ctx context.Context, t *doorTask) error {
	var all []*wire.MsgTx
	for _, raw := range t.Txs {
		one, err := tx.Parse(raw)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	err := c.each(func(d *carrier) error {
		p, err := oneway.NewPayer(d.terms, d.key, 1, all[d.index/fundedTogether])
		if err != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		name := oneway.PayerName(d.terms.ID())
		d.machine.Add(name, p)
		if c.rail == railPayword {
			d.settler = name
		} else {
			d.payer = name
		}
		d.round(
			drive.Event{Core: name, What: step.Rang{ID: step.Start}},
			drive.Event{Core: name, What: step.Recv{From: watch.Chain, Msg: watch.Status{Point: d.terms.Point, Tip: t.Tip, Depth: 1, Value: d.terms.Capacity.Sats()}}},
		)
		return nil
	})
	if err == nil {
		err = c.all(ctx, "open")
	}
	return err
}

func (d *carrier) coinsID() payword.ID { return payword.IDOf(d.key.Public(), d.c.payee, 1) }

func (d *carrier) coins() payword.Proposal {
	return payword.Proposal{
		PayerNode: d.key.Public(), Number: 1, Coin: coinPrice, Length: coinChain,
		Every: coinEvery, Credit: coinCredit, Settle: d.settler,
	}
}

// agree starts the payer of coins.
func (d *carrier) agree(a payword.Answer) {
	if d.payer != "" {
		return
	}
	p, err := payword.NewPayer(payword.Terms{Proposal: d.coins(), Answer: a}, d.key)
	if err != nil {
		d.c.fail(err)
		return
	}
	d.payer = payword.PayerName(d.coinsID())
	d.machine.Add(d.payer, p)
	d.machine.Listen(d.settler, d.payer)
	d.round(drive.Event{Core: d.payer, What: step.Rang{ID: step.Start}})
}
