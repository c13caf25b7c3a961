// Package serial carries whole messages over a serial line: to a switch, a
// meter or a modem that hangs on a few wires. Nothing on the wires is
// encrypted, and whoever holds them is the peer; what must be believed is signed
// inside the messages. Its other end is a microcontroller, so it is made to be
// written again in C with two buffers of 256 bytes (sdk/c).
//
// # Frames
//
// All integers are big-endian. A frame on the wire is
//
//	00  COBS( type:1  seq:1  payload:0..250  crc:2 )  00
//
// COBS (consistent overhead byte stuffing, Cheshire and Baker 1999) takes the
// zeros out. What it takes has 4 to 254 bytes, so it adds exactly one. The crc is
// CRC-16/CCITT-FALSE of type, seq and payload: polynomial 0x1021, start 0xffff,
// nothing reflected, nothing added; of "123456789" it is 0x29b1.
//
// The zero in front ends whatever noise came before; an empty frame is nothing.
// Frames with a wrong COBS, crc or length, or of an unknown type, are dropped
// in silence, and so are 255 bytes without a zero.
//
//	type     seq               payload
//	HELLO 1  0                 version:1=1  flags:1  mine:4  yours:4  max:2  name:0..64
//	ACK   2  of what came      empty
//	DATA  3  counts            the last piece of a message, or all of it
//	MORE  4  counts            a piece of a message that goes on
//
// # Sessions
//
// Each end draws mine, a number that is not 0, when it starts and when it gives
// up the other; yours is the number it has last heard, or 0. max is the longest
// message that it takes, at least 250 bytes. The line is up at an end when a
// HELLO came whose yours is the end's own number. Until then the end says HELLO
// with flag 1 (answer, please) every HelloEvery. A HELLO with a new number means
// that the other has started again: the half message that was coming is
// forgotten, both count from 0, and if the line was up it was down in between.
// A HELLO with flag 1, or whose yours is wrong, is answered; the answer has flag
// 1 if the line is not up. An end that has heard nothing for PingAfter says HELLO
// with flag 1; after DownAfter it starts again with a new number.
//
// # Messages
//
// While the line is up each end has one DATA or MORE outstanding. The first of a
// session has seq 0, and after 255 comes 0. It is sent again after Resend, which
// doubles up to MaxResend, until an ACK has its seq, and after MaxTries the end
// gives up the other. The receiver takes what it expects and acknowledges it; of
// what it has just taken it only acknowledges the repetition; all else it
// drops. Who has no room for a message does not acknowledge its last piece. A
// message longer than max is acknowledged and dropped.
package serial

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"
)

// The sizes of a frame, in bytes.
const (
	// MaxPayload makes COBS add exactly one byte, and a static buffer of 256
	// bytes enough.
	MaxPayload = 250

	head     = 2 // type and seq
	checksum = 2
	maxPlain = head + MaxPayload + checksum
	maxCoded = maxPlain + 1
	maxName  = 64
)

// MaxMessage is the longest message in bytes, as in world/link; MinMessage is
// what every end takes.
const (
	MaxMessage = 65535
	MinMessage = MaxPayload
)

// The clock of a line. A frame takes 22 ms at 115,200 baud and 270 ms at 9,600.
const (
	HelloEvery = 500 * time.Millisecond
	Resend     = 250 * time.Millisecond
	MaxResend  = 2 * time.Second
	MaxTries   = 8
	PingAfter  = 5 * time.Second
	DownAfter  = 15 * time.Second
	// ReopenEvery is how often a port that is gone is tried again: a cable is put
	// back by a person.
	ReopenEvery = time.Second
)

// MaxWaiting bounds the messages that have come and nobody has fetched. Then the
// other end is not acknowledged, and waits.
const MaxWaiting = 8

// ErrDown means that the other end of the line is not there, or went away before
// it had the message.
var ErrDown = errors.New("the serial line is down: check the cable, the speed and the device")

// Baud is the speed of a URI that does not say.
const Baud = 115200

// Parse reads serial:///dev/ttyUSB0?baud=115200.
func Parse(uri string) (path string, baud int, err error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "serial" || u.Host != "" || len(u.Path) < 2 {
		return "", 0, fmt.Errorf("%.100q is no serial line; write serial:///dev/ttyUSB0?baud=%d", uri, Baud)
	}
	baud = Baud
	for key, values := range u.Query() {
		if key != "baud" || len(values) != 1 {
			return "", 0, fmt.Errorf("serial line %s: %.40q is unknown; it takes one baud", u.Path, key)
		}
		if baud, err = strconv.Atoi(values[0]); err != nil || baud < 50 || baud > 4_000_000 {
			return "", 0, fmt.Errorf("serial line %s: baud %.40q is not from 50 to 4000000", u.Path, values[0])
		}
	}
	return u.Path, baud, nil
}

// Opener is how a Line opens the port of a URI, each time it must.
func Opener(uri string) (func() (io.ReadWriteCloser, error), error) {
	path, baud, err := Parse(uri)
	if err != nil {
		return nil, err
	}
	return func() (io.ReadWriteCloser, error) { return openTTY(path, baud) }, nil
}
