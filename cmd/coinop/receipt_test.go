package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coinop.dev"
	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/purse"
)

// sold is a sale with all that a receipt can prove, and the keys of who signed.
func sold(t *testing.T) (s receipt.Sale, seller, device keys.Secret) {
	t.Helper()
	m, err := coinop.Open(t.Context(), coinop.Config{Version: 1, Data: t.TempDir(), Store: "mem:", Rails: []string{"fake:?balance=100sat", "fake:"}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	paid, err := m.Purse.Pay(t.Context(), money.Order{ID: purse.NewOrderID(), To: m.PayTo()[0], Amount: 30 * money.Sat})
	if err != nil {
		t.Fatal(err)
	}
	if device, err = keys.NewSecret(rand.Reader); err != nil {
		t.Fatal(err)
	}
	ack := fleet.Ack{Device: "tap-3", Seq: 4, Order: paid.Order, Counter: 17, OK: true}.Seal(device, keys.Secret{})
	s = receipt.Sale{
		Order: paid.Order, State: "settled", Item: "water", Units: 2, Due: 30 * money.Sat, Paid: 30 * money.Sat,
		Currency: "EUR", Rate: 90_000_000_000, Source: "rates.example.org", RateAt: paidAt, At: paidAt + 5000,
		Device: "tap-3", DeviceKey: device.Public(), Ack: ack.Append(nil), Payment: &paid,
	}
	return s.Sign(m.Key), m.Key, device
}

const paidAt = 1_790_000_000_000

// A buyer shows to anybody what was paid, at which rate, and that the tap ran;
// whoever changes a part of it is found out, and told which.
func TestReceiptPartByPart(t *testing.T) {
	s, seller, _ := sold(t)
	other, err := keys.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	resigned := func(change func(*receipt.Sale)) receipt.Sale {
		v := s
		change(&v)
		return v.Sign(seller)
	}
	for what, c := range map[string]struct {
		sale   receipt.Sale
		wrong  string // the part
		states string // of all parts: seller, payment, rate, device
	}{
		"as it was given":    {s, "", "ok ok ok ok"},
		"an amount changed":  {func() receipt.Sale { v := s; v.Paid = 1; return v }(), "seller", "wrong ok ok ok"},
		"no payment with it": {func() receipt.Sale { v := s; v.Payment = nil; return v }(), "", "ok unchecked ok ok"},
		"another order's payment": {func() receipt.Sale {
			v, p := s, *s.Payment
			p.Order[0]++
			v.Payment = &p
			return v
		}(), "payment", "ok wrong ok ok"},
		"a payment that was not": {func() receipt.Sale {
			v, p := s, *s.Payment
			p.Proof = bytes.Clone(p.Proof)
			p.Proof[len(p.Proof)-1] ^= 1
			v.Payment = &p
			return v
		}(), "payment", "ok wrong ok ok"},
		"a seller who pays less":  {resigned(func(v *receipt.Sale) { v.Due = 31 * money.Sat }), "payment", "ok wrong ok ok"},
		"a rate without a source": {resigned(func(v *receipt.Sale) { v.Source = "" }), "rate", "ok ok wrong ok"},
		"a rate of later":         {resigned(func(v *receipt.Sale) { v.RateAt = v.At + 1 }), "rate", "ok ok wrong ok"},
		"another device's ack":    {resigned(func(v *receipt.Sale) { v.DeviceKey = other.Public() }), "device", "ok ok ok wrong"},
		"another order's ack":     {resigned(func(v *receipt.Sale) { v.Order[3]++; v.Payment = nil }), "device", "ok unchecked ok wrong"},
		"no ack":                  {resigned(func(v *receipt.Sale) { v.Ack = nil }), "", "ok ok ok unchecked"},
		"a device without a key":  {resigned(func(v *receipt.Sale) { v.DeviceKey = keys.Public{} }), "", "ok ok ok unchecked"},
		"bytes for an ack":        {resigned(func(v *receipt.Sale) { v.Ack = []byte{1, 2} }), "device", "ok ok ok wrong"},
	} {
		raw, err := json.Marshal(c.sale)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "receipt.json")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		code := run(context.Background(), []string{"receipt", "verify", path}, nil, &out, &errs)
		var v struct {
			Valid bool
			Parts []part
		}
		if err := json.Unmarshal(out.Bytes(), &v); err != nil {
			t.Fatalf("%s: %v %s %s", what, err, out.String(), errs.String())
		}
		var states []string
		for _, p := range v.Parts {
			states = append(states, p.State)
			if (p.State == bad) != (p.What == c.wrong) {
				t.Errorf("%s: %s is %s: %s", what, p.What, p.State, p.Say)
			}
		}
		if got := strings.Join(states, " "); got != c.states {
			t.Errorf("%s: %s", what, got)
		}
		if v.Valid != (c.wrong == "") || (code == exitOK) != v.Valid || code != exitOK && code != exitFailed {
			t.Errorf("%s: valid %v, exit %d", what, v.Valid, code)
		}
	}
}

// The shop that somebody means is named by its key; and the receipt of a payment
// alone is verified as ever.
func TestReceiptOfWhom(t *testing.T) {
	s, _, device := sold(t)
	verify := func(v any, args ...string) (int, string) {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		code := run(context.Background(), append(args, "-"), bytes.NewReader(raw), &out, &errs)
		return code, out.String() + errs.String()
	}
	if code, text := verify(s, "receipt", "verify", "--seller", s.Seller.String()); code != exitOK {
		t.Error(text)
	}
	if code, text := verify(s, "receipt", "verify", "--seller", device.Public().String()); code != exitFailed || !strings.Contains(text, "and not") {
		t.Error(code, text)
	}
	wrapped := map[string]any{"receipt": s.Payment}
	for _, args := range [][]string{{"receipt", "verify"}, {"check", "--receipt"}} {
		if code, text := verify(wrapped, args...); code != exitOK || !strings.Contains(text, `"valid":true`) {
			t.Error(args, code, text)
		}
	}
	s.Payment.Amount++
	if code, _ := verify(s.Payment, "receipt", "verify"); code != exitFailed {
		t.Error("a receipt of another amount is valid")
	}
	if code, _ := verify("nonsense", "receipt", "verify"); code != exitUsage {
		t.Error("nonsense is a receipt")
	}
}
