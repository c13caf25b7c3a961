package iotarail_test

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	tanglenet "coinop.dev/engine/tangle"
	"coinop.dev/engine/tangle/rest"
	"coinop.dev/rail"
	"coinop.dev/rail/iotarail"
	"coinop.dev/rail/railtest"
	"coinop.dev/world/store/mem"
)

const supply = 1_000_000 * money.Sat

var coordinator = eddsa.NewSecret(eddsa.SHA512, [32]byte{7})

// network is one whose whole supply the payer has.
func network(t testing.TB) *tangle.Network {
	rich := tangle.NewAddress(iotarail.Key(railtest.Key("payer"), 0).Public())
	n, err := tangle.NewNetwork("rail test", "tst", 1, [][32]byte{coordinator.Public()}, []tangle.BasicOutput{{Amount: uint64(supply), Address: rich}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func netFile(t testing.TB) string {
	raw, err := iotarail.FormatNetwork(network(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "network.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// hub is a machine with the coordinator, which is always there.
func hub(t *testing.T) (key keys.Public, addr string) {
	n, addr := hubNode(t)
	return n.machine.Key.Public(), addr
}

type hubbed struct {
	*tanglenet.Node
	machine *engine.Machine
}

func hubNode(t *testing.T) (h hubbed, addr string) {
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := keys.SecretFromBytes([]byte("the hub of a tangle of machines!"))
	if err != nil {
		t.Fatal(err)
	}
	m := engine.New(context.Background(), engine.Options{Key: secret, DB: db})
	t.Cleanup(func() { m.Close() })
	n, err := tanglenet.Open(context.Background(), m, tanglenet.Options{Config: node.Config{
		Network: network(t), Coordinator: node.Coordinator{Secret: coordinator, Primary: true, Interval: 20 * step.Millisecond},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	at, err := m.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return hubbed{n, m}, at.String()
}

// join runs a node on a machine, with a link to the hub.
func join(t *testing.T, m *engine.Machine, hub keys.Public, addr string) (leave func(), err error) {
	n, err := tanglenet.Open(context.Background(), m, tanglenet.Options{
		Config: node.Config{Network: network(t)}, Peers: []string{hub.String() + "@" + addr},
	})
	return func() { n.Close() }, err
}

func TestRail(t *testing.T) {
	railtest.Test(t, func(t *testing.T) railtest.Rig {
		key, addr := hub(t)
		file := netFile(t)
		return railtest.Rig{
			Drivers: map[string]rail.Driver{iotarail.Scheme: iotarail.Driver{}},
			Join: func(m *engine.Machine) (func(), error) {
				return join(t, m, key, addr)
			},
			Earn: func(addr string) []string { return []string{"iota:?host=" + addr + "&net=" + file} },
			Pay:  func(keys.Public, string) []string { return []string{"iota://self?net=" + file} },
			Late: true,
			Unit: 1000 * money.Sat, TooMuch: supply,
		}
	})
}

// end is a machine with a rail, beside those of the suite.
func end(t *testing.T, name string) (*engine.Machine, string) {
	t.Helper()
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := engine.New(context.Background(), engine.Options{Key: railtest.Key(name), DB: db})
	t.Cleanup(func() { m.Close() })
	addr, err := m.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return m, addr.String()
}

func open(t *testing.T, m *engine.Machine, uri string) *rail.Rail {
	t.Helper()
	var g rail.Registry
	g.Register(iotarail.Scheme, iotarail.Driver{})
	r, err := g.Open(t.Context(), uri, rail.Env{Machine: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// Any address can be paid, and the bill of a machine by its address: the receipt
// shows that to who knows the network, and to nobody else.
func TestPlainAddress(t *testing.T) {
	key, addr := hub(t)
	m, _ := end(t, "payer")
	leave, err := join(t, m, key, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(leave)
	r := open(t, m, "iota://self?net="+netFile(t))
	shop := "iota:" + tangle.NewAddress([32]byte{9}).Bech32("tst")
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	for i, uri := range []string{shop, shop + "?amount=7&label=a%20shop"} {
		got, err := r.Pay(ctx, money.Order{ID: money.OrderID{byte(i)}, To: uri, Amount: 7})
		if err != nil || got.To != shop {
			t.Fatalf("%+v, %v", got, err)
		}
		if err := (iotarail.Driver{}).Verify(got); err == nil || !strings.Contains(err.Error(), "whom to believe") {
			t.Errorf("nobody has said whom to believe: %v", err)
		}
		bad := got
		bad.To = "iota:" + tangle.NewAddress([32]byte{8}).Bech32("tst")
		if r.Verify(bad) == nil {
			t.Error("another address is paid")
		}
	}
	if _, err := r.Pay(t.Context(), money.Order{ID: money.OrderID{1}, To: "iota:" + tangle.NewAddress([32]byte{8}).Bech32("tst"), Amount: 7}); money.KindOf(err) != money.Invalid {
		t.Errorf("the ID of another order: %v", err)
	}
	for what, uri := range map[string]string{
		"another amount":  shop + "?amount=8",
		"no address":      "iota:",
		"a bad address":   "iota:tst1qqqq",
		"another network": "iota:" + tangle.NewAddress([32]byte{9}).Bech32("iota"),
	} {
		if _, err := r.Pay(ctx, money.Order{ID: money.OrderID{9}, To: uri, Amount: 7}); money.KindOf(err) != money.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A receipt for a machine is checked by who knows nothing but the receipt, and a
// machine that goes by another network is not paid.
func TestAnybodyVerifies(t *testing.T) {
	key, addr := hub(t)
	payer, _ := end(t, "payer")
	payee, at := end(t, "payee")
	for _, m := range []*engine.Machine{payer, payee} {
		leave, err := join(t, m, key, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(leave)
	}
	buys, sells := open(t, payer, "iota://self?batch=3&net="+netFile(t)), open(t, payee, "iota:?host="+at+"&net="+netFile(t))
	biller, _ := rail.As[rail.Biller](sells)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	var paying sync.WaitGroup
	for i := range 10 {
		paying.Go(func() {
			got, err := buys.Pay(ctx, money.Order{ID: money.OrderID{byte(i)}, To: biller.PayTo(), Amount: money.Amount(10 + i)})
			if err == nil {
				err = iotarail.Driver{}.Verify(got)
			}
			if err != nil {
				t.Errorf("order %d: %v", i, err)
			}
		})
	}
	paying.Wait()
	has, _ := rail.As[rail.Liquid](buys)
	if l, err := has.Liquidity(ctx); err != nil || l.Spendable+l.InFlight != supply-145 {
		t.Errorf("%+v, %v", l, err)
	}
}

// Both machines ask the node of a third one.
func TestNodeFarAway(t *testing.T) {
	h, _ := hubNode(t)
	server, err := rest.New(rest.Options{Node: h.Node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	web := httptest.NewServer(server)
	t.Cleanup(web.Close)
	far := "net=" + netFile(t) + "&node=" + web.URL
	payer, _ := end(t, "payer")
	payee, at := end(t, "payee")
	buys, sells := open(t, payer, "iota://self?"+far), open(t, payee, "iota:?poll=1&host="+at+"&"+far)
	biller, _ := rail.As[rail.Biller](sells)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	got, err := buys.Pay(ctx, money.Order{ID: money.OrderID{1}, To: biller.PayTo(), Amount: 1000})
	if err == nil {
		err = iotarail.Driver{}.Verify(got)
	}
	if err != nil {
		t.Fatal(err)
	}
	if paid, err := biller.Settled(ctx); err != nil || paid.Order != got.Order || paid.Amount != 1000 {
		t.Errorf("%+v, %v", paid, err)
	}
}

func TestURIs(t *testing.T) {
	m, _ := end(t, "payer")
	var g rail.Registry
	g.Register(iotarail.Scheme, iotarail.Driver{})
	for uri, want := range map[string]string{
		"iota:":                        "where payers find this machine",
		"iota://somewhere":             "iota://self",
		"iota:tst1":                    "iota://self",
		"iota://self":                  "no node of a Tangle",
		"iota://self?net=/none":        "no such file",
		"iota://self?batch=0":          "batch",
		"iota://self?node=http://me:1": "net=",
		"iota://self?poll=1":           "node=",
	} {
		if _, err := g.Open(t.Context(), uri, rail.Env{Machine: m}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", uri, err, want)
		}
	}
}

// A network goes through its file.
func TestNetworkFile(t *testing.T) {
	n := network(t)
	n.MinScore, n.MinZeros, n.BelowMaxDepth, n.StorageCost = 3, 4, 9, 100
	raw, err := iotarail.FormatNetwork(n)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := iotarail.ParseNetwork(raw); err != nil || !reflect.DeepEqual(n, back) {
		t.Errorf("%+v comes back as %+v: %v", n, back, err)
	}
}

// A machine has one wallet, so its rails agree whose.
func TestTwoRailsOfOneMachine(t *testing.T) {
	m, addr := end(t, "payer")
	file := netFile(t)
	open(t, m, "iota:?host="+addr+"&net="+file)
	open(t, m, "iota://self?net="+file)
	var g rail.Registry
	g.Register(iotarail.Scheme, iotarail.Driver{})
	if _, err := g.Open(t.Context(), "iota://self?index=1&net="+file, rail.Env{Machine: m}); err == nil || !strings.Contains(err.Error(), "index=") {
		t.Errorf("two keys: %v", err)
	}
}

// What a machine asks others to pay is paid by any wallet, its till knows the order,
// and a receipt can be had again.
func TestInvoice(t *testing.T) {
	key, addr := hub(t)
	payer, _ := end(t, "payer")
	payee, at := end(t, "payee")
	for _, m := range []*engine.Machine{payer, payee} {
		leave, err := join(t, m, key, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(leave)
	}
	buys, sells := open(t, payer, "iota://self?net="+netFile(t)), open(t, payee, "iota:?host="+at+"&net="+netFile(t))
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	asks, _ := rail.As[interface {
		Invoice(context.Context, money.Bill) (string, error)
	}](sells)
	uri, err := asks.Invoice(ctx, money.Bill{ID: money.OrderID{7}, Amount: 500})
	if err != nil {
		t.Fatal(err)
	}
	got, err := buys.Pay(ctx, money.Order{ID: money.OrderID{8}, To: uri, Amount: 500})
	if err != nil {
		t.Fatal(err)
	}
	biller, _ := rail.As[rail.Biller](sells)
	if paid, err := biller.Settled(ctx); err != nil || paid.Order != (money.OrderID{7}) || paid.Amount != 500 {
		t.Errorf("%+v, %v", paid, err)
	}
	again, err := buys.Prove(ctx, got.Order)
	if err != nil || !bytes.Equal(again.Proof, got.Proof) || again.To != got.To || buys.Verify(again) != nil {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := buys.Prove(ctx, money.OrderID{9}); !errors.Is(err, money.ErrForgotten) {
		t.Errorf("%v", err)
	}
	if _, err := asks.Invoice(ctx, money.Bill{ID: money.OrderID{6}}); money.KindOf(err) != money.Invalid {
		t.Errorf("a bill for nothing: %v", err)
	}
}

// FuzzNetwork: a file that is read says the same when it is written again.
func FuzzNetwork(f *testing.F) {
	raw, err := iotarail.FormatNetwork(network(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"name":"x","hrp":"tst","threshold":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, err := iotarail.ParseNetwork(raw)
		if err != nil {
			return
		}
		again, err := iotarail.FormatNetwork(n)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := iotarail.ParseNetwork(again); err != nil || !reflect.DeepEqual(back, n) {
			t.Errorf("%s is written as %s: %v", raw, again, err)
		}
	})
}
