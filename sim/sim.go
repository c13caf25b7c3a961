// Package sim runs cores in a made-up world: one thread, one seed, no clock.
//
// The network loses, repeats, delays and reorders messages and falls apart into
// partitions; connections are cut with what is on the way; machines crash before and after any commit and come back with
// only what was durable, the last write perhaps torn; their clocks are wrong;
// the chain reorganises. The same seed gives the same transcript, byte for
// byte, so a failure is a number that can be handed to someone.
//
// Machines here are the same drive.Machine, and their effects are carried out
// by the same drive.Carry, as in production. Messages are encoded and decoded
// on the way.
package sim

import (
	"cmp"
	"container/heap"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"

	"coinop.dev/core/message"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// Faults are chances in percent, and bounds on times in milliseconds.
type Faults struct {
	Lose, Repeat int // of a message that is sent over no connection
	Cut          int // of a connection, at each message sent over it
	Crash        int // at each side of a commit
	Torn         int // of a crash: the last write is cut short
	Partition    int // each second, for a machine to lose its network
	Forge        int // of a message: a damaged copy arrives too
	DelayMax     step.Time
	SkewMax      step.Time // of a machine's clock, either way
}

// Rough is the weather of the standard runs.
var Rough = Faults{Lose: 8, Repeat: 8, Cut: 2, Crash: 2, Torn: 50, Partition: 3, Forge: 2, DelayMax: 400, SkewMax: 3 * step.Second}

// A World is the whole simulated world.
type World struct {
	Now    step.Time
	Faults Faults
	// OnDone hears every outcome of every core.
	OnDone func(m *Machine, o step.Outcome)
	// Outlet takes packets to names that are no machine, such as the chain.
	Outlet func(m *Machine, p step.Packet)
	// Sent hears every packet that leaves a machine, once what it needs is durable.
	Sent func(m *Machine, p step.Packet)
	// Check runs after every round and every restart.
	Check func() error
	// Sample is how many steps share one comparison of memory and disk, which
	// can be dear; 0 is one for each.
	Sample int
	// Bug is planted by tests that show the simulator would find it.
	Bug Bug
	// MaxEvents bounds one Run; 0 is the constant.
	MaxEvents int
	// Distance is how long a message takes from one machine to another besides
	// Faults.DelayMax; nil is no time.
	Distance func(from, to *Machine) step.Time
	// Silent writes no transcript, for worlds whose figures are wanted and not their
	// story.
	Silent bool

	seed       uint64
	streams    map[string]*rand.Rand
	transcript hash.Hash
	trace      func(string)
	seq        int
	queue      queue
	machines   map[string]*Machine // by the name packets are addressed to
	order      []*Machine
	cables     []*cable
	links      uint64 // ends of connections so far: each has its number
	fault      error
	steps      int
}

// A Bug is a mistake that the simulator must catch.
type Bug struct {
	SendBeforeCommit bool // effects in the wrong order
	MapOrder         bool // effects in the order of a Go map
	// Wrap puts something in the place of a core, which it may still use.
	Wrap func(name string, core drive.Core) drive.Core
}

// NoBug plants nothing.
var NoBug Bug

func (w *World) wrap(name string, core drive.Core) drive.Core {
	if w.Bug.Wrap == nil {
		return core
	}
	return w.Bug.Wrap(name, core)
}

// A Wrapper is a core in whose place another one stands.
type Wrapper interface{ Unwrap() drive.Core }

func unwrap(core drive.Core) drive.Core {
	if w, ok := core.(Wrapper); ok {
		return unwrap(w.Unwrap())
	}
	return core
}

// NewWorld returns an empty world.
func NewWorld(seed uint64, f Faults) *World {
	return &World{
		Now: 1_700_000_000 * step.Second, Faults: f, seed: seed,
		streams: map[string]*rand.Rand{}, machines: map[string]*Machine{},
		transcript: sha256.New(), Check: func() error { return nil },
		OnDone: func(*Machine, step.Outcome) {}, Outlet: func(*Machine, step.Packet) {},
		Sent: func(*Machine, step.Packet) {},
	}
}

// Random is the random stream of one subsystem. Streams are independent, so a
// change in how one is used leaves the others as they were.
func (w *World) Random(subsystem string) *rand.Rand {
	r := w.streams[subsystem]
	if r == nil {
		sum := sha256.Sum256([]byte(subsystem))
		r = rand.New(rand.NewPCG(w.seed, uint64(sum[0])<<56|uint64(sum[1])<<48|uint64(sum[2])<<40|uint64(sum[3])))
		w.streams[subsystem] = r
	}
	return r
}

func (w *World) chance(subsystem string, percent int) bool {
	return percent > 0 && w.Random(subsystem).IntN(100) < percent
}

// A Machine is cores with one disk.
type Machine struct {
	Name  string // what packets to it are addressed to
	Disk  *Disk
	boot  func(step.Reader) (*drive.Machine, error)
	cores *drive.Machine
	skew  step.Time
	cutTo step.Time // out of the network until then
	life  int       // starts so far
	// alarms that are set, and when they go off
	alarms map[string]step.Time
	// writer holds the lazy records that a crash loses
	writer *drive.Writer
}

// Durable is a core that can say what it has on disk.
type Durable interface {
	drive.Core
	Durable() []step.Record
}

// Add puts a machine into the world. boot builds its cores from its disk, at
// first and after every crash.
func (w *World) Add(name string, boot func(step.Reader) (*drive.Machine, error)) (*Machine, error) {
	m := &Machine{Name: name, Disk: &Disk{}, boot: boot}
	if w.Faults.SkewMax > 0 {
		m.skew = step.Time(w.Random("clock").Int64N(int64(2*w.Faults.SkewMax+1))) - w.Faults.SkewMax
	}
	w.machines[name] = m
	w.order = append(w.order, m)
	return m, w.start(m)
}

// Core returns a core of the machine as it is now.
func (m *Machine) Core(name string) drive.Core { return unwrap(m.cores.Core(name)) }

func (w *World) start(m *Machine) error {
	disk, err := m.Disk.Recover()
	if err != nil {
		return err
	}
	m.life++
	w.unplug(m)
	m.alarms, m.writer = map[string]step.Time{}, &drive.Writer{DB: m.Disk}
	if m.cores, err = m.boot(disk); err != nil {
		return fmt.Errorf("%s does not start: %w", m.Name, err)
	}
	for _, name := range m.cores.Names() {
		w.Tell(w.Now, m, name, step.Rang{ID: step.Start})
	}
	return nil
}

// Tell schedules an event for a core.
func (w *World) Tell(at step.Time, m *Machine, core string, what any) {
	w.at(at, func() { w.step(m, drive.Event{Core: core, What: what}) })
}

// At schedules anything else: a block, an observation.
func (w *World) At(at step.Time, do func()) { w.at(at, do) }

func (w *World) at(at step.Time, do func()) {
	w.seq++
	heap.Push(&w.queue, entry{max(at, w.Now), w.seq, do})
}

// Fail ends the run with an error.
func (w *World) Fail(err error) {
	if w.fault == nil {
		w.fault = err
	}
}

// Skip lets time pass in which no machine runs. What was to happen meanwhile
// happens at its end.
func (w *World) Skip(d step.Time) {
	w.Now += d
	for i := range w.queue {
		w.queue[i].at = max(w.queue[i].at, w.Now)
	}
	heap.Init(&w.queue)
	for _, m := range w.order {
		for id, at := range m.alarms {
			m.alarms[id] = max(at, w.Now)
		}
	}
}

// Transcript is the digest of everything that happened.
func (w *World) Transcript() [32]byte { return [32]byte(w.transcript.Sum(nil)) }

// Trace has every line of the transcript told to f as it is written.
func (w *World) Trace(f func(string)) { w.trace = f }

func (w *World) log(format string, args ...any) {
	if w.Silent {
		return
	}
	line := fmt.Sprintf(format, args...)
	fmt.Fprintf(w.transcript, "%d %s\n", w.Now, line)
	if w.trace != nil {
		w.trace(fmt.Sprintf("%8d ms  %s", w.Now-1_700_000_000*step.Second, line))
	}
}

// maxEvents bounds a run. A story has some thousands; more is two machines that
// answer each other for ever.
const maxEvents = 50_000

// Run lets time pass until then, or until nothing is left to do.
func (w *World) Run(until step.Time) error {
	for n := 0; len(w.queue) > 0 && w.queue[0].at <= until && w.fault == nil; n++ {
		if n == cmp.Or(w.MaxEvents, maxEvents) {
			return fmt.Errorf("still busy after %d events at %d ms", n, w.Now)
		}
		e := heap.Pop(&w.queue).(entry)
		w.Now = e.at
		e.do()
	}
	w.Now = max(w.Now, until)
	return w.fault
}

// step steps a machine and carries out what it wants, in the real order.
func (w *World) step(m *Machine, e drive.Event) {
	if e.Core != "" && m.cores.Core(e.Core) == nil {
		return
	}
	if !w.Silent {
		w.log("%s %s %s", short(m), e.Core, describe(e.What))
	}
	fx := m.cores.Round(w.Now+m.skew, []drive.Event{e})
	for _, o := range fx.Done {
		if o.ID == drive.Died {
			w.Fail(o.Err)
			return
		}
	}
	if w.Bug.SendBeforeCommit {
		for _, p := range fx.Send {
			(*hands)(&view{w, m}).Send(p)
		}
		fx.Send = nil
	}
	if w.Bug.MapOrder {
		fx.Send = shuffledByMap(fx.Send)
	}
	err := drive.Carry((*hands)(&view{w, m}), fx)
	if errors.Is(err, errCrash) {
		w.log("%s crashes", short(m))
		err = w.start(m)
	}
	if w.steps++; err == nil && (w.Sample == 0 || w.steps%w.Sample == 0) {
		err = w.memoryEqualsDisk(m)
	}
	if err == nil {
		err = w.Check()
	}
	if err != nil {
		w.Fail(fmt.Errorf("at %d ms, %s: %w", w.Now, m.Name, err))
	}
}

func shuffledByMap(packets []step.Packet) (out []step.Packet) {
	m := map[int]step.Packet{}
	for i, p := range packets {
		m[i] = p
	}
	for _, p := range m {
		out = append(out, p)
	}
	return out
}

// memoryEqualsDisk boots a second machine from the disk and compares what the
// two would say is durable.
func (w *World) memoryEqualsDisk(m *Machine) error {
	again, err := m.boot(m.Disk.with(m.writer.Waiting()))
	if err != nil {
		return fmt.Errorf("it would not start from its disk: %w", err)
	}
	for _, name := range m.cores.Names() {
		now, ok := m.Core(name).(Durable)
		if !ok {
			continue
		}
		then, ok := unwrap(again.Core(name)).(Durable)
		if !ok {
			return fmt.Errorf("core %s would be lost by a restart", name)
		}
		a, b := now.Durable(), then.Durable()
		for i := range max(len(a), len(b)) {
			if i >= len(a) || i >= len(b) || a[i].Key != b[i].Key || string(a[i].Value) != string(b[i].Value) {
				return fmt.Errorf("memory and disk differ: core %s, record %d: %.200q and %.200q", name, i, at(a, i), at(b, i))
			}
		}
	}
	return nil
}

func at(records []step.Record, i int) string {
	if i >= len(records) {
		return "nothing"
	}
	return fmt.Sprintf("%s=%x", records[i].Key, records[i].Value)
}

var errCrash = errors.New("simulated crash")

type view struct {
	w *World
	m *Machine
}

// hands is the World that one machine sees while its effects are carried out.
type hands view

func (v *hands) Commit(records []step.Record) error {
	if v.w.chance("crash", v.w.Faults.Crash) {
		if v.w.chance("crash", v.w.Faults.Torn) {
			v.m.Disk.tear(records, v.w.Random("crash"))
		}
		return errCrash // before: nothing is durable
	}
	if err := v.m.writer.Commit(records); err != nil {
		return err
	}
	if v.w.chance("crash", v.w.Faults.Crash) {
		return errCrash // after: durable, but nobody was told
	}
	return nil
}

func (v *hands) Send(p step.Packet) {
	v.w.Sent(v.m, p)
	to := v.w.machines[p.To]
	msg, ok := p.Msg.(message.Message)
	if to == nil || !ok {
		v.w.Outlet(v.m, p)
		return
	}
	if p.Link != 0 {
		v.w.send(v.m, to, p.Link, msg.Append(nil))
		return
	}
	v.w.carry(v.m, to, msg.Append(nil))
}

// Wake moves an alarm that is set already, and a crash forgets it, as in
// production.
func (v *hands) Wake(a step.Alarm) {
	w, m, id := v.w, v.m, a.Core+" "+a.ID
	at := max(a.At-m.skew, w.Now+1)
	m.alarms[id] = at
	w.at(at, func() {
		if m.alarms[id] == w.Now {
			delete(m.alarms, id)
			w.step(m, drive.Event{Core: a.Core, What: step.Rang{ID: a.ID}})
		}
	})
}

func (v *hands) Done(o step.Outcome) {
	v.w.log("%s done %s %x %v", short(v.m), o.Core, o.ID, o.Err)
	v.w.OnDone(v.m, o)
}

type entry struct {
	at  step.Time
	seq int
	do  func()
}

type queue []entry

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(entry)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
