package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/gateway/api"
	"coinop.dev/gateway/hooks"
	"coinop.dev/world/books"
)

func (w *town) openAPI() object {
	w.t.Helper()
	return want[object](w, "", "GET", "/openapi.json", nil)
}

func at(v any, path ...string) any {
	for _, name := range path {
		m, _ := v.(object)
		v = m[name]
	}
	return v
}

var methods = []string{"get", "post", "put", "patch", "delete"}

// The description has every route, and nothing in it leads nowhere.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	w := open(t)
	doc := w.openAPI()
	if doc["openapi"] != "3.1.0" || at(doc, "info", "title") == "" || at(doc, "info", "version") == "" {
		t.Errorf("%v %v", doc["openapi"], doc["info"])
	}
	paths := doc["paths"].(object)
	for _, route := range w.api.Routes() {
		method, path, _ := strings.Cut(route, " ")
		if strings.HasPrefix(path, "/v1/") && at(paths, path, strings.ToLower(method)) == nil {
			t.Errorf("%s is not described", route)
		}
	}
	ids := map[string]bool{}
	param := regexp.MustCompile(`\{([a-z]+)\}`)
	for path, item := range paths {
		for method, v := range item.(object) {
			operation := v.(object)
			id, _ := operation["operationId"].(string)
			if id == "" || ids[id] || !slices.Contains(methods, method) || operation["summary"] == "" {
				t.Errorf("%s %s: operation %q", method, path, id)
			}
			ids[id] = true
			responses, _ := operation["responses"].(object)
			if len(responses) < 2 {
				t.Errorf("%s %s: responses %v", method, path, responses)
			}
			for _, name := range param.FindAllStringSubmatch(path, -1) {
				found := false
				list, _ := operation["parameters"].([]any)
				for _, p := range list {
					found = found || at(p, "name") == name[1] && at(p, "in") == "path" && at(p, "required") == true
				}
				if !found {
					t.Errorf("%s %s: {%s} is not described", method, path, name[1])
				}
			}
		}
	}
	w.references(doc, doc)
	// An amount is a number, whatever its name in a config file.
	if kind := at(doc, "components", "schemas", "Payment", "properties", "amount_msat", "type"); kind != "integer" {
		t.Errorf("amounts are a %v", kind)
	}
}

// references checks that every $ref leads somewhere.
func (w *town) references(doc object, v any) {
	switch v := v.(type) {
	case object:
		if ref, ok := v["$ref"].(string); ok {
			if at(doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...) == nil {
				w.t.Errorf("%s leads nowhere", ref)
			}
		}
		for _, inner := range v {
			w.references(doc, inner)
		}
	case []any:
		for _, inner := range v {
			w.references(doc, inner)
		}
	}
}

// example makes up a value that a schema allows.
func example(doc object, schema any) any {
	s, _ := schema.(object)
	if ref, ok := s["$ref"].(string); ok {
		return example(doc, at(doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...))
	}
	if list, ok := s["enum"].([]any); ok {
		return list[0]
	}
	kind := s["type"]
	if list, ok := kind.([]any); ok {
		kind = list[0]
	}
	switch kind {
	case "object":
		out := object{}
		for name, p := range at(s, "properties").(object) {
			out[name] = example(doc, p)
		}
		return out
	case "array":
		return []any{example(doc, s["items"])}
	case "integer", "number":
		return 1
	case "boolean":
		return true
	}
	return "00112233445566778899aabbccddeeff"
}

// No operation breaks over an example of what it describes, nor over one that is
// empty.
func TestNoOperationBreaks(t *testing.T) {
	t.Parallel()
	w := open(t)
	doc := w.openAPI()
	fill := regexp.MustCompile(`\{[a-z]+\}`)
	for path, item := range doc["paths"].(object) {
		if !strings.HasPrefix(path, "/v1/") || path == "/v1/events" || path == "/v1/credentials/{name}" {
			continue
		}
		for method, operation := range item.(object) {
			concrete := fill.ReplaceAllString(path, "00112233445566778899aabbccddeeff")
			content, _ := at(operation, "requestBody", "content").(object)
			bodies := []any{nil, "{}", "null", `"x"`}
			for media, c := range content {
				if media == "application/json" {
					bodies = append(bodies, example(doc, at(c, "schema")))
				}
			}
			for _, body := range bodies {
				if r := w.do(w.token, strings.ToUpper(method), concrete, body); r.StatusCode >= 500 {
					t.Errorf("%s %s with %v: %s %s", method, concrete, body, r.Status, r.text)
				}
			}
		}
	}
}

// What can be bought is found without asking anybody.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	w := open(t)
	doc := w.openAPI()
	info, _ := json.Marshal(at(doc, "paths", "/weather/", "get", "x-payment-info"))
	if string(info) != `{"offers":[{"amount":"10","currency":"msat","description":"1 request","intent":"charge","method":"fake"},{"amount":"10","currency":"msat","description":"1 request","intent":"session","method":"fake"}]}` {
		t.Errorf("%s", info)
	}
	if at(doc, "paths", "/weather/", "get", "responses", "402") == nil {
		t.Error("no 402 is declared")
	}
	m := w.do("", "GET", "/.well-known/l402-services", nil)
	if m.text != `{"version":"1","service":{"name":"corner"},"payment_methods":[{"type":"fake"}],"routes":[{"path":"/weather/","service":"request","unit":"request","price":{"type":"static","amount_msat":10,"units":1}}]}` {
		t.Errorf("%s", m.text)
	}
	if !strings.Contains(m.Header.Get("Cache-Control"), "max-age") {
		t.Errorf("%v", m.Header)
	}
	if x := w.do("", "GET", "/.well-known/x402", nil); x.text != `{"version":1,"resources":[]}` {
		t.Errorf("x402 without a rail for it: %s", x.text)
	}
	paying := api.New(api.Options{Machine: w.m, X402: true})
	rec := httptest.NewRecorder()
	paying.ServeHTTP(rec, httptest.NewRequest("GET", "/.well-known/x402", nil))
	if rec.Body.String() != `{"version":1,"resources":["https://corner.example/request/"]}` {
		t.Errorf("%s", rec.Body)
	}
	// The upstream's address is in none of it.
	raw, _ := json.Marshal(doc)
	if strings.Contains(string(raw)+m.text, "10.1.2.3") {
		t.Error("the address of what is behind the paywall is shown")
	}
}

// An operator adds a receiver, has it told, and has it told again.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	w := open(t)
	got := make(chan string, 16)
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		if r.Header.Get(hooks.HeaderSignature) != hooks.Sign("a secret of the shop", raw) {
			t.Error("the signature is wrong")
		}
		got <- r.Header.Get(hooks.HeaderDelivery)
	}))
	defer receiver.Close()
	hook := object{"url": receiver.URL, "secret": "a secret of the shop", "types": []string{"order.settled", "test."}}
	w.refused(400, w.token, "PUT", "/v1/webhooks/ops", object{"url": receiver.URL})
	w.refused(400, w.token, "PUT", "/v1/webhooks/ops", object{"url": "http://169.254.169.254/", "secret": "a secret of the shop"})
	w.refused(400, w.token, "PUT", "/v1/webhooks/ops", object{"url": "file:///etc/passwd", "secret": "a secret of the shop"})
	put := w.do(w.token, "PUT", "/v1/webhooks/ops", hook)
	list := w.do(w.token, "GET", "/v1/webhooks", nil)
	if put.StatusCode != 200 || strings.Contains(put.text+list.text, "a secret") || !strings.Contains(list.text, receiver.URL) {
		t.Errorf("%s %s", put.text, list.text)
	}
	want[object](w, w.token, "POST", "/v1/webhooks", hook)
	if all := want[[]books.Endpoint](w, w.token, "GET", "/v1/webhooks", nil); len(all) != 2 {
		t.Errorf("%+v", all)
	} else {
		for _, p := range all {
			if p.ID != "ops" {
				want[object](w, w.token, "DELETE", "/v1/webhooks/"+p.ID, nil)
			}
		}
	}
	if p := want[object](w, w.token, "POST", "/v1/webhooks/ops/ping", nil); p["status"] != float64(200) {
		t.Errorf("%v", p)
	}
	<-got
	o := want[earn.Order](w, w.token, "POST", "/v1/services/coffee/test", nil)
	w.settled(o.ID)
	id := receive(t, got)
	var page struct{ Deliveries []books.Delivery }
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		page = want[struct{ Deliveries []books.Delivery }](w, w.token, "GET", "/v1/webhooks/ops/deliveries", nil)
		if slices.ContainsFunc(page.Deliveries, func(d books.Delivery) bool { return d.ID() == id && d.State == "done" && d.Status == 200 }) {
			break
		}
	}
	if !slices.ContainsFunc(page.Deliveries, func(d books.Delivery) bool { return d.ID() == id }) {
		t.Fatalf("%+v, and %s came", page, id)
	}
	for len(got) > 0 {
		<-got
	}
	want[object](w, w.token, "POST", fmt.Sprintf("/v1/webhooks/ops/deliveries/%s/redeliver", id), nil)
	for receive(t, got) != id {
	}
	w.refused(404, w.token, "POST", "/v1/webhooks/ops/deliveries/999999/redeliver", nil)
	w.refused(404, w.token, "POST", "/v1/webhooks/nobody/ping", nil)
	w.refused(404, w.token, "GET", "/v1/webhooks/nobody/deliveries", nil)
	// Without a secret the one before stays.
	want[object](w, w.token, "PUT", "/v1/webhooks/ops", object{"url": receiver.URL, "off": true})
	want[object](w, w.token, "DELETE", "/v1/webhooks/ops", nil)
	w.refused(404, w.token, "DELETE", "/v1/webhooks/ops", nil)
}

func receive(t *testing.T, c chan string) string {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(5 * time.Second):
		t.Fatal("nothing came")
		return ""
	}
}

// A whole conversation, and none of its secrets is in the log, in an answer that is
// kept, or in an address.
func TestNoSecretsInLogs(t *testing.T) {
	t.Parallel()
	w := open(t)
	var paths []string
	secrets := map[string]string{"the operator's token": w.token}
	next := w.server.Config.Handler
	w.server.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.String())
		next.ServeHTTP(rw, r)
	})
	secrets["another token"] = want[object](w, w.token, "POST", "/v1/credentials", object{"name": "x", "scopes": []string{"read"}}, "Idempotency-Key", "1")["token"].(string)
	want[object](w, w.token, "POST", "/v1/devices", object{"name": "tap-1"}, "Idempotency-Key", "2")
	card := want[api.Card](w, w.token, "POST", "/v1/devices/tap-1/credential", nil, "Idempotency-Key", "3")
	secrets["a device's credential"], secrets["its secret"], secrets["its password"] = card.Credential, card.Secret, card.Password
	secrets["a claim code"] = want[object](w, w.token, "POST", "/v1/invites", object{"device": object{"name": "tap-2"}}, "Idempotency-Key", "4")["code"].(string)
	claimed := want[api.Card](w, "", "POST", "/v1/claims", object{"code": secrets["a claim code"]})
	secrets["a claimed credential"], secrets["a claimed secret"] = claimed.Credential, claimed.Secret
	want[object](w, w.token, "PUT", "/v1/webhooks/ops", object{"url": "https://127.0.0.1:1/T0KEN-IN-PATH", "secret": "the secret of the hook"})
	secrets["a webhook's secret"], secrets["a webhook's path"] = "the secret of the hook", "T0KEN-IN-PATH"
	want[object](w, w.token, "POST", "/v1/webhooks/ops/ping", nil)
	o, proof := w.buy("coffee", 1)
	secrets["an offer's token"] = o.Token
	want[earn.Order](w, "", "POST", "/v1/orders", proof)
	w.settled(o.Order)
	secrets["the goods"] = "secret coffee"
	preimage := strings.Repeat("5e", 32)
	secrets["a preimage"] = preimage
	w.refused(400, "", "POST", "/v1/orders", object{"token": o.Token, "preimage": preimage})
	w.refused(400, w.token, "POST", "/v1/payments", object{"to": "x:" + preimage, "amount_msat": 1}, "Idempotency-Key", "5")
	want[object](w, card.Credential, "POST", "/v1/payments", object{"to": w.payee(), "amount_msat": 1}, "Idempotency-Key", "6")
	secrets["the root of tokens"] = fmt.Sprintf("%x", w.m.Shop.Root().Reveal())
	secrets["the machine's key"] = fmt.Sprintf("%x", w.m.Key.Reveal())
	w.filed(5)
	time.Sleep(200 * time.Millisecond)
	w.stop()
	if w.log.Len() == 0 {
		t.Error("nothing is logged, so nothing is tested")
	}
	for name, s := range secrets {
		if strings.Contains(w.log.String(), s) {
			t.Errorf("%s is in the log", name)
		}
		if strings.Contains(strings.Join(paths, "\n"), s) {
			t.Errorf("%s is in an address", name)
		}
	}
}
