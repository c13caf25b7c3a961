package electrum_test

import (
	"errors"
	"testing"
	"time"

	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/electrum"
	"coinop.dev/world/chain/regtest"
)

func openNode(t *testing.T) *regtest.Node {
	t.Helper()
	n, err := regtest.Open(regtest.Options{})
	must(t, err)
	t.Cleanup(func() { n.Close() })
	return n
}

func serve(t *testing.T, o electrum.ServerOptions) *electrum.Server {
	t.Helper()
	if o.OnDrop == nil {
		o.OnDrop = func(client string, reason error) { t.Log("dropped", client, reason) }
	}
	o.OnDown = func(err error) { t.Log("source:", err) }
	s, err := electrum.Serve(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// open asks servers, and collects what it says of them.
func open(t *testing.T, down *troubles, addrs ...string) *electrum.Client {
	t.Helper()
	return openWithin(t, down, electrum.CallTimeout, addrs...)
}

func openWithin(t *testing.T, down *troubles, patience time.Duration, addrs ...string) *electrum.Client {
	t.Helper()
	o := electrum.Options{CallTimeout: patience, OnDown: func(err error) { t.Log("client:", err); down.add(err) }}
	for _, a := range addrs {
		o.Servers = append(o.Servers, electrum.Address{Host: a})
	}
	c, err := electrum.Open(o)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSource has our client ask one server of ours, and two.
func TestSource(t *testing.T) {
	t.Parallel()
	for name, servers := range map[string]int{"one server": 1, "two servers": 2} {
		t.Run(name, func(t *testing.T) {
			chaintest.Test(t, func(t *testing.T) (chain.Source, chaintest.Miner) {
				n := openNode(t)
				var addrs []string
				for range servers {
					addrs = append(addrs, serve(t, electrum.ServerOptions{Source: n}).Addr())
				}
				down := &troubles{}
				t.Cleanup(func() {
					for _, err := range down.all() {
						if errors.As(err, new(*electrum.Lie)) {
							t.Error("an honest server is called a liar:", err)
						}
					}
				})
				return open(t, down, addrs...), n
			})
		})
	}
}
