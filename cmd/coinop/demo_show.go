//go:build !omit_demo

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/money"
)

// watch keeps the page and the terminal up to date.
func (d *demo) watch(ctx context.Context) {
	block := time.NewTicker(demoBlock)
	defer block.Stop()
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-block.C:
			d.beat()
		case <-look.C:
			d.look(ctx)
			d.count(time.Now())
			p := d.picture()
			d.hub.Publish(p)
			d.line(p)
		}
	}
}

// count keeps the payments of the last window for their rate.
func (d *demo) count(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rates = append(d.rates, tick{now, d.payments})
	for len(d.rates) > 1 && now.Sub(d.rates[0].at) > d.window+100*time.Millisecond {
		d.rates = d.rates[1:]
	}
}

func (d *demo) percentiles() (p50, p99 float64) { return percentilesOf(d.latencies) }

func percentilesOf(all []float64) (p50, p99 float64) {
	if len(all) == 0 {
		return 0, 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2], sorted[len(sorted)*99/100]
}

func (d *demo) picture() page.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := page.State{
		Scenario: d.demoOptions.scenario, Rail: d.demoOptions.rail, Phase: d.phase,
		ElapsedS: time.Since(d.begin).Seconds(), ForS: d.length.Seconds(),
		Payments: d.payments, Delivered: d.units, Unit: d.item.Unit, Source: d.source,
		PriceMsat: uint64(d.item.Price), PaidMsat: uint64(d.paid),
		Link:     page.Up,
		Readings: slices.Clone(d.readings), Events: slices.Clone(d.events),
	}
	if n := len(d.rates); n > 1 {
		p.RatePerS = float64(d.rates[n-1].payments-d.rates[0].payments) / d.rates[n-1].at.Sub(d.rates[0].at).Seconds()
	}
	p.P50Ms, p.P99Ms = d.percentiles()
	if d.linkDown || d.down() {
		p.Link = page.Down
	}
	p.Buyer, p.Seller = d.buyer.picture(), d.seller.picture()
	d.show(&p)
	return p
}

func (m *demoMachine) picture() page.Machine {
	return page.Machine{Name: m.name, State: m.state, OnchainSat: m.onchain, HoldsMsat: uint64(m.holds), Kills: m.kills}
}

// line is the terminal's one live line.
func (d *demo) line(p page.State) {
	if d.u.json || !terminal(d.u.err) {
		return
	}
	if c := p.Custody; c != nil {
		d.u.live(fmt.Sprintf("%s  %d %s · paid %v · %d transactions, fees %d sat · %d consents, %d kinds of lies refused · %s %d sat, %s %d sat", p.Phase, p.Delivered, p.Unit,
			money.Amount(p.PaidMsat), c.Mined, c.FeesSat, c.Consents, len(c.Refusals), p.Buyer.Name, p.Buyer.OnchainSat, p.Seller.Name, p.Seller.OnchainSat))
		return
	}
	if n := p.Network; n != nil {
		d.u.live(fmt.Sprintf("%s  %d %s · %.1f/s · paid %v · final after %.0f ms · %d blocks, %d wait · %s %v, %s %v", p.Phase, p.Delivered, p.Unit, p.RatePerS,
			money.Amount(p.PaidMsat), n.P50Ms, n.Blocks, n.Waiting, p.Buyer.Name, money.Amount(p.Buyer.HoldsMsat), p.Seller.Name, money.Amount(p.Seller.HoldsMsat)))
		return
	}
	d.u.live(fmt.Sprintf("%s  %d %s · %.0f/s · paid %v · at risk %v + %v · p50 %.1f ms · %s %d sat + %v in the channel · %s %v", p.Phase, p.Delivered, p.Unit, p.RatePerS,
		money.Amount(p.PaidMsat), money.Amount(p.AtRiskBuyerMsat), money.Amount(p.AtRiskSellerMsat), p.P50Ms,
		p.Buyer.Name, p.Buyer.OnchainSat, money.Amount(p.Buyer.ChannelMsat), p.Seller.Name, money.Amount(p.Seller.ChannelMsat)))
}

// servePage serves the page, and opens a browser on it unless told not to.
func (d *demo) servePage(ctx context.Context) (closePage func(), err error) {
	l, err := net.Listen("tcp", d.listen)
	if err != nil && d.listen == demoPage {
		l, err = net.Listen("tcp", "127.0.0.1:0") // somebody has the usual port
	}
	if err != nil {
		return nil, fmt.Errorf("serve the page: %w", err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		l.Close()
		return nil, usage{fmt.Errorf("the page is for this computer only; %s is not on loopback", d.listen)}
	}
	server := &http.Server{Handler: d.hub.Handler(d.actions()), ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(d.u.log("page").Handler(), slog.LevelDebug)}
	go server.Serve(l)
	uri := "http://" + l.Addr().String() + "/"
	if !d.u.json {
		fmt.Fprintf(d.u.err, "watch it at %s\n", uri)
	}
	if !d.noBrowser && terminal(d.u.err) {
		openBrowser(uri)
	}
	return func() {
		d.hub.Publish(d.picture())
		if d.phase == page.Settled && d.length == 0 && terminal(d.u.err) {
			time.Sleep(demoLinger)
		}
		d.hub.Close()
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		server.Shutdown(ctx)
	}, nil
}

// openBrowser tries; a computer without one shows the address instead.
func openBrowser(uri string) {
	name := map[string]string{"linux": "xdg-open", "darwin": "open"}[runtime.GOOS]
	if path, err := exec.LookPath(name); name != "" && err == nil && !strings.Contains(path, " ") {
		if cmd := exec.Command(path, uri); cmd.Start() == nil {
			go cmd.Wait()
		}
	}
}
