package console_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/world/books"
)

var paths = []string{"", "orders", "services", "services/coffee", "devices", "devices/charger-1", "channels", "sessions", "webhooks", "statement"}

// fill gives a world something to show.
func (w *world) fill() (settled money.OrderID) {
	w.device("charger-1", 1, 5000*money.Sat)
	settled = w.buy("coffee", 2, "http/203.0.113.9", "settled")
	w.buy("wash", 5, "mqtt/hall", "settled")
	w.buy("trial", 3, "http/203.0.113.9", "settled")
	w.session("request", 1000)
	must(w.t, w.books.PutEndpoint(w.t.Context(), books.Endpoint{ID: "shop", URL: "https://example.org/hook", Secret: "not to be seen", Types: []string{"order."}}))
	return settled
}

// Every page is whole, says what it should, and has the headers of a careful server
// and no script or style in it.
func TestPages(t *testing.T) {
	t.Parallel()
	w := open(t)
	id := w.fill()
	b := w.login("all")
	says := map[string][]string{
		"":                  {"Earned in 7 days", "2.59 EUR", "Value at risk", "0.14 EUR", "Can receive 420.30 EUR (467,000 sat) now over Lightning.", "Can receive and pay nothing over one-way channels until a channel is opened."},
		"orders":            {"coffee", "settled", "http/203.0.113.9", "CSV"},
		"services":          {"A cup of coffee", "1.20 EUR for each cup", "0.30 EUR for 1,000 Wh", "shadow: counted, not charged", "15 sat for 3 units"},
		"services/coffee":   {"Set the price", `value="1.20 EUR"`, "Fire a test", "http://gate/pay/coffee"},
		"devices":           {"charger-1", "not seen yet", "5,000 sat", "Make a claim code"},
		"devices/charger-1": {"of 5,000 sat", "hall-2", "Revoke", "at most 1,000 sat at once"},
		"channels":          {"Lightning", "can come in 467,000 sat", "Can receive any amount over play money."},
		"sessions":          {"1 prepaid session open, with 10 sat left", "open"},
		"webhooks":          {"https://example.org/hook", "order."},
		"statement":         {"coffee", "Together", "CSV"},
	}
	bare := regexp.MustCompile(`<script(?:[^>]*)>[^<]|<style|\sstyle="|\son[a-z]+="|https?://(?:cdn|unpkg)`)
	for _, path := range append(paths, "orders/"+id.String()) {
		began := time.Now()
		res, body := b.get("/console/" + path)
		took := time.Since(began)
		if res.StatusCode != http.StatusOK || took > 500*time.Millisecond {
			t.Errorf("%s: %s in %v", path, res.Status, took)
		}
		contains(t, body, says[path]...)
		if at := bare.FindString(body); at != "" {
			t.Errorf("%s: has %q in it", path, at)
		}
		if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if strings.Contains(body, "not to be seen") {
			t.Errorf("%s shows a secret", path)
		}
	}
	_, body := b.get("/console/orders/" + id.String())
	contains(t, body, "Paid: 2,666.667 sat by http/203.0.113.9", "Take your coffee", "Give the money back", id.String())
	if res, body := b.get("/console/orders/" + strings.Repeat("0", 32)); res.StatusCode != http.StatusNotFound || !strings.Contains(body, "There is no order with that number") {
		t.Errorf("an order that is not there: %s", res.Status)
	}
	if _, body := b.get("/console/orders?state=failed"); !strings.Contains(body, "No order fits") {
		t.Error(short(body))
	}
	if res, body := b.get("/console/export?service=coffee"); !strings.HasPrefix(body, "time,order,") || strings.Count(body, "\n") != 2 || !strings.Contains(res.Header.Get("Content-Disposition"), "orders.csv") {
		t.Errorf("export: %s", body)
	}
}

// An empty gateway says on every page what to do next.
func TestNothingYet(t *testing.T) {
	t.Parallel()
	b := open(t).login("all")
	for path, says := range map[string]string{
		"": "No orders yet.", "orders": "fire a test", "devices": "Add the first one below", "sessions": "Nobody has paid ahead yet",
		"webhooks": "No webhook is set", "statement": "Nothing was sold in",
	} {
		if _, body := b.get("/console/" + path); !strings.Contains(body, says) {
			t.Errorf("%s: %s", path, short(body))
		}
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	w := open(t)
	b := w.browser()
	for _, path := range append(paths, "events", "export", "lab", "orders/00") {
		if res, _ := b.get("/console/" + path); res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/console/login" {
			t.Errorf("%s without a login: %s", path, res.Status)
		}
	}
	if res, body := b.post("/console/login", "token", "pay"); res.StatusCode != http.StatusForbidden || !strings.Contains(body, "scope read") {
		t.Errorf("a token that may not look: %s", res.Status)
	}
	res, _ := b.post("/console/login", "token", " all\n")
	k := res.Cookies()
	if len(k) != 1 || !k[0].HttpOnly || k[0].SameSite != http.SameSiteStrictMode || k[0].Path != "/console/" || strings.Contains(k[0].Value, "all") {
		t.Fatalf("cookie %+v", k)
	}
	old := b.jar["coinop-console"]
	if res, _ := b.get("/console/"); res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	b = w.login("all")
	if res, _ := b.post("/console/logout"); res.StatusCode != http.StatusSeeOther || len(b.jar) != 0 {
		t.Errorf("logout: %s, %v", res.Status, b.jar)
	}
	b.jar["coinop-console"] = old
	w.mu.Lock()
	w.revoked["all"] = true
	w.mu.Unlock()
	if res, _ := b.get("/console/"); res.StatusCode != http.StatusSeeOther {
		t.Errorf("a token that was revoked still looks: %s", res.Status)
	}
	again := httptest.NewRequest("GET", "http://gate/console/orders", nil) // by a page that draws itself again
	again.Header.Set("HX-Request", "true")
	b.jar["coinop-console"] = old
	if res, _ := b.do(again); res.StatusCode != http.StatusUnauthorized || res.Header.Get("HX-Redirect") != "/console/login" {
		t.Errorf("a page of a token that was revoked draws itself again: %s", res.Status)
	}
	w.mu.Lock()
	w.revoked["all"] = false
	w.mu.Unlock()

	var last *http.Response
	for range 6 {
		last, _ = b.post("/console/login", "token", "guess")
	}
	if last.StatusCode != http.StatusTooManyRequests || last.Header.Get("Retry-After") == "" {
		t.Errorf("six guesses: %s", last.Status)
	}
	if res, _ := b.post("/console/login", "token", "all"); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the seventh: %s", res.Status)
	}
}

// A link logs in once.
func TestLoginOnce(t *testing.T) {
	t.Parallel()
	w := open(t)
	path, code, _ := strings.Cut(w.console.LoginOnce("look"), "#")
	if res, _ := w.browser().get(path); res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	for i, want := range []int{http.StatusSeeOther, http.StatusUnauthorized} {
		if res, _ := w.browser().post("/console/login", "token", code); res.StatusCode != want {
			t.Errorf("try %d: %s", i, res.Status)
		}
	}
	for range 40 { // more than are kept
		code = w.console.LoginOnce("look")
	}
	if _, code, _ = strings.Cut(code, "#"); len(code) < 20 {
		t.Errorf("code %q", code)
	}
}

// At most so many browsers are logged in; the one that was quiet longest goes.
func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	w := open(t)
	first := w.login("look")
	time.Sleep(2 * time.Millisecond)
	var last *browser
	for range 64 {
		last = w.browser()
		last.post("/console/login", "token", "look")
	}
	if res, _ := first.get("/console/"); res.StatusCode != http.StatusSeeOther {
		t.Errorf("the first of 65: %s", res.Status)
	}
	if res, _ := last.get("/console/"); res.StatusCode != http.StatusOK {
		t.Errorf("the last of 65: %s", res.Status)
	}
}

// Nothing is done for another site, for a form of another session, or for a token
// without the scope; and whoever may not do something sees no button for it.
func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	w := open(t)
	id := w.fill()
	forms := map[string][]string{
		"/console/orders/" + id.String() + "/refund": {"sure", "yes"},
		"/console/services/coffee":                   {"price", "1 sat"},
		"/console/services/coffee/test":              {"units", "1"},
		"/console/devices":                           {"name", "new"},
		"/console/devices/charger-1/budget":          {"budget", ""},
		"/console/devices/charger-1/revoke":          {"sure", "yes"},
		"/console/webhooks/redeliver":                {"endpoint", "shop", "event", "1"},
	}
	acted := w.acted.Load()
	all, look, fire := w.login("all"), w.login("look"), w.login("fire")
	for path, fields := range forms {
		if res, _ := look.post(path, fields...); res.StatusCode != http.StatusForbidden {
			t.Errorf("%s by a token that may look: %s", path, res.Status)
		}
		stolen := &browser{w: w, jar: all.jar, form: look.form}
		if res, _ := stolen.post(path, fields...); res.StatusCode != http.StatusForbidden {
			t.Errorf("%s with another session's form: %s", path, res.Status)
		}
		r := httptest.NewRequest("POST", "http://gate"+path, strings.NewReader("form="+all.form+"&sure=yes"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		if res, body := all.do(r); res.StatusCode != http.StatusForbidden || !strings.Contains(body, "Another web site") {
			t.Errorf("%s from another site: %s", path, res.Status)
		}
		if res, _ := all.get(path); path != "/console/devices" && path != "/console/services/coffee" && res.StatusCode == http.StatusOK {
			t.Errorf("%s by GET: %s", path, res.Status)
		}
	}
	if w.acted.Load() != acted {
		t.Fatal("something was fired")
	}
	for _, path := range append(paths, "orders/"+id.String()) {
		if _, body := look.get("/console/" + path); strings.Count(body, `method="post"`) != 1 { // log out
			t.Errorf("%s: a token that may look sees %d forms", path, strings.Count(body, `method="post"`))
		}
	}
	if res, _ := fire.post("/console/services/coffee/test", "units", "1"); res.StatusCode != http.StatusSeeOther {
		t.Errorf("test fire by a token that may sell: %s", res.Status)
	}
}

// What an operator does is done, and said.
func TestActions(t *testing.T) {
	t.Parallel()
	w := open(t)
	id := w.fill()
	b := w.login("all")
	done := func(res *http.Response, body, says string) {
		t.Helper()
		if res.StatusCode != http.StatusSeeOther {
			t.Fatalf("%s: %s", res.Status, short(body))
		}
		_, body = b.get(res.Header.Get("Location"))
		contains(t, body, says)
	}
	bad := func(res *http.Response, body, says string) {
		t.Helper()
		if res.StatusCode != http.StatusUnprocessableEntity && res.StatusCode != http.StatusConflict {
			t.Errorf("%s", res.Status)
		}
		contains(t, body, says)
	}
	res, body := b.post("/console/services/wash", "price", "0.05 EUR", "per", "1", "max", "30", "title", "Wash & go", "free", "")
	done(res, body, "Wash &amp; go costs 0.0500 EUR for each minute from now on.")
	if v, _ := w.shop.Service("wash"); v.Fiat.Micro != 50_000 || v.Price != 0 || v.Max != 30 {
		t.Errorf("%+v", v)
	}
	res, body = b.post("/console/services/wash", "price", "five")
	bad(res, body, "such as 5 sat")
	res, body = b.post("/console/services/wash", "price", "5 USD")
	bad(res, body, "no rate for USD")
	res, body = b.post("/console/services/wash", "price", "5 sat", "min", "9", "max", "3")
	bad(res, body, "less than at least")

	res, body = b.post("/console/services/wash/test", "units", "3")
	done(res, body, "it was a test")

	res, body = b.post("/console/orders/"+id.String()+"/refund", "to", "")
	bad(res, body, "Tick the box")
	res, body = b.post("/console/orders/"+id.String()+"/refund", "sure", "yes")
	done(res, body, "credit")
	w.filed(id, "refunded")
	_, body = b.get("/console/orders/" + id.String())
	contains(t, body, "Pay out what is left", "2,666.667 sat are credit")

	res, body = b.post("/console/devices", "name", "Pump 1")
	bad(res, body, "No device was added")
	res, body = b.post("/console/devices", "name", "pump-1", "budget", "300", "renewal", "daily")
	bad(res, body, "with its unit")
	res, body = b.post("/console/devices", "name", "pump-1", "budget", "300 sat", "renewal", "daily")
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, short(body))
	}
	_, after, _ := strings.Cut(body, `<code id="code">`)
	code, _, _ := strings.Cut(after, "<")
	card, err := w.fleet.Claim(t.Context(), code, [33]byte{})
	if err != nil || card.Name != "pump-1" || card.Limits.Total != 300*money.Sat {
		t.Fatalf("%+v, %v", card, err)
	}
	res, body = b.post("/console/devices/pump-1/budget", "budget", "700 sat", "renewal", "weekly", "order", "70 sat")
	done(res, body, "pump-1 may spend 700 sat weekly")
	res, body = b.post("/console/devices/pump-1/revoke")
	bad(res, body, "Tick the box")
	res, body = b.post("/console/devices/pump-1/revoke", "sure", "yes")
	done(res, body, "pump-1 is revoked")
	if _, in := w.fleet.Device("pump-1"); in {
		t.Error("it is still in service")
	}

	_, newest, err := w.books.Events(t.Context(), 1<<62, 1, nil)
	must(t, err)
	w.buy("news", 5, "ann", "settled")
	list, _, err := w.books.Events(t.Context(), newest, 9, []string{journal.OrderPaid})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	res, body = b.post("/console/webhooks/redeliver", "endpoint", "shop", "event", fmt.Sprint(list[0].Seq))
	done(res, body, "is delivered again now")
	res, body = b.post("/console/webhooks/redeliver", "endpoint", "shop", "event", "99999")
	if res.StatusCode != http.StatusNotFound {
		t.Error(res.Status, short(body))
	}
}

// The stream says what kind of thing has changed, and goes on where it was cut.
func TestEvents(t *testing.T) {
	t.Parallel()
	w := open(t)
	b := w.login("look")
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	connect := func(last string) *bufio.Scanner {
		r, err := http.NewRequestWithContext(ctx, "GET", w.url+"/console/events", nil)
		must(t, err)
		r.AddCookie(&http.Cookie{Name: "coinop-console", Value: b.jar["coinop-console"]})
		r.Header.Set("Last-Event-ID", last)
		res, err := http.DefaultClient.Do(r)
		must(t, err)
		t.Cleanup(func() { res.Body.Close() })
		lines := bufio.NewScanner(res.Body)
		lines.Scan()
		return lines
	}
	until := func(lines *bufio.Scanner, want string) (id string) {
		t.Helper()
		for lines.Scan() {
			if at, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				id = at
			}
			if lines.Text() == want {
				return id
			}
		}
		t.Fatalf("the stream ends without %q: %v", want, lines.Err())
		return ""
	}
	lines := connect("")
	until(lines, "")
	w.buy("wash", 1, "ann", "settled")
	until(lines, "event: order")
	until(connect("0"), "event: order")
	late := connect("999999999") // of other books
	w.device("pump", 9, 0)
	until(lines, "event: device")
	until(late, "event: device")
	w.console.Close()
	for lines.Scan() {
	}
}

// The report of measurements is shown apart from the console's session.
func TestLab(t *testing.T) {
	t.Parallel()
	w := open(t)
	b := w.login("look")
	if res, _ := b.get("/console/lab"); res.StatusCode != http.StatusNotFound {
		t.Error(res.Status)
	}
	w.console.Lab = filepath.Join(t.TempDir(), "report.html")
	must(t, os.WriteFile(w.console.Lab, []byte("<h1>figures</h1>"), 0o600))
	res, body := b.get("/console/lab")
	csp := res.Header.Get("Content-Security-Policy")
	if !strings.Contains(body, "figures") || !strings.HasPrefix(csp, "sandbox;") || strings.Contains(csp, "script") || !strings.Contains(csp, "default-src 'none'; style-src 'unsafe-inline';") {
		t.Error(res.Status, csp, body)
	}
	if _, body := b.get("/console/"); !strings.Contains(body, "last measurements") {
		t.Error("no link to it")
	}
}

// Pages are there at once, however long the past is: the books add up as they go.
// (world/books measures itself with a million orders.)
func TestALongPast(t *testing.T) {
	t.Parallel()
	if !*long {
		t.Skip("20,000 orders take a while: -long")
	}
	w := open(t)
	w.past(20_000)
	b := w.login("look")
	const limit = 100 * time.Millisecond
	for _, path := range append(paths[:5:5], "?span=30d", "?span=today", "statement", "sessions", "orders?state=failed", "orders?service=coffee&device=coffee-hall") {
		best := time.Hour
		for range 3 {
			began := time.Now()
			res, _ := b.get("/console/" + path)
			best = min(best, time.Since(began))
			if res.StatusCode != http.StatusOK {
				t.Fatal(path, res.Status)
			}
		}
		t.Logf("/console/%s: %v", path, best)
		if best > limit {
			t.Errorf("/console/%s takes %v; the limit is %v", path, best, limit)
		}
	}
}

// An order's page tells each of its steps, when it happened.
func TestWhatHappenedToAnOrder(t *testing.T) {
	t.Parallel()
	w := open(t)
	id := w.buy("wash", 12, "mqtt/hall-east", "settled")
	_, err := w.shop.Refund(t.Context(), id, "")
	must(t, err)
	w.filed(id, "refunded")
	_, body := w.login("look").get("/console/orders/" + id.String())
	at := 0
	for _, step := range []string{"Paid: ", "by mqtt/hall-east", "Delivered", "are credit that the buyer can spend here"} {
		next := strings.Index(body[at:], step)
		if next < 0 {
			t.Fatalf("%q is not told, or not in its place:\n%s", step, body)
		}
		at += next
	}
}
