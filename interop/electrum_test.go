package interop

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/interop/peers"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/electrum"
	"coinop.dev/world/chain/regtest"
)

// has waits until a wallet of Electrum's has as many coins as wanted, in and
// without a block.
func has(t *testing.T, e *peers.Electrum, confirmed, unconfirmed string) {
	t.Helper()
	until(t, fmt.Sprintf("Electrum has %s confirmed and %q unconfirmed", confirmed, unconfirmed), func() error {
		var got struct{ Confirmed, Unconfirmed string }
		if err := e.Of(&got, "getbalance", nil); err != nil {
			return err
		}
		if got.Confirmed != confirmed || got.Unconfirmed != unconfirmed {
			return fmt.Errorf("it has %+v", got)
		}
		return nil
	})
}

// follows waits until Electrum has our tip, verified.
func follows(t *testing.T, e *peers.Electrum, n *regtest.Node) {
	t.Helper()
	until(t, "Electrum has our tip", func() error {
		height, _, err := n.Tip(t.Context())
		if err != nil {
			return err
		}
		var got struct {
			Height    int32 `json:"blockchain_height"`
			Server    int32 `json:"server_height"`
			Connected bool
		}
		if err := e.Call(&got, "getinfo", nil); err != nil {
			return err
		}
		if !got.Connected || got.Height != height || got.Server != height {
			return fmt.Errorf("we are at %d, it: %+v", height, got)
		}
		return nil
	})
}

// TestElectrum has Debian's wallet live by our server, and our client beside it.
func TestElectrum(t *testing.T) {
	n := openNode(t)
	mine(t, n, 3)
	s, err := electrum.Serve(t.Context(), electrum.ServerOptions{
		Source: n,
		OnDrop: func(client string, reason error) { t.Logf("dropped %s: %v", client, reason) },
		OnDown: func(err error) { t.Log("source:", err) },
	})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	e, err := peers.StartElectrum(t.Context(), t.TempDir(), s.Addr())
	if errors.Is(err, peers.ErrNoElectrum) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() {
		e.Stop()
		if t.Failed() {
			t.Logf("electrum:\n%s", e.Log())
		}
	})
	follows(t, e, n)
	has(t, e, "0", "")

	t.Log("Electrum sees what it is paid before a block has it, and after")
	var to string
	must(t, e.Of(&to, "getunusedaddress", nil))
	where, err := address.DecodeAddress(to, &chaincfg.RegressionNetParams)
	must(t, err)
	script, err := txscript.PayToAddrScript(where)
	must(t, err)
	_, err = n.Faucet(script, 2_000_000)
	must(t, err)
	has(t, e, "0", "0.02")
	mine(t, n, 1)
	follows(t, e, n)
	has(t, e, "0.02", "")

	t.Log("Electrum pays through our server")
	c, err := electrum.Open(electrum.Options{
		Servers: []electrum.Address{{Host: s.Addr()}},
		OnDown:  func(err error) { t.Log("client:", err) },
	})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, chaintest.Agree(t.Context(), c, n))
	var other string
	must(t, e.Of(&other, "createnewaddress", nil))
	// A payment to ourselves shows whether the fee is all that goes.
	var signed string
	must(t, e.Of(&signed, "payto", map[string]any{"destination": other, "amount": "0.005", "fee": "0.00001"}))
	raw, err := hex.DecodeString(strings.TrimSpace(signed))
	must(t, err)
	spend, err := tx.Parse(raw)
	must(t, err)
	var id string
	must(t, e.Call(&id, "broadcast", map[string]any{"tx": signed}))
	if id != spend.TxHash().String() {
		t.Errorf("Electrum names its transaction %s; it is %v", id, spend.TxHash())
	}
	if got, depth := n.Tx(spend.TxHash()); got == nil || depth != 0 {
		t.Errorf("our node has %v at depth %d", got, depth)
	}
	mine(t, n, 1)
	follows(t, e, n)
	has(t, e, "0.01999", "")
	coin := watch.Output{Point: spend.TxIn[0].PreviousOutPoint, Script: script}
	_, err = chaintest.Await(t.Context(), c, coin, func(w watch.Status) bool { return w.SpendDepth == 1 })
	must(t, err)

	t.Log("a refused payment is refused")
	if err := e.Call(new(string), "broadcast", map[string]any{"tx": hex.EncodeToString(tx.Bytes(chaintest.Spend(coin.Point, 1e6, 1, 2)))}); err == nil {
		t.Error("a double spend was broadcast")
	} else {
		t.Log("Electrum says:", err)
	}

	t.Log("a reorganisation takes the payment back")
	// Electrum counts its own change as confirmed, so the balance does not tell.
	confirmed := func(want int) {
		t.Helper()
		until(t, fmt.Sprintf("Electrum counts %d confirmations", want), func() error {
			var got struct{ Confirmations int }
			if err := e.Of(&got, "get_tx_status", map[string]any{"txid": id}); err != nil {
				return err
			}
			if got.Confirmations != want {
				return fmt.Errorf("it counts %d", got.Confirmations)
			}
			return nil
		})
	}
	confirmed(1)
	must(t, n.Reorg(1))
	follows(t, e, n)
	confirmed(0)
	must(t, chaintest.Agree(t.Context(), c, n))
	mine(t, n, 2)
	follows(t, e, n)
	confirmed(2)
	has(t, e, "0.01999", "")
	_, err = chaintest.Await(t.Context(), c, coin, func(w watch.Status) bool { return w.SpendDepth == 2 })
	must(t, err)
}

// TestLdkByElectrum has LDK Node live by our server: its Electrum client is
// another program than Electrum.
func TestLdkByElectrum(t *testing.T) {
	if testing.Short() {
		t.Skip("LDK Node is 30 MB to fetch the first time")
	}
	n := openNode(t)
	mine(t, n, 1)
	s, err := electrum.Serve(t.Context(), electrum.ServerOptions{
		Source: n, FeeRate: 2 * tx.MinFeeRate,
		OnDrop: func(client string, reason error) { t.Logf("dropped %s: %v", client, reason) },
	})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	height := func() (int64, error) {
		h, _, err := n.Tip(t.Context())
		return int64(h), err
	}
	node, err := peers.StartLdk(t.Context(), peers.LdkOptions{Home: t.TempDir(), Alias: "E", Electrum: s.Addr(), Height: height})
	if errors.Is(err, peers.ErrNoCompiler) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() {
		node.Stop()
		if t.Failed() {
			t.Logf("ldk:\n%s", node.Log())
		}
	})
	ctx := t.Context()
	holds := func(want int64) {
		t.Helper()
		until(t, fmt.Sprintf("LDK has %d sat", want), func() error {
			if err := node.Synced(ctx); err != nil {
				return err
			}
			got, _, err := node.Balance(ctx)
			if err == nil && got != want {
				err = fmt.Errorf("it has %d", got)
			}
			return err
		})
	}
	script := func(text string) []byte {
		t.Helper()
		where, err := address.DecodeAddress(text, &chaincfg.RegressionNetParams)
		must(t, err)
		script, err := txscript.PayToAddrScript(where)
		must(t, err)
		return script
	}
	t.Log("LDK receives")
	var to string
	must(t, node.Ask(ctx, "address", peers.LdkArgs{}, &to))
	_, err = n.Faucet(script(to), 1_000_000)
	must(t, err)
	mine(t, n, 1)
	holds(1_000_000)

	t.Log("LDK pays through our server")
	must(t, node.Ask(ctx, "address", peers.LdkArgs{}, &to)) // another one of its own: only the fee goes
	var id string
	must(t, node.Ask(ctx, "send", peers.LdkArgs{Addr: to, Sat: 400_000}, &id))
	var spent *wire.MsgTx
	until(t, "our node has LDK's payment", func() error {
		for _, waits := range n.MempoolTxs() {
			if waits.TxHash().String() == id {
				spent = waits
				return nil
			}
		}
		return fmt.Errorf("%s does not wait", id)
	})
	left := int64(0)
	for _, out := range spent.TxOut {
		left += out.Value
	}
	mine(t, n, 6)
	holds(left)

	t.Log("LDK follows a reorganisation")
	must(t, n.Reorg(6))
	mine(t, n, 1)
	holds(left)
}
