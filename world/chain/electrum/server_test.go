package electrum_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/electrum"
	"coinop.dev/world/chain/regtest"
)

// A wallet speaks the protocol and nothing of ours.
type wallet struct {
	t     *testing.T
	conn  net.Conn
	in    *bufio.Reader
	id    int
	notes []line
}

type line struct {
	ID     *int
	Method string
	Params []any
	Result any
	Error  *struct {
		Code    int
		Message string
	}
}

func dial(t *testing.T, addr string, version any) *wallet {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(chaintest.Patience)))
	w := &wallet{t: t, conn: conn, in: bufio.NewReaderSize(conn, 1<<20)}
	if version != nil {
		w.ask("server.version", "test", version)
	}
	return w
}

func (w *wallet) read() (line, error) {
	raw, err := w.in.ReadBytes('\n')
	if err != nil {
		return line{}, err
	}
	var l line
	return l, json.Unmarshal(raw, &l)
}

func (w *wallet) try(method string, params ...any) line {
	w.t.Helper()
	w.id++
	if params == nil {
		params = []any{}
	}
	raw, _ := json.Marshal(map[string]any{"id": w.id, "method": method, "params": params})
	_, err := w.conn.Write(append(raw, '\n'))
	must(w.t, err)
	for {
		l, err := w.read()
		must(w.t, err)
		if l.Method == "" {
			return l
		}
		w.notes = append(w.notes, l)
	}
}

func (w *wallet) ask(method string, params ...any) any {
	w.t.Helper()
	l := w.try(method, params...)
	if l.Error != nil {
		w.t.Fatalf("%s%v: %+v", method, params, l.Error)
	}
	return l.Result
}

func (w *wallet) note() line {
	w.t.Helper()
	if len(w.notes) > 0 {
		l := w.notes[0]
		w.notes = w.notes[1:]
		return l
	}
	l, err := w.read()
	must(w.t, err)
	return l
}

// at waits until the server is at a height.
func (w *wallet) at(height float64) (tip map[string]any) {
	w.t.Helper()
	until(w.t, "the server follows the chain", func() bool {
		tip = w.ask("blockchain.headers.subscribe").(map[string]any)
		return tip["height"] == height
	})
	w.notes = nil
	return tip
}

func scripthash(n byte) string { return electrum.HashOf(chaintest.Script(n)).String() }

// TestWallet asks everything there is, in both versions.
func TestWallet(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	o := paid(t, n, 1)
	spend := chaintest.Spend(o.Point, chaintest.Value, 1, 2)
	for _, version := range []string{"1.4", "1.6"} {
		w := dial(t, addr, version)
		if got := w.ask("server.features").(map[string]any); got["genesis_hash"] != "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206" || got["hash_function"] != "sha256" {
			t.Errorf("features are %v", got)
		}
		w.ask("server.banner")
		w.ask("server.donation_address")
		w.ask("server.peers.subscribe")
		if w.ask("server.ping") != nil {
			t.Error("ping is answered with something")
		}
		tip := w.at(102)
		if w.ask("blockchain.block.header", 102) != tip["hex"] {
			t.Errorf("the tip is %v", tip)
		}
		chunk := w.ask("blockchain.block.headers", 100, 5000, 102).(map[string]any)
		if chunk["count"] != 3.0 || chunk["max"] != 2016.0 || len(chunk["branch"].([]any)) != 7 {
			t.Errorf("headers are %v", chunk)
		}
		if version == "1.4" && len(chunk["hex"].(string)) != 480 || version == "1.6" && len(chunk["headers"].([]any)) != 3 {
			t.Errorf("headers of %s are %v", version, chunk)
		}
		if got := w.ask("blockchain.block.headers", 103, 5).(map[string]any); got["count"] != 0.0 {
			t.Errorf("headers above the tip are %v", got)
		}
		history := w.ask("blockchain.scripthash.get_history", scripthash(1))
		if want := []any{map[string]any{"height": 102.0, "tx_hash": o.Point.Hash.String()}}; !reflect.DeepEqual(history, want) {
			t.Errorf("the history is %v", history)
		}
		coins := w.ask("blockchain.scripthash.listunspent", scripthash(1))
		if want := []any{map[string]any{"height": 102.0, "tx_hash": o.Point.Hash.String(), "tx_pos": float64(o.Point.Index), "value": 100000.0}}; !reflect.DeepEqual(coins, want) {
			t.Errorf("coins are %v", coins)
		}
		proof := w.ask("blockchain.transaction.get_merkle", o.Point.Hash.String(), 102).(map[string]any)
		if proof["pos"] != 1.0 || proof["block_height"] != 102.0 || len(proof["merkle"].([]any)) != 1 {
			t.Errorf("the proof is %v", proof)
		}
		if got := w.ask("blockchain.transaction.id_from_pos", 102, 1); got != o.Point.Hash.String() {
			t.Errorf("transaction 1 is %v", got)
		}
		if got := w.ask("blockchain.transaction.id_from_pos", 102, 1, true).(map[string]any); !reflect.DeepEqual(got["merkle"], proof["merkle"]) {
			t.Errorf("transaction 1 is %v", got)
		}
		if got := w.ask("blockchain.transaction.get", o.Point.Hash.String(), true).(map[string]any); got["confirmations"] != 1.0 || got["hex"] != w.ask("blockchain.transaction.get", o.Point.Hash.String()) {
			t.Errorf("the transaction is %v", got)
		}
		if got := w.ask("blockchain.estimatefee", 2); got != -1.0 {
			t.Errorf("the fee is %v", got)
		}
		for method, in := range map[string]string{
			"blockchain.relayfee": "1.4", "mempool.get_info": "1.6", "blockchain.transaction.broadcast_package": "1.6",
		} {
			if no := w.try(method, []string{}).Error; (no == nil || no.Code != -32601) != (in == version) {
				t.Errorf("%s in %s: %v", method, version, no)
			}
		}
	}
	w := dial(t, addr, "1.6")
	if got := w.ask("blockchain.scripthash.subscribe", scripthash(2)); got != nil {
		t.Errorf("the status is %v", got)
	}
	got := w.ask("blockchain.transaction.broadcast_package", []string{hex.EncodeToString(tx.Bytes(spend)), "00"}).(map[string]any)
	if got["success"] != false || len(got["errors"].([]any)) != 1 {
		t.Errorf("the package: %v", got)
	}
	told := w.note()
	if told.Method != "blockchain.scripthash.subscribe" || told.Params[0] != scripthash(2) {
		t.Errorf("told %v", told)
	}
	if got := w.ask("blockchain.scripthash.subscribe", scripthash(2)); got != told.Params[1] {
		t.Errorf("the status is %v, told was %v", got, told.Params[1])
	}
	waiting := []any{map[string]any{"height": 0.0, "fee": 1000.0, "tx_hash": spend.TxHash().String()}}
	if got := w.ask("blockchain.scripthash.get_mempool", scripthash(2)); !reflect.DeepEqual(got, waiting) {
		t.Errorf("what waits is %v", got)
	}
	if got := w.ask("blockchain.scripthash.get_balance", scripthash(1)); !reflect.DeepEqual(got, map[string]any{"confirmed": 1e5, "unconfirmed": -1e5}) {
		t.Errorf("the balance is %v", got)
	}
	if got := w.ask("blockchain.scripthash.get_balance", scripthash(2)); !reflect.DeepEqual(got, map[string]any{"confirmed": 0.0, "unconfirmed": 99e3}) {
		t.Errorf("the balance is %v", got)
	}
	if got := w.ask("mempool.get_fee_histogram").([]any); len(got) != 1 {
		t.Errorf("the histogram is %v", got)
	}
	w.ask("blockchain.headers.subscribe")
	mine(t, n, 1)
	seen := map[string]bool{}
	for len(seen) < 2 {
		l := w.note()
		seen[l.Method] = true
		if l.Method == "blockchain.headers.subscribe" && l.Params[0].(map[string]any)["height"] != 103.0 {
			t.Errorf("told %v", l)
		}
	}
	if w.ask("blockchain.scripthash.unsubscribe", scripthash(2)) != true || w.ask("blockchain.scripthash.unsubscribe", scripthash(2)) != false {
		t.Error("unsubscribe")
	}
}

// TestServerReorganised takes a payment back and tells who follows it.
func TestServerReorganised(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	w := dial(t, addr, "1.4")
	w.ask("blockchain.scripthash.subscribe", scripthash(1))
	paid(t, n, 1)
	first := w.note()
	for w.ask("blockchain.scripthash.get_balance", scripthash(1)).(map[string]any)["confirmed"] != 1e5 {
		first = w.note()
	}
	must(t, n.Reorg(1))
	second := w.note()
	if reflect.DeepEqual(first, second) {
		t.Error("the same status twice")
	}
	if got := w.ask("blockchain.scripthash.get_balance", scripthash(1)).(map[string]any); got["confirmed"] != 0.0 || got["unconfirmed"] != 1e5 {
		t.Errorf("the balance is %v", got)
	}
}

// poolless is a source that shows nothing of what waits, as an RPC client is.
type poolless struct{ chain.Source }

func (p poolless) Block(ctx context.Context, height int32) (*wire.MsgBlock, error) {
	return p.Source.(chain.Blocker).Block(ctx, height)
}

func TestServerWithoutPool(t *testing.T) {
	t.Parallel()
	n := openNode(t)
	o := paid(t, n, 1)
	w := dial(t, serve(t, electrum.ServerOptions{Source: poolless{n}}).Addr(), "1.4")
	spend := chaintest.Spend(o.Point, chaintest.Value, 1, 2)
	if got := w.ask("blockchain.transaction.broadcast", hex.EncodeToString(tx.Bytes(spend))); got != spend.TxHash().String() {
		t.Error(got)
	}
	if got := w.ask("blockchain.scripthash.get_mempool", scripthash(2)).([]any); len(got) != 1 {
		t.Errorf("what was broadcast here does not wait: %v", got)
	}
}

// TestServerAttacks has clients that cost more than they may.
func TestServerAttacks(t *testing.T) {
	t.Parallel()
	n := openNode(t)
	paid(t, n, 1)
	dropped := make(chan error, 100)
	limits := electrum.Limits{MaxConns: 3, MaxLine: 1000, MaxSubscriptions: 2, MaxHistory: 50, LineTimeout: 300 * time.Millisecond, Work: 10_000, MaxWork: 1000}
	addr := serve(t, electrum.ServerOptions{Source: n, Limits: limits, OnDrop: func(_ string, reason error) { dropped <- reason }}).Addr()
	gone := func(why string) {
		t.Helper()
		select {
		case err := <-dropped:
			if !strings.Contains(err.Error(), why) {
				t.Errorf("dropped because %v; want %q", err, why)
			}
		case <-time.After(chaintest.Patience):
			t.Fatalf("nobody is dropped because %q", why)
		}
	}
	t.Log("a line without end")
	w := dial(t, addr, nil)
	w.conn.Write([]byte(strings.Repeat("[", 5000)))
	gone("too long")
	t.Log("a line that trickles")
	w = dial(t, addr, nil)
	w.conn.Write([]byte(`{"id"`))
	gone("timeout")
	t.Log("no version in common")
	w = dial(t, addr, nil)
	if no := w.try("server.version", "old", "0.9").Error; no == nil {
		t.Error("version 0.9 is spoken")
	}
	gone("no version")
	t.Log("nonsense is answered, and goes on")
	w = dial(t, addr, "1.4")
	for _, bad := range []string{"x", "[]", "{}", "[1,2]", `{"id":1,"method":"no.such"}`, `{"id":1,"method":"blockchain.block.header","params":[-1]}`,
		`{"id":1,"method":"blockchain.scripthash.get_history","params":["00"]}`, `{"id":1,"method":"blockchain.transaction.get","params":{"nope":1}}`,
		`{"id":1,"method":"blockchain.block.header","params":[1,2,3,4]}`, `{"id":1,"method":"server.version"}`, `{"id":1,"method":"blockchain.transaction.broadcast","params":["zz"]}`,
		`[` + strings.Repeat(`1,`, 200) + `1]`,
	} {
		fmt.Fprintln(w.conn, bad)
		raw, err := w.in.ReadBytes('\n')
		must(t, err)
		if !strings.Contains(string(raw), `"error"`) {
			t.Errorf("%s is answered with %s", bad, raw)
		}
	}
	t.Log("too many scripts")
	w.ask("blockchain.scripthash.subscribe", scripthash(1))
	w.ask("blockchain.scripthash.subscribe", scripthash(2))
	if no := w.try("blockchain.scripthash.subscribe", scripthash(3)).Error; no == nil || no.Code != -101 {
		t.Errorf("a third script: %v", no)
	}
	t.Log("a history that is too long")
	if coinbase, err := n.Block(t.Context(), 5); err != nil {
		t.Error(err)
	} else if no := w.try("blockchain.scripthash.get_history", electrum.HashOf(coinbase.Transactions[0].TxOut[0].PkScript).String()).Error; no == nil || no.Code != -101 {
		t.Errorf("the miner's history: %v", no)
	}
	t.Log("too many clients")
	dial(t, addr, nil)
	dial(t, addr, nil)
	over, err := net.Dial("tcp", addr)
	must(t, err)
	defer over.Close()
	gone("all 3 places")
	t.Log("more work than allowed takes time")
	begin := time.Now()
	for range 40 {
		w.try("blockchain.transaction.get", chainhash.Hash{}.String())
	}
	for range 40 {
		w.try("blockchain.transaction.broadcast", "00")
	}
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("80 expensive calls took %v", took)
	}
}

// TestSlowReader asks for much and reads nothing.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	n := openNode(t)
	mine(t, n, 2000)
	dropped := make(chan error, 1)
	addr := serve(t, electrum.ServerOptions{Source: n, Limits: electrum.Limits{LineTimeout: 200 * time.Millisecond}, OnDrop: func(_ string, reason error) { dropped <- reason }}).Addr()
	w := dial(t, addr, "1.4")
	go func() {
		for range 500 {
			if _, err := fmt.Fprintln(w.conn, `{"id":1,"method":"blockchain.block.headers","params":[0,2016]}`); err != nil {
				return
			}
		}
	}()
	select {
	case err := <-dropped:
		if !strings.Contains(err.Error(), "timeout") {
			t.Errorf("dropped because %v", err)
		}
	case <-time.After(chaintest.Patience):
		t.Error("a client that reads nothing is kept")
	}
}

func TestNoBlocks(t *testing.T) {
	t.Parallel()
	n := openNode(t)
	if _, err := electrum.Serve(t.Context(), electrum.ServerOptions{Source: struct{ chain.Source }{n}}); err == nil {
		t.Error("a source without blocks is served")
	}
	var _ chain.Pooler = (*regtest.Node)(nil)
}
