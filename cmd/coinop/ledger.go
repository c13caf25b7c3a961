//go:build !omit_ledger

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev"
	"coinop.dev/engine"
)

// ledgers are the nodes of ledgers that a machine runs.
type ledgers struct {
	lattice *latticeNode
	tangle  *tangleNode
}

// options have a machine run the nodes of its config.
func (l *ledgers) options(c Config) (opts []coinop.Option, err error) {
	if c.Ledger.Lattice.Network != "" {
		if err := checkLattice(c); err != nil {
			return nil, usage{err}
		}
		opts = append(opts, coinop.Beside(func(ctx context.Context, m *engine.Machine) (func() error, error) {
			n, err := openLattice(ctx, m, c.Ledger.Lattice)
			if err != nil {
				return nil, err
			}
			l.lattice = n
			return n.Close, nil
		}))
	}
	if c.Ledger.Tangle.Network != "" {
		if err := checkTangle(c); err != nil {
			return nil, usage{err}
		}
		opts = append(opts, coinop.Beside(func(ctx context.Context, m *engine.Machine) (func() error, error) {
			n, err := openTangle(ctx, m, c.Ledger.Tangle)
			if err != nil {
				return nil, err
			}
			l.tangle = n
			return n.Close, nil
		}))
	}
	return opts, nil
}

// ready says where the nodes are found.
func (l *ledgers) ready(all map[string]any) {
	if l.lattice != nil {
		all["lattice"] = l.lattice.at()
	}
	if l.tangle != nil {
		all["tangle"] = l.tangle.at()
	}
}

func ledgerCommand(u *ui) *cobra.Command {
	c := &cobra.Command{
		Use: "ledger", Short: "Run a node of a ledger of your own, or make such a network",
		Long: "A block lattice speaks Nano's protocol and RPC, a Tangle Stardust's formats and REST. Both are networks of your own:\n" +
			"coinop ledger new writes one down, with its keys and a config for each node.",
	}
	c.AddCommand(ledgerNewCommand(u), latticeCommand(u), tangleCommand(u), ledgerStatusCommand(u), ledgerFaucetCommand(u), ledgerAccountCommand(u))
	return c
}

// A nodeConfig is of a command that runs a node: what the file says, and flags that
// say otherwise.
type nodeConfig struct {
	path string
	data string
	name string
}

func (n *nodeConfig) flags(c *cobra.Command) {
	c.Flags().StringVarP(&n.path, "config", "c", "", "a machine's TOML file, whose [ledger] section the flags below change")
	c.Flags().StringVar(&n.data, "data", "", "folder for the node's key and store")
	c.Flags().StringVar(&n.name, "name", "", "what the node is called")
}

// read reads the file, or begins without one; set changes what flags have named.
func (n *nodeConfig) read(cmd *cobra.Command, set func(c *Config, changed func(flag string) bool)) (c Config, err error) {
	c.Version = 1
	if n.path != "" {
		if c, err = readConfig(n.path); err != nil {
			return c, err
		}
	}
	if n.data != "" {
		c.Data = n.data
	}
	if n.name != "" {
		c.Name = n.name
	}
	set(&c, cmd.Flags().Changed)
	if c.Name == "" {
		c.Name = "node"
	}
	if c.Data == "" {
		return c, usage{errors.New("say where the node keeps its key and its store: --data DIR, or -c FILE")}
	}
	return c, nil
}

// serveNode is serve for a machine that has a node.
func serveNode(ctx context.Context, u *ui, c Config) error {
	if c.Ledger.Lattice.Network == "" && c.Ledger.Tangle.Network == "" {
		return usage{errors.New("say which network the node is of: --network FILE; coinop ledger new writes one")}
	}
	return serve(ctx, u, c)
}

// A front is an HTTP server of a node.
type front struct {
	server *http.Server
	addr   string
}

// openFront serves at an address.
func openFront(what, addr string, h http.Handler, log *slog.Logger) (*front, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	f := &front{&http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}, l.Addr().String()}
	go f.server.Serve(l)
	return f, nil
}

func (f *front) close() error {
	if f == nil {
		return nil
	}
	return f.server.Close()
}

// onLoopback reports whether only this computer reaches an address.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
