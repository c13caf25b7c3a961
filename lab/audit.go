package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/money"
)

// close closes the channels and reads from the chain what it all came to.
func (b *bench) close(ctx context.Context, r *Result) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	if b.Rail == onchain {
		return b.auditOnchain(ctx, r)
	}
	have, err := b.settled(ctx)
	if err != nil {
		return err
	}
	stop := b.mine(ctx)
	defer stop()
	for i, p := range b.ends[:len(b.ends)-1] {
		begin := time.Now()
		if _, err := p.ask(ctx, question{Do: "shut"}); err != nil {
			return err
		}
		if i == 0 {
			r.FinalityMs = figure(float64(time.Since(begin).Microseconds()) / 1000)
		}
	}
	stop()
	spent, err := b.payer().ask(ctx, question{Do: "book"})
	if err != nil {
		return err
	}
	earned, err := b.payee().ask(ctx, question{Do: "book"})
	if err != nil {
		return err
	}
	return b.audit(r, spent.Booked, earned.Booked, have)
}

// footprint is what transactions take of the chain.
type footprint struct{ txs, vbytes int }

func (f *footprint) add(t *wire.MsgTx) {
	f.txs++
	f.vbytes += tx.VSize(t)
}

// settled waits until the channels hold what they held at first, and returns how
// much of it each end has. A payment is on its way out of the commitments for a
// moment after its receipt.
func (b *bench) settled(ctx context.Context) (have []int64, err error) {
	total := func(msat []int64) (sum int64) {
		for _, m := range msat {
			sum += m
		}
		return sum
	}
	for deadline := time.Now().Add(settleTimeout); ; time.Sleep(nodeEvery) {
		if have, err = b.balances(ctx); err != nil || total(have) == total(b.had) || time.Now().After(deadline) {
			return have, err
		}
	}
}

// audit checks that nothing appeared and nothing went: on the books of payer and
// payee, in the channels, and in the transactions of the chain.
func (b *bench) audit(r *Result, spent, earned money.Amount, have []int64) error {
	total, fees, seen := int64(0), int64(0), b.gifts
	onchain := make([]int64, len(b.ends))
	for i, p := range b.ends {
		coins, err := b.node.Coins(context.Background(), p.script)
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
		total += onchain[i]
	}
	due := money.Amount(b.paid) * b.Amount
	last := len(b.ends) - 1
	missing := due.Sats() - onchain[last]
	r.Conserved = spent == due && earned == due && total+fees == b.funds
	if b.Rail == lightning {
		// Either side of a channel may be the first to close it, for a fee of its
		// own (option_simple_close).
		r.Conserved = r.Conserved && b.routed(r, int64(due), have) && missing >= 0 && missing <= fees
	} else {
		r.Conserved = r.Conserved && missing == 0
	}
	r.FeeMsatPerPayment = figure(float64(fees*1000) / float64(b.paid))
	r.ChainTxs, r.ChainVBytes = figure(float64(b.prints.txs)), figure(float64(b.prints.vbytes))
	r.PaidMsat, r.PayeeOnchainSat, r.PayerOnchainSat, r.FeesSat = due, onchain[last], onchain[0], fees
	return nil
}

// routed notes what each end gained in its channels, and reports whether the
// payer lost what the payee and the routers got.
func (b *bench) routed(r *Result, due int64, have []int64) bool {
	sum, last := int64(0), len(b.ends)-1
	for i := range b.ends {
		gain := have[i] - b.had[i]
		sum += gain
		if i > 0 && i < last {
			r.Ends[i].EarnedMsat = figure(float64(gain) / float64(b.paid))
		}
	}
	return sum == 0 && have[last]-b.had[last] == due
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
	b.prints.add(t)
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
