package data_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
	"coinop.dev/gateway/data"
	"coinop.dev/rail"
)

func decode(t *testing.T, o data.Offer) *sealed.Sealed {
	t.Helper()
	msg, err := sealed.Decode(o.Sealed)
	must(t, err)
	return msg.(*sealed.Sealed)
}

// One reading, over a real Lightning channel: listed, offered, checked, paid, read;
// and nothing of it in the clear on any wire, ever.
func TestReadingOverLightning(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	ctx := t.Context()
	list, err := m.client.List(ctx)
	must(t, err)
	if len(list.Services) != 3 || list.Seller != m.m.Key.Public() || list.Services[0].Size != len(reading(5)) || list.Services[0].Stream != 5 {
		t.Errorf("it lists %+v", list)
	}
	o, err := m.client.Offer(ctx, "temperature")
	must(t, err)
	m.silent(t)
	// What comes now is not in the offer any more.
	must(t, m.feed.Put(data.Reading{At: 2000, Data: []byte("6: later")}))

	// Nothing is paid for what is not right.
	other, err := m.client.Offer(ctx, "temperature")
	must(t, err)
	terms := m.terms(t)
	spoilt := decode(t, o)
	spoilt.Cipher[40] ^= 1
	swapped, altered, renamed := o, o, o
	swapped.Pay = other.Pay
	altered.Sealed = spoilt.Append(nil)
	renamed.Service = "hints"
	uri := o
	uri.Pay = m.rails[2].String()
	stranger, dear := terms, terms
	stranger.Seller = m.buyer.m.Key.Public()
	dear.Most = price - 1
	for what, try := range map[string]struct {
		offer data.Offer
		terms data.Terms
	}{
		"another's invoice": {swapped, terms}, "an altered ciphertext": {altered, terms}, "another service": {renamed, terms},
		"another seller": {o, stranger}, "a price too high": {o, dear}, "no invoice": {uri, terms},
		"nothing": {data.Offer{Service: "temperature", Pay: o.Pay}, terms},
	} {
		if _, err := data.Buy(ctx, m.buyer, try.offer, try.terms); err == nil || !errors.Is(err, money.Refused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := m.buyer.paid.Load(); n != 0 {
		t.Fatalf("%d payments for nothing", n)
	}
	if have := m.order(t, decode(t, o).Order, func(earn.Order) bool { return true }); have.State != "quoted" || have.Paid != 0 {
		t.Errorf("the till knows of an offer that nobody has paid: %+v", have)
	}

	for range 2 { // the second time it is paid already
		b, err := data.Buy(ctx, m.buyer, o, terms)
		if err != nil || string(b.Data) != reading(5) || b.At != 1000 || b.Meta.Commit != list.Services[0].Commit {
			t.Fatalf("bought %q, %+v, %v", b.Data, b.Meta, err)
		}
	}
	m.silent(t)
	// The books say what was sold, once.
	sold := m.order(t, decode(t, o).Order, func(o earn.Order) bool { return o.State == "settled" })
	if sold.Paid != price || sold.Item != "temperature" || len(sold.Payload) != 0 {
		t.Errorf("in the books: %+v", sold)
	}
	summary, err := m.buyer.Summary(ctx)
	must(t, err)
	if summary.Spent != price {
		t.Errorf("spent %v for a reading of %v", summary.Spent, price)
	}
	// Two buyers of one reading see that it is one.
	again, err := m.client.Offer(ctx, "temperature")
	must(t, err)
	b, err := data.Buy(ctx, m.buyer, again, terms)
	if err != nil || string(b.Data) != "6: later" {
		t.Errorf("the next reading: %q, %v", b.Data, err)
	}
	// Free ones are in the clear: nobody pays.
	hint, err := m.client.Offer(ctx, "hints")
	must(t, err)
	paid := m.buyer.paid.Load()
	if b, err := data.Buy(ctx, m.buyer, hint, terms); err != nil || string(b.Data) != "6: later" || m.buyer.paid.Load() != paid {
		t.Errorf("a free reading: %q, %v", b.Data, err)
	}
	for _, name := range []string{"humidity", "coffee", "tea"} {
		if _, err := m.client.Offer(ctx, name); err == nil {
			t.Errorf("%s is offered", name)
		}
	}
}

// A seller whose ciphertext does not open, or is not what it has committed to, is
// paid once, and the buyer can show it to anybody.
func TestCheatIsProven(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	ctx, terms := t.Context(), m.terms(t)
	for what, change := range map[string]func(*sealed.Sealed){
		"rubbish": func(s *sealed.Sealed) { s.Cipher[len(s.Cipher)-1] ^= 1 },
		"another reading": func(s *sealed.Sealed) {
			sealer, _ := rail.As[rail.Sealer](m.rails[2])
			sale, err := sealer.Seal(ctx, money.Bill{ID: s.Order, Amount: s.Amount, For: "temperature", Units: 1})
			must(t, err)
			*s, err = sealed.Seal(m.m.Key, s.Order, s.Amount, sale.Key, s.Meta, make([]byte, 40))
			must(t, err)
		},
	} {
		o, err := m.client.Offer(ctx, "temperature")
		must(t, err)
		bad := decode(t, o)
		change(bad)
		bad.Sig = m.m.Key.Sign(bad.Commitment())
		o.Sealed = bad.Append(nil)
		_, err = data.Buy(ctx, m.buyer, o, terms)
		var cheat *data.Cheat
		if !errors.As(err, &cheat) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		file, err := os.ReadFile(cheat.Path)
		must(t, err)
		if proven, why := data.Judge(file); !proven || why == nil {
			t.Errorf("%s: proven %v: %v", what, proven, why)
		}
	}
}

// Offers that nobody pays leave nothing on the seller's disk, and no wish in its till.
func TestOffersLeaveNothing(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	records := func() (n int) {
		must(t, m.db.Scan("", func(string, []byte) bool { n++; return true }))
		return n
	}
	before := records()
	for range 200 {
		_, err := m.client.Offer(t.Context(), "temperature")
		must(t, err)
		_, err = m.client.Stream(t.Context(), "temperature", 5)
		must(t, err)
	}
	if n := records(); n > before+10 { // the channels, which have just been opened, have some of their own
		t.Errorf("%d records, and %d before", n, before)
	}
}

func BenchmarkOffer(b *testing.B) {
	m := newMarket(b)
	for b.Loop() {
		if _, err := m.data.Offer(b.Context(), "temperature", "bench"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChunk is a chunk from its fetching to its plaintext, with both machines in
// this process, over a one-way channel and HTTP.
func BenchmarkChunk(b *testing.B) {
	m := newMarket(b)
	for i := range 100 {
		must(b, m.feed.Put(data.Reading{At: 2000, Data: fmt.Appendf(nil, "%100d", i)}))
	}
	var r *data.Reader
	db := newDB(b)
	for n := 0; b.Loop(); n++ {
		if n%100 == 0 {
			s, err := m.client.Stream(b.Context(), "temperature", 100)
			must(b, err)
			r, err = data.NewReader(m.client, m.buyer, db, over(s, "oneway"), m.terms(b))
			must(b, err)
		}
		if _, err := r.Next(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
