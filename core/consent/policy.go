package consent

import (
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/money"
)

// maxIndex is the largest index of a key that is not hardened (BIP 32).
const maxIndex = 1<<31 - 1

// MaxPayees bounds the payees of a policy.
const MaxPayees = 256

// PayeeWindow is how many scripts of a payee's ranged descriptor are known
// without the order's Index: BIP 44's gap limit.
const PayeeWindow = 20

// A Policy is what the signer consents to. A zero field does not limit, but for
// FeeRateMax, which is then tx.MaxFeeRate.
type Policy struct {
	Payees     []string     // addresses and descriptors that may be paid; none means anyone
	PerPayment money.Amount // at most this for one order
	PerDay     money.Amount // at most this, fees included, in any 24 hours
	FeeMax     money.Amount // at most this in fees of one transaction, the signer's share
	FeeRateMax tx.FeeRate   // at most this for the signer's share of the size
	NeedProof  bool         // every coin comes with a proof against the signer's own headers
	MinDepth   int32        // blocks on a coin's transaction, if NeedProof
	OnlyAsked  bool         // pays only what the device itself Expects
	Joint      bool         // consents to transactions with others' inputs
}

// Expect is the event by which the device itself says what is to be paid for an
// order: a proposal for that order must then pay exactly this. It is answered
// with an Outcome by the order's Key.
type Expect struct {
	Order  money.OrderID
	Script []byte
	Amount money.Amount // whole satoshi
}

// Forget is the event that takes an Expect back. The core Wallet of this machine
// may send it, too, which is answered by nothing: an order that it answers as
// unpaid must have no consent afterwards.
type Forget struct{ Order money.OrderID }

// Count asks the outlet Secret to raise the machine's outside counter to at
// least To: one that an older copy of the disk does not take back, such as a
// TPM's.
type Count struct{ To uint64 }

// Counted answers Count: the counter's value now.
type Counted struct{ At uint64 }
