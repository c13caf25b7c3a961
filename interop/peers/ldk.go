package peers

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LdkOptions are what an LDK Node is started with.
type LdkOptions struct {
	Home  string // its folder; one that has been used goes on from there
	Alias string
	Chain *Bitcoind

	Electrum string                // "host:port" of a server that it asks instead of Chain
	Height   func() (int64, error) // of that server's chain
}

// An Ldk is a running LDK Node: the program in interop/ldk.
type Ldk struct {
	*Process
	LdkOptions
	Peer string // where it listens to peers
	Key  string // its node key, in hex

	path string
	in   io.WriteCloser

	mu      sync.Mutex
	next    int64
	waiting map[int64]chan ldkAnswer
}

type ldkAnswer struct {
	ID     int64
	Err    string
	Result json.RawMessage
}

// LdkArgs are what a call takes; each takes some.
type LdkArgs struct {
	Home, Alias, Listen string `json:",omitempty"`
	RPCHost             string `json:",omitempty"`
	RPCPort             uint16 `json:",omitempty"`
	RPCUser, RPCPass    string `json:",omitempty"`
	Electrum            string `json:",omitempty"`

	Node, Addr    string `json:",omitempty"` // of a peer
	Sat, PushMsat int64  `json:",omitempty"`
	Public        bool   `json:",omitempty"`
	Channel       string `json:",omitempty"`
	Force         bool   `json:",omitempty"`
	Msat          int64  `json:",omitempty"`
	Bill          string `json:",omitempty"`
	Hash          string `json:",omitempty"`
	Preimage      string `json:",omitempty"`
}

// An LdkChannel is a channel as LDK sees it.
type LdkChannel struct {
	ID, Peer, Funding      string // Funding is txid:vout; empty before there is one
	Sat, OutMsat, InMsat   int64  // what can be sent, and received, now
	Usable, Public, Opener bool
	PeerFeeMsat            *int64 // what the peer asks for forwarding, once it is known
}

// StartLdk builds and runs an LDK Node, and waits until it has the chain. The
// error is ErrNoCompiler where it cannot be built.
func StartLdk(ctx context.Context, o LdkOptions) (*Ldk, error) {
	path, err := ldk.build(ctx)
	if err != nil {
		return nil, err
	}
	n := &Ldk{LdkOptions: o, path: path}
	if n.Peer, err = FreeAddr(); err != nil {
		return nil, err
	}
	return n, n.Start(ctx)
}

// Start runs the node again after it was stopped or killed, with all that it
// has.
func (n *Ldk) Start(ctx context.Context) error {
	p := prepare(ctx, "ldk "+n.Alias, n.path, n.Home)
	p.cmd.Stdout = nil
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.run(); err != nil {
		return err
	}
	n.mu.Lock()
	waiting := map[int64]chan ldkAnswer{}
	n.Process, n.in, n.waiting = p, in, waiting
	n.mu.Unlock()
	go n.read(out, waiting)
	args := LdkArgs{Home: n.Home, Alias: n.Alias, Listen: n.Peer, Electrum: n.Electrum}
	if n.Chain != nil {
		host, port, err := net.SplitHostPort(n.Chain.Addr)
		if err != nil {
			return err
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return err
		}
		args.RPCHost, args.RPCPort, args.RPCUser, args.RPCPass = host, uint16(number), rpcUser, rpcPass
	}
	err = n.Ask(ctx, "start", args, &n.Key)
	if err == nil {
		err = n.Synced(ctx)
	}
	if err != nil {
		n.Kill()
		return fmt.Errorf("%w\n%s", err, n.Log())
	}
	return nil
}

// read hands one process's answers to those who wait for them.
func (n *Ldk) read(out io.Reader, waiting map[int64]chan ldkAnswer) {
	d := json.NewDecoder(bufio.NewReader(out))
	for {
		var a ldkAnswer
		err := d.Decode(&a)
		n.mu.Lock()
		if err != nil {
			for _, w := range waiting {
				w <- ldkAnswer{Err: "the process has ended"}
			}
			clear(waiting)
			n.mu.Unlock()
			return
		}
		w := waiting[a.ID]
		delete(waiting, a.ID)
		n.mu.Unlock()
		if w != nil {
			w <- a
		}
	}
}

// Ask has the node do something, and waits for the answer. Many may ask at once.
func (n *Ldk) Ask(ctx context.Context, do string, args LdkArgs, result any) error {
	name := "ldk " + n.Alias // not the process's: that may be another by the time of the answer
	w := make(chan ldkAnswer, 1)
	n.mu.Lock()
	n.next++
	line, err := json.Marshal(struct {
		ID   int64
		Do   string
		Args LdkArgs
	}{n.next, do, args})
	if err == nil {
		n.waiting[n.next] = w
		_, err = n.in.Write(append(line, '\n'))
	}
	n.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %s: %w", name, do, err)
	}
	select {
	case a := <-w:
		if a.Err != "" {
			return fmt.Errorf("%s: %s: %s", name, do, a.Err)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(a.Result, result)
	case <-ctx.Done():
		return fmt.Errorf("%s: %s: %w", name, do, ctx.Err())
	}
}

// Log is the end of what LDK has logged, and the process printed.
func (n *Ldk) Log() string {
	text, err := os.ReadFile(filepath.Join(n.Home, "ldk_node.log"))
	if err != nil {
		return n.Process.Log()
	}
	return string(text[max(0, len(text)-maxLog):]) + n.Process.Log()
}

// Stop ends the node in peace.
func (n *Ldk) Stop() {
	n.in.Close()
	select {
	case <-n.done:
	case <-time.After(patience):
		n.Kill()
	}
}

// rest is how long LDK writes nothing once it has written all.
const rest = 500 * time.Millisecond

// KillAtRest kills the node when it has written what it knows. LDK writes the
// states of its channels in two places, one after the other, and gives up the
// channels of which only one was written.
func (n *Ldk) KillAtRest(ctx context.Context) error {
	err := n.await(ctx, "it has written its state", func() error {
		f, err := os.Stat(filepath.Join(n.Home, "ldk_node_data.sqlite"))
		if err == nil && time.Since(f.ModTime()) < rest {
			err = errors.New("it writes")
		}
		return err
	})
	n.Kill()
	return err
}

// Synced waits until the node has the chain's best block, and knows what waits
// for a block.
func (n *Ldk) Synced(ctx context.Context) error {
	best := n.Height
	if n.Chain != nil {
		best = n.Chain.chain.Height
	}
	height, err := best()
	if err != nil {
		return err
	}
	return n.await(ctx, "it has the chain", func() error {
		var have int64
		if err := errors.Join(n.Ask(ctx, "sync", LdkArgs{}, nil), n.Ask(ctx, "height", LdkArgs{}, &have)); err != nil {
			return err
		}
		if have < height {
			return fmt.Errorf("it is at block %d of %d", have, height)
		}
		return nil
	})
}

// Wallet pays satoshi into the node's wallet, in so many coins.
func (n *Ldk) Wallet(ctx context.Context, sat int64, coins int) error {
	var to string
	if err := n.Ask(ctx, "address", LdkArgs{}, &to); err != nil {
		return err
	}
	if err := n.Chain.chain.Fund(to, sat, coins); err != nil {
		return err
	}
	return n.Synced(ctx)
}

// Balance is what the wallet has, and how many outputs of closed channels it
// waits for.
func (n *Ldk) Balance(ctx context.Context) (sat int64, closing int, err error) {
	var v struct {
		Sat     int64
		Closing int
	}
	err = n.Ask(ctx, "balance", LdkArgs{}, &v)
	return v.Sat, v.Closing, err
}

// Channels are all of the node's that are open or opening.
func (n *Ldk) Channels(ctx context.Context) (all []LdkChannel, err error) {
	err = n.Ask(ctx, "channels", LdkArgs{}, &all)
	return all, err
}

// Channel is one of them, by its funding output.
func (n *Ldk) Channel(ctx context.Context, point string) (LdkChannel, error) {
	all, err := n.Channels(ctx)
	i := slices.IndexFunc(all, func(c LdkChannel) bool { return c.Funding == point })
	if err == nil && i < 0 {
		err = fmt.Errorf("%s has no channel %s among its %d", n.Name, point, len(all))
	}
	if err != nil {
		return LdkChannel{}, err
	}
	return all[i], nil
}

// Bill makes an invoice, which waits for the node's word if it has a hash.
func (n *Ldk) Bill(ctx context.Context, msat int64, hash []byte) (bill string, err error) {
	err = n.Ask(ctx, "bill", LdkArgs{Msat: msat, Hash: hex.EncodeToString(hash)}, &bill)
	return bill, err
}

// Pay pays an invoice, and returns the preimage and the fee in msat.
func (n *Ldk) Pay(ctx context.Context, bill string) (preimage []byte, fee int64, err error) {
	var v struct {
		Preimage string
		FeeMsat  int64
	}
	if err := n.Ask(ctx, "pay", LdkArgs{Bill: strings.TrimPrefix(bill, "lightning:")}, &v); err != nil {
		return nil, 0, err
	}
	preimage, err = hex.DecodeString(v.Preimage)
	return preimage, v.FeeMsat, err
}

// Keysend pays a node without an invoice.
func (n *Ldk) Keysend(ctx context.Context, key string, msat int64) error {
	return n.Ask(ctx, "keysend", LdkArgs{Node: key, Msat: msat}, nil)
}
