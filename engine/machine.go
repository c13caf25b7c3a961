// Package engine runs a machine: its cores on their host, one store, its links
// to other machines and its view of the chain.
package engine

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/step"
	"coinop.dev/world/backup"
	"coinop.dev/world/chain"
	"coinop.dev/world/drive"
	"coinop.dev/world/link"
	"coinop.dev/world/store"
)

// MaxPublishing bounds transactions on their way to the chain. Cores ask again
// at every block.
const MaxPublishing = 64

// Options are what a machine is made of. Chain may be nil for a machine whose
// rails need none.
type Options struct {
	Key      keys.Secret
	DB       store.DB
	Chain    chain.Source
	Log      *slog.Logger
	Now      func() step.Time // nil: the computer's clock
	MaxPeers int              // 0: the constant

	// Start is the number of this start (world/generation); 0: nobody counts.
	Start uint64
	// Backup is where channels are backed up; empty: nowhere.
	Backup backup.File
}

// A Machine is a running machine. Make one with New, then Run it.
type Machine struct {
	Options
	Host *drive.Host
	// Wallet is held from when coins are chosen until the chain knows that they
	// are spent, by whoever opens a channel.
	Wallet sync.Mutex

	follower *chain.Follower
	publish  chan watch.Publish
	headers  chan headersFor
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	links    atomic.Uint64 // connections so far: each has its number

	mu       sync.Mutex
	peers    map[string]*peer    // that somebody holds
	watchers map[string][]string // outpoint → cores that asked
	doors    []*Door
	attached int // peers
	wire     link.Counts
}

// A Door takes messages that are not for a core, such as a proposal to open a
// channel, and reports whether it did. It runs on the peer's goroutine.
type Door func(from keys.Public, msg message.Message) bool

// Offer is the end of a Door that somebody waits behind: it gives them v, and
// drops a second answer, which nobody waits for.
func Offer[T any](to chan<- T, v T) bool {
	select {
	case to <- v:
	default:
	}
	return true
}

// New starts a machine: its host runs, nothing is connected yet.
func New(ctx context.Context, o Options) *Machine {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = func() step.Time { return step.Time(time.Now().UnixMilli()) }
	}
	o.MaxPeers = cmp.Or(o.MaxPeers, MaxPeers)
	m := &Machine{
		Options: o, Host: drive.NewHost(o.DB, o.Now),
		publish: make(chan watch.Publish, MaxPublishing), headers: make(chan headersFor, MaxPublishing),
		peers: map[string]*peer{}, watchers: map[string][]string{},
	}
	m.ctx, m.cancel = context.WithCancel(ctx)
	m.spawn(func() {
		if err := m.Host.Run(m.ctx); err != nil && !errors.Is(err, context.Canceled) {
			m.Log.Error("machine stopped", "err", err)
		}
		m.cancel()
	})
	if o.Chain != nil {
		m.follower = chain.NewFollower(o.Chain, m.report, func(err error) { m.Log.Debug("chain", "err", err) })
		m.Host.Outlet(watch.Chain, m.toChain)
		m.spawn(func() { m.follower.Run(m.ctx) })
		m.spawn(m.publishing)
		m.spawn(m.answering)
	}
	return m
}

func (m *Machine) spawn(f func()) {
	m.running.Add(1)
	go func() {
		defer m.running.Done()
		f()
	}()
}

// Close stops the machine and waits until it has. The store and the chain stay
// open: whoever opened them closes them.
func (m *Machine) Close() error {
	m.cancel()
	m.running.Wait()
	return nil
}

// Context ends when the machine does.
func (m *Machine) Context() context.Context { return m.ctx }

// Stopped is closed when the machine has stopped, by Close or by a failure.
func (m *Machine) Stopped() <-chan struct{} { return m.Host.Stopped() }

// Err says why a stopped machine has.
func (m *Machine) Err() error { return m.Host.Err() }

// Name is what other machines address packets to this one by.
func (m *Machine) Name() string { return m.Key.Public().PeerName() }

// AddDoor adds a taker of messages that are not for a core, until remove is
// called.
func (m *Machine) AddDoor(d Door) (remove func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	// The list is never changed in place: received walks it without the lock.
	m.doors = append(slices.Clone(m.doors), &d)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.doors = slices.DeleteFunc(slices.Clone(m.doors), func(have *Door) bool { return have == &d })
	}
}

// Tip is the height of the best block, or 0 while the chain is being fetched.
func (m *Machine) Tip() int32 {
	height, _, err := m.Chain.Tip(m.ctx)
	if err != nil {
		return 0
	}
	return height
}

// toChain takes the packets that cores send to the chain.
func (m *Machine) toChain(p step.Packet) {
	switch msg := p.Msg.(type) {
	case watch.Output:
		m.watches(p.From, msg.Point.String())
		if err := m.follower.Watch(msg); err != nil {
			m.Log.Error("watch", "err", err)
		}
	case watch.Script:
		m.watches(p.From, string(msg.Script))
		if err := m.follower.WatchScript(msg); err != nil {
			m.Log.Error("watch", "err", err)
		}
	case watch.HeadersAfter:
		select {
		case m.headers <- headersFor{p.From, msg}:
		default:
			m.Log.Warn("headers", "err", "too many questions wait; they are asked again")
		}
	case watch.Publish:
		select {
		case m.publish <- msg:
		default:
			m.Log.Warn("publish", "err", "too many transactions wait; it is published again with the next block")
		}
	}
}

// watches notes that a core is to be told of an output or a script.
func (m *Machine) watches(core, key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if list := m.watchers[key]; !slices.Contains(list, core) {
		m.watchers[key] = append(list, core)
	}
}

func (m *Machine) report(news any) {
	var key string
	switch news := news.(type) {
	case watch.Status:
		key = news.Point.String()
	case watch.Coins:
		key = string(news.Script)
	}
	m.mu.Lock()
	cores := m.watchers[key]
	m.mu.Unlock()
	for _, core := range cores {
		m.Host.Tell(m.ctx, core, step.Recv{From: watch.Chain, Msg: news})
	}
}

// headersFor is a core's question about headers.
type headersFor struct {
	core string
	ask  watch.HeadersAfter
}

// answering looks up headers. What cannot be answered is asked again.
func (m *Machine) answering() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case q := <-m.headers:
			found, err := chain.HeadersAfter(m.ctx, m.Chain, q.ask)
			if err != nil {
				m.Log.Debug("headers", "err", err)
				continue
			}
			m.Host.Tell(m.ctx, q.core, step.Recv{From: watch.Chain, Msg: found})
		}
	}
}

func (m *Machine) publishing() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case p := <-m.publish:
			if err := m.Chain.Publish(m.ctx, p.Tx); err != nil {
				m.Log.Warn("publish", "txid", p.Tx.TxHash(), "err", err)
			} else {
				m.Log.Info("published", "txid", p.Tx.TxHash())
			}
		}
	}
}
