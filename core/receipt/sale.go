package receipt

import (
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A Sale is a seller's signed word on one order: what was sold for how much, at
// which rate, and what became of it. Anybody can check it offline (Verify).
//
// Two things ride with it that speak for themselves: the payer's own receipt, where
// the payer showed it, which its rail verifies; and the acknowledgement of the
// device that delivered, which the device's key verifies (core/fleet). The seller
// signs the acknowledgement too.
type Sale struct {
	Seller keys.Public   `json:"seller"` // node key
	Order  money.OrderID `json:"order"`
	State  string        `json:"state"`
	Item   string        `json:"item,omitempty"`
	Units  uint64        `json:"units,omitempty"`
	Due    money.Amount  `json:"due_msat"`
	Paid   money.Amount  `json:"paid_msat"`
	Back   money.Amount  `json:"refunded_msat,omitempty"`
	// The price of one bitcoin that was used, in millionths of the currency's unit,
	// and who said so when; empty if the price was in bitcoin.
	Currency string    `json:"currency,omitempty"`
	Rate     uint64    `json:"btc_micro,omitempty"`
	Source   string    `json:"rate_source,omitempty"`
	RateAt   step.Time `json:"rate_at_ms,omitempty"`

	Device    string      `json:"device,omitempty"`
	DeviceKey keys.Public `json:"device_key,omitzero"` // zero if it signs with a shared secret
	Ack       []byte      `json:"ack,omitempty"`
	Goods     []byte      `json:"goods_sha256,omitempty"` // of what was delivered
	Test      bool        `json:"test,omitempty"`         // nobody paid
	At        step.Time   `json:"at_ms"`                  // of the order's last change

	Payment *money.Receipt `json:"payment,omitempty"`
	Sig     []byte         `json:"sig"` // ECDSA, 64 bytes
}

const (
	// maxSaleText bounds each text of a sale, and maxSaleAck its acknowledgement, in
	// bytes.
	maxSaleText = 256
	maxSaleAck  = 4096
)

// Sign states a sale as the seller that holds the node key.
func (s Sale) Sign(node keys.Secret) Sale {
	s.Seller = node.Public()
	sig := node.Sign(s.digest())
	s.Sig = sig[:]
	return s
}

// Verify checks that the holder of the seller's key states this, and that the
// payment with it, if there is one, is of this order and pays it. The payment's own
// proof is for its rail to check.
func (s Sale) Verify() error {
	for _, text := range []string{s.State, s.Item, s.Currency, s.Source, s.Device} {
		if len(text) > maxSaleText {
			return fmt.Errorf("the sale has a text of %d bytes; the limit is %d", len(text), maxSaleText)
		}
	}
	switch {
	case len(s.Ack) > maxSaleAck:
		return fmt.Errorf("the sale has an acknowledgement of %d bytes; the limit is %d", len(s.Ack), maxSaleAck)
	case len(s.Goods) != 0 && len(s.Goods) != 32:
		return fmt.Errorf("the sale's goods_sha256 has %d bytes instead of 32", len(s.Goods))
	case len(s.Sig) != len(keys.Signature{}) || !s.Seller.Verify(s.digest(), keys.Signature(s.Sig)):
		return fmt.Errorf("the seller's signature: %w", ErrForged)
	case s.Payment == nil:
		return nil
	case s.Payment.Order != s.Order:
		return fmt.Errorf("the payment is of order %v, and the sale of %v", s.Payment.Order, s.Order)
	case s.Payment.Amount < s.Due:
		return fmt.Errorf("the payment is of %v, and %v was due", s.Payment.Amount, s.Due)
	}
	return nil
}

func (s Sale) digest() [32]byte {
	b := append([]byte{1}, s.Seller[:]...)
	b = append(b, s.Order[:]...)
	b = codec.AppendBytes(b, s.State)
	b = codec.AppendBytes(b, s.Item)
	b = codec.AppendUint(b, s.Units)
	b = codec.AppendUint(b, s.Due)
	b = codec.AppendUint(b, s.Paid)
	b = codec.AppendUint(b, s.Back)
	b = codec.AppendBytes(b, s.Currency)
	b = codec.AppendUint(b, s.Rate)
	b = codec.AppendBytes(b, s.Source)
	b = codec.AppendUint(b, uint64(s.RateAt))
	b = codec.AppendBytes(b, s.Device)
	b = append(b, s.DeviceKey[:]...)
	b = codec.AppendBytes(b, s.Ack)
	b = codec.AppendBytes(b, s.Goods)
	test := byte(0)
	if s.Test {
		test = 1
	}
	b = append(b, test)
	b = codec.AppendUint(b, uint64(s.At))
	return keys.Digest("coinop/sale", b)
}
