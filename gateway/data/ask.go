package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"coinop.dev/core/sealed"
)

// MaxAsk bounds an Ask, in bytes.
const MaxAsk = 2 * maxBody

// An Ask is what a buyer says at a door that is not HTTP, as JSON: over MQTT to the
// topic where offers are asked for, and answered on the buyer's own. With Chunks it
// opens a stream; with Stream and I it fetches a chunk, and with the Ticket too it
// claims the chunk's key, and may show the Offer; with nothing but Service it asks
// for an offer of the newest reading.
type Ask struct {
	Service string  `json:"service"`
	Chunks  int     `json:"chunks,omitempty"`
	Stream  string  `json:"stream,omitempty"` // its ID in hex
	I       int     `json:"i,omitempty"`
	Ticket  *Ticket `json:"ticket,omitempty"`
	Offer   []byte  `json:"offer,omitempty"`
}

// A Reply has one of its members.
type Reply struct {
	Offer   *Offer  `json:"offer,omitempty"`
	Stream  *Stream `json:"stream,omitempty"`
	Message []byte  `json:"message,omitempty"` // of core/sealed: a chunk, or its key
	Code    string  `json:"code,omitempty"`    // as in HTTP's problems
	Detail  string  `json:"detail,omitempty"`
}

// Answer answers an Ask of a buyer that the door calls so. What it says is for that
// buyer alone.
func (s *Seller) Answer(ctx context.Context, buyer string, ask []byte) []byte {
	r, err := s.reply(ctx, buyer, ask)
	if err != nil {
		_, r.Code, r.Detail = judge(err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings, bytes and numbers
	}
	return b
}

func (s *Seller) reply(ctx context.Context, buyer string, raw []byte) (r Reply, err error) {
	if len(raw) > MaxAsk {
		return r, invalid(fmt.Errorf("it has %d bytes; the limit is %d", len(raw), MaxAsk))
	}
	var a Ask
	if err := json.Unmarshal(raw, &a); err != nil {
		return r, invalid(err)
	}
	switch {
	case a.Stream != "":
		msg, err := s.message(ctx, a)
		if err == nil {
			r.Message = msg.Append(nil)
		}
		return r, err
	case a.Chunks != 0:
		st, err := s.Stream(ctx, a.Service, buyer, a.Chunks)
		if err == nil {
			r.Stream = &st
		}
		return r, err
	}
	o, err := s.Offer(ctx, a.Service, buyer)
	if err == nil {
		r.Offer = &o
	}
	return r, err
}

// message is a chunk or its key.
func (s *Seller) message(ctx context.Context, a Ask) (sealed.Message, error) {
	id, ok := parseID(a.Stream)
	if !ok || a.I < 1 || a.I > sealed.MaxChunks {
		return nil, invalid(errors.New("it names no chunk of a stream"))
	}
	if a.Ticket == nil {
		return s.Chunk(id, a.I)
	}
	var shown *sealed.Offer
	if len(a.Offer) > 0 {
		var err error
		if shown, err = readOffer(a.Offer); err != nil {
			return nil, invalid(err)
		}
	}
	return s.Key(ctx, a.Service, id, a.I, *a.Ticket, shown)
}
