package drive_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// core is a core that is a function.
type core func(step.Input) step.Effects

func (c core) Step(in step.Input) step.Effects { return c(in) }

// echo answers every string with an outcome of that ID, after writing it.
func echo(in step.Input) (fx step.Effects) {
	for _, e := range in.Events {
		if text, ok := e.(string); ok {
			fx.Put = append(fx.Put, step.Record{Key: text, Value: []byte{1}})
			fx.Send = append(fx.Send, step.Packet{To: "out", Msg: text})
			fx.Done = append(fx.Done, step.Outcome{ID: text, Value: strings.ToUpper(text)})
		}
	}
	return fx
}

// disk remembers commits. It fails when told to, and waits when there is a gate.
type disk struct {
	mu      sync.Mutex
	commits [][]step.Record
	fail    error
	gate    chan chan struct{} // takes a commit's own gate
}

func (d *disk) Commit(r []step.Record) error {
	d.mu.Lock()
	fail, gate := d.fail, d.gate
	d.mu.Unlock()
	if gate != nil {
		pass := make(chan struct{})
		gate <- pass
		<-pass
	}
	if fail == nil {
		d.mu.Lock()
		d.commits = append(d.commits, r)
		d.mu.Unlock()
	}
	return fail
}

// house is a running host.
type house struct {
	t *testing.T
	*drive.Host
	disk *disk
	stop func()
	end  chan error
}

func newHouse(t *testing.T) *house {
	h := &house{t: t, disk: &disk{}, end: make(chan error, 1)}
	h.Host = drive.NewHost(h.disk, func() step.Time { return step.Time(time.Now().UnixMilli()) })
	return h
}

func (h *house) run() *house {
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	go func() { h.end <- h.Run(ctx) }()
	h.t.Cleanup(func() { stop(); <-h.Stopped() })
	return h
}

func (h *house) ctx() context.Context {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	h.t.Cleanup(stop)
	return ctx
}

func (h *house) add(name string, c core, listeners ...string) {
	h.t.Helper()
	if err := h.Add(h.ctx(), name, c, listeners...); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) ask(name, text string) {
	h.t.Helper()
	if v, err := h.Ask(h.ctx(), name, text, text); err != nil || v != strings.ToUpper(text) {
		h.t.Fatalf("asked %s %q: %v, %v", name, text, v, err)
	}
}

func TestAsk(t *testing.T) {
	h := newHouse(t).run()
	h.add("echo", echo)
	h.ask("echo", "a")
	if _, err := h.Ask(h.ctx(), "nobody", "a", "a"); !errors.Is(err, drive.ErrNoCore) || money.KindOf(err) != money.Refused {
		t.Errorf("nobody: %v", err)
	}
	ended, end := context.WithCancel(context.Background())
	end()
	if _, err := h.Ask(ended, "echo", "never", 7); !errors.Is(err, context.Canceled) || money.KindOf(err) != money.Pending {
		t.Errorf("a context that has ended: %v", err)
	}
}

func TestAwaitHearsWhatOthersCause(t *testing.T) {
	h := newHouse(t).run()
	h.add("echo", echo)
	var heard []string
	h.Hear(func(o step.Outcome) { heard = append(heard, o.ID) })
	wait, err := h.Await("echo", "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Tell(h.ctx(), "echo", "a"); err != nil {
		t.Fatal(err)
	}
	if v, err := wait(h.ctx()); v != "A" || err != nil {
		t.Errorf("%v, %v", v, err)
	}
	h.Do(h.ctx(), func(*drive.Machine) {
		if !slices.Contains(heard, "a") {
			t.Errorf("heard %q", heard)
		}
	})
}

func TestStop(t *testing.T) {
	h := newHouse(t).run()
	h.add("deaf", func(step.Input) step.Effects { return step.Effects{} })
	waiting := make(chan error)
	go func() {
		_, err := h.Ask(h.ctx(), "deaf", "a", "a")
		waiting <- err
	}()
	for {
		if _, events := h.Counts(); events == 2 { // the start and the question
			break
		}
	}
	h.stop()
	if err := <-waiting; !errors.Is(err, drive.ErrStopped) || money.KindOf(err) != money.Pending {
		t.Errorf("who waited is told %v", err)
	}
	if err := <-h.end; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returns %v", err)
	}
	if err := h.Tell(context.Background(), "deaf", "b"); err != nil && !errors.Is(err, drive.ErrStopped) {
		t.Errorf("Tell after the end: %v", err)
	}
	if err := h.Do(context.Background(), func(*drive.Machine) {}); !errors.Is(err, drive.ErrStopped) {
		t.Errorf("Do after the end: %v", err)
	}
}

func TestABrokenCoreIsAlone(t *testing.T) {
	h := newHouse(t).run()
	h.add("echo", echo)
	h.add("weak", func(in step.Input) step.Effects {
		for _, e := range in.Events {
			step.Assert(e != "poison", "weak: %d is more than %d", 2, 1)
		}
		return echo(in)
	})
	h.ask("weak", "a")
	other, err := h.Await("weak", "b")
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Ask(h.ctx(), "weak", "poison", "poison")
	if money.KindOf(err) != money.Broken || !strings.Contains(err.Error(), "step weak: broken: assert: weak: 2 is more than 1") {
		t.Errorf("poison: %.200v", err)
	}
	if _, err := other(h.ctx()); money.KindOf(err) != money.Broken {
		t.Errorf("who waited for it is told %.100v", err)
	}
	if _, err := h.Ask(h.ctx(), "weak", "c", "c"); money.KindOf(err) != money.Broken {
		t.Errorf("afterwards: %.100v", err)
	}
	h.ask("echo", "b")
	for _, records := range h.disk.commits {
		for _, r := range records {
			if r.Key == "poison" || r.Key == "c" {
				t.Errorf("%s is on the disk", r.Key)
			}
		}
	}
}

func TestAFullInboxBlocks(t *testing.T) {
	h := newHouse(t) // it does not run yet
	for range drive.MaxInbox {
		if err := h.Tell(h.ctx(), "echo", "a"); err != nil {
			t.Fatal(err)
		}
	}
	soon, stop := context.WithTimeout(context.Background(), time.Millisecond)
	defer stop()
	if err := h.Tell(soon, "echo", "b"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more: %v", err)
	}
	told := make(chan error)
	go func() { told <- h.Tell(h.ctx(), "echo", "b") }()
	h.run()
	if err := <-told; err != nil {
		t.Errorf("when there is room: %v", err)
	}
}

func TestWaitersAreBounded(t *testing.T) {
	h := newHouse(t)
	for i := range drive.MaxWaiters {
		if _, err := h.Await("echo", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Await("echo", "more"); !errors.Is(err, drive.ErrBusy) || money.KindOf(err) != money.Refused {
		t.Errorf("one more: %v", err)
	}
}

func TestAFailedCommitStopsEverything(t *testing.T) {
	h := newHouse(t).run()
	h.add("echo", echo)
	sent := 0
	h.Outlet("out", func(step.Packet) { sent++ })
	h.ask("echo", "a")
	full := errors.New("no space left on device")
	h.disk.mu.Lock()
	h.disk.fail = full
	h.disk.mu.Unlock()
	_, err := h.Ask(h.ctx(), "echo", "b", "b")
	if !errors.Is(err, drive.ErrStopped) || !errors.Is(err, full) {
		t.Errorf("who asked is told %v", err)
	}
	if err := <-h.end; money.KindOf(err) != money.Broken || !errors.Is(err, full) {
		t.Errorf("Run returns %v", err)
	}
	if sent != 1 {
		t.Errorf("%d packets are out; only the first was durable", sent)
	}
	if _, err := h.Ask(context.Background(), "echo", "c", "c"); !errors.Is(err, drive.ErrStopped) {
		t.Errorf("afterwards: %v", err)
	}
}

// What waits while a commit is under way shares the next one.
func TestOneCommitForAllThatWait(t *testing.T) {
	h := newHouse(t).run()
	h.add("echo", echo)
	h.ask("echo", "first")
	before := h.rounds()
	gate := make(chan chan struct{})
	h.disk.mu.Lock()
	h.disk.gate = gate
	h.disk.mu.Unlock()
	var asked sync.WaitGroup
	ask := func(text string) {
		asked.Go(func() { h.ask("echo", text) })
	}
	ask("held")
	held := <-gate
	const many = 500
	for i := range many {
		ask(fmt.Sprint(i))
	}
	h.waitInbox(many)
	close(held)
	close(<-gate)
	asked.Wait()
	if n := h.rounds() - before; n != 2 {
		t.Errorf("%d questions took %d rounds", many+1, n)
	}
	if n := len(h.disk.commits); n != 3 {
		t.Errorf("%d commits", n)
	}
}

func (h *house) rounds() uint64 {
	h.Do(h.ctx(), func(*drive.Machine) {}) // the round under way ends
	n, _ := h.Counts()
	return n
}

// waitInbox waits until so many events wait.
func (h *house) waitInbox(n int) {
	for end := time.Now().Add(5 * time.Second); drive.Waiting(h.Host) != n; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%d events wait, and not %d", drive.Waiting(h.Host), n)
		}
	}
}

func TestAlarms(t *testing.T) {
	h := newHouse(t).run()
	rang := make(chan step.Time, 10)
	var asked step.Time
	h.add("clock", func(in step.Input) (fx step.Effects) {
		for _, e := range in.Events {
			switch e := e.(type) {
			case step.Rang:
				if e.ID == "tea" {
					rang <- in.At
				}
			case step.Time:
				asked = in.At + e
				fx.Wake = append(fx.Wake, step.Alarm{ID: "tea", At: asked})
			}
		}
		return fx
	})
	h.Tell(h.ctx(), "clock", step.Time(60_000))
	h.Tell(h.ctx(), "clock", step.Time(5)) // moved
	if at := <-rang; at < asked {
		t.Errorf("it rings %d ms early", asked-at)
	}
	h.Tell(h.ctx(), "clock", step.Time(-5)) // long past: at once
	<-rang
	select {
	case <-rang:
		t.Error("it rings once more than it was set")
	default:
	}
}

func TestCoresOfOneMachineTalkWithinTheRound(t *testing.T) {
	m := drive.NewMachine()
	m.Listen("till", "late") // neither is there yet
	m.Add("buyer", core(func(in step.Input) (fx step.Effects) {
		for _, e := range in.Events {
			switch e := e.(type) {
			case string:
				fx.Send = append(fx.Send, step.Packet{To: "till", Msg: e})
			case step.Recv:
				if o, ok := e.Msg.(step.Outcome); ok {
					fx.Put = append(fx.Put, step.Record{Key: e.From + " " + o.ID})
				}
			}
		}
		return fx
	}))
	m.Add("till", core(func(in step.Input) (fx step.Effects) {
		for _, e := range in.Events {
			if r, ok := e.(step.Recv); ok {
				fx.Done = append(fx.Done, step.Outcome{ID: r.Msg.(string) + " by " + r.From})
			}
		}
		return fx
	}), "buyer", "nobody")
	late := 0
	m.Add("late", core(func(in step.Input) step.Effects { late += len(in.Events); return step.Effects{} }))
	m.Listen("till", "late") // twice is once
	fx := m.Round(1, []drive.Event{{Core: "buyer", What: "tea"}})
	if len(fx.Put) != 1 || fx.Put[0].Key != "till tea by buyer" || len(fx.Send) != 0 || len(fx.Done) != 1 || fx.Done[0].Core != "till" || late != 1 {
		t.Errorf("%+v, heard %d", fx, late)
	}
	m.Remove("till")
	fx = m.Round(1, []drive.Event{{Core: "buyer", What: "tea"}})
	if len(fx.Send) != 1 || fx.Send[0].From != "buyer" {
		t.Errorf("without the till: %+v", fx)
	}
	if names := m.Names(); !slices.Equal(names, []string{"buyer", "late"}) || m.Core("till") != nil {
		t.Errorf("%q are left", names)
	}
}

func TestAnEventForAll(t *testing.T) {
	m := drive.NewMachine()
	var told []string
	for _, name := range []string{"c", "a", "b"} {
		m.Add(name, core(func(step.Input) step.Effects { told = append(told, name); return step.Effects{} }))
	}
	m.Round(1, []drive.Event{{What: step.Linked{Peer: "p"}}})
	if !slices.Equal(told, []string{"a", "b", "c"}) {
		t.Errorf("told %q", told)
	}
}

func TestCoresThatTalkForEver(t *testing.T) {
	h := newHouse(t).run()
	ping := func(to string) core {
		return func(in step.Input) (fx step.Effects) {
			if _, started := in.Events[0].(step.Rang); !started {
				fx.Send = append(fx.Send, step.Packet{To: to})
			}
			return fx
		}
	}
	h.add("a", ping("b"))
	h.add("b", ping("a"))
	h.Tell(h.ctx(), "a", "go")
	if err := <-h.end; money.KindOf(err) != money.Broken || !strings.Contains(err.Error(), "still talk") {
		t.Errorf("Run returns %v", err)
	}
}

func TestTwoCoresOfOneName(t *testing.T) {
	defer func() {
		if r := recover(); r == nil {
			t.Error("nobody minds")
		}
	}()
	m := drive.NewMachine()
	m.Add("a", core(echo))
	m.Add("a", core(echo))
}

// order is a World that writes down what is done, and fails at a commit.
type order struct {
	done []string
	fail error
}

func (o *order) Commit([]step.Record) error { o.done = append(o.done, "commit"); return o.fail }
func (o *order) Send(step.Packet)           { o.done = append(o.done, "send") }
func (o *order) Wake(step.Alarm)            { o.done = append(o.done, "wake") }
func (o *order) Done(step.Outcome)          { o.done = append(o.done, "done") }

func TestCarryKeepsTheOrder(t *testing.T) {
	fx := step.Effects{Done: make([]step.Outcome, 1), Wake: make([]step.Alarm, 1), Send: make([]step.Packet, 2), Put: make([]step.Record, 3)}
	w := &order{}
	if err := drive.Carry(w, fx); err != nil || strings.Join(w.done, " ") != "commit send send wake done" {
		t.Errorf("%q, %v", w.done, err)
	}
	w = &order{fail: errors.New("disk")}
	if err := drive.Carry(w, fx); !errors.Is(err, w.fail) || len(w.done) != 1 {
		t.Errorf("after a failure: %q, %v", w.done, err)
	}
	w = &order{}
	drive.Carry(w, step.Effects{Send: make([]step.Packet, 1)})
	if strings.Join(w.done, " ") != "send" {
		t.Errorf("nothing to write: %q", w.done)
	}
}
