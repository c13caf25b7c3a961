package wallet

import (
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A Payment is what people ask about one order.
type Payment struct {
	Account string
	Script  []byte
	Amount  money.Amount
	Tx      *wire.MsgTx // pays it, newest version, signed and not to be changed; nil before
	Fee     int64       // satoshi of the whole transaction; 0 once the order is settled for good
	Height  int32       // of the block that has it; 0 while none has
	Settled bool        // Options.Depth confirmations are there
}

// Payment reads one order; one that was answered Unpaid leaves no trace.
func (w *Wallet) Payment(id money.OrderID) (p Payment, known bool) {
	o := w.orders[id]
	if o == nil || o.state == failed {
		return p, false
	}
	p = Payment{Account: o.Account, Script: o.Script, Amount: o.Amount, Settled: o.state == settled}
	b := o.batch
	switch {
	case b == nil:
		return p, true
	case b.final():
		if proven, _, _, err := readProof(o.proof()); err == nil {
			p.Tx, p.Height = proven.Tx, proven.Height
		}
		return p, true
	}
	v := b.complete()
	if b.mined >= 0 {
		v, p.Height = b.versions[b.mined], b.at
	}
	if v != nil {
		p.Tx, p.Fee = v.tx, v.fee()
	}
	return p, true
}

// Accounts lists the accounts that a wallet on disk has.
func Accounts(db step.Reader) (names []string, err error) {
	err = db.Scan(accountKey, func(key string, _ []byte) bool {
		names = append(names, strings.TrimPrefix(key, accountKey))
		return true
	})
	return names, err
}
