package books

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
)

// A Statement is a month of one device or of one payer, or of all.
type Statement struct {
	Month  string    `json:"month"` // 2026-11, UTC
	From   step.Time `json:"from_ms"`
	To     step.Time `json:"to_ms"`
	Device string    `json:"device,omitempty"`
	Buyer  string    `json:"buyer,omitempty"`
	Lines  []Line    `json:"lines"`
	Line             // the sums; Fiat only if all lines have one currency
}

// A Line is what was sold of one service at prices of one currency.
type Line struct {
	Service  string       `json:"service,omitempty"`
	Orders   int64        `json:"orders"`
	Failed   int64        `json:"failed"` // of these
	Units    uint64       `json:"units"`
	Earned   money.Amount `json:"earned_msat"` // paid and kept
	Refunded money.Amount `json:"refunded_msat"`
	Fiat     offer.Fiat   `json:"fiat,omitzero"` // each order at its own rate
	// The rates were from Low to High, in millionths for one bitcoin, stamped from
	// First to Last by Sources names of which Source is one. Each order has its own
	// (Export).
	Low     uint64    `json:"btc_micro_low,omitempty"`
	High    uint64    `json:"btc_micro_high,omitempty"`
	First   step.Time `json:"rate_first_ms,omitempty"`
	Last    step.Time `json:"rate_last_ms,omitempty"`
	Source  string    `json:"rate_source,omitempty"`
	Sources int64     `json:"rate_sources,omitempty"`
}

// Statement sums the orders of a month, written 2026-11, of a device or of a
// payer or, if both are empty, of all. Tests are left out. The sums of a payer are
// made of its orders when they are asked for, the others are kept.
func (b *Books) Statement(ctx context.Context, month, device, buyer string) (s Statement, err error) {
	begins, err := time.Parse("2006-01", month)
	if err != nil {
		return s, fmt.Errorf("statement: %.20q is no month; write 2026-11", month)
	}
	if device != "" && buyer != "" {
		return s, errors.New("statement: it is of a device or of a payer, and not of both")
	}
	s = Statement{Month: month, Device: device, Buyer: buyer, Lines: []Line{}}
	s.From, s.To = step.Time(begins.UnixMilli()), step.Time(begins.AddDate(0, 1, 0).UnixMilli())
	ctx, cancel := context.WithTimeout(ctx, statementWait)
	defer cancel()
	words, args := ofMonth, []any{int64(s.From), text(device), MaxPage}
	if buyer != "" {
		words, args = ofBuyer, []any{text(buyer), int64(s.From), int64(s.To), MaxPage}
	}
	err = b.rows(ctx, words, args, func(r *sql.Rows) error {
		var l Line
		err := r.Scan(&l.Service, &l.Fiat.Currency, &l.Orders, &l.Failed, &l.Units, &l.Earned, &l.Refunded, &l.Fiat.Micro,
			&l.Low, &l.High, &l.First, &l.Last, &l.Source, &l.Sources)
		if l.Fiat.Currency == "" {
			l.Sources = 0
		}
		s.add(l)
		return err
	})
	if err != nil {
		return s, fmt.Errorf("statement of %s: %w", month, err)
	}
	return s, nil
}

const (
	ofMonth = "SELECT service, currency, CAST(SUM(orders) AS BIGINT), CAST(SUM(failed) AS BIGINT), CAST(SUM(units) AS BIGINT), " +
		"CAST(SUM(earned_msat) AS BIGINT), CAST(SUM(refunded_msat) AS BIGINT), CAST(SUM(fiat_micro) AS BIGINT), " +
		"MIN(btc_low), MAX(btc_high), MIN(rate_first_ms), MAX(rate_last_ms), MIN(rate_source), COUNT(DISTINCT rate_source) " +
		"FROM months WHERE at_ms = ? AND device = ? AND orders > 0" + byLine

	ofBuyer = "SELECT service, currency, COUNT(*), CAST(SUM(" + lost + ") AS BIGINT), CAST(SUM(units) AS BIGINT), " +
		"CAST(SUM(" + kept + ") AS BIGINT), CAST(SUM(back_msat) AS BIGINT), CAST(SUM(fiat_micro) AS BIGINT), " +
		"MIN(btc_micro), MAX(btc_micro), MIN(rate_ms), MAX(rate_ms), MIN(rate_source), COUNT(DISTINCT rate_source) " +
		"FROM orders WHERE buyer = ? AND first_ms >= ? AND first_ms < ? AND test = 0" + byLine

	byLine = " GROUP BY service, currency ORDER BY service, currency LIMIT ?"
	kept   = "CASE WHEN state IN ('paid', 'delivered', 'settled') AND paid_msat > back_msat THEN paid_msat - back_msat ELSE 0 END"
	lost   = "CASE WHEN state IN ('failed', 'refunded', 'expired') THEN 1 ELSE 0 END"
)

func (s *Statement) add(l Line) {
	if len(s.Lines) == 0 {
		s.Fiat.Currency = l.Fiat.Currency
	}
	s.Lines = append(s.Lines, l)
	s.Orders += l.Orders
	s.Failed += l.Failed
	s.Units += l.Units
	s.Earned += l.Earned
	s.Refunded += l.Refunded
	s.Fiat.Micro += l.Fiat.Micro
	if l.Fiat.Currency != s.Fiat.Currency || s.Fiat.Currency == "" {
		s.Fiat = offer.Fiat{}
	}
}
