//go:build !omit_ledger

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev"
	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	latticewallet "coinop.dev/core/ledger/lattice/wallet"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/money"
	"coinop.dev/engine/lattice/rpc"
	"coinop.dev/rail/iotarail"
	"coinop.dev/rail/nanorail"
)

// askTime is how long a node may take to answer, or to have a payment final.
const askTime = 30 * time.Second

func ledgerStatusCommand(u *ui) *cobra.Command {
	return &cobra.Command{
		Use: "status <URL>", Short: "Ask a node how its ledger is",
		Long:    "Asks a node at its door: a lattice's RPC, or a Tangle's REST.",
		Example: "  coinop ledger status http://127.0.0.1:7076",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage{errors.New("name the node's door: coinop ledger status http://127.0.0.1:7076")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := context.WithTimeout(cmd.Context(), askTime)
			defer stop()
			if s, ok, err := tangleStatus(ctx, args[0]); ok || err != nil {
				if err != nil {
					return exit{err, exitConnect}
				}
				return u.show(s, s.text)
			}
			s, err := latticeStatus(ctx, args[0])
			if err != nil {
				return exit{err, exitConnect}
			}
			return u.show(s, s.text)
		},
	}
}

// A latticeView is what people want to know of a node.
type latticeView struct {
	Ledger   string `json:"ledger"`
	Network  string `json:"network"`
	Node     string `json:"node"`
	Blocks   uint64 `json:"blocks,string"`
	Cemented uint64 `json:"cemented,string"`
	Peers    int    `json:"peers"`
	Reps     int    `json:"representatives_online"`
	Online   string `json:"online_raw"`
	Quorum   string `json:"quorum_raw"`
	Deciding int    `json:"elections"`
}

func (v latticeView) text(w io.Writer) {
	fmt.Fprintf(w, "lattice  %s\nnode     %s\nblocks   %d, of them %d for ever\npeers    %d; %d representatives online\nvotes    %s raw online, quorum %s\ndeciding %d\n",
		v.Network, v.Node, v.Blocks, v.Cemented, v.Peers, v.Reps, v.Online, v.Quorum, v.Deciding)
}

func latticeStatus(ctx context.Context, at string) (v latticeView, err error) {
	c := rpc.Client{URL: at}
	var version struct{ Network string }
	var id struct {
		Node string `json:"node_id"`
	}
	var count struct {
		Count    uint64 `json:",string"`
		Cemented uint64 `json:",string"`
	}
	var quorum struct {
		Delta  string `json:"quorum_delta"`
		Online string `json:"online_stake_total"`
	}
	var peers struct{ Peers any }
	var reps struct{ Representatives any }
	var active struct{ Confirmations any }
	for _, q := range []struct {
		action string
		into   any
	}{
		{"version", &version}, {"telemetry", &id}, {"block_count", &count}, {"confirmation_quorum", &quorum}, {"peers", &peers},
		{"representatives_online", &reps}, {"confirmation_active", &active},
	} {
		if err := c.Do(ctx, map[string]any{"action": q.action}, q.into); err != nil {
			return v, fmt.Errorf("%s of %s: %w", q.action, at, err)
		}
	}
	return latticeView{
		Ledger: "lattice", Network: version.Network, Node: id.Node, Blocks: count.Count, Cemented: count.Cemented, Peers: lengthOf(peers.Peers), Reps: lengthOf(reps.Representatives),
		Online: quorum.Online, Quorum: quorum.Delta, Deciding: lengthOf(active.Confirmations),
	}, nil
}

// lengthOf counts a list as Nano's RPC has it: an array, an object, or an empty text.
func lengthOf(v any) int {
	switch v := v.(type) {
	case []any:
		return len(v)
	case map[string]any:
		return len(v)
	}
	return 0
}

func ledgerFaucetCommand(u *ui) *cobra.Command {
	dir, at := ".", ""
	c := &cobra.Command{
		Use: "faucet <account> <amount>", Short: "Give money that is nobody's yet to an account, and wait until it is final",
		Long:    "Pays from the account of faucet.key, which coinop ledger new made. An account is nano_… of a lattice, or an address of a\nTangle; coinop ledger account prints a machine's.",
		Example: "  coinop ledger faucet --dir site nano_3t6k35gi95xu6tergt6p69ck76ogmitsa8mnijtpxm9fkcm736xtoncuohr3 1000000sat",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage{errors.New("say to whom and how much: coinop ledger faucet nano_… 1000sat")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			amount, err := money.ParseAmount(args[1])
			if err != nil {
				return usage{err}
			}
			ctx, stop := context.WithTimeout(cmd.Context(), askTime)
			defer stop()
			f := doorFaucet{dir: dir, at: at}
			to, err := lattice.ParseAccount(args[0])
			if err == nil {
				return u.given(f.lattice(ctx, to, amount))
			}
			if strings.HasPrefix(args[0], "nano_") || strings.HasPrefix(args[0], "xrb_") {
				return usage{err}
			}
			return u.given(f.tangle(ctx, args[0], amount))
		},
	}
	c.Flags().StringVar(&dir, "dir", dir, "the network's folder")
	c.Flags().StringVar(&at, "node", "", "the door of a node (default that of node1)")
	return c
}

// A gift is what a faucet has done.
type gift struct {
	To     string       `json:"to"`
	Amount money.Amount `json:"amount_msat"`
	ID     string       `json:"id"` // of the block, or the transaction
}

func (u *ui) given(g gift, err error) error {
	if err != nil {
		return err
	}
	return u.show(g, func(w io.Writer) { fmt.Fprintf(w, "%s has %v more, by %s\n", g.To, g.Amount, g.ID) })
}

// A doorFaucet gives the money of a network's folder, at a node's door.
type doorFaucet struct{ dir, at string }

// node1 is the config of the network's first node, whose doors are asked.
func (f *doorFaucet) node1() (Config, error) { return readConfig(filepath.Join(f.dir, "node1.toml")) }

func (f *doorFaucet) secret(hash eddsa.Hash) (eddsa.Secret, error) {
	path, err := filepath.Abs(filepath.Join(f.dir, faucetFile))
	if err != nil {
		return eddsa.Secret{}, err
	}
	return homeSecret("file:"+filepath.ToSlash(path)+"?plain=1", hash)
}

func (f *doorFaucet) lattice(ctx context.Context, to lattice.Key, amount money.Amount) (g gift, err error) {
	network, err := nanorail.ReadNetwork(filepath.Join(f.dir, networkFile))
	if err != nil {
		return g, err
	}
	key, err := f.secret(eddsa.BLAKE2b512)
	if err != nil {
		return g, err
	}
	if f.at == "" {
		c, err := f.node1()
		if err != nil {
			return g, err
		}
		f.at = "http://" + c.Ledger.Lattice.RPC
	}
	client := rpc.Client{URL: f.at}
	state, err := client.State(ctx, key.Public())
	if err != nil {
		return g, exit{err, exitConnect}
	}
	b := lattice.Block{Account: key.Public(), Previous: state.Frontier, Representative: state.Representative, Link: to}
	raw := latticewallet.Raw(amount)
	var ok bool
	if b.Balance, ok = state.Balance.Sub(raw); !ok || raw.IsZero() {
		return g, &money.Error{Kind: money.Refused, Op: "faucet", Err: fmt.Errorf("%v are more than the faucet's %s raw", amount, state.Balance)}
	}
	b.Work = lattice.Work(b.Root(), network.WorkSend, 0)
	b.Sign(key)
	if err := client.Process(ctx, &b, lattice.Send); err != nil {
		return g, err
	}
	hash := b.Hash()
	g = gift{To: to.String(), Amount: amount, ID: hash.String()}
	for {
		_, final, err := client.Block(ctx, hash)
		if err == nil && final {
			return g, nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return g, &money.Error{Kind: money.Pending, Op: "faucet", Err: fmt.Errorf("block %s is not final: are enough nodes running? %w", hash, ctx.Err())}
		}
	}
}

func ledgerAccountCommand(u *ui) *cobra.Command {
	path, index := "", uint32(0)
	c := &cobra.Command{
		Use: "account", Short: "Print a machine's account on a lattice, and its address on a Tangle", Args: noArgs,
		Long: "The rails nano and iota of a machine pay from these, and are paid there, unless they have a seed= of their own.",
		RunE: func(*cobra.Command, []string) error {
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			if err := u.passphrase(config.Key, false); err != nil {
				return err
			}
			key, err := config.LoadKey()
			if err != nil {
				return err
			}
			a := accounts(&config.Config, key, index)
			return u.show(a, func(w io.Writer) { fmt.Fprintf(w, "nano  %s\niota  %s\n", a["nano"], a["iota"]) })
		},
	}
	configFlag(c, &path)
	c.Flags().Uint32Var(&index, "index", 0, "which one")
	return c
}

// accounts are a machine's.
func accounts(c *coinop.Config, key keys.Secret, index uint32) map[string]string {
	hrp := tangleHRP
	files := []string{c.Ledger.Tangle.Network}
	for _, uri := range c.Rails {
		if u, err := url.Parse(uri); err == nil && u.Scheme == iotarail.Scheme {
			files = append(files, u.Query().Get("net"))
		}
	}
	for _, path := range files {
		if path == "" {
			continue
		}
		if n, err := iotarail.ReadNetwork(path); err == nil {
			hrp = n.HRP
		}
	}
	return map[string]string{
		"nano": lattice.Key(nanorail.Key(key, index).Public()).String(),
		"iota": tangle.NewAddress(iotarail.Key(key, index).Public()).Bech32(hrp),
	}
}
