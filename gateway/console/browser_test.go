package console_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	corefleet "coinop.dev/core/fleet"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/world/books"
)

// tab is a page in a headless Chromium.
type tab struct {
	t   *testing.T
	ctx context.Context
	url string
}

// browse opens a tab, or skips the test. What the pages complain about (errors, a
// broken policy) fails the test at its end.
func browse(t *testing.T, url string) *tab {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium in PATH: the console is not tried in a browser (Debian: apt-get install chromium)")
	}
	// Not t.TempDir: Chromium's children may write for a moment after its end.
	profile, err := os.MkdirTemp("", "coinop-console-")
	must(t, err)
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
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
			if (m.IsException() || m.Type == "error" || m.Type == "warning") && !strings.HasSuffix(m.URL, "/none") {
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
	return &tab{t, ctx, url}
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) goTo(path string) { b.t.Helper(); b.do(chromedp.Navigate(b.url + path)) }

// wait evaluates expression until it is true. (chromedp.Poll would need eval, which
// the pages' policy forbids.)
func (b *tab) wait(expression string) {
	b.t.Helper()
	for end := time.Now().Add(6 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression))
		if err == nil && ok {
			return
		}
		if time.Now().After(end) {
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`location.href + "\n" + (document.querySelector("main")?.innerText ?? "no page")`))
			b.t.Fatalf("never true: %s, %v\non %s", expression, err, text)
		}
	}
}

// says waits until the page has some words.
func (b *tab) says(words string) {
	b.t.Helper()
	b.wait(fmt.Sprintf(`document.querySelector("main").innerText.includes(%q)`, words))
}

// fill types into a field, over what was there.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.wait(fmt.Sprintf(`(e => { if (!e) return false; e.value = ""; e.focus(); return true })(document.querySelector(%q))`, selector))
	b.do(chromedp.KeyEvent(text))
}

// push pushes a button with the keyboard.
func (b *tab) push(selector string) {
	b.t.Helper()
	b.wait(fmt.Sprintf(`(e => { if (!e) return false; e.focus(); return document.activeElement === e })(document.querySelector(%q))`, selector))
	b.do(chromedp.KeyEvent("\r"))
}

func (b *tab) tick(selector string) {
	b.t.Helper()
	b.wait(fmt.Sprintf(`document.querySelector(%q) !== null`, selector))
	b.do(chromedp.Focus(chromedp.CSS(selector)), chromedp.KeyEvent(" "))
	b.wait(fmt.Sprintf(`document.querySelector(%q).checked`, selector))
}

// An operator's day, in a browser, by keyboard.
func TestInBrowser(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.fill()
	b := browse(t, w.url)

	// In by a link that is good once; the code does not stay in the address.
	b.goTo(w.console.LoginOnce("all"))
	b.wait(`location.pathname === "/console/" && location.hash === ""`)
	b.wait(`document.querySelectorAll("#plot canvas").length === 1`)

	// An order appears by itself, and the figures move.
	b.wait(`document.querySelector("#events")._htmx?.sse?.status === 200`)
	id := w.buy("coffee", 3, "http/192.0.2.44", "settled")
	b.wait(fmt.Sprintf(`document.getElementById("n-%v") !== null`, id))
	b.says("6.19 EUR")
	b.wait(`document.querySelector("#news").textContent.includes("changed")`)
	b.wait(`document.querySelectorAll("#plot canvas").length === 1`)
	b.goTo("/console/orders")
	b.wait(`document.querySelector("#events")._htmx?.sse?.status === 200`)
	for range 3 { // again and again
		next := w.buy("wash", 2, "http/192.0.2.44", "settled")
		b.wait(fmt.Sprintf(`document.querySelector("tbody tr").id === "o-%v"`, next))
	}

	// A price.
	b.goTo("/console/services/coffee")
	b.fill("#price", "1.50 EUR")
	b.push("form.grid button")
	b.says("A cup of coffee costs 1.50 EUR for each cup from now on.")
	if v, _ := w.shop.Service("coffee"); v.Fiat.Micro != 1_500_000 {
		t.Errorf("%+v", v)
	}

	// A test.
	acted := w.acted.Load()
	b.push("form.inline button")
	b.says("Fired. The books say that it was a test")
	b.says("Take your coffee")
	if w.acted.Load() != acted+1 {
		t.Errorf("the machine acted %d times", w.acted.Load()-acted)
	}

	// A refund, which wants to be confirmed.
	b.goTo("/console/orders/" + id.String())
	b.push(".danger button")
	b.wait(`document.querySelector(":invalid") !== null && location.pathname.includes("/orders/")`)
	b.tick("[name=sure]")
	b.push(".danger button")
	b.says("The money is credit now")
	w.filed(id, "refunded")

	// A device comes, and goes.
	b.goTo("/console/devices")
	b.fill("#name", "pump-7")
	b.fill("#budget", "900 sat")
	b.push("section form.grid button")
	b.says("Claim code for pump-7")
	b.wait(`document.querySelector("svg.qr path.ink").getAttribute("d").length > 500`)
	code, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.getElementById("code").textContent`))
	must(t, err)
	_, err = w.fleet.Claim(t.Context(), code, [33]byte{})
	must(t, err)
	b.goTo("/console/devices")
	b.says("pump-7")
	b.goTo("/console/devices/pump-7")
	b.wait(`document.querySelector("#events")._htmx?.sse?.status === 200`)
	w.fleet.Fault("pump-7", "no water in the tank")
	b.says("No water in the tank")
	b.tick("[name=sure]")
	b.push(".danger button")
	b.says("pump-7 is revoked")
	if _, in := w.fleet.Device("pump-7"); in {
		t.Error("the device is in service")
	}

	// A buyer with a phone.
	b.goTo("/pay/wash")
	b.says("40 sat")
	b.wait(`!document.querySelector("[data-step='1']").hidden`)
	b.push(`[data-step="1"]`)
	b.says("80 sat")
	b.push("#buy .main")
	b.says("Waiting for your payment.")
	uri, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.querySelector(".way code").textContent`))
	must(t, err)
	at, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`location.pathname.split("/").at(-1)`))
	must(t, err)
	var order money.OrderID
	must(t, order.UnmarshalText([]byte(at)))
	time.Sleep(600 * time.Millisecond) // the page waits by now
	w.pay(order, uri, 80*money.Sat)
	b.says("Delivered. Thank you.")
	b.says("Take your wash")

	b.goTo("/console/")
	b.push("header button")
	b.wait(`location.pathname === "/console/login"`)
	b.goTo("/console/orders")
	b.wait(`location.pathname === "/console/login"`)
}

var long = flag.Bool("long", false, "draw pages, and ask for those of a long past")

// TestPictures draws every page into the folder that COINOP_SCREENSHOTS names: in
// light and dark, on a desk and a phone, and the statement on paper; with -long alone
// only some of that, for the test's own sake. No page may be wider than its screen.
// With COINOP_AXE, the file axe.min.js of npm's axe-core, its rules are checked on
// each.
func TestPictures(t *testing.T) {
	if os.Getenv("COINOP_SCREENSHOTS") == "" && !*long {
		t.Skip("pictures take a while: COINOP_SCREENSHOTS=folder, or -long")
	}
	w := open(t)
	settled, credit, waiting := w.stage()
	b := browse(t, w.url)
	pages := []struct{ name, path string }{
		{"overview", ""}, {"overview-today", "?span=today"}, {"orders", "orders"}, {"order", "orders/" + settled.String()},
		{"order-credit", "orders/" + credit.String()}, {"services", "services"}, {"service", "services/coffee"},
		{"devices", "devices"}, {"device", "devices/charger-1"}, {"channels", "channels"}, {"sessions", "sessions"},
		{"webhooks", "webhooks"}, {"statement", "statement"}, {"missing", "none"},
		{"pay", "../pay/wash"}, {"pay-state", "../pay/wash/" + waiting.String()},
	}
	screens := []screen{
		{"phone-dark", 390, 844, "dark", "screen"}, {"desktop-light", 1280, 900, "light", "screen"},
		{"phone-light", 390, 844, "light", "screen"}, {"desktop-dark", 1280, 900, "dark", "screen"}, {"small-light", 360, 640, "light", "screen"},
	}
	dir := os.Getenv("COINOP_SCREENSHOTS")
	if dir == "" {
		dir, screens = t.TempDir(), screens[:1]
	}
	must(t, os.MkdirAll(dir, 0o755))
	axe, _ := os.ReadFile(os.Getenv("COINOP_AXE"))
	for _, s := range screens {
		b.draw(dir, "login", "/console/login", s, string(axe))
	}
	b.goTo(w.console.LoginOnce("all"))
	b.wait(`location.pathname === "/console/"`)
	for _, p := range pages {
		for _, s := range screens {
			b.draw(dir, p.name, "/console/"+p.path, s, string(axe))
		}
	}
	b.goTo("/console/devices")
	b.fill("#name", "pump-7")
	b.push("section form.grid button")
	b.says("Claim code for pump-7")
	for _, s := range screens {
		b.look(s)
		b.shoot(dir, "added", s, string(axe))
	}
	b.draw(dir, "statement", "/console/statement", screen{"paper", 800, 1100, "light", "print"}, "")
}

// screen is where a page is looked at.
type screen struct {
	name          string
	width, height int64
	scheme, media string
}

// draw writes the picture of a page.
func (b *tab) draw(dir, name, path string, s screen, axe string) {
	b.t.Helper()
	b.look(s)
	b.goTo(path)
	b.shoot(dir, name, s, axe)
}

// look changes what the page is looked at with.
func (b *tab) look(s screen) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(s.width, s.height), chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Media: s.media, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s.scheme}}})
		return err
	}))
}

// shoot writes the picture of the page as it is.
func (b *tab) shoot(dir, name string, s screen, axe string) {
	b.t.Helper()
	name += "-" + s.name
	wide, err := chromedp.Run(b.ctx, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`))
	if err != nil || wide > s.width {
		b.t.Errorf("%s: %d px wide on a screen of %d: %v", name, wide, s.width, err)
	}
	if axe != "" {
		b.check(name, axe)
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	must(b.t, err)
	must(b.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
}

// check fails the test with what axe finds wrong.
func (b *tab) check(name, axe string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](axe+"; true"))
		return err
	}))
	b.wait(`(window.found === undefined && (window.found = "", axe.run({resultTypes: ["violations"]}).then(r => { window.found = JSON.stringify(r.violations.map(v => v.id + ": " + v.nodes.slice(0, 3).map(n => n.target + " " + (n.any[0]?.message ?? "")).join(" | "))) })), window.found !== "")`)
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`window.found`))
	must(b.t, err)
	var found []string
	must(b.t, json.Unmarshal([]byte(text), &found))
	for _, f := range found {
		b.t.Errorf("%s: %s", name, f)
	}
}

// stage is a gateway in the middle of its life: a month of orders, devices in all
// states, faults, deliveries that fail.
func (w *world) stage() (settled, credit, waiting money.OrderID) {
	ctx := w.t.Context()
	w.past(600)
	for i, name := range []string{"charger-1", "charger-2", "coffee-hall", "sensor-roof", "wash-3"} {
		w.device(name, byte(i+1), money.Amount(2000*(i+1))*money.Sat)
	}
	w.fleet.Seen("charger-1", true, "2.4.1")
	w.fleet.Seen("coffee-hall", true, "1.0.9")
	w.fleet.Seen("sensor-roof", false, "0.8")
	w.fleet.Fault("coffee-hall", "the bean hopper is empty")
	_, err := w.host.Host.Ask(ctx, corefleet.Name, corefleet.SpendID("charger-1", money.OrderID{7}), corefleet.Spend{Device: "charger-1", ID: money.OrderID{7}, Amount: 180 * money.Sat, To: "fake://x"})
	if err != nil {
		w.t.Log(err)
	}
	_, err = w.fleet.Revoke(ctx, "wash-3")
	must(w.t, err)
	settled = w.buy("coffee", 2, "http/203.0.113.9", "settled")
	w.session("request", 25_000)
	w.buy("trial", 4, "http/203.0.113.9", "settled")
	credit = w.buy("wash", 12, "mqtt/hall-east", "settled")
	_, err = w.shop.Refund(ctx, credit, "")
	must(w.t, err)
	w.filed(credit, "refunded")
	must(w.t, w.books.PutEndpoint(ctx, books.Endpoint{ID: "shop", URL: "https://shop.example.org/hooks/coinop", Secret: "s", Types: []string{"order."}}))
	must(w.t, w.books.PutEndpoint(ctx, books.Endpoint{ID: "ops", URL: "https://ops.example.org/in", Secret: "s", At: 1 << 50}))
	test, err := w.shop.TestFire(ctx, "coffee", 1)
	must(w.t, err)
	w.filed(test.ID, "settled")
	w.buy("wash", 3, "http/198.51.100.30", "settled")
	now := w.host.Host.Now()
	var due []books.Due
	for _, endpoint := range []string{"ops", "shop"} {
		list, err := w.books.Claim(ctx, endpoint, now, now+step.Minute, 5)
		must(w.t, err)
		due = append(due, list...)
	}
	for i, d := range due {
		d.Status = 200
		if d.Endpoint == "shop" && i%3 == 1 {
			d.Status, d.Error = 503, "service unavailable"
		}
		next := step.Time(0)
		if i%2 == 0 {
			next = now + 90*step.Second
		}
		must(w.t, w.books.Delivered(ctx, d.Delivery, now, d.Status == 200, next))
	}
	b := w.browser()
	res, _ := b.post("/pay/wash", "units", "5")
	at := res.Header.Get("Location")
	must(w.t, waiting.UnmarshalText([]byte(at[strings.LastIndex(at, "/")+1:])))
	return settled, credit, waiting
}
