package mqtt

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// NoTenant stands in topics for the tenant of a device that has none.
const NoTenant = "default"

// A Device is what the fleet says of one.
type Device struct {
	Name   string
	Tenant string      // "" for none
	Key    keys.Public // zero if it cannot sign
}

// Devices is the gateway's fleet, as this door needs it. It is called by many
// goroutines, and must not block for long.
type Devices interface {
	// Authenticate lets a device in by its credential or its secret.
	Authenticate(name, password, clientID string) (Device, error)
	// Device finds one that somebody else has let in.
	Device(name string) (Device, error)
	Seen(name string, online bool, firmware string)
	Fault(name, text string)
	// Acked takes an acknowledgement that came as JSON, unchecked.
	Acked(name string, ack fleet.Ack)
	// Meter takes what a device measures, or says on a topic of its own. The
	// payload is valid until it returns.
	Meter(name, kind string, payload []byte)
}

// Machine carries messages between cores and devices (engine.Machine).
type Machine interface {
	Attach(node keys.Public, send func(message.Message)) (receive func(message.Message), detach func(), err error)
}

// Outlets is where cores' packets to a device go (drive.Host).
type Outlets interface {
	Outlet(name string, o drive.Outlet)
}

// A Setup is what a door leads to. Machine, Outlets and Shop may be nil: then no
// messages of machines, no commands, nothing for sale.
type Setup struct {
	Devices Devices
	Machine Machine
	Outlets Outlets
	Shop    Shop
	// Buyers lets in who is no device, by any name: it may ask for offers and pay.
	Buyers bool
	// Priced says which service it costs to publish on a topic; "" for none. If it
	// is nil, a command buys the device's service of its name and events are free.
	Priced func(Topic) string
	Log    *slog.Logger
	Now    func() step.Time // nil: the computer's clock
}

// A Door is the gateway's side of a Bus.
type Door struct {
	Setup
	till till
	ctx  context.Context
	stop context.CancelFunc

	large chan struct{} // has room for what is done aside

	mu       sync.Mutex
	sessions map[string]*session // by Who.owner
}

// New returns a door. Give it to Listen or Dial.
func New(s Setup) *Door {
	s.Log = cmp.Or(s.Log, slog.New(slog.DiscardHandler))
	if s.Now == nil {
		s.Now = func() step.Time { return step.Time(time.Now().UnixMilli()) }
	}
	d := &Door{Setup: s, sessions: map[string]*session{}, large: make(chan struct{}, maxLarge)}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.till.open(d)
	return d
}

// Close ends what the door waits for. Close the bus first.
func (d *Door) Close() error {
	d.stop()
	d.till.working.Wait()
	return nil
}

// ErrLogin answers a login that is wrong; which part is nobody's business.
var ErrLogin = errors.New("unknown name, or wrong password")

// Login lets in devices by name and password, and buyers without one.
func (d *Door) Login(l Login) (Who, error) {
	if l.User == "" {
		if !d.Buyers || !offer.ValidName(l.ClientID) {
			return Who{}, fmt.Errorf("client %.80q: a buyer needs a client identifier of a-z 0-9 . _ -, and a gateway that sells to strangers", l.ClientID)
		}
		return Who{Name: l.ClientID}, nil
	}
	if d.Devices == nil || !offer.ValidName(l.User) {
		return Who{}, ErrLogin
	}
	dev, err := d.Devices.Authenticate(l.User, l.Password, l.ClientID)
	if err != nil {
		return Who{}, err
	}
	return known(dev)
}

// Find is Login for a device that the user's broker has let in.
func (d *Door) Find(tenant, name string) (Who, error) {
	if tenant == "" {
		if !d.Buyers {
			return Who{}, errors.New("this gateway does not sell to strangers")
		}
		return Who{Name: name}, nil
	}
	if d.Devices == nil {
		return Who{}, ErrLogin
	}
	dev, err := d.Devices.Device(name)
	if err != nil {
		return Who{}, err
	}
	who, err := known(dev)
	if err == nil && who.Tenant != tenant {
		return Who{}, fmt.Errorf("device %s is of tenant %s, not %s", name, who.Tenant, tenant)
	}
	return who, err
}

// known is the name of a device in topics.
func known(dev Device) (Who, error) {
	who := Who{cmp.Or(dev.Tenant, NoTenant), dev.Name, dev.Key}
	if !ValidTenant(who.Tenant) || !offer.ValidName(who.Name) {
		return Who{}, fmt.Errorf("device %q of tenant %q cannot stand in a topic", dev.Name, dev.Tenant)
	}
	return who, nil
}

// Join starts a session, and makes cores' packets to the device go there.
func (d *Door) Join(who Who, peer Peer) (Session, error) {
	s := &session{d: d, who: who, peer: peer}
	if who.IsDevice() && who.Key != (keys.Public{}) && d.Machine != nil {
		receive, detach, err := d.Machine.Attach(who.Key, s.send)
		if err != nil {
			return nil, err
		}
		s.receive, s.detach = receive, detach
	}
	d.mu.Lock()
	s.took = d.sessions[who.owner()] != nil
	d.sessions[who.owner()] = s
	if who.IsDevice() && d.Outlets != nil {
		d.Outlets.Outlet("device/"+who.Name, s.command)
	}
	d.mu.Unlock()
	return s, nil
}

// Online reports whether a device has a session here.
func (d *Door) Online(tenant, name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions[Who{Tenant: cmp.Or(tenant, NoTenant), Name: name}.owner()] != nil
}

// Announce tells every device its price list again: a price has changed.
func (d *Door) Announce() {
	d.mu.Lock()
	list := make([]*session, 0, len(d.sessions))
	for _, s := range d.sessions {
		list = append(list, s)
	}
	d.mu.Unlock()
	for _, s := range list {
		s.announce()
	}
}

// Revoke ends a device's session.
func (d *Door) Revoke(tenant, name string) {
	d.mu.Lock()
	s := d.sessions[Who{Tenant: cmp.Or(tenant, NoTenant), Name: name}.owner()]
	d.mu.Unlock()
	if s != nil {
		s.peer.Drop(Administrative)
	}
}

// A session is one client while it is connected.
type session struct {
	d       *Door
	who     Who
	peer    Peer
	receive func(message.Message) // nil for who has no key
	detach  func()

	took bool // it came while an older session was thought to live
	gone bool // it has said goodbye

	mu     sync.Mutex
	passed [4][8]byte // fingerprints of the last events that were paid for
	at     int
}

// Heard says that the device is there, which has the fleet send what is
// outstanding; so it waits for the subscription.
func (s *session) Heard() {
	if !s.who.IsDevice() || s.gone {
		return
	}
	if s.took {
		s.d.Devices.Seen(s.who.Name, false, "") // it was away
	}
	s.d.Devices.Seen(s.who.Name, true, "")
}

// Close ends the session. The device is offline, unless it has come back by
// another connection meanwhile.
func (s *session) Close() {
	if s.detach != nil {
		s.detach()
	}
	s.d.mu.Lock()
	key := s.who.owner()
	last := s.d.sessions[key] == s
	if last {
		delete(s.d.sessions, key)
		if s.who.IsDevice() && s.d.Outlets != nil {
			s.d.Outlets.Outlet("device/"+s.who.Name, nil)
		}
	}
	s.d.mu.Unlock()
	if last && s.who.IsDevice() {
		s.d.Devices.Seen(s.who.Name, false, "")
	}
}

// send takes a machine's message to the device, on the host's goroutine. It is
// lost if the device does not take it, and the protocols say it again.
func (s *session) send(m message.Message) {
	t := Topic{s.who.Tenant, s.who.Name, Command, Pay}
	s.peer.Publish(Message{Topic: t.String(), Payload: m.Append(nil)})
}

// command passes on what the fleet sends: as the bytes of a message to a device with
// a key; to one without, which could check nothing else, commands as JSON.
func (s *session) command(p step.Packet) {
	if m, ok := p.Msg.(message.Message); ok && s.who.Key != (keys.Public{}) {
		s.send(m)
	} else if m, ok := p.Msg.(fleet.Command); ok {
		s.publish(Topic{s.who.Tenant, s.who.Name, Command, m.Verb}, m)
	}
}

func (s *session) publish(t Topic, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		s.d.Log.Error("mqtt: write JSON", "topic", t, "err", err)
		return
	}
	s.peer.Publish(Message{Topic: t.String(), Payload: raw, QoS: 1})
}

// announce publishes the device's price list.
func (s *session) announce() {
	t := Topic{s.who.Tenant, s.who.Name, Offers, ""}
	if !s.who.IsDevice() {
		return
	}
	if list := s.Retained(t); list != nil {
		s.peer.Publish(Message{Topic: t.String(), Payload: list, QoS: 1, Retain: true})
	}
}

// Retained is the price list of a device: the services that it delivers.
func (s *session) Retained(t Topic) []byte {
	if s.d.Shop == nil || t.Class != Offers {
		return nil
	}
	list := priceList{Device: t.Name, Services: []offer.Service{}}
	for _, service := range s.d.Shop.Services() {
		if service.From == "device:"+t.Name {
			list.Services = append(list.Services, service)
		}
	}
	raw, err := json.Marshal(list)
	if err != nil {
		s.d.Log.Error("mqtt: write price list", "device", t.Name, "err", err)
		return nil
	}
	return raw
}

// priceList is what stands on …/offer.
type priceList struct {
	Device   string          `json:"device"`
	Services []offer.Service `json:"services"`
}

// Received does what a message asks for.
func (s *session) Received(in Incoming) Verdict {
	if in.At.Class == Buying {
		return s.ask(in)
	}
	if service := s.priced(in.At); service != "" {
		return s.paid(in, service)
	}
	if in.At.Class == Event {
		return s.event(in)
	}
	return refuse(NotAuthorized, fmt.Errorf("nothing is for sale on %s", in.Topic))
}

func (s *session) priced(t Topic) string {
	switch {
	case s.d.Shop == nil:
		return ""
	case s.d.Priced != nil:
		return s.d.Priced(t)
	case t.Class != Command:
		return ""
	}
	service, ok := s.d.Shop.Service(t.Kind)
	if !ok || service.From != "device:"+t.Name {
		return ""
	}
	return service.Name
}

// refuse is a verdict with the reason in it.
func refuse(code byte, err error) Verdict {
	return Verdict{code, []Property{{PropError, err.Error()}}}
}

// event takes what a device says.
func (s *session) event(in Incoming) Verdict {
	switch in.At.Kind {
	case Pay:
		if isJSON(in.Payload) {
			return s.ask(in)
		}
		return s.machine(in.Payload)
	case Ack:
		if !isJSON(in.Payload) {
			return s.machine(in.Payload)
		}
		var ack fleet.Ack
		if err := json.Unmarshal(in.Payload, &ack); err != nil {
			return refuse(PayloadInvalid, err)
		}
		if ack.Device != s.who.Name {
			return refuse(NotAuthorized, fmt.Errorf("the acknowledgement is of device %.70s", ack.Device))
		}
		s.d.Devices.Acked(s.who.Name, ack)
	case Up:
		up, err := parseUp(in.Payload)
		if err != nil {
			return refuse(PayloadInvalid, err)
		}
		s.d.Devices.Seen(s.who.Name, up.Online, up.Firmware)
		if !up.Online {
			s.gone = true
			s.peer.Drop(Success)
		}
	case Fault:
		s.d.Devices.Fault(s.who.Name, faultText(in.Payload))
	default:
		s.d.Devices.Meter(s.who.Name, in.At.Kind, in.Payload)
	}
	return Verdict{}
}

// machine hands a message to the machine's cores, and waits while they are busy:
// that is how a flood is slowed.
func (s *session) machine(payload []byte) Verdict {
	if s.receive == nil {
		return refuse(NotAuthorized, errors.New("a device without a key sends JSON"))
	}
	m, err := message.Decode(payload)
	if err != nil {
		return refuse(PayloadInvalid, err)
	}
	switch m.(type) {
	case nil:
	case payword.Coins, oneway.Ticket:
		s.receive(m)
	default:
		s.d.aside(func() { s.receive(m) })
	}
	return Verdict{}
}

// aside does what needs a large stack, such as opening a channel, whose terms have
// signatures to check: on a goroutine that ends, or each of ten thousand
// connections would keep such a stack.
func (d *Door) aside(f func()) {
	d.large <- struct{}{}
	done := make(chan struct{})
	go func() {
		defer func() { <-d.large; close(done) }()
		f()
	}()
	<-done
}

// maxLarge bounds what is done aside at once. It may wait for a commit.
const maxLarge = 128

func isJSON(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return len(b) > 0 && b[0] == '{'
}

// up is the payload of …/event/up. Its last will is {"online":false}.
type up struct {
	Online   bool   `json:"online"`
	Firmware string `json:"firmware,omitempty"`
}

// parseUp reads it; an empty one says that the device is there.
func parseUp(payload []byte) (u up, err error) {
	if len(payload) == 0 {
		return up{Online: true}, nil
	}
	u.Online = true
	if err := readJSON(payload, &u); err != nil {
		return u, err
	}
	if len(u.Firmware) > fleet.MaxFirmware {
		return u, fmt.Errorf("firmware's name has %d bytes; the limit is %d", len(u.Firmware), fleet.MaxFirmware)
	}
	return u, nil
}

// faultText is a fault's words: plain, or in JSON as {"text":…}.
func faultText(payload []byte) string {
	var f struct {
		Text string `json:"text"`
	}
	if isJSON(payload) && readJSON(payload, &f) == nil {
		return f.Text
	}
	return string(payload[:min(len(payload), fleet.MaxText)])
}
