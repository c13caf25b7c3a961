package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/interop/peers"
	"coinop.dev/rail"
	"coinop.dev/rail/lnrail"
	"coinop.dev/world/chain"
	_ "coinop.dev/world/chain/all"
	"coinop.dev/world/store/pebble"
)

// coinopNetwork is two or three coinop nodes on a btcd, each a process: this
// program again, told what to do on its standard input.
type coinopNetwork struct {
	chain *peers.Btcd
	nodes []*child
	bills []string
	due   money.Amount // of each bill
}

func startCoinop(ctx context.Context, s Setup) (_ Network, err error) {
	n := &coinopNetwork{}
	defer func() {
		if err != nil {
			n.Stop()
		}
	}()
	dir := filepath.Join(s.Home, "btcd")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if n.chain, err = peers.StartBtcd(ctx, peers.BtcdOptions{Home: dir}); err != nil {
		return nil, err
	}
	if err := n.chain.Mine(1); err != nil {
		return nil, err
	}
	for i := range s.Hops + 1 {
		c, err := startChild(string(rune('A' + i)))
		if err != nil {
			return nil, err
		}
		n.nodes = append(n.nodes, c)
		if c.is, err = c.ask(ctx, request{Do: "start", Home: filepath.Join(s.Home, c.name), Chain: "p2p://" + n.chain.Peer}); err != nil {
			return nil, err
		}
		if err := n.chain.Fund(c.is.Address, 2*s.CapacitySat, 2); err != nil {
			return nil, err
		}
	}
	for i, c := range n.nodes[:s.Hops] {
		if err := n.open(ctx, c, n.nodes[i+1], s.CapacitySat); err != nil {
			return nil, err
		}
	}
	if err := n.chain.Mine(6); err != nil { // what is announced needs six (BOLT 7)
		return nil, err
	}
	_, err = n.nodes[0].ask(ctx, request{Do: "knows", N: s.Hops - 1})
	return n, err
}

// open opens a channel, mining until it can be used and is announced.
func (n *coinopNetwork) open(ctx context.Context, from, to *child, sat int64) error {
	opened := make(chan error, 1)
	go func() {
		_, err := from.ask(ctx, request{Do: "open", To: to.is.URI, N: int(sat)})
		opened <- err
	}()
	for {
		select {
		case err := <-opened:
			return err
		case <-time.After(100 * time.Millisecond):
			if err := n.chain.Mine(1); err != nil {
				return err
			}
		}
	}
}

func (n *coinopNetwork) Version() string { return "coinop" }

func (n *coinopNetwork) Prepare(ctx context.Context, count int, amount money.Amount) error {
	a, err := n.nodes[len(n.nodes)-1].ask(ctx, request{Do: "bill", N: count, Amount: amount})
	n.bills, n.due = a.Bills, amount
	return err
}

func (n *coinopNetwork) Pay(ctx context.Context, i int) error {
	_, err := n.nodes[0].ask(ctx, request{Do: "pay", To: n.bills[i], Amount: n.due})
	return err
}

func (n *coinopNetwork) Count(ctx context.Context) (int, error) {
	a, err := n.nodes[len(n.nodes)-1].ask(ctx, request{Do: "count"})
	return a.Count, err
}

func (n *coinopNetwork) Pids() (all []Node) {
	for _, c := range n.nodes {
		all = append(all, Node{c.name, c.cmd.Process.Pid})
	}
	return all
}

func (n *coinopNetwork) Stop() {
	for _, c := range n.nodes {
		c.stop()
	}
	if n.chain != nil {
		n.chain.Stop()
	}
}

// A request to a child, and its answer. Many may be under way at once.
type (
	request struct {
		ID     int64
		Do     string
		Home   string       `json:",omitempty"`
		Chain  string       `json:",omitempty"`
		To     string       `json:",omitempty"`
		N      int          `json:",omitempty"`
		Amount money.Amount `json:",omitempty"`
	}
	answer struct {
		ID      int64
		Err     string   `json:",omitempty"`
		URI     string   `json:",omitempty"`
		Address string   `json:",omitempty"`
		Bills   []string `json:",omitempty"`
		Count   int      `json:",omitempty"`
	}
)

// A child is one node's process, as its parent sees it.
type child struct {
	name string
	is   answer
	cmd  *exec.Cmd
	in   io.WriteCloser

	mu      sync.Mutex
	next    int64
	waiting map[int64]chan answer
}

// childFlag makes this program a node.
const childFlag = "--child"

func startChild(name string) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{name: name, cmd: exec.Command(exe, childFlag), waiting: map[int64]chan answer{}}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go c.read(out)
	return c, nil
}

func (c *child) read(out io.Reader) {
	d := json.NewDecoder(bufio.NewReaderSize(out, 1<<16))
	for {
		var a answer
		err := d.Decode(&a)
		c.mu.Lock()
		if err != nil {
			for _, w := range c.waiting {
				w <- answer{Err: "the node's process has ended"}
			}
			clear(c.waiting)
			c.mu.Unlock()
			return
		}
		w := c.waiting[a.ID]
		delete(c.waiting, a.ID)
		c.mu.Unlock()
		w <- a
	}
}

func (c *child) ask(ctx context.Context, r request) (answer, error) {
	w := make(chan answer, 1)
	c.mu.Lock()
	c.next++
	r.ID = c.next
	c.waiting[r.ID] = w
	line, err := json.Marshal(r)
	if err == nil {
		_, err = c.in.Write(append(line, '\n'))
	}
	c.mu.Unlock()
	if err != nil {
		return answer{}, err
	}
	select {
	case a := <-w:
		if a.Err != "" {
			return a, errors.New(a.Err)
		}
		return a, nil
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

func (c *child) stop() {
	c.in.Close()
	ended := time.AfterFunc(10*time.Second, func() { c.cmd.Process.Kill() })
	defer ended.Stop()
	c.cmd.Wait()
}

// serve is the node's side of it. It ends with its input.
func serve(in io.Reader, out io.Writer) error {
	s := &server{out: json.NewEncoder(out)}
	var running sync.WaitGroup
	defer s.close()
	defer running.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for d := json.NewDecoder(bufio.NewReaderSize(in, 1<<16)); ; {
		var r request
		if err := d.Decode(&r); err == io.EOF {
			cancel()
			return nil
		} else if err != nil {
			return err
		}
		running.Go(func() {
			a, err := s.do(ctx, r)
			if err != nil {
				a.Err = err.Error()
			}
			a.ID = r.ID
			s.mu.Lock()
			defer s.mu.Unlock()
			s.out.Encode(a)
		})
	}
}

type server struct {
	mu   sync.Mutex // of out
	out  *json.Encoder
	db   *pebble.DB
	src  chain.Source
	m    *engine.Machine
	paid atomic.Int64 // since the last bills
}

func (s *server) close() {
	if s.m != nil {
		s.m.Close()
		s.src.Close()
		s.db.Close()
	}
}

func (s *server) do(ctx context.Context, r request) (a answer, err error) {
	switch r.Do {
	case "start":
		return s.start(ctx, r)
	case "open":
		_, err = s.open(ctx, fmt.Sprintf("%s?capacity=%dsat&public=1", r.To, r.N))
	case "knows":
		for err == nil {
			var n node.Summary
			if n, err = lnrail.Summary(ctx, s.m); err == nil && n.Graph >= r.N {
				return a, nil
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "bill":
		s.paid.Store(0)
		for range r.N {
			var id money.OrderID
			rand.Read(id[:])
			v, err := s.m.Host.Ask(ctx, node.Name, node.BillID+id.Key(), node.Bill{Bill: money.Bill{ID: id, Amount: r.Amount, For: "versus"}})
			if err != nil {
				return a, err
			}
			a.Bills = append(a.Bills, "lightning:"+v.(string))
		}
	case "pay":
		var o money.Order
		rand.Read(o.ID[:])
		o.To, o.Amount = r.To, r.Amount
		// As a purse would: the node has checked the preimage it answers with.
		_, err = s.m.Host.Ask(ctx, node.Name, o.ID.Key(), o)
	case "count":
		a.Count = int(s.paid.Load())
	default:
		err = fmt.Errorf("nothing is called %q", r.Do)
	}
	return a, err
}

func (s *server) start(ctx context.Context, r request) (a answer, err error) {
	key, err := keys.NewSecret(rand.Reader)
	if err != nil {
		return a, err
	}
	if err := os.MkdirAll(r.Home, 0o700); err != nil {
		return a, err
	}
	if s.db, err = pebble.Open(filepath.Join(r.Home, "store")); err != nil {
		return a, err
	}
	if s.src, err = chain.Default.Open(ctx, r.Chain); err != nil {
		return a, err
	}
	for { // the chain is being fetched
		if _, _, err := s.src.Tip(ctx); !errors.Is(err, chain.ErrSyncing) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.m = engine.New(ctx, engine.Options{Key: key, DB: s.db, Chain: s.src})
	s.m.Host.Hear(func(o step.Outcome) {
		if _, ok := o.Value.(node.Earned); ok {
			s.paid.Add(1)
		}
	})
	addr, err := s.m.Listen("127.0.0.1:0")
	if err != nil {
		return a, err
	}
	if _, err = s.open(ctx, "lightning:?host="+addr.String()); err != nil {
		return a, err
	}
	a.URI = rail.PayToAt(lnrail.Scheme, s.m, addr.String())
	to, err := address.NewAddressWitnessPubKeyHash(tx.P2WPKH(tx.WalletKey(key).Public())[2:], &chaincfg.RegressionNetParams)
	if err == nil {
		a.Address = to.EncodeAddress()
	}
	return a, err
}

// open opens a rail; its money may be in a block that is on its way.
func (s *server) open(ctx context.Context, uri string) (*rail.Rail, error) {
	var g rail.Registry
	g.Register(lnrail.Scheme, lnrail.Driver{})
	for {
		r, err := g.Open(ctx, uri, rail.Env{Machine: s.m})
		if !errors.Is(err, tx.ErrFunds) {
			return r, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
