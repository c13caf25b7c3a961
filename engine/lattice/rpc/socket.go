package rpc

import (
	"bytes"
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
)

const (
	// MaxSockets bounds the clients of the WebSocket.
	MaxSockets = 256
	// MaxQueued bounds the messages that wait for one of them. One more ends its
	// connection: a client that knows that it has missed something asks again.
	MaxQueued = 2048
	// MaxFiltered bounds the accounts or representatives that one subscription names.
	MaxFiltered = 10_000
	// MaxNews bounds what of the node's news waits to be told.
	MaxNews = 16_384
	// sayTime is how long a client may take for one message.
	sayTime = 10 * time.Second
)

// Topics that a client may subscribe to.
const (
	topicConfirmation = "confirmation"
	topicVote         = "vote"
	topicStarted      = "started_election"
	topicStopped      = "stopped_election"
	topicUnconfirmed  = "new_unconfirmed_block"
	topicTelemetry    = "telemetry"
	topicWork         = "work"
	topicBootstrap    = "bootstrap" // there is never anything to say of it
)

var topics = map[string]bool{
	topicConfirmation: true, topicVote: true, topicStarted: true, topicStopped: true, topicUnconfirmed: true,
	topicTelemetry: true, topicWork: true, topicBootstrap: true,
}

// sockets are the clients.
type sockets struct {
	mu      sync.Mutex
	all     map[*socket]bool
	closed  bool
	serving sync.WaitGroup

	watching sync.Mutex // held from when it is seen who hears what until the node knows
}

// A socket is one client.
type socket struct {
	s    *Server
	say  chan []byte
	stop context.CancelFunc

	mu     sync.Mutex
	topics map[string]*options
}

// options are what a client wants of a topic.
type options struct {
	block, info, votes, linked, sideband bool
	kind                                 string               // of confirmations; "" for all
	accounts                             map[lattice.Key]bool // nil for all
}

// Socket is the handler of the WebSocket.
func (s *Server) Socket() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.allows(r) {
			http.Error(w, string(foreign), http.StatusForbidden)
			return
		}
		if wait := s.Take(network(r), time.Now()); wait > 0 {
			http.Error(w, string(tooBusy), http.StatusTooManyRequests)
			return
		}
		ctx, stop := context.WithCancel(r.Context())
		defer stop()
		defer context.AfterFunc(s.ctx, stop)()
		k := &socket{s: s, say: make(chan []byte, MaxQueued), stop: stop, topics: map[string]*options{}}
		if !s.sockets.add(k) {
			http.Error(w, string(tooBusy), http.StatusServiceUnavailable)
			return
		}
		defer s.rewatch()
		defer s.sockets.remove(k)
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: s.AnyOrigin})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(MaxBody)
		written := make(chan struct{})
		go func() {
			defer close(written)
			k.write(ctx, conn)
		}()
		k.read(ctx, conn)
		stop()
		<-written
	})
}

func (a *sockets) add(k *socket) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(a.all) >= MaxSockets {
		return false
	}
	a.serving.Add(1)
	if a.all == nil {
		a.all = map[*socket]bool{}
	}
	a.all[k] = true
	return true
}

func (a *sockets) remove(k *socket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, k)
	a.serving.Done()
}

// close waits until all are gone, who have been told to go.
func (a *sockets) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.serving.Wait()
}

// each calls f for those who hear a topic, whose options stay as they are meanwhile.
func (a *sockets) each(topic string, f func(*socket, *options)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.all {
		k.mu.Lock()
		if o := k.topics[topic]; o != nil {
			f(k, o)
		}
		k.mu.Unlock()
	}
}

func (a *sockets) any(topic string) (yes bool) {
	a.each(topic, func(*socket, *options) { yes = true })
	return yes
}

// rewatch has the node tell what somebody hears.
func (s *Server) rewatch() {
	s.sockets.watching.Lock()
	defer s.sockets.watching.Unlock()
	s.news.Want(node.Watch{
		Votes:     s.sockets.any(topicVote),
		Elections: s.sockets.any(topicStarted) || s.sockets.any(topicStopped),
		Blocks:    s.sockets.any(topicUnconfirmed),
		Telemetry: s.sockets.any(topicTelemetry),
	})
}

// send queues a message, or ends the connection of one who does not read.
func (k *socket) send(message []byte) {
	select {
	case k.say <- message:
	default:
		k.stop()
	}
}

func (k *socket) write(ctx context.Context, conn *websocket.Conn) {
	defer k.stop()
	for {
		select {
		case <-ctx.Done():
			return
		case message := <-k.say:
			timed, cancel := context.WithTimeout(ctx, sayTime)
			err := conn.Write(timed, websocket.MessageText, message)
			cancel()
			if err != nil {
				return
			}
		}
	}
}

func (k *socket) read(ctx context.Context, conn *websocket.Conn) {
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			return
		}
		r, err := parse(bytes.TrimSpace(message))
		if err != nil {
			conn.Close(websocket.StatusUnsupportedData, string(unparsed))
			return
		}
		k.told(r)
	}
}

// told does what a client says. What is not understood is not acknowledged.
func (k *socket) told(r *request) {
	action, _ := r.optional("action")
	topic, _ := r.optional("topic")
	wanted, _ := r.values["options"].(map[string]any)
	ok := false
	k.mu.Lock()
	switch {
	case action == "ping":
		action, ok = "pong", true
	case !topics[topic]:
	case action == "subscribe":
		o := readOptions(&request{values: wanted})
		if ok = o != nil; ok {
			k.topics[topic] = o
		}
	case action == "update":
		ok = k.topics[topic] != nil && wanted != nil && k.topics[topic].update(&request{values: wanted})
	case action == "unsubscribe":
		delete(k.topics, topic)
		ok = true
	}
	k.mu.Unlock()
	if !ok {
		return
	}
	if action == "subscribe" || action == "unsubscribe" {
		k.s.rewatch()
	}
	if action == "pong" || r.flag("ack", false) {
		o := new(object).put("ack", action).put("time", millis())
		if id, given := r.optional("id"); given {
			o.put("id", id)
		}
		k.send(appendValue(nil, o))
	}
}

func millis() string { return strconv.FormatInt(time.Now().UnixMilli(), 10) }

// readOptions reads options; nil if they are too many.
func readOptions(r *request) *options {
	o := &options{
		block: r.flag("include_block", true), votes: r.flag("include_election_info_with_votes", false),
		linked: r.flag("include_linked_account", false), sideband: r.flag("include_sideband_info", false),
	}
	o.info = r.flag("include_election_info", false) || o.votes
	switch kind, _ := r.optional("confirmation_type"); kind {
	case "active", "active_quorum", "active_confirmation_height", "inactive":
		o.kind = kind
	}
	for _, name := range []string{"accounts", "representatives"} {
		if r.has(name) && !o.add(r, name, true) {
			return nil
		}
	}
	return o
}

func (o *options) update(r *request) bool {
	return (!r.has("accounts_add") || o.add(r, "accounts_add", true)) && (!r.has("accounts_del") || o.add(r, "accounts_del", false))
}

// add changes the accounts that are let through. What is no account is left out.
func (o *options) add(r *request, name string, in bool) bool {
	items, _ := r.values[name].([]any)
	if len(o.accounts)+len(items) > MaxFiltered {
		return false
	}
	if o.accounts == nil {
		o.accounts = map[lattice.Key]bool{}
	}
	for _, item := range items {
		text, _ := textOf(item)
		k, err := lattice.ParseAccount(text)
		switch {
		case err != nil:
		case in:
			o.accounts[k] = true
		default:
			delete(o.accounts, k)
		}
	}
	return true
}

func newMessage(topic string) *object { return new(object).put("topic", topic).put("time", millis()) }

// tellNews tells clients what the node tells.
func (s *Server) tellNews() {
	var lost uint64
	for news := range s.news.C {
		if now := s.news.Lost(); now != lost {
			lost = now
			s.sockets.each(topicConfirmation, func(k *socket, _ *options) { k.stop() })
		}
		switch v := news.(type) {
		case node.Confirmed:
			s.confirmed(&v)
		case node.Unconfirmed:
			s.tell(topicUnconfirmed, newMessage(topicUnconfirmed).put("hash", v.Hash).
				put("message", contents(&v.Block).put("subtype", subtype(v.Kind))))
		case node.Started:
			s.tell(topicStarted, newMessage(topicStarted).put("message", new(object).put("hash", v.Hash)))
		case node.Stopped:
			s.tell(topicStopped, newMessage(topicStopped).put("message", new(object).put("hash", v.Hash)))
		case node.Voted:
			s.voted(&v)
		case node.Reported:
			var at netip.AddrPort
			for _, p := range s.Node.Peers() {
				if p.Name == v.Peer {
					at = p.Remote
				}
			}
			s.tell(topicTelemetry, newMessage(topicTelemetry).put("message", new(object).putTelemetry(&v.Telemetry).putAddress(at)))
		}
	}
}

func (s *Server) tell(topic string, o *object) {
	message := appendValue(nil, o)
	s.sockets.each(topic, func(k *socket, _ *options) { k.send(message) })
}

// confirmed tells of a cemented block, to each client as it wants it.
func (s *Server) confirmed(v *node.Confirmed) {
	now := s.Node.Now()
	kind := "inactive"
	if v.Active {
		kind = "active_quorum"
		s.history.add(ended{now, v.Election})
	}
	source := ""
	s.sockets.each(topicConfirmation, func(k *socket, o *options) {
		if o.kind != "" && o.kind != kind && !(o.kind == "active" && v.Active) {
			return
		}
		if o.accounts != nil && !o.accounts[v.Block.Account] && !o.accounts[v.Block.Link] {
			return
		}
		if o.linked && source == "" {
			source = s.linkedTo(v)
		}
		k.send(appendValue(nil, newMessage(topicConfirmation).put("message", o.confirmation(v, kind, source, now))))
	})
}

// linkedTo is the account at the other end of a cemented transfer.
func (s *Server) linkedTo(v *node.Confirmed) (account string) {
	s.Node.Look(s.ctx, func(n *node.Node) { account = linked(n, &node.Stored{Block: v.Block, Kind: v.Kind}) })
	return account
}

func (o *options) confirmation(v *node.Confirmed, kind, source string, now step.Time) *object {
	m := new(object).put("account", v.Block.Account).put("amount", v.Amount).put("hash", v.Hash).put("confirmation_type", kind)
	if o.info {
		e := new(object).putElection(v.Election, now)
		if o.votes {
			e.put("votes", votesOf(v.Election.Votes))
		}
		m.put("election_info", e)
	}
	if o.block {
		b := contents(&v.Block)
		if o.linked {
			b.put("linked_account", source)
		}
		m.put("block", b.put("subtype", subtype(v.Kind)))
	}
	if o.sideband {
		m.put("sideband", new(object).put("height", v.Height).put("local_timestamp", seconds(now)))
	}
	return m
}

// voted tells of a vote that was counted.
func (s *Server) voted(v *node.Voted) {
	var hashes list
	for _, h := range v.Vote.Hashes {
		hashes = append(hashes, h)
	}
	stamp, duration := v.Vote.Timestamp, uint64(0)
	if !v.Vote.Final() {
		stamp, duration = v.Vote.Millis(), v.Vote.Timestamp&0xf
	}
	message := appendValue(nil, newMessage(topicVote).put("message", new(object).put("account", v.Vote.Account).
		put("signature", upper(v.Vote.Signature[:])).put("sequence", stamp).put("timestamp", stamp).put("duration", duration).
		put("blocks", hashes).put("type", "vote")))
	s.sockets.each(topicVote, func(k *socket, o *options) {
		if o.accounts == nil || o.accounts[v.Vote.Account] {
			k.send(message)
		}
	})
}

// tellWork tells of work that was done or not.
func (s *Server) tellWork(root lattice.Hash, work, difficulty uint64, took time.Duration, err error) {
	if !s.sockets.any(topicWork) {
		return
	}
	base := s.Node.Network().WorkSend
	reason := ""
	if err != nil {
		reason = "cancelled"
	}
	m := new(object).put("success", err == nil).put("reason", reason).put("duration", uint64(took.Milliseconds()))
	m.put("request", new(object).put("version", "work_1").put("hash", root).put("difficulty", hex16(difficulty)).
		put("multiplier", multiplier(difficulty, base)))
	if err == nil {
		value := lattice.WorkValue(root, work)
		m.put("result", new(object).put("source", "local").put("work", hex16(work)).put("difficulty", hex16(value)).
			put("multiplier", multiplier(value, base)))
	}
	s.tell(topicWork, newMessage(topicWork).put("message", m.put("bad_peers", list(nil))))
}
