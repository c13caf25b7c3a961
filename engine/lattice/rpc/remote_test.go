package rpc_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
	"coinop.dev/engine/lattice/rpc"
	"coinop.dev/world/drive"
)

// A wallet says what it is told to, and tells the test what it hears.
type wallet struct {
	t     *testing.T
	host  *drive.Host
	heard chan any
	past  []any // heard, and not looked for yet
}

type say struct{ what any }

func (w *wallet) Step(in step.Input) (fx step.Effects) {
	for _, e := range in.Events {
		switch e := e.(type) {
		case say:
			fx.Send = append(fx.Send, step.Packet{To: node.Core, Msg: e.what})
		case step.Recv:
			w.heard <- e.Msg
		}
	}
	return fx
}

func (w *wallet) say(what any) {
	w.t.Helper()
	if err := w.host.Tell(w.t.Context(), "wallet", say{what}); err != nil {
		w.t.Fatal(err)
	}
}

// hears waits for what is looked for, unless it was heard while something else was.
func hears[T any](w *wallet, is func(T) bool) T {
	w.t.Helper()
	for i, v := range w.past {
		if v, ok := v.(T); ok && is(v) {
			w.past = slices.Delete(w.past, i, i+1)
			return v
		}
	}
	for timeout := time.After(5 * time.Second); ; {
		select {
		case v := <-w.heard:
			if v, ok := v.(T); ok && is(v) {
				return v
			}
			w.past = append(w.past, v)
		case <-timeout:
			w.t.Fatalf("the wallet has not heard the %T that was waited for", *new(T))
		}
	}
}

// newWallet is a wallet on a machine of its own, whose node is far away.
func newWallet(t *testing.T, url, socket string, poll time.Duration) (*wallet, *rpc.Remote) {
	t.Helper()
	m := newMachine(t)
	w := &wallet{t: t, host: m.Host, heard: make(chan any, 1000)}
	if err := m.Host.Add(t.Context(), "wallet", w); err != nil {
		t.Fatal(err)
	}
	r := rpc.NewRemote(m.Host, rpc.RemoteOptions{Client: rpc.Client{URL: url}, Socket: socket, Network: network(), PollTime: poll, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
	t.Cleanup(func() { r.Close() })
	return w, r
}

// A shop's wallet on another machine is paid, and takes the money, as if the node
// were its own: also when the line is cut meanwhile.
func TestWalletFarAway(t *testing.T) {
	w := newWorld(t, rpc.Options{Work: true})
	shop, r := newWallet(t, w.http.URL, "ws"+strings.TrimPrefix(w.ws.URL, "http"), time.Hour)
	bank, till := w.purse("genesis"), w.purse("shop")
	shop.say(lattice.Follow{Account: till.key()})
	if s := hears(shop, func(lattice.State) bool { return true }); s.Account != till.key() || s.Height != 0 || s.Receivable != nil {
		t.Errorf("an account without blocks is %+v", s)
	}
	sent := bank.send(lattice.RawOf(700), till.key())
	w.process(sent)
	s := hears(shop, func(s lattice.State) bool { return len(s.Receivable) == 1 })
	if want := (lattice.Receivable{Source: sent.Hash(), From: bank.key(), Amount: lattice.RawOf(700)}); s.Receivable[0] != want {
		t.Errorf("%+v waits, not %+v", s.Receivable[0], want)
	}

	open := till.receive(lattice.RawOf(700), sent.Hash())
	open.Work = 0 // the node does it
	shop.say(lattice.Submit{Block: open})
	final := hears(shop, func(lattice.Final) bool { return true })
	if err := final.Proof.Verify(table()); err != nil || final.Block.Hash() != open.Hash() || final.Proof.Hash != open.Hash() {
		t.Errorf("%+v: %v", final, err)
	}
	if s := hears(shop, func(s lattice.State) bool { return s.Confirmed == 1 }); s.Frontier != open.Hash() || s.Balance != lattice.RawOf(700) || s.Representative != bank.key() {
		t.Errorf("an account with a block is %+v", s)
	}

	// A second one spends, and the wallet asks twice.
	back := till.send(lattice.RawOf(1), bank.key())
	shop.say(lattice.Submit{Block: back})
	shop.say(lattice.Submit{Block: back})
	final = hears(shop, func(f lattice.Final) bool { return f.Block.Hash() == back.Hash() })
	if final.Previous.Hash() != open.Hash() {
		t.Errorf("the block before is %s", final.Previous.Hash())
	}

	// Two at once, the later one first; and then one that is long final, although the
	// account has less by now.
	third, fourth := till.send(lattice.RawOf(100), bank.key()), till.send(lattice.RawOf(100), bank.key())
	shop.say(lattice.Submit{Block: fourth})
	shop.say(lattice.Submit{Block: third})
	hears(shop, func(f lattice.Final) bool { return f.Block.Hash() == third.Hash() })
	hears(shop, func(f lattice.Final) bool { return f.Block.Hash() == fourth.Hash() })
	shop.past = nil
	shop.say(lattice.Submit{Block: back})
	hears(shop, func(f lattice.Final) bool { return f.Block.Hash() == back.Hash() })

	forged := till.send(lattice.RawOf(1), bank.key())
	forged.Signature[0] ^= 1
	shop.say(lattice.Submit{Block: forged})
	if no := hears(shop, func(lattice.Rejected) bool { return true }); no.Why != lattice.BadSignature || no.Hash != forged.Hash() {
		t.Errorf("a forged block is rejected with %+v", no)
	}

	// The line is cut; the wallet is told what it missed when it is back.
	(<-w.cut)()
	w.process(bank.send(lattice.RawOf(5), till.key()))
	hears(shop, func(s lattice.State) bool { return s.Height == 4 && len(s.Receivable) == 1 })
	if err := r.Err(); err != nil {
		t.Errorf("all is well, and it says %v", err)
	}
}

// table is the weights that everybody of our network knows.
func table() lattice.Weights {
	n := network()
	return lattice.Weights{{Rep: n.Genesis.Representative, Weight: n.Supply()}}
}

// A node of Nano's own takes payments and cannot prove them: the wallet's owner is
// told, and the wallet nothing that is not so.
func TestNodeWithoutCertificates(t *testing.T) {
	w := newWorld(t, rpc.Options{})
	proxy := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body, _ := io.ReadAll(in.Body)
		var question struct{ Action string }
		json.Unmarshal(body, &question)
		if question.Action == "certificate" {
			fmt.Fprint(out, `{"error":"Unknown command"}`)
			return
		}
		fmt.Fprint(out, w.ask(string(body)))
	}))
	t.Cleanup(proxy.Close)
	payer, r := newWallet(t, proxy.URL, "", 20*time.Millisecond)
	bank := w.purse("genesis")
	payer.say(lattice.Follow{Account: bank.key()})
	payer.say(lattice.Submit{Block: bank.send(lattice.RawOf(1), w.purse("shop").key())})
	hears(payer, func(s lattice.State) bool { return s.Confirmed == 2 })
	for !errors.Is(r.Err(), rpc.ErrNoCertificates) {
		time.Sleep(time.Millisecond)
	}
	for len(payer.heard) > 0 {
		payer.past = append(payer.past, <-payer.heard)
	}
	for _, what := range payer.past {
		if final, ok := what.(lattice.Final); ok {
			t.Errorf("heard %+v", final)
		}
	}
}

// What a node answers that is no answer is an error that says so.
func TestBadAnswers(t *testing.T) {
	answer := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
	t.Cleanup(s.Close)
	c := rpc.Client{URL: s.URL}
	zeros := strings.Repeat("0", 64)
	for _, answer = range []string{
		``, `[]`, `{"blocks":5}`, `{"blocks":{"x":{"amount":"1","source":"y"}}}`, `{"blocks":{"` + zeros + `":{"amount":"-1"}}}`,
		`{"block_count":"x"}`, `{"error":"Bad account number"}`, strings.Repeat(" ", rpc.MaxAnswer+1),
	} {
		if s, err := c.State(t.Context(), lattice.Key{}); err == nil {
			t.Errorf("%.40q is taken as %+v", answer, s)
		}
	}
	b := w64(lattice.Block{})
	for _, answer = range []string{`{}`, `{"block":` + b + `,"certificate":"00"}`, `{"block":` + b + `,"certificate":"` + zeros + `00"}`} {
		if f, err := c.Final(t.Context(), lattice.Hash{1}); err == nil {
			t.Errorf("%.40q is taken as %+v", answer, f)
		}
	}
	answer = `{"contents":` + b + `,"confirmed":"true"}`
	if _, _, err := c.Block(t.Context(), lattice.Hash{1}); err == nil {
		t.Error("another block is taken for the one that was asked for")
	}
	answer = `{"work":"0000000000000000"}`
	if _, err := c.Work(t.Context(), [32]byte{}, 1<<64-1); err == nil {
		t.Error("work is taken that is not enough")
	}
}

func w64(b lattice.Block) string { return said(&b) }
