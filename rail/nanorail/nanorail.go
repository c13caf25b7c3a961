// Package nanorail pays and is paid on a block lattice, in Nano's formats, from an
// account of this machine.
//
//	nano:?host=<host>:<port>   is paid, and pays
//	nano://self                pays
//
// Parameters of both:
//
//	net=<file>       the network (ReadNetwork); without it that of the machine's own node
//	node=<url>       a node's RPC, as http://127.0.0.1:7076; without it the machine's own
//	socket=<url>     its WebSocket, as ws://127.0.0.1:7078; without it the node is polled
//	seed=<home>      a home of a BIP 39 seed (world/secret); without it the machine's key
//	index=<n>        which account of the seed
//	rep=<account>    who votes with the account's weight; without it the network's first
//
// What can be paid is in package ledgerrail. Of an amount 1 msat is 10^15 raw, and
// every bill has an amount of its own, by digits below that: it tells which order was
// paid. A bill names the table of voting weights that its payee goes by, and a receipt
// has the payer's block, the final votes for it and the table.
package nanorail

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/ledger/lattice/wallet"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/engine"
	"coinop.dev/engine/lattice/rpc"
	"coinop.dev/rail"
	"coinop.dev/rail/ledgerrail"
	"coinop.dev/world/drive"
	"coinop.dev/world/secret"
)

// Scheme is the rail's word, Core the wallet's name among the machine's cores.
const (
	Scheme = "nano"
	Core   = "nano/wallet"
)

// Driver opens rails on a block lattice.
type Driver struct{}

// Speaks makes the rail one that pays anybody.
func (Driver) Speaks() []string { return []string{Scheme} }

// Verify makes it a rail.Verifier. It knows no network, so it believes whom the payee
// has signed to be believed, and nobody where no payee has.
func (Driver) Verify(r money.Receipt) error { return kind(nil).Verify(r) }

// Open starts the account's wallet, if it is not there yet.
func (Driver) Open(ctx context.Context, u *url.URL, env rail.Env) (rail.Conn, error) {
	s, err := read(u, env.Machine)
	if err != nil {
		return nil, err
	}
	if s.options.Network, err = network(ctx, env.Machine, s.net); err != nil {
		return nil, err
	}
	account, err := wallet.New(s.options)
	if err != nil {
		return nil, err
	}
	k := kind(&s.options.Network)
	if s.node != "" {
		k.Reach = func() { reach(env.Machine, s) }
	}
	return ledgerrail.Open(ctx, env.Machine, k, s.host, account, account.Follow())
}

// reach has the machine ask a node far away, while it runs.
func reach(m *engine.Machine, s settings) {
	far := rpc.NewRemote(m.Host, rpc.RemoteOptions{
		Client: rpc.Client{URL: s.node}, Socket: s.socket, Network: s.options.Network, Log: m.Log,
	})
	context.AfterFunc(m.Context(), func() { far.Close() })
}

// settings are what a URI says.
type settings struct {
	host    string // where payers find this machine; "" if it does not earn
	net     string // the network's file
	node    string // RPC of a node far away; "" for the machine's own
	socket  string // its WebSocket
	options wallet.Options
}

func read(u *url.URL, m *engine.Machine) (s settings, err error) {
	if u.Path != "" || u.Fragment != "" || u.Opaque != "" || u.User != nil || u.Host != "" && u.Host != ledgerrail.Self {
		return s, fmt.Errorf("write %s:?host=<host>:<port> to be paid, or %s://%s to pay", Scheme, Scheme, ledgerrail.Self)
	}
	q := rail.Query(u)
	if u.Host == "" {
		if s.host = q.Text("host", ""); s.host == "" {
			return s, fmt.Errorf("to be paid, say where payers find this machine: %s:?host=<host>:<port>", Scheme)
		}
	}
	s.net = q.Text("net", "")
	s.node, s.socket = q.Text("node", ""), q.Text("socket", "")
	home, index, rep := q.Text("seed", ""), q.Int("index", 0, 0, 1<<31-1), q.Text("rep", "")
	if err := q.Close(); err != nil {
		return s, err
	}
	if rep != "" {
		if s.options.Representative, err = lattice.ParseAccount(rep); err != nil {
			return s, err
		}
	}
	switch {
	case s.node != "" && s.net == "":
		return s, errors.New("node= needs net=: a node that is asked cannot say whom to believe; write its network into a file")
	case s.node == "" && s.socket != "":
		return s, errors.New("socket= is for a node that node= names")
	}
	s.options.Key, err = key(home, uint32(index), m.Key)
	return s, err
}

// key is the account's private key: of a BIP 39 seed, or derived from the machine's.
func key(home string, index uint32, machine keys.Secret) (eddsa.Secret, error) {
	if home == "" {
		return Key(machine, index), nil
	}
	h, err := secret.Default.Open(home)
	if err != nil {
		return eddsa.Secret{}, err
	}
	defer h.Close()
	kept, err := h.Load()
	if err != nil {
		return eddsa.Secret{}, err
	}
	defer kept.Wipe()
	raw := kept.Reveal()
	defer clear(raw)
	seed, err := mnemonic.SeedFromBytes(raw)
	if err != nil {
		return eddsa.Secret{}, err
	}
	return lattice.FromMnemonic(seed, index), nil
}

// Key is the private key of an account of a machine that was given no seed.
func Key(machine keys.Secret, index uint32) eddsa.Secret {
	return lattice.SeedKey([32]byte(machine.Derive("nano/seed").Reveal()), index)
}

// network is what a file says, or that of the machine's own node.
func network(ctx context.Context, m *engine.Machine, file string) (n lattice.Network, err error) {
	if file != "" {
		return ReadNetwork(file)
	}
	err = m.Host.Do(ctx, func(m *drive.Machine) {
		if core, ok := m.Core(node.Core).(*node.Node); ok {
			n = core.Network
		}
	})
	if err == nil && n.Name == "" {
		err = errors.New("this machine has no lattice node; run one, or name one with node= and its network with net=")
	}
	return n, err
}

// kind is what ledgerrail needs to know; n is nil where no network is known.
func kind(n *lattice.Network) ledgerrail.Kind {
	k := ledgerrail.Kind{Scheme: Scheme, Core: Core, Node: gossip.Lattice.String()}
	k.Read = func(text string, e receipt.Entry, _ bool) (address string, ours bool, err error) {
		b, err := wallet.ParseBill(text)
		if err != nil {
			return "", false, err
		}
		if a, ok := wallet.Amount(b.Amount); !ok || a != e.Amount {
			return "", false, fmt.Errorf("the bill is of %s raw, the order of %v", b.Amount, e.Amount)
		}
		return lattice.URI{Account: b.Account}.String(), n != nil && b.Table == wallet.Table(n), nil
	}
	k.Check = func(text string, proof []byte) error {
		b, err := wallet.ParseBill(text)
		if err != nil {
			return err
		}
		return wallet.Verify(b, proof)
	}
	if n != nil {
		k.Plain = func(o money.Order) (string, error) {
			u, err := lattice.ParseURI(o.To)
			if err != nil {
				return "", err
			}
			b := wallet.Bill{Account: u.Account, Amount: u.Amount, Table: wallet.Table(n)}
			if b.Amount.IsZero() {
				b.Amount = wallet.Raw(o.Amount)
			}
			return b.String(), nil
		}
	}
	return k
}
