package coap

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	wire "coinop.dev/core/coap"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/gateway"
	"coinop.dev/world/link/coap"
)

// Devices finds a device in service by its name.
type Devices interface {
	Device(name string) (Device, bool)
}

// A Device is what the door must know of one. Secret makes its pre-shared key; Key
// is its name as a peer, and zero if it has none: then only commands,
// acknowledgements and what it says of itself pass, and no money.
type Device struct {
	Key    keys.Public
	Secret keys.Secret
}

// pskPurpose derives the pre-shared key: HMAC-SHA256 under the device's secret of
// "coinop/derive/dtls-psk" and a zero byte. The secret itself signs
// acknowledgements, and does not leave its core.
const pskPurpose = "dtls-psk"

// PSK is the device's pre-shared key for DTLS, 32 bytes; nil if it has no secret.
func (d Device) PSK() []byte {
	if d.Secret.IsZero() {
		return nil
	}
	return d.Secret.Derive(pskPurpose).Reveal()
}

const (
	// maxQueued bounds the messages that wait for a device to fetch them. One more
	// is lost, as on any network; the cores say again what matters.
	maxQueued = 64
	// maxBundle bounds the messages in one answer, in bytes.
	maxBundle = wire.MaxBlock
)

// A desk keeps a line to every device that is at the door.
type desk struct {
	shop *gateway.Shop

	mu    sync.Mutex
	lines map[string]*line // by the device's name
}

// A line is a device's, as long as its DTLS session lasts.
type line struct {
	name    string
	session context.Context // the peer's
	seat    *gateway.Seat
	more    chan struct{} // has room for one

	mu     sync.Mutex
	queued [][]byte
}

// queue runs on the host's goroutine.
func (l *line) queue(msg gateway.Saying) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queued) < maxQueued {
		l.queued = append(l.queued, msg.Append(nil))
	}
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// bundle takes the messages that fit one answer, each behind its length in two
// bytes.
func (l *line) bundle() (b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queued) > 0 && (len(b) == 0 || len(b)+2+len(l.queued[0]) <= maxBundle) {
		b = binary.BigEndian.AppendUint16(b, uint16(len(l.queued[0])))
		b = append(b, l.queued[0]...)
		l.queued = l.queued[1:]
	}
	return b
}

// line finds the place of the device that asks, or gives it one.
func (d *desk) line(ctx context.Context, name string, v Device) (*line, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lines[name]; l != nil && l.session == ctx {
		return l, nil
	}
	l := &line{name: name, session: ctx, more: make(chan struct{}, 1)}
	var err error
	if l.seat, err = d.shop.Seat(name, v.Key, l.queue); err != nil {
		return nil, err
	}
	d.lines[name] = l
	l.seat.Online(ctx, true)
	context.AfterFunc(ctx, func() { d.leave(l) })
	return l, nil
}

func (d *desk) leave(l *line) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.seat.Leave()
	if d.lines[l.name] == l {
		delete(d.lines, l.name)
	}
}

// messages takes what a device says, and answers with what is there for it. A
// device that observes gets that as it comes.
func (d *Door) messages(ctx context.Context, r coap.Request) coap.Response {
	if r.Name == "" || d.o.Devices == nil {
		return coap.Text(wire.Unauthorized, "messages need a device's pre-shared key: use coaps")
	}
	v, ok := d.o.Devices.Device(r.Name)
	if !ok {
		return coap.Text(wire.Unauthorized, fmt.Sprintf("device %.64q is not in service", r.Name))
	}
	l, err := d.desk.line(ctx, r.Name, v)
	if err != nil {
		return retry(err.Error(), 10)
	}
	switch r.Code {
	case wire.GET:
		answer := bundled(wire.Content, l.bundle())
		answer.Stream = l.follow
		return answer
	case wire.POST:
		if err := d.hear(ctx, l, r.Payload); err != nil {
			return coap.Text(wire.BadRequest, err.Error())
		}
		return bundled(wire.Changed, l.bundle())
	}
	return coap.Text(wire.MethodNotAllowed, "messages are posted")
}

func bundled(code wire.Code, b []byte) coap.Response {
	return coap.Response{Code: code, Format: wire.FormatMessage, Payload: b}
}

func (l *line) follow(ctx context.Context, notify func(coap.Response) error) coap.Response {
	for {
		select {
		case <-l.more:
		case <-ctx.Done():
			return coap.Response{}
		}
		for b := l.bundle(); len(b) > 0; b = l.bundle() {
			if notify(bundled(wire.Content, b)) != nil {
				return coap.Response{}
			}
		}
	}
}

// hear takes a bundle: what stands before the first mistake is heard.
func (d *Door) hear(ctx context.Context, l *line, b []byte) error {
	msgs, err := split(b)
	if err != nil {
		return err
	}
	for _, raw := range msgs {
		if err := l.seat.Hear(ctx, raw); err != nil {
			return err
		}
	}
	return nil
}

// split undoes bundle.
func split(b []byte) (msgs [][]byte, err error) {
	for r := codec.NewReader(b); r.Len() > 0; {
		msg := r.Take(int(r.U16()))
		if r.Err() != nil {
			return nil, fmt.Errorf("messages, each behind its length in two bytes: %w", r.Err())
		}
		msgs = append(msgs, msg)
	}
	return msgs, nil
}
