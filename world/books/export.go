package books

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"coinop.dev/core/step"
)

// Columns are those of an export, in CSV and as names in JSON. Amounts are whole
// msat, times RFC 3339 in UTC. btc_price is what one bitcoin cost in currency at
// rate_time by rate_source, and value what the seller kept of the order is worth
// at that price; both are decimal, and empty if the price was in bitcoin.
var Columns = []string{
	"time", "order", "gateway", "service", "units", "state", "due_msat", "paid_msat", "refunded_msat",
	"currency", "btc_price", "rate_source", "rate_time", "value", "buyer", "device", "changed", "tab", "test", "why", "refund",
}

// Export writes all orders that the filter chooses, oldest first, as "csv" with a
// line of Columns, or "json", an array of objects. It reads page by page, so
// nothing is held long and memory does not grow with the orders. Orders that come
// while it runs may be in it.
func (b *Books) Export(ctx context.Context, f Filter, w io.Writer, format string) error {
	out := bufio.NewWriter(w)
	var write func(cells []string) error
	var end func() error
	switch format {
	case "csv":
		lines := csv.NewWriter(out)
		write = func(cells []string) error { return lines.Write(harmless(cells)) }
		end = func() error { lines.Flush(); return lines.Error() }
		if err := lines.Write(Columns); err != nil {
			return err
		}
	case "json":
		open := "[\n"
		write = func(cells []string) error { text := open; open = ",\n"; return writeObject(out, text, cells) }
		end = func() error {
			closing := "\n]\n"
			if open == "[\n" {
				closing = "[]\n"
			}
			_, err := out.WriteString(closing)
			return err
		}
	default:
		return fmt.Errorf("export: %.40q is no format; take csv or json", format)
	}
	f.Limit = MaxPage
	for {
		page, next, err := b.page(ctx, f, ">", "ASC")
		if err != nil {
			return err
		}
		for _, o := range page {
			if err := write(o.cells()); err != nil {
				return err
			}
		}
		if next == "" {
			break
		}
		f.Cursor = next
	}
	if err := end(); err != nil {
		return err
	}
	return out.Flush()
}

// cells are the values of Columns.
func (o *Order) cells() []string {
	price, at, value := "", "", ""
	if o.Rate.Currency != "" {
		price, at, value = decimal(o.Rate.Micro), clock(o.Rate.At), decimal(o.Fiat.Micro)
	}
	return []string{
		clock(o.First), o.ID.String(), o.Gateway, o.Item, strconv.FormatUint(o.Units, 10), o.State,
		msat(o.Due), msat(o.Paid), msat(o.Back), o.Rate.Currency, price, o.Rate.Source, at, value,
		o.Buyer, o.Device, clock(o.At), strconv.FormatBool(o.Tab), strconv.FormatBool(o.Test), o.Why, o.How,
	}
}

func msat[T ~uint64](a T) string { return strconv.FormatUint(uint64(a), 10) }

// decimal is a number of millionths.
func decimal(micro uint64) string { return fmt.Sprintf("%d.%06d", micro/1e6, micro%1e6) }

func clock(t step.Time) string {
	return time.UnixMilli(int64(t)).UTC().Format("2006-01-02T15:04:05.000Z")
}

// harmless keeps a spreadsheet from running what a buyer wrote: a cell that
// begins as a formula does gets an apostrophe before it.
func harmless(cells []string) []string {
	for i, c := range cells {
		if c == "" {
			continue
		}
		switch c[0] {
		case '=', '+', '-', '@', '\t', '\r', '\n', '|', '%':
			cells[i] = "'" + c
		}
	}
	return cells
}

// writeObject writes cells as an object after text. Whole numbers and flags are
// such in JSON too.
func writeObject(out *bufio.Writer, text string, cells []string) error {
	out.WriteString(text)
	for i, name := range Columns {
		sep := ", "
		if i == 0 {
			sep = "{"
		}
		out.WriteString(sep + `"` + name + `": `)
		switch name {
		case "units", "due_msat", "paid_msat", "refunded_msat", "tab", "test":
			out.WriteString(cells[i])
			continue
		}
		value, err := json.Marshal(cells[i])
		if err != nil {
			return err
		}
		out.Write(value)
	}
	_, err := out.WriteString("}")
	return err
}
