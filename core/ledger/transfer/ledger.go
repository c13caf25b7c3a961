package transfer

import (
	"errors"

	"coinop.dev/core/money"
)

// A Ledger is one account of one kind of ledger: what it has, by what the node says
// and what the wallet has signed. The wallet calls it from its steps alone, so it
// decides by what it was told and nothing else.
type Ledger interface {
	// Load takes back what was on disk: the newest Head, nil if there was none, and
	// the transfers that were not final, oldest first, which it returns. It is called
	// once, before anything else.
	Load(head []byte, open [][]byte) ([]Transfer, error)
	// Head is what it wants to find on disk, at most 4 KiB. It is asked after every
	// step.
	Head() []byte
	// Hear takes in what the node says. What it cannot read means nothing.
	Hear(msg any) News
	// Build signs a transfer that pays the first n of orders, at least one, and takes
	// what it spends as spent. An error is about the first order and changes nothing:
	// ErrLater if it can be tried again when the node has said more; anything else
	// is the end of the order. Without orders it signs one that pays nobody and makes
	// room (pockets, gathers), or returns one without Raw.
	Build(orders []Payment) (t Transfer, n int, err error)
	// Bill writes what an order is paid by. The number n is never used again. Coins
	// that pay it will have the key.
	Bill(order money.OrderID, a money.Amount, n uint64) (text, key string, err error)
}

// ErrLater means that a transfer cannot be made before the node has said more.
var ErrLater = errors.New("the node has not said what is needed yet")

// ID names a transfer on its ledger.
type ID [32]byte

// A Transfer is signed. Raw is what Load gets, Submit what the node gets.
type Transfer struct {
	ID     ID
	Raw    []byte
	Submit any
}

// A Payment is what one order asks of the ledger.
type Payment struct {
	Order  money.OrderID
	Amount money.Amount
	Bill   string
}

// News is what the node has said, in a wallet's words.
type News struct {
	Final []Final
	Dead  []Dead
	Coins []Coin // money of ours that others have sent; all of it may be said again
	Ask   bool   // the node should be asked for everything again
	Again []ID   // transfers that the node should hear of again, now
	Soon  bool   // the node has put something off
}

// Final says that a transfer is final.
type Final struct {
	ID    ID
	Proof []byte   // shows it to anybody
	Spent []string // coins that are said no more
}

// Dead says that a transfer of ours can never become final.
type Dead struct {
	ID  ID
	Why string
}

// A Coin is money that has come.
type Coin struct {
	ID     string // names it for ever
	Key    string // of the bill that it pays
	Amount money.Amount
}
