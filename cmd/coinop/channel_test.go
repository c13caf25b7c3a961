package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/lightning/node"
	"coinop.dev/world/chain/regtest"
)

// town is some machines on one chain that gets a block every now and then.
type town struct {
	*testing.T
	dir   string
	chain *regtest.Node
}

func newTown(t *testing.T) *town {
	n, err := regtest.Open(regtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	mining, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	go mineEvery(mining, n, 50*time.Millisecond)
	return &town{t, t.TempDir(), n}
}

// config writes the file of a machine.
func (w *town) config(name, more string) {
	w.Helper()
	text := fmt.Sprintf("version = 1\nname = %q\ndata = %q\nchain = %q\n%s", name, name, "p2p://"+w.chain.Addr(), more)
	if err := os.WriteFile(filepath.Join(w.dir, name+".toml"), []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

func (w *town) fund(name string) {
	w.Helper()
	key, err := loadKey(filepath.Join(w.dir, name))
	if err == nil {
		_, err = w.chain.Faucet(tx.P2WPKH(tx.WalletKey(key).Public()), 5_000_000)
	}
	if err == nil {
		_, err = w.chain.Mine(1)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// serve runs a machine until stop is called, and returns where it is paid.
func (w *town) serve(name string) (payTo string, stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	out, in := io.Pipe()
	var errs bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"serve", "--json", "-c", filepath.Join(w.dir, name+".toml")}, nil, in, &errs)
		in.Close()
	}()
	line, _ := bufio.NewReader(out).ReadBytes('\n')
	var ready struct {
		PayTo []string `json:"pay_to"`
	}
	if err := json.Unmarshal(line, &ready); err != nil || len(ready.PayTo) == 0 {
		cancel()
		<-ended
		w.Fatalf("%s does not start: %s%s", name, line, &errs)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-ended
		}
	}
	w.Cleanup(stop)
	return ready.PayTo[0], stop
}

// channel runs a channel command of a machine.
func (w *town) channel(name string, into any, args ...string) (code int, errs string) {
	w.Helper()
	var out, bad bytes.Buffer
	code = run(w.Context(), append([]string{"channel", "-c", filepath.Join(w.dir, name+".toml"), "--json"}, args...), nil, &out, &bad)
	if code == exitOK && into != nil {
		if err := json.Unmarshal(out.Bytes(), into); err != nil {
			w.Fatalf("%v: %s", err, &out)
		}
	}
	return code, bad.String()
}

type openedChannel struct {
	begun
	Usable    bool   `json:"usable"`
	Liquidity string `json:"liquidity"`
}

// A channel is opened, listed by both ends and closed: by a machine that does not
// run otherwise, and by one that does.
func TestChannelCommands(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	rails := "rails = [\"lightning:?claim_depth=2\"]\n"
	w.config("seller", fmt.Sprintf("listen = %q\nhttp = %q\n%s", freeAddr(t), freeAddr(t), rails))
	w.config("buyer", rails)
	payTo, _ := w.serve("seller")
	peer := strings.TrimPrefix(payTo, "lightning://")

	// Without money nothing is opened, and it is said where to pay some.
	if code, errs := w.channel("buyer", nil, "open", peer); code == exitOK || !strings.Contains(errs, "bcrt1q") {
		t.Fatalf("exit %d: %s", code, errs)
	}
	w.fund("buyer")
	var opened openedChannel
	if code, errs := w.channel("buyer", &opened, "open", peer, "--capacity", "400000sat", "--push", "50000sat"); code != exitOK || !opened.Usable {
		t.Fatalf("exit %d: %+v %s", code, opened, errs)
	}
	if want := "can send 344,685 sat and receive 46,000 sat now; 394,685 sat more after one more channel"; opened.Liquidity != want {
		t.Errorf("%q; want %q", opened.Liquidity, want)
	}
	// The seller runs, so it is asked over its API; the buyer's store is read.
	var s node.Summary
	if code, errs := w.channel("seller", &s, "list"); code != exitOK || len(s.Channels) != 1 || s.Channels[0].Channel != opened.Channel || s.Channels[0].Opener {
		t.Fatalf("exit %d: %+v %s", code, s, errs)
	}
	if code, errs := w.channel("buyer", &s, "list"); code != exitOK || len(s.Channels) != 1 || !strings.Contains(s.Sentence, "344,685 sat and 46,000 sat more when the peers are connected") {
		t.Fatalf("exit %d: %+v %s", code, s, errs)
	}
	var text bytes.Buffer
	tableOf(&text, s)
	for _, part := range []string{opened.Channel[:12], "open, away", "at risk in all: 0 sat", "limit is 50000 sat"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("%q is not in:\n%s", part, &text)
		}
	}
	if code, errs := w.channel("buyer", nil, "close", "nobody"); code != exitNotFound {
		t.Errorf("exit %d: %s", code, errs)
	}
	var closed struct{ Closed bool }
	if code, errs := w.channel("buyer", &closed, "close", opened.Channel[:8]); code != exitOK || !closed.Closed {
		t.Fatalf("exit %d: %s", code, errs)
	}

	// Now the buyer runs all the time.
	w.config("buyer", fmt.Sprintf("listen = %q\nhttp = %q\n%s", freeAddr(t), freeAddr(t), rails))
	_, stop := w.serve("buyer")
	if code, errs := w.channel("buyer", &opened, "open", peer, "--capacity", "100000sat", "--public"); code != exitOK || !opened.Usable {
		t.Fatalf("exit %d: %+v %s", code, opened, errs)
	}
	if code, errs := w.channel("buyer", &closed, "close", peer, "--force"); code != exitOK || !closed.Closed {
		t.Fatalf("exit %d: %s", code, errs)
	}
	stop()

	// Without an address to ask at, a store that is in use is an error.
	w.config("seller", rails)
	for _, args := range [][]string{{"list"}, {"open", peer}} {
		if code, errs := w.channel("seller", nil, args...); code != exitConnect || !strings.Contains(errs, "in use by another process") || !strings.Contains(errs, "http address") {
			t.Errorf("%v: exit %d: %s", args, code, errs)
		}
	}
}
