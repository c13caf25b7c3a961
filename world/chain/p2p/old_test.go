package p2p_test

import (
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/regtest"
)

// A device that has been away for long asks for headers that the client does not
// keep: a node is asked for them again, and the checkpoints prove them.
func TestOldHeaders(t *testing.T) {
	t.Parallel()
	n := openNode(t, regtest.Options{})
	for range 6 {
		if _, err := n.Mine(1000); err != nil {
			t.Fatal(err)
		}
	}
	c := openClient(t, n.Addr())
	if err := chaintest.Agree(t.Context(), c, n); err != nil {
		t.Fatal(err)
	}
	for _, ask := range []watch.HeadersAfter{
		{Locator: []chainhash.Hash{*regtest.Params().GenesisHash}},
		{At: 1501},
		{At: 5990},
	} {
		ours, err := chain.HeadersAfter(t.Context(), c, ask)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := chain.HeadersAfter(t.Context(), n, ask)
		if err != nil {
			t.Fatal(err)
		}
		if len(ours.Headers) == 0 || len(ours.Headers) != len(theirs.Headers) || ours.From != theirs.From {
			t.Fatalf("%d headers from %d; the node has %d from %d", len(ours.Headers), ours.From, len(theirs.Headers), theirs.From)
		}
		for i := range ours.Headers {
			if header.Hash(&ours.Headers[i]) != header.Hash(&theirs.Headers[i]) {
				t.Fatalf("header %d is another", ours.From+int32(i))
			}
		}
	}
}
