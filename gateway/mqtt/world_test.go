package mqtt_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/gateway"
	"coinop.dev/gateway/mqtt"
	"coinop.dev/world/drive"
)

// A world is what a door leads to: a fleet, a machine and a shop that remember
// what they were told.
type world struct {
	mu       sync.Mutex
	devices  map[string]mqtt.Device
	online   map[string]bool
	faults   []string
	acks     []fleet.Ack
	metered  []string
	machine  []string // what devices' messages were, as key/type
	sends    map[keys.Public]func(message.Message)
	outlets  map[string]drive.Outlet
	orders   map[money.OrderID]*earn.Order
	paid     map[string]bool // tokens
	quotes   int
	served   map[money.OrderID]int
	balance  int
	changed  *sync.Cond
	services []offer.Service
}

func key(name string) keys.Public {
	d := sha256.Sum256([]byte(name))
	s, _ := keys.SecretFromBytes(d[:])
	return s.Public()
}

func newWorld(names ...string) *world {
	w := &world{
		devices: map[string]mqtt.Device{}, online: map[string]bool{}, sends: map[keys.Public]func(message.Message){}, outlets: map[string]drive.Outlet{},
		orders: map[money.OrderID]*earn.Order{}, paid: map[string]bool{}, served: map[money.OrderID]int{},
		services: []offer.Service{{Name: "tea", Unit: "cup", Price: 1000, From: "device:kettle"}, {Name: "relay", Unit: "message", Price: 10}},
	}
	w.changed = sync.NewCond(&w.mu)
	for _, n := range names {
		w.devices[n] = mqtt.Device{Name: n, Key: key(n)}
	}
	return w
}

func (w *world) setup() mqtt.Setup {
	return mqtt.Setup{Devices: w, Machine: w, Outlets: w, Shop: w, Buyers: true}
}

func (w *world) lock() func() { w.mu.Lock(); return func() { w.changed.Broadcast(); w.mu.Unlock() } }

func (w *world) Authenticate(name, password, _ string) (mqtt.Device, error) {
	if password != "secret "+name {
		return mqtt.Device{}, mqtt.ErrLogin
	}
	return w.Device(name)
}

func (w *world) Device(name string) (mqtt.Device, error) {
	defer w.lock()()
	d, ok := w.devices[name]
	if !ok {
		return d, errors.New("no such device")
	}
	return d, nil
}

func (w *world) Seen(name string, online bool, _ string) { defer w.lock()(); w.online[name] = online }
func (w *world) Fault(name, text string) {
	defer w.lock()()
	w.faults = append(w.faults, name+": "+text)
}
func (w *world) Acked(_ string, a fleet.Ack) { defer w.lock()(); w.acks = append(w.acks, a) }
func (w *world) Meter(name, kind string, payload []byte) {
	defer w.lock()()
	w.metered = append(w.metered, fmt.Sprintf("%s/%s %s", name, kind, payload))
}
func (w *world) Outlet(name string, o drive.Outlet) {
	defer w.lock()()
	if o == nil {
		delete(w.outlets, name)
		return
	}
	w.outlets[name] = o
}

// Attach answers everything with a tariff.
func (w *world) Attach(node keys.Public, send func(message.Message)) (func(message.Message), func(), error) {
	defer w.lock()()
	w.sends[node] = send
	return func(m message.Message) {
		unlock := w.lock()
		w.machine = append(w.machine, fmt.Sprintf("%T", m))
		unlock()
		send(trade.Tariff{PayTo: []string{"x:y"}})
	}, func() {}, nil
}

func (w *world) Services() []offer.Service { return w.services }
func (w *world) Service(name string) (offer.Service, bool) {
	for _, s := range w.services {
		if s.Name == name {
			return s, true
		}
	}
	return offer.Service{}, false
}

func (w *world) Quote(_ context.Context, a gateway.Ask) (gateway.Offer, error) {
	defer w.lock()()
	if _, ok := w.Service(a.Service); !ok {
		return gateway.Offer{}, &money.Error{Kind: money.Invalid, Op: "quote", Err: errors.New("not for sale")}
	}
	w.quotes++
	var id money.OrderID
	id[0] = byte(w.quotes)
	hash := sha256.Sum256(id[:])
	w.orders[id] = &earn.Order{ID: id, State: "quoted", Item: a.Service, Units: a.Units}
	return gateway.Offer{
		Quote: offer.Quote{Order: id, Service: a.Service, Units: a.Units, Due: 1000, Until: step.Time(time.Now().UnixMilli()) + step.Minute},
		Unit:  "cup", Token: "T" + id.String(), Ways: []gateway.Way{{Rail: "ln", Pay: "lightning:x", Hash: hash}}, Tab: a.Tab,
	}, nil
}

// The preimage of an order's invoice is the order.
func preimage(id money.OrderID) string { return hex.EncodeToString(id[:]) }

func (w *world) proven(p gateway.Proof) (*earn.Order, error) {
	var id money.OrderID
	if err := id.UnmarshalText([]byte(strings.TrimPrefix(p.Token, "T"))); err != nil {
		return nil, &money.Error{Kind: money.Invalid, Op: "token", Err: err}
	}
	if string(p.Preimage) != string(id[:]) {
		return nil, &money.Error{Kind: money.Invalid, Op: "proof", Err: errors.New("the preimage is of another invoice")}
	}
	o := w.orders[id]
	if o == nil {
		return nil, &money.Error{Kind: money.Invalid, Op: "token", Err: errors.New("unknown")}
	}
	return o, nil
}

func (w *world) Claim(_ context.Context, p gateway.Proof) (earn.Order, error) {
	defer w.lock()()
	o, err := w.proven(p)
	if err != nil {
		return earn.Order{}, err
	}
	if o.State == "quoted" {
		o.State = "paid"
		w.served[o.ID]++
	}
	return *o, nil
}

func (w *world) Spend(_ context.Context, p gateway.Proof, _ string, units uint64) error {
	defer w.lock()()
	if _, err := w.proven(p); err != nil {
		return err
	}
	if w.balance < int(units) {
		return &money.Error{Kind: money.Refused, Op: "draw", Err: errors.New("nothing is left")}
	}
	w.balance -= int(units)
	return nil
}

func (w *world) Place(_ context.Context, token, _ string) (earn.Order, error) {
	return earn.Order{}, errors.New("not here")
}
func (w *world) Goods(context.Context, money.OrderID) error { return nil }

func (w *world) Order(_ context.Context, id money.OrderID) (earn.Order, error) {
	defer w.lock()()
	if o := w.orders[id]; o != nil {
		return *o, nil
	}
	return earn.Order{ID: id, State: "quoted"}, nil
}

func (w *world) Wait(ctx context.Context, id money.OrderID, is func(earn.Order) bool) (earn.Order, error) {
	stop := context.AfterFunc(ctx, w.changed.Broadcast)
	defer stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for !is(*w.orders[id]) {
		if ctx.Err() != nil {
			return earn.Order{}, ctx.Err()
		}
		w.changed.Wait()
	}
	return *w.orders[id], nil
}

// deliver ends all orders that are paid.
func (w *world) deliver() {
	defer w.lock()()
	for _, o := range w.orders {
		if o.State == "paid" {
			o.State, o.Payload = "delivered", []byte("a cup of tea")
		}
	}
}

// until waits for something to be so in the world.
func (w *world) until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		w.mu.Lock()
		ok := is()
		w.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it does not come about that %s", what)
		}
	}
}

func listen(t testing.TB, w *world, o mqtt.Options) (*mqtt.Embedded, *mqtt.Door) {
	t.Helper()
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	d := mqtt.New(w.setup())
	b, err := mqtt.Listen(o, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); d.Close() })
	return b, d
}

// A thing is a device's or a buyer's client.
type thing struct {
	*mqtt.Client
	t testing.TB
}

func connect(t testing.TB, addr, user string, v5 bool) thing {
	t.Helper()
	c, err := dial(t, addr, user, "client-of-"+user, v5)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func dial(t testing.TB, addr, user, id string, v5 bool) (thing, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	l := mqtt.Login{ClientID: id, User: user, Password: "secret " + user}
	c, err := mqtt.Connect(ctx, mqtt.ClientOptions{Addr: addr, Login: l, V5: v5, Keepalive: time.Minute})
	if err != nil {
		return thing{}, err
	}
	t.Cleanup(func() { c.Close() })
	return thing{c, t}, c.Ping()
}

func (c thing) subscribe(filters ...string) []byte {
	c.t.Helper()
	if err := c.Subscribe(1, filters...); err != nil {
		c.t.Fatal(err)
	}
	return next[mqtt.Granted](c).Codes
}

// next reads until there is a T.
func next[T any](c thing) T {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		got, err := c.Read()
		if err != nil {
			var none T
			c.t.Fatalf("no %T: %v", none, err)
		}
		if v, ok := got.(T); ok {
			return v
		}
	}
}

// ended reads until the broker hangs up, and says why.
func (c thing) ended() error {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		if _, err := c.Read(); err != nil {
			return err
		}
	}
}

func (c thing) publish(m mqtt.Message) {
	c.t.Helper()
	if _, err := c.Publish(m); err != nil {
		c.t.Fatal(err)
	}
}

// tell publishes with QoS 1 and returns the verdict.
func (c thing) tell(m mqtt.Message) mqtt.Verdict {
	c.t.Helper()
	m.QoS = 1
	c.publish(m)
	return next[mqtt.Acked](c).Verdict
}

// freePort is one that was free a moment ago.
func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// mosquitto starts the real broker; stop ends it.
func mosquitto(t testing.TB, addr string) (stop func()) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path = "/usr/sbin/mosquitto"; !exists(path) {
			t.Skip("mosquitto is not installed: apt-get install mosquitto")
		}
	}
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := sync.OnceFunc(func() { cmd.Process.Kill(); cmd.Wait() })
	t.Cleanup(ended)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return ended
		}
		if time.Now().After(end) {
			t.Fatal("mosquitto does not listen")
		}
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }
