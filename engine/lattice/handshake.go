package nanonet

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"coinop.dev/core/ledger/lattice"
)

const (
	// HandshakeTime is how long a peer has to show who it is. A cookie counts for
	// that long, for one connection, once.
	HandshakeTime = 5 * time.Second

	// maxHandshake is how many bytes a handshake has behind its header: nobody who is
	// unknown gets room for more.
	maxHandshake = 32 + 32 + 32 + 32 + 64

	// readAhead is how many bytes one read may bring in, so that a burst of votes
	// costs one system call.
	readAhead = 4 << 10
)

var errSelf = errors.New("the peer is this node itself")

// A stream reads frames from a connection.
type stream struct {
	*bufio.Reader
	magic uint16
}

func newStream(conn net.Conn, magic uint16) stream {
	return stream{bufio.NewReaderSize(conn, readAhead), magic}
}

// read reads one frame of the network, of at most so many bytes behind its header:
// that is checked before there is room for them.
func (s stream) read(most int) (h lattice.Header, raw []byte, err error) {
	var head [lattice.HeaderSize]byte
	if _, err := io.ReadFull(s.Reader, head[:]); err != nil {
		return h, nil, err
	}
	if h = lattice.DecodeHeader(head); h.Network != s.magic {
		return h, nil, fmt.Errorf("peer is of network %#04x; this is %#04x", h.Network, s.magic)
	}
	size, err := lattice.FrameSize(head)
	if err == nil && size > most {
		err = fmt.Errorf("peer sends %d bytes where %d are the limit", size, most)
	}
	if err != nil {
		return h, nil, err
	}
	raw = make([]byte, lattice.HeaderSize+size)
	copy(raw, head[:])
	_, err = io.ReadFull(s.Reader, raw[lattice.HeaderSize:])
	return h, raw, err
}

// handshake reads a frame that must be one, with or without its two parts.
func (s stream) handshake(query, response bool) (m *lattice.Handshake, version uint8, err error) {
	h, raw, err := s.read(maxHandshake)
	if err != nil {
		return nil, 0, err
	}
	decoded, err := lattice.Decode(raw, s.magic)
	if err != nil {
		return nil, 0, err
	}
	m, ok := decoded.(*lattice.Handshake)
	if !ok || query != (m.Query != nil) || response != (m.Response != nil) {
		return nil, 0, errors.New("peer does not shake hands as protocol 21 has it")
	}
	return m, h.Using, nil
}

// greet shows a peer that we have dialled who we are, and sees who it is.
func (n *Node) greet(conn net.Conn, s stream) (id lattice.Key, version uint8, err error) {
	conn.SetDeadline(time.Now().Add(n.HandshakeTime))
	cookie := random()
	if _, err := conn.Write((&lattice.Handshake{Query: &cookie}).Append(nil, s.magic)); err != nil {
		return id, 0, err
	}
	theirs, version, err := s.handshake(true, true)
	if err != nil {
		return id, 0, err
	}
	if err := n.check(theirs.Response, cookie); err != nil {
		return theirs.Response.Node, 0, err
	}
	_, err = conn.Write((&lattice.Handshake{Response: n.answer(*theirs.Query)}).Append(nil, s.magic))
	return theirs.Response.Node, version, err
}

// welcome is greet for a peer that has dialled us.
func (n *Node) welcome(conn net.Conn, s stream) (id lattice.Key, version uint8, err error) {
	conn.SetDeadline(time.Now().Add(n.HandshakeTime))
	theirs, version, err := s.handshake(true, false)
	if err != nil {
		return id, 0, err
	}
	cookie := random()
	ours := &lattice.Handshake{Query: &cookie, Response: n.answer(*theirs.Query)}
	if _, err := conn.Write(ours.Append(nil, s.magic)); err != nil {
		return id, 0, err
	}
	if theirs, _, err = s.handshake(false, true); err != nil {
		return id, 0, err
	}
	return theirs.Response.Node, version, n.check(theirs.Response, cookie)
}

func (n *Node) check(r *lattice.HandshakeResponse, cookie [32]byte) error {
	if r.Node == n.id {
		return errSelf
	}
	return r.Verify(cookie, n.genesis)
}

func (n *Node) answer(cookie [32]byte) *lattice.HandshakeResponse {
	return lattice.NewHandshakeResponse(n.self, cookie, random(), n.genesis)
}

func random() (b [32]byte) {
	rand.Read(b[:]) // it never fails
	return b
}
