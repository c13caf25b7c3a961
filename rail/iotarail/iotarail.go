// Package iotarail pays and is paid on a Tangle, in Stardust's formats, from an
// address of this machine.
//
//	iota:?host=<host>:<port>   is paid, and pays
//	iota://self                pays
//
// Parameters of both:
//
//	net=<file>    the network (ReadNetwork); without it that of the machine's own node
//	node=<url>    a node's REST, as http://127.0.0.1:14265; without it the machine's own
//	poll=1        asks that node every two seconds; without it the node tells news
//	index=<n>     which address of the machine's key
//	batch=<n>     how many orders a transaction pays at most; without it 127
//
// What can be paid is in package ledgerrail. Of an amount 1 msat is one base unit. The
// orders that a transaction pays stand in its tagged data. A bill names the
// coordinators that its payee goes by, and a receipt has the block with the
// transaction, the milestone that applied it and their keys.
package iotarail

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/wallet"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/engine"
	"coinop.dev/engine/tangle/rest"
	"coinop.dev/rail"
	"coinop.dev/rail/ledgerrail"
	"coinop.dev/world/drive"
)

// Scheme is the rail's word, Core the wallet's name among the machine's cores.
const (
	Scheme = "iota"
	Core   = "iota/wallet"
)

// Driver opens rails on a Tangle.
type Driver struct{}

// Speaks makes the rail one that pays anybody.
func (Driver) Speaks() []string { return []string{Scheme} }

// Verify makes it a rail.Verifier. It knows no network, so it believes whom the payee
// has signed to be believed, and nobody where no payee has.
func (Driver) Verify(r money.Receipt) error { return kind(nil).Verify(r) }

// Open starts the address's wallet, if it is not there yet.
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
	k := kind(s.options.Network)
	if s.node != "" {
		k.Reach = func() { reach(env.Machine, s) }
	}
	return ledgerrail.Open(ctx, env.Machine, k, s.host, account, account.Follow())
}

// reach has the machine ask a node far away, while it runs.
func reach(m *engine.Machine, s settings) {
	far := rest.NewRemote(m.Host, rest.RemoteOptions{Client: rest.Client{URL: s.node}, Network: s.options.Network, Poll: s.poll, Log: m.Log})
	context.AfterFunc(m.Context(), func() { far.Close() })
}

// settings are what a URI says.
type settings struct {
	host    string // where payers find this machine; "" if it does not earn
	net     string // the network's file
	node    string // REST of a node far away; "" for the machine's own
	poll    bool
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
	s.net, s.node, s.poll = q.Text("net", ""), q.Text("node", ""), q.Int("poll", 0, 0, 1) == 1
	index := q.Int("index", 0, 0, 1<<31-1)
	s.options.Batch = q.Int("batch", wallet.MaxBatch, 1, wallet.MaxBatch)
	if err := q.Close(); err != nil {
		return s, err
	}
	switch {
	case s.node != "" && s.net == "":
		return s, errors.New("node= needs net=: a node that is asked cannot say whom to believe; write its network into a file")
	case s.node == "" && s.poll:
		return s, errors.New("poll= is for a node that node= names")
	}
	s.options.Key = Key(m.Key, uint32(index))
	return s, nil
}

// Key is the private key of an address of a machine.
func Key(machine keys.Secret, index uint32) eddsa.Secret {
	return eddsa.NewSecret(eddsa.SHA512, [32]byte(machine.Derive(fmt.Sprintf("iota/address/%d", index)).Reveal()))
}

// network is what a file says, or that of the machine's own node.
func network(ctx context.Context, m *engine.Machine, file string) (n *tangle.Network, err error) {
	if file != "" {
		return ReadNetwork(file)
	}
	err = m.Host.Do(ctx, func(m *drive.Machine) {
		if core, ok := m.Core(gossip.Tangle.String()).(interface{ Network() *tangle.Network }); ok {
			n = core.Network()
		}
	})
	if err == nil && n == nil {
		err = errors.New("this machine has no node of a Tangle; run one, or name one with node= and its network with net=")
	}
	return n, err
}

// kind is what ledgerrail needs to know; n is nil where no network is known.
func kind(n *tangle.Network) ledgerrail.Kind {
	k := ledgerrail.Kind{Scheme: Scheme, Core: Core, Node: gossip.Tangle.String()}
	k.Read = func(text string, e receipt.Entry, named bool) (address string, ours bool, err error) {
		b, err := wallet.ParseBill(text)
		if err != nil {
			return "", false, err
		}
		if b.Amount != e.Amount || b.Order != e.Order && named {
			return "", false, fmt.Errorf("the bill is of %v for order %v, the order %v of %v", b.Amount, b.Order, e.Order, e.Amount)
		}
		return wallet.Scheme + b.Address.Bech32(b.HRP), n != nil && b.HRP == n.HRP && b.Keys == n.Trust().Digest(), nil
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
			u, err := wallet.ParseURI(o.To)
			if err != nil {
				return "", err
			}
			if u.Amount != 0 && u.Amount != o.Amount {
				return "", fmt.Errorf("the URI asks for %v, the order is of %v", u.Amount, o.Amount)
			}
			b := wallet.Bill{HRP: u.HRP, Address: u.Address, Amount: o.Amount, Order: u.Order, Keys: n.Trust().Digest()}
			if u.Order == (money.OrderID{}) {
				b.Order = o.ID
			}
			return b.String(), nil
		}
	}
	return k
}
