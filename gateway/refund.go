package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

const (
	// maxRefunds bounds the refunds that are paid at a time. One more is asked for
	// again.
	maxRefunds = 64
	// refundPatience is how long one may take before it is asked for again.
	refundPatience = 5 * time.Minute
)

// toRefunds pays money back with the machine's purse. The order that pays an order
// back has an ID of its own that follows from it, so asked twice it pays once.
func (s *Shop) toRefunds(p step.Packet) {
	r, ok := p.Msg.(earn.Refund)
	if !ok {
		return
	}
	select {
	case s.refunding <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-s.refunding }()
		ctx, cancel := context.WithTimeout(s.m.Context(), refundPatience)
		defer cancel()
		err := s.payBack(ctx, r)
		if err != nil {
			s.m.Log.Warn("refund", "order", r.Order, "err", err)
		}
		s.m.Host.Tell(s.m.Context(), p.From, earn.Refunded{Order: r.Order, Nth: r.Nth, Err: err})
	}()
}

func (s *Shop) payBack(ctx context.Context, r earn.Refund) error {
	if s.o.Purse == nil {
		return refused("refund", errors.New("this machine has no purse to pay from"))
	}
	_, err := s.o.Purse.Pay(ctx, money.Order{ID: RefundID(r.Order, r.Nth), To: r.To, Amount: r.Amount, For: "refund"})
	return err
}

// RefundID names the payment that pays an order back; of a session, the nth one.
func RefundID(id money.OrderID, nth uint64) money.OrderID {
	if nth > 0 {
		return Derived(fmt.Sprintf("coinop/refund/%d/", nth), id)
	}
	return Derived("coinop/refund", id)
}

// Derived is an order's ID that follows from another one: the same each time.
func Derived(purpose string, id money.OrderID) (out money.OrderID) {
	sum := sha256.Sum256(append([]byte(purpose), id[:]...))
	copy(out[:], sum[:])
	return out
}
