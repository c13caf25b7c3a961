package wallet_test

import (
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
)

// A wallet that was restored from its seed has addresses that were paid long ago.
// A bill must not get one of them, or the old coin would pay it.
func TestNoBillHasAnAddressThatMayBePaidAlready(t *testing.T) {
	k := newTalk(t)
	d := k.device("shop", "84", nil)
	w := wallet.New(wallet.Options{Params: regtest, Depth: 1, Gap: 2})
	now := step.Time(1)
	tell := func(event any) step.Effects {
		now++
		return w.Step(step.Input{At: now, Events: []any{event}})
	}
	told := func(fx step.Effects) (at wallet.Address, income bool) {
		for _, o := range fx.Done {
			switch v := o.Value.(type) {
			case wallet.Address:
				at = v
			case wallet.Received:
				income = true
			}
		}
		return at, income
	}
	fx := tell(wallet.Open{Ask: "open", Account: "shop", Descriptor: d.account.Descriptor().String(), Signer: wallet.LocalSigner})
	var scripts [][]byte
	for _, p := range fx.Send {
		if s, ok := p.Msg.(watch.Script); ok {
			scripts = append(scripts, s.Script)
		}
	}
	id := money.OrderID{1}
	if at, _ := told(tell(wallet.Invoice{Order: id, Account: "shop", Amount: 500 * money.Sat})); at.Text != "" {
		t.Fatalf("it gives out address %d before the chain has told of it", at.Index)
	}
	old := wire.NewMsgTx(2)
	old.AddTxOut(wire.NewTxOut(900, scripts[0]))
	coin := watch.Coin{Coin: tx.Coin{Point: wire.OutPoint{Hash: old.TxHash()}, Value: 900}, Depth: 50, Tx: old}
	if at, _ := told(tell(step.Recv{From: watch.Chain, Msg: watch.Coins{Script: scripts[0], Tip: 100, Coins: []watch.Coin{coin}}})); at.Text != "" {
		t.Fatalf("it gives out address %d while nothing is known of address 1", at.Index)
	}
	at, income := told(tell(step.Recv{From: watch.Chain, Msg: watch.Coins{Script: scripts[1], Tip: 100}}))
	if at.Index != 1 || at.Text == "" || income {
		t.Errorf("the bill has address %d (%q), and is paid: %t", at.Index, at.Text, income)
	}
}
