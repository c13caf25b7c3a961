package console_test

import (
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/money"
)

// A person before a machine sees the price, pays with any wallet, and the machine
// acts without another word; what it gave is shown to that browser only.
func TestPay(t *testing.T) {
	t.Parallel()
	w := open(t)
	b := w.browser()
	_, body := b.get("/pay/coffee")
	contains(t, body, "A cup of coffee", "1.20 EUR", "1,333.334 sat", "your money goes back")
	_, body = b.get("/pay/coffee?units=99")
	contains(t, body, "3.60 EUR")
	res, body := b.post("/pay/coffee", "units", "2")
	if res.StatusCode != http.StatusSeeOther {
		t.Fatal(res.Status, short(body))
	}
	at := res.Header.Get("Location")
	_, body = b.get(at)
	contains(t, body, "Waiting for your payment", "2 × cup", "2.40 EUR", `<svg class="qr"`, `http-equiv="refresh"`)
	if strings.Contains(body, "/console/orders") || strings.Contains(body, "operator") {
		t.Error("the page shows what is the owner's business")
	}
	found := regexp.MustCompile(`href="(fake:[^"]+)"`).FindStringSubmatch(body)
	if found == nil {
		t.Fatal(short(body))
	}
	uri := html.UnescapeString(found[1])
	var id money.OrderID
	must(t, id.UnmarshalText([]byte(at[strings.LastIndex(at, "/")+1:])))

	changed := make(chan *http.Response)
	go func() {
		res, _ := b.get(at + "?seen=quoted")
		changed <- res
	}()
	time.Sleep(20 * time.Millisecond)
	began := time.Now()
	w.pay(id, uri, 2666_667)
	if res := <-changed; res.StatusCode != http.StatusOK || time.Since(began) > time.Second {
		t.Errorf("the page that waits: %s after %v", res.Status, time.Since(began))
	}
	w.filed(id, "settled")
	if w.acted.Load() != 1 {
		t.Fatalf("the machine acted %d times", w.acted.Load())
	}
	_, body = b.get(at)
	contains(t, body, "Delivered. Thank you.", "Take your coffee")
	if strings.Contains(body, `http-equiv="refresh"`) {
		t.Error("a page that is done looks again")
	}
	if _, body := w.browser().get(at); strings.Contains(body, "Take your coffee") {
		t.Error("another browser sees what was delivered")
	}
	if res, _ := b.get("/pay/wash/" + id.String()); res.StatusCode != http.StatusNotFound {
		t.Errorf("an order of another service: %s", res.Status)
	}
}

func TestPayFreeAndUnknown(t *testing.T) {
	t.Parallel()
	w := open(t)
	b := w.browser()
	res, body := b.post("/pay/trial", "units", "1")
	if res.StatusCode != http.StatusSeeOther {
		t.Fatal(res.Status, short(body))
	}
	for end := time.Now().Add(3 * time.Second); w.acted.Load() == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	_, body = b.get(res.Header.Get("Location"))
	contains(t, body, "Thank you")
	for path, want := range map[string]int{
		"/pay/nothing": http.StatusNotFound, "/pay/coffee/none": http.StatusNotFound, "/pay/coffee/" + strings.Repeat("ab", 16): http.StatusNotFound,
	} {
		if res, body := b.get(path); res.StatusCode != want || strings.Contains(body, "money:") {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
}

// What a machine does not deliver is said to its buyer.
func TestPayNotDelivered(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.stuck.Store(true)
	v, _ := w.shop.Service("coffee")
	v.Within = 200
	must(t, w.shop.SetService(t.Context(), v))
	b := w.browser()
	res, _ := b.post("/pay/coffee", "units", "1")
	at := res.Header.Get("Location")
	_, body := b.get(at)
	found := regexp.MustCompile(`href="(fake:[^"]+)"`).FindStringSubmatch(body)
	var id money.OrderID
	must(t, id.UnmarshalText([]byte(at[strings.LastIndex(at, "/")+1:])))
	w.pay(id, html.UnescapeString(found[1]), 1333_334)
	w.filed(id, "refunded")
	_, body = b.get(at)
	contains(t, body, "The machine could not deliver.", "kept as credit")
}

// Offers are made for a person, and not for a flood.
func TestPayFlood(t *testing.T) {
	t.Parallel()
	w := open(t)
	b := w.browser()
	made, refused := 0, 0
	for range 30 {
		switch res, _ := b.post("/pay/wash", "units", "1"); res.StatusCode {
		case http.StatusSeeOther:
			made++
		case http.StatusTooManyRequests:
			refused++
		}
	}
	if made < 20 || made > 22 || refused < 8 {
		t.Errorf("%d offers made, %d refused", made, refused)
	}
}
