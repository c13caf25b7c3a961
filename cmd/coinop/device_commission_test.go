//go:build !omit_gateway

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	fleetcore "coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/gateway/daemon"
	"coinop.dev/rail"
)

// A landlord funds channels for the devices of a gateway, which is another's.
type landlord struct {
	*walletOwner
	gateway *daemon.Daemon
	to      string
	config  string
}

func newLandlord(t *testing.T) *landlord {
	l := &landlord{walletOwner: newOwner(t)}
	c := coinop.Config{
		Name: "gateway", Data: filepath.Join(l.dir, "gateway"), Store: "mem:", Listen: "127.0.0.1:0", Rails: []string{"oneway:", "payword:"},
	}
	c.MQTT.Listen = "127.0.0.1:0"
	var err error
	l.gateway, err = daemon.Open(t.Context(), daemon.Options{Config: c, Machine: []coinop.Option{coinop.OnChain(l.node)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.gateway.Close() })
	l.to = l.gateway.Machine.PayTo()[0]
	l.config = l.machine("landlord", "")
	key, err := loadKey(filepath.Join(l.dir, "landlord"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.node.Faucet(tx.P2WPKH(tx.WalletKey(key).Public()), 200_000); err != nil {
		t.Fatal(err)
	}
	l.mine(1)
	return l
}

// mining lets time pass on the chain until the test ends.
func (l *landlord) mining() {
	go func() {
		for l.Context().Err() == nil {
			if _, err := l.node.Mine(1); err != nil {
				return
			}
			time.Sleep(30 * time.Millisecond)
		}
	}()
}

// commissionReport is what the command prints.
type commissionReport struct {
	Key    keys.Public
	Expiry int32
	Files  []string
	Ready  bool
}

// within waits for what should become true.
func (l *landlord) within(d time.Duration, what string, ok func() bool) {
	l.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			l.Fatalf("not within %v: %s", d, what)
		}
	}
}

// paid is what a rail of the gateway has earned.
func (l *landlord) paid(scheme string) (sum money.Amount) {
	r := l.gateway.Machine.Rail(scheme)
	if c, ok := rail.As[interface {
		Summary(context.Context) ([]any, error)
	}](r); ok {
		all, err := c.Summary(l.Context())
		if err != nil {
			l.Fatal(err)
		}
		for _, s := range all {
			switch s := s.(type) {
			case oneway.Summary:
				sum += s.Paid
			case payword.Summary:
				sum += s.Paid
			}
		}
	}
	return sum
}

// The blob that the command makes is all that a microcontroller needs: it pays the
// gateway's own process over MQTT, in coins that it settles with tickets.
func TestACommissionedDevicePays(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc here: the C device is not built (apt-get install gcc)")
	}
	l := newLandlord(t)
	agent := buildAgent(t)
	l.mining()
	blob := filepath.Join(l.dir, "meter-7.blob")
	var made commissionReport
	l.must(&made, "", "device", "commission", "meter-7", "-c", l.config, "--to", l.to, "--capacity", "20000sat",
		"--coin", "1sat", "--every", "20sat", "--out", blob)
	if !made.Ready || len(made.Files) != 3 {
		t.Fatalf("%+v", made)
	}
	if err := l.gateway.Fleet.Add(t.Context(), fleetcore.Profile{Name: "meter-7", Key: made.Key, Limits: fleetcore.Limits{Total: 60 * money.Sat}}); err != nil {
		t.Fatal(err)
	}
	card, err := l.gateway.Fleet.Card("meter-7")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(l.dir, "meter-7.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	raw := filepath.Join(l.dir, "key")
	if err := os.WriteFile(raw, key, 0o600); err != nil {
		t.Fatal(err)
	}
	broker := strings.TrimPrefix(l.gateway.At()["mqtt"], "mqtt://")
	d := startAgent(t, agent, raw, blob, filepath.Join(l.dir, "flash"), filepath.Join(l.dir, "world"), "-1", "mqtt:"+broker+":meter-7:"+card.Password)
	for n := byte(1); n <= 60; n++ {
		l.within(20*time.Second, "the device pays", func() bool { return d.pay(n) == 0 })
	}
	l.within(10*time.Second, "the gateway has 60 sat in coins, and as much in tickets", func() bool {
		d.say('S', nil)
		return l.paid("payword") == 60*money.Sat && l.paid("oneway") == 60*money.Sat
	})
	// The gateway's fleet has sent the device its policy.
	if answer := d.pay(61); answer != 5 {
		t.Errorf("a coin beyond its budget: the device answers %d", answer)
	}
	if shown, err := l.gateway.Fleet.Show(t.Context(), "meter-7"); err != nil || !shown.Online || shown.Firmware != "agent 1" {
		t.Errorf("%+v, %v", shown, err)
	}
}

// The device is lost; what was in its channel comes back.
func TestTheRefundOfACommission(t *testing.T) {
	t.Parallel()
	l := newLandlord(t)
	l.mining()
	header := filepath.Join(l.dir, "meter_8.h")
	var made commissionReport
	l.must(&made, "", "device", "commission", "meter-8", "-c", l.config, "--to", l.to, "--capacity", "20000sat", "--life", "120", "--header", header)
	text, err := os.ReadFile(header)
	if err != nil || !bytes.Contains(text, []byte("coinop_key[32] = {\n    0x")) || !bytes.Contains(text, []byte("coinop_blob[")) || len(made.Files) != 2 {
		t.Fatalf("%v, %v: %s", made.Files, err, text)
	}
	l.refuse(exitFailed, "exists", "", "device", "commission", "meter-8", "-c", l.config, "--to", l.to, "--capacity", "20000sat", "--header", header)
	if _, err := os.Stat(header); err != nil {
		t.Error("a command that failed has removed what was there")
	}
	refund := readRefund(t, filepath.Join(l.dir, "meter_8.refund"))
	if refund.LockTime != uint32(made.Expiry) {
		t.Errorf("its lock time is %d, not %d", refund.LockTime, made.Expiry)
	}
	if err := l.node.Publish(t.Context(), refund); err == nil {
		t.Error("the refund is taken before its time")
	}
	l.within(20*time.Second, "the refund is taken", func() bool { return l.node.Publish(t.Context(), refund) == nil })
	l.within(5*time.Second, "it is mined", func() bool {
		coins, err := l.node.Coins(t.Context(), refund.TxOut[0].PkScript)
		for _, c := range coins {
			if c.Point.Hash == refund.TxHash() && c.Depth > 0 {
				return err == nil && c.Value > 19_000
			}
		}
		return false
	})
}

func readRefund(t *testing.T, path string) *wire.MsgTx {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	raw, err := hex.DecodeString(lines[len(lines)-1])
	if err != nil {
		t.Fatal(err)
	}
	refund := wire.NewMsgTx(2)
	if err := refund.Deserialize(bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	return refund
}

// A wallet that is too small, or a gateway that is not there, leaves nothing behind.
func TestACommissionThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	l := newLandlord(t)
	blob := filepath.Join(l.dir, "meter-9.blob")
	l.refuse(exitFailed, "not enough coins", "", "device", "commission", "meter-9", "-c", l.config, "--to", l.to, "--capacity", "900000sat", "--out", blob)
	l.refuse(exitUsage, "write one of --out and --header", "", "device", "commission", "meter-9", "-c", l.config, "--to", l.to)
	l.refuse(exitUsage, "is not oneway://", "", "device", "commission", "meter-9", "-c", l.config, "--to", "payword://x", "--out", blob)
	if left, _ := filepath.Glob(filepath.Join(l.dir, "meter-9*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// buildAgent compiles the C device of sdk/c's tests.
func buildAgent(t *testing.T) string {
	t.Helper()
	sources, _ := filepath.Glob("../../sdk/c/src/*.c")
	headers, _ := filepath.Glob("../../sdk/c/*/*.h")
	for _, f := range append(headers, sources...) {
		os.ReadFile(f) // tells go test what its cached result depends on
	}
	path := filepath.Join(t.TempDir(), "agent")
	args := append([]string{"-std=c99", "-O1", "-DCOINOP_STAMPS=1", "-I../../sdk/c/src", "-o", path, "../../sdk/c/test/agent.c", "../../sdk/c/test/link.c"}, sources...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}

// cDevice is the process of test/agent.c.
type cDevice struct {
	t       *testing.T
	in      io.Writer
	answers chan byte
}

func startAgent(t *testing.T, args ...string) *cDevice {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	d := &cDevice{t, in, make(chan byte, 1)}
	go func() {
		for r := bufio.NewReader(out); ; {
			var head [5]byte
			if _, err := io.ReadFull(r, head[:]); err != nil {
				return
			}
			b := make([]byte, binary.BigEndian.Uint32(head[1:]))
			if _, err := io.ReadFull(r, b); err != nil {
				return
			}
			if head[0] == 'a' {
				d.answers <- b[0]
			}
		}
	}()
	return d
}

func (d *cDevice) say(kind byte, b []byte) {
	d.in.Write(append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(b))), b...))
}

// pay pays a coin for an order, and returns the device's answer; 0 if it is paid or
// on its way.
func (d *cDevice) pay(order byte) byte {
	d.t.Helper()
	b := append([]byte{order}, make([]byte, 15)...)
	d.say('P', binary.BigEndian.AppendUint64(b, 1))
	select {
	case answer := <-d.answers:
		if answer == 1 {
			return 0
		}
		return answer
	case <-time.After(10 * time.Second):
		d.t.Fatal("the device does not answer")
		return 0
	}
}
