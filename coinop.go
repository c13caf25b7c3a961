// Package coinop is the SDK: a machine that pays and is paid, in a few lines.
//
//	m, err := coinop.Open(ctx, coinop.Config{Data: "meter", Chain: "p2p://10.0.0.1:18444",
//		Rails: []string{"oneway://02ab…@10.0.0.1:9736"}})
//	…
//	receipt, err := m.Pay(ctx, "oneway://02ab…@10.0.0.1:9736?order=…&amount_msat=5000")
//
// A program links what it uses: import coinop.dev/all for every rail, store, chain
// and home of keys, or those that it needs one by one.
//
// The nouns (Amount, Order, Receipt, Kind) are those of core/money; the drivers
// behind a Machine are documented in rail, world/store, world/chain, world/secret.
package coinop

import (
	"coinop.dev/core/earn"
	"coinop.dev/core/money"
)

// The nouns of machine payments.
type (
	Amount  = money.Amount
	Order   = money.Order
	OrderID = money.OrderID
	Receipt = money.Receipt
	Kind    = money.Kind
	Error   = money.Error
	// A Delivery is what a device is told to deliver.
	Delivery = earn.Deliver
)

// Units of money.
const (
	Msat = money.Msat
	Sat  = money.Sat
	BTC  = money.BTC
)

// What a caller may do after an error; test for one with errors.Is.
const (
	Pending = money.Pending
	Invalid = money.Invalid
	Refused = money.Refused
	Unpaid  = money.Unpaid
	Broken  = money.Broken
)

func invalid(err error) error { return &Error{Kind: Invalid, Err: err} }
