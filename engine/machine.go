// Package engine runs a machine: its cores on their host, one store, its links
// to other machines and its view of the chain.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/step"
	"coinop.dev/world/chain"
	"coinop.dev/world/drive"
	"coinop.dev/world/link"
	"coinop.dev/world/link/tcp"
	"coinop.dev/world/store"
)

const (
	// MaxQueue bounds the messages that wait to be written to one peer. One too
	// many is dropped, as a network would; cores send again.
	MaxQueue = 1024
	// MaxPublishing bounds transactions on their way to the chain. Cores ask
	// again at every block.
	MaxPublishing = 64
)

// Options are what a machine is made of. Chain may be nil for a machine whose
// rails need none.
type Options struct {
	Key   keys.Secret
	DB    store.DB
	Chain chain.Source
	Log   *slog.Logger
	Now   func() step.Time // nil: the computer's clock
}

// A Machine is a running machine. Make one with New, then Run it.
type Machine struct {
	Options
	Host *drive.Host

	follower *chain.Follower
	publish  chan watch.Publish
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu       sync.Mutex
	peers    map[string]*peer
	watchers map[string][]string // outpoint → cores that asked
	doors    []*Door
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
	m := &Machine{
		Options: o, Host: drive.NewHost(o.DB, o.Now),
		publish: make(chan watch.Publish, MaxPublishing),
		peers:   map[string]*peer{}, watchers: map[string][]string{},
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
	m.mu.Lock()
	for _, p := range m.peers {
		p.hangUp()
	}
	m.mu.Unlock()
	m.running.Wait()
	return nil
}

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
		key := msg.Point.String()
		m.mu.Lock()
		if list := m.watchers[key]; !slices.Contains(list, p.From) {
			m.watchers[key] = append(list, p.From)
		}
		m.mu.Unlock()
		if err := m.follower.Watch(msg); err != nil {
			m.Log.Error("watch", "err", err)
		}
	case watch.Publish:
		select {
		case m.publish <- msg:
		default:
			m.Log.Warn("publish", "err", "too many transactions wait; it is published again with the next block")
		}
	}
}

func (m *Machine) report(s watch.Status) {
	m.mu.Lock()
	cores := m.watchers[s.Point.String()]
	m.mu.Unlock()
	for _, core := range cores {
		m.Host.Tell(m.ctx, core, step.Recv{From: watch.Chain, Msg: s})
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

// Links.

// A peer is the other end of a link, whether it is up or not.
type peer struct {
	m     *Machine
	key   keys.Public
	queue chan message.Message

	mu   sync.Mutex
	link link.Link
	down bool // cut on purpose: the link is refused until it is mended
	up   chan struct{}
}

// peer returns the one for a key, and makes it if need be.
func (m *Machine) peer(key keys.Public) *peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := key.PeerName()
	p := m.peers[name]
	if p == nil {
		p = &peer{m: m, key: key, queue: make(chan message.Message, MaxQueue), up: make(chan struct{})}
		m.peers[name] = p
		m.Host.Outlet(name, p.take)
		m.spawn(p.write)
	}
	return p
}

// take queues a packet; it is encoded and sealed on the peer's own goroutine.
func (p *peer) take(packet step.Packet) {
	msg, ok := packet.Msg.(message.Message)
	if !ok {
		p.m.Log.Error("a core sends what is not a message", "core", packet.From, "type", fmt.Sprintf("%T", packet.Msg))
		return
	}
	select {
	case p.queue <- msg:
	default:
		p.m.Log.Warn("queue to peer is full", "peer", p.key)
	}
}

func (p *peer) write() {
	var buf []byte
	for {
		select {
		case <-p.m.ctx.Done():
			return
		case msg := <-p.queue:
			l := p.current()
			if l == nil {
				continue
			}
			buf = msg.Append(buf[:0])
			if err := l.Send(buf); err != nil {
				p.m.Log.Debug("send", "peer", p.key, "err", err)
			}
		}
	}
}

func (p *peer) current() link.Link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link
}

// connected puts a new link in the place of an older one.
func (p *peer) connected(l link.Link) bool {
	p.mu.Lock()
	old := p.link
	if p.down {
		p.mu.Unlock()
		l.Close()
		return false
	}
	p.link = l
	select {
	case <-p.up:
	default:
		close(p.up)
	}
	p.mu.Unlock()
	if old != nil {
		old.Close()
	}
	p.m.Log.Info("link up", "peer", p.key)
	p.m.Host.Tell(p.m.ctx, "", step.Linked{Peer: p.key.PeerName()})
	return true
}

func (p *peer) lost(l link.Link, err error) {
	p.mu.Lock()
	if l != nil && p.link == l { // a dial that failed had no link, and others wait for one
		p.link = nil
		p.up = make(chan struct{})
	}
	p.mu.Unlock()
	p.m.count(l)
	p.m.Log.Info("link down", "peer", p.key, "err", err)
}

func (p *peer) hangUp() {
	if l := p.current(); l != nil {
		l.Close()
	}
}

func (m *Machine) count(l link.Link) {
	if c, ok := l.(interface{ Counts() link.Counts }); ok {
		m.mu.Lock()
		defer m.mu.Unlock()
		n := c.Counts()
		m.wire.Sent += n.Sent
		m.wire.Received += n.Received
	}
}

// Wire is the bytes that have gone over all links.
func (m *Machine) Wire() link.Counts {
	m.mu.Lock()
	n := m.wire
	var live []link.Link
	for _, p := range m.peers {
		live = append(live, p.current())
	}
	m.mu.Unlock()
	for _, l := range live {
		if c, ok := l.(interface{ Counts() link.Counts }); ok {
			n.Sent += c.Counts().Sent
			n.Received += c.Counts().Received
		}
	}
	return n
}

// Listen lets peers connect until the machine closes.
func (m *Machine) Listen(addr string) (net.Addr, error) {
	l, err := tcp.Listen(addr, m.Key, link.Options{OnRefuse: func(err error) { m.Log.Debug("refused a peer", "err", err) }})
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(m.ctx, func() { l.Close() })
	m.spawn(func() {
		defer stop()
		for {
			s, err := l.Accept(m.ctx)
			if err != nil {
				return
			}
			m.spawn(func() { m.serve(s) })
		}
	})
	return l.Addr(), nil
}

func (m *Machine) serve(s *link.Session) {
	p := m.peer(s.Peer())
	if !p.connected(s) {
		return
	}
	for {
		raw, err := s.Recv()
		if err != nil {
			p.lost(s, err)
			return
		}
		m.received(s.Peer(), raw)
	}
}

// Connect keeps a link to a peer up until the machine closes. A second call for
// the same peer only waits for the link.
func (m *Machine) Connect(ctx context.Context, addr string, key keys.Public) error {
	m.mu.Lock()
	known := m.peers[key.PeerName()] != nil
	m.mu.Unlock()
	p := m.peer(key)
	if !known {
		var current link.Link
		keep := link.Keep{
			Dial: func(ctx context.Context) (link.Link, error) {
				if p.cut() {
					return nil, errors.New("the link is cut on purpose")
				}
				return tcp.Dial(ctx, addr, m.Key, key)
			},
			OnUp:      func(l link.Link) { current = l; p.connected(l) },
			OnMessage: m.received,
			OnDown:    func(err error) { p.lost(current, err); current = nil },
		}
		m.spawn(func() { keep.Run(m.ctx) })
	}
	return p.wait(ctx)
}

// wait blocks until the link is up.
func (p *peer) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		l, up := p.link, p.up
		p.mu.Unlock()
		if l != nil {
			return nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			return fmt.Errorf("no link to %s: %w", p.key, ctx.Err())
		case <-p.m.ctx.Done():
			return drive.ErrStopped
		}
	}
}

func (p *peer) cut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

// Cut drops the link to a peer and keeps it down until it is called with false:
// the demo's button, and a test's.
func (m *Machine) Cut(key keys.Public, down bool) {
	p := m.peer(key)
	p.mu.Lock()
	p.down = down
	p.mu.Unlock()
	if down {
		p.hangUp()
	}
}

// Send sends a message that is not a core's. It is as little a promise as any.
func (m *Machine) Send(to keys.Public, msg message.Message) {
	m.peer(to).take(step.Packet{Msg: msg})
}

func (m *Machine) received(from keys.Public, raw []byte) {
	msg, err := message.Decode(raw)
	if err != nil {
		m.Log.Warn("peer sends what cannot be read", "peer", from, "err", err)
		return
	}
	if msg == nil {
		return
	}
	m.mu.Lock()
	doors := m.doors
	m.mu.Unlock()
	for _, door := range doors {
		if (*door)(from, msg) {
			return
		}
	}
	if core := msg.Core(); core != "" {
		m.Host.Tell(m.ctx, core, step.Recv{From: from.PeerName(), Msg: msg})
	}
}

// Address splits "key@host:port".
func Address(text string) (key keys.Public, addr string, err error) {
	hexKey, addr, ok := strings.Cut(text, "@")
	if !ok {
		return key, "", fmt.Errorf("address %.150q is not <node key>@<host>:<port>", text)
	}
	if key, err = keys.ParsePublicHex(hexKey); err != nil {
		return key, "", fmt.Errorf("address %.150q: %w", text, err)
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return key, "", fmt.Errorf("address %.150q: %w", text, err)
	}
	return key, addr, nil
}
