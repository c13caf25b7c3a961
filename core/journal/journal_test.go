package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"coinop.dev/core/journal"
	"coinop.dev/core/step"
	"coinop.dev/world/store/mem"
)

// disk is a journal and the store under it. Lazy records wait, as they do in a
// drive.Writer, until one that is not comes.
type disk struct {
	t    *testing.T
	db   *mem.DB
	lazy []step.Record
	j    *journal.Journal
}

func start(t *testing.T) *disk {
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{t: t, db: db}
	d.load()
	return d
}

func (d *disk) load() {
	d.t.Helper()
	j, err := journal.Load(d.db)
	if err != nil {
		d.t.Fatal(err)
	}
	d.j = j
}

func (d *disk) step(at step.Time, events ...any) []step.Outcome {
	d.t.Helper()
	fx := d.j.Step(step.Input{At: at, Events: events})
	d.lazy = append(d.lazy, fx.Put...)
	for _, r := range fx.Put {
		if !r.Lazy {
			d.flush()
			break
		}
	}
	return fx.Done
}

func (d *disk) flush() {
	d.t.Helper()
	if err := d.db.Commit(d.lazy); err != nil {
		d.t.Fatal(err)
	}
	d.lazy = nil
}

func sold(n int) step.Recv {
	return step.Recv{From: "earn", Msg: journal.Note{Type: journal.OrderPaid, Subject: fmt.Sprint(n), Data: []byte(`{}`)}}
}

func TestEventsAreNumberedAndWaitForTheBooks(t *testing.T) {
	d := start(t)
	done := d.step(7, sold(1), journal.Note{Type: journal.PriceChanged, Subject: "water"}, sold(2))
	for i, o := range done {
		if e := o.Value.(journal.Event); o.ID != journal.Heard || e.N != uint64(i+1) || e.At != 7 {
			t.Errorf("outcome %d is %+v", i, o)
		}
	}
	if got := d.j.Since(1, 10); len(got) != 2 || got[0].Subject != "water" || got[1].N != 3 {
		t.Errorf("after event 1: %+v", got)
	}
	if got := d.j.Since(0, 2); len(got) != 2 || got[1].N != 2 {
		t.Errorf("the first two: %+v", got)
	}
	d.step(8, journal.Trim{UpTo: 2}, journal.Trim{UpTo: 1}, journal.Trim{UpTo: 99})
	if got := d.j.Since(0, 10); len(got) != 1 || got[0].N != 3 {
		t.Errorf("after trimming 2: %+v", got)
	}
	if got := d.j.Since(99, 10); len(got) != 0 {
		t.Errorf("after event 99: %+v", got)
	}
}

func TestNumbersGoOnAfterAllWasTrimmedAndTheMachineStartedAgain(t *testing.T) {
	d := start(t)
	d.step(1, sold(1), sold(2))
	d.step(2, journal.Trim{UpTo: 2})
	d.flush()
	d.load()
	if done := d.step(3, sold(3)); done[0].Value.(journal.Event).N != 3 {
		t.Errorf("the event after 2 is %+v", done[0])
	}
}

func TestACrashBeforeTheTrimIsWrittenTellsTheBooksAgain(t *testing.T) {
	d := start(t)
	d.step(1, sold(1), sold(2))
	d.step(2, journal.Trim{UpTo: 2})
	d.lazy = nil
	d.load()
	if got := d.j.Since(0, 10); len(got) != 2 {
		t.Errorf("%d events are there, want the 2 again", len(got))
	}
}

func TestAFullJournalTakesMoneyAndNothingElse(t *testing.T) {
	d := start(t)
	many := make([]any, journal.MaxKept)
	for i := range many {
		many[i] = sold(i)
	}
	d.step(1, many...)
	if !d.j.Full() {
		t.Fatalf("%d events and not full", journal.MaxKept)
	}
	done := d.step(2, journal.Note{Type: journal.DeviceSeen, Subject: "pump"}, sold(1))
	if !errors.Is(done[0].Err, journal.ErrFull) || done[1].Err != nil {
		t.Errorf("a device is seen: %v; an order is paid: %v", done[0].Err, done[1].Err)
	}
	if d.step(3, journal.Trim{UpTo: 10}); d.j.Full() {
		t.Error("still full after trimming")
	}
}

func TestWhatIsTooLongIsLeftOutAndSaidSo(t *testing.T) {
	d := start(t)
	note := journal.Note{Type: journal.OrderPaid, Subject: "s", Data: bytes.Repeat([]byte{'9'}, journal.MaxData+1)}
	done := d.step(1, note)
	if e := done[0].Value.(journal.Event); !errors.Is(done[0].Err, journal.ErrTooLong) || e.Data != nil || e.Subject != "s" {
		t.Errorf("%+v", done[0])
	}
	d.load() // it can be read back
}

// TestDiskIsMemory is rule 3 of package step, at random and after every step.
func TestDiskIsMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	d := start(t)
	for i := range 400 {
		var events []any
		for range rng.IntN(5) {
			switch rng.IntN(3) {
			case 0:
				events = append(events, journal.Trim{UpTo: d.j.Last() - min(d.j.Last(), rng.Uint64N(4)) + rng.Uint64N(2)})
			case 1:
				events = append(events, sold(i))
			default:
				events = append(events, journal.Note{Type: journal.DeviceSeen, Subject: "pump", Data: bytes.Repeat([]byte{'1'}, rng.IntN(50))})
			}
		}
		d.step(step.Time(i), events...)
		d.flush()
		again, err := journal.Load(d.db)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again.Durable(), d.j.Durable()) || again.Last() != d.j.Last() || again.Full() != d.j.Full() {
			t.Fatalf("step %d: loaded %d..%d, in memory %d..%d", i, len(again.Durable()), again.Last(), len(d.j.Durable()), d.j.Last())
		}
		onDisk := 0
		d.db.Scan("journal/", func(string, []byte) bool { onDisk++; return true })
		if onDisk != len(d.j.Durable()) {
			t.Fatalf("step %d: %d records on disk, want %d", i, onDisk, len(d.j.Durable()))
		}
	}
}

func TestADamagedStoreIsNotRead(t *testing.T) {
	d := start(t)
	d.step(1, sold(1), sold(2), sold(3))
	gap := "journal/\x00\x00\x00\x00\x00\x00\x00\x02"
	for name, bad := range map[string]step.Record{
		"a gap":         {Key: gap},
		"a short event": {Key: gap, Value: []byte{1}},
		"a strange key": {Key: "journal/x", Value: []byte{1}},
	} {
		db, _ := mem.New(nil)
		db.Commit(append(d.j.Durable(), bad))
		if _, err := journal.Load(db); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

// FuzzLoad reads any bytes as an event, and writes what it could read as it was.
func FuzzLoad(f *testing.F) {
	const first = "journal/\x00\x00\x00\x00\x00\x00\x00\x01"
	j := &journal.Journal{}
	j.Step(step.Input{At: 300, Events: []any{sold(1)}})
	f.Add(j.Durable()[0].Value)
	f.Fuzz(func(t *testing.T, value []byte) {
		db, _ := mem.New(nil)
		db.Commit([]step.Record{{Key: first, Value: append([]byte{}, value...)}})
		if j, err := journal.Load(db); err == nil && !bytes.Equal(j.Durable()[0].Value, value) {
			t.Errorf("%x was read and written as %x", value, j.Durable()[0].Value)
		}
	})
}
