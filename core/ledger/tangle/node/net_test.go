package node_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
)

// memory is a disk.
type memory map[string][]byte

func (m memory) Get(key string) ([]byte, error) { return m[key], nil }

func (m memory) Scan(prefix string, yield func(string, []byte) bool) error {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if strings.HasPrefix(key, prefix) && !yield(key, m[key]) {
			break
		}
	}
	return nil
}

// contract is a disk that wants to be read as world/store says: not while a scan of it
// goes on. It counts what is dear.
type contract struct {
	t testing.TB
	memory
	scanning bool
	walked   int
	pieces   int // of milestones that were read
}

func (c *contract) Get(key string) ([]byte, error) {
	if c.scanning {
		c.t.Fatalf("%q is read while a scan goes on, which a store may answer never", key)
	}
	if strings.HasPrefix(key, "tangle/r/") {
		c.pieces++
	}
	return c.memory.Get(key)
}

func (c *contract) Scan(prefix string, yield func(string, []byte) bool) error {
	if c.scanning {
		c.t.Fatalf("%q is scanned while a scan goes on, which a store may answer never", prefix)
	}
	c.scanning = true
	defer func() { c.scanning = false }()
	return c.memory.Scan(prefix, func(key string, value []byte) bool {
		c.walked++
		return yield(key, value)
	})
}

func (m memory) apply(records []step.Record) {
	for _, r := range records {
		if r.Value == nil {
			delete(m, r.Key)
		} else {
			m[r.Key] = r.Value
		}
	}
}

// machine is a node with a disk.
type machine struct {
	name   string
	c      node.Config
	disk   memory
	reader *contract     // of disk, as the node sees it
	lazy   []step.Record // that wait for one that is not
	node   *node.Node
	alarms map[string]step.Time
	inbox  []any
	done   []step.Outcome
	told   []step.Packet // to other cores of the machine
	down   bool
	puts   int // commits so far
}

// packet is on its way.
type packet struct {
	at       step.Time
	from, to string
	frame    gossip.Frame
}

// network is nodes in one thread.
type network struct {
	t        testing.TB
	net      *tangle.Network
	now      step.Time
	machines []*machine
	byName   map[string]*machine
	wires    []packet
	// lose says which frames do not arrive.
	lose func(from, to string, m node.Message) bool
	// delay, if set, is how long a frame is on its way; frames may overtake others.
	delay func(from, to string, m node.Message) step.Time
	// crash, if set, is asked before and after every commit.
	crash func(m *machine, after bool) bool
	check bool // after every step, that memory equals the disk
	sent  map[string]int
	steps int
}

func secret(name string) eddsa.Secret {
	return eddsa.NewSecret(eddsa.SHA512, tangle.IDOf([]byte("test key "+name)))
}

const supply = 1_000_000

// owner of all money at first.
var rich = secret("rich")

func address(s eddsa.Secret) tangle.Address { return tangle.NewAddress(s.Public()) }

// newNetwork has so many nodes, each linked to all others; the first few are
// coordinators, all but one of which must sign if there are more than two, and the
// first proposes every second.
func newNetwork(t testing.TB, nodes, coordinators int, change ...func(i int, c *node.Config)) *network {
	t.Helper()
	var keys [][32]byte
	for i := range coordinators {
		keys = append(keys, secret(fmt.Sprint("coordinator ", i)).Public())
	}
	threshold := coordinators
	if coordinators > 2 {
		threshold--
	}
	var genesis []tangle.BasicOutput
	for range 10 {
		genesis = append(genesis, tangle.BasicOutput{Amount: supply / 10, Address: address(rich)})
	}
	tn, err := tangle.NewNetwork("test", "tst", threshold, keys, genesis)
	if err != nil {
		t.Fatal(err)
	}
	w := &network{t: t, net: tn, now: 1_700_000_000_000, byName: map[string]*machine{}, check: true, sent: map[string]int{}}
	for i := range nodes {
		c := node.Config{Network: tn}
		for k := range nodes {
			if k != i {
				c.Peers = append(c.Peers, fmt.Sprint("n", k))
			}
		}
		if i < coordinators {
			c.Coordinator = node.Coordinator{Secret: secret(fmt.Sprint("coordinator ", i)), Primary: i == 0, Interval: step.Second}
		}
		for _, f := range change {
			f(i, &c)
		}
		w.add(fmt.Sprint("n", i), c)
	}
	return w
}

func (w *network) add(name string, c node.Config) *machine {
	m := &machine{name: name, c: c, disk: memory{}}
	w.machines = append(w.machines, m)
	w.byName[name] = m
	w.start(m)
	return m
}

func (w *network) start(m *machine) {
	w.t.Helper()
	m.reader = &contract{t: w.t, memory: m.disk}
	n, err := node.Load(m.reader, m.c)
	if err != nil {
		w.t.Fatal(err)
	}
	m.node, m.alarms, m.lazy, m.down = n, map[string]step.Time{}, nil, false
	m.inbox = []any{step.Rang{ID: step.Start}}
}

// tell hands a node an event, and gives it a step.
func (w *network) tell(i int, events ...any) []step.Outcome {
	w.t.Helper()
	m := w.machines[i]
	m.inbox = append(m.inbox, events...)
	before := len(m.done)
	w.step(m)
	return m.done[before:]
}

func (w *network) step(m *machine) {
	w.t.Helper()
	if m.down || len(m.inbox) == 0 {
		return
	}
	events := m.inbox
	m.inbox = nil
	fx := m.node.Step(step.Input{At: w.now, Events: events})
	w.steps++
	if len(fx.Put) > 0 {
		seen := map[string]bool{}
		for _, r := range fx.Put {
			if seen[r.Key] {
				w.t.Fatalf("%s puts %q twice", m.name, r.Key)
			}
			seen[r.Key] = true
		}
		if w.crash != nil && w.crash(m, false) {
			w.start(m)
			return
		}
		m.puts++
		m.lazy = append(m.lazy, fx.Put...)
		if slices.ContainsFunc(fx.Put, func(r step.Record) bool { return !r.Lazy }) {
			m.disk.apply(m.lazy)
			m.lazy = nil
		}
		if w.crash != nil && w.crash(m, true) {
			w.start(m)
			return
		}
	}
	if w.check {
		w.same(m)
	}
	for _, p := range fx.Send {
		f, ok := p.Msg.(gossip.Frame)
		if !ok {
			m.told = append(m.told, p)
			continue
		}
		msg, err := node.Decode(f.Raw)
		if err != nil {
			w.t.Fatalf("%s sends what cannot be read: %v", m.name, err)
		}
		if len(f.Raw) > gossip.MaxFrame {
			w.t.Fatalf("%s sends a frame of %d bytes", m.name, len(f.Raw))
		}
		w.sent[fmt.Sprintf("%T", msg)]++
		if w.lose == nil || !w.lose(m.name, p.To, msg) {
			delay := step.Time(5)
			if w.delay != nil {
				delay = w.delay(m.name, p.To, msg)
			}
			w.wires = append(w.wires, packet{w.now + delay, m.name, p.To, f})
		}
	}
	for _, a := range fx.Wake {
		m.alarms[a.ID] = a.At
	}
	m.done = append(m.done, fx.Done...)
}

// same compares a node with one that is loaded from its disk.
func (w *network) same(m *machine) {
	w.t.Helper()
	disk := m.disk
	if len(m.lazy) > 0 {
		disk = maps.Clone(disk)
		disk.apply(m.lazy)
	}
	again, err := node.Load(disk, m.c)
	if err != nil {
		w.t.Fatal(err)
	}
	a, b := m.node.Durable(), again.Durable()
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i].Key != b[i].Key || !bytes.Equal(a[i].Value, b[i].Value) {
			w.t.Fatalf("%s: record %d of memory (%d) and disk (%d) differ: %.80q and %.80q", m.name, i, len(a), len(b), at(a, i), at(b, i))
		}
	}
}

func at(records []step.Record, i int) string {
	if i >= len(records) {
		return "nothing"
	}
	return records[i].Key + "=" + string(records[i].Value)
}

// run lets time pass.
func (w *network) run(d step.Time) {
	w.t.Helper()
	for end := w.now + d; ; {
		next := end + 1
		for _, p := range w.wires {
			next = min(next, p.at)
		}
		for _, m := range w.machines {
			if len(m.inbox) > 0 && !m.down {
				next = min(next, w.now)
			}
			for _, at := range m.alarms {
				if !m.down {
					next = min(next, at)
				}
			}
		}
		if next > end {
			w.now = end
			return
		}
		w.now = max(w.now+1, next)
		var later []packet
		for _, p := range w.wires {
			if p.at > w.now {
				later = append(later, p)
			} else if m := w.byName[p.to]; m != nil && !m.down {
				m.inbox = append(m.inbox, step.Recv{From: p.from, Msg: p.frame})
			}
		}
		w.wires = later
		for _, m := range w.machines {
			for _, id := range slices.Sorted(maps.Keys(m.alarms)) {
				if m.alarms[id] <= w.now {
					delete(m.alarms, id)
					m.inbox = append(m.inbox, step.Rang{ID: id})
				}
			}
			w.step(m)
		}
	}
}

// until runs until a node has confirmed a milestone, all of them by default.
func (w *network) until(index uint32, nodes ...int) {
	w.t.Helper()
	if nodes == nil {
		for i := range w.machines {
			nodes = append(nodes, i)
		}
	}
	for range 600 {
		if !slices.ContainsFunc(nodes, func(i int) bool { return w.machines[i].node.Info().Latest.Index < index }) {
			return
		}
		w.run(100)
	}
	for _, m := range w.machines {
		w.t.Logf("%s: %+v", m.name, m.node.Info())
	}
	w.t.Fatalf("milestone %d is not confirmed by %v", index, nodes)
}

func (w *network) latest() (index uint32) {
	for _, m := range w.machines {
		index = max(index, m.node.Info().Latest.Index)
	}
	return index
}

// settle runs for two more milestones.
func (w *network) settle() { w.t.Helper(); w.until(w.latest() + 2) }

// agree checks that all nodes have the same history and ledger, and that no money was
// made or lost.
func (w *network) agree() {
	w.t.Helper()
	first := w.machines[0]
	for _, m := range w.machines {
		if sum := m.node.Supply(); sum != supply {
			w.t.Fatalf("%s has %d base units of %d", m.name, sum, supply)
		}
		low := min(first.node.Info().Latest.Index, m.node.Info().Latest.Index)
		oldest := max(first.node.Info().Oldest, m.node.Info().Oldest)
		for i := oldest; i <= low; i++ {
			a, x := first.node.Order(i)
			b, y := m.node.Order(i)
			if !slices.Equal(a, b) || !slices.Equal(x, y) {
				w.t.Fatalf("%s and %s have different blocks in milestone %d: %v and %v", first.name, m.name, i, a, b)
			}
		}
		if first.node.Info().Latest == m.node.Info().Latest {
			for _, prefix := range []string{"tangle/o/", "tangle/u/"} {
				if prefix == "tangle/o/" && first.node.Info().Oldest != m.node.Info().Oldest {
					continue // spent ones are pruned
				}
				if a, b := dump(first, prefix), dump(m, prefix); !maps.EqualFunc(a, b, bytes.Equal) {
					w.t.Fatalf("%s and %s have different %s: %d and %d", first.name, m.name, prefix, len(a), len(b))
				}
			}
		}
	}
}

func dump(m *machine, prefix string) memory {
	out := memory{}
	m.disk.Scan(prefix, func(k string, v []byte) bool { out[k] = v; return true })
	return out
}

// pay makes a transaction of one output, as it is in the ledger of node i.
func (w *network) pay(i int, from eddsa.Secret, in tangle.OutputID, to tangle.Address, amount uint64, note string) *tangle.Transaction {
	w.t.Helper()
	o, ok := w.machines[i].node.Output(in)
	if !ok {
		w.t.Fatalf("no output %v", in)
	}
	return w.payFrom(from, in, o.BasicOutput, to, amount, note)
}

func (w *network) payFrom(from eddsa.Secret, in tangle.OutputID, spent tangle.BasicOutput, to tangle.Address, amount uint64, note string) *tangle.Transaction {
	w.t.Helper()
	outs := []tangle.BasicOutput{{Amount: amount, Address: to}}
	if rest := spent.Amount - amount; rest > 0 {
		outs = append(outs, tangle.BasicOutput{Amount: rest, Address: address(from)})
	}
	var data *tangle.TaggedData
	if note != "" {
		data = &tangle.TaggedData{Tag: []byte("coinop"), Data: []byte(note)}
	}
	e, err := tangle.NewEssence(w.net, []tangle.OutputID{in}, []tangle.BasicOutput{spent}, outs, data)
	if err != nil {
		w.t.Fatal(err)
	}
	tx, err := e.Sign([]tangle.BasicOutput{spent}, from)
	if err != nil {
		w.t.Fatal(err)
	}
	return tx
}

// submit hands a payload to a node.
func (w *network) submit(i int, p tangle.Payload) node.Attached {
	w.t.Helper()
	out := w.tell(i, node.Submit{ID: "s", Payload: p})
	for _, o := range out {
		if o.ID == "s" {
			if o.Err != nil {
				w.t.Fatalf("submit: %v", o.Err)
			}
			return o.Value.(node.Attached)
		}
	}
	w.t.Fatal("a submission has no outcome")
	return node.Attached{}
}

// outcome is the last one of an ID at a node.
func (w *network) outcome(i int, id string) (o step.Outcome, ok bool) {
	for _, d := range w.machines[i].done {
		if d.ID == id {
			o, ok = d, true
		}
	}
	return o, ok
}

// recvFrame is a frame as a peer sent it.
func recvFrame(from string, raw []byte) step.Recv {
	return step.Recv{From: from, Msg: gossip.Frame{Ledger: gossip.Tangle, Raw: raw}}
}
