package wallet_test

import (
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
)

// A reorganisation is told piece by piece. A higher tip and new headers say
// nothing of a coin that only the old branch had.
func TestATipOfAnotherBranchConfirmsNothing(t *testing.T) {
	k := newTalk(t)
	k.obey("wallet depth=2\nopen alice 84\nfund alice 9000\nmine\nbill alice b1 5000\nsend b1 5000\nmine")
	k.chain.reorg(1)
	k.chain.mine(func(*wire.MsgTx) bool { return false })
	told := func(msg any) {
		for _, d := range k.core.Step(step.Input{At: k.now, Events: []any{step.Recv{From: watch.Chain, Msg: msg}}}).Done {
			if in, ok := d.Value.(receipt.Income); ok {
				t.Errorf("%T: the till has %v", msg, in.Income().Amount)
			}
		}
	}
	other, err := k.devices["alice"].account.Descriptor().At(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	told(k.chain.coins(other.Script, true))
	told(k.chain.headersAfter(watch.HeadersAfter{To: wallet.Name, Locator: []chainhash.Hash{*regtest.GenesisHash}}))
	told(k.chain.coins(other.Script, true))
	told(k.chain.coins(k.bills[orderID("b1")], true))
}

// Asking for an alarm again moves it, so a later one is not asked for while an
// earlier one is set.
func TestAlarmsOnlyMoveForwards(t *testing.T) {
	k := newTalk(t)
	k.obey("wallet gather=60\nopen alice 84\nfund alice 50000\nfund alice 50000\nmine")
	pay := func(name string, at step.Time) []step.Alarm {
		p := wallet.Pay{Order: orderID(name), Script: tx.P2WPKH(secret(name).Public()), Amount: 5000 * money.Sat}
		return k.core.Step(step.Input{At: at, Events: []any{p}}).Wake
	}
	first := pay("o1", k.now)
	if len(first) != 1 || first[0].At != k.now+60*step.Second {
		t.Fatalf("%+v", first)
	}
	if again := pay("o2", k.now+30*step.Second); len(again) != 0 {
		t.Errorf("the alarm moves to %+v", again)
	}
	fx := k.core.Step(step.Input{At: first[0].At, Events: []any{step.Rang{ID: first[0].ID}}})
	if len(fx.Wake) != 1 || fx.Wake[0].At != first[0].At+5*step.Second {
		t.Fatalf("what was proposed is sent again at %+v", fx.Wake)
	}
	if later := pay("o3", first[0].At+step.Second); len(later) != 0 {
		t.Errorf("the alarm for sending again moves to %+v", later)
	}
}
