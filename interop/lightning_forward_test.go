package interop

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/interop/peers"
	"coinop.dev/rail/lndrail/lnrpc"
)

// TestForwarding: a line of four nodes, lnd A, coinop B, lnd C, coinop D. The
// channel in the middle is public, those at the ends are private, so whoever is
// paid at an end says in the invoice how to get there. Money goes all ways, and
// what cannot arrive comes back with the reason.
func TestForwarding(t *testing.T) {
	ctx, btcd, nodes := lnds(t, 2)
	A, C := nodes[0], nodes[1]
	B, D := newBox(t, ctx, btcd, "B", 20_000_000), newBox(t, ctx, btcd, "D", 20_000_000)
	middle := B.open(C, node.Open{Capacity: 4_000_000, Push: 2_000_000_000, Public: true})
	B.open(A, node.Open{Capacity: 10_000_000, Push: 5_000_000_000})
	D.open(C, node.Open{Capacity: 10_000_000, Push: 5_000_000_000})
	until(t, "lnd A knows what coinop asks for in the middle", func() error {
		g, err := A.Lightning.DescribeGraph(ctx, &lnrpc.ChannelGraphRequest{})
		if err != nil || slices.ContainsFunc(g.Edges, func(e *lnrpc.ChannelEdge) bool {
			return e.ChanPoint == middle && (e.Node1Policy != nil || e.Node2Policy != nil)
		}) {
			return err
		}
		return fmt.Errorf("it knows %d public channels", len(g.Edges))
	})

	until(t, "coinop D knows what lnd C asks for the last hop", func() error {
		i, err := invoice.Parse(D.bill(money.Sat, false))
		if err == nil && len(i.Hints) == 0 {
			err = errors.New("its invoices have no hint")
		}
		return err
	})

	bill := func(n *peers.Lnd, sat int64) *lnrpc.AddInvoiceResponse {
		t.Helper()
		i, err := n.Lightning.AddInvoice(ctx, &lnrpc.Invoice{ValueMsat: sat * 1000, Private: true})
		must(t, err)
		return i
	}
	const sat = 50_000
	// What coinop asks for forwarding: a satoshi and 100 millionths. lnd asks for
	// a satoshi and one millionth.
	const ourFee, theirFee = 1000 + sat/10, 1000 + sat/1000

	t.Log("lnd A pays lnd C through coinop")
	p, err := track(ctx, A, &lnrpc.SendPaymentRequest{PaymentRequest: bill(C, sat).PaymentRequest})
	must(t, err)
	if p.FeeMsat != ourFee {
		t.Errorf("A paid a fee of %d msat; coinop asks for %d", p.FeeMsat, ourFee)
	}
	t.Log("lnd A pays coinop D through both")
	p, err = track(ctx, A, &lnrpc.SendPaymentRequest{PaymentRequest: D.bill(sat*money.Sat, false)})
	must(t, err)
	if p.FeeMsat < ourFee+theirFee || p.FeeMsat > ourFee+theirFee+1 {
		t.Errorf("A paid a fee of %d msat; both ask for %d", p.FeeMsat, ourFee+theirFee)
	}
	t.Log("coinop B pays coinop D through lnd")
	B.pay("lightning:"+D.bill(sat*money.Sat, false), sat*money.Sat)
	t.Log("coinop D pays coinop B through lnd")
	D.pay("lightning:"+B.bill(sat*money.Sat, false), sat*money.Sat)
	t.Log("coinop D pays lnd A through both")
	D.pay("lightning:"+bill(A, sat).PaymentRequest, sat*money.Sat)
	t.Log("lnd C pays lnd A through coinop")
	must(t, pay(ctx, C, &lnrpc.SendPaymentRequest{PaymentRequest: bill(A, sat).PaymentRequest}))

	t.Log("an invoice that lnd A has cancelled is refused, and coinop D is told so")
	gone := bill(A, sat)
	_, err = A.Invoices.CancelInvoice(ctx, &lnrpc.CancelInvoiceMsg{PaymentHash: gone.RHash})
	must(t, err)
	if _, err := D.try("lightning:"+gone.PaymentRequest, sat*money.Sat, time.Minute); money.KindOf(err) != money.Unpaid || !errors.Is(err, node.ErrPayee) {
		t.Errorf("D's payment ends with %v", err)
	}
	t.Log("an invoice of D's that B has paid is refused, and lnd A is told so")
	once := D.bill(sat*money.Sat, false)
	B.pay("lightning:"+once, sat*money.Sat)
	if p, err := track(ctx, A, &lnrpc.SendPaymentRequest{PaymentRequest: once}); err == nil || p.FailureReason != lnrpc.PaymentFailureReason_FAILURE_REASON_INCORRECT_PAYMENT_DETAILS {
		t.Errorf("A's payment ends with %v", err)
	}
	t.Log("what the channel between B and C cannot carry comes back")
	const tooMuch = 3_000_000
	if p, err := track(ctx, A, &lnrpc.SendPaymentRequest{PaymentRequest: D.bill(tooMuch*money.Sat, false), MaxParts: 1}); err == nil || p.FailureReason != lnrpc.PaymentFailureReason_FAILURE_REASON_NO_ROUTE {
		t.Errorf("A's payment ends with %v", err)
	}
	if _, err := D.try("lightning:"+bill(A, tooMuch).PaymentRequest, tooMuch*money.Sat, time.Minute); money.KindOf(err) != money.Unpaid {
		t.Errorf("D's payment ends with %v", err)
	}
	until(t, "nothing hangs anywhere", func() error {
		for _, b := range []*box{B, D} {
			for _, c := range b.summary().Channels {
				if c.HTLCs > 0 {
					return fmt.Errorf("%s has %d HTLCs", b.name, c.HTLCs)
				}
			}
		}
		return nil
	})
}
