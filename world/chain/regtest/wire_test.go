package regtest_test

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/world/chain/internal/peer"
	"coinop.dev/world/chain/regtest"
)

// patience is how long a test waits for the node.
const patience = 20 * time.Second

// A stranger is a peer under the test's control.
type stranger struct {
	*peer.Conn
	t   testing.TB
	raw net.Conn
}

// dial connects without saying anything.
func dial(t testing.TB, n *regtest.Node) *stranger {
	t.Helper()
	return dialAt(t, n.Addr())
}

func dialAt(t testing.TB, addr string) *stranger {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	limits := peer.Timeouts{Handshake: patience, Idle: patience, Message: patience}
	return &stranger{peer.New(raw, regtest.Params().Net, limits), t, raw}
}

// greet connects and shakes hands.
func greet(t testing.TB, n *regtest.Node) *stranger {
	t.Helper()
	return greetAt(t, n.Addr())
}

func greetAt(t testing.TB, addr string) *stranger {
	t.Helper()
	s := dialAt(t, addr)
	theirs, err := s.Greet(hello())
	if err != nil {
		t.Fatal(err)
	}
	const want = wire.SFNodeNetwork | wire.SFNodeWitness | wire.SFNodeBloom | wire.SFNodeCF
	if theirs.Services != want {
		t.Errorf("services are %v; want %v", theirs.Services, want)
	}
	return s
}

func hello() *wire.MsgVersion {
	nowhere := wire.NewNetAddressIPPort(net.IPv4zero, 0, 0)
	v := wire.NewMsgVersion(nowhere, nowhere, 1, 0)
	v.ProtocolVersion = int32(peer.ProtocolVersion)
	return v
}

func (s *stranger) say(msgs ...wire.Message) {
	s.t.Helper()
	for _, m := range msgs {
		if err := s.Write(m); err != nil {
			s.t.Fatal(err)
		}
	}
}

// hear waits for a message of type M and skips all others.
func hear[M wire.Message](s *stranger) M {
	s.t.Helper()
	for {
		msg, err := s.Read()
		if err != nil {
			s.t.Fatalf("waiting for a %T: %v", *new(M), err)
		}
		if m, ok := msg.(M); ok {
			return m
		}
	}
}

// sync waits until the node has dealt with all that was said.
func (s *stranger) sync() {
	s.t.Helper()
	s.say(wire.NewMsgPing(42))
	for hear[*wire.MsgPong](s).Nonce != 42 {
	}
}

func getData(kind wire.InvType, hashes ...chainhash.Hash) *wire.MsgGetData {
	ask := wire.NewMsgGetData()
	for i := range hashes {
		ask.InvList = append(ask.InvList, wire.NewInvVect(kind, &hashes[i]))
	}
	return ask
}

// frame is a message as it travels, with whatever payload.
func frame(command string, payload []byte) []byte {

	header := make([]byte, wire.MessageHeaderSize)
	binary.LittleEndian.PutUint32(header, uint32(regtest.Params().Net))
	copy(header[4:16], command)
	binary.LittleEndian.PutUint32(header[16:], uint32(len(payload)))
	copy(header[20:24], chainhash.DoubleHashB(payload))

	return append(header, payload...)
}
