package payword

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

// pair is the two ends of a channel, hand to hand.
type pair struct {
	t     testing.TB
	payer *Payer
	payee *Payee
	a, b  string // the payer's and the payee's peer name
	now   step.Time
}

func newPair(t testing.TB, p Proposal) *pair {
	terms, payerKey, payeeKey := newTerms(t, p)
	payer, err := NewPayer(terms, payerKey)
	if err != nil {
		t.Fatal(err)
	}
	payee, err := NewPayee(terms, payeeKey)
	if err != nil {
		t.Fatal(err)
	}
	h := &pair{t: t, payer: payer, payee: payee, a: terms.PayerNode.PeerName(), b: terms.Payee.Node.PeerName()}
	h.payee.Step(h.in(step.Rang{ID: step.Start}))
	fx := h.pay(step.Rang{ID: step.Start})
	fx = h.reach(fx)
	if fx = h.answer(fx); len(fx.Done) != 1 || fx.Done[0].ID != Opened {
		t.Fatalf("not opened: %+v", fx)
	}
	return h
}

func (h *pair) in(events ...any) step.Input {
	h.now += 10
	return step.Input{At: h.now, Events: events}
}

// pay gives the payer events; reach gives its messages to the payee; answer
// gives the payee's to the payer.
func (h *pair) pay(events ...any) step.Effects { return h.payer.Step(h.in(events...)) }

func (h *pair) reach(fx step.Effects) step.Effects {
	return h.payee.Step(h.in(received(h.a, h.b, fx)...))
}

func (h *pair) answer(fx step.Effects) step.Effects {
	return h.payer.Step(h.in(received(h.b, h.a, fx)...))
}

func received(from, to string, fx step.Effects) (events []any) {
	for _, p := range fx.Send {
		if p.To == to {
			events = append(events, step.Recv{From: from, Msg: p.Msg})
		}
	}
	return events
}

// settled tells both ends that settlement k of so many coins is paid.
func (h *pair) settled(k, coins uint64) step.Effects {
	id := SettlementID(h.payer.id, k)
	b := &receipt.Batch{Entries: []receipt.Entry{{Order: id, Amount: h.payer.worth(coins)}}}
	done := step.Outcome{ID: id.Key(), Value: receipt.Paid{Batch: b}}
	h.payee.Step(h.in(step.Recv{From: trade.Seller, Msg: done}))
	return h.payer.Step(h.in(step.Recv{From: "rail", Msg: done}))
}

func order(n int, coins uint64) money.Order {
	return money.Order{ID: money.OrderID{1, byte(n >> 16), byte(n >> 8), byte(n)}, Amount: 10 * money.Amount(coins)}
}

func ten(length, every, credit uint64) Proposal {
	return Proposal{Coin: 10, Length: length, Every: every, Credit: credit}
}

// wants checks the one outcome of a step.
func (h *pair) wants(fx step.Effects, id string, cause error) {
	h.t.Helper()
	if len(fx.Done) != 1 || fx.Done[0].ID != id || !errors.Is(fx.Done[0].Err, cause) || money.KindOf(fx.Done[0].Err) != money.Unpaid {
		h.t.Fatalf("outcomes are %+v, want %v", fx.Done, cause)
	}
	if cause != nil && !strings.ContainsAny(fx.Done[0].Err.Error(), "0123456789") {
		h.t.Fatalf("no numbers in %q", fx.Done[0].Err)
	}
}

func TestPayAndProve(t *testing.T) {
	h := newPair(t, ten(64, 20, 50))
	fx := h.pay(order(1, 3), order(2, 4), Tick{money.OrderID{9}, 2}, Tick{money.OrderID{9}, 1})
	if len(fx.Send) != 1 || len(fx.Done) != 0 {
		t.Fatalf("%+v", fx)
	}
	m := fx.Send[0].Msg.(Coins)
	if m.Index != 10 || m.Seq != 1 || len(m.Entries) != 3 || m.Commit == nil {
		t.Fatalf("%+v", m)
	}
	if again := h.pay(order(1, 3)); len(again.Done)+len(again.Send)+len(again.Put) != 0 {
		t.Fatalf("a pending order is not silent: %+v", again)
	}
	taken := h.reach(fx)
	if len(taken.Done) != 3 || len(taken.Send) != 1 {
		t.Fatalf("%+v", taken)
	}
	paid := h.answer(taken)
	if len(paid.Done) != 3 || paid.Done[2].ID != MeterID(money.OrderID{9}) || paid.Done[2].Value != (Metered{money.OrderID{9}, 3, 3}) {
		t.Fatalf("%+v", paid.Done)
	}
	proof := paid.Done[0].Value.(receipt.Paid).Proof()
	if _, err := receipt.Verify(receipt.Entry{Order: order(1, 3).ID, Amount: 30}, h.payer.Payee.Node, proof); err != nil {
		t.Fatal(err)
	}
	again := h.pay(order(1, 3))
	if len(again.Done) != 1 || string(again.Done[0].Value.(receipt.Paid).Proof()) != string(proof) || len(again.Put) != 0 {
		t.Fatalf("asked again: %+v", again)
	}
	if fx := h.pay(money.Inquiry{Order: order(1, 3).ID}); len(fx.Done) != 1 || string(fx.Done[0].Value.(receipt.Paid).Proof()) != string(proof) {
		t.Fatalf("asked for the proof: %+v", fx)
	}
	if fx := h.pay(money.Inquiry{Order: order(77, 1).ID}); len(fx.Done) != 1 || len(fx.Put) != 0 || !errors.Is(fx.Done[0].Err, money.ErrForgotten) {
		t.Fatalf("asked for a proof that never was: %+v", fx)
	}
	if fx := h.pay(order(3, 1)); fx.Send[0].Msg.(Coins).Commit != nil {
		t.Error("the commitment is sent again")
	}
	for _, again := range []any{step.Linked{}, step.Rang{ID: "resend"}, step.Rang{ID: step.Start}} {
		if fx := h.pay(again); len(fx.Send) != 1 || fx.Send[0].Msg.(Coins).Commit == nil {
			t.Errorf("after %+v: %+v", again, fx.Send)
		}
	}
	h.pay(Tick{money.OrderID{9}, 4})
	h.pay(Tick{money.OrderID{9}, 1})
	paid = h.answer(h.reach(h.pay(step.Linked{})))
	if len(paid.Done) != 2 || paid.Done[1].Value != (Metered{money.OrderID{9}, 8, 5}) {
		t.Errorf("%+v", paid.Done)
	}
}

func TestSettle(t *testing.T) {
	h := newPair(t, ten(64, 10, 25))
	fx := h.answer(h.reach(h.pay(order(1, 9))))
	if len(fx.Send) != 0 {
		t.Fatalf("settled early: %+v", fx.Send)
	}
	fx = h.answer(h.reach(h.pay(order(2, 11))))
	want := money.Order{ID: SettlementID(h.payer.id, 1), Amount: 100, Units: 10, To: h.b, For: "payword " + h.payer.id.String()}
	if len(fx.Send) != 1 || fx.Send[0].To != "rail" || fx.Send[0].Msg != any(want) {
		t.Fatalf("%+v", fx.Send)
	}
	// It waits for its turn, and is not on disk.
	if fx := h.pay(order(3, 6), order(4, 1), Tick{money.OrderID{9}, 1}); len(fx.Done)+len(fx.Send)+len(fx.Put) != 0 {
		t.Fatalf("%+v", fx)
	}
	if fx := h.pay(order(3, 6)); len(fx.Done) != 0 {
		t.Fatalf("a waiting order is not silent: %+v", fx)
	}
	if fx := h.pay(step.Rang{ID: "settle"}); len(fx.Send) != 1 || fx.Send[0].Msg != any(want) {
		t.Fatalf("not retried: %+v", fx.Send)
	}
	fx = h.settled(1, 10)
	if len(fx.Send) != 2 || len(fx.Send[1].Msg.(Coins).Entries) != 3 || fx.Send[0].Msg.(money.Order).ID != SettlementID(h.payer.id, 2) {
		t.Fatalf("%+v", fx.Send)
	}
	h.answer(h.reach(fx))
	if fx := h.settled(1, 10); len(fx.Put) != 0 || h.payee.settled != 10 {
		t.Error("settlement 1 is counted twice")
	}
	h.settled(2, 10)
	if fx := h.pay(Close{}); len(fx.Send) != 1 || fx.Send[0].Msg.(money.Order).Amount != 80 {
		t.Fatalf("final: %+v", fx.Send)
	}
	h.wants(h.pay(order(5, 1)), order(5, 1).ID.Key(), ErrNotOpen)
	if fx := h.settled(3, 8); len(fx.Done) != 1 || fx.Done[0].ID != Shut {
		t.Fatalf("%+v", fx.Done)
	}
	if s := h.payee.Summary(); s.Settled != 280 || s.AtRisk != 0 || h.payer.Summary().State != "closed" {
		t.Errorf("%+v", s)
	}
	if fx := h.pay(Close{}); len(fx.Done) != 1 || fx.Done[0].ID != Shut {
		t.Fatalf("%+v", fx.Done)
	}
}

// Closing waits for the last stamp, so that one order settles the rest.
func TestCloseWithOrdersPending(t *testing.T) {
	h := newPair(t, ten(64, 10, 25))
	h.answer(h.reach(h.pay(order(1, 3))))
	last := h.pay(order(2, 4))
	if fx := h.pay(Close{}); len(fx.Send)+len(fx.Done) != 0 {
		t.Fatalf("%+v", fx)
	}
	if fx := h.answer(h.reach(last)); len(fx.Send) != 1 || fx.Send[0].Msg.(money.Order).Amount != 70 {
		t.Fatalf("%+v", fx.Send)
	}
	if fx := h.settled(1, 7); len(fx.Done) != 1 || fx.Done[0].ID != Shut {
		t.Fatalf("%+v", fx.Done)
	}
}

// A rail that pays within the round must not keep the round going for ever.
func TestSettlementsPaidAtOnce(t *testing.T) {
	h := newPair(t, ten(64, 1, 60))
	fx := h.answer(h.reach(h.pay(order(1, 50))))
	if len(fx.Send) != 1 {
		t.Fatalf("%+v", fx.Send)
	}
	done := step.Outcome{ID: SettlementID(h.payer.id, 1).Key()}
	fx = h.payer.Step(step.Input{At: h.now, Events: []any{step.Recv{From: "rail", Msg: done}}})
	if len(fx.Send) != 0 || len(fx.Wake) != 1 || fx.Wake[0].At != h.now+1 || h.payer.owed != 1 {
		t.Fatalf("%+v", fx)
	}
	if fx := h.pay(step.Rang{ID: "settle"}); len(fx.Send) != 1 || fx.Send[0].Msg.(money.Order).ID != SettlementID(h.payer.id, 2) {
		t.Fatalf("%+v", fx.Send)
	}
}

func TestChainDoesNotPrint(t *testing.T) {
	c := NewChain(Word{1, 2, 3}, 8)
	if text := fmt.Sprintf("%v %+v %#v %x", c, c, c, c); text != strings.TrimSpace(strings.Repeat("chain at 0 of 8 ", 4)) {
		t.Error(text)
	}
}

func TestSettlementFails(t *testing.T) {
	h := newPair(t, ten(64, 10, 25))
	h.answer(h.reach(h.pay(order(1, 20))))
	h.pay(order(2, 20)) // waits
	failed := step.Outcome{ID: SettlementID(h.payer.id, 1).Key(), Err: &money.Error{Kind: money.Pending, Err: errors.New("no answer")}}
	if fx := h.pay(step.Recv{From: "rail", Msg: failed}); len(fx.Done) != 0 || len(fx.Wake) != 1 || fx.Wake[0].ID != "settle" {
		t.Fatalf("%+v", fx)
	}
	failed.Err = &money.Error{Kind: money.Unpaid, Err: errors.New("channel capacity is spent")}
	h.wants(h.pay(step.Recv{From: "rail", Msg: failed}), order(2, 20).ID.Key(), ErrStalled)
	fx := h.pay(order(3, 1))
	h.wants(fx, order(3, 1).ID.Key(), ErrStalled)
	if !strings.Contains(fx.Done[0].Err.Error(), "channel capacity is spent") {
		t.Error(fx.Done[0].Err)
	}
	if fx := h.pay(step.Rang{ID: "settle"}); len(fx.Send) != 1 || fx.Send[0].Msg.(money.Order).ID != SettlementID(h.payer.id, 1) {
		t.Fatalf("%+v", fx.Send)
	}
	h.settled(1, 10)
	if fx := h.answer(h.reach(h.pay(order(3, 1)))); len(fx.Done) != 1 || fx.Done[0].Err != nil {
		t.Fatalf("%+v", fx.Done)
	}
}

func TestOutcomesThatSettleNothing(t *testing.T) {
	h := newPair(t, ten(64, 10, 25))
	h.answer(h.reach(h.pay(order(1, 20))))
	pay := func(from string, k uint64, amount money.Amount, err error) {
		t.Helper()
		b := &receipt.Batch{Entries: []receipt.Entry{{Order: SettlementID(h.payer.id, k), Amount: amount}}}
		fx := h.payee.Step(h.in(step.Recv{From: from, Msg: step.Outcome{Value: receipt.Paid{Batch: b}, Err: err}}))
		if len(fx.Put) != 0 || h.payee.settled != 0 {
			t.Errorf("%v for settlement %d from %s is counted", amount, k, from)
		}
	}
	pay(trade.Seller, 2, 100, nil)
	pay(trade.Seller, 1, 101, nil)
	pay(trade.Seller, 1, 110, nil)
	pay(trade.Seller, 1, 0, nil)
	pay(trade.Seller, 1, 100, errors.New("failed"))
	pay(h.a, 1, 100, nil)
	pay("rail", 1, 100, nil)
	pay(PayeeName(h.payee.id), 1, 100, nil)
	if fx := h.payee.Step(h.in(step.Recv{From: trade.Seller, Msg: step.Outcome{Value: "something else"}})); len(fx.Put) != 0 {
		t.Error("a strange outcome is counted")
	}
	h.settled(1, 10)
	if h.payee.settled != 10 {
		t.Error("settlement 1 is not counted")
	}
}

func TestRefusals(t *testing.T) {
	h := newPair(t, ten(64, 10, 25))
	odd := money.Order{ID: money.OrderID{3}, Amount: 15}
	h.wants(h.pay(odd), odd.ID.Key(), ErrNotCoin)
	odd.Amount = 0
	h.wants(h.pay(odd), odd.ID.Key(), ErrNotCoin)
	h.wants(h.pay(order(1, 26)), order(1, 26).ID.Key(), ErrCredit)
	h.wants(h.pay(Tick{money.OrderID{9}, 0}), MeterID(money.OrderID{9}), ErrNotCoin)
	h.wants(h.pay(Tick{money.OrderID{9}, 1 << 63}), MeterID(money.OrderID{9}), ErrCredit)
	h.pay(order(1, 9))
	h.wants(h.pay(order(2, 17)), order(2, 17).ID.Key(), ErrCredit)
	h.pay(order(3, 16))
	if fx := h.pay(order(1000, 1)); len(fx.Done) != 0 || h.payer.Summary().Waiting != 1 {
		t.Fatalf("a settlement will come with the next stamp: %+v", fx.Done)
	}
	h.answer(h.reach(h.pay(step.Linked{}))) // now it is under way
	h.wants(h.pay(order(2, 26)), order(2, 26).ID.Key(), ErrCredit)
	for i := 1; i < MaxWaiting; i++ {
		if fx := h.pay(order(1000+i, 1)); len(fx.Done) != 0 {
			t.Fatalf("order %d: %+v", i, fx.Done)
		}
	}
	h.wants(h.pay(order(2, 1)), order(2, 1).ID.Key(), ErrWaiting)
	if s := h.payer.Summary(); s.Waiting != MaxWaiting || s.Left != 0 || s.Settling != 100 {
		t.Errorf("%+v", s)
	}
	// The first settlement makes room for ten, the second one is on its way.
	if fx := h.settled(1, 10); len(fx.Done) != 0 || h.payer.Summary().Waiting != MaxWaiting-10 {
		t.Errorf("%+v: %+v", h.payer.Summary(), fx.Done)
	}
	// After it no other is due, as nothing is stamped; but it will be.
	if fx := h.settled(2, 10); len(fx.Done) != 0 || h.payer.Summary().Waiting != MaxWaiting-20 {
		t.Errorf("%+v: %d outcomes", h.payer.Summary(), len(fx.Done))
	}
	if fx := h.pay(Close{}); len(fx.Done) != MaxWaiting-20 || h.payer.Summary().Waiting != 0 {
		t.Errorf("closing: %+v: %d outcomes", h.payer.Summary(), len(fx.Done))
	}
	if h.payer.ledger.Known() != 2+20 {
		t.Errorf("knows %d orders", h.payer.ledger.Known())
	}
}

func TestMaxPending(t *testing.T) {
	h := newPair(t, ten(1<<14, 1<<12, 1<<14))
	var orders []any
	for i := range receipt.MaxPending {
		orders = append(orders, order(i, 3))
	}
	if fx := h.pay(orders...); len(fx.Done) != 0 {
		t.Fatalf("%+v", fx.Done)
	}
	h.wants(h.pay(order(receipt.MaxPending, 1)), order(receipt.MaxPending, 1).ID.Key(), receipt.ErrBacklog)
	fx := h.pay(step.Linked{})
	if n := len(fx.Send[0].Msg.(Message).Append(nil)); n > 65535 {
		t.Errorf("message of %d bytes", n)
	}
	if fx := h.answer(h.reach(fx)); len(fx.Done) != receipt.MaxPending {
		t.Errorf("%d outcomes", len(fx.Done))
	}
}

func TestChannelIsUsedUp(t *testing.T) {
	h := newPair(t, Proposal{Coin: money.MaxAmount / 5, Length: 2, Every: 1, Credit: 4})
	coin := money.MaxAmount / 5
	for k := range 5 {
		h.answer(h.reach(h.pay(money.Order{ID: money.OrderID{byte(k)}, Amount: coin})))
		h.settled(uint64(k+1), 1)
	}
	last := money.Order{ID: money.OrderID{9}, Amount: coin}
	h.wants(h.pay(last), last.ID.Key(), ErrUsedUp)
}

// An honest payer's messages, spoiled in every way the payee must not fall for.
func TestForgedCoins(t *testing.T) {
	h := newPair(t, ten(64, 10, 60))
	h.answer(h.reach(h.pay(order(1, 5))))
	good := h.pay(order(2, 5)).Send[0].Msg.(Coins)
	mallory := secret(t, "mallory")
	theirs := NewChain(Seed(mallory, h.payee.id, 2), 64)
	forged := Commitment{Epoch: 2, Start: 5, Root: theirs.Word()}
	forged.Sig = mallory.Sign(h.payee.digest(&forged))
	with := func(change func(m *Coins)) Coins {
		m := good
		change(&m)
		return m
	}
	for name, m := range map[string]Coins{
		"another word":           with(func(m *Coins) { m.Word[0] ^= 1 }),
		"the last word":          with(func(m *Coins) { m.Word, m.Index = m.Word.Back(5), 5 }),
		"a word before":          with(func(m *Coins) { m.Word, m.Index = m.Word.Back(6), 4 }),
		"index past the chain":   with(func(m *Coins) { m.Index = 65 }),
		"index before the word":  with(func(m *Coins) { m.Index = 9 }),
		"index behind the word":  with(func(m *Coins) { m.Index = 11 }),
		"an epoch without chain": with(func(m *Coins) { m.Epoch = 2 }),
		"epoch zero":             with(func(m *Coins) { m.Epoch = 0 }),
		"a stranger's chain": with(func(m *Coins) {
			m.Epoch, m.Commit, m.Index, m.Word = 2, &forged, 5, theirs.Jump(5)
		}),
		"more than is shown":  with(func(m *Coins) { m.Entries = []receipt.Entry{{Order: money.OrderID{1}, Amount: 60}} }),
		"less than is shown":  with(func(m *Coins) { m.Entries = []receipt.Entry{{Order: money.OrderID{1}, Amount: 40}} }),
		"half a coin":         with(func(m *Coins) { m.Entries = []receipt.Entry{{Amount: 45}, {Amount: 5}} }),
		"tickets not yet due": with(func(m *Coins) { m.Base, m.Seq = 2, 3 }),
		"nothing new":         with(func(m *Coins) { m.Base, m.Seq = 0, 1 }),
	} {
		fx := h.payee.Step(h.in(step.Recv{From: h.a, Msg: m}))
		if len(fx.Done) != 0 || h.payee.total() != 5 {
			t.Fatalf("%s: the payee has %d coins", name, h.payee.total())
		}
	}
	if fx := h.payee.Step(h.in(step.Recv{From: "peer/other", Msg: good})); len(fx.Done)+len(fx.Send) != 0 {
		t.Error("took another peer's message")
	}
	// One bad message does not spoil the good one before it.
	bad := with(func(m *Coins) { m.Word[0] ^= 1; m.Base, m.Seq, m.Index = 2, 3, 15 })
	fx := h.payee.Step(h.in(step.Recv{From: h.a, Msg: good}, step.Recv{From: h.a, Msg: bad}))
	if len(fx.Done) != 1 || h.payee.total() != 10 {
		t.Errorf("payee has %d coins: %+v", h.payee.total(), fx)
	}
}

// A greedy payer's own words, past what the payee lets run up.
func TestCreditAndGap(t *testing.T) {
	h := newPair(t, ten(1<<20, 10, MaxGap))
	words := loadChain(Seed(secret(t, "payer"), h.payer.id, 1), 1<<20, 0)
	commit := h.payer.commit
	coins := func(n uint64) Coins {
		return Coins{
			ID: h.payer.id, Epoch: 1, Index: words.Index(), Word: words.Word(), Commit: &commit,
			Run: receipt.Run{Seq: 1, Sizes: []int{1}, Entries: []receipt.Entry{{Order: money.OrderID{1}, Amount: h.payer.worth(n)}}},
		}
	}
	words.Jump(MaxGap)
	fits := coins(MaxGap)
	words.Jump(1)
	over := coins(MaxGap + 1)
	bad := fits
	bad.Word[0] ^= 1
	if fx := h.payee.Step(h.in(step.Recv{From: h.a, Msg: over})); len(fx.Done) != 0 || h.payee.hashes != 0 {
		t.Errorf("credit is passed after %d hashes", h.payee.hashes)
	}
	// A step spends MaxGap hashes on bad words, not more.
	fx := h.payee.Step(h.in(step.Recv{From: h.a, Msg: bad}, step.Recv{From: h.a, Msg: bad}, step.Recv{From: h.a, Msg: bad}))
	if len(fx.Done) != 0 || h.payee.hashes != MaxGap {
		t.Errorf("%d hashes for bad words", h.payee.hashes)
	}
	if fx := h.payee.Step(h.in(step.Recv{From: h.a, Msg: fits})); len(fx.Done) != 1 || h.payee.total() != MaxGap {
		t.Error("the whole credit is not given")
	}
}

func TestForgedStamps(t *testing.T) {
	h := newPair(t, ten(64, 10, 60))
	fx := h.reach(h.pay(order(1, 5), order(2, 6)))
	good := fx.Send[0].Msg.(Taken)
	for name, change := range map[string]func(m *Taken){
		"signature": func(m *Taken) { m.Sig[9] ^= 1 },
		"total":     func(m *Taken) { m.Total += 10 },
		"too many":  func(m *Taken) { m.To++ },
		"too late":  func(m *Taken) { m.From++; m.To++ },
	} {
		m := good
		change(&m)
		fx := h.payer.Step(h.in(step.Recv{From: h.b, Msg: m}))
		if len(fx.Done)+len(fx.Put) != 0 || h.payer.ledger.Acked != 0 {
			t.Errorf("a forged %s is taken", name)
		}
	}
	if fx := h.payer.Step(h.in(step.Recv{From: "peer/other", Msg: good})); len(fx.Done) != 0 {
		t.Error("took another peer's stamp")
	}
	if fx := h.answer(fx); len(fx.Done) != 2 {
		t.Errorf("%+v", fx.Done)
	}
	if fx := h.answer(fx); len(fx.Done)+len(fx.Put) != 0 {
		t.Errorf("a repeated stamp does something: %+v", fx)
	}
}

func TestForgets(t *testing.T) {
	h := newPair(t, ten(1<<14, 1<<12, 1<<14))
	session := money.OrderID{9}
	h.answer(h.reach(h.pay(order(0, 1), Tick{session, 2})))
	n := 1
	for h.payer.ledger.Kept() > 1 && n < 3*receipt.Keep {
		var orders []any
		for range 1000 {
			orders = append(orders, order(n, 1))
			n++
		}
		fx := h.answer(h.reach(h.pay(orders...)))
		if h.payer.meters[session] == nil {
			gone := map[string]bool{}
			for _, r := range fx.Put {
				gone[r.Key] = r.Value == nil
			}
			if !gone[h.payer.meterKey(session)] || !gone[fmt.Sprintf("%st/%016x", h.payer.prefix, 1)] || !gone[fmt.Sprintf("%ss/%016x", h.payer.prefix, 1)] {
				t.Errorf("records are left")
			}
			break
		}
	}
	if h.payer.ledger.Kept() < receipt.Keep || h.payer.ledger.Kept() > receipt.Keep+1000 || h.payer.ledger.Known() != h.payer.ledger.Kept() {
		t.Errorf("%d orders remembered, %d in the map", h.payer.ledger.Kept(), h.payer.ledger.Known())
	}
	// The payee forgets the stamps that the payer says it has.
	h.answer(h.reach(h.pay(order(n, 1))))
	if h.payee.stamps.Len() != 1 {
		t.Errorf("payee keeps %d stamps", h.payee.stamps.Len())
	}
}

func TestMaxStamps(t *testing.T) {
	h := newPair(t, ten(1<<14, 1<<12, 1<<14))
	for i := range receipt.MaxStamps + 5 { // a payer that never says what it has
		fx := h.pay(order(i, 1))
		m := fx.Send[0].Msg.(Coins)
		m.Acked = 0
		fx.Send[0].Msg = m
		h.answer(h.reach(fx))
	}
	if h.payee.stamps.Len() != receipt.MaxStamps {
		t.Errorf("payee keeps %d stamps", h.payee.stamps.Len())
	}
}

func TestSteadyTrafficFillsAGap(t *testing.T) {
	h := newPair(t, ten(64, 10, 60))
	h.answer(h.reach(h.pay(order(1, 1))))
	h.pay(order(2, 1)) // lost
	for n := 3; h.payee.seq < 2; n++ {
		h.now += 90
		h.answer(h.reach(h.pay(order(n, 1))))
		if n == 30 {
			t.Fatalf("payee has %d coins, payer promised %d", h.payee.total(), h.payer.total)
		}
	}
	if h.payee.total() != h.payer.total {
		t.Errorf("payee has %d coins, payer promised %d", h.payee.total(), h.payer.total)
	}
}

func TestTermsAreChecked(t *testing.T) {
	good := ten(64, 10, 25)
	good.PayerNode, good.Settle = secret(t, "payer").Public(), "rail"
	policy := Policy{MaxCredit: 250, MinSettle: 100}
	node := secret(t, "payee")
	a, err := Consider(good, policy, node)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := Consider(good, policy, node); a != b {
		t.Error("the answer changes")
	}
	for name, change := range map[string]func(p *Proposal){
		"no coin":            func(p *Proposal) { p.Coin = 0 },
		"great coin":         func(p *Proposal) { p.Coin = money.MaxAmount },
		"too great a coin":   func(p *Proposal) { p.Coin = money.MaxAmount + 1 },
		"odd length":         func(p *Proposal) { p.Length = 63 },
		"no length":          func(p *Proposal) { p.Length = 0 },
		"great length":       func(p *Proposal) { p.Length = 2 * MaxLength },
		"no settlement":      func(p *Proposal) { p.Every = 0 },
		"small credit":       func(p *Proposal) { p.Credit = 19 },
		"great credit":       func(p *Proposal) { p.Credit = MaxGap + 1 },
		"nobody settles":     func(p *Proposal) { p.Settle = "" },
		"long name":          func(p *Proposal) { p.Settle = strings.Repeat("x", MaxSettle+1) },
		"no key":             func(p *Proposal) { p.PayerNode = [33]byte{} },
		"credit past policy": func(p *Proposal) { p.Credit = 26 },
		"settles too little": func(p *Proposal) { p.Every = 9 },
	} {
		p := good
		change(&p)
		if _, err := Consider(p, policy, node); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	terms := Terms{good, a}
	if err := terms.Check(); err != nil {
		t.Error(err)
	}
	if _, err := NewPayer(terms, node); err == nil {
		t.Error("payer with another's key")
	}
	if _, err := NewPayee(terms, secret(t, "payer")); err == nil {
		t.Error("payee with another's key")
	}
	terms.Number++
	if err := terms.Check(); err == nil {
		t.Error("the stamp key is bound to another channel")
	}
	mine, err := Consider(good, policy, secret(t, "payer"))
	if self := (Terms{good, mine}); err != nil || self.Check() == nil {
		t.Error("a node pays itself")
	}
}

func messages(t testing.TB) []Message {
	h := newPair(t, ten(64, 10, 60))
	start := h.pay(order(1, 2), Tick{money.OrderID{9}, 3})
	taken := h.reach(start)
	h.answer(taken)
	delta := h.pay(order(2, 1))
	h.pay(order(3, 4), order(4, 1))
	all := h.pay(step.Linked{})
	id := h.payer.id
	return []Message{
		Open{id, h.payer.Proposal}, Accept{id, h.payer.Answer}, Reject{id, "no"}, Agreed{h.payer.Terms}, Ready{id},
		start.Send[0].Msg.(Message), delta.Send[0].Msg.(Message), all.Send[0].Msg.(Message), taken.Send[0].Msg.(Message),
	}
}

func TestMessagesRoundTrip(t *testing.T) {
	types := map[string]bool{}
	for _, m := range messages(t) {
		raw := m.Append(nil)
		back, err := Decode(raw)
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%T: got %+v, want %+v: %v", m, back, m, err)
		}
		if !Owns(uint16(raw[0])<<8|uint16(raw[1])) || m.Channel() != messages(t)[0].Channel() {
			t.Errorf("%T is not ours", m)
		}
		if core := m.Core(); core != "" && core != PayerName(m.Channel()) && core != PayeeName(m.Channel()) {
			t.Errorf("%T goes to core %q", m, core)
		}
		for cut := range raw {
			if _, err := Decode(raw[:cut]); err == nil {
				t.Errorf("%T cut to %d bytes is read", m, cut)
			}
		}
		if _, err := Decode(append(raw, 0)); err == nil {
			t.Errorf("%T with a byte more is read", m)
		}
		types[fmt.Sprintf("%T", m)] = true
	}
	if len(types) != 7 || Owns(0x8200) || Owns(0x8202) || Owns(typeEnd) || !Owns(0x8201) {
		t.Errorf("%d types", len(types))
	}
	if why := (Reject{Why: strings.Repeat("x", 500)}).Append(nil); len(why) > 2+16+2+maxWhy {
		t.Error("a long reason is sent")
	}
}

func TestBoundedCoins(t *testing.T) {
	var good Coins
	for _, m := range messages(t) {
		if c, ok := m.(Coins); ok {
			good = c
		}
	}
	for name, change := range map[string]func(m *Coins){
		"great index":      func(m *Coins) { m.Index = MaxLength + 1 },
		"other epoch":      func(m *Coins) { m.Epoch++ },
		"great start":      func(m *Coins) { c := *m.Commit; c.Start = 1 << 63; m.Commit = &c },
		"stamps to come":   func(m *Coins) { m.Acked = m.Base + 1 },
		"no tickets":       func(m *Coins) { m.Sizes, m.Entries = nil, nil },
		"empty ticket":     func(m *Coins) { m.Sizes = append([]int{0}, m.Sizes...) },
		"orders left over": func(m *Coins) { m.Sizes = m.Sizes[1:] },
		"many orders": func(m *Coins) {
			m.Sizes, m.Entries = []int{1, receipt.MaxPending}, make([]receipt.Entry, 1+receipt.MaxPending)
		},
		"many tickets":      func(m *Coins) { m.Sizes = make([]int, receipt.MaxPending+1) },
		"tickets overflow":  func(m *Coins) { m.Base, m.Acked = 1<<64-1, 1<<64-1 },
		"impossible amount": func(m *Coins) { m.Entries = append([]receipt.Entry{{Amount: money.MaxAmount + 1}}, m.Entries[1:]...) },
	} {
		m := good
		change(&m)
		if _, err := Decode(m.Append(nil)); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages(f) {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Decode(raw)
		if err != nil {
			return
		}
		if again := m.Append(nil); string(again) != string(raw) {
			t.Fatalf("%T: read %x, wrote %x", m, raw, again)
		}
	})
}

func benchPair(b *testing.B) *pair { return newPair(b, ten(DefaultLength, 1<<16, 1<<17)) }

// Steps of a thousand orders, with their answers and settlements.
func BenchmarkThousandOrders(b *testing.B) {
	for _, side := range []string{"payer", "payee"} {
		b.Run(side, func(b *testing.B) {
			h := benchPair(b)
			events := make([]any, 1000)
			n, k := 0, uint64(1)
			b.ReportAllocs()
			b.ResetTimer()
			b.StopTimer()
			for range b.N {
				for i := range events {
					n++
					events[i] = order(n%(1<<24), 1)
				}
				timed := func(name string, f func() step.Effects) step.Effects {
					if name == side {
						b.StartTimer()
						defer b.StopTimer()
					}
					return f()
				}
				fx := timed("payer", func() step.Effects { return h.pay(events...) })
				fx = timed("payee", func() step.Effects { return h.reach(fx) })
				fx = timed("payer", func() step.Effects { return h.answer(fx) })
				if len(fx.Done) != 1000 {
					b.Fatalf("%d outcomes", len(fx.Done))
				}
				if h.payer.owed > 0 {
					h.settled(k, h.payer.owed)
					k++
				}
			}
			b.ReportMetric(float64(1000*b.N)/b.Elapsed().Seconds(), "orders/s")
		})
	}
}
