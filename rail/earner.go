package rail

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/engine"
)

// maxUnheard bounds the payments that Settled has not returned yet. The till's
// book has every one of them.
const maxUnheard = 1024

// An Earner is what the earning ends of all rails of stamped orders have in
// common: a Conn that refuses to pay, and a Biller. A driver embeds one.
type Earner struct {
	m     *engine.Machine
	payTo string // kept, because a public key takes a multiplication on the curve
	cores string
	heard chan money.Receipt
}

// NewEarner returns the earning end that is paid under payTo, by the outcomes
// of cores whose names begin with cores.
func NewEarner(m *engine.Machine, payTo, cores string) *Earner {
	e := &Earner{m: m, payTo: payTo, cores: cores, heard: make(chan money.Receipt, maxUnheard)}
	m.Host.Hear(e.hear)
	return e
}

// PayToAt is the payment URI of a machine that listens at host.
func PayToAt(scheme string, m *engine.Machine, host string) string {
	return scheme + "://" + m.Key.Public().String() + "@" + host
}

// hear offers payments to Settled; when nobody takes them the oldest go.
func (e *Earner) hear(o step.Outcome) {
	paid, ok := o.Value.(receipt.Income)
	if !ok || !strings.HasPrefix(o.Core, e.cores) {
		return
	}
	if len(e.heard) == cap(e.heard) {
		select {
		case <-e.heard:
		default:
		}
	}
	// The proof is not made here: this runs for every payment, on the host,
	// which alone fills the queue.
	entry := paid.Income()
	e.heard <- money.Receipt{Order: entry.Order, Amount: entry.Amount, To: e.payTo, At: int64(e.m.Host.Now())}
}

// PayTo is the payment URI of this machine.
func (e *Earner) PayTo() string { return e.payTo }

// Bill puts a bill's order and amount into the payment URI.
func (e *Earner) Bill(b money.Bill) (string, error) {
	if b.Hold {
		return "", &money.Error{Kind: money.Refused, Op: "bill " + b.ID.String(), Err: errors.New("this rail cannot hold money until delivery")}
	}
	if err := CheckBill(b); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s?order=%v&amount_msat=%d", e.payTo, b.ID, uint64(b.Amount)), nil
}

// CheckBill refuses a bill of no possible amount.
func CheckBill(b money.Bill) error {
	if b.Amount == 0 || b.Amount > money.MaxAmount {
		return &money.Error{Kind: money.Invalid, Op: "bill " + b.ID.String(), Err: fmt.Errorf("the amount is %v", b.Amount)}
	}
	return nil
}

// Settled returns the next payment, without its proof: that is the payer's.
func (e *Earner) Settled(ctx context.Context) (money.Receipt, error) {
	select {
	case r := <-e.heard:
		return r, nil
	case <-ctx.Done():
		return money.Receipt{}, ctx.Err()
	}
}

// Pay refuses: this end earns.
func (e *Earner) Pay(_ context.Context, o money.Order) (money.Receipt, error) {
	return money.Receipt{}, &money.Error{Kind: money.Unpaid, Op: "pay " + o.To, Err: errors.New("this rail only earns; open one that pays")}
}

// Verify checks a receipt offline.
func (e *Earner) Verify(r money.Receipt) error { return VerifyStamp(r) }

// Close leaves the channels open for the next time.
func (e *Earner) Close() error { return nil }
