package graph_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

var chain = chainhash.Hash{0x6f, 0xe2}

// name is a node that only path finding meets: not a point of the curve. Names
// ascend with n.
func name(n int) (id keys.Public) {
	id[0] = 2
	binary.BigEndian.PutUint32(id[1:], uint32(n))
	return id
}

// number undoes name.
func number(id keys.Public) int { return int(binary.BigEndian.Uint32(id[1:])) }

// link puts a channel between two names in; forth is a's policy towards b.
func link(t testing.TB, g *graph.Graph, scid wire.SCID, a, b int, capacitySat int64, forth, back graph.Policy) {
	t.Helper()
	if a > b {
		a, b, forth, back = b, a, back, forth
	}
	if err := g.Put(scid, [2]keys.Public{name(a), name(b)}, capacitySat, [2]graph.Policy{forth, back}); err != nil {
		t.Fatal(err)
	}
}

// tariff is a policy without limits.
func tariff(base money.Amount, ppm uint32, delta uint16) graph.Policy {
	return graph.Policy{FeeBase: base, FeePPM: ppm, CLTVDelta: delta}
}

// own is an edge of the payer's own channel.
func own(scid wire.SCID, from, to int, spendable money.Amount) graph.Edge {
	return graph.Edge{SCID: scid, From: name(from), To: name(to), Capacity: spendable}
}

func secret(t testing.TB, n byte) keys.Secret {
	s, err := keys.SecretFromBytes(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// network is a seeded scale-free network of the size asked for: each node links
// to nodes that have many links already. Policies are those of the real network,
// roughly.
func network(t testing.TB, g *graph.Graph, nodes, channels int, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	ends := []int{0}
	policy := func(capacity money.Amount) graph.Policy {
		return graph.Policy{
			FeeBase: money.Amount(rng.IntN(2) * 1000), FeePPM: uint32(rng.IntN(1500)), CLTVDelta: uint16(18 + rng.IntN(127)),
			Min: money.Amount(1 + rng.IntN(2)*999), Max: capacity, Disabled: rng.IntN(10) == 0,
		}
	}
	for i := range channels {
		a, b := i+1, ends[rng.IntN(len(ends))]
		if a >= nodes {
			a, b = ends[rng.IntN(len(ends))], ends[rng.IntN(len(ends))]
			if rng.IntN(4) == 0 {
				a = rng.IntN(nodes)
			}
		}
		for a == b {
			b = rng.IntN(nodes)
		}
		ends = append(ends, a, b)
		sat := int64(20_000) << rng.IntN(10)
		capacity, _ := money.FromSats(sat)
		link(t, g, wire.SCID(i+1), a, b, sat, policy(capacity), policy(capacity))
	}
}
