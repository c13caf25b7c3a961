package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/p2p"
	"coinop.dev/world/chain/regtest"
)

// patience is how long another program may take.
const patience = time.Minute

// A btcd is a process of the real node.
type btcd struct {
	t    *testing.T
	peer string // where it listens to peers
	rpc  string
}

// build compiles btcd, at the version that go.mod pins, once.
var build = sync.OnceValues(func() (string, error) {
	path := filepath.Join(folder, "btcd")
	out, err := exec.Command("go", "build", "-o", path, "github.com/btcsuite/btcd").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build btcd: %w: %s", err, out)
	}
	return path, nil
})

// folder is where build puts the program.
var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "coinop-interop-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// startBtcd runs a node of an empty chain whose only peer is ours.
func startBtcd(t *testing.T, ours string) *btcd {
	t.Helper()
	program, err := build()
	if err != nil {
		t.Fatal(err)
	}
	b := &btcd{t: t, peer: freeAddr(t), rpc: freeAddr(t)}
	home := t.TempDir()
	anyone := sha256.Sum256([]byte{0x51}) // OP_TRUE
	reward, err := address.NewAddressWitnessScriptHash(anyone[:], regtest.Params())
	if err != nil {
		t.Fatal(err)
	}
	process := exec.Command(program, "--regtest", "--nodnsseed", "--notls",
		"--datadir="+home, "--logdir="+home, "--connect="+ours, "--listen="+b.peer, "--rpclisten="+b.rpc,
		"--rpcuser=u", "--rpcpass=p", "--miningaddr="+reward.String(), "--trickleinterval=50ms")
	process.Env = append(os.Environ(), "HOME="+home)
	log := new(bytes.Buffer)
	process.Stdout, process.Stderr = log, log
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Signal(os.Interrupt)
		ended := time.AfterFunc(patience, func() { process.Process.Kill() })
		process.Wait()
		ended.Stop()
		if t.Failed() {
			t.Logf("btcd:\n%s", log)
		}
	})
	until(t, "btcd answers", func() error { return b.call("getblockcount", new(int)) })
	return b
}

// freeAddr is an address nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// call is one call of btcd's JSON-RPC.
func (b *btcd) call(method string, result any, params ...any) error {
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "1.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.rpc, bytes.NewReader(body))
	if err != nil {
		return err
	}
	ask.SetBasicAuth("u", "p")
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var got struct {
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		return fmt.Errorf("%s: %s: %w", method, answer.Status, err)
	}
	if got.Error != nil {
		return fmt.Errorf("%s: %s", method, got.Error.Message)
	}
	return json.Unmarshal(got.Result, result)
}

func (b *btcd) tip() (hash string) {
	b.t.Helper()
	if err := b.call("getbestblockhash", &hash); err != nil {
		b.t.Fatal(err)
	}
	return hash
}

// until asks again and again, because other programs do not tell.
func until(t *testing.T, what string, ask func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); ; {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("after %v not yet: %s: %v", patience, what, err)
		}
	}
}

func (b *btcd) follows(n *regtest.Node) {
	b.t.Helper()
	until(b.t, "btcd has our tip", func() error {
		height, hash, err := n.Tip(b.t.Context())
		if err != nil || b.tip() == hash.String() {
			return err
		}
		return fmt.Errorf("btcd is at %s, we are at %d %v", b.tip(), height, hash)
	})
}

func (b *btcd) pooled(t *wire.MsgTx) {
	b.t.Helper()
	until(b.t, "btcd has the transaction", func() error {
		var ids []string
		if err := b.call("getrawmempool", &ids); err != nil {
			return err
		}
		if !slices.Contains(ids, t.TxHash().String()) {
			return fmt.Errorf("%v is not in %v", t.TxHash(), ids)
		}
		return nil
	})
}

func openNode(t *testing.T) *regtest.Node {
	t.Helper()
	n, err := regtest.Open(regtest.Options{OnDrop: func(peer string, reason error) { t.Logf("dropped %s: %v", peer, reason) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// paid mines coins that any program may spend.
func paid(t *testing.T, n *regtest.Node, coins int) []watch.Output {
	t.Helper()
	all := make([]watch.Output, coins)
	for i := range all {
		point, err := n.Faucet(chaintest.Script(1), chaintest.Value)
		must(t, err)
		all[i] = watch.Output{Point: point, Script: chaintest.Script(1)}
	}
	mine(t, n, 1)
	return all
}

func mine(t *testing.T, n *regtest.Node, blocks int) {
	t.Helper()
	_, err := n.Mine(blocks)
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBtcd tells one story, because every step needs the chain of the last.
func TestBtcd(t *testing.T) {
	n := openNode(t)
	coins := paid(t, n, 3)
	b := startBtcd(t, n.Addr())
	b.follows(n)

	t.Log("a transaction of ours reaches btcd, and its block")
	first := chaintest.Spend(coins[0].Point, chaintest.Value, 1, 2)
	must(t, n.Publish(t.Context(), first))
	b.pooled(first)
	mine(t, n, 1)
	b.follows(n)

	t.Log("a transaction of btcd's reaches us")
	second := chaintest.Spend(coins[1].Point, chaintest.Value, 1, 2)
	must(t, b.call("sendrawtransaction", new(string), hex.EncodeToString(tx.Bytes(second))))
	until(t, "we have the transaction", func() error {
		if got, _ := n.Tx(second.TxHash()); got == nil {
			return fmt.Errorf("%v is unknown", second.TxHash())
		}
		return nil
	})

	t.Log("a block of btcd's reaches us, with the transaction")
	must(t, b.call("generate", new([]string), 1))
	got, err := chaintest.Await(t.Context(), n, coins[1], func(s watch.Status) bool { return s.SpendDepth == 1 })
	must(t, err)
	if got.Spender.WitnessHash() != second.WitnessHash() {
		t.Error("the witness was lost on the way")
	}
	b.follows(n)

	t.Log("btcd follows a reorganisation of ours")
	must(t, n.Reorg(2))
	b.follows(n)
	mine(t, n, 1)
	b.follows(n)

	t.Log("we follow a reorganisation of btcd's")
	lost := b.tip()
	must(t, b.call("invalidateblock", new(any), lost))
	must(t, b.call("generate", new([]string), 3))
	b.follows(n)

	t.Log("our client follows btcd and publishes through it")
	c, err := p2p.Open(p2p.Options{Addr: b.peer, OnDown: func(err error) { t.Log("client:", err) }})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, chaintest.Agree(t.Context(), c, n))
	third := chaintest.Spend(coins[2].Point, chaintest.Value, 1, 2)
	must(t, c.Publish(t.Context(), third))
	b.pooled(third)
	rival := chaintest.Spend(coins[2].Point, chaintest.Value, 1, 3)
	if err := c.Publish(t.Context(), rival); err == nil {
		t.Error("btcd took a double spend")
	} else {
		t.Log("btcd says:", err)
	}
	must(t, b.call("generate", new([]string), 1))
	_, err = chaintest.Await(t.Context(), c, coins[2], func(s watch.Status) bool { return s.SpendDepth == 1 })
	must(t, err)
	if err := c.Publish(t.Context(), rival); !errors.Is(err, chain.ErrRefused) {
		t.Errorf("a double spend of a mined transaction gives %v", err)
	}
	b.follows(n)
	must(t, n.Reorg(2))
	must(t, chaintest.Agree(t.Context(), c, n))
}
