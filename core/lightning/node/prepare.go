package node

import (
	"strings"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/lightning/onion"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// prepared is what an event costs curve arithmetic to find out and needs no state
// of the node: all events of a step are prepared together, on all processors.
type prepared struct {
	in   *incoming // of an update_add_htlc
	bill *bolt11   // of an order to an invoice
}

type bolt11 struct {
	invoice.Invoice
	err error
}

func (n *Node) prepare(events []any) []prepared {
	all := make([]prepared, len(events))
	var at []int
	for i := range events {
		if adds(events[i]) != nil || invoiceOf(events[i]) != "" {
			at = append(at, i)
		}
	}
	keys.Share(len(at), func(k int) {
		i := at[k]
		if m := adds(events[i]); m != nil {
			all[i].in = peel(n.key, m.PaymentHash, (*onion.Packet)(&m.OnionRoutingPacket))
			return
		}
		b := new(bolt11)
		b.Invoice, b.err = invoice.Parse(invoiceOf(events[i]))
		all[i].bill = b
	})
	return all
}

func adds(event any) *wire.UpdateAddHTLC {
	if ev, ok := event.(step.Recv); ok {
		m, _ := ev.Msg.(*wire.UpdateAddHTLC)
		return m
	}
	return nil
}

// invoiceOf is the text of the invoice that an order is to pay, or "".
func invoiceOf(event any) string {
	o, ok := event.(money.Order)
	if ev, recv := event.(step.Recv); recv {
		o, ok = ev.Msg.(money.Order)
	}
	if !ok {
		return ""
	}
	text, ok := strings.CutPrefix(o.To, Scheme+":")
	if !ok || strings.HasPrefix(text, "//") {
		return ""
	}
	text, _, _ = strings.Cut(text, "?")
	return text
}
