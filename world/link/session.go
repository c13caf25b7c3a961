package link

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/noise"
)

const (
	// HandshakeTimeout bounds a handshake: three acts and two round trips at
	// most, so a peer that needs longer is gone or means harm.
	HandshakeTimeout = 10 * time.Second

	// SendTimeout bounds how long one write waits for a peer that does not
	// read. Only a full socket buffer makes it wait at all.
	SendTimeout = 10 * time.Second

	// MaxBatch is how many bytes of sealed messages wait for Flush: 44 messages
	// of 1,450 bytes share a system call, and one of the longest still fits.
	MaxBatch = noise.MaxPacket
)

// readAhead is how many bytes one read may bring in, so that a burst of small
// messages costs one system call.
const readAhead = 16 << 10

// A Session is a Link over a net.Conn. Its first error ends it and closes the
// connection; every later call returns that same error.
type Session struct {
	conn        *meter
	peer        keys.Public
	sealer      *noise.Sealer
	opener      *noise.Opener
	reader      *bufio.Reader
	sendTimeout time.Duration
	leave       func() // gives back the place a listener keeps for the peer

	header [noise.HeaderSize]byte
	body   []byte
	batch  []byte // sealed, and not written yet
	cause  atomic.Pointer[error]
}

// Initiate makes the first move of the handshake on conn, which must lead to
// the holder of peer (BOLT 8, "Handshake Exchange"). If it fails, conn is
// closed.
func Initiate(ctx context.Context, conn net.Conn, self keys.Secret, peer keys.Public) (*Session, error) {
	return secure(ctx, conn, Options{}.filled(), func(conn net.Conn) (noise.Session, error) {
		ephemeral, err := keys.NewSecret(rand.Reader)
		if err != nil {
			return noise.Session{}, err
		}
		initiator, one, err := noise.Initiate(self, peer, ephemeral)
		if err != nil {
			return noise.Session{}, err
		}
		if _, err := conn.Write(one[:]); err != nil {
			return noise.Session{}, err
		}
		var two [noise.ActTwoSize]byte
		if _, err := io.ReadFull(conn, two[:]); err != nil {
			return noise.Session{}, err
		}
		session, three, err := initiator.Finish(two[:])
		if err != nil {
			return noise.Session{}, err
		}
		_, err = conn.Write(three[:])
		return session, err
	})
}

// Respond answers whoever makes the first move on conn (BOLT 8, "Handshake
// Exchange"). If it fails, conn is closed. A Listener does this by itself.
func Respond(ctx context.Context, conn net.Conn, self keys.Secret) (*Session, error) {
	return respond(ctx, conn, self, Options{}.filled())
}

func respond(ctx context.Context, conn net.Conn, self keys.Secret, o Options) (*Session, error) {
	return secure(ctx, conn, o, func(conn net.Conn) (noise.Session, error) {
		var one [noise.ActOneSize]byte
		if _, err := io.ReadFull(conn, one[:]); err != nil {
			return noise.Session{}, err
		}
		ephemeral, err := keys.NewSecret(rand.Reader)
		if err != nil {
			return noise.Session{}, err
		}
		responder, two, err := noise.Respond(self, ephemeral, one[:])
		if err != nil {
			return noise.Session{}, err
		}
		if _, err := conn.Write(two[:]); err != nil {
			return noise.Session{}, err
		}
		var three [noise.ActThreeSize]byte
		if _, err := io.ReadFull(conn, three[:]); err != nil {
			return noise.Session{}, err
		}
		return responder.Finish(three[:])
	})
}

// secure runs a handshake under a deadline and under ctx. Buffers come after
// it: a stranger costs us next to no memory.
func secure(ctx context.Context, conn net.Conn, o Options, handshake func(net.Conn) (noise.Session, error)) (*Session, error) {
	m := &meter{Conn: conn}
	conn.SetDeadline(time.Now().Add(o.HandshakeTimeout))
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	session, err := handshake(m)
	if !stop() {
		err = context.Cause(ctx)
	} else if err != nil {
		err = explainHandshake(err, o)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("handshake with %s: %w", conn.RemoteAddr(), err)
	}
	conn.SetDeadline(time.Time{})
	return &Session{
		conn:        m,
		peer:        session.Peer,
		sealer:      session.Sealer,
		opener:      session.Opener,
		reader:      bufio.NewReaderSize(m, readAhead),
		sendTimeout: o.SendTimeout,
		leave:       func() {},
	}, nil
}

// Peer is the static key the peer has proved to hold.
func (s *Session) Peer() keys.Public { return s.peer }

// Send is Add and Flush: length and body leave in one write.
func (s *Session) Send(msg []byte) error {
	if err := s.Add(msg); err != nil {
		return err
	}
	return s.Flush()
}

// Add seals a message behind those that wait for Flush, and flushes by itself
// when MaxBatch bytes would wait. A message that is too long is refused and
// does no harm.
func (s *Session) Add(msg []byte) error {
	if len(msg) > MaxMessage {
		return fmt.Errorf("link to %s: message is %d bytes; BOLT 8 carries at most %d: split it", s.conn.RemoteAddr(), len(msg), MaxMessage)
	}
	if cause := s.cause.Load(); cause != nil {
		return *cause
	}
	if len(s.batch)+noise.HeaderSize+len(msg)+noise.TagSize > MaxBatch {
		if err := s.Flush(); err != nil {
			return err
		}
	}
	batch, err := s.sealer.Seal(s.batch, msg)
	if err != nil {
		return s.fail("send", err)
	}
	s.batch = batch
	return nil
}

// Flush writes what was added, in one write. A peer that reads nothing for
// SendTimeout loses the link.
func (s *Session) Flush() error {
	if len(s.batch) == 0 {
		return nil
	}
	s.conn.SetWriteDeadline(time.Now().Add(s.sendTimeout))
	if _, err := s.conn.Write(s.batch); err != nil {
		return s.fail("send", err)
	}
	s.batch = s.batch[:0]
	return nil
}

// Recv blocks for the next message. The slice is valid until the next Recv.
// What had arrived when the link ended is not read any more.
func (s *Session) Recv() ([]byte, error) {
	if cause := s.cause.Load(); cause != nil {
		return nil, *cause
	}
	if _, err := io.ReadFull(s.reader, s.header[:]); err != nil {
		return nil, s.fail("receive", err)
	}
	length, err := s.opener.Length(s.header[:])
	if err != nil {
		return nil, s.fail("receive", err)
	}
	s.body = slices.Grow(s.body[:0], length+noise.TagSize)[:length+noise.TagSize]
	if _, err := io.ReadFull(s.reader, s.body); err != nil {
		return nil, s.fail("receive", err)
	}
	msg, err := s.opener.Open(s.body[:0], s.body)
	if err != nil {
		return nil, s.fail("receive", err)
	}
	return msg, nil
}

// Close ends the link; a Recv that waits returns at once.
func (s *Session) Close() error {
	s.fail("closed by us", net.ErrClosed)
	return nil
}

// Counts is how many bytes have passed so far.
func (s *Session) Counts() Counts {
	return Counts{Sent: s.conn.sent.Load(), Received: s.conn.received.Load()}
}

// fail closes the connection and returns the first cause. When a peer stops
// reading it is Send that knows why; Recv only sees the connection closed.
func (s *Session) fail(doing string, err error) error {
	cause := fmt.Errorf("link to %s: %s: %w", s.conn.RemoteAddr(), doing, s.explain(err))
	if s.cause.CompareAndSwap(nil, &cause) {
		s.conn.Close()
		s.leave()
	}
	return *s.cause.Load()
}

func (s *Session) explain(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the peer has not read for %v (%w): see whether it is stuck, then dial again", s.sendTimeout, err)
	case hungUp(err):
		return fmt.Errorf("the peer hung up (%w): dial again", err)
	case errors.Is(err, net.ErrClosed):
		return err
	}
	return fmt.Errorf("%w: link closed, dial again", err)
}

func explainHandshake(err error, o Options) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("not finished within %v (%w): check that BOLT 8 is spoken at that address", o.HandshakeTimeout, err)
	case hungUp(err):
		return fmt.Errorf("the peer hung up (%w): check that it holds the key we expect and has room for us", err)
	}
	return fmt.Errorf("%w: check that each side knows the other's true key", err)
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// meter counts what passes through a connection.
type meter struct {
	net.Conn
	sent, received atomic.Uint64
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	m.received.Add(uint64(n))
	return n, err
}

func (m *meter) Write(b []byte) (int, error) {
	n, err := m.Conn.Write(b)
	m.sent.Add(uint64(n))
	return n, err
}
