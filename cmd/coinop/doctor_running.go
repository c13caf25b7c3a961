package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"coinop.dev/core/fleet"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/world/store"
)

// machineStatus is what a doctor reads of /v1/status.
type machineStatus struct {
	Name    string   `json:"name"`
	PayTo   []string `json:"pay_to"`
	Outlook struct {
		Rails []struct {
			Rail       string       `json:"rail"`
			Channels   int          `json:"channels"`
			Receivable money.Amount `json:"receivable_msat"`
			Spendable  money.Amount `json:"spendable_msat"`
			AtRisk     money.Amount `json:"at_risk_msat"`
		} `json:"rails"`
		Receivable money.Amount `json:"receivable_msat"`
		OwedOrders int          `json:"owed_orders"`
	} `json:"outlook"`
}

// find looks for a machine that runs from this config.
func (d *doctor) find(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if r, err := d.Config.running(); err == nil {
		if err := r.call(ctx, http.MethodGet, "/v1/status", nil, &d.status); err == nil {
			d.running = r
			return
		}
	}
	if !d.Remembers() || strings.HasPrefix(d.StoreURI(), "postgres") || !exists(filepath.Join(d.Data, "state")) {
		return
	}
	db, err := store.Default.Open(d.StoreURI())
	if err == nil {
		db.Close()
	}
	d.started = errors.Is(err, store.ErrLocked)
}

// checkRunning asks whether the machine is ready.
func (d *doctor) checkRunning(ctx context.Context) []finding {
	switch {
	case d.running == nil && !d.started:
		return []finding{{"machine", odd, "it does not run, so nobody was asked whether it can be paid", "coinop serve -c " + d.path + ", and then coinop doctor again"}}
	case d.running == nil:
		return nil // the store says it
	case d.Metrics == "":
		return []finding{{What: "machine", State: fine, Say: d.status.Name + " runs"}}
	}
	if err := d.isReady(ctx); err != nil {
		return []finding{{"machine", bad, err.Error(), "its log says more: journalctl -u coinop, or what coinop serve -v prints"}}
	}
	return []finding{{What: "machine", State: fine, Say: d.status.Name + " runs, and is ready"}}
}

// checkRails says what can be received.
func (d *doctor) checkRails(context.Context) (all []finding) {
	if d.running == nil {
		return nil
	}
	if len(d.status.PayTo) == 0 {
		all = append(all, finding{"rails", bad, "no rail is open on which this machine is paid", "its log says why; rails that need money in them are docs/rails"})
	}
	seen := map[string]bool{}
	for _, r := range d.status.Outlook.Rails {
		if seen[r.Rail] && r.Receivable == 0 {
			continue
		}
		seen[r.Rail] = true
		f := finding{"rails", fine, fmt.Sprintf("%s: can receive %v and pay %v", r.Rail, r.Receivable, r.Spendable), ""}
		if r.AtRisk > 0 {
			f.Say += fmt.Sprintf("; %v would be lost if the other side went away now", r.AtRisk)
		}
		if r.Receivable == 0 && r.Rail == "lightning" {
			f.State, f.Remedy = odd, "somebody must open a channel to this machine, or it must pay first: coinop channel --help"
		}
		all = append(all, f)
	}
	if d.status.Outlook.Receivable == 0 && len(all) > 0 && len(d.Sell) > 0 {
		all = append(all, finding{"rails", bad, "nothing can be received on any rail", "a buyer must open a channel to this machine, or it needs one from a provider: coinop channel list says more"})
	}
	if n := d.status.Outlook.OwedOrders; n > 0 {
		all = append(all, finding{"orders", odd, fmt.Sprintf("%d orders are paid and not delivered", n), "coinop orders list --state paid"})
	}
	return all
}

// maxAsked bounds the services, devices and receivers that are asked.
const maxAsked = 50

// each does up to maxAsked checks at once.
func each[T any](list []T, check func(T) finding) []finding {
	list = list[:min(len(list), maxAsked)]
	all := make([]finding, len(list))
	var under sync.WaitGroup
	for i, v := range list {
		under.Go(func() { all[i] = check(v) })
	}
	under.Wait()
	return all
}

// checkServices asks for a price of each thing, as a buyer does.
func (d *doctor) checkServices(ctx context.Context) []finding {
	if d.running == nil {
		return d.checkRates(ctx)
	}
	return each(d.Services(), func(s offer.Service) finding {
		var o struct {
			Due  money.Amount `json:"due_msat"`
			Rate offer.Rate   `json:"rate"`
			Free bool
		}
		units := max(s.Min, 1)
		err := d.running.call(ctx, http.MethodPost, "/v1/quotes", map[string]any{"service": s.Name, "units": units}, &o)
		if err != nil {
			return finding{"service", bad, fmt.Sprintf("nobody gets an offer of %s: %v", s.Name, err), "the price, its rate and its rails are in the config: coinop config get"}
		}
		f := finding{"service", fine, fmt.Sprintf("%s: %d %s cost %v", s.Name, units, s.Unit, o.Due), ""}
		if o.Rate.Currency != "" {
			f.Say += fmt.Sprintf(", at %v for a bitcoin by %s", offer.Fiat{Currency: o.Rate.Currency, Micro: o.Rate.Micro}, o.Rate.Source)
			if age := time.Now().UnixMilli() - int64(o.Rate.At); age > int64(staleRate) {
				f.State, f.Remedy = odd, "the rate is "+time.Duration(age*int64(time.Millisecond)).Round(time.Second).String()+" old; is its source reached?"
			}
		}
		return f
	})
}

// staleRate is when a rate should have been newer.
const staleRate = 5 * step.Minute

// checkRates asks the sources of rates, where no machine runs that does.
func (d *doctor) checkRates(ctx context.Context) []finding {
	var sources []string
	for _, r := range d.Rates {
		if r.URL != "" {
			sources = append(sources, r.URL)
		}
	}
	return each(sources, func(source string) finding {
		uri, err := url.Parse(source)
		if err != nil || uri.Host == "" {
			return finding{"rate", bad, fmt.Sprintf("%q is not a URL", source), "set it with coinop config set rate[EUR].url"}
		}
		return reach(ctx, "rate", "the source of rates at "+uri.Host, hostPort(uri), "prices in that currency have no offers without it; a fixed rate does")
	})
}

func hostPort(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), map[bool]string{true: "443", false: "80"}[u.Scheme == "https"]))
}

// checkDevices asks for the device of each service that has one.
func (d *doctor) checkDevices(ctx context.Context) []finding {
	var names []string
	for _, s := range d.Sell {
		if name, ok := strings.CutPrefix(s.From, "device:"); ok {
			names = append(names, name)
		}
	}
	if d.running == nil {
		return nil
	}
	return each(names, func(name string) finding {
		var v fleet.Device
		err := d.running.call(ctx, http.MethodGet, "/v1/devices/"+url.PathEscape(name), nil, &v)
		switch {
		case err != nil:
			return finding{"device", bad, fmt.Sprintf("%s: %v", name, err), "coinop device add " + name}
		case v.Revoked:
			return finding{"device", bad, name + " is revoked", "sell from another device, or forget it and add it again: coinop device revoke --forget " + name}
		case !v.Online && v.Seen == 0:
			return finding{"device", bad, name + " has never been here", "coinop device invite " + name + " makes a claim code for it"}
		case !v.Online:
			return finding{"device", odd, fmt.Sprintf("%s is offline since %s; orders for it wait, and are given back", name, time.UnixMilli(int64(v.Seen)).Format(time.DateTime)), "look after its power and its network"}
		case len(v.Faults) > 0:
			return finding{"device", odd, fmt.Sprintf("%s is here; its last fault: %s", name, v.Faults[len(v.Faults)-1].Text), "coinop device show " + name}
		}
		return finding{What: "device", State: fine, Say: name + " is here"}
	})
}

// checkWebhooks reaches for who is told of events.
func (d *doctor) checkWebhooks(ctx context.Context) []finding {
	var receivers []string
	for _, w := range d.Webhooks {
		receivers = append(receivers, w.URL)
	}
	var more []struct {
		URL string `json:"url"`
		Off bool   `json:"off"`
	}
	if d.running != nil && d.running.call(ctx, http.MethodGet, "/v1/webhooks", nil, &more) == nil {
		receivers = nil // the config's are among them
		for _, w := range more {
			if !w.Off {
				receivers = append(receivers, w.URL)
			}
		}
	}
	return each(receivers, func(receiver string) finding {
		uri, err := url.Parse(receiver)
		if err != nil || uri.Host == "" {
			return finding{"webhook", bad, fmt.Sprintf("%q is not a URL", receiver), "set it with coinop config set webhook[0].url"}
		}
		f := reach(ctx, "webhook", "the receiver at "+uri.Host, hostPort(uri), "events for it wait for three days; coinop webhook deliveries says how it went")
		if f.State == bad {
			f.State = odd
		}
		return f
	})
}
