package p2p_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/light"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/p2p"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/store/mem"
)

// downs collects why connections ended.
type downs struct {
	mu   sync.Mutex
	list []string
}

func (d *downs) add(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, err.Error())
}

func (d *downs) has(text string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.list, func(s string) bool { return strings.Contains(s, text) })
}

func openBloom(t *testing.T, o p2p.Options) (*p2p.Client, *downs) {
	t.Helper()
	d := &downs{}
	o.Bloom = true
	o.OnDown = func(err error) {
		d.add(err)
		t.Log("down:", err)
	}
	c, err := p2p.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, d
}

// A wiretap is between a client and a node: it keeps the filters that the client
// loads, and makes the node one that matches nothing if it is blind.
type wiretap struct {
	net.Listener
	node  string
	blind bool

	mu      sync.Mutex
	filters [][]byte
}

func tap(t *testing.T, n *regtest.Node, blind bool) *wiretap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{Listener: l, node: n.Addr(), blind: blind}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go w.carry(client)
		}
	}()
	return w
}

func (w *wiretap) carry(client net.Conn) {
	defer client.Close()
	node, err := net.Dial("tcp", w.node)
	if err != nil {
		return
	}
	go func() {
		defer client.Close()
		io.Copy(client, node)
	}()
	defer node.Close()
	for {
		head := make([]byte, wire.MessageHeaderSize)
		if _, err := io.ReadFull(client, head); err != nil {
			return
		}
		body := make([]byte, binary.LittleEndian.Uint32(head[16:]))
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		if bytes.HasPrefix(head[4:], []byte(wire.CmdFilterLoad)) {
			w.mu.Lock()
			w.filters = append(w.filters, bytes.Clone(body))
			w.mu.Unlock()
			if w.blind {
				clear(body[3 : len(body)-9]) // all but the length, and what comes after the filter
				copy(head[20:], chainhash.DoubleHashB(body)[:4])
			}
		}
		if _, err := node.Write(append(head, body...)); err != nil {
			return
		}
	}
}

// TestBloom tells every story of a chain over BIP 37.
func TestBloom(t *testing.T) {
	t.Parallel()
	for _, nodes := range []string{"one node", "two nodes"} {
		t.Run(nodes, func(t *testing.T) {
			t.Parallel()
			chaintest.Test(t, func(t *testing.T) (chain.Source, chaintest.Miner) {
				n := openNode(t, regtest.Options{OnDrop: func(peer string, err error) { t.Log("dropped:", err) }})
				addrs := []string{n.Addr()}
				if nodes == "two nodes" {
					addrs = append(addrs, tap(t, n, false).Addr().String())
				}
				c, _ := openBloom(t, p2p.Options{Addrs: addrs})
				return c, n
			})
		})
	}
}

func bloomCoin(t *testing.T, n *regtest.Node) watch.Output {
	t.Helper()
	point, err := n.Faucet(chaintest.Script(1), chaintest.Value)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Mine(1); err != nil {
		t.Fatal(err)
	}
	return watch.Output{Point: point, Script: chaintest.Script(1)}
}

func seen(t *testing.T, c *p2p.Client, o watch.Output) {
	t.Helper()
	if _, err := chaintest.Await(t.Context(), c, o, func(s watch.Status) bool { return s.Depth > 0 }); err != nil {
		t.Fatal(err)
	}
}

// TestBloomANodeThatOmits is a payment that one of two nodes leaves out.
func TestBloomANodeThatOmits(t *testing.T) {
	t.Parallel()
	n := openNode(t, regtest.Options{})
	o := bloomCoin(t, n)
	liar := tap(t, n, true).Addr().String()
	c, down := openBloom(t, p2p.Options{Addrs: []string{liar, n.Addr()}})
	seen(t, c, o)
	for late := time.Now().Add(10 * time.Second); !down.has("leaves transaction " + o.Point.Hash.String() + " out"); {
		if time.Sleep(10 * time.Millisecond); time.Now().After(late) {
			t.Fatal("the node that left the payment out is not banned")
		}
	}
	if s, err := c.Summary(t.Context()); err != nil || s.Peers != 1 || !strings.HasPrefix(s.Warning, light.BloomWarning) || s.Warning == light.BloomWarning {
		t.Errorf("summary is %+v, %v; want one peer and a warning that it is the only one", s, err)
	}
}

// TestBloomFilterOverRestarts shows what a node sees of a client that is
// restarted: the same filter.
func TestBloomFilterOverRestarts(t *testing.T) {
	t.Parallel()
	n := openNode(t, regtest.Options{})
	o := bloomCoin(t, n)
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := tap(t, n, false)
	for range 3 {
		c, _ := openBloom(t, p2p.Options{Addrs: []string{w.Addr().String()}, DB: db})
		seen(t, c, o)
		if _, err := n.Mine(1); err != nil {
			t.Fatal(err)
		}
		if err := chaintest.Agree(t.Context(), c, n); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// The first has the script, the others the output that paid it too.
	if len(w.filters) != 3 || !bytes.Equal(w.filters[1], w.filters[2]) {
		t.Fatalf("%d filters were loaded in three runs, the last two equal: want 3 of which they are", len(w.filters))
	}
	for i, b := range w.filters[0][3 : len(w.filters[0])-9] {
		if b&^w.filters[1][3+i] != 0 {
			t.Fatal("something was taken out of the filter")
		}
	}
}

func TestBloomNeedsData(t *testing.T) {
	n := openNode(t, regtest.Options{})
	c, _ := openBloom(t, p2p.Options{Addrs: []string{n.Addr()}})
	_, err := c.Coins(t.Context(), []byte{txscript.OP_TRUE})
	if err == nil || !strings.Contains(err.Error(), "pushes no data") {
		t.Errorf("a script that BIP 37 cannot find gives %v", err)
	}
}
