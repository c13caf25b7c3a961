// Package linktest is what every link must pass, and a connection that fails
// on command.
package linktest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/world/link"
)

// A Medium is a way for messages to travel, with and without the handshake.
type Medium struct {
	Addr       string // somewhere to listen
	Dial       func(ctx context.Context, addr string, self keys.Secret, peer keys.Public) (*link.Session, error)
	Listen     func(addr string, self keys.Secret, o link.Options) (*link.Listener, error)
	DialConn   func(ctx context.Context, addr string) (net.Conn, error)
	ListenConn func(addr string) (net.Listener, error)
}

// A Story is one test, told on a fresh Medium.
type Story func(t *testing.T, m Medium)

// short is a timeout that a test waits out. On TCP it passes for real.
const short = 50 * time.Millisecond

// Test tells every story. tell brings the Medium, and may tell in a
// testing/synctest bubble.
func Test(t *testing.T, tell func(t *testing.T, story Story)) {
	for _, s := range []struct {
		name  string
		story Story
	}{
		{"messages arrive whole and in order, both ways at once", inOrder},
		{"many messages share a write", batched},
		{"a closed link does not read what is left", closedIsDeaf},
		{"the shortest and the longest message pass, a longer one is refused", sizes},
		{"bytes that arrive one by one make a message", trickle},
		{"each end counts what the other counts", counts},
		{"a dialler with the wrong key is refused", wrongKey},
		{"garbage is refused", garbage},
		{"a silent stranger is dropped", silence},
		{"an answer that never comes ends with the context", noAnswer},
		{"a changed byte closes the link", tampered},
		{"a cut link says so", cut},
		{"close unblocks the receiver", closeUnblocks},
		{"a peer that stops reading loses the link", stalled},
		{"a full house lets nobody in until somebody leaves", fullHouse},
		{"strangers wait for a handshake slot", slots},
		{"a closed listener says so", closedListener},
		{"a lost link is dialled again", reconnects},
	} {
		t.Run(s.name, func(t *testing.T) { tell(t, s.story) })
	}
}

func inOrder(t *testing.T, m Medium) {
	const messages = 1100 // enough for two changes of key
	a, b := connect(t, m)
	done := make(chan error, 4)
	for _, way := range []struct{ from, to *link.Session }{{a, b}, {b, a}} {
		go func() { done <- sendNumbered(way.from, messages) }()
		go func() { done <- recvNumbered(way.to, messages) }()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// batched fills more than one batch, so that Add flushes by itself too.
func batched(t *testing.T, m Medium) {
	const messages = 1100
	a, b := connect(t, m)
	done := make(chan error, 1)
	go func() { done <- recvNumbered(b, messages) }()
	before := a.Counts().Sent
	for n := range messages {
		if err := a.Add(numbered(n)); err != nil {
			t.Fatal(err)
		}
		if n == 0 && a.Counts().Sent != before {
			t.Error("the first message did not wait for others")
		}
	}
	for range 2 { // the second has nothing to do
		if err := a.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// closedIsDeaf: a message that cannot be understood closes the link, and what
// came in the same packet must not be taken for what follows it.
func closedIsDeaf(t *testing.T, m Medium) {
	a, b := connect(t, m)
	for _, word := range []string{"one", "two"} {
		if err := a.Add([]byte(word)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	if msg, err := b.Recv(); err != nil || string(msg) != "one" {
		t.Fatalf("received %q, %v", msg, err)
	}
	b.Close()
	if msg, err := b.Recv(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("received %q, %v", msg, err)
	}
	if err := b.Add(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("added: %v", err)
	}
}

// sendNumbered sends messages of many lengths, each filled with its number.
func sendNumbered(l link.Link, messages int) error {
	for n := range messages {
		if err := l.Send(numbered(n)); err != nil {
			return err
		}
	}
	return nil
}

func recvNumbered(l link.Link, messages int) error {
	for n := range messages {
		msg, err := l.Recv()
		if err != nil {
			return err
		}
		if !bytes.Equal(msg, numbered(n)) {
			return fmt.Errorf("message %d is %d bytes, not as sent", n, len(msg))
		}
	}
	return nil
}

func numbered(n int) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint32(nil, uint32(n)), n*n%997)
}

func sizes(t *testing.T, m Medium) {
	a, b := connect(t, m)
	err := a.Send(make([]byte, link.MaxMessage+1))
	says(t, err, "65536", "65535", "split")
	for _, size := range []int{0, 1, link.MaxMessage} {
		msg := bytes.Repeat([]byte{9}, size)
		exchange(t, a, b, msg)
		exchange(t, b, a, msg)
	}
}

func trickle(t *testing.T, m Medium) {
	a, b, fault := faultyPair(t, m)
	fault.Trickle()
	exchange(t, a, b, []byte("one by one"))
	exchange(t, a, b, bytes.Repeat([]byte{1}, 3000))
}

func counts(t *testing.T, m Medium) {
	a, b := connect(t, m)
	exchange(t, a, b, []byte("hello"))
	exchange(t, b, a, nil)
	// BOLT 8: acts of 50, 50 and 66 bytes; 34 bytes on top of each message.
	want := link.Counts{Sent: 50 + 66 + 34 + 5, Received: 50 + 34}
	if got := a.Counts(); got != want {
		t.Errorf("dialler counts %+v, want %+v", got, want)
	}
	if got := b.Counts(); got.Sent != want.Received || got.Received != want.Sent {
		t.Errorf("listener counts %+v, want %+v turned round", got, want)
	}
}

func wrongKey(t *testing.T, m Medium) {
	l, refused := listen(t, m, link.Options{})
	_, err := m.Dial(t.Context(), l.Addr().String(), secret("dialler"), secret("somebody else").Public())
	says(t, err, l.Addr().String(), "check")
	says(t, <-refused, "act one", "key")
	welcome(t, m, l) // the listener is none the worse
}

func garbage(t *testing.T, m Medium) {
	l, refused := listen(t, m, link.Options{})
	for _, act := range [][]byte{
		[]byte("GET / HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\n\r\n"),
		make([]byte, 50),
		make([]byte, 10_000),
	} {
		conn := dialConn(t, m, l.Addr().String())
		conn.Write(act)
		if n, err := io.Copy(io.Discard, conn); n != 0 {
			t.Errorf("garbage was answered with %d bytes, %v", n, err)
		}
		says(t, <-refused, "act one")
	}
	welcome(t, m, l)
}

func silence(t *testing.T, m Medium) {
	l, refused := listen(t, m, link.Options{HandshakeTimeout: short})
	conn := dialConn(t, m, l.Addr().String())
	says(t, <-refused, "not finished within 50ms")
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}

func noAnswer(t *testing.T, m Medium) {
	l, err := m.ListenConn(m.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go l.Accept() // and not a word
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	_, err = m.Dial(ctx, l.Addr().String(), secret("dialler"), secret("listener").Public())
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func tampered(t *testing.T, m Medium) {
	for part, at := range map[string]int{"header": 3, "body": 18 + 3} {
		a, b, fault := faultyPair(t, m)
		fault.Flip(at)
		if err := a.Send([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		_, err := b.Recv()
		says(t, err, "link to ", part, "tag does not match")
		_, again := b.Recv()
		if again == nil || again.Error() != err.Error() {
			t.Errorf("first %v, then %v", err, again)
		}
		if err := b.Send(nil); err == nil {
			t.Error("the link still sends")
		}
		if _, err := a.Recv(); err == nil {
			t.Error("the other end is still up")
		}
	}
}

func cut(t *testing.T, m Medium) {
	a, b, fault := faultyPair(t, m)
	exchange(t, a, b, []byte("while it lasts"))
	fault.Cut()
	_, err := a.Recv()
	says(t, err, "link to ", "hung up", "dial again")
	if _, err := b.Recv(); err == nil {
		t.Error("the cut end still receives")
	}
}

func closeUnblocks(t *testing.T, m Medium) {
	a, b := connect(t, m)
	ended := make(chan error, 2)
	for _, l := range []link.Link{a, b} {
		go func() {
			_, err := l.Recv()
			ended <- err
		}()
	}
	a.Close()
	for range cap(ended) {
		if err := <-ended; err == nil {
			t.Error("received from a closed link")
		}
	}
	if err := a.Send(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send on a closed link: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func stalled(t *testing.T, m Medium) {
	l, _ := listen(t, m, link.Options{SendTimeout: short})
	fault := NewFaulty(dialConn(t, m, l.Addr().String()))
	a, err := link.Initiate(t.Context(), fault, secret("dialler"), secret("listener").Public())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	b, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fault.Stall()
	go a.Recv()
	received := make(chan error, 1)
	go func() {
		_, err := b.Recv()
		received <- err
	}()
	for msg := make([]byte, link.MaxMessage); err == nil; {
		err = b.Send(msg)
	}
	says(t, err, "link to ", "has not read for 50ms", "dial again")
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("cause is lost: %v", err)
	}
	if got := <-received; got == nil || got.Error() != err.Error() {
		t.Errorf("send says %v, receive says %v", err, got)
	}
}

func fullHouse(t *testing.T, m Medium) {
	l, refused := listen(t, m, link.Options{MaxPeers: 1})
	_, b := meet(t, m, l)
	late, err := m.Dial(t.Context(), l.Addr().String(), secret("dialler"), secret("listener").Public())
	if err == nil { // act three is the dialler's, so it learns only now
		_, err = late.Recv()
	}
	says(t, err, "hung up")
	says(t, <-refused, "all 1 places are taken", "MaxPeers")
	b.Close()
	welcome(t, m, l)
}

func slots(t *testing.T, m Medium) {
	l, refused := listen(t, m, link.Options{MaxHandshakes: 2})
	silent := []net.Conn{dialConn(t, m, l.Addr().String()), dialConn(t, m, l.Addr().String())}
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	if _, err := m.Dial(ctx, l.Addr().String(), secret("dialler"), secret("listener").Public()); err == nil {
		t.Error("a third handshake was served")
	}
	silent[0].Close()
	says(t, <-refused, "hung up")
	welcome(t, m, l)
}

func closedListener(t *testing.T, m Medium) {
	l, _ := listen(t, m, link.Options{})
	a, b := meet(t, m, l)
	dialConn(t, m, l.Addr().String()) // a handshake under way must not hold it up
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Accept(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("accept with a dead context: %v", err)
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept(t.Context())
		accepted <- err
	}()
	l.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed listener: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	_, err := m.Dial(t.Context(), l.Addr().String(), secret("dialler"), secret("listener").Public())
	says(t, err, l.Addr().String(), "listen")
	exchange(t, a, b, []byte("still up"))
}

func reconnects(t *testing.T, m Medium) {
	l, _ := listen(t, m, link.Options{})
	addr := l.Addr().String()
	up, down, said := make(chan link.Link), make(chan error, 64), make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		link.Keep{
			Dial: func(ctx context.Context) (link.Link, error) {
				return m.Dial(ctx, addr, secret("dialler"), secret("listener").Public())
			},
			OnUp:      func(l link.Link) { up <- l },
			OnMessage: func(_ keys.Public, msg []byte) { said <- string(msg) },
			OnDown:    func(err error) { down <- err },
		}.Run(ctx)
	}()
	for round := range 3 {
		b, err := l.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a := <-up
		b.Send([]byte("welcome back"))
		if got := <-said; got != "welcome back" {
			t.Errorf("got %q", got)
		}
		exchange(t, a, b, []byte("good to be here"))
		if round == 1 { // this time the whole peer goes away
			l.Close()
		}
		b.Close()
		says(t, <-down, addr, "next try in")
		if round == 1 {
			says(t, <-down, addr, "listen", "next try in")
			if l, err = m.Listen(addr, secret("listener"), link.Options{}); err != nil {
				t.Fatal(err)
			}
			defer l.Close()
		}
	}
	cancel()
	for {
		select {
		case a := <-up:
			a.Close()
		case <-ended:
			return
		}
	}
}

// secret is a key that anyone can guess.
func secret(name string) keys.Secret {
	one := make([]byte, 32)
	one[31] = 1
	s, err := keys.SecretFromBytes(one)
	if err != nil {
		panic(err)
	}
	return s.Derive(name)
}

func listen(t *testing.T, m Medium, o link.Options) (*link.Listener, <-chan error) {
	refused := make(chan error, 16)
	o.OnRefuse = func(err error) { refused <- err }
	l, err := m.Listen(m.Addr, secret("listener"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, refused
}

// meet dials l and returns both ends.
func meet(t *testing.T, m Medium, l *link.Listener) (dialled, accepted *link.Session) {
	dialled, err := m.Dial(t.Context(), l.Addr().String(), secret("dialler"), secret("listener").Public())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close() })
	accepted, err = l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	if dialled.Peer() != secret("listener").Public() || accepted.Peer() != secret("dialler").Public() {
		t.Fatalf("dialler meets %s, listener meets %s", dialled.Peer(), accepted.Peer())
	}
	return dialled, accepted
}

// welcome checks that l still lets an honest peer in.
func welcome(t *testing.T, m Medium, l *link.Listener) {
	a, b := meet(t, m, l)
	exchange(t, a, b, []byte("knock knock"))
}

func connect(t *testing.T, m Medium) (dialled, accepted *link.Session) {
	l, _ := listen(t, m, link.Options{})
	return meet(t, m, l)
}

// faultyPair is connect with a Faulty connection at the accepted end.
func faultyPair(t *testing.T, m Medium) (dialled, accepted *link.Session, fault *Faulty) {
	l, err := m.ListenConn(m.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answered := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			fault = NewFaulty(conn)
			accepted, err = link.Respond(t.Context(), fault, secret("listener"))
		}
		answered <- err
	}()
	dialled, err = m.Dial(t.Context(), l.Addr().String(), secret("dialler"), secret("listener").Public())
	if err = errors.Join(err, <-answered); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		dialled.Close()
		accepted.Close()
	})
	return dialled, accepted, fault
}

func dialConn(t *testing.T, m Medium, addr string) net.Conn {
	conn, err := m.DialConn(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func exchange(t *testing.T, from, to link.Link, msg []byte) {
	t.Helper()
	sent := make(chan error, 1)
	go func() { sent <- from.Send(msg) }()
	got, err := to.Recv()
	if err != nil || !bytes.Equal(got, msg) {
		t.Fatalf("sent %d bytes, received %d, %v", len(msg), len(got), err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// says checks that an error tells a reader these things.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want one that says %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
