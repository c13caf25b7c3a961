package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	wire "coinop.dev/core/coap"
	"coinop.dev/core/money"
	gatewaycoap "coinop.dev/gateway/coap"
	"coinop.dev/gateway/mqtt"
	"coinop.dev/world/link/coap"
)

// readers are devices that read a meter over CoAP, each from a session that it has
// prepaid. The meter is a device too, at the MQTT door.
type readers struct {
	all        []*reader
	meter      *mqtt.Client
	took, late *histogram
	done       atomic.Int64
	refused    atomic.Uint64
	lost       atomic.Uint64
}

type reader struct {
	client *coap.Client
	ask    wire.Message
}

func newReaders() *readers { return &readers{took: new(histogram), late: new(histogram)} }

func (r *readers) close() {
	for _, one := range r.all {
		one.client.Close()
	}
	if r.meter != nil {
		r.meter.Close()
	}
}

func (r *readers) paid() *atomic.Int64 { return &r.done }

func (r *readers) count() (c doorCounts, err error) {
	c.counts = readKernel()
	return c, nil
}

func (r *readers) do(ctx context.Context, what string, t *doorTask) (*doorNews, error) {
	switch what {
	case "door connect":
		return &doorNews{}, r.connect(ctx, t)
	case "door visit":
		p, err := r.visit(ctx, t)
		return &doorNews{Went: p}, err
	}
	return nil, fmt.Errorf("no reader does %q", what)
}

// connect has the meter measure once, and every reader buy its session.
func (r *readers) connect(ctx context.Context, t *doorTask) (err error) {
	logins, err := readLogins(t.Dir)
	if err != nil {
		return err
	}
	r.meter, err = mqtt.Connect(ctx, mqtt.ClientOptions{
		Addr:  strings.TrimPrefix(t.At.Addrs[doorMQTT], "mqtt://"),
		Login: mqtt.Login{ClientID: readItem, User: readItem, Password: logins[readItem].password},
	})
	if err != nil {
		return fmt.Errorf("the meter: %w", err)
	}
	measured := mqtt.Topic{Tenant: mqtt.NoTenant, Name: readItem, Class: mqtt.Event, Kind: mqtt.Meter}
	if _, err := r.meter.Publish(mqtt.Message{Topic: measured.String(), Payload: []byte(`{"wh":123456}`), QoS: 1}); err != nil {
		return err
	}
	if _, err := r.meter.Read(); err != nil { // its acknowledgement
		return err
	}
	r.all = make([]*reader, t.Devices)
	var mu sync.Mutex
	var buying sync.WaitGroup
	room := make(chan struct{}, connecting)
	for i := range r.all {
		room <- struct{}{}
		buying.Go(func() {
			defer func() { <-room }()
			one, fault := openReader(ctx, t, i, logins)
			mu.Lock()
			defer mu.Unlock()
			r.all[i], err = one, errors.Join(err, fault)
		})
	}
	buying.Wait()
	r.all = slices.DeleteFunc(r.all, func(one *reader) bool { return one == nil })
	return err
}

func openReader(ctx context.Context, t *doorTask, i int, logins map[string]login) (*reader, error) {
	at, o := t.At.Addrs[doorCoAP], coap.Options{}
	if t.DTLS {
		name := deviceName(i)
		at, o.Name, o.Key = t.At.Addrs["coaps"], name, gatewaycoap.Device{Secret: logins[name].secret}.PSK()
	}
	client, err := coap.Dial(ctx, at, o)
	if err != nil {
		return nil, err
	}
	one := &reader{client: client}
	answer, err := client.Buy(ctx, fmt.Sprintf("/%s?session=%d", readItem, readerUnits), func(ctx context.Context, o wire.Offer) (p wire.Proof, err error) {
		if len(o.Ways) == 0 {
			return p, errors.New("the gateway's offer names no way to pay it")
		}
		receipt, err := payPlay(ctx, t.At.Addrs["lab"], money.Order{ID: o.Order, To: payeeOf(o.Ways[0].Pay), Amount: o.Due})
		p = wire.Proof{Token: o.Token, Session: true, Receipt: &wire.Receipt{Order: receipt.Order, Amount: receipt.Amount, To: receipt.To, At: receipt.At, Proof: receipt.Proof}}
		one.ask = coap.Paid("/"+readItem, p)
		return p, err
	})
	if err == nil && (answer.Code != wire.Content || one.ask.Code != wire.GET) {
		err = fmt.Errorf("reader %d has no session: %v %.200q", i, answer.Code, answer.Payload)
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return one, nil
}

// readerUnits is what a session is bought for: a reading a second for an hour.
const readerUnits = 3600

// payeeOf is whom a payment URI pays.
func payeeOf(uri string) string {
	payee, _, _ := strings.Cut(uri, "?")
	return payee
}

// visit has every reader read once a second.
func (r *readers) visit(ctx context.Context, t *doorTask) (*doorPhase, error) {
	r.took, r.late = new(histogram), new(histogram)
	r.done.Store(0)
	refused, lost := r.refused.Load(), r.lost.Load()
	var offered atomic.Uint64
	begin := time.Now()
	var reading sync.WaitGroup
	for i, one := range r.all {
		reading.Go(func() {
			place := time.Duration(i) * paySecond / time.Duration(len(r.all))
			for second := time.Duration(0); second < t.For && ctx.Err() == nil; second += paySecond {
				at := begin.Add(second + place + rand.N(payJitter))
				time.Sleep(time.Until(at))
				if time.Since(begin) >= t.For {
					return
				}
				offered.Add(1)
				r.late.add(time.Since(at))
				r.read(ctx, one)
			}
		})
	}
	reading.Wait()
	p := &doorPhase{Took: time.Since(begin), Offered: offered.Load(), Done: uint64(r.done.Load()), Refused: r.refused.Load() - refused, Lost: r.lost.Load() - lost, Late: r.late.quantile(0.99)}
	p.quantiles(r.took)
	return p, nil
}

func (r *readers) read(ctx context.Context, one *reader) {
	sent := time.Now()
	answer, err := one.client.Do(ctx, one.ask)
	switch {
	case err != nil:
		r.lost.Add(1)
	case answer.Code != wire.Content:
		r.refused.Add(1)
	default:
		r.took.add(time.Since(sent))
		r.done.Add(1)
	}
}

// readers runs the whole visit of those who read.
func (b *doorBench) readers(ctx context.Context, r *DoorResult, progress func(uint64)) error {
	at, err := b.count(ctx, true)
	if err != nil {
		return err
	}
	r.StartRSSMiB = mib(at.gate.RSS)
	if _, err := b.ask(ctx, b.gate, "door devices", b.task()); err != nil {
		return err
	}
	begin := time.Now()
	if _, err := b.ask(ctx, b.load, "door connect", b.task()); err != nil {
		return err
	}
	r.ConnectMs = figure(time.Since(begin).Seconds() * 1e3)
	if at, err = b.count(ctx, true); err != nil {
		return err
	}
	r.IdleRSSMiB = mib(at.gate.RSS)
	if _, _, _, err := b.phase(ctx, "warm", min(b.For/2, doorWarmUp), func(uint64) {}); err != nil {
		return err
	}
	if err := b.profile(ctx); err != nil {
		return err
	}
	p, before, after, err := b.phase(ctx, "read", b.For, progress)
	if err != nil {
		return err
	}
	r.measured(&p, &before, &after, true)
	if at, err = b.count(ctx, true); err == nil {
		r.rested(&at)
	}
	return err
}
