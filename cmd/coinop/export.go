//go:build !omit_gateway

package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
)

// moment reads a day, or a time. The end of a day is the beginning of the next.
func moment(text string, end bool) (step.Time, error) {
	if text == "" {
		return 0, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return step.Time(t.UnixMilli()), nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return 0, usage{fmt.Errorf("%.40q is neither a day such as 2026-11-01 nor a time such as 2026-11-01T12:00:00Z", text)}
	}
	if end {
		t = t.AddDate(0, 0, 1)
	}
	return step.Time(t.UnixMilli()), nil
}

func exportCommand(u *ui) *cobra.Command {
	var which chosen
	var format, out string
	c := &cobra.Command{
		Use: "export", Short: "Write orders as CSV or JSON, each with the rate it was sold at",
		Long: `Oldest first, for bookkeeping: amounts are whole msat, times RFC 3339 in UTC; btc_price is what
a bitcoin cost in currency at rate_time by rate_source, and value what the order is worth at that.`,
		Example: "  coinop export --from 2026-11-01 --to 2026-11-30 --out november.csv\n  coinop export --device tap-3 --format json",
	}
	f := u.family(c)
	which.flags(c)
	c.Flags().StringVar(&format, "format", "csv", "csv or json")
	c.Flags().StringVar(&out, "out", "", "write to this file; without it, to standard output")
	f.asks(c, func(ctx context.Context, r *running, _ []string) error {
		q, err := which.query()
		if err != nil {
			return err
		}
		q.Set("format", format)
		res, err := r.send(ctx, request{method: http.MethodGet, path: "/v1/export", query: q})
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if out == "" {
			_, err := io.Copy(u.out, res.Body)
			return err
		}
		return u.save(out, res.Body)
	})
	return c
}

// save writes a stream to a file, which is there when it is whole.
func (u *ui) save(path string, from io.Reader) error {
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(file, from)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return u.show(map[string]any{"file": path, "bytes": n}, func(w io.Writer) { fmt.Fprintf(w, "%s has %d bytes\n", path, n) })
}

// A statementLine is the sum of one service, or of all.
type statementLine struct {
	Service  string       `json:"service,omitempty"`
	Orders   int64        `json:"orders"`
	Failed   int64        `json:"failed"`
	Units    uint64       `json:"units"`
	Earned   money.Amount `json:"earned_msat"`
	Refunded money.Amount `json:"refunded_msat"`
	Fiat     offer.Fiat   `json:"fiat,omitzero"`
	Low      uint64       `json:"btc_micro_low,omitempty"`
	High     uint64       `json:"btc_micro_high,omitempty"`
	First    step.Time    `json:"rate_first_ms,omitempty"`
	Last     step.Time    `json:"rate_last_ms,omitempty"`
	Source   string       `json:"rate_source,omitempty"`
	Sources  int64        `json:"rate_sources,omitempty"`
}

// A monthly is a month of one device, of one payer, or of all.
type monthly struct {
	Month  string          `json:"month"`
	From   step.Time       `json:"from_ms"`
	To     step.Time       `json:"to_ms"`
	Device string          `json:"device,omitempty"`
	Buyer  string          `json:"buyer,omitempty"`
	Lines  []statementLine `json:"lines"`
	statementLine
}

func statementCommand(u *ui) *cobra.Command {
	var device, payer string
	c := &cobra.Command{
		Use: "statement <month>", Short: "A month's statement, of a device, of a payer, or of all",
		Example: "  coinop statement 2026-11\n  coinop statement 2026-11 --device tap-3",
		Long:    "Months are those of UTC. Tests are left out. Each order counts at the rate that was stamped on it.",
	}
	f := u.family(c)
	c.Flags().StringVar(&device, "device", "", "only of this device")
	c.Flags().StringVar(&payer, "payer", "", "only of this payer")
	f.asks(c, func(ctx context.Context, r *running, args []string) error {
		q := url.Values{}
		for key, value := range map[string]string{"device": device, "buyer": payer} {
			if value != "" {
				q.Set(key, value)
			}
		}
		var m monthly
		if err := r.look(ctx, "/v1/statements/"+url.PathEscape(args[0]), q, &m); err != nil {
			return err
		}
		return u.show(m, func(w io.Writer) {
			fmt.Fprintf(w, "%s, UTC, of %s\n\n", m.Month, cmp.Or(m.Device, m.Buyer, "everything"))
			columns(w, "SERVICE ORDERS FAILED UNITS EARNED REFUNDED WORTH RATES", func(row func(...any)) {
				m.Service = "all"
				for _, l := range append(m.Lines, m.statementLine) {
					worth := ""
					if l.Fiat != (offer.Fiat{}) {
						worth = l.Fiat.String()
					}
					row(l.Service, l.Orders, l.Failed, l.Units, l.Earned, l.Refunded, worth, rates(l))
				}
			})
		})
	})
	return c
}

// rates says at which a line was sold.
func rates(l statementLine) string {
	if l.Low == 0 {
		return ""
	}
	low, high := offer.Fiat{Currency: l.Fiat.Currency, Micro: l.Low}, offer.Fiat{Currency: l.Fiat.Currency, Micro: l.High}
	text := low.String()
	if l.High != l.Low {
		text += " to " + high.String()
	}
	if l.Source != "" {
		text += " by " + l.Source
	}
	if l.Sources > 1 {
		text += fmt.Sprintf(" and %d others", l.Sources-1)
	}
	return text
}

const (
	// quietTime is how long no event must come until all that there were have.
	quietTime = 700 * time.Millisecond
	// maxEvent bounds one line of the stream, in bytes.
	maxEvent = 1 << 20
	// firstPause and longestPause are between two tries to go on.
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
)

func eventsCommand(u *ui) *cobra.Command {
	var s eventStream
	var follow bool
	c := &cobra.Command{
		Use: "events", Short: "Print what happens at a gateway, event by event, and go on where you stopped",
		Long: `One line for each event, oldest first, with its number. --cursor N prints those after number N: who
remembers the last number that was seen misses none. Without --follow it ends when there are no more;
with it, it goes on for ever, also over restarts of the gateway.`,
		Example: "  coinop events --follow --types order.,device.fault\n  coinop events --cursor 1200 --json",
	}
	f := u.family(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "wait for what comes")
	c.Flags().StringVar(&s.cursor, "cursor", "", "begin after the event of this number; default: 0, or with --follow what comes from now on")
	c.Flags().StringVar(&s.types, "types", "", "only these, such as order.paid,device. (all of devices)")
	f.asks(c, func(ctx context.Context, r *running, _ []string) error {
		s.u, s.r = u, r
		if follow {
			return s.follow(ctx)
		}
		s.cursor = cmp.Or(s.cursor, "0")
		return s.all(ctx)
	})
	return c
}

// An eventStream prints events, and knows the last.
type eventStream struct {
	u             *ui
	r             *running
	cursor, types string
	heard         func() // at each line; nil for nothing
	connected     bool
}

// all prints what there is.
func (s *eventStream) all(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	quiet := time.AfterFunc(answerTime, stop)
	defer quiet.Stop()
	s.heard = func() { quiet.Reset(quietTime) }
	err := s.read(ctx)
	if s.connected && ctx.Err() != nil {
		return nil
	}
	return err
}

// follow prints what there is and what comes, until ctx ends.
func (s *eventStream) follow(ctx context.Context) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		s.connected = false
		err := s.read(ctx)
		var e exit
		switch {
		case ctx.Err() != nil:
			return nil
		case !s.connected && (!errors.As(err, &e) || e.code != exitConnect):
			return err // it will not be better the next time
		case s.connected:
			pause = firstPause
		}
		if s.u.verbose {
			fmt.Fprintf(s.u.err, "  the stream ended (%v); going on in %v\n", err, pause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// read prints the events of one stream until it ends.
func (s *eventStream) read(ctx context.Context) error {
	q := url.Values{}
	if s.cursor != "" {
		if _, err := strconv.ParseUint(s.cursor, 10, 63); err != nil {
			return usage{fmt.Errorf("--cursor %.20q is not the number of an event", s.cursor)}
		}
		q.Set("cursor", s.cursor)
	}
	if s.types != "" {
		q.Set("types", s.types)
	}
	res, err := s.r.send(ctx, request{method: http.MethodGet, path: "/v1/events", query: q, header: http.Header{"Accept": {"text/event-stream"}}})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	s.connected = true
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		if s.heard != nil {
			s.heard()
		}
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			s.cursor = value
		case "data":
			if err := s.print(value); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

func (s *eventStream) print(data string) error {
	return s.u.show(json.RawMessage(data), func(w io.Writer) {
		var e struct {
			Seq     uint64          `json:"seq"`
			At      step.Time       `json:"at_ms"`
			Type    string          `json:"type"`
			Subject string          `json:"subject"`
			Data    json.RawMessage `json:"data"`
		}
		json.Unmarshal([]byte(data), &e)
		fmt.Fprintf(w, "%-6d %s  %-16s %s  %s\n", e.Seq, when(e.At), e.Type, clean(e.Subject), clean(string(e.Data)))
	})
}
