package mqtt

import (
	"container/list"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A conn is one client's connection to the embedded broker.
//
// Writing never blocks whoever has something to say: bytes gather in out, and
// one of a few writers, or the connection's own reader, hands them to the
// kernel in one call. Only when the kernel will not take them does a goroutine
// wait for it. An idle connection has no buffer and no writer.
type conn struct {
	net.Conn
	b        *Embedded
	raw      syscall.RawConn // nil under TLS, where a write cannot be tried
	stranger *list.Element   // of Embedded.unknown

	// What the reader alone changes, and nobody looks at before it is let in.
	who     Who
	session Session
	v5      bool
	quiet   bool          // it has no room, or no wish, for reasons in acknowledgements
	largest int           // packet that it takes, in bytes; 0 if it does not say
	window  int32         // of QoS 1 messages that may be unacknowledged
	silence time.Duration // that ends the connection
	bucket  bucket
	heard   bool
	will    *Message
	unacked atomic.Int32
	told    atomic.Bool // CONNACK is on its way, and the fields above are set

	mu      sync.Mutex
	out     *[]byte // from buffers; nil when nothing waits
	writing bool    // somebody writes, or is on the way to
	ending  bool    // to be closed when nothing waits
	over    bool    // closed
	lastID  uint16
	filters []filter
}

type filter struct {
	name string
	qos  byte
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// free gives a buffer back, unless a burst has made it large.
func free(b *[]byte) {
	if cap(*b) <= 4<<10 {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// queue appends what add writes to what waits. Above MaxQueue it refuses,
// unless the packet is one that the client's next step depends on: then twice
// as much is room, and beyond that the connection ends.
func (c *conn) queue(needed bool, add func([]byte) []byte) (start bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queueLocked(needed, add)
}

func (c *conn) queueLocked(needed bool, add func([]byte) []byte) (start bool, err error) {
	if c.over || c.ending {
		return false, net.ErrClosed
	}
	if c.out == nil {
		c.out = buffers.Get().(*[]byte)
	}
	was := len(*c.out)
	*c.out = add(*c.out)
	switch waiting := len(*c.out); {
	case c.largest > 0 && waiting-was > c.largest:
		*c.out = (*c.out)[:was]
		return false, ErrTooLarge
	case waiting <= MaxQueue || was == 0:
	case needed && waiting <= 2*MaxQueue:
	case needed:
		c.closeLocked()
		return false, ErrSlow
	default:
		*c.out = (*c.out)[:was]
		return false, ErrSlow
	}
	start = !c.writing
	c.writing = true
	return start, nil
}

// answer queues a packet that the client waits for, on its own goroutine, and
// writes it.
func (c *conn) answer(add func([]byte) []byte) error {
	start, err := c.queue(true, add)
	if err == nil && start {
		c.flush()
	}
	return err
}

// Publish sends m if the client has subscribed to its topic, by the QoS of its
// subscription.
func (c *conn) Publish(m Message) error {
	c.mu.Lock()
	qos, subscribed := byte(0), false
	for i := range c.filters {
		if matches(c.filters[i].name, m.Topic) {
			qos, subscribed = max(qos, c.filters[i].qos), true
		}
	}
	m.QoS = min(m.QoS, qos)
	if !subscribed {
		c.mu.Unlock()
		return ErrNotSubscribed
	}
	id := uint16(0)
	if m.QoS > 0 {
		if c.unacked.Load() >= c.window {
			c.mu.Unlock()
			c.b.lost.Add(1)
			return ErrSlow
		}
		if c.lastID++; c.lastID == 0 {
			c.lastID++
		}
		id = c.lastID
	}
	start, err := c.queueLocked(false, func(b []byte) []byte { return appendPublish(b, &m, id, c.v5) })
	if err == nil && id != 0 {
		c.unacked.Add(1)
	}
	c.mu.Unlock()
	if err != nil {
		c.b.lost.Add(1)
		return err
	}
	if start {
		select {
		case c.b.dirty <- c: // has room for every connection once
		case <-c.b.stop:
		}
	}
	return nil
}

// Drop ends the connection; a client of MQTT 5 is told why.
func (c *conn) Drop(code byte) {
	if c.told.Load() && c.v5 {
		c.answer(func(b []byte) []byte { return append(b, typeDisconnect, 2, code, 0) })
	}
	c.Close()
}

var reasons = map[byte]string{
	ServerBusy: "server busy", RateTooHigh: "message rate too high", QuotaExceeded: "quota exceeded", Administrative: "administrative action",
	sessionTakenOver: "session taken over", qosNotSupported: "QoS 2 is not supported", NotAuthorized: "not authorized", TopicInvalid: "topic invalid",
}

// flush writes what waits. Whoever calls it has set writing.
func (c *conn) flush() {
	for {
		b := c.next()
		if b == nil {
			return
		}
		n := c.try(*b)
		if n == len(*b) {
			free(b)
			continue
		}
		go c.finish(b, n)
		return
	}
}

// finish waits for the kernel, then writes the rest.
func (c *conn) finish(b *[]byte, from int) {
	for ; b != nil; b, from = c.next(), 0 {
		if !c.isEnding() {
			c.SetWriteDeadline(time.Now().Add(writeWithin))
		}
		_, err := c.Conn.Write((*b)[from:])
		free(b)
		if err != nil {
			c.mu.Lock()
			c.closeLocked()
			c.mu.Unlock()
			return
		}
	}
}

func (c *conn) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// next takes what waits, or gives up writing.
func (c *conn) next() *[]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.out
	c.out = nil
	if b == nil || c.over {
		c.writing = false
		if c.ending {
			c.closeLocked()
		}
		return nil
	}
	return b
}

// try gives the kernel what it takes at once.
func (c *conn) try(b []byte) (written int) {
	if c.raw == nil {
		return 0
	}
	c.raw.Write(func(fd uintptr) bool {
		if n, err := syscall.Write(int(fd), b); err == nil {
			written = n
		}
		return true
	})
	return written
}

// Close ends the connection once what waits is written, if that is soon. It may
// be called many times.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing && !c.over { // whoever writes closes
		c.ending = true
		return c.SetDeadline(time.Now().Add(closeWithin))
	}
	return c.closeLocked()
}

func (c *conn) closeLocked() error {
	if c.over {
		return nil
	}
	c.over = true
	if c.out != nil {
		free(c.out)
		c.out = nil
	}
	return c.Conn.Close()
}

// A bucket is a token bucket of Burst packets, filled at Rate a second.
type bucket struct {
	at   time.Time
	left float64
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	if b.at.IsZero() {
		b.left = burst
	} else {
		b.left = min(burst, b.left+rate*now.Sub(b.at).Seconds())
	}
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
