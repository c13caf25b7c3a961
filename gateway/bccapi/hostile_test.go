package bccapi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/gateway/bccapi"
	"coinop.dev/world/chain"
)

// still is a source that has nothing, or only errors.
type still struct{ err error }

func (s still) Tip(context.Context) (int32, chainhash.Hash, error) {
	return 7, chainhash.Hash{}, s.err
}
func (s still) Coins(context.Context, []byte) ([]watch.Coin, error) { return nil, s.err }
func (s still) Publish(context.Context, *wire.MsgTx) error          { return s.err }
func (s still) Status(context.Context, watch.Output) (watch.Status, error) {
	return watch.Status{}, s.err
}
func (s still) Transactions(context.Context, []byte, int) ([]bccapi.Transaction, error) {
	return nil, s.err
}
func (s still) Transaction(context.Context, chainhash.Hash) (bccapi.Transaction, error) {
	return bccapi.Transaction{}, s.err
}

// ask posts bytes and returns the answer, which must be such as the original
// client takes: status 200, a length, one frame.
func ask(t testing.TB, h http.Handler, call, from string, body []byte) bccapi.Message {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/ng/"+call, bytes.NewReader(body))
	r.RemoteAddr = from
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
		t.Fatalf("status %d, Content-Length %q of %d", w.Code, w.Header().Get("Content-Length"), w.Body.Len())
	}
	m, err := bccapi.Decode(w.Body.Bytes())
	must(t, err)
	return m
}

const home = "192.0.2.1:1000"

func frame(kind byte, payload ...byte) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(payload)))
	return append(b, payload...)
}

func TestAttackMalformedRequests(t *testing.T) {
	down := func(err error) { t.Error("the source is blamed:", err) }
	s := bccapi.New(bccapi.Options{Source: still{}, Params: &chaincfg.MainNetParams, Burst: 1000, OnDown: down})
	mainnet, other := bccapi.Address{}, bccapi.Address{111}
	many := make([]bccapi.Address, bccapi.MaxAddresses+1)
	for name, c := range map[string]struct {
		call string
		body []byte
		want bccapi.Code
	}{
		"nothing":                       {"queryBalance", nil, bccapi.ParserError},
		"half a header":                 {"queryBalance", []byte{4, 1, 0}, bccapi.ParserError},
		"unknown type":                  {"queryBalance", frame(0x14), bccapi.UnknownType},
		"type between 9 and 10":         {"queryBalance", frame(0x0a), bccapi.UnknownType},
		"longer than it is":             {"queryBalance", []byte{4, 5, 0, 0, 0, 0, 0, 0, 0}, bccapi.ParserError},
		"negative length":               {"queryBalance", []byte{4, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, bccapi.ParserError},
		"two billion addresses":         {"queryBalance", frame(4, 0xff, 0xff, 0xff, 0x7f), bccapi.ParserError},
		"minus one address":             {"queryBalance", frame(4, 0xff, 0xff, 0xff, 0xff), bccapi.ParserError},
		"eleven addresses":              {"queryBalance", bccapi.Append(nil, bccapi.BalanceRequest{Addresses: many}), bccapi.InvalidRequest},
		"eleven addresses' outputs":     {"queryUnspentOutputs", bccapi.Append(nil, bccapi.UnspentRequest{Addresses: many}), bccapi.InvalidRequest},
		"eleven addresses' past":        {"queryTransactionInventory", bccapi.Append(nil, bccapi.InventoryRequest{Addresses: many, Limit: 1}), bccapi.InvalidRequest},
		"address of another chain":      {"queryBalance", bccapi.Append(nil, bccapi.BalanceRequest{Addresses: []bccapi.Address{mainnet, other}}), bccapi.InvalidRequest},
		"another call's request":        {"queryBalance", bccapi.Append(nil, bccapi.UnspentRequest{}), bccapi.UnknownType},
		"a response":                    {"queryBalance", bccapi.Append(nil, bccapi.BalanceResponse{}), bccapi.UnknownType},
		"an error":                      {"queryBalance", bccapi.Append(nil, &bccapi.Error{}), bccapi.UnknownType},
		"a balance that is a summary":   {"queryBalance", frame(5, frame(3)...), bccapi.UnknownType},
		"101 newest":                    {"queryTransactionInventory", bccapi.Append(nil, bccapi.InventoryRequest{Limit: 101}), bccapi.InvalidRequest},
		"minus one newest":              {"queryTransactionInventory", bccapi.Append(nil, bccapi.InventoryRequest{Limit: -1}), bccapi.InvalidRequest},
		"101 summaries":                 {"queryTransactionSummary", bccapi.Append(nil, bccapi.SummaryRequest{IDs: make([]chainhash.Hash, 101)}), bccapi.InvalidRequest},
		"summary of what nobody knows":  {"queryTransactionSummary", bccapi.Append(nil, bccapi.SummaryRequest{IDs: make([]chainhash.Hash, 1)}), bccapi.InvalidRequest},
		"half a transaction":            {"broadcastTransaction", frame(0x12, unhex(t, exampleTx)[:87]...), bccapi.ParserError},
		"no inputs":                     {"broadcastTransaction", frame(0x12, make([]byte, 10)...), bccapi.ParserError},
		"16 million inputs":             {"broadcastTransaction", frame(0x12, 1, 0, 0, 0, 0xfe, 0, 0, 0, 1), bccapi.ParserError},
		"more inputs than 2^63":         {"broadcastTransaction", frame(0x12, 1, 0, 0, 0, 0xff, 255, 255, 255, 255, 255, 255, 255, 255), bccapi.ParserError},
		"as many inputs as fit at most": {"broadcastTransaction", frame(0x12, append([]byte{1, 0, 0, 0, 0xfe, 0x80, 0x80, 1, 0}, make([]byte, 98_700)...)...), bccapi.ParserError},
		"a long transaction":            {"broadcastTransaction", frame(0x12, longTx(t)...), bccapi.ParserError},
		"more than a request may be":    {"broadcastTransaction", make([]byte, bccapi.MaxRequest+1), bccapi.InvalidRequest},
		"frames all the way down":       {"queryBalance", nest(0x11, bccapi.MaxRequest/9), bccapi.UnknownType},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			m := ask(t, s, c.call, home, c.body)
			runtime.ReadMemStats(&after)
			if e, ok := m.(*bccapi.Error); !ok || e.Code != c.want || e.Text == "" {
				t.Errorf("answer is %v; want error %d", m, c.want)
			}
			if made := after.TotalAlloc - before.TotalAlloc; made > 8*bccapi.MaxRequest {
				t.Errorf("it took %d bytes", made)
			}
		})
	}
}

// longTx is a transaction of more than tx.MaxSize.
func longTx(t testing.TB) []byte {
	m := bccapi.BroadcastRequest{Tx: wire.NewMsgTx(1)}
	m.Tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{}, make([]byte, 110_000), nil))
	return bccapi.Append(nil, m)[5:]
}

// nest puts summary responses into one another.
func nest(kind byte, depth int) []byte {
	b := make([]byte, 0, 9*depth)
	for left := depth - 1; left >= 0; left-- {
		b = binary.LittleEndian.AppendUint32(append(b, kind), uint32(9*left+4))
		b = binary.LittleEndian.AppendUint32(b, 1)
	}
	return b
}

func TestPathsAndMethods(t *testing.T) {
	s := bccapi.New(bccapi.Options{Source: still{}})
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/ng/queryBalance", http.StatusMethodNotAllowed},
		{"POST", "/ng/", http.StatusNotFound},
		{"POST", "/ng/login", http.StatusNotFound},
		{"POST", "/1/getAccountInfo", http.StatusNotFound},
		{"POST", "/ng/queryBalance/", http.StatusNotFound},
	} {
		w := httptest.NewRecorder()
		if s.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil)); w.Code != c.want {
			t.Errorf("%s %s: status %d; want %d", c.method, c.path, w.Code, c.want)
		}
	}
}

func TestAttackManyRequests(t *testing.T) {
	s := bccapi.New(bccapi.Options{Source: still{}, Rate: 1e-9, Burst: 3})
	nothing := bccapi.Append(nil, bccapi.BalanceRequest{})
	from := func(addr string) bool {
		m := ask(t, s, "queryBalance", addr, nothing)
		if e, ok := m.(*bccapi.Error); ok && e.Code != bccapi.CommunicationError {
			t.Fatal(e)
		}
		return m == bccapi.BalanceResponse{}
	}
	for i := range 4 {
		if ok := from(fmt.Sprintf("[2001:db8::%d]:%d", i, i+1)); ok != (i < 3) {
			t.Errorf("request %d of one /64: answered %v", i+1, ok)
		}
	}
	if !from("[2001:db8:0:1::1]:1") || !from("[::ffff:192.0.2.1]:1") || !from("192.0.2.1:1") || !from("192.0.2.1:2") {
		t.Error("another client is not answered")
	}
	if from("192.0.2.1:3") {
		t.Error("a mapped address counts as another client")
	}
	// As many clients as are counted, none of them rested: the next has no place.
	for i := range bccapi.MaxClients {
		from(fmt.Sprintf("10.0.%d.%d:1", i>>8, i&255))
	}
	if from("192.0.2.7:1") {
		t.Error("more clients than the limit are counted")
	}
}

// TestSourceIsDown tells the owner why and the client to come again.
func TestSourceIsDown(t *testing.T) {
	var told error
	broken := errors.New("dial bitcoind://user:secret@node")
	s := bccapi.New(bccapi.Options{Source: still{broken}, OnDown: func(err error) { told = err }})
	m := ask(t, s, "queryBalance", home, bccapi.Append(nil, bccapi.BalanceRequest{}))
	if e, ok := m.(*bccapi.Error); !ok || e.Code != bccapi.CommunicationError || strings.Contains(e.Text, "secret") {
		t.Errorf("the client is told %v", m)
	}
	if !errors.Is(told, broken) {
		t.Error("the owner is told", told)
	}
	told = nil
	s = bccapi.New(bccapi.Options{Source: still{chain.ErrSyncing}, OnDown: func(err error) { told = err }})
	if e, ok := ask(t, s, "queryBalance", home, bccapi.Append(nil, bccapi.BalanceRequest{})).(*bccapi.Error); !ok || e.Code != bccapi.CommunicationError || told != nil {
		t.Errorf("while the chain is fetched: %v, owner told %v", e, told)
	}
}

func TestRefusedTransaction(t *testing.T) {
	c := serve(t, bccapi.Options{Source: openNode(t)})
	unfunded := wire.NewMsgTx(1)
	unfunded.AddTxIn(wire.NewTxIn(&wire.OutPoint{Hash: chainhash.Hash{1}}, nil, nil))
	unfunded.AddTxOut(wire.NewTxOut(1000, newDevice(t, 1).script))
	err := c.Broadcast(t.Context(), unfunded)
	if code(err) != bccapi.InvalidRequest || !strings.Contains(err.Error(), "refused") {
		t.Error("the client is told", err)
	}
}

// TestAttackLyingServer answers a client with what it did not ask for.
func TestAttackLyingServer(t *testing.T) {
	d, other := newDevice(t, 1), newDevice(t, 2)
	o := bccapi.Output{Value: 1000, Script: d.script}
	worth, foreign := o, o
	worth.Value, foreign.Script = 21e14+1, other.script
	say := func(m bccapi.Message) []byte { return bccapi.Append(nil, m) }
	for name, c := range map[string]struct {
		body []byte
		lie  bool
		code bccapi.Code
	}{
		"somebody's output":  {say(bccapi.UnspentResponse{Unspent: []bccapi.Output{foreign}}), true, 0},
		"more than there is": {say(bccapi.UnspentResponse{Change: []bccapi.Output{worth}}), true, 0},
		"an output twice":    {say(bccapi.UnspentResponse{Unspent: []bccapi.Output{o}, Receiving: []bccapi.Output{o}}), true, 0},
		"a balance":          {say(bccapi.BalanceResponse{}), false, bccapi.InvalidServerResponse},
		"a web page":         {[]byte("<html>come here</html>"), false, bccapi.InvalidServerResponse},
		"an endless answer":  {make([]byte, bccapi.MaxResponse+10), false, bccapi.InvalidServerResponse},
		"an error":           {say(&bccapi.Error{Code: 6, Text: "go to\n\x1b[31mevil.example"}), false, bccapi.InvalidRequest},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(c.body) }))
		_, err := (&bccapi.Client{URL: server.URL}).Unspent(t.Context(), d.address)
		server.Close()
		if errors.As(err, new(*bccapi.Lie)) != c.lie || code(err) != c.code {
			t.Errorf("%s: error %v", name, err)
		}
		if strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: a stranger's text is printed as it is: %v", name, err)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(say(bccapi.BroadcastResponse{}))
	}))
	defer server.Close()
	if err := (&bccapi.Client{URL: server.URL}).Broadcast(t.Context(), wire.NewMsgTx(1)); !errors.As(err, new(*bccapi.Lie)) {
		t.Error("another transaction's id is taken:", err)
	}
}
