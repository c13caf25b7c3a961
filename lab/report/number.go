package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// number is v with three significant digits, or all before the point, in groups of
// three.
func number(v float64) string {
	if v == 0 {
		return "0"
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	switch {
	case digits < 0:
		digits = 0
	case digits > 9:
		return fmt.Sprintf("%.2e", v)
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	whole, rest, point := strings.Cut(text, ".")
	if point {
		if rest = strings.TrimRight(rest, "0"); rest != "" {
			rest = "." + rest
		}
	}
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	var b strings.Builder
	for i, d := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return sign + b.String() + rest
}

// percent is a share for people.
func percent(v float64) string { return number(100*v) + " %" }

// text is the median and how far the interval of it, or else the extremes, reach.
func (s *Spread) text() string {
	low, high := s.bounds()
	if low == high {
		return number(s.Median)
	}
	return fmt.Sprintf("%s [%s–%s]", number(s.Median), number(low), number(high))
}

// bounds are the interval of the median, or the extremes if there is none.
func (s *Spread) bounds() (low, high float64) {
	if s.Low != nil {
		return *s.Low, *s.High
	}
	return s.Min, s.Max
}

// text is the cell for a table without links.
func (c *Cell) text() string {
	switch {
	case c.Spread == nil:
		return "–"
	case c.Of > 0:
		return fmt.Sprintf("%d of %d (≤ %s)", c.Hits, c.Of, percent(*c.High))
	}
	return c.Spread.text()
}
