//go:build !omit_gateway

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// chosen is which orders are meant.
type chosen struct{ service, device, payer, state, from, to string }

func (c *chosen) flags(f *cobra.Command) {
	f.Flags().StringVar(&c.service, "service", "", "only of this service")
	f.Flags().StringVar(&c.device, "device", "", "only of this device")
	f.Flags().StringVar(&c.payer, "payer", "", "only of this payer")
	f.Flags().StringVar(&c.state, "state", "", "only in this state: paid, delivered, settled, refunded, failed")
	f.Flags().StringVar(&c.from, "from", "", "only since this day (2026-11-01, UTC) or moment (RFC 3339)")
	f.Flags().StringVar(&c.to, "to", "", "only until the end of this day, or before this moment")
}

func (c *chosen) query() (url.Values, error) {
	q := url.Values{}
	for key, value := range map[string]string{"service": c.service, "device": c.device, "buyer": c.payer, "state": c.state} {
		if value != "" {
			q.Set(key, value)
		}
	}
	from, err := moment(c.from, false)
	if err != nil {
		return nil, err
	}
	to, err := moment(c.to, true)
	if err != nil {
		return nil, err
	}
	for key, at := range map[string]step.Time{"from_ms": from, "to_ms": to} {
		if at > 0 {
			q.Set(key, strconv.FormatInt(int64(at), 10))
		}
	}
	return q, nil
}

// A bookedOrder is one as the books have it.
type bookedOrder struct {
	earn.Order
	Gateway string     `json:"gateway"`
	First   step.Time  `json:"first_ms"`
	Fiat    offer.Fiat `json:"fiat,omitzero"`
}

func ordersCommand(u *ui) *cobra.Command {
	f := u.family(&cobra.Command{
		Use: "orders", Aliases: []string{"order"}, Short: "What was sold: list it, look at one order, give money back",
		Example: "  coinop orders list --state failed\n  coinop orders refund 01ab…",
	})
	f.listOrders()
	var wait string
	show := f.add("show <order>", "Show an order: its state, and why", func(ctx context.Context, r *running, args []string) error {
		id, err := orderID(args[0])
		if err != nil {
			return err
		}
		q := url.Values{}
		if wait != "" {
			q.Set("wait", wait)
		}
		var o earn.Order
		if err := r.look(ctx, "/v1/orders/"+id, q, &o); err != nil {
			return err
		}
		return u.showOrder(o)
	})
	show.Flags().StringVar(&wait, "wait", "", "wait at most so long, up to 60s, until its state is final")
	var to string
	refund := f.add("refund <order>", "Give an order's money back: to a payment URI, or as credit", func(ctx context.Context, r *running, args []string) error {
		id, err := orderID(args[0])
		if err != nil {
			return err
		}
		var o earn.Order
		if err := r.ask(ctx, http.MethodPost, "/v1/orders/"+id+"/refund", map[string]any{"to": to}, &o); err != nil {
			return err
		}
		return u.showOrder(o)
	})
	refund.Long = "It is given back once, however often this is repeated. Credit is a prepaid session of the order's own ID."
	refund.Flags().StringVar(&to, "to", "", "payment URI; without it the buyer has credit")
	f.add("receipt <order>", "Print the signed receipt of an order, which anybody can check offline", func(ctx context.Context, r *running, args []string) error {
		id, err := orderID(args[0])
		if err != nil {
			return err
		}
		var s receipt.Sale
		if err := r.look(ctx, "/v1/orders/"+id+"/receipt", nil, &s); err != nil {
			return err
		}
		return u.print(s)
	})
	return f.Command
}

func orderID(text string) (string, error) {
	var id money.OrderID
	if err := id.UnmarshalText([]byte(text)); err != nil {
		return "", usage{err}
	}
	return id.String(), nil
}

func (f *family) listOrders() {
	var c chosen
	var cursor string
	var limit int
	list := f.add("list", "List orders, newest first", func(ctx context.Context, r *running, _ []string) error {
		q, err := c.query()
		if err != nil {
			return err
		}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		q.Set("limit", strconv.Itoa(limit))
		page := struct {
			Orders []bookedOrder `json:"orders"`
			Next   string        `json:"next,omitempty"`
		}{}
		if err := r.look(ctx, "/v1/orders", q, &page); err != nil {
			return err
		}
		page.Orders = append([]bookedOrder{}, page.Orders...)
		return f.u.show(page, func(w io.Writer) {
			columns(w, "ORDER TIME STATE SERVICE UNITS PAID WORTH DEVICE PAYER", func(row func(...any)) {
				for _, o := range page.Orders {
					worth := ""
					if o.Fiat != (offer.Fiat{}) {
						worth = o.Fiat.String()
					}
					row(o.ID, when(o.First), orderState(o.Order), o.Item, o.Units, o.Paid, worth, o.Device, o.Buyer)
				}
			})
			if page.Next != "" {
				fmt.Fprintf(w, "and more: coinop orders list --cursor %s\n", page.Next)
			}
		})
	})
	c.flags(list)
	list.Flags().StringVar(&cursor, "cursor", "", "go on where a page ended")
	list.Flags().IntVar(&limit, "limit", 50, "at most so many, up to 500")
}

func orderState(o earn.Order) string {
	if o.Test {
		return o.State + " (test)"
	}
	return o.State
}

func (u *ui) showOrder(o earn.Order) error {
	return u.show(o, func(w io.Writer) {
		if o.State == "quoted" {
			fmt.Fprintf(w, "nothing is known of order %v: it is not paid, or is of another machine\n", o.ID)
			return
		}
		for _, line := range [][2]string{
			{"order", o.ID.String()}, {"state", orderState(o)}, {"why", o.Why}, {"sold", fmt.Sprintf("%d of %s", o.Units, o.Item)},
			{"due", amount(o.Due)}, {"paid", amount(o.Paid)}, {"given back", amount(o.Back)}, {"how", o.How}, {"payer", o.Buyer},
			{"device", o.Device}, {"changed", when(o.At)}, {"at the latest", when(o.Until)},
		} {
			if line[1] != "" {
				fmt.Fprintf(w, "%-13s %s\n", line[0], clean(line[1]))
			}
		}
		if o.Rate.Currency != "" {
			fmt.Fprintf(w, "%-13s %s, by %s, %s\n", "one bitcoin", offer.Fiat{Currency: o.Rate.Currency, Micro: o.Rate.Micro}, clean(o.Rate.Source), when(o.Rate.At))
		}
		if len(o.Ack) > 0 {
			fmt.Fprintf(w, "%-13s the device has signed that it acted\n", "delivered")
		}
	})
}
