package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	"coinop.dev/engine/errand"
	tanglenet "coinop.dev/engine/tangle"
	"coinop.dev/world/drive"
)

const (
	// MaxFollowed bounds the addresses that are followed on a node far away, and
	// MaxSubmits the transactions on their way to it.
	MaxFollowed = 4096
	MaxSubmits  = 1024
	// MaxAsking bounds the questions at a time.
	MaxAsking = 8
	// PollTime is how often addresses are looked at while nothing tells of them, and
	// CheckTime while events do.
	PollTime  = 2 * time.Second
	CheckTime = time.Minute
	// askAgain is how long after a transaction was taken it is asked for again whether
	// a milestone has applied it, and after what failed.
	askAgain = 500 * time.Millisecond
	// submitAgain is when a transaction that was taken is handed in again: the node
	// then says if it has become impossible.
	submitAgain = 10 * time.Second
	// forgetAfter is how long a transaction is cared for that no wallet asks for again.
	forgetAfter = 10 * time.Minute
)

// RemoteOptions are what a Remote is made of.
type RemoteOptions struct {
	Client  Client
	Network *tangle.Network
	// Poll asks for addresses every PollTime, instead of hearing events.
	Poll bool
	Log  *slog.Logger // nil: none

	PollTime time.Duration // 0: the constant
}

// A Remote stands for a Tangle node on a machine that has none: wallets say to it what
// they would say to the core "tangle" (tangle.Follow, Submit), and it asks a node far
// away. The wallet believes that node about what it has, and about a transaction that
// it refuses for ever; that a payment was applied it shows by a proof.
type Remote struct {
	RemoteOptions
	host    *drive.Host
	errands *errand.Runner
	ctx     context.Context // the errands'

	mu        sync.Mutex
	addresses map[tangle.Address]*followed
	submits   map[tangle.TransactionID]*submit
	told      []tangle.Address // that events are to be asked of
	conn      *websocket.Conn
	err       error // of the last question
	unproven  error // that the node has no proofs
}

// followed is an address, and who wants to know of it.
type followed struct {
	cores []string
	asked []string // of them, those that are answered even if nothing has changed
	last  tangle.State
	due   time.Time
	busy  bool
}

// submit is a transaction on its way to be final.
type submit struct {
	transaction *tangle.Transaction
	cores       []string
	asked       time.Time
	taken       time.Time // zero: it is not
	fails       int       // one after another
	due         time.Time
	busy        bool
}

// NewRemote becomes the host's Tangle node.
func NewRemote(host *drive.Host, o RemoteOptions) *Remote {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.PollTime == 0 {
		o.PollTime = PollTime
	}
	r := &Remote{
		RemoteOptions: o, host: host, errands: errand.New(MaxAsking),
		addresses: map[tangle.Address]*followed{}, submits: map[tangle.TransactionID]*submit{},
	}
	r.ctx = r.errands.Context()
	host.Outlet(node.Core, r.take)
	r.errands.Start(func(begin errand.Begin) {
		r.tellSocket()
		r.begin(begin)
	})
	if !o.Poll {
		r.errands.Keep(r.hear, func(err error) { r.Log.Info("Tangle events", "err", err) })
	}
	return r
}

// Close ends it.
func (r *Remote) Close() error {
	r.host.Outlet(node.Core, nil)
	r.errands.Close()
	return nil
}

// Err is what is wrong with the node, or nil if it answers.
func (r *Remote) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.err, r.unproven)
}

// take hears wallets, on the host's goroutine.
func (r *Remote) take(p step.Packet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch msg := p.Msg.(type) {
	case tangle.Follow:
		r.follow(p.From, msg.Address)
	case tangle.Submit:
		r.submit(p.From, msg.Transaction)
	}
	r.errands.Nudge()
}

func (r *Remote) follow(core string, k tangle.Address) {
	a := r.addresses[k]
	if a == nil {
		if len(r.addresses) >= MaxFollowed {
			r.Log.Error("follow a Tangle address", "address", k, "err", fmt.Sprintf("%d are followed already, which is the limit", MaxFollowed))
			return
		}
		a = &followed{}
		r.addresses[k] = a
		r.told = append(r.told, k)
	}
	if !slices.Contains(a.cores, core) {
		a.cores = append(a.cores, core)
	}
	if !slices.Contains(a.asked, core) {
		a.asked = append(a.asked, core)
	}
	a.due = time.Time{}
}

func (r *Remote) submit(core string, t *tangle.Transaction) {
	if t == nil {
		return
	}
	id := t.ID()
	s := r.submits[id]
	if s == nil {
		if len(r.submits) >= MaxSubmits {
			return // it is asked for again
		}
		s = &submit{transaction: t}
		r.submits[id] = s
	}
	if !slices.Contains(s.cores, core) {
		s.cores = append(s.cores, core)
	}
	s.asked, s.due = time.Now(), time.Time{}
}

// begin begins what is due.
func (r *Remote) begin(due errand.Begin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for k, a := range r.addresses {
		a.busy = due(a.due, a.busy, func() { r.refresh(k, a) })
	}
	for id, s := range r.submits {
		if !s.busy && now.Sub(s.asked) > forgetAfter {
			delete(r.submits, id)
			continue
		}
		s.busy = due(s.due, s.busy, func() { r.advance(id, s) })
	}
}

// refresh asks what an address has, and tells who wants to know if that is new to
// them.
func (r *Remote) refresh(k tangle.Address, a *followed) {
	ctx, cancel := context.WithTimeout(r.ctx, AskTime)
	defer cancel()
	r.mu.Lock()
	every := r.PollTime
	if r.conn != nil {
		every = CheckTime
	}
	a.due = time.Now().Add(every) // who asks meanwhile makes it due again
	asked := a.asked
	a.asked = nil
	r.mu.Unlock()
	state, err := r.Client.State(ctx, r.Network.HRP, k)
	r.mu.Lock()
	tell := asked
	if err == nil && !reflect.DeepEqual(state.Unspent, a.last.Unspent) {
		tell = slices.Clone(a.cores)
	}
	if err == nil {
		a.last = state
	} else {
		a.asked = append(a.asked, asked...)
		a.due = time.Now().Add(r.PollTime)
	}
	a.busy, r.err = false, err
	r.mu.Unlock()
	if err != nil {
		r.Log.Warn("Tangle address", "address", k, "err", err)
		return
	}
	r.tell(tell, state)
}

func (r *Remote) tell(cores []string, what any) {
	for _, core := range cores {
		r.host.Tell(r.ctx, core, step.Recv{From: node.Core, Msg: what})
	}
}

// advance takes a transaction one step further: to the node, and then to its proof.
func (r *Remote) advance(id tangle.TransactionID, s *submit) {
	what, err := r.try(id, s)
	r.mu.Lock()
	cores := s.cores
	r.err = nil
	wait := askAgain
	var fault *Fault
	switch {
	case err == nil:
		delete(r.submits, id)
	case errors.As(err, &fault) && fault.Refusal.Forever():
		delete(r.submits, id)
		what = tangle.Rejected{Transaction: id, Why: fault.Refusal}
	case errors.Is(err, node.ErrNotApplied):
		s.fails = 0
	default:
		s.fails++
		wait = min(askAgain<<min(s.fails, 8), errand.MaxBackoff)
		r.failed(id, err)
	}
	s.busy, s.due = false, time.Now().Add(wait+rand.N(wait/4))
	r.mu.Unlock()
	if what != nil {
		r.tell(cores, what)
	}
}

// failed notes what is wrong with the node. mu is held.
func (r *Remote) failed(id tangle.TransactionID, err error) {
	if !errors.Is(err, ErrNoProofs) {
		r.err = err
		r.Log.Warn("Tangle payment", "transaction", id, "err", err)
		return
	}
	if r.unproven == nil {
		r.Log.Error("Tangle payment", "transaction", id, "err", err)
	}
	r.unproven = err
}

// try is one attempt: it returns what the wallets are told, or why not yet. The proof
// is asked for after the node was, so that a transaction that was applied meanwhile is
// never taken for one that cannot be.
func (r *Remote) try(id tangle.TransactionID, s *submit) (what any, err error) {
	r.mu.Lock()
	taken := time.Since(s.taken) < submitAgain
	r.mu.Unlock()
	var refused error
	if !taken {
		if refused = r.process(s.transaction); refused == nil {
			r.mu.Lock()
			s.taken = time.Now()
			r.mu.Unlock()
		}
	}
	ctx, cancel := context.WithTimeout(r.ctx, AskTime)
	defer cancel()
	final, err := r.Client.Final(ctx, id)
	if err == nil {
		var t *tangle.Transaction
		if t, err = final.Proof.Verify(r.Network.Trust()); err == nil && t.ID() != id {
			err = fmt.Errorf("the Tangle node proves transaction %s for %s", t.ID(), id)
		}
	}
	switch {
	case err == nil:
		return final, nil
	case refused != nil && errors.Is(err, node.ErrNotApplied):
		return nil, refused
	case refused != nil:
		return nil, errors.Join(errors.New(refused.Error()), err) // neither is the last word
	}
	return nil, err
}

// process hands a transaction to the node.
func (r *Remote) process(t *tangle.Transaction) error {
	ctx, cancel := context.WithTimeout(r.ctx, AskTime+tanglenet.WorkTime)
	defer cancel()
	_, err := r.Client.Submit(ctx, r.Network, t)
	return err
}

// hear hears events, until the connection is lost.
func (r *Remote) hear() error {
	ctx, cancel := context.WithTimeout(r.ctx, AskTime)
	// http and https become ws and wss.
	conn, _, err := websocket.Dial(ctx, strings.TrimRight(strings.Replace(r.Client.URL, "http", "ws", 1), "/")+ours+"/events", nil)
	cancel()
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(MaxAnswer)
	if err := r.say(conn, topicConfirmed); err != nil {
		return err
	}
	r.listens(conn)
	defer r.listens(nil)
	for {
		_, raw, err := conn.Read(r.ctx)
		if err != nil {
			return err
		}
		var v struct{ Ack, Topic string }
		if err := json.Unmarshal(raw, &v); err != nil {
			continue
		}
		r.mu.Lock()
		if address, ok := strings.CutPrefix(v.Topic, topicUnlock); ok {
			// An event; or from now on events come, and what was just before was told
			// to nobody.
			if k, err := tangle.ParseAddress(r.Network.HRP, address); err == nil && r.addresses[k] != nil {
				r.addresses[k].due = time.Time{}
			}
		} else if v.Topic == topicConfirmed && v.Ack == "" {
			for _, s := range r.submits {
				if s.fails == 0 {
					s.due = time.Time{}
				}
			}
		}
		r.mu.Unlock()
		r.errands.Nudge()
	}
}

// listens notes that events come, or no more. Either way whatever may have been
// missed is asked for.
func (r *Remote) listens(conn *websocket.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn, r.told = conn, r.told[:0]
	for k, a := range r.addresses {
		r.told = append(r.told, k)
		a.due = time.Time{}
	}
	r.errands.Nudge()
}

// tellSocket asks for events about addresses.
func (r *Remote) tellSocket() {
	r.mu.Lock()
	conn := r.conn
	var tell []tangle.Address
	if conn != nil {
		tell, r.told = r.told, nil
	}
	r.mu.Unlock()
	for _, k := range tell {
		if r.say(conn, topicUnlock+k.Bech32(r.Network.HRP)) != nil {
			conn.CloseNow() // and again from the beginning
			return
		}
	}
}

func (r *Remote) say(conn *websocket.Conn, name string) error {
	ctx, cancel := context.WithTimeout(r.ctx, sayTime)
	defer cancel()
	raw, err := json.Marshal(said{"subscribe", name})
	if err != nil {
		return err
	}
	return conn.Write(ctx, websocket.MessageText, raw)
}
