package mqtt

import (
	"cmp"
	"container/list"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options are what an embedded broker is told. Zero values are the constants of
// the same names.
type Options struct {
	Addr           string
	TLS            *tls.Config // nil: in clear
	MaxConnections int
	MaxBuyers      int
	Rate, Burst    float64
	Log            *slog.Logger
}

// Embedded is a broker in this process. It speaks MQTT 3.1.1 and 5, with QoS 0
// and 1, keeps no session beyond its connection, and forwards nothing. What is
// left of a broker then is a loop (conn.serve): a device costs one goroutine, a
// socket and 512 bytes to read from it. The packets that are rare and intricate
// are read by mochi's codec; the whole of mochi, tuned, takes more than twice the
// memory, most of it stacks, and would be told to do nothing in most of its hooks.
type Embedded struct {
	Options
	handler  Handler
	listener net.Listener
	dirty    chan *conn // those with something to write, each once
	stop     chan struct{}
	serving  sync.WaitGroup
	writers  sync.WaitGroup
	open     atomic.Int64
	lost     atomic.Uint64

	mu      sync.Mutex
	conns   map[*conn]struct{}
	unknown list.List        // of those that have not logged in, the oldest first
	clients map[string]*conn // those that are let in, by Who.owner
	buyers  int
	closing bool
}

// Listen starts a broker.
func Listen(o Options, h Handler) (*Embedded, error) {
	o.MaxConnections = cmp.Or(o.MaxConnections, MaxConnections)
	o.MaxBuyers = cmp.Or(o.MaxBuyers, MaxBuyers)
	o.Rate, o.Burst = cmp.Or(o.Rate, Rate), cmp.Or(o.Burst, Burst)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, err
	}
	b := &Embedded{
		Options: o, handler: h, listener: l, stop: make(chan struct{}),
		conns: map[*conn]struct{}{}, clients: map[string]*conn{},
		dirty: make(chan *conn, o.MaxConnections+1),
	}
	for range max(2, runtime.GOMAXPROCS(0)) {
		b.writers.Go(b.write)
	}
	b.serving.Go(b.accept)
	return b, nil
}

func (b *Embedded) write() {
	for {
		select {
		case c := <-b.dirty:
			c.flush()
		case <-b.stop:
			for {
				select {
				case c := <-b.dirty:
					c.flush()
				default:
					return
				}
			}
		}
	}
}

// Addr is where it listens.
func (b *Embedded) Addr() net.Addr { return b.listener.Addr() }

// Close disconnects everyone and waits until they are gone.
func (b *Embedded) Close() error {
	err := b.listener.Close()
	b.mu.Lock()
	b.closing = true
	for c := range b.conns {
		go c.Drop(serverShuttingDown)
	}
	b.mu.Unlock()
	b.serving.Wait()
	close(b.stop)
	b.writers.Wait()
	return err
}

// Publish sends to the client that the topic belongs to.
func (b *Embedded) Publish(m Message) error {
	t, err := ParseTopic(m.Topic)
	if err != nil {
		return err
	}
	b.mu.Lock()
	c := b.clients[Who{Tenant: t.Tenant, Name: t.Name}.owner()]
	b.mu.Unlock()
	if c == nil {
		return ErrAway
	}
	return c.Publish(m)
}

// Connected lists the devices that are connected.
func (b *Embedded) Connected() (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.clients {
		if c.who.IsDevice() {
			list = append(list, c.who.String())
		}
	}
	slices.Sort(list)
	return list
}

// Counts are the connections, devices or not, and the messages that were lost to
// clients that read too slowly.
func (b *Embedded) Counts() (connections int, lost uint64) {
	return int(b.open.Load()), b.lost.Load()
}

// enter makes a connection the one of its client; an older one ends.
func (b *Embedded) enter(c *conn) bool {
	key := c.who.owner()
	b.mu.Lock()
	old := b.clients[key]
	if old == nil && !c.who.IsDevice() && b.buyers >= b.MaxBuyers {
		b.mu.Unlock()
		return false
	}
	if old == nil && !c.who.IsDevice() {
		b.buyers++
	}
	b.clients[key] = c
	b.mu.Unlock()
	if old != nil {
		old.Drop(sessionTakenOver)
	}
	return true
}

func (b *Embedded) leave(c *conn) {
	key := c.who.owner()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.clients[key] != c {
		return
	}
	delete(b.clients, key)
	if !c.who.IsDevice() {
		b.buyers--
	}
}

func (b *Embedded) accept() {
	for {
		socket, err := b.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: those who are here matter more
			b.Log.Warn("mqtt: accept", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if b.open.Load() >= int64(b.MaxConnections) {
			socket.Close()
			continue
		}
		b.open.Add(1)
		c := &conn{Conn: socket, b: b}
		if b.Options.TLS != nil {
			c.Conn = tls.Server(socket, b.Options.TLS)
		} else if s, ok := socket.(syscall.Conn); ok {
			c.raw, _ = s.SyscallConn()
		}
		b.meet(c)
		b.serving.Go(func() { b.serve(c) })
	}
}

// meet counts a stranger. Where there are too many the oldest goes: a device logs in
// in a moment, and whoever says nothing keeps nobody out.
func (b *Embedded) meet(c *conn) {
	b.mu.Lock()
	c.stranger = b.unknown.PushBack(c)
	var oldest *conn
	if b.unknown.Len() > MaxUnknown {
		oldest = b.unknown.Remove(b.unknown.Front()).(*conn)
	}
	b.mu.Unlock()
	if oldest != nil {
		oldest.Conn.Close()
	}
}

// met says that it is known who a stranger is, or that it has gone.
func (b *Embedded) met(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.stranger != nil {
		b.unknown.Remove(c.stranger) // nothing, if it has gone already
	}
}

func (b *Embedded) serve(c *conn) {
	b.mu.Lock()
	b.conns[c] = struct{}{}
	closing := b.closing
	b.mu.Unlock()
	if !closing {
		c.serve()
	} else {
		b.met(c)
	}
	c.Close()
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
	b.open.Add(-1)
}
