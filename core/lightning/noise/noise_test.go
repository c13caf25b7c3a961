package noise_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"coinop.dev/core/lightning/noise"
)

func TestLongestAndShortestMessages(t *testing.T) {
	initiator, responder := sessions(t)
	for _, size := range []int{0, 1, noise.MaxMessage} {
		msg := bytes.Repeat([]byte{7}, size)
		packet, err := initiator.Seal(nil, msg)
		if err != nil {
			t.Fatal(err)
		}
		if got := open(t, responder, packet); !bytes.Equal(got, msg) {
			t.Errorf("%d bytes came out as %d", size, len(got))
		}
	}
}

func TestTooLongMessageIsRefusedAndChangesNothing(t *testing.T) {
	initiator, responder := sessions(t)
	dst, err := initiator.Seal(nil, make([]byte, noise.MaxMessage+1))
	if err == nil || !strings.Contains(err.Error(), "65536") || len(dst) != 0 {
		t.Fatalf("sealed %d bytes, %v", len(dst), err)
	}
	packet, _ := initiator.Seal(nil, []byte("still here"))
	if got := open(t, responder, packet); string(got) != "still here" {
		t.Errorf("got %q", got)
	}
}

// A packet that was changed, repeated or turned back on its sender is refused,
// and the true one still opens.
func TestOnlyTheNextPacketOpens(t *testing.T) {
	initiator, responder := sessions(t)
	first, _ := initiator.Seal(nil, []byte("first"))
	for i := range first[:noise.HeaderSize] {
		bent := bytes.Clone(first[:noise.HeaderSize])
		bent[i] ^= 1
		if _, err := responder.Length(bent); err == nil {
			t.Fatalf("a header with byte %d changed was accepted", i)
		}
	}
	if _, err := initiator.Length(first[:noise.HeaderSize]); err == nil {
		t.Error("the sender opened its own header")
	}
	open(t, responder, first)
	if _, err := responder.Length(first[:noise.HeaderSize]); err == nil {
		t.Error("a repeated header was accepted")
	}
	second, _ := initiator.Seal(nil, []byte("second"))
	if got := open(t, responder, second); string(got) != "second" {
		t.Errorf("got %q", got)
	}
}

func TestNothingHerePrintsAKey(t *testing.T) {
	i, _ := initiate(t)
	r, _ := respond(t)
	session, _ := sessions(t)
	for _, v := range []any{i, r, session, session.Sealer, *session.Sealer, session.Opener, *session.Opener} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s"} {
			text := fmt.Sprintf(verb, v)
			if text != "noise" && text != "noise session with "+responderPublic {
				t.Errorf("%T prints as %q", v, text)
			}
		}
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	initiator, responder := sessions(t)
	msg := make([]byte, 300)
	packet := make([]byte, 0, noise.MaxPacket)
	// 400 messages stay on the first key; changing keys does allocate.
	allocs := testing.AllocsPerRun(400, func() {
		packet, _ = initiator.Seal(packet[:0], msg)
		length, _ := responder.Length(packet[:noise.HeaderSize])
		body := packet[noise.HeaderSize : noise.HeaderSize+length+noise.TagSize]
		if _, err := responder.Open(body[:0], body); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per message", allocs)
	}
}

// FuzzActs throws bytes at every act: none may be accepted but the true ones,
// and none may panic.
func FuzzActs(f *testing.F) {
	for _, act := range []string{actOne, actTwo, actThree} {
		f.Add(unhex(f, act))
	}
	for _, failures := range [][]failure{actOneFailures, actTwoFailures, actThreeFailures} {
		for _, failure := range failures {
			f.Add(unhex(f, failure.input))
		}
	}
	i, _ := initiate(f)
	r, _ := respond(f)
	self, ephemeral := secret(f, responderStatic), secret(f, responderEphemeral)
	f.Fuzz(func(t *testing.T, act []byte) {
		text := fmt.Sprintf("%x", act)
		if _, _, err := noise.Respond(self, ephemeral, act); err == nil && text != actOne {
			// Anyone may write an act one who knows the responder's key, but
			// not by accident.
			t.Errorf("act one %s was accepted", text)
		}
		if _, _, err := i.Finish(act); err == nil && text != actTwo {
			t.Errorf("act two %s was accepted", text)
		}
		if _, err := r.Finish(act); err == nil && text != actThree {
			t.Errorf("act three %s was accepted", text)
		}
	})
}

// FuzzOpener throws a stream at a session: nothing opens but the true packet,
// and what is refused leaves the session as it was.
func FuzzOpener(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, noise.HeaderSize))
	for _, packet := range messages {
		f.Add(unhex(f, packet))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		_, responder := sessions(t)
		header := stream[:min(len(stream), noise.HeaderSize)]
		if _, err := responder.Length(header); err == nil {
			if _, err := responder.Open(nil, stream[len(header):]); err == nil && fmt.Sprintf("%x", stream) != messages[0] {
				t.Errorf("packet %x was accepted", stream)
			}
			return
		}
		if got := open(t, responder, unhex(t, messages[0])); string(got) != "hello" {
			t.Errorf("got %q", got)
		}
	})
}

func BenchmarkHandshake(b *testing.B) {
	self, peer := secret(b, initiatorStatic), secret(b, responderStatic)
	theirs, e, f := peer.Public(), secret(b, initiatorEphemeral), secret(b, responderEphemeral)
	b.ReportAllocs()
	for b.Loop() {
		i, one, _ := noise.Initiate(self, theirs, e)
		r, two, _ := noise.Respond(peer, f, one[:])
		_, three, _ := i.Finish(two[:])
		if _, err := r.Finish(three[:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSealOpen(b *testing.B) {
	for _, size := range []int{300, noise.MaxMessage} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			initiator, responder := sessions(b)
			msg, packet := make([]byte, size), make([]byte, 0, noise.MaxPacket)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				packet, _ = initiator.Seal(packet[:0], msg)
				responder.Length(packet[:noise.HeaderSize])
				body := packet[noise.HeaderSize:]
				if _, err := responder.Open(body[:0], body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func open(t testing.TB, s noise.Session, packet []byte) []byte {
	length, err := s.Length(packet[:noise.HeaderSize])
	if err != nil {
		t.Fatal(err)
	}
	msg, err := s.Open(nil, packet[noise.HeaderSize:])
	if err != nil || len(msg) != length {
		t.Fatalf("header says %d bytes, body has %d, %v", length, len(msg), err)
	}
	return msg
}
