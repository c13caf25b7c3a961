package hooks_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/journal"
	"coinop.dev/core/step"
	"coinop.dev/gateway/hooks"
	"coinop.dev/world/books"
)

// victimBooks names, to a process that is to be killed, the books that it is to work.
const victimBooks = "COINOP_TEST_HOOKS"

// A gateway that is killed in the middle of a delivery leaves it to whoever works the
// books next, under the same name.
func TestKilled(t *testing.T) {
	t.Parallel()
	uri := "sqlite://" + filepath.Join(t.TempDir(), "books.sqlite")
	b, err := books.Open(t.Context(), uri, "corner")
	must(t, err)
	t.Cleanup(func() { b.Close() })
	here, killed := make(chan bool, 10), make(chan bool)
	var mu sync.Mutex
	var tries []string
	r := receive(t, func(_ http.ResponseWriter, req *http.Request, _ []byte) bool {
		mu.Lock()
		tries = append(tries, req.Header.Get(hooks.HeaderDelivery))
		mu.Unlock()
		here <- true
		<-killed
		return true
	})
	endpoint(t, b, "ops", r.URL)
	happen(t, b, 0, 1)
	victim := exec.Command(os.Args[0])
	victim.Env, victim.Stderr = append(os.Environ(), victimBooks+"="+uri), os.Stderr
	must(t, victim.Start())
	select {
	case <-here:
	case <-time.After(10 * time.Second):
		t.Error("the victim delivers nothing")
	}
	must(t, victim.Process.Kill())
	victim.Wait()
	close(killed)
	list, err := b.Deliveries(t.Context(), "ops", 0, 10)
	if err != nil || len(list) != 1 || list[0].State != "waiting" || list[0].Attempts != 0 {
		t.Errorf("after the kill: %+v, %v", list, err)
	}
	run(t, b, quick)
	done(t, b, "ops", 1)
	mu.Lock()
	defer mu.Unlock()
	if len(tries) < 2 || slices.ContainsFunc(tries, func(id string) bool { return id != "ops-1" }) {
		t.Errorf("the receiver saw %q, want ops-1 at least twice", tries)
	}
}

// done waits until n deliveries to an endpoint are filed as done.
func done(t *testing.T, b *books.Books, endpoint string, n int) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		list, err := b.Deliveries(t.Context(), endpoint, 0, 500)
		must(t, err)
		have := 0
		for _, d := range list {
			if d.State == "done" {
				have++
			}
		}
		if have == n {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d of %d are filed as done", have, n)
		}
	}
}

// While nobody delivers, much happens that an endpoint does not want, for longer than
// anything is tried again. It then gets what it wants, in its order, and no more.
func TestTypesAcrossAGap(t *testing.T) {
	t.Parallel()
	b := openBooks(t)
	var mu sync.Mutex
	var came []uint64
	r := receive(t, func(_ http.ResponseWriter, _ *http.Request, raw []byte) bool {
		var e books.Event
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		came = append(came, e.N)
		return true
	})
	want := func(types ...string) {
		t.Helper()
		must(t, b.PutEndpoint(t.Context(), books.Endpoint{ID: "ops", URL: r.URL, Secret: secret, Types: types}))
	}
	n, weeks := uint64(0), now()-30*step.Day
	file := func(kinds ...string) {
		t.Helper()
		var list []journal.Event
		for _, kind := range kinds {
			n, weeks = n+1, weeks+step.Minute
			list = append(list, journal.Event{N: n, At: weeks, Type: kind, Subject: "s"})
		}
		_, err := b.Apply(t.Context(), list)
		must(t, err)
	}
	want(journal.DeviceFault, "order.")
	file(journal.DeviceFault, journal.OrderPaid, "orders.other", journal.DeviceSeen) // 1 and 2 are wanted
	noise := slices.Repeat([]string{journal.DeviceSeen, journal.PriceChanged}, 400)
	file(noise...)
	n += 5000 // the books were away, and the journal went on: that is an event too
	file(journal.OrderSettled)
	want(books.Gap, journal.PaymentFailed) // from now on
	n += 10
	file(journal.OrderPaid, journal.PaymentFailed)
	if *long {
		for range 50 {
			file(noise...)
		}
	}
	o := quick
	o.Concurrency = 1
	run(t, b, o)
	wanted := []uint64{1, 2, 5805, 5815, 5817}
	done(t, b, "ops", len(wanted))
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(came, wanted) {
		t.Errorf("events %d came, want %d", came, wanted)
	}
}
