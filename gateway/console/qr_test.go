package console

import (
	"strings"
	"testing"
)

func TestDense(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"lightning:lnbc10n1pj":                     "LIGHTNING:LNBC10N1PJ",
		"bitcoin:bc1qw508d6":                       "BITCOIN:BC1QW508D6",
		"bitcoin:bc1qw508d6?amount=0.1":            "bitcoin:bc1qw508d6?amount=0.1", // keys are in small letters
		"bitcoin:1A1zP1eP5QGefi2DMPTfTL5SLmv7Divf": "bitcoin:1A1zP1eP5QGefi2DMPTfTL5SLmv7Divf",
		"fake://02ab?order=1":                      "fake://02ab?order=1",
	} {
		if got := dense(text); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	if a, b := drawQR("lightning:"+strings.Repeat("q", 300)), drawQR("fake://"+strings.Repeat("q", 303)); a.Size == 0 || a.Size >= b.Size {
		t.Errorf("%d modules in capitals, %d in small letters", a.Size, b.Size)
	}
	if drawQR(strings.Repeat("q", maxQR+1)).Size != 0 {
		t.Error("a code that no phone reads is drawn")
	}
}

func TestAmounts(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		sats(0): "0 sat", sats(5_010): "5.01 sat", sats(1_234_567_000): "1,234,567 sat", sats(1): "0.001 sat",
	} {
		if in != want {
			t.Errorf("%s, not %s", in, want)
		}
	}
}
