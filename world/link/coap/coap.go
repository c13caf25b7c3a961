// Package coap speaks CoAP with others: requests and answers, block by block if
// they are large, and notifications, over UDP and over DTLS 1.2 (RFC 7252, 7641,
// 7959, 9175, 9146). Bytes are core/coap's; what is answered is a Handler's.
//
// A request that is repeated is answered with the same bytes, as long as its
// answer is remembered; then whoever answers must know it by itself, as a paid
// order is known by its ID.
//
// Whoever sends from an address that is not theirs gets little: nothing that is
// larger than Amplification times the request goes to an address that has not
// shown, with the Echo option, that it reads what it is sent, and no request of
// one has an effect.
package coap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"time"

	wire "coinop.dev/core/coap"
)

// Limits of an endpoint.
const (
	// MaxPeers bounds those that a server knows at a time.
	MaxPeers = 16_384
	// MaxWorking bounds the requests of one peer that are worked on.
	MaxWorking = 8
	// MaxServing bounds those of all peers together.
	MaxServing = 4096
	// MaxSeen bounds the requests of one peer whose answers are remembered.
	MaxSeen = 16
	// MaxObserved bounds what one peer observes.
	MaxObserved = 8
	// MaxShelf bounds the bodies that come or go in blocks, for all peers
	// together: with wire.MaxBody, 16 MiB.
	MaxShelf = 256
	// MaxHandshakes bounds DTLS handshakes under way.
	MaxHandshakes = 256
	// Amplification is how much larger an answer to an unproved address may be
	// than its request (RFC 9175, section 2.4).
	Amplification = 3
)

// The clock (RFC 7252, section 4.8).
const (
	AckTimeout    = 2 * time.Second
	MaxRetransmit = 4
	// AckAfter is how long an answer may take before its request is acknowledged
	// by itself. A client waits AckTimeout.
	AckAfter = 500 * time.Millisecond
	// Remember is how long an answer is remembered: EXCHANGE_LIFETIME.
	Remember = 247 * time.Second
	// ShelfLife is how long the rest of a body waits to be fetched.
	ShelfLife = time.Minute
	// EchoLife is how long an Echo value may be shown.
	EchoLife = time.Minute
	// HandshakeTimeout bounds a DTLS handshake.
	HandshakeTimeout = 15 * time.Second
	// IdleAfter is how long a DTLS session that says nothing is kept: a device that
	// sleeps wakes up every day.
	IdleAfter = 25 * time.Hour
	// PatienceTotal bounds a client's wait for an answer that was acknowledged.
	PatienceTotal = 93 * time.Second
)

// A Request is a message whose body is complete.
type Request struct {
	wire.Message
	// Peer tells peers apart: an address, or "psk/NAME".
	Peer string
	// Name is what the peer has proved to be called, with its pre-shared key; or
	// "".
	Name string
	// Proved says that the peer is where it says. One that is not may only be told
	// things.
	Proved bool
	// Observe says that the peer wants to hear of changes.
	Observe bool
}

// A Response answers a Request.
type Response struct {
	Code    wire.Code
	Format  uint32 // of a payload
	Payload []byte
	Options []wire.Option // others
	// Prove asks the peer to ask again, with proof of where it is.
	Prove bool
	// Stream notifies a peer that observes, until ctx ends. notify returns when the
	// peer has acknowledged; its error means that it is gone. What Stream returns is
	// the last notification, if it has a code.
	Stream func(ctx context.Context, notify func(Response) error) Response
}

// Text is a response for people, such as the reason of an error.
func Text(code wire.Code, text string) Response {
	return Response{Code: code, Payload: []byte(text)}
}

// A Handler answers requests, many at a time. ctx ends with the peer.
type Handler func(ctx context.Context, r Request) Response

// Options are what both ends may be told.
type Options struct {
	// PSK is the key of who calls itself name, 16 bytes or more; nil for nobody.
	PSK func(name string) []byte
	// Certificate is what a server shows over DTLS: ECDSA on P-256.
	Certificate *tls.Certificate

	// Name and Key are a client's pre-shared key; Roots are who it believes if it
	// has none.
	Name  string
	Key   []byte
	Roots *x509.CertPool

	// AckTimeout is for tests; 0: the constant. MaxPeers likewise.
	AckTimeout time.Duration
	MaxPeers   int
}

func (o Options) ackTimeout() time.Duration {
	if o.AckTimeout > 0 {
		return o.AckTimeout
	}
	return AckTimeout
}

func (o Options) maxPeers() int {
	if o.MaxPeers > 0 {
		return o.MaxPeers
	}
	return MaxPeers
}
