package nanorail_test

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/ledger/lattice/wallet"
	"coinop.dev/core/money"
	"coinop.dev/engine"
	nanonet "coinop.dev/engine/lattice"
	"coinop.dev/engine/lattice/rpc"
	"coinop.dev/rail"
	"coinop.dev/rail/nanorail"
	"coinop.dev/rail/railtest"
	"coinop.dev/world/store/mem"
)

const supply = 1_000_000 * money.Sat

// genesis has all there is, and all votes: it is the payer's account.
func genesis() eddsa.Secret { return nanorail.Key(railtest.Key("payer"), 0) }

func network() lattice.Network {
	return lattice.NewNetwork("rail test", genesis(), wallet.Raw(supply), 2, 1)
}

// join runs a node on a machine, which knows the others by their addresses.
func join(m *engine.Machine, listen string, peers []string, reps ...eddsa.Secret) (*nanonet.Node, error) {
	return nanonet.Open(context.Background(), m, nanonet.Options{
		Config: node.Config{Network: network(), ID: lattice.NewSecret([32]byte(m.Key.Derive("node").Reveal())), Reps: reps},
		Listen: listen, Peers: peers, Closed: true,
	})
}

// hub is a machine with the representative's node, which is always there.
func hub(t *testing.T) *nanonet.Node {
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.SecretFromBytes([]byte("the hub of a lattice of machines"))
	if err != nil {
		t.Fatal(err)
	}
	m := engine.New(context.Background(), engine.Options{Key: key, DB: db})
	t.Cleanup(func() { m.Close() })
	n, err := join(m, "127.0.0.1:0", nil, genesis())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestRail(t *testing.T) {
	railtest.Test(t, func(t *testing.T) railtest.Rig {
		at := hub(t).Addr().String()
		return railtest.Rig{
			Drivers: map[string]rail.Driver{nanorail.Scheme: nanorail.Driver{}},
			Join: func(m *engine.Machine) (func(), error) {
				n, err := join(m, "", []string{at})
				return func() { n.Close() }, err
			},
			Earn: func(addr string) []string { return []string{"nano:?host=" + addr} },
			Pay:  func(keys.Public, string) []string { return []string{"nano://self"} },
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
	g.Register(nanorail.Scheme, nanorail.Driver{})
	r, err := g.Open(t.Context(), uri, rail.Env{Machine: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func pay(t *testing.T, r *rail.Rail, id byte, to string, a money.Amount) money.Receipt {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	got, err := r.Pay(ctx, money.Order{ID: money.OrderID{id}, To: to, Amount: a})
	if err != nil {
		t.Fatalf("pay %s: %v", to, err)
	}
	return got
}

// Any address can be paid, and the bill of a machine by its address: the receipt
// shows that to who knows the network, and to nobody else.
func TestPlainAddress(t *testing.T) {
	at := hub(t).Addr().String()
	m, _ := end(t, "payer")
	n, err := join(m, "", []string{at})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	r := open(t, m, "nano://self")
	shop := lattice.Key(lattice.NewSecret([32]byte{9}).Public())
	for i, uri := range []lattice.URI{{Account: shop}, {Account: shop, Amount: wallet.Raw(7)}, {Account: shop, Amount: lattice.Mul64(7, wallet.Unit+1), Label: "a shop"}} {
		got := pay(t, r, byte(i+1), uri.String(), 7)
		if got.To != "nano:"+shop.String() {
			t.Errorf("the receipt names %s", got.To)
		}
		if err := (nanorail.Driver{}).Verify(got); err == nil || !strings.Contains(err.Error(), "whom to believe") {
			t.Errorf("nobody has said whom to believe: %v", err)
		}
		bad := got
		bad.To = "nano:" + lattice.Key{5}.String()
		if r.Verify(bad) == nil {
			t.Error("another address is paid")
		}
	}
	has, _ := rail.As[rail.Liquid](r)
	if l, err := has.Liquidity(t.Context()); err != nil || l.Spendable != supply-3*7-1 { // and 7 raw
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := r.Pay(t.Context(), money.Order{ID: money.OrderID{1}, To: lattice.URI{Account: lattice.Key{5}}.String(), Amount: 7}); money.KindOf(err) != money.Invalid {
		t.Errorf("the ID of another order: %v", err)
	}
	for what, uri := range map[string]string{
		"another amount": lattice.URI{Account: shop, Amount: wallet.Raw(8)}.String(),
		"no address":     "nano:",
		"a bad address":  "nano:nano_1111",
	} {
		if _, err := r.Pay(t.Context(), money.Order{ID: money.OrderID{9}, To: uri, Amount: 7}); money.KindOf(err) != money.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Both machines ask the node of a third one.
func TestNodeFarAway(t *testing.T) {
	n := hub(t)
	server, err := rpc.New(rpc.Options{Node: n, Work: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	web, socket := httptest.NewServer(server), httptest.NewServer(server.Socket())
	t.Cleanup(web.Close)
	t.Cleanup(socket.Close)
	far := "net=" + netFile(t) + "&node=" + web.URL + "&socket=ws" + strings.TrimPrefix(socket.URL, "http")
	payer, _ := end(t, "payer")
	payee, addr := end(t, "payee")
	buys, sells := open(t, payer, "nano://self?"+far), open(t, payee, "nano:?host="+addr+"&"+far)
	biller, _ := rail.As[rail.Biller](sells)
	for i := range 3 {
		got := pay(t, buys, byte(i+1), biller.PayTo(), 1000)
		if err := (nanorail.Driver{}).Verify(got); err != nil {
			t.Error(err)
		}
		if paid, err := biller.Settled(t.Context()); err != nil || paid.Order != got.Order || paid.Amount != 1000 {
			t.Errorf("%+v, %v", paid, err)
		}
	}
}

// Machines that go by different networks do not pay each other, and say why.
func TestAnotherNetwork(t *testing.T) {
	at := hub(t).Addr().String()
	payer, _ := end(t, "payer")
	n, err := join(payer, "", []string{at})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	other := network()
	other.Reps = lattice.Weights{{Rep: lattice.Key{1}, Weight: wallet.Raw(supply)}}
	payee, addr := end(t, "payee")
	sells := open(t, payee, "nano:?host="+addr+"&net="+netFile(t, other))
	biller, _ := rail.As[rail.Biller](sells)
	o := money.Order{ID: money.OrderID{1}, To: biller.PayTo(), Amount: 1000}
	if _, err := open(t, payer, "nano://self").Pay(t.Context(), o); !errors.Is(err, money.Unpaid) || !strings.Contains(err.Error(), "network") {
		t.Errorf("%v", err)
	}
}

func TestURIs(t *testing.T) {
	m, _ := end(t, "payer")
	var g rail.Registry
	g.Register(nanorail.Scheme, nanorail.Driver{})
	for uri, want := range map[string]string{
		"nano:":                                       "where payers find this machine",
		"nano://somewhere":                            "nano://self",
		"nano:nano_1":                                 "nano://self",
		"nano://self":                                 "no lattice node",
		"nano://self?net=/none":                       "no such file",
		"nano://self?node=http://127.0.0.1:1":         "net=",
		"nano://self?socket=ws://127.0.0.1:1":         "node=",
		"nano://self?rep=me":                          "account",
		"nano://self?index=-1":                        "index",
		"nano://self?seed=nowhere:&net=" + netFile(t): "nowhere",
	} {
		if _, err := g.Open(t.Context(), uri, rail.Env{Machine: m}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", uri, err, want)
		}
	}
}

// netFile is a network's file.
func netFile(t testing.TB, networks ...lattice.Network) string {
	t.Helper()
	raw, err := nanorail.FormatNetwork(append(networks, network())[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "network.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A network goes through its file.
func TestNetworkFile(t *testing.T) {
	n := network()
	n.Reps = lattice.Weights{{Rep: n.Genesis.Account, Weight: n.Supply()}}
	path := netFile(t, n)
	back, err := nanorail.ReadNetwork(path)
	if err != nil || back.Genesis != n.Genesis || back.Name != n.Name || back.Magic != n.Magic || wallet.Table(&back) != wallet.Table(&n) ||
		back.WorkSend != n.WorkSend || back.WorkReceive != n.WorkReceive || back.OnlineMinimum != n.OnlineMinimum {
		t.Errorf("%+v comes back as %+v: %v", n, back, err)
	}
}

// A machine has one wallet, so its rails agree whose.
func TestTwoRailsOfOneMachine(t *testing.T) {
	m, addr := end(t, "payer")
	file := netFile(t)
	open(t, m, "nano:?host="+addr+"&net="+file)
	open(t, m, "nano://self?net="+file)
	var g rail.Registry
	g.Register(nanorail.Scheme, nanorail.Driver{})
	if _, err := g.Open(t.Context(), "nano://self?index=1&net="+file, rail.Env{Machine: m}); err == nil || !strings.Contains(err.Error(), "index=") {
		t.Errorf("two keys: %v", err)
	}
}

// What a machine asks others to pay is paid by any wallet, its till knows the order,
// and a receipt can be had again.
func TestInvoice(t *testing.T) {
	at := hub(t).Addr().String()
	payer, _ := end(t, "payer")
	payee, addr := end(t, "payee")
	for _, m := range []*engine.Machine{payer, payee} {
		n, err := join(m, "", []string{at})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
	}
	buys, sells := open(t, payer, "nano://self"), open(t, payee, "nano:?host="+addr)
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
	raw, err := nanorail.FormatNetwork(network())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"name":"x","magic":"RX"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, err := nanorail.ParseNetwork(raw)
		if err != nil {
			return
		}
		again, err := nanorail.FormatNetwork(n)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := nanorail.ParseNetwork(again); err != nil || !reflect.DeepEqual(back, n) {
			t.Errorf("%s is written as %s: %v", raw, again, err)
		}
	})
}
