package coap

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"time"

	wire "coinop.dev/core/coap"
)

// Whatever arrives, nothing that an unproved address gets is larger than
// Amplification times what it has sent, and nothing panics.
func FuzzReceive(f *testing.F) {
	m := NewRequest(wire.GET, "/a", 0, nil)
	m.AddUint(wire.Block2, 0x16)
	f.Add(m.Append(nil))
	p := NewRequest(wire.POST, "/a", 0, []byte("x"))
	p.AddUint(wire.Block1, 8)
	p.AddUint(wire.Observe, 0)
	f.Add(p.Append(nil))
	e := newEndpoint(func(context.Context, Request) Response {
		return Response{Code: wire.Content, Payload: bytes.Repeat([]byte{1}, 3000)}
	}, Options{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, proved := range []bool{false, true} {
			out := make(chan int, 8)
			p := e.newPeer(t.Context(), "fuzz", "", proved, func(b []byte) error {
				out <- len(b)
				return nil
			})
			p.receive(bytes.Clone(raw))
			for p.busy() {
				time.Sleep(time.Microsecond)
			}
			p.cancel()
			for sum := 0; len(out) > 0; {
				if sum += <-out; !proved && sum > Amplification*len(raw) {
					t.Errorf("%x is answered with %d bytes", raw, sum)
				}
			}
		}
	})
}

// A flood from made-up addresses neither grows the table nor costs a customer.
func TestFlood(t *testing.T) {
	e := newEndpoint(nil, Options{MaxPeers: 100})
	u := &udp{end: e, ctx: t.Context()}
	now := time.Now()
	u.turn(now)
	addr := func(n int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 5683)
	}
	customer := u.peer(addr(0), now)
	customer.proved = true
	for n := range 5000 {
		u.peer(addr(1+n), now)
		if len(u.young)+len(u.old) > 100 {
			t.Fatalf("%d peers", len(u.young)+len(u.old))
		}
	}
	if u.peer(addr(0), now) != customer {
		t.Error("the customer is forgotten")
	}
	// In time everybody quiet is.
	u.peer(addr(1), now.Add(2*Remember))
	u.peer(addr(1), now.Add(4*Remember))
	if len(u.young)+len(u.old) != 1 {
		t.Errorf("%d peers", len(u.young)+len(u.old))
	}
}

func TestShelf(t *testing.T) {
	var s shelf
	for n := range 3 * MaxShelf {
		s.put(string(rune(n)), wire.Message{}, []byte{1})
	}
	if len(s.kept) != MaxShelf || len(s.order) != MaxShelf || s.get(string(rune(0))) != nil || s.get(string(rune(3*MaxShelf-1))) == nil {
		t.Errorf("%d kept", len(s.kept))
	}
}

func TestEcho(t *testing.T) {
	var e, other echo
	e.init()
	other.init()
	v := e.value("a")
	if !e.check("a", v) || e.check("b", v) || other.check("a", v) || e.check("a", v[:11]) {
		t.Error("an echo passes for another one's")
	}
	if old := e.at("a", uint32(time.Now().Add(-2*EchoLife).Unix())); e.check("a", old) {
		t.Error("an old echo")
	}
}
