package node_test

import (
	"bytes"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
)

var messages = []node.Message{
	node.Ask{Orders: []receipt.Entry{{Order: money.OrderID{1}, Amount: 5}, {Order: money.OrderID{2}, Amount: 70_000}}},
	node.Terms{
		Payee: receipt.Payee{Node: keys.Public{2, 3}}, Stamped: receipt.Stamped{From: 0, To: 1, Total: 5}, FinalCLTV: 18,
		Hints:  [][]invoice.Hint{{{Node: keys.Public{2}, SCID: 7, FeeBase: 1, FeePPM: 2, CLTVDelta: 3}}},
		Offers: []node.Offer{{Entry: receipt.Entry{Order: money.OrderID{1}, Amount: 5}, Hash: [32]byte{1}, Secret: [32]byte{2}}},
	},
	node.Decline{Order: money.OrderID{9}, Why: "no"},
}

func TestMessages(t *testing.T) {
	for _, m := range messages {
		raw := m.Append(nil)
		got, err := node.Decode(raw)
		if err != nil || !bytes.Equal(got.Append(nil), raw) || got.Core() != node.Name {
			t.Errorf("%T: %+v, %v", m, got, err)
		}
		for i := range raw {
			if _, err := node.Decode(raw[:i]); err == nil {
				t.Errorf("%T cut to %d of %d bytes is read", m, i, len(raw))
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := node.Decode(raw)
		if err == nil && !bytes.Equal(m.Append(nil), raw) {
			t.Errorf("%x is read, and written as %x", raw, m.Append(nil))
		}
	})
}

// A receipt proves one order of one amount to one node.
func TestForgedProofs(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.connect(car, charger)
	w.open(car, charger, node.Open{Capacity: 100_000})
	id := money.OrderID{3}
	car.step(money.Order{ID: id, To: "lightning://" + charger.key.Public().String() + "@host:1", Amount: 9_000})
	w.settle()
	p := car.last(id.Key()).Value.(node.Paid)
	payee := charger.key.Public()
	if err := node.VerifyNode(p.Entry(), payee, p.Proof()); err != nil {
		t.Fatal(err)
	}
	for what, forge := range map[string]func(e *receipt.Entry, payee *keys.Public, proof *[]byte){
		"another order":    func(e *receipt.Entry, _ *keys.Public, _ *[]byte) { e.Order[0]++ },
		"another amount":   func(e *receipt.Entry, _ *keys.Public, _ *[]byte) { e.Amount++ },
		"another payee":    func(_ *receipt.Entry, payee *keys.Public, _ *[]byte) { *payee = car.key.Public() },
		"another preimage": func(_ *receipt.Entry, _ *keys.Public, proof *[]byte) { (*proof)[0]++ },
		"half a proof":     func(_ *receipt.Entry, _ *keys.Public, proof *[]byte) { *proof = (*proof)[:20] },
	} {
		e, who, proof := p.Entry(), payee, p.Proof()
		forge(&e, &who, &proof)
		if node.VerifyNode(e, who, proof) == nil {
			t.Errorf("%s is believed", what)
		}
	}
}
