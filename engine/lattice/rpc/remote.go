package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
	"coinop.dev/engine/errand"
	"coinop.dev/world/drive"
)

const (
	// MaxFollowed bounds the accounts that are followed on a node far away, and
	// MaxSubmits the blocks on their way to it.
	MaxFollowed = 4096
	MaxSubmits  = 1024
	// MaxAsking bounds the questions at a time.
	MaxAsking = 8
	// PollTime is how often accounts are looked at while nothing tells of them, and
	// CheckTime while the WebSocket does.
	PollTime  = 2 * time.Second
	CheckTime = time.Minute
	// askAgain is how long after a block was taken it is asked for again whether it
	// is final, and after what failed.
	askAgain = 500 * time.Millisecond
	// forgetAfter is how long a block is cared for that no wallet asks for again.
	forgetAfter = 10 * time.Minute
	// someAccounts is how many accounts one message to the WebSocket names.
	someAccounts = 500
)

// RemoteOptions are what a Remote is made of.
type RemoteOptions struct {
	Client  Client
	Socket  string // ws://host:port of the node's WebSocket; empty: accounts are polled
	Network lattice.Network
	Log     *slog.Logger // nil: none

	PollTime time.Duration // 0: the constant
}

// A Remote stands for a lattice node on a machine that has none: wallets say to it
// what they would say to the core "lattice" (lattice.Follow, Submit), and it asks a
// node far away. The wallet believes that node about balances; that a payment is
// final it shows by a certificate.
type Remote struct {
	RemoteOptions
	host    *drive.Host
	errands *errand.Runner
	ctx     context.Context // the errands'
	works   *works

	mu       sync.Mutex
	accounts map[lattice.Key]*followed
	submits  map[lattice.Hash]*submit
	told     []lattice.Key   // accounts that the WebSocket is to be told of
	said     [][]lattice.Key // accounts that it was told of and has not acknowledged
	conn     *websocket.Conn
	err      error // of the last question
	unproven error // that the node has no certificates
}

// followed is an account, and who wants to know of it.
type followed struct {
	cores []string
	asked []string // of them, those that are answered even if nothing has changed
	last  lattice.State
	due   time.Time
	busy  bool
}

// submit is a block on its way to be final.
type submit struct {
	block lattice.Block
	cores []string
	asked time.Time
	taken bool
	fails int // one after another
	due   time.Time
	busy  bool
}

// NewRemote becomes the host's lattice node.
func NewRemote(host *drive.Host, o RemoteOptions) *Remote {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.PollTime == 0 {
		o.PollTime = PollTime
	}
	r := &Remote{
		RemoteOptions: o, host: host, errands: errand.New(MaxAsking), works: newWorks(),
		accounts: map[lattice.Key]*followed{}, submits: map[lattice.Hash]*submit{},
	}
	r.ctx = r.errands.Context()
	host.Outlet(node.Core, r.take)
	r.errands.Start(func(begin errand.Begin) {
		r.tellSocket()
		r.begin(begin)
	})
	if o.Socket != "" {
		r.errands.Keep(r.hear, func(err error) { r.Log.Info("lattice WebSocket", "err", err) })
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
	case lattice.Follow:
		r.follow(p.From, msg.Account)
	case lattice.Submit:
		r.submit(p.From, msg.Block)
	}
	r.errands.Nudge()
}

func (r *Remote) follow(core string, k lattice.Key) {
	a := r.accounts[k]
	if a == nil {
		if len(r.accounts) >= MaxFollowed {
			r.Log.Error("follow a lattice account", "account", k, "err", fmt.Sprintf("%d are followed already, which is the limit", MaxFollowed))
			return
		}
		a = &followed{}
		r.accounts[k] = a
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

func (r *Remote) submit(core string, b lattice.Block) {
	h := b.Hash()
	s := r.submits[h]
	if s == nil {
		if len(r.submits) >= MaxSubmits {
			return // it is asked for again
		}
		s = &submit{block: b}
		r.submits[h] = s
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
	for k, a := range r.accounts {
		a.busy = due(a.due, a.busy, func() { r.refresh(k, a) })
	}
	for h, s := range r.submits {
		if !s.busy && now.Sub(s.asked) > forgetAfter {
			delete(r.submits, h)
			continue
		}
		// The node cannot take a block before the one that it follows.
		if before := r.submits[s.block.Previous]; before != nil && !before.taken && !s.taken {
			continue
		}
		s.busy = due(s.due, s.busy, func() { r.advance(h, s) })
	}
}

// refresh asks how an account is, and tells who wants to know if that is new to
// them.
func (r *Remote) refresh(k lattice.Key, a *followed) {
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
	state, err := r.Client.State(ctx, k)
	r.mu.Lock()
	tell := asked
	if err == nil && !reflect.DeepEqual(state, a.last) {
		tell, a.last = slices.Clone(a.cores), state
	}
	if err != nil {
		a.asked = append(a.asked, asked...)
		a.due = time.Now().Add(askAgain)
	}
	a.busy, r.err = false, err
	r.mu.Unlock()
	if err != nil {
		r.Log.Warn("lattice account", "account", k, "err", err)
		return
	}
	r.tell(tell, state)
}

func (r *Remote) tell(cores []string, what any) {
	for _, core := range cores {
		r.host.Tell(r.ctx, core, step.Recv{From: node.Core, Msg: what})
	}
}

// refusals are those that are the last word on a block. The others may pass.
var refusals = []lattice.Refusal{
	lattice.BadSignature, lattice.Fork, lattice.NegativeSpend, lattice.Unreceivable, lattice.BalanceWrong,
	lattice.RepWrong, lattice.OpenedBurn,
	"Balance and amount delta do not match", "Burning account", "This block cannot follow the previous block", // of newer and older nodes
}

// advance takes a block one step further: to the node, and then to its certificate.
func (r *Remote) advance(h lattice.Hash, s *submit) {
	what, err := r.try(h, s)
	r.mu.Lock()
	cores := s.cores
	r.err = nil
	wait := askAgain
	var fault Fault
	switch errors.As(err, &fault); {
	case err == nil:
		delete(r.submits, h)
	case slices.Contains(refusals, lattice.Refusal(fault)):
		delete(r.submits, h)
		what = lattice.Rejected{Hash: h, Why: lattice.Refusal(fault)}
	case fault == notCemented:
		s.fails = 0
	case fault == blockNotFound:
		s.taken = false // another one has won; the node will say so
	default:
		s.fails++
		wait = min(askAgain<<min(s.fails, 8), errand.MaxBackoff)
		r.failed(h, err)
	}
	s.busy, s.due = false, time.Now().Add(wait+rand.N(wait/4))
	r.mu.Unlock()
	if what != nil {
		r.tell(cores, what)
	}
}

// failed notes what is wrong with the node. mu is held.
func (r *Remote) failed(h lattice.Hash, err error) {
	if !errors.Is(err, ErrNoCertificates) {
		r.err = err
		r.Log.Warn("lattice payment", "block", h, "err", err)
		return
	}
	if r.unproven == nil {
		r.Log.Error("lattice payment", "block", h, "err", err)
	}
	r.unproven = err
}

// try is one attempt: it returns what the wallets are told, or why not yet.
func (r *Remote) try(h lattice.Hash, s *submit) (what any, err error) {
	r.mu.Lock()
	b, taken := s.block, s.taken
	r.mu.Unlock()
	if !taken {
		if err := r.process(&b); err != nil && !errors.Is(err, Fault(lattice.Old)) {
			return nil, err
		}
		r.mu.Lock()
		s.block.Work, s.taken = b.Work, true
		for _, next := range r.submits {
			if next.block.Previous == h {
				next.fails, next.due = 0, time.Time{}
			}
		}
		r.mu.Unlock()
		r.errands.Nudge()
	}
	ctx, cancel := context.WithTimeout(r.ctx, AskTime)
	defer cancel()
	final, err := r.Client.Final(ctx, h)
	if err == nil && len(r.Network.Reps) > 0 {
		err = final.Proof.Verify(r.Network.Reps)
	}
	if err != nil {
		return nil, err
	}
	return final, nil
}

// process hands a block to the node, with work that is enough.
func (r *Remote) process(b *lattice.Block) error {
	ctx, cancel := context.WithTimeout(r.ctx, AskTime)
	defer cancel()
	var previous lattice.Block
	if !b.Previous.IsZero() {
		var err error
		if previous, _, err = r.Client.Block(ctx, b.Previous); errors.Is(err, blockNotFound) {
			return Fault(lattice.GapPrevious)
		} else if err != nil {
			return err
		}
	}
	kind := b.Kind(previous.Balance, b.Previous.IsZero())
	if !r.Network.EnoughWork(b, kind) {
		ctx, cancel := context.WithTimeout(r.ctx, WorkTime)
		defer cancel()
		var err error
		threshold := r.Network.Threshold(kind)
		if b.Work, err = r.Client.Work(ctx, b.Root(), threshold); err != nil { // it may not be for us
			r.Log.Debug("lattice work", "err", err)
			b.Work, err = r.works.find(ctx, b.Root(), threshold)
		}
		if err != nil {
			return err
		}
	}
	ctx, cancel = context.WithTimeout(r.ctx, AskTime)
	defer cancel()
	return r.Client.Process(ctx, b, kind)
}
