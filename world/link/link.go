// Package link carries whole messages to one peer over an authenticated and
// encrypted session (BOLT 8).
//
// Initiate and Respond make a Session of any net.Conn, Listen does it for all
// that dial in, and a Keep dials again when a link is lost. The packages below
// bring the connections.
package link

import (
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/noise"
)

// MaxMessage is BOLT 8's limit in bytes: the length prefix is two bytes.
const MaxMessage = noise.MaxMessage

// A Link carries whole messages to and from one authenticated peer. Two
// goroutines may use it at once, one to send and one to receive, and any to
// close it.
type Link interface {
	// Peer is the static key the peer has proved to hold.
	Peer() keys.Public
	// Send queues nothing: when it returns nil the bytes are with the kernel,
	// which is no promise that the peer has read them.
	Send(msg []byte) error
	// Add is Send for many: what is added leaves with the next Flush or Send,
	// or sooner.
	Add(msg []byte) error
	Flush() error
	// Recv blocks for the next message. The slice is valid until the next Recv.
	Recv() ([]byte, error)
	Close() error
}

// Counts are bytes on the wire, handshake and tags included.
type Counts struct{ Sent, Received uint64 }
