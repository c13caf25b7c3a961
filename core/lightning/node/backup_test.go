package node_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/lightning/backup"
	"coinop.dev/core/lightning/node"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// newest is the last backup that a machine sent out.
func (m *machine) newest() (*backup.Backup, []byte) {
	m.w.t.Helper()
	if len(m.backups) == 0 {
		m.w.t.Fatalf("%s has made no backup", m.name)
	}
	sealed := m.backups[len(m.backups)-1].Sealed
	b, err := backup.Open(m.key, sealed)
	if err != nil {
		m.w.t.Fatalf("%s: %v", m.name, err)
	}
	return b, sealed
}

// lose leaves a machine with its key and nothing else.
func (m *machine) lose() {
	m.disk, m.n, m.done, m.published = disk{}, node.New(m.key, m.w.config), nil, nil
	m.cut()
	m.step(step.Rang{ID: step.Start})
}

// cut ends all connections, for this end only: the other one has not noticed.
func (m *machine) cut() { m.link = map[*machine]uint64{} }

// rollBack starts a machine on an old copy of its disk.
func (m *machine) rollBack(old disk) {
	m.disk, m.done, m.published, m.backups = maps.Clone(old), nil, nil, nil
	n, err := node.Load(m.disk, m.key, m.w.config)
	if err != nil {
		m.w.t.Fatal(err)
	}
	m.n = n
	m.cut()
	m.step(step.Rang{ID: step.Start})
}

func (m *machine) pay(n byte, to *machine, amount money.Amount) {
	m.w.t.Helper()
	id := money.OrderID{n}
	m.step(money.Order{ID: id, To: to.bill(amount, n), Amount: amount})
	m.w.settle()
	if d := m.last(id.Key()); d == nil || d.Err != nil {
		m.w.t.Fatalf("order %d: %+v", n, d)
	}
}

func (m *machine) states() (list []string) {
	for _, c := range m.n.Summary().Channels {
		list = append(list, c.State)
	}
	return list
}

// A machine burns. A new one gets the key and the backup, and nothing else. It
// restores, connects to its peer, the peer closes, and the balance comes home.
// All that the new machine ever publishes is the sweep.
func TestFromKeyAndBackupAlone(t *testing.T) {
	for _, static := range []bool{true, false} {
		for _, opens := range []bool{true, false} {
			for _, payments := range []int{0, 1, 5} {
				t.Run(fmt.Sprintf("static %v opens %v payments %d", static, opens, payments), func(t *testing.T) {
					w := newWorld(t, "car", "charger")
					car, charger := w.machines[0], w.machines[1]
					w.connect(car, charger)
					opener, other := car, charger
					if !opens {
						opener, other = other, opener
					}
					opened := w.open(opener, other, node.Open{Capacity: 1_000_000, Push: 400_000_000, Static: static})
					for i := range payments {
						opener.pay(byte(i+1), other, 1_000_000)
					}
					_, sealed := car.newest()
					balance := car.n.Summary().Channels[0].Local

					car.lose()
					car.step(node.Restore{Sealed: sealed})
					d := car.last(node.RestoreID)
					if d == nil || d.Err != nil || d.Value.(node.Restored).Channels != 1 {
						t.Fatalf("restore: %+v", d)
					}
					if b, _ := car.newest(); b.Next < 1<<16 { // or a later channel may share its secrets
						t.Errorf("the next channel has index %d", b.Next)
					}
					car.restart() // what was restored is on disk
					w.connect(car, charger)
					if s := charger.states(); s[0] != "failed" {
						t.Fatalf("the peer's channel is %s; it must close", s[0])
					}
					w.mine(1)
					w.mine(1)
					w.mine(1)
					closing := w.spent[opened.Point]
					if closing == nil {
						t.Fatal("the peer has published nothing")
					}
					swept, found := int64(0), false
					for _, p := range car.published {
						if p.TxHash() == closing.TxHash() {
							t.Fatal("the restored node published a commitment")
						}
						for _, in := range p.TxIn {
							if in.PreviousOutPoint.Hash != closing.TxHash() {
								t.Fatalf("the restored node spends %v", in.PreviousOutPoint)
							}
							swept, found = closing.TxOut[in.PreviousOutPoint.Index].Value, true
						}
						if !bytes.Equal(p.TxOut[0].PkScript, w.config.Payout) {
							t.Error("the money goes elsewhere")
						}
					}
					// The opener pays the fee and the anchors.
					if least := balance.Sats() - 2000; !found || swept < least || swept > balance.Sats() {
						t.Errorf("swept %d sat of %d", swept, balance.Sats())
					}
				})
			}
		}
	}
}

// Every change of the set of channels makes a backup with a higher number; a
// payment makes none.
func TestBackupOnEveryChange(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	if len(car.backups) != 0 {
		t.Error("a node without channels makes backups")
	}
	w.connect(car, charger)
	car.step(node.Reached{Peer: charger.key.Public(), Address: "charger.example:9735"})
	car.step(node.Reached{Peer: charger.key.Public(), Address: "what is this"})
	last := uint64(0)
	for i := range 3 {
		w.open(car, charger, node.Open{Capacity: 100_000 + int64(i), Push: 1_000_000})
		b, _ := car.newest()
		if len(b.Channels) != i+1 || b.Change <= last || b.Channels[i].Commit.Capacity != 100_000+int64(i) {
			t.Fatalf("after channel %d: %d channels, change %d", i, len(b.Channels), b.Change)
		}
		if c := b.Channels[i]; c.Peer != charger.key.Public() || c.Address != "charger.example:9735" || !bytes.Equal(c.Payout, w.config.Payout) || c.Index >= b.Next {
			t.Errorf("channel %d: %+v", i, c)
		}
		last = b.Change
	}
	made := len(car.backups)
	car.pay(1, charger, 5_000_000)
	if len(car.backups) != made {
		t.Error("a payment made a backup")
	}
	car.step(node.Reached{Peer: charger.key.Public(), Address: "10.0.0.9:9735"})
	if b, _ := car.newest(); b.Change != last+1 || b.Channels[2].Address != "10.0.0.9:9735" {
		t.Errorf("the peer has moved: %+v", b.Channels[2])
	}
	car.restart()
	b, _ := car.newest()
	if b.Change != last+1 { // the same again
		t.Errorf("after a restart: change %d", b.Change)
	}
	if list := car.n.Contacts(); len(list) != 1 || list[0] != (node.Contact{Peer: charger.key.Public(), Address: "10.0.0.9:9735"}) {
		t.Errorf("contacts: %+v", list)
	}
	// A channel that is over leaves it.
	w.connect(car, charger)
	car.step(node.Erase{Index: b.Channels[0].Index, Last: true})
	if again, _ := car.newest(); again.Change != b.Change {
		t.Error("an open channel was erased")
	}
}

// What cannot be restored is refused, and nothing changes.
func TestRestoreRefuses(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.connect(car, charger)
	w.open(car, charger, node.Open{Capacity: 100_000})
	_, sealed := car.newest()
	refused := func(what string, m *machine, sealed []byte, kind money.Kind) {
		t.Helper()
		before := maps.Clone(m.disk)
		m.step(node.Restore{Sealed: sealed})
		if d := m.last(node.RestoreID); d == nil || money.KindOf(d.Err) != kind {
			t.Errorf("%s: %+v", what, d)
		}
		if !maps.EqualFunc(before, m.disk, bytes.Equal) {
			t.Errorf("%s: the disk changed", what)
		}
	}
	refused("a node that has channels", car, sealed, money.Refused)
	charger.lose()
	refused("another's backup", charger, sealed, money.Invalid)
	car.lose()
	refused("a damaged one", car, sealed[:len(sealed)-1], money.Invalid)
	w.config.Chain[0] = 9
	car.lose()
	refused("one of another chain", car, sealed, money.Invalid)
}

// A disk image is rolled back, counters and all. The peer's own channel has not
// moved since, so it notices nothing; but it keeps a newer backup of ours. Every
// channel stops, and the one that the old disk does not know is found again.
func TestPeersRemember(t *testing.T) {
	w := newWorld(t, "car", "charger", "router")
	car, charger, router := w.machines[0], w.machines[1], w.machines[2]
	w.connect(car, charger)
	w.connect(car, router)
	first := w.open(car, charger, node.Open{Capacity: 1_000_000})
	old := maps.Clone(car.disk)
	second := w.open(car, router, node.Open{Capacity: 500_000})

	car.rollBack(old)
	w.connect(car, charger)
	d := car.last(node.OutdatedID)
	if d == nil || d.Err == nil {
		t.Fatal("nobody said that the database is old")
	}
	o := d.Value.(node.Outdated)
	if o.From != charger.peer() || o.Newest <= o.Ours || o.Restored != 1 {
		t.Errorf("%+v", o)
	}
	for i, s := range car.states() {
		if s != "stale" {
			t.Errorf("channel %d is %s", i, s)
		}
	}
	w.mine(1)
	if w.spent[first.Point] == nil {
		t.Error("the peer was not asked to close")
	}
	w.connect(car, router)
	w.mine(1)
	if w.spent[second.Point] == nil {
		t.Error("the forgotten channel was not closed")
	}
	for _, p := range car.published {
		if at := p.TxIn[0].PreviousOutPoint; at == first.Point || at == second.Point {
			t.Error("an old database published a commitment")
		}
	}
	if !slices.ContainsFunc(car.backups, func(c backup.Copy) bool { return c.From == charger.peer() }) {
		t.Error("the newer backup was not handed on")
	}
	// A channel that is opened now has secrets that no other ever had.
	b, _ := car.newest()
	if b.Next < 1<<16 {
		t.Errorf("the next channel has index %d", b.Next)
	}
	car.restart()
	if n := car.n.Summary().Channels; len(n) != 2 || n[0].State != "stale" && n[0].State != "closed" {
		t.Errorf("after a restart: %+v", n)
	}
}

// The file tells as much as a peer does.
func TestTheFileRemembers(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.connect(car, charger)
	w.open(car, charger, node.Open{Capacity: 1_000_000})
	old := maps.Clone(car.disk)
	_, sealed := car.newest()
	car.step(node.Kept{Sealed: sealed})
	if d := car.last(node.OutdatedID); d != nil {
		t.Fatalf("its own file stops it: %v", d.Err)
	}
	second := w.open(car, charger, node.Open{Capacity: 400_000})
	_, sealed = car.newest()
	car.rollBack(old)
	car.step(node.Kept{Sealed: sealed})
	if d := car.last(node.OutdatedID); d == nil || d.Value.(node.Outdated).Restored != 1 {
		t.Fatalf("%+v", d)
	}
	if b, _ := car.newest(); len(b.Channels) != 2 || b.Channels[1].Commit.Funding != second.Point {
		t.Error("the next backup does not have what the file had")
	}
	car.restart()
	for _, s := range car.states() {
		if s != "stale" {
			t.Errorf("a channel is %s", s)
		}
	}
	charger.lose()
	charger.step(node.Kept{Sealed: sealed})
	if d := charger.last(node.OutdatedID); d == nil || money.KindOf(d.Err) != money.Invalid {
		t.Errorf("another machine's file: %+v", d)
	}
}

// The old disk goes on and opens a channel, so that it has as many backups as the
// lost one had. They are not the same.
func TestTwoFuturesOfOneDisk(t *testing.T) {
	w := newWorld(t, "car", "charger", "router")
	car, charger, router := w.machines[0], w.machines[1], w.machines[2]
	w.connect(car, charger)
	w.open(car, charger, node.Open{Capacity: 1_000_000})
	old := maps.Clone(car.disk)
	lost := w.open(car, charger, node.Open{Capacity: 400_000})
	was, _ := car.newest()

	car.rollBack(old)
	w.connect(car, router)
	w.open(car, router, node.Open{Capacity: 500_000})
	if is, _ := car.newest(); is.Change != was.Change {
		t.Fatalf("change %d and %d: the test is of the same number", is.Change, was.Change)
	}
	w.connect(car, charger)
	if d := car.last(node.OutdatedID); d == nil {
		t.Fatal("the other future was not noticed")
	}
	w.mine(1)
	if w.spent[lost.Point] == nil {
		t.Error("the lost channel was not closed")
	}
}

// An honest node meets its own blobs at every connection, whenever it was
// started, and is never stopped by them.
func TestHonestNodesAreNotStopped(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.connect(car, charger)
	w.open(car, charger, node.Open{Capacity: 1_000_000, Push: 100_000_000})
	for i := range 6 {
		w.config.Generation++
		if i%2 == 0 {
			car.restart()
		}
		if i%3 == 0 {
			charger.restart()
		}
		w.at += step.Hour
		w.connect(car, charger)
		w.mine(1)
		car.pay(byte(i+1), charger, 10_000)
		if i == 4 {
			w.open(charger, car, node.Open{Capacity: 100_000})
		}
	}
	for _, m := range w.machines {
		if d := m.last(node.OutdatedID); d != nil {
			t.Errorf("%s: %v", m.name, d.Err)
		}
	}
}

// No channel was opened since the database was copied. But it was started, and the
// generation is a part of every backup.
func TestPeersRememberTheStart(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.config.Generation = 4
	car.lose()
	w.connect(car, charger)
	w.open(car, charger, node.Open{Capacity: 1_000_000})
	old := maps.Clone(car.disk)
	w.config.Generation = 5
	w.at += step.Hour // or the peer would not have written the blob yet
	car.restart()
	w.connect(car, charger)
	w.config.Generation = 4
	car.rollBack(old)
	w.connect(car, charger)
	if d := car.last(node.OutdatedID); d == nil || d.Value.(node.Outdated).NewStart != 5 {
		t.Errorf("%+v", d)
	}
}

// --accept-stale: everything is there, and nothing of it is ever published.
func TestGivenUpPublishesNothing(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.connect(car, charger)
	opened := w.open(car, charger, node.Open{Capacity: 1_000_000, Push: 100_000_000})
	old := maps.Clone(car.disk)
	car.pay(1, charger, 300_000_000)

	records, err := node.GiveUp(disk(old), car.key)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		old[r.Key] = r.Value
	}
	car.rollBack(old)
	car.step(node.Close{ID: opened.ID, Force: true})
	if d := car.last(node.CloseID + opened.ID.String()); d == nil || money.KindOf(d.Err) != money.Refused {
		t.Errorf("force close: %+v", d)
	}
	car.restart()
	w.connect(car, charger)
	w.mine(3)
	if s := car.states(); s[0] != "closed" {
		t.Errorf("the channel is %v", s)
	}
	for _, p := range car.published {
		if p.TxIn[0].PreviousOutPoint == opened.Point {
			t.Error("an old commitment was published")
		}
	}
	if w.spent[opened.Point] == nil {
		t.Error("the peer did not close")
	}
}

// A channel that is given up before its funding was mined does not publish it: the
// coins may be elsewhere by now.
func TestGivenUpIsNotFunded(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.connect(car, charger)
	car.step(node.Open{Tag: "t", Peer: charger.key.Public(), Capacity: 100_000})
	w.settle()
	funding := wire.NewMsgTx(2)
	funding.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 3}, nil, nil))
	funding.AddTxOut(car.last(node.FundID + "t").Value.(node.Funding).Output)
	car.step(node.Fund{Tag: "t", Tx: funding})
	w.settle()
	records, err := node.GiveUp(car.disk, car.key)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		car.disk[r.Key] = r.Value
	}
	car.rollBack(car.disk)
	if len(car.published) != 0 || car.states()[0] != "stale" {
		t.Errorf("%d transactions published; the channel is %v", len(car.published), car.states())
	}
}

// Blobs of peers.
func TestKeepingForPeers(t *testing.T) {
	w := newWorld(t, "car", "charger", "stranger")
	car, charger, stranger := w.machines[0], w.machines[1], w.machines[2]
	w.connect(car, charger)
	w.connect(stranger, charger)
	w.open(car, charger, node.Open{Capacity: 100_000})
	put := func(from *machine, blob string) {
		charger.step(step.Recv{From: from.peer(), Link: charger.link[from], Msg: &ln.PeerStorage{Blob: []byte(blob)}})
	}
	onDisk := func(of *machine) string { return string(charger.disk["ln/s/"+of.key.Public().String()]) }
	put(stranger, "hello")
	if onDisk(stranger) != "" {
		t.Error("it keeps blobs for anybody")
	}
	// Once a minute, and then the newest.
	w.at += step.Minute
	put(car, "one")
	put(car, "two")
	put(car, "three")
	if got := onDisk(car); got != "one" {
		t.Errorf("on disk: %q", got)
	}
	w.at += step.Minute
	charger.step(step.Rang{ID: "keep"})
	if got := onDisk(car); got != "three" {
		t.Errorf("a minute later on disk: %q", got)
	}
	charger.restart()
	// It comes back before anything is said of channels.
	charger.link[car] = 99
	fx := charger.n.Step(step.Input{At: w.at, Events: []any{
		step.Linked{Peer: car.peer(), Link: 99},
		step.Recv{From: car.peer(), Link: 99, Msg: &ln.Init{Features: ln.NewFeatures(ln.ProvideStorage.Optional())}},
	}})
	var said []string
	for _, p := range fx.Send {
		said = append(said, fmt.Sprintf("%T", p.Msg))
		if m, ok := p.Msg.(*ln.PeerStorageRetrieval); ok && string(m.Blob) != "three" {
			t.Errorf("it returns %q", m.Blob)
		}
	}
	if len(said) < 3 || said[1] != "*wire.PeerStorageRetrieval" || said[2] != "*wire.ChannelReestablish" {
		t.Errorf("said %v", said)
	}
	// An empty blob is one less.
	w.at += step.Minute
	put(car, "")
	if _, there := charger.disk["ln/s/"+car.key.Public().String()]; there {
		t.Error("an empty blob is kept")
	}
}

// A blob that the peer has already does not travel again.
func TestTheNewestIsNotSentTwice(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.connect(car, charger)
	w.open(car, charger, node.Open{Capacity: 100_000})
	reconnect := func() (sent int) {
		w.connect(car, charger)
		for _, m := range w.machines {
			sent += m.blobs
			m.blobs = 0
		}
		return sent
	}
	reconnect()
	if n := reconnect(); n != 0 {
		t.Errorf("%d blobs, and nothing had changed", n)
	}
	car.step(node.Reached{Peer: charger.key.Public(), Address: "10.0.0.9:9735"})
	w.net, car.blobs = nil, 0 // lost on the way
	if n := reconnect(); n != 1 {
		t.Errorf("%d blobs, and one had been lost", n)
	}
}

// A peer that keeps no large blobs, as LDK, gets small ones, and is not asked
// twice.
func TestSmallBlobs(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.connect(car, charger)
	w.open(car, charger, node.Open{Capacity: 100_000})
	complain := func() (sizes []int) {
		fx := car.n.Step(step.Input{At: w.at, Events: []any{
			step.Recv{From: charger.peer(), Link: car.link[charger], Msg: &ln.Warning{Data: "1024 bytes at most"}},
		}})
		for _, p := range fx.Send {
			if m, ok := p.Msg.(*ln.PeerStorage); ok {
				sizes = append(sizes, len(m.Blob))
			}
		}
		return sizes
	}
	if sizes := complain(); len(sizes) != 1 || sizes[0] != 1024 {
		t.Errorf("blobs of %d bytes", sizes)
	}
	if sizes := complain(); len(sizes) != 0 {
		t.Errorf("again blobs of %d bytes", sizes)
	}
}

// A peer that lies with a blob of its own, or of long ago, stops nobody.
func TestForgedBlobs(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.connect(car, charger)
	w.open(car, charger, node.Open{Capacity: 100_000})
	_, old := car.newest()
	w.open(car, charger, node.Open{Capacity: 200_000})
	forged := (&backup.Backup{Change: 1 << 60}).Seal(charger.key, ln.MaxBlob)
	for _, blob := range [][]byte{nil, {1}, old, forged} {
		car.step(step.Recv{From: charger.peer(), Link: car.link[charger], Msg: &ln.PeerStorageRetrieval{Blob: blob}})
	}
	if d := car.last(node.OutdatedID); d != nil || car.states()[0] != "open" {
		t.Errorf("stopped by a forged blob: %+v", d)
	}
}

// The peer that closes gets its own money, too: nothing is taken from it.
func TestRestoredIsNotAThief(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.connect(car, charger)
	opened := w.open(car, charger, node.Open{Capacity: 1_000_000, Push: 400_000_000})
	_, sealed := car.newest()
	car.lose()
	car.step(node.Restore{Sealed: sealed})
	w.connect(car, charger)
	w.mine(1)
	w.mine(1)
	w.mine(1)
	closing := w.spent[opened.Point]
	taken := map[wire.OutPoint]bool{}
	for _, p := range car.published {
		for _, in := range p.TxIn {
			taken[in.PreviousOutPoint] = true
		}
	}
	for i, out := range closing.TxOut {
		if taken[wire.OutPoint{Hash: closing.TxHash(), Index: uint32(i)}] && out.Value < 500_000 {
			t.Errorf("output %d of %d sat was taken", i, out.Value)
		}
	}
}
