package interop

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/interop/peers"
)

// TestLdkForwarding: a line of four nodes, LDK A, coinop B, LDK C, coinop D. Only
// the first channel is private: LDK forwards nothing to private ones. Money goes
// all ways, and what cannot arrive comes back with the reason.
func TestLdkForwarding(t *testing.T) {
	ctx, btcd, nodes := ldks(t, 2)
	A, C := nodes[0], nodes[1]
	B, D := newBox(t, ctx, btcd, "B", 20_000_000), newBox(t, ctx, btcd, "D", 20_000_000)
	edge{B, C}.open("coinop", 4_000_000, 2_000_000, true)
	edge{B, A}.open("ldk", 10_000_000, 5_000_000, false)
	edge{D, C}.open("coinop", 10_000_000, 5_000_000, true)
	knows := func(n *peers.Ldk, channels int) {
		t.Helper()
		until(t, fmt.Sprintf("%s knows %d channels", n.Name, channels), func() error {
			var known int
			err := n.Ask(ctx, "graph", peers.LdkArgs{}, &known)
			if err == nil && known < channels {
				err = fmt.Errorf("it knows %d", known)
			}
			return err
		})
	}
	bill := func(n *peers.Ldk, sat int64) string {
		t.Helper()
		i, err := n.Bill(ctx, sat*1000, nil)
		must(t, err)
		return i
	}
	const sat = 50_000
	const ourFee = 1000 + sat/10 // msat: a satoshi and 100 millionths

	t.Log("LDK A pays LDK C through coinop, which has told it of the channel in the middle")
	knows(A, 1)
	_, fee, err := A.Pay(ctx, bill(C, sat))
	must(t, err)
	if fee != ourFee {
		t.Errorf("A paid a fee of %d msat; coinop asks for %d", fee, ourFee)
	}
	t.Log("LDK A pays coinop D through both; of the last channel it hears from C")
	must(t, A.Ask(ctx, "connect", peers.LdkArgs{Node: C.Key, Addr: C.Peer}, nil))
	knows(A, 2)
	_, fee, err = A.Pay(ctx, D.bill(sat*money.Sat, false))
	must(t, err)
	if fee <= ourFee {
		t.Errorf("A paid a fee of %d msat; coinop alone asks for %d", fee, ourFee)
	}
	t.Log("coinop B pays coinop D through LDK")
	for _, b := range []*box{B, D} {
		until(t, b.name+" knows what is not its own", func() error {
			if s := b.summary(); s.Graph < 1 {
				return fmt.Errorf("its graph has %d channels", s.Graph)
			}
			return nil
		})
	}
	B.pay("lightning:"+D.bill(sat*money.Sat, false), sat*money.Sat)
	t.Log("coinop D pays coinop B through LDK")
	D.pay("lightning:"+B.bill(sat*money.Sat, false), sat*money.Sat)
	t.Log("coinop D pays LDK A through both")
	D.pay("lightning:"+bill(A, sat), sat*money.Sat)
	t.Log("LDK C pays LDK A through coinop")
	_, _, err = C.Pay(ctx, bill(A, sat))
	must(t, err)

	t.Log("an invoice of D's that B has paid is refused, and LDK A is told so")
	once := D.bill(sat*money.Sat, false)
	B.pay("lightning:"+once, sat*money.Sat)
	if _, _, err := A.Pay(ctx, once); err == nil || !strings.Contains(err.Error(), "RecipientRejected") {
		t.Errorf("A's payment ends with %v", err)
	}
	t.Log("what the channel between B and C cannot carry comes back")
	const tooMuch = 3_000_000
	if _, _, err := A.Pay(ctx, D.bill(tooMuch*money.Sat, false)); err == nil || !strings.Contains(err.Error(), "RouteNotFound") {
		t.Errorf("A's payment ends with %v", err)
	}
	if _, err := D.try("lightning:"+bill(A, tooMuch), tooMuch*money.Sat, time.Minute); money.KindOf(err) != money.Unpaid {
		t.Errorf("D's payment ends with %v", err)
	}
	edge{B, A}.idle()
	edge{D, C}.idle()
}

// TestLdkParts: what no channel can carry alone goes over two, from coinop to
// LDK and back.
func TestLdkParts(t *testing.T) {
	const each, amount = 2_000_000, 3_000_000 // sat
	ctx, btcd, nodes := ldks(t, 1)
	e := edge{newBox(t, ctx, btcd, "coinop", 10_000_000), nodes[0]}
	for range 2 {
		e.open("coinop", each, 0, true)
	}
	bill, err := e.n.Bill(ctx, amount*1000, nil)
	must(t, err)
	e.pay("lightning:"+bill, amount*money.Sat)
	const back = amount - 200_000 // less the reserves
	until(t, "LDK can spend what it has", func() error {
		all, err := e.n.Channels(ctx)
		have := int64(0)
		for _, c := range all {
			have += c.OutMsat
		}
		if err == nil && have < back*1000 {
			err = fmt.Errorf("it can spend %d msat of %+v", have, all)
		}
		return err
	})
	e.idle()
	_, _, err = e.n.Pay(ctx, e.bill(back*money.Sat, false))
	must(t, err)
	until(t, "the sums are right", func() error {
		have := money.Amount(0)
		for _, c := range e.summary().Channels {
			have += c.Remote
		}
		if have != (amount-back)*money.Sat {
			return fmt.Errorf("LDK has %v", have)
		}
		return nil
	})
}
