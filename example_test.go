package coinop_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"coinop.dev"
	_ "coinop.dev/all"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/regtest"
)

// A device pays in five lines. The rail here is play money, so that it runs
// anywhere; a real one is a URI too, such as oneway://02ab…@10.0.0.1:9736 or
// lightning://02ab…@10.0.0.1:9735.
func Example_pay() {
	ctx := context.Background()
	m, err := coinop.Open(ctx, coinop.Config{Data: folder(), Store: "mem:", Rails: []string{"fake:?balance=100sat", "fake:"}})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	receipt, err := m.Pay(ctx, m.PayTo()[0]+"?amount_msat=5000") // a bill, from wherever it comes
	fmt.Println(receipt.Amount, err)
	// Output: 5 sat <nil>
}

// A thermometer sells its readings, and a machine elsewhere buys one: over a
// payment channel with a funding transaction, on a chain in the same process.
func Example_sell() {
	ctx := context.Background()
	seller, err := coinop.Open(ctx, coinop.Config{
		Data: folder(), Store: "mem:", Chain: "regtest:", Listen: "127.0.0.1:0", Rails: []string{"oneway:"},
		Sell: []coinop.Service{{Item: "temperature", Unit: "reading", Price: coinop.Price{Amount: 5 * coinop.Sat}, From: "thermometer"}},
	}, coinop.Deliver("thermometer", func(context.Context, coinop.Delivery) ([]byte, error) {
		return []byte("21.5 °C"), nil
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer seller.Close()

	buyer, err := coinop.OpenIdle(ctx, coinop.Config{Data: folder(), Store: "mem:"}, coinop.OnChain(seller.Chain))
	if err != nil {
		log.Fatal(err)
	}
	defer buyer.Close()
	fund(seller.Chain, buyer)
	payee := seller.PayTo()[0]
	if _, err := buyer.OpenRail(ctx, payee+"?capacity=20000sat"); err != nil {
		log.Fatal(err)
	}
	reading, receipt, err := buyer.Buy(ctx, payee, "temperature", 1, 5*coinop.Sat)
	fmt.Println(string(reading), receipt.Amount, err)
	// Output: 21.5 °C 5 sat <nil>
}

func folder() string {
	dir, err := os.MkdirTemp("", "coinop")
	if err != nil {
		log.Fatal(err)
	}
	return dir
}

// fund gives a machine money of the chain in the box, and lets time pass there.
func fund(source chain.Source, m *coinop.Machine) {
	box := source.(*regtest.Node)
	if _, err := box.Faucet(tx.P2WPKH(m.Wallet().Public()), 100_000); err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			if _, err := box.Mine(1); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
}
