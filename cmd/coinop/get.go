//go:build !omit_gateway

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/core/money"
	"coinop.dev/gateway/paywall"
	"coinop.dev/purse"
)

// fetch is what get was asked for.
type fetch struct {
	url, method, data, maxCost string
	headers                    []string
	units, count               uint64
	insecure                   bool
	timeout                    time.Duration
}

func getCommand(u *ui) *cobra.Command {
	var path string
	f := fetch{}
	c := &cobra.Command{
		Use: "get <url>", Short: "Fetch a URL, and pay if it asks for money",
		Long: "An HTTP request that answers a 402 by paying once, out of the machine's purse and within its limits, and asks again. It\n" +
			"understands L402 and the Payment scheme. The body goes to standard output, what it cost to standard error.",
		Example: "  coinop get -c buyer.toml --max-cost 10sat https://api.example.org/forecast\n" +
			"  coinop get -c buyer.toml --max-cost 100sat --units 1000 --count 5 https://api.example.org/reading",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage{errors.New("get takes one URL")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f.url = args[0]
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			return u.get(cmd.Context(), config, f)
		},
	}
	configFlag(c, &path)
	fl := c.Flags()
	fl.StringVarP(&f.method, "request", "X", "GET", "the method")
	fl.StringVarP(&f.data, "data", "d", "", "the body")
	fl.StringArrayVarP(&f.headers, "header", "H", nil, "a header, as in 'Accept: text/plain'")
	fl.StringVar(&f.maxCost, "max-cost", "", "the most that one payment may be, such as 10sat; nothing is paid without it")
	fl.Uint64Var(&f.units, "units", 0, "buy a session of so many units, if there is a choice")
	fl.Uint64Var(&f.count, "count", 1, "ask so many times, one after the other")
	fl.BoolVar(&f.insecure, "insecure", false, "pay a host without TLS that is not on this computer")
	fl.DurationVar(&f.timeout, "timeout", time.Minute, "give up waiting after this long; what was paid stays paid")
	return c
}

func (u *ui) get(ctx context.Context, config Config, f fetch) error {
	most := money.Amount(0)
	if f.maxCost != "" {
		var err error
		if most, err = money.ParseAmount(f.maxCost); err != nil {
			return usage{fmt.Errorf("--max-cost: %w", err)}
		}
	}
	listen := config.Listen
	config.Listen = "" // it is not to be paid now
	s, err := openStation(context.WithoutCancel(ctx), config, nil, u.log(config.Name))
	config.Listen = listen
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if err := s.synced(ctx); err != nil {
		return exit{err, exitConnect}
	}
	if err := s.OpenRails(ctx); err != nil {
		return err
	}
	client := &http.Client{Transport: &paywall.Client{Pay: s.payOrOpen(u), MaxCost: most, Units: f.units, Insecure: f.insecure}}
	for range f.count {
		if err := u.fetch(ctx, client, f); err != nil {
			return err
		}
	}
	return nil
}

// payOrOpen pays, over a rail that is opened for it if there is none.
func (s *station) payOrOpen(u *ui) func(context.Context, money.Order) (money.Receipt, error) {
	var mu sync.Mutex
	return func(ctx context.Context, o money.Order) (money.Receipt, error) {
		r, err := s.Purse.Pay(ctx, o)
		if errors.Is(err, purse.ErrNoRail) && strings.Contains(o.To, "://") {
			mu.Lock()
			_, open := s.OpenRail(ctx, o.To)
			mu.Unlock()
			if open != nil {
				return r, &money.Error{Kind: money.Unpaid, Op: "pay " + o.To, Err: open}
			}
			r, err = s.Purse.Pay(ctx, o)
		}
		if err == nil {
			fmt.Fprintf(u.err, "paid %v\n", r.Amount)
		}
		return r, err
	}
}

func (u *ui) fetch(ctx context.Context, client *http.Client, f fetch) error {
	req, err := http.NewRequestWithContext(ctx, f.method, f.url, strings.NewReader(f.data))
	if err != nil {
		return usage{err}
	}
	for _, h := range f.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return usage{fmt.Errorf("--header %q is not name: value", h)}
		}
		req.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	res, err := client.Do(req)
	if err != nil {
		var known *money.Error
		if errors.As(err, &known) {
			return known
		}
		return exit{err, exitConnect}
	}
	defer res.Body.Close()
	if _, err := io.Copy(u.out, res.Body); err != nil {
		return exit{err, exitConnect}
	}
	if res.StatusCode >= 400 {
		why := res.Status
		if res.StatusCode == http.StatusPaymentRequired {
			why += ": none of what it offers can be paid within --max-cost " + firstOf(f.maxCost, "0sat") + " over a rail of this machine"
		}
		return exit{fmt.Errorf("%s: %s", f.url, why), exitFailed}
	}
	return nil
}
