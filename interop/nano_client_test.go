package interop

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/engine"
	nanonet "coinop.dev/engine/lattice"
	"coinop.dev/engine/lattice/rpc"
	"coinop.dev/interop/peers"
	"coinop.dev/world/store/mem"
)

// nanoNetwork needs little work, of which clients in JavaScript do some.
func nanoNetwork() lattice.Network {
	return lattice.NewNetwork("interop", nanoSecret("genesis"), lattice.MaxRaw, lattice.DevWorkSend, lattice.DevWorkReceive)
}

func nanoSecret(name string) eddsa.Secret {
	var key [32]byte
	copy(key[:], name)
	return lattice.NewSecret(key)
}

// nanoNode opens a lattice node that listens, and dials others.
func nanoNode(t *testing.T, name string, reps []eddsa.Secret, others ...*nanonet.Node) *nanonet.Node {
	t.Helper()
	key, err := keys.NewSecret(rand.Reader)
	must(t, err)
	db, err := mem.New(nil)
	must(t, err)
	m := engine.New(context.Background(), engine.Options{Key: key, DB: db})
	t.Cleanup(func() { m.Close() })
	o := nanonet.Options{Config: node.Config{Network: nanoNetwork(), ID: nanoSecret(name), Reps: reps}, Listen: "127.0.0.1:0"}
	for _, other := range others {
		o.Peers = append(o.Peers, other.Addr().String())
	}
	n, err := nanonet.Open(t.Context(), m, o)
	must(t, err)
	t.Cleanup(func() { n.Close() })
	until(t, "all are connected", func() error {
		if len(n.Peers()) < len(others) {
			return fmt.Errorf("%d of %d are", len(n.Peers()), len(others))
		}
		return nil
	})
	return n
}

// nanoServer serves a network of three nodes, of which another one is the
// representative.
func nanoServer(t *testing.T) (url, socket string, all []*nanonet.Node) {
	t.Helper()
	rep := nanoNode(t, "rep", []eddsa.Secret{nanoSecret("genesis")})
	third := nanoNode(t, "third", nil, rep)
	door := nanoNode(t, "door", nil, rep, third)
	s, err := rpc.New(rpc.Options{Node: door, Work: true})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	h, w := httptest.NewServer(s), httptest.NewServer(s.Socket())
	t.Cleanup(h.Close)
	t.Cleanup(w.Close)
	return h.URL, "ws" + strings.TrimPrefix(w.URL, "http"), []*nanonet.Node{rep, third, door}
}

// cementedEverywhere waits until all nodes have so many blocks of an account
// cemented, and gives its balance.
func cementedEverywhere(t *testing.T, all []*nanonet.Node, k lattice.Key, height uint64) (balance lattice.Raw) {
	t.Helper()
	for i, n := range all {
		until(t, fmt.Sprintf("node %d has them", i), func() error {
			var a node.Account
			if err := n.Look(t.Context(), func(n *node.Node) { a, _ = n.Account(k) }); err != nil {
				return err
			}
			if a.ConfirmedHeight != height {
				return fmt.Errorf("it has %d", a.ConfirmedHeight)
			}
			balance = a.Balance
			return nil
		})
	}
	return balance
}

// TestNanoClients has other people's wallets open an account, receive, send, read
// their history and wait for what is cemented, on a network of our nodes.
func TestNanoClients(t *testing.T) {
	script, err := peers.InstallNode(t.Context(), "nanowallet", "wallet.js")
	if errors.Is(err, peers.ErrNoNode) {
		t.Skip(err)
	}
	must(t, err)
	url, socket, all := nanoServer(t)
	key := nanoSecret("genesis").Reveal()
	argument, err := json.Marshal(map[string]string{
		"url": url, "socket": socket, "key": hex.EncodeToString(key[:]), "seed": strings.Repeat("5e", 32),
		"send": fmt.Sprintf("%016x", uint64(lattice.DevWorkSend)), "receive": fmt.Sprintf("%016x", uint64(lattice.DevWorkReceive)),
	})
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	cmd := exec.CommandContext(ctx, "node", script, string(argument))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, complaint.String())
	}
	var report struct {
		Shop                  lattice.Key
		Sent, Opened, Last    lattice.Hash
		Balance, Amount       lattice.Raw
		Height, Kind, Subtype string
		History               []string
		Waits                 struct{ Amount, Source string }
	}
	must(t, json.Unmarshal(out, &report))
	t.Logf("two transfers took %v, Node.js included: %+v", time.Since(began), report)
	half := "2500000000000000000000000000000"
	if report.Balance.String() != half || report.Waits.Amount != half || report.Waits.Source != report.Shop.String() ||
		report.Kind != "active_quorum" || report.Subtype != "send" || report.Height != "2" || strings.Join(report.History, " ") != "send receive" {
		t.Errorf("the wallets report %s", out)
	}
	if b := cementedEverywhere(t, all, report.Shop, 2); b != report.Balance {
		t.Errorf("the shop has %s", b)
	}
}
