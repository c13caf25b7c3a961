package data_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
	"coinop.dev/gateway/data"
	"coinop.dev/purse"
)

func offerOf(t testing.TB, s data.Stream) *sealed.Offer {
	t.Helper()
	msg, err := sealed.Decode(s.Offer)
	must(t, err)
	return msg.(*sealed.Offer)
}

// over makes a stream payable over one rail only.
func over(s data.Stream, scheme string) data.Stream {
	var pay []string
	for _, to := range s.Pay {
		if strings.HasPrefix(to, scheme+":") {
			pay = append(pay, to)
		}
	}
	s.Pay = pay
	return s
}

// A stream over each rail: every chunk for its price, once, in order, and nothing in
// the clear on any wire.
func TestStreamOverRealRails(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	ctx := t.Context()
	for _, scheme := range []string{"oneway", "payword", "lightning"} {
		s, err := m.client.Stream(ctx, "temperature", 3)
		must(t, err)
		s = over(s, scheme)
		db := newDB(t)
		r, err := data.NewReader(m.client, m.buyer, db, s, m.terms(t))
		must(t, err)
		before := m.buyer.paid.Load()
		for i := 1; i <= 3; i++ {
			got, err := r.Next(ctx)
			if err != nil || string(got) != reading(i+2) {
				t.Fatalf("%s: chunk %d is %q, %v", scheme, i, got, err)
			}
			if i == 2 { // the buyer dies and comes back
				if r, err = data.LoadReader(m.client, m.buyer, db, r.ID(), m.terms(t)); err != nil {
					t.Fatal(err)
				}
				if n, last := r.Last(); n != 2 || string(last) != reading(4) {
					t.Errorf("%s: it comes back with chunk %d: %q", scheme, n, last)
				}
			}
			if o := m.order(t, offerOf(t, s).Order(i), func(o earn.Order) bool { return o.State == "settled" }); o.Paid != price || o.Item != "temperature" {
				t.Errorf("%s: in the books: %+v", scheme, o)
			}
		}
		if _, err := r.Next(ctx); err != io.EOF {
			t.Errorf("%s: after the last: %v", scheme, err)
		}
		if n := m.buyer.paid.Load() - before; n != 3 {
			t.Errorf("%s: %d payments for 3 chunks", scheme, n)
		}
		must(t, r.Forget())
		if _, err := data.LoadReader(m.client, m.buyer, db, r.ID(), m.terms(t)); !errors.Is(err, data.ErrGone) {
			t.Errorf("%s: forgotten, and still there: %v", scheme, err)
		}
	}
	m.silent(t)
}

// Nobody gets a key who has not paid, or is not the stream's buyer; and nobody pays
// for what is not the seller's.
func TestStreamRefuses(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	ctx := t.Context()
	s, err := m.client.Stream(ctx, "temperature", 3)
	must(t, err)
	other, err := m.client.Stream(ctx, "temperature", 3)
	must(t, err)
	o := offerOf(t, s)
	key := func(s data.Stream, i int) error {
		_, err := m.client.Key(ctx, s, o.ID, i)
		return err
	}
	if err := key(s, 1); !errors.Is(err, money.Unpaid) {
		t.Errorf("an unpaid claim: %v", err)
	}
	pay := func(o *sealed.Offer, i int) {
		_, err := m.buyer.Pay(ctx, money.Order{ID: o.Order(i), To: over(s, "oneway").Pay[0], Amount: price})
		must(t, err)
	}
	pay(o, 2)
	for _, i := range []int{1, 2, 3} {
		if err := key(s, i); !errors.Is(err, money.Unpaid) {
			t.Errorf("chunk %d, with only the second paid: %v", i, err)
		}
	}
	pay(o, 1)
	strange := s
	strange.Ticket = other.Ticket
	if err := key(strange, 1); !errors.Is(err, money.Refused) {
		t.Errorf("with another stream's ticket: %v", err)
	}
	renamed := s
	renamed.Service = "hints"
	if err := key(renamed, 1); !errors.Is(err, money.Refused) {
		t.Errorf("as another service: %v", err)
	}
	for i, want := range map[int]error{1: nil, 2: nil, 3: money.Unpaid} {
		if i == 2 {
			must(t, key(s, 1)) // before it
		}
		if err := key(s, i); !errors.Is(err, want) {
			t.Errorf("chunk %d: %v, want %v", i, err, want)
		}
	}
	// What has paid for one stream does not pay for another.
	if _, err := m.client.Key(ctx, other, offerOf(t, other).ID, 1); !errors.Is(err, money.Unpaid) {
		t.Errorf("the payment of another stream: %v", err)
	}
	// Without a ticket, and nonsense.
	url := m.client.URL + "/v1/data/temperature/"
	for path, status := range map[string]int{
		"zz/1/key": 400, strings.Repeat("00", 16) + "/1/key": 401, strings.Repeat("00", 16) + "/2000/key": 400, "streams?chunks=0": 400, "streams?chunks=x": 400,
	} {
		resp, err := http.Post(url+path, "", nil)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != status || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", path, resp.StatusCode, resp.Header.Get("Content-Type"))
		}
	}

	// The buyer refuses, and pays nothing.
	terms, paid := m.terms(t), m.buyer.paid.Load()
	cheap, stranger := terms, terms
	cheap.Most = price - 1
	stranger.Seller = m.buyer.m.Key.Public()
	for what, terms := range map[string]data.Terms{"a price too high": cheap, "another seller": stranger} {
		if _, err := data.NewReader(m.client, m.buyer, newDB(t), other, terms); !errors.Is(err, money.Refused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	meddler := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		msg, err := m.data.Chunk(offerOf(t, other).ID, 1)
		must(t, err)
		msg.Cipher = append([]byte{}, msg.Cipher...)
		msg.Cipher[50] ^= 1
		w.Write(msg.Append(nil))
	}))
	t.Cleanup(meddler.Close)
	r, err := data.NewReader(data.Client{URL: meddler.URL}, m.buyer, newDB(t), other, terms)
	must(t, err)
	if _, err := r.Next(ctx); !errors.Is(err, money.Refused) || !strings.Contains(err.Error(), "signed") {
		t.Errorf("a chunk that somebody has altered: %v", err)
	}
	far := data.Client{URL: "http://192.0.2.1:8402"}
	if _, err := far.Key(ctx, s, o.ID, 1); !errors.Is(err, money.Refused) {
		t.Errorf("a ticket shown to a stranger's network: %v", err)
	}
	if n := m.buyer.paid.Load(); n != paid {
		t.Errorf("%d payments for nothing", n-paid)
	}
	// Nothing of the streams that were only opened is on disk.
	kept := 0
	must(t, m.db.Scan("data/", func(key string, _ []byte) bool { kept++; return true }))
	if kept != 2 { // one stream's chunks, and how far it is sold
		t.Errorf("%d records", kept)
	}
}

// A seller that cheats at a chunk is paid for it and for nothing after it, and the
// evidence convicts it.
func TestStreamOfACheat(t *testing.T) {
	t.Parallel()
	seller, db := secret("cheat"), newDB(t)
	chunks := [][]byte{[]byte("one"), []byte("two"), []byte("three")}
	stream, err := sealed.NewStream(seller, sealed.ID{1}, price, []byte(`{"service":"temperature"}`), chunks)
	must(t, err)
	at := func(i int) sealed.Chunk { return stream.Answer(sealed.Want{ID: stream.ID, I: i})[0].(sealed.Chunk) }
	at(2).Cipher[30] ^= 1
	stream.Digests[1] = sha256.Sum256(at(2).Cipher)
	stream.Sig = seller.Sign(stream.Commitment())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/data/temperature/{id}/{i}", func(w http.ResponseWriter, r *http.Request) {
		w.Write(at(int(r.PathValue("i")[0] - '0')).Append(nil))
	})
	mux.HandleFunc("POST /v1/data/temperature/{id}/{i}/key", func(w http.ResponseWriter, r *http.Request) {
		v, _ := stream.Reveal()
		w.Write(v.Append(nil))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	paid := 0
	wallet := payer(func(o money.Order) (money.Receipt, error) {
		if o.To == "rail://nobody-has" {
			return money.Receipt{}, purse.ErrNoRail
		}
		paid++
		stream.Paid(o.ID, o.Amount)
		return money.Receipt{}, nil
	})
	s := data.Stream{Service: "temperature", Offer: stream.Append(nil), Pay: []string{"rail://nobody-has", "play://cheat"}}
	terms := data.Terms{Seller: seller.Public(), Most: price, Evidence: t.TempDir()}
	client := data.Client{URL: server.URL}
	r, err := data.NewReader(client, wallet, db, s, terms)
	must(t, err)
	if got, err := r.Next(t.Context()); err != nil || string(got) != "one" {
		t.Fatalf("the first chunk: %q, %v", got, err)
	}
	_, err = r.Next(t.Context())
	var cheat *data.Cheat
	if !errors.As(err, &cheat) {
		t.Fatalf("the second chunk: %v", err)
	}
	file, err := os.ReadFile(cheat.Path)
	must(t, err)
	if proven, why := data.Judge(file); !proven || why == nil {
		t.Errorf("proven %v: %v", proven, why)
	}
	for range 2 {
		if _, err := r.Next(t.Context()); !errors.Is(err, sealed.ErrStopped) || paid != 2 {
			t.Errorf("it goes on: %v, %d paid", err, paid)
		}
		if r, err = data.LoadReader(client, wallet, db, r.ID(), terms); err != nil {
			t.Fatal(err)
		}
	}
}

// A buyer that dies after paying, before a seller that forgets everything, still has
// the chunk, and gets its key with the offer alone.
func TestSellerForgets(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	ctx, db := t.Context(), newDB(t)
	s, err := m.client.Stream(ctx, "temperature", 2)
	must(t, err)
	s = over(s, "oneway")
	lost := payer(func(o money.Order) (money.Receipt, error) {
		m.buyer.Pay(ctx, o)
		return money.Receipt{}, context.DeadlineExceeded // and the answer is lost
	})
	r, err := data.NewReader(m.client, lost, db, s, m.terms(t))
	must(t, err)
	if _, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	for n := 0; ; n++ { // a flood of streams that nobody pays for
		if _, err := m.data.Chunk(r.ID(), 1); errors.Is(err, data.ErrGone) {
			break
		}
		if n > 100 {
			t.Fatal("strangers' streams grow and grow")
		}
		for range 100 {
			m.feed.Put(data.Reading{At: 5000, Data: make([]byte, data.MaxReading-n)})
		}
		if _, err := m.data.Stream(ctx, "temperature", "flood", sealed.MaxChunks); err != nil {
			t.Fatal(err)
		}
	}
	if r, err = data.LoadReader(m.client, m.buyer, db, r.ID(), m.terms(t)); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Next(ctx); err != nil || string(got) != reading(4) {
		t.Fatalf("it was paid: %q, %v", got, err)
	}
	// What the seller has lost cannot be bought any more, and is not paid.
	paid := m.buyer.paid.Load()
	if _, err := r.Next(ctx); !errors.Is(err, data.ErrGone) || m.buyer.paid.Load() != paid {
		t.Errorf("a chunk that is gone: %v", err)
	}
}

type payer func(money.Order) (money.Receipt, error)

func (p payer) Pay(_ context.Context, o money.Order) (money.Receipt, error) { return p(o) }
