// Package api is a gateway's REST API: what is for sale, offers, orders, sessions,
// payments, devices, credentials, webhooks, books. OpenAPI 3.1 at /openapi.json is
// made from the types here, so the two cannot differ.
//
// Amounts are whole msat in fields that end in _msat; times are Unix milliseconds
// in fields that end in _ms. Errors are problems (RFC 9457) whose code is the kind
// of core/money: it says what the caller may do next.
package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"coinop.dev"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/tab"
	"coinop.dev/gateway"
	"coinop.dev/gateway/fleet"
	"coinop.dev/gateway/hooks"
	"coinop.dev/world/books"
)

const (
	// MaxBody bounds a request's body, in bytes; a list of devices may be larger
	// (fleet.MaxCSV).
	MaxBody = 64 << 10
	// bodyTime is how long a body may take to come.
	bodyTime = 10 * time.Second
)

// Options are what an API is made of. Without Books, Fleet or Hooks their
// operations are missing.
type Options struct {
	Machine *coinop.Machine // a gateway
	Books   *books.Books
	Fleet   *fleet.Fleet
	// FleetRoot is the secret of the fleet, under which its credentials are baked.
	FleetRoot keys.Secret
	Hooks     *hooks.Hooks
	// Paths are the patterns of the paywall (http.ServeMux), by service, for
	// discovery.
	Paths map[string]string
	// X402 says that a rail of this machine is paid by x402.
	X402 bool
	// More adds to what /v1/status says; nil for nothing.
	More func(ctx context.Context, v map[string]any) error
}

// An API serves one gateway.
type API struct {
	Options
	shop *gateway.Shop
	mux  *http.ServeMux
	huma huma.API

	handled []string // patterns outside of huma

	tokens tokens
	public *gateway.Limiter // of callers without a credential
	claims *gateway.Limiter // of claim codes

	bodyTime   time.Duration // how long a body may take
	slowReader time.Duration // and a reader for what it is sent

	streams chan struct{}   // room for event streams
	waits   chan struct{}   // room for requests that wait for an order
	closing context.Context // ends when they must
	close   context.CancelFunc
}

// problems makes huma write its errors as ours. Huma has one function for that in
// the whole process.
var problems = sync.OnceFunc(func() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		for _, err := range errs {
			var detail *huma.ErrorDetail
			if errors.As(err, &detail) { // without the value: it may be a secret
				err = fmt.Errorf("%s: %s", detail.Location, detail.Message)
			}
			msg += "; " + err.Error()
		}
		code, known := codes[status]
		if !known {
			code = "invalid"
		}
		return refusal(status, code, msg)
	}
})

// New returns the API of a gateway.
func New(o Options) *API {
	problems()
	a := &API{
		Options: o, shop: o.Machine.Shop, mux: http.NewServeMux(), tokens: tokens{shop: o.Machine.Shop},
		public:   newLimiter(publicRate, publicBurst, clientRate, clientBurst),
		claims:   newLimiter(claimRate, claimBurst, claimRate, claimBurst),
		bodyTime: bodyTime, slowReader: slowReader, streams: make(chan struct{}, MaxStreams), waits: make(chan struct{}, MaxWaits),
	}
	a.closing, a.close = context.WithCancel(context.Background())
	a.describe()
	a.selling()
	a.machine()
	a.baking()
	if a.Books != nil {
		a.keeping()
		a.Handle("GET /v1/events", Read, a.events)
	}
	if a.Fleet != nil {
		a.devices()
	}
	if a.Hooks != nil && a.Books != nil {
		a.webhooks()
	}
	a.discovery()
	a.mux.HandleFunc("/", a.nothing)
	return a
}

// describe begins the description.
func (a *API) describe() {
	config := huma.DefaultConfig("coinop gateway", "1")
	config.DocsPath, config.SchemasPath, config.OpenAPIPath, config.CreateHooks = "", "", "", nil
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	// An amount is text in a config file, and a number here.
	registry.RegisterTypeAlias(reflect.TypeFor[money.Amount](), reflect.TypeFor[uint64]())
	config.Components.Schemas = registry
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", BearerFormat: "macaroon", Description: "The operator's token (console.token in the data folder), one narrowed from it, or a device's credential."},
	}
	a.huma = humago.New(a.mux, config)
	a.huma.UseMiddleware(a.authorize, a.readBody, a.idempotent)
}

// schemaNames are those of types that two packages call the same.
var schemaNames = map[reflect.Type]string{
	reflect.TypeFor[books.Order]():   "BookedOrder",
	reflect.TypeFor[spend.Summary](): "Purse",
	reflect.TypeFor[earn.Summary]():  "Till",
	reflect.TypeFor[tab.Summary]():   "Sessions",
}

func schemaName(t reflect.Type, hint string) string {
	if name, ok := schemaNames[t]; ok {
		return name
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// ServeHTTP serves the API.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	a.mux.ServeHTTP(w, r)
}

// Close ends what waits, so that a server can stop.
func (a *API) Close() { a.close() }

// Handle adds a handler that needs a scope, outside the description.
func (a *API) Handle(pattern, scope string, h http.HandlerFunc) {
	a.handled = append(a.handled, pattern)
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if _, err := a.Admit(r, scope); err != nil {
			Problems(w, err)
			return
		}
		h(w, r)
	})
}

// nothing answers what is at no route.
func (a *API) nothing(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := a.mux.Handler(probe); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		Problems(w, refusal(http.StatusMethodNotAllowed, codes[http.StatusMethodNotAllowed], "this path takes "+strings.Join(allowed, ", ")))
		return
	}
	Problems(w, notFound("there is nothing here: see /openapi.json"))
}

// readBody reads the whole body before anything is done, within a time, and then
// lifts the deadline: net/http would end the request's context with it.
func (a *API) readBody(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	if r.Body == nil || r.Body == http.NoBody {
		next(ctx)
		return
	}
	limit := ctx.Operation().MaxBodyBytes
	deadline := http.NewResponseController(w)
	deadline.SetReadDeadline(time.Now().Add(a.bodyTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit-1)) // huma counts the limit itself as too large
	if err == nil {
		deadline.SetReadDeadline(time.Time{}) // else net/http would wait for the rest
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		Problems(w, refusal(http.StatusRequestEntityTooLarge, "invalid", fmt.Sprintf("the body has more than %d bytes, which is the limit", limit-1)))
	case err != nil:
		w.Header().Set("Connection", "close")
		Problems(w, refusal(http.StatusRequestTimeout, "invalid", fmt.Sprintf("the body did not come within %v", a.bodyTime)))
	default:
		r.Body = io.NopCloser(bytes.NewReader(body))
		next(ctx)
	}
}

// op describes an operation.
func op(method, path, scope, summary string) huma.Operation {
	o := huma.Operation{
		OperationID: strings.ToLower(method) + strings.NewReplacer("/v1/", "-", "/", "-", "{", "", "}", "").Replace(path),
		Method:      method, Path: path, Summary: summary, MaxBodyBytes: MaxBody, BodyReadTimeout: -1, // readBody has read it
		Metadata: map[string]any{"scope": scope}, Tags: []string{strings.Split(path, "/")[2]},
	}
	if scope != Public {
		o.Security = []map[string][]string{{"token": {scope}}}
	}
	if scope != Public && method == http.MethodPost {
		most := maxKey
		o.Parameters = []*huma.Param{{
			Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &most},
			Description: "The same key and body give the same answer, for 24 h, and nothing is done again.",
		}}
	}
	return o
}

// secret marks an operation whose answers have secrets: they are not kept.
func secret(o huma.Operation) huma.Operation {
	o.Metadata["secret"] = true
	o.Parameters = nil // no Idempotency-Key
	return o
}
