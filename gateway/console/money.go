package console

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
	"coinop.dev/gateway"
	"coinop.dev/world/books"
	"coinop.dev/world/drive"
)

type channelPage struct {
	gateway.Outlook
	Rails  []channelRail
	PayTo  []string
	Purse  spend.Summary
	Limits spend.Limits
	Why    string // that nobody knows
}

// A channelRail is one rail, with bars of all it has.
type channelRail struct {
	gateway.RailOutlook
	Name             string
	Receives, Spends string
	Share            uint64 // of what is there, how much could come in, from 0 to 100
	Bar              bool   // it has a measure
}

func (c *Console) channels(w http.ResponseWriter, r *http.Request, v *visit) (err error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	p := channelPage{PayTo: c.Machine.PayTo(), Limits: c.Machine.Config.SpendLimits()}
	if p.Outlook, err = c.shop.Outlook(ctx); err != nil {
		_, p.Why = sentence(err)
	}
	words := c.words()
	for _, o := range p.Outlook.Rails {
		l := channelRail{RailOutlook: o, Name: railTitle(o.Rail), Receives: words.receives(o), Spends: words.spends(o)}
		if all := uint64(o.Receivable + o.Spendable); all > 0 && !boundless(money.Amount(all)) {
			l.Bar, l.Share = true, uint64(math.Round(float64(o.Receivable)/float64(all)*100))
		}
		p.Rails = append(p.Rails, l)
	}
	if p.Purse, err = c.Machine.Purse.Summary(ctx); err != nil {
		return err
	}
	return c.show(w, r, v, "channels", "Channels", p)
}

const (
	// sessionEvents is how many of the newest events are searched for sessions, and
	// maxShown how many of those are shown.
	sessionEvents = 20_000
	maxShown      = 100
)

type prepaidPage struct {
	tab.Summary
	Open []openTab
}

type openTab struct {
	tab.Balance
	At step.Time
}

// prepaid lists the sessions that were opened last.
func (c *Console) prepaid(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	_, newest, err := c.Books.Events(ctx, math.MaxInt64, 1, nil)
	if err != nil {
		return err
	}
	opened := map[money.OrderID]step.Time{}
	var ids []money.OrderID
	for at := newest - min(newest, sessionEvents); at < newest; {
		list, next, err := c.Books.Events(ctx, at, books.MaxPage, []string{journal.SessionOpened})
		if errors.Is(err, books.ErrForgotten) {
			at += books.MaxPage
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range list {
			var id money.OrderID
			if id.UnmarshalText([]byte(e.Subject)) == nil {
				if _, again := opened[id]; !again {
					ids = append(ids, id)
				}
				opened[id] = e.At
			}
		}
		at = max(next, at+1)
	}
	var p prepaidPage
	err = c.Machine.Engine.Host.Do(ctx, func(m *drive.Machine) {
		tabs, ok := m.Core(tab.Name).(*tab.Tabs)
		if !ok {
			return
		}
		p.Summary = tabs.Summary()
		for i := len(ids) - 1; i >= 0 && len(p.Open) < maxShown; i-- {
			if b, known := tabs.Balance(ids[i]); known {
				p.Open = append(p.Open, openTab{b, opened[ids[i]]})
			}
		}
	})
	if err != nil {
		return err
	}
	return c.show(w, r, v, "sessions", "Sessions", p)
}

type hooksPage struct {
	Endpoints  []books.Endpoint
	Chosen     string
	Deliveries []books.Delivery
	Next       string
}

func (c *Console) webhooks(w http.ResponseWriter, r *http.Request, v *visit) (err error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	var p hooksPage
	if p.Endpoints, err = c.Books.Endpoints(ctx); err != nil {
		return err
	}
	q := r.URL.Query()
	p.Chosen = q.Get("endpoint")
	if p.Chosen == "" && len(p.Endpoints) > 0 {
		p.Chosen = p.Endpoints[0].ID
	}
	if p.Chosen != "" {
		before, _ := strconv.ParseUint(q.Get("before"), 10, 63)
		if p.Deliveries, err = c.Books.Deliveries(ctx, p.Chosen, before, pageSize); err != nil {
			return err
		}
		if len(p.Deliveries) == pageSize {
			p.Next = "?" + url.Values{"endpoint": {p.Chosen}, "before": {fmt.Sprint(p.Deliveries[pageSize-1].Event)}}.Encode()
		}
	}
	return c.show(w, r, v, "webhooks", "Webhooks", p)
}

// deliveryMark is a delivery's state as a word, a colour and a sign.
func deliveryMark(d books.Delivery) mark {
	switch d.State {
	case "done":
		return signed("delivered", "good", "check")
	case "failed":
		return signed("given up", "bad", "cross")
	}
	return signed("waiting", "busy", "clock")
}

func (c *Console) redeliver(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	endpoint := r.PostForm.Get("endpoint")
	event, err := strconv.ParseUint(r.PostForm.Get("event"), 10, 63)
	if err != nil {
		return badForm("That is not the number of an event.")
	}
	if err := c.Books.Redeliver(ctx, endpoint, event, c.now()); err != nil {
		return err
	}
	return c.back(w, r, v, "/console/webhooks?"+url.Values{"endpoint": {endpoint}}.Encode(), fmt.Sprintf("Event %d is delivered again now.", event))
}

type statementPage struct {
	books.Statement
	Months []string
	Name   string // of the month
}

// maxMonths is how far back the list of months goes.
const maxMonths = 24

func (c *Console) statement(w http.ResponseWriter, r *http.Request, v *visit) (err error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	q := r.URL.Query()
	now := time.UnixMilli(int64(c.now())).UTC()
	var p statementPage
	for i := range maxMonths {
		p.Months = append(p.Months, time.Date(now.Year(), now.Month()-time.Month(i), 1, 0, 0, 0, 0, time.UTC).Format("2006-01"))
	}
	month := q.Get("month")
	if month == "" {
		month = p.Months[0]
	}
	begin, err := time.Parse("2006-01", month)
	if err != nil {
		return badForm("Write the month as 2026-11.")
	}
	if p.Statement, err = c.Books.Statement(ctx, month, q.Get("device"), q.Get("buyer")); err != nil {
		return err
	}
	p.Name = begin.Format("January 2006")
	return c.show(w, r, v, "statement", "Statement", p)
}

// export streams the orders that a query chooses, or those of a month.
func (c *Console) export(w http.ResponseWriter, r *http.Request, _ *visit) error {
	q := r.URL.Query()
	f, err := chosen(q)
	if err != nil {
		return err
	}
	f.Cursor = ""
	name := "orders"
	if month := q.Get("month"); month != "" {
		begin, err := time.Parse("2006-01", month)
		if err != nil {
			return badForm("Write the month as 2026-11.")
		}
		f.From, f.To = step.Time(begin.UnixMilli()), step.Time(begin.AddDate(0, 1, 0).UnixMilli())
		name += "-" + month
	}
	format, kind := "csv", "text/csv; charset=utf-8"
	if q.Get("format") == "json" {
		format, kind = "json", "application/json"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name+"."+format))
	if err := c.Books.Export(r.Context(), f, w, format); err != nil {
		c.Log.Warn("console: export", "err", err)
		panic(http.ErrAbortHandler) // half a file must not look like a whole one
	}
	return nil
}

// labCSP lets the report have its own style, and nothing else.
const labCSP = "sandbox; default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (c *Console) hasLab() bool {
	if c.Lab == "" {
		return false
	}
	_, err := os.Stat(c.Lab)
	return err == nil
}

// lab shows the report of the last measurements. It is a page of its own, with its
// style in it, so it is shown apart: it runs nothing, fetches nothing, and has no
// access to the console's session.
func (c *Console) lab(w http.ResponseWriter, r *http.Request, _ *visit) error {
	if !c.hasLab() {
		return notFound("There is no report of measurements. Run coinop lab report with --config and this gateway's file to make one.")
	}
	w.Header().Set("Content-Security-Policy", labCSP)
	http.ServeFile(w, r, c.Lab)
	return nil
}
