package mqtt

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"

	"coinop.dev/core/offer"
)

const (
	// MaxOut bounds the messages that wait for the user's broker. One more is
	// lost, and said again.
	MaxOut = 8192
	// MaxGateways bounds the gateways that share a broker's devices.
	MaxGateways = 64
	// pumps is how many messages of QoS 1 may be on their way to the broker.
	pumps = 4
	// retryAfter is how long a lost broker is left alone.
	retryAfter = time.Second
	// brokerKeepalive finds out that a broker is gone, in seconds.
	brokerKeepalive = 30
)

// Broker says where the user's own broker is. It must speak MQTT 5 and shared
// subscriptions, and let only a device publish on its own topics; that is the
// user's to configure, with the gateway's name allowed everything below coinop/.
type Broker struct {
	URL            string // mqtt://host:1883 or mqtts://host:8883
	Name           string // of this gateway, unlike that of any other one
	User, Password string
	TLS            *tls.Config
	// Group is the shared subscription's; gateways of one group share the
	// devices. Empty is "coinop".
	Group string
	Log   *slog.Logger
}

// External is a client of the user's broker.
//
// A broker deals the messages of a shared subscription out one by one, but a
// device's payments belong to the gateway that holds its channel. So each device
// has an owner among the gateways that are there: the one whose name and the
// device's hash highest together. Whoever is dealt a message of another one's
// device hands it on to that one's inbox. Nothing about it is kept, gateways that
// come and go move only the devices that they must, and a message that is handed
// on while two gateways disagree is served where it lands.
//
// A command cannot be bought there by publishing on it, because the broker would
// give it to the device as well: buyers use coinop/offers.
type External struct {
	Broker
	handler Handler
	manager *autopaho.ConnectionManager
	dialled chan struct{} // closed once there is a manager
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	fast    chan Message // QoS 0: one after the other
	sure    chan Message // QoS 1: each waits for the broker
	lost    atomic.Uint64
	up      atomic.Bool
	link    atomic.Pointer[link]

	mu      sync.Mutex
	members []string // the gateways that are there, this one included
	clients map[string]*remote
}

// A link is one connection to the broker.
type link struct {
	ctx context.Context
	cut context.CancelFunc
}

func newLink(ctx context.Context) *link {
	l := &link{}
	l.ctx, l.cut = context.WithCancel(ctx)
	return l
}

// A remote is a client behind the broker.
type remote struct {
	x       *External
	who     Who
	mu      sync.Mutex // held while a message of it is handled
	spoke   bool
	session Session   // changed with both locks held
	heard   time.Time // of External.mu
}

// Dial connects to the user's broker, and again whenever the connection is lost.
// It returns at once; AwaitConnection waits.
func Dial(ctx context.Context, o Broker, h Handler) (*External, error) {
	at, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	if !offer.ValidName(o.Name) {
		return nil, fmt.Errorf("gateway name %.80q is not one of a-z 0-9 . _ -", o.Name)
	}
	o.Group, o.Log = cmp.Or(o.Group, Root), cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	x := &External{
		Broker: o, handler: h, members: []string{o.Name}, clients: map[string]*remote{},
		fast: make(chan Message, MaxOut), sure: make(chan Message, MaxOut), dialled: make(chan struct{}),
	}
	x.ctx, x.stop = context.WithCancel(ctx)
	x.link.Store(newLink(x.ctx))
	x.manager, err = autopaho.NewConnection(x.ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{at}, TlsCfg: o.TLS, KeepAlive: brokerKeepalive, CleanStartOnInitialConnection: true,
		ConnectUsername: o.User, ConnectPassword: []byte(o.Password), ReconnectBackoff: autopaho.NewConstantBackoff(retryAfter),
		// A gateway that is gone takes its retained word back.
		WillMessage: &paho.WillMessage{Topic: presence(o.Name), QoS: 1, Retain: true},
		OnConnectionUp: func(*autopaho.ConnectionManager, *paho.Connack) {
			x.link.Store(newLink(x.ctx))
			x.running.Go(x.connected)
		},
		OnConnectionDown: func() bool {
			x.up.Store(false)
			x.link.Load().cut() // or whoever waits for the old one's word waits on
			return true
		},
		OnConnectError: func(err error) { o.Log.Warn("mqtt: broker", "url", at.Redacted(), "err", err) },
		ClientConfig: paho.ClientConfig{
			ClientID:          "coinop-" + o.Name,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){x.arrived},
		},
	})
	if err != nil {
		x.stop()
		return nil, err // and nothing has been started
	}
	close(x.dialled)
	x.running.Go(func() { x.pump(x.fast) })
	for range pumps {
		x.running.Go(func() { x.pump(x.sure) })
	}
	return x, nil
}

// AwaitConnection waits until the broker is there and the gateway is subscribed.
func (x *External) AwaitConnection(ctx context.Context) error {
	for !x.up.Load() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close takes the gateway's word back and disconnects.
func (x *External) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	x.manager.Publish(ctx, &paho.Publish{Topic: presence(x.Name), QoS: 1, Retain: true})
	err := x.manager.Disconnect(ctx)
	x.stop()
	x.running.Wait()
	x.keepOnly(func(Who) bool { return false })
	return err
}

// presence is where a gateway says, retained, that it is there.
func presence(name string) string { return Root + "/" + Inbox + "/" + name + "/up" }

// inbox is where other gateways hand on what is this one's.
func inbox(name, topic string) string {
	return Root + "/" + Inbox + "/" + name + "/in/" + strings.TrimPrefix(topic, Root+"/")
}

// connected subscribes, then says that the gateway is there.
func (x *External) connected() {
	<-x.dialled
	shared := "$share/" + x.Group + "/" + Root + "/"
	_, err := x.manager.Subscribe(x.ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{
		{Topic: Root + "/" + Inbox + "/+/up", QoS: 1, RetainAsPublished: true},
		{Topic: Root + "/" + Inbox + "/" + x.Name + "/in/#", QoS: 1},
		{Topic: shared + "+/+/" + Event + "/+", QoS: 1},
		{Topic: shared + Buying + "/+", QoS: 1},
	}})
	if err == nil {
		_, err = x.manager.Publish(x.ctx, &paho.Publish{Topic: presence(x.Name), QoS: 1, Retain: true, Payload: []byte("1")})
	}
	if err != nil {
		x.Log.Warn("mqtt: subscribe", "err", err)
		return
	}
	x.up.Store(true)
	x.again()
}

// again begins the session of every device anew after the broker was away: what was
// on its way then is lost, and said again now, not after the next long pause. A new
// broker has its price list again too.
func (x *External) again() {
	x.mu.Lock()
	all := slices.Collect(maps.Values(x.clients))
	x.mu.Unlock()
	for _, r := range all {
		if r.who.IsDevice() {
			r.renew()
		}
	}
}

func (r *remote) renew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	session, err := r.x.handler.Join(r.who, r)
	if err != nil {
		r.Drop(Success)
		return
	}
	r.x.mu.Lock()
	old := r.session
	r.session = session
	gone := r.x.clients[r.who.owner()] != r
	r.x.mu.Unlock()
	old.Close()
	if gone {
		session.Close()
		return
	}
	session.Heard()
	r.announce(session)
}

// announce has the broker keep the device's price list.
func (r *remote) announce(s Session) {
	t := Topic{r.who.Tenant, r.who.Name, Offers, ""}
	if list := s.Retained(t); r.who.IsDevice() && list != nil {
		r.x.Publish(Message{Topic: t.String(), Payload: list, QoS: 1, Retain: true})
	}
}

// Publish queues a message for the broker.
func (x *External) Publish(m Message) error {
	queue := x.fast
	if m.QoS > 0 {
		queue = x.sure
	}
	if !x.up.Load() {
		x.lost.Add(1)
		return ErrAway
	}
	select {
	case queue <- m:
		return nil
	default:
		x.lost.Add(1)
		return ErrSlow
	}
}

func (x *External) pump(queue chan Message) {
	for {
		select {
		case <-x.ctx.Done():
			return
		case m := <-queue:
			if err := x.publish(m); err != nil {
				x.lost.Add(1)
				x.Log.Debug("mqtt: publish", "topic", m.Topic, "err", err)
			}
		}
	}
}

func (x *External) publish(m Message) error {
	ctx, cancel := context.WithTimeout(x.link.Load().ctx, writeWithin)
	defer cancel()
	p := &paho.Publish{Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, Payload: m.Payload}
	if m.Reply != "" || m.Match != nil || len(m.User) > 0 {
		p.Properties = &paho.PublishProperties{ResponseTopic: m.Reply, CorrelationData: m.Match}
		for _, u := range m.User {
			p.Properties.User.Add(u.Name, u.Value)
		}
	}
	_, err := x.manager.Publish(ctx, p)
	return err
}

// Connected lists the devices that this gateway has heard of and owns.
func (x *External) Connected() (list []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range x.clients {
		if r.who.IsDevice() {
			list = append(list, r.who.String())
		}
	}
	slices.Sort(list)
	return list
}

// Lost counts the messages that did not reach the broker.
func (x *External) Lost() uint64 { return x.lost.Load() }

// arrived takes a message from the broker.
func (x *External) arrived(in paho.PublishReceived) (bool, error) {
	m := Message{Topic: in.Packet.Topic, Payload: in.Packet.Payload, QoS: in.Packet.QoS, Retain: in.Packet.Retain}
	if p := in.Packet.Properties; p != nil {
		m.Reply, m.Match = p.ResponseTopic, p.CorrelationData
		for _, u := range p.User[:min(len(p.User), MaxUser)] {
			m.User = append(m.User, Property{u.Key, u.Value})
		}
	}
	own, ok := strings.CutPrefix(m.Topic, Root+"/"+Inbox+"/")
	if !ok {
		x.deal(m, true)
		return true, nil
	}
	name, rest, _ := strings.Cut(own, "/")
	if rest == "up" {
		x.gateway(name, len(m.Payload) > 0)
		return true, nil
	}
	if topic, ok := strings.CutPrefix(rest, "in/"); ok && name == x.Name {
		m.Topic = Root + "/" + topic
		x.deal(m, false)
	}
	return true, nil
}

// gateway notes that another gateway has come or gone, and lets go of the
// devices that are another one's now.
func (x *External) gateway(name string, there bool) {
	if name == x.Name || !offer.ValidName(name) {
		return
	}
	x.mu.Lock()
	x.members = slices.DeleteFunc(slices.Clone(x.members), func(m string) bool { return m == name })
	if there && len(x.members) < MaxGateways {
		x.members = append(x.members, name)
	}
	x.mu.Unlock()
	x.keepOnly(func(w Who) bool { return x.owner(w) == x.Name })
}

func (x *External) keepOnly(mine func(Who) bool) {
	x.mu.Lock()
	var gone []*remote
	for _, r := range x.clients {
		gone = append(gone, r)
	}
	x.mu.Unlock()
	for _, r := range gone {
		if !mine(r.who) {
			r.Drop(Success)
		}
	}
}

// owner is whose client it is: the highest of the hashes of gateway and client
// (rendezvous hashing).
func (x *External) owner(w Who) (name string) {
	x.mu.Lock()
	members := x.members
	x.mu.Unlock()
	best := uint64(0)
	for _, m := range members {
		h := fnv.New64a()
		h.Write([]byte(m + "\n" + w.String()))
		// FNV's last step mixes little into the high bits.
		sum := h.Sum64()
		sum ^= sum >> 33
		sum *= 0xff51afd7ed558ccd
		sum ^= sum >> 33
		if name == "" || sum > best || sum == best && m > name {
			name, best = m, sum
		}
	}
	return name
}

// deal serves a message, or hands it to the gateway whose it is.
func (x *External) deal(m Message, mayHandOn bool) {
	t, err := ParseTopic(m.Topic)
	if err != nil || len(m.Payload) > MaxPayload || t.Class != Event && t.Class != Buying {
		x.Log.Debug("mqtt: ignored", "topic", m.Topic, "err", err)
		return
	}
	who := Who{Tenant: t.Tenant, Name: t.Name}
	if to := x.owner(who); to != x.Name && mayHandOn {
		m.Topic, m.Retain = inbox(to, m.Topic), false
		x.Publish(m)
		return
	}
	r, err := x.client(who)
	if err != nil {
		x.Log.Debug("mqtt: unknown client", "client", who, "err", err)
		return
	}
	if m.Reply != "" && !r.who.mayAnswerOn(m.Reply) {
		m.Reply = ""
	}
	r.received(Incoming{Message: m, At: t, V5: true, Acked: true})
}

// client finds a client's session, or begins one with its first message.
func (x *External) client(who Who) (*remote, error) {
	key := who.owner()
	x.mu.Lock()
	r := x.clients[key]
	if r != nil {
		r.heard = time.Now()
	}
	x.mu.Unlock()
	if r != nil {
		return r, nil
	}
	who, err := x.handler.Find(who.Tenant, who.Name)
	if err != nil {
		return nil, err
	}
	x.makeRoom(who.IsDevice())
	r = &remote{x: x, who: who, heard: time.Now()}
	if r.session, err = x.handler.Join(who, r); err != nil {
		return nil, err
	}
	x.mu.Lock()
	x.clients[key] = r
	x.mu.Unlock()
	r.announce(r.session)
	return r, nil
}

// makeRoom forgets the device or the buyer that was not heard of for the longest
// time, if there are as many as may be. It only has to speak again.
func (x *External) makeRoom(device bool) {
	most := MaxBuyers
	if device {
		most = MaxConnections
	}
	x.mu.Lock()
	if len(x.clients) < most {
		x.mu.Unlock()
		return
	}
	var oldest *remote
	n := 0
	for _, r := range x.clients {
		if r.who.IsDevice() != device {
			continue
		}
		n++
		if oldest == nil || r.heard.Before(oldest.heard) {
			oldest = r
		}
	}
	x.mu.Unlock()
	if n >= most {
		oldest.Drop(Success)
	}
}

func (r *remote) received(in Incoming) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.session.Received(in)
	if !r.spoke {
		r.spoke = true
		r.session.Heard()
	}
	if v.Code != Success {
		why, _ := (&Message{User: v.User}).Property(PropError)
		r.x.Log.Debug("mqtt: refused", "topic", in.Topic, "code", v.Code, "err", why)
	}
}

// Publish sends to the client by way of the broker.
func (r *remote) Publish(m Message) error {
	return r.x.Publish(m)
}

// Drop forgets the client until it speaks again. The broker holds its
// connection.
func (r *remote) Drop(byte) {
	r.x.mu.Lock()
	key := r.who.owner()
	mine := r.x.clients[key] == r
	if mine {
		delete(r.x.clients, key)
	}
	session := r.session
	r.x.mu.Unlock()
	if mine {
		session.Close()
	}
}
