package coap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	wire "coinop.dev/core/coap"
)

// A peer is one other end: it keeps what is outstanding in both directions.
type peer struct {
	end    *endpoint
	key    string // tells peers apart
	name   string
	send   func([]byte) error
	ctx    context.Context
	cancel context.CancelFunc

	confirming chan struct{} // NSTART: one confirmable message at a time

	mu       sync.Mutex
	proved   bool // reads what is sent to its address
	nextID   uint16
	seen     map[uint16]*exchange
	order    []uint16 // of seen, oldest first
	acks     map[uint16]chan wire.Message
	waiting  map[string]chan wire.Message // by token
	observed map[string]context.CancelFunc
	working  int
}

// An exchange is a request that was seen, and what was said to it last.
type exchange struct {
	token string
	at    time.Time
	reply []byte // nil while nothing was
	done  bool
}

// An endpoint is what all peers of a server, or the one of a client, share.
type endpoint struct {
	o      Options
	handle Handler
	shelf  shelf
	echo   echo

	serving chan struct{} // a place for each request that is worked on
}

func newEndpoint(h Handler, o Options) *endpoint {
	e := &endpoint{o: o, handle: h, serving: make(chan struct{}, MaxServing)}
	e.echo.init()
	return e
}

func (e *endpoint) newPeer(ctx context.Context, key, name string, proved bool, send func([]byte) error) *peer {
	p := &peer{
		end: e, key: key, name: name, send: send, proved: proved, confirming: make(chan struct{}, 1), nextID: uint16(mathrand.Uint32()),
		seen: map[uint16]*exchange{}, acks: map[uint16]chan wire.Message{},
		waiting: map[string]chan wire.Message{}, observed: map[string]context.CancelFunc{},
	}
	p.ctx, p.cancel = context.WithCancel(ctx)
	return p
}

var (
	errReset   = errors.New("the peer does not know what this is about (RST)")
	errSilence = errors.New("the peer does not answer: check its address, its key and the way there")
)

// receive takes one datagram, which is the peer's from now on. It does not block.
func (p *peer) receive(raw []byte) {
	m, err := wire.Decode(raw)
	if err != nil {
		if t, id, ok := wire.Head(raw); ok && t == wire.Confirmable {
			p.answerEmpty(wire.Reset, id)
		}
		return
	}
	switch {
	case m.Type == wire.Acknowledgement || m.Type == wire.Reset:
		p.acknowledged(m)
	case m.Code.IsRequest():
		p.requested(m, len(raw))
	case m.Code.Class() >= 2 && p.answered(m):
		if m.Type == wire.Confirmable {
			p.answerEmpty(wire.Acknowledgement, m.ID)
		}
	case m.Type == wire.Confirmable: // a ping, too
		p.answerEmpty(wire.Reset, m.ID)
	}
}

func (p *peer) answerEmpty(t wire.Type, id uint16) {
	p.send(wire.Message{Type: t, ID: id}.Append(nil))
}

func (p *peer) acknowledged(m wire.Message) {
	p.mu.Lock()
	c := p.acks[m.ID]
	delete(p.acks, m.ID)
	p.mu.Unlock()
	if c == nil {
		return
	}
	if m.Type == wire.Acknowledgement && m.Code != wire.Empty {
		p.answered(m)
	}
	c <- m // has room for one, and is told once
}

// answered gives a response to who waits for it.
func (p *peer) answered(m wire.Message) bool {
	p.mu.Lock()
	c := p.waiting[string(m.Token)]
	p.mu.Unlock()
	if c == nil {
		return false
	}
	select {
	case c <- m:
	default: // a notification too many: the next one is newer
	}
	return true
}

// id numbers a message of ours; p.mu is held.
func (p *peer) id() uint16 {
	p.nextID++
	return p.nextID
}

// confirm sends a confirmable message until it is acknowledged.
func (p *peer) confirm(ctx context.Context, m wire.Message) error {
	select {
	case p.confirming <- struct{}{}:
		defer func() { <-p.confirming }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c := make(chan wire.Message, 1)
	p.mu.Lock()
	m.Type, m.ID = wire.Confirmable, p.id()
	p.acks[m.ID] = c
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.acks, m.ID)
		p.mu.Unlock()
	}()
	raw := m.Append(nil)
	wait := time.Duration(float64(p.end.o.ackTimeout()) * (1 + mathrand.Float64()/2))
	for range MaxRetransmit + 1 {
		if err := p.send(raw); err != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case ack := <-c:
			timer.Stop()
			if ack.Type == wire.Reset {
				return errReset
			}
			return nil
		case <-timer.C:
			wait *= 2
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
	return errSilence
}

// requested starts on a request, unless it is one that was seen.
func (p *peer) requested(m wire.Message, size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.seen[m.ID]; e != nil && e.token == string(m.Token) && time.Since(e.at) < Remember {
		if e.reply != nil {
			p.send(e.reply)
		}
		return
	}
	if !p.start() {
		busy := wire.Message{Type: wire.Acknowledgement, Code: wire.ServiceUnavailable, ID: m.ID, Token: m.Token}
		if m.Type == wire.NonConfirmable {
			busy.Type, busy.ID = wire.NonConfirmable, p.id()
		}
		busy.AddUint(wire.MaxAge, 1)
		p.send(busy.Append(nil))
		return
	}
	e := &exchange{token: string(m.Token), at: time.Now()}
	p.remember(m.ID, e)
	go p.serve(m, e, size)
}

// start takes a place to work in, if there is one; p.mu is held.
func (p *peer) start() bool {
	if p.working == MaxWorking || p.ctx.Err() != nil {
		return false
	}
	select {
	case p.end.serving <- struct{}{}:
		p.working++
		return true
	default:
		return false
	}
}

// remember makes room for one more exchange. Those under way stay.
func (p *peer) remember(id uint16, e *exchange) {
	if p.seen[id] == nil {
		p.order = append(p.order, id)
	}
	p.seen[id] = e
	for i := 0; len(p.order) > MaxSeen && i < len(p.order); {
		if old := p.seen[p.order[i]]; !old.done {
			i++
			continue
		}
		delete(p.seen, p.order[i])
		p.order = append(p.order[:i], p.order[i+1:]...)
	}
}

// serve answers one request: with the acknowledgement if it is quick, and later by
// itself if it is not (RFC 7252, section 5.2.2).
func (p *peer) serve(m wire.Message, e *exchange, size int) {
	confirmable := m.Type == wire.Confirmable
	if confirmable {
		late := time.AfterFunc(AckAfter, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if e.reply == nil {
				e.reply = wire.Message{Type: wire.Acknowledgement, ID: m.ID}.Append(nil)
				p.send(e.reply)
			}
		})
		defer late.Stop()
	}
	answer, stream := p.answer(m, size)
	answer.Token = m.Token

	p.mu.Lock()
	separate := e.reply != nil
	switch {
	case !confirmable:
		answer.Type, answer.ID = wire.NonConfirmable, p.id()
	case !separate:
		answer.Type, answer.ID = wire.Acknowledgement, m.ID
	}
	if !separate {
		e.reply = answer.Append(nil)
		p.send(e.reply)
	}
	e.done = true
	p.working--
	<-p.end.serving
	p.mu.Unlock()
	if separate {
		// Whoever is not there any more asks again under another ID.
		p.confirm(p.ctx, answer)
	}
	if stream != nil {
		stream()
	}
}

// notifying is a response's stream on its way to a peer that observes.
func (p *peer) notifying(m wire.Message, r Response) (stream func(), ok bool) {
	ctx, cancel := context.WithCancel(p.ctx)
	token := string(m.Token)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.observed) >= MaxObserved && p.observed[token] == nil {
		cancel()
		return nil, false
	}
	if stop := p.observed[token]; stop != nil {
		stop()
	}
	p.observed[token] = cancel
	count := uint32(1)
	notify := func(r Response, last bool) error {
		n := p.fit(r, m)
		n.Token = m.Token
		if count++; !last {
			n.AddUint(wire.Observe, count&0xffffff)
		}
		return p.confirm(ctx, n)
	}
	return func() {
		defer cancel()
		last := r.Stream(ctx, func(r Response) error { return notify(r, false) })
		if last.Code != wire.Empty && ctx.Err() == nil {
			notify(last, true)
		}
		if ctx.Err() == nil { // else another one may be registered under the token
			p.forgetStream(token)
		}
	}, true
}

func (p *peer) forgetStream(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if stop := p.observed[token]; stop != nil {
		stop()
		delete(p.observed, token)
	}
}

// busy reports whether a peer may not be forgotten.
func (p *peer) busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.working+len(p.observed) > 0
}

func (p *peer) isProved() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proved
}

// newToken is unguessable, so that nobody who is not on the way can answer.
func newToken() []byte {
	var b [8]byte
	rand.Read(b[:])
	return b[:]
}

func tooMany(n int) error { return fmt.Errorf("all %d places for peers are taken", n) }
