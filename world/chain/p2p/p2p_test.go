package p2p_test

import (
	"testing"

	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/p2p"
	"coinop.dev/world/chain/regtest"
)

func openNode(t *testing.T, o regtest.Options) *regtest.Node {
	t.Helper()
	n, err := regtest.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func openClient(t *testing.T, addr string) *p2p.Client {
	t.Helper()
	c, err := p2p.Open(p2p.Options{Addrs: []string{addr}, OnDown: func(err error) { t.Log("down:", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestSource(t *testing.T) {
	t.Parallel()
	chaintest.Test(t, func(t *testing.T) (chain.Source, chaintest.Miner) {
		n := openNode(t, regtest.Options{OnDrop: func(peer string, err error) { t.Log("dropped:", err) }})
		return openClient(t, n.Addr()), n
	})
}
