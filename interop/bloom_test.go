package interop

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcutil/v2/bloom"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/world/chain/regtest"
)

// TestBloom asks our node and btcd for the same proof with the same filter (BIP
// 37). The answers must be one, and true.
func TestBloom(t *testing.T) {
	n := openNode(t)
	coins := paid(t, n, 5)
	height, block, err := n.Tip(t.Context())
	must(t, err)
	b := startBtcd(t, n.Addr())
	b.follows(n)
	var proofs []*wire.MsgMerkleBlock
	for _, addr := range []string{n.Addr(), b.peer} {
		c := dialWire(t, addr)
		f := bloom.NewFilter(10, 5, 0.0001, wire.BloomUpdateNone)
		f.AddHash(&coins[3].Point.Hash)
		c.say(f.MsgFilterLoad())
		ask := wire.NewMsgGetData()
		must(t, ask.AddInvVect(wire.NewInvVect(wire.InvTypeFilteredBlock, &block)))
		c.say(ask)
		proof := hear[*wire.MsgMerkleBlock](c)
		if got := hear[*wire.MsgTx](c).TxHash(); got != coins[3].Point.Hash {
			t.Errorf("%s sent transaction %v; want %v", addr, got, coins[3].Point.Hash)
		}
		matched, err := verify(proof)
		must(t, err)
		if proof.Header.BlockHash() != block || !slices.Equal(matched, []chainhash.Hash{coins[3].Point.Hash}) {
			t.Errorf("%s proves %v in block %v at %d; want %v", addr, matched, proof.Header.BlockHash(), height, coins[3].Point.Hash)
		}
		proofs = append(proofs, proof)
	}
	same := func(a, b *chainhash.Hash) bool { return *a == *b }
	if a, b := proofs[0], proofs[1]; !slices.EqualFunc(a.Hashes, b.Hashes, same) || !slices.Equal(a.Flags, b.Flags) {
		t.Errorf("ours proves with %v and %x, btcd with %v and %x", a.Hashes, a.Flags, b.Hashes, b.Flags)
	}
}

// verify checks a partial Merkle tree and returns the transactions it proves
// (BIP 37, "Partial Merkle branch format").
func verify(m *wire.MsgMerkleBlock) ([]chainhash.Hash, error) {
	if m.Transactions == 0 || len(m.Hashes) > int(m.Transactions) {
		return nil, fmt.Errorf("%d hashes for %d transactions", len(m.Hashes), m.Transactions)
	}
	p := &partial{m: m}
	height := 0
	for p.width(height) > 1 {
		height++
	}
	root, err := p.walk(height, 0)
	switch {
	case err != nil:
		return nil, err
	case p.hash != len(m.Hashes) || (p.bit+7)/8 != len(m.Flags):
		return nil, fmt.Errorf("%d of %d hashes and %d bits of %d bytes were needed", p.hash, len(m.Hashes), p.bit, len(m.Flags))
	case root != m.Header.MerkleRoot:
		return nil, fmt.Errorf("the proof leads to %v; the header says %v", root, m.Header.MerkleRoot)
	}
	return p.matched, nil
}

type partial struct {
	m         *wire.MsgMerkleBlock
	bit, hash int // how much is used
	matched   []chainhash.Hash
}

func (p *partial) width(height int) int { return (int(p.m.Transactions) + 1<<height - 1) >> height }

func (p *partial) walk(height, pos int) (node chainhash.Hash, err error) {
	if p.bit >= 8*len(p.m.Flags) {
		return node, errors.New("too few bits")
	}
	parent := p.m.Flags[p.bit/8]>>(p.bit%8)&1 == 1
	p.bit++
	if height == 0 || !parent {
		if p.hash == len(p.m.Hashes) {
			return node, errors.New("too few hashes")
		}
		node = *p.m.Hashes[p.hash]
		p.hash++
		if parent {
			p.matched = append(p.matched, node)
		}
		return node, nil
	}
	left, err := p.walk(height-1, 2*pos)
	if err != nil {
		return node, err
	}
	right := left
	if 2*pos+1 < p.width(height-1) {
		if right, err = p.walk(height-1, 2*pos+1); err != nil {
			return node, err
		}
		if left == right {
			return node, errors.New("two branches are equal (CVE-2012-2459)")
		}
	}
	return chainhash.DoubleHashH(append(left[:], right[:]...)), nil
}

// A wireClient speaks the protocol and nothing of ours.
type wireClient struct {
	t    *testing.T
	conn net.Conn
}

func dialWire(t *testing.T, addr string) *wireClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	c := &wireClient{t, conn}
	nowhere := wire.NewNetAddressIPPort(net.IPv4zero, 0, 0)
	v := wire.NewMsgVersion(nowhere, nowhere, 1, 0)
	v.DisableRelayTx = true
	c.say(v)
	hear[*wire.MsgVersion](c)
	c.say(wire.NewMsgVerAck())
	hear[*wire.MsgVerAck](c)
	return c
}

func (c *wireClient) say(msg wire.Message) {
	c.t.Helper()
	must(c.t, wire.WriteMessage(c.conn, msg, wire.ProtocolVersion, regtest.Params().Net))
}

// hear waits for a message of type M and skips all others.
func hear[M wire.Message](c *wireClient) M {
	c.t.Helper()
	for {
		msg, _, err := wire.ReadMessage(c.conn, wire.ProtocolVersion, regtest.Params().Net)
		if err != nil && !errors.Is(err, wire.ErrUnknownMessage) {
			c.t.Fatalf("waiting for a %T: %v", *new(M), err)
		}
		if m, ok := msg.(M); ok {
			return m
		}
	}
}
