package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	core "coinop.dev/core/fleet"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/gateway"
	"coinop.dev/world/books"
)

// spans are the times that the overview sums up.
var spans = []struct {
	Name, Title string
	bucket      step.Time
	days        step.Time
}{
	{"today", "Today", step.Hour, 1},
	{"7d", "7 days", step.Day, 7},
	{"30d", "30 days", step.Day, 30},
}

const (
	// newestOrders and bestServices are how many the overview shows; maxFaults how
	// many faults of devices.
	newestOrders = 8
	bestServices = 5
	maxFaults    = 8
)

type overview struct {
	Span    string
	Words   string // of the span, in a sentence
	Spans   any
	Sum     books.Totals
	Plot    plot
	Best    []books.Named
	Newest  []books.Order
	Outlook gateway.Outlook
	Says    []string // of liquidity
	Unknown string   // why there is no outlook
	Purse   spend.Summary
	Counts  core.Counts
	Faults  []fault
	Devices bool
}

// A fault is something that somebody should see to.
type fault struct {
	Text   string
	Device string
	At     step.Time
}

// plot is what the chart draws, as JSON for the script and rows for a table.
type plot struct {
	JSON   string
	Hourly bool
	Rows   []books.Point
}

func (c *Console) overview(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	o := overview{Span: r.URL.Query().Get("span"), Spans: spans, Devices: c.Fleet != nil}
	span := spans[1]
	for _, s := range spans {
		if s.Name == o.Span {
			span = s
		}
	}
	o.Span, o.Words = span.Name, map[string]string{"today": "today", "7d": "in 7 days", "30d": "in 30 days"}[span.Name]
	now := c.now()
	from := now - now%step.Day - (span.days-1)*step.Day
	points, err := c.Books.Totals(ctx, from, now+1, span.bucket)
	if err != nil {
		return err
	}
	o.Plot = c.plot(points, from, now, span.bucket)
	for _, p := range points {
		o.Sum.Orders, o.Sum.Failed, o.Sum.Payments = o.Sum.Orders+p.Orders, o.Sum.Failed+p.Failed, o.Sum.Payments+p.Payments
		o.Sum.Earned, o.Sum.Refunded = o.Sum.Earned+p.Earned, o.Sum.Refunded+p.Refunded
		o.Sum.Spent, o.Sum.Fees = o.Sum.Spent+p.Spent, o.Sum.Fees+p.Fees
	}
	best, err := c.Books.ByService(ctx, from, now+1)
	if err != nil {
		return err
	}
	for _, n := range best {
		if n.Orders > 0 && len(o.Best) < bestServices {
			o.Best = append(o.Best, n)
		}
	}
	if o.Newest, _, err = c.Books.Orders(ctx, books.Filter{Limit: newestOrders}); err != nil {
		return err
	}
	if o.Outlook, err = c.shop.Outlook(ctx); err != nil {
		_, o.Unknown = sentence(err)
	}
	o.Says = c.liquidity(o.Outlook)
	if o.Purse, err = c.Machine.Purse.Summary(ctx); err != nil {
		return err
	}
	if o.Faults, o.Counts, err = c.faults(ctx); err != nil {
		return err
	}
	return c.show(w, r, v, "overview", "Overview", o)
}

// plot fills the gaps of points and turns them into columns: Unix seconds, earned
// and spent, in sat.
func (c *Console) plot(points []books.Point, from, to, bucket step.Time) plot {
	known := map[step.Time]books.Totals{}
	for _, p := range points {
		known[p.At] = p.Totals
	}
	var seconds []int64
	var earned, spent []float64
	p := plot{Hourly: bucket == step.Hour}
	for t := from; t <= to; t += bucket {
		sum := known[t]
		seconds = append(seconds, int64(t/step.Second))
		earned = append(earned, float64(sum.Earned)/float64(money.Sat))
		spent = append(spent, float64(sum.Spent+sum.Fees)/float64(money.Sat))
		p.Rows = append(p.Rows, books.Point{At: t, Totals: sum})
	}
	raw, err := json.Marshal([]any{seconds, earned, spent})
	if err == nil {
		p.JSON = string(raw)
	}
	return p
}

// faults collects what is wrong, here and at devices.
func (c *Console) faults(ctx context.Context) (list []fault, counts core.Counts, err error) {
	if c.Options.Faults != nil {
		for _, text := range c.Options.Faults() {
			list = append(list, fault{Text: capital(text)})
		}
	}
	if c.Fleet == nil {
		return list, counts, nil
	}
	if counts, err = c.Fleet.Counts(ctx); err != nil {
		return list, counts, err
	}
	bad, err := c.Fleet.List(ctx, core.Filter{State: "faulty", Limit: maxFaults})
	for _, d := range bad {
		if d.Revoked || len(d.Faults) == 0 {
			continue
		}
		last := d.Faults[len(d.Faults)-1]
		list = append(list, fault{Text: capital(last.Text), Device: d.Name, At: last.At})
	}
	return list, counts, err
}

// liquidity says in sentences what the machine can do now.
func (c *Console) liquidity(o gateway.Outlook) (says []string) {
	w := c.words()
	for _, r := range o.Rails {
		if r.Receivable == 0 && r.Spendable == 0 && r.Channels == 0 {
			says = append(says, w.receives(r))
			continue
		}
		says = append(says, w.receives(r)+" "+w.spends(r))
	}
	return says
}

func (w words) receives(r gateway.RailOutlook) string {
	name := railName(r.Rail)
	switch {
	case boundless(r.Receivable):
		return fmt.Sprintf("Can receive any amount over %s.", name)
	case r.Receivable > 0:
		return fmt.Sprintf("Can receive %s now over %s.", w.amount(r.Receivable), name)
	case r.Channels == 0:
		return fmt.Sprintf("Can receive and pay nothing over %s until a channel is opened.", name)
	}
	return fmt.Sprintf("Can receive nothing over %s now: %s used up. Pay something out, close one, or have a larger one opened.", name, allAre(r.Channels))
}

func (w words) spends(r gateway.RailOutlook) string {
	switch {
	case boundless(r.Spendable):
		return "Can pay any amount."
	case r.Spendable > 0:
		return fmt.Sprintf("Can pay %s.", w.amount(r.Spendable))
	case r.Channels == 0:
		return ""
	}
	return "Has nothing to pay with."
}

// boundless reports whether an amount means that a rail has no limit.
func boundless(a money.Amount) bool { return a >= money.MaxAmount }

func allAre(channels int) string {
	if channels == 1 {
		return "its only channel is"
	}
	return fmt.Sprintf("all %d channels are", channels)
}

// amount is "0.42 EUR (467 sat)", or "467 sat".
func (w words) amount(a money.Amount) string {
	if worth := w.Worth(a); worth != "" {
		return worth + " (" + sats(a) + ")"
	}
	return sats(a)
}
