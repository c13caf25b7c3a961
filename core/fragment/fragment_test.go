package fragment_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand"
	"testing"

	"coinop.dev/core/fragment"
)

func split(t testing.TB, id uint16, message []byte, size int) [][]byte {
	t.Helper()
	frames, err := fragment.Split(id, message, size)
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	r.Read(b)
	return b
}

func TestFramesFitAndLimitsAreNamed(t *testing.T) {
	for _, n := range []int{0, 1, 41, 42, 43, 200, fragment.MaxMessage} {
		frames := split(t, 7, make([]byte, n), fragment.FrameSize)
		if want := (n + 4 + 45) / 46; len(frames) != want {
			t.Errorf("%d bytes: %d frames, want %d", n, len(frames), want)
		}
		for _, f := range frames {
			if len(f) > fragment.FrameSize {
				t.Errorf("%d bytes: a frame of %d", n, len(f))
			}
		}
	}
	if _, err := fragment.Split(7, make([]byte, fragment.MaxMessage+1), fragment.FrameSize); err == nil {
		t.Error("one byte too many was split")
	}
	for _, size := range []int{0, fragment.MinFrame - 1, fragment.FrameSize + 1} {
		if _, err := fragment.Split(7, nil, size); err == nil {
			t.Errorf("frames of %d bytes were made", size)
		}
	}
}

// Whatever order, loss, repetition and strangers there are, each message comes
// out once, whole, and after the first round only what was lost is sent.
func TestMessagesSurviveARadio(t *testing.T) {
	for seed := range int64(300) {
		r := rand.New(rand.NewSource(seed))
		var j fragment.Joiner
		message := noise(r, r.Intn(2000))
		frames := split(t, uint16(r.Intn(1<<16)), message, fragment.MinFrame+r.Intn(fragment.FrameSize-fragment.MinFrame+1))
		var got [][]byte
		send := frames
		for round := 0; ; round++ {
			if round == 50 {
				t.Fatalf("seed %d: not through after %d rounds", seed, round)
			}
			var answer []byte
			for _, i := range r.Perm(len(send)) {
				if r.Intn(3) == 0 && round < 40 {
					continue
				}
				for range 1 + r.Intn(2) {
					m, a, err := j.Take(send[i])
					if err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					if m != nil {
						got = append(got, m)
					}
					answer = a
				}
				foreign := noise(r, 1+r.Intn(60))
				foreign[0] = 0x40 // a LoRaWAN uplink's first byte
				if _, _, err := j.Take(foreign); !errors.Is(err, fragment.ErrForeign) {
					t.Fatalf("seed %d: a foreign frame gave %v", seed, err)
				}
			}
			if answer == nil || r.Intn(4) == 0 {
				continue // the answer is lost too
			}
			if len(answer) > fragment.FrameSize {
				t.Fatalf("answer of %d bytes", len(answer))
			}
			again, done, err := fragment.Missing(frames, answer)
			if err != nil {
				t.Fatal(err)
			}
			if done {
				break
			}
			if len(again) > len(send) {
				t.Fatalf("seed %d: %d frames are missing of the %d sent", seed, len(again), len(send))
			}
			send = again
		}
		if len(got) != 1 || !bytes.Equal(got[0], message) {
			t.Fatalf("seed %d: %d messages came out, of %d bytes", seed, len(got), len(message))
		}
	}
}

func TestMessagesMayBeInterleavedUpToALimit(t *testing.T) {
	var j fragment.Joiner
	r := rand.New(rand.NewSource(1))
	var all [][][]byte
	for id := range uint16(fragment.MaxOpen) {
		all = append(all, split(t, id, noise(r, 300), fragment.FrameSize))
	}
	joined := 0
	for i := range all[0] {
		for _, frames := range all {
			if m, _, err := j.Take(frames[i]); err != nil {
				t.Fatal(err)
			} else if m != nil {
				joined++
			}
		}
	}
	if joined != fragment.MaxOpen {
		t.Fatalf("%d messages were joined of %d", joined, fragment.MaxOpen)
	}
	// One more than the limit drops the one that was touched longest ago.
	j.Forget()
	victim := all[0]
	j.Take(victim[0])
	for id := range uint16(fragment.MaxOpen) {
		j.Take(split(t, 100+id, noise(r, 300), fragment.FrameSize)[0])
	}
	_, answer, err := j.Take(victim[1])
	if err != nil {
		t.Fatal(err)
	}
	if again, done, err := fragment.Missing(victim, answer); err != nil || done || len(again) != len(victim)-1 {
		t.Errorf("%d of %d frames are missing, %v, %v; want all but one", len(again), len(victim), done, err)
	}
}

func TestTwoMessagesOfOneIDDoNotMix(t *testing.T) {
	var j fragment.Joiner
	r := rand.New(rand.NewSource(2))
	a, b := split(t, 9, noise(r, 120), fragment.FrameSize), split(t, 9, noise(r, 120), fragment.FrameSize)
	j.Take(a[0])
	j.Take(b[1])
	_, answer, err := j.Take(b[2])
	if !errors.Is(err, fragment.ErrSum) {
		t.Fatalf("a mixture gave %v", err)
	}
	if again, _, err := fragment.Missing(b, answer); err != nil || len(again) != len(b) {
		t.Fatalf("after a mixture %d of %d frames are asked for, %v", len(again), len(b), err)
	}
	for i, f := range b {
		m, _, err := j.Take(f)
		if err != nil || (m != nil) != (i == len(b)-1) {
			t.Fatalf("frame %d: %x, %v", i, m, err)
		}
	}
}

func TestALateFrameDoesNotBeginAnew(t *testing.T) {
	var j fragment.Joiner
	frames := split(t, 3, []byte("a message of more than one frame, so that one of them can be late"), fragment.FrameSize)
	for _, f := range frames {
		j.Take(f)
	}
	m, answer, err := j.Take(frames[0])
	if m != nil || err != nil {
		t.Fatalf("a late frame gave %q, %v", m, err)
	}
	if _, done, err := fragment.Missing(frames, answer); !done || err != nil {
		t.Fatalf("the answer to a late frame says %v, %v", done, err)
	}
}

func TestForeignAnswers(t *testing.T) {
	frames := split(t, 3, make([]byte, 100), fragment.FrameSize)
	other := split(t, 4, make([]byte, 100), fragment.FrameSize)
	var j fragment.Joiner
	_, answer, _ := j.Take(other[0])
	if again, done, err := fragment.Missing(frames, answer); again != nil || done || err != nil {
		t.Errorf("an answer to another message: %d, %v, %v", len(again), done, err)
	}
	for _, bad := range [][]byte{nil, {0xda}, {0xda, 0, 3, 2}, append(answer, 0), frames[0]} {
		if _, _, err := fragment.Missing(frames, bad); !errors.Is(err, fragment.ErrForeign) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

// What is joined splits into what was joined.
func FuzzJoin(f *testing.F) {
	for _, n := range []int{0, 10, 42, 43, 200} {
		f.Add(bytes.Join(split(f, 1, make([]byte, n), fragment.FrameSize), nil), byte(fragment.FrameSize))
		f.Add(bytes.Join(split(f, 1, make([]byte, n), fragment.MinFrame), nil), byte(fragment.MinFrame))
	}
	f.Fuzz(func(t *testing.T, raw []byte, size byte) {
		var j fragment.Joiner
		seen := map[[4]byte][]byte{} // by id, index and last: the newest
		for n := 0; size > 0 && len(raw) > 0 && n < 2*fragment.MaxFrames; n++ {
			frame := raw[:min(int(size), len(raw))]
			raw = raw[len(frame):]
			message, answer, err := j.Take(frame)
			if len(answer) > fragment.MinFrame || len(message) > fragment.MaxMessage {
				t.Fatalf("answer of %d bytes, message of %d", len(answer), len(message))
			}
			if answer != nil {
				seen[[4]byte(frame[1:5])] = frame
			}
			if err != nil || message == nil {
				continue
			}
			first := seen[[4]byte{frame[1], frame[2], 0, frame[4]}]
			if frame[4] > 0 && len(first) < fragment.MinFrame {
				continue // Split makes none so small
			}
			frames, err := fragment.Split(binary.BigEndian.Uint16(frame[1:]), message, max(len(first), fragment.MinFrame))
			if err != nil || len(frames) != int(frame[4])+1 {
				t.Fatalf("%d frames were joined and %d split, %v", frame[4]+1, len(frames), err)
			}
			for i, want := range frames {
				if got := seen[[4]byte{frame[1], frame[2], byte(i), frame[4]}]; !bytes.Equal(got, want) {
					t.Fatalf("frame %d was %x, is %x", i, got, want)
				}
			}
		}
	})
}

func FuzzMissing(f *testing.F) {
	frames := split(f, 1, make([]byte, 200), fragment.FrameSize)
	f.Add([]byte{0xda, 0, 1, 4, 0x15})
	f.Fuzz(func(t *testing.T, answer []byte) {
		again, done, err := fragment.Missing(frames, answer)
		if done && (err != nil || len(again) > 0) || len(again) > len(frames) {
			t.Fatalf("%x: %d, %v, %v", answer, len(again), done, err)
		}
	})
}
