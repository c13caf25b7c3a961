//go:build !omit_ledger

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"coinop.dev"
	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/rail/iotarail"
	"coinop.dev/rail/nanorail"
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/file"
	"coinop.dev/world/store"
)

// Files of a network's folder.
const (
	networkFile = "network.json"
	faucetFile  = "faucet.key"
	// maxNewNodes bounds a network that is made on one computer.
	maxNewNodes = 32
	// newPorts is how many ports a node of it has.
	newPorts = 10
	// ledgerSupply is all the money of a network of ours: as much as of bitcoin.
	ledgerSupply = 21_000_000 * 100_000_000 * money.Sat
)

// newNetwork is what coinop ledger new was asked for.
type newNetwork struct {
	dir, name, host string
	nodes, port     int
}

func ledgerNewCommand(u *ui) *cobra.Command {
	var o newNetwork
	kinds := []string{"lattice", "tangle"}
	c := &cobra.Command{
		Use: "new <lattice|tangle>", Short: "Make a network of your own: its file, its keys, a config for each node",
		Long: "Writes network.json, which all of the network's machines get; faucet.key, by which the money is given away that is\n" +
			"nobody's yet; and for each node a config and a folder with its key. Each node of a lattice is a representative with the\n" +
			"same weight; each node of a Tangle signs milestones, the first proposes them, and more than half must sign.",
		Example:   "  coinop ledger new lattice --nodes 4 --dir site\n  coinop ledger lattice -c site/node1.toml",
		ValidArgs: kinds,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] != kinds[0] && args[0] != kinds[1] {
				return usage{errors.New("say what kind of ledger: coinop ledger new lattice, or tangle")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.nodes < 1 || o.nodes > maxNewNodes {
				return usage{fmt.Errorf("nodes is %d; it must be 1 to %d", o.nodes, maxNewNodes)}
			}
			if o.port < 1 || o.port+newPorts*o.nodes > 65535 {
				return usage{fmt.Errorf("port is %d; from there on %d nodes need %d ports each", o.port, o.nodes, newPorts)}
			}
			return u.makeNetwork(cmd.Context(), args[0], o)
		},
	}
	c.Flags().StringVar(&o.dir, "dir", ".", "folder for all of it; it must not have a network yet")
	c.Flags().StringVar(&o.name, "name", "", "what the network is called (default the folder's name)")
	c.Flags().IntVar(&o.nodes, "nodes", 4, "how many nodes")
	c.Flags().StringVar(&o.host, "host", "127.0.0.1", "where the nodes find each other")
	c.Flags().IntVar(&o.port, "port", 7075, "of the first node; each has ten")
	return c
}

// A newNode is one that is being made.
type newNode struct {
	name   string
	key    keys.Secret
	config Config
}

func (u *ui) makeNetwork(ctx context.Context, kind string, o newNetwork) (err error) {
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if o.name == "" {
		o.name = filepath.Base(o.dir)
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(o.dir, networkFile)
	if _, err := os.Stat(path); err == nil {
		return exit{fmt.Errorf("%s is there already; choose another --dir, or move that network away", path), exitRefused}
	}
	var seed [32]byte
	rand.Read(seed[:])
	kept, err := secret.NewSeed(seed[:])
	if err != nil {
		return err
	}
	if err := (&file.Home{Path: filepath.Join(o.dir, faucetFile), Plain: true}).Store(kept); err != nil {
		return err
	}
	var nodes []newNode
	for i := range o.nodes {
		n := newNode{name: fmt.Sprintf("node%d", i+1)}
		n.config.Config = coinop.Config{Data: filepath.Join(o.dir, n.name)}
		if n.key, err = n.config.LoadKey(); err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	write := writeLattice
	if kind == "tangle" {
		write = writeTangle
	}
	if err := write(ctx, o, seed, nodes); err != nil {
		return err
	}
	var configs []string
	for _, n := range nodes {
		configs = append(configs, filepath.Join(o.dir, n.name+".toml"))
	}
	return u.show(map[string]any{"ledger": kind, "name": o.name, "network": path, "faucet": filepath.Join(o.dir, faucetFile), "configs": configs}, func(w io.Writer) {
		fmt.Fprintf(w, "network %s is in %s; start each node, on whatever machine:\n", o.name, path)
		for _, c := range configs {
			fmt.Fprintf(w, "  coinop ledger %s -c %s\n", kind, c)
		}
	})
}

// at is a place of node i.
func (o *newNetwork) at(i, door int) string {
	return net.JoinHostPort(o.host, strconv.Itoa(o.port+newPorts*i+door))
}

// local is a door of node i that only its computer reaches.
func (o *newNetwork) local(i, door int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port+newPorts*i+door))
}

// Doors of a node, from its first port on; a lattice's as in Nano's own.
const (
	doorPeers  = 0
	doorRPC    = 1
	doorSocket = 3
)

func writeLattice(ctx context.Context, o newNetwork, seed [32]byte, nodes []newNode) error {
	var reps []eddsa.Secret
	for _, n := range nodes {
		reps = append(reps, latticeSecret(n.key, "rep"))
	}
	network, first, err := newLattice(ctx, o.name, lattice.NewSecret(seed), reps)
	if err != nil {
		return err
	}
	raw, err := nanorail.FormatNetwork(network)
	if err != nil {
		return err
	}
	for i, n := range nodes {
		if err := begin(&n.config, first); err != nil {
			return err
		}
		var toml bytes.Buffer
		fmt.Fprintf(&toml, "version = 1\nname = %q\ndata = %q\n\n[ledger.lattice]\nnetwork = %q\nlisten = %q\nrpc = %q\nsocket = %q\nvote = true\n",
			n.name, n.name, networkFile, o.at(i, doorPeers), o.local(i, doorRPC), o.local(i, doorSocket))
		writePeers(&toml, len(nodes), i, func(k int) string { return o.at(k, doorPeers) })
		if err := os.WriteFile(filepath.Join(o.dir, n.name+".toml"), toml.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(o.dir, networkFile), raw, 0o644)
}

func writeTangle(_ context.Context, o newNetwork, seed [32]byte, nodes []newNode) error {
	var coordinators []eddsa.Secret
	for _, n := range nodes {
		coordinators = append(coordinators, tangleSecret(n.key))
	}
	network, err := newTangle(o.name, eddsa.NewSecret(eddsa.SHA512, seed), coordinators, len(nodes)/2+1)
	if err != nil {
		return err
	}
	raw, err := iotarail.FormatNetwork(network)
	if err != nil {
		return err
	}
	for i, n := range nodes {
		var toml bytes.Buffer
		fmt.Fprintf(&toml, "version = 1\nname = %q\ndata = %q\nlisten = %q\n\n[ledger.tangle]\nnetwork = %q\nhttp = %q\ncoordinator = true\nprimary = %t\n",
			n.name, n.name, o.at(i, doorPeers), networkFile, o.local(i, doorRPC), i == 0)
		writePeers(&toml, len(nodes), i, func(k int) string { return fmt.Sprintf("%v@%s", nodes[k].key.Public(), o.at(k, doorPeers)) })
		if err := os.WriteFile(filepath.Join(o.dir, n.name+".toml"), toml.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(o.dir, networkFile), raw, 0o644)
}

// writePeers lists the other nodes.
func writePeers(w io.Writer, nodes, self int, at func(k int) string) {
	fmt.Fprint(w, "peers = [")
	sep := ""
	for k := range nodes {
		if k != self {
			fmt.Fprintf(w, "%s%q", sep, at(k))
			sep = ", "
		}
	}
	fmt.Fprintln(w, "]")
}

// begin writes what a node's store begins with.
func begin(c *Config, first []step.Record) error {
	db, err := store.Default.Open(c.StoreURI())
	if err != nil {
		return err
	}
	return errors.Join(db.Commit(first), db.Close())
}
