package coap

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	wire "coinop.dev/core/coap"
)

// answer makes the response to a request, without type, ID and token.
func (p *peer) answer(m wire.Message, size int) (wire.Message, func()) {
	if value, ok := m.Get(wire.Echo); ok && p.end.echo.check(p.key, value) {
		p.mu.Lock()
		p.proved = true
		p.mu.Unlock()
	}
	proved := p.isProved()
	_, pays := m.Get(wire.OptionProof)
	_, blocks := m.Get(wire.Block1)
	_, observes := m.Get(wire.Observe)
	if !proved && (m.Code != wire.GET || pays || blocks || observes) {
		return p.challenge(m, size), nil
	}
	answer, stream := p.proceed(m, proved)
	if n := len(answer.Append(nil)) + len(m.Token); !proved && (answer.Code == wire.Empty || n > Amplification*size) {
		return p.challenge(m, size), nil
	}
	return answer, stream
}

// challenge asks the peer to show that it is where it says (RFC 9175, section
// 2.3), if even that is not too much.
func (p *peer) challenge(m wire.Message, size int) wire.Message {
	c := wire.Message{Code: wire.Unauthorized}
	c.Add(wire.Echo, p.end.echo.value(p.key))
	if len(c.Append(nil))+len(m.Token) > Amplification*size {
		c.Options = nil
	}
	return c
}

// proceed puts the body together, asks the handler, and takes its answer apart. It
// is empty if the peer must prove where it is.
func (p *peer) proceed(m wire.Message, proved bool) (wire.Message, func()) {
	if n := m.Unknown(wire.URIHost, wire.URIPort, wire.URIPath, wire.URIQuery, wire.Accept, wire.Block1, wire.Block2); n != 0 {
		return p.plain(Text(wire.BadOption, fmt.Sprintf("option %d is unknown", n))), nil
	}
	up, uploads, err := m.Block(wire.Block1)
	down, fetches, err2 := m.Block(wire.Block2)
	if err := errors.Join(err, err2); err != nil {
		return p.plain(Text(wire.BadRequest, err.Error())), nil
	}
	if fetches && down.Num > 0 && !(uploads && up.More) {
		return p.rest(m, down), nil
	}
	if uploads {
		refusal, done := p.upload(&m, up)
		if !done {
			return refusal, nil
		}
	}
	observe, asked := m.Uint(wire.Observe)
	if asked && observe == 1 {
		p.forgetStream(string(m.Token))
	}
	wants := asked && observe == 0 && m.Code == wire.GET
	r := p.end.handle(p.ctx, Request{Message: m, Peer: p.key, Name: p.name, Proved: proved, Observe: wants})
	if r.Prove && !proved {
		return wire.Message{}, nil
	}
	answer := p.fit(r, m)
	if uploads {
		answer.AddUint(wire.Block1, up.Value())
	}
	if wants && r.Stream != nil && r.Code.Class() == 2 {
		if stream, ok := p.notifying(m, r); ok {
			answer.AddUint(wire.Observe, 1)
			return answer, stream
		}
	}
	return answer, nil
}

// upload adds a block to the body that is coming, and puts the whole body in m
// with the last one.
func (p *peer) upload(m *wire.Message, b wire.Block) (wire.Message, bool) {
	echoed := wire.Message{Code: wire.Continue}
	echoed.AddUint(wire.Block1, b.Value())
	if size, ok := m.Uint(wire.Size1); ok && size > wire.MaxBody {
		return p.tooLarge(echoed), false
	}
	err := error(nil)
	body := p.end.shelf.edit("up/"+p.key+"/"+m.Key(), func(a *wire.Assembly) { err = a.Take(b, m.Payload) }, !b.More)
	switch {
	case errors.Is(err, wire.ErrOrder):
		echoed.Code = wire.Incomplete
	case err != nil && len(body)+len(m.Payload) > wire.MaxBody:
		return p.tooLarge(echoed), false
	case err != nil:
		echoed.Code, echoed.Payload = wire.BadRequest, []byte(err.Error())
	case !b.More:
		m.Payload = body
		return echoed, true
	}
	return echoed, false
}

func (p *peer) tooLarge(m wire.Message) wire.Message {
	m.Code = wire.TooLarge
	m.AddUint(wire.Size1, wire.MaxBody)
	return m
}

// rest is a further block of what was answered before.
func (p *peer) rest(m wire.Message, b wire.Block) wire.Message {
	v := p.end.shelf.get("down/" + p.key + "/" + m.Key())
	if v == nil {
		return p.plain(Text(wire.Incomplete, "that answer is forgotten: begin with block 0"))
	}
	part, b, err := b.Cut(v.body)
	if err != nil {
		return p.plain(Text(wire.BadRequest, err.Error()))
	}
	answer := v.head
	answer.Options = slices.Clone(answer.Options)
	answer.AddUint(wire.Block2, b.Value())
	answer.Payload = part
	return answer
}

// plain is a response that is one message.
func (p *peer) plain(r Response) wire.Message {
	m := wire.Message{Code: r.Code, Payload: r.Payload}
	for _, o := range r.Options {
		m.Add(o.Number, o.Value)
	}
	if len(r.Payload) > 0 && (r.Format != wire.FormatText || r.Code.Class() == 2) {
		m.AddUint(wire.ContentFormat, r.Format)
	}
	return m
}

// fit is r, or its first block with the rest on the shelf.
func (p *peer) fit(r Response, request wire.Message) wire.Message {
	b, asked, _ := request.Block(wire.Block2)
	if !asked {
		b = wire.Block{SZX: wire.MaxSZX}
	}
	b.Num = 0
	if len(r.Payload) > wire.MaxBody {
		return p.plain(Text(wire.InternalError, fmt.Sprintf("the answer has %d bytes; the limit is %d", len(r.Payload), wire.MaxBody)))
	}
	m := p.plain(r)
	if len(m.Payload) <= b.Size() {
		return m
	}
	tag := sha256.Sum256(m.Payload)
	m.Add(wire.ETag, tag[:4])
	p.end.shelf.put("down/"+p.key+"/"+request.Key(), m, r.Payload)
	m.AddUint(wire.Size2, uint32(len(r.Payload)))
	part, b, _ := b.Cut(r.Payload)
	m.AddUint(wire.Block2, b.Value())
	m.Payload = part
	return m
}

// A shelf has the bodies that come and go in blocks. Its oldest goes first.
type shelf struct {
	mu    sync.Mutex
	kept  map[string]*kept
	order []string
}

type kept struct {
	head wire.Message // of an answer
	body []byte
	in   wire.Assembly
	at   time.Time
}

func (s *shelf) get(key string) *kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(key)
}

func (s *shelf) find(key string) *kept {
	v := s.kept[key]
	if v != nil && time.Since(v.at) > ShelfLife {
		s.drop(key)
		return nil
	}
	return v
}

func (s *shelf) drop(key string) {
	if i := slices.Index(s.order, key); i >= 0 {
		s.order = slices.Delete(s.order, i, i+1)
		delete(s.kept, key)
	}
}

func (s *shelf) add(key string, v *kept) {
	if s.kept == nil {
		s.kept = map[string]*kept{}
	}
	s.drop(key)
	if len(s.order) == MaxShelf {
		s.drop(s.order[0])
	}
	s.kept[key] = v
	s.order = append(s.order, key)
}

func (s *shelf) put(key string, head wire.Message, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(key, &kept{head: head, body: body, at: time.Now()})
}

// edit changes a body that comes; if it is whole it leaves the shelf.
func (s *shelf) edit(key string, change func(*wire.Assembly), whole bool) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.find(key)
	if v == nil {
		v = &kept{}
		s.add(key, v)
	}
	v.at = time.Now()
	change(&v.in)
	if whole {
		s.drop(key)
	}
	return v.in.Body
}

// An echo makes values that only who reads what is sent to an address can show:
// the time, and a MAC over it and the address.
type echo struct{ key [32]byte }

const echoSize = 12

func (e *echo) init() { rand.Read(e.key[:]) }

func (e *echo) value(addr string) []byte {
	return e.at(addr, uint32(time.Now().Unix()))
}

func (e *echo) at(addr string, second uint32) []byte {
	value := binary.BigEndian.AppendUint32(nil, second)
	mac := hmac.New(sha256.New, e.key[:])
	mac.Write(value)
	mac.Write([]byte(addr))
	return mac.Sum(value)[:echoSize]
}

func (e *echo) check(addr string, value []byte) bool {
	if len(value) != echoSize {
		return false
	}
	second := binary.BigEndian.Uint32(value)
	age := time.Since(time.Unix(int64(second), 0))
	return age >= -time.Second && age < EchoLife && hmac.Equal(value, e.at(addr, second))
}
