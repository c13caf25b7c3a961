package nanonet

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/mem"
)

// secretOf is the same key for the same name.
func secretOf(name string) eddsa.Secret {
	var key [32]byte
	copy(key[:], name)
	return lattice.NewSecret(key)
}

// testNetwork is one whose work takes no time.
var testNetwork = lattice.NewNetwork("nanonet test", secretOf("genesis"), lattice.MaxRaw, 2, 1)

func machine(t testing.TB) *engine.Machine {
	t.Helper()
	key, err := keys.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := engine.New(context.Background(), engine.Options{Key: key, DB: db})
	t.Cleanup(func() { m.Close() })
	return m
}

// An echo is a core that tells the test all it hears, and sends questions back.
type echo struct {
	heard chan any
	hold  chan struct{} // nil, or what it waits for before every step
}

func (e *echo) Step(in step.Input) (fx step.Effects) {
	if e.hold != nil {
		<-e.hold
	}
	for _, event := range in.Events {
		if r, ok := event.(step.Recv); ok {
			frame := r.Msg.(gossip.Frame)
			if frame.Raw[5] == lattice.TypeConfirmReq {
				fx.Send = append(fx.Send, step.Packet{To: r.From, Msg: frame})
			}
		}
		select {
		case e.heard <- event:
		default:
		}
	}
	return fx
}

// expect waits until a core hears what is looked for.
func expect[T any](t testing.TB, e *echo, is func(T) bool) T {
	t.Helper()
	for timeout := time.After(5 * time.Second); ; {
		select {
		case event := <-e.heard:
			if v, ok := event.(T); ok && is(v) {
				return v
			}
		case <-timeout:
			t.Fatalf("the core has not heard the %T that was waited for", *new(T))
		}
	}
}

func anyOf[T any](T) bool { return true }

// echoNode is a node with an echo for a core.
func echoNode(t testing.TB, name string, o Options) (*Node, *echo) {
	t.Helper()
	o.Config = node.Config{Network: testNetwork, ID: secretOf(name)}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	n, err := prepare(machine(t), o)
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{heard: make(chan any, 4096)}
	if err := n.start(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n, e
}

// A raw end of a connection, that shakes hands as it likes.
type end struct {
	net.Conn
	stream
	t testing.TB
}

func dialRaw(t testing.TB, n *Node) *end {
	t.Helper()
	conn, err := net.Dial("tcp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	return &end{conn, newStream(conn, testNetwork.Magic), t}
}

func (e *end) Read(b []byte) (int, error) { return e.Conn.Read(b) }

func (e *end) write(m lattice.Message) {
	e.t.Helper()
	if _, err := e.Conn.Write(m.Append(nil, testNetwork.Magic)); err != nil {
		e.t.Fatal(err)
	}
}

// shake is an honest handshake.
func (e *end) shake(id eddsa.Secret) {
	e.t.Helper()
	cookie := random()
	e.write(&lattice.Handshake{Query: &cookie})
	theirs, _, err := e.handshake(true, true)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := theirs.Response.Verify(cookie, testNetwork.Genesis.Hash()); err != nil {
		e.t.Fatal(err)
	}
	e.write(&lattice.Handshake{Response: lattice.NewHandshakeResponse(id, *theirs.Query, random(), testNetwork.Genesis.Hash())})
}

// hungUp reports whether the node ends the connection.
func (e *end) hungUp() bool {
	_, err := io.Copy(io.Discard, e.Conn)
	return err == nil || strings.Contains(err.Error(), "reset")
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for range 500 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("it is not so after 5 s that %s", what)
}

var question = &lattice.ConfirmReq{Pairs: []lattice.Pair{{Hash: lattice.Hash{1}}}}

// Two nodes find each other, and frames go both ways under the names of who has
// shown to be them.
func TestFramesGoBothWays(t *testing.T) {
	ann, annHears := echoNode(t, "ann", Options{})
	bob, bobHears := echoNode(t, "bob", Options{Peers: []string{ann.Addr().String()}})
	came := expect(t, annHears, anyOf[node.Joined])
	if came.ID != bob.ID() || came.Peer != name(bob.ID()) {
		t.Errorf("ann hears that %s comes, and bob is %s", came.ID.Node(), bob.ID().Node())
	}
	expect(t, bobHears, anyOf[node.Joined])
	bob.mu.Lock()
	toAnn := bob.peers[ann.ID()]
	bob.mu.Unlock()
	raw := question.Append(nil, testNetwork.Magic)
	toAnn.send(raw)
	back := expect(t, bobHears, func(r step.Recv) bool { return r.From == name(ann.ID()) })
	if got := back.Msg.(gossip.Frame); got.Ledger != gossip.Lattice || !bytes.Equal(got.Raw, raw) {
		t.Errorf("%x came back as %x", raw, got.Raw)
	}
	toAnn.close()
	if gone := expect(t, annHears, anyOf[node.Left]); gone.Peer != came.Peer {
		t.Errorf("%s has left, and %s had come", gone.Peer, came.Peer)
	}
	expect(t, annHears, anyOf[node.Joined]) // bob dials again
}

// Who is not a node of this network is sent away, and the node hears nothing of it.
func TestStrangersAreSentAway(t *testing.T) {
	n, hears := echoNode(t, "ann", Options{HandshakeTime: 300 * time.Millisecond, MaxPerIP: 100})
	mallory, genesis := secretOf("mallory"), testNetwork.Genesis.Hash()

	// A good handshake, whose last word is said again on another connection.
	good := dialRaw(t, n)
	cookie := random()
	good.write(&lattice.Handshake{Query: &cookie})
	theirs, _, err := good.handshake(true, true)
	if err != nil {
		t.Fatal(err)
	}
	last := &lattice.Handshake{Response: lattice.NewHandshakeResponse(mallory, *theirs.Query, random(), genesis)}
	good.write(last)
	if came := expect(t, hears, anyOf[node.Joined]); came.ID != lattice.Key(mallory.Public()) {
		t.Errorf("%s came", came.ID.Node())
	}

	for what, say := range map[string]func(e *end){
		"says nothing":              func(e *end) {},
		"says garbage":              func(e *end) { e.Conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")) },
		"is of another network":     func(e *end) { e.Conn.Write((&lattice.Handshake{Query: &cookie}).Append(nil, lattice.MagicLive)) },
		"does not shake hands":      func(e *end) { e.write(question) },
		"is of another ledger":      func(e *end) { e.half(mallory, func(c [32]byte) lattice.Hash { return lattice.Hash{1} }) },
		"says what was said":        func(e *end) { e.begin(); e.write(last) },
		"signs for somebody else":   func(e *end) { e.forge(mallory, n.ID()) },
		"is this node itself":       func(e *end) { e.half(secretOf("ann"), func([32]byte) lattice.Hash { return genesis }) },
		"asks much at once":         func(e *end) { e.write(&lattice.ConfirmReq{Pairs: make([]lattice.Pair, 255)}) },
		"answers what is not asked": func(e *end) { e.write(last) },
		"has a message too long": func(e *end) {
			e.Conn.Write(lattice.Header{Network: testNetwork.Magic, Using: 21, Type: lattice.TypeAscPullAck, Extensions: 0xffff}.Append(nil))
		},
	} {
		e := dialRaw(t, n)
		say(e)
		if !e.hungUp() {
			t.Errorf("one who %s is not sent away", what)
		}
	}
	if c := n.Counts(); c.Refused != 11 || c.Peers != 1 {
		t.Errorf("%+v", c)
	}
	// And one who is in may not shake hands again, nor change the network.
	good.write(last)
	if !good.hungUp() {
		t.Error("a second handshake is taken")
	}
	expect(t, hears, anyOf[node.Left])
}

// begin says hello and reads the answer.
func (e *end) begin() *lattice.Handshake {
	e.t.Helper()
	cookie := random()
	e.write(&lattice.Handshake{Query: &cookie})
	theirs, _, err := e.handshake(true, true)
	if err != nil {
		e.t.Fatal(err)
	}
	return theirs
}

// half answers with a genesis of one's own.
func (e *end) half(id eddsa.Secret, genesis func([32]byte) lattice.Hash) {
	q := *e.begin().Query
	e.write(&lattice.Handshake{Response: lattice.NewHandshakeResponse(id, q, random(), genesis(q))})
}

func (e *end) forge(signer eddsa.Secret, as lattice.Key) {
	r := lattice.NewHandshakeResponse(signer, *e.begin().Query, random(), testNetwork.Genesis.Hash())
	r.Node = as
	r.Node[0] ^= 1
	e.write(&lattice.Handshake{Response: r})
}

// A node is connected once, to itself never, and no address has more than its share
// of connections.
func TestOneConnectionEach(t *testing.T) {
	ann, hears := echoNode(t, "ann", Options{MaxPerIP: 3, MaxIn: 2})
	first := dialRaw(t, ann)
	first.shake(secretOf("bob"))
	expect(t, hears, anyOf[node.Joined])
	again := dialRaw(t, ann)
	again.shake(secretOf("bob"))
	if !again.hungUp() {
		t.Error("a second connection of one node is taken")
	}
	dialRaw(t, ann).shake(secretOf("carol"))
	expect(t, hears, anyOf[node.Joined])
	third := dialRaw(t, ann)
	third.shake(secretOf("dave"))
	if !third.hungUp() {
		t.Error("there is room for a third")
	}
	dialRaw(t, ann) // a third connection, which says nothing
	eventually(t, "it is counted", func() bool { ann.mu.Lock(); defer ann.mu.Unlock(); return ann.perIP[remoteOf(first.Conn).Addr()] == 3 })
	if e := dialRaw(t, ann); !e.hungUp() {
		t.Error("there is room for a fourth connection from one address")
	}
}

// Two nodes that dial each other at once keep one connection, and a node that is
// told to dial itself learns better.
func TestDialEachOther(t *testing.T) {
	spare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := spare.Addr().String()
	spare.Close()
	ann, _ := echoNode(t, "ann", Options{Peers: []string{at}})
	bob, _ := echoNode(t, "bob", Options{Listen: at, Peers: []string{ann.Addr().String(), at}})
	eventually(t, "they are connected once, and stay so", func() bool {
		a, b := ann.Peers(), bob.Peers()
		return len(a) == 1 && len(b) == 1 && a[0].Dialled != b[0].Dialled && time.Since(a[0].Since) > 300*time.Millisecond
	})
	eventually(t, "bob knows his own place", func() bool {
		bob.mu.Lock()
		defer bob.mu.Unlock()
		return bob.book.places[at].self
	})
}

// Bob and carol know ann only; she tells them of each other.
func TestPeersTellOfPeers(t *testing.T) {
	soon := Options{KeepAlive: 30 * time.Millisecond}
	ann, _ := echoNode(t, "ann", soon)
	soon.Peers = []string{ann.Addr().String()}
	bob, _ := echoNode(t, "bob", soon)
	carol, _ := echoNode(t, "carol", soon)
	soon.Closed = true
	dave, _ := echoNode(t, "dave", soon)
	eventually(t, "bob and carol are connected", func() bool {
		for _, p := range bob.Peers() {
			if p.ID == carol.ID() {
				return true
			}
		}
		return false
	})
	for _, p := range dave.Peers() {
		if p.Dialled && p.ID != ann.ID() {
			t.Errorf("dave, who keeps to himself, has dialled %s", p.At)
		}
	}
}

// Places that a peer tells of are dialled only if the peer could reach them itself.
func TestWhereWeAreSent(t *testing.T) {
	n, _ := echoNode(t, "ann", Options{})
	for from, places := range map[string]string{
		"203.0.113.5": "127.0.0.1:7075 10.1.2.3:7075 [::1]:7075 198.51.100.7:0 0.0.0.0:7075 224.0.0.1:7075 169.254.169.254:80 [fe80::1]:7075",
		"127.0.0.1":   "[::]:7075",
	} {
		for place := range strings.FieldsSeq(places) {
			n.learn(mustAddr(from), mustPlace(place))
		}
	}
	if c := n.Counts(); c.Known != 0 {
		t.Errorf("%d places are known that nobody should dial", c.Known)
	}
}

// The core stands still while one peer floods. What another one asks is heard soon
// after the core goes on.
func TestFloodOverTCP(t *testing.T) {
	n, e := echoNode(t, "ann", Options{})
	flooder, honest := dialRaw(t, n), dialRaw(t, n)
	flooder.shake(secretOf("mallory"))
	honest.shake(secretOf("bob"))
	expect(t, e, anyOf[node.Joined])
	expect(t, e, anyOf[node.Joined])
	e.heard = make(chan any, 4*drive.MaxInbox)
	block := (&lattice.Publish{}).Append(nil, testNetwork.Magic)
	flood := bytes.Repeat(block, 30_000)
	go flooder.Conn.Write(flood)
	eventually(t, "the flood is there", func() bool { return n.Counts().Taken[blocks] > 1000 })
	began := time.Now()
	honest.write(question)
	expect(t, e, func(r step.Recv) bool { return r.From == name(secretOf("bob").Public()) })
	if took := time.Since(began); took > time.Second {
		t.Errorf("bob was heard after %v", took)
	}
}

// While the core is in a step, its inbox is not filled by whoever is quickest.
func TestFloodStaysOutside(t *testing.T) {
	n, e := echoNode(t, "ann", Options{})
	flooder := dialRaw(t, n)
	flooder.shake(secretOf("mallory"))
	expect(t, e, anyOf[node.Joined])
	free := make(chan struct{})
	inside := make(chan struct{})
	go n.machine.Host.Do(t.Context(), func(*drive.Machine) { close(inside); <-free })
	<-inside
	go flooder.Conn.Write(bytes.Repeat((&lattice.Publish{}).Append(nil, testNetwork.Magic), 20_000))
	eventually(t, "the flood is there", func() bool { _, lost := n.fair.counts(); return lost[blocks] > 1000 })
	if taken, _ := n.fair.counts(); taken[blocks] > MaxAhead+uint64(room[blocks].turn) {
		t.Errorf("%d messages went in before the core stepped; %d are the limit", taken[blocks], MaxAhead)
	}
	close(free)
}

// What is sent to a peer that does not read waits up to a limit, and is lost then.
func TestPeerThatDoesNotRead(t *testing.T) {
	n, hears := echoNode(t, "ann", Options{})
	deaf := dialRaw(t, n)
	deaf.shake(secretOf("bob"))
	expect(t, hears, anyOf[node.Joined])
	n.mu.Lock()
	p := n.peers[secretOf("bob").Public()]
	n.mu.Unlock()
	raw := make([]byte, 32<<10)
	for range 2000 { // 64 MB, of which the kernel takes some
		p.send(raw)
		p.mu.Lock()
		if p.bytes > MaxQueueBytes || len(p.waiting) > MaxQueue {
			t.Fatalf("%d messages of %d bytes wait", len(p.waiting), p.bytes)
		}
		p.mu.Unlock()
	}
	if seen := p.seen(); seen.Dropped == 0 || n.Counts().Unsent != seen.Dropped {
		t.Errorf("%d messages are counted as lost, and %d in all", seen.Dropped, n.Counts().Unsent)
	}
}

// What a peer costs while it is there, and that nothing is left when all are gone.
func TestWhatPeersCost(t *testing.T) {
	before := runtime.NumGoroutine()
	key, err := keys.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	db, _ := mem.New(nil)
	m := engine.New(t.Context(), engine.Options{Key: key, DB: db})
	n, err := prepare(m, Options{Config: node.Config{Network: testNetwork, ID: secretOf("ann")}, Listen: "127.0.0.1:0", MaxPerIP: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.start(t.Context(), &echo{heard: make(chan any, 1)}); err != nil {
		t.Fatal(err)
	}
	own := runtime.NumGoroutine()
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapInuse + s.StackInuse
	}
	empty := heap()
	const many = 100
	var ends []net.Conn
	for i := range many {
		e := dialRaw(t, n)
		e.shake(secretOf(hex.EncodeToString([]byte{byte(i)})))
		ends = append(ends, e.Conn)
	}
	eventually(t, "all are in", func() bool { return n.Counts().Peers == many })
	perPeer := float64(runtime.NumGoroutine()-own) / many
	t.Logf("a peer takes %.2f goroutines and %d bytes", perPeer, (heap()-empty)/many) // the test's own end included
	if perPeer > 2.05 {
		t.Errorf("a peer takes %.2f goroutines; 2 are the limit", perPeer)
	}
	for _, c := range ends {
		c.Close()
	}
	n.Close()
	m.Close()
	eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}

func mustAddr(text string) netip.Addr      { return netip.MustParseAddr(text) }
func mustPlace(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
