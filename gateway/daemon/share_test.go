package daemon_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/world/books"
	"coinop.dev/world/store/postgres/pgtest"
)

// A pair is two gateways that share a fleet and their books, which are in
// PostgreSQL. The first keeps its records there too; the second has its own, and
// a cable to the database that can be cut.
type pair struct {
	t     *testing.T
	a, b  *process
	cable *pgtest.Proxy
}

func newPair(t *testing.T) *pair {
	t.Helper()
	uri := pgtest.Start(t)
	w := &pair{t: t, cable: pgtest.NewProxy(t, uri)}
	secret := filepath.Join(t.TempDir(), "fleet.secret")
	digest := keys.Digest("test", []byte(t.Name()))
	if err := os.WriteFile(secret, []byte(hex.EncodeToString(digest[:])), 0o600); err != nil {
		t.Fatal(err)
	}
	fleet := func(n int) string { return fmt.Sprintf("[fleet]\nsecret_file = %q\nnumber = %d\n", secret, n) }
	// The first one's books are not named: they are in the store's database.
	w.a = newProcess(t, "a", fmt.Sprintf("store = %q\n", pgtest.Machine(uri, "a"))+purse, fleet(0)+shelf)
	w.b = newProcess(t, "b", fmt.Sprintf("store = \"pebble://%s\"\nbooks = %q\n", filepath.Join(w.b0(), "db"), w.cable.URI)+purse, fleet(1)+shelf)
	var both sync.WaitGroup
	for _, p := range []*process{w.a, w.b} {
		both.Go(func() {
			if err := p.try(); err != nil {
				t.Error(err)
			}
		})
	}
	if both.Wait(); t.Failed() {
		t.FailNow()
	}
	return w
}

// b0 is a folder for the second one's store.
func (w *pair) b0() string { return w.t.TempDir() }

// meter takes a device into the fleet of both, and returns its credential.
func (w *pair) meter(name string, budget money.Amount) (credential string) {
	w.t.Helper()
	w.a.must("POST", "/v1/devices", object{"name": name, "limits": object{"budget_msat": uint64(budget)}}, nil)
	var card struct{ Credential string }
	w.a.must("POST", "/v1/devices/"+name+"/credential", nil, &card)
	within(w.t, 5*time.Second, "the other gateway knows "+name, func() bool { return w.b.call("GET", "/v1/devices/"+name, nil, nil) == nil })
	return card.Credential
}

// spend pays through a gateway with a device's credential.
func spend(p *process, credential string, amount money.Amount) error {
	return p.as(credential, "POST", "/v1/payments", object{"to": "fake://" + p.at("node"), "amount_msat": uint64(amount)}, nil)
}

// exhaust pays with many requests at once through each gateway until all of them
// are refused, and returns what went out. Answers that never came are counted by
// nobody: paid asks the purses.
func (w *pair) exhaust(credential string, each money.Amount, through ...*process) (sum money.Amount) {
	w.t.Helper()
	var total atomic.Uint64
	var all sync.WaitGroup
	for _, p := range through {
		for range 6 {
			all.Go(func() {
				for w.t.Context().Err() == nil {
					err := spend(p, credential, each)
					if is(err, "QUOTA_EXCEEDED") {
						return
					}
					if err != nil {
						w.t.Errorf("%s: %v", filepath.Base(p.dir), err)
						return
					}
					total.Add(uint64(each))
				}
			})
		}
	}
	all.Wait()
	return money.Amount(total.Load())
}

func (w *pair) paid() money.Amount { return w.a.status().Purse.Paid + w.b.status().Purse.Paid }

// One budget, spent through two gateways at once, is not overspent, and all of it
// can be spent.
func TestTwoGatewaysShareABudget(t *testing.T) {
	t.Parallel()
	w := newPair(t)
	const budget, each = 500 * money.Sat, 7 * money.Sat
	credential := w.meter("meter", budget)
	sum := w.exhaust(credential, each, w.a, w.b)
	if paid := w.paid(); paid != sum || paid > budget || paid+2*each <= budget {
		t.Errorf("of a budget of %v, %v went out and %v was answered for", budget, paid, sum)
	}
	var no *refusal
	if err := spend(w.b, credential, each); !errors.As(err, &no) || no.Limit != "total" || no.Left == nil || *no.Left >= each {
		t.Errorf("the refusal %+v does not say which limit, and what is left", err)
	}

	// What both sell is in the books of both.
	one, _, _ := w.a.buy("tea")
	two, _, _ := w.b.buy("tea")
	for _, p := range []*process{w.a, w.b} {
		within(t, 5*time.Second, "both orders are in both books", func() bool {
			var page struct{ Orders []books.Order }
			p.must("GET", "/v1/orders?state=settled", nil, &page)
			by := map[money.OrderID]string{}
			for _, o := range page.Orders {
				by[o.ID] = o.Gateway
			}
			return by[one] != "" && by[two] != "" && by[one] != by[two]
		})
	}

	// A device that is revoked at one is at the other.
	credential = w.meter("thief", budget)
	if err := spend(w.b, credential, each); err != nil {
		t.Fatal(err)
	}
	w.a.must("DELETE", "/v1/devices/thief", nil, nil)
	start := time.Now()
	if err := spend(w.a, credential, each); !is(err, "UNAUTHORIZED") {
		t.Errorf("where it was revoked: %v", err)
	}
	within(t, 2*time.Second, "a revoked device is refused at the other gateway", func() bool { return is(spend(w.b, credential, each), "UNAUTHORIZED") })
	t.Logf("a revocation took %v to the other gateway", time.Since(start).Round(time.Millisecond))

	// A gateway that stops leaves what it has leased to the other one.
	credential = w.meter("heir", budget)
	if err := spend(w.b, credential, each); err != nil {
		t.Fatal(err)
	}
	if err := w.b.stop(); err != nil {
		t.Errorf("stopped: %v", err)
	}
	if rest := w.exhaust(credential, each, w.a); rest+2*each <= budget {
		t.Errorf("after %v at a gateway that has stopped, the other one could spend %v of %v", each, rest, budget)
	}
}

// A gateway that is cut off from the database spends what it has leased and then
// refuses, saying why; when it is back both go on.
func TestAGatewayThatIsCutOff(t *testing.T) {
	t.Parallel()
	w := newPair(t)
	const budget, each = 1000 * money.Sat, 10 * money.Sat
	for _, how := range []struct {
		name string
		cut  func()
	}{{"cut", w.cable.Cut}, {"mute", w.cable.Mute}}[:often(1, 2)] {
		credential, before := w.meter(how.name, budget), w.paid()
		if err := spend(w.b, credential, each); err != nil {
			t.Fatal(err)
		}
		how.cut()
		var no *refusal
		spent := each
		for err := error(nil); err == nil; {
			if err = spend(w.b, credential, each); err == nil {
				spent += each
			} else if !errors.As(err, &no) || no.Code != "QUOTA_EXCEEDED" || no.Limit != "total" || no.Left == nil || *no.Left != 0 {
				t.Fatalf("%s: %v, %+v", how.name, err, no)
			}
		}
		if lease := budget / 10; spent != lease {
			t.Errorf("%s: it spent %v of a lease of %v", how.name, spent, lease)
		}
		if !strings.Contains(no.Detail, "does not answer") {
			t.Errorf("%s: the refusal does not say that the database is away: %s", how.name, no.Detail)
		}
		w.b.buy("tea") // it still sells
		before += 5 * money.Sat
		rest := w.exhaust(credential, each, w.a)
		if spent+rest != budget {
			t.Errorf("%s: %v here and %v at the other one, of %v", how.name, spent, rest, budget)
		}
		w.cable.Mend()
		next := w.meter(how.name+"-next", budget)
		within(t, 15*time.Second, "the gateway that was cut off pays again", func() bool { return spend(w.b, next, each) == nil })
		if err := spend(w.b, credential, each); !is(err, "QUOTA_EXCEEDED") {
			t.Errorf("%s: of a budget that is used up: %v", how.name, err)
		}
		if paid := w.paid() - before; paid != budget+each {
			t.Errorf("%s: %v went out", how.name, paid)
		}
		within(t, 40*time.Second, "what it sold meanwhile is in the books", func() bool {
			var page struct{ Orders []books.Order }
			w.a.must("GET", "/v1/orders?state=settled&gateway="+w.b.at("node")[:32], nil, &page)
			return len(page.Orders) > 0
		})
	}
}

// Gateways that are killed while they spend, both of them, do not overspend; one
// that stops gives back what it has not spent.
func TestBudgetsOfKilledGateways(t *testing.T) {
	t.Parallel()
	w := newPair(t)
	const budget, each = 600 * money.Sat, 3 * money.Sat
	credential := w.meter("meter", budget)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for _, p := range []*process{w.a, w.b} {
		for range 4 {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := spend(p, credential, each); err != nil {
						time.Sleep(5 * time.Millisecond)
					}
				}
			})
		}
	}
	for range often(2, 20) {
		for _, p := range []*process{w.a, w.b} {
			time.Sleep(100 * time.Millisecond)
			p.kill()
			p.start()
		}
	}
	time.Sleep(100 * time.Millisecond)
	close(stop)
	all.Wait()
	if err := w.b.stop(); err != nil {
		t.Errorf("stopped: %v", err)
	}
	w.b.start()
	w.exhaust(credential, each, w.a, w.b)
	// A payment that was reserved and never began stays on the budget: at most
	// those that were under way at a kill.
	paid, lost := w.paid(), money.Amount(often(2, 20)*2*4)*each
	if paid > budget || paid+lost < budget {
		t.Errorf("%v of a budget of %v went out", paid, budget)
	}
	t.Logf("%v of %v", paid, budget)
}
