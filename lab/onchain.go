package lab

import (
	"context"

	"coinop.dev/core/money"
	"coinop.dev/rail/bitcoinrail"
)

// onchain is the rail whose every payment is in a transaction. It has no channel to
// open and none to close.
const onchain = bitcoinrail.Scheme

const (
	// onchainLeast is the dust limit of a P2WPKH output.
	onchainLeast = 294 * money.Sat
	// onchainFee is room for the fee of a payment alone in its transaction, in
	// satoshi, at a rate several times what regtest asks.
	onchainFee = 2_000
)

// mineOnchain puts what the rail publishes into a block at once. A payment's time is
// then the programs' part of it; the wait for blocks is to be added.
func (b *bench) mineOnchain(ctx context.Context) (stop func()) {
	if b.Rail != onchain {
		return func() {}
	}
	return b.mine(ctx)
}

// auditOnchain reads all blocks: every payment has an output of its own, and nothing
// else happened but change.
func (b *bench) auditOnchain(ctx context.Context, r *Result) error {
	spent, err := b.payer().ask(ctx, question{Do: "book"})
	if err != nil {
		return err
	}
	earned, err := b.payee().ask(ctx, question{Do: "book"})
	if err != nil {
		return err
	}
	tip, _, err := b.node.Tip(ctx)
	if err != nil {
		return err
	}
	fees, outputs := int64(0), uint64(0)
	for height := int32(1); height <= tip; height++ {
		block, err := b.node.Block(ctx, height)
		if err != nil {
			return err
		}
		for _, t := range block.Transactions[1:] { // after the miner's own
			if b.gifts[t.TxHash()] {
				continue
			}
			b.prints.add(t)
			for _, in := range t.TxIn {
				if from, _ := b.node.Tx(in.PreviousOutPoint.Hash); from != nil {
					fees += from.TxOut[in.PreviousOutPoint.Index].Value
				}
			}
			for _, out := range t.TxOut {
				fees -= out.Value
				if out.Value == b.Amount.Sats() {
					outputs++
				}
			}
		}
	}
	due := money.Amount(b.paid) * b.Amount
	r.Conserved = spent.Booked == due && earned.Booked == due && outputs == b.paid && fees > 0
	r.ChainTxs, r.ChainVBytes = figure(float64(b.prints.txs)), figure(float64(b.prints.vbytes))
	r.FeeMsatPerPayment = figure(float64(fees*1000) / float64(b.paid))
	r.PaidMsat, r.PayeeOnchainSat, r.FeesSat = due, due.Sats(), fees
	r.PayerOnchainSat = b.funds - due.Sats() - fees
	return nil
}
