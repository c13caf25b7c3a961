// Package device is the other end of a gateway's MQTT door: a device that does what
// was paid for, once, and says so in a word that it signs.
//
//	d, err := device.Open(ctx, device.Options{Broker: "10.0.0.1:1883", Name: "pump-7", …,
//		Act: func(ctx context.Context, c device.Command) ([]byte, error) { return nil, valve.Open(ctx, c.Units) }})
//
// What it has done is on its disk before it says so, and that it is about to do
// something before it does it (core/fleet's End). The gateway asks again until it is
// answered, so a connection that is lost loses nothing.
package device

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/step"
	"coinop.dev/gateway/mqtt"
	"coinop.dev/world/drive"
	"coinop.dev/world/store"
)

// A Command is what a gateway wants done.
type Command = fleet.Command

// Options are what a device is told. All but Act, DB and Log come from its claim
// (coinop device play, POST /v1/claims).
type Options struct {
	Broker   string // host:port
	Name     string
	Tenant   string // empty for none
	Password string // a credential, or the device's password
	Key      keys.Secret
	Gateways []keys.Public // whose commands it obeys, by number
	Firmware string

	// Act does what a command says, and may return a reading. An error means that it
	// was not done; ErrUnknown that nobody can tell.
	Act func(context.Context, Command) (reading []byte, err error)
	// DB keeps what was done.
	DB  store.DB
	Log *slog.Logger
}

// ErrUnknown is what Act returns when it cannot tell whether it was done.
var ErrUnknown = errors.New("nobody can tell whether it was done")

const (
	// alive is how often a device without news says that it is there.
	alive = 30 * time.Second
	// againAfter and againAtMost bound the pauses between tries to connect.
	againAfter  = 200 * time.Millisecond
	againAtMost = 10 * time.Second
)

// A Device is one that runs.
type Device struct {
	o    Options
	host *drive.Host
	ctx  context.Context
	stop context.CancelFunc
	over sync.WaitGroup

	mu   sync.Mutex
	conn *mqtt.Client // nil while it is away
}

// Open starts a device, which connects and stays connected until Close.
func Open(ctx context.Context, o Options) (*Device, error) {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Tenant = cmp.Or(o.Tenant, mqtt.NoTenant)
	if o.Act == nil || o.DB == nil || len(o.Gateways) == 0 || o.Key.IsZero() {
		return nil, errors.New("a device needs a key, a gateway, a store and something to act with")
	}
	end, err := fleet.LoadEnd(o.DB, fleet.EndConfig{Device: o.Name, Key: o.Key, Gateways: o.Gateways, Firmware: o.Firmware})
	if err != nil {
		return nil, err
	}
	now := func() step.Time { return step.Time(time.Now().UnixMilli()) }
	d := &Device{o: o, host: drive.NewHost(o.DB, now)}
	d.ctx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	d.over.Go(func() {
		if err := d.host.Run(d.ctx); err != nil && d.ctx.Err() == nil {
			o.Log.Error("device stopped", "err", err)
		}
	})
	d.host.Outlet(fleet.Actuator, d.act)
	for _, g := range o.Gateways {
		d.host.Outlet(g.PeerName(), d.send)
	}
	if err := d.host.Add(ctx, fleet.EndName, end); err != nil {
		return nil, err
	}
	d.over.Go(d.keep)
	return d, nil
}

// Close ends it. What it is told meanwhile it is told again.
func (d *Device) Close() error {
	d.stop()
	d.mu.Lock()
	if d.conn != nil {
		d.conn.Disconnect()
	}
	d.mu.Unlock()
	d.over.Wait()
	return nil
}

// act runs on the host's goroutine.
func (d *Device) act(p step.Packet) {
	a, ok := p.Msg.(fleet.Act)
	if !ok {
		return
	}
	d.over.Go(func() {
		reading, err := d.o.Act(d.ctx, a.Command)
		if d.ctx.Err() != nil {
			return // it says unknown when it starts again
		}
		d.host.Tell(d.ctx, fleet.EndName, fleet.Acted{
			Gateway: a.Gateway, Seq: a.Seq, Err: err, Unknown: errors.Is(err, ErrUnknown), Reading: reading,
		})
	})
}

// send takes what the core says to a gateway. It runs on the host's goroutine.
func (d *Device) send(p step.Packet) {
	if msg, ok := p.Msg.(message.Message); ok {
		d.publish(mqtt.Pay, msg.Append(nil))
	}
}

// Report publishes what the device has measured, for whoever buys it, or a fault.
func (d *Device) Report(kind string, payload []byte) error { return d.publish(kind, payload) }

func (d *Device) publish(kind string, payload []byte) error {
	d.mu.Lock()
	c := d.conn
	d.mu.Unlock()
	if c == nil {
		return mqtt.ErrAway
	}
	_, err := c.Publish(mqtt.Message{Topic: d.topic(mqtt.Event, kind), Payload: payload})
	return err
}

func (d *Device) topic(class, kind string) string {
	return mqtt.Topic{Tenant: d.o.Tenant, Name: d.o.Name, Class: class, Kind: kind}.String()
}

// keep stays connected.
func (d *Device) keep() {
	pause := againAfter
	for link := uint64(1); d.ctx.Err() == nil; link++ {
		began := time.Now()
		err := d.once(link)
		if d.ctx.Err() != nil {
			return
		}
		if time.Since(began) > againAtMost {
			pause = againAfter
		}
		d.o.Log.Info("no connection to the gateway", "err", err, "again", pause)
		select {
		case <-time.After(pause):
		case <-d.ctx.Done():
		}
		pause = min(2*pause, againAtMost)
	}
}

func (d *Device) once(link uint64) error {
	ctx, cancel := context.WithTimeout(d.ctx, againAtMost)
	defer cancel()
	addr := strings.TrimPrefix(d.o.Broker, "mqtt://")
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("broker %q: %w", d.o.Broker, err)
	}
	c, err := mqtt.Connect(ctx, mqtt.ClientOptions{
		Addr: addr, Login: mqtt.Login{ClientID: d.o.Name, User: d.o.Name, Password: d.o.Password}, Keepalive: 2 * alive,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Subscribe(1, d.topic(mqtt.Command, "#")); err != nil {
		return err
	}
	d.mu.Lock()
	d.conn = c
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.conn = nil
	}()
	for _, g := range d.o.Gateways {
		d.host.Tell(d.ctx, "", step.Linked{Peer: g.PeerName(), Link: link})
	}
	d.o.Log.Info("connected", "gateway", addr)
	done := make(chan struct{})
	defer close(done)
	go func() {
		t := time.NewTicker(alive)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				c.Ping()
			case <-done:
				return
			}
		}
	}()
	for {
		c.SetReadDeadline(time.Now().Add(3 * alive))
		got, err := c.Read()
		if err != nil {
			return err
		}
		if m, ok := got.(mqtt.Message); ok {
			d.hear(m)
		}
	}
}

// hear hands a message to the core. What is signed by no gateway of ours it ignores.
func (d *Device) hear(m mqtt.Message) {
	t, err := mqtt.ParseTopic(m.Topic)
	if err != nil || t.Class != mqtt.Command || t.Kind != mqtt.Pay {
		return
	}
	msg, err := message.Decode(m.Payload)
	if err != nil || msg == nil {
		d.o.Log.Warn("the gateway says what cannot be read", "err", err)
		return
	}
	from := d.o.Gateways[0]
	if c, ok := msg.(fleet.Command); ok && c.Gateway >= 0 && c.Gateway < len(d.o.Gateways) {
		from = d.o.Gateways[c.Gateway]
	}
	d.host.Tell(d.ctx, fleet.EndName, step.Recv{From: from.PeerName(), Msg: msg})
}
