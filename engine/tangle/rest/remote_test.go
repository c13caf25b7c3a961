package rest_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	tanglenet "coinop.dev/engine/tangle"
	"coinop.dev/engine/tangle/rest"
)

// A wallet is a core that says what it is told to, and tells the test all it hears.
type wallet struct {
	t       *testing.T
	machine *engine.Machine
	heard   chan any
}

// say is what the test has a wallet say.
type say struct{ what any }

func (w *wallet) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		switch ev := event.(type) {
		case say:
			fx.Send = append(fx.Send, step.Packet{To: node.Core, Msg: ev.what})
		case step.Recv:
			w.heard <- ev.Msg
		}
	}
	return fx
}

func (w *wallet) say(what any) {
	w.t.Helper()
	if err := w.machine.Host.Tell(w.t.Context(), "wallet", say{what}); err != nil {
		w.t.Fatal(err)
	}
}

// hears waits until a wallet hears what is looked for.
func hears[T any](w *wallet, is func(T) bool) T {
	w.t.Helper()
	for timeout := time.After(5 * time.Second); ; {
		select {
		case msg := <-w.heard:
			if v, ok := msg.(T); ok && is(v) {
				return v
			}
		case <-timeout:
			w.t.Fatalf("the wallet has not heard the %T that was waited for", *new(T))
		}
	}
}

// newWallet is a wallet on a machine of its own, that asks the node at url.
func newWallet(t *testing.T, net *tangle.Network, url string, poll time.Duration) (*wallet, *rest.Remote) {
	t.Helper()
	w := &wallet{t, newMachine(t), make(chan any, 1000)}
	if err := w.machine.Host.Add(t.Context(), "wallet", w); err != nil {
		t.Fatal(err)
	}
	r := rest.NewRemote(w.machine.Host, rest.RemoteOptions{Client: rest.Client{URL: url}, Network: net, Poll: poll > 0, PollTime: poll})
	t.Cleanup(func() { r.Close() })
	return w, r
}

func has(amounts ...uint64) func(tangle.State) bool {
	return func(s tangle.State) bool {
		sum := map[uint64]int{}
		for _, a := range amounts {
			sum[a]++
		}
		for _, u := range s.Unspent {
			sum[u.Amount]--
		}
		for _, n := range sum {
			if n != 0 {
				return false
			}
		}
		return true
	}
}

// TestWalletFarAway: a payer and a payee without a node; one hears of its change and
// gets its proof, the other hears that it was paid, over events and without.
func TestWalletFarAway(t *testing.T) {
	w := newWorld(t, rest.Options{})
	payer, remote := newWallet(t, w.net, w.http.URL, 0)
	payee, _ := newWallet(t, w.net, w.http.URL, 20*time.Millisecond)
	payer.say(tangle.Follow{Address: addressOf("rich")})
	payee.say(tangle.Follow{Address: addressOf("shop")})
	hears(payer, has(1000))
	if s := hears(payee, has()); s.Address != addressOf("shop") {
		t.Errorf("state of %s", s.Address)
	}

	tx := w.pay(tangle.GenesisOutput(0), 1000, note, to("shop", 300), to("rich", 700))
	payer.say(tangle.Submit{Transaction: tx})
	final := hears(payer, func(f tangle.Final) bool { return f.Transaction == tx.ID() })
	if shown, err := final.Proof.Verify(w.net.Trust()); err != nil || shown.ID() != tx.ID() {
		t.Errorf("proof: %v", err)
	}
	paid := hears(payee, has(300))
	if u := paid.Unspent[0]; u.ID != tangle.NewOutputID(tx.ID(), 0) || string(u.Note.Data) != "order 1" || paid.Index < final.Proof.Milestone.Index {
		t.Errorf("%+v", paid)
	}
	payer.say(tangle.Follow{Address: addressOf("rich")})
	hears(payer, has(700))

	t.Log("the line is cut; what happened meanwhile is heard when it is back")
	for len(w.cut) > 0 {
		(<-w.cut)()
	}
	second := w.pay(tangle.NewOutputID(tx.ID(), 1), 700, nil, to("rich", 600), to("shop", 100))
	if a := w.post(object{"protocolVersion": 2, "payload": second}); a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	hears(payer, has(600))

	t.Log("what is spent stays spent; what was applied is proved again")
	thief := w.pay(tangle.GenesisOutput(0), 1000, nil, to("rich", 1000))
	payer.say(tangle.Submit{Transaction: thief})
	if r := hears(payer, func(tangle.Rejected) bool { return true }); r.Transaction != thief.ID() || r.Why != tangle.SpentInput {
		t.Errorf("%+v", r)
	}
	payer.say(tangle.Submit{Transaction: tx})
	hears(payer, func(f tangle.Final) bool { return f.Transaction == tx.ID() })
	if err := remote.Err(); err != nil {
		t.Error(err)
	}
}

// TestWorkAtHome: a node that does no work for others gets blocks that are worked.
func TestWorkAtHome(t *testing.T) {
	for _, zeros := range []int{-1, 0} {
		w := newWorld(t, rest.Options{}, func(o *tanglenet.Options) {
			o.Config.Network.MinZeros, o.Config.MaxWork, o.MaxZeros = 6, 1, zeros
		})
		payer, _ := newWallet(t, w.net, w.http.URL, 0)
		tx := w.pay(tangle.GenesisOutput(0), 1000, nil, to("shop", 1000))
		payer.say(tangle.Submit{Transaction: tx})
		f := hears(payer, func(f tangle.Final) bool { return f.Transaction == tx.ID() })
		if tangle.Zeros(f.Proof.Block) < 6 {
			t.Error("the block has too little work")
		}
	}
}

// TestNodesThatDoNotHelp: nodes that prove nothing, say nothing that can be read, or
// prove something else; none of it ends a payment.
func TestNodesThatDoNotHelp(t *testing.T) {
	w := newWorld(t, rest.Options{})
	tx := w.pay(tangle.GenesisOutput(0), 1000, nil, to("shop", 1000))
	other := w.pay(tangle.GenesisOutput(0), 1000, note, to("shop", 1000))
	if a := w.post(object{"protocolVersion": 2, "payload": other}); a.status != 201 {
		t.Fatal(a.body)
	}
	w.settled(other.ID())
	proof, err := w.node.Proof(t.Context(), other.ID())
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"HORNET": func(out http.ResponseWriter, in *http.Request) {
			if in.Method == http.MethodPost {
				out.WriteHeader(http.StatusCreated)
				out.Write([]byte(`{"blockId":"` + tangle.BlockID{}.String() + `"}`))
				return
			}
			out.WriteHeader(http.StatusNotFound)
			out.Write([]byte(`{"error":{"code":"404","message":"Not Found"}}`))
		},
		"noise": func(out http.ResponseWriter, in *http.Request) { out.Write([]byte("{{{")) },
		"liar": func(out http.ResponseWriter, in *http.Request) {
			if in.Method == http.MethodPost {
				out.Write([]byte(`{"blockId":"` + tangle.BlockID{}.String() + `"}`))
				return
			}
			out.Write(proof.Append(nil))
		},
	} {
		server := httptest.NewServer(answer)
		defer server.Close()
		payer, remote := newWallet(t, w.net, server.URL, time.Hour)
		payer.say(tangle.Submit{Transaction: tx})
		w.within(name+" is complained of", func() bool { return remote.Err() != nil })
		if err := remote.Err(); errors.Is(err, rest.ErrNoProofs) != (name == "HORNET") {
			t.Errorf("%s: %v", name, err)
		}
		select {
		case msg := <-payer.heard:
			t.Errorf("%s: the wallet hears %T", name, msg)
		default:
		}
	}
}

// TestAppliedMeanwhile: a node refuses a transaction as spent because a milestone has
// applied that very one a moment before. The wallet gets the proof, not the refusal.
func TestAppliedMeanwhile(t *testing.T) {
	w := newWorld(t, rest.Options{})
	tx := w.pay(tangle.GenesisOutput(0), 1000, nil, to("shop", 1000))
	var once sync.Once
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		if in.Method != http.MethodPost {
			w.server.ServeHTTP(out, in)
			return
		}
		once.Do(func() {
			if a := w.post(object{"protocolVersion": 2, "payload": tx}); a.status == 201 {
				w.node.Settle(in.Context(), tx.ID())
			}
		})
		out.WriteHeader(http.StatusBadRequest)
		out.Write([]byte(`{"error":{"code":"400","message":"no","refusal":"` + string(tangle.SpentInput) + `"}}`))
	}))
	defer server.Close()
	payer, _ := newWallet(t, w.net, server.URL, time.Hour)
	payer.say(tangle.Submit{Transaction: tx})
	select {
	case msg := <-payer.heard:
		if f, ok := msg.(tangle.Final); !ok || f.Transaction != tx.ID() {
			t.Errorf("the wallet hears %T %+v", msg, msg)
		}
	case <-time.After(5 * time.Second):
		t.Error("the wallet hears nothing")
	}
}
