package p2p_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
	"coinop.dev/core/bitcoin/light"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/internal/peer"
	"coinop.dev/world/chain/p2p"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/store/bbolt"
)

// Two nodes share the chain that the suite mines.
func TestSourceOverTwoNodes(t *testing.T) {
	t.Parallel()
	chaintest.Test(t, func(t *testing.T) (chain.Source, chaintest.Miner) {
		first, second := openNode(t, regtest.Options{}), openNode(t, regtest.Options{})
		join(t, first, second)
		c, err := p2p.Open(p2p.Options{Addrs: []string{first.Addr(), second.Addr()}, OnDown: func(err error) { t.Log("down:", err) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c, first
	})
}

// join has two nodes hear each other.
func join(t *testing.T, a, b *regtest.Node) {
	t.Helper()
	var ends [2]*peer.Conn
	for i, n := range []*regtest.Node{a, b} {
		raw, err := net.Dial("tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = peer.New(raw, regtest.Params().Net, limits)
		t.Cleanup(func() { ends[i].Close() })
		if _, err := ends[i].Greet(greeting(wire.SFNodeNetwork | wire.SFNodeWitness)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range ends {
		go func() {
			for {
				msg, err := ends[i].Read()
				if err != nil || ends[1-i].Write(msg) != nil {
					return
				}
			}
		}()
	}
}

// TestPublishedIsSentAgain restarts the node, which forgets its pool.
func TestPublishedIsSentAgain(t *testing.T) {
	t.Parallel()
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
	o := watch.Output{Point: point, Script: chaintest.Script(1)}
	if _, err := chaintest.Await(t.Context(), c, o, func(s watch.Status) bool { return s.Depth == 1 }); err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), chaintest.Spend(point, chaintest.Value, 1, 2)); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = openNode(t, regtest.Options{Dir: dir, Listen: addr})
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
	for n := range light.MaxPending {
		err := c.Publish(t.Context(), chaintest.Spend(wire.OutPoint{Index: uint32(n)}, chaintest.Value, 1, 2))
		if err == nil || errors.Is(err, chain.ErrRefused) || !strings.Contains(err.Error(), "kept") {
			t.Fatalf("Publish gives %v; it cannot know", err)
		}
	}
	err := c.Publish(t.Context(), chaintest.Spend(wire.OutPoint{Index: light.MaxPending}, chaintest.Value, 1, 2))
	if err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("one more than MaxPending gives %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, addrs := range [][]string{nil, {"nowhere"}, {"a:1", "a:1"}, strings.Split(strings.Repeat("a:1,", light.MaxPeers)+"b:1", ",")} {
		if c, err := p2p.Open(p2p.Options{Addrs: addrs}); err == nil {
			c.Close()
			t.Errorf("nodes %q are taken", addrs)
		}
	}
}

func TestOpenURL(t *testing.T) {
	r := chain.Registry{}
	r.Register("p2p", p2p.OpenURL)
	for _, uri := range []string{"p2p://127.0.0.1:1", "p2p://127.0.0.1:1?peers=127.0.0.2:1,127.0.0.3:1&net=signet&birthday=200000"} {
		s, err := r.Open(t.Context(), uri)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, uri := range []string{
		"p2p:", "p2p://host", "p2p://host:1/path", "p2p://u@host:1", "p2p://host:1?x=y", "p2p://host:1?peers=other", "p2p://host:1?peers=host:1",
		"p2p://host:1?net=moon", "p2p://host:1?birthday=-1", "p2p://host:1?birthday=1x", "p2p://host:1?store=nothing",
	} {
		if s, err := r.Open(t.Context(), uri); err == nil || s != nil {
			t.Errorf("%s gives %v, error %v", uri, s, err)
		}
	}
}

// A relay stands between client and node. It counts what passes and may change it.
type relay struct {
	addr   string
	counts [3]atomic.Int64 // of headers, filters and blocks that came
	change func(wire.Message) wire.Message
}

const (
	headersCame = iota
	filtersCame
	blocksCame
)

var limits = peer.Timeouts{Handshake: chaintest.Patience, Idle: chaintest.Patience, Message: chaintest.Patience}

func greeting(services wire.ServiceFlag) *wire.MsgVersion {
	nowhere := wire.NewNetAddressIPPort(net.IPv4zero, 0, wire.SFNodeWitness)
	v := wire.NewMsgVersion(nowhere, nowhere, uint64(time.Now().UnixNano()), 0)
	v.Services, v.ProtocolVersion = services, int32(peer.ProtocolVersion)
	return v
}

// serve runs talk on every connection to a port of its own.
func serve(t *testing.T, talk func(c *peer.Conn)) (addr string) {
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
			go func() {
				c := peer.New(raw, regtest.Params().Net, limits)
				defer c.Close()
				if _, err := c.Greet(greeting(wire.SFNodeNetwork | wire.SFNodeWitness | wire.SFNodeCF)); err == nil {
					talk(c)
				}
			}()
		}
	}()
	return l.Addr().String()
}

func newRelay(t *testing.T, node string, change func(wire.Message) wire.Message) *relay {
	r := &relay{change: change}
	r.addr = serve(t, func(client *peer.Conn) {
		raw, err := net.Dial("tcp", node)
		if err != nil {
			return
		}
		up := peer.New(raw, regtest.Params().Net, limits)
		defer up.Close()
		if _, err := up.Greet(greeting(wire.SFNodeWitness)); err != nil {
			return
		}
		go func() {
			defer client.Close()
			for {
				msg, err := up.Read()
				if err != nil {
					return
				}
				switch msg.(type) {
				case *wire.MsgHeaders:
					r.counts[headersCame].Add(1)
				case *wire.MsgCFilter:
					r.counts[filtersCame].Add(1)
				case *wire.MsgBlock:
					r.counts[blocksCame].Add(1)
				case *wire.MsgGetHeaders:
					continue // the node asks what we have
				}
				if r.change != nil {
					msg = r.change(msg)
				}
				if client.Write(msg) != nil {
					return
				}
			}
		}()
		for {
			msg, err := client.Read()
			if err != nil || up.Write(msg) != nil {
				return
			}
		}
	})
	return r
}

// What was learned is kept: the second start asks for no filter and no block.
func TestStoreKeepsWhatWasLearned(t *testing.T) {
	t.Parallel()
	n := openNode(t, regtest.Options{})
	point, err := n.Faucet(chaintest.Script(1), chaintest.Value)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Mine(30); err != nil {
		t.Fatal(err)
	}
	r := newRelay(t, n.Addr(), nil)
	dir := t.TempDir()
	o := watch.Output{Point: point, Script: chaintest.Script(1)}
	for start := range 3 {
		for i := range r.counts {
			r.counts[i].Store(0)
		}
		db, err := bbolt.Open(filepath.Join(dir, "chain"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := p2p.Open(p2p.Options{Addrs: []string{r.addr}, DB: db, OnDown: func(err error) { t.Log("down:", err) }})
		if err != nil {
			t.Fatal(err)
		}
		s, err := chaintest.Await(t.Context(), c, o, func(s watch.Status) bool { return s.Depth >= 30 })
		if err != nil {
			t.Fatal(err)
		}
		coins, err := c.Coins(t.Context(), chaintest.Script(1))
		if err != nil || len(coins) != 1 || coins[0].Proof == nil {
			t.Errorf("start %d: coins are %+v, error %v", start, coins, err)
		}
		if err := errors.Join(c.Close(), db.Close()); err != nil {
			t.Fatal(err)
		}
		filters, blocks := r.counts[filtersCame].Load(), r.counts[blocksCame].Load()
		t.Logf("start %d: depth %d, %d headers messages, %d filters, %d blocks", start, s.Depth, r.counts[headersCame].Load(), filters, blocks)
		switch {
		case start == 0 && (filters == 0 || blocks == 0), start == 1 && filters+blocks != 0, start == 2 && (filters > 3 || blocks != 0):
			t.Errorf("start %d: %d filters and %d blocks came", start, filters, blocks)
		}
		if start == 1 {
			if _, err := n.Mine(3); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Of two nodes one hides the payment, with filters and filter headers that fit
// each other. It is found out and the payment is seen.
func TestOfTwoNodesOneLies(t *testing.T) {
	t.Parallel()
	n := openNode(t, regtest.Options{})
	if _, err := n.Mine(3); err != nil {
		t.Fatal(err)
	}
	point, err := n.Faucet(chaintest.Script(1), chaintest.Value)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Mine(5); err != nil {
		t.Fatal(err)
	}
	height, _, err := n.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The liar's filters: each is empty from the payment on.
	empty := map[chainhash.Hash]bool{}
	for h := height - 4; h <= height; h++ {
		b, err := n.Block(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		empty[b.BlockHash()] = true
	}
	none := []byte{0}
	hash := filter.Hash(none)
	lies := newRelay(t, n.Addr(), func(m wire.Message) wire.Message {
		switch m := m.(type) {
		case *wire.MsgCFilter:
			if empty[m.BlockHash] {
				return wire.NewMsgCFilter(m.FilterType, &m.BlockHash, none)
			}
		case *wire.MsgCFHeaders:
			for i := range m.FilterHashes {
				if len(m.FilterHashes)-i <= 5 {
					m.FilterHashes[i] = &hash
				}
			}
		}
		return m
	})
	for _, addrs := range [][]string{{lies.addr, n.Addr()}, {n.Addr(), lies.addr}} {
		down := make(chan error, 100)
		c, err := p2p.Open(p2p.Options{Addrs: addrs, OnDown: func(err error) { down <- err }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := chaintest.Await(t.Context(), c, watch.Output{Point: point, Script: chaintest.Script(1)}, func(s watch.Status) bool { return s.Depth == 5 }); err != nil {
			t.Error(err)
		}
		select {
		case err := <-down:
			if !strings.Contains(err.Error(), "false") || !strings.Contains(err.Error(), lies.addr) {
				t.Errorf("a connection ended with %v", err)
			}
		case <-time.After(chaintest.Patience):
			t.Error("the liar is still there")
		}
		c.Close()
	}
}

func TestLiesAreNoticed(t *testing.T) {
	t.Parallel()
	n := openNode(t, regtest.Options{})
	if _, err := n.Mine(3); err != nil {
		t.Fatal(err)
	}
	var headers []*wire.BlockHeader
	for h := range int32(3) {
		b, err := n.Block(t.Context(), h+1)
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, &b.Header)
	}
	stray := *headers[0]
	stray.PrevBlock = chainhash.HashH([]byte("nothing of ours"))
	for _, c := range []struct {
		name string
		say  []wire.Message
		want string
	}{
		{"a gap among headers", []wire.Message{&wire.MsgHeaders{Headers: []*wire.BlockHeader{headers[0], headers[2]}}}, "previous block"},
		{"headers from nowhere", slices.Repeat([]wire.Message{&wire.MsgHeaders{Headers: []*wire.BlockHeader{&stray}}}, light.MaxOrphans+2), "follow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			down := make(chan error, 100)
			addr := serve(t, func(p *peer.Conn) {
				for _, m := range c.say {
					p.Write(m)
				}
				for {
					if _, err := p.Read(); err != nil {
						return
					}
				}
			})
			client, err := p2p.Open(p2p.Options{Addrs: []string{addr}, OnDown: func(err error) { down <- err }})
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

func TestAnotherNetworkIsRefused(t *testing.T) {
	n := openNode(t, regtest.Options{})
	down := make(chan error, 100)
	c, err := p2p.Open(p2p.Options{Addrs: []string{n.Addr()}, Rules: &chaincfg.TestNet3Params, OnDown: func(err error) { down <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	select {
	case err := <-down:
		if err == nil {
			t.Error("no reason is given")
		}
	case <-time.After(chaintest.Patience):
		t.Error("nothing was noticed")
	}
}

// TestTwoProcesses runs the client of a chain in another process.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	if addr := os.Getenv("COINOP_TEST_NODE"); addr != "" {
		c := openClient(t, addr)
		changed := c.Changed()
		_, hash, err := c.Tip(t.Context())
		for err != nil {
			<-changed
			changed = c.Changed()
			_, hash, err = c.Tip(t.Context())
		}
		fmt.Print(hash)
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
