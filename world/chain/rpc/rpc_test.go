package rpc_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/internal/peer"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/chain/rpc"
)

// A front is a node's RPC in front of a regtest node: the calls that a client
// makes, with bitcoind's codes.
type front struct {
	*regtest.Node
	t      *testing.T
	blocks map[chainhash.Hash]*wire.MsgBlock // all that ever were

	mu     sync.Mutex
	hashes []chainhash.Hash                                // of the best chain
	lowest int                                             // height that a block was asked at
	answer func(w http.ResponseWriter, method string) bool // instead of ours
}

// fault is what the RPC answers instead of a result.
type fault struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func newFront(t *testing.T) *front {
	n, err := regtest.Open(regtest.Options{})
	must(t, err)
	t.Cleanup(func() { n.Close() })
	return &front{Node: n, t: t, lowest: math.MaxInt, hashes: make([]chainhash.Hash, 1), blocks: map[chainhash.Hash]*wire.MsgBlock{
		*chaincfg.RegressionNetParams.GenesisHash: chaincfg.RegressionNetParams.GenesisBlock,
	}}
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var call struct {
		Method string
		Params []any
	}
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
		f.t.Error(err)
	}
	if f.answer != nil && f.answer(w, call.Method) {
		return
	}
	if user, password, _ := r.BasicAuth(); user != "u" || password != "p:q" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	result, no := f.do(call.Method, call.Params)
	if no != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
	json.NewEncoder(w).Encode(map[string]any{"result": result, "error": no, "id": 1})
}

func (f *front) do(method string, params []any) (any, *fault) {
	hashes := f.cached()
	find := func(hash any) (int, *wire.MsgBlock) {
		for height, h := range hashes {
			if h.String() == hash {
				return height, f.blocks[h]
			}
		}
		return -1, nil
	}
	switch method {
	case "getbestblockhash":
		return hashes[len(hashes)-1].String(), nil
	case "getblockhash":
		if height := int(params[0].(float64)); height < len(hashes) {
			return hashes[height].String(), nil
		}
		return nil, &fault{-8, "Block height out of range"}
	case "getblockheader":
		height, _ := find(params[0])
		return map[string]any{"height": height}, nil
	case "getblock":
		height, b := find(params[0])
		f.lowest = min(f.lowest, height)
		if b == nil {
			return nil, &fault{-5, "Block not found"}
		}
		var raw bytes.Buffer
		b.Serialize(&raw)
		return hex.EncodeToString(raw.Bytes()), nil
	case "sendrawtransaction":
		raw, _ := hex.DecodeString(params[0].(string))
		t := &wire.MsgTx{}
		if err := t.Deserialize(bytes.NewReader(raw)); err != nil {
			return nil, &fault{-22, err.Error()}
		}
		if known, depth := f.Tx(t.TxHash()); known != nil && depth > 0 {
			return nil, &fault{-27, "Transaction already in block chain"}
		}
		if err := f.Publish(f.t.Context(), t); err != nil {
			return nil, &fault{-26, err.Error()}
		}
		return t.TxHash().String(), nil
	case "getrawtransaction":
		for _, t := range f.MempoolTxs() {
			if t.TxHash().String() == params[0] {
				return "00", nil
			}
		}
		return nil, &fault{-5, "No such mempool transaction"}
	case "gettxout":
		id, _ := chainhash.NewHashFromStr(params[0].(string))
		s, err := f.Status(f.t.Context(), watch.Output{Point: wire.OutPoint{Hash: *id, Index: uint32(params[1].(float64))}})
		if err != nil || s.Depth == 0 || s.Spender != nil {
			return nil, nil
		}
		return map[string]any{"value": 0.1}, nil
	}
	return nil, &fault{-32601, "Method not found"}
}

func (f *front) cached() []chainhash.Hash {
	if _, tip, err := f.Tip(f.t.Context()); err != nil || f.hashes[len(f.hashes)-1] != tip {
		f.hashes = f.chain()
	}
	return f.hashes
}

// chain fetches the hashes of the best chain, and its blocks, as a peer.
func (f *front) chain() []chainhash.Hash {
	conn, err := net.Dial("tcp", f.Addr())
	if err != nil {
		f.t.Error(err)
		return nil
	}
	p := peer.New(conn, chaincfg.RegressionNetParams.Net, peer.Timeouts{Handshake: time.Minute, Idle: time.Minute, Message: time.Minute})
	defer p.Close()
	nowhere := wire.NewNetAddressIPPort(net.IPv4zero, 0, wire.SFNodeWitness)
	v := wire.NewMsgVersion(nowhere, nowhere, rand.Uint64(), 0)
	v.Services, v.ProtocolVersion = wire.SFNodeWitness, int32(peer.ProtocolVersion)
	if _, err := p.Greet(v); err != nil {
		f.t.Error(err)
		return nil
	}
	ask := wire.NewMsgGetHeaders()
	ask.ProtocolVersion = peer.ProtocolVersion
	ask.BlockLocatorHashes = []*chainhash.Hash{chaincfg.RegressionNetParams.GenesisHash}
	p.Write(ask)
	hashes := []chainhash.Hash{*chaincfg.RegressionNetParams.GenesisHash}
	for missing := -1; missing != 0; {
		msg, err := p.Read()
		if err != nil && !errors.Is(err, wire.ErrUnknownMessage) {
			f.t.Error(err)
			return hashes
		}
		switch msg := msg.(type) {
		case *wire.MsgHeaders:
			want := wire.NewMsgGetData()
			for _, h := range msg.Headers {
				hash := h.BlockHash()
				hashes = append(hashes, hash)
				if f.blocks[hash] == nil {
					want.AddInvVect(wire.NewInvVect(wire.InvTypeWitnessBlock, &hash))
				}
			}
			if missing = len(want.InvList); missing > 0 {
				p.Write(want)
			}
		case *wire.MsgBlock:
			f.blocks[msg.BlockHash()] = msg
			missing--
		}
	}
	return hashes
}

func (f *front) instead(answer func(w http.ResponseWriter, method string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func open(t *testing.T, o rpc.Options) *rpc.Client {
	t.Helper()
	o.Scheme, o.Interval = "bitcoind", 20*time.Millisecond
	if o.Auth == "" {
		o.Auth = file(t, "u:p:q\n")
	}
	c, err := rpc.Open(o)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func serve(t *testing.T, h http.Handler) (addr string) {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestSource(t *testing.T) {
	chaintest.Test(t, func(t *testing.T) (chain.Source, chaintest.Miner) {
		f := newFront(t)
		return open(t, rpc.Options{Addr: serve(t, f)}), f
	})
}

// From a height on, what is below is not asked for.
func TestFrom(t *testing.T) {
	f := newFront(t)
	old, err := f.Faucet(chaintest.Script(1), chaintest.Value)
	must(t, err)
	_, err = f.Mine(20)
	must(t, err)
	c := open(t, rpc.Options{Addr: serve(t, f), From: 120})
	_, err = f.Mine(99)
	must(t, err)
	point, err := f.Faucet(chaintest.Script(1), chaintest.Value)
	must(t, err)
	_, err = f.Mine(3)
	must(t, err)
	height, hash, err := f.Tip(t.Context())
	must(t, err)
	want := watch.Status{Point: point, Tip: height, Depth: 3, Index: 1, Value: chaintest.Value}
	_, err = chaintest.Await(t.Context(), c, watch.Output{Point: point}, func(s watch.Status) bool { return s == want })
	must(t, err)
	if got, at, err := c.Tip(t.Context()); got != height || at != hash || err != nil {
		t.Errorf("the tip is %d %v, %v; want %d %v", got, at, err, height, hash)
	}
	s, err := chaintest.Await(t.Context(), c, watch.Output{Point: old}, func(watch.Status) bool { return true })
	if err != nil || s.Depth != 0 {
		t.Errorf("an output below the height is %+v, %v", s, err)
	}
	if f.lowest != 121 {
		t.Errorf("the lowest block that was asked for is at %d", f.lowest)
	}
	says(t, open(t, rpc.Options{Addr: serve(t, f), From: 1_000_000}), "1000000", "from=")
}

// says waits for a trouble that tells these things.
func says(t *testing.T, c *rpc.Client, words ...string) {
	t.Helper()
	_, err := c.Status(t.Context(), watch.Output{})
	if err == nil {
		t.Errorf("no error; want %q", words)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
	if strings.Contains(err.Error(), "p:q") {
		t.Errorf("%q tells the password", err)
	}
}

// Every trouble names the node and what to do.
func TestTroubles(t *testing.T) {
	f := newFront(t)
	addr := serve(t, f)
	says(t, open(t, rpc.Options{Addr: addr, Auth: file(t, "u:p")}), addr, "wrong user or password", "auth=")
	says(t, open(t, rpc.Options{Addr: addr, Auth: file(t, "nothing")}), addr, "user:password", ".cookie")
	says(t, open(t, rpc.Options{Addr: addr, Auth: "/no/such/file"}), addr, "/no/such/file")
	for want, answer := range map[string]func(w http.ResponseWriter){
		"check that the node is a bitcoind": func(w http.ResponseWriter) {
			fmt.Fprint(w, `{"result":null,"error":{"code":-32601,"message":"Method not found"}}`)
		},
		"only just been started": func(w http.ResponseWriter) {
			fmt.Fprint(w, `{"result":null,"error":{"code":-28,"message":"Loading block index…"}}`)
		},
		"not JSON":            func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") },
		"rpcallowip":          func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) },
		"not what a bitcoind": func(w http.ResponseWriter) { fmt.Fprint(w, `{"result":7,"error":null}`) },
		"longer than 9437184": func(w http.ResponseWriter) { w.Write(make([]byte, rpc.MaxAnswer+1)) },
		"getblockhash: \"x\" (7)": func(w http.ResponseWriter) {
			fmt.Fprint(w, `{"result":null,"error":{"code":7,"message":"x"}}`)
		},
	} {
		f.instead(func(w http.ResponseWriter, _ string) bool { answer(w); return true })
		says(t, open(t, rpc.Options{Addr: addr}), addr, want)
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	nobody.Close()
	c := open(t, rpc.Options{Addr: nobody.Addr().String()})
	time.Sleep(3 * rpc.MinBackoff) // all tries
	says(t, c, nobody.Addr().String(), "refused", "check that a bitcoind runs there")
}

// A node that is away for a while, or has another cookie, is asked again.
func TestTheNodeComesBack(t *testing.T) {
	f := newFront(t)
	cookie := file(t, "u:old")
	c := open(t, rpc.Options{Addr: serve(t, f), Auth: cookie})
	says(t, c, "wrong user")
	must(t, os.WriteFile(cookie, []byte("u:p:q"), 0o600))
	must(t, chaintest.Agree(t.Context(), c, f))
	f.instead(func(w http.ResponseWriter, _ string) bool { w.WriteHeader(http.StatusBadGateway); return true })
	_, err := f.Mine(2)
	must(t, err)
	if height, _, err := c.Tip(t.Context()); height != 0 || err != nil {
		t.Errorf("while the node is away the tip is %d, %v", height, err)
	}
	spender := chaintest.Spend(wire.OutPoint{}, chaintest.Value, 1, 2)
	if err := c.Publish(t.Context(), spender); err == nil || errors.Is(err, chain.ErrRefused) {
		t.Errorf("publishing then gives %v", err)
	}
	f.instead(nil)
	must(t, chaintest.Agree(t.Context(), c, f))
}

func TestTLS(t *testing.T) {
	f := newFront(t)
	s := httptest.NewUnstartedServer(f)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	cert := file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	addr := s.Listener.Addr().String()
	must(t, chaintest.Agree(t.Context(), open(t, rpc.Options{Addr: addr, Cert: cert}), f))
	says(t, open(t, rpc.Options{Addr: addr}), addr, "TLS")
	if _, err := rpc.Open(rpc.Options{Addr: addr, Auth: cert, Cert: file(t, "none")}); err == nil || !strings.Contains(err.Error(), "rpc.cert") {
		t.Errorf("a file without a certificate: %v", err)
	}
}

func TestURI(t *testing.T) {
	f := newFront(t)
	addr := serve(t, f)
	registry := chain.Registry{"btcd": rpc.OpenURL, "bitcoind": rpc.OpenURL}
	s, err := registry.Open(t.Context(), "bitcoind://"+addr+"?from=0&auth="+url.QueryEscape(file(t, "u:p:q")))
	must(t, err)
	defer s.Close()
	must(t, chaintest.Agree(t.Context(), s, f))
	t.Setenv(rpc.AuthEnv, "u:p:q")
	s, err = registry.Open(t.Context(), "btcd://"+addr)
	must(t, err)
	defer s.Close()
	must(t, chaintest.Agree(t.Context(), s, f))
	for uri, want := range map[string]string{
		"bitcoind://u:hidden@" + addr: "auth=",
		"bitcoind://host":             "port",
		"bitcoind://host:1/wallet":    "write bitcoind://",
		"bitcoind:host":               "write bitcoind://",
		"bitcoind://host:1?from=-1":   "from=",
		"bitcoind://host:1?cookie=x":  "auth, cert and from",
		"btcd://192.0.2.1:1":          "in the clear",
		"btcd://host:1?cert=/nowhere": "/nowhere",
	} {
		if _, err := registry.Open(context.Background(), uri); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v; want %q", uri, err, want)
		}
	}
	t.Setenv(rpc.AuthEnv, "")
	if _, err := registry.Open(t.Context(), "btcd://"+addr); err == nil || !strings.Contains(err.Error(), rpc.AuthEnv) {
		t.Errorf("without credentials: %v", err)
	}
}
