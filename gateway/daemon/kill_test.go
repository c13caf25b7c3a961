package daemon_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/gateway"
	"coinop.dev/world/books"
)

var killSeed = flag.Uint64("killseed", 1, "when TestKill kills")

// vending is what the tap sells, with time enough to come back after a kill.
func vending(addr string) string {
	within := "within = \"60s\"\n"
	return "[mqtt]\nlisten = \"" + addr + "\"\n" + shelf +
		"[[sell]]\nitem = \"water\"\nunit = \"cup\"\nprice = \"3 sat\"\nfrom = \"device:tap\"\n" + within +
		"[[sell]]\nitem = \"jam\"\nunit = \"jar\"\nprice = \"2 sat\"\nfrom = \"device:tap\"\n" + within
}

// A gateway is killed with SIGKILL at random moments while it sells over HTTP and
// commands a device over MQTT. Each customer asks again until it is answered. In
// the end every order that was paid was delivered once or given back once, and
// what the machine counts, what the books have and what the event stream says are
// the same.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"bbolt", "pebble"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			addr := freeAddr(t)
			p := newProcess(t, "shop", fmt.Sprintf("store = \"%s://%s\"\n", store, filepath.Join(t.TempDir(), "db"))+purse, vending(addr)).start()
			tap := newTap(p, "tap", addr, false)
			s := &sales{p: p, stop: make(chan struct{})}
			var customers sync.WaitGroup
			for _, service := range []string{"tea", "water", "water", "jam"} {
				customers.Go(func() { s.customer(service) })
			}
			random := rand.New(rand.NewPCG(*killSeed, uint64(len(store))))
			kills := often(16, 300)
			for n := range kills {
				time.Sleep(time.Duration(random.Int64N(int64(150 * time.Millisecond))))
				p.kill()
				if n%4 == 3 { // once more, before it is ready
					time.AfterFunc(time.Duration(random.Int64N(int64(60*time.Millisecond))), func() { p.killStarting() })
					if p.try() != nil {
						p.start()
					}
					continue
				}
				p.start()
			}
			time.Sleep(50 * time.Millisecond)
			close(s.stop)
			customers.Wait()
			s.reckon(tap, store)
			t.Logf("%d kills, %d orders", kills, len(s.orders))
		})
	}
}

// offered is what was paid for.
type offered = gateway.Offer

// sales are what customers have paid for.
type sales struct {
	p    *process
	stop chan struct{}

	mu     sync.Mutex
	orders map[money.OrderID]offered
}

// again asks until the gateway answers. It does not answer while it is dead, nor
// when it has been killed in the middle; and a payment can be pending.
func again(what string, p *process, f func() error) bool {
	var no *refusal
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		err := f()
		switch {
		case err == nil:
			return true
		case errors.As(err, &no) && no.Status != http.StatusAccepted && no.Status != http.StatusServiceUnavailable && no.Status != http.StatusPaymentRequired:
			p.t.Errorf("%s: %v", what, err)
			return false
		}
	}
	p.t.Errorf("%s: not for a minute", what)
	return false
}

// customer buys, one after another.
func (s *sales) customer(service string) {
	p := s.p
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		var o gateway.Offer
		var r money.Receipt
		ok := again("quote", p, func() (err error) { o, err = p.quote(service); return err }) &&
			again("pay", p, func() (err error) { r, err = p.pay(o); return err })
		if !ok {
			return
		}
		s.mu.Lock()
		if s.orders == nil {
			s.orders = map[money.OrderID]offered{}
		}
		s.orders[o.Order] = o
		s.mu.Unlock()
		if !again("claim", p, func() error { _, err := p.claim(o, r); return err }) {
			return
		}
	}
}

// reckon compares everybody's sums.
func (s *sales) reckon(d *tap, store string) {
	t, p := s.p.t, s.p
	t.Helper()
	var paid, back money.Amount
	for id, o := range s.orders {
		order, err := p.order(id, "30s")
		if err != nil {
			t.Fatal(err)
		}
		paid += o.Due
		want, acts := "settled", 1
		switch o.Service {
		case "jam":
			want, acts = "refunded", 0
			back += o.Due
		case "tea":
			acts = 0
		}
		if order.State != want || order.Paid != o.Due || d != nil && d.acts(id) != acts {
			t.Errorf("order %v of %s is %s, %v paid, and the tap should have acted %d times: %s", id, o.Service, order.State, order.Paid, acts, order.Why)
		}
	}
	status := p.status()
	if status.Till.Orders != uint64(len(s.orders)) || status.Till.Earned != paid || status.Till.Back != back || status.Purse.Paid != paid || status.Till.Owed != 0 {
		t.Errorf("customers paid %v for %d orders and got %v back; the machine says %+v", paid, len(s.orders), back, status)
	}
	acts, _ := os.ReadFile(filepath.Join(p.dir, "acts"))
	for id, o := range s.orders {
		if o.Service == "tea" && !strings.Contains(string(acts), id.String()) {
			t.Errorf("order %v was delivered by nobody", id)
		}
	}
	s.compareBooks(status.Till)
	s.compareEvents()
}

// compareBooks compares the books with the machine.
func (s *sales) compareBooks(till earn.Summary) {
	t, p := s.p.t, s.p
	var totals struct{ Points []books.Point }
	within(t, 10*time.Second, "the books have all", func() bool {
		p.must("GET", "/v1/totals", nil, &totals)
		var orders int64
		var earned, back money.Amount
		for _, point := range totals.Points {
			orders, earned, back = orders+point.Orders, earned+point.Earned, back+point.Refunded
		}
		// In the books what was given back is not earned.
		return uint64(orders) == till.Orders && earned == till.Earned-till.Back && back == till.Back
	})
	within(t, 5*time.Second, "each order is in the books as it ended", func() bool {
		booked := s.booked()
		for id, o := range s.orders {
			if booked[id] != map[bool]string{true: "refunded", false: "settled"}[o.Service == "jam"] {
				return false
			}
		}
		return len(booked) == len(s.orders)
	})
}

// booked reads the states of all orders in the books.
func (s *sales) booked() map[money.OrderID]string {
	booked := map[money.OrderID]string{}
	for cursor := ""; ; {
		var page struct {
			Orders []books.Order
			Next   string
		}
		s.p.must("GET", "/v1/orders?limit=100&cursor="+cursor, nil, &page)
		for _, o := range page.Orders {
			if booked[o.ID] != "" {
				s.p.t.Errorf("order %v is in the books twice", o.ID)
			}
			booked[o.ID] = o.State
		}
		if cursor = page.Next; cursor == "" {
			return booked
		}
	}
}

// compareEvents reads the stream from its beginning.
func (s *sales) compareEvents() {
	t, p := s.p.t, s.p
	all := stream(p, 0)
	last, n, of := uint64(0), uint64(0), map[string]map[string]int{}
	for _, e := range all {
		if e.Seq != last+1 || e.N != n+1 {
			t.Fatalf("after event %d, %d of the gateway, comes %d, %d", last, n, e.Seq, e.N)
		}
		last, n = e.Seq, e.N
		if of[e.Subject] == nil {
			of[e.Subject] = map[string]int{}
		}
		of[e.Subject][e.Type]++
	}
	for id, o := range s.orders {
		want := []string{"order.paid", "order.delivered", "order.settled"}
		if o.Service == "jam" {
			want = []string{"order.paid", "order.failed", "order.refunded"}
		}
		for _, kind := range want {
			if of[id.String()][kind] != 1 {
				t.Errorf("events of %v: %v", id, of[id.String()])
			}
		}
	}
	t.Logf("%d events", len(all))
}

// stream reads all events after a number, until no more have come for a while.
func stream(p *process, after uint64) (all []books.Event) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), "GET", fmt.Sprintf("%s/v1/events?cursor=%d", p.at("http"), after), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.token)
	a, err := client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer a.Body.Close()
	const quiet = 300 * time.Millisecond
	end := time.AfterFunc(quiet, func() { a.Body.Close() })
	lines := bufio.NewScanner(a.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var e books.Event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				p.t.Fatal(err)
			}
			all = append(all, e)
			end.Reset(quiet)
		}
	}
	return all
}
