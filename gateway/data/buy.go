package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
	"coinop.dev/core/step"
)

// A Payer pays an order once, as purse.Purse does: asked again for the same ID it
// gives the same receipt.
type Payer interface {
	Pay(context.Context, money.Order) (money.Receipt, error)
}

// Terms are what a buyer insists on before it pays.
type Terms struct {
	Seller keys.Public  // who must have signed it
	Most   money.Amount // for a reading or a chunk
	// Evidence is a folder for proofs that a seller has cheated; empty for none.
	Evidence string
}

// A Bought is what the money was for.
type Bought struct {
	Reading
	Meta    Meta
	Receipt money.Receipt
}

// Buy checks an offer, pays for it and opens it. Nothing is paid for what the seller
// has not signed, or for an invoice that does not buy its key: the error then has
// kind Refused or Invalid. After an error of kind Pending call it again with the
// same offer, also after a crash: it is paid once. A *Cheat is the seller's.
func Buy(ctx context.Context, p Payer, o Offer, t Terms) (b Bought, err error) {
	if o.Pay == "" && o.Data != nil {
		b.Data = o.Data // free
		return b, nil
	}
	one, meta, order, err := check(o, t, step.Time(time.Now().UnixMilli()))
	if err != nil {
		return b, err
	}
	b.Meta, b.At = meta, meta.At
	if b.Receipt, err = p.Pay(ctx, order); err != nil {
		return b, err
	}
	var preimage [32]byte
	if copy(preimage[:], b.Receipt.Proof) < len(preimage) || sha256.Sum256(preimage[:]) != one.Hash {
		return b, &money.Error{Kind: money.Broken, Op: "buy data", Err: errors.New("the receipt has no preimage of the invoice")}
	}
	key := sealed.NewKey(preimage)
	plain, err := one.Open(key)
	if err == nil {
		b.Data, err = unsalt(plain, meta)
	}
	if err != nil {
		return b, cheat(t.Evidence, evidence{Sealed: o.Sealed, Key: hex.EncodeToString(preimage[:])}, err)
	}
	return b, nil
}

// check is all that can be known before paying, and the order that pays.
func check(o Offer, t Terms, now step.Time) (one *sealed.Sealed, meta Meta, order money.Order, err error) {
	fail := func(err error) (*sealed.Sealed, Meta, money.Order, error) {
		return nil, meta, order, refused(err)
	}
	msg, err := sealed.Decode(o.Sealed)
	if err != nil {
		return fail(err)
	}
	one, ok := msg.(*sealed.Sealed)
	if !ok {
		return fail(fmt.Errorf("a %T is no sealed reading", msg))
	}
	text, lightning := strings.CutPrefix(o.Pay, "lightning:")
	if !lightning {
		return fail(fmt.Errorf("%.40q is no invoice: nothing else shows that it buys the key", o.Pay))
	}
	inv, err := invoice.Parse(text)
	if err != nil {
		return fail(err)
	}
	switch err = one.Check(t.Seller, inv.Hash, inv.Amount); {
	case err != nil:
		return fail(err)
	case inv.Amount > t.Most:
		return fail(fmt.Errorf("it costs %v, and may cost %v", inv.Amount, t.Most))
	}
	if meta, err = readMeta(one.Meta); err != nil {
		return fail(err)
	}
	if meta.Service != o.Service {
		return fail(fmt.Errorf("the seller has signed a reading of %.80q, and %.80q was asked for", meta.Service, o.Service))
	}
	// The order is the invoice's, for this machine's own book: the seller's order may
	// be any number that it likes.
	sum := keys.Digest("coinop/data/buy", t.Seller[:], inv.Hash[:])
	copy(order.ID[:], sum[:])
	order.To, order.Amount, order.For = o.Pay, inv.Amount, o.Service
	return one, meta, order, nil
}

// unsalt takes the salt off a reading and checks it against its commitment.
func unsalt(plain []byte, meta Meta) ([]byte, error) {
	if len(plain) < saltSize {
		return nil, errors.New("there is no reading inside")
	}
	commit := Commitment([saltSize]byte(plain), plain[saltSize:])
	if hex.EncodeToString(commit[:]) != meta.Commit {
		return nil, errors.New("the reading inside is not the one that the seller has committed to")
	}
	return plain[saltSize:], nil
}
