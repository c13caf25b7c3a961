package wallet_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/wallet"
	"coinop.dev/core/ledger/transfer"
	"coinop.dev/core/money"
)

func secret(name string) eddsa.Secret {
	var key [32]byte
	copy(key[:], name)
	return lattice.NewSecret(key)
}

func key(name string) lattice.Key { return secret(name).Public() }

// network has three representatives, of which two are a quorum.
func network() lattice.Network {
	n := lattice.NewNetwork("wallet test", secret("genesis"), wallet.Raw(1_000_000), 0, 0)
	third, _ := n.Supply().Div(3)
	n.Reps = lattice.Weights{{Rep: key("rep1"), Weight: third}, {Rep: key("rep2"), Weight: third}, {Rep: key("rep3"), Weight: third}}
	for i := range n.Reps {
		for j := range i {
			if bytes.Compare(n.Reps[j].Rep[:], n.Reps[i].Rep[:]) > 0 {
				n.Reps[i], n.Reps[j] = n.Reps[j], n.Reps[i]
			}
		}
	}
	return n
}

func account(t testing.TB, name string) *wallet.Account {
	t.Helper()
	a, err := wallet.New(wallet.Options{Network: network(), Key: secret(name)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// rich is an account that has 1000 msat after four cemented blocks.
func rich(t testing.TB) *wallet.Account {
	a := account(t, "rich")
	if _, err := a.Load(nil, nil); err != nil {
		t.Fatal(err)
	}
	a.Hear(stands(a, 4, 4, 1000))
	return a
}

func stands(a *wallet.Account, height, confirmed uint64, amount money.Amount) lattice.State {
	return lattice.State{Account: a.Key(), Frontier: lattice.Hash{byte(height)}, Height: height, Confirmed: confirmed, Representative: key("rep1"), Balance: wallet.Raw(amount)}
}

// bill is a payment of some msat to the poor account.
func bill(t testing.TB, n uint64, amount money.Amount) transfer.Payment {
	t.Helper()
	text, _, err := account(t, "poor").Bill(money.OrderID{byte(n)}, amount, n)
	if err != nil {
		t.Fatal(err)
	}
	return transfer.Payment{Order: money.OrderID{byte(n)}, Amount: amount, Bill: text}
}

func build(t testing.TB, a *wallet.Account, p ...transfer.Payment) (transfer.Transfer, lattice.Block) {
	t.Helper()
	tr, n, err := a.Build(p)
	if err != nil || n != len(p) {
		t.Fatalf("%d orders are paid, %v", n, err)
	}
	return tr, tr.Submit.(lattice.Submit).Block
}

// final cements a block with the votes of some.
func final(b, previous lattice.Block, reps ...string) lattice.Final {
	f := lattice.Final{Block: b, Previous: previous, Proof: lattice.Certificate{Hash: b.Hash()}}
	for _, rep := range reps {
		v := lattice.Vote{Timestamp: lattice.FinalTimestamp, Hashes: []lattice.Hash{b.Hash()}}
		v.Sign(secret(rep))
		f.Proof.Votes = append(f.Proof.Votes, v)
	}
	return f
}

// Blocks follow each other before any is cemented, and what waits comes first.
func TestBlocksFollowEachOther(t *testing.T) {
	a := rich(t)
	s := stands(a, 4, 4, 1000)
	s.Receivable = []lattice.Receivable{{Source: lattice.Hash{7}, Amount: wallet.Raw(500)}, {Source: lattice.Hash{8}, Amount: lattice.RawOf(5)}}
	a.Hear(s)
	got, receive := build(t, a)
	if receive.Previous != s.Frontier || receive.Balance != wallet.Raw(1500) || receive.Link != [32]byte{7} || !receive.Signed() || got.ID != transfer.ID(receive.Hash()) {
		t.Errorf("%+v", receive)
	}
	if more, _, _ := a.Build(nil); more.Raw != nil {
		t.Error("dust is pocketed")
	}
	_, first := build(t, a, bill(t, 1, 900))
	_, second := build(t, a, bill(t, 2, 300))
	if first.Previous != receive.Hash() || second.Previous != first.Hash() || second.Representative != key("rep1") || first.Link != key("poor") {
		t.Errorf("%+v, %+v", first, second)
	}
	if _, _, err := a.Build([]transfer.Payment{bill(t, 3, 300)}); err == nil || errors.Is(err, transfer.ErrLater) {
		t.Errorf("more than there is: %v", err)
	}
	// Older news change nothing.
	a.Hear(s)
	if _, third := build(t, a, bill(t, 4, 100)); third.Previous != second.Hash() {
		t.Error("the chain goes on elsewhere")
	}
}

// The first block of an account opens it.
func TestOpen(t *testing.T) {
	a := account(t, "new")
	a.Hear(lattice.State{Account: a.Key(), Receivable: []lattice.Receivable{{Source: lattice.Hash{7}, Amount: wallet.Raw(500)}}})
	_, b := build(t, a)
	if b.Kind(lattice.Raw{}, true) != lattice.Open || b.Representative != network().Reps[0].Rep {
		t.Errorf("%+v", b)
	}
}

// A transfer is final once others can be shown so.
func TestFinal(t *testing.T) {
	a := rich(t)
	tr, first := build(t, a, bill(t, 1, 100))
	previous := lattice.Block{Account: a.Key(), Representative: key("rep1"), Balance: wallet.Raw(1000)}
	if a.Hear(final(first, previous, "rep1", "rep2", "rep3")).Final != nil {
		t.Error("the block before it is another one")
	}
	// The chain that the node speaks of is one whose blocks are known here.
	a = account(t, "rich")
	s := stands(a, 4, 4, 1000)
	s.Frontier = previous.Hash()
	a.Hear(s)
	p := bill(t, 1, 100)
	tr, first = build(t, a, p)
	for what, f := range map[string]lattice.Final{
		"too few votes": final(first, previous, "rep1", "rep2"),
		"a stranger's":  final(first, previous, "rep1", "rep2", "me"),
		"no votes":      final(first, previous),
		"of another":    {Block: first, Previous: previous, Proof: final(previous, lattice.Block{}, "rep1", "rep2", "rep3").Proof},
	} {
		if a.Hear(f).Final != nil {
			t.Errorf("%s make it final", what)
		}
	}
	news := a.Hear(final(first, previous, "rep1", "rep2", "rep3"))
	if len(news.Final) != 1 || news.Final[0].ID != tr.ID {
		t.Fatalf("%+v", news)
	}
	b, err := wallet.ParseBill(p.Bill)
	if err != nil || wallet.Verify(b, news.Final[0].Proof) != nil {
		t.Errorf("%v, %v", err, wallet.Verify(b, news.Final[0].Proof))
	}
	forge(t, b, news.Final[0].Proof)
	if again := a.Hear(final(first, previous, "rep1", "rep2", "rep3")); again.Final != nil {
		t.Error("it is final twice")
	}
	// News from before are not listened to: the node is restored from a backup.
	if coins := a.Hear(lattice.State{Account: a.Key(), Height: 4, Receivable: []lattice.Receivable{{Source: lattice.Hash{9}, Amount: wallet.Raw(1)}}}).Coins; coins != nil {
		t.Errorf("%+v", coins)
	}
}

// forge changes everything about a bill and its proof.
func forge(t *testing.T, b wallet.Bill, proof []byte) {
	for what, change := range map[string]func(b *wallet.Bill){
		"another amount":  func(b *wallet.Bill) { b.Amount.Lo++ },
		"more than there": func(b *wallet.Bill) { b.Amount = lattice.MaxRaw },
		"another account": func(b *wallet.Bill) { b.Account[0] ^= 1 },
		"another table":   func(b *wallet.Bill) { b.Table[0] ^= 1 },
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
	if wallet.Verify(b, proof[:len(proof)-1]) == nil || wallet.Verify(b, append(bytes.Clone(proof), 0)) == nil {
		t.Error("another length is taken")
	}
}

// Another block is cemented in the place of one of ours: what follows it is dead too,
// and the chain goes on behind the other one.
func TestFork(t *testing.T) {
	a := rich(t)
	first, b := build(t, a, bill(t, 1, 100))
	second, _ := build(t, a, bill(t, 2, 100))
	fork := lattice.Rejected{Hash: b.Hash(), Why: lattice.Fork}
	if news := a.Hear(fork); news.Dead != nil {
		t.Error("it is given up while it may still win")
	}
	s := stands(a, 5, 5, 700)
	a.Hear(s)
	if _, third := build(t, a, bill(t, 3, 1)); third.Previous == s.Frontier {
		t.Error("the chain is left while ours may still win")
	}
	news := a.Hear(fork)
	if len(news.Dead) != 3 || news.Dead[0].ID != first.ID || news.Dead[1].ID != second.ID || !news.Ask {
		t.Fatalf("%+v", news)
	}
	if _, _, err := a.Build([]transfer.Payment{bill(t, 4, 1)}); !errors.Is(err, transfer.ErrLater) {
		t.Errorf("nobody has said where the chain ends: %v", err)
	}
	a.Hear(s)
	if _, next := build(t, a, bill(t, 4, 1)); next.Previous != s.Frontier || next.Balance.Cmp(wallet.Raw(699)) >= 0 {
		t.Errorf("%+v", next)
	}
}

func TestRefusals(t *testing.T) {
	for why, forever := range map[lattice.Refusal]bool{
		lattice.BadSignature: true, lattice.BalanceWrong: true, lattice.NegativeSpend: true, lattice.Unreceivable: true,
		lattice.BadWork: false, lattice.GapSource: false, lattice.Old: false, lattice.Busy: false, lattice.TooManyUnproven: false, lattice.GapPrevious: false,
	} {
		a := rich(t)
		_, b := build(t, a, bill(t, 1, 100))
		if news := a.Hear(lattice.Rejected{Hash: b.Hash(), Why: why}); (len(news.Dead) == 1) != forever {
			t.Errorf("%s: %+v", why, news)
		}
	}
	if news := rich(t).Hear(lattice.Rejected{Hash: lattice.Hash{1}, Why: lattice.BadSignature}); news.Dead != nil {
		t.Error("a block of nobody is dead")
	}
}

// What is on disk is what goes on.
func TestLoad(t *testing.T) {
	a := rich(t)
	var raws [][]byte
	var last lattice.Block
	for n := range uint64(3) {
		tr, b := build(t, a, bill(t, n, 10))
		raws, last = append(raws, tr.Raw), b
	}
	again := account(t, "rich")
	list, err := again.Load(a.Head(), raws)
	if err != nil || len(list) != 3 || list[2].ID != transfer.ID(last.Hash()) || list[2].Submit.(lattice.Submit).Block != last {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, _, err := again.Build([]transfer.Payment{bill(t, 9, 1)}); !errors.Is(err, transfer.ErrLater) {
		t.Errorf("the node has not said anything: %v", err)
	}
	again.Hear(stands(again, 4, 4, 1000))
	if _, next := build(t, again, bill(t, 9, 1)); next.Previous != last.Hash() {
		t.Error("the chain goes on elsewhere")
	}
	if _, err := account(t, "poor").Load(nil, raws); err == nil || !strings.Contains(err.Error(), "restore") {
		t.Errorf("another account's blocks: %v", err)
	}
}

// No two bills are of the same amount, and each is of its order's msat.
func TestBillsDiffer(t *testing.T) {
	a, seen := account(t, "poor"), map[string]bool{}
	for n := range uint64(1000) {
		text, key, err := a.Bill(money.OrderID{}, money.Amount(1+n%3), n)
		if err != nil || seen[key] {
			t.Fatalf("bill %d: %v", n, err)
		}
		seen[key] = true
		b, err := wallet.ParseBill(text)
		if amount, ok := wallet.Amount(b.Amount); err != nil || !ok || amount != money.Amount(1+n%3) || string(b.Amount.Append(nil)) != key {
			t.Fatalf("%s: %v", text, err)
		}
		if u, err := lattice.ParseURI(text); err != nil || u.Account != a.Key() || u.Amount != b.Amount {
			t.Fatalf("another wallet reads %+v, %v", u, err)
		}
	}
	if _, _, err := a.Bill(money.OrderID{}, money.MaxAmount, wallet.Unit-2); err != nil {
		t.Error(err)
	}
	if _, _, err := a.Bill(money.OrderID{}, 1, wallet.Unit-1); err == nil {
		t.Error("the digits below one msat have run over")
	}
}

// FuzzBill: a bill has one text.
func FuzzBill(f *testing.F) {
	text, _, err := account(f, "poor").Bill(money.OrderID{}, 7, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text + "&table=" + strings.Repeat("00", 32))
	f.Fuzz(func(t *testing.T, text string) {
		if b, err := wallet.ParseBill(text); err == nil && b.String() != text {
			t.Errorf("%q is read as %q", text, b)
		}
	})
}

// FuzzVerify: nothing but the proof proves.
func FuzzVerify(f *testing.F) {
	a := account(f, "rich")
	previous := lattice.Block{Account: a.Key(), Representative: key("rep1"), Balance: wallet.Raw(1000)}
	s := stands(a, 4, 4, 1000)
	s.Frontier = previous.Hash()
	a.Hear(s)
	p := bill(f, 1, 100)
	_, block := build(f, a, p)
	proof := a.Hear(final(block, previous, "rep1", "rep2", "rep3")).Final[0].Proof
	b, err := wallet.ParseBill(p.Bill)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(proof)
	f.Add(proof[:200])
	f.Fuzz(func(t *testing.T, raw []byte) {
		if wallet.Verify(b, raw) == nil && !bytes.Equal(raw, proof) {
			t.Errorf("%x is a proof, too", raw)
		}
	})
}

// FuzzLoad: what is on disk is an error or is written again.
func FuzzLoad(f *testing.F) {
	tr, _ := build(f, rich(f), bill(f, 1, 100))
	f.Add([]byte{4}, tr.Raw)
	f.Fuzz(func(t *testing.T, head, raw []byte) {
		a := account(t, "rich")
		list, err := a.Load(head, [][]byte{raw})
		if err == nil && (!bytes.Equal(list[0].Raw, raw) || head != nil && !bytes.Equal(a.Head(), head)) {
			t.Errorf("%x is written as %x, %x as %x", raw, list[0].Raw, head, a.Head())
		}
	})
}
