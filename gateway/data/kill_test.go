package data_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/gateway/data"
	"coinop.dev/rail/railtest"
	"coinop.dev/world/chain/p2p"
	"coinop.dev/world/store/bbolt"
)

// A child is the seller as a process of its own.
const (
	childDir   = "COINOP_DATA_SELLER"
	childChain = "COINOP_DATA_CHAIN"
	childLink  = "COINOP_DATA_LINK"
	childHTTP  = "COINOP_DATA_HTTP"
	childHalt  = "COINOP_DATA_HALT" // the moment to stop at and say so
)

func TestMain(m *testing.M) {
	if os.Getenv(childDir) != "" {
		if err := sellForTest(); err != nil {
			fmt.Println(err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// sellForTest is the child. It sells until it is killed.
func sellForTest() error {
	dir, ctx := os.Getenv(childDir), context.Background()
	node, err := p2p.Open(p2p.Options{Addrs: []string{os.Getenv(childChain)}})
	if err != nil {
		return err
	}
	db, err := bbolt.Open(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	s, err := openSeller(ctx, secret("seller"), db, node, os.Getenv(childLink), data.Lines(filepath.Join(dir, "readings")),
		func(addr string) []string { return []string{"oneway:?host=" + addr} })
	if err != nil {
		return err
	}
	s.data.Halt(func(at string) {
		if at == os.Getenv(childHalt) {
			fmt.Println("at", at)
			select {}
		}
	})
	l, err := net.Listen("tcp", os.Getenv(childHTTP))
	if err != nil {
		return err
	}
	fmt.Println("sells")
	return http.Serve(l, s.data.Handler())
}

type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startChild(t *testing.T, env ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), env...)
	out, err := c.cmd.StdoutPipe()
	must(t, err)
	c.cmd.Stderr = os.Stderr
	must(t, c.cmd.Start())
	t.Cleanup(c.kill)
	c.lines = bufio.NewScanner(out)
	c.waitFor(t, "sells")
	return c
}

func (c *child) waitFor(t *testing.T, line string) {
	t.Helper()
	if !c.lines.Scan() || c.lines.Text() != line {
		t.Fatalf("the seller says %q instead of %q", c.lines.Text(), line)
	}
}

// kill is SIGKILL, and waits until nothing of it is left.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// arrivals counts the keys that arrive.
type arrivals struct{ n atomic.Int32 }

func (k *arrivals) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusOK && strings.HasSuffix(r.URL.Path, "/key") {
		k.n.Add(1)
	}
	return resp, err
}

// The seller is killed, by SIGKILL, between the moment that its till has the money
// and the moment that the key leaves: once before the chunk is booked as sold, once
// after. Restarted it gives the key, once, and has been paid once.
func TestKilledBetweenMoneyAndKey(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, moment := range []string{data.Settled, data.Booked} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			killedAt(t, moment)
		})
	}
}

func killedAt(t *testing.T, moment string) {
	dir, node := t.TempDir(), newChain(t)
	must(t, os.WriteFile(filepath.Join(dir, "readings"), fmt.Appendf(nil, "%s\n%s\n%s\n", reading(1), reading(2), reading(3)), 0o600))
	link, addr := railtest.FreeAddr(), railtest.FreeAddr()
	env := []string{childDir + "=" + dir, childChain + "=" + node.Addr(), childLink + "=" + link, childHTTP + "=" + addr}
	seller := startChild(t, append(env, childHalt+"="+moment)...)
	b := newBuyer(t, node, newDB(t), "oneway://"+secret("seller").Public().String()+"@"+link+"?capacity=50000sat")
	arrived := &arrivals{}
	client := data.Client{URL: "http://" + addr, HTTP: &http.Client{Transport: arrived}}
	terms := data.Terms{Seller: secret("seller").Public(), Most: price}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := client.Stream(ctx, "temperature", 3)
	must(t, err)
	r, err := data.NewReader(client, b, newDB(t), s, terms)
	must(t, err)

	type taken struct {
		data []byte
		err  error
	}
	first := make(chan taken, 1)
	go func() {
		got, err := r.Next(ctx) // it asks again and again
		first <- taken{got, err}
	}()
	seller.waitFor(t, "at "+moment)
	seller.kill()
	if n := arrived.n.Load(); n != 0 {
		t.Fatalf("%d keys have left", n)
	}
	order := offerOf(t, s).Order(1)
	o, _ := sellersBook(t, dir, order)
	if want := map[string]string{data.Settled: "paid", data.Booked: "settled"}[moment]; o.Paid != price || o.State != want {
		t.Fatalf("killed, the till has %+v; want %s", o, want)
	}

	seller = startChild(t, env...)
	if got := <-first; got.err != nil || string(got.data) != reading(1) {
		t.Fatalf("after the restart: %q, %v", got.data, got.err)
	}
	got, err := r.Next(ctx)
	if moment == data.Settled {
		// Nobody had claimed anything, so its chunks were nowhere but in memory.
		if !errors.Is(err, data.ErrGone) {
			t.Errorf("chunk 2: %q, %v", got, err)
		}
	} else {
		for i := 2; i <= 3; i++ {
			if err != nil || string(got) != reading(i) {
				t.Errorf("chunk %d: %q, %v", i, got, err)
			}
			got, err = r.Next(ctx)
		}
		if err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	}
	seller.kill()
	i, _ := r.Last()
	if int(arrived.n.Load()) != i || int(b.paid.Load()) != i {
		t.Errorf("%d keys for %d chunks and %d payments", arrived.n.Load(), i, b.paid.Load())
	}
	o, sum := sellersBook(t, dir, order)
	if o.State != "settled" || sum.Delivered != uint64(i) || sum.Orders != uint64(i) {
		t.Errorf("in the end the till has %+v, %+v; want %d orders, each delivered once", o, sum, i)
	}
}

// sellersBook reads the book of a seller that is dead.
func sellersBook(t *testing.T, dir string, id [16]byte) (earn.Order, earn.Summary) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "store"))
	must(t, err)
	defer db.Close()
	book, err := earn.Load(db, nil, nil)
	must(t, err)
	return book.Order(id), book.Summary()
}
