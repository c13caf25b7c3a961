package api_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/macaroon"
	"coinop.dev/core/money"
	"coinop.dev/gateway/api"
)

func narrowed(t *testing.T, text string, caveats ...string) string {
	t.Helper()
	m, err := macaroon.Parse(text)
	must(t, err)
	m, err = m.Narrow(caveats...)
	must(t, err)
	return m.Text()
}

func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	w := open(t)
	read := want[object](w, w.token, "POST", "/v1/credentials", object{"name": "reader", "scopes": []string{"read"}})["token"].(string)
	other := open(t)
	for _, c := range []struct {
		name, token, method, path string
		status                    int
	}{
		{"no token", "", "GET", "/v1/status", 401},
		{"no macaroon", "hunter2", "GET", "/v1/status", 401},
		{"another gateway's", other.token, "GET", "/v1/status", 401},
		{"altered", w.token[:len(w.token)-2] + "AA", "GET", "/v1/status", 401},
		{"the operator", w.token, "GET", "/v1/status", 200},
		{"a reader", read, "GET", "/v1/status", 200},
		{"a reader who sells", read, "POST", "/v1/services/coffee/test", 403},
		{"a reader who bakes", read, "POST", "/v1/credentials", 403},
		{"a reader on events", read, "POST", "/v1/events", 405},
		{"widened", narrowed(t, read, "scope=admin"), "GET", "/v1/status", 401},
		{"narrowed to pay", narrowed(t, w.token, "scope=pay"), "GET", "/v1/status", 401}, // admin is one word, and pay is another
		{"expired", narrowed(t, w.token, "expires=1"), "GET", "/v1/status", 401},
		{"for a while", narrowed(t, w.token, "expires=99999999999"), "GET", "/v1/status", 200},
		{"for GET", narrowed(t, w.token, "method=GET"), "GET", "/v1/status", 200},
		{"for GET that posts", narrowed(t, w.token, "method=GET"), "POST", "/v1/services/coffee/test", 403},
		{"from here", narrowed(t, w.token, "ip=127.0.0.1"), "GET", "/v1/status", 200},
		{"from elsewhere", narrowed(t, w.token, "ip=192.0.2.1"), "GET", "/v1/status", 403},
		{"with what cannot be held to", narrowed(t, w.token, "budget_msat=5"), "GET", "/v1/status", 401},
		{"with what nobody knows", narrowed(t, w.token, "colour=red"), "GET", "/v1/status", 401},
	} {
		r := w.do(c.token, c.method, c.path, nil)
		if r.StatusCode != c.status {
			t.Errorf("%s: %s %s: %d %s; want %d", c.name, c.method, c.path, r.StatusCode, r.text, c.status)
		}
		if c.status >= 400 {
			r.problem(t)
		}
		if c.status == 401 && !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: no WWW-Authenticate", c.name)
		}
	}
	m, err := macaroon.Parse(w.token)
	must(t, err)
	if r := w.do("", "GET", "/v1/status", nil, "Grpc-Metadata-Macaroon", hex.EncodeToString(m.Append(nil))); r.StatusCode != 200 {
		t.Errorf("lnd's header: %s", r.text)
	}
	if r := w.do("", "GET", "/v1/status", nil, "Authorization", "Basic YTpi"); r.StatusCode != 401 {
		t.Errorf("Basic: %s", r.Status)
	}
	if r := w.do("", "DELETE", "/v1/quotes", nil); r.StatusCode != 405 || r.Header.Get("Allow") != "POST" {
		t.Errorf("%s %s", r.Status, r.Header)
	}
	w.refused(404, w.token, "GET", "/v1/nothing", nil)
}

// A token that is revoked is out at once and after a restart, and its name baked
// again does not bring it back.
func TestRevokedTokens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openIn(t, dir)
	bake := object{"name": "till", "scopes": []string{"sell", "read"}}
	till := want[object](w, w.token, "POST", "/v1/credentials", bake)["token"].(string)
	if again := want[object](w, w.token, "POST", "/v1/credentials", bake)["token"].(string); again != till {
		t.Error("the same terms give another token")
	}
	w.refused(409, w.token, "POST", "/v1/credentials", object{"name": "till", "scopes": []string{"admin"}})
	w.refused(422, w.token, "POST", "/v1/credentials", object{"name": "x", "scopes": []string{"root"}})
	w.refused(422, w.token, "POST", "/v1/credentials", object{"name": "x", "scopes": []string{}})
	w.refused(400, w.token, "POST", "/v1/credentials", object{"name": "A b", "scopes": []string{"read"}})
	w.refused(400, w.token, "POST", "/v1/credentials", object{"name": "x", "scopes": []string{"read"}, "expires_ms": 5})
	w.refused(403, narrowed(t, w.token, "expires=99999999999"), "POST", "/v1/credentials", bake)
	small := narrowed(t, till, "method=GET")
	i := want[api.Inspected](w, w.token, "POST", "/v1/credentials/inspect", object{"token": small})
	if !i.Valid || i.Name != "till" || i.Kind != "operator" || len(i.Caveats) != 2 {
		t.Errorf("%+v", i)
	}
	list := w.do(w.token, "GET", "/v1/credentials", nil)
	if !strings.Contains(list.text, `"till"`) || strings.Contains(list.text, till[:40]) {
		t.Errorf("%s", list.text)
	}
	want[object](w, w.token, "DELETE", "/v1/credentials/till", nil)
	w.refused(404, w.token, "DELETE", "/v1/credentials/till", nil)
	w.refused(401, till, "GET", "/v1/status", nil)
	w.refused(401, small, "GET", "/v1/status", nil)
	w.stop()
	first := w.token
	w = openIn(t, dir)
	if w.token != first {
		t.Error("the operator's token is another one after a restart")
	}
	fresh := want[object](w, w.token, "POST", "/v1/credentials", bake)["token"].(string)
	want[object](w, fresh, "GET", "/v1/status", nil)
	w.refused(401, till, "GET", "/v1/status", nil)
	if i := want[api.Inspected](w, w.token, "POST", "/v1/credentials/inspect", object{"token": till}); i.Valid || i.Why == "" {
		t.Errorf("%+v", i)
	}
	for i := range api.MaxTokens {
		r := w.do(w.token, "POST", "/v1/credentials", object{"name": fmt.Sprint("t", i), "scopes": []string{"read"}})
		if r.StatusCode == 403 {
			if i != api.MaxTokens-2 {
				t.Errorf("the limit is reached after %d", i)
			}
			return
		}
	}
	t.Error("there is no limit")
}

// A stranger who asks too often is told to wait; whoever has a token is not.
func TestPublicRateLimit(t *testing.T) {
	t.Parallel()
	w := open(t)
	limited := 0
	for range 400 {
		if r := w.do("", "GET", "/v1/services", nil); r.StatusCode == 429 {
			if limited++; r.Header.Get("Retry-After") == "" || r.problem(t).Code != "RATE_LIMITED" {
				t.Fatalf("%s", r.text)
			}
		}
	}
	if limited == 0 || limited > 250 {
		t.Errorf("%d of 400 were refused", limited)
	}
	for _, token := range []string{"wrong", w.token[:len(w.token)-2] + "AA"} {
		if r := w.do(token, "GET", "/v1/services", nil); r.StatusCode != 429 && r.StatusCode != 401 {
			t.Errorf("%s", r.Status)
		}
	}
	for range 300 {
		want[object](w, w.token, "GET", "/v1/outlook", nil)
	}
}

func TestLargeAndSlowBodies(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.api.Hurry(300 * time.Millisecond)
	large := `{"service":"` + strings.Repeat("x", api.MaxBody) + `"}`
	w.refused(413, "", "POST", "/v1/quotes", large)
	w.refused(413, w.token, "POST", "/v1/quotes", large, "Idempotency-Key", "k")
	// A byte now and then: it is cut.
	c, err := net.Dial("tcp", strings.TrimPrefix(w.server.URL, "http://"))
	must(t, err)
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/quotes HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nContent-Type: application/json\r\nIdempotency-Key: slow\r\nAuthorization: Bearer %s\r\n\r\n", w.token)
	go func() {
		for range 300 {
			if _, err := io.WriteString(c, " "); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	began := time.Now()
	raw, _ := io.ReadAll(c)
	if !bytes.Contains(raw, []byte(" 408 ")) || time.Since(began) > 2*time.Second {
		t.Errorf("after %v: %s", time.Since(began), raw)
	}
}

func TestPayments(t *testing.T) {
	t.Parallel()
	w := open(t)
	bill := want[struct {
		Order  money.OrderID `json:"order"`
		Amount money.Amount  `json:"amount_msat"`
		Pay    []string      `json:"pay"`
	}](w, w.token, "POST", "/v1/bills", object{"amount_msat": 5000, "for": "test"})
	if bill.Amount != 5000 || len(bill.Pay) != 1 {
		t.Fatalf("%+v", bill)
	}
	w.refused(400, w.token, "POST", "/v1/bills", object{"amount_msat": 0})
	r := want[money.Receipt](w, w.token, "POST", "/v1/payments", object{"to": bill.Pay[0]})
	if r.Order != bill.Order || r.Amount != 5000 {
		t.Fatalf("%+v", r)
	}
	// Another amount than the bill says, no amount, no rail, more than the purse may.
	w.refused(400, w.token, "POST", "/v1/payments", object{"to": bill.Pay[0], "amount_msat": 1})
	payee, _, _ := strings.Cut(bill.Pay[0], "?")
	w.refused(400, w.token, "POST", "/v1/payments", object{"to": payee})
	w.refused(400, w.token, "POST", "/v1/payments", object{"to": "nonsense:x", "amount_msat": 1})
	r = want[money.Receipt](w, w.token, "POST", "/v1/payments", object{"to": payee, "amount_msat": 7000})
	if r.Amount != 7000 {
		t.Fatalf("%+v", r)
	}
	p := w.refused(403, w.token, "POST", "/v1/payments", object{"to": payee, "amount_msat": 899_990_000})
	if p.Limit == "" || p.Left == nil || *p.Left != 899_988_000 || p.Code != "QUOTA_EXCEEDED" {
		t.Errorf("%+v", p)
	}
	// What a narrowed token says of payments holds.
	few := narrowed(t, w.token, "max_payment_msat=1000")
	if p := w.refused(403, few, "POST", "/v1/payments", object{"to": payee, "amount_msat": 1001}); p.Limit != "order" || *p.Left != 1000 {
		t.Errorf("%+v", p)
	}
	want[money.Receipt](w, few, "POST", "/v1/payments", object{"to": payee, "amount_msat": 1000})
	w.refused(403, narrowed(t, w.token, "payee=fake://somebody"), "POST", "/v1/payments", object{"to": payee, "amount_msat": 1})
}
