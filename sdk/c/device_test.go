package c_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/trade"
)

// coin is what a coin of these channels is worth.
const coin = 500 * money.Msat

// commissioned is a device with its channels, as the operator's tool leaves it.
type commissioned struct {
	key, gateway keys.Secret
	name         string
	shared       keys.Secret // or zero: the gateway's key
	index        uint64
	coins        payword.Terms
	tickets      oneway.Terms
}

func newTerms(t testing.TB, c chaos, length, credit, every uint64) *commissioned {
	t.Helper()
	d := &commissioned{key: c.secret(t), gateway: c.secret(t), name: "pump-3", index: uint64(c.IntN(1000))}
	open := payword.Proposal{
		PayerNode: d.key.Public(), Number: c.Uint64(), Coin: coin, Length: length, Every: every, Credit: credit, Settle: "rail",
	}
	answer, err := payword.Consider(open, payword.Policy{MaxCredit: money.MaxAmount}, d.gateway)
	if err != nil {
		t.Fatal(err)
	}
	d.coins = payword.Terms{Proposal: open, Answer: answer}
	d.tickets = d.fund(t, c)
	return d
}

// fund makes the terms of a ticket channel, as different as they come.
func (d *commissioned) fund(t testing.TB, c chaos) oneway.Terms {
	t.Helper()
	expiry := []int32{1, 16, 17, 127, 128, 255, 256, 32767, 32768, 840_000, 8_388_607, 8_388_608, 499_999_999}[c.IntN(13)]
	proposal := oneway.Proposal{
		PayerNode: d.key.Public(), PayerKey: oneway.FundingKey(d.key, d.index).Public(), Capacity: money.Amount(3000+c.IntN(1_000_000)) * money.Sat,
		Expiry: expiry, FeeRate: tx.MinFeeRate + tx.FeeRate(c.IntN(3000)), PayerScript: tx.P2WPKH(d.key.Public()),
	}
	reply, err := oneway.Consider(proposal, oneway.Policy{MaxCapacity: money.MaxAmount, MinDepth: 1}, d.gateway, expiry-oneway.MinLife)
	if err != nil {
		t.Fatal(err)
	}
	terms := oneway.Terms{Proposal: proposal, Answer: reply, Point: wire.OutPoint{Hash: [32]byte(c.bytes(32)), Index: uint32(c.IntN(4))}}
	if err := terms.Check(); err != nil {
		t.Fatal(err)
	}
	return terms
}

// blob is what coinop_start reads.
func (d *commissioned) blob() []byte {
	key := d.gateway.Public()
	blob := coinop.Blob{Name: d.name, Gateway: key[:], Index: d.index, Tickets: &d.tickets, Coins: &d.coins}
	if !d.shared.IsZero() {
		blob.Gateway = d.shared.Reveal()
	}
	return blob.Append(nil)
}

// messages is one of each that a device gets.
func (d *commissioned) messages(c chaos) [][]byte {
	stamped := receipt.Stamped{From: 0, To: 1, Total: coin, Sig: [64]byte(c.bytes(64))}
	command := d.command(1, money.OrderID{1}, "water")
	return [][]byte{
		payword.Ready{ID: d.coins.ID()}.Append(nil), payword.Reject{ID: d.coins.ID(), Why: "no"}.Append(nil),
		payword.Taken{ID: d.coins.ID(), Stamped: stamped}.Append(nil),
		oneway.Ready{ID: d.tickets.ID()}.Append(nil), oneway.Leave{ID: d.tickets.ID()}.Append(nil),
		oneway.Taken{ID: d.tickets.ID(), Stamped: stamped}.Append(nil), command.Append(nil),
		fleet.Policy{Device: d.name, Version: 3, Payees: []string{"oneway://a"}}.Seal(d.gateway, d.key.Public(), d.shared).Append(nil),
		fleet.Time{At: 1 << 40}.Append(nil), trade.Goods{Order: orderID(1), Payload: []byte("21.5")}.Append(nil), trade.Decline{Order: orderID(1), Due: coin, Why: "no"}.Append(nil),
	}
}

func (d *commissioned) command(n uint64, order money.OrderID, item string) fleet.Command {
	c := fleet.Command{Device: d.name, Seq: n, Order: order, Verb: fleet.Open, Item: item, Units: 3, Until: 0}
	if d.shared.IsZero() {
		return c.Seal(d.gateway, d.key.Public(), d.shared)
	}
	return c.Seal(d.gateway, keys.Public{}, d.shared)
}

// The answers and news of coinop.h.
const (
	promised, done, wait, refused, broken = 0, 1, 2, 3, 4
	forbidden                             = 5
	opened, paid, settled, rejected       = 0, 1, 2, 3
	goods, declined                       = 4, 5
)

// agent is a device: a process, and the files that outlive it.
type agent struct {
	t    testing.TB
	path string
	dir  string
	link string // of the agent, if its messages do not go through the pipe

	mu      sync.Mutex
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers chan byte
	exited  chan struct{}

	message func([]byte)
	news    func(kind byte, id money.OrderID, goods []byte)
	stderr  *bytes.Buffer
	starts  int
}

// newAgent makes a device that is off.
func newAgent(t testing.TB, d *commissioned, flags ...string) *agent {
	if flags = append(slices.Clone(flags), sanitized...); len(flags) == len(sanitized) {
		flags = usual
	}
	a := &agent{
		t: t, dir: t.TempDir(), path: build(t, "agent", flags, "test/agent.c", "test/link.c"),
		message: func([]byte) {}, news: func(byte, money.OrderID, []byte) {},
	}
	a.commission(d)
	t.Cleanup(a.kill)
	return a
}

// commission gives the device a key and a blob.
func (a *agent) commission(d *commissioned) {
	for name, b := range map[string][]byte{"key": d.key.Reveal(), "blob": d.blob()} {
		if err := os.WriteFile(filepath.Join(a.dir, name), b, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

// start switches it on. In the middle of write number tear the power fails.
func (a *agent) start(tear int) {
	a.t.Helper()
	file := func(name string) string { return filepath.Join(a.dir, name) }
	args := []string{file("key"), file("blob"), file("flash"), file("world"), strconv.Itoa(tear)}
	if a.link != "" {
		args = append(args, a.link)
	}
	cmd := exec.Command(a.path, args...)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.mu.Lock()
	a.cmd, a.in, a.answers, a.exited, a.stderr = cmd, in, make(chan byte, 1), make(chan struct{}), stderr
	answers, exited := a.answers, a.exited
	a.starts++
	a.mu.Unlock()
	go func() {
		defer close(exited)
		a.listen(bufio.NewReader(out), answers)
		if err := cmd.Wait(); bytes.Contains(stderr.Bytes(), []byte("ERROR: ")) || bytes.Contains(stderr.Bytes(), []byte("runtime error")) {
			a.t.Errorf("the device: %v\n%s", err, stderr)
		}
	}()
}

func (a *agent) listen(out io.Reader, answers chan byte) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(out, head[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(out, b); err != nil {
			return
		}
		switch head[0] {
		case 'm':
			a.message(b)
		case 'a':
			answers <- b[0]
		case 'n':
			a.news(b[0], money.OrderID(b[1:17]), b[17:])
		}
	}
}

// kill takes the power away.
func (a *agent) kill() {
	a.mu.Lock()
	cmd, exited := a.cmd, a.exited
	a.mu.Unlock()
	if cmd != nil {
		cmd.Process.Kill()
		<-exited
	}
}

// tell sends the agent a frame; one that is off hears nothing.
func (a *agent) tell(kind byte, parts ...[]byte) {
	b := bytes.Join(parts, nil)
	frame := append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(b))), b...)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.in != nil {
		a.in.Write(frame)
	}
}

// pay asks the device to pay an order; false if the power failed meanwhile.
func (a *agent) pay(kind byte, id money.OrderID, n uint64) (answer byte, ok bool) {
	a.tell(kind, id[:], binary.BigEndian.AppendUint64(nil, n))
	select {
	case answer = <-a.answers:
		return answer, true
	case <-a.exited:
		return 0, false
	case <-time.After(20 * time.Second):
		a.t.Fatalf("the device does not answer")
		return 0, false
	}
}

// acted is the orders that the device has acted on, ever.
func (a *agent) acted() (orders []money.OrderID) {
	b, _ := os.ReadFile(filepath.Join(a.dir, "world"))
	for ; len(b) >= 16; b = b[16:] {
		orders = append(orders, money.OrderID(b[:16]))
	}
	return orders
}
