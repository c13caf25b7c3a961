// Package step is the contract between deciding and doing.
//
// A protocol core is a value with a Step method. Step takes everything that
// has happened since the last one and returns the Effects it wants. It never
// reads a clock, touches a socket or starts a goroutine, so the same inputs
// always give the same effects. The driver (world/drive) carries effects out
// for real; the simulator (sim) carries them out in a made-up world.
//
// A step takes a batch, not one event, because everything expensive is shared
// by the batch: one signature covers all orders that waited, one durable write
// covers all records, one message answers all messages (docs/adr/0001).
//
// The rules, for every core:
//
//  1. Same inputs, same effects. Time arrives in Input.At; secrets and
//     randomness arrive as arguments.
//  2. Step consumes its receiver: the old state is gone. An event that cannot
//     be obeyed changes nothing and is answered with an Outcome that carries an
//     error. A peer's misbehaviour is never an error of ours: ignore it or
//     answer it. Our own bug is a panic (Assert), and stops that one core.
//  3. Put carries everything needed to resume: after any step, Load from disk
//     (and from the lazy records that wait for it) equals memory.
//  4. Alarms are hints, not durable. On start the driver rings every core once
//     with Rang{Start}; the core re-sends what is outstanding and asks for its
//     alarms again. Recovery from a crash is ordinary operation.
//  5. Messages may be lost, repeated, reordered or forged. Those that a core
//     sends over one connection, by its number, are only lost, and then with
//     all that follow: see Linked.
//  6. Exactly once takes memory on both sides, and the memory has a limit.
package step

import "fmt"

// Time is Unix milliseconds. It arrives with every input; cores never ask.
type Time int64

const (
	Millisecond Time = 1
	Second           = 1000 * Millisecond
	Minute           = 60 * Second
	Hour             = 60 * Minute
	Day              = 24 * Hour
)

// An Input is everything that waited when the driver came round, oldest first.
type Input struct {
	At     Time
	Events []any // types the core declares, or Recv, Rang, Linked, Unlinked
}

// Recv is the event of a message arriving, from a peer, from a core of the
// same machine, or from an outlet such as "chain".
type Recv struct {
	From string
	Msg  any
	Link uint64 // the connection it came over, as in Linked; 0 if over none
}

// Rang is the event of an alarm going off.
type Rang struct{ ID string }

// Start is the alarm every core gets once after it is loaded.
const Start = "start"

// Linked is the event of a link to a peer coming up: what was sent before may
// be lost, so now is the time to resend it. All cores are told.
//
// Link numbers this connection. It is never 0 and never used again while the
// process lives, so it is nothing to keep on disk; the peer numbers its end by
// itself. Of the packets that a core sends with this number the peer gets the
// first so many, in order, without a gap and over no other connection. What it
// got when the connection ends is for the two cores to find out over the next.
type Linked struct {
	Peer string
	Link uint64
}

// Unlinked is the event of a connection's end. No Recv with its Link follows,
// and what is still sent over it goes nowhere. Of two connections to one peer
// the older ends before the newer is Linked. A core that was added meanwhile
// may be told of a connection it has not heard of.
type Unlinked struct {
	Peer string
	Link uint64
}

// Effects is what a core wants done, field by field, top to bottom. Nothing in
// a lower field may happen before the fields above it are done.
type Effects struct {
	Put  []Record  // 1. durable, all or none
	Send []Packet  // 2. best effort; may be lost, repeated, reordered unless Link says
	Wake []Alarm   // 3. at least once, never early; not durable
	Done []Outcome // 4. tell whoever is waiting
}

// A Record is a durable fact. A nil Value deletes the key.
//
// A Lazy record may wait for the next one that is not, and a crash may lose it:
// only what a core would learn again after a restart, and has promised to
// nobody, may be lazy. What is written later never comes before what was
// written earlier.
type Record struct {
	Key   string
	Value []byte
	Lazy  bool
}

// A Packet is a message for a peer, for a core of the same machine, or for an
// outlet such as "chain".
type Packet struct {
	From string // the sending core; the machine fills it in
	To   string
	Msg  any
	Link uint64 // over this connection or not at all (Linked); 0 means any
}

// An Alarm asks for Rang{ID} at or after At. Asking again moves it.
type Alarm struct {
	Core string // whose it is; the machine fills it in
	ID   string
	At   Time
}

// An Outcome is the final word on something a caller asked for.
type Outcome struct {
	Core  string // whose it is; the machine fills it in
	ID    string
	Err   error
	Value any // a type the core declares
}

// A Reader is how a core loads itself: what is on disk, nothing else.
type Reader interface {
	// Get returns nil if key is missing.
	Get(key string) ([]byte, error)
	// Scan yields every record whose key starts with prefix, in key order.
	// key and value are valid only during the call.
	Scan(prefix string, yield func(key string, value []byte) bool) error
}

// Assert stops the core: a false condition is our bug, not a peer's.
func Assert(ok bool, format string, args ...any) {
	if !ok {
		panic("assert: " + fmt.Sprintf(format, args...))
	}
}
