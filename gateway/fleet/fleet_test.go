package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "coinop.dev/core/fleet"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/macaroon"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/gateway/fleet"
	"coinop.dev/world/books"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/mem"
)

func secret(name string) keys.Secret {
	k, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name+"."), 32)))
	if err != nil {
		panic(err)
	}
	return k
}

type gateway struct {
	*fleet.Fleet
	host *drive.Host
}

// open starts a gateway that ends with the test.
func open(t *testing.T, number int, shared bool) gateway {
	t.Helper()
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	host := drive.NewHost(db, func() step.Time { return step.Time(time.Now().UnixMilli()) })
	ctx, stop := context.WithCancel(context.Background())
	go host.Run(ctx)
	t.Cleanup(func() { stop(); <-host.Stopped() })
	if err := host.Add(ctx, journal.Name, &journal.Journal{}); err != nil {
		t.Fatal(err)
	}
	c := core.Config{Root: secret("root"), Node: secret(fmt.Sprint("node", number)), Number: number, Shared: shared}
	f, err := fleet.Open(ctx, host, db, fleet.Options{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	return gateway{f, host}
}

func ctx(t *testing.T) context.Context {
	c, stop := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(stop)
	return c
}

func TestWhoComesIn(t *testing.T) {
	t.Parallel()
	g := open(t, 0, false)
	code, err := g.Invite(ctx(t), core.Profile{Name: "tap", Tenant: "bar"}, false, step.Hour)
	if err != nil {
		t.Fatal(err)
	}
	card, err := g.Claim(ctx(t), code, keys.Public{})
	if err != nil || card.Tenant != "bar" {
		t.Fatalf("%+v, %v", card.Profile, err)
	}
	m, err := macaroon.Parse(card.Credential)
	if err != nil {
		t.Fatal(err)
	}
	lent, err := m.Narrow("max_payment_msat=5")
	if err != nil {
		t.Fatal(err)
	}
	old, err := m.Narrow("expires=1")
	if err != nil {
		t.Fatal(err)
	}
	for what, login := range map[string][2]string{
		"":           {"tap", card.Password},
		"credential": {"tap", card.Credential},
		"lent":       {"tap", lent.Text()},
	} {
		if p, err := g.Authenticate(login[0], login[1]); err != nil || p.Name != "tap" {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, login := range map[string][2]string{
		"no password":     {"tap", ""},
		"another name":    {"pump", card.Password},
		"the secret":      {"tap", card.Secret},
		"forged":          {"tap", "AgEB" + card.Credential[4:]},
		"one that is old": {"tap", old.Text()},
	} {
		if _, err := g.Authenticate(login[0], login[1]); err == nil {
			t.Errorf("%s is let in", what)
		}
	}
	if _, err := g.Revoke(ctx(t), "tap"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Authenticate("tap", card.Password); !errors.Is(err, fleet.ErrLogin) {
		t.Errorf("revoked: %v", err)
	}
}

func TestFiveHundredRows(t *testing.T) {
	t.Parallel()
	g := open(t, 0, false)
	var b strings.Builder
	b.WriteString("\ufeffname,tenant,budget_msat,budget_renewal,tags,key\n")
	for i := range 500 {
		fmt.Fprintf(&b, "charger-%03d,city,5 sat,daily,street ac,%v\n", i, secret(fmt.Sprint(i)).Public())
	}
	good := b.String()
	rows := strings.Split(good, "\n")
	rows[7] = "Charger 7,city,5,daily,,"
	rows[9] = "charger-008,city,five,hourly,,"
	rows[11] = "charger-001,city,5,daily,,"
	rows[13] = "charger-012,city"
	rows[15] = "charger-014,,,,," + secret("3").Public().String()
	_, err := g.Import(ctx(t), strings.NewReader(strings.Join(rows, "\n")))
	var list *fleet.ImportError
	if !errors.As(err, &list) || money.KindOf(err) != money.Invalid {
		t.Fatalf("%v", err)
	}
	var got []string
	for _, bad := range list.Bad {
		got = append(got, fmt.Sprintf("%d:%d %s", bad.Line, bad.Column, bad.Field))
	}
	if want := "8:1 name|10:18 budget_msat|10:23 budget_renewal|12:1 name|14:1 |16:17 key"; strings.Join(got, "|") != want {
		t.Errorf("mistakes at %s; want %s\n%v", strings.Join(got, "|"), want, err)
	}
	if n, _ := g.Counts(ctx(t)); n.Devices != 0 {
		t.Errorf("%d devices of a bad list were added", n.Devices)
	}
	if n, err := g.Import(ctx(t), strings.NewReader(good)); n != 500 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := g.Import(ctx(t), strings.NewReader(good)); !errors.As(err, &list) || len(list.Bad) != fleet.MaxBad || list.More < 400 {
		t.Errorf("again: %.200v", err)
	}
	d, err := g.Show(ctx(t), "charger-042")
	if err != nil || d.Limits.Total != 5*money.Sat || len(d.Tags) != 2 || d.Key != secret("42").Public() {
		t.Errorf("%+v, %v", d, err)
	}
	var out bytes.Buffer
	if err := g.Export(&out); err != nil {
		t.Fatal(err)
	}
	other := open(t, 0, false)
	if n, err := other.Import(ctx(t), &out); n != 500 || err != nil {
		t.Errorf("what is exported is imported: %d, %v", n, err)
	}
	for _, text := range []string{"", "name,colour\na,b\n", "name,name\n", "tenant\nx\n", "name\n\"a"} {
		if _, err := g.Import(ctx(t), strings.NewReader(text)); money.KindOf(err) != money.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// cut is a ledger whose line can be cut.
type cut struct {
	*books.Books
	off *atomic.Bool
}

var errCut = errors.New("the line is cut")

func (c cut) Leased(ctx context.Context, device string, window step.Time, gateway string) (money.Amount, error) {
	if c.off.Load() {
		return 0, errCut
	}
	return c.Books.Leased(ctx, device, window, gateway)
}

func (c cut) Devices(ctx context.Context, after uint64) ([]books.Device, error) {
	if c.off.Load() {
		return nil, errCut
	}
	return c.Books.Devices(ctx, after)
}

func spent(t *testing.T, g gateway, n, amount int) error {
	s := core.Spend{Device: "tap", ID: money.OrderID{byte(n >> 8), byte(n)}, Amount: money.Amount(amount), To: "x://shop"}
	_, err := g.host.Ask(ctx(t), core.Name, core.SpendID("tap", s.ID), s)
	return err
}

// Two gateways, one of them cut off from the books in the middle.
func TestTwoGatewaysOneFleet(t *testing.T) {
	t.Parallel()
	ledger, err := books.Open(ctx(t), "sqlite://"+filepath.Join(t.TempDir(), "books"), "shared")
	if err != nil {
		t.Fatal(err)
	}
	life, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { stop(); running.Wait(); ledger.Close() })
	var off atomic.Bool
	a, b := open(t, 0, true), open(t, 1, true)
	daily, err := spend.ParsePeriod("daily")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Add(ctx(t), core.Profile{Name: "tap", Limits: core.Limits{Total: 1000, Period: daily}}); err != nil {
		t.Fatal(err)
	}
	running.Go(func() { a.Share(life, ledger, "a") })
	running.Go(func() { b.Share(life, cut{ledger, &off}, "b") })
	eventually(t, "the device is at the other gateway", func() bool { _, ok := b.Device("tap"); return ok })

	total := 0
	for n := range 10 { // both take slices
		for i, g := range []gateway{a, b} {
			if err := spent(t, g, 2*n+i, 13); err != nil {
				t.Fatal(err)
			}
			total += 13
		}
	}
	off.Store(true)
	alone := 0
	for n := range 20 {
		err := spent(t, b, 100+n, 20)
		if err != nil {
			var r *spend.Refusal
			if !errors.As(err, &r) || r.Limit != "total" || r.Renews == 0 {
				t.Errorf("cut off: %v", err)
			}
			break
		}
		total, alone = total+20, alone+20
	}
	if alone > 200 {
		t.Errorf("cut off it spends %d msat more", alone)
	}
	for n := range 100 {
		if spent(t, a, 200+n, 10) != nil {
			break
		}
		total += 10
	}
	if total > 1000 || total < 700 {
		t.Errorf("%d of 1000 msat are spent", total)
	}
	if _, err := a.Revoke(ctx(t), "tap"); err != nil {
		t.Fatal(err)
	}
	off.Store(false)
	eventually(t, "it is revoked at the other gateway", func() bool { _, ok := b.Device("tap"); return !ok })
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 10 s not: %s", what)
		}
	}
}
