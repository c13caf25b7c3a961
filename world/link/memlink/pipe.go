package memlink

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Room is how many bytes one direction of a Pipe holds before a writer waits:
// two packets at least, as a socket buffer would.
const Room = 128 << 10

// Pipe is a connection in memory. Unlike net.Pipe's, its writer waits only when
// Room bytes are unread.
func Pipe(a, b Addr) (net.Conn, net.Conn) {
	there, back := newStream(), newStream()
	return &conn{in: back, out: there, local: a, remote: b}, &conn{in: there, out: back, local: b, remote: a}
}

// conn is one end of two streams.
type conn struct {
	in, out       *stream
	local, remote Addr
}

func (c *conn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *conn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *conn) LocalAddr() net.Addr         { return c.local }
func (c *conn) RemoteAddr() net.Addr        { return c.remote }

func (c *conn) Close() error {
	c.in.shut(&c.in.reader)
	c.out.shut(&c.out.writer)
	return nil
}

func (c *conn) SetReadDeadline(at time.Time) error {
	c.in.until(&c.in.reader, at)
	return nil
}

func (c *conn) SetWriteDeadline(at time.Time) error {
	c.out.until(&c.out.writer, at)
	return nil
}

func (c *conn) SetDeadline(at time.Time) error {
	c.SetReadDeadline(at)
	return c.SetWriteDeadline(at)
}

// stream is one direction. Whatever changes it wakes both ends.
type stream struct {
	mu             sync.Mutex
	changed        sync.Cond
	unread         bytes.Buffer
	reader, writer end
}

// end is what one end has said: that it is gone, or when to give up.
type end struct {
	gone     bool
	deadline time.Time
	timer    *time.Timer
}

func newStream() *stream {
	s := &stream{}
	s.changed.L = &s.mu
	return s
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.reader.gone:
			return 0, net.ErrClosed
		case s.reader.late():
			return 0, os.ErrDeadlineExceeded
		case s.unread.Len() > 0:
			s.changed.Broadcast()
			return s.unread.Read(b)
		case s.writer.gone:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writer.gone:
			return n, net.ErrClosed
		case s.reader.gone:
			return n, io.ErrClosedPipe
		case s.writer.late():
			return n, os.ErrDeadlineExceeded
		}
		fits := min(len(b)-n, Room-s.unread.Len())
		s.unread.Write(b[n : n+fits])
		s.changed.Broadcast()
		if n += fits; n == len(b) {
			return n, nil
		}
		s.changed.Wait()
	}
}

func (s *stream) shut(e *end) {
	s.until(e, time.Time{})
	s.mu.Lock()
	defer s.mu.Unlock()
	e.gone = true
	s.changed.Broadcast()
}

// until sets when e gives up; the zero time means never. The timer only wakes
// the waiters: late decides.
func (s *stream) until(e *end, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.deadline = at
	switch {
	case at.IsZero():
		if e.timer != nil {
			e.timer.Stop()
		}
	case e.timer == nil:
		e.timer = time.AfterFunc(time.Until(at), s.wake)
	default:
		e.timer.Reset(time.Until(at))
	}
	s.changed.Broadcast()
}

func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

func (e *end) late() bool { return !e.deadline.IsZero() && !time.Now().Before(e.deadline) }
