package serial

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/frames.txt anew")

// The frames that the C SDK is tested against too.
func TestFrames(t *testing.T) {
	full := bytes.Repeat([]byte{7}, MaxPayload)
	var text strings.Builder
	for _, f := range []Frame{
		{Ack, 7, nil}, {Ack, 0, nil}, {Data, 0, []byte{0, 0}}, {Data, 255, []byte("hello")}, {More, 1, full}, {Data, 2, make([]byte, MaxPayload)},
		{Hello, 0, greeting{true, 0x01020304, 0, MaxMessage, "pump-3"}.append(nil)},
	} {
		raw := f.Append(nil)
		if len(raw) != 1+1+head+len(f.Payload)+checksum+1 {
			t.Errorf("%v takes %d bytes", f, len(raw))
		}
		fmt.Fprintf(&text, "%d %d %s %x\n", f.Type, f.Seq, orDash(f.Payload), raw)
		got := all(raw)
		if len(got) != 1 || got[0].Type != f.Type || got[0].Seq != f.Seq || !bytes.Equal(got[0].Payload, f.Payload) {
			t.Errorf("%v is read as %v", f, got)
		}
	}
	if *update {
		os.WriteFile("testdata/frames.txt", []byte(text.String()), 0o644)
	}
	want, err := os.ReadFile("testdata/frames.txt")
	if err != nil || string(want) != text.String() {
		t.Errorf("testdata/frames.txt differs (%v):\n%s", err, text.String())
	}
}

func orDash(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	return hex.EncodeToString(b)
}

func all(raw []byte) (got []Frame) {
	var d Deframer
	d.Write(raw, func(f Frame) { got = append(got, Frame{f.Type, f.Seq, bytes.Clone(f.Payload)}) })
	return got
}

// The check value of CRC-16/CCITT-FALSE, and COBS by Cheshire and Baker's examples.
func TestKnownAnswers(t *testing.T) {
	if got := crc([]byte("123456789")); got != 0x29b1 {
		t.Errorf("crc is %04x", got)
	}
	for plain, coded := range map[string]string{
		"": "01", "00": "0101", "0000": "010101", "112200330": "", "11220033": "0311220233", "11223344": "0511223344", "11000000": "0211010101",
	} {
		p, err := hex.DecodeString(plain)
		if err != nil {
			continue
		}
		if got := hex.EncodeToString(stuff(nil, p)); got != coded {
			t.Errorf("%s is stuffed as %s, not %s", plain, got, coded)
		}
	}
	for _, bad := range []string{"", "00", "02", "0500", "ff", "020001"} {
		b, _ := hex.DecodeString(bad)
		if got, err := unstuff(b); err == nil {
			t.Errorf("%s is unstuffed as %x", bad, got)
		}
	}
}

// Whatever is on the line, a frame behind a zero is found.
func FuzzDeframer(f *testing.F) {
	frame := Frame{Data, 3, []byte("reading\x00")}
	f.Add(frame.Append(nil))
	f.Add(bytes.Repeat([]byte{1}, 300))
	f.Add(append(bytes.Repeat([]byte{9}, 254), frame.Append(nil)...))
	f.Fuzz(func(t *testing.T, noise []byte) {
		for _, got := range all(noise) {
			again := all(got.Append(nil))
			if len(again) != 1 || again[0].Type != got.Type || !bytes.Equal(again[0].Payload, got.Payload) {
				t.Errorf("%v is written and read as %v", got, again)
			}
			if g, ok := readGreeting(got.Payload); got.Type == Hello && ok && len(g.append(nil)) != len(got.Payload) {
				t.Errorf("greeting %+v", g)
			}
		}
		if coded := bytes.TrimRight(noise, "\x00"); len(coded) > 0 && len(coded) <= maxCoded && !bytes.Contains(coded, []byte{0}) {
			if plain, err := unstuff(bytes.Clone(coded)); err == nil && !bytes.Equal(stuff(nil, plain), coded) {
				t.Errorf("%x is %x, which is stuffed otherwise", coded, plain)
			}
		}
		got := all(append(bytes.Clone(noise), frame.Append(nil)...))
		if len(got) == 0 || !bytes.Equal(got[len(got)-1].Payload, frame.Payload) {
			t.Errorf("the frame after %x is lost", noise)
		}
	})
}

// A wire carries bytes between two ends in a made-up time, badly.
type wire struct {
	rng       *rand.Rand
	lose, bad float64 // per byte; bad flips or repeats it
	cut       bool
	now       time.Time
	ends      [2]*end
	deframers [2]Deframer
	due       [2]time.Time
	queue     [2][]byte // towards that end
	got       [2][][]byte
	ups       [2]int
}

func newWire(seed uint64, lose, bad float64) *wire {
	w := &wire{rng: rand.New(rand.NewPCG(seed, 1)), lose: lose, bad: bad, now: time.Unix(1e9, 0)}
	for i := range w.ends {
		w.ends[i] = &end{
			limit: 4096, random: w.rng.Uint32, room: func() bool { return w.rng.IntN(10) > 0 },
			write:  func(f Frame) { w.queue[1-i] = append(w.queue[1-i], w.noise(f.Append(nil))...) },
			took:   func(msg []byte) { w.got[i] = append(w.got[i], msg) },
			turned: func(up bool, _ string) { w.ups[i]++ },
		}
		w.ends[i].restart(w.now)
	}
	return w
}

func (w *wire) noise(raw []byte) (out []byte) {
	for _, b := range raw {
		switch p := w.rng.Float64(); {
		case w.cut || p < w.lose:
		case p < w.lose+w.bad/2:
			out = append(out, b^1<<w.rng.IntN(8))
		case p < w.lose+w.bad:
			out = append(out, b, b)
		default:
			out = append(out, b)
		}
	}
	return out
}

// run lets time pass until done, or for long.
func (w *wire) run(long time.Duration, done func() bool) bool {
	for stop := w.now.Add(long); w.now.Before(stop); {
		if done() {
			return true
		}
		for i, e := range w.ends {
			in := w.queue[i]
			w.queue[i] = nil
			w.deframers[i].Write(in, func(f Frame) { e.receive(w.now, f) })
			w.due[i] = e.tick(w.now)
		}
		if len(w.queue[0])+len(w.queue[1]) == 0 {
			next := w.due[0]
			if w.due[1].Before(next) {
				next = w.due[1]
			}
			w.now = next
		}
	}
	return done()
}

func (w *wire) up() bool { return w.ends[0].up && w.ends[1].up }

// say sends one message from end i and returns what Send would.
func (w *wire) say(i int, msg []byte) error {
	p := &parcel{msg, make(chan error, 1)}
	w.ends[i].send(w.now, p)
	w.run(time.Hour, func() bool { return len(p.done) == 1 })
	return <-p.done
}

// Every message arrives whole and in order, however noisy the line; one comes
// twice only if its sender was told that the line had gone down.
func TestNoise(t *testing.T) {
	for _, c := range []struct{ lose, bad float64 }{{0, 0}, {0.001, 0}, {0, 0.001}, {0.003, 0.003}} {
		for seed := range uint64(20) {
			w := newWire(seed, c.lose, c.bad)
			var sent [][]byte
			downs := 0
			for n := range 30 {
				msg := make([]byte, 1+w.rng.IntN(1500))
				for i := range msg {
					msg[i] = byte(w.rng.IntN(3)) // zeros are what framing is about
				}
				msg[0] = byte(n)
				sent = append(sent, msg)
				for {
					if !w.run(time.Hour, w.up) {
						t.Fatalf("seed %d: the line does not come up", seed)
					}
					err := w.say(n%2, msg)
					if err == nil {
						break
					}
					downs++
				}
			}
			for i := range w.got {
				var want, got [][]byte
				for n, msg := range sent {
					if n%2 != i {
						want = append(want, msg)
					}
				}
				repeats := 0
				for _, msg := range w.got[i] {
					if len(got) > 0 && bytes.Equal(got[len(got)-1], msg) {
						repeats++
						continue
					}
					got = append(got, msg)
				}
				if !equal(got, want) || repeats > downs {
					t.Fatalf("loss %v noise %v seed %d: end %d has %d of %d messages, %d twice, %d times down", c.lose, c.bad, seed, i, len(got), len(want), repeats, downs)
				}
			}
			if c.lose+c.bad == 0 && downs > 0 {
				t.Errorf("a quiet line was down %d times", downs)
			}
		}
	}
}

func equal(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

func TestCablePulledAndBack(t *testing.T) {
	w := newWire(1, 0, 0)
	w.run(time.Minute, w.up)
	w.cut = true
	if err := w.say(0, []byte("open")); !errors.Is(err, ErrDown) {
		t.Fatalf("without a cable: %v", err)
	}
	if !w.run(time.Minute, func() bool { return !w.ends[0].up && !w.ends[1].up }) {
		t.Fatal("an end does not notice")
	}
	if err := w.say(0, []byte("open")); !errors.Is(err, ErrDown) {
		t.Fatalf("while it is down: %v", err)
	}
	w.cut = false
	if !w.run(time.Minute, w.up) {
		t.Fatal("the line does not come back")
	}
	if err := w.say(0, []byte("open")); err != nil || len(w.got[1]) != 1 {
		t.Fatalf("%v, %q", err, w.got[1])
	}
}

// The device is switched off and on in the middle of a message: its half is
// forgotten, and nobody takes the second half for a message.
func TestRestartInTheMiddle(t *testing.T) {
	w := newWire(2, 0, 0)
	w.run(time.Minute, w.up)
	p := &parcel{bytes.Repeat([]byte{5}, 1000), make(chan error, 1)}
	w.ends[0].send(w.now, p)
	w.run(time.Minute, func() bool { return len(w.ends[1].in) >= 2*MaxPayload })
	w.ends[1].restart(w.now)
	if !w.run(time.Minute, func() bool { return len(p.done) == 1 && w.up() }) || <-p.done == nil {
		t.Fatal("half a message passed for a whole one")
	}
	if len(w.got[1]) != 0 {
		t.Fatalf("got %d messages", len(w.got[1]))
	}
	if err := w.say(0, []byte("again")); err != nil || string(w.got[1][0]) != "again" {
		t.Fatalf("%v %q", err, w.got[1])
	}
}

func TestTooLong(t *testing.T) {
	w := newWire(3, 0, 0)
	w.run(time.Minute, w.up)
	if err := w.say(0, make([]byte, 4097)); !errors.Is(err, ErrTooLong) {
		t.Fatalf("4097 bytes: %v", err)
	}
	// An end that does not keep to it costs no memory, and the line goes on.
	w.ends[0].peerMax = 1 << 20
	if err := w.say(0, make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.say(0, []byte("next")); err != nil || len(w.got[1]) != 1 || string(w.got[1][0]) != "next" {
		t.Fatalf("%v, %d messages", err, len(w.got[1]))
	}
}
