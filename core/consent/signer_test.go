package consent_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/consent"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Only the wallet that the signer is bound to is heard.
func TestStrangersGetNoAnswer(t *testing.T) {
	g := newGateway(t, usual)
	c := g.fund(wpkh, 0, 100_000)
	g.bury(3)
	p := honest(g, "p", c).done(t)
	for _, from := range []string{"peer/stranger", "wallet", consent.Secret} {
		if fx := g.tell(step.Recv{From: from, Msg: p}); len(fx.Put)+len(fx.Send)+len(fx.Done) > 0 {
			t.Errorf("%s had effects: %+v", from, fx)
		}
	}
	if fx := g.tell(step.Recv{From: peer, Msg: consent.Counted{At: 9}}); len(fx.Put)+len(fx.Send) > 0 || g.signer.Summary(g.now).RolledBack {
		t.Error("the gateway set the outside counter")
	}
}

// A consent is put before it is sent, and whoever waits is told what it costs.
func TestAConsentIsDurableBeforeItIsVisible(t *testing.T) {
	g := newGateway(t, usual)
	c := g.fund(wpkh, 0, 100_000)
	g.bury(3)
	d := honest(g, "p", c)
	fx := g.recv(d.done(t))
	given, ok := fx.Done[0].Value.(consent.Given)
	if len(fx.Put) != 2 || len(fx.Send) != 1 || !ok || given.Cost != 51_000*money.Sat || given.TxID != d.tx().TxHash() {
		t.Fatalf("effects are %+v", fx)
	}
	first := fx.Send[0].Msg.(consent.Consent).Append(nil)
	for range 3 {
		if again := g.answer(d.Proposal); !bytes.Equal(again.Append(nil), first) {
			t.Fatal("the same proposal got another consent")
		}
		g.boot(0)
	}
	// How the wallet shows it may differ.
	d.Proofs, d.packet.Inputs[0].SighashType = nil, 1
	if again := g.answer(d.done(t)); !bytes.Equal(again.Append(nil), first) {
		t.Fatal("the same transaction under the same ID got another consent")
	}
}

func TestKindsMixAndCoinsAddUp(t *testing.T) {
	g := newGateway(t, usual)
	var coins []coin
	for account := range g.config.Accounts {
		coins = append(coins, g.fund(account, uint32(10+account), 20_000))
	}
	g.bury(3)
	d := g.draft("mix", coins...).pay("a", shop("a"), 30_000).pay("b", g.script(tr, 0, 9).Script, 20_000)
	d.change(g.script(tr, 1, 3), 14_000).change(g.script(shwpkh, 1, 4), 13_000)
	g.consented(d)
}

// A child of our own unconfirmed transaction needs no proof: CPFP.
func TestAChildPaysForItsParent(t *testing.T) {
	g := newGateway(t, usual)
	for account := range g.config.Accounts {
		c := g.fund(account, 0, 100_000)
		g.bury(3)
		parent := g.draft(fmt.Sprint("parent", account), c).change(g.script(account, 1, 0), 99_000)
		_, signed := g.consented(parent)
		change := coin{account: account, script: g.script(account, 1, 0), tx: signed}
		child := g.draft(fmt.Sprint("child", account))
		child.spend(coin{account: account, script: change.script, tx: prepend(signed)})
		child.tx().TxIn[0].PreviousOutPoint = wire.OutPoint{Hash: signed.TxHash()}
		child.packet.Inputs[0].NonWitnessUtxo = signed
		if account != pkh {
			child.packet.Inputs[0].WitnessUtxo = signed.TxOut[0]
		}
		child.change(g.script(account, 1, 1), 97_000)
		if _, ok := g.answer(child.done(t)).(consent.Consent); !ok {
			t.Errorf("%v: %v", g.config.Accounts[account].Descriptor().Kind(), g.last())
		}
	}
}

// prepend puts an output before the others: a coin's is number 1.
func prepend(t *wire.MsgTx) *wire.MsgTx {
	c := t.Copy()
	c.TxOut = append([]*wire.TxOut{wire.NewTxOut(1, nil)}, c.TxOut...)
	return c
}

// Joint transactions: what others put in and take out is theirs, if what the
// device gets for its part cannot be counted twice.
func TestJointTransactions(t *testing.T) {
	joint := usual
	joint.Joint = true
	start := func(account int) (*gateway, *draft) {
		g := newGateway(t, joint)
		g.tell(consent.Expect{Order: orderID("o"), Script: shop("shop"), Amount: 50_000 * money.Sat})
		c, other := g.fund(account, 0, 100_000), g.foreign(80_000)
		g.bury(3)
		d := g.draft("joint", c, other).pay("o", shop("shop"), 50_000).change(g.script(account, 1, 0), 49_500)
		d.output(shop("other's payee"), 70_000)
		return g, d
	}
	for account := range accounts(t, "device") {
		g, d := start(account)
		_, signed := g.consented(d)
		// Its change can pay for it while it waits, as others' inputs are native.
		child := g.draft("child", coin{account: account, script: g.script(account, 1, 0), tx: signed})
		child.tx().TxOut, child.packet.Outputs = nil, nil
		child.change(g.script(account, 1, 1), 48_000)
		g.consented(child)
	}
	for _, c := range []struct {
		name    string
		account int
		want    consent.Reason
		lie     func(*gateway, *draft)
	}{
		{"the device did not ask for the order", wpkh, consent.ReasonFresh, func(g *gateway, d *draft) { g.tell(consent.Forget{Order: orderID("o")}) }},
		{"two outputs for one script", wpkh, consent.ReasonFresh, func(g *gateway, d *draft) { d.output(shop("shop"), 50_000) }},
		{"a script paid before", wpkh, consent.ReasonFresh, func(g *gateway, d *draft) {
			c := g.fund(wpkh, 1, 20_000)
			g.bury(3)
			g.consented(g.draft("before", c).pay("before", shop("shop"), 19_000))
		}},
		{"a payee with one address for all", wpkh, consent.ReasonFresh, func(g *gateway, d *draft) {
			address, _ := descriptor.Address(shop("shop"), g.params)
			g.config.Policy.Payees = []string{address}
			g.boot(0)
		}},
		{"others' fee too", wpkh, consent.ReasonFeeRate, func(g *gateway, d *draft) {
			d.tx().TxOut[1].Value -= 2_400
			d.tx().TxOut[2].Value += 2_400
		}},
		{"our change taken", wpkh, consent.ReasonFee, func(g *gateway, d *draft) {
			d.tx().TxOut[1].Value -= 40_000
			d.tx().TxOut[2].Value += 40_000
		}},
		{"another's coin not shown to a taproot key", tr, consent.ReasonAmount, func(g *gateway, d *draft) { d.packet.Inputs[1].NonWitnessUtxo = nil }},
		{"another's coin with a lie", wpkh, consent.ReasonAmount, func(g *gateway, d *draft) { d.packet.Inputs[1].WitnessUtxo = wire.NewTxOut(1, shop("other")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, d := start(c.account)
			c.lie(g, d)
			g.refused(d.done(t), c.want)
		})
	}
}

// Two coins of ours in one joint transaction, each shown once as ours and once
// as another's, with the change counted in both: the second gets nothing,
// however many consents lie between.
func TestAHiddenCoinIsNotSignedInASecondProposal(t *testing.T) {
	joint := usual
	joint.Joint, joint.PerDay = true, 0
	g := newGateway(t, joint)
	a, b := g.fund(wpkh, 0, 100_000), g.fund(wpkh, 1, 100_000)
	g.bury(3)
	show := func(id string, ours int) *draft {
		d := g.draft(id, a, b).change(g.script(wpkh, 1, 0), 99_500)
		d.output(shop("thief"), 99_500)
		d.packet.Inputs[1-ours].Bip32Derivation = nil
		d.Proofs = d.Proofs[ours : ours+1]
		d.coins[1-ours].account = -1
		return d
	}
	g.consented(show("first", 0))
	g.refused(show("second", 1).done(t), consent.ReasonReplayed)
	for i := range consent.MaxConsents {
		c := g.fund(wpkh, 2, 10_000)
		g.bury(3)
		g.consented(g.draft(fmt.Sprint(i), c).change(g.script(wpkh, 1, 0), 9_500))
	}
	g.boot(0)
	g.refused(show("second", 1).done(t), consent.ReasonReplayed)
	if s := g.signer.Summary(g.now); s.Kept != consent.MaxConsents || s.Counter != consent.MaxConsents+1 {
		t.Errorf("%d consents are kept of %d", s.Kept, s.Counter)
	}
}

func TestTheOutsideCounterHoldsBackOnlySoMany(t *testing.T) {
	policy := usual
	policy.PerDay = 0
	g := newGateway(t, policy)
	g.config.Outside = true
	g.boot(0)
	var waiting []consent.Proposal
	for i := range consent.MaxWaiting + 1 {
		c := g.fund(wpkh, uint32(i), 100_000)
		g.bury(3)
		waiting = append(waiting, honest(g, fmt.Sprint(i), c).done(t))
	}
	for _, p := range waiting[:consent.MaxWaiting] {
		if m := g.answer(p); m != nil {
			t.Fatalf("before it was counted there was %+v", m)
		}
	}
	g.refused(waiting[consent.MaxWaiting], consent.ReasonBusy)
	fx := g.tell(step.Recv{From: consent.Secret, Msg: consent.Counted{At: consent.MaxWaiting}})
	if len(fx.Send) != consent.MaxWaiting {
		t.Errorf("%d consents came out of %d", len(fx.Send), consent.MaxWaiting)
	}
}

func TestPayees(t *testing.T) {
	g := newGateway(t, usual)
	shops := accounts(t, "shop")
	address, err := descriptor.Address(shop("fixed"), g.params)
	if err != nil {
		t.Fatal(err)
	}
	g.config.Policy.Payees = []string{address, shops[tr].Descriptor().String()}
	g.boot(0)
	at := func(index uint32) []byte {
		s, err := shops[tr].Descriptor().At(0, index)
		if err != nil {
			t.Fatal(err)
		}
		return s.Script
	}
	n := 0
	pays := func(script []byte, index uint32) *draft {
		n++
		c := g.fund(wpkh, uint32(n), 11_000)
		g.bury(3)
		d := g.draft(fmt.Sprint(n), c).pay(fmt.Sprint(n), script, 10_000)
		d.Orders[0].Index = index
		return d
	}
	g.consented(pays(shop("fixed"), 0))
	g.consented(pays(at(consent.PayeeWindow-1), 0))
	g.consented(pays(at(5_000), 5_000))
	g.refused(pays(at(5_000), 0).done(t), consent.ReasonPayee)
	g.refused(pays(at(5_000), 5_001).done(t), consent.ReasonPayee)
	g.refused(pays(shop("other"), 0).done(t), consent.ReasonPayee)
	for _, bad := range []string{"", "nobody", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"} {
		g.config.Policy.Payees = []string{bad}
		if _, err := consent.New(g.config); err == nil {
			t.Errorf("payee %q was taken", bad)
		}
	}
}

func TestExpectedOrders(t *testing.T) {
	policy := usual
	policy.OnlyAsked = true
	g := newGateway(t, policy)
	for _, bad := range []consent.Expect{
		{Order: orderID("a"), Script: shop("shop")},
		{Order: orderID("a"), Script: shop("shop"), Amount: 1},
		{Order: orderID("a"), Amount: 1000},
		{Order: orderID("a"), Script: make([]byte, consent.MaxScript+1), Amount: 1000},
	} {
		if fx := g.tell(bad); len(fx.Put) > 0 || fx.Done[0].Err == nil {
			t.Errorf("%+v was noted", bad)
		}
	}
	for i := range consent.MaxExpected + 1 {
		e := consent.Expect{Order: money.OrderID{byte(i), byte(i >> 8), 1}, Script: shop("shop"), Amount: 50_000 * money.Sat}
		fx := g.tell(e)
		if full := i == consent.MaxExpected; full != (fx.Done[0].Err != nil) {
			t.Errorf("order %d: %v", i, fx.Done[0].Err)
		}
	}
	g.tell(consent.Forget{Order: money.OrderID{0, 0, 1}})
	g.tell(consent.Expect{Order: orderID("order-p"), Script: shop("shop"), Amount: 50_000 * money.Sat})
	c := g.fund(wpkh, 0, 100_000)
	g.bury(3)
	g.boot(0)
	d := honest(g, "p", c)
	g.consented(d)
	if got := g.signer.Summary(g.now).Expected; got != consent.MaxExpected-1 {
		t.Errorf("%d orders are expected", got)
	}
	// Asking again for what has a consent begins nothing.
	g.tell(consent.Expect{Order: orderID("order-p"), Script: shop("shop"), Amount: 50_000 * money.Sat})
	if got := g.signer.Summary(g.now).Expected; got != consent.MaxExpected-1 {
		t.Errorf("%d orders are expected after a repetition", got)
	}
}

// A signer that was away asks for the headers it misses; for a coin below its
// tail it asks for the headers that prove the old block.
func TestHeadersAreAskedFor(t *testing.T) {
	g := newGateway(t, usual)
	young, old := g.fund(wpkh, 0, 100_000), g.fund(wpkh, 1, 100_000)
	g.bury(3)
	prev := g.headers[len(g.headers)-1]
	for len(g.headers) < 9_000 {
		prev = next(prev, chainhash.HashH([]byte(prev.BlockHash().String())))
		g.headers = append(g.headers, prev)
	}
	g.now = step.Time(prev.Timestamp.Unix()) * step.Second
	later := g.funding(g.script(wpkh, 0, 2).Script, 100_000)
	g.headers = append(g.headers, next(prev, later.TxHash()))
	young.tx, young.proof.Height, young.proof.Branch.Hashes, young.proof.Branch.Index = later, 9_001, nil, 0
	young.script = g.script(wpkh, 0, 2)
	g.headers = append(g.headers, next(g.headers[9_000], later.TxHash()))
	g.headers = append(g.headers, next(g.headers[9_001], later.TxHash()))

	g.refused(honest(g, "young", young).done(t), consent.ReasonNeedHeaders)
	for rounds := 0; ; rounds++ {
		ask, ok := asked(g)
		if !ok {
			break
		}
		if rounds > 20 || ask.At != 0 {
			t.Fatalf("round %d: %+v", rounds, ask)
		}
		g.recv(after(g, ask.Locator))
	}
	if tip := g.signer.Summary(g.now).Tip; tip != 9_003 {
		t.Fatalf("the tip is %d", tip)
	}
	g.consented(honest(g, "young", young))

	g.refused(honest(g, "old", old).done(t), consent.ReasonNeedHeaders)
	ask, ok := asked(g)
	if !ok || ask.At != old.proof.Height {
		t.Fatalf("it asks for %+v", ask)
	}
	raw := consent.Headers{From: ask.At, Headers: g.headers[ask.At-1 : header.Interval]}.Append(nil)
	m, err := consent.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	lie := consent.Headers{From: ask.At, Headers: append([]wire.BlockHeader{next(g.headers[0], later.TxHash())}, g.headers[ask.At:header.Interval]...)}
	g.recv(lie)
	if r, ok := g.last().(consent.Refusal); !ok || r.Reason != consent.ReasonHeaders {
		t.Errorf("a forged old header was answered with %+v", g.last())
	}
	g.recv(m)
	g.consented(honest(g, "old", old))
}

func asked(g *gateway) (consent.AskHeaders, bool) {
	for _, p := range g.sent {
		if ask, ok := p.Msg.(consent.AskHeaders); ok {
			return ask, true
		}
	}
	return consent.AskHeaders{}, false
}

// after is what an honest gateway answers.
func after(g *gateway, locator []chainhash.Hash) consent.Headers {
	for _, hash := range locator {
		for i := len(g.headers) - 1; i >= 0; i-- {
			if g.headers[i].BlockHash() == hash {
				return consent.Headers{Headers: g.headers[i+1 : min(i+1+consent.MaxHeaders, len(g.headers))]}
			}
		}
	}
	return consent.Headers{Headers: g.headers[:consent.MaxHeaders]}
}

// Headers that follow nothing are asked for again once, not for ever.
func TestOrphansAreNotAskedForTwice(t *testing.T) {
	g := newGateway(t, usual)
	g.bury(3)
	orphan := next(wire.BlockHeader{Timestamp: g.headers[2].Timestamp}, chainhash.Hash{1})
	g.recv(consent.Headers{Headers: []wire.BlockHeader{orphan}})
	if _, ok := asked(g); !ok {
		t.Error("the signer does not ask what came before")
	}
	g.recv(consent.Headers{Headers: []wire.BlockHeader{orphan}})
	if r, ok := g.last().(consent.Refusal); !ok || r.Reason != consent.ReasonHeaders {
		t.Errorf("again it answers %+v", g.sent)
	}
	g.bury(1)
	g.recv(consent.Headers{Headers: []wire.BlockHeader{orphan}})
	if _, ok := asked(g); !ok {
		t.Error("after good headers it does not ask")
	}
}

// An account may be added, and none taken away.
func TestAccountsMayBeAdded(t *testing.T) {
	g := newGateway(t, usual)
	all := g.config.Accounts
	g.config.Accounts = all[:2]
	g.boot(0)
	c := g.fund(wpkh, 0, 100_000)
	g.bury(3)
	g.consented(honest(g, "p", c))
	g.config.Accounts = all
	g.boot(0)
	c = g.fund(pkh, 0, 90_000)
	g.bury(3)
	g.consented(g.draft("q", c).change(g.script(pkh, 1, 0), 89_000))
	g.config.Accounts = all[:2]
	if _, err := consent.Load(g.disk, g.config, 0); err == nil {
		t.Error("an account was lost and nobody saw it")
	}
}

func TestASignerIsMadeWhole(t *testing.T) {
	whole := newGateway(t, usual).config
	for name, spoil := range map[string]func(*consent.Config){
		"no account":    func(c *consent.Config) { c.Accounts = nil },
		"empty account": func(c *consent.Config) { c.Accounts = make([]descriptor.Account, 1) },
		"no identity":   func(c *consent.Config) { c.Identity = keys.Secret{} },
		"no wallet":     func(c *consent.Config) { c.Wallet = "" },
	} {
		c := whole
		spoil(&c)
		if _, err := consent.New(c); err == nil {
			t.Errorf("%s: a signer was made", name)
		}
	}
}
