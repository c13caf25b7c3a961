//go:build !omit_ledger

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev"
	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	tanglenet "coinop.dev/engine/tangle"
	"coinop.dev/rail/iotarail"
)

// A tangleNode is a node of a Tangle with its door.
type tangleNode struct {
	*tanglenet.Node
	machine *engine.Machine
	rest    *tangleDoor
}

// tangleSecret is the key by which a node signs milestones, unless it has another.
func tangleSecret(machine keys.Secret) eddsa.Secret {
	return eddsa.NewSecret(eddsa.SHA512, [32]byte(machine.Derive("tangle/coordinator").Reveal()))
}

func checkTangle(c Config) error {
	t := c.Ledger.Tangle
	switch {
	case c.Listen == "" && len(t.Peers) == 0:
		return errors.New("ledger.tangle: nodes are linked as machines are; set the machine's listen, or name peers")
	case t.Primary && !t.Coordinator && t.Key == "":
		return errors.New("ledger.tangle: only a coordinator proposes milestones; set coordinator = true")
	}
	_, err := interval(t)
	return err
}

// openTangle starts the node of a config.
func openTangle(ctx context.Context, m *engine.Machine, c coinop.Tangle) (*tangleNode, error) {
	network, err := iotarail.ReadNetwork(c.Network)
	if err != nil {
		return nil, err
	}
	o := tanglenet.Options{Config: node.Config{Network: network, Keep: uint32(c.Keep)}, Peers: c.Peers}
	if o.Config.Coordinator.Interval, err = interval(c); err != nil {
		return nil, err
	}
	o.Config.Coordinator.Primary = c.Primary
	switch {
	case c.Key != "":
		o.Config.Coordinator.Secret, err = homeSecret(c.Key, eddsa.SHA512)
	case c.Coordinator:
		o.Config.Coordinator.Secret = tangleSecret(m.Key)
	}
	if err != nil {
		return nil, fmt.Errorf("coordinator: %w", err)
	}
	return openTangleOf(ctx, m, o, c.HTTP)
}

// openTangleOf starts a node and its door.
func openTangleOf(ctx context.Context, m *engine.Machine, o tanglenet.Options, at string) (n *tangleNode, err error) {
	o.Config.Seed = [32]byte(m.Key.Derive("tangle/tips").Reveal())
	n = &tangleNode{machine: m}
	if n.Node, err = tanglenet.Open(ctx, m, o); err != nil {
		return nil, err
	}
	if at != "" {
		if n.rest, err = openTangleDoor(n.Node, at, m.Log); err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}

// Close stops the door and the node.
func (n *tangleNode) Close() error { return errors.Join(n.rest.close(), n.Node.Close()) }

// at says where the node is found.
func (n *tangleNode) at() map[string]any {
	at := map[string]any{"network": n.Network().Name, "node": n.machine.Key.Public()}
	if n.rest != nil {
		at["http"] = "http://" + n.rest.addr
	}
	if c := n.Config.Coordinator; !c.Secret.IsZero() {
		at["coordinator"], at["primary"] = fmt.Sprintf("%x", c.Secret.Public()), c.Primary
	}
	return at
}

// interval is how long between milestones; 0 for the node's own.
func interval(c coinop.Tangle) (step.Time, error) {
	if c.Interval == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(c.Interval)
	if err != nil || d < 50*time.Millisecond || d > time.Hour {
		return 0, fmt.Errorf("ledger.tangle: interval = %q is not a time from 50ms to 1h, such as 2s", c.Interval)
	}
	return step.Time(d.Milliseconds()), nil
}

func tangleCommand(u *ui) *cobra.Command {
	var n nodeConfig
	var t coinop.Tangle
	listen := ""
	c := &cobra.Command{
		Use: "tangle", Short: "Run a node of a Tangle, until Ctrl-C", Args: noArgs,
		Long: "Runs a node of a Tangle in Stardust's formats. Nodes are linked as machines are, by their keys. A machine of coinop\n" +
			"serve runs the same node if its config has [ledger.tangle].",
		Example: "  coinop ledger tangle -c node1.toml\n" +
			"  coinop ledger tangle --network network.json --data node5 --listen 0.0.0.0:9797 --peers 02c6…@10.0.0.2:9797",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := n.read(cmd, func(c *Config, changed func(string) bool) {
				to := &c.Ledger.Tangle
				for flag, set := range map[string]func(){
					"network": func() { to.Network = t.Network }, "listen": func() { c.Listen = listen }, "peers": func() { to.Peers = t.Peers },
					"http": func() { to.HTTP = t.HTTP }, "coordinator": func() { to.Coordinator = t.Coordinator }, "key": func() { to.Key = t.Key },
					"primary": func() { to.Primary = t.Primary }, "interval": func() { to.Interval = t.Interval }, "keep": func() { to.Keep = t.Keep },
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
	f.StringVar(&t.Network, "network", "", "the network's file")
	f.StringVar(&listen, "listen", "", "address where other machines connect")
	f.StringSliceVar(&t.Peers, "peers", nil, "<machine key>@<host>:<port> of nodes that are dialled")
	f.StringVar(&t.HTTP, "http", "", "address of Stardust's REST")
	f.BoolVar(&t.Coordinator, "coordinator", false, "sign milestones, with a key that follows from the machine's")
	f.StringVar(&t.Key, "key", "", "home of the coordinator's key: file:/path?plain=1, env:NAME, tpm:…")
	f.BoolVar(&t.Primary, "primary", false, "propose the milestones")
	f.StringVar(&t.Interval, "interval", "", "between milestones, such as 2s (default 5s)")
	f.Uint64Var(&t.Keep, "keep", 0, "milestones whose blocks stay; 0 for all")
	return c
}

const (
	// tangleZeros is the work of a block in our own networks: some 27 tries.
	tangleZeros = 3
	tangleHRP   = "coin"
)

// newTangle makes a network whose supply is one address's.
func newTangle(name string, genesis tangle.Signer, coordinators []eddsa.Secret, threshold int) (*tangle.Network, error) {
	var public [][32]byte
	for _, c := range coordinators {
		public = append(public, c.Public())
	}
	n, err := tangle.NewNetwork(name, tangleHRP, threshold, public, []tangle.BasicOutput{{Amount: uint64(ledgerSupply), Address: tangle.NewAddress(genesis.Public())}})
	if err == nil {
		n.MinZeros = tangleZeros
	}
	return n, err
}
