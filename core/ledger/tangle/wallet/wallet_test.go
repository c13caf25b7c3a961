package wallet_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/wallet"
	"coinop.dev/core/ledger/transfer"
	"coinop.dev/core/money"
)

func secret(name string) eddsa.Secret {
	var key [32]byte
	copy(key[:], name)
	return eddsa.NewSecret(eddsa.SHA512, key)
}

func network(t testing.TB) *tangle.Network {
	t.Helper()
	first := tangle.BasicOutput{Amount: 1_000_000, Address: tangle.NewAddress(secret("rich").Public())}
	n, err := tangle.NewNetwork("wallet test", "tst", 1, [][32]byte{secret("coordinator").Public()}, []tangle.BasicOutput{first})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func account(t testing.TB, name string, change ...func(*wallet.Options)) *wallet.Account {
	t.Helper()
	o := wallet.Options{Network: network(t), Key: secret(name)}
	for _, f := range change {
		f(&o)
	}
	a, err := wallet.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// state is an address with some outputs, made by transactions of others.
func state(a *wallet.Account, index uint32, amounts ...uint64) tangle.State {
	s := tangle.State{Address: a.Address(), Index: index}
	for i, amount := range amounts {
		s.Unspent = append(s.Unspent, tangle.Unspent{ID: tangle.NewOutputID(tangle.TransactionID{byte(index), byte(i >> 8), byte(i)}, 0), Amount: amount})
	}
	return s
}

func order(n int) money.OrderID { return money.OrderID{1, byte(n >> 8), byte(n)} }

// bill is a payment of some msat to the poor account.
func bill(t testing.TB, n int, amount money.Amount) transfer.Payment {
	t.Helper()
	text, _, err := account(t, "poor").Bill(order(n), amount, 0)
	if err != nil {
		t.Fatal(err)
	}
	return transfer.Payment{Order: order(n), Amount: amount, Bill: text}
}

func build(t testing.TB, a *wallet.Account, want int, p ...transfer.Payment) (transfer.Transfer, *tangle.Transaction) {
	t.Helper()
	tr, n, err := a.Build(p)
	if err != nil || n != want {
		t.Fatalf("%d orders are paid, not %d: %v", n, want, err)
	}
	return tr, tr.Submit.(tangle.Submit).Transaction
}

// final is a milestone that has applied one transaction.
func final(t testing.TB, index uint32, tx *tangle.Transaction, coordinator string) tangle.Final {
	t.Helper()
	raw := (&tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}}, Payload: tx}).Append(nil)
	ids := []tangle.BlockID{{1}, tangle.IDOf(raw), {2}}
	m := &tangle.Milestone{Index: index, Timestamp: 6, Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}}, AppliedRoot: tangle.MerkleRoot(ids)}
	m.Sign(secret(coordinator))
	in, err := tangle.NewInclusion(ids, 1)
	if err != nil {
		t.Fatal(err)
	}
	return tangle.Final{Transaction: tx.ID(), Proof: tangle.NewProof(raw, m, in)}
}

// A transaction pays all orders that wait, and each of them is proved by itself.
func TestOrdersShareATransaction(t *testing.T) {
	a := account(t, "rich")
	a.Hear(state(a, 3, 500, 400, 300))
	orders := []transfer.Payment{bill(t, 1, 100), bill(t, 2, 100), bill(t, 3, 650), bill(t, 4, 400)}
	tr, tx := build(t, a, 3, orders...)
	if len(tx.Essence.Inputs) != 2 || len(tx.Essence.Outputs) != 4 || tx.Essence.Outputs[3] != (tangle.BasicOutput{Amount: 50, Address: a.Address()}) || tx.Verify() != nil {
		t.Fatalf("%+v", tx.Essence)
	}
	for what, f := range map[string]tangle.Final{
		"another coordinator": final(t, 4, tx, "me"),
		"another transaction": {Transaction: tx.ID(), Proof: final(t, 4, other(t), "coordinator").Proof},
		"no milestone":        {Transaction: tx.ID()},
	} {
		if a.Hear(f).Final != nil {
			t.Errorf("%s makes it final", what)
		}
	}
	news := a.Hear(final(t, 4, tx, "coordinator"))
	if len(news.Final) != 1 || news.Final[0].ID != tr.ID || len(news.Final[0].Spent) != 2 {
		t.Fatalf("%+v", news)
	}
	proof := news.Final[0].Proof
	for i, p := range orders {
		b, err := wallet.ParseBill(p.Bill)
		if err != nil {
			t.Fatal(err)
		}
		if err := wallet.Verify(b, proof); (err == nil) != (i < 3) {
			t.Errorf("order %d: %v", i, err)
		}
	}
	b, _ := wallet.ParseBill(orders[0].Bill)
	forge(t, b, proof)
}

// other is a transaction of somebody else.
func other(t testing.TB) *tangle.Transaction {
	a := account(t, "other")
	a.Hear(state(a, 3, 500))
	_, tx := build(t, a, 1, bill(t, 1, 100))
	return tx
}

// forge changes everything about a bill and its proof.
func forge(t *testing.T, b wallet.Bill, proof []byte) {
	for what, change := range map[string]func(b *wallet.Bill){
		"another amount":       func(b *wallet.Bill) { b.Amount++ },
		"the next one's order": func(b *wallet.Bill) { b.Order = order(3) },
		"another order":        func(b *wallet.Bill) { b.Order = order(9) },
		"another address":      func(b *wallet.Bill) { b.Address[5] ^= 1 },
		"other keys":           func(b *wallet.Bill) { b.Keys[0] ^= 1 },
	} {
		bad := b
		change(&bad)
		if wallet.Verify(bad, proof) == nil {
			t.Errorf("%s is proved", what)
		}
	}
	for i := range proof {
		bad := bytes.Clone(proof)
		bad[i] ^= 1 << (i % 8)
		if wallet.Verify(b, bad) == nil {
			t.Errorf("byte %d of %d is changed, and nobody minds", i, len(proof))
		}
	}
}

// What is spoken for is not spent again, and what comes back is waited for.
func TestMoneyOnItsWay(t *testing.T) {
	a := account(t, "rich")
	if _, _, err := a.Build([]transfer.Payment{bill(t, 1, 1)}); !errors.Is(err, transfer.ErrLater) {
		t.Errorf("the node has not said anything: %v", err)
	}
	a.Hear(state(a, 3, 500))
	_, tx := build(t, a, 1, bill(t, 1, 100))
	if _, _, err := a.Build([]transfer.Payment{bill(t, 2, 400)}); !errors.Is(err, transfer.ErrLater) {
		t.Errorf("400 are on their way back: %v", err)
	}
	if _, _, err := a.Build([]transfer.Payment{bill(t, 2, 401)}); err == nil || errors.Is(err, transfer.ErrLater) {
		t.Errorf("more than there is: %v", err)
	}
	a.Hear(final(t, 4, tx, "coordinator"))
	if _, _, err := a.Build([]transfer.Payment{bill(t, 2, 400)}); !errors.Is(err, transfer.ErrLater) {
		t.Errorf("the node has not said what is left: %v", err)
	}
	a.Hear(state(a, 3, 500)) // from before
	if free, _, _ := a.Funds(); free != 0 {
		t.Errorf("%d can be spent again", free)
	}
	a.Hear(state(a, 4, 400))
	build(t, a, 1, bill(t, 2, 400))
}

// A transaction that can never be applied leaves its money, once the node has said
// what is there.
func TestRefusals(t *testing.T) {
	for why, forever := range map[tangle.Refusal]bool{
		tangle.BadTransaction: true, tangle.SpentInput: true, tangle.NoInput: false, tangle.Busy: false, tangle.NotSynced: false, tangle.Pruned: false,
	} {
		a := account(t, "rich")
		a.Hear(state(a, 3, 500))
		tr, tx := build(t, a, 1, bill(t, 1, 500))
		news := a.Hear(tangle.Rejected{Transaction: tx.ID(), Why: why})
		if (len(news.Dead) == 1 && news.Dead[0].ID == tr.ID && news.Ask) != forever {
			t.Errorf("%s: %+v", why, news)
		}
		if _, _, err := a.Build([]transfer.Payment{bill(t, 1, 500)}); errors.Is(err, transfer.ErrLater) != forever {
			t.Errorf("%s: %v", why, err)
		}
		a.Hear(state(a, 3, 500))
		if _, n, _ := a.Build([]transfer.Payment{bill(t, 1, 500)}); (n == 1) != forever {
			t.Errorf("%s: %d orders are paid", why, n)
		}
	}
}

// Many small outputs become one, and the largest stays for the next payment.
func TestGather(t *testing.T) {
	a := account(t, "rich")
	amounts := make([]uint64, 200)
	for i := range amounts {
		amounts[i] = uint64(i + 1)
	}
	a.Hear(state(a, 3, amounts...))
	_, tx := build(t, a, 0)
	if len(tx.Essence.Inputs) != tangle.MaxInputs || len(tx.Essence.Outputs) != 1 || tx.Essence.Payload != nil {
		t.Errorf("%d inputs, %d outputs", len(tx.Essence.Inputs), len(tx.Essence.Outputs))
	}
	build(t, a, 1, bill(t, 1, 200))
	build(t, a, 0)
	if free, _, _ := a.Funds(); free == 0 {
		t.Error("nothing is left")
	}
	a.Hear(state(a, 4, amounts[:10]...))
	if tr, _, _ := a.Build(nil); tr.Raw != nil {
		t.Error("few outputs are gathered")
	}
}

// On a network that wants a deposit for every output, no smaller one is made.
func TestStorageDeposit(t *testing.T) {
	a := account(t, "rich", func(o *wallet.Options) { o.Network.StorageCost = 1 })
	least := tangle.BasicOutput{}.StorageDeposit(1)
	if _, _, err := a.Bill(order(1), money.Amount(least-1), 0); err == nil {
		t.Error("a bill that nobody can pay")
	}
	a.Hear(state(a, 3, 3*least))
	if _, _, err := a.Build([]transfer.Payment{bill(t, 1, money.Amount(least-1))}); err == nil {
		t.Error("an output of too little is made")
	}
	if _, _, err := a.Build([]transfer.Payment{bill(t, 1, money.Amount(3*least-1))}); err == nil || errors.Is(err, transfer.ErrLater) {
		t.Errorf("change of too little is made: %v", err)
	}
	build(t, a, 1, bill(t, 1, money.Amount(2*least)))
}

// What others have paid is told with the order that it is for, by its place. Change
// pays nothing, or a payee could choose the ID of an order that it owes us.
func TestCoins(t *testing.T) {
	a := account(t, "poor")
	s := state(a, 3, 10, 20, 30, 40, 50)
	both := append(bytes.Clone(idOf(1)), idOf(2)...)
	for i, c := range []struct {
		tag   string
		data  []byte
		place uint16
	}{{wallet.Tag, both, 1}, {wallet.Tag, idOf(3), 0}, {wallet.Tag, idOf(4), 1}, {"else", both, 0}, {wallet.Tag, both[:17], 0}} {
		s.Unspent[i].Note = &tangle.TaggedData{Tag: []byte(c.tag), Data: c.data}
		s.Unspent[i].ID = tangle.NewOutputID(s.Unspent[i].ID.Transaction(), c.place)
	}
	coins := a.Hear(s).Coins
	if len(coins) != 2 || coins[0].Key != order(2).Key() || coins[0].Amount != 10 || coins[1].Key != order(3).Key() {
		t.Errorf("%+v", coins)
	}
}

func idOf(n int) []byte { id := order(n); return id[:] }

// What is on disk is what goes on.
func TestLoad(t *testing.T) {
	a := account(t, "rich")
	a.Hear(state(a, 3, 500, 400))
	one, _ := build(t, a, 1, bill(t, 1, 450))
	two, _ := build(t, a, 1, bill(t, 2, 400))
	again := account(t, "rich")
	list, err := again.Load(a.Head(), [][]byte{one.Raw, two.Raw})
	if err != nil || len(list) != 2 || list[0].ID != one.ID || list[1].ID != two.ID {
		t.Fatalf("%+v, %v", list, err)
	}
	again.Hear(state(again, 3, 500, 400))
	if free, back, _ := again.Funds(); free != 0 || back != 50 {
		t.Errorf("%d can be spent, %d come back", free, back)
	}
	if _, err := again.Load(nil, [][]byte{{1, 2, 3}}); err == nil {
		t.Error("a damaged disk is read")
	}
}

// FuzzBill: a bill has one text.
func FuzzBill(f *testing.F) {
	f.Add(bill(f, 1, 7).Bill)
	f.Add("iota:tst1")
	f.Add(bill(f, 1, 7).Bill + "&order=")
	f.Fuzz(func(t *testing.T, text string) {
		if b, err := wallet.ParseBill(text); err == nil && b.String() != text {
			t.Errorf("%q is read as %q", text, b)
		}
		if u, err := wallet.ParseURI(text); err == nil && !strings.HasPrefix(strings.ToLower(text), wallet.Scheme+u.Address.Bech32(u.HRP)) && text == strings.ToLower(text) {
			t.Errorf("%q is read as %+v", text, u)
		}
	})
}

// FuzzVerify: nothing but the proof proves.
func FuzzVerify(f *testing.F) {
	a := account(f, "rich")
	a.Hear(state(a, 3, 500))
	p := bill(f, 1, 100)
	_, tx := build(f, a, 1, p)
	proof := a.Hear(final(f, 4, tx, "coordinator")).Final[0].Proof
	b, err := wallet.ParseBill(p.Bill)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(proof)
	f.Add(proof[:100])
	f.Fuzz(func(t *testing.T, raw []byte) {
		if wallet.Verify(b, raw) == nil && !bytes.Equal(raw, proof) {
			t.Errorf("%x is a proof, too", raw)
		}
	})
}
