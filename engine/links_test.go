package engine_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/world/drive"
	"coinop.dev/world/link"
	"coinop.dev/world/link/tcp"
	"coinop.dev/world/store/mem"
)

// numbered is the n-th message over a connection that the sender calls by a
// number.
func numbered(link, n uint64, text string) trade.Buy {
	m := trade.Buy{Item: text, Units: n}
	binary.BigEndian.PutUint64(m.Order[:], link)
	return m
}

// An ear is a core that writes down what it hears of links, and a mouth: told a
// number, it sends so many more messages over every connection that is up; told
// a packet, it sends that.
type ear struct {
	mu    sync.Mutex
	lines []string
	fault error

	up    map[string]uint64 // by peer, the connection
	ended map[uint64]bool
	sent  map[uint64]uint64
	heard map[uint64]uint64   // by our number for the connection
	name  map[uint64][16]byte // and the sender's
	text  string
}

func newEar() *ear {
	return &ear{up: map[string]uint64{}, ended: map[uint64]bool{}, sent: map[uint64]uint64{}, heard: map[uint64]uint64{}, name: map[uint64][16]byte{}}
}

func (e *ear) Step(in step.Input) (fx step.Effects) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Linked:
			e.lines = append(e.lines, fmt.Sprintf("linked %d", ev.Link))
			e.check(ev.Link != 0 && e.up[ev.Peer] == 0 && !e.ended[ev.Link], "linked %d beside %d", ev.Link, e.up[ev.Peer])
			e.up[ev.Peer] = ev.Link
		case step.Unlinked:
			e.lines = append(e.lines, fmt.Sprintf("unlinked %d", ev.Link))
			e.check(e.up[ev.Peer] == ev.Link, "unlinked %d, and up is %d", ev.Link, e.up[ev.Peer])
			delete(e.up, ev.Peer)
			e.ended[ev.Link] = true
		case step.Recv:
			e.recv(ev)
		case step.Packet:
			fx.Send = append(fx.Send, ev)
		case int:
			for peer, link := range e.up {
				for range ev {
					e.sent[link]++
					fx.Send = append(fx.Send, step.Packet{To: peer, Link: link, Msg: numbered(link, e.sent[link], e.text)})
				}
			}
		}
	}
	return fx
}

func (e *ear) recv(ev step.Recv) {
	buy := ev.Msg.(trade.Buy)
	e.check(e.up[ev.From] == ev.Link, "message %d over %d, and up is %d", buy.Units, ev.Link, e.up[ev.From])
	e.heard[ev.Link]++
	e.check(buy.Units == e.heard[ev.Link], "message %d over %d comes as number %d", buy.Units, ev.Link, e.heard[ev.Link])
	if e.name[ev.Link] == [16]byte{} {
		e.name[ev.Link] = buy.Order
	}
	e.check(e.name[ev.Link] == buy.Order, "messages of two connections come over %d", ev.Link)
}

func (e *ear) check(ok bool, format string, args ...any) {
	if !ok && e.fault == nil {
		e.fault = fmt.Errorf(format, args...)
	}
}

func (e *ear) look(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

// said waits until the ear has heard of links what it should.
func (e *ear) said(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, func() (got string, ok bool) {
		e.look(func() { got = strings.Join(e.lines, ", ") })
		return got, got == strings.Join(want, ", ")
	})
}

func eventually(t *testing.T, f func() (string, bool)) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got, ok := f()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after 10 s: %s", got)
		}
	}
}

// listening is a machine with an ear.
func listening(t *testing.T, o engine.Options) (m *engine.Machine, e *ear, addr string) {
	t.Helper()
	var err error
	o.Key = secret(t.Name() + fmt.Sprint(rand.Uint64()))
	if o.DB, err = mem.New(nil); err != nil {
		t.Fatal(err)
	}
	m, e = engine.New(t.Context(), o), newEar()
	t.Cleanup(func() { m.Close() })
	if err := m.Host.Add(t.Context(), earn.Name, e); err != nil { // who takes trade.Buy
		t.Fatal(err)
	}
	at, err := m.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return m, e, at.String()
}

func secret(name string) keys.Secret {
	root, err := keys.SecretFromBytes([]byte("a key that everybody may know 01"))
	if err != nil {
		panic(err)
	}
	return root.Derive(name)
}

func dial(t *testing.T, m *engine.Machine, addr string, self keys.Secret) *link.Session {
	t.Helper()
	s, err := tcp.Dial(t.Context(), addr, self, m.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A cable is a proxy that is cut in the middle of a burst.
type cable struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func newCable(t *testing.T, to string) *cable {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c := &cable{Listener: l}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, near, far)
			c.mu.Unlock()
			go func() { io.Copy(near, far); near.Close() }()
			go func() { io.Copy(far, near); far.Close() }()
		}
	}()
	return c
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// Whatever is cut, each connection carries a beginning of what was sent over it,
// in order and without a gap.
func TestAConnectionCarriesABeginning(t *testing.T) {
	a, mouth, _ := listening(t, engine.Options{})
	b, far, addr := listening(t, engine.Options{})
	mouth.text = strings.Repeat("x", 30)
	wire := newCable(t, addr)
	if err := a.Connect(t.Context(), wire.Addr().String(), b.Key.Public()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for _, m := range []*engine.Machine{a, b} {
		busy.Go(func() {
			for ctx.Err() == nil {
				m.Host.Tell(ctx, earn.Name, 1+rand.IntN(40))
				time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
			}
		})
	}
	const cuts = 12
	for round := range cuts {
		time.Sleep(time.Duration(20+rand.IntN(30)) * time.Millisecond)
		switch round % 3 {
		case 0:
			wire.cut()
		case 1:
			a.Cut(b.Key.Public(), true)
			a.Cut(b.Key.Public(), false)
		case 2:
			b.Cut(a.Key.Public(), true)
			b.Cut(a.Key.Public(), false)
		}
		eventually(t, func() (got string, ok bool) {
			mouth.look(func() { got, ok = fmt.Sprint(mouth.lines), len(mouth.ended) > round })
			return got, ok
		})
		a.Disconnect(b.Key.Public()) // so that it is dialled at once
		if err := a.Connect(t.Context(), wire.Addr().String(), b.Key.Public()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	busy.Wait()
	total := uint64(0)
	for _, e := range []*ear{mouth, far} {
		e.look(func() {
			if e.fault != nil {
				t.Error(e.fault)
			}
			for _, n := range e.heard {
				total += n
			}
			if len(e.ended) < cuts-1 {
				t.Errorf("only %d connections have ended", len(e.ended))
			}
		})
	}
	if total < 1000 {
		t.Errorf("only %d messages have come", total)
	}
}

// A second connection from one peer takes the place of the first. What the
// first one's reader still has is dropped, not told late.
func TestASecondConnectionReplacesTheFirst(t *testing.T) {
	m, e, addr := listening(t, engine.Options{})
	self := secret("twice")
	for n := uint64(1); n <= 20; n++ {
		s := dial(t, m, addr, self)
		for i := range uint64(500) {
			if s.Add(numbered(n, i+1, "").Append(nil)) != nil {
				break
			}
		}
		s.Flush()
	}
	want := []string{"linked 1"}
	for n := 1; n < 20; n++ {
		want = append(want, fmt.Sprintf("unlinked %d", n), fmt.Sprintf("linked %d", n+1))
	}
	e.said(t, want...)
	eventually(t, func() (got string, ok bool) {
		e.look(func() { got, ok = fmt.Sprint(e.heard), e.heard[20] == 500 })
		return got, ok
	})
	if e.fault != nil {
		t.Error(e.fault)
	}
}

// The number of a connection that is gone leads nowhere.
func TestAnOldNumber(t *testing.T) {
	m, e, addr := listening(t, engine.Options{})
	self := secret("twice")
	dial(t, m, addr, self)
	e.said(t, "linked 1")
	s := dial(t, m, addr, self)
	e.said(t, "linked 1", "unlinked 1", "linked 2")
	for _, link := range []uint64{1, 2, 3, 0, 1, 2} {
		packet := step.Packet{To: self.Public().PeerName(), Link: link, Msg: numbered(link, 0, "")}
		if err := m.Host.Tell(t.Context(), earn.Name, packet); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []uint64{2, 0, 2} {
		if raw, err := s.Recv(); err != nil || !slices.Equal(raw, numbered(link, 0, "").Append(nil)) {
			t.Errorf("the message for %d is %x, %v", link, raw, err)
		}
	}
}

// A peer that does not read loses the connection before it could miss a message.
func TestAFullQueueCutsTheConnection(t *testing.T) {
	log := &lines{}
	m, e, addr := listening(t, engine.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	e.text = strings.Repeat("x", trade.MaxName)
	s := dial(t, m, addr, secret("deaf"))
	e.said(t, "linked 1")
	for range 60 {
		if err := m.Host.Tell(t.Context(), earn.Name, 2000); err != nil {
			t.Fatal(err)
		}
	}
	e.said(t, "linked 1", "unlinked 1")
	if !log.has("its queue is full") {
		t.Error("nothing is logged")
	}
	for n := uint64(1); ; n++ {
		raw, err := s.Recv()
		if err != nil {
			t.Logf("the peer gets %d messages", n-1)
			break
		}
		if !slices.Equal(raw, numbered(1, n, e.text).Append(nil)) {
			t.Fatalf("message %d is %x", n, raw)
		}
	}
}

type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(line)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.all.String(), text)
}

// A Lightning message that cannot be read ends the connection, and with it what
// came after; one of another protocol is only ignored.
func TestWhatCannotBeRead(t *testing.T) {
	m, e, addr := listening(t, engine.Options{})
	for n, typ := range []uint16{65534, 32766} {
		s := dial(t, m, addr, secret("garbler"))
		link := uint64(n + 1)
		for _, raw := range [][]byte{numbered(link, 1, "").Append(nil), binary.BigEndian.AppendUint16(nil, typ), numbered(link, 2, "").Append(nil)} {
			if err := s.Add(raw); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if typ == 32766 {
			break
		}
		eventually(t, func() (got string, ok bool) {
			e.look(func() { got, ok = fmt.Sprint(e.heard), e.heard[1] == 2 })
			return got, ok
		})
	}
	e.said(t, "linked 1", "unlinked 1", "linked 2", "unlinked 2")
	if e.heard[2] != 1 || e.fault != nil {
		t.Errorf("heard %d messages, %v", e.heard[2], e.fault)
	}
}

// Strangers have a limit; those we dial are no strangers; who leaves is
// forgotten.
func TestStrangersAreBounded(t *testing.T) {
	log := &lines{}
	m, _, addr := listening(t, engine.Options{MaxPeers: 2, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	names := func() (list []string, up int) {
		for _, p := range m.Peers() {
			list = append(list, p.Key.String())
			if p.Link != 0 {
				up++
			}
		}
		return list, up
	}
	has := func(n int) {
		t.Helper()
		eventually(t, func() (string, bool) {
			list, up := names()
			return fmt.Sprint(list), len(list) == n && up == n
		})
	}
	one := dial(t, m, addr, secret("one"))
	dial(t, m, addr, secret("two"))
	has(2)
	three := dial(t, m, addr, secret("three"))
	if _, err := three.Recv(); err == nil || !log.has("all 2 places") {
		t.Errorf("a third stranger is let in: %v", err)
	}
	friend, _, at := listening(t, engine.Options{})
	if err := m.Connect(t.Context(), at, friend.Key.Public()); err != nil {
		t.Fatal(err)
	}
	has(3)
	again := dial(t, m, addr, secret("two")) // a stranger that is known
	has(3)
	one.Close()
	has(2)
	dial(t, m, addr, secret("three"))
	has(3)
	if list, _ := names(); !slices.ContainsFunc(m.Peers(), func(p engine.Peer) bool { return p.Addr == at && p.Key == friend.Key.Public() }) {
		t.Errorf("the friend is not among %s", list)
	}
	again.Close()
	has(2)
}

// Disconnect hangs up after what was sent, and the peer is not dialled again
// before it is wanted.
func TestDisconnect(t *testing.T) {
	a, mouth, _ := listening(t, engine.Options{})
	b, far, addr := listening(t, engine.Options{})
	for round := uint64(1); round <= 2; round++ {
		if err := a.Connect(t.Context(), addr, b.Key.Public()); err != nil {
			t.Fatal(err)
		}
		mouth.look(func() { mouth.sent[round] = 0 })
		if err := a.Host.Tell(t.Context(), earn.Name, 1000); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() (got string, ok bool) {
			mouth.look(func() { got, ok = fmt.Sprint(mouth.sent), mouth.sent[round] == 1000 })
			return got, ok
		})
		a.Host.Do(t.Context(), func(*drive.Machine) {}) // the round has been carried out
		a.Disconnect(b.Key.Public())
		eventually(t, func() (got string, ok bool) {
			far.look(func() { got, ok = fmt.Sprint(far.heard), far.ended[round] && far.heard[round] == 1000 })
			return got, ok
		})
		time.Sleep(3 * link.MinBackoff)
		if list := slices.Concat(a.Peers(), b.Peers()); len(list) != 0 {
			t.Errorf("still %v", list)
		}
	}
	a.Disconnect(b.Key.Public()) // twice
	a.Disconnect(secret("nobody").Public())
}

// Two machines that dial each other end with one link, and keep it.
func TestTwoThatDialEachOther(t *testing.T) {
	a, _, atA := listening(t, engine.Options{})
	b, far, atB := listening(t, engine.Options{})
	var both sync.WaitGroup
	both.Go(func() { a.Connect(t.Context(), atB, b.Key.Public()) })
	both.Go(func() { b.Connect(t.Context(), atA, a.Key.Public()) })
	both.Wait()
	steady := func() bool {
		was := b.Peers()[0].Link
		time.Sleep(300 * time.Millisecond)
		return was != 0 && len(a.Peers()) == 1 && b.Peers()[0].Link == was
	}
	for range 20 {
		if steady() {
			if far.fault != nil {
				t.Error(far.fault)
			}
			return
		}
	}
	t.Error("the link never settles")
}
