package node

import (
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// A Settled is an order that was paid: what proves it.
type Settled struct {
	order    money.OrderID
	amount   money.Amount
	preimage [32]byte
	ref      uint64
	place    int
}

const (
	recPaid  = "ln/d/"
	recTaken = "ln/e/"
)

func (s *Settled) record() []byte {
	b := append([]byte(nil), s.order[:]...)
	b = codec.AppendUint(b, uint64(s.amount))
	b = append(b, s.preimage[:]...)
	return codec.AppendUint(codec.AppendUint(b, s.ref), s.place)
}

func readSettled(value []byte) (id money.OrderID, s *Settled, err error) {
	r := codec.NewReader(value)
	s = new(Settled)
	r.Fill(s.order[:])
	s.amount = r.Amount()
	r.Fill(s.preimage[:])
	s.ref, s.place = r.Uvarint(), r.Int(maxBatch, "place")
	return s.order, s, r.Close()
}

// A Paid is the outcome of an order, at either end.
type Paid struct {
	entry    receipt.Entry
	preimage [32]byte
	terms    *receipt.Batch
	place    int
}

// Entry is the order.
func (p Paid) Entry() receipt.Entry { return p.entry }

// Proof is the preimage, and, of an order without an invoice, the payee's stamp
// that ties it to the order.
func (p Paid) Proof() []byte {
	if p.terms == nil {
		return append([]byte(nil), p.preimage[:]...)
	}
	return append(append([]byte(nil), p.preimage[:]...), p.terms.Proof(p.place)...)
}

// VerifyNode checks offline that a node took an order for which it gave terms.
func VerifyNode(e receipt.Entry, node keys.Public, proof []byte) error {
	if len(proof) < 32 {
		return receipt.ErrForged
	}
	channel, err := receipt.Verify(Bound(e.Order, e.Amount, hashOf([32]byte(proof))), node, proof[32:])
	if err == nil && channel != termsID(node) {
		err = receipt.ErrForged
	}
	return err
}

// VerifyInvoice checks offline that an invoice was paid.
func VerifyInvoice(text string, amount money.Amount, proof []byte) error {
	i, err := invoice.Parse(text)
	switch {
	case err != nil:
		return err
	case len(proof) != 32 || hashOf([32]byte(proof)) != i.Hash:
		return fmt.Errorf("%w: the preimage is not the invoice's", receipt.ErrForged)
	case i.Amount != 0 && i.Amount != amount:
		return fmt.Errorf("%w: the invoice is for %v", receipt.ErrForged, i.Amount)
	}
	return nil
}

func (n *Node) evidence(id money.OrderID, s *Settled) Paid {
	p := Paid{entry: receipt.Entry{Order: id, Amount: s.amount}, preimage: s.preimage, place: s.place}
	if t := n.batches[s.ref]; t != nil {
		p.terms = t.Batch
	}
	return p
}

func (n *Node) inquiry(q money.Inquiry) {
	if s, ok := n.paid.by[q.Order]; ok {
		n.fx.Done = append(n.fx.Done, step.Outcome{ID: q.Order.Key(), Value: n.evidence(q.Order, s)})
	} else if n.paying[q.Order] == nil {
		n.failed(q.Order.Key(), money.Refused, "prove "+q.Order.String(), money.ErrForgotten)
	}
}
