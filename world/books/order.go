package books

import (
	"database/sql"
	"encoding/json"
	"math"
	"strings"

	"coinop.dev/core/earn"
	"coinop.dev/core/journal"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
)

// An Order is an order as the books have it.
type Order struct {
	earn.Order
	Gateway string     `json:"gateway"`
	First   step.Time  `json:"first_ms"`      // when the books heard of it first: it was paid
	Fiat    offer.Fiat `json:"fiat,omitzero"` // what was kept is worth at the order's rate
	rest    string     // JSON fields of the order that have no column
}

const orderColumns = "id, gateway, first_ms, at_ms, state, service, units, due_msat, paid_msat, back_msat, " +
	"currency, btc_micro, rate_source, rate_ms, fiat_micro, buyer, device, tab, test, why, how, until_ms, rest"

// upsertOrder keeps what names the order, and when it came.
const upsertOrder = "ON CONFLICT (id, gateway) DO UPDATE SET at_ms = excluded.at_ms, state = excluded.state, service = excluded.service, " +
	"units = excluded.units, due_msat = excluded.due_msat, paid_msat = excluded.paid_msat, back_msat = excluded.back_msat, " +
	"currency = excluded.currency, btc_micro = excluded.btc_micro, rate_source = excluded.rate_source, rate_ms = excluded.rate_ms, " +
	"fiat_micro = excluded.fiat_micro, buyer = excluded.buyer, device = excluded.device, tab = excluded.tab, test = excluded.test, " +
	"why = excluded.why, how = excluded.how, until_ms = excluded.until_ms, rest = excluded.rest"

func (o *Order) row() []any {
	return []any{
		o.ID.String(), o.Gateway, int64(o.First), int64(o.At), text(o.State), text(o.Item), units(o.Units),
		number(o.Due), number(o.Paid), number(o.Back), text(o.Rate.Currency), number(o.Rate.Micro), text(o.Rate.Source), int64(o.Rate.At),
		number(o.Fiat.Micro), text(o.Buyer), text(o.Device), flag(o.Tab), flag(o.Test), text(o.Why), text(o.How), int64(o.Until), text(o.rest),
	}
}

func scanOrder(r *sql.Rows) (o Order, err error) {
	var id string
	err = r.Scan(&id, &o.Gateway, &o.First, &o.At, &o.State, &o.Item, &o.Units,
		&o.Due, &o.Paid, &o.Back, &o.Rate.Currency, &o.Rate.Micro, &o.Rate.Source, &o.Rate.At,
		&o.Fiat.Micro, &o.Buyer, &o.Device, &o.Tab, &o.Test, &o.Why, &o.How, &o.Until, &o.rest)
	if err == nil {
		err = o.ID.UnmarshalText([]byte(id))
	}
	if err == nil && o.rest != "" {
		err = json.Unmarshal([]byte(o.rest), &o.Order)
	}
	if o.Fiat.Micro != 0 {
		o.Fiat.Currency = o.Rate.Currency
	}
	return o, err
}

// inColumns are the fields of an order's JSON that have a column.
var inColumns = [...]string{
	"order", "state", "due_msat", "paid_msat", "refunded_msat", "refund", "item", "units", "rate", "buyer", "device",
	"tab", "test", "why", "until_ms", "at_ms",
}

// readOrder reads what an event says of an order. It is false for an event that
// is not an order's. Fields that this version does not know are kept as they are.
func readOrder(gateway string, e journal.Event) (o Order, ok bool) {
	word, _, _ := strings.Cut(e.Type, ".")
	if word != "order" && e.Type != journal.TestFired {
		return o, false
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(e.Data, &o.Order) != nil || json.Unmarshal(e.Data, &fields) != nil || o.State == "" {
		return o, false
	}
	for _, name := range inColumns {
		delete(fields, name)
	}
	if len(fields) > 0 {
		rest, err := json.Marshal(fields)
		if err != nil {
			return o, false
		}
		o.rest = string(rest)
	}
	o.Gateway, o.First = gateway, e.At
	if o.At == 0 {
		o.At = e.At
	}
	if kept := o.kept(); o.Rate.Currency != "" && kept > 0 {
		o.Fiat = o.Rate.Worth(kept)
	}
	return o, true
}

// text is s as a database takes it: PostgreSQL refuses a zero byte and what is no
// UTF-8, and what a buyer writes must not stop the books.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// number is n as a BIGINT.
func number[T ~uint64](n T) int64 { return int64(min(n, math.MaxInt64)) }

// maxUnits keeps the sum of a million orders a BIGINT: what is beyond it is nothing
// that was sold.
const maxUnits = 1 << 43

func units(n uint64) int64 { return int64(min(n, maxUnits)) }

func flag(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}
