package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/gateway/mqtt"
	"coinop.dev/world/drive"
)

// A crowd is devices that pay over MQTT. Each has a key, a connection, channels,
// and the same cores that every payer has; only their disks are left out: what
// they would write is thrown away.
type crowd struct {
	at      doorNews
	rail    string
	payee   keys.Public
	peer    string // the gateway, as cores call it
	devices []*carrier
	wallet  keys.Secret
	wirer   atomic.Uint64 // bytes of connections that are gone

	took, late *histogram
	done       atomic.Int64
	refused    atomic.Uint64
	again      atomic.Uint64 // connections that were made anew
	ready      atomic.Int64  // devices that have come to the next stage
	fault      atomic.Pointer[error]
	over       chan struct{}
	running    sync.WaitGroup
}

// crowdGC is how much the crowd's heap may grow before garbage is collected, in
// percent: its memory is not measured, and its processor time the gateway lacks.
const crowdGC = 400

func newCrowd() *crowd {
	debug.SetGCPercent(crowdGC)
	return &crowd{took: new(histogram), late: new(histogram), over: make(chan struct{})}
}

// A carrier is one device of a crowd.
type carrier struct {
	c        *crowd
	index    int
	name     string
	password string
	topic    string // of what it says to the gateway
	key      keys.Secret
	client   atomic.Pointer[mqtt.Client]
	session  money.OrderID // that its coins are for

	mu       sync.Mutex
	machine  *drive.Machine
	alarms   map[alarm]step.Time
	due      step.Time // no alarm is before
	terms    oneway.Terms
	answered bool
	payer    string // the core that pays
	settler  string // the core that settles coins
	sent     []sent // payments on the way, oldest first
	stamped  uint64 // coins of the oldest that have stamps
	orders   money.Amount
}

type alarm struct{ core, id string }

type sent struct {
	at    time.Time
	coins uint64
}

func (c *crowd) paid() *atomic.Int64 { return &c.done }

func (c *crowd) close() {
	close(c.over)
	for _, d := range c.devices {
		if m := d.client.Load(); m != nil {
			m.Close()
		}
	}
	c.running.Wait()
}

func (c *crowd) do(ctx context.Context, what string, t *doorTask) (*doorNews, error) {
	switch what {
	case "door connect":
		return &doorNews{Script: tx.P2WPKH(c.wallet.Public())}, c.connect(ctx, t)
	case "door script":
		var err error
		if c.wallet, err = deviceKey(t.Seed, -1); err != nil {
			return nil, err
		}
		return &doorNews{Script: tx.P2WPKH(c.wallet.Public())}, nil
	case "door propose":
		return c.propose(ctx, t)
	case "door channels":
		return &doorNews{}, c.channels(ctx, t)
	case "door lighten":
		return &doorNews{}, c.lighten(t.Verify)
	case "door visit":
		p, err := c.pay(ctx, t)
		return &doorNews{Went: p}, err
	}
	return nil, fmt.Errorf("no crowd does %q", what)
}

// fail keeps the first thing that should not have happened.
func (c *crowd) fail(err error) { c.fault.CompareAndSwap(nil, &err) }

// all waits until every device has come to the next stage.
func (c *crowd) all(ctx context.Context, stage string) error {
	for {
		n := c.ready.Load()
		if n == int64(len(c.devices)) {
			c.ready.Store(0)
			return nil
		}
		if err := c.fault.Load(); err != nil {
			return *err
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return fmt.Errorf("%d of %d devices are %s: %w", n, len(c.devices), stage, ctx.Err())
		}
	}
}

// connect makes the devices and logs them in.
func (c *crowd) connect(ctx context.Context, t *doorTask) (err error) {
	logins, err := readLogins(t.Dir)
	if err != nil {
		return err
	}
	c.at, c.rail = t.At, t.Rail
	if c.payee, err = keys.ParsePublicHex(t.At.Key); err != nil {
		return err
	}
	c.peer = c.payee.PeerName()
	gate := make(chan struct{}, connecting)
	var dialling sync.WaitGroup
	for i := range t.Devices {
		d := &carrier{c: c, index: i, name: deviceName(i), machine: drive.NewMachine(), alarms: map[alarm]step.Time{}}
		if d.key, err = deviceKey(t.Seed, i); err != nil {
			return err
		}
		d.password = logins[d.name].password
		d.topic = mqtt.Topic{Tenant: mqtt.NoTenant, Name: d.name, Class: mqtt.Event, Kind: mqtt.Pay}.String()
		copy(d.session[:], d.name)
		c.devices = append(c.devices, d)
		gate <- struct{}{}
		dialling.Go(func() {
			defer func() { <-gate }()
			if err := d.dial(ctx); err != nil {
				c.fail(fmt.Errorf("%s: %w", d.name, err))
				return
			}
			c.running.Go(d.read)
		})
	}
	dialling.Wait()
	if err := c.fault.Load(); err != nil {
		return *err
	}
	c.running.Go(c.ring)
	return nil
}

func (d *carrier) dial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client, err := mqtt.Connect(ctx, mqtt.ClientOptions{
		Addr:  strings.TrimPrefix(d.c.at.Addrs[doorMQTT], "mqtt://"),
		Login: mqtt.Login{ClientID: d.name, User: d.name, Password: d.password},
	})
	if err != nil {
		return err
	}
	if err := client.Subscribe(0, mqtt.Topic{Tenant: mqtt.NoTenant, Name: d.name, Class: mqtt.Command, Kind: mqtt.Pay}.String()); err != nil {
		client.Close()
		return err
	}
	if old := d.client.Swap(client); old != nil {
		sent, received := old.Bytes()
		d.c.wirer.Add(sent + received)
	}
	return nil
}

// read hears the gateway until the crowd goes home, and comes back if it is cut
// off.
func (d *carrier) read() {
	for {
		got, err := d.client.Load().Read()
		if err == nil {
			if m, ok := got.(mqtt.Message); ok {
				d.hear(m.Payload)
			}
			continue
		}
		select {
		case <-d.c.over:
			return
		default:
		}
		d.c.again.Add(1)
		for d.dial(context.Background()) != nil {
			select {
			case <-d.c.over:
				return
			case <-time.After(paySecond):
			}
		}
		d.mu.Lock()
		d.round(drive.Event{What: step.Linked{Peer: d.c.peer}})
		d.mu.Unlock()
	}
}

// say publishes a message of the device.
func (d *carrier) say(m message.Message) {
	// What cannot be written is lost, as on any network, and said again.
	d.client.Load().Publish(mqtt.Message{Topic: d.topic, Payload: m.Append(nil)})
}

func (d *carrier) hear(payload []byte) {
	m, err := message.Decode(payload)
	if err != nil || m == nil {
		d.c.fail(fmt.Errorf("%s hears what cannot be read: %w", d.name, err))
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch msg := m.(type) {
	case oneway.Accept:
		if !d.answered {
			d.answered, d.terms.Answer = true, msg.Answer
			d.c.ready.Add(1)
		}
	case payword.Accept:
		d.agree(msg.Answer)
	case oneway.Reject:
		d.c.fail(errors.New("the gateway rejects a channel: " + msg.Why))
	case payword.Reject:
		d.c.fail(errors.New("the gateway rejects coins: " + msg.Why))
	default:
		if core := m.Core(); d.machine.Core(core) != nil {
			d.round(drive.Event{Core: core, What: step.Recv{From: d.c.peer, Msg: m}})
		}
	}
}

func now() step.Time { return step.Time(time.Now().UnixMilli()) }

// round steps the device's cores and does what they want. d.mu is held.
func (d *carrier) round(events ...drive.Event) {
	fx := d.machine.Round(now(), events)
	for _, p := range fx.Send {
		if m, ok := p.Msg.(message.Message); ok && p.To == d.c.peer {
			d.say(m)
		}
	}
	for _, a := range fx.Wake {
		d.alarms[alarm{a.Core, a.ID}] = a.At
		d.due = min(d.due, a.At)
	}
	for _, o := range fx.Done {
		d.done(o)
	}
}

func (d *carrier) done(o step.Outcome) {
	switch {
	case o.ID == drive.Died:
		d.c.fail(o.Err)
	case o.ID == oneway.Opened && o.Core == d.settler: // coins need it open
		d.say(payword.Open{ID: d.coinsID(), Proposal: d.coins()})
	case o.ID == oneway.Opened && o.Core == d.payer:
		d.c.ready.Add(1)
	case o.Core != d.payer:
	case o.Err != nil:
		d.c.refused.Add(1)
		d.sent = d.sent[min(1, len(d.sent)):]
	default:
		switch v := o.Value.(type) {
		case payword.Metered:
			d.stamps(v.New)
		case receipt.Paid:
			d.orders += v.Entry().Amount
			d.stamps(1)
		}
	}
}

// stamps ends the payments that are stamped now.
func (d *carrier) stamps(coins uint64) {
	d.stamped += coins
	n := 0
	for n < len(d.sent) && d.sent[n].coins <= d.stamped {
		d.stamped -= d.sent[n].coins
		d.c.took.add(time.Since(d.sent[n].at))
		d.c.done.Add(1)
		n++
	}
	d.sent = slices.Delete(d.sent, 0, n)
}

// ring rings alarms; that they come up to half a second late does no harm.
func (c *crowd) ring() {
	t := time.NewTicker(paySecond / 2)
	defer t.Stop()
	for {
		select {
		case <-c.over:
			return
		case <-t.C:
		}
		at := now()
		for _, d := range c.devices {
			d.mu.Lock()
			if d.due <= at {
				d.rung(at)
			}
			d.mu.Unlock()
		}
	}
}

// rung rings what is due.
func (d *carrier) rung(at step.Time) {
	d.due = math.MaxInt64
	for a, due := range d.alarms {
		if due <= at {
			delete(d.alarms, a)
			d.round(drive.Event{Core: a.core, What: step.Rang{ID: a.id}})
		} else {
			d.due = min(d.due, due)
		}
	}
}
