// Package peer carries whole messages of the Bitcoin network protocol to and
// from one peer, with a limit on what that peer may cost us.
//
// It exists because btcd's peer package keeps a table of nonces for the whole
// process, so that a node and a client in one process take each other for
// themselves and hang up.
package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/btcsuite/btcd/wire/v2"
)

const (
	// ProtocolVersion is what we speak: BIP 37, 111, 130, 133, 144 and 157, and
	// none of the later negotiations.
	ProtocolVersion = wire.FeeFilterVersion

	// MaxMessage bounds a message in bytes: the largest block (BIP 141), which
	// is the largest thing there is.
	MaxMessage = wire.MaxBlockPayload

	// MaxGreeting bounds a message before the peer has introduced itself. A
	// version message is at most 366 bytes.
	MaxGreeting = 1024

	// MaxGreetings bounds what a peer may say before its verack.
	MaxGreetings = 8
)

// Timeouts of a connection.
type Timeouts struct {
	Handshake time.Duration // from connecting to the verack
	Idle      time.Duration // from one message to the first byte of the next
	Message   time.Duration // from the first byte of a message to its last, either way
}

// A Conn is a connection to one peer. Read is for one goroutine; Write is for
// any.
type Conn struct {
	conn     net.Conn
	in       *bufio.Reader
	net      wire.BitcoinNet
	timeouts Timeouts
	limit    uint32

	writing sync.Mutex
}

// New wraps a network connection.
func New(conn net.Conn, network wire.BitcoinNet, timeouts Timeouts) *Conn {
	return &Conn{conn: conn, in: bufio.NewReaderSize(conn, 4096), net: network, timeouts: timeouts, limit: MaxGreeting}
}

// Addr is where the peer is.
func (c *Conn) Addr() string { return c.conn.RemoteAddr().String() }

// Close hangs up and unblocks Read and Write.
func (c *Conn) Close() error { return c.conn.Close() }

// Greet sends our version message and returns the peer's, once both sides have
// acknowledged.
func (c *Conn) Greet(ours *wire.MsgVersion) (*wire.MsgVersion, error) {
	deadline := time.Now().Add(c.timeouts.Handshake)
	if err := c.Write(ours); err != nil {
		return nil, err
	}
	var theirs *wire.MsgVersion
	for range MaxGreetings {
		msg, err := c.read(deadline, deadline)
		if errors.Is(err, wire.ErrUnknownMessage) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("handshake: %w", err)
		}
		switch msg := msg.(type) {
		case *wire.MsgVersion:
			if theirs != nil {
				return nil, errors.New("handshake: a second version message")
			}
			if msg.ProtocolVersion < int32(ProtocolVersion) {
				return nil, fmt.Errorf("handshake: peer speaks version %d; it must be %d or newer", msg.ProtocolVersion, ProtocolVersion)
			}
			theirs = msg
			if err := c.Write(wire.NewMsgVerAck()); err != nil {
				return nil, err
			}
		case *wire.MsgVerAck:
			if theirs == nil {
				return nil, errors.New("handshake: verack before version")
			}
			c.limit = MaxMessage
			return theirs, nil
		}
	}
	return nil, fmt.Errorf("handshake: no verack among %d messages", MaxGreetings)
}

// Read returns the next message. wire.ErrUnknownMessage stands for one that we
// do not know; the next may be read.
func (c *Conn) Read() (wire.Message, error) {
	return c.read(time.Now().Add(c.timeouts.Idle), time.Time{})
}

// read waits for a first byte until idle, and for the rest until end, or for
// the message timeout if end is zero.
func (c *Conn) read(idle, end time.Time) (wire.Message, error) {
	if err := c.conn.SetReadDeadline(idle); err != nil {
		return nil, err
	}
	if _, err := c.in.Peek(1); err != nil {
		return nil, err
	}
	if end.IsZero() {
		end = time.Now().Add(c.timeouts.Message)
	}
	if err := c.conn.SetReadDeadline(end); err != nil {
		return nil, err
	}
	// The length is judged before wire allocates it, and a stranger's network
	// before wire reads on to skip its payload.
	header, err := c.in.Peek(wire.MessageHeaderSize)
	if err != nil {
		return nil, fmt.Errorf("message cut short: %w", err)
	}
	if magic := wire.BitcoinNet(binary.LittleEndian.Uint32(header)); magic != c.net {
		return nil, fmt.Errorf("message is for network %v; we are on %v", magic, c.net)
	}
	if n := binary.LittleEndian.Uint32(header[16:]); n > c.limit {
		return nil, fmt.Errorf("message of %d bytes; the limit is %d", n, c.limit)
	}
	_, msg, _, err := wire.ReadMessageWithEncodingN(c.in, ProtocolVersion, c.net, wire.LatestEncoding)
	return msg, err
}

// Write sends a message with witnesses, and hangs up if that cannot be done in
// time.
func (c *Conn) Write(msg wire.Message) error { return c.WriteAs(msg, wire.LatestEncoding) }

// WriteAs is Write in an encoding of choice: BIP 144 lets a peer ask for blocks
// and transactions without their witnesses.
func (c *Conn) WriteAs(msg wire.Message, enc wire.MessageEncoding) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.timeouts.Message)); err != nil {
		return err
	}
	if _, err := wire.WriteMessageWithEncodingN(c.conn, msg, ProtocolVersion, c.net, enc); err != nil {
		// Half a message may be out: nothing after it would make sense.
		c.conn.Close()
		return fmt.Errorf("send %s: %w", msg.Command(), err)
	}
	return nil
}
