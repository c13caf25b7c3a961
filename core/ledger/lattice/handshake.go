package lattice

import (
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/eddsa"
)

// A Handshake proves who a node is: one side sends a cookie, the other signs it.
// At first it has a Query alone; who is asked answers with both, and the first
// answers that with a Response alone.
type Handshake struct {
	Query    *[32]byte // the cookie: fresh random bytes, which count for seconds
	Response *HandshakeResponse
}

// A HandshakeResponse answers a cookie (version 2).
type HandshakeResponse struct {
	Node      Key
	Salt      [32]byte // random, so that nobody chooses alone what is signed
	Genesis   Hash
	Signature [64]byte // of cookie, salt and genesis
}

const responseSize = 32 + 32 + 32 + 64

func (*Handshake) Type() uint8 { return TypeHandshake }

func (m *Handshake) Append(b []byte, magic uint16) []byte {
	extensions := uint16(v2Bit)
	if m.Query != nil {
		extensions |= queryBit
	}
	if m.Response != nil {
		extensions |= responseBit
	}
	b = header(magic, TypeHandshake, extensions).Append(b)
	if m.Query != nil {
		b = append(b, m.Query[:]...)
	}
	if r := m.Response; r != nil {
		b = append(append(b, r.Node[:]...), r.Salt[:]...)
		b = append(append(b, r.Genesis[:]...), r.Signature[:]...)
	}
	return b
}

func handshakeSize(extensions uint16) (n int, err error) {
	if extensions&v2Bit == 0 {
		return 0, errors.New("handshake is of version 1; the peer's node is too old")
	}
	if extensions&queryBit != 0 {
		n += 32
	}
	if extensions&responseBit != 0 {
		n += responseSize
	}
	if n == 0 {
		return 0, errors.New("handshake neither asks nor answers")
	}
	return n, nil
}

func readHandshake(r *codec.Reader, extensions uint16) *Handshake {
	m := new(Handshake)
	if extensions&queryBit != 0 {
		m.Query = new([32]byte)
		r.Fill(m.Query[:])
	}
	if extensions&responseBit != 0 {
		m.Response = new(HandshakeResponse)
		r.Fill(m.Response.Node[:])
		r.Fill(m.Response.Salt[:])
		r.Fill(m.Response.Genesis[:])
		r.Fill(m.Response.Signature[:])
	}
	return m
}

// NewHandshakeResponse answers a peer's cookie; salt is fresh random bytes.
func NewHandshakeResponse(id eddsa.Secret, cookie, salt [32]byte, genesis Hash) *HandshakeResponse {
	r := &HandshakeResponse{Node: id.Public(), Salt: salt, Genesis: genesis}
	r.Signature = id.Sign(r.signed(cookie))
	return r
}

// Verify checks the answer to our cookie.
func (r *HandshakeResponse) Verify(cookie [32]byte, genesis Hash) error {
	switch {
	case r.Genesis != genesis:
		return fmt.Errorf("peer is of the network whose genesis is %s; this one's is %s", r.Genesis, genesis)
	case !Verify(r.Node, r.signed(cookie), r.Signature):
		return fmt.Errorf("peer has not shown that it is %s", r.Node.Node())
	}
	return nil
}

func (r *HandshakeResponse) signed(cookie [32]byte) []byte {
	return append(append(append(make([]byte, 0, 96), cookie[:]...), r.Salt[:]...), r.Genesis[:]...)
}
