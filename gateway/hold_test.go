package gateway_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"coinop.dev"
	_ "coinop.dev/all"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/gateway"
	"coinop.dev/purse"
	"coinop.dev/world/chain/regtest"
)

// Over Lightning the money moves when the machine has delivered, and not before:
// the payer waits for its receipt until then, and keeps its money if it never
// comes to that.
func TestHeldOverLightning(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	acts := make(chan error)
	seller, err := coinop.Open(ctx, coinop.Config{
		Data: filepath.Join(t.TempDir(), "seller"), Chain: "regtest:", Listen: "127.0.0.1:0", Rails: []string{"lightning:"},
		Sell: []coinop.Service{{Item: "coffee", Unit: "cup", Price: coinop.Price{Amount: 2000 * money.Sat}, From: "machine", Within: "20s", Hold: true}},
	}, coinop.AsGateway(nil, nil), coinop.Deliver("machine", func(ctx context.Context, _ coinop.Delivery) ([]byte, error) {
		select {
		case err := <-acts:
			return []byte("a cup"), err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}))
	must(t, err)
	defer seller.Close()
	box := seller.Chain.(*regtest.Node)

	buyer, err := coinop.OpenIdle(ctx, coinop.Config{Data: filepath.Join(t.TempDir(), "buyer")}, coinop.OnChain(seller.Chain))
	must(t, err)
	defer buyer.Close()
	_, err = box.Faucet(tx.P2WPKH(buyer.Wallet().Public()), 2_000_000)
	must(t, err)
	go func() {
		for ctx.Err() == nil {
			box.Mine(1)
			time.Sleep(50 * time.Millisecond)
		}
	}()
	_, err = buyer.OpenRail(ctx, seller.PayTo()[0]+"?capacity=1000000sat")
	must(t, err)

	type answer struct {
		receipt money.Receipt
		err     error
	}
	order := func() (gateway.Offer, chan answer) {
		o, err := seller.Shop.Quote(ctx, gateway.Ask{Service: "coffee", Units: 1})
		must(t, err)
		if !o.Ways[0].Hold || o.Ways[0].Hash == ([32]byte{}) {
			t.Fatalf("%+v", o.Ways)
		}
		_, err = seller.Shop.Place(ctx, o.Token, "test")
		must(t, err)
		paid := make(chan answer, 1)
		go func() {
			r, err := buyer.Purse.Pay(ctx, money.Order{ID: purse.NewOrderID(), To: o.Ways[0].Pay, Amount: o.Due})
			paid <- answer{r, err}
		}()
		_, err = seller.Shop.Wait(ctx, o.Order, func(o earn.Order) bool { return o.State == "held" })
		must(t, err)
		return o, paid
	}
	state := func(o gateway.Offer, want string) earn.Order {
		t.Helper()
		got, err := seller.Shop.Wait(ctx, o.Order, func(o earn.Order) bool { return o.State == want })
		must(t, err)
		return got
	}

	o, paid := order()
	select {
	case a := <-paid:
		t.Fatalf("paid before it was delivered: %+v", a)
	case <-time.After(200 * time.Millisecond):
	}
	acts <- nil
	if got := state(o, "settled"); got.Paid != o.Due {
		t.Fatalf("%+v", got)
	}
	if a := <-paid; a.err != nil {
		t.Fatal(a.err)
	}

	o, paid = order()
	acts <- &money.Error{Kind: money.Refused, Err: errors.New("no more beans")}
	if got := state(o, "refunded"); got.How != "never taken" || got.Back != 0 {
		t.Fatalf("%+v", got)
	}
	if a := <-paid; !errors.Is(a.err, money.Unpaid) {
		t.Fatalf("%+v", a)
	}
	earned, err := seller.Till.Summary(ctx)
	if err != nil || earned.Earned != o.Due {
		t.Fatalf("%+v, %v", earned, err)
	}
}
