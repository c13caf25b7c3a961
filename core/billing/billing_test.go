package billing_test

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"

	"coinop.dev/core/billing"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

var samples = []billing.Message{
	billing.Ask{Order: money.OrderID{1}, Amount: 7 * money.Sat},
	billing.Bill{Order: money.OrderID{2}, Invoice: "lnbc1", Word: keys.Signature{3}},
	billing.Refuse{Order: money.OrderID{4}, Why: "closed"},
}

func TestMessagesComeBack(t *testing.T) {
	for _, m := range samples {
		raw := m.Append(nil)
		got, err := billing.Decode(raw)
		if err != nil || got != m || got.Core() != "" {
			t.Errorf("%+v comes back as %+v: %v", m, got, err)
		}
		for cut := range raw {
			if _, err := billing.Decode(raw[:cut]); err == nil {
				t.Errorf("%T is read from %d of %d bytes", m, cut, len(raw))
			}
		}
		if _, err := billing.Decode(append(raw, 0)); err == nil {
			t.Errorf("%T is read with a byte too many", m)
		}
	}
	if long := (billing.Refuse{Why: strings.Repeat("x", 300)}).Append(nil); len(long) > 18+2+billing.MaxWhy {
		t.Errorf("a reason takes %d bytes", len(long))
	}
	if _, err := billing.Decode(billing.Bill{Invoice: strings.Repeat("x", billing.MaxInvoice+1)}.Append(nil)); err == nil {
		t.Error("an endless invoice is read")
	}
}

// A payee's word holds for one order, one amount and one preimage.
func TestProof(t *testing.T) {
	payee, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte("payee"), 8)))
	if err != nil {
		t.Fatal(err)
	}
	order, amount, preimage := money.OrderID{1}, 5*money.Sat, [32]byte{9}
	word := billing.Sign(payee, order, amount, sha256.Sum256(preimage[:]))
	p, err := billing.ReadProof(billing.Proof{Preimage: preimage, Word: word}.Append(nil))
	if err != nil || p.Verify(payee.Public(), order, amount) != nil {
		t.Fatalf("an honest proof: %v", err)
	}
	other, _ := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte("other"), 8)))
	for what, err := range map[string]error{
		"another order":  p.Verify(payee.Public(), money.OrderID{2}, amount),
		"another amount": p.Verify(payee.Public(), order, amount+1),
		"another payee":  p.Verify(other.Public(), order, amount),
	} {
		if err == nil {
			t.Errorf("the proof holds for %s", what)
		}
	}
	p.Preimage[0]++
	if p.Verify(payee.Public(), order, amount) == nil {
		t.Error("the proof holds with another preimage")
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range samples {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := billing.Decode(raw)
		if err == nil && !bytes.Equal(m.Append(nil), raw) {
			t.Errorf("%x is read and written as %x", raw, m.Append(nil))
		}
	})
}
