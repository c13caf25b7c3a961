package light_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/world/chain"
	"coinop.dev/world/chain/p2p"
	"coinop.dev/world/store/bbolt"
)

// ceiling is what a light client's process may take at its peak, in KiB, with
// nothing else in it: program text that was touched, Go's heap, and all. Ten runs
// took from 21,200 to 22,700; the rest is for a garbage collector that comes late.
const ceiling = 28 << 10

// TestMemoryCeiling has another process sync 3,200 blocks whose filters have
// 20 kB each, which is mainnet's size, and look through a dozen blocks of 1 MB.
func TestMemoryCeiling(t *testing.T) {
	t.Parallel()
	if addr := os.Getenv("COINOP_TEST_LIGHT"); addr != "" {
		syncAlone(t, addr)
		return
	}
	if testing.Short() {
		t.Skip("-short")
	}
	tr := newTree(regtest())
	large := make([]byte, 20_000) // 7,000 elements
	copy(large, []byte{0xfd, 0x58, 0x1b})
	for i := range large[3:] {
		large[3+i] = byte(i*i>>3) | 1
	}
	tip := tr.first
	var others []*wire.MsgTx // which are the same in all blocks: nobody looks at them twice
	for range 4000 {
		others = append(others, pay(tr.nowhere(), script(2), make([]byte, 34), make([]byte, 100)))
	}
	for range 12 {
		tip = tr.mine(tr.grow(tip, 266), append([]*wire.MsgTx{pay(tr.nowhere(), script(1))}, others...)...)
	}
	n := newNode("n", tr.first)
	n.filter = func(b *block) []byte {
		if len(b.Transactions) > 1 {
			return nil
		}
		return large
	}
	n.follow(tip)
	addr := listen(t, n)

	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestMemoryCeiling$", "-test.v")
	child.Env = append(os.Environ(), "COINOP_TEST_LIGHT="+addr, "GOMEMLIMIT=16MiB", "GOGC=50")
	began := time.Now()
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var peak, first int
	for _, line := range strings.Split(string(out), "\n") {
		fmt.Sscanf(line, "at first %d kB", &first)
		fmt.Sscanf(line, "at most %d kB", &peak)
	}
	t.Logf("%d blocks, %d kB of filters, 12 blocks of %d kB: from %d kB at first to %d kB at most, in %v",
		tip.height, int(tip.height)*len(large)/1000, tip.SerializeSize()/1000, first, peak, time.Since(began).Round(time.Millisecond))
	if peak == 0 || peak > ceiling {
		t.Errorf("it took %d kB; the ceiling is %d kB\n%s", peak, ceiling, out)
	}
}

func highWater() (kB int) {
	raw, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(raw), "\n") {
		fmt.Sscanf(line, "VmHWM: %d kB", &kB)
	}
	return kB
}

func syncAlone(t *testing.T, addr string) {
	fmt.Printf("at first %d kB\n", highWater())
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "chain"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c, err := p2p.Open(p2p.Options{Addrs: []string{addr}, DB: db, OnDown: func(err error) { fmt.Println(err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	late := time.After(time.Minute)
	for {
		changed := c.Changed()
		coins, err := c.Coins(t.Context(), script(1))
		if err == nil && len(coins) == 12 {
			break
		}
		if err != nil && !errors.Is(err, chain.ErrSyncing) {
			t.Fatal(err)
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%d coins, error %v", len(coins), err)
		}
	}
	s, _ := c.Summary(t.Context())
	fmt.Printf("at most %d kB\n%+v\n", highWater(), s)
}

// listen serves a node on a port of its own.
func listen(t *testing.T, n *node) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c, n)
		}
	}()
	return l.Addr().String()
}

func serve(c net.Conn, n *node) {
	defer c.Close()
	const version, network = wire.FeeFilterVersion, wire.TestNet
	write := func(m wire.Message) error {
		_, err := wire.WriteMessageWithEncodingN(c, m, version, network, wire.WitnessEncoding)
		return err
	}
	nowhere := wire.NewNetAddressIPPort(net.IPv4zero, 0, 0)
	ours := wire.NewMsgVersion(nowhere, nowhere, 7, n.tip().height)
	ours.Services, ours.ProtocolVersion = n.services, int32(version)
	for {
		_, msg, _, err := wire.ReadMessageWithEncodingN(c, version, network, wire.WitnessEncoding)
		if err != nil && !errors.Is(err, wire.ErrUnknownMessage) {
			return
		}
		say := []wire.Message{ours, wire.NewMsgVerAck()}
		if _, greets := msg.(*wire.MsgVersion); !greets {
			say = n.hear(msg)
		}
		for _, m := range say {
			if write(m) != nil {
				return
			}
		}
	}
}
