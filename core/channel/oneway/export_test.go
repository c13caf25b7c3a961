package oneway

import (
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// For tests outside the package, which may use the simulated chain.
const (
	ClosingVSize = closingVSize
	RefundVSize  = refundVSize
)

// Refunded is the payer's refund.
func (t *Terms) Refunded(payer keys.Secret) *wire.MsgTx { return t.Refund(payer) }

// ClosedAt is the closing transaction at total, signed by both.
func (t *Terms) ClosedAt(total money.Amount, fee int64, payer, payee keys.Secret) (*wire.MsgTx, error) {
	digest, err := t.sighash(total, fee)
	if err != nil {
		return nil, err
	}
	return t.closed(total, fee, payer.Sign(digest), payee.Sign(digest))
}

// ClosingFee is the fee of the closing transaction that tickets sign.
func (t *Terms) ClosingFee() int64 { return t.closingFee() }

// PayeeKeyOf is the payee's key in the funding output.
func PayeeKeyOf(node keys.Secret, t *Terms) keys.Secret { return payeeKey(node, t.ID()) }
