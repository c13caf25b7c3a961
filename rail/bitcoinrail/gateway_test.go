package bitcoinrail_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"coinop.dev/core/consent"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/core/wallet"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/rail/bitcoinrail"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/bbolt"
)

// machine is one of a site: a gateway, a device or a shop.
type machine struct {
	*engine.Machine
	t    *testing.T
	addr string
	db   *bbolt.DB
}

func newMachine(t *testing.T, name string, source chain.Source) *machine {
	t.Helper()
	key, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	must(t, err)
	db, err := bbolt.Open(filepath.Join(t.TempDir(), name))
	must(t, err)
	m := &machine{Machine: engine.New(context.Background(), engine.Options{Key: key, DB: db, Chain: source}), t: t, db: db}
	t.Cleanup(func() { m.Close(); db.Close() })
	book, err := earn.Load(db, nil, nil)
	must(t, err)
	must(t, m.Host.Add(t.Context(), trade.Seller, book))
	addr, err := m.Listen("127.0.0.1:0")
	must(t, err)
	m.addr = addr.String()
	return m
}

func (m *machine) open(uri string) *rail.Rail {
	m.t.Helper()
	var registry rail.Registry
	registry.Register(bitcoinrail.Scheme, bitcoinrail.Driver{})
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	r, err := registry.Open(ctx, uri, rail.Env{Machine: m.Machine})
	must(m.t, err)
	m.t.Cleanup(func() { r.Close() })
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const code = "ONE-CLAIM-CODE-OF-16"

// A device without a view of the chain pays a shop through a gateway without
// keys.
func TestGateway(t *testing.T) {
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
	gateway, shop, device := newMachine(t, "gateway", node), newMachine(t, "shop", node), newMachine(t, "device", nil)
	gateway.open("bitcoin:?keys=0&host=" + gateway.addr)
	_, err = gateway.Host.Ask(t.Context(), wallet.Name, "invite", wallet.Invite{
		Ask: "invite", Code: code, Account: "meter-7", Expires: gateway.Host.Now() + step.Hour,
	})
	must(t, err)
	till := shop.open("bitcoin:?host=" + shop.addr)
	purse := device.open(fmt.Sprintf("bitcoin://%v@%s?claim=%s&per_payment=60000sat", gateway.Key.Public(), gateway.addr, code))

	script, err := bitcoinrail.Fund(device.Key, regtest.Params())
	must(t, err)
	_, err = node.Faucet(script, 1_000_000)
	must(t, err)

	biller, _ := rail.As[rail.Biller](till)
	o := money.Order{ID: money.OrderID{1}, To: biller.PayTo(), Amount: 50_000 * money.Sat}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := purse.Pay(ctx, o)
	if err != nil {
		t.Log(device.state(), gateway.state())
	}
	must(t, err)
	must(t, bitcoinrail.Verify(r, regtest.Params(), 1))
	again, err := purse.Pay(ctx, o)
	must(t, err)
	if !bytes.Equal(r.Proof, again.Proof) {
		t.Error("an order has two proofs")
	}
	o = money.Order{ID: money.OrderID{2}, To: biller.PayTo(), Amount: 70_000 * money.Sat}
	if _, err := purse.Pay(ctx, o); money.KindOf(err) != money.Unpaid {
		t.Errorf("more than the device's limit: %v", err)
	}
	gateway.nothingPrivate(device.Key)
}

func (m *machine) state() (s string) {
	m.Host.Do(m.t.Context(), func(d *drive.Machine) {
		switch w := d.Core(wallet.Name).(type) {
		case *wallet.Wallet:
			s = fmt.Sprintf("wallet: %+v", w.Summary())
		case *wallet.End:
			s = fmt.Sprintf("end: %+v", w.Summary())
		}
		if signer, ok := d.Core(consent.Core).(*consent.Signer); ok {
			s += fmt.Sprintf(" signer: %+v", signer.Summary(m.Host.Now()))
		}
	})
	return s
}

// nothingPrivate looks for a device's keys in everything that is on a machine's
// disk.
func (m *machine) nothingPrivate(device keys.Secret) {
	seed := device.Derive("wallet/seed").Reveal()
	must(m.t, m.db.Scan("", func(key string, value []byte) bool {
		for what, secret := range map[string][]byte{"key": device.Reveal(), "seed": seed} {
			if bytes.Contains(value, secret) || bytes.Contains(value, []byte("xprv")) || bytes.Contains(value, []byte("tprv")) {
				m.t.Errorf("record %s has the device's %s", key, what)
			}
		}
		return true
	}))
}
