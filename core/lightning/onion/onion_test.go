package onion_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/onion"
)

// hexBytes is bytes that JSON writes in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func vectors[T any](t testing.TB, name string) (v T) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func secretOf(t testing.TB, b []byte) keys.Secret {
	t.Helper()
	s, err := keys.SecretFromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// nth is the secret of the nth node in these stories.
func nth(t testing.TB, n int) keys.Secret {
	return secretOf(t, bytes.Repeat([]byte{byte(0x41 + n)}, 32))
}

var hash = sha256.Sum256([]byte("preimage"))

// route is n hops whose payloads say their number, size bytes each.
func route(t testing.TB, n, size int) (hops []onion.Hop) {
	for i := range n {
		hops = append(hops, onion.Hop{Node: nth(t, i).Public(), Payload: bytes.Repeat([]byte{byte(i)}, size)})
	}
	return hops
}

func build(t testing.TB, hops []onion.Hop) (*onion.Packet, [][32]byte) {
	t.Helper()
	p, secrets, err := onion.New(nth(t, 100), hash, hops)
	if err != nil {
		t.Fatal(err)
	}
	return p, secrets
}

func TestOfficialOnions(t *testing.T) {
	for _, name := range []string{"onion.json", "onion-blinded.json"} {
		t.Run(name, func(t *testing.T) { officialOnion(t, name) })
	}
}

func officialOnion(t *testing.T, name string) {
	v := vectors[struct {
		Session, Assoc hexBytes
		Hops           []struct {
			Node            keys.Public
			Secret, Payload hexBytes
		}
		Onion hexBytes
	}](t, name)
	var hops []onion.Hop
	for _, h := range v.Hops {
		hops = append(hops, onion.Hop{Node: h.Node, Payload: h.Payload})
	}
	assoc := [32]byte(v.Assoc)
	p, secrets, err := onion.New(secretOf(t, v.Session), assoc, hops)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p[:], v.Onion) {
		t.Fatalf("onion is\n%x, want\n%x", p[:], v.Onion)
	}
	for i, h := range v.Hops {
		peeled, err := onion.Peel(secretOf(t, h.Secret), assoc, p)
		if err != nil {
			t.Fatalf("hop %d: %v", i, err)
		}
		if !bytes.Equal(peeled.Payload, h.Payload) {
			t.Errorf("hop %d reads %x, want %x", i, peeled.Payload, h.Payload)
		}
		if peeled.Shared != secrets[i] {
			t.Errorf("hop %d shares another secret than the origin", i)
		}
		if last := i == len(v.Hops)-1; (peeled.Next == nil) != last {
			t.Fatalf("hop %d: next packet %v", i, peeled.Next != nil)
		}
		p = peeled.Next
	}
}

// Every hop sees an onion of the same size with a key of its own, and reads its
// own payload and nothing else, however long the route.
func TestEveryRouteLengthPeels(t *testing.T) {
	for n := 1; n <= onion.MaxHops; n++ {
		hops := route(t, n, onion.PayloadsSize/n-33)
		if len(hops[0].Payload) > 250 {
			for i := range hops {
				hops[i].Payload = hops[i].Payload[2:] // the length takes three bytes
			}
		}
		p, secrets := build(t, hops)
		seen := map[string]bool{}
		for i := range hops {
			key := string(p[1:34])
			if seen[key] {
				t.Fatalf("%d hops: hop %d sees a key that another saw", n, i)
			}
			seen[key] = true
			peeled, err := onion.Peel(nth(t, i), hash, p)
			if err != nil {
				t.Fatalf("%d hops: hop %d: %v", n, i, err)
			}
			if !bytes.Equal(peeled.Payload, hops[i].Payload) || peeled.Shared != secrets[i] {
				t.Fatalf("%d hops: hop %d reads what is not its own", n, i)
			}
			p = peeled.Next
		}
		if p != nil {
			t.Fatalf("%d hops: the final node is told to forward", n)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		hops []onion.Hop
		want string
	}{
		{"nobody", nil, "onion for 0 hops; it takes 1 to 27"},
		{"too many", route(t, onion.MaxHops+1, 2), "onion for 28 hops"},
		{"a reserved length", route(t, 2, 1), "payload of hop 0 is 1 bytes; the least is 2"},
		{"one payload too large", route(t, 1, 1266), "need 1301 bytes; the limit is 1300"},
		{"all payloads too large", route(t, 27, 16), "need 1323 bytes; the limit is 1300"},
		{"no point", []onion.Hop{{Node: keys.Public{2}, Payload: []byte{0, 0}}}, "node of hop 0"},
	} {
		_, _, err := onion.New(nth(t, 100), hash, test.hops)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	if _, _, err := onion.New(nth(t, 100), hash, route(t, 1, 1265)); err != nil {
		t.Errorf("a payload that just fits: %v", err)
	}
}

func wantBad(t *testing.T, err error, code onion.Code, p *onion.Packet) {
	t.Helper()
	var bad *onion.BadOnion
	if !errors.As(err, &bad) {
		t.Fatalf("error is %v, want *BadOnion", err)
	}
	if onion.Code(bad.Code) != code || bad.Hash != sha256.Sum256(p[:]) {
		t.Fatalf("error is %v of onion %x, want %v", err, bad.Hash, code)
	}
}

func TestPeelRefuses(t *testing.T) {
	p, _ := build(t, route(t, 3, 40))
	t.Run("another payment hash", func(t *testing.T) {
		_, err := onion.Peel(nth(t, 0), [32]byte{1}, p)
		wantBad(t, err, onion.CodeInvalidOnionHMAC, p)
	})
	t.Run("another node", func(t *testing.T) {
		_, err := onion.Peel(nth(t, 1), hash, p)
		wantBad(t, err, onion.CodeInvalidOnionHMAC, p)
	})
	t.Run("another version", func(t *testing.T) {
		other := *p
		other[0] = 1
		_, err := onion.Peel(nth(t, 0), hash, &other)
		wantBad(t, err, onion.CodeInvalidOnionVersion, &other)
	})
	t.Run("no key", func(t *testing.T) {
		other := *p
		other[1] = 4
		_, err := onion.Peel(nth(t, 0), hash, &other)
		wantBad(t, err, onion.CodeInvalidOnionKey, &other)
	})
	t.Run("any byte changed", func(t *testing.T) {
		for at := 0; at < len(p); at += 13 { // all of them take a second
			other := *p
			other[at] ^= 1
			if _, err := onion.Peel(nth(t, 0), hash, &other); err == nil {
				t.Fatalf("byte %d may be changed", at)
			}
		}
	})
}

// An origin may write any length in front of a payload.
func TestPeelRefusesLengths(t *testing.T) {
	was := []byte{40, 0, 0}
	for name, is := range map[string][]byte{
		"legacy":             {0, 0, 0},
		"reserved":           {1, 0, 0},
		"too long":           {0xfd, 0x04, 0xf2}, // 1266, with its length and HMAC 1301
		"longer than it can": {0xfd, 0xff, 0xff},
		"long form":          {0xfd, 0x00, 0x28},
		"four bytes":         {0xfe, 0x00, 0x00},
		"eight bytes":        {0xff, 0xff, 0xff},
	} {
		p, secrets := build(t, route(t, 1, 40))
		onion.Forge(p, secrets[0], hash, was, is)
		_, err := onion.Peel(nth(t, 0), hash, p)
		if err == nil || !strings.Contains(err.Error(), "length of the payload") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantBad(t, err, onion.CodeInvalidOnionVersion, p)
	}
	p, secrets := build(t, route(t, 1, 40))
	onion.Forge(p, secrets[0], hash, was, []byte{0xfd, 0x04, 0xf1})
	if peeled, err := onion.Peel(nth(t, 0), hash, p); err != nil || len(peeled.Payload) != 1265 {
		t.Errorf("the longest payload: %d bytes, %v", len(peeled.Payload), err)
	}
}

// A key that is half of all x: either it is no point, or the HMAC is wrong.
func TestPeelOfAnyKeyIsAnError(t *testing.T) {
	p, _ := build(t, route(t, 1, 40))
	seen := map[onion.Code]bool{}
	for b := range byte(32) {
		other := *p
		other[20] += b + 1
		_, err := onion.Peel(nth(t, 0), hash, &other)
		var bad *onion.BadOnion
		if !errors.As(err, &bad) {
			t.Fatalf("error is %v", err)
		}
		seen[onion.Code(bad.Code)] = true
	}
	if len(seen) != 2 || !seen[onion.CodeInvalidOnionKey] || !seen[onion.CodeInvalidOnionHMAC] {
		t.Errorf("codes are %v, want both of key and HMAC", seen)
	}
}

func FuzzPeel(f *testing.F) {
	p, _, err := onion.New(nth(f, 100), hash, []onion.Hop{{Node: nth(f, 0).Public(), Payload: []byte{2, 0, 4, 0}}, {Node: nth(f, 1).Public(), Payload: []byte{2, 0, 4, 0}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p[:])
	f.Add(p[:100])
	node := nth(f, 0)
	f.Fuzz(func(t *testing.T, b []byte) {
		var in onion.Packet
		copy(in[:], b)
		peeled, err := onion.Peel(node, hash, &in)
		if err == nil && in != *p {
			t.Fatalf("an onion that nobody made peels to %x", peeled.Payload)
		}
	})
}
