package lab

import (
	"context"
	"time"

	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev"
)

// close closes the channels and reads from the chain what it all came to.
func (b *bench) close(ctx context.Context, r *Result) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	have, err := b.balances(ctx)
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

// audit checks that nothing appeared and nothing went: on the books of payer and
// payee, in the channels, and in the transactions of the chain.
func (b *bench) audit(r *Result, spent, earned coinop.Amount, have []int64) error {
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
	due := coinop.Amount(b.paid) * b.Amount
	last := len(b.ends) - 1
	r.Conserved = spent == due && earned == due && onchain[last] == due.Sats() && total+fees == b.funds
	if b.Rail == lightning {
		r.Conserved = r.Conserved && b.routed(r, int64(due), have)
	}
	r.FeeMsatPerPayment = figure(float64(fees*1000) / float64(b.paid))
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
