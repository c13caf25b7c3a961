package lab

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Two nodes of each ledger, as processes: everything that is sent is final on both,
// and no figure is impossible.
func TestRunLedger(t *testing.T) {
	for _, rail := range Ledgers() {
		t.Run(rail, func(t *testing.T) {
			t.Parallel()
			o := LedgerOptions{Rail: rail, Nodes: 2, Accounts: 16, Transfers: 60, Interval: 100 * time.Millisecond, Dir: t.TempDir(), Command: []string{os.Args[0]}}
			o.Fill()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := RunLedger(ctx, o, func(uint64) {})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case *r.Tps <= 0 || *r.P50Ms <= 0 || *r.P99Ms < *r.P50Ms || *r.P50EverywhereMs < *r.P50Ms:
				t.Errorf("impossible times: %+v", r)
			case *r.CPUMs <= 0 || *r.Fsyncs <= 0 || *r.StoreBytes < 300 || *r.PeakRSSMiB <= 0:
				t.Errorf("impossible costs: %+v", r)
			case *r.VerifyUs <= 0 || *r.LimitShare <= 0 || *r.LimitShare > 1:
				t.Errorf("an impossible limit: %+v", r)
			case r.Linked == nil || *r.Linked != Linked{60, 1, 1, 1, 1} || *r.Taken != 0:
				t.Errorf("everything is public and free: %+v, %v taken", r.Linked, r.Taken)
			}
			var out strings.Builder
			WriteLedger(&out, []LedgerResult{r})
			if lines := strings.Count(out.String(), "\n"); lines != 2 || !strings.Contains(out.String(), rail) {
				t.Errorf("printed as\n%s", &out)
			}
		})
	}
}

func TestLedgerOptions(t *testing.T) {
	for what, change := range map[string]func(*LedgerOptions){
		"rail":      func(o *LedgerOptions) { o.Rail = "oneway" },
		"nodes":     func(o *LedgerOptions) { o.Nodes = MaxLedgerNodes + 1 },
		"accounts":  func(o *LedgerOptions) { o.Accounts = 1 },
		"transfers": func(o *LedgerOptions) { o.Transfers = -1 },
		"rate":      func(o *LedgerOptions) { o.Rate = -1 },
		"interval":  func(o *LedgerOptions) { o.Interval = time.Hour },
		"zeros":     func(o *LedgerOptions) { o.Zeros = 99 },
		"store":     func(o *LedgerOptions) { o.Store = "tape" },
	} {
		o := LedgerOptions{Rail: "nano"}
		o.Fill()
		change(&o)
		if _, err := RunLedger(context.Background(), o, nil); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What an observer tells is compared with what was paid: here it is wrong about a
// payee of four, and a quarter of a unit got lost on the way.
func TestCompared(t *testing.T) {
	var made []sighting
	for i := range byte(4) {
		made = append(made, sighting{Payer: []byte{1, i}, Payee: []byte{2, i}, Amount: 5})
	}
	seen := slices.Clone(made)
	seen[2].Payee, seen[3].Taken = []byte{2, 9}, 1
	if l, taken := compared(seen, made); *l != (Linked{Looked: 4, Payer: 1, Payee: 0.75, Amount: 1, All: 0.75}) || *taken != 0.25 {
		t.Errorf("%+v, %v taken", l, *taken)
	}
}
