//go:build !omit_bitcoin

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop.dev"
	"rsc.io/qr"

	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/bitcoin/payuri"
	"coinop.dev/core/money"
	"coinop.dev/core/wallet"
	"coinop.dev/purse"
	"coinop.dev/world/chain/regtest"
)

// An owner runs one command after the other, each a machine of its own, on a chain
// that a light client follows.
type walletOwner struct {
	*testing.T
	node *regtest.Node
	dir  string
}

func newOwner(t *testing.T) *walletOwner {
	node, err := regtest.Open(regtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	return &walletOwner{t, node, t.TempDir()}
}

// machine writes a config and returns its path.
func (o *walletOwner) machine(name, more string) string {
	path := filepath.Join(o.dir, name+".toml")
	text := fmt.Sprintf("version = 1\nname = %q\ndata = %q\nchain = %q\n%s", name, name, "p2p://"+o.node.Addr(), more)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		o.Fatal(err)
	}
	return path
}

func (o *walletOwner) run(in string, args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = run(o.Context(), args, strings.NewReader(in), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// must runs a command that cannot fail, and reads its JSON.
func (o *walletOwner) must(into any, in string, args ...string) (errs string) {
	o.Helper()
	code, out, errs := o.run(in, args...)
	if code != exitOK {
		o.Fatalf("%v: exit %d: %s", args, code, errs)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		o.Fatalf("%v: %v in %s", args, err, out)
	}
	return errs
}

// refuse runs a command that must fail with a code and a sentence.
func (o *walletOwner) refuse(code int, sentence, in string, args ...string) {
	o.Helper()
	if got, _, errs := o.run(in, args...); got != code || !strings.Contains(errs, sentence) {
		o.Errorf("%v: exit %d, want %d, and %q in: %s", args, got, code, sentence, errs)
	}
}

type received struct{ URI, Address string }

func (o *walletOwner) address(config string) string {
	o.Helper()
	var r received
	o.must(&r, "", "wallet", "receive", "-c", config)
	return r.Address
}

// give pays an address and mines that.
func (o *walletOwner) give(address string, sat int64) {
	o.Helper()
	script, err := parseAddress(address)
	if err == nil {
		_, err = o.node.Faucet(script, sat)
	}
	if err != nil {
		o.Fatal(err)
	}
	o.mine(1)
}

func (o *walletOwner) mine(blocks int) {
	o.Helper()
	if _, err := o.node.Mine(blocks); err != nil {
		o.Fatal(err)
	}
}

func (o *walletOwner) balance(config string) wallet.Balance {
	o.Helper()
	var h holdings
	o.must(&h, "", "wallet", "balance", "-c", config)
	return h.Total
}

// From twelve words to money, out of it, and back from the words alone.
func TestWallet(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	o.mine(20)
	till := o.machine("till", "")
	var made struct {
		Phrase string
		Since  int32
	}
	errs := o.must(&made, "", "wallet", "create", "-c", till)
	if len(strings.Fields(made.Phrase)) != 12 || mnemonic.Check(made.Phrase) != nil || made.Since != 20-birthdayMargin || !strings.Contains(errs, "shown only now") {
		t.Fatalf("%+v %s", made, errs)
	}
	raw, err := os.ReadFile(filepath.Join(o.dir, "till", "seed"))
	if err != nil || !bytes.HasPrefix(raw, []byte("age-encryption.org/")) {
		t.Errorf("the seed is not encrypted: %.20q, %v", raw, err)
	}
	o.refuse(exitRefused, "there is a wallet already", "", "wallet", "create", "-c", till)

	address := o.address(till)
	o.give(address, 1_000_000)
	if b := o.balance(till); b.Confirmed != 1_000_000 || b.Waiting+b.Reserved != 0 {
		t.Errorf("after the faucet: %+v", b)
	}

	// A node takes the payment; a block confirms it; asked again, nothing is paid twice.
	shop := o.machine("shop", "")
	payee := o.address(shop) // of a wallet whose seed comes of the machine's key
	pay := []string{"wallet", "send", "-c", till, payee, "300000sat", "--fee-rate", "2", "--order", "0123456789abcdef0123456789abcdef"}
	o.refuse(exitUsage, "--yes", "", pay...)
	pay = append(pay, "--yes")
	var first, again sending
	o.must(&first, "", pay...)
	if first.TxID == "" || first.Confirmations != 0 || first.Fee < 2*100 || first.Fee > 2*160 {
		t.Errorf("sent: %+v", first)
	}
	if b := o.balance(till); b.Confirmed != 0 || b.Reserved != 1_000_000 || b.Waiting != 700_000-first.Fee {
		t.Errorf("on its way: %+v", b)
	}
	o.mine(1)
	o.must(&again, "", append(pay, "--wait", "1")...)
	if again.TxID != first.TxID || again.Confirmations != 1 || again.Receipt == nil {
		t.Errorf("again: %+v, first %+v", again, first)
	}
	left := 700_000 - first.Fee
	if b := o.balance(till); b.Confirmed != left || b.Waiting+b.Reserved != 0 {
		t.Errorf("paid: %+v, want %d", b, left)
	}
	if b := o.balance(shop); b.Confirmed != 300_000 {
		t.Errorf("the payee has %+v", b)
	}
	pay[5] = "300001sat"
	o.refuse(exitUsage, "choose a new ID", "", pay...)
	o.refuse(exitFailed, "not enough", "", "wallet", "send", "-c", till, payee, "2000000sat", "--yes")

	var told struct{ History []wallet.Entry }
	o.must(&told, "", "wallet", "history", "-c", till)
	if len(told.History) != 3 && len(told.History) != 2 || told.History[0].Sats != 1_000_000 || told.History[len(told.History)-1].Sats != -300_000-first.Fee {
		t.Errorf("history: %+v", told.History)
	}

	// Another machine, and only the words.
	spare := o.machine("spare", "")
	words := strings.Fields(made.Phrase)
	o.refuse(exitUsage, "word 3, \"zebrra\"", strings.Join(append(words[:2:2], append([]string{"zebrra"}, words[3:]...)...), " "), "wallet", "restore", "-c", spare)
	o.refuse(exitUsage, "is it zebra?", "zebrra", "wallet", "restore", "-c", spare)
	var back holdings
	o.must(&back, strings.Join(words[:6], "\n")+"\n\n"+strings.Join(words[6:], "  "), "wallet", "restore", "-c", spare, "--since", "10")
	if back.Total.Confirmed != left {
		t.Errorf("restored: %+v, want %d", back.Total, left)
	}
	o.refuse(exitRefused, "whose seed comes of its key", made.Phrase, "wallet", "restore", "-c", shop)
}

// What has money far behind addresses that were emptied is found: the tenth change
// of a wallet that has paid ten times, and an address after many. It is looked for
// even if the restore was cut off before it could.
func TestRestoreFindsWhatIsFarAhead(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	config := o.machine("m", "")
	var made struct{ Phrase string }
	o.must(&made, "", "wallet", "create", "-c", config)
	c, err := readConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	u := &ui{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	s, err := u.openWallet(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := o.address(o.machine("elsewhere", ""))
	for range 12 {
		for range 2 {
			at, err := s.address(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			o.give(at.Text, 10_000)
		}
		for have := int64(0); have < 20_000; time.Sleep(5 * time.Millisecond) {
			if err := s.look(t.Context(), func(w *wallet.Wallet) { have = s.view(w.Summary()).Confirmed }); err != nil {
				t.Fatal(err)
			}
		}
		order := money.Order{ID: purse.NewOrderID(), To: "bitcoin:" + elsewhere, Amount: 15_000 * money.Sat}
		paid := make(chan error, 1)
		go func() {
			_, err := s.rail.Pay(t.Context(), order)
			paid <- err
		}()
		pause := 10 * time.Millisecond
		for done := false; !done; {
			pause *= 2 // or a slow wallet has the payment six blocks deep before it has looked for its proof
			select {
			case err := <-paid:
				if done = true; err != nil {
					t.Fatal(err)
				}
			case <-time.After(pause):
				p, _, err := s.payment(t.Context(), order.ID)
				if err != nil {
					t.Fatal(err)
				}
				if p.Tx != nil && s.station.Chain.Publish(t.Context(), p.Tx) == nil {
					o.mine(1)
				}
			}
		}
	}
	s.Close()
	have := o.balance(config).Confirmed
	if have < 12*5_000-12*1_000 || have >= 12*5_000 {
		t.Fatalf("the wallet has %d sat", have)
	}
	spare := o.machine("spare", "")
	o.refuse(exitConnect, "was not looked through", made.Phrase, "wallet", "restore", "-c", spare, "--timeout", "1ns")
	if got := o.balance(spare).Confirmed; got != have {
		t.Errorf("restored: %d sat of %d", got, have)
	}
	if raw, err := os.ReadFile(filepath.Join(o.dir, "spare", "wallet.toml")); err != nil || strings.Contains(string(raw), "ahead") {
		t.Errorf("it looks ahead for ever: %s, %v", raw, err)
	}
	if got := o.balance(spare).Confirmed; got != have {
		t.Errorf("a second look: %d sat of %d", got, have)
	}
}

// A taproot wallet of 24 words, its seed in a plain file because that was asked for.
func TestWalletOfAnotherKind(t *testing.T) {
	o := newOwner(t)
	config := o.machine("m", "rails = [\"bitcoin:?host=203.0.113.7:9736&fee_rate=3000\"]\n")
	var made struct{ Phrase string }
	o.must(&made, "", "wallet", "create", "-c", config, "--words", "24", "--bip", "86", "--since", "0", "--seed", "file:"+filepath.Join(o.dir, "usb", "seed")+"?plain=1")
	if len(strings.Fields(made.Phrase)) != 24 {
		t.Error(made.Phrase)
	}
	t.Setenv("COINOP_PASSPHRASE", "") // it needs none
	at := o.address(config)
	if !strings.HasPrefix(at, "bcrt1p") {
		t.Errorf("%s is not taproot", at)
	}
	o.give(at, 50_000)
	var paid sending
	o.must(&paid, "", "wallet", "send", "-c", config, "bitcoin:"+strings.ToUpper(at)+"?amount=0.0001", "--yes")
	if paid.Amount != 10_000_000 || paid.Fee < 3*100 {
		t.Errorf("%+v", paid)
	}
	o.refuse(exitUsage, "asks for", "", "wallet", "send", "-c", config, "bitcoin:"+at+"?amount=0.0001", "1sat", "--yes")
	o.refuse(exitUsage, "it begins with bc1", "", "wallet", "send", "-c", config, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "1000sat", "--yes")
	o.refuse(exitUsage, "gateway", "", "wallet", "balance", "-c", o.machine("g", fmt.Sprintf("rails = [\"bitcoin://%s@203.0.113.7:9736\"]\n", "02e9046555a9665145b0dbd7f135744598418df7d61d3660659641886ef1274844")))
	o.refuse(exitConnect, "was not looked through", "", "wallet", "balance", "-c", nowhere(o), "--timeout", "200ms")
}

// nowhere is a config whose chain nobody serves.
func nowhere(o *walletOwner) string {
	path := filepath.Join(o.dir, "nowhere.toml")
	if err := os.WriteFile(path, fmt.Appendf(nil, "version = 1\ndata = \"n\"\nchain = \"p2p://%s\"\n", freeAddr(o.T)), 0o600); err != nil {
		o.Fatal(err)
	}
	return path
}

// What receive prints, and that it does not give out more addresses than a restored
// wallet would look for.
func TestReceive(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	config := o.machine("m", "")
	var r received
	o.refuse(exitNotFound, "no address was given out yet", "", "wallet", "receive", "-c", config, "--last")
	o.must(&r, "", "wallet", "receive", "-c", config, "--amount", "20000sat", "--label", "pump 7")
	u, err := payuri.Parse(r.URI)
	if err != nil || u.Address != r.Address || u.Label != "pump 7" || u.Amount.Sats() != 20_000 {
		t.Errorf("%+v: %v", u, err)
	}
	last := received{}
	o.must(&last, "", "wallet", "receive", "-c", config, "--last")
	if last.Address != r.Address {
		t.Errorf("%s was given out last, not %s", r.Address, last.Address)
	}
	for range 19 {
		o.address(config)
	}
	o.refuse(exitRefused, "--last", "", "wallet", "receive", "-c", config)
	o.refuse(exitUsage, "fractions", "", "wallet", "send", "-c", config, r.Address, "1500msat", "--yes")
	o.refuse(exitUsage, "satoshi", "", "wallet", "receive", "-c", config, "--last", "--amount", "1msat")
}

// The drawing has every module of the code, and the border around it.
func TestQRCode(t *testing.T) {
	const text = "bitcoin:bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080?amount=0.0002"
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(qrCode(text), "\n"), "\n")
	for i, line := range lines {
		row := []rune(strings.TrimSuffix(strings.TrimPrefix(line, "\x1b[30;107m"), "\x1b[0m"))
		if len(row) != code.Size+2*quiet {
			t.Fatalf("row %d has %d characters", i, len(row))
		}
		for j, c := range row {
			x, y := j-quiet, 2*i-quiet
			if code.Black(x, y) != strings.ContainsRune("█▀", c) || code.Black(x, y+1) != strings.ContainsRune("█▄", c) {
				t.Fatalf("module %d, %d is drawn as %q", x, y, c)
			}
		}
	}
	if len(lines)*2 < code.Size+2*quiet || qrCode(strings.Repeat("x", 5000)) != "" {
		t.Errorf("%d lines", len(lines))
	}
}

// Which rails are given the wallet's seed.
func TestSeeded(t *testing.T) {
	c := Config{Config: coinop.Config{Data: t.TempDir()}}
	const rail = "bitcoin:?host=203.0.113.7:9736"
	if got, err := c.seeded(rail); got != rail || err != nil {
		t.Errorf("without a wallet: %s, %v", got, err)
	}
	write := func(text string) {
		if err := os.WriteFile(c.keepingPath(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("seed = \"file:/x\"\nbip = 86\nsince = 7\n")
	for uri, want := range map[string]string{
		rail:                       "bitcoin:?bip=86&host=203.0.113.7%3A9736&seed=file%3A%2Fx&since=7",
		"bitcoin://self?bip=84":    "bitcoin://self?bip=84&seed=file%3A%2Fx&since=7",
		"bitcoin://self?seed=tpm:": "bitcoin://self?seed=tpm:",
		"oneway:":                  "oneway:",
	} {
		if got, err := c.seeded(uri); got != want || err != nil {
			t.Errorf("%s: %s, %v", uri, got, err)
		}
	}
	for _, broken := range []string{"seed = \"file:/x\"\n", "sed = 1\n", "["} {
		write(broken)
		if _, err := c.seeded(rail); err == nil || !strings.Contains(err.Error(), c.keepingPath()) {
			t.Errorf("%q: %v", broken, err)
		}
	}
}
