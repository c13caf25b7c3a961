package books_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/world/books"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/mem"
	"coinop.dev/world/store/postgres/pgtest"
)

// host runs a machine that has a journal and nothing else.
func host(t *testing.T) *drive.Host {
	t.Helper()
	db, err := mem.New(nil)
	must(t, err)
	j, err := journal.Load(db)
	must(t, err)
	h := drive.NewHost(db, func() step.Time { return noon })
	running, stop := context.WithCancel(ctx)
	go h.Run(running)
	t.Cleanup(stop)
	must(t, h.Add(ctx, journal.Name, j))
	return h
}

func note(t *testing.T, h *drive.Host, n int) {
	t.Helper()
	e := (&tape{}).order(noon, sale(n, "paid"))
	must(t, h.Tell(ctx, journal.Name, journal.Note{Type: e.Type, Subject: e.Subject, Data: e.Data}))
}

// waiting is how many events the journal has not been rid of.
func waiting(t *testing.T, h *drive.Host) (n int) {
	t.Helper()
	must(t, h.Do(ctx, func(m *drive.Machine) { n = len(m.Core(journal.Name).(*journal.Journal).Since(0, journal.MaxKept)) }))
	return n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in 10 s: " + what)
		}
	}
}

func TestTheBooksFollowTheMachine(t *testing.T) {
	t.Parallel()
	b, h := open(t, "sqlite://"+filepath.Join(t.TempDir(), "books.db"), "gate"), host(t)
	note(t, h, 1) // before anybody follows
	following, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- b.Follow(following, h, func(err error) { t.Error(err) }) }()
	must(t, b.Await(ctx, 0))
	for n := range 200 {
		note(t, h, n)
	}
	must(t, b.Await(ctx, 200))
	eventually(t, "the journal is trimmed", func() bool { return waiting(t, h) == 0 })
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	note(t, h, 1000)
	go b.Follow(ctx, h, nil) // goes on where it was
	must(t, b.Await(ctx, 201))
	if page, _, err := b.Orders(ctx, books.Filter{Limit: 500}); err != nil || len(page) != 201 {
		t.Errorf("%d orders, %v", len(page), err)
	}
}

func TestTheJournalWaitsWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	proxy := pgtest.NewProxy(t, pgtest.Start(t))
	b, h := open(t, proxy.URI, "gate"), host(t)
	proxy.Cut()
	told := make(chan error, 100)
	following, stop := context.WithCancel(ctx)
	defer stop()
	go b.Follow(following, h, func(err error) { told <- err })
	for n := range 50 {
		note(t, h, n)
	}
	if err := <-told; err == nil {
		t.Error("no fault was told of")
	}
	eventually(t, "50 events wait", func() bool { return waiting(t, h) == 50 })
	proxy.Mend()
	eventually(t, "all is filed", func() bool { return waiting(t, h) == 0 })
	eventually(t, "and told of", func() bool { return <-told == nil })
	wantTotals(t, b, books.Totals{Orders: 50, Earned: 250_000})
}

// TestCutsLoseNothingAndFileNothingTwice cuts the network at random moments,
// also between a commit and its answer.
func TestCutsLoseNothingAndFileNothingTwice(t *testing.T) {
	t.Parallel()
	events := often(150, 600)
	proxy := pgtest.NewProxy(t, pgtest.Start(t))
	b, h := open(t, proxy.URI, "gate"), host(t)
	following, stop := context.WithCancel(ctx)
	defer stop()
	go b.Follow(following, h, nil)
	for n := range events {
		note(t, h, n)
		if n%2 == 0 {
			time.Sleep(time.Millisecond)
		}
		switch n % 60 {
		case 30:
			proxy.Cut()
		case 45:
			proxy.Mend()
		}
	}
	proxy.Mend()
	eventually(t, "all is filed", func() bool {
		n, err := b.Cursor(ctx)
		return err == nil && n == uint64(events) && waiting(t, h) == 0
	})
	wantTotals(t, b, books.Totals{Orders: int64(events), Earned: money.Amount(5000 * events)})
	if list, _, err := b.Events(ctx, 0, 500, nil); err != nil || len(list) != min(events, 500) {
		t.Errorf("%d events, %v", len(list), err)
	}
}

func TestASilentDatabaseIsGivenUp(t *testing.T) {
	t.Parallel()
	proxy := pgtest.NewProxy(t, pgtest.Start(t))
	b := open(t, proxy.URI, "gate")
	proxy.Mute()
	soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if granted, err := b.Lease(soon, "pump", noon, 100, 10, "gate"); !errors.Is(err, context.DeadlineExceeded) || granted != 0 {
		t.Errorf("%d were leased from nobody, %v", granted, err)
	}
	proxy.Mend()
}

func TestAMachineThatBeganAnewIsNotFollowed(t *testing.T) {
	t.Parallel()
	b, j := open(t, "sqlite://"+filepath.Join(t.TempDir(), "books.db"), "gate"), &tape{}
	for n := range 5 {
		apply(t, b, j.order(noon, sale(n, "paid")))
	}
	h := host(t)
	note(t, h, 9)
	if err := b.Follow(ctx, h, nil); !errors.Is(err, books.ErrOtherJournal) {
		t.Error(err)
	}
}
