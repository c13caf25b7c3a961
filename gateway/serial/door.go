// Package serial is the door for a switch on a serial line: a vending machine's
// board, a pump, a meter. The device shows prices and offers on its display, is
// told to act by signed commands (core/fleet), and may pay and be paid with the
// messages that machines say to each other over any link. The line itself, frame
// by frame, is world/link/serial; a frame's message is one of core/message, of
// core/fleet, or of this package, each behind its two-byte type:
//
//	0x9101  Price   to the device    what is for sale, for the display
//	0x9103  Ask     to the gateway   a button was pressed
//	0x9105  Offer   to the device    what to pay, as a QR code
//	0x9107  State   to the device    what has become of it
//	0x9109  Meter   to the gateway   units given in a session, cumulative
//	0x910b  Left    to the device    what the session has left; stop or go on
//	0x910d  Prepay  to the gateway   Ask, for a session
//	0x910f  No      to the device    why not
//
// Whoever holds the wires is the device. What a command or an acknowledgement says
// is signed all the same.
package serial

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/offer"
	"coinop.dev/gateway"
	"coinop.dev/world/link/serial"
)

const (
	// MaxQueued bounds the messages on their way to the device. One more is lost, as
	// on any network; what matters is said again.
	MaxQueued = 64
	// MaxAsked bounds the offers that the device is told the state of. One more
	// and the oldest is no longer followed.
	MaxAsked = 4
	// refreshEvery is how often prices are looked at again.
	refreshEvery = 5 * time.Second
)

// Options are what a door is made of.
type Options struct {
	Shop *gateway.Shop
	Name string      // the device's, in the fleet
	Key  keys.Public // the device's name as a peer; zero if it has none
	// Open opens the line: serial.Opener of world/link/serial makes it of a URI.
	Open func() (io.ReadWriteCloser, error)
	// Services are shown on the display; nil: those that the device delivers.
	Services []string
}

// A Door serves one device, from Open to Close.
type Door struct {
	o      Options
	line   *serial.Line
	out    chan parcel
	turned chan bool
	ctx    context.Context
	cancel context.CancelFunc
	over   sync.WaitGroup

	seat   *gateway.Seat
	shown  map[string]Price // of the goroutine that keeps the line
	meters meters

	mu    sync.Mutex
	asked []context.CancelFunc
}

// Open starts serving the device, whether it is there or not.
func Open(o Options) (*Door, error) {
	d := &Door{o: o, out: make(chan parcel, MaxQueued), turned: make(chan bool, 16), shown: map[string]Price{}}
	d.ctx, d.cancel = context.WithCancel(o.Shop.Machine().Context())
	m := o.Shop.Machine()
	var err error
	if err = d.meters.load(m.DB, o.Name); err != nil {
		return nil, fmt.Errorf("device %s: its meters: %w", o.Name, err)
	}
	d.line, err = serial.Start(o.Open, serial.Options{Name: "gateway", Turned: func(up bool, _ string) {
		select {
		case d.turned <- up:
		case <-d.ctx.Done():
		}
	}})
	if err != nil {
		return nil, err
	}
	if d.seat, err = o.Shop.Seat(o.Name, o.Key, func(msg gateway.Saying) { d.queue(msg) }); err != nil {
		d.cancel()
		d.line.Close()
		return nil, err
	}
	d.over.Go(d.keep)
	d.over.Go(d.speak)
	d.over.Go(d.listen)
	return d, nil
}

// Close gives the line back.
func (d *Door) Close() error {
	d.cancel()
	err := d.line.Close()
	d.over.Wait()
	d.seat.Leave()
	return err
}

// A parcel is a message on its way, and what is said instead to a device that does
// not take one so long.
type parcel struct{ msg, short []byte }

// queue does not wait: it runs on the host's goroutine, too.
func (d *Door) queue(msg Message) {
	p := parcel{msg: msg.Append(nil)}
	if o, ok := msg.(Offer); ok {
		o.Token = nil
		p.short = o.Append(nil)
	}
	select {
	case d.out <- p:
	default:
	}
}

// speak sends what is queued. What is lost with the line is said again by whoever
// said it.
func (d *Door) speak() {
	for {
		select {
		case p := <-d.out:
			err := d.line.Send(d.ctx, p.msg)
			if errors.Is(err, serial.ErrTooLong) && p.short != nil {
				err = d.line.Send(d.ctx, p.short)
			}
			if errors.Is(err, serial.ErrTooLong) {
				d.line.Send(d.ctx, No{Why: err.Error()}.Append(nil))
			}
		case <-d.ctx.Done():
			return
		}
	}
}

// keep follows the line as it goes up and down, and the prices.
func (d *Door) keep() {
	again := time.NewTicker(refreshEvery)
	defer again.Stop()
	up := false
	for {
		select {
		case up = <-d.turned:
			clear(d.shown)
			d.seat.Online(d.ctx, up)
		case <-again.C:
		case <-d.ctx.Done():
			return
		}
		if up {
			d.show()
		}
	}
}

// show tells the prices that the display does not show yet.
func (d *Door) show() {
	for _, v := range d.o.Shop.Services() {
		if !d.sells(v) {
			continue
		}
		if p := priceOf(v); d.shown[v.Name] != p {
			d.shown[v.Name] = p
			d.queue(p)
		}
	}
}

func (d *Door) sells(v offer.Service) bool {
	if d.o.Services == nil {
		return v.From == "device:"+d.o.Name
	}
	for _, name := range d.o.Services {
		if name == v.Name {
			return true
		}
	}
	return false
}

func priceOf(v offer.Service) Price {
	p := Price{Service: v.Name, Unit: v.Unit, Per: max(v.Per, 1), Amount: v.Price, Text: v.Title}
	if v.Fiat != (offer.Fiat{}) {
		p.Text = fmt.Sprintf("%s %v/%d %s", v.Title, v.Fiat, p.Per, v.Unit)
	}
	p.Text = cut(p.Text, MaxText)
	return p
}

// listen takes what the device says.
func (d *Door) listen() {
	for {
		raw, err := d.line.Recv(d.ctx)
		if err != nil {
			return
		}
		if err := d.hear(raw); err != nil {
			d.queue(No{Why: err.Error()})
		}
	}
}

// hear takes a message of this package, and leaves others to the device's seat.
func (d *Door) hear(raw []byte) error {
	if len(raw) < 2 || !Owns(binary.BigEndian.Uint16(raw)) {
		return d.seat.Hear(d.ctx, raw)
	}
	msg, err := Decode(raw)
	if err != nil {
		return err
	}
	return d.asks(msg)
}

func (d *Door) asks(msg Message) error {
	switch msg := msg.(type) {
	case Ask:
		d.follow(msg, false)
	case Prepay:
		d.follow(Ask(msg), true)
	case Meter:
		left, err := d.meters.charge(d.ctx, d.o.Shop, msg)
		d.queue(left)
		return err
	default:
		return fmt.Errorf("%T is the gateway's to say", msg)
	}
	return nil
}

// Show offers something on the display that nobody asked for there.
func (d *Door) Show(service string, units uint64) {
	d.follow(Ask{Service: service, Units: units}, false)
}

// follow makes an offer and tells the device what becomes of it.
func (d *Door) follow(a Ask, session bool) {
	ctx, cancel := context.WithCancel(d.ctx)
	d.mu.Lock()
	if len(d.asked) == MaxAsked {
		d.asked[0]()
		d.asked = d.asked[1:]
	}
	d.asked = append(d.asked, cancel)
	d.mu.Unlock()
	d.over.Go(func() {
		defer cancel()
		if err := d.sell(ctx, a, session); err != nil && ctx.Err() == nil {
			d.queue(No{Nonce: a.Nonce, Why: err.Error()})
		}
	})
}

func (d *Door) sell(ctx context.Context, a Ask, session bool) error {
	buyer := "serial/" + d.o.Name
	o, err := d.o.Shop.Quote(ctx, gateway.Ask{Service: a.Service, Units: a.Units, Buyer: buyer, Door: "serial", Tab: session})
	if err != nil {
		return err
	}
	// Placed, it is delivered the moment it is paid: whoever pays stands there.
	if _, err := d.o.Shop.Place(ctx, o.Token, buyer); err != nil {
		return err
	}
	if session {
		if err := d.meters.begin(o.Order); err != nil {
			return err
		}
	}
	d.queue(shownOffer(a.Nonce, o))
	// A quote that is not paid in time is forgotten.
	patience := time.Duration(o.Until-o.At)*time.Millisecond + lateness
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errExpired)
	defer cancel()
	for last := "quoted"; ; {
		now, err := d.o.Shop.Wait(ctx, o.Order, func(now earn.Order) bool { return now.State != last })
		if err != nil {
			if errors.Is(context.Cause(ctx), errExpired) {
				d.queue(State{Order: o.Order, State: "expired"})
			}
			return nil
		}
		last = now.State
		d.queue(State{Order: o.Order, State: last, Why: now.Why})
		switch last {
		case "settled", "refunded", "expired", "failed":
			return nil
		}
	}
}

// lateness is how long after its quote an order may still be paid, and delivered.
const lateness = time.Minute

var errExpired = errors.New("the offer was not paid in time")

func shownOffer(nonce uint32, o gateway.Offer) Offer {
	shown := Offer{Nonce: nonce, Order: o.Order, Service: o.Service, Units: o.Units, Due: o.Due, Until: o.Until}
	for _, w := range o.Ways {
		if len(w.Pay) <= MaxPay {
			shown.Pay = w.Pay
			break
		}
	}
	if token, err := base64.RawURLEncoding.DecodeString(o.Token); err == nil && len(token) <= MaxToken {
		shown.Token = token
	}
	return shown
}
