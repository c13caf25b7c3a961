package rest_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	tanglenet "coinop.dev/engine/tangle"
	"coinop.dev/engine/tangle/rest"
	"coinop.dev/world/store/mem"
)

func secretOf(name string) eddsa.Secret {
	return eddsa.NewSecret(eddsa.SHA512, tangle.IDOf([]byte("a shop's "+name)))
}

func addressOf(name string) tangle.Address { return tangle.NewAddress(secretOf(name).Public()) }

// A world is a node that is the only coordinator, behind REST.
type world struct {
	testing.TB
	net     *tangle.Network
	machine *engine.Machine
	node    *tanglenet.Node
	server  *rest.Server
	http    *httptest.Server
	cut     chan func() // one for each request for events: it cuts the line
	// names are what stands for values that are others every time.
	names []string
}

func newMachine(t testing.TB) *engine.Machine {
	t.Helper()
	key, err := keys.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := engine.New(context.Background(), engine.Options{Key: key, DB: db})
	t.Cleanup(func() { m.Close() })
	return m
}

// newWorld opens a world; change may change its network and its node.
func newWorld(t testing.TB, o rest.Options, change ...func(*tanglenet.Options)) *world {
	t.Helper()
	net, err := tangle.NewNetwork("a shop", "tst", 1, [][32]byte{secretOf("coordinator").Public()},
		[]tangle.BasicOutput{{Amount: 1000, Address: addressOf("rich")}})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, net: net, machine: newMachine(t), cut: make(chan func(), 100)}
	c := node.Coordinator{Secret: secretOf("coordinator"), Primary: true, Interval: 50 * step.Millisecond}
	options := tanglenet.Options{Config: node.Config{Network: net, Coordinator: c}}
	for _, f := range change {
		f(&options)
	}
	if w.node, err = tanglenet.Open(t.Context(), w.machine, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.node.Close() })
	o.Node = w.node
	if w.server, err = rest.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.server.Close() })
	w.http = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.http.Close)
	w.within("a milestone", func() bool { return w.ask("GET /health", "").status == 200 })
	return w
}

func (w *world) serve(out http.ResponseWriter, in *http.Request) {
	if strings.HasSuffix(in.URL.Path, "/events") {
		ctx, cancel := context.WithCancel(in.Context())
		w.cut <- cancel
		in = in.WithContext(ctx)
	}
	w.server.ServeHTTP(out, in)
}

func (w *world) within(what string, is func() bool) {
	w.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatal("it has not happened: ", what)
		}
	}
}

// An answer is what a client gets for its words.
type answer struct {
	status int
	header http.Header
	body   string
}

const binary = "application/vnd.iota.serializer-v1"

// ask puts "GET /path" or "POST /path", with headers "name: value".
func (w *world) ask(what, body string, headers ...string) (a answer) {
	w.Helper()
	method, path, _ := strings.Cut(what, " ")
	r, err := http.NewRequestWithContext(w.Context(), method, w.http.URL+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(raw)}
}

// post hands in a block in JSON.
func (w *world) post(v any) answer {
	w.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		w.Fatal(err)
	}
	return w.ask("POST /api/core/v2/blocks", string(raw), "Content-Type: application/json")
}

type object = map[string]any

// pay is a transaction of rich, who has everything, or what an earlier one has left
// him with.
func (w *world) pay(input tangle.OutputID, has uint64, note *tangle.TaggedData, outputs ...tangle.BasicOutput) *tangle.Transaction {
	w.Helper()
	spent := []tangle.BasicOutput{{Amount: has, Address: addressOf("rich")}}
	e, err := tangle.NewEssence(w.net, []tangle.OutputID{input}, spent, outputs, note)
	if err != nil {
		w.Fatal(err)
	}
	t, err := e.Sign(spent, secretOf("rich"))
	if err != nil {
		w.Fatal(err)
	}
	return t
}

func to(name string, amount uint64) tangle.BasicOutput {
	return tangle.BasicOutput{Amount: amount, Address: addressOf(name)}
}

var note = &tangle.TaggedData{Tag: []byte("coinop"), Data: []byte("order 1")}

// settled waits until a milestone has applied a transaction.
func (w *world) settled(id tangle.TransactionID) node.Settled {
	w.Helper()
	s, err := w.node.Settle(w.Context(), id)
	if err != nil {
		w.Fatal(err)
	}
	return s
}
