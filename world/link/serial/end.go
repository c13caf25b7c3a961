package serial

import (
	"time"
)

// An end is one side of the protocol. It has no goroutine and no clock: it is
// told of frames and of the time, and says what to write.
type end struct {
	name   string
	limit  int // of a message that it takes
	random func() uint32
	write  func(Frame)
	room   func() bool // for one more message
	took   func(msg []byte)
	turned func(up bool, peer string)

	mine, yours uint32
	up          bool
	peerMax     int
	heard       time.Time // anything valid
	hello       time.Time // when to say it next

	out    *parcel
	outSeq uint8
	tries  int
	resend time.Time

	in     []byte
	inSeq  uint8
	tooBig bool // what is coming is longer than limit
}

// A parcel is a message on its way out.
type parcel struct {
	rest []byte
	done chan error // takes one
}

func (p *parcel) piece() Frame {
	if len(p.rest) > MaxPayload {
		return Frame{Type: More, Payload: p.rest[:MaxPayload]}
	}
	return Frame{Type: Data, Payload: p.rest}
}

// restart forgets the peer and looks for it under a new number.
func (e *end) restart(now time.Time) {
	for e.mine = e.random(); e.mine == 0; {
		e.mine = e.random()
	}
	e.yours = 0
	e.reset()
	e.heard, e.hello = now, now
}

// reset ends the session.
func (e *end) reset() {
	if e.out != nil {
		e.out.done <- ErrDown
		e.out = nil
	}
	e.outSeq, e.inSeq, e.in, e.tooBig = 0, 0, nil, false
	if e.up {
		e.up = false
		e.turned(false, "")
	}
}

// send starts on a message; nothing may be on its way.
func (e *end) send(now time.Time, p *parcel) {
	switch {
	case !e.up:
		p.done <- ErrDown
	case len(p.rest) > e.peerMax:
		p.done <- tooLong(len(p.rest), e.peerMax)
	default:
		e.out = p
		e.first(now)
	}
}

func (e *end) first(now time.Time) {
	e.tries = 0
	e.again(now)
}

func (e *end) again(now time.Time) {
	f := e.out.piece()
	f.Seq = e.outSeq
	e.write(f)
	e.resend = now.Add(min(Resend<<e.tries, MaxResend))
	e.tries++
}

// tick does what is due; next says when to call it again.
func (e *end) tick(now time.Time) (next time.Time) {
	if now.Sub(e.heard) >= DownAfter || e.out != nil && e.tries >= MaxTries && !now.Before(e.resend) {
		e.restart(now)
	}
	if e.out != nil && !now.Before(e.resend) {
		e.again(now)
	}
	if !now.Before(e.hello) {
		e.greet(true)
		e.hello = now.Add(HelloEvery)
	}
	next = e.hello
	if e.out != nil && e.resend.Before(next) {
		next = e.resend
	}
	return next
}

func (e *end) greet(answer bool) {
	g := greeting{answer, e.mine, e.yours, uint16(e.limit), e.name}
	e.write(Frame{Type: Hello, Payload: g.append(nil)})
}

func (e *end) receive(now time.Time, f Frame) {
	switch {
	case f.Type == Hello:
		if g, ok := readGreeting(f.Payload); ok && g.mine != e.mine { // else our own echo
			e.greeted(now, g)
		}
		return
	case !e.up:
		return
	case f.Type == Ack:
		e.acked(now, f.Seq)
	case f.Seq == e.inSeq:
		e.take(f)
	case f.Seq == e.inSeq-1:
		e.write(Frame{Type: Ack, Seq: f.Seq})
	}
	e.alive(now)
}

// alive puts off the next ping.
func (e *end) alive(now time.Time) {
	e.heard, e.hello = now, now.Add(PingAfter)
}

func (e *end) greeted(now time.Time, g greeting) {
	if g.mine != e.yours {
		e.reset()
		e.yours = g.mine
	}
	known := g.yours == e.mine
	if known && !e.up {
		e.up, e.peerMax = true, int(g.max)
		e.turned(true, g.name)
	}
	if e.up && known {
		e.alive(now)
	}
	if g.answer || !known {
		e.greet(!e.up)
	}
}

func (e *end) acked(now time.Time, seq uint8) {
	if e.out == nil || seq != e.outSeq {
		return
	}
	e.outSeq++
	sent := e.out.piece()
	e.out.rest = e.out.rest[len(sent.Payload):]
	if sent.Type == More {
		e.first(now)
		return
	}
	e.out.done <- nil
	e.out = nil
}

func (e *end) take(f Frame) {
	if f.Type == Data && !e.tooBig && !e.room() {
		return
	}
	e.inSeq++
	e.write(Frame{Type: Ack, Seq: f.Seq})
	if e.tooBig = e.tooBig || len(e.in)+len(f.Payload) > e.limit; e.tooBig {
		e.in = nil
	} else {
		e.in = append(e.in, f.Payload...)
	}
	if f.Type == More {
		return
	}
	if !e.tooBig {
		e.took(e.in)
	}
	e.in, e.tooBig = nil, false
}
