package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/core/wallet"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/rail/bitcoinrail"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/store/mem"
)

// machine is a gateway or a shop.
func machine(t *testing.T, name string, node *regtest.Node) (m *engine.Machine, addr string) {
	t.Helper()
	key, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	must(t, err)
	db, err := mem.New(nil)
	must(t, err)
	m = engine.New(context.Background(), engine.Options{Key: key, DB: db, Chain: node})
	t.Cleanup(func() { m.Close() })
	book, err := earn.Load(db, nil, nil)
	must(t, err)
	must(t, m.Host.Add(t.Context(), trade.Seller, book))
	at, err := m.Listen("127.0.0.1:0")
	must(t, err)
	var registry rail.Registry
	registry.Register(bitcoinrail.Scheme, bitcoinrail.Driver{})
	uri := "bitcoin:?host=" + at.String()
	if name == "gateway" {
		uri += "&keys=0"
	}
	r, err := registry.Open(t.Context(), uri, rail.Env{Machine: m})
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return m, at.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A device shows an address, is funded, pays a shop, and pays the same bill once.
func TestPay(t *testing.T) {
	node, err := regtest.Open(regtest.Options{})
	must(t, err)
	t.Cleanup(func() { node.Close() })
	go func() {
		for t.Context().Err() == nil {
			if len(node.MempoolTxs()) > 0 {
				node.Mine(1)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	gateway, at := machine(t, "gateway", node)
	shop, shopAt := machine(t, "shop", node)
	_, err = gateway.Host.Ask(t.Context(), wallet.Name, "invite", wallet.Invite{
		Ask: "invite", Code: "ONE-CLAIM-CODE-OF-16", Account: "meter", Expires: gateway.Host.Now() + step.Hour,
	})
	must(t, err)
	dir := t.TempDir()
	device := func(args ...string) (map[string]any, error) {
		all := append([]string{
			"-data", dir, "-gateway", fmt.Sprintf("%v@%s", gateway.Key.Public(), at), "-claim", "ONE-CLAIM-CODE-OF-16", "-wait", "30s",
			"-key", "file:" + filepath.Join(dir, "key") + "?plain=1&counter=" + filepath.Join(dir, "starts"),
		}, args...)
		var out, problems strings.Builder
		if err := run(t.Context(), all, &out, &problems); err != nil {
			return nil, err
		}
		var v map[string]any
		must(t, json.Unmarshal([]byte(out.String()), &v))
		return v, nil
	}
	shown, err := device("show")
	must(t, err)
	script, err := descriptor.ParseAddress(shown["Address"].(string), regtest.Params())
	must(t, err)
	_, err = node.Faucet(script, 1_000_000)
	must(t, err)

	to := rail.PayToAt(bitcoinrail.Scheme, shop, shopAt)
	first, err := device("-order", "bill-7", "pay", to, "20000sat")
	must(t, err)
	second, err := device("-order", "bill-7", "pay", to, "20000sat")
	must(t, err)
	if first["proof"] != second["proof"] || first["proof"] == nil {
		t.Errorf("one bill has two proofs:\n%v\n%v", first, second)
	}
	if _, err := device("-per-payment", "10000sat", "pay", to, "20000sat"); money.KindOf(err) != money.Unpaid || code(err) != 5 {
		t.Errorf("more than a payment may be: %v", err)
	}
	if _, err := device("fly"); code(err) != 2 {
		t.Errorf("a command that is none: %v", err)
	}
}
