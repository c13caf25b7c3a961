package data

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
	"coinop.dev/core/step"
)

// Name is the name of the core that remembers which chunks are sold. The till
// delivers to it.
const Name = "data"

// MaxStreams bounds the streams of which it is remembered how far they are sold.
// The one that was paid for longest ago goes first.
const MaxStreams = 16_384

// sales is the core: of each stream, how many chunks are sold, without a gap. The
// till says so when their money is booked, and both are one durable write.
//
// Invariant: a stream's number grows by one for each order of it that the till
// delivers, and never shrinks.
type sales struct {
	next    uint64
	streams map[sealed.ID]*sold
}

type sold struct {
	n      uint64 // when it was paid for last, by count
	chunks int
}

const soldKey = "data/sold/"

// loadSales reads the core from disk.
func loadSales(db step.Reader) (*sales, error) {
	s := &sales{streams: map[sealed.ID]*sold{}}
	var fault error
	err := db.Scan(soldKey, func(key string, value []byte) bool {
		id, ok := parseID(strings.TrimPrefix(key, soldKey))
		r := codec.NewReader(value)
		v := &sold{n: r.Uvarint(), chunks: r.Int(sealed.MaxChunks, "chunks sold")}
		if fault = r.Close(); fault == nil && !ok {
			fault = fmt.Errorf("%q names no stream", key)
		}
		s.streams[id] = v
		s.next = max(s.next, v.n+1)
		return fault == nil
	})
	if err == nil {
		err = fault
	}
	if err != nil {
		return nil, fmt.Errorf("data: chunks sold: %w", err)
	}
	return s, nil
}

// Step delivers what the till has the money for.
func (s *sales) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		ev, ok := event.(step.Recv)
		if !ok {
			continue
		}
		d, ok := ev.Msg.(earn.Deliver)
		if !ok {
			continue
		}
		fx.Send = append(fx.Send, step.Packet{To: ev.From, Msg: earn.Delivered{Order: d.Order, Err: s.deliver(d, &fx)}})
	}
	return fx
}

// deliver counts a chunk. A reading that was sold alone is with its buyer already,
// and so is its key.
func (s *sales) deliver(d earn.Deliver, fx *step.Effects) error {
	if d.Device == "" {
		return nil
	}
	id, i, err := parsePlace(d.Device)
	if err != nil {
		return &money.Error{Kind: money.Invalid, Op: "data", Err: err}
	}
	v := s.streams[id]
	if v == nil {
		v = &sold{}
	}
	switch {
	case i <= v.chunks:
		return nil
	case i > v.chunks+1:
		return &money.Error{Kind: money.Pending, Op: "data", Err: fmt.Errorf("chunk %d is next", v.chunks+1)}
	}
	if v.chunks == 0 {
		s.room(fx)
		s.streams[id] = v
	}
	v.n, v.chunks = s.next, i
	s.next++
	b := codec.AppendUint(codec.AppendUint(nil, v.n), v.chunks)
	fx.Put = append(fx.Put, step.Record{Key: soldKey + hex.EncodeToString(id[:]), Value: b})
	return nil
}

// room makes some for one more stream.
func (s *sales) room(fx *step.Effects) {
	if len(s.streams) < MaxStreams {
		return
	}
	var oldest sealed.ID
	for id, v := range s.streams {
		if o := s.streams[oldest]; o == nil || v.n < o.n {
			oldest = id
		}
	}
	delete(s.streams, oldest)
	fx.Put = append(fx.Put, step.Record{Key: soldKey + hex.EncodeToString(oldest[:])})
}

// of is how many chunks of a stream are sold.
func (s *sales) of(id sealed.ID) int {
	if v := s.streams[id]; v != nil {
		return v.chunks
	}
	return 0
}

// place is what an order's device is called that delivers chunk i of a stream.
func place(id sealed.ID, i int) string { return hex.EncodeToString(id[:]) + "/" + strconv.Itoa(i) }

func parsePlace(text string) (id sealed.ID, i int, err error) {
	name, number, _ := strings.Cut(text, "/")
	id, ok := parseID(name)
	if i, err = strconv.Atoi(number); err != nil || !ok || i < 1 || i > sealed.MaxChunks {
		return id, i, fmt.Errorf("%.60q is no chunk of a stream", text)
	}
	return id, i, nil
}

func parseID(text string) (id sealed.ID, ok bool) {
	if len(text) != 2*len(id) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return id, err == nil
}
