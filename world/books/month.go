package books

import (
	"time"

	"coinop.dev/core/step"
)

// A month is a row of months: of one device, or of all if device is empty.
type month struct {
	at                                step.Time
	device, service, currency, source string
}

// sold is what was sold in a month. Its sums less than nothing are taken back.
type sold struct {
	sums        [6]int64 // soldColumns
	low, high   int64    // rates, in millionths for one bitcoin
	first, last step.Time
}

const (
	soldColumns = "orders, failed, units, earned_msat, refunded_msat, fiat_micro"
	rateColumns = "btc_low, btc_high, rate_first_ms, rate_last_ms"
)

// monthOf is when the UTC month of a time begins.
func monthOf(at step.Time) step.Time {
	year, month, _ := time.UnixMilli(int64(at)).UTC().Date()
	return step.Time(time.Date(year, month, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
}

// month adds an order to the sums of its month, or takes it back if sign is -1.
// The bounds of rates are never taken back: an order keeps the rate that it was
// quoted at, whatever becomes of it.
func (t tally) month(o *Order, sign int64) {
	if o.Test {
		return
	}
	s := o.share()
	rate := number(o.Rate.Micro)
	all := month{monthOf(o.First), "", text(o.Item), text(o.Rate.Currency), text(o.Rate.Source)}
	device := all
	device.device = text(o.Device)
	for _, key := range []month{all, device} {
		m := t.months[key]
		if m == nil {
			m = &sold{low: rate, high: rate, first: o.Rate.At, last: o.Rate.At}
			t.months[key] = m
		}
		for i, n := range [...]int64{s[0], s[3], units(o.Units), s[1], s[2], number(o.Fiat.Micro)} {
			m.sums[i] += sign * n
		}
		m.low, m.high = min(m.low, rate), max(m.high, rate)
		m.first, m.last = min(m.first, o.Rate.At), max(m.last, o.Rate.At)
		if device == all {
			return
		}
	}
}

func (t tally) writeMonths(c change, gateway string) error {
	var rows [][]any
	for key, m := range t.months {
		if m.sums == [6]int64{} { // as when what was paid is delivered
			continue
		}
		row := []any{int64(key.at), key.device, key.service, key.currency, key.source, gateway}
		for _, n := range m.sums {
			row = append(row, n)
		}
		rows = append(rows, append(row, m.low, m.high, int64(m.first), int64(m.last)))
	}
	wider := func(column, than string) string {
		return column + " = CASE WHEN excluded." + column + " " + than + " months." + column + " THEN excluded." + column + " ELSE months." + column + " END"
	}
	return c.insert("INSERT INTO months (at_ms, device, service, currency, rate_source, gateway, "+soldColumns+", "+rateColumns+") VALUES",
		"ON CONFLICT (at_ms, device, service, currency, rate_source, gateway) DO UPDATE SET "+added("months", soldColumns)+", "+
			wider("btc_low", "<")+", "+wider("btc_high", ">")+", "+wider("rate_first_ms", "<")+", "+wider("rate_last_ms", ">"), rows)
}
