//go:build !omit_gateway

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"coinop.dev"
	"coinop.dev/core/earn"
	"coinop.dev/core/offer"
)

func serviceCommand(u *ui) *cobra.Command {
	f := u.family(&cobra.Command{
		Use: "service", Short: "What is for sale: list it, set a price, test fire",
		Example: "  coinop service price water \"0.02 EUR\"\n  coinop service test water 1",
	})
	f.add("list", "List what is for sale, and for how much", func(ctx context.Context, r *running, _ []string) error {
		all := []offer.Service{}
		if err := r.look(ctx, "/v1/services", nil, &all); err != nil {
			return err
		}
		return u.show(map[string]any{"services": all}, func(w io.Writer) {
			columns(w, "SERVICE PRICE FROM TITLE", func(row func(...any)) {
				for _, s := range all {
					row(s.Name, priced(s), s.From, s.Title)
				}
			})
		})
	})
	price := f.add("price <service> <price>", "Set a price, from now on", func(ctx context.Context, r *running, args []string) error {
		s, err := r.service(ctx, args[0])
		if err != nil {
			return err
		}
		var p coinop.Price
		if err := p.UnmarshalText([]byte(args[1])); err != nil {
			return usage{err}
		}
		s.Price, s.Fiat, s.Dynamic = p.Amount, p.Fiat, ""
		if err := r.ask(ctx, http.MethodPut, "/v1/services/"+url.PathEscape(s.Name), s, &s); err != nil {
			return err
		}
		return u.show(s, func(w io.Writer) { fmt.Fprintf(w, "%s now costs %s\n", s.Name, priced(s)) })
	})
	price.Long = "\"5 sat\", or \"0.30 EUR\" at the rate of the moment. Offers that are out keep their price. To keep it in the file too,\n" +
		"also do: coinop config set sell[water].price \"5 sat\""
	var wait string
	fire := f.add("test <service> [units]", "Test fire: deliver without a payment, and wait for the device", func(ctx context.Context, r *running, args []string) error {
		q := request{method: http.MethodPost, path: "/v1/services/" + url.PathEscape(args[0]) + "/test", query: url.Values{}}
		if len(args) == 2 {
			if n, err := strconv.ParseUint(args[1], 10, 32); err != nil || n == 0 {
				return usage{fmt.Errorf("%.20q is no number of units", args[1])}
			}
			q.query.Set("units", args[1])
		}
		var o earn.Order
		err := r.read(ctx, q, &o)
		if err == nil {
			err = r.look(ctx, "/v1/orders/"+o.ID.String(), url.Values{"wait": {wait}}, &o)
		}
		if err != nil {
			return err
		}
		if err := u.showOrder(o); err != nil {
			return err
		}
		switch o.State {
		case "failed", "refunded":
			return exit{fmt.Errorf("test %v: %s", o.ID, cmp.Or(o.Why, "it was not delivered")), exitFailed}
		case "paid", "unknown":
			return exit{fmt.Errorf("test %v: nobody knows yet whether it was delivered; coinop orders show says it later", o.ID), exitUnknown}
		}
		return nil
	})
	fire.Long = "The books say that it was a test, and statements leave it out."
	fire.Flags().StringVar(&wait, "wait", "20s", "wait at most so long for the device, up to 60s")
	return f.Command
}

// service finds one.
func (r *running) service(ctx context.Context, name string) (s offer.Service, err error) {
	var all []offer.Service
	if err := r.look(ctx, "/v1/services", nil, &all); err != nil {
		return s, err
	}
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
	}
	return s, exit{fmt.Errorf("no service is called %.64q; coinop service list names them", name), exitNotFound}
}

// priced says what a service costs.
func priced(s offer.Service) string {
	per := s.Unit
	if s.Per > 1 {
		per = fmt.Sprintf("%d %s", s.Per, s.Unit)
	}
	text := "free"
	switch {
	case s.Dynamic != "":
		text = "asked of " + s.Dynamic
	case s.Fiat != (offer.Fiat{}):
		text = s.Fiat.String() + " per " + per
	case s.Price > 0:
		text = s.Price.String() + " per " + per
	}
	if s.Shadow {
		text += ", counted and not charged"
	}
	if s.Free > 0 {
		text += fmt.Sprintf(", %d a day free", s.Free)
	}
	return text
}
