package books_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/world/books"
	"coinop.dev/world/store/postgres/pgtest"
)

// TestNoBudgetIsLeasedBeyondItsLimit has many gateways lease and give back at
// random and at once. At no time do they hold more than the limit, and at the
// end the books and the gateways agree to the msat.
func TestNoBudgetIsLeasedBeyondItsLimit(t *testing.T) {
	t.Parallel()
	const limit, gateways = 1000, 8
	rounds := often(8, 25)
	onBoth(t, func(t *testing.T, uri string) {
		two := []*books.Books{open(t, uri, "a"), open(t, uri, "b")}
		var mu sync.Mutex
		total := money.Amount(0)
		add := func(granted money.Amount) {
			mu.Lock()
			defer mu.Unlock()
			if total += granted; total > limit {
				t.Errorf("%d are given out of %d", total, limit)
			}
		}
		held := make([]money.Amount, gateways)
		var all sync.WaitGroup
		for g := range gateways {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(g), 1))
				b, name := two[g%2], fmt.Sprint("g", g)
				for range rounds {
					if rng.IntN(3) == 0 {
						keep := money.Amount(rng.Uint64N(uint64(held[g]) + 1))
						mu.Lock()
						total -= held[g] - keep // before it is really free for others
						mu.Unlock()
						if err := b.Unlease(ctx, "pump", noon, held[g], keep, name); err != nil {
							t.Error(err)
						}
						held[g] = keep
						continue
					}
					granted, err := b.Lease(ctx, "pump", noon, limit, money.Amount(1+rng.IntN(300)), name)
					if err != nil {
						t.Error(err)
					}
					add(granted)
					held[g] += granted
				}
			})
		}
		all.Wait()
		for g, want := range held {
			if got, err := two[0].Leased(ctx, "pump", noon, fmt.Sprint("g", g)); got != want || err != nil {
				t.Errorf("g%d holds %d by the books and %d by itself, %v", g, got, want, err)
			}
		}
		rest, err := two[0].Lease(ctx, "pump", noon, limit, limit, "last")
		if err != nil || rest != limit-total {
			t.Errorf("the rest is %d, want %d, %v", rest, limit-total, err)
		}
		if more, err := two[1].Lease(ctx, "pump", noon, limit, 1, "last"); more != 0 || err != nil {
			t.Errorf("%d more than all was given, %v", more, err)
		}
		if next, err := two[1].Lease(ctx, "pump", noon+1, limit, 5, "last"); next != 5 || err != nil {
			t.Errorf("the next window gave %d, %v", next, err)
		}
	})
}

func TestGivingBackTwiceGivesBackOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b := open(t, uri, "a")
		b.Lease(ctx, "pump", noon, 100, 100, "a")
		if err := b.Unlease(ctx, "pump", noon, 100, 40, "a"); err != nil {
			t.Fatal(err)
		}
		if err := b.Unlease(ctx, "pump", noon, 100, 40, "a"); !errors.Is(err, books.ErrNotHeld) {
			t.Errorf("again: %v", err)
		}
		if got, err := b.Lease(ctx, "pump", noon, 100, 100, "b"); got != 60 || err != nil {
			t.Errorf("60 are free and %d were given, %v", got, err)
		}
		if got, err := b.Lease(ctx, "pump", noon, 50, 10, "b"); got != 0 || err != nil {
			t.Errorf("the limit went down and %d were given, %v", got, err)
		}
		must(t, b.ForgetLeases(ctx, noon+1))
		if got, _ := b.Lease(ctx, "pump", noon, 50, 10, "b"); got != 10 {
			t.Errorf("a forgotten window gave %d", got)
		}
	})
}

// TestAGatewayThatIsCutOffNeverOverspends cuts one of two gateways off the
// database again and again while both lease. A lease whose answer was lost is
// lost budget and not budget spent twice.
func TestAGatewayThatIsCutOffNeverOverspends(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	uri := pgtest.Start(t)
	proxy := pgtest.NewProxy(t, uri)
	near, far := open(t, uri, "near"), open(t, proxy.URI, "far")
	spent := map[string]money.Amount{}
	var mu sync.Mutex
	stop := make(chan struct{})
	var both sync.WaitGroup
	faults := 0
	for name, b := range map[string]*books.Books{"near": near, "far": far} {
		both.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				granted, err := b.Lease(ctx, "pump", noon, limit, 7, name)
				mu.Lock()
				spent[name] += granted // all that is leased is spent at once
				if err != nil {
					faults++
				}
				if name == "near" && err != nil {
					t.Errorf("near was never cut off: %v", err)
				}
				mu.Unlock()
			}
		})
	}
	for range often(4, 12) {
		time.Sleep(25 * time.Millisecond)
		proxy.Cut()
		time.Sleep(15 * time.Millisecond)
		proxy.Mend()
	}
	close(stop)
	both.Wait()
	held := money.Amount(0)
	for name, s := range spent {
		leased, err := near.Leased(ctx, "pump", noon, name)
		if err != nil || leased < s {
			t.Errorf("%s spent %d of %d leased, %v", name, s, leased, err)
		}
		held += leased
	}
	rest, err := near.Lease(ctx, "pump", noon, limit, limit, "near")
	if err != nil || rest != limit-held {
		t.Errorf("%d are left, want %d, %v", rest, limit-held, err)
	}
	if faults == 0 || spent["far"] == 0 {
		t.Errorf("far spent %d and met %d faults; the test tested nothing", spent["far"], faults)
	}
}
