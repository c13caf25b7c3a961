package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/receipt"
	"coinop.dev/core/tab"
	"coinop.dev/gateway"
)

// Somebody without any credential buys a cup, and shows his receipt twice.
func TestBuyACup(t *testing.T) {
	t.Parallel()
	w := open(t)
	for _, v := range want[[]offer.Service](w, "", "GET", "/v1/services", nil) {
		if v.From != "" || v.Dynamic != "" {
			t.Errorf("strangers are told where %s comes from: %+v", v.Name, v)
		}
	}
	if v := want[[]offer.Service](w, w.token, "GET", "/v1/services", nil); len(v) != 6 || v[0].From != "machine" {
		t.Fatalf("%+v", v)
	}
	o := want[gateway.Offer](w, "", "POST", "/v1/quotes", object{"service": "coffee", "units": 2})
	if o.Due != 10*money.Sat || o.Token == "" || len(o.Ways) != 1 {
		t.Fatalf("%+v", o)
	}
	p := w.refused(http.StatusBadRequest, "", "POST", "/v1/orders", object{"token": o.Token})
	if !strings.Contains(p.Detail, "does not prove") {
		t.Errorf("%+v", p)
	}
	w.refused(http.StatusBadRequest, "", "POST", "/v1/orders", object{"token": o.Token, "preimage": "zz"})
	w.refused(http.StatusBadRequest, "", "POST", "/v1/orders", object{"token": "nonsense"})
	_, proof := w.pay(o)
	want[earn.Order](w, "", "POST", "/v1/orders", proof)
	if done := w.settled(o.Order); string(done.Payload) != "a cup of secret coffee" {
		t.Fatalf("%+v", done)
	}
	again := want[earn.Order](w, "", "POST", "/v1/orders", proof)
	if string(again.Payload) != "a cup of secret coffee" || w.acted.Load() != 1 {
		t.Fatalf("%+v, delivered %d times", again, w.acted.Load())
	}
	// Who only knows its number sees that it is settled, and no cup.
	seen := want[earn.Order](w, "", "GET", fmt.Sprintf("/v1/orders/%v?wait=1s", o.Order), nil)
	if seen.State != "settled" || seen.Payload != nil || seen.Ack != nil || seen.Buyer != "" {
		t.Errorf("%+v", seen)
	}
	w.refused(http.StatusBadRequest, "", "GET", fmt.Sprintf("/v1/orders/%v?wait=2m", o.Order), nil)
	w.refused(http.StatusUnprocessableEntity, "", "GET", "/v1/orders/12", nil)
}

func TestQuotesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	w := open(t)
	for body, status := range map[string]int{
		`{"service":"coffee","units":4}`:      http.StatusBadRequest, // three at most
		`{"service":"tea"}`:                   http.StatusBadRequest,
		`{"service":"coffee","units":0}`:      http.StatusUnprocessableEntity,
		`{"service":"coffee","units":-1}`:     http.StatusUnprocessableEntity,
		`{"service":"coffee","units":1.5}`:    http.StatusUnprocessableEntity,
		`{"service":"coffee","colour":"red"}`: http.StatusUnprocessableEntity,
		`{"service":`:                         http.StatusBadRequest,
		`[]`:                                  http.StatusUnprocessableEntity,
		``:                                    http.StatusBadRequest,
		`{"service":"` + strings.Repeat("x", 65) + `"}`: http.StatusUnprocessableEntity,
	} {
		w.refused(status, "", "POST", "/v1/quotes", body)
	}
	if p := w.refused(http.StatusUnprocessableEntity, "", "POST", "/v1/quotes", `{"service":{"password":"hunter2"}}`); strings.Contains(p.Detail, "hunter2") {
		t.Errorf("the value is in the problem: %s", p.Detail)
	}
}

// The free tier is each stranger's own, and a placed order needs no claim.
func TestFreeAndPlaced(t *testing.T) {
	t.Parallel()
	w := open(t)
	for i, free := range []bool{true, true, false} {
		if o := want[gateway.Offer](w, "", "POST", "/v1/quotes", object{"service": "news"}); o.Free != free {
			t.Errorf("page %d: %+v", i, o)
		}
	}
	if o := want[gateway.Offer](w, w.token, "POST", "/v1/quotes", object{"service": "news"}); !o.Free {
		t.Error("the operator's share was used by strangers")
	}
	o := want[gateway.Offer](w, "", "POST", "/v1/quotes", object{"service": "coffee", "place": true})
	w.pay(o)
	w.settled(o.Order)
}

// Ten wait for one order, and all are told.
func TestWaiting(t *testing.T) {
	t.Parallel()
	w := open(t)
	o := want[gateway.Offer](w, "", "POST", "/v1/quotes", object{"service": "coffee", "place": true})
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if o := want[earn.Order](w, "", "GET", fmt.Sprintf("/v1/orders/%v?wait=10s", o.Order), nil); o.State != "settled" {
				t.Errorf("%+v", o)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	w.pay(o)
	all.Wait()
	began := time.Now()
	id := want[gateway.Offer](w, "", "POST", "/v1/quotes", object{"service": "coffee"}).Order
	if o := want[earn.Order](w, "", "GET", fmt.Sprintf("/v1/orders/%v?wait=200ms", id), nil); o.State != "quoted" || time.Since(began) < 200*time.Millisecond {
		t.Errorf("%+v after %v", o, time.Since(began))
	}
}

func TestRefund(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.stuck.Store(true)
	o, proof := w.buy("water", 20)
	want[earn.Order](w, "", "POST", "/v1/orders", proof)
	back := want[earn.Order](w, w.token, "GET", fmt.Sprintf("/v1/orders/%v?wait=10s", o.Order), nil)
	if back.State != "refunded" || back.How != "credit" || back.Back != 20*money.Sat {
		t.Fatalf("%+v", back)
	}
	// The credit is a session; what is left of it is paid out once.
	s := want[tab.Balance](w, "", "POST", "/v1/sessions", proof)
	if s.Left != 20*money.Sat {
		t.Fatalf("%+v", s)
	}
	path := fmt.Sprintf("/v1/orders/%v/refund", o.Order)
	if p := w.refused(http.StatusForbidden, w.token, "POST", path, nil); p.Code != money.Refused.Error() {
		t.Errorf("%+v", p)
	}
	want[earn.Order](w, w.token, "POST", path, object{"to": o.Ways[0].Pay})
	w.refused(http.StatusForbidden, w.token, "POST", path, object{"to": o.Ways[0].Pay})
	seen := want[earn.Order](w, "", "GET", fmt.Sprintf("/v1/orders/%v", o.Order), nil)
	if strings.Contains(seen.How, "://") {
		t.Errorf("strangers see where the refund went: %+v", seen)
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	w := open(t)
	o := want[gateway.Offer](w, "", "POST", "/v1/quotes", object{"service": "request", "units": 100, "session": true})
	_, proof := w.pay(o)
	s := want[tab.Balance](w, "", "POST", "/v1/sessions", proof)
	if s.Left != 1000 || s.Tab != o.Order {
		t.Fatalf("%+v", s)
	}
	d, err := w.m.Shop.Draw(context.Background(), s.Tab, "request", 40)
	must(t, err)
	d.Settle(40)
	if s := want[tab.Balance](w, "", "GET", "/v1/sessions/"+o.Order.String(), nil); s.Left != 600 || s.In != 1000 {
		t.Errorf("%+v", s)
	}
	w.refused(http.StatusNotFound, "", "GET", "/v1/sessions/"+strings.Repeat("0", 32), nil)
	cup, proof := w.buy("coffee", 1)
	want[earn.Order](w, "", "POST", "/v1/orders", proof)
	w.settled(cup.Order)
	w.refused(http.StatusForbidden, "", "POST", "/v1/sessions", proof)
}

func TestPriceAndTestFire(t *testing.T) {
	t.Parallel()
	w := open(t)
	v, _ := w.m.Shop.Service("coffee")
	v.Price, v.From = 7*money.Sat, "http://169.254.169.254/"
	set := want[offer.Service](w, w.token, "PUT", "/v1/services/coffee", v)
	if set.Price != 7*money.Sat || set.From != "machine" {
		t.Errorf("%+v", set)
	}
	w.refused(http.StatusBadRequest, w.token, "PUT", "/v1/services/tea", v)
	v.Name = "tea"
	w.refused(http.StatusBadRequest, w.token, "PUT", "/v1/services/tea", v)
	if o := want[gateway.Offer](w, "", "POST", "/v1/quotes", object{"service": "coffee"}); o.Due != 7*money.Sat {
		t.Errorf("%+v", o)
	}
	o := want[earn.Order](w, w.token, "POST", "/v1/services/coffee/test", nil)
	if o = w.settled(o.ID); !o.Test || o.Paid != 0 {
		t.Errorf("%+v", o)
	}
}

// A receipt stands by itself: its signature, its goods, its payment.
func TestReceipt(t *testing.T) {
	t.Parallel()
	w := open(t)
	o, proof := w.buy("energy", 500)
	want[earn.Order](w, "", "POST", "/v1/orders", proof)
	w.settled(o.Order)
	path := fmt.Sprintf("/v1/orders/%v/receipt", o.Order)
	s := want[receipt.Sale](w, "", "POST", path, proof)
	must(t, s.Verify())
	if s.Seller != w.m.Key.Public() || s.Due != 166_667 || s.Currency != "EUR" || s.Rate != 90_000_000_000 || len(s.Goods) != 32 || s.Payment == nil || s.State != "settled" {
		t.Fatalf("%+v", s)
	}
	must(t, w.m.Purse.Verify(*s.Payment))
	if bare := want[receipt.Sale](w, "", "GET", path, nil); bare.Payment != nil || bare.Verify() != nil || string(bare.Goods) != string(s.Goods) {
		t.Errorf("%+v", bare)
	}
	for name, forge := range map[string]func(*receipt.Sale){
		"less":          func(s *receipt.Sale) { s.Paid-- },
		"another state": func(s *receipt.Sale) { s.State = "refunded" },
		"another rate":  func(s *receipt.Sale) { s.Rate++ },
		"other goods":   func(s *receipt.Sale) { s.Goods = append([]byte{}, s.Goods...); s.Goods[0]++ },
		"another order": func(s *receipt.Sale) { p := *s.Payment; p.Order[0]++; s.Payment = &p },
		"no signature":  func(s *receipt.Sale) { s.Sig = nil },
	} {
		bent := s
		if forge(&bent); bent.Verify() == nil {
			t.Errorf("%s is not noticed", name)
		}
	}
	w.refused(http.StatusNotFound, "", "GET", "/v1/orders/"+strings.Repeat("0", 32)+"/receipt", nil)
	other, _ := w.buy("coffee", 1)
	w.refused(http.StatusBadRequest, "", "POST", fmt.Sprintf("/v1/orders/%v/receipt", other.Order), proof)
}
