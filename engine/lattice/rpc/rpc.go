// Package rpc is a lattice node's door for wallets: Nano's RPC over HTTP and its
// WebSocket, and a client of both by which a wallet on another machine works as if
// the node were on its own.
//
// Requests and answers are those of nano-node: a POST of JSON with an "action",
// every value as text, an error as {"error": "..."} in Nano's words, and an empty
// list as "". One action is ours: "certificate", which other nodes do not know.
// Actions that Nano has behind enable_control are disabled unless Control is set.
package rpc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/money"
	nanonet "coinop.dev/engine/lattice"
)

const (
	// MaxCount bounds what one request lists; Nano's node has no such limit. Who
	// wants more asks again from where the answer ends.
	MaxCount = 4096
	// MaxSum bounds what is summed up as receivable for one account.
	MaxSum = 10_000
	// MaxRequests bounds the requests that are served at a time.
	MaxRequests = 256
	// MaxRate and MaxBurst bound the requests a second of all clients together, if
	// Options.Take is nil.
	MaxRate  = 5000
	MaxBurst = 10_000
	// MaxHeader bounds what a client says of a request, in bytes.
	MaxHeader = 16 << 10
	// RequestTime bounds a request, but for one for work.
	RequestTime = 15 * time.Second
	// lookAt bounds the blocks or accounts that one look at the node is for, which
	// does nothing else meanwhile.
	lookAt = 64
)

// Options are what a server is made of.
type Options struct {
	Node *nanonet.Node
	// Control allows what changes the node or costs it much: Nano's enable_control.
	Control bool
	// Work allows work_generate and work_cancel without Control: light wallets
	// without much power need them.
	Work bool
	// MaxWork bounds the difficulty of work; 0: MaxMultiplier times that of a send.
	MaxWork uint64
	// AnyOrigin lets programs of any web site use the server from their visitors'
	// browsers, as Nano's node does.
	AnyOrigin bool
	// Take takes one request of a network from its share, or says how long to wait
	// (gateway.Limiter.Take); nil: MaxRate for all together.
	Take func(network netip.Prefix, now time.Time) (wait time.Duration)
	Log  *slog.Logger // nil: the node's
}

// A Server answers requests. It is an http.Handler for RPC; Socket is the one for
// WebSocket.
type Server struct {
	Options
	began   time.Time
	works   *works
	history history
	sockets sockets
	slots   chan struct{}
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	news    *nanonet.Subscription
}

// New returns the server of a node. It is closed before the node.
func New(o Options) (*Server, error) {
	o.Log = cmp.Or(o.Log, o.Node.Log)
	network := o.Node.Network()
	o.MaxWork = cmp.Or(o.MaxWork, multiply(network.WorkSend, MaxMultiplier))
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
	s := &Server{Options: o, began: time.Now(), works: newWorks(), slots: make(chan struct{}, MaxRequests), news: news}
	s.ctx, s.cancel = context.WithCancel(context.Background())
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

// An action is one that a request may ask for.
type action struct {
	do      func(*call) (*object, error)
	control bool // needs Options.Control
	work    bool // or Options.Work
}

// actions are those that there are.
var actions = map[string]action{
	"account_balance":          {do: (*call).accountBalance},
	"account_block_count":      {do: (*call).accountBlockCount},
	"account_count":            {do: (*call).accountCount},
	"frontier_count":           {do: (*call).accountCount},
	"account_get":              {do: (*call).accountGet},
	"account_history":          {do: (*call).accountHistory},
	"account_info":             {do: (*call).accountInfo},
	"account_key":              {do: (*call).accountKey},
	"account_representative":   {do: (*call).accountRepresentative},
	"account_weight":           {do: (*call).accountWeight},
	"accounts_balances":        {do: (*call).accountsBalances},
	"accounts_frontiers":       {do: (*call).accountsFrontiers},
	"accounts_pending":         {do: deprecated((*call).accountsReceivable)},
	"accounts_receivable":      {do: (*call).accountsReceivable},
	"accounts_representatives": {do: (*call).accountsRepresentatives},
	"active_difficulty":        {do: (*call).activeDifficulty},
	"available_supply":         {do: (*call).availableSupply},
	"block":                    {do: (*call).blockInfo},
	"block_account":            {do: (*call).blockAccount},
	"block_confirm":            {do: (*call).blockConfirm},
	"block_count":              {do: (*call).blockCount},
	"block_create":             {do: (*call).blockCreate, control: true},
	"block_hash":               {do: (*call).blockHash},
	"block_info":               {do: (*call).blockInfo},
	"blocks":                   {do: (*call).blocks},
	"blocks_info":              {do: (*call).blocksInfo},
	"certificate":              {do: (*call).certificate},
	"chain":                    {do: func(c *call) (*object, error) { return c.chain(false) }},
	"confirmation_active":      {do: (*call).confirmationActive},
	"confirmation_history":     {do: (*call).confirmationHistory},
	"confirmation_info":        {do: (*call).confirmationInfo},
	"confirmation_quorum":      {do: (*call).confirmationQuorum},
	"deterministic_key":        {do: (*call).deterministicKey},
	"frontiers":                {do: (*call).frontiers},
	"key_create":               {do: (*call).keyCreate},
	"key_expand":               {do: (*call).keyExpand},
	"nano_to_raw":              {do: (*call).nanoToRaw},
	"node_id":                  {do: (*call).nodeID, control: true},
	"peers":                    {do: (*call).peers},
	"pending":                  {do: deprecated((*call).receivable)},
	"pending_exists":           {do: deprecated((*call).receivableExists)},
	"process":                  {do: (*call).process},
	"raw_to_nano":              {do: (*call).rawToNano},
	"receivable":               {do: (*call).receivable},
	"receivable_exists":        {do: (*call).receivableExists},
	"representatives":          {do: (*call).representatives},
	"representatives_online":   {do: (*call).representativesOnline},
	"successors":               {do: func(c *call) (*object, error) { return c.chain(true) }},
	"telemetry":                {do: (*call).telemetry},
	"uptime":                   {do: (*call).uptime},
	"validate_account_number":  {do: (*call).validateAccountNumber},
	"version":                  {do: (*call).version},
	"work_cancel":              {do: (*call).workCancel, control: true, work: true},
	"work_generate":            {do: (*call).workGenerate, control: true, work: true},
	"work_validate":            {do: (*call).workValidate},
}

// controlled are the actions of Nano's node that it has behind enable_control and
// that are not here: they are disabled, and no more is to be said.
var controlled = []string{
	"account_create", "account_move", "account_remove", "account_representative_set", "accounts_create", "bootstrap_lazy",
	"database_txn_tracker", "epoch_upgrade", "keepalive", "ledger", "password_change", "populate_backlog", "receive",
	"receive_minimum", "receive_minimum_set", "search_pending", "search_pending_all", "search_receivable",
	"search_receivable_all", "send", "stop", "unchecked_clear", "unopened", "wallet_add", "wallet_add_watch",
	"wallet_change_seed", "wallet_create", "wallet_destroy", "wallet_lock", "wallet_representative_set", "wallet_republish",
	"wallet_seed", "wallet_work_get", "work_get", "work_peer_add", "work_peers", "work_peers_clear", "work_set",
}

// A call is a request that is being done.
type call struct {
	*request
	s   *Server
	ctx context.Context
}

// look looks at the node for an answer.
func (c *call) look(f func(*node.Node, *object) error) (*object, error) {
	if c.fault != nil {
		return nil, c.fault
	}
	o := new(object)
	var err error
	if gone := c.s.Node.Look(c.ctx, func(n *node.Node) { err = f(n, o) }); gone != nil {
		return nil, gone
	}
	return o, err
}

// do does what a request asks for.
func (s *Server) do(ctx context.Context, body []byte) (*object, error) {
	r, err := parse(body)
	if err != nil {
		return nil, err
	}
	name := r.text("action")
	if r.fault != nil {
		return nil, r.fault
	}
	a, known := actions[name]
	switch {
	case !known && !s.Control && slices.Contains(controlled, name):
		return nil, controlDisabled
	case !known:
		return nil, unknownCommand
	case a.control && !s.Control && !(a.work && s.Work):
		return nil, controlDisabled
	case name == "process" && r.flag("force", false) && !s.Control:
		return nil, controlDisabled
	case name != "work_generate" && name != "block_create":
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, RequestTime)
		defer cancel()
	}
	o, err := a.do(&call{r, s, ctx})
	switch {
	case err != nil:
		return nil, err
	case len(o.fields) == 0:
		return nil, empty
	}
	return o, nil
}

func deprecated(do func(*call) (*object, error)) func(*call) (*object, error) {
	return func(c *call) (*object, error) {
		o, err := do(c)
		if err == nil {
			o.fields = slices.Insert(o.fields, 0, field{"deprecated", "1"})
		}
		return o, err
	}
}

// ServeHTTP answers one request. As with Nano's node an error has status 200.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.AnyOrigin {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Headers", "Accept, Accept-Language, Content-Language, Content-Type")
	}
	w.Header().Set("Allow", "POST, OPTIONS")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	o, err := s.serve(w, r)
	if r.Method == http.MethodOptions {
		return
	}
	if err != nil {
		o = new(object).put("error", s.words(err))
	}
	w.Write(appendValue(nil, o))
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) (*object, error) {
	if r.Method != http.MethodPost {
		return nil, onlyPost
	}
	if !s.allows(r) {
		return nil, foreign
	}
	if wait := s.Take(network(r), time.Now()); wait > 0 {
		w.Header().Set("Retry-After", "1")
		return nil, tooBusy
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return nil, tooBusy
	}
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(RequestTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		return nil, unparsed
	}
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	return s.do(ctx, bytes.TrimSpace(body))
}

// allows refuses programs of web sites: they run on their visitors' computers, and
// reach what those reach.
func (s *Server) allows(r *http.Request) bool { return s.AnyOrigin || r.Header.Get("Origin") == "" }

// Listen serves a handler, the server itself or its Socket, until Close.
func (s *Server) Listen(addr string, h http.Handler) (net.Addr, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for lattice wallets: %w", err)
	}
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: RequestTime, IdleTimeout: time.Minute, MaxHeaderBytes: MaxHeader,
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	s.running.Go(func() {
		defer context.AfterFunc(s.ctx, func() { server.Close() })()
		server.Serve(l)
	})
	return l.Addr(), nil
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

// words are what a client is told of an error: Nano's, and never ours of what is
// inside.
func (s *Server) words(err error) string {
	var f Fault
	switch why := node.AsRefusal(err); {
	case errors.As(err, &f):
		return string(f)
	case why != "":
		return string(why)
	case money.KindOf(err) == money.Refused:
		return string(tooBusy)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return string(unavailable)
	}
	s.Log.Warn("lattice RPC", "err", err)
	return string(internal)
}
