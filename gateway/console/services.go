package console

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"coinop.dev"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/gateway"
	"coinop.dev/world/books"
)

// onSale is a service with what it has earned.
type onSale struct {
	offer.Service
	Sold   books.Totals // in 30 days
	Shadow *gateway.Shadow
	Due    money.Amount // of the least that is sold, now
	Why    string       // that is unknown
	Price  string       // as the form has it
	URL    string       // of its public page
	Code   qrCode
}

// ShadowOn tells the setting from the sums.
func (s onSale) ShadowOn() bool { return s.Service.Shadow }

func (c *Console) onSale(ctx context.Context) (list []onSale, err error) {
	now := c.now()
	sums, err := c.Books.ByService(ctx, now-30*step.Day, now+1)
	if err != nil {
		return nil, err
	}
	sold := map[string]books.Totals{}
	for _, n := range sums {
		sold[n.Name] = n.Totals
	}
	shadows := map[string]gateway.Shadow{}
	for _, s := range c.shop.Shadows() {
		shadows[s.Service] = s
	}
	for _, v := range c.shop.Services() {
		s := onSale{Service: v, Sold: sold[v.Name]}
		if sh, ok := shadows[v.Name]; ok {
			s.Shadow = &sh
		}
		s.Due, s.Why = c.due(v, max(v.Min, 1))
		text, _ := coinop.Price{Amount: v.Price, Fiat: v.Fiat}.MarshalText()
		s.Price = string(text)
		list = append(list, s)
	}
	return list, nil
}

// due is what units of a service cost now, or why nobody knows.
func (c *Console) due(v offer.Service, units uint64) (money.Amount, string) {
	if v.Dynamic != "" {
		return 0, "its price is asked for each order"
	}
	rate, ok := c.shop.Rate(v.Fiat.Currency)
	if v.Fiat != (offer.Fiat{}) && !ok {
		return 0, "there is no rate for " + v.Fiat.Currency + " now"
	}
	due, err := v.Due(units, rate, 0)
	if err != nil {
		return 0, err.Error()
	}
	return due, ""
}

func (c *Console) services(w http.ResponseWriter, r *http.Request, v *visit) error {
	list, err := c.onSale(r.Context())
	if err != nil {
		return err
	}
	return c.show(w, r, v, "services", "Services", list)
}

func (c *Console) service(w http.ResponseWriter, r *http.Request, v *visit) error {
	list, err := c.onSale(r.Context())
	if err != nil {
		return err
	}
	for _, s := range list {
		if s.Name == r.PathValue("name") {
			s.URL = c.publicURL(r) + "/pay/" + s.Name
			s.Code = drawQR(s.URL)
			return c.show(w, r, v, "service", title(s.Service), s)
		}
	}
	return notFound("Nothing of that name is for sale.")
}

// publicURL is how this gateway is reached from outside, as far as it is known.
func (c *Console) publicURL(r *http.Request) string {
	if u := strings.TrimRight(c.Machine.Config.PublicURL, "/"); u != "" {
		return u
	}
	if c.secure(r) {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// setService changes a price and its terms.
func (c *Console) setService(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	s, ok := c.shop.Service(r.PathValue("name"))
	if !ok {
		return notFound("Nothing of that name is for sale.")
	}
	f := r.PostForm
	if s.Dynamic == "" {
		var p coinop.Price
		if err := p.UnmarshalText([]byte(f.Get("price"))); err != nil {
			return badForm("Write the price with its unit, such as 5 sat, 1500 msat or 0.30 EUR. The price stays as it was.")
		}
		if _, known := c.shop.Rate(p.Fiat.Currency); p.Fiat != (offer.Fiat{}) && !known {
			return badForm("This gateway has no rate for " + p.Fiat.Currency + ". Name one in its config under [[rate]], or set the price in sat.")
		}
		s.Price, s.Fiat = p.Amount, p.Fiat
	}
	for _, field := range []struct {
		name string
		to   *uint64
	}{{"per", &s.Per}, {"min", &s.Min}, {"max", &s.Max}, {"free", &s.Free}} {
		n, err := count(f.Get(field.name))
		if err != nil {
			return badForm(fmt.Sprintf("%q is no whole number. Nothing was changed.", field.name))
		}
		*field.to = n
	}
	s.Title, s.Shadow = strings.TrimSpace(f.Get("title")), f.Get("shadow") == "yes"
	if err := c.shop.SetService(ctx, s); err != nil {
		return err
	}
	c.Log.Info("console: price", "service", s.Name, "by", v.Name)
	return c.back(w, r, v, "/console/services/"+s.Name, title(s)+" costs "+price(s)+" from now on.")
}

// count reads a whole number; nothing is 0.
func count(text string) (uint64, error) {
	if text = strings.TrimSpace(text); text == "" {
		return 0, nil
	}
	return strconv.ParseUint(text, 10, 53)
}

// testFire has a service delivered without a payment.
func (c *Console) testFire(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	units, err := count(r.PostForm.Get("units"))
	if err != nil {
		return badForm("The units are no whole number. Nothing was fired.")
	}
	o, err := c.shop.TestFire(ctx, r.PathValue("name"), units)
	if err != nil {
		return err
	}
	c.Log.Info("console: test fire", "service", r.PathValue("name"), "order", o.ID, "by", v.Name)
	return c.back(w, r, v, "/console/orders/"+o.ID.String(), "Fired. The books say that it was a test, and nobody paid.")
}
