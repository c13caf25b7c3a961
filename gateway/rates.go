package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
)

const (
	// rateEvery is how often a source is asked, and rateLife for how long its last
	// answer counts.
	rateEvery = time.Minute
	rateLife  = 15 * step.Minute
	// priceTimeout bounds one question about a price or a rate, maxAnswer the answer
	// in bytes.
	priceTimeout = 3 * time.Second
	maxAnswer    = 64 << 10
)

// A RateSource says what a bitcoin costs in one currency.
type RateSource struct {
	Currency string
	// Fixed is the price of a bitcoin that the owner has set, such as 90000 or
	// 90000.50; or else
	Fixed string
	// URL answers with JSON, in which Field, such as data/EUR/last, is the price.
	URL, Field string

	once  sync.Once
	fixed uint64 // Fixed in millionths; 0 if that is no number

	mu   sync.Mutex
	last offer.Rate
	err  error
}

// Check reads a fixed rate.
func (r *RateSource) Check() error {
	switch {
	case len(r.Currency) != 3 || strings.ToUpper(r.Currency) != r.Currency:
		return fmt.Errorf("rate: %.20q is no currency such as EUR", r.Currency)
	case (r.Fixed == "") == (r.URL == ""):
		return fmt.Errorf("rate of %s: name either what a bitcoin costs or a URL to ask", r.Currency)
	case r.Fixed != "":
		_, err := micro(r.Fixed)
		return err
	}
	return nil
}

// micro reads a decimal number in millionths.
func micro(text string) (uint64, error) {
	n, ok := new(big.Rat).SetString(strings.TrimSpace(text))
	if ok {
		n.Mul(n, big.NewRat(1_000_000, 1))
		q := new(big.Int).Quo(n.Num(), n.Denom())
		if q.Sign() > 0 && q.IsUint64() {
			return q.Uint64(), nil
		}
	}
	return 0, fmt.Errorf("%.40q is not the price of a bitcoin", text)
}

// rate is the latest one, or nothing if that is too old.
func (r *RateSource) rate(now step.Time) offer.Rate {
	if r.Fixed != "" {
		if r.once.Do(func() { r.fixed, _ = micro(r.Fixed) }); r.fixed == 0 {
			return offer.Rate{}
		}
		return offer.Rate{Currency: r.Currency, Micro: r.fixed, Source: "fixed", At: now}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now-r.last.At > rateLife {
		return offer.Rate{}
	}
	return r.last
}

// run asks the source until ctx ends.
func (r *RateSource) run(ctx context.Context, now func() step.Time, changed func()) {
	if r.Fixed != "" {
		return
	}
	for {
		r.refresh(ctx, now())
		changed()
		select {
		case <-ctx.Done():
			return
		case <-time.After(rateEvery):
		}
	}
}

func (r *RateSource) refresh(ctx context.Context, now step.Time) {
	var answer any
	err := ask(ctx, http.MethodGet, r.URL, nil, &answer)
	var m uint64
	if err == nil {
		m, err = field(answer, r.Field)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err = err; err == nil {
		r.last = offer.Rate{Currency: r.Currency, Micro: m, Source: host(r.URL), At: now}
	}
}

// Err says why there is no newer rate.
func (r *RateSource) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func host(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	rest, _, _ = strings.Cut(rest, "/")
	return rest[:min(len(rest), 64)]
}

// field walks a/b/c into a JSON answer.
func field(v any, path string) (uint64, error) {
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		if m, ok := v.(map[string]any); ok {
			v = m[name]
		}
	}
	switch v := v.(type) {
	case json.Number:
		return micro(v.String())
	case string:
		return micro(v)
	}
	return 0, fmt.Errorf("the answer has no number at %q", path)
}

// ask asks a URL for a small JSON answer.
func ask(ctx context.Context, method, url string, question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, priceTimeout)
	defer cancel()
	var body io.Reader
	if question != nil {
		raw, err := json.Marshal(question)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return err
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answers %s", host(url), res.Status)
	case len(raw) > maxAnswer:
		return fmt.Errorf("%s answers with more than %d bytes", host(url), maxAnswer)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(answer)
}

// rate is the one that a service's price needs.
func (s *Shop) rate(v offer.Service) offer.Rate {
	for _, r := range s.o.Rates {
		if r.Currency == v.Fiat.Currency {
			return r.rate(s.m.Host.Now())
		}
	}
	return offer.Rate{}
}

// Rate is the latest rate of a currency, for who shows amounts to people.
func (s *Shop) Rate(currency string) (offer.Rate, bool) {
	r := s.rate(offer.Service{Fiat: offer.Fiat{Currency: currency}})
	return r, r.Micro > 0
}

// askPrice asks a dynamic service's URL what it costs now, per v.Per units.
func askPrice(ctx context.Context, v offer.Service, a Ask) (money.Amount, error) {
	var answer struct {
		Price *money.Amount `json:"price_msat"`
	}
	question := map[string]any{"service": v.Name, "units": a.Units, "buyer": a.Buyer}
	if err := ask(ctx, http.MethodPost, v.Dynamic, question, &answer); err != nil {
		return 0, fmt.Errorf("its price: %w", err)
	}
	if answer.Price == nil || *answer.Price == 0 {
		return 0, errors.New("its price: the answer has no price_msat")
	}
	return *answer.Price, nil
}
