package serial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// Options say what a line tells of itself. All may be left out.
type Options struct {
	Name string // told to the other end; at most 64 bytes
	Max  int    // the longest message that is taken; 0: MaxMessage
	// Turned is told when the line goes up, with the other's name, and down. It
	// runs on the line's goroutine and must not wait for the line.
	Turned func(up bool, peer string)
}

// A Line is one end of a serial line. It opens its port again when that is lost.
type Line struct {
	open   func() (io.ReadWriteCloser, error)
	send   chan *parcel
	in     chan []byte
	ctx    context.Context
	cancel context.CancelCauseFunc
	over   sync.WaitGroup
}

// errClosed is what a Line says after Close.
var errClosed = errors.New("the serial line is closed")

// Start looks for the other end of a line at once, and until Close. open opens
// the port: Opener, or anything that carries bytes.
func Start(open func() (io.ReadWriteCloser, error), o Options) (*Line, error) {
	if o.Max == 0 {
		o.Max = MaxMessage
	}
	if o.Max < MinMessage || o.Max > MaxMessage || len(o.Name) > maxName {
		return nil, fmt.Errorf("serial line %.80q: a message may have %d to %d bytes, not %d, and a name %d", o.Name, MinMessage, MaxMessage, o.Max, maxName)
	}
	if o.Turned == nil {
		o.Turned = func(bool, string) {}
	}
	l := &Line{open: open, send: make(chan *parcel), in: make(chan []byte, MaxWaiting)}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	e := &end{
		name: o.Name, limit: o.Max, random: rand.Uint32, turned: o.Turned,
		room: func() bool { return len(l.in) < MaxWaiting },
		took: func(msg []byte) { l.in <- msg }, // room was asked, and nobody else writes
	}
	l.over.Go(func() { l.keep(e) })
	return l, nil
}

// Send returns nil when the other end has all of msg. ErrDown means that it has
// none of it or that nobody knows: the layers above send again what matters.
func (l *Line) Send(ctx context.Context, msg []byte) error {
	p := &parcel{msg, make(chan error, 1)}
	select {
	case l.send <- p:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.ctx.Done():
		return errClosed
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Recv waits for the next message, from whichever session it came.
func (l *Line) Recv(ctx context.Context) ([]byte, error) {
	select {
	case msg := <-l.in:
		return msg, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-l.ctx.Done():
		return nil, errClosed
	}
}

// Close gives the port back.
func (l *Line) Close() error {
	l.cancel(errClosed)
	l.over.Wait()
	return nil
}

// ErrTooLong means that the other end does not take a message of that length.
var ErrTooLong = errors.New("message is too long for the other end of the serial line")

func tooLong(n, limit int) error {
	return fmt.Errorf("%w: it has %d bytes, and the limit there is %d", ErrTooLong, n, limit)
}

// keep opens the port, again and again.
func (l *Line) keep(e *end) {
	for l.ctx.Err() == nil {
		if port, err := l.open(); err == nil {
			l.run(e, port)
		}
		l.idle(e)
	}
}

// idle waits between two openings, and refuses what would be sent.
func (l *Line) idle(e *end) {
	again := time.NewTimer(ReopenEvery)
	defer again.Stop()
	for {
		select {
		case p := <-l.send:
			p.done <- ErrDown
		case <-again.C:
			return
		case <-l.ctx.Done():
			return
		}
	}
}

// readAhead bounds what is read while a write waits, in chunks. Without it two ends
// that write at once over a port without a buffer would wait for each other; with
// one frame outstanding in each direction it is never full.
const readAhead = 64

// run speaks over one opened port until it fails.
func (l *Line) run(e *end, port io.ReadWriteCloser) {
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { port.Close() })()
	defer port.Close()

	chunks := make(chan []byte, readAhead)
	go read(ctx, port, chunks)
	failed := false
	var buf []byte
	e.write = func(f Frame) {
		buf = f.Append(buf[:0])
		if p, ok := port.(interface{ SetWriteDeadline(time.Time) error }); ok {
			p.SetWriteDeadline(time.Now().Add(DownAfter)) // a USB port whose other side does not read
		}
		if _, err := port.Write(buf); err != nil {
			failed = true
		}
	}
	e.restart(time.Now())
	defer e.reset()

	var d Deframer
	timer := time.NewTimer(0)
	defer timer.Stop()
	for !failed {
		now := time.Now()
		timer.Reset(e.tick(now).Sub(now))
		send := l.send
		if e.out != nil {
			send = nil
		}
		select {
		case b, ok := <-chunks:
			if !ok {
				return
			}
			now = time.Now()
			d.Write(b, func(f Frame) { e.receive(now, f) })
		case p := <-send:
			e.send(time.Now(), p)
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// read passes on what the port brings and closes chunks when that ends.
func read(ctx context.Context, port io.Reader, chunks chan<- []byte) {
	defer close(chunks)
	for {
		b := make([]byte, 2*maxCoded)
		n, err := port.Read(b)
		if n > 0 {
			select {
			case chunks <- b[:n]:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}
