package sealed_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
)

func secret(t testing.TB, name byte) keys.Secret {
	t.Helper()
	s, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte{name}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reading is what a sensor sells: short, so that it could be guessed, and with a
// word that nothing may show.
var reading = []byte(`{"temperature_c": 21.5, "plaintext": "needle"}`)

// The whole sale: published, checked, paid, opened.
func TestSale(t *testing.T) {
	seller, key := secret(t, 1), sealed.NewKey([32]byte{7})
	order := money.OrderID{1}
	s, err := sealed.Seal(seller, order, 500, key, []byte("temperature, JSON"), reading)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := sealed.Seal(seller, order, 500, key, []byte("temperature, JSON"), reading)
	if !bytes.Equal(s.Append(nil), again.Append(nil)) {
		t.Error("sealed twice it is not the same")
	}
	if bytes.Contains(s.Append(nil), []byte("needle")) || s.Size() != len(reading) {
		t.Errorf("in the clear, or %d bytes", s.Size())
	}
	// Before paying.
	if err := s.Check(seller.Public(), key.Hash(), 500); err != nil {
		t.Error(err)
	}
	if err := s.Check(seller.Public(), [32]byte{1}, 500); !errors.Is(err, sealed.ErrKey) {
		t.Errorf("an invoice that buys another key: %v", err)
	}
	if err := s.Check(secret(t, 2).Public(), key.Hash(), 500); !errors.Is(err, sealed.ErrForged) {
		t.Errorf("another seller: %v", err)
	}
	if s.Check(seller.Public(), key.Hash(), 499) == nil {
		t.Error("another price")
	}
	// After paying.
	if plain, err := s.Open(key); err != nil || !bytes.Equal(plain, reading) {
		t.Errorf("opened: %q, %v", plain, err)
	}
	if _, err := s.Open(sealed.NewKey([32]byte{8})); !errors.Is(err, sealed.ErrKey) {
		t.Errorf("a wrong key: %v", err)
	}
	if proven, why := sealed.Fraud(&s, key); proven || why != nil {
		t.Errorf("an honest seller is judged: %v, %v", proven, why)
	}
}

// Every byte of a sale is signed: changed anywhere it is nobody's, and no evidence.
func TestForgedSale(t *testing.T) {
	seller, key := secret(t, 1), sealed.NewKey([32]byte{7})
	s, err := sealed.Seal(seller, money.OrderID{1}, 500, key, []byte("meta"), reading)
	if err != nil {
		t.Fatal(err)
	}
	raw := s.Append(nil)
	for i := 2; i < len(raw); i++ {
		b := bytes.Clone(raw)
		b[i] ^= 1
		m, err := sealed.Decode(b)
		if err != nil {
			continue
		}
		if m.(*sealed.Sealed).Check(seller.Public(), key.Hash(), 500) == nil {
			t.Fatalf("byte %d can be changed", i)
		}
		if proven, _ := sealed.Fraud(m.(*sealed.Sealed), key); proven {
			t.Fatalf("byte %d changed by the buyer convicts the seller", i)
		}
	}
}

// A seller that has signed rubbish is convicted by what it signed and sold.
func TestFraud(t *testing.T) {
	seller, key := secret(t, 1), sealed.NewKey([32]byte{7})
	s, _ := sealed.Seal(seller, money.OrderID{1}, 500, key, nil, reading)
	s.SignSpoilt(seller)
	if err := s.Check(seller.Public(), key.Hash(), 500); err != nil {
		t.Fatalf("nothing can be seen before paying: %v", err)
	}
	if proven, why := sealed.Fraud(&s, key); !proven || why == nil {
		t.Errorf("judged: %v, %v", proven, why)
	}
	if proven, why := sealed.Fraud(&s, sealed.NewKey([32]byte{9})); proven || !errors.Is(why, sealed.ErrKey) {
		t.Errorf("with a key that was not sold: %v, %v", proven, why)
	}
}

// Two readings under one key, which is a mistake, do not undress each other.
func TestOneKeyTwice(t *testing.T) {
	seller, key := secret(t, 1), sealed.NewKey([32]byte{7})
	a, _ := sealed.Seal(seller, money.OrderID{1}, 500, key, nil, []byte("aaaaaaaaaaaaaaaa"))
	b, _ := sealed.Seal(seller, money.OrderID{1}, 500, key, nil, []byte("bbbbbbbbbbbbbbbb"))
	same := 0
	for i := range a.Cipher[24:40] {
		if a.Cipher[24+i]^b.Cipher[24+i] == 'a'^'b' {
			same++
		}
	}
	if same > 4 {
		t.Errorf("the two differ as their plaintexts do in %d of 16 bytes", same)
	}
}

func TestKeyDoesNotPrint(t *testing.T) {
	k := sealed.NewKey([32]byte{0xab, 0xcd})
	for _, text := range []string{
		fmt.Sprint(k), fmt.Sprintf("%x", k), fmt.Sprintf("%#v", k), fmt.Sprintf("%+v", struct{ k sealed.Key }{k}),
		fmt.Sprintf("%x", sealed.Reveal{Key: k}),
	} {
		if strings.Contains(strings.ToLower(text), "abcd") || strings.Contains(text, "171") {
			t.Errorf("it prints as %s", text)
		}
	}
	if _, err := k.MarshalText(); err == nil {
		t.Error("it marshals")
	}
}

func TestLimits(t *testing.T) {
	seller, key := secret(t, 1), sealed.NewKey([32]byte{7})
	if _, err := sealed.Seal(seller, money.OrderID{}, 1, key, nil, make([]byte, sealed.MaxPlain+1)); err == nil {
		t.Error("too much data")
	}
	if _, err := sealed.Seal(seller, money.OrderID{}, 1, key, make([]byte, sealed.MaxMeta+1), nil); err == nil {
		t.Error("too long a description")
	}
	if _, err := sealed.Seal(seller, money.OrderID{}, 1, sealed.Key{}, nil, nil); err == nil {
		t.Error("no key")
	}
	most, err := sealed.Seal(seller, money.OrderID{}, 1, key, make([]byte, sealed.MaxMeta), make([]byte, sealed.MaxPlain))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(most.Append(nil)); n > 65_535 {
		t.Errorf("a sale has %d bytes, which no link carries", n)
	}
	for name, chunks := range map[string][][]byte{"none": nil, "too many": make([][]byte, sealed.MaxChunks+1), "too large": {make([]byte, sealed.MaxPlain+1)}} {
		if _, err := sealed.NewStream(seller, sealed.ID{}, 1, nil, chunks); err == nil {
			t.Errorf("chunks: %s", name)
		}
	}
	for _, price := range []money.Amount{0, money.MaxAmount} {
		if _, err := sealed.NewStream(seller, sealed.ID{}, price, nil, make([][]byte, 1)); err == nil {
			t.Errorf("a chunk for %v", price)
		}
	}
	long, err := sealed.NewStream(seller, sealed.ID{}, 1, make([]byte, sealed.MaxMeta), make([][]byte, sealed.MaxChunks))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(long.Answer(sealed.Want{})[0].Append(nil)); n > 65_535 {
		t.Errorf("an offer has %d bytes, which no link carries", n)
	}
}

func FuzzDecode(f *testing.F) {
	seller := secret(f, 1)
	s, _ := sealed.Seal(seller, money.OrderID{1}, 500, sealed.NewKey([32]byte{7}), []byte("meta"), reading)
	f.Add(s.Append(nil))
	stream, _ := sealed.NewStream(seller, sealed.ID{1}, 5, nil, [][]byte{reading, reading})
	stream.Paid(stream.Order(1), 5)
	for i := range 4 {
		for _, m := range stream.Answer(sealed.Want{ID: sealed.ID{1}, I: i}) {
			f.Add(m.Append(nil))
		}
	}
	f.Add(sealed.Want{I: 3}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := sealed.Decode(b)
		if err != nil {
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x becomes %x", b, again)
		}
	})
}

func FuzzRecords(f *testing.F) {
	seller := secret(f, 1)
	stream, _ := sealed.NewStream(seller, sealed.ID{1}, 5, nil, [][]byte{reading, reading, reading})
	offer := stream.Offer
	reader, _ := sealed.NewReader(&offer, seller.Public(), 5)
	f.Add(stream.Record(), reader.Place())
	stream.Paid(stream.Order(2), 5)
	f.Add(reader.Record(), stream.Place())
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if s, err := sealed.LoadStream(seller, stream.Record(), b); err == nil && b != nil && !bytes.Equal(s.Place(), b) {
			t.Fatalf("the stream's place %x becomes %x", b, s.Place())
		}
		if s, err := sealed.LoadStream(seller, a, nil); err == nil && !bytes.Equal(s.Record(), a) {
			t.Fatalf("the stream %x becomes %x", a, s.Record())
		}
		if r, err := sealed.LoadReader(reader.Record(), b); err == nil && b != nil && !bytes.Equal(r.Place(), b) {
			t.Fatalf("the reader's place %x becomes %x", b, r.Place())
		}
		if r, err := sealed.LoadReader(a, nil); err == nil && !bytes.Equal(r.Record(), a) {
			t.Fatalf("the reader %x becomes %x", a, r.Record())
		}
	})
}
