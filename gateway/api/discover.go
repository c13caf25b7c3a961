package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"coinop.dev/core/money"
	"coinop.dev/core/offer"
)

// discovery serves what machines read before they buy. All of it is made from the
// table of services, when it is asked for.
func (a *API) discovery() {
	a.Handle("GET /openapi.json", Public, a.openAPI)
	a.Handle("GET /.well-known/l402-services", Public, a.l402Services)
	a.Handle("GET /.well-known/x402", Public, a.x402)
}

// discoveryAge is for how long what is discovered may be kept, in seconds. The
// challenge of a 402 is what counts.
const discoveryAge = 300

func discovered(w http.ResponseWriter, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		Problems(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", fmt.Sprint("max-age=", discoveryAge))
	w.Write(raw)
}

// A paid is a path of the paywall.
type paid struct {
	offer.Service
	method string // "" for any
	path   string
	units  uint64 // that the price is shown for
}

// paywalled lists the paths that are paid for, sorted.
func (a *API) paywalled() (list []paid) {
	for _, v := range a.shop.Services() {
		pattern, ok := a.Paths[v.Name]
		if !ok && (strings.HasPrefix(v.From, "http://") || strings.HasPrefix(v.From, "https://")) {
			pattern, ok = "/"+v.Name+"/", true
		}
		if !ok {
			continue
		}
		p := paid{Service: v, units: max(v.Min, 1)}
		if method, rest, has := strings.Cut(pattern, " "); has {
			p.method, pattern = method, strings.TrimSpace(rest)
		}
		if at := strings.Index(pattern, "/"); at >= 0 {
			p.path = pattern[at:]
		} else {
			p.path = "/"
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(x, y paid) int { return cmp.Or(strings.Compare(x.path, y.path), strings.Compare(x.Name, y.Name)) })
	return list
}

// price is what the units of a service cost now; false if that depends on who asks.
func (a *API) price(v offer.Service, units uint64) (money.Amount, bool) {
	if v.Dynamic != "" {
		return 0, false
	}
	if v.Fiat == (offer.Fiat{}) {
		due, err := v.Due(units, offer.Rate{}, 0)
		return due, err == nil
	}
	rate, ok := a.shop.Rate(v.Fiat.Currency)
	if !ok {
		return 0, false
	}
	due, err := v.Due(units, rate, 0)
	return due, err == nil
}

// offered is x-payment-info of the Payment scheme's discovery
// (draft-payment-discovery-01): one offer for each rail that is paid here.
type offered struct {
	Offers []paymentOffer `json:"offers"`
}

type paymentOffer struct {
	Intent      string  `json:"intent"`
	Method      string  `json:"method"`
	Amount      *string `json:"amount"` // null: it depends
	Currency    string  `json:"currency"`
	Description string  `json:"description,omitempty"`
}

func (a *API) offers(p paid) (o offered) {
	due, fixed := a.price(p.Service, p.units)
	seen := map[string]bool{}
	for _, uri := range a.Machine.PayTo() {
		method, _, _ := strings.Cut(uri, ":")
		if strings.ContainsFunc(method, func(r rune) bool { return r < 'a' || r > 'z' }) || seen[method] {
			continue // no name of a method
		}
		seen[method] = true
		offer := paymentOffer{Method: method, Currency: "msat", Description: fmt.Sprintf("%d %s", p.units, p.Unit)}
		amount, payable := uint64(due), fixed
		if method == "lightning" { // the draft of that method knows whole satoshi only
			offer.Currency, amount, payable = "sat", uint64(due/money.Sat), fixed && due%money.Sat == 0
		}
		if payable {
			text := fmt.Sprint(amount)
			offer.Amount = &text
		}
		for _, intent := range []string{"charge", "session"} {
			offer.Intent = intent
			o.Offers = append(o.Offers, offer)
		}
	}
	return o
}

func (a *API) openAPI(w http.ResponseWriter, _ *http.Request) {
	raw, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		Problems(w, err)
		return
	}
	var doc map[string]json.RawMessage
	var paths map[string]map[string]any
	if err = json.Unmarshal(raw, &doc); err == nil {
		err = json.Unmarshal(doc["paths"], &paths)
	}
	if err != nil {
		Problems(w, err)
		return
	}
	for path, operations := range streams {
		paths[path] = operations
	}
	for _, p := range a.paywalled() {
		if paths[p.path] == nil {
			paths[p.path] = map[string]any{}
		}
		methods := []string{strings.ToLower(p.method)}
		if p.method == "" {
			methods = []string{"get", "post"}
		}
		for _, method := range methods {
			paths[p.path][method] = a.paidOperation(p, method)
		}
	}
	merged, err := json.Marshal(paths)
	if err != nil {
		Problems(w, err)
		return
	}
	doc["paths"] = merged
	doc["x-service-info"] = json.RawMessage(`{"docs":{"apiReference":"/openapi.json"}}`)
	discovered(w, doc)
}

func (a *API) paidOperation(p paid, method string) map[string]any {
	return map[string]any{
		"operationId":    method + "-service-" + p.Name,
		"summary":        cmp.Or(p.Title, p.Name),
		"description":    "Sold by the " + p.Unit + ". This path, and all below it if it ends in a slash.",
		"tags":           []string{"for sale"},
		"x-payment-info": a.offers(p),
		"responses": map[string]any{
			"200": map[string]any{"description": "What was paid for"},
			"402": map[string]any{"description": "Payment Required"},
		},
	}
}

// streams are described here: huma knows no connection that stays.
var streams = map[string]map[string]any{"/v1/events": {"get": map[string]any{
	"operationId": "get-events", "summary": "What happens, as server-sent events or over a WebSocket: everything after the cursor, and then what comes",
	"tags": []string{"events"}, "security": []any{map[string]any{"token": []string{Read}}},
	"parameters": []any{
		parameter("query", "cursor", "the number of the last event that was seen; none: from now on"),
		parameter("query", "types", "order.paid,device. for some types, or all that begin so"),
		parameter("header", "Last-Event-ID", "the same as cursor, and before it"),
	},
	"responses": map[string]any{
		"200":     map[string]any{"description": "OK", "content": map[string]any{"text/event-stream": map[string]any{"schema": map[string]any{"type": "string"}}}},
		"101":     map[string]any{"description": "A WebSocket: a message of JSON for each event"},
		"410":     problemResponse("Events that old are not kept"),
		"default": problemResponse("Error"),
	},
}}}

func parameter(in, name, what string) map[string]any {
	return map[string]any{"in": in, "name": name, "description": what, "schema": map[string]any{"type": "string"}}
}

func problemResponse(what string) map[string]any {
	return map[string]any{"description": what, "content": map[string]any{
		"application/problem+json": map[string]any{"schema": map[string]any{"$ref": "#/components/schemas/Problem"}},
	}}
}

type (
	manifest struct {
		Version string            `json:"version"`
		Service map[string]string `json:"service"`
		Methods []paymentMethod   `json:"payment_methods"`
		Routes  []paidRoute       `json:"routes"`
	}
	paymentMethod struct {
		Type string `json:"type"`
	}
	paidRoute struct {
		Path    string     `json:"path"`
		Method  string     `json:"method,omitempty"`
		Service string     `json:"service"`
		Title   string     `json:"description,omitempty"`
		Unit    string     `json:"unit"`
		Price   routePrice `json:"price"`
	}
	routePrice struct {
		Type   string        `json:"type"` // static or dynamic
		Amount *money.Amount `json:"amount_msat,omitempty"`
		Per    uint64        `json:"units"`
	}
)

// l402Services is the manifest of L402's services, as ngx-l402 and 402index have it.
func (a *API) l402Services(w http.ResponseWriter, _ *http.Request) {
	m := manifest{Version: "1", Service: map[string]string{"name": cmp.Or(a.Machine.Config.Name, "coinop")}, Methods: []paymentMethod{}, Routes: []paidRoute{}}
	for _, uri := range a.Machine.PayTo() {
		method, _, _ := strings.Cut(uri, ":")
		if t := (paymentMethod{method}); !slices.Contains(m.Methods, t) {
			m.Methods = append(m.Methods, t)
		}
	}
	for _, p := range a.paywalled() {
		r := paidRoute{Path: p.path, Method: p.method, Service: p.Name, Title: p.Title, Unit: p.Unit, Price: routePrice{Type: "dynamic", Per: p.units}}
		if due, ok := a.price(p.Service, p.units); ok {
			r.Price.Amount = &due
			if p.Fiat == (offer.Fiat{}) {
				r.Price.Type = "static"
			}
		}
		m.Routes = append(m.Routes, r)
	}
	discovered(w, m)
}

// x402 lists what can be paid by x402: nothing, on a machine without a rail for it.
func (a *API) x402(w http.ResponseWriter, r *http.Request) {
	doc := struct {
		Version   int      `json:"version"`
		Resources []string `json:"resources"`
	}{1, []string{}}
	if a.X402 {
		base := strings.TrimSuffix(a.Machine.Config.PublicURL, "/")
		if base == "" {
			scheme := "http://"
			if r.TLS != nil {
				scheme = "https://"
			}
			base = scheme + r.Host
		}
		for _, p := range a.paywalled() {
			doc.Resources = append(doc.Resources, base+p.path)
		}
	}
	discovered(w, doc)
}
