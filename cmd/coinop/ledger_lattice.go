//go:build !omit_ledger

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"coinop.dev"
	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	latticewallet "coinop.dev/core/ledger/lattice/wallet"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	nanonet "coinop.dev/engine/lattice"
	"coinop.dev/engine/lattice/rpc"
	"coinop.dev/rail/nanorail"
	"coinop.dev/world/secret"
	"coinop.dev/world/store/mem"
)

// A latticeNode is a node of a block lattice with its doors.
type latticeNode struct {
	*nanonet.Node
	server *rpc.Server
	rpc    *front
	socket *front
}

// latticeSecret is a key of a node's that follows from its machine's.
func latticeSecret(machine keys.Secret, purpose string) eddsa.Secret {
	return lattice.NewSecret([32]byte(machine.Derive("lattice/" + purpose).Reveal()))
}

// homeSecret is the private key that a home (world/secret) has.
func homeSecret(uri string, hash eddsa.Hash) (s eddsa.Secret, err error) {
	home, err := secret.Default.Open(uri)
	if err != nil {
		return s, err
	}
	defer home.Close()
	seed, err := home.Load()
	if err != nil {
		return s, err
	}
	defer seed.Wipe()
	raw := seed.Reveal()
	defer clear(raw)
	if len(raw) != eddsa.KeySize {
		return s, fmt.Errorf("%s has a secret of %d bytes; an Ed25519 key has %d", uri, len(raw), eddsa.KeySize)
	}
	return eddsa.NewSecret(hash, [32]byte(raw)), nil
}

func checkLattice(c Config) error {
	if l := c.Ledger.Lattice; l.Control && l.RPC != "" && !onLoopback(l.RPC) {
		return fmt.Errorf("ledger.lattice: whoever reaches %s could change the node; set control = false, or an rpc on loopback", l.RPC)
	}
	return nil
}

// openLattice starts the node of a config.
func openLattice(ctx context.Context, m *engine.Machine, c coinop.Lattice) (*latticeNode, error) {
	network, err := nanorail.ReadNetwork(c.Network)
	if err != nil {
		return nil, err
	}
	o := nanonet.Options{Config: node.Config{Network: network, Keep: c.Keep}, Listen: c.Listen, Peers: c.Peers, Closed: c.Closed}
	if c.Vote {
		o.Config.Reps = append(o.Config.Reps, latticeSecret(m.Key, "rep"))
	}
	for _, uri := range c.Reps {
		rep, err := homeSecret(uri, eddsa.BLAKE2b512)
		if err != nil {
			return nil, fmt.Errorf("representative: %w", err)
		}
		o.Config.Reps = append(o.Config.Reps, rep)
	}
	return openLatticeOf(ctx, m, o, rpc.Options{Control: c.Control, Work: true}, c.RPC, c.Socket)
}

// openLatticeOf starts a node and its doors.
func openLatticeOf(ctx context.Context, m *engine.Machine, o nanonet.Options, door rpc.Options, at, socket string) (n *latticeNode, err error) {
	o.Config.ID = latticeSecret(m.Key, "node")
	n = &latticeNode{}
	if n.Node, err = nanonet.Open(ctx, m, o); err != nil {
		return nil, err
	}
	door.Node = n.Node
	if n.server, err = rpc.New(door); err == nil && at != "" {
		n.rpc, err = openFront("the lattice node's RPC", at, n.server, m.Log)
	}
	if err == nil && socket != "" {
		n.socket, err = openFront("the lattice node's WebSocket", socket, n.server.Socket(), m.Log)
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// Close stops the doors and the node.
func (n *latticeNode) Close() error {
	errs := []error{n.rpc.close(), n.socket.close()}
	if n.server != nil {
		errs = append(errs, n.server.Close())
	}
	return errors.Join(append(errs, n.Node.Close())...)
}

// at says where the node is found.
func (n *latticeNode) at() map[string]any {
	network := n.Network()
	at := map[string]any{"network": network.Name, "node": n.ID().Node()}
	if a := n.Addr(); a != nil {
		at["listen"] = a.String()
	}
	if n.rpc != nil {
		at["rpc"] = "http://" + n.rpc.addr
	}
	if n.socket != nil {
		at["socket"] = "ws://" + n.socket.addr
	}
	var reps []lattice.Key
	for _, r := range n.Config.Reps {
		reps = append(reps, r.Public())
	}
	if len(reps) > 0 {
		at["representatives"] = reps
	}
	return at
}

func latticeCommand(u *ui) *cobra.Command {
	var n nodeConfig
	var l coinop.Lattice
	c := &cobra.Command{
		Use: "lattice", Short: "Run a node of a block lattice, until Ctrl-C", Args: noArgs,
		Long: "Runs a node in Nano's protocol 21, with Nano's RPC and WebSocket for wallets and machines. A machine of coinop serve\n" +
			"runs the same node if its config has [ledger.lattice].",
		Example: "  coinop ledger lattice -c node1.toml\n" +
			"  coinop ledger lattice --network network.json --data node5 --listen 0.0.0.0:7075 --peers 10.0.0.2:7075 --rpc 127.0.0.1:7076",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := n.read(cmd, func(c *Config, changed func(string) bool) {
				to := &c.Ledger.Lattice
				for flag, set := range map[string]func(){
					"network": func() { to.Network = l.Network }, "listen": func() { to.Listen = l.Listen }, "peers": func() { to.Peers = l.Peers },
					"closed": func() { to.Closed = l.Closed }, "rpc": func() { to.RPC = l.RPC }, "socket": func() { to.Socket = l.Socket },
					"control": func() { to.Control = l.Control }, "vote": func() { to.Vote = l.Vote }, "rep": func() { to.Reps = l.Reps }, "keep": func() { to.Keep = l.Keep },
				} {
					if changed(flag) {
						set()
					}
				}
			})
			if err != nil {
				return err
			}
			return serveNode(cmd.Context(), u, config)
		},
	}
	n.flags(c)
	f := c.Flags()
	f.StringVar(&l.Network, "network", "", "the network's file")
	f.StringVar(&l.Listen, "listen", "", "address where other nodes connect")
	f.StringSliceVar(&l.Peers, "peers", nil, "host:port of nodes that are dialled")
	f.BoolVar(&l.Closed, "closed", false, "dial only --peers, and not the nodes that they tell of")
	f.StringVar(&l.RPC, "rpc", "", "address of Nano's RPC")
	f.StringVar(&l.Socket, "socket", "", "address of Nano's WebSocket")
	f.BoolVar(&l.Control, "control", false, "let the RPC change the node (on loopback only)")
	f.BoolVar(&l.Vote, "vote", false, "vote, with a representative whose key follows from the machine's")
	f.StringSliceVar(&l.Reps, "rep", nil, "home of the private key of a representative: file:/path?plain=1, env:NAME, tpm:…")
	f.Uint64Var(&l.Keep, "keep", 0, "blocks of an account that stay; 0 for all")
	return c
}

// Work of our own networks: a thousand tries for a send, a sixteenth of that to
// receive it.
const (
	latticeWorkSend    = 0xffc0_0000_0000_0000
	latticeWorkReceive = 0xfc00_0000_0000_0000
)

// faucetPercent of the supply stay with the genesis account, to be given away. The
// rest is the representatives', in equal parts, for what they have is their votes.
const faucetPercent = 4

// newLattice makes a network whose representatives have the votes, and its first
// blocks, final: what every node's store begins with.
func newLattice(ctx context.Context, name string, genesis eddsa.Secret, reps []eddsa.Secret) (n lattice.Network, first []step.Record, err error) {
	n = lattice.NewNetwork(name, genesis, latticewallet.Raw(ledgerSupply), latticeWorkSend, latticeWorkReceive)
	share, _ := n.Supply().Percent(100 - faucetPercent).Div(uint64(len(reps)))
	for _, r := range reps {
		n.Reps = append(n.Reps, lattice.Weight{Rep: r.Public(), Weight: share})
	}
	slices.SortFunc(n.Reps, func(a, b lattice.Weight) int { return slices.Compare(a.Rep[:], b.Rep[:]) })
	if err := n.Check(); err != nil {
		return n, nil, err
	}
	db, err := mem.New(nil)
	if err != nil {
		return n, nil, err
	}
	// A node that has all votes, and talks to nobody.
	machine, err := keys.SecretFromBytes(slices.Repeat([]byte{1}, keys.SecretSize))
	if err != nil {
		return n, nil, err
	}
	m := engine.New(ctx, engine.Options{Key: machine, DB: db})
	defer m.Close()
	at, err := nanonet.Open(ctx, m, nanonet.Options{Config: node.Config{
		Network: n, ID: latticeSecret(machine, "node"), Reps: append(slices.Clone(reps), genesis),
	}})
	if err != nil {
		return n, nil, err
	}
	defer at.Close()
	f := faucet{at: at, network: n, secret: genesis, last: n.Genesis, head: n.Genesis.Hash()}
	for _, r := range reps {
		sent, err := f.send(ctx, r.Public(), share)
		if err != nil {
			return n, nil, err
		}
		open := lattice.Block{Account: r.Public(), Representative: r.Public(), Balance: share, Link: sent}
		if err := f.put(ctx, &open, r); err != nil {
			return n, nil, err
		}
	}
	err = db.Scan(node.Core+"/", func(key string, value []byte) bool {
		first = append(first, step.Record{Key: key, Value: slices.Clone(value)})
		return true
	})
	return n, first, err
}

// A faucet gives an account's money away, at a node of this process.
type faucet struct {
	at      *nanonet.Node
	network lattice.Network
	secret  eddsa.Secret
	last    lattice.Block
	head    lattice.Hash
}

// send pays a key, and waits until that is final.
func (f *faucet) send(ctx context.Context, to lattice.Key, amount lattice.Raw) (lattice.Hash, error) {
	b := f.last
	b.Previous, b.Link = f.head, to
	var ok bool
	if b.Balance, ok = b.Balance.Sub(amount); !ok {
		return lattice.Hash{}, fmt.Errorf("the faucet has %s raw left", f.last.Balance)
	}
	if err := f.put(ctx, &b, f.secret); err != nil {
		return lattice.Hash{}, err
	}
	f.last, f.head = b, b.Hash()
	return f.head, nil
}

// put finishes a block and waits until it is final.
func (f *faucet) put(ctx context.Context, b *lattice.Block, s eddsa.Secret) error {
	b.Work = lattice.Work(b.Root(), f.network.WorkSend, 0)
	b.Sign(s)
	heard, err := f.at.Subscribe(64, node.Watch{})
	if err != nil {
		return err
	}
	defer heard.Close()
	if _, err := f.at.Process(ctx, *b, false); err != nil {
		return err
	}
	hash := b.Hash()
	for {
		final := false
		if err := f.at.Look(ctx, func(n *node.Node) { stored, ok := n.Block(hash); final = ok && stored.Confirmed }); err != nil || final {
			return err
		}
		select {
		case <-heard.C:
		case <-ctx.Done():
			return fmt.Errorf("block %s is not final: %w", hash, ctx.Err())
		}
	}
}
