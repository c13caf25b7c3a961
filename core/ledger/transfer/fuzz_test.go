package transfer

import (
	"bytes"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// FuzzRecords: whatever is on disk is an error or what is written again.
func FuzzRecords(f *testing.F) {
	s := &sent{n: 7, final: true}
	o := &order{Pay: Pay{Order: money.OrderID{1}, Amount: 5, To: "to", Bill: "bill", Word: keys.Signature{9}}, sent: s}
	f.Add(o.append(3))
	b := &bill{order: money.OrderID{1}, n: 300, amount: 5, at: 1000, text: "text", key: "key", got: 7, told: 7, coins: []coin{{"a", true}, {"b", false}}}
	f.Add(b.append(nil))
	f.Add(Proof{"bill", keys.Signature{1}, []byte("ledger")}.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if p, err := readOrder(money.OrderID{1}, raw); err == nil {
			p.o.sent = &sent{n: p.n, final: p.final}
			if again := p.o.append(p.i); !bytes.Equal(again, raw) {
				t.Errorf("order %x is written as %x", raw, again)
			}
		}
		if b, err := readBill(money.OrderID{1}, raw); err == nil {
			if again := b.append(nil); !bytes.Equal(again, raw) {
				t.Errorf("bill %x is written as %x", raw, again)
			}
		}
		if p, err := ReadProof(raw); err == nil {
			if again := p.Append(nil); !bytes.Equal(again, raw) {
				t.Errorf("proof %x is written as %x", raw, again)
			}
		}
	})
}
