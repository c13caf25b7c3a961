// Package paywall is the HTTP door of a shop: a reverse proxy, or a middleware of
// Go handlers, that answers whoever has not paid with 402 and the ways to pay, and
// serves whoever has.
//
// Everything sold here is a prepaid session: a charge is one of a single request.
// A credential names the session, Draw reserves what the request may cost before
// it is served, and Settle says afterwards what it did cost:
//
//   - a whole response costs what the service's unit says: one of it per request,
//     the bytes or seconds of the response, or what upstream says in Coinop-Units;
//   - one that is cut off costs the bytes or seconds that were measured, and
//     otherwise the estimate; without a byte, nothing;
//   - an upstream that fails (status 5xx, or no answer) costs nothing.
//
// Challenges are kept nowhere: they are sealed by the shop's key. Making one costs
// some CPU, so how many a client gets is limited.
package paywall

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/paywall"
	"coinop.dev/gateway"
)

// Headers of our own. Upstream may say Coinop-Units; a client that asks for an
// offer may too, for a session of so many units.
const (
	HeaderUnits = "Coinop-Units"
	HeaderLeft  = "Coinop-Left-Msat" // what the session has left beside this request
	HeaderFree  = "Coinop-Free"      // "tier" or "shadow": nothing is charged
)

const (
	// MaxBody bounds a request's body, in bytes, unless Options say otherwise.
	MaxBody = 16 << 20
	// MaxHeader bounds a request's headers, in bytes: a credential of the largest
	// size, and the rest.
	MaxHeader = 48 << 10
	// MaxBundle bounds the units of a session that a client may ask for.
	MaxBundle = 1_000_000
	// MaxRoutes bounds the routes of one wall.
	MaxRoutes = 1024

	// idle is how long a client may take to send or to take the next bytes.
	idle = 30 * time.Second
	// headerTime is how long it may take to send its headers, and upstream to
	// answer with its own.
	headerTime = 30 * time.Second
)

// keyPurpose derives the key that seals challenges from the shop's.
const keyPurpose = "paywall/challenge"

// Options are what a wall is made of. Only Shop is needed.
type Options struct {
	Shop   *gateway.Shop
	Realm  string // of challenges; "coinop" if it is empty
	Routes []Route
	// EVM takes x402 payments. Without it that dialect is not offered.
	EVM EVM
	// Origins are those whose pages may buy, "*" for all; empty for none.
	Origins []string
	// Proxies are the addresses of reverse proxies before this one, whose
	// X-Forwarded-For is believed.
	Proxies []netip.Prefix
	MaxBody int64 // bytes; 0 is MaxBody
	// Challenges is how many a client may be given in a minute; 0 is 60.
	Challenges int
	// Transport goes upstream; nil is one with timeouts.
	Transport http.RoundTripper
}

// A Route sells what is at some paths. Its service's From says where upstream is.
type Route struct {
	// Pattern is one of http.ServeMux: method, host and path, which stands for all
	// below it if it ends in a slash. If it is empty it is /NAME/ of the service, and
	// upstream does not see that prefix.
	Pattern string
	Service string
	Units   uint64 // the estimate of a request, and the price of a charge; 0 is 1
	// Bundle is how many units a session is offered for; 0 for none, unless a client
	// asks.
	Bundle uint64
}

// A Wall is the HTTP door of one shop.
type Wall struct {
	o       Options
	key     keys.Secret // of challenges
	mux     *http.ServeMux
	routes  []Route // with their patterns
	limit   *gateway.Limiter
	provens provens
	origins map[string]bool
	idle    time.Duration
}

// New returns a wall that proxies the routes of o to where their services are.
func New(o Options) (*Wall, error) {
	if o.Realm == "" {
		o.Realm = "coinop"
	}
	if o.MaxBody == 0 {
		o.MaxBody = MaxBody
	}
	if o.Challenges == 0 {
		o.Challenges = clientChallenges
	}
	if o.Transport == nil {
		o.Transport = newTransport()
	}
	w := &Wall{
		o: o, key: o.Shop.Root().Derive(keyPurpose), mux: http.NewServeMux(),
		limit: newLimiter(o.Challenges), origins: map[string]bool{}, idle: idle,
		provens: provens{all: map[[32]byte]proven{}},
	}
	if strings.Contains(o.Realm, "|") {
		return nil, fmt.Errorf("paywall: realm %q must not contain |", o.Realm)
	}
	for _, origin := range o.Origins {
		w.origins[origin] = true
	}
	if len(o.Routes) > MaxRoutes {
		return nil, fmt.Errorf("paywall: %d routes; the limit is %d", len(o.Routes), MaxRoutes)
	}
	for _, rt := range o.Routes {
		if err := w.route(rt); err != nil {
			return nil, fmt.Errorf("paywall: route %q of %s: %w", rt.Pattern, rt.Service, err)
		}
	}
	for _, path := range manifestPaths {
		w.mux.HandleFunc("GET "+path, w.serveManifest)
	}
	w.mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		answer(rw, paywall.NotFound.With("nothing is sold at this path"))
	})
	return w, nil
}

func (w *Wall) route(rt Route) (err error) {
	v, ok := w.o.Shop.Service(rt.Service)
	if !ok {
		return errors.New("there is no such service")
	}
	prefix := ""
	if rt.Pattern == "" {
		prefix = "/" + rt.Service
		rt.Pattern = prefix + "/"
	}
	if !strings.Contains(rt.Pattern, "/") {
		rt.Pattern += "/" // a host, all of it
	}
	upstream, err := newUpstream(v, prefix, w.o.Transport, w.o.Shop.Machine().Log)
	if err != nil {
		return err
	}
	defer func() { // ServeMux panics on a pattern that is none or is there already
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	w.mux.Handle(rt.Pattern, w.Sell(rt, upstream))
	w.routes = append(w.routes, rt)
	return nil
}

// ServeHTTP serves the wall's routes; what is at no route is not found.
func (w *Wall) ServeHTTP(rw http.ResponseWriter, r *http.Request) { w.mux.ServeHTTP(rw, r) }

// Middleware sells each request to a handler as one unit of a service.
func Middleware(shop *gateway.Shop, service string) (func(http.Handler) http.Handler, error) {
	w, err := New(Options{Shop: shop})
	if err != nil {
		return nil, err
	}
	if _, ok := shop.Service(service); !ok {
		return nil, fmt.Errorf("paywall: there is no service %q", service)
	}
	return func(next http.Handler) http.Handler { return w.Sell(Route{Service: service}, next) }, nil
}

// Server returns a server with the limits that a machine on the open Internet
// needs. Responses may last for ever, as long as somebody takes their bytes.
func Server(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: headerTime, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: MaxHeader}
}

// Sell serves next to whoever pays. The route's pattern does not matter.
func (w *Wall) Sell(rt Route, next http.Handler) http.Handler {
	rt.Units = max(rt.Units, 1)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		v, ok := w.o.Shop.Service(rt.Service)
		switch {
		case !ok:
			answer(rw, paywall.NotFound.With("%s is not sold any more", rt.Service))
			return
		case w.cors(rw, r):
			return
		case r.Header.Get("Upgrade") != "" || r.Method == http.MethodConnect:
			answer(rw, paywall.NotImplemented.With("connections are not sold here, only requests: leave the header Upgrade out"))
			return
		case r.ContentLength > w.o.MaxBody:
			answer(rw, tooLarge.With("the request's body is %d bytes; the limit is %d", r.ContentLength, w.o.MaxBody))
			return
		}
		b := &buyer{Wall: w, route: rt, service: v, addr: w.client(r)}
		b.net = gateway.Network(b.addr)
		b.route.Units = max(rt.Units, v.Min)
		b.serve(rw, r, next)
	})
}

var tooLarge = paywall.Problem{Type: "about:blank", Title: "Content Too Large", Status: http.StatusRequestEntityTooLarge}

// buyer is one request at a route.
type buyer struct {
	*Wall
	route   Route
	service offer.Service
	addr    netip.Addr   // the client's
	net     netip.Prefix // which one customer has
}

// name is who the shop is told that asks.
func (b *buyer) name() string {
	if !b.net.IsValid() {
		return "http/local" // over a Unix socket
	}
	return "http/" + b.net.Addr().String()
}

func (b *buyer) serve(rw http.ResponseWriter, r *http.Request, next http.Handler) {
	m := newMeter(b, rw)
	var problem *paywall.Problem
	if have, ok := b.provens.find(r.Header); ok && !b.service.Shadow {
		problem = b.reserve(rw, r, have, m)
	} else {
		var done bool
		if done, problem = b.admit(rw, r, m); done {
			return
		}
	}
	if problem != nil {
		b.refuse(rw, r, problem)
		return
	}
	m.run(r, next)
}

// admit lets a request in that has something free, or proves that it is paid.
func (b *buyer) admit(rw http.ResponseWriter, r *http.Request, m *meter) (done bool, _ *paywall.Problem) {
	proof, err := paywall.ReadProof(r.Header)
	if err != nil {
		// Not metered must never mean free: whoever shows something wrong is refused,
		// also where others have something free.
		return false, paywall.MalformedCredential.With("%v", err)
	}
	if !proof.None() && !b.service.Shadow {
		return b.open(rw, r, proof, m)
	}
	if !b.o.Shop.TakeFree(gateway.Ask{Service: b.service.Name, Units: b.route.Units, Buyer: b.name(), Door: "http"}) {
		return false, paywall.PaymentRequired.With("one request is %d %s of %s: pay one of the challenges and send its credential", b.route.Units, b.service.Unit, b.service.Name)
	}
	m.free = "tier"
	if b.service.Shadow {
		m.free = "shadow"
	}
	return false, nil
}

// cors answers preflights, which carry no credentials and so can be no purchase.
// Nothing of them goes upstream. It reports whether the request is answered.
func (w *Wall) cors(rw http.ResponseWriter, r *http.Request) bool {
	h := rw.Header()
	if origin := r.Header.Get("Origin"); origin != "" && (w.origins["*"] || w.origins[origin]) {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Add("Vary", "Origin")
		h.Set("Access-Control-Expose-Headers", strings.Join([]string{"WWW-Authenticate", "Payment-Receipt", paywall.X402Required, paywall.X402Response, HeaderLeft, HeaderFree, "Retry-After"}, ", "))
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
			h.Set("Access-Control-Allow-Headers", strings.Join([]string{"Authorization", "Content-Type", HeaderUnits, paywall.X402Signature}, ", "))
			h.Set("Access-Control-Max-Age", "600")
		}
	}
	if r.Method != http.MethodOptions {
		return false
	}
	h.Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	rw.WriteHeader(http.StatusNoContent)
	return true
}

// client is the address a request comes from.
func (w *Wall) client(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr, _ := netip.ParseAddr(host)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && w.trusts(addr); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop
	}
	return addr.Unmap().WithZone("")
}

func (w *Wall) trusts(addr netip.Addr) bool {
	for _, p := range w.o.Proxies {
		if p.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

// kinds of the shop's errors, for whoever pays.
func problemOf(err error) *paywall.Problem {
	switch money.KindOf(err) {
	case money.Invalid:
		return paywall.VerificationFailed.With("%v", err)
	case money.Refused:
		return paywall.InvalidChallenge.With("%v", err)
	case money.Unpaid:
		p := paywall.VerificationFailed.With("%v", err)
		p.RetryAfter = 1 // it may be on its way
		return p
	}
	p := paywall.Unavailable.With("nobody can tell now whether this is paid; do not pay again, send the same credential later")
	p.RetryAfter = 5
	return p
}
