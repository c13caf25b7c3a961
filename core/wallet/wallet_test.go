package wallet_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

// Wherever the gateway crashes, before a write or after it, what it was asked
// for is paid once in the end.
func TestCrashAtEveryWrite(t *testing.T) {
	for name, after := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) { crashEverywhere(t, after) })
	}
}

func crashEverywhere(t *testing.T, after bool) {
	const begin = "wallet joint gather=1 bump=2 gap=3\nopen alice 84\nopen bob 86\nfund alice 50000\nfund bob 60000\nmine"
	const act = "order alice o1 1000\norder bob o2 2000\npay bob o3 1500\nwait 1\nstuck\nstuck\nstuck\nwait 5\nmine\norder alice o4 1200\nwait 2\nreorg 1\nmine 2"
	crashes := 0
	for crash := 1; ; crash++ {
		k := newTalk(t)
		k.quiet = true
		k.obey(begin)
		k.crashAt, k.after = k.writes+crash, after
		k.obey(act)
		if k.writes < k.crashAt {
			break
		}
		crashes++
		for range 3 { // whoever was not answered asks again
			for _, o := range []string{"alice o1 1000", "bob o2 2000", "alice o4 1200"} {
				k.obey("order " + o)
			}
			k.obey("again o3\nwait 70\nmine\nwait 700")
		}
		k.compare()
		for id, p := range k.pays {
			sum, n := k.chain.paid(p.Script)
			if n != 1 || sum != p.Amount.Sats() || k.told[id] == 0 {
				t.Fatalf("crash at write %d: order %s of %v is paid %d sat in %d outputs, and told %d times\n%s", crash, orderName(id), p.Amount, sum, n, k.told[id], k.obey("state"))
			}
			if _, err := wallet.Verify(receipt.Entry{Order: id, Amount: p.Amount}, p.Script, 1, regtest, k.proofs[id]); err != nil {
				t.Errorf("crash at write %d: order %s: %v", crash, orderName(id), err)
			}
		}
		if s := k.core.Summary(); s.Waiting > 0 || len(s.Sending) > 0 {
			t.Fatalf("crash at write %d: %+v", crash, s)
		}
	}
	if crashes < 20 {
		t.Errorf("it crashed at %d writes only", crashes)
	}
}

// The gateway's records have no private material: no seed, no key derived from
// it, no extended private key, in bytes or in text.
func TestNothingPrivateOnTheGateway(t *testing.T) {
	k := newTalk(t)
	k.obey("wallet joint gather=1 bump=1 depth=2\nopen alice 84\nopen bob 86\nfund alice 50000\nfund bob 60000\nmine")
	k.obey("order alice o1 1000\norder bob o2 2000\nwait 1\nstuck\nmine\norder alice o3 1000\nbill bob b1 5000\nsend b1 5000\nmine 2\ninvite 0123456789abcdef carol")
	var secrets [][]byte
	for _, d := range k.devices {
		secrets = append(secrets, d.seed.Reveal(), d.id.Reveal())
		for branch := range uint32(2) {
			for i := range uint32(30) {
				internal, err := d.account.Secret(branch, i)
				if err != nil {
					t.Fatal(err)
				}
				signing, err := d.account.SigningKey(branch, i)
				if err != nil {
					t.Fatal(err)
				}
				secrets = append(secrets, internal.Reveal(), signing.Reveal())
			}
		}
	}
	secrets = append(secrets, []byte("0123456789abcdef"))
	for _, s := range secrets[:len(secrets)-1] {
		secrets = append(secrets, []byte(hex.EncodeToString(s)))
	}
	for _, word := range []string{"xprv", "tprv", "yprv", "zprv", "vprv", "uprv", "XPRV", "TPRV"} {
		secrets = append(secrets, []byte(word))
	}
	records := 0
	k.disk.Scan("", func(key string, value []byte) bool {
		records++
		for _, s := range secrets {
			if bytes.Contains(value, s) || strings.Contains(key, string(s)) {
				t.Errorf("record %q has %d secret bytes", key, len(s))
			}
		}
		return true
	})
	if records < 15 {
		t.Errorf("only %d records were looked at", records)
	}
	if text := fmt.Sprintf("%+v", k.core.Summary()); strings.Contains(text, "prv") {
		t.Error("the summary has a private key")
	}
	for _, d := range k.devices {
		_, err := descriptor.Parse("wpkh("+hex.EncodeToString(d.seed.Reveal())+")", regtest)
		if err == nil {
			t.Error("a seed parses as a descriptor")
		}
	}
}

// Accounts of all four kinds pay, and every transaction is what a node takes.
func TestEveryPurpose(t *testing.T) {
	for _, purpose := range []string{"44", "49", "84", "86"} {
		k := newTalk(t)
		k.quiet = true
		k.obey("wallet bump=1\nopen alice " + purpose + "\nfund alice 40000\nfund alice 30000\nmine")
		k.obey("pay alice o1 50000\nstuck\nmine\npay alice o2 5000\nmine")
		for _, o := range []string{"o1", "o2"} {
			p := k.pays[orderID(o)]
			if sum, n := k.chain.paid(p.Script); n != 1 || sum != p.Amount.Sats() {
				t.Errorf("BIP %s: order %s is paid %d sat in %d outputs\n%s", purpose, o, sum, n, k.out.String())
			}
		}
	}
}

// What an order's receipt says can be checked by anybody, and bent by nobody.
func TestForgedProof(t *testing.T) {
	k := newTalk(t)
	k.obey("wallet depth=2\nopen alice 84\nfund alice 50000\nmine\npay alice o1 5000\nmine 2")
	p := k.pays[orderID("o1")]
	e, proof := receipt.Entry{Order: p.Order, Amount: p.Amount}, k.proofs[p.Order]
	got, err := wallet.Verify(e, p.Script, 2, regtest, proof)
	if err != nil || got.Depth != 2 || got.Work.Cmp(big.NewInt(4)) != 0 || got.Block != k.chain.blocks[got.Height].header.BlockHash() {
		t.Fatalf("%+v, %v", got, err)
	}
	refuse := func(what string, e receipt.Entry, script []byte, depth int32, params *chaincfg.Params, proof []byte) {
		t.Helper()
		if _, err := wallet.Verify(e, script, depth, params, proof); err == nil {
			t.Errorf("%s: it verifies", what)
		}
	}
	more := e
	more.Amount += money.Sat
	refuse("another amount", more, p.Script, 2, regtest, proof)
	refuse("another payee", e, tx.P2WPKH(secret("thief").Public()), 2, regtest, proof)
	refuse("not deep enough", e, p.Script, 3, regtest, proof)
	refuse("a network of more work", e, p.Script, 2, &chaincfg.MainNetParams, proof)
	refuse("nothing", e, p.Script, 0, regtest, nil)
	for i := range proof {
		bent := bytes.Clone(proof)
		bent[i] ^= 1
		again, err := wallet.Verify(e, p.Script, 2, regtest, bent)
		// The witness is not under the Merkle root, and the height is a hint.
		if err == nil && (again.Tx.TxHash() != got.Tx.TxHash() || again.Output != got.Output || again.Block != got.Block || again.Depth != 2) {
			t.Errorf("byte %d is bent, and it proves %+v", i, again)
		}
		refuse("cut short", e, p.Script, 2, regtest, proof[:i])
	}
}

// machine is a wallet and its signer in one drive.Machine, with a purse and a
// till that only listen.
type machine struct {
	*drive.Machine
	t     *testing.T
	chain *chain
	disk  *sim.Disk
	now   step.Time
	heard []step.Outcome
	watch []watch.Script
	out   map[wire.OutPoint]bool
}

func (m *machine) round(events ...drive.Event) {
	for len(events) > 0 {
		m.now += 10
		fx := m.Round(m.now, events)
		m.disk.Commit(fx.Put)
		events = nil
		for _, p := range fx.Send {
			if p.To != watch.Chain {
				continue
			}
			switch msg := p.Msg.(type) {
			case watch.Script:
				m.watch = append(m.watch, msg)
				events = append(events, m.say(m.chain.coins(msg.Script, msg.Prove)))
			case watch.Output:
				m.out[msg.Point] = true
				events = append(events, m.say(m.chain.status(msg.Point)))
			case watch.HeadersAfter:
				events = append(events, m.say(m.chain.headersAfter(msg)))
			case watch.Publish:
				if err := m.chain.publish(msg.Tx); err != nil {
					m.t.Error(err)
				}
			}
		}
		for _, d := range fx.Done {
			if err := d.Err; err != nil {
				m.t.Errorf("%q: %v", d.ID, err)
			}
			m.heard = append(m.heard, d)
		}
	}
}

func (m *machine) say(msg any) drive.Event {
	return drive.Event{Core: wallet.Name, What: step.Recv{From: watch.Chain, Msg: msg}}
}

func (m *machine) mine() {
	m.chain.mine(nil)
	var events []drive.Event
	for _, s := range m.watch {
		events = append(events, m.say(m.chain.coins(s.Script, true)))
	}
	for p := range m.out {
		events = append(events, m.say(m.chain.status(p)))
	}
	m.round(events...)
}

func (m *machine) value(id string) any {
	for _, d := range m.heard {
		if d.ID == id {
			return d.Value
		}
	}
	m.t.Fatalf("no outcome %q", id)
	return nil
}

// A local wallet: both cores in one machine, the same messages, one durable write
// for both. One account pays another of the same machine's bill.
func TestOneMachine(t *testing.T) {
	m := &machine{Machine: drive.NewMachine(), t: t, chain: newChain(), disk: &sim.Disk{}, now: 1_500_000_000_000, out: map[wire.OutPoint]bool{}}
	for range 3 {
		m.chain.mine(nil)
	}
	var accounts []descriptor.Account
	for _, purpose := range []descriptor.Purpose{84, 86} {
		a, err := descriptor.NewAccount(seedOf("local"), purpose, 1, 0, regtest)
		if err != nil {
			t.Fatal(err)
		}
		accounts = append(accounts, a)
	}
	signer, err := consent.New(consent.Config{Params: regtest, Accounts: accounts, Identity: secret("local"), Wallet: wallet.Name, Policy: consent.Policy{NeedProof: true, MinDepth: 1}})
	if err != nil {
		t.Fatal(err)
	}
	core := wallet.New(wallet.Options{Params: regtest, Depth: 1, Account: "spend"})
	m.Add(wallet.LocalSigner, signer)
	m.Add(wallet.Name, core)
	tell := func(what any) { m.round(drive.Event{Core: wallet.Name, What: what}) }
	m.round(drive.Event{What: step.Rang{ID: step.Start}})
	for i, name := range []string{"spend", "earn"} {
		tell(wallet.Open{Ask: "open/" + name, Account: name, Descriptor: accounts[i].Descriptor().String(), Signer: wallet.LocalSigner, Since: 1})
	}
	tell(wallet.Fresh{Ask: "fund", Account: "spend"})
	m.chain.mint(m.value("fund").(wallet.Address).Script, 100_000)
	m.mine()
	bill := orderID("bill")
	tell(wallet.Invoice{Order: bill, Account: "earn", Amount: 12_345 * money.Sat})
	at := m.value(wallet.BillID(bill)).(wallet.Address)

	order := money.Order{ID: orderID("order"), To: "bitcoin:" + at.Text + "?order=" + bill.String(), Amount: 12_345 * money.Sat}
	tell(order)
	m.round(drive.Event{Core: wallet.Name, What: step.Recv{From: "spend", Msg: order}}) // twice is once
	m.mine()
	paid := m.value(order.ID.Key()).(receipt.Evidence)
	if _, err := wallet.Verify(paid.Entry(), at.Script, 1, regtest, paid.Proof()); err != nil {
		t.Error(err)
	}
	if got := m.value("income").(receipt.Income).Income(); got != (receipt.Entry{Order: bill, Amount: order.Amount}) {
		t.Errorf("the till hears of %+v", got)
	}
	tell(money.Inquiry{Order: order.ID})
	if last := m.heard[len(m.heard)-1].Value.(receipt.Evidence); !bytes.Equal(last.Proof(), paid.Proof()) {
		t.Error("an inquiry has another proof")
	}
	core.Check()
	s := core.Summary()
	if s.Accounts[0].Confirmed != 12_345 || s.Accounts[1].Confirmed >= 100_000-12_345 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	// A machine that comes back says the same.
	again, err := wallet.Load(m.disk, wallet.Options{Params: regtest, Depth: 1, Account: "spend"})
	if err != nil {
		t.Fatal(err)
	}
	fx := again.Step(step.Input{At: m.now, Events: []any{order}})
	if len(fx.Done) != 1 || !bytes.Equal(fx.Done[0].Value.(receipt.Evidence).Proof(), paid.Proof()) {
		t.Errorf("after a restart the order is answered %+v", fx.Done)
	}
}

func TestWhatMakesNoSense(t *testing.T) {
	k := newTalk(t)
	k.obey("wallet\nopen alice 84\nfund alice 50000\nmine")
	to := tx.P2WPKH(secret("shop").Public())
	for name, c := range map[string]struct {
		event any
		kind  money.Kind
		want  string
	}{
		"nothing":    {wallet.Pay{Order: orderID("x"), Script: to}, money.Invalid, "the amount is"},
		"too much":   {wallet.Pay{Order: orderID("x"), Script: to, Amount: money.MaxAmount + 1}, money.Invalid, "the amount is"},
		"a novel":    {wallet.Pay{Order: orderID("x"), Script: make([]byte, 43), Amount: money.BTC}, money.Invalid, "43 bytes"},
		"dust":       {wallet.Pay{Order: orderID("x"), Script: to, Amount: 293 * money.Sat}, money.Unpaid, "dust"},
		"taproot":    {wallet.Pay{Order: orderID("x"), Script: append([]byte{0x51, 0x20}, make([]byte, 32)...), Amount: 329 * money.Sat}, money.Unpaid, "330"},
		"a hurry":    {wallet.Pay{Order: orderID("x"), Script: to, Amount: money.BTC, Rate: tx.MaxFeeRate}, money.Invalid, "fee rate"},
		"nobody's":   {wallet.Pay{Order: orderID("x"), Account: "zoe", Script: to, Amount: money.BTC}, money.Unpaid, "zoe"},
		"required":   {money.Order{ID: orderID("x"), To: "bitcoin:bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080?req-moon=1", Amount: money.BTC}, money.Invalid, "req-"},
		"main net":   {money.Order{ID: orderID("x"), To: "bitcoin:bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", Amount: money.BTC}, money.Invalid, ""},
		"too little": {money.Order{ID: orderID("x"), To: "bitcoin:bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080?amount=2", Amount: money.BTC}, money.Invalid, "asks for"},
		"forgotten":  {money.Inquiry{Order: orderID("x")}, money.Refused, "remember"},
		"a second":   {wallet.Open{Ask: "x", Account: "alice", Descriptor: k.devices["alice"].account.Descriptor().String(), Signer: wallet.LocalSigner}, money.Refused, "already"},
		"a slash":    {wallet.Open{Ask: "x", Account: "a/b", Descriptor: k.devices["alice"].account.Descriptor().String(), Signer: wallet.LocalSigner}, money.Refused, "slash"},
		"a private":  {wallet.Open{Ask: "x", Account: "b", Descriptor: "wpkh(xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi/<0;1>/*)", Signer: wallet.LocalSigner}, money.Refused, ""},
		"a stranger": {wallet.Open{Ask: "x", Account: "b", Descriptor: k.devices["alice"].account.Descriptor().String(), Signer: "peer/02ab"}, money.Refused, "peer/02ab"},
		"a bump":     {wallet.Bump{Ask: "x", Order: orderID("x")}, money.Refused, "no transaction"},
		"revocation": {wallet.Revoke{Ask: "x", Account: "zoe"}, money.Refused, "zoe"},
		"free":       {wallet.Invoice{Order: orderID("x"), Account: "alice"}, money.Refused, "the amount is"},
	} {
		before := fmt.Sprint(k.core.Durable())
		fx := k.core.Step(step.Input{At: k.now, Events: []any{c.event}})
		if len(fx.Done) != 1 || money.KindOf(fx.Done[0].Err) != c.kind || !strings.Contains(fx.Done[0].Err.Error(), c.want) {
			t.Errorf("%s: %+v", name, fx.Done)
		}
		if len(fx.Put) > 0 || fmt.Sprint(k.core.Durable()) != before {
			t.Errorf("%s: what is refused changes %v", name, fx.Put)
		}
	}
}

// A signer that signs something else gets nothing published.
func TestSignatureOfAnotherTransaction(t *testing.T) {
	k := newTalk(t)
	k.obey("wallet\nopen alice 84 offline\nfund alice 50000\nmine")
	var p consent.Proposal
	fx := k.core.Step(step.Input{At: k.now, Events: []any{wallet.Pay{Order: orderID("o1"), Script: tx.P2WPKH(secret("shop").Public()), Amount: 5000 * money.Sat}}})
	for _, s := range fx.Send {
		if m, ok := s.Msg.(consent.Proposal); ok {
			p = m
		}
	}
	d := k.devices["alice"]
	sig := tx.WitnessSig(secret("thief").Sign([32]byte{1}))
	for name, c := range map[string]step.Recv{
		"a stranger":   {From: "peer/zoe", Msg: consent.Consent{ID: p.ID, Counter: 1, Signatures: [][]byte{sig}}},
		"another ID":   {From: d.peer(), Msg: consent.Consent{ID: consent.ID{1}, Counter: 1, Signatures: [][]byte{sig}}},
		"no refusal":   {From: "peer/zoe", Msg: consent.Refusal{ID: p.ID, Reason: consent.ReasonFee}},
		"not of chain": {From: d.peer(), Msg: watch.Coins{Script: []byte{1}, Tip: 99}},
	} {
		fx := k.core.Step(step.Input{At: k.now, Events: []any{c}})
		if len(fx.Put)+len(fx.Done)+len(fx.Send) > 0 {
			t.Errorf("%s: %+v", name, fx)
		}
	}
	fx = k.core.Step(step.Input{At: k.now, Events: []any{step.Recv{From: d.peer(), Msg: consent.Consent{ID: p.ID, Counter: 1, Signatures: [][]byte{sig}}}}})
	if len(fx.Done) != 1 || !errors.Is(fx.Done[0].Err, money.Unpaid) || !strings.Contains(fx.Done[0].Err.Error(), "does not fit") {
		t.Errorf("%+v", fx)
	}
	var why *wallet.ConsentError
	if !errors.As(fx.Done[0].Err, &why) || why.Reason != consent.ReasonMalformed {
		t.Errorf("%v has no reason", fx.Done[0].Err)
	}
	for _, s := range fx.Send {
		if _, ok := s.Msg.(watch.Publish); ok {
			t.Error("it is published")
		}
	}
	k.core.Check()
}
