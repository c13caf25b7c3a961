package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/money"
	"coinop.dev/world/chain/regtest"
)

var (
	kills    = flag.Int("kills", 40, "how many processes TestKill kills, over both stores")
	killSeed = flag.Uint64("killseed", 1, "when and whom TestKill kills")
)

// Real processes are killed with SIGKILL at random moments while they pay and
// are paid, and started again on the same files. Every order is named before it
// is first paid, and asked again until it is answered. In the end nothing may
// be lost and nothing paid twice: the purse, the till, the channel and the
// chain agree.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"bbolt", "pebble"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			newSlaughter(t, kind).run(*kills / 2)
		})
	}
}

const (
	slaughterOrders = 400 // in a row
	slaughterSats   = 3   // each
	slaughterFunds  = 50_000_000
)

type slaughter struct {
	t      *testing.T
	dir    string
	node   *regtest.Node
	random *rand.Rand
	http   string
	payTo  string
	seller *exec.Cmd
	buyer  *exec.Cmd
	ended  chan error // of the buyer
	// what the seller that runs has said on stderr
	sellerErrs *bytes.Buffer
	killed     int
	rows       uint64
}

func newSlaughter(t *testing.T, store string) *slaughter {
	s := &slaughter{t: t, dir: t.TempDir(), random: rand.New(rand.NewPCG(*killSeed, uint64(len(store))))}
	var err error
	if s.node, err = regtest.Open(regtest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.node.Close() })
	mining, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	go mineEvery(mining, s.node, 100*time.Millisecond)
	s.http = freeAddr(t)
	s.write("seller", fmt.Sprintf("listen = %q\nhttp = %q\nrails = [\"oneway:\"]\nstore = %q\n", freeAddr(t), s.http, store+"://"+filepath.Join(s.dir, "seller", "db")))
	s.write("buyer", fmt.Sprintf("store = %q\n", store+"://"+filepath.Join(s.dir, "buyer", "db")))
	key, err := loadKey(filepath.Join(s.dir, "buyer"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.node.Faucet(tx.P2WPKH(tx.WalletKey(key).Public()), slaughterFunds); err != nil {
		t.Fatal(err)
	}
	if _, err := s.node.Mine(1); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *slaughter) write(name, more string) {
	text := fmt.Sprintf("version = 1\nname = %q\ndata = %q\nchain = %q\n%s", name, name, "p2p://"+s.node.Addr(), more)
	if err := os.WriteFile(s.config(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *slaughter) config(name string) string { return filepath.Join(s.dir, name+".toml") }

func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *slaughter) coinop(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCoinop+"=1")
	return cmd
}

func (s *slaughter) startSeller() {
	cmd := s.coinop("serve", "--json", "-c", s.config("seller"))
	errs := &bytes.Buffer{}
	cmd.Stderr = errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var ready struct {
		PayTo []string `json:"pay_to"`
	}
	if err != nil || json.Unmarshal(line, &ready) != nil || len(ready.PayTo) == 0 {
		cmd.Process.Kill()
		cmd.Wait()
		s.t.Fatalf("the seller does not start: %v\n%s%s", err, line, errs.Bytes())
	}
	go io.Copy(io.Discard, out)
	s.seller, s.payTo, s.sellerErrs = cmd, ready.PayTo[0], errs
}

// startBuyer pays the current row of orders, from its beginning.
func (s *slaughter) startBuyer(more ...string) {
	first := fmt.Sprintf("%016x%016x", *killSeed, s.rows*slaughterOrders)
	cmd := s.coinop(append([]string{"pay", "--json", "-c", s.config("buyer"), s.payTo, "--amount", fmt.Sprintf("%dsat", slaughterSats),
		"--order", first, "--count", fmt.Sprint(slaughterOrders), "--parallel", "16"}, more...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.buyer, s.ended = cmd, make(chan error, 1)
	go func(ended chan error) {
		err := cmd.Wait()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, errs.Bytes())
		}
		ended <- err
	}(s.ended)
}

func (s *slaughter) kill(cmd *exec.Cmd) {
	cmd.Process.Kill()
	s.killed++
}

func (s *slaughter) run(kills int) {
	s.startSeller()
	s.startBuyer()
	for s.killed < kills {
		select {
		case err := <-s.ended:
			if err != nil {
				s.t.Fatalf("the buyer fails by itself, after %d kills: %v", s.killed, err)
			}
			s.rows++
			s.startBuyer()
		case <-time.After(time.Duration(s.random.Int64N(int64(250 * time.Millisecond)))):
			s.strike()
		}
	}
	if err := <-s.ended; err != nil {
		s.t.Fatalf("the last buyer fails: %v", err)
	}
	s.rows++
	s.reckon()
}

// strike kills the buyer, the seller or both, and starts them again.
func (s *slaughter) strike() {
	whom := s.random.IntN(3)
	if whom != 1 {
		s.kill(s.buyer)
		<-s.ended
	}
	if whom != 0 {
		s.kill(s.seller)
		s.seller.Wait()
		s.startSeller()
	}
	if whom != 1 {
		s.startBuyer()
	}
}

// reckon closes the channel and compares everybody's sums.
func (s *slaughter) reckon() {
	want := money.Amount(s.rows*slaughterOrders*slaughterSats) * money.Sat
	var status struct {
		Till struct {
			Orders uint64 `json:"orders"`
			Earned uint64 `json:"earned_msat"`
		} `json:"till"`
	}
	token, err := os.ReadFile(filepath.Join(s.dir, "seller", tokenFile))
	if err != nil {
		s.t.Fatal(err)
	}
	r := &running{base: "http://" + s.http, token: strings.TrimSpace(string(token)), client: http.DefaultClient}
	if err := r.call(s.t.Context(), "GET", "/v1/status", nil, &status); err != nil {
		s.t.Fatal(err)
	}
	if status.Till.Orders != s.rows*slaughterOrders || money.Amount(status.Till.Earned) != want {
		s.t.Errorf("%d orders were paid, %v in all; the till has %d, %v", s.rows*slaughterOrders, want, status.Till.Orders, money.Amount(status.Till.Earned))
	}
	s.rows-- // the last row once more: it is known, and pays nothing
	s.startBuyer("--close")
	if err := <-s.ended; err != nil {
		s.t.Fatalf("closing: %v", err)
	}
	s.rows++
	s.kill(s.seller)
	s.seller.Wait()
	earned, left := s.balance("seller"), s.balance("buyer")
	if earned != want.Sats() {
		s.t.Errorf("%v was paid; the seller has %d sat on chain", want, earned)
	}
	fees := int64(slaughterFunds) - earned - left
	if fees <= 0 || fees > 2000 {
		s.t.Errorf("%d sat became %d for the seller and %d for the buyer", slaughterFunds, earned, left)
	}
	s.t.Logf("%d kills, %d orders, %v; on chain: seller %d sat, buyer %d sat, fees %d sat", s.killed, s.rows*slaughterOrders, want, earned, left, fees)
}

func (s *slaughter) balance(name string) (sum int64) {
	key, err := loadKey(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	coins, err := s.node.Coins(s.t.Context(), tx.P2WPKH(tx.WalletKey(key).Public()))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range coins {
		if c.Depth > 0 {
			sum += c.Value
		}
	}
	return sum
}
