package money_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"coinop.dev/core/money"
)

func TestParseAmount(t *testing.T) {
	for text, want := range map[string]money.Amount{
		"12 sat": 12_000, "12sat": 12_000, "12 sats": 12_000, "1500 msat": 1500, "0.5 sat": 500, "0.001 sat": 1,
		"1 btc": money.BTC, "0.00000000001 btc": 1, "21000000 BTC": money.MaxAmount, "0 msat": 0, " 7 SAT ": 7000,
	} {
		if got, err := money.ParseAmount(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for text, why := range map[string]string{
		"12": "no unit", "": "no unit", "sat": "not a number", "-1 sat": "not a number", "1e3 sat": "not a number", "0x10 sat": "not a number",
		"0.5 msat": "decimals", "0.0001 sat": "decimals", "1.2.3 sat": "not a number", "21000001 btc": "there can be", "99999999999999999999 sat": "not a number",
		"+1 sat": "not a number", "1 000 sat": "not a number", ". sat": "not a number",
	} {
		if got, err := money.ParseAmount(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q is %v, %v; want an error that says %q", text, got, err, why)
		}
	}
}

func FuzzParseAmount(f *testing.F) {
	for _, seed := range []string{"12 sat", "0.5 sat", "21000000btc", "1msat", "..sat", "1.1.1btc"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := money.ParseAmount(text)
		if err != nil {
			return
		}
		if again, err := money.ParseAmount(a.String()); err != nil || again != a {
			t.Errorf("%q is %v, which reads as %v, %v", text, a, again, err)
		}
	})
}

func TestSumsCannotOverflow(t *testing.T) {
	max := money.MaxAmount
	if _, ok := max.Add(1); ok {
		t.Error("more than all bitcoin")
	}
	if _, ok := money.Amount(1 << 63).Add(1 << 63); ok {
		t.Error("a sum that wraps")
	}
	if _, ok := (max / 2).Times(3); ok {
		t.Error("a product of more than all bitcoin")
	}
	if got, ok := (max / 2).Times(2); !ok || got > max {
		t.Errorf("%v, %v", got, ok)
	}
	if got, ok := max.Times(0); !ok || got != 0 {
		t.Errorf("nothing is %v, %v", got, ok)
	}
	if _, ok := money.FromSats(-1); ok {
		t.Error("negative satoshi")
	}
}

// Money goes through JSON as a number of msat, and through TOML with its unit.
func TestAmountAsText(t *testing.T) {
	raw, err := json.Marshal(money.Receipt{Amount: 1500})
	if err != nil || !strings.Contains(string(raw), `"amount_msat":1500`) {
		t.Errorf("%s, %v", raw, err)
	}
	var r money.Receipt
	if err := json.Unmarshal(raw, &r); err != nil || r.Amount != 1500 {
		t.Errorf("%v, %v", r.Amount, err)
	}
	for _, bad := range []string{`{"amount_msat":-1}`, `{"amount_msat":1.5}`, `{"amount_msat":"5 sat"}`, `{"amount_msat":99999999999999999999}`} {
		if err := json.Unmarshal([]byte(bad), &r); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestOrderID(t *testing.T) {
	var id money.OrderID
	if err := id.UnmarshalText([]byte("000102030405060708090a0b0c0d0e0f")); err != nil || id[15] != 15 {
		t.Errorf("%v, %v", id, err)
	}
	if back, ok := money.OrderIDFromKey(id.Key()); !ok || back != id {
		t.Errorf("%v, %v", back, ok)
	}
	for _, bad := range []string{"", "00", strings.Repeat("zz", 16), strings.Repeat("00", 17)} {
		if err := id.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	err := fmt.Errorf("outer: %w", &money.Error{Kind: money.Unpaid, Op: "pay oneway://x", Err: io.EOF})
	if got, want := err.Error(), "outer: pay oneway://x: unpaid: EOF"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !errors.Is(err, money.Unpaid) || errors.Is(err, money.Pending) || !errors.Is(err, io.EOF) || money.KindOf(err) != money.Unpaid {
		t.Errorf("the kind of %v is lost", err)
	}
	// Who forgets to say gets the answer that cannot lose money.
	if money.KindOf(io.EOF) != money.Pending || (&money.Error{}).Kind != money.Pending {
		t.Error("an error without a kind is not pending")
	}
	if money.KindOf(fmt.Errorf("x: %w", money.Refused)) != money.Refused {
		t.Error("a bare kind is not found")
	}
}
