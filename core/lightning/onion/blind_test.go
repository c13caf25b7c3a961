package onion_test

import (
	"bytes"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"testing/quick"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/onion"
	"coinop.dev/core/money"
)

func TestOfficialBlindedPath(t *testing.T) {
	v := vectors[struct {
		Hops []struct {
			Session, Data, Encrypted, Secret, BlindedSecret hexBytes
			Node, PathKey, Blinded, NextKey                 keys.Public
			Override                                        *keys.Public
		}
	}](t, "blind.json")

	// Bob and Carol are hidden by one session, Dave and Eve by another.
	for at := 0; at < len(v.Hops); at += 2 {
		pair := v.Hops[at : at+2]
		path, err := onion.Blind(secretOf(t, pair[0].Session), []onion.Hop{
			{Node: pair[0].Node, Payload: pair[0].Data}, {Node: pair[1].Node, Payload: pair[1].Data},
		})
		if err != nil {
			t.Fatal(err)
		}
		want := onion.Path{First: pair[0].Node, Key: pair[0].PathKey}
		for _, h := range pair {
			want.Hops = append(want.Hops, onion.BlindedHop{Node: h.Blinded, Encrypted: h.Encrypted})
		}
		if !reflect.DeepEqual(path, want) {
			t.Errorf("path is %+v, want %+v", path, want)
		}
	}

	for i, h := range v.Hops {
		u, err := onion.Unblind(secretOf(t, h.Secret), h.PathKey)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(u.Node.Reveal(), h.BlindedSecret) || u.Node.Public() != h.Blinded {
			t.Errorf("hop %d is another blinded node", i)
		}
		d, err := u.Open(h.Encrypted)
		if err != nil {
			t.Fatalf("hop %d: %v", i, err)
		}
		direct, err := onion.ParseHopData(h.Data)
		if err != nil || !reflect.DeepEqual(d, direct) {
			t.Errorf("hop %d reads %+v, want %+v, %v", i, d, direct, err)
		}
		want := h.NextKey
		if h.Override != nil {
			want = *h.Override
		}
		if got, err := u.Next(d); err != nil || got != want {
			t.Errorf("hop %d sends path key %v, want %v", i, got, want)
		}
		d.NextKey = keys.Public{}
		if got, err := u.Next(d); err != nil || got != h.NextKey {
			t.Errorf("hop %d would send path key %v, want %v", i, got, h.NextKey)
		}
	}
}

// What the same vectors say in words.
func TestOfficialHopData(t *testing.T) {
	dave := onion.HopData{
		Padding: 35, Next: 561, Relay: &onion.Relay{Delta: 144, Rate: 250},
		Bounds: &onion.Bounds{MaxExpiry: 747921, Least: 1500}, Features: []byte{},
	}
	in := unhex(t, "01230000000000000000000000000000000000000000000000000000000000000000000000020800000000000002310a060090000000fa0c06000b699105dc0e00")
	if out := dave.Append(nil); !bytes.Equal(out, in) {
		t.Errorf("writes %x, want %x", out, in)
	}
	if got, err := onion.ParseHopData(in); err != nil || !reflect.DeepEqual(got, dave) {
		t.Errorf("reads %+v, %v; want %+v", got, err, dave)
	}
}

// A payer who knows only the first node reaches the payee at the end of a path.
func TestPaymentOverBlindedPath(t *testing.T) {
	const first, middle, payee = 1, 2, 3
	bounds := &onion.Bounds{MaxExpiry: 900_000, Least: 1000}
	relay := &onion.Relay{Delta: 40, Rate: 100, Base: 1000}
	path, err := onion.Blind(nth(t, 90), []onion.Hop{
		{Node: nth(t, first).Public(), Payload: onion.HopData{Next: 5, Relay: relay, Bounds: bounds}.Append(nil)},
		{Node: nth(t, middle).Public(), Payload: onion.HopData{NextNode: nth(t, payee).Public(), Relay: relay, Bounds: bounds}.Append(nil)},
		{Node: nth(t, payee).Public(), Payload: onion.HopData{PathID: []byte("order 12"), Bounds: bounds}.Append(nil)},
	})
	if err != nil {
		t.Fatal(err)
	}
	hops := []onion.Hop{
		{Node: path.First, Payload: onion.Payload{Encrypted: path.Hops[0].Encrypted, PathKey: path.Key}.Append(nil)},
		{Node: path.Hops[1].Node, Payload: onion.Payload{Encrypted: path.Hops[1].Encrypted}.Append(nil)},
		{Node: path.Hops[2].Node, Payload: onion.Payload{Encrypted: path.Hops[2].Encrypted, Amount: 50_000, Expiry: 800_100, Total: 50_000}.Append(nil)},
	}
	p, _ := build(t, hops)

	node, amount, expiry := nth(t, first), money.Amount(60_000), uint32(800_200)
	var pathKey keys.Public
	for i := first; ; i++ {
		peeled, err := onion.Peel(node, hash, p)
		if err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		payload, err := onion.ParsePayload(peeled.Payload)
		if err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		if i == first {
			pathKey = payload.PathKey
		}
		u, err := onion.Unblind(nth(t, i), pathKey)
		if err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		d, err := u.Open(payload.Encrypted)
		if err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		final := peeled.Next == nil
		if err := payload.Check(final); err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		if err := d.Check(final, amount, expiry); err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		if final {
			if i != payee || string(d.PathID) != "order 12" || payload.Amount > amount {
				t.Fatalf("node %d reads %+v, %+v with %v", i, payload, d, amount)
			}
			return
		}
		amount, expiry, _ = d.Relay.Forward(amount, expiry)
		if pathKey, err = u.Next(d); err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		p = peeled.Next
		next, err := onion.Unblind(nth(t, i+1), pathKey)
		if err != nil {
			t.Fatal(err)
		}
		node = next.Node
	}
}

func TestBlindedPathRefusals(t *testing.T) {
	path, err := onion.Blind(nth(t, 90), []onion.Hop{{Node: nth(t, 0).Public(), Payload: onion.HopData{PathID: []byte{1}}.Append(nil)}})
	if err != nil {
		t.Fatal(err)
	}
	u, err := onion.Unblind(nth(t, 1), path.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Open(path.Hops[0].Encrypted); err == nil {
		t.Error("another node reads it")
	}
	if _, err := onion.Unblind(nth(t, 0), keys.Public{2}); err == nil {
		t.Error("a path key that is no point")
	}
	if _, err := onion.Blind(nth(t, 90), nil); err == nil {
		t.Error("a path of nobody")
	}
	relay := &onion.Relay{Delta: 40}
	for name, test := range map[string]struct {
		data onion.HopData
		want string
	}{
		"too late": {onion.HopData{Next: 1, Relay: relay, Bounds: &onion.Bounds{MaxExpiry: 99}}, "until height 99"},
		"too low":  {onion.HopData{Next: 1, Relay: relay, Bounds: &onion.Bounds{MaxExpiry: 100, Least: 1001}}, "at least 1001 msat"},
		"features": {onion.HopData{Next: 1, Relay: relay, Features: []byte{2}}, "we know none"},
		"nowhere":  {onion.HopData{Relay: relay}, "where to forward"},
		"no price": {onion.HopData{Next: 1}, "for what fee"},
	} {
		if err := test.data.Check(false, 1000, 100); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// Forward leaves what BOLT 4's formula says, which is the least amount whose
// fee the incoming amount covers.
func TestRelayForwards(t *testing.T) {
	err := quick.Check(func(amount uint64, rate, base uint32, small bool) bool {
		amount %= uint64(money.MaxAmount) + 1
		if small {
			amount %= 1_000_000_000
		}
		got, expiry, ok := onion.Relay{Delta: 10, Rate: rate, Base: base}.Forward(money.Amount(amount), 100)
		if amount < uint64(base) {
			return !ok
		}
		million, r := big.NewInt(1_000_000), new(big.Int).SetUint64(uint64(rate))
		n := new(big.Int).SetUint64(amount - uint64(base))
		n.Mul(n, million).Add(n, million).Add(n, r).Sub(n, big.NewInt(1))
		n.Div(n, new(big.Int).Add(million, r))
		return n.Uint64() == uint64(got) && expiry == 90 && ok == (got > 0)
	}, nil)
	if err != nil {
		t.Error(err)
	}
	if _, _, ok := (onion.Relay{Delta: 101}).Forward(1000, 100); ok {
		t.Error("an expiry before the first block")
	}
}

func FuzzParseHopData(f *testing.F) {
	f.Add(onion.HopData{Padding: 2, Next: 1, Relay: &onion.Relay{Delta: 1, Rate: 2, Base: 3}, Bounds: &onion.Bounds{MaxExpiry: 4, Least: 5}, Features: []byte{}}.Append(nil))
	f.Add(onion.HopData{NextNode: keys.Public{2}, NextKey: keys.Public{3}, PathID: []byte{1}}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := onion.ParseHopData(b)
		if err != nil || len(b) > onion.PayloadsSize {
			return
		}
		out := d.Append(nil)
		again, err := onion.ParseHopData(out)
		if err != nil || !bytes.Equal(again.Append(nil), out) || len(out) > len(b) {
			t.Fatalf("%x comes back as %x, then %x, %v", b, out, again.Append(nil), err)
		}
	})
}
