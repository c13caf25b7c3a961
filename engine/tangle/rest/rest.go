// Package rest is a Tangle node's door for wallets: Stardust's REST over HTTP (core
// API 2, the part of indexer API 1 that is about basic outputs), and a client by which
// a wallet on another machine works as if the node were on its own.
//
// Paths, JSON, the binary form (application/vnd.iota.serializer-v1) and errors are
// Stardust's. Ours is what stands below /api/coinop/v1: what an address has with the
// notes of its outputs in one answer, the proof that a transaction was applied, and
// events. HORNET tells events over MQTT, by a process of its own; here they come over
// WebSocket, with MQTT's topics. Errors have one more field, "refusal", when a
// transaction is not taken.
//
// Receipts, the treasury, white-flag mutations and the control of a node are not
// there: their routes are not found.
package rest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	tanglenet "coinop.dev/engine/tangle"
)

const (
	// MaxPage bounds the outputs that one answer of the indexer lists.
	MaxPage = 256
	// MaxChanges bounds the outputs that the changes of one milestone list.
	MaxChanges = 50_000
	// MaxNote bounds the data of a note that an address's outputs are listed with, in
	// bytes: a transaction that pays as many orders as it can has less.
	MaxNote = 4608
	// MaxRequests bounds the requests that are served at a time.
	MaxRequests = 256
	// MaxHeavy bounds those of them that read many blocks or outputs.
	MaxHeavy = 16
	// MaxRate and MaxBurst bound the requests a second of all clients together, if
	// Options.Take is nil.
	MaxRate  = 5000
	MaxBurst = 10_000
	// RequestTime bounds a request, but for the work of a block.
	RequestTime = 15 * time.Second
	// MaxAge is how old the newest milestone of a healthy node is.
	MaxAge = 5 * time.Minute
	// lookAt bounds the blocks or outputs that one look at the node is for, which
	// does nothing else meanwhile.
	lookAt = 64
)

// A Token is what the network's base unit is called, for people.
type Token struct {
	Name            string `json:"name"`
	TickerSymbol    string `json:"tickerSymbol"`
	Unit            string `json:"unit"`
	Subunit         string `json:"subunit,omitempty"`
	Decimals        uint32 `json:"decimals"`
	UseMetricPrefix bool   `json:"useMetricPrefix"`
}

// Options are what a server is made of.
type Options struct {
	Node *tanglenet.Node
	// Version is what /info says; "" is "0".
	Version string
	// Token is what /info says; the zero value is the thousandth of a satoshi.
	Token Token
	// Control shows the node's peers, and where they are, to everybody who asks.
	Control bool
	// AnyOrigin lets programs of any web site use the server from browsers.
	AnyOrigin bool
	// Take takes one request of a network from its share, or says how long to wait
	// (gateway.Limiter.Take); nil: MaxRate for all together.
	Take func(network netip.Prefix, now time.Time) (wait time.Duration)
	Log  *slog.Logger // nil: the node's
}

// A Server answers requests. It is an http.Handler.
type Server struct {
	Options
	mux     *http.ServeMux
	began   time.Time
	pace    pace
	sockets sockets
	slots   chan struct{}
	heavy   chan struct{}
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	news    *tanglenet.Subscription
}

// New returns the server of a node. It is closed before the node.
func New(o Options) (*Server, error) {
	o.Log, o.Version = cmp.Or(o.Log, o.Node.Log), cmp.Or(o.Version, "0")
	o.Token = cmp.Or(o.Token, Token{Name: "millisatoshi", TickerSymbol: "MSAT", Unit: "msat"})
	if o.Take == nil {
		all := rate.NewLimiter(MaxRate, MaxBurst)
		o.Take = func(_ netip.Prefix, now time.Time) time.Duration {
			if all.AllowN(now, 1) {
				return 0
			}
			return time.Second
		}
	}
	news, err := o.Node.Subscribe(MaxNews, node.Watch{})
	if err != nil {
		return nil, err
	}
	s := &Server{
		Options: o, mux: http.NewServeMux(), began: time.Now(), news: news,
		slots: make(chan struct{}, MaxRequests), heavy: make(chan struct{}, MaxHeavy),
		sockets: sockets{all: map[*socket]bool{}, hear: map[string]map[*socket]bool{}},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.route()
	s.running.Go(s.tellNews)
	return s, nil
}

// Close ends all requests and sockets.
func (s *Server) Close() error {
	s.cancel()
	s.sockets.close()
	s.news.Close()
	s.running.Wait()
	return nil
}

const (
	core  = "/api/core/v2"
	index = "/api/indexer/v1"
	ours  = "/api/coinop/v1"
)

// route says what there is.
func (s *Server) route() {
	s.mux.HandleFunc("GET /health", s.health)
	s.mux.HandleFunc("GET "+ours+"/events", s.events)
	for pattern, do := range map[string]func(*call) (any, error){
		"GET /api/routes":                                            (*call).routes,
		"GET " + core + "/info":                                      (*call).info,
		"GET " + core + "/tips":                                      (*call).tips,
		"GET " + core + "/peers":                                     (*call).peers,
		"GET " + core + "/peers/{id}":                                (*call).peer,
		"POST " + core + "/blocks":                                   (*call).submit,
		"GET " + core + "/blocks/{id}":                               (*call).block,
		"GET " + core + "/blocks/{id}/metadata":                      (*call).blockMetadata,
		"GET " + core + "/transactions/{id}/included-block":          (*call).includedBlock,
		"GET " + core + "/transactions/{id}/included-block/metadata": (*call).includedMetadata,
		"GET " + core + "/outputs/{id}":                              (*call).output,
		"GET " + core + "/outputs/{id}/metadata":                     (*call).outputMetadata,
		"GET " + core + "/milestones/{id}":                           (*call).milestone,
		"GET " + core + "/milestones/{id}/{what}":                    heavy((*call).milestoneChanges),
		"GET " + core + "/milestones/by-index/{index}":               (*call).milestone,
		"GET " + core + "/milestones/by-index/{index}/{what}":        heavy((*call).milestoneChanges),
		"GET " + index + "/outputs/basic":                            (*call).basicOutputs,
		"GET " + ours + "/addresses/{address}":                       heavy((*call).address),
		"GET " + ours + "/transactions/{id}/proof":                   heavy((*call).proof),
		"/": (*call).nowhere,
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := s.serve(w, r, do)
			if err != nil {
				v = s.fault(err)
			}
			s.write(w, v)
		})
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.AnyOrigin {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Headers", "Accept, Accept-Language, Content-Language, Content-Type")
		w.Header().Set("Access-Control-Expose-Headers", "Location")
	}
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// A call is a request that is being done.
type call struct {
	*http.Request
	s   *Server
	w   http.ResponseWriter
	ctx context.Context
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, do func(*call) (any, error)) (any, error) {
	if wait := s.Take(network(r), time.Now()); wait > 0 {
		w.Header().Set("Retry-After", "1")
		return nil, tooMany
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return nil, tooBusy
	}
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(RequestTime))
	defer http.NewResponseController(w).SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(r.Context(), RequestTime+tanglenet.WorkTime)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	return do(&call{r, s, w, ctx})
}

// look looks at the node for an answer.
func (c *call) look(f func(*node.Node)) error {
	ctx, cancel := context.WithTimeout(c.ctx, RequestTime)
	defer cancel()
	return c.s.Node.Look(ctx, f)
}

// heavy has a call that reads much do so when few others do.
func heavy(do func(*call) (any, error)) func(*call) (any, error) {
	return func(c *call) (any, error) {
		ctx, cancel := context.WithTimeout(c.ctx, RequestTime)
		defer cancel()
		select {
		case c.s.heavy <- struct{}{}:
			defer func() { <-c.s.heavy }()
			return do(c)
		case <-ctx.Done():
			return nil, tooBusy
		}
	}
}

// binary is the type of what is not JSON.
const binary = "application/vnd.iota.serializer-v1"

// serialized is an answer in binary form.
type serialized []byte

// accepts reports whether a client would rather have another form than JSON.
func (c *call) accepts(form string) bool { return strings.Contains(c.Header.Get("Accept"), form) }

// write writes an answer: a *Fault, serialized, a created block or anything in JSON.
func (s *Server) write(w http.ResponseWriter, answer any) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(RequestTime))
	defer http.NewResponseController(w).SetWriteDeadline(time.Time{})
	status := http.StatusOK
	switch v := answer.(type) {
	case serialized:
		w.Header().Set("Content-Type", binary)
		w.Write(v)
		return
	case proofBytes:
		w.Header().Set("Content-Type", proofType)
		w.Write(v)
		return
	case created:
		status = http.StatusCreated
		w.Header().Set("Location", v.Block.String())
	case *Fault:
		status = v.Status
		answer = envelope{jsonFault{strconv.Itoa(v.Status), v.Message, v.Refusal}}
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		s.Log.Error("Tangle REST", "err", err)
		status, raw = http.StatusInternalServerError, []byte(`{"error":{"code":"500","message":"internal error"}}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	w.Write(raw)
}

// network is what one client has: an IPv4 address, or 64 bits of an IPv6 one.
func network(r *http.Request) netip.Prefix {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	bits, addr := 64, at.Addr().Unmap().WithZone("")
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits)
	return p
}

func (c *call) nowhere() (any, error) {
	return nil, notFound("route %.200s %.20s", c.URL.Path, c.Method)
}

// fault is what a client is told of an error, and never what is inside.
func (s *Server) fault(err error) *Fault {
	var f *Fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return tooBusy
	}
	s.Log.Warn("Tangle REST", "err", err)
	return &Fault{http.StatusInternalServerError, "internal error", ""}
}

// hrp is what the network's addresses begin with.
func (s *Server) hrp() string { return s.Node.Network().HRP }

func (s *Server) trust() tangle.Coordinators { return s.Node.Network().Trust() }
