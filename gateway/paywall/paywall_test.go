package paywall_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"coinop.dev/core/macaroon"
	"coinop.dev/core/money"
	core "coinop.dev/core/paywall"
	"coinop.dev/gateway/paywall"
)

// Somebody without money hears what it costs, pays, is served once, and not twice.
func TestOneRequestIsBought(t *testing.T) {
	m := newMarket(t)
	var seen http.Header
	m.upstream = func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		w.Header().Set("Cache-Control", "public, max-age=60")
		fmt.Fprintf(w, "%s %s", r.Method, r.URL.RequestURI())
	}
	a := m.do("GET", "/weather/today?c=1")
	var p core.Problem
	must(t, json.Unmarshal([]byte(a.body), &p))
	if a.StatusCode != 402 || p.Type != core.PaymentRequired.Type || p.Status != 402 || a.Header.Get("Cache-Control") != "no-store" ||
		a.Header.Get("Content-Type") != "application/problem+json" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Fatalf("%d %v\n%s", a.StatusCode, a.Header, a.body)
	}
	charge, session, lightning, lightningSession, l402 := a.offers()
	if charge.ID == "" || session.ID == "" || l402.Token == "" || lightning.ID != "" || lightningSession.ID != "" {
		// 10 msat are no whole satoshi, so there is no charge over Lightning; 500 neither.
		t.Fatalf("%+v\n%+v\n%+v\n%+v\n%+v", charge, session, lightning, lightningSession, l402)
	}
	if req, err := session.ReadRequest(); err != nil || req.Amount != "10" || req.DepositAmount != "500" || req.UnitType != "request" {
		t.Errorf("%+v, %v", req, err)
	}

	c := m.buy(charge)
	a = m.do("GET", "/weather/today?c=1", "Authorization", c.Header(), "Authorization", "Bearer upstream's own", paywall.HeaderUnits, "7", "Connection", "X-Hop", "X-Hop", "1")
	if a.StatusCode != 200 || a.body != "GET /today?c=1" {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if got := seen["Authorization"]; len(got) != 1 || got[0] != "Bearer upstream's own" || seen.Get(paywall.HeaderUnits) != "" || seen.Get("X-Hop") != "" {
		t.Errorf("upstream sees %v", seen)
	}
	r, err := core.ReadReceipt(a.Header.Get("Payment-Receipt"))
	if err != nil || r.Status != "success" || r.Method != "fake" || r.ChallengeID != charge.ID || r.Reference != c.Payload.Receipt.Order.String() {
		t.Errorf("%+v, %v", r, err)
	}
	if a.Header.Get(paywall.HeaderLeft) != "0" || a.Header.Get("Cache-Control") != "private" {
		t.Errorf("%v", a.Header)
	}

	a = m.do("GET", "/weather/today", "Authorization", c.Header())
	must(t, json.Unmarshal([]byte(a.body), &p))
	if a.StatusCode != 402 || p.Type != core.InsufficientBalance.Type || p.Left == nil || *p.Left != 0 || m.asked.Load() != 1 {
		t.Errorf("replayed: %d %s, upstream was asked %d times", a.StatusCode, a.body, m.asked.Load())
	}
	if fresh, _, _, _, _ := a.offers(); fresh.ID == "" || fresh.ID == charge.ID {
		t.Error("there is no fresh challenge")
	}
}

// The same over Lightning: a preimage is all it takes, in either dialect and under
// either of L402's names.
func TestLightning(t *testing.T) {
	m := newMarket(t)
	a := m.do("GET", "/api/report/7")
	_, _, charge, _, l402 := a.offers()
	req, err := charge.ReadRequest()
	if err != nil || req.Currency != "sat" || req.Amount != "2" || req.Details.Network != "regtest" || req.Details.Invoice != l402.Invoice {
		t.Fatalf("%+v, %v", req, err)
	}
	r, err := m.pay(t.Context(), money.Order{To: "lightning:" + l402.Invoice})
	must(t, err)
	wrong := l402.Credential([32]byte{1})
	if a := m.do("GET", "/api/report/7", "Authorization", wrong); a.StatusCode != 402 || !strings.Contains(a.body, core.VerificationFailed.Type) {
		t.Errorf("another preimage: %d %s", a.StatusCode, a.body)
	}
	a = m.do("GET", "/api/report/7", "Authorization", core.Credential{Challenge: charge, Payload: core.Payload{Preimage: hex.EncodeToString(r.Proof)}}.Header())
	if receipt, err := core.ReadReceipt(a.Header.Get("Payment-Receipt")); a.StatusCode != 200 || err != nil || receipt.Reference != req.Details.PaymentHash {
		t.Errorf("%d %s %+v", a.StatusCode, a.body, receipt)
	}
	// It was one order, whichever of its credentials is shown.
	good := l402.Credential([32]byte(r.Proof))
	if a := m.do("GET", "/api/report/7", "Authorization", good); a.StatusCode != 402 {
		t.Errorf("the same payment again: %d", a.StatusCode)
	}

	_, _, _, session, l402 := m.do("GET", "/api/report/7", paywall.HeaderUnits, "3").offers()
	r, err = m.pay(t.Context(), money.Order{To: "lightning:" + l402.Invoice})
	must(t, err)
	good = l402.Credential([32]byte(r.Proof))
	opened := core.Credential{Challenge: session, Payload: core.Payload{Action: "open", Preimage: hex.EncodeToString(r.Proof), ReturnInvoice: "lnbcrt1back"}}
	sreq, err := session.ReadRequest()
	must(t, err)
	bearer := core.Credential{Challenge: session, Payload: core.Payload{Action: "bearer", Preimage: hex.EncodeToString(r.Proof), SessionID: sreq.PaymentHash}}
	for i, auth := range []string{strings.Replace(good, "L402", "LSAT", 1), opened.Header(), bearer.Header()} {
		if a := m.do("GET", "/api/report/7", "Authorization", auth); a.StatusCode != 200 || a.Header.Get(paywall.HeaderLeft) != fmt.Sprint((2-i)*2000) {
			t.Errorf("%d: %d %s, left %s", i, a.StatusCode, a.body, a.Header.Get(paywall.HeaderLeft))
		}
	}
	if a := m.do("GET", "/api/report/7", "Authorization", good); a.StatusCode != 402 {
		t.Errorf("a fourth of three: %d", a.StatusCode)
	}
}

// Whatever is wrong with a credential, it is refused as the drafts say, and never
// served.
func TestRefusals(t *testing.T) {
	m := newMarket(t)
	weather, report := m.charge("/weather/"), m.charge("/api/report/1")
	_, _, _, _, l402 := m.do("GET", "/weather/").offers()
	token, err := macaroon.Parse(l402.Token)
	must(t, err)
	narrow := func(caveat string) string {
		n, err := token.Narrow(caveat)
		must(t, err)
		return core.L402{Token: n.Text()}.Credential([32]byte{})
	}
	r, err := m.pay(t.Context(), money.Order{To: "lightning:" + l402.Invoice})
	must(t, err)
	narrowPaid := func(caveat string) string {
		n, err := token.Narrow(caveat)
		must(t, err)
		return core.L402{Token: n.Text()}.Credential([32]byte(r.Proof))
	}
	changed := func(change func(*core.Credential)) string {
		c := weather
		p := *weather.Payload.Receipt
		c.Payload.Receipt = &p
		change(&c)
		return c.Header()
	}
	forged := token
	forged.Caveats = forged.Caveats[:1]
	x402 := core.X402Payment{Version: 2, Accepted: core.X402Requirement{Scheme: "exact", Network: "eip155:8453"}, Payload: []byte(`{}`)}.Header()
	for _, v := range []struct {
		what, header, value string
		status              int
		problem             string
	}{
		{"a malformed L402", "Authorization", "L402 nonsense", 402, "malformed-credential"},
		{"an L402 token that is none", "Authorization", "L402 AAAA:" + strings.Repeat("00", 32), 402, "malformed-credential"},
		{"a malformed Payment", "Authorization", "Payment e30", 402, "malformed-credential"},
		{"a receipt without a proof", "Authorization", changed(func(c *core.Credential) { c.Payload.Receipt.Proof = nil }), 402, "verification-failed"},
		{"no receipt", "Authorization", changed(func(c *core.Credential) { c.Payload.Receipt = nil }), 402, "malformed-credential"},
		{"a receipt of another order", "Authorization", changed(func(c *core.Credential) { c.Payload.Receipt = report.Payload.Receipt }), 402, "verification-failed"},
		{"a receipt of more than was paid", "Authorization", changed(func(c *core.Credential) { c.Payload.Receipt.Amount++ }), 402, "verification-failed"},
		{"a changed challenge", "Authorization", changed(func(c *core.Credential) { c.Challenge.Expires = "2099-01-01T00:00:00Z" }), 402, "invalid-challenge"},
		{"another's token in it", "Authorization", changed(func(c *core.Credential) { c.Challenge.Opaque = report.Challenge.Opaque }), 402, "invalid-challenge"},
		{"what is paid elsewhere", "Authorization", report.Header(), 402, "verification-failed"},
		{"an unknown action", "Authorization", changed(func(c *core.Credential) { c.Challenge.Intent = "subscription" }), 402, "invalid-challenge"},
		{"a token without its caveats", "Authorization", core.L402{Token: forged.Text()}.Credential([32]byte(r.Proof)), 402, "verification-failed"},
		{"a wider caveat", "Authorization", narrowPaid("services=weather:0,report:0"), 402, "verification-failed"},
		{"a longer one", "Authorization", narrowPaid("expires=99999999999"), 402, "verification-failed"},
		{"an expired one", "Authorization", narrowPaid("expires=1"), 402, "invalid-challenge"},
		{"one for other methods", "Authorization", narrowPaid("method=POST"), 403, "about:blank"},
		{"one for other addresses", "Authorization", narrowPaid("ip=10.0.0.1"), 403, "about:blank"},
		{"one for other services", "Authorization", narrow("service=report"), 402, "verification-failed"},
		{"one that nobody can enforce", "Authorization", narrowPaid("budget_msat=1"), 403, "about:blank"},
		{"an unknown one", "Authorization", narrowPaid("colour=red"), 402, "verification-failed"},
		{"x402", core.X402Signature, x402, 400, "method-unsupported"},
		{"malformed x402", core.X402Legacy, "e30=", 402, "malformed-credential"},
	} {
		a := m.do("GET", "/weather/", v.header, v.value)
		if a.StatusCode != v.status || !strings.Contains(a.body, v.problem) {
			t.Errorf("%s: %d %s", v.what, a.StatusCode, a.body)
		}
		if fresh, _, _, _, _ := a.offers(); (fresh.ID != "") != (v.status == 402) {
			t.Errorf("%s: a fresh challenge: %v", v.what, fresh.ID != "")
		}
	}
	if m.asked.Load() != 0 {
		t.Errorf("upstream was asked %d times", m.asked.Load())
	}
	for _, auth := range []string{narrowPaid("method=GET,HEAD"), weather.Header()} {
		if a := m.do("GET", "/weather/", "Authorization", auth); a.StatusCode != 200 {
			t.Errorf("and yet it was good: %d %s", a.StatusCode, a.body)
		}
	}
}

// Ten want the last one at once; one gets it.
func TestTheLastUnit(t *testing.T) {
	m := newMarket(t)
	auth, _ := m.session("/weather/", "3")
	for range 2 {
		m.do("GET", "/weather/", "Authorization", auth)
	}
	var all sync.WaitGroup
	var served, refused atomic.Int32
	for range 10 {
		all.Go(func() {
			switch a := m.do("GET", "/weather/", "Authorization", auth); a.StatusCode {
			case 200:
				served.Add(1)
			case 402:
				refused.Add(1)
			}
		})
	}
	all.Wait()
	if served.Load() != 1 || refused.Load() != 9 || m.asked.Load() != 3 {
		t.Errorf("%d served, %d refused, upstream asked %d times", served.Load(), refused.Load(), m.asked.Load())
	}
}

func TestFreeTierAndShadow(t *testing.T) {
	m := newMarket(t)
	for i, want := range []int{200, 200, 402} {
		if a := m.do("GET", "/news/"); a.StatusCode != want || (want == 200) != (a.Header.Get(paywall.HeaderFree) == "tier") {
			t.Errorf("page %d: %d %v", i, a.StatusCode, a.Header)
		}
	}
	if a := m.do("GET", "/news/", "Authorization", "L402 nonsense"); a.StatusCode != 402 {
		t.Errorf("nonsense is served free: %d", a.StatusCode)
	}
	if a := m.do("GET", "/trial/"); a.StatusCode != 200 || a.Header.Get(paywall.HeaderFree) != "shadow" || m.shop.Shadows()[0].Due != price {
		t.Errorf("%d %+v", a.StatusCode, m.shop.Shadows())
	}
	if a := m.do("GET", "/trial/", "Authorization", "L402 nonsense"); a.StatusCode != 400 {
		t.Errorf("nonsense is served free: %d", a.StatusCode)
	}
}

// Closing a session pays back what is left of it.
func TestClose(t *testing.T) {
	m := newMarket(t)
	_, _, _, session, l402 := m.do("GET", "/api/report/7", paywall.HeaderUnits, "3").offers()
	r, err := m.pay(t.Context(), money.Order{To: "lightning:" + l402.Invoice})
	must(t, err)
	c := core.Credential{Challenge: session, Payload: core.Payload{Action: "close", Preimage: hex.EncodeToString(r.Proof)}}
	if a := m.do("GET", "/api/report/7", "Authorization", c.Header()); a.StatusCode != 402 {
		t.Errorf("closed to nowhere: %d %s", a.StatusCode, a.body)
	}
	c.Payload.ReturnInvoice = "lnbcrt1nobodypaysthis"
	a := m.do("GET", "/api/report/7", "Authorization", c.Header())
	if a.StatusCode != 200 || !strings.Contains(a.body, `"refundSats":6`) || !strings.Contains(a.body, `"refundStatus":"failed"`) || m.asked.Load() != 0 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// A page of another origin may ask and buy if the owner says so; a preflight buys
// nothing and does not reach upstream.
func TestMethodsAndOrigins(t *testing.T) {
	m := newMarket(t, func(o *paywall.Options) { o.Origins = []string{"https://shop.example"} })
	a := m.do("OPTIONS", "/weather/", "Origin", "https://shop.example", "Access-Control-Request-Method", "GET")
	if a.StatusCode != 204 || a.Header.Get("Access-Control-Allow-Origin") != "https://shop.example" || !strings.Contains(a.Header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	if a := m.do("OPTIONS", "/weather/", "Origin", "https://evil.example", "Access-Control-Request-Method", "GET"); a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%v", a.Header)
	}
	if a := m.do("GET", "/weather/", "Origin", "https://shop.example"); a.StatusCode != 402 || !strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
		t.Errorf("%v", a.Header)
	}
	if a := m.do("HEAD", "/weather/"); a.StatusCode != 402 || a.Header.Get("WWW-Authenticate") == "" || a.body != "" {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
	if a := m.do("GET", "/weather/", "Connection", "Upgrade", "Upgrade", "websocket"); a.StatusCode != 501 {
		t.Errorf("%d", a.StatusCode)
	}
	if a := m.do("GET", "/elsewhere"); a.StatusCode != 404 || !strings.Contains(a.Header.Get("Content-Type"), "problem") {
		t.Errorf("%d", a.StatusCode)
	}
	if a := m.do("POST", "/api/report/1"); a.StatusCode == 200 {
		t.Errorf("%d", a.StatusCode)
	}
	if m.asked.Load() != 0 {
		t.Errorf("upstream was asked %d times", m.asked.Load())
	}
	// A paid HEAD costs as much as a request, and by bytes nothing.
	auth, tab := m.session("/bytes/", "10")
	if a := m.do("HEAD", "/bytes/", "Authorization", auth); a.StatusCode != 200 || m.left(tab) != 1000 {
		t.Errorf("%d, left %v", a.StatusCode, m.left(tab))
	}
}

// A wall keeps nothing that matters: one that starts anew knows the challenges and
// sessions of the one before.
func TestAWallStartsAnew(t *testing.T) {
	m := newMarket(t)
	charge, _, _, _, _ := m.do("GET", "/weather/").offers()
	auth, _ := m.session("/weather/", "5")
	if a := m.do("GET", "/weather/", "Authorization", auth); a.StatusCode != 200 {
		t.Fatal(a.StatusCode)
	}
	wall, err := paywall.New(paywall.Options{Shop: m.shop, Routes: []paywall.Route{{Service: "weather"}}})
	must(t, err)
	server := httptest.NewServer(wall)
	defer server.Close()
	m.url = server.URL
	for auth, left := range map[string]string{auth: "30", m.buy(charge).Header(): "0"} {
		if a := m.do("GET", "/weather/", "Authorization", auth); a.StatusCode != 200 || a.Header.Get(paywall.HeaderLeft) != left {
			t.Errorf("%d %s, left %s", a.StatusCode, a.body, a.Header.Get(paywall.HeaderLeft))
		}
	}
	if a := m.do("GET", "/elsewhere/", "Authorization", auth); a.StatusCode != 404 {
		t.Errorf("%d", a.StatusCode)
	}
}

// What is sold, and for how much, is known before anybody is asked to pay.
func TestManifest(t *testing.T) {
	m := newMarket(t)
	a := m.do("GET", "/.well-known/l402.json")
	for _, want := range []string{
		`"version":"1.0"`, `{"name":"weather","description":"The weather","resources":[{"path":"/weather/","pricing":{"model":"fixed","price_msat":10}}]}`,
		`"path":"/api/report/{id}","method":"GET","pricing":{"model":"fixed","price_msat":2000}`, `"path":"/tokens/","pricing":{"model":"fixed","price_msat":100}`,
	} {
		if a.StatusCode != 200 || !strings.Contains(a.body, want) {
			t.Errorf("%d %s lacks %s", a.StatusCode, a.body, want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	m := newMarket(t)
	for _, rt := range []paywall.Route{{Service: "none"}, {Service: "weather", Pattern: "/x/{"}} {
		if _, err := paywall.New(paywall.Options{Shop: m.shop, Routes: []paywall.Route{rt}}); err == nil {
			t.Errorf("%+v is taken", rt)
		}
	}
	if _, err := paywall.New(paywall.Options{Shop: m.shop, Routes: []paywall.Route{{Service: "weather"}, {Service: "weather"}}}); err == nil {
		t.Error("one path is sold twice")
	}
	if _, err := paywall.Middleware(m.shop, "none"); err == nil {
		t.Error("a service that is not there")
	}
}
