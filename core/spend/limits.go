package spend

import (
	"fmt"
	"strconv"
	"strings"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Limits are what a machine may spend. A zero field does not limit.
type Limits struct {
	Order     money.Amount // at most this for one order
	UnitPrice money.Amount // at most this for one unit of what is bought
	Total     money.Amount // at most this in a Period
	Payee     money.Amount // at most this to one payee in a Period
	Period    Period
	PerMinute int // at most this many orders in a minute
}

// A Period is how often Total and Payee renew: daily, weekly, monthly or yearly
// by the UTC calendar, never, or an ISO 8601 repeating interval such as
// R/2026-01-01T00:00:00Z/P1M, whose start sets the hour and day.
type Period struct {
	text          string
	months, days  int // of the calendar
	length, start step.Time
}

// ParsePeriod reads a Period. The empty text is never.
func ParsePeriod(text string) (p Period, err error) {
	p.text = text
	switch strings.ToLower(text) {
	case "", "never":
		return p, nil
	case "daily":
		p.days = 1
	case "weekly":
		p.days, p.start = 7, 4*step.Day // 1970-01-05 was a Monday
	case "monthly":
		p.months = 1
	case "yearly":
		p.months = 12
	default:
		err = p.parseISO(text)
	}
	return p, err
}

// UnmarshalText and MarshalText let a Period stand in a config file.
func (p *Period) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePeriod(string(text))
	return err
}

// MarshalText is what UnmarshalText reads.
func (p Period) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// String is the text the period was read from.
func (p Period) String() string {
	if p.text == "" {
		return "never"
	}
	return p.text
}

// parseISO reads R[n]/<start>/<duration>, R/<duration> or <duration>.
func (p *Period) parseISO(text string) error {
	bad := fmt.Errorf("period %q is not daily, weekly, monthly, yearly, never or an ISO 8601 interval such as R/2026-01-01T00:00:00Z/P1M", text)
	parts := strings.Split(text, "/")
	if len(parts) > 1 && parts[0] == "R" {
		parts = parts[1:]
	}
	if len(parts) == 2 {
		var y, mo, d, h, mi, s int
		if n, err := fmt.Sscanf(parts[0], "%4d-%2d-%2dT%2d:%2d:%2dZ", &y, &mo, &d, &h, &mi, &s); n != 6 || err != nil {
			return bad
		}
		p.start = days(y, mo, d)*step.Day + step.Time(h)*step.Hour + step.Time(mi)*step.Minute + step.Time(s)*step.Second
		if RFC3339(p.start) != parts[0] { // no such day or hour, or something behind it
			return bad
		}
		parts = parts[1:]
	}
	if len(parts) != 1 || !strings.HasPrefix(parts[0], "P") {
		return bad
	}
	rest, inTime := parts[0][1:], false
	for rest != "" {
		if after, ok := strings.CutPrefix(rest, "T"); ok && !inTime && after != "" {
			rest, inTime = after, true
			continue
		}
		n := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
		if n < 1 {
			return bad
		}
		v, err := strconv.Atoi(rest[:n])
		if err != nil || v > 10_000 {
			return bad
		}
		switch unit := rest[n]; {
		case !inTime && unit == 'Y':
			p.months += 12 * v
		case !inTime && unit == 'M':
			p.months += v
		case !inTime && unit == 'W':
			p.days += 7 * v
		case !inTime && unit == 'D':
			p.days += v
		case inTime && unit == 'H':
			p.length += step.Time(v) * step.Hour
		case inTime && unit == 'M':
			p.length += step.Time(v) * step.Minute
		case inTime && unit == 'S':
			p.length += step.Time(v) * step.Second
		default:
			return bad
		}
		rest = rest[n+1:]
	}
	if p.months > 0 && (p.days > 0 || p.length > 0) || p.months == 0 && p.span() == 0 {
		return bad
	}
	return nil
}

func (p Period) span() step.Time { return step.Time(p.days)*step.Day + p.length }

// Window returns the start of the period that contains now, and its end; a
// period that never renews has end 0.
func (p Period) Window(now step.Time) (start, end step.Time) {
	switch {
	case p.months > 0:
		return p.monthWindow(now)
	case p.span() > 0:
		n := (now - p.start) / p.span()
		if now < p.start && (now-p.start)%p.span() != 0 {
			n--
		}
		start = p.start + n*p.span()
		return start, start + p.span()
	}
	return 0, 0
}

func (p Period) monthWindow(now step.Time) (start, end step.Time) {
	offset := step.Time(0)
	y0, m0, _ := civil(p.start)
	if p.start != 0 {
		offset = p.start - days(y0, m0, 1)*step.Day
	} else {
		y0, m0 = 1970, 1
	}
	y, m, _ := civil(now)
	k := ((y-y0)*12 + m - m0) / p.months
	at := func(k int) step.Time {
		n := y0*12 + m0 - 1 + k*p.months
		return days(n/12, n%12+1, 1)*step.Day + offset
	}
	for at(k) > now {
		k--
	}
	for at(k+1) <= now {
		k++
	}
	return at(k), at(k + 1)
}

// days counts days from 1970-01-01 to a date of the proleptic Gregorian
// calendar (Howard Hinnant's days_from_civil); civil is its inverse. A core may
// not import time.
func days(y, m, d int) step.Time {
	if m <= 2 {
		y--
	}
	era := y / 400
	yoe := y - era*400
	doy := (153*((m+9)%12)+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return step.Time(era*146097 + doe - 719468)
}

func civil(t step.Time) (y, m, d int) {
	z := int(t/step.Day) + 719468
	era := z / 146097
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d = doy - (153*mp+2)/5 + 1
	m = (mp+2)%12 + 1
	y = yoe + era*400
	if m <= 2 {
		y++
	}
	return y, m, d
}

// RFC3339 prints t, for messages to people.
func RFC3339(t step.Time) string {
	y, m, d := civil(t)
	s := int64(t%step.Day) / int64(step.Second)
	return fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", y, m, d, s/3600, s/60%60, s%60)
}

// A Refusal says which limit was reached, how much of it is left, and when it
// renews.
type Refusal struct {
	Limit  string       `json:"limit"` // order, unit price, total, payee, per minute, rail
	Asked  money.Amount `json:"asked_msat"`
	Left   money.Amount `json:"left_msat"`
	Max    money.Amount `json:"max_msat"`
	Count  int          `json:"count,omitempty"` // of a limit that counts orders
	Renews step.Time    `json:"renews_ms,omitempty"`
	Period string       `json:"period,omitempty"`
}

func (r *Refusal) Error() string {
	text := ""
	switch r.Limit {
	case "order":
		text = fmt.Sprintf("%v is more than the limit of %v per order", r.Asked, r.Max)
	case "unit price":
		text = fmt.Sprintf("%v per unit is more than the limit of %v", r.Asked, r.Max)
	case "per minute":
		text = fmt.Sprintf("%d orders in this minute are the limit", r.Count)
	case "payee":
		text = fmt.Sprintf("%v to this payee would pass its limit of %v (%s); %v is left", r.Asked, r.Max, r.Period, r.Left)
	default:
		text = fmt.Sprintf("%v would pass the limit of %v (%s); %v is left", r.Asked, r.Max, r.Period, r.Left)
	}
	if r.Renews > 0 {
		text += "; it renews at " + RFC3339(r.Renews)
	}
	return text
}
