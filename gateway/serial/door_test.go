package serial_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/gateway"
	door "coinop.dev/gateway/serial"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/rail/fakerail"
	"coinop.dev/till"
	"coinop.dev/world/link/serial"
	"coinop.dev/world/store/bbolt"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t *testing.T) keys.Secret {
	key, err := keys.NewSecret(rand.Reader)
	must(t, err)
	return key
}

// A cable between the gateway and the device, that can be pulled.
type cable struct {
	mu   sync.Mutex
	in   bool
	ends [2]net.Conn
}

func (c *cable) open(i int) func() (io.ReadWriteCloser, error) {
	return func() (io.ReadWriteCloser, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.in {
			return nil, errors.New("no cable")
		}
		if c.ends[0] == nil {
			c.ends[0], c.ends[1] = net.Pipe()
		}
		return c.ends[i], nil
	}
}

func (c *cable) pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = false
	for i := range c.ends {
		if c.ends[i] != nil {
			c.ends[i].Close()
			c.ends[i] = nil
		}
	}
}

func (c *cable) plug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = true
}

type market struct {
	t     *testing.T
	stop  func()
	shop  *gateway.Shop
	purse *purse.Purse
	key   keys.Secret
}

var services = []offer.Service{
	{Name: "beer", Title: "A beer", Unit: "l", Price: money.Sat, From: "device:tap-3", Within: 20 * step.Second},
	{Name: "power", Unit: "kWh", Fiat: offer.Fiat{Currency: "EUR", Micro: 300_000}, From: "device:tap-3"},
	{Name: "tea", Unit: "cup", Price: money.Sat},
}

func open(t *testing.T, file string, key keys.Secret) *market {
	t.Helper()
	store, err := bbolt.Open(file)
	must(t, err)
	ctx := t.Context()
	m := engine.New(ctx, engine.Options{Key: key, DB: store})
	k := &market{t: t, key: key, stop: sync.OnceFunc(func() { m.Close(); store.Close() })}
	t.Cleanup(k.stop)
	k.purse, err = purse.Open(ctx, m, purse.Options{})
	must(t, err)
	must(t, gateway.AddCores(ctx, m))
	f, err := fleet.Load(m.DB, fleet.Config{Root: key.Derive("fleet"), Node: key})
	must(t, err)
	must(t, m.Host.Add(ctx, fleet.Name, f))
	_, err = till.Open(ctx, m, till.Options{Journal: true})
	must(t, err)
	var g rail.Registry
	g.Register(fakerail.Scheme, fakerail.Driver{})
	env := rail.Env{Machine: m, Rail: func(string) *rail.Rail { return nil }}
	pays, err := g.Open(ctx, "fake:?balance=1000sat", env)
	must(t, err)
	must(t, k.purse.Hold(ctx, pays))
	earns, err := g.Open(ctx, "fake:", env)
	must(t, err)
	k.shop, err = gateway.Open(ctx, gateway.Options{
		Machine: m, Purse: k.purse, Services: services, Rails: func() []*rail.Rail { return []*rail.Rail{pays, earns} },
		Rates: []*gateway.RateSource{{Currency: "EUR", Fixed: "90000"}},
	})
	must(t, err)
	return k
}

func (k *market) enrol(own keys.Secret) {
	k.t.Helper()
	_, err := k.shop.Machine().Host.Ask(k.t.Context(), fleet.Name, "add", fleet.Add{Ask: "add", Devices: []fleet.Profile{{Name: "tap-3", Key: own.Public()}}})
	must(k.t, err)
}

func (k *market) serve(c *cable, own keys.Secret) *door.Door {
	k.t.Helper()
	d, err := door.Open(door.Options{Shop: k.shop, Name: "tap-3", Key: own.Public(), Open: c.open(0)})
	must(k.t, err)
	k.t.Cleanup(func() { d.Close() })
	return d
}

func (k *market) pay(o door.Offer) {
	k.t.Helper()
	_, err := k.purse.Pay(k.t.Context(), money.Order{ID: o.Order, To: rail.Payee(o.Pay), Amount: o.Due})
	must(k.t, err)
}

// A board is the device's end of the line.
type board struct {
	t    *testing.T
	line *serial.Line
	ups  chan bool
	own  keys.Secret
	acks map[uint64]fleet.Ack // by command
}

func newBoard(t *testing.T, c *cable, own keys.Secret) *board {
	b := &board{t: t, own: own, ups: make(chan bool, 64), acks: map[uint64]fleet.Ack{}}
	var err error
	b.line, err = serial.Start(c.open(1), serial.Options{Name: "tap-3", Max: 300, Turned: func(up bool, _ string) { b.ups <- up }})
	must(t, err)
	t.Cleanup(func() { b.line.Close() })
	return b
}

func (b *board) up() {
	b.t.Helper()
	for {
		select {
		case up := <-b.ups:
			if up {
				return
			}
		case <-time.After(10 * time.Second):
			b.t.Fatal("the line does not come up")
		}
	}
}

func (b *board) say(m door.Message) {
	b.t.Helper()
	must(b.t, b.line.Send(b.t.Context(), m.Append(nil)))
}

// wait reads messages until one is a T that fits.
func wait[T any](b *board, fits func(T) bool) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 15*time.Second)
	defer cancel()
	for {
		raw, err := b.line.Recv(ctx)
		if err != nil {
			var want T
			b.t.Fatalf("no %T: %v", want, err)
		}
		var m any
		switch typ := binary.BigEndian.Uint16(raw); {
		case door.Owns(typ):
			m, err = door.Decode(raw)
		case fleet.Owns(typ):
			m, err = fleet.Decode(raw)
		default:
			m, err = message.Decode(raw)
		}
		must(b.t, err)
		if v, ok := m.(T); ok && (fits == nil || fits(v)) {
			return v
		}
	}
}

// act does what a command says, once, and signs for it.
func (b *board) act(c fleet.Command) fleet.Ack {
	if b.acks[c.Seq].Seq == 0 {
		b.acks[c.Seq] = fleet.Ack{Device: "tap-3", Seq: c.Seq, Order: c.Order, Counter: uint64(len(b.acks) + 1), OK: true, Reading: []byte("2 l")}.Seal(b.own, keys.Secret{})
	}
	return b.acks[c.Seq]
}

func is(state string) func(door.State) bool {
	return func(s door.State) bool { return s.State == state }
}

// A button is pressed, somebody pays, the tap opens; and the cable is pulled
// between the command and its acknowledgement.
func TestVending(t *testing.T) {
	key, own := newKey(t), newKey(t)
	k := open(t, filepath.Join(t.TempDir(), "state"), key)
	k.enrol(own)
	c := &cable{in: true}
	k.serve(c, own)
	b := newBoard(t, c, own)
	b.up()
	prices := map[string]door.Price{}
	for range 2 {
		p := wait[door.Price](b, nil)
		prices[p.Service] = p
	}
	if prices["beer"].Amount != money.Sat || prices["power"].Text != " 0.30 EUR/1 kWh" {
		t.Errorf("prices %+v", prices)
	}

	b.say(fleet.Status{Device: "tap-3", Firmware: "1.2"})
	if at := wait[fleet.Time](b, nil).At; at == 0 {
		t.Error("a device that says its status is not told the time")
	}
	b.say(door.Ask{Nonce: 5, Service: "beer", Units: 2})
	o := wait[door.Offer](b, nil)
	if o.Nonce != 5 || o.Due != 2*money.Sat || o.Pay == "" {
		t.Fatalf("offer %+v", o)
	}
	k.pay(o)
	command := wait[fleet.Command](b, nil)
	if command.Order != o.Order || command.Units != 2 || !command.Verify(key.Public(), own.Public(), keys.Secret{}) {
		t.Fatalf("command %+v", command)
	}
	ack := b.act(command)
	c.pull()
	if err := b.line.Send(t.Context(), ack.Append(nil)); !errors.Is(err, serial.ErrDown) {
		t.Fatalf("without a cable: %v", err)
	}
	c.plug()
	b.up()
	again := wait[fleet.Command](b, nil) // because it was not acknowledged
	if again.Seq != command.Seq {
		t.Errorf("command %d, then %d", command.Seq, again.Seq)
	}
	b.say(b.act(again))
	wait(b, is("settled"))
	got, err := k.shop.Order(t.Context(), o.Order)
	if err != nil || got.State != "settled" || len(got.Ack) == 0 || len(b.acks) != 1 {
		t.Errorf("order %+v, %v", got, err)
	}
}

// Units are paid ahead and metered. What is reported twice, or again after the
// gateway's restart, is charged once; who is through is stopped.
func TestMeter(t *testing.T) {
	file, key, own := filepath.Join(t.TempDir(), "state"), newKey(t), newKey(t)
	k := open(t, file, key)
	k.enrol(own)
	c := &cable{in: true}
	d := k.serve(c, own)
	b := newBoard(t, c, own)
	b.up()
	b.say(door.Prepay{Nonce: 1, Service: "beer", Units: 10})
	o := wait[door.Offer](b, nil)
	b.say(door.Meter{Session: o.Order, Service: "beer", Total: 1})
	if left := wait[door.Left](b, nil); left.Go {
		t.Errorf("before it is paid: %+v", left)
	}
	k.pay(o)
	wait(b, is("settled"))
	report := func(total uint64, left money.Amount, goes bool) {
		t.Helper()
		b.say(door.Meter{Session: o.Order, Service: "beer", Total: total})
		if got := wait[door.Left](b, nil); got.Total != total || got.Amount != left || got.Go != goes {
			t.Errorf("at %d: %+v; want %v left", total, got, left)
		}
	}
	report(3, 7*money.Sat, true)
	report(3, 7*money.Sat, true)
	report(2, 7*money.Sat, true)

	d.Close()
	k.stop()
	c.pull()
	c.plug()
	k = open(t, file, key)
	k.serve(c, own)
	b.up()
	report(3, 7*money.Sat, true)
	report(6, 4*money.Sat, true)
	report(12, 0, false) // it gave two too many: the owner's loss
	report(12, 0, false)
	b.say(door.Meter{Session: money.OrderID{9}, Service: "beer", Total: 1})
	if left := wait[door.Left](b, nil); left.Go {
		t.Errorf("a session that nobody knows: %+v", left)
	}
}

// The messages of any link go over the line too, and nonsense is answered.
func TestMachineMessages(t *testing.T) {
	key, own := newKey(t), newKey(t)
	k := open(t, filepath.Join(t.TempDir(), "state"), key)
	k.enrol(own)
	c := &cable{in: true}
	d := k.serve(c, own)
	b := newBoard(t, c, own)
	b.up()
	b.say(trade.Browse{})
	if tariff := wait[trade.Tariff](b, nil); len(tariff.Items) == 0 {
		t.Error("an empty tariff")
	}
	for _, m := range []door.Message{door.Price{Service: "beer"}, fleet.Status{Device: ""}, door.Ask{Nonce: 3, Service: "wine", Units: 1}} {
		b.say(m)
		if _, odd := m.(fleet.Status); odd {
			continue // said under the line's own name
		}
		wait[door.No](b, nil)
	}
	must(t, b.line.Send(t.Context(), []byte{0x91}))
	wait[door.No](b, nil)
	d.Show("beer", 1)
	if o := wait[door.Offer](b, nil); o.Nonce != 0 || o.Service != "beer" {
		t.Errorf("%+v", o)
	}
}
