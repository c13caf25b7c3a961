package p2p_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/internal/peer"
	"coinop.dev/world/chain/p2p"
	"coinop.dev/world/chain/regtest"
)

// TestPublishedIsSentAgain restarts the node, which forgets its pool.
func TestPublishedIsSentAgain(t *testing.T) {
	dir := t.TempDir()
	n, err := regtest.Open(regtest.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	addr := n.Addr()
	c := openClient(t, addr)
	point, err := n.Faucet(chaintest.Script(1), chaintest.Value)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Mine(1); err != nil {
		t.Fatal(err)
	}
	o := watch.Output{Point: point}
	if _, err := chaintest.Await(t.Context(), c, o, func(s watch.Status) bool { return s.Depth == 1 }); err != nil {
		t.Fatal(err)
	}
	spend := chaintest.Spend(point, chaintest.Value, 1, 2)
	if err := c.Publish(t.Context(), spend); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = openNode(t, regtest.Options{Dir: dir, Listen: addr})
	if waiting := n.MempoolTxs(); len(waiting) != 0 {
		t.Fatalf("%d transactions outlived the node", len(waiting))
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(chaintest.Patience); len(n.MempoolTxs()) == 0; {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the transaction was not sent to the node that came back")
		}
	}
	if _, err := n.Mine(1); err != nil {
		t.Fatal(err)
	}
	if _, err := chaintest.Await(t.Context(), c, o, func(s watch.Status) bool { return s.SpendDepth == 1 }); err != nil {
		t.Fatal(err)
	}
}

func TestANodeThatIsAway(t *testing.T) {
	c := openClient(t, "127.0.0.1:1")
	if _, _, err := c.Tip(t.Context()); !errors.Is(err, chain.ErrSyncing) {
		t.Errorf("Tip gives %v; want ErrSyncing", err)
	}
	for n := range p2p.MaxPending {
		err := c.Publish(t.Context(), chaintest.Spend(wire.OutPoint{Index: uint32(n)}, chaintest.Value, 1, 2))
		if err == nil || errors.Is(err, chain.ErrRefused) || !strings.Contains(err.Error(), "kept") {
			t.Fatalf("Publish gives %v; it cannot know", err)
		}
	}
	err := c.Publish(t.Context(), chaintest.Spend(wire.OutPoint{Index: p2p.MaxPending}, chaintest.Value, 1, 2))
	if err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("one more than MaxPending gives %v", err)
	}
}

func TestOptions(t *testing.T) {
	if _, err := p2p.Open(p2p.Options{Addr: "127.0.0.1:1", Params: &chaincfg.MainNetParams}); err == nil {
		t.Error("the public chain was opened")
	}
	if _, err := p2p.Open(p2p.Options{Addr: "nowhere"}); err == nil {
		t.Error("an address without a port was taken")
	}
}

func TestOpenURL(t *testing.T) {
	r := chain.Registry{}
	r.Register("p2p", p2p.OpenURL)
	s, err := r.Open(t.Context(), "p2p://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, uri := range []string{"p2p:", "p2p://host", "p2p://host:1/path", "p2p://u@host:1", "p2p://host:1?x=y"} {
		if s, err := r.Open(t.Context(), uri); err == nil || s != nil {
			t.Errorf("%s gives %v, error %v", uri, s, err)
		}
	}
}

// A liar is a node under the test's control.
func liar(t *testing.T, tell func(c *peer.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			limits := peer.Timeouts{Handshake: chaintest.Patience, Idle: chaintest.Patience, Message: chaintest.Patience}
			c := peer.New(raw, regtest.Params().Net, limits)
			nowhere := wire.NewNetAddressIPPort(net.IPv4zero, 0, 0)
			v := wire.NewMsgVersion(nowhere, nowhere, 1, 0)
			v.Services, v.ProtocolVersion = wire.SFNodeNetwork|wire.SFNodeWitness, int32(peer.ProtocolVersion)
			if _, err := c.Greet(v); err == nil {
				tell(c)
			}
			c.Close()
		}
	}()
	return l.Addr().String()
}

func TestLiesAreNoticed(t *testing.T) {
	n := openNode(t, regtest.Options{})
	if _, err := n.Mine(3); err != nil {
		t.Fatal(err)
	}
	headers, blocks := fetch(t, n)
	stray := *headers[0]
	stray.PrevBlock = chainhash.HashH([]byte("nothing of ours"))
	forged := *blocks[0]
	forged.Transactions = append(forged.Transactions[:1:1], forged.Transactions[0])
	for _, c := range []struct {
		name string
		say  []wire.Message
		want string
	}{
		{"a gap among headers", []wire.Message{&wire.MsgHeaders{Headers: []*wire.BlockHeader{headers[0], headers[2]}}}, "follows"},
		{"headers from nowhere", slices.Repeat([]wire.Message{&wire.MsgHeaders{Headers: []*wire.BlockHeader{&stray}}}, p2p.MaxAstray+1), "follow nothing"},
		{"a block with a transaction twice", []wire.Message{&wire.MsgHeaders{Headers: headers}, &forged}, "coinbase is true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			down := make(chan error, 100)
			addr := liar(t, func(p *peer.Conn) {
				for _, m := range c.say {
					p.Write(m)
				}
				for {
					if _, err := p.Read(); err != nil {
						return
					}
				}
			})
			client, err := p2p.Open(p2p.Options{Addr: addr, OnDown: func(err error) {
				select {
				case down <- err:
				default:
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			select {
			case err := <-down:
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("the connection ended with %q; want %q", err, c.want)
				}
			case <-time.After(chaintest.Patience):
				t.Error("nothing was noticed")
			}
		})
	}
}

// fetch gets a node's chain by the wire.
func fetch(t *testing.T, n *regtest.Node) (headers []*wire.BlockHeader, blocks []*wire.MsgBlock) {
	t.Helper()
	raw, err := net.Dial("tcp", n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := peer.New(raw, regtest.Params().Net, peer.Timeouts{Handshake: chaintest.Patience, Idle: chaintest.Patience, Message: chaintest.Patience})
	nowhere := wire.NewNetAddressIPPort(net.IPv4zero, 0, 0)
	v := wire.NewMsgVersion(nowhere, nowhere, 1, 0)
	v.ProtocolVersion = int32(peer.ProtocolVersion)
	if _, err := c.Greet(v); err != nil {
		t.Fatal(err)
	}
	ask := wire.NewMsgGetHeaders()
	ask.BlockLocatorHashes = []*chainhash.Hash{regtest.Params().GenesisHash}
	c.Write(ask)
	for len(blocks) == 0 || len(blocks) < len(headers) {
		msg, err := c.Read()
		if err != nil {
			t.Fatal(err)
		}
		switch m := msg.(type) {
		case *wire.MsgHeaders:
			headers = m.Headers
			for _, h := range headers {
				hash := h.BlockHash()
				get := wire.NewMsgGetData()
				get.InvList = []*wire.InvVect{wire.NewInvVect(wire.InvTypeWitnessBlock, &hash)}
				c.Write(get)
			}
		case *wire.MsgBlock:
			blocks = append(blocks, m)
		}
	}
	return headers, blocks
}

// TestTwoProcesses runs the client of a chain in another process.
func TestTwoProcesses(t *testing.T) {
	if addr := os.Getenv("COINOP_TEST_NODE"); addr != "" {
		c := openClient(t, addr)
		changed := c.Changed()
		_, hash, err := c.Tip(t.Context())
		for err != nil {
			<-changed
			changed = c.Changed()
			_, hash, err = c.Tip(t.Context())
		}
		os.Stdout.WriteString(hash.String())
		return
	}
	n := openNode(t, regtest.Options{})
	if _, err := n.Mine(50); err != nil {
		t.Fatal(err)
	}
	_, tip, _ := n.Tip(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), chaintest.Patience)
	defer cancel()
	other := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestTwoProcesses$")
	other.Env = append(os.Environ(), "COINOP_TEST_NODE="+n.Addr())
	out, err := other.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(tip.String())) {
		t.Errorf("the other process says %s, error %v; want %v", out, err, tip)
	}
}
