package node_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/backup"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/lightning/tower"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

type disk map[string][]byte

func (d disk) Get(key string) ([]byte, error) { return d[key], nil }

func (d disk) Scan(prefix string, yield func(string, []byte) bool) error {
	for _, key := range slices.Sorted(maps.Keys(d)) {
		if strings.HasPrefix(key, prefix) && !yield(key, d[key]) {
			break
		}
	}
	return nil
}

// machine is one node with its disk.
type machine struct {
	w    *world
	name string
	key  keys.Secret
	disk disk
	n    *node.Node
	done []step.Outcome
	link map[*machine]uint64

	published []*wire.MsgTx
	backups   []backup.Copy // newest last
	tower     []any         // what the tower's client is told
	blobs     int           // peer_storage that were sent
}

type packet struct {
	from, to *machine
	link     uint64
	raw      []byte
}

// world is some nodes, the connections between them, and a chain that takes
// whatever it is given.
type world struct {
	t        testing.TB
	at       step.Time
	machines []*machine
	net      []packet
	links    uint64
	tip      int32
	mined    map[wire.OutPoint]*wire.MsgTx
	height   map[wire.OutPoint]int32
	spent    map[wire.OutPoint]*wire.MsgTx
	watched  map[wire.OutPoint][]*machine
	config   node.Config
}

func newWorld(t testing.TB, names ...string) *world {
	w := &world{
		t: t, at: 1_800_000_000_000, tip: 100, mined: map[wire.OutPoint]*wire.MsgTx{}, height: map[wire.OutPoint]int32{}, spent: map[wire.OutPoint]*wire.MsgTx{},
		watched: map[wire.OutPoint][]*machine{},
		config:  node.Config{Network: invoice.Regtest, Payout: append([]byte{0, 20}, make([]byte, 20)...)},
	}
	for _, name := range names {
		key, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
		if err != nil {
			t.Fatal(err)
		}
		m := &machine{w: w, name: name, key: key, disk: disk{}, link: map[*machine]uint64{}}
		m.n = node.New(key, w.config)
		w.machines = append(w.machines, m)
		m.step(step.Rang{ID: step.Start})
	}
	return w
}

func (m *machine) peer() string { return m.key.Public().PeerName() }

// step gives a node events and carries out what it wants.
func (m *machine) step(events ...any) {
	fx := m.n.Step(step.Input{At: m.w.at, Events: events})
	for _, r := range fx.Put {
		if r.Value == nil {
			delete(m.disk, r.Key)
		} else {
			m.disk[r.Key] = bytes.Clone(r.Value)
		}
	}
	m.done = append(m.done, fx.Done...)
	for _, p := range fx.Send {
		switch msg := p.Msg.(type) {
		case watch.Output:
			m.w.watched[msg.Point] = append(m.w.watched[msg.Point], m)
		case watch.Publish:
			m.published = append(m.published, msg.Tx)
			m.w.publish(msg.Tx)
		case backup.Copy:
			m.backups = append(m.backups, msg)
		case tower.Cover, tower.Guard, tower.Forget:
			m.tower = append(m.tower, msg)
		case message.Message:
			if _, ok := msg.(*ln.PeerStorage); ok {
				m.blobs++
			}
			for _, to := range m.w.machines {
				if to.peer() == p.To && m.link[to] != 0 && (p.Link == 0 || p.Link == m.link[to]) {
					m.w.net = append(m.w.net, packet{m, to, m.link[to], msg.Append(nil)})
				}
			}
		}
	}
	for _, d := range fx.Done {
		if d.Err != nil {
			m.w.t.Logf("%s: %q: %v", m.name, d.ID, d.Err)
		}
	}
}

func (w *world) publish(t *wire.MsgTx) {
	for i := range t.TxOut {
		w.mined[wire.OutPoint{Hash: t.TxHash(), Index: uint32(i)}] = t
	}
	for _, in := range t.TxIn {
		w.spent[in.PreviousOutPoint] = t
	}
}

// mine tells everybody of new blocks.
func (w *world) mine(n int32) {
	w.tip += n
	points := slices.Collect(maps.Keys(w.watched))
	slices.SortFunc(points, func(a, b wire.OutPoint) int { return strings.Compare(a.String(), b.String()) })
	for _, p := range points {
		for _, m := range w.watched[p] {
			s := watch.Status{Point: p, Tip: w.tip}
			if w.mined[p] != nil {
				if w.height[p] == 0 {
					w.height[p] = w.tip - n + 1
				}
				s.Depth, s.Index, s.Value = w.tip-w.height[p]+1, 1, w.mined[p].TxOut[p.Index].Value
			}
			if w.spent[p] != nil {
				s.Spender, s.SpendDepth = w.spent[p], 1
			}
			m.step(step.Recv{From: watch.Chain, Msg: s})
		}
	}
	w.settle()
}

func (w *world) connect(a, b *machine) {
	for _, end := range [][2]*machine{{a, b}, {b, a}} {
		if old := end[0].link[end[1]]; old != 0 {
			end[0].link[end[1]] = 0
			end[0].step(step.Unlinked{Peer: end[1].peer(), Link: old})
		}
	}
	w.net = slices.DeleteFunc(w.net, func(p packet) bool { return p.from == a && p.to == b || p.from == b && p.to == a })
	w.links++
	link := w.links
	a.link[b], b.link[a] = link, link
	a.step(step.Linked{Peer: b.peer(), Link: link})
	b.step(step.Linked{Peer: a.peer(), Link: link})
	w.settle()
}

// settle lets all messages arrive; those to one machine from one peer together,
// as a driver would.
func (w *world) settle() {
	for n := 0; len(w.net) > 0; n++ {
		if n > 20_000 {
			w.t.Fatal("they talk for ever")
		}
		w.deliver()
	}
}

func (w *world) deliver() {
	first := w.net[0]
	var events []any
	var rest []packet
	for _, p := range w.net {
		if p.to == first.to && p.from == first.from {
			m, err := message.Decode(p.raw)
			if err != nil {
				w.t.Fatalf("%s to %s: %v", p.from.name, p.to.name, err)
			}
			if p.link == p.to.link[p.from] {
				events = append(events, step.Recv{From: p.from.peer(), Msg: m, Link: p.link})
			}
		} else {
			rest = append(rest, p)
		}
	}
	w.net = rest
	first.to.step(events...)
}

// last is the newest outcome with an ID.
func (m *machine) last(id string) *step.Outcome {
	for i := len(m.done) - 1; i >= 0; i-- {
		if m.done[i].ID == id {
			return &m.done[i]
		}
	}
	return nil
}

// open opens a channel and waits until it can be used.
func (w *world) open(from, to *machine, o node.Open) node.Opened {
	o.Tag, o.Peer = fmt.Sprint("tag", len(from.done)), to.key.Public()
	from.step(o)
	w.settle()
	f := from.last(node.FundID + o.Tag)
	if f == nil {
		w.t.Fatal("nothing to fund")
	}
	t := wire.NewMsgTx(2)
	t.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: uint32(len(w.mined))}, nil, nil))
	t.AddTxOut(f.Value.(node.Funding).Output)
	from.step(node.Fund{Tag: o.Tag, Tx: t})
	w.settle()
	d := from.last(node.OpenID + o.Tag)
	if d == nil || d.Err != nil {
		w.t.Fatalf("the channel is not open: %+v", d)
	}
	w.mine(6)
	w.mine(1)
	opened := d.Value.(node.Opened)
	for _, m := range []*machine{from, to} {
		if r := m.last(node.ReadyID + opened.ID.String()); r == nil {
			w.t.Fatalf("%s is not ready", m.name)
		}
	}
	return opened
}

func (m *machine) bill(amount money.Amount, n byte) string {
	id := money.OrderID{n}
	m.step(node.Bill{Bill: money.Bill{ID: id, Amount: amount, For: "test"}})
	return "lightning:" + m.last(node.BillID+id.Key()).Value.(string)
}

func (m *machine) restart() {
	n, err := node.Load(m.disk, m.key, m.w.config)
	if err != nil {
		m.w.t.Fatalf("%s: %v", m.name, err)
	}
	m.same(n)
	m.n = n
	m.link = map[*machine]uint64{}
	m.step(step.Rang{ID: step.Start})
}

// same checks that what is on disk is what is in memory.
func (m *machine) same(n *node.Node) {
	now, then := m.n.Durable(), n.Durable()
	for i := range max(len(now), len(then)) {
		if i >= len(now) || i >= len(then) || now[i].Key != then[i].Key || !bytes.Equal(now[i].Value, then[i].Value) {
			m.w.t.Fatalf("%s: memory and disk differ: record %d of %d and %d", m.name, i, len(now), len(then))
		}
	}
}

func TestPayments(t *testing.T) {
	w := newWorld(t, "car", "router", "charger")
	car, router, charger := w.machines[0], w.machines[1], w.machines[2]
	w.connect(car, router)
	w.connect(router, charger)
	w.connect(car, charger)
	w.open(car, router, node.Open{Capacity: 1_000_000, Push: 100_000_000, Public: true})
	w.open(router, charger, node.Open{Capacity: 1_000_000, Push: 100_000_000, Public: true})

	pay := func(from *machine, n byte, to string, amount money.Amount) *step.Outcome {
		id := money.OrderID{n}
		from.step(money.Order{ID: id, To: to, Amount: amount})
		w.settle()
		d := from.last(id.Key())
		if d == nil || d.Err != nil {
			t.Fatalf("order %d: %+v", n, d)
		}
		return d
	}
	// One hop, two hops, by invoice.
	pay(car, 1, router.bill(5_000, 1), 5_000)
	two := charger.bill(7_000_000, 2)
	d := pay(car, 2, two, 7_000_000)
	if err := node.VerifyInvoice(two[len("lightning:"):], 7_000_000, d.Value.(node.Paid).Proof()); err != nil {
		t.Error(err)
	}
	// Without an invoice: by terms, and by keysend.
	to := "lightning://" + charger.key.Public().String() + "@host:1"
	d = pay(car, 3, to, 9_000)
	p := d.Value.(node.Paid)
	if err := node.VerifyNode(p.Entry(), charger.key.Public(), p.Proof()); err != nil {
		t.Error(err)
	}
	pay(car, 4, to+"?keysend=1", 3_000)
	if e := charger.last(node.EarnedID + money.OrderID{4}.Key()); e == nil || e.Value.(node.Earned).Entry().Amount != 3_000 {
		t.Errorf("keysend: %+v", e)
	}
	// The same order again pays nothing, also after a restart.
	pay(car, 3, to, 9_000)
	for _, m := range w.machines {
		m.restart()
	}
	w.connect(car, router)
	w.connect(router, charger)
	w.connect(car, charger)
	w.mine(1)
	pay(car, 3, to, 9_000)
	pay(charger, 5, car.bill(1_000_000, 5), 1_000_000)
	// In parts: more than either of two channels has.
	w.open(car, router, node.Open{Capacity: 500_000, Public: true})
	pay(car, 6, charger.bill(800_000_000, 6), 800_000_000)
	// A payment that cannot be.
	car.step(money.Order{ID: money.OrderID{7}, To: charger.bill(900_000_000, 7), Amount: 900_000_000})
	w.settle()
	if d := car.last(money.OrderID{7}.Key()); d == nil || money.KindOf(d.Err) != money.Unpaid {
		t.Errorf("too much: %+v", d)
	}
	for _, m := range w.machines {
		m.restart()
	}
}

var _ = ln.Core
