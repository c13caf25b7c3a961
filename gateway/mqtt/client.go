package mqtt

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Client is the device's end, small enough that ten thousand fit a test or a
// lab: a socket, 512 bytes to read from it, and no goroutine. It speaks QoS 0
// and 1, and does not connect again by itself.
//
// One goroutine reads; any may publish.
type Client struct {
	conn net.Conn
	r    *bufio.Reader
	v5   bool

	sent, received atomic.Uint64 // bytes of packets

	mu     sync.Mutex
	out    []byte // used again by every packet
	lastID uint16
}

// ClientOptions are how a client connects. Without a user it is a buyer.
type ClientOptions struct {
	Addr      string
	TLS       *tls.Config
	Login     Login
	V5        bool          // MQTT 5; otherwise 3.1.1
	Keepalive time.Duration // 0: it never needs to ping
	Will      *Message
}

// Refusal is the reason code of a CONNACK or a DISCONNECT.
type Refusal byte

// Error names the code.
func (r Refusal) Error() string {
	if text := reasons[byte(r)]; text != "" {
		return "the broker ends the connection: " + text
	}
	return fmt.Sprintf("the broker ends the connection: reason code %#02x", byte(r))
}

// Acked is a PUBACK.
type Acked struct {
	ID uint16
	Verdict
}

// Pong answers Ping, Granted Subscribe.
type (
	Pong    struct{}
	Granted struct{ Codes []byte }
)

// Connect dials a broker and logs in.
func Connect(ctx context.Context, o ClientOptions) (*Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, err
	}
	if o.TLS != nil {
		conn = tls.Client(conn, o.TLS)
	}
	c := &Client{conn: conn, r: bufio.NewReaderSize(conn, 512), v5: o.V5}
	if err := c.login(ctx, o); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) login(ctx context.Context, o ClientOptions) error {
	if at, ok := ctx.Deadline(); ok {
		c.conn.SetDeadline(at)
		defer c.conn.SetDeadline(time.Time{})
	}
	hello := appendConnect(nil, o.Login, o.Will, uint16(o.Keepalive/time.Second), o.V5)
	if _, err := c.conn.Write(hello); err != nil {
		return err
	}
	first, body, err := readPacket(c.r, nil)
	switch {
	case err != nil:
		return err
	case first != typeConnack || len(body) < 2:
		return errMalformed
	case body[1] != Success:
		return Refusal(body[1])
	}
	return nil
}

func (c *Client) write(packet func(b []byte, id uint16) []byte, needsID bool) (id uint16, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if needsID {
		if c.lastID++; c.lastID == 0 {
			c.lastID++
		}
		id = c.lastID
	}
	c.out = packet(c.out[:0], id)
	_, err = c.conn.Write(c.out)
	c.sent.Add(uint64(len(c.out)))
	return id, err
}

// Bytes counts those of the packets written and read since the login.
func (c *Client) Bytes() (sent, received uint64) { return c.sent.Load(), c.received.Load() }

// Publish writes a message. With QoS 1, an Acked of this id follows.
func (c *Client) Publish(m Message) (id uint16, err error) {
	return c.write(func(b []byte, id uint16) []byte { return appendPublish(b, &m, id, c.v5) }, m.QoS > 0)
}

// Subscribe asks for filters; Granted follows.
func (c *Client) Subscribe(qos byte, filters ...string) error {
	_, err := c.write(func(b []byte, id uint16) []byte { return appendSubscribe(b, id, qos, c.v5, filters...) }, true)
	return err
}

// Ping shows that the client is there; Pong follows.
func (c *Client) Ping() error {
	_, err := c.write(func(b []byte, _ uint16) []byte { return append(b, typePingreq, 0) }, false)
	return err
}

// Disconnect says goodbye, so that no last will is published.
func (c *Client) Disconnect() error {
	c.write(func(b []byte, _ uint16) []byte { return append(b, typeDisconnect, 0) }, false)
	return c.conn.Close()
}

// Close hangs up without a word.
func (c *Client) Close() error { return c.conn.Close() }

// SetReadDeadline bounds Read.
func (c *Client) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// Read returns the next Message, Acked, Granted or Pong. A message of QoS 1 is
// acknowledged before it is returned. When the broker says why it hangs up, the
// error is a Refusal.
func (c *Client) Read() (any, error) {
	first, body, err := readPacket(c.r, nil)
	if err != nil {
		return nil, err
	}
	c.received.Add(uint64(1 + varintSize(len(body)) + len(body)))
	switch first & 0xf0 {
	case typePublish:
		m, id, err := parsePublish(first, body, c.v5)
		if err == nil && m.QoS > 0 {
			_, err = c.write(func(b []byte, _ uint16) []byte { return appendPuback(b, id, Verdict{}, c.v5) }, false)
		}
		return m, err
	case typePuback:
		id, v, err := parsePuback(body, c.v5)
		return Acked{id, v}, err
	case typeSuback:
		f := fields{b: body}
		f.u16()
		if c.v5 {
			f.take(f.varint())
		}
		return Granted{f.b}, nil
	case typePingresp:
		return Pong{}, nil
	case typeDisconnect:
		if len(body) > 0 {
			return nil, Refusal(body[0])
		}
		return nil, Refusal(Success)
	}
	return nil, fmt.Errorf("%w: first byte %#02x", errMalformed, first)
}
