package data

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
	"coinop.dev/core/step"
	"coinop.dev/world/store/mem"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newMem(t testing.TB) *mem.DB {
	db, err := mem.New(nil)
	must(t, err)
	return db
}

// deliver tells the core of an order, as the till does, and returns its answer.
func deliver(t testing.TB, s *sales, db *mem.DB, device string) error {
	t.Helper()
	order := money.OrderID{byte(len(device))}
	fx := s.Step(step.Input{Events: []any{step.Recv{From: earn.Name, Msg: earn.Deliver{Order: order, Device: device}}}})
	must(t, db.Commit(fx.Put))
	if len(fx.Send) != 1 || fx.Send[0].To != earn.Name {
		t.Fatalf("it says %+v", fx.Send)
	}
	d := fx.Send[0].Msg.(earn.Delivered)
	if d.Order != order || len(d.Payload) > 0 {
		t.Fatalf("it answers %+v", d)
	}
	return d.Err
}

// Whatever order and however often the till says that chunks are paid, and whenever
// the machine dies, a stream is sold without a gap, and never less than before.
func TestSalesGrowByOne(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	db, ids, want := newMem(t), []sealed.ID{{1}, {2}, {}}, map[sealed.ID]int{}
	s, err := loadSales(db)
	must(t, err)
	for range 3000 {
		id, i := ids[r.IntN(3)], 1+r.IntN(8)
		err := deliver(t, s, db, place(id, i))
		switch have := want[id]; {
		case i <= have && err != nil:
			t.Fatalf("chunk %d again, of %d: %v", i, have, err)
		case i == have+1:
			if err != nil {
				t.Fatalf("chunk %d: %v", i, err)
			}
			want[id] = i
		case i > have+1 && !errors.Is(err, money.Pending):
			t.Fatalf("chunk %d after %d: %v", i, have, err)
		}
		if r.IntN(20) == 0 {
			s, err = loadSales(db)
			must(t, err)
		}
		for _, id := range ids {
			if s.of(id) != want[id] {
				t.Fatalf("%d chunks are sold, want %d", s.of(id), want[id])
			}
		}
	}
	if err := deliver(t, s, db, ""); err != nil {
		t.Errorf("a reading sold alone: %v", err)
	}
	for _, device := range []string{"x", "00/1", place(ids[0], 0), place(ids[0], 1025)} {
		if err := deliver(t, s, db, device); !errors.Is(err, money.Invalid) {
			t.Errorf("%q: %v", device, err)
		}
	}
}

// Streams that were paid for longest ago are forgotten, in memory and on disk.
func TestSalesAreBounded(t *testing.T) {
	db := newMem(t)
	s, err := loadSales(db)
	must(t, err)
	id := func(i int) (id sealed.ID) { copy(id[:], fmt.Sprintf("%016d", i)); return id }
	for i := range MaxStreams {
		must(t, deliver(t, s, db, place(id(i), 1)))
	}
	must(t, deliver(t, s, db, place(id(0), 2)))
	must(t, deliver(t, s, db, place(id(MaxStreams), 1)))
	for range 2 {
		if len(s.streams) != MaxStreams || s.of(id(0)) != 2 || s.of(id(1)) != 0 || s.of(id(MaxStreams)) != 1 {
			t.Errorf("of %d streams: %d, %d, %d", len(s.streams), s.of(id(0)), s.of(id(1)), s.of(id(MaxStreams)))
		}
		s, err = loadSales(db)
		must(t, err)
	}
}

// The shelf: strangers' streams push out each other and not those that are paid for,
// and those on disk are bounded, too.
func TestShelfIsBounded(t *testing.T) {
	seller, err := keys.SecretFromBytes(append(make([]byte, 31), 1))
	must(t, err)
	db := newMem(t)
	var s shelf
	must(t, s.load(db, seller))
	big := make([]byte, sealed.MaxPlain)
	stream := func(n int) *sealed.Stream {
		st, err := sealed.NewStream(seller, sealed.ID{byte(n), byte(n >> 8)}, 1, nil, [][]byte{big, big, big, big, big, big, big, big, big, big, big, big, big, big, big, big})
		must(t, err)
		return st
	}
	first := stream(0)
	s.put(first)
	must(t, s.keep(first.ID))
	must(t, s.keep(first.ID))
	for i := 1; i < 100; i++ {
		s.put(stream(i))
	}
	if s.size > MaxOpen || len(s.open) > 40 {
		t.Errorf("%d streams of %d bytes in memory", len(s.open), s.size)
	}
	if _, err := s.get(sealed.ID{1}); !errors.Is(err, ErrGone) {
		t.Errorf("an old one that nobody has paid for: %v", err)
	}
	for range 2 { // the second time from disk
		have, err := s.get(first.ID)
		if err != nil || string(have.Record()) != string(first.Record()) {
			t.Errorf("the one that is paid for: %v", err)
		}
		s = shelf{}
		must(t, s.load(db, seller))
	}
	for i := range 200 {
		st := stream(i)
		s.put(st)
		must(t, s.keep(st.ID))
	}
	bytes, n := 0, 0
	must(t, db.Scan(keptKey, func(_ string, v []byte) bool { bytes += len(v); n++; return true }))
	if bytes > MaxKept || bytes != s.disk || n != len(s.kept) || n < 100 {
		t.Errorf("%d streams of %d bytes on disk; it thinks %d of %d", n, bytes, len(s.kept), s.disk)
	}
}

// The same reading has the same commitment, another time or service another.
func TestCommitment(t *testing.T) {
	seller, err := keys.SecretFromBytes(append(make([]byte, 31), 1))
	must(t, err)
	commit := func(service string, r Reading) [32]byte { return Commitment(salt(seller, service, r), r.Data) }
	r := Reading{1, []byte("21.5")}
	one := commit("a", r)
	if commit("a", Reading{1, []byte("21.5")}) != one {
		t.Error("it changes")
	}
	if one == commit("b", r) || one == commit("a", Reading{2, r.Data}) || one == commit("a", Reading{1, nil}) {
		t.Error("it says too little")
	}
}

// FuzzPlace: what names a chunk names one.
func FuzzPlace(f *testing.F) {
	f.Add(place(sealed.ID{1}, 7))
	f.Add("00/1")
	f.Fuzz(func(t *testing.T, text string) {
		id, i, err := parsePlace(text)
		if err != nil {
			return
		}
		again, j, err := parsePlace(place(id, i))
		if err != nil || again != id || j != i {
			t.Errorf("%q is chunk %d of %x, and then %d of %x: %v", text, i, id, j, again, err)
		}
	})
}

// FuzzJudge: no file of evidence breaks whoever reads it.
func FuzzJudge(f *testing.F) {
	seller, err := keys.SecretFromBytes(append(make([]byte, 31), 1))
	must(f, err)
	one, err := sealed.Seal(seller, money.OrderID{1}, 1, sealed.NewKey([32]byte{1}), []byte(`{}`), make([]byte, 40))
	must(f, err)
	f.Add([]byte(`{"key":"00"}`))
	f.Add(fmt.Appendf(nil, `{"key":"01%062d","sealed":%q}`, 0, one.Append(nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if proven, why := Judge(b); proven && why == nil {
			t.Error("proven, and nothing is wrong")
		}
	})
}

// FuzzCheck: an offer that is not the seller's is never paid.
func FuzzCheck(f *testing.F) {
	f.Add([]byte{0x8a, 1}, "lightning:lnbc1")
	f.Fuzz(func(t *testing.T, b []byte, pay string) {
		if _, _, _, err := check(Offer{Service: "a", Pay: pay, Sealed: b}, Terms{Most: money.MaxAmount}, 0); err == nil {
			t.Error("nobody has signed it")
		}
	})
}
