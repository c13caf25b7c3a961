package nanonet

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"coinop.dev/core/ledger/lattice"
)

func numbered(i uint32) []byte { return binary.BigEndian.AppendUint32(nil, i) }

// One peer floods a node that judges a hundred messages while it sends a hundred
// thousand; another sends now and then. The second one loses nothing, and waits for
// no more than one turn of the first.
func TestFloodStarvesNobody(t *testing.T) {
	f := newFair()
	flooder, honest := &flow{peer: "flooder"}, &flow{peer: "honest"}
	for i := range uint32(100_000) {
		f.put(flooder, votes, numbered(i))
	}
	for i := range uint32(20) {
		f.put(honest, votes, numbered(i))
		f.put(honest, blocks, numbered(i))
	}
	heard := map[string]int{}
	var order []uint32
	for range 2 { // a turn for each
		peer, batch := f.next(nil)
		heard[peer] += len(batch)
		if peer == "flooder" {
			for _, raw := range batch {
				order = append(order, binary.BigEndian.Uint32(raw))
			}
		}
	}
	if heard["honest"] != 20+room[blocks].turn || heard["flooder"] != room[votes].turn {
		t.Errorf("in one turn of each the node heard %v", heard)
	}
	if oldest := uint32(100_000 - room[votes].messages); order[0] != oldest || !slices.IsSorted(order) {
		t.Errorf("the flooder's oldest that is left is %d, not %d", order[0], oldest)
	}
	_, dropped := f.counts()
	if want := uint64(100_000 - room[votes].messages); dropped[votes] != want || dropped[blocks] != 0 {
		t.Errorf("%v are counted as dropped, not %d votes", dropped, want)
	}
	for {
		peer, batch := f.next(nil)
		if len(batch) == 0 {
			break
		}
		heard[peer] += len(batch)
	}
	if heard["honest"] != 40 || heard["flooder"] != room[votes].messages {
		t.Errorf("in the end the node heard %v", heard)
	}
}

// A kind of message has its own room in bytes, too.
func TestLargeMessagesTakeRoom(t *testing.T) {
	f := newFair()
	l := &flow{peer: "peer"}
	for range 1000 {
		f.put(l, bootstrap, make([]byte, lattice.HeaderSize+lattice.MaxBody))
	}
	f.put(l, votes, numbered(1))
	if l.bytes[bootstrap] > room[bootstrap].bytes || l.waiting[votes].n != 1 {
		t.Errorf("%d bytes of bootstrap wait; there is room for %d", l.bytes[bootstrap], room[bootstrap].bytes)
	}
}

// What the core hears of a peer is that it comes, what it says, and that it goes.
func TestComingsAndGoings(t *testing.T) {
	f := newFair()
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan string, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.run(ctx, func(news any) error { heard <- news.(string); return nil },
			func(peer string, raw []byte) error { heard <- peer + " says " + string(raw); return nil })
	}()
	l := &flow{peer: "bob"}
	f.tell(ctx, "bob comes")
	f.put(l, votes, []byte("aye"))
	if a, b := <-heard, <-heard; a != "bob comes" || b != "bob says aye" {
		t.Errorf("heard %q, then %q", a, b)
	}
	f.end(l)
	f.put(l, votes, []byte("too late"))
	f.tell(ctx, "bob goes")
	if last := <-heard; last != "bob goes" {
		t.Errorf("heard %q last", last)
	}
	cancel()
	<-done
}

func BenchmarkFair(b *testing.B) {
	f := newFair()
	flows := make([]flow, 100)
	raw := make([]byte, 224)
	var batch [][]byte
	for i := range b.N {
		f.put(&flows[i%len(flows)], class(i%2), raw)
		if i%16 == 0 {
			_, batch = f.next(batch[:0])
		}
	}
}
