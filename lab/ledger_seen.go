package lab

import (
	"bytes"
	"context"
)

// maxSeen is of how many transfers an observer is asked.
const maxSeen = 1000

// A sighting is what a ledger says of a transfer to anybody who has a copy of it.
type sighting struct {
	Payer  []byte `json:"payer,omitempty"` // a key, or its address
	Payee  []byte `json:"payee,omitempty"`
	Amount uint64 `json:"amount"` // that left the payer, in the ledger's unit
	Taken  uint64 `json:"taken"`  // of it did not get to the payee
}

// Linked is the share of transfers of which an observer can tell each secret by itself,
// and all three of one transfer. The observer has a copy of the ledger and nothing
// else: names are keys.
type Linked struct {
	Looked int     `json:"looked"` // transfers that it was asked about
	Payer  float64 `json:"payer"`
	Payee  float64 `json:"payee"`
	Amount float64 `json:"amount"`
	All    float64 `json:"all"`
}

// observe asks the last node what its copy of the ledger says of the transfers that
// were measured, and compares it with what was really paid: made is that, and ids
// names the units of each.
func (l *ledgerBench) observe(ctx context.Context, ids [][][32]byte, made []sighting) (linked *Linked, taken *float64, err error) {
	n := min(len(ids), maxSeen)
	a, err := l.nodes[len(l.nodes)-1].ask(ctx, question{Do: "ledger seen", Ledger: &ledgerTask{Seen: ids[:n]}})
	if err != nil || len(a.Ledger.Seen) != n {
		return nil, nil, err // it has forgotten some: nothing is measured
	}
	linked, taken = compared(a.Ledger.Seen, made)
	return linked, taken, nil
}

// compared puts beside each other what was seen and what was made, which has as many at least.
func compared(seen, made []sighting) (linked *Linked, taken *float64) {
	linked = &Linked{Looked: len(seen)}
	lost, share := uint64(0), 1/float64(len(seen))
	for i, s := range seen {
		payer, payee, amount := bytes.Equal(s.Payer, made[i].Payer), bytes.Equal(s.Payee, made[i].Payee), s.Amount == made[i].Amount
		for _, secret := range []struct {
			known bool
			sum   *float64
		}{{payer, &linked.Payer}, {payee, &linked.Payee}, {amount, &linked.Amount}, {payer && payee && amount, &linked.All}} {
			if secret.known {
				*secret.sum += share
			}
		}
		lost += s.Taken
	}
	for _, sum := range []*float64{&linked.Payer, &linked.Payee, &linked.Amount, &linked.All} {
		if 1-*sum < share/2 {
			*sum = 1 // and not what adding shares has lost
		}
	}
	return linked, figure(float64(lost) * share)
}

// ledgerSeen reads transfers from this node's ledger. It stops at the first that is
// not there.
func (e *end) ledgerSeen(t *ledgerTask) *ledgerNews {
	news := &ledgerNews{}
	for _, ids := range t.Seen {
		s, ok := e.ledger.seen(ids)
		if !ok {
			break
		}
		news.Seen = append(news.Seen, s)
	}
	return news
}
