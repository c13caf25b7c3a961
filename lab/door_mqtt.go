package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
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

const (
	// coinPrice is a payment. A settlement of coinEvery of them, and a ticket after
	// the first, can be claimed on chain, so it has a signature to make and to check.
	coinPrice  = 50 * money.Sat
	coinEvery  = 20
	coinCredit = 2 * coinEvery
	coinChain  = 1024 // words; a device has two chains laid out
	// firstTicket is what a device pays before it is measured, over rail oneway.
	firstTicket = money.Sat * 1000
	ticketPrice = money.Sat

	paySecond = time.Second // between two payments of a device
	payJitter = 50 * time.Millisecond
	// payQuantum is how much earlier than planned a payment may be made, so that the
	// visitors' process does not wake for each.
	payQuantum = 2 * time.Millisecond

	// channelLife is in blocks.
	channelLife = 2016
	// fundedTogether is how many channels a transaction funds.
	fundedTogether = 250

	connecting = 64 // devices at a time
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

// capacity is what a device's channel has to carry, in satoshi.
func (t *doorTask) capacity() int64 {
	payments := int64((t.For + 2*doorWarmUp) / paySecond)
	price := coinPrice
	if t.Rail == railOneway {
		price = ticketPrice
	}
	return oneway.MinCapacity.Sats() + firstTicket.Sats() + (payments+2*coinCredit)*price.Sats()
}

// propose has every device propose its channel, and signs the transactions that
// fund them all.
func (c *crowd) propose(ctx context.Context, t *doorTask) (*doorNews, error) {
	capacity, _ := money.FromSats(t.capacity())
	err := c.each(func(d *carrier) error {
		p := oneway.Proposal{
			PayerNode: d.key.Public(), PayerKey: oneway.FundingKey(d.key, 1).Public(), Capacity: capacity,
			Expiry: t.Tip + channelLife, FeeRate: tx.MinFeeRate, PayerScript: t.Script,
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.terms.Proposal = p
		d.say(oneway.Open{ID: oneway.IDOf(p.PayerKey, c.payee), Proposal: p})
		return nil
	})
	if err == nil {
		err = c.all(ctx, "answered")
	}
	if err != nil {
		return nil, err
	}
	n := &doorNews{}
	for i, gift := range t.Gifts {
		point, err := wire.NewOutPointFromString(gift)
		if err != nil {
			return nil, err
		}
		devices := c.devices[i*fundedTogether : min(len(c.devices), (i+1)*fundedTogether)]
		var outs []*wire.TxOut
		for _, d := range devices {
			outs = append(outs, d.terms.Output())
		}
		funding, _, err := tx.Pay(c.wallet, []tx.Coin{{Point: *point, Value: t.Sat}}, outs, tx.MinFeeRate)
		if err != nil {
			return nil, err
		}
		for j, d := range devices {
			d.terms.Point = wire.OutPoint{Hash: funding.TxHash(), Index: uint32(j)}
		}
		n.Txs = append(n.Txs, tx.Bytes(funding))
	}
	return n, nil
}

// each does something for all devices, on all processors.
func (c *crowd) each(f func(*carrier) error) error {
	var next atomic.Int64
	var working sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		working.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(c.devices)); i = next.Add(1) - 1 {
				if err := f(c.devices[i]); err != nil {
					c.fail(err)
					return
				}
			}
		})
	}
	working.Wait()
	if err := c.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// channels starts the payers, now that their funding is in a block, and waits
// until all take payments.
func (c *crowd) channels(ctx context.Context, t *doorTask) error {
	var all []*wire.MsgTx
	for _, raw := range t.Txs {
		one, err := tx.Parse(raw)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	err := c.each(func(d *carrier) error {
		p, err := oneway.NewPayer(d.terms, d.key, 1, all[d.index/fundedTogether])
		if err != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		name := oneway.PayerName(d.terms.ID())
		d.machine.Add(name, p)
		if c.rail == railPayword {
			d.settler = name
		} else {
			d.payer = name
		}
		d.round(
			drive.Event{Core: name, What: step.Rang{ID: step.Start}},
			drive.Event{Core: name, What: step.Recv{From: watch.Chain, Msg: watch.Status{Point: d.terms.Point, Tip: t.Tip, Depth: 1, Value: d.terms.Capacity.Sats()}}},
		)
		return nil
	})
	if err == nil {
		err = c.all(ctx, "open")
	}
	return err
}

func (d *carrier) coinsID() payword.ID { return payword.IDOf(d.key.Public(), d.c.payee, 1) }

func (d *carrier) coins() payword.Proposal {
	return payword.Proposal{
		PayerNode: d.key.Public(), Number: 1, Coin: coinPrice, Length: coinChain,
		Every: coinEvery, Credit: coinCredit, Settle: d.settler,
	}
}

// agree starts the payer of coins.
func (d *carrier) agree(a payword.Answer) {
	if d.payer != "" {
		return
	}
	p, err := payword.NewPayer(payword.Terms{Proposal: d.coins(), Answer: a}, d.key)
	if err != nil {
		d.c.fail(err)
		return
	}
	d.payer = payword.PayerName(d.coinsID())
	d.machine.Add(d.payer, p)
	d.machine.Listen(d.settler, d.payer)
	d.round(drive.Event{Core: d.payer, What: step.Rang{ID: step.Start}})
}

// pay has every device pay once a second.
func (c *crowd) pay(ctx context.Context, t *doorTask) (*doorPhase, error) {
	c.took, c.late = new(histogram), new(histogram) // nothing is on its way
	c.done.Store(0)
	refused, again := c.refused.Load(), c.again.Load()
	var offered atomic.Uint64
	begin := time.Now()
	workers := 2 * runtime.GOMAXPROCS(0)
	var paying sync.WaitGroup
	for w := range workers {
		paying.Go(func() {
			var mine []*carrier
			for i := w; i < len(c.devices); i += workers {
				mine = append(mine, c.devices[i])
			}
			for second := time.Duration(0); second < t.For && ctx.Err() == nil; second += paySecond {
				offered.Add(c.second(ctx, mine, begin.Add(second), begin.Add(t.For), t.Phase == "first"))
			}
		})
	}
	paying.Wait()
	took := time.Since(begin)
	inTime := c.done.Load()
	err := c.settled(ctx)
	p := &doorPhase{
		Took: took, Offered: offered.Load(), Done: uint64(c.done.Load()), Refused: c.refused.Load() - refused, Reconnects: c.again.Load() - again,
		Late: c.late.quantile(0.99),
	}
	// What came after the end counts where it took its time, not as achieved.
	p.Lost = p.Offered - min(p.Offered, p.Done+p.Refused)
	p.Took = max(took, time.Duration(float64(took)*float64(p.Done)/float64(max(inTime, 1))))
	p.quantiles(c.took)
	if fault := c.fault.Load(); err == nil && fault != nil {
		err = *fault
	}
	return p, err
}

// second has some devices pay once, each at its own time of the second.
func (c *crowd) second(ctx context.Context, mine []*carrier, from, until time.Time, first bool) (offered uint64) {
	type turn struct {
		at time.Time
		d  *carrier
	}
	turns := make([]turn, len(mine))
	for i, d := range mine {
		// A device has its place in the second, and keeps it but for a jitter.
		place := time.Duration(uint64(d.index)*2654435761%uint64(len(c.devices))) * paySecond / time.Duration(len(c.devices))
		turns[i] = turn{from.Add(place + rand.N(payJitter)), d}
	}
	slices.SortFunc(turns, func(a, b turn) int { return a.at.Compare(b.at) })
	for _, t := range turns {
		if wait := time.Until(t.at); wait > 0 {
			time.Sleep(wait + payQuantum)
		}
		if !t.at.Before(until) || ctx.Err() != nil {
			break
		}
		c.late.add(time.Since(t.at))
		t.d.pay(first)
		offered++
	}
	return offered
}

// pay promises a coin, or signs a ticket. The first time it is as many coins as
// set the device apart from others, so that they do not all settle in one second.
func (d *carrier) pay(first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := sent{at: time.Now(), coins: 1}
	var what any
	if d.c.rail == railPayword {
		if first {
			s.coins = uint64(d.index%(coinEvery-1)) + 1
		}
		what = payword.Tick{Session: d.session, Coins: s.coins}
	} else {
		o := money.Order{Amount: ticketPrice}
		if first && d.orders == 0 && len(d.sent) == 0 {
			o.Amount = firstTicket
		}
		for i := 0; i < len(o.ID); i += 8 {
			putUint64(o.ID[i:], rand.Uint64())
		}
		what = o
	}
	d.sent = append(d.sent, s)
	d.round(drive.Event{Core: d.payer, What: what})
}

func putUint64(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (8 * i))
	}
}

// settled waits for the last stamps; what has none by then is lost.
func (c *crowd) settled(ctx context.Context) error {
	limit := time.Now().Add(settleTimeout)
	for {
		waiting := 0
		for _, d := range c.devices {
			d.mu.Lock()
			waiting += len(d.sent)
			d.mu.Unlock()
		}
		if waiting == 0 || time.Now().After(limit) {
			return nil
		}
		select {
		case <-time.After(10 * poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// count says what the devices have stamps for.
func (c *crowd) count() (n doorCounts, err error) {
	n.counts = readKernel()
	n.Wire.Sent = c.wirer.Load()
	paid := money.Amount(0)
	for _, d := range c.devices {
		if m := d.client.Load(); m != nil {
			sent, received := m.Bytes()
			n.Wire.Sent += sent
			n.Wire.Received += received
		}
		d.mu.Lock()
		switch p := d.machine.Core(d.payer).(type) {
		case *payword.Payer:
			paid += p.Summary().Paid
		case *oneway.Payer:
			paid += p.Summary().Paid
		}
		d.mu.Unlock()
	}
	n.Booked = &paid
	return n, nil
}

// crowd runs the whole visit of the devices.
func (b *doorBench) crowd(ctx context.Context, r *DoorResult, progress func(uint64)) error {
	at, err := b.count(ctx, true)
	if err != nil {
		return err
	}
	r.StartRSSMiB = mib(at.gate.RSS)
	if _, err := b.ask(ctx, b.gate, "door devices", b.task()); err != nil {
		return err
	}
	n, err := b.ask(ctx, b.load, "door script", b.task())
	if err != nil {
		return err
	}
	t := b.task()
	t.Script, t.Count = n.Script, (b.Devices+fundedTogether-1)/fundedTogether
	t.Sat = (t.capacity() + fundingOutput) * fundedTogether
	if n, err = b.ask(ctx, b.gate, "door fund", t); err != nil {
		return err
	}
	t.Gifts, t.Tip = n.Gifts, n.Tip
	begin := time.Now()
	if _, err = b.ask(ctx, b.load, "door connect", t); err != nil {
		return err
	}
	if n, err = b.ask(ctx, b.load, "door propose", t); err != nil {
		return err
	}
	r.ConnectMs = figure(time.Since(begin).Seconds() * 1e3)
	begin = time.Now()
	t.Txs, t.Gifts = n.Txs, nil
	if n, err = b.ask(ctx, b.gate, "door publish", t); err != nil {
		return err
	}
	t.Tip = n.Tip
	if _, err = b.ask(ctx, b.load, "door channels", t); err != nil {
		return err
	}
	r.ChannelMs = figure(time.Since(begin).Seconds() * 1e3)
	if at, err = b.count(ctx, true); err != nil {
		return err
	}
	r.IdleRSSMiB = mib(at.gate.RSS)
	for _, warm := range []struct {
		phase string
		d     time.Duration
	}{{"first", paySecond}, {"warm", min(b.For/2, doorWarmUp)}} {
		if _, _, _, err := b.phase(ctx, warm.phase, warm.d, func(uint64) {}); err != nil {
			return err
		}
	}
	if err := b.profile(ctx); err != nil {
		return err
	}
	p, before, after, err := b.phase(ctx, "pay", b.For, progress)
	if err != nil {
		return err
	}
	r.measured(&p, &before, &after, true)
	if at, err = b.count(ctx, true); err != nil {
		return err
	}
	r.rested(&at)
	same := *at.gate.Booked == *at.load.Booked
	r.Conserved = &same
	return nil
}

// fundingOutput is the fee of an output of a funding transaction, in satoshi, with
// its part of the rest.
const fundingOutput = 100
