package receipt

import (
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Some rails can hold money: it has left its payer's hands and is not the payee's
// until the till says so. That is money.Bill's Hold. A core that holds money tells
// the till (Held), does what the till then says (Release, Cancel), and tells what
// became of it: an Income, or Returned.

// Held is an order whose money is here and waits for the till's word: the value of
// an outcome, which is repeated after each restart until the till has said it. It
// is no Income.
type Held interface {
	Holding() Entry
	// Until is when the money goes back by itself, as far as one can know.
	Until() step.Time
}

// Release tells the core that holds an order's money to take it, Cancel to give it
// back. What is not held is not touched, so both can be repeated.
type (
	Release struct{ Order money.OrderID }
	Cancel  struct{ Order money.OrderID }
)

// Returned says that an order's money went back to its payer: because the till
// said Cancel, or because its time was over. It is the value of an outcome whose
// error has the kind Unpaid.
type Returned struct{ Entry Entry }
