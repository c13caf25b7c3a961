package spend_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"coinop.dev/core/spend"
	"coinop.dev/core/step"
)

func period(t testing.TB, text string) spend.Period {
	p, err := spend.ParsePeriod(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func millis(t time.Time) step.Time { return step.Time(t.UnixMilli()) }

// The calendar agrees with package time, which a core may not import.
func TestWindowsAgreeWithTheCalendar(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		period string
		start  func(time.Time) time.Time
		next   func(time.Time) time.Time
	}{
		{"daily", func(t time.Time) time.Time { return t.Truncate(24 * time.Hour) }, func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }},
		{"weekly", func(t time.Time) time.Time {
			return t.Truncate(24*time.Hour).AddDate(0, 0, -(int(t.Weekday())+6)%7)
		}, func(t time.Time) time.Time { return t.AddDate(0, 0, 7) }},
		{"monthly", func(t time.Time) time.Time {
			return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
		}, func(t time.Time) time.Time { return t.AddDate(0, 1, 0) }},
		{"yearly", func(t time.Time) time.Time { return time.Date(t.Year(), 1, 1, 0, 0, 0, 0, time.UTC) }, func(t time.Time) time.Time { return t.AddDate(1, 0, 0) }},
		{"R/2026-01-31T06:30:00Z/P1D", func(t time.Time) time.Time {
			return t.Add(-390 * time.Minute).Truncate(24 * time.Hour).Add(390 * time.Minute)
		}, func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }},
		{"PT90M", func(t time.Time) time.Time { return time.Unix(t.Unix()/5400*5400, 0).UTC() }, func(t time.Time) time.Time { return t.Add(90 * time.Minute) }},
		{"R/2026-01-05T00:00:00Z/P2W", func(t time.Time) time.Time {
			first := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
			n := t.Sub(first) / (14 * 24 * time.Hour)
			if t.Before(first.Add(n * 14 * 24 * time.Hour)) {
				n--
			}
			return first.Add(n * 14 * 24 * time.Hour)
		}, func(t time.Time) time.Time { return t.AddDate(0, 0, 14) }},
	} {
		p := period(t, c.period)
		for range 2000 {
			now := time.UnixMilli(r.Int64N(millis2200)).UTC()
			start, end := p.Window(millis(now))
			want := c.start(now)
			if start != millis(want) || end != millis(c.next(want)) {
				t.Fatalf("%s at %v is %v to %v; want %v to %v", c.period, now, time.UnixMilli(int64(start)).UTC(), time.UnixMilli(int64(end)).UTC(), want, c.next(want))
			}
			if text := spend.RFC3339(millis(now)); text != now.Format("2006-01-02T15:04:05Z") {
				t.Fatalf("%v is printed as %s", now, text)
			}
		}
	}
}

const millis2200 = 7_258_118_400_000

func TestMonthsFromAnyDay(t *testing.T) {
	p := period(t, "R/2026-01-15T12:00:00Z/P3M")
	at := func(y int, m time.Month, d, h int) step.Time { return millis(time.Date(y, m, d, h, 0, 0, 0, time.UTC)) }
	for _, c := range []struct{ now, start, end step.Time }{
		{at(2026, 1, 15, 12), at(2026, 1, 15, 12), at(2026, 4, 15, 12)},
		{at(2026, 4, 15, 11), at(2026, 1, 15, 12), at(2026, 4, 15, 12)},
		{at(2026, 4, 15, 12), at(2026, 4, 15, 12), at(2026, 7, 15, 12)},
		{at(2026, 1, 15, 11), at(2025, 10, 15, 12), at(2026, 1, 15, 12)},
		{at(2032, 12, 31, 0), at(2032, 10, 15, 12), at(2033, 1, 15, 12)},
	} {
		if start, end := p.Window(c.now); start != c.start || end != c.end {
			t.Errorf("at %s: %s to %s", spend.RFC3339(c.now), spend.RFC3339(start), spend.RFC3339(end))
		}
	}
}

func TestPeriodsThatAreNone(t *testing.T) {
	for _, text := range []string{
		"hourly", "P", "PT", "P0D", "P1", "1D", "P-1D", "P1DT", "P1MT1H", "P1M1D", "R", "R/", "R/P", "R//P1D",
		"R/2026-13-01T00:00:00Z/P1D", "R/2026-01-32T00:00:00Z/P1D", "R/2026-01-01T24:00:00Z/P1D", "R/2026-01-01/P1D",
		"P99999D", "P1D/P1D", "R/2026-01-01T00:00:00Z/P1D/P1D", "P1H", "PT1D", "PTT1H", "R/2026-01-01T00:00:00Zjunk/P1D",
	} {
		if p, err := spend.ParsePeriod(text); err == nil {
			start, end := p.Window(1_700_000_000_000)
			t.Errorf("%q is read as a period from %d to %d", text, start, end)
		}
	}
	for _, text := range []string{"", "never"} {
		if start, end := period(t, text).Window(1); start != 0 || end != 0 {
			t.Errorf("%q renews", text)
		}
	}
}

// A period is an error, or its windows follow each other without a gap.
func FuzzPeriod(f *testing.F) {
	for _, text := range []string{"daily", "R/2026-01-31T23:59:60Z/P1M", "P3Y", "P1DT2H3M4S", "R/0001-01-01T00:00:00Z/P400Y", "P2W"} {
		f.Add(text, int64(1_700_000_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, now int64) {
		p, err := spend.ParsePeriod(text)
		if err != nil {
			return
		}
		if now < 0 || now > 253_402_300_799_999 { // the year 9999
			return
		}
		start, end := p.Window(step.Time(now))
		if end == 0 && start == 0 {
			return // never
		}
		if start > step.Time(now) || end <= step.Time(now) || start >= end {
			t.Fatalf("%q at %d is %d to %d", text, now, start, end)
		}
		if s, e := p.Window(end - 1); s != start || e != end {
			t.Errorf("%q: %d to %d ends as %d to %d", text, start, end, s, e)
		}
		if s, _ := p.Window(end); s != end {
			t.Errorf("%q: after %d to %d comes %d", text, start, end, s)
		}
	})
}
