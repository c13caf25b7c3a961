package wallet_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
)

func numbered(i int) (id money.OrderID) {
	binary.BigEndian.PutUint64(id[:], uint64(i)+1)
	return id
}

// One device cannot take the gateway's room: what is above its limit is unpaid at
// once, and what is below is proposed in messages that fit.
func TestOneAccountIsBounded(t *testing.T) {
	k := newTalk(t)
	k.quiet = true
	k.obey("wallet\nopen alice 84 offline")
	for range 40 {
		k.chain.mint(k.fresh("alice"), 100_000)
		k.obey("mine") // or the gap is full
	}
	var refused, proposed int
	in := step.Input{At: k.now}
	for i := range wallet.MaxAccountWaiting + 10 {
		in.Events = append(in.Events, wallet.Pay{Order: numbered(i), Script: tx.P2WPKH(secret("shop").Public()), Amount: 1000 * money.Sat})
	}
	for range 40 {
		fx := k.core.Step(in)
		in = step.Input{At: k.now + 1, Events: []any{step.Rang{ID: "wallet"}}}
		for _, d := range fx.Done {
			if money.KindOf(d.Err) != money.Unpaid || !strings.Contains(d.Err.Error(), fmt.Sprint(wallet.MaxAccountWaiting)) {
				t.Fatalf("%+v", d)
			}
			refused++
		}
		for _, p := range fx.Send {
			if m, ok := p.Msg.(consent.Proposal); ok {
				proposed++
				if raw := m.Append(nil); len(raw) > consent.MaxMessage || len(m.PSBT) > consent.MaxPSBT || len(m.Orders) > wallet.MaxOrders {
					t.Errorf("a proposal of %d orders has %d bytes, its PSBT %d", len(m.Orders), len(raw), len(m.PSBT))
				}
			}
		}
		k.core.Check()
	}
	if refused != 10 || proposed != wallet.MaxOpen {
		t.Errorf("%d orders are refused and %d transactions proposed", refused, proposed)
	}
}

// The largest transaction of one account: as many inputs and orders as may be.
func TestTheLargestProposal(t *testing.T) {
	k := newTalk(t)
	k.quiet = true
	k.obey("wallet gather=1\nopen alice 86 offline")
	at := k.fresh("alice")
	for range wallet.MaxInputs {
		k.chain.mint(at, 3000)
	}
	k.obey("mine")
	var events []any
	for i := range wallet.MaxOrders {
		events = append(events, wallet.Pay{Order: numbered(i), Script: tx.P2WPKH(secret(fmt.Sprint(i)).Public()), Amount: 1400 * money.Sat})
	}
	fx := k.core.Step(step.Input{At: k.now, Events: events})
	for _, p := range fx.Send {
		m, ok := p.Msg.(consent.Proposal)
		if !ok {
			continue
		}
		if len(m.Orders) < 60 || len(m.Append(nil)) > consent.MaxMessage || len(m.PSBT) > consent.MaxPSBT {
			t.Errorf("%d orders, %d bytes", len(m.Orders), len(m.Append(nil)))
		}
		d := k.devices["alice"]
		d.online = true
		for i, o := range m.Orders {
			k.step(d, consent.Expect{Order: o.ID, Script: o.Script, Amount: m.Orders[i].Amount})
		}
		k.link(d)
		k.run()
		k.obey("mine")
		if n := len(k.told); n != len(m.Orders) {
			t.Errorf("%d orders of %d are paid\n%s", n, len(m.Orders), k.obey("state"))
		}
		return
	}
	t.Error("nothing is proposed")
}

// BenchmarkOrder is one order from the question to the proof. Of its time the
// wallet's part and the signer's are told apart; the rest is the test's chain.
func BenchmarkOrder(b *testing.B) {
	var k *talk
	var spent, signing time.Duration
	n := 0
	for b.Loop() {
		if n%20 == 0 { // the test's chain is slow when it is long
			k = newTalk(&testing.T{})
			k.quiet = true
			k.obey("wallet gap=20\nopen alice 84\nfund alice 100000000\nmine")
			k.spent, k.signing = 0, 0
		}
		k.obey(fmt.Sprintf("pay alice x%d 1000\nmine", n))
		n++
		spent, signing = spent+k.spent, signing+k.signing
		k.spent, k.signing = 0, 0
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(n), "wallet-ns/op")
	b.ReportMetric(float64(signing.Nanoseconds())/float64(n), "signer-ns/op")
}

// BenchmarkLoad reads a gateway of 100 accounts with the usual gap.
func BenchmarkLoad(b *testing.B) {
	k := newTalk(&testing.T{})
	k.quiet = true
	k.obey("wallet gap=20")
	for i := range 100 {
		a, err := descriptor.NewAccount(seedOf(fmt.Sprint("bench", i)), 84, 1, 0, regtest)
		if err != nil {
			b.Fatal(err)
		}
		k.tell(wallet.Open{Ask: "open", Account: fmt.Sprint("a", i), Descriptor: a.Descriptor().String(), Signer: wallet.LocalSigner})
	}
	for b.Loop() {
		if _, err := wallet.Load(k.disk, k.options); err != nil {
			b.Fatal(err)
		}
	}
}
