package wallet

import "coinop.dev/core/consent"

// Proposed lists what the signers have consented to of the transactions that are
// on their way: of each the newest version, the oldest transaction first.
func (w *Wallet) Proposed() (all []consent.Proposal) {
	for _, b := range w.batches {
		v := b.complete()
		if v == nil {
			continue
		}
		asked := *v
		asked.tx = v.tx.Copy()
		for _, in := range asked.tx.TxIn { // a PSBT is of an unsigned transaction
			in.SignatureScript, in.Witness = nil, nil
		}
		for _, s := range asked.shares {
			all = append(all, asked.proposal(b, s))
		}
	}
	return all
}
