package payword

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

var (
	seed  = flag.Uint64("seed", 0, "the one made-up world to run; 0: many")
	seeds = flag.Uint64("seeds", 30, "how many worlds to make up")
)

// disk is a store in memory.
type disk map[string][]byte

func (d disk) Get(key string) ([]byte, error) { return d[key], nil }

func (d disk) Scan(prefix string, yield func(key string, value []byte) bool) error {
	var found []string
	for key := range d {
		if strings.HasPrefix(key, prefix) {
			found = append(found, key)
		}
	}
	slices.Sort(found)
	for _, key := range found {
		if !yield(key, d[key]) {
			break
		}
	}
	return nil
}

func (d disk) put(records []step.Record) {
	for _, r := range records {
		if r.Value == nil {
			delete(d, r.Key)
		} else {
			d[r.Key] = bytes.Clone(r.Value)
		}
	}
}

// railPay and railAck are the messages of the made-up rail that settles.
type (
	railPay receipt.Entry
	railAck struct{ Order money.OrderID }
)

// railPayer pays orders by sending them until they are acknowledged.
type railPayer struct {
	db    disk
	peer  string
	fails func() bool
}

func (p *railPayer) Step(in step.Input) (fx step.Effects) {
	send := func(id money.OrderID, amount money.Amount) {
		fx.Send = append(fx.Send, step.Packet{To: p.peer, Msg: railPay{id, amount}})
		fx.Wake = append(fx.Wake, step.Alarm{ID: "rail", At: in.At + step.Second})
	}
	for _, event := range in.Events {
		recv, _ := event.(step.Recv)
		switch msg := recv.Msg.(type) {
		case nil: // started or rung
			p.db.Scan("rail/open/", func(key string, value []byte) bool {
				id, _ := money.OrderIDFromKey(key[len("rail/open/"):])
				var amount money.Amount
				fmt.Sscan(string(value), (*uint64)(&amount))
				send(id, amount)
				return true
			})
		case money.Order:
			key := msg.ID.Key()
			switch {
			case p.db["rail/done/"+key] != nil:
				fx.Done = append(fx.Done, step.Outcome{ID: key})
			case p.db["rail/open/"+key] == nil && p.fails():
				fx.Done = append(fx.Done, step.Outcome{ID: key, Err: &money.Error{Kind: money.Unpaid, Err: fmt.Errorf("the rail is closed")}})
			default:
				fx.Put = append(fx.Put, step.Record{Key: "rail/open/" + key, Value: fmt.Append(nil, uint64(msg.Amount))})
				send(msg.ID, msg.Amount)
			}
		case railAck:
			key := msg.Order.Key()
			if p.db["rail/open/"+key] != nil {
				fx.Put = append(fx.Put, step.Record{Key: "rail/open/" + key}, step.Record{Key: "rail/done/" + key, Value: []byte{1}})
				fx.Done = append(fx.Done, step.Outcome{ID: key})
			}
		}
	}
	return fx
}

// railPayee takes orders once.
type railPayee struct {
	db   disk
	peer string
}

func (p *railPayee) Step(in step.Input) (fx step.Effects) {
	taken := map[money.OrderID]bool{}
	for _, event := range in.Events {
		recv, _ := event.(step.Recv)
		msg, ok := recv.Msg.(railPay)
		if !ok {
			continue
		}
		key := msg.Order.Key()
		if p.db["rail/"+key] == nil && !taken[msg.Order] {
			taken[msg.Order] = true
			fx.Put = append(fx.Put, step.Record{Key: "rail/" + key, Value: fmt.Append(nil, uint64(msg.Amount))})
			b := &receipt.Batch{Entries: []receipt.Entry{receipt.Entry(msg)}}
			fx.Done = append(fx.Done, step.Outcome{ID: key, Value: receipt.Paid{Batch: b}})
		}
		fx.Send = append(fx.Send, step.Packet{To: p.peer, Msg: railAck{msg.Order}})
	}
	return fx
}

type packet struct {
	to   *box
	what drive.Event
}

// box is one machine of the made-up world.
type box struct {
	name   string
	m      *drive.Machine
	db     disk
	queue  []drive.Event
	alarms map[string]step.Alarm
	boot   func(*box)
}

type world struct {
	t            *testing.T
	random       *rand.Rand
	now          step.Time
	terms        Terms
	id           ID
	payer, payee *box
	net          []packet
	faults       bool
	railFails    bool
	lie          bool // the network makes up messages, too

	orders  map[money.OrderID]money.Amount
	ids     []money.OrderID
	paid    map[money.OrderID]bool // as the payer was told
	refused map[money.OrderID]error
	stamped map[money.OrderID]int          // as the payee's disk says
	metered map[money.OrderID]uint64       // as the payer was told
	earned  map[money.OrderID]money.Amount // of sessions, at the payee
	shut    bool
	epochs  uint64
}

func newTerms(t testing.TB, p Proposal) (Terms, keys.Secret, keys.Secret) {
	t.Helper()
	payer, payee := secret(t, "payer"), secret(t, "payee")
	p.PayerNode = payer.Public()
	if p.Settle == "" {
		p.Settle = "rail"
	}
	a, err := Consider(p, Policy{MaxCredit: money.MaxAmount}, payee)
	if err != nil {
		t.Fatal(err)
	}
	return Terms{p, a}, payer, payee
}

func newWorld(t *testing.T, number uint64, p Proposal) *world {
	terms, payerKey, payeeKey := newTerms(t, p)
	w := &world{
		t: t, random: rand.New(rand.NewPCG(number, 1)), terms: terms, id: terms.ID(), now: 1,
		orders: map[money.OrderID]money.Amount{}, paid: map[money.OrderID]bool{}, refused: map[money.OrderID]error{},
		stamped: map[money.OrderID]int{}, metered: map[money.OrderID]uint64{}, earned: map[money.OrderID]money.Amount{},
	}
	w.payer = &box{name: terms.PayerNode.PeerName(), db: disk{}, boot: func(b *box) {
		core, err := LoadPayer(b.db, w.id, payerKey)
		if b.db[PayerName(w.id)+"/terms"] == nil {
			core, err = NewPayer(terms, payerKey)
		}
		if err != nil {
			t.Fatal(err)
		}
		b.m.Add(PayerName(w.id), core)
		b.m.Add("rail", &railPayer{b.db, terms.Payee.Node.PeerName(), func() bool { return w.railFails && w.random.IntN(2) == 0 }}, PayerName(w.id))
	}}
	w.payee = &box{name: terms.Payee.Node.PeerName(), db: disk{}, boot: func(b *box) {
		core, err := LoadPayee(b.db, w.id, payeeKey)
		if b.db[PayeeName(w.id)+"/terms"] == nil {
			core, err = NewPayee(terms, payeeKey)
		}
		if err != nil {
			t.Fatal(err)
		}
		book, err := earn.Load(b.db, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		b.m.Add(earn.Name, book)
		b.m.Add(PayeeName(w.id), core, earn.Name)
		b.m.Add("rail", &railPayee{b.db, terms.PayerNode.PeerName()}, earn.Name)
	}}
	w.start(w.payer)
	w.start(w.payee)
	return w
}

func (w *world) start(b *box) {
	b.m, b.queue, b.alarms = drive.NewMachine(), nil, map[string]step.Alarm{}
	b.boot(b)
	for _, name := range b.m.Names() {
		b.queue = append(b.queue, drive.Event{Core: name, What: step.Rang{ID: step.Start}})
	}
}

func (w *world) payerCore() *Payer { return w.payer.m.Core(PayerName(w.id)).(*Payer) }
func (w *world) payeeCore() *Payee { return w.payee.m.Core(PayeeName(w.id)).(*Payee) }

func (w *world) chance(percent int) bool { return w.faults && w.random.IntN(100) < percent }

// tell gives the payer something.
func (w *world) tell(what any) {
	w.payer.queue = append(w.payer.queue, drive.Event{Core: PayerName(w.id), What: what})
}

// round steps a machine and carries its effects out, unless it crashes.
func (w *world) round(b *box) {
	for key, a := range b.alarms {
		if a.At <= w.now {
			delete(b.alarms, key)
			b.queue = append(b.queue, drive.Event{Core: a.Core, What: step.Rang{ID: a.ID}})
		}
	}
	if len(b.queue) == 0 {
		return
	}
	events := b.queue
	b.queue = nil
	fx := b.m.Round(w.now, events)
	for _, d := range fx.Done {
		if d.ID == drive.Died {
			w.t.Fatalf("%v", d.Err)
		}
	}
	if w.chance(3) { // before the commit
		w.start(b)
		return
	}
	b.db.put(fx.Put)
	for _, d := range fx.Done {
		w.committed(b, d)
	}
	w.check(b)
	if w.chance(3) { // after the commit
		w.start(b)
		return
	}
	for _, p := range fx.Send {
		w.post(b, p)
	}
	for _, a := range fx.Wake {
		b.alarms[a.Core+" "+a.ID] = a
	}
	for _, d := range fx.Done {
		w.heard(b, d)
	}
}

// post puts a packet on the network, as bytes.
func (w *world) post(from *box, p step.Packet) {
	to := w.payee
	if from == w.payee {
		to = w.payer
	}
	if p.To != to.name {
		w.t.Fatalf("packet from %s to %s", from.name, p.To)
	}
	core, msg := "rail", p.Msg
	if m, ok := msg.(Message); ok {
		raw := m.Append(nil)
		if len(raw) > 65535 {
			w.t.Fatalf("message of %d bytes", len(raw))
		}
		decoded, err := Decode(raw)
		if err != nil {
			w.t.Fatal(err)
		}
		core, msg = m.Core(), decoded
		if w.lie && w.random.IntN(4) == 0 {
			w.net = append(w.net, packet{to, drive.Event{Core: core, What: step.Recv{From: from.name, Msg: w.forge(decoded)}}})
		}
	}
	copies := 1
	switch {
	case w.chance(15):
		copies = 0
	case w.chance(15):
		copies = 2
	}
	for range copies {
		w.net = append(w.net, packet{to, drive.Event{Core: core, What: step.Recv{From: from.name, Msg: msg}}})
	}
}

// forge spoils a message.
func (w *world) forge(m Message) Message {
	switch m := m.(type) {
	case Coins:
		switch w.random.IntN(5) {
		case 0:
			m.Word[w.random.IntN(32)] ^= 1
		case 1:
			m.Index += 1 + w.random.Uint64N(MaxLength)
		case 2:
			m.Epoch += 1 + w.random.Uint64N(3)
		case 3:
			m.Commit = &Commitment{Epoch: m.Epoch + 1, Start: w.payeeCore().total(), Root: m.Word}
			m.Epoch++
		case 4:
			m.Word = m.Word.Hash()
			m.Index--
		}
		return m
	case Taken:
		switch w.random.IntN(3) {
		case 0:
			m.Sig[w.random.IntN(64)] ^= 1
		case 1:
			m.Total++
		case 2:
			m.To++
		}
		return m
	}
	return m
}

// committed is what a listener on the same machine knows for certain.
func (w *world) committed(b *box, d step.Outcome) {
	if b == w.payee && d.Core != "rail" {
		paid := d.Value.(receipt.Paid)
		e := paid.Entry()
		if _, err := receipt.Verify(e, w.terms.Payee.Node, paid.Proof()); err != nil {
			w.t.Fatal(err)
		}
		if amount, ok := w.orders[e.Order]; ok {
			w.stamped[e.Order]++
			if w.stamped[e.Order] > 1 || amount != e.Amount {
				w.t.Fatalf("order %v of %v stamped for %v, %d times", e.Order, amount, e.Amount, w.stamped[e.Order])
			}
			return
		}
		w.earned[e.Order] += e.Amount
	}
}

// heard is what a caller that may miss it knows.
func (w *world) heard(b *box, d step.Outcome) {
	if b != w.payer || d.Core == "rail" {
		return
	}
	switch v := d.Value.(type) {
	case receipt.Paid:
		e := v.Entry()
		if channel, err := receipt.Verify(e, w.terms.Payee.Node, v.Proof()); err != nil || channel != w.id {
			w.t.Fatalf("channel %x: %v", channel, err)
		}
		w.paid[e.Order] = true
		delete(w.refused, e.Order)
	case Metered:
		if v.Coins < w.metered[v.Session] || d.ID != MeterID(v.Session) {
			w.t.Fatalf("meter of %v runs backwards", v.Session)
		}
		w.metered[v.Session] = v.Coins
	case nil:
		if d.Err != nil {
			if money.KindOf(d.Err) != money.Unpaid {
				w.t.Fatal(d.Err)
			}
			id, _ := money.OrderIDFromKey(strings.TrimPrefix(d.ID, "meter/"))
			w.refused[id] = d.Err
		}
		w.shut = w.shut || d.ID == Shut
	}
}

// check holds memory against disk, and debt against credit.
func (w *world) check(b *box) {
	var have []step.Record
	var name string
	if b == w.payer {
		have, name = w.payerCore().Durable(), PayerName(w.id)
		w.payerCore().check()
		w.epochs = w.payerCore().commit.Epoch
	} else {
		p := w.payeeCore()
		have, name = p.Durable(), PayeeName(w.id)
		p.check()
		if p.total() > p.settled+w.terms.Credit || p.total() > w.payerCore().total && !w.faults {
			w.t.Fatalf("payee has %d coins, %d settled", p.total(), p.settled)
		}
		if c, index, word, ok := p.Evidence(); ok {
			if total, ok := w.terms.Owed(&c, index, word); !ok || total != p.total() {
				w.t.Fatalf("payee cannot show its %d coins", p.total())
			}
		}
	}
	var want []step.Record
	b.db.Scan(name+"/", func(key string, value []byte) bool {
		want = append(want, step.Record{Key: key, Value: value})
		return true
	})
	same := slices.EqualFunc(have, want, func(a, b step.Record) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) })
	if !same {
		w.t.Fatalf("%s: memory %v\ndisk %v", name, have, want)
	}
	if b == w.payer && w.random.IntN(8) == 0 {
		p, err := LoadPayer(b.db, w.id, secret(w.t, "payer"))
		if err != nil {
			w.t.Fatal(err)
		}
		q := w.payerCore()
		p.check()
		if p.chain.Word() != q.chain.Word() || p.ledger.Known() != q.ledger.Known()-waitingOrders(q) || p.ledger.Kept() != q.ledger.Kept() {
			w.t.Fatalf("loaded payer knows %d orders, the one in memory %d and %d wait", p.ledger.Known(), q.ledger.Known(), len(q.waiting))
		}
	}
}

func waitingOrders(p *Payer) (n int) {
	for _, a := range p.waiting {
		if !a.tick {
			n++
		}
	}
	return n
}

// run lets time pass.
func (w *world) run(rounds int) {
	for range rounds {
		w.now += 100 * step.Millisecond
		for n := len(w.net); n > 0; n-- {
			i := 0
			if w.faults {
				if w.random.IntN(3) == 0 {
					break // stays on the way
				}
				i = w.random.IntN(len(w.net))
			}
			p := w.net[i]
			w.net = slices.Delete(w.net, i, i+1)
			p.to.queue = append(p.to.queue, p.what)
		}
		if w.chance(2) {
			w.tell(step.Linked{Peer: w.payee.name})
		}
		w.round(w.payer)
		w.round(w.payee)
	}
}

func (w *world) newOrder(coins uint64) money.Order {
	id := money.OrderID{1}
	w.random.Uint64()
	for i := 1; i < len(id); i++ {
		id[i] = byte(w.random.Uint32())
	}
	w.orders[id] = w.terms.Coin * money.Amount(coins)
	w.ids = append(w.ids, id)
	return w.order(id)
}

func (w *world) order(id money.OrderID) money.Order {
	return money.Order{ID: id, Amount: w.orders[id]}
}

// finish asks for everything until it is paid, closes, and takes stock.
func (w *world) finish() {
	w.faults, w.railFails, w.lie = false, false, false
	for round := 0; len(w.paid) < len(w.orders); round++ {
		if round == 400 {
			w.t.Fatalf("%d of %d orders are paid: payer %+v, payee %+v", len(w.paid), len(w.orders), w.payerCore().Summary(), w.payeeCore().Summary())
		}
		for _, id := range w.ids {
			if !w.paid[id] {
				w.tell(w.order(id))
			}
		}
		w.run(5)
	}
	w.run(400)
	w.tell(Close{})
	w.run(400)
	payer, payee := w.payerCore(), w.payeeCore()
	if !w.shut || payer.state != shut {
		w.t.Fatalf("not shut: %+v", payer.Summary())
	}
	if payee.total() != payer.total || payee.settled != payee.total() || payer.settled != payer.total {
		w.t.Fatalf("payer %+v, payee %+v", payer.Summary(), payee.Summary())
	}
	var sum, paid money.Amount
	for _, id := range w.ids {
		if w.stamped[id] != 1 {
			w.t.Fatalf("order %v stamped %d times", id, w.stamped[id])
		}
		sum += w.orders[id]
	}
	for session, amount := range w.earned {
		sum += amount
		if got := payer.meters[session].coins; w.terms.Coin*money.Amount(got) != amount || w.metered[session] > got {
			w.t.Fatalf("session %v: metered %d coins, told %d, earned %v", session, got, w.metered[session], amount)
		}
	}
	w.payee.db.Scan("rail/", func(_ string, value []byte) bool {
		var amount uint64
		fmt.Sscan(string(value), &amount)
		paid += money.Amount(amount)
		return true
	})
	if book := w.payee.m.Core(earn.Name).(*earn.Book).Summary(); book.Earned != sum {
		w.t.Fatalf("orders and ticks of %v, and the till earned %v", sum, book.Earned)
	}
	if sum != payee.worth(payee.total()) || paid != sum {
		w.t.Fatalf("orders and ticks of %v, coins of %v, settled with %v", sum, payee.worth(payee.total()), paid)
	}
}

// Whatever is lost, repeated, reordered, forged or crashes: every order is paid
// once, all coins are settled, and the credit holds throughout.
func TestAnyWorld(t *testing.T) {
	first, last := uint64(1), *seeds
	if *seed != 0 {
		first, last = *seed, *seed
	}
	for number := first; number <= last; number++ {
		t.Run(fmt.Sprint(number), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, number, Proposal{Coin: 7, Length: 1 << (1 + number%7), Every: 10, Credit: 20 + number%10})
			w.faults, w.lie, w.railFails = true, number%2 == 0, number%3 == 0
			sessions := []money.OrderID{{2, 1}, {2, 2}, {2, 3}}
			for range 150 {
				for range w.random.IntN(4) {
					switch w.random.IntN(3) {
					case 0:
						w.tell(Tick{sessions[w.random.IntN(3)], 1 + w.random.Uint64N(2)})
					case 1:
						w.tell(w.newOrder(1 + w.random.Uint64N(6)))
					default:
						if len(w.ids) > 0 {
							w.tell(w.order(w.ids[w.random.IntN(len(w.ids))]))
						}
					}
				}
				w.run(1)
			}
			w.finish()
			t.Logf("seed %d: %d orders, %d settlements, %d epochs", number, len(w.orders), w.payerCore().settlements, w.epochs)
			if number%7 == 0 && w.epochs < 10 {
				t.Errorf("only %d epochs", w.epochs)
			}
		})
	}
}
