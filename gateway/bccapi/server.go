package bccapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"golang.org/x/time/rate"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
)

// What one request may ask for, as the original says.
const (
	MaxAddresses    = 10  // of the three calls that take some
	MaxTransactions = 100 // of an inventory and of a summary
	Timeout         = 60 * time.Second
)

// What the server bounds for its own sake.
const (
	// MaxRequest is a transaction of tx.MaxSize and room for what later versions
	// of a client may add.
	MaxRequest = 1 << 17
	// MaxResponse bounds an answer: 50,000 unspent outputs, or 140,000 items of
	// summaries.
	MaxResponse = 4 << 20
	// MaxOutputs bounds the coins of the addresses in a request.
	MaxOutputs = 10_000
	// MaxLookups bounds the previous transactions and outputs that are looked up
	// for one request.
	MaxLookups = 2_000
	// MaxBusy bounds the requests that are being answered. The others are told
	// to come again.
	MaxBusy = 32
	// Rate is how many requests a client may make in a second, and Burst how many
	// at once after a pause. A client is an IPv4 address or an IPv6 /64.
	Rate  = 2
	Burst = 60
	// MaxClients bounds the clients that are counted. Those that paused long
	// enough to have their whole Burst again are forgotten first.
	MaxClients = 10_000
	// maxMoves bounds how often a look begins again because the tip has changed.
	maxMoves = 3
)

// A Source shows the chain that is served: any chain.Source. One that is a
// [chain.Pooler] or a [History] as well is used as such: of a source that is no
// Pooler, a transaction that waits is known by the coins that it makes for the
// addresses, and one that makes none is missing from Balance.Sending.
type Source interface {
	Tip(ctx context.Context) (height int32, hash chainhash.Hash, err error)
	Coins(ctx context.Context, script []byte) ([]watch.Coin, error)
	Status(ctx context.Context, o watch.Output) (watch.Status, error)
	Publish(ctx context.Context, t *wire.MsgTx) error
}

// A History tells the past of scripts. Of a source that is none, inventories and
// summaries are answered with an error.
type History interface {
	// Transactions lists what pays or spends a script, the newest first and what
	// waits before that; at most limit.
	Transactions(ctx context.Context, script []byte, limit int) ([]Transaction, error)
	// Transaction finds one by its id. Its Tx is nil if the source has none.
	Transaction(ctx context.Context, id chainhash.Hash) (Transaction, error)
}

// A Transaction is one of a History.
type Transaction struct {
	Tx     *wire.MsgTx
	Height int32     // or Waiting
	Time   time.Time // of its block, or when it was first seen
}

// Options of a Server.
type Options struct {
	Source Source
	Params *chaincfg.Params // of its chain; nil means regtest
	// Rate and Burst are instead of the constants if not zero.
	Rate  float64
	Burst int
	// OnDown is told why the source does not answer; nil for nobody.
	OnDown func(error)
}

// A Server answers devices. It is an http.Handler for paths that begin with
// /ng/, and holds no key and no account.
type Server struct {
	options Options
	params  *chaincfg.Params
	history History // nil if there is none
	busy    chan struct{}

	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter
}

// New returns a server.
func New(o Options) *Server {
	o.Rate, o.Burst = cmp.Or(o.Rate, Rate), cmp.Or(o.Burst, Burst)
	if o.OnDown == nil {
		o.OnDown = func(error) {}
	}
	s := &Server{options: o, params: cmp.Or(o.Params, &chaincfg.RegressionNetParams), busy: make(chan struct{}, MaxBusy), clients: map[netip.Prefix]*rate.Limiter{}}
	s.history, _ = o.Source.(History)
	return s
}

// request is the kind of frame that a call takes.
func request(call string) kind {
	switch call {
	case "queryBalance":
		return kindBalanceRequest
	case "queryUnspentOutputs":
		return kindUnspentRequest
	case "queryTransactionInventory":
		return kindInventoryRequest
	case "queryTransactionSummary":
		return kindSummaryRequest
	case "broadcastTransaction":
		return kindBroadcastRequest
	}
	return kindAny
}

// ServeHTTP implements http.Handler. Errors are frames with status 200, because
// the original client reads no others.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call, ok := strings.CutPrefix(r.URL.Path, "/ng/")
	want := request(call)
	if !ok || want == kindAny {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST a frame", http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), Timeout)
	defer cancel()
	// A ResponseWriter that knows no deadlines has its server's.
	slow := http.NewResponseController(w)
	_ = slow.SetReadDeadline(time.Now().Add(Timeout))

	frame := Append(nil, s.serve(ctx, w, r, want))
	if len(frame) > MaxResponse {
		frame = Append(nil, &Error{InvalidRequest, fmt.Sprintf("the answer is %d bytes; the limit is %d; ask for less", len(frame), MaxResponse)})
	}
	_ = slow.SetWriteDeadline(time.Now().Add(Timeout))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(frame)))
	_, _ = w.Write(frame) // a client that has gone needs no answer
}

func (s *Server) serve(ctx context.Context, w http.ResponseWriter, r *http.Request, want kind) Message {
	if !s.admit(r.RemoteAddr, time.Now()) {
		return &Error{CommunicationError, fmt.Sprintf("more than %d requests, then %g a second; wait", s.options.Burst, s.options.Rate)}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest))
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		return &Error{InvalidRequest, fmt.Sprintf("the request is longer than %d bytes", MaxRequest)}
	}
	if err != nil {
		return &Error{CommunicationError, "the request ended early"}
	}
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	default:
		return &Error{CommunicationError, fmt.Sprintf("%d requests are being answered; try again", MaxBusy)}
	}
	m, err := Decode(body)
	if err == nil && m.kind() != want {
		err = &Error{UnknownType, fmt.Sprintf("frame type 0x%02x is not what this path takes, 0x%02x", uint8(m.kind()), uint8(want))}
	}
	if err == nil {
		m, err = s.answer(ctx, m)
	}
	if err != nil {
		return s.refusal(err)
	}
	return m
}

func (s *Server) answer(ctx context.Context, m Message) (Message, error) {
	switch m := m.(type) {
	case BalanceRequest:
		return s.balance(ctx, m)
	case UnspentRequest:
		return s.unspent(ctx, m)
	case InventoryRequest:
		return s.inventory(ctx, m)
	case SummaryRequest:
		return s.summary(ctx, m)
	case BroadcastRequest:
		if err := s.options.Source.Publish(ctx, m.Tx); err != nil {
			return nil, err
		}
		return BroadcastResponse{m.Tx.TxHash()}, nil
	}
	return nil, &Error{UnknownType, "a response is not a request"}
}

// refusal is what a client is told of an error. Why the source does not answer
// is not its business.
func (s *Server) refusal(err error) *Error {
	if e := new(Error); errors.As(err, &e) {
		return e
	}
	switch {
	case errors.Is(err, chain.ErrRefused):
		return &Error{InvalidRequest, err.Error()}
	case errors.Is(err, chain.ErrSyncing):
		return &Error{CommunicationError, chain.ErrSyncing.Error() + "; try again"}
	}
	s.options.OnDown(err)
	return &Error{CommunicationError, "the chain does not answer; try again"}
}

// admit counts a request of a client.
func (s *Server) admit(remote string, now time.Time) bool {
	who := client(remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.clients[who]
	if l == nil {
		if len(s.clients) >= MaxClients {
			s.forget(now)
		}
		if len(s.clients) >= MaxClients {
			return false
		}
		l = rate.NewLimiter(rate.Limit(s.options.Rate), s.options.Burst)
		s.clients[who] = l
	}
	return l.AllowN(now, 1)
}

func (s *Server) forget(now time.Time) {
	for who, l := range s.clients {
		if l.TokensAt(now) >= float64(s.options.Burst) {
			delete(s.clients, who)
		}
	}
}

// client is who a remote address counts as. What is no address is one client.
func client(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	bits, addr := 64, at.Addr().Unmap()
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.WithZone("").Prefix(bits) // it has so many
	return p
}
