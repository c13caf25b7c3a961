package page

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// browse opens a tab in a new headless Chromium, or skips the test. What the
// page complains about (errors, broken policy) fails the test at its end.
func browse(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium in PATH: the page is not tried in a browser (Debian: apt-get install chromium)")
	}
	// Not t.TempDir: Chromium's children may write for a moment after its end.
	profile, err := os.MkdirTemp("", "coinop-page-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	ctx, end := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1280, 900))...)
	ctx, closeTab := chromedp.NewContext(ctx)
	said := chromedp.Console(ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for m, err := range said {
			if err != nil {
				return
			}
			// The test makes an action fail; the browser logs such answers.
			if (m.IsException() || m.Type == "error" || m.Type == "warning") && !strings.Contains(m.URL, "/do/") {
				t.Errorf("the browser says: %s (%s)", m.Text, m.URL)
			}
		}
	}()
	t.Cleanup(func() {
		closeTab()
		end()
		stop()
		<-read
		os.RemoveAll(profile)
	})
	return ctx
}

func must(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// wait evaluates expression until it is true. (chromedp.Poll would need eval,
// which the page's policy forbids.)
func wait(t *testing.T, ctx context.Context, expression string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never true: %s", expression)
		}
	}
}

// pretend is a demo at second s: made up, for the page's own tests.
func pretend(s float64) State {
	pps := 840 + 60*math.Sin(s/3) + 25*math.Sin(s*5)
	if s > 31 && s < 34 {
		pps = 0
	}
	paid := uint64(s*820) * 50
	st := State{
		Scenario: "sensor", Rail: "oneway", Phase: Paying, ElapsedS: s, ForS: 120,
		Payments: paid / 50, RatePerS: pps, Delivered: paid / 50, Unit: "readings", Source: "this computer",
		PriceMsat: 50, PaidMsat: paid, CapacityMsat: 10_000_000, LeftMsat: 10_000_000 - paid,
		AtRiskBuyerMsat: 50, AtRiskSellerMsat: 100, P50Ms: 0.42, P99Ms: 3.8, Link: Up,
		Buyer: Machine{Name: "Buyer", State: Running, NodeKey: "02a4c19e7781d5b60eee0f7c1d", OnchainSat: 4_988_240, ChannelMsat: 10_000_000 - paid},
		Seller: Machine{Name: "Seller", State: Running, NodeKey: "03ee5f1a90bb1277c4d8ab3344", ChannelMsat: paid,
			Kills: 1},
		Chain: Chain{Height: 109, Tip: "3f9b2c61d0aa57e19b40c1f7e2208a", FundingTxid: strings.Repeat("7c1fe09a", 8), FundingDepth: 6, StartSat: 5_000_000},
		Events: []Event{
			{300, Info, "The faucet paid the buyer 5,000,000 sat in block 101"}, {900, Info, "Funding transaction broadcast: 10,000 sat in a 2-of-2 output"},
			{1500, Good, "Funding is 6 blocks deep; the channel is open"}, {31000, Warn, "The seller was killed"},
			{33100, Info, "The seller restarts from its store"}, {34000, Good, "The seller is back: 25,420 payments, as before"},
		},
	}
	for i := range 12 {
		names := []string{"load", "memory", "net in", "net out", "cpu temp"}
		values := []string{"0.42", "3.61 GiB", "18.4 kB/s", "6.2 kB/s", "47.5 °C"}
		at := int64(s*1000) - int64(12-i)*3
		st.Readings = append(st.Readings, Reading{at, names[(i+int(s*4))%5], values[(i+int(s*4))%5], 50})
	}
	return st
}

// routed is pretend over Lightning, with a router in between.
func routed(s float64) State {
	st := pretend(s)
	st.Scenario, st.Rail, st.Unit, st.Source = "charger", "lightning", "mWh", "a simulated meter"
	st.RatePerS, st.P50Ms, st.P99Ms = st.RatePerS/8, 34.2, 56.1
	n := uint64(s * 100)
	st.Payments, st.Delivered, st.PriceMsat, st.PaidMsat = n, 20*n, 500, 10_000*n
	fees := 110 * n
	st.CapacityMsat, st.LeftMsat, st.AtRiskBuyerMsat, st.AtRiskSellerMsat = 500_000_000, 500_000_000-st.PaidMsat-fees, 40_000, 0
	st.Buyer.Name, st.Buyer.OnchainSat, st.Buyer.ChannelMsat = "car", 499_847, st.LeftMsat
	st.Seller.Name, st.Seller.OnchainSat, st.Seller.ChannelMsat, st.Seller.Kills = "charger", 0, st.PaidMsat, 0
	st.Chain.StartSat = 3_100_000
	st.Route = &Route{
		Router:   Machine{Name: "router", State: Running, NodeKey: "02e6ce93de1456d9d6680eccf8", OnchainSat: 1_599_847, ChannelMsat: 500_000_000 + fees},
		Near:     Channel{SCID: "105x1x0", CapacityMsat: 500_000_000, NearMsat: st.LeftMsat, FarMsat: st.PaidMsat + fees, HTLCs: 4, Usable: true, Depth: 14, FundingTxid: st.Chain.FundingTxid},
		Far:      Channel{SCID: "103x1x0", CapacityMsat: 500_000_000, NearMsat: 500_000_000 - st.PaidMsat, FarMsat: st.PaidMsat, HTLCs: 3, Usable: true, Depth: 16, FundingTxid: strings.Repeat("1b0a93de", 8)},
		FeesMsat: fees, FeeBaseMsat: 100, FeePPM: 1000, MaxDustMsat: 5_000_000, Liquidity: "can send 438123 sat and receive 432000 sat now",
	}
	st.Events = []Event{
		{196, Good, "the router has a public channel of 500000 sat to the charger"}, {296, Good, "the car has a channel of 500000 sat to the router, and none to the charger"},
		{684, Good, "the car has heard of the router's channel: it knows a way to the charger"},
	}
	for i := range st.Readings {
		st.Readings[i].Name, st.Readings[i].Value, st.Readings[i].PaidMsat = "meter (simulated)", fmt.Sprintf("%.3f Wh at 7412 W", s+float64(i)/50), 10_000
	}
	return st
}

func punished(s float64) State {
	st := routed(s)
	st.Route.Cheat = &Cheat{
		RevokedTxid: strings.Repeat("7d72c653", 8), PenaltyTxid: strings.Repeat("c426988d", 8), CapacitySat: 500_000, Owed: 31_415, Claimed: 499_056,
		SellerSat: 498_933, FeesSat: 737, LeftSat: 330,
	}
	st.Seller.OnchainSat = 498_933
	st.Events = append(st.Events, Event{31000, Warn, "the router publishes a commitment it has revoked: by it the 31415 sat it has passed on are its own"}, Event{31200, Good, "the charger has seen it, and takes everything by penalty"})
	return st
}

func routedEnd(s State) State {
	yes := true
	s.Phase, s.RatePerS, s.ElapsedS, s.AtRiskBuyerMsat = Settled, 0, s.ElapsedS+1, 0
	s.Chain.CloseTxid, s.Route.Near.CloseTxid, s.Route.Far.CloseTxid = strings.Repeat("b0d45e11", 8), strings.Repeat("b0d45e11", 8), strings.Repeat("a9d45e77", 8)
	s.Chain.FeesSat, s.Chain.Conserved = 697, &yes
	if s.Route.Cheat != nil {
		s.Route.LeftSat = s.Route.Cheat.LeftSat
	}
	s.Seller.OnchainSat += int64(s.PaidMsat / 1000)
	s.Buyer.OnchainSat += int64(s.LeftMsat / 1000)
	s.Route.Router.OnchainSat = s.Chain.StartSat - s.Seller.OnchainSat - s.Buyer.OnchainSat - s.Chain.FeesSat - s.Route.LeftSat
	s.Route.Near.HTLCs, s.Route.Far.HTLCs = 0, 0
	return s
}

func settled() State {
	yes := true
	s := pretend(75)
	s.Phase, s.RatePerS, s.ElapsedS = Settled, 0, 78
	s.AtRiskBuyerMsat, s.AtRiskSellerMsat = 0, 0
	s.Chain.CloseTxid, s.Chain.FeesSat, s.Chain.Conserved, s.Chain.Height = strings.Repeat("b0d45e11", 8), 292, &yes, 110
	s.Seller.OnchainSat = int64(s.PaidMsat / 1000)
	s.Buyer.OnchainSat = s.Chain.StartSat - s.Seller.OnchainSat - s.Chain.FeesSat
	s.Buyer.ChannelMsat, s.Seller.ChannelMsat = 0, 0
	s.Events = append(s.Events, Event{77000, Good, "Closing transaction mined in block 110"})
	return s
}

func TestInBrowser(t *testing.T) {
	ctx := browse(t)
	h := NewHub()
	var cuts atomic.Int32
	now := pretend(10)
	server := serve(t, h, map[string]func(context.Context) error{
		"link": func(context.Context) error { cuts.Add(1); return nil },
		"mine": func(context.Context) error { return fmt.Errorf("the miner is asleep") },
	})
	h.Publish(now)
	must(t, ctx, chromedp.Navigate(server.URL))
	wait(t, ctx, `document.getElementById('payments').textContent === '8,200'`)
	wait(t, ctx, `document.getElementById('paid').textContent === '410' && document.getElementById('paid-frac').textContent === '.000'`)
	h.Publish(pretend(10.01))
	wait(t, ctx, `document.getElementById('payments').textContent === '8,208'`)
	wait(t, ctx, `document.querySelectorAll('.coin').length > 0`)
	wait(t, ctx, `document.querySelector('[data-do=reorg]').hidden`)

	must(t, ctx, chromedp.Click(chromedp.CSS("[data-do=link]")))
	wait(t, ctx, `document.querySelector('[data-do=link]').getAttribute('aria-busy') === 'false'`)
	if cuts.Load() != 1 {
		t.Fatalf("the link was cut %d times", cuts.Load())
	}
	now.Link, now.RatePerS = Down, 0
	h.Publish(now)
	wait(t, ctx, `document.getElementById('status').textContent.startsWith('Link down: the seller waits, nothing is lost')`)
	wait(t, ctx, `document.getElementById('link-label').textContent === 'Restore the link'`)
	must(t, ctx, chromedp.Click(chromedp.CSS("[data-do=mine]")))
	wait(t, ctx, `document.getElementById('toast').textContent === 'the miner is asleep'`)

	// The toggle wins over the system, by keyboard too.
	wait(t, ctx, `matchMedia('(prefers-color-scheme: dark)').matches || getComputedStyle(document.body).backgroundColor === 'rgb(243, 239, 230)'`)
	must(t, ctx, chromedp.Focus(chromedp.CSS("#theme")), chromedp.KeyEvent("\r"))
	wait(t, ctx, `getComputedStyle(document.body).backgroundColor === 'rgb(15, 20, 18)'`)

	h.Publish(settled())
	wait(t, ctx, `!document.getElementById('settlement').hidden && document.getElementById('stamp').textContent.startsWith('✓')`)
	wait(t, ctx, `document.querySelector('[data-do=link]').disabled`)
	h.Close()
	wait(t, ctx, `document.getElementById('status').textContent.startsWith('The demo has ended')`)
}

// TestPictures draws the page into the folder that PAGE_PICTURES names, for a
// person to look at.
func TestPictures(t *testing.T) {
	dir := os.Getenv("PAGE_PICTURES")
	if dir == "" {
		t.Skip("set PAGE_PICTURES to a folder to draw the page into it")
	}
	ctx := browse(t)
	killed := pretend(58)
	killed.Link, killed.RatePerS = Down, 0
	killed.Seller.State, killed.Seller.Kills = Killed, 2
	unlinked := pretend(58)
	unlinked.Link, unlinked.RatePerS = Down, 0
	opening := State{Scenario: "charger", Rail: "payword", Phase: Opening, ElapsedS: 0.4, Unit: "Wh", Source: "a simulated meter", PriceMsat: 1500, CapacityMsat: 10_000_000, LeftMsat: 10_000_000, Link: Up,
		Buyer: Machine{Name: "Car", State: Running, NodeKey: "02a4c19e7781d5b60eee0f7c1d", OnchainSat: 5_000_000}, Seller: Machine{Name: "Charger", State: Running, NodeKey: "03ee5f1a90bb1277c4d8ab3344"}, Chain: Chain{Height: 101}}
	killedRouter := routed(57)
	killedRouter.Link, killedRouter.RatePerS = Down, 0
	killedRouter.Route.Router.State, killedRouter.Route.Router.Kills = Killed, 1
	cheating := punished(57)
	cheating.Route.Cheat.PenaltyTxid, cheating.Route.Far.Usable, cheating.RatePerS = "", false, 0
	routedOpening := routed(0.4)
	routedOpening.Phase, routedOpening.RatePerS, routedOpening.Payments, routedOpening.Readings, routedOpening.Events = Opening, 0, 0, nil, nil
	routedOpening.Route.Near, routedOpening.Route.Far, routedOpening.Route.Liquidity, routedOpening.Chain.FundingTxid = Channel{}, Channel{}, "", ""
	for _, p := range []struct {
		name          string
		width, height int64
		scheme        string
		state         State
	}{
		{"light", 1280, 1480, "light", pretend(57)},
		{"dark", 1280, 900, "dark", pretend(57.5)},
		{"phone", 375, 812, "light", pretend(57.6)},
		{"phone-dark-cut", 375, 812, "dark", unlinked},
		{"tablet", 800, 1000, "light", pretend(57.7)},
		{"cut", 1280, 900, "light", unlinked},
		{"killed", 1280, 900, "dark", killed},
		{"settled", 1280, 900, "light", settled()},
		{"settled-dark", 1280, 900, "dark", settled()},
		{"settled-phone", 375, 812, "dark", settled()},
		{"opening", 1280, 900, "light", opening},
		{"lightning", 1280, 900, "light", routed(57)},
		{"lightning-dark", 1280, 900, "dark", routed(57)},
		{"lightning-tablet", 800, 1000, "light", routed(57)},
		{"lightning-phone", 375, 812, "light", routed(57)},
		{"lightning-killed", 1280, 900, "light", killedRouter},
		{"lightning-cheat", 1280, 900, "light", cheating},
		{"lightning-punished", 1280, 900, "dark", punished(57)},
		{"lightning-punished-phone", 375, 812, "dark", punished(57)},
		{"lightning-settled", 1280, 900, "light", routedEnd(punished(57))},
		{"lightning-settled-phone", 375, 812, "dark", routedEnd(routed(57))},
		{"lightning-opening", 1280, 900, "light", routedOpening},
		{"bitcoin", 1280, 900, "light", kept(57)},
		{"bitcoin-dark-lies", 1280, 900, "dark", liedTo(57)},
		{"bitcoin-phone-lies", 375, 812, "light", liedTo(57)},
		{"bitcoin-tablet-full", 800, 1000, "light", full(57)},
		{"bitcoin-settled", 1280, 900, "light", keptEnd(liedTo(57))},
		{"bitcoin-settled-phone", 375, 812, "dark", keptEnd(kept(57))},
		{"bitcoin-opening", 1280, 900, "light", keptOpening()},
		{"nano", 1280, 900, "light", latticed(57)},
		{"nano-dark-fork", 1280, 900, "dark", forked(57, false)},
		{"nano-forked", 1280, 900, "light", forked(57, true)},
		{"nano-killed", 1280, 900, "light", nodeKilled(latticed(57))},
		{"nano-split-dark", 1280, 900, "dark", partitioned(latticed(57))},
		{"nano-phone", 375, 812, "light", forked(57, true)},
		{"nano-tablet", 800, 1000, "dark", latticed(57)},
		{"nano-opening", 1280, 900, "light", ledgerOpening(latticed(0.4))},
		{"nano-settled", 1280, 900, "light", ledgerEnd(forked(57, true))},
		{"nano-settled-phone", 375, 812, "dark", ledgerEnd(latticed(57))},
		{"iota", 1280, 900, "light", tangled(57)},
		{"iota-dark-conflict", 1280, 900, "dark", conflicted(57)},
		{"iota-silent", 1280, 900, "light", silenced(tangled(57))},
		{"iota-phone", 375, 812, "dark", conflicted(57)},
		{"iota-opening", 1280, 900, "dark", ledgerOpening(tangled(0.4))},
	} {
		if only := os.Getenv("PAGE_PICTURES_OF"); !strings.HasPrefix(p.name, only) {
			continue
		}
		scheme := chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: p.scheme}}})
			return err
		})
		h := NewHub()
		server := serve(t, h, map[string]func(context.Context) error{"link": nil, "kill-buyer": nil, "kill-seller": nil, "mine": nil, "reorg": nil})
		if p.state.Route != nil {
			server = serve(t, h, map[string]func(context.Context) error{"link": nil, "kill-buyer": nil, "kill-router": nil, "kill-seller": nil, "mine": nil, "reorg": nil, "cheat": nil})
		}
		if p.state.Network != nil {
			server = serve(t, h, map[string]func(context.Context) error{"link": nil, "kill-buyer": nil, "kill-seller": nil, "kill-node": nil, "double": nil, "split": nil})
		}
		if p.state.Tangle != nil {
			server = serve(t, h, map[string]func(context.Context) error{"link": nil, "kill-buyer": nil, "kill-seller": nil, "kill-node": nil, "double": nil, "split": nil, "silence": nil})
		}
		if p.state.Custody != nil {
			server = serve(t, h, map[string]func(context.Context) error{"link": nil, "kill-buyer": nil, "kill-gateway": nil, "kill-seller": nil, "lie": nil, "slow": nil, "mine": nil, "reorg": nil})
		}
		for s := 0.25; s < p.state.ElapsedS-1; s += 0.25 {
			then := pretend(s)
			if p.state.Custody != nil {
				then.RatePerS = min(1, s/10) + 0.1*math.Sin(s)
			}
			if p.state.Network != nil {
				then.RatePerS = 4 + 0.4*math.Sin(s)
			}
			h.Publish(then)
		}
		h.Publish(p.state)
		must(t, ctx, chromedp.EmulateViewport(p.width, p.height), scheme, chromedp.Navigate(server.URL))
		for range 10 { // until the coins have reached the other side
			h.Publish(p.state)
			must(t, ctx, chromedp.Sleep(250*time.Millisecond))
		}
		wide, err := chromedp.Run(ctx, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`))
		if err != nil || wide > p.width {
			t.Errorf("%s: %d px wide on a screen of %d: %v", p.name, wide, p.width, err)
		}
		png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, p.name+".png"), png, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
