package sealed_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
)

// chunkOf is the i-th chunk: all have the needle.
func chunkOf(i int) []byte { return fmt.Appendf(nil, "chunk %d: %s", i, reading) }

func chunks(n int) (all [][]byte) {
	for i := 1; i <= n; i++ {
		all = append(all, chunkOf(i))
	}
	return all
}

const price = 1000 * money.Msat

// A market is a seller and a buyer, each with a disk, a link that loses, repeats
// and swaps messages, and a rail that pays an order once.
type market struct {
	t      *testing.T
	r      *rand.Rand
	stream *sealed.Stream
	reader *sealed.Reader

	sold, offered []byte // their disks, and where they were
	seller, buyer []byte
	link          [][]byte
	paid          map[money.OrderID]int
	till          []money.OrderID // payments that the seller has not been told of
	got           [][]byte        // what the buyer has taken, on its disk
}

func newMarket(t *testing.T, seed uint64, n int) *market {
	t.Helper()
	seller := secret(t, 1)
	s, err := sealed.NewStream(seller, sealed.ID{byte(seed)}, price, []byte("readings"), chunks(n))
	if err != nil {
		t.Fatal(err)
	}
	offer := s.Offer
	r, err := sealed.NewReader(&offer, seller.Public(), price)
	if err != nil {
		t.Fatal(err)
	}
	return &market{t: t, r: rand.New(rand.NewPCG(seed, 1)), stream: s, reader: r, sold: s.Record(), offered: r.Record(), paid: map[money.OrderID]int{}}
}

// send puts a message on the link, where it may be lost or doubled.
func (m *market) send(msg sealed.Message) {
	raw := msg.Append(nil)
	if _, want := msg.(sealed.Want); !want {
		m.secret(raw)
	}
	for range []int{0, 1, 1, 1, 2}[m.r.IntN(5)] {
		m.link = append(m.link, raw)
	}
	m.link = m.link[max(0, len(m.link)-8):] // a full link loses what is oldest
}

// secret fails if a message shows what it must not.
func (m *market) secret(raw []byte) {
	if bytes.Contains(raw, []byte("needle")) {
		m.t.Fatal("a message shows plaintext")
	}
	if v, err := sealed.Decode(raw); err == nil {
		if v, ok := v.(sealed.Reveal); ok && v.I > len(m.paid) {
			m.t.Fatalf("the key of chunk %d is out, and %d are paid", v.I, len(m.paid))
		}
	}
}

// turn is something that happens, whatever it is.
func (m *market) turn() {
	switch m.r.IntN(10) {
	case 0, 1: // the buyer asks
		m.send(m.reader.Want())
	case 2, 3, 4, 5: // a message arrives, not always the first
		if len(m.link) > 0 {
			i := m.r.IntN(min(3, len(m.link)))
			raw := m.link[i]
			m.link = append(m.link[:i:i], m.link[i+1:]...)
			m.arrive(raw)
		}
	case 6: // the buyer pays what is due, again and again
		if order, amount, due := m.reader.Due(); due {
			if m.paid[order] == 0 {
				m.till = append(m.till, order)
			}
			m.paid[order] = int(amount)
		}
	case 7: // the seller's rail tells it of a payment, and it is on disk
		if len(m.till) > 0 {
			if m.stream.Paid(m.till[0], price) {
				m.seller = m.stream.Place()
			}
			m.till = m.till[1:]
		}
	case 8: // kill -9, of either
		if m.r.IntN(3) > 0 {
			return
		}
		s, err := sealed.LoadStream(secret(m.t, 1), m.sold, m.seller)
		if err != nil {
			m.t.Fatal(err)
		}
		m.stream = s
	case 9:
		r, err := sealed.LoadReader(m.offered, m.buyer)
		if err != nil {
			m.t.Fatal(err)
		}
		m.reader = r
	}
}

func (m *market) arrive(raw []byte) {
	msg, err := sealed.Decode(raw)
	if err != nil {
		m.t.Fatal(err)
	}
	switch v := msg.(type) {
	case sealed.Want:
		for _, a := range m.stream.Answer(v) {
			m.send(a)
		}
	case sealed.Chunk:
		m.reader.Chunk(v)
	case sealed.Reveal:
		plain, err := m.reader.Take(v)
		if err == nil {
			m.got, m.buyer = append(m.got, plain), m.reader.Place()
		} else if !errors.Is(err, sealed.ErrEarly) {
			m.t.Fatal(err)
		}
	}
}

// Whatever is lost, doubled, swapped or killed, the buyer has each chunk once, in
// order, for its price, and nothing before it is paid.
func TestStreamInAnyWeather(t *testing.T) {
	for seed := range uint64(100) {
		const n = 6
		m := newMarket(t, seed, n)
		for turns := 0; ; turns++ {
			if over, err := m.reader.Over(); over && err == nil && bytes.Equal(m.buyer, m.reader.Place()) {
				break
			}
			if turns > 20_000 {
				t.Fatalf("seed %d: %d chunks after %d turns", seed, m.reader.Taken(), turns)
			}
			m.turn()
			if len(m.paid) > len(m.got)+1 {
				t.Fatalf("seed %d: %d chunks are paid and %d here", seed, len(m.paid), len(m.got))
			}
		}
		for i := range max(n, len(m.got)) {
			if i >= len(m.got) || i >= n || !bytes.Equal(m.got[i], chunkOf(i+1)) {
				t.Fatalf("seed %d: chunk %d of %d is %q", seed, i+1, n, m.got)
			}
		}
	}
}

// step has the buyer read one more chunk, without accidents.
func (m *market) step() ([]byte, error) {
	for _, a := range m.stream.Answer(m.reader.Want()) {
		if c, ok := a.(sealed.Chunk); ok {
			if err := m.reader.Chunk(c); err != nil {
				return nil, err
			}
		}
	}
	order, amount, due := m.reader.Due()
	if !due {
		return nil, errors.New("nothing is due")
	}
	m.paid[order] = int(amount)
	m.stream.Paid(order, amount)
	v, _ := m.stream.Reveal()
	return m.reader.Take(v)
}

// A seller that cheats at chunk i is paid for it, and for nothing after it; and the
// buyer can show it to anybody.
func TestCheatingSellerTakesOneChunk(t *testing.T) {
	seller := secret(t, 1)
	for cheat := 1; cheat <= 4; cheat++ {
		m := newMarket(t, 9, 4)
		m.stream.Spoil(seller, cheat)
		offer := m.stream.Offer
		m.reader, _ = sealed.NewReader(&offer, seller.Public(), price)
		for i := 1; i < cheat; i++ {
			if plain, err := m.step(); err != nil || !bytes.Equal(plain, chunkOf(i)) {
				t.Fatalf("chunk %d: %q, %v", i, plain, err)
			}
		}
		if _, err := m.step(); err == nil {
			t.Fatal("rubbish is read")
		}
		for range 2 { // and after a crash
			if _, _, due := m.reader.Due(); due || len(m.paid) != cheat {
				t.Errorf("cheated at chunk %d, it has paid for %d and would go on: %v", cheat, len(m.paid), due)
			}
			if over, err := m.reader.Over(); !over || err == nil {
				t.Error("it has not stopped")
			}
			c, k, any := m.reader.Evidence()
			if proven, why := sealed.FraudOf(&offer, c, k); !any || !proven || why == nil {
				t.Errorf("the evidence: %v, %v", proven, why)
			}
			c.Cipher = append([]byte{1}, c.Cipher...)
			if proven, _ := sealed.FraudOf(&offer, c, k); proven {
				t.Error("a chunk that the seller did not sign convicts it")
			}
			r, err := sealed.LoadReader(m.reader.Record(), m.reader.Place())
			if err != nil {
				t.Fatal(err)
			}
			m.reader = r
		}
		if m.reader.Chunk(sealed.Chunk{}) != sealed.ErrStopped {
			t.Error("it listens on")
		}
	}
	m := newMarket(t, 9, 2)
	m.step()
	offer := m.stream.Offer
	v, _ := m.stream.Reveal()
	c := m.stream.Answer(sealed.Want{ID: offer.ID, I: 1})[0].(sealed.Chunk)
	if proven, why := sealed.FraudOf(&offer, c, v.Key); proven || why != nil {
		t.Errorf("an honest seller is judged: %v, %v", proven, why)
	}
}

// What is not what was offered is refused before it is paid, and a wrong key
// changes nothing.
func TestReaderRefuses(t *testing.T) {
	m := newMarket(t, 3, 3)
	one := m.stream.Answer(sealed.Want{ID: m.stream.ID, I: 1})[0].(sealed.Chunk)
	two := m.stream.Answer(sealed.Want{ID: m.stream.ID, I: 2})[0].(sealed.Chunk)
	if err := m.reader.Chunk(two); !errors.Is(err, sealed.ErrEarly) {
		t.Errorf("the second chunk first: %v", err)
	}
	swapped := two
	swapped.I = 1
	cut := one
	cut.Cipher = cut.Cipher[:len(cut.Cipher)-1]
	for name, c := range map[string]sealed.Chunk{"another's": swapped, "cut": cut} {
		if err := m.reader.Chunk(c); !errors.Is(err, sealed.ErrForged) {
			t.Errorf("a chunk that is %s: %v", name, err)
		}
	}
	if _, _, due := m.reader.Due(); due {
		t.Error("it would pay for what it does not hold")
	}
	if err := m.reader.Chunk(one); err != nil {
		t.Fatal(err)
	}
	before := m.reader.Place()
	for _, v := range []sealed.Reveal{{ID: m.stream.ID, I: 1, Key: sealed.NewKey([32]byte{1})}, {ID: m.stream.ID, I: 1}, {ID: m.stream.ID, I: 3, Key: sealed.NewKey([32]byte{1})}} {
		if _, err := m.reader.Take(v); !errors.Is(err, sealed.ErrKey) {
			t.Errorf("a wrong key: %v", err)
		}
	}
	if _, _, due := m.reader.Due(); !due || !bytes.Equal(before, m.reader.Place()) {
		t.Error("a wrong key changes it")
	}
	offer := m.stream.Offer
	for name, change := range map[string]func(*sealed.Offer){
		"price":  func(o *sealed.Offer) { o.Price++ },
		"anchor": func(o *sealed.Offer) { o.Anchor[0] ^= 1 },
		"cut":    func(o *sealed.Offer) { o.Digests = o.Digests[:2] },
		"meta":   func(o *sealed.Offer) { o.Meta = []byte("better readings") },
		"empty":  func(o *sealed.Offer) { o.Digests = nil },
	} {
		o := offer
		change(&o)
		if _, err := sealed.NewReader(&o, secret(t, 1).Public(), 2*price); err == nil {
			t.Errorf("an offer with another %s is taken", name)
		}
	}
	if _, err := sealed.NewReader(&offer, secret(t, 1).Public(), price-1); err == nil {
		t.Error("it is too expensive")
	}
}

// The seller's end: nothing for nothing.
func TestStreamRefuses(t *testing.T) {
	m := newMarket(t, 3, 3)
	s := m.stream
	if _, any := s.Reveal(); any {
		t.Fatal("a key for nothing")
	}
	if s.Paid(s.Order(1), price-1) || s.Paid(money.OrderID{1}, price) {
		t.Error("too little, or for nothing of its own")
	}
	if !s.Paid(s.Order(2), price) || s.Paid(s.Order(2), price) {
		t.Error("the second chunk is paid, once")
	}
	if _, any := s.Reveal(); any || s.Sold() != 0 {
		t.Error("the key of the second chunk would open the first")
	}
	s.Paid(s.Order(1), price)
	if v, any := s.Reveal(); !any || v.I != 2 {
		t.Errorf("both are paid, and the key is of chunk %d", v.I)
	}
	if s.Answer(sealed.Want{ID: sealed.ID{99}, I: 1}) != nil || s.Answer(sealed.Want{ID: s.ID, I: 5}) != nil {
		t.Error("it answers what is not its own")
	}
	again, err := sealed.NewStream(secret(t, 1), s.ID, price, []byte("readings"), chunks(3))
	if err != nil || again.Anchor != s.Anchor {
		t.Errorf("the same stream again has other keys: %v", err)
	}
	other, err := sealed.NewStream(secret(t, 1), s.ID, price, []byte("readings"), [][]byte{{1}, {2}, {3}})
	if err != nil || other.Anchor == s.Anchor {
		t.Errorf("other data has the same keys: %v", err)
	}
	if _, err := sealed.LoadStream(secret(t, 2), s.Record(), nil); err == nil {
		t.Error("another's stream is loaded")
	}
}

// A buyer that was put back to an older record reads on, and pays nothing again.
func TestReaderFromABackup(t *testing.T) {
	m := newMarket(t, 3, 4)
	m.step()
	old := m.reader.Place()
	m.step()
	m.step()
	r, err := sealed.LoadReader(m.reader.Record(), old)
	if err != nil {
		t.Fatal(err)
	}
	for i := 2; i <= 3; i++ {
		var plain []byte
		for _, a := range m.stream.Answer(r.Want()) {
			switch a := a.(type) {
			case sealed.Chunk:
				err = r.Chunk(a)
			case sealed.Reveal:
				plain, err = r.Take(a)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(plain, chunkOf(i)) {
			t.Errorf("chunk %d is %q", i, plain)
		}
	}
}

func BenchmarkSeal1K(b *testing.B) {
	seller, key, plain := secret(b, 1), sealed.NewKey([32]byte{7}), make([]byte, 1024)
	for b.Loop() {
		sealed.Seal(seller, money.OrderID{1}, 500, key, nil, plain)
	}
}

func BenchmarkChunk1K(b *testing.B) {
	seller := secret(b, 1)
	all := make([][]byte, sealed.MaxChunks)
	for i := range all {
		all[i] = make([]byte, 1024)
	}
	for b.Loop() {
		s, _ := sealed.NewStream(seller, sealed.ID{}, price, nil, all)
		offer := s.Offer
		r, _ := sealed.NewReader(&offer, seller.Public(), price)
		for over := false; !over; over, _ = r.Over() {
			r.Chunk(s.Answer(r.Want())[0].(sealed.Chunk))
			order, amount, _ := r.Due()
			s.Paid(order, amount)
			v, _ := s.Reveal()
			r.Take(v)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/sealed.MaxChunks, "ns/chunk")
}
