package gateway_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"path/filepath"

	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/macaroon"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
	"coinop.dev/engine"
	"coinop.dev/gateway"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/rail/fakerail"
	"coinop.dev/till"
	"coinop.dev/world/store/bbolt"
)

// A shop on one machine, which is also its own customer: play money moves between
// the two ends of a fake rail.
type market struct {
	t     *testing.T
	stop  func()
	shop  *gateway.Shop
	purse *purse.Purse
	till  *till.Till
	acted atomic.Int32 // by the device
	stuck atomic.Bool  // the device does not answer
}

var services = []offer.Service{
	{Name: "coffee", Unit: "cup", Price: 5 * money.Sat, Max: 3, From: "machine"},
	{Name: "request", Unit: "request", Price: 10, From: "http://upstream"},
	{Name: "energy", Unit: "Wh", Per: 1000, Fiat: offer.Fiat{Currency: "EUR", Micro: 300_000}},
	{Name: "water", Unit: "l", Price: money.Sat, Within: 300 * step.Millisecond},
	{Name: "news", Unit: "page", Price: money.Sat, Free: 2},
	{Name: "trial", Unit: "page", Price: money.Sat, Shadow: true},
}

func open(t *testing.T, file string, key keys.Secret) *market {
	t.Helper()
	store, err := bbolt.Open(file)
	must(t, err)
	ctx := t.Context()
	m := engine.New(ctx, engine.Options{Key: key, DB: store})
	k := &market{t: t, stop: sync.OnceFunc(func() { m.Close(); store.Close() })}
	t.Cleanup(k.stop)
	k.purse, err = purse.Open(ctx, m, purse.Options{})
	must(t, err)
	must(t, gateway.AddCores(ctx, m))
	device := func(ctx context.Context, d earn.Deliver) ([]byte, error) {
		if k.stuck.Load() {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		k.acted.Add(1)
		return []byte("a cup"), nil
	}
	k.till, err = till.Open(ctx, m, till.Options{Device: device, Journal: true})
	must(t, err)
	var g rail.Registry
	g.Register(fakerail.Scheme, fakerail.Driver{})
	env := rail.Env{Machine: m, Rail: func(string) *rail.Rail { return nil }}
	pays, err := g.Open(ctx, "fake:?balance=1000sat", env)
	must(t, err)
	must(t, k.purse.Hold(ctx, pays))
	earns, err := g.Open(ctx, "fake:", env)
	must(t, err)
	k.shop, err = gateway.Open(ctx, gateway.Options{
		Machine: m, Purse: k.purse, Services: services, Rails: func() []*rail.Rail { return []*rail.Rail{pays, earns} },
		Rates: []*gateway.RateSource{{Currency: "EUR", Fixed: "90000"}},
	})
	must(t, err)
	return k
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t *testing.T) keys.Secret {
	key, err := keys.NewSecret(rand.Reader)
	must(t, err)
	return key
}

func (k *market) quote(a gateway.Ask) gateway.Offer {
	k.t.Helper()
	o, err := k.shop.Quote(k.t.Context(), a)
	must(k.t, err)
	return o
}

// pay pays an offer as a customer would, with its own purse.
func (k *market) pay(o gateway.Offer) gateway.Proof {
	k.t.Helper()
	r, err := k.purse.Pay(k.t.Context(), money.Order{ID: o.Order, To: rail.Payee(o.Ways[0].Pay), Amount: o.Due})
	must(k.t, err)
	return gateway.Proof{Token: o.Token, Receipt: &r, Buyer: "test"}
}

func (k *market) wait(id money.OrderID, state string) earn.Order {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 10*time.Second)
	defer cancel()
	o, err := k.shop.Wait(ctx, id, func(o earn.Order) bool { return o.State == state })
	if err != nil {
		k.t.Fatalf("order %+v is not %s: %v", o, state, err)
	}
	return o
}

func TestQuotePayClaim(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t))
	o := k.quote(gateway.Ask{Service: "coffee", Units: 2})
	if o.Due != 10*money.Sat || len(o.Ways) != 1 {
		t.Fatalf("offer %+v", o)
	}
	if _, err := k.shop.Claim(t.Context(), gateway.Proof{Token: o.Token}); !errors.Is(err, money.Invalid) {
		t.Fatalf("claimed with the token alone: %v", err)
	}
	proof := k.pay(o)
	if k.acted.Load() != 0 {
		t.Fatal("delivered before anybody said what the money is for")
	}
	if _, err := k.shop.Claim(t.Context(), proof); err != nil {
		t.Fatal(err)
	}
	done := k.wait(o.Order, "settled")
	if string(done.Payload) != "a cup" || done.Due != 10*money.Sat || done.Paid != done.Due {
		t.Fatalf("order %+v", done)
	}
	// The same proof again is the same cup.
	again, err := k.shop.Claim(t.Context(), proof)
	if err != nil || string(again.Payload) != "a cup" || k.acted.Load() != 1 {
		t.Fatalf("%+v, %v, delivered %d times", again, err, k.acted.Load())
	}
	// And no proof of anything else.
	other := k.quote(gateway.Ask{Service: "coffee", Units: 1})
	proof.Token = other.Token
	if _, err := k.shop.Claim(t.Context(), proof); !errors.Is(err, money.Invalid) {
		t.Fatalf("a receipt of another order: %v", err)
	}
}

func TestTokens(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t))
	o := k.quote(gateway.Ask{Service: "coffee", Units: 1})
	proof := k.pay(o)
	m, err := macaroon.Parse(o.Token)
	must(t, err)
	for name, caveat := range map[string]string{
		"a weaker caveat": "expires=99999999999", "another quote": "quote=AAAA", "an unknown one": "colour=red",
	} {
		narrowed, err := m.Narrow(caveat)
		must(t, err)
		proof.Token = narrowed.Text()
		if _, err := k.shop.Claim(t.Context(), proof); !errors.Is(err, money.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	narrowed, err := m.Narrow("expires=1")
	must(t, err)
	proof.Token = narrowed.Text()
	if _, err := k.shop.Claim(t.Context(), proof); !errors.Is(err, money.Refused) {
		t.Errorf("expired: %v", err)
	}
	proof.Token = strings.ToUpper(o.Token)
	if _, err := k.shop.Claim(t.Context(), proof); !errors.Is(err, money.Invalid) {
		t.Errorf("altered: %v", err)
	}
}

// A shop that was stopped between payment and claim knows the order.
func TestClaimAfterRestart(t *testing.T) {
	disk, key := filepath.Join(t.TempDir(), "state"), newKey(t)
	k := open(t, disk, key)
	o := k.quote(gateway.Ask{Service: "coffee", Units: 1})
	proof := k.pay(o)
	k.stop()
	k = open(t, disk, key)
	_, err := k.shop.Claim(t.Context(), proof)
	must(t, err)
	k.wait(o.Order, "settled")
}

func TestSession(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t))
	o := k.quote(gateway.Ask{Service: "request", Units: 10, Tab: true})
	if o.Due != 100 {
		t.Fatalf("due %v", o.Due)
	}
	proof := k.pay(o)
	s, err := k.shop.Session(t.Context(), proof)
	must(t, err)
	d, err := k.shop.Draw(t.Context(), s.Tab, "request", 4)
	must(t, err)
	if used := d.Settle(1); used != 10 || d.Left != 90 {
		t.Fatalf("used %v, left %v", used, d.Left)
	}
	// Twelve want the nine that are left, at once.
	var served, short atomic.Int32
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			d, err := k.shop.Draw(t.Context(), s.Tab, "request", 1)
			var s *tab.Short
			switch {
			case err == nil:
				served.Add(1)
				d.Settle(1)
			case errors.As(err, &s) && s.Left == 0 && errors.Is(err, money.Refused):
				short.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if served.Load() != 9 || short.Load() != 3 {
		t.Fatalf("%d served and %d refused of 12, with 9 paid", served.Load(), short.Load())
	}
	// Paid once more, the order tops it up.
	b, _, err := k.shop.Balance(t.Context(), s.Tab)
	if err != nil || b.Left != 0 || b.In != 100 {
		t.Fatalf("%+v, %v", b, err)
	}
}

// A price that nothing can be quoted at is not taken.
func TestNoPriceInACurrencyWithoutARate(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t))
	request, _ := k.shop.Service("request")
	request.Price, request.Fiat = 0, offer.Fiat{Currency: "USD", Micro: 20_000}
	if err := k.shop.SetService(t.Context(), request); !errors.Is(err, money.Invalid) {
		t.Fatalf("a price in a currency without a rate: %v", err)
	}
	k.quote(gateway.Ask{Service: "request", Units: 1})
}

// What was bought at a price is had at that price.
func TestSessionKeepsItsPrice(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t))
	s, err := k.shop.Session(t.Context(), k.pay(k.quote(gateway.Ask{Service: "request", Units: 10, Tab: true})))
	must(t, err)
	request, _ := k.shop.Service("request")
	request.Price = 1000
	must(t, k.shop.SetService(t.Context(), request))
	d, err := k.shop.Draw(t.Context(), s.Tab, "request", 10)
	must(t, err)
	if used := d.Settle(10); used != 100 {
		t.Fatalf("ten requests that were bought for 100 msat cost %v", used)
	}
}

// What is not delivered in time is credit, and credit buys something else or is
// paid out, once.
func TestNotDelivered(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t))
	k.stuck.Store(true)
	o := k.quote(gateway.Ask{Service: "water", Units: 20})
	proof := k.pay(o)
	_, err := k.shop.Claim(t.Context(), proof)
	must(t, err)
	back := k.wait(o.Order, "refunded")
	if back.How != "credit" || back.Back != 20*money.Sat {
		t.Fatalf("%+v", back)
	}
	s, err := k.shop.Session(t.Context(), proof)
	must(t, err)
	d, err := k.shop.Draw(t.Context(), s.Tab, "request", 100)
	must(t, err)
	d.Settle(100)

	before, err := k.purse.Summary(t.Context())
	must(t, err)
	if _, err := k.shop.Refund(t.Context(), o.Order, ""); !errors.Is(err, money.Refused) {
		t.Fatalf("%v", err)
	}
	if _, err := k.shop.Refund(t.Context(), o.Order, o.Ways[0].Pay); err != nil {
		t.Fatal(err)
	}
	after, err := k.purse.Summary(t.Context())
	must(t, err)
	if paid := after.Paid - before.Paid; paid != 19*money.Sat {
		t.Fatalf("paid out %v of the 19 sat that were left", paid)
	}
	if _, err := k.shop.Refund(t.Context(), o.Order, o.Ways[0].Pay); !errors.Is(err, money.Refused) {
		t.Fatalf("paid out twice: %v", err)
	}
}

func TestRefundToWhereItWasSaid(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t))
	k.stuck.Store(true)
	o := k.quote(gateway.Ask{Service: "water", Units: 2})
	proof := k.pay(o)
	proof.Refund = rail.Payee(o.Ways[0].Pay)
	_, err := k.shop.Claim(t.Context(), proof)
	must(t, err)
	if back := k.wait(o.Order, "refunded"); back.How != proof.Refund {
		t.Fatalf("%+v", back)
	}
}

func TestPrices(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t))
	// 500 Wh at 0.30 EUR/kWh are 0.15 EUR: 10^11 msat / 90,000 EUR * 0.15.
	if o := k.quote(gateway.Ask{Service: "energy", Units: 500}); o.Due != 166_667 || o.Rate.Currency != "EUR" || o.Rate.Source != "fixed" {
		t.Errorf("%+v", o)
	}
	if _, err := k.shop.Quote(t.Context(), gateway.Ask{Service: "coffee", Units: 4}); !errors.Is(err, money.Invalid) {
		t.Errorf("four cups: %v", err)
	}
	for i, free := range []bool{true, true, false} {
		if o := k.quote(gateway.Ask{Service: "news", Units: 1, Buyer: "ann"}); o.Free != free {
			t.Errorf("page %d: %+v", i, o)
		}
	}
	o := k.quote(gateway.Ask{Service: "trial", Units: 7})
	if sh := k.shop.Shadows(); !o.Free || len(sh) != 1 || sh[0].Due != 7*money.Sat {
		t.Errorf("%+v, %+v", o, sh)
	}
	coffee, _ := k.shop.Service("coffee")
	coffee.Price = 7 * money.Sat
	must(t, k.shop.SetService(t.Context(), coffee))
	if o := k.quote(gateway.Ask{Service: "coffee", Units: 1}); o.Due != 7*money.Sat {
		t.Errorf("%+v", o)
	}
}

func TestFreeAndTestAreDelivered(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t))
	o := k.quote(gateway.Ask{Service: "news", Units: 1, Buyer: "bob"})
	_, err := k.shop.Claim(t.Context(), gateway.Proof{Token: o.Token})
	must(t, err)
	k.wait(o.Order, "settled")
	test, err := k.shop.TestFire(t.Context(), "coffee", 1)
	must(t, err)
	if done := k.wait(test.ID, "settled"); !done.Test || done.Paid != 0 {
		t.Fatalf("%+v", done)
	}
}
