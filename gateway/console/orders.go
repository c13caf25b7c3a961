package console

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
	"coinop.dev/world/books"
)

// pageSize is how many orders or devices a page shows.
const pageSize = 50

// orderStates are those that paid orders can be in.
var orderStates = []string{"paid", "held", "delivered", "settled", "refunded", "failed", "unknown"}

type orderList struct {
	Filter   books.Filter
	From, To string // days
	States   []string
	Services []string
	Orders   []books.Order
	Next     string // query of the next page
	First    string // query of the first one, if this is another
	Export   string // query of this choice
	Filtered bool
}

// chosen reads a filter from a query.
func chosen(q url.Values) (f books.Filter, err error) {
	f = books.Filter{Service: q.Get("service"), Device: q.Get("device"), Buyer: q.Get("buyer"), State: q.Get("state"), Cursor: q.Get("cursor"), Limit: pageSize}
	if f.From, err = day(q.Get("from"), 0); err == nil {
		f.To, err = day(q.Get("to"), 1)
	}
	return f, err
}

// day reads 2026-11-21; after is how many days later is meant.
func day(text string, after int) (step.Time, error) {
	if text == "" {
		return 0, nil
	}
	t, err := time.ParseInLocation(time.DateOnly, text, time.UTC)
	if err != nil {
		return 0, badForm("Write a day as 2026-11-21.")
	}
	return step.Time(t.AddDate(0, 0, after).UnixMilli()), nil
}

func (c *Console) orders(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	q := r.URL.Query()
	if id := strings.TrimSpace(q.Get("order")); id != "" {
		http.Redirect(w, r, "/console/orders/"+url.PathEscape(id), http.StatusSeeOther)
		return nil
	}
	f, err := chosen(q)
	if err != nil {
		return err
	}
	l := orderList{Filter: f, From: q.Get("from"), To: q.Get("to"), States: orderStates}
	for _, s := range c.shop.Services() {
		l.Services = append(l.Services, s.Name)
	}
	var next string
	if l.Orders, next, err = c.Books.Orders(ctx, f); err != nil {
		return err
	}
	for key := range q {
		if q.Get(key) == "" {
			q.Del(key)
		}
	}
	if q.Has("cursor") {
		q.Del("cursor")
		l.First = "?" + q.Encode()
	}
	l.Export, l.Filtered = q.Encode(), len(q) > 0
	if next != "" {
		q.Set("cursor", next)
		l.Next = "?" + q.Encode()
	}
	return c.show(w, r, v, "orders", "Orders", l)
}

type orderPage struct {
	books.Order
	InBooks  bool
	Timeline []moment
	Ack      string
	Credit   *tab.Balance
	Returns  bool // its money can go back
	PayOut   bool // what is left of its credit can be paid out
}

// maxSteps is how many of an order's steps are shown, the last ones.
const maxSteps = 50

// A moment is what happened to an order, or has to happen by then.
type moment struct {
	mark
	At   step.Time
	Text string
}

func (c *Console) order(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	id, err := orderID(r)
	if err != nil {
		return err
	}
	var p orderPage
	if p.Order, p.InBooks, err = c.findOrder(ctx, id); err != nil {
		return err
	}
	p.Ack = hex.EncodeToString(p.Order.Ack)
	events, err := c.Books.EventsOf(ctx, id.String(), maxSteps)
	if err != nil {
		return err
	}
	p.Timeline = timeline(p.Order, events)
	if p.Tab || p.Order.Credit > 0 {
		b, ok, err := c.shop.Balance(ctx, id)
		if err != nil {
			return err
		}
		if ok {
			p.Credit, p.PayOut = &b, b.Left > 0 && b.State == "open"
		}
	}
	switch p.State {
	case "paid", "held", "delivered", "settled":
		p.Returns = !p.Test && !p.Tab && p.Paid > 0
	}
	return c.show(w, r, v, "order", "Order "+id.String()[:8], p)
}

func orderID(r *http.Request) (id money.OrderID, err error) {
	if id.UnmarshalText([]byte(r.PathValue("id"))) != nil {
		return id, notFound("An order's number has 32 letters and digits, as in a receipt. This is none.")
	}
	return id, nil
}

// findOrder reads an order from the till, which has the newest, and the books,
// which have all.
func (c *Console) findOrder(ctx context.Context, id money.OrderID) (o books.Order, filed bool, err error) {
	o, err = c.Books.Order(ctx, id)
	if filed = err == nil; !filed && !errors.Is(err, books.ErrUnknown) {
		return o, false, err
	}
	live, err := c.shop.Order(ctx, id)
	if err != nil {
		return o, filed, err
	}
	if known := live.Item != "" && live.State != "quoted"; known || !filed {
		if !known {
			return o, false, notFound("There is no order with that number, or it was never paid.")
		}
		if len(live.Payload) == 0 {
			live.Payload = o.Payload
		}
		o.Order = live
	}
	if o.First == 0 {
		o.First = o.At
	}
	return o, filed, nil
}

// timeline is what happened to an order by its events, or, as far as those are not
// kept or not filed yet, by what it is now.
func timeline(o books.Order, events []books.Event) (list []moment) {
	begun := o.Order
	if begun.At = o.First; begun.State != "held" {
		begun.State = "paid"
	}
	var was earn.Order
	add := func(now earn.Order) {
		if now.State != was.State || now.Back != was.Back {
			list = append(list, happened(now, was))
			was = now
		}
	}
	for _, e := range events {
		var now earn.Order
		if kind, _, _ := strings.Cut(e.Type, "."); kind != "order" && e.Type != journal.TestFired || json.Unmarshal(e.Data, &now) != nil || now.State == "" {
			continue
		}
		if now.At == 0 {
			now.At = e.At
		}
		if len(list) == 0 && now.State != "paid" && now.State != "held" {
			add(begun)
		}
		add(now)
	}
	if len(list) == 0 {
		add(begun)
	}
	add(o.Order)
	if o.State == "paid" || o.State == "held" {
		text := "Waiting for delivery, without a deadline"
		if o.Until > 0 {
			text = "It must be delivered by " + exactly(o.Until) + ", or the money goes back"
		}
		list = append(list, moment{signed("waiting", "quiet", "clock"), o.Until, text})
	}
	return list
}

// happened is the moment at which an order became what it is now.
func happened(now, was earn.Order) moment {
	m := moment{stateMark(now.State), now.At, stateMark(now.State).Means}
	switch now.State {
	case "paid":
		m.Text = "Paid: " + sats(now.Paid) + " by " + now.Buyer
		if now.Test {
			m.mark, m.Text = signed("test", "quiet", "flask"), "Fired as a test, nobody paid"
		}
	case "held":
		m.Text = "The money is held: " + sats(now.Due)
	case "delivered", "settled":
		switch {
		case was.State == "delivered": // and what that means is told
		case now.Tab:
			m.Text = "A prepaid session was opened with it"
		case len(now.Ack) > 0:
			m.Text = "Delivered, and acknowledged by " + now.Device + " with its signature"
		default:
			m.Text = "Delivered"
		}
	case "refunded":
		m.Text = sats(now.Back) + " went back to " + now.How
		if now.How == "credit" {
			m.Text = sats(now.Back) + " are credit that the buyer can spend here"
		}
	}
	return m
}

// refund gives an order's money back.
func (c *Console) refund(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	id, err := orderID(r)
	if err != nil {
		return err
	}
	if r.PostForm.Get("sure") != "yes" {
		return badForm("Tick the box that says you are sure. Nothing was done.")
	}
	o, err := c.shop.Refund(ctx, id, strings.TrimSpace(r.PostForm.Get("to")))
	if err != nil {
		return err
	}
	c.Log.Info("console: refund", "order", id, "by", v.Name)
	return c.back(w, r, v, "/console/orders/"+id.String(), refunded(o))
}

func refunded(o earn.Order) string {
	switch {
	case o.State == "refunded" && o.Credit > 0:
		return "The money is credit now, which the buyer can spend here with the token of the order."
	case o.State == "refunded" || o.Tab:
		return "The money went back."
	case o.State == "failed":
		return "The order has failed: " + o.Why + "."
	}
	return "The refund is on its way."
}
