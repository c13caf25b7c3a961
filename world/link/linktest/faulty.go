package linktest

import (
	"net"
	"sync"
	"sync/atomic"
)

// A Faulty connection misbehaves on command. Put it between a net.Conn and
// link.Initiate or link.Respond.
type Faulty struct {
	net.Conn
	closed  chan struct{}
	once    sync.Once
	stalled atomic.Bool
	trickle atomic.Bool
	flip    atomic.Int64 // counts down the bytes before the one to change
}

// NewFaulty returns conn, faultless until told otherwise.
func NewFaulty(conn net.Conn) *Faulty {
	f := &Faulty{Conn: conn, closed: make(chan struct{})}
	f.flip.Store(-1)
	return f
}

// Cut drops the connection, as an unplugged cable does after a while.
func (f *Faulty) Cut() { f.Close() }

// Stall makes every Read from now on wait for Close: a peer that hangs.
func (f *Faulty) Stall() { f.stalled.Store(true) }

// Trickle makes every Read give one byte.
func (f *Faulty) Trickle() { f.trickle.Store(true) }

// Flip changes one bit of a byte that is to be read, after skipping some.
func (f *Faulty) Flip(skip int) { f.flip.Store(int64(skip)) }

// Read is the connection's, with the faults.
func (f *Faulty) Read(b []byte) (int, error) {
	if f.trickle.Load() && len(b) > 1 {
		b = b[:1]
	}
	n, err := f.Conn.Read(b)
	if f.stalled.Load() {
		<-f.closed
		return 0, net.ErrClosed
	}
	if skip := f.flip.Load(); skip >= 0 {
		if skip < int64(n) {
			b[skip] ^= 1
		}
		f.flip.Store(max(skip-int64(n), -1))
	}
	return n, err
}

// Close also ends a stall.
func (f *Faulty) Close() error {
	f.once.Do(func() { close(f.closed) })
	return f.Conn.Close()
}
