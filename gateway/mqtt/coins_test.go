package mqtt_test

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/channel/payword"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/gateway"
	"coinop.dev/gateway/mqtt"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/mem"
)

var (
	_ mqtt.Machine = (*engine.Machine)(nil)
	_ mqtt.Outlets = (*drive.Host)(nil)
	_ mqtt.Shop    = mqtt.Sell((*gateway.Shop)(nil))
	_ mqtt.Bus     = (*mqtt.Embedded)(nil)
	_ mqtt.Bus     = (*mqtt.External)(nil)
)

func secret(name string) keys.Secret {
	d := sha256.Sum256([]byte(name))
	s, _ := keys.SecretFromBytes(d[:])
	return s
}

// weather repeats, delays and loses messages.
type weather struct {
	mu     sync.Mutex
	random *rand.Rand
	live   sync.WaitGroup
}

func (w *weather) carry(send func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for copies := w.random.IntN(4); copies > 0; copies-- { // a quarter is lost
		delay := time.Duration(w.random.IntN(30)) * time.Millisecond
		w.live.Go(func() { time.Sleep(delay); send() })
	}
}

// A device pays forty orders in coins over a link that loses a quarter of all
// messages and repeats and reorders the others, both ways. Each order is paid
// once, and has its proof.
func TestCoinsInBadWeather(t *testing.T) {
	t.Parallel()
	till, device := secret("till"), secret("kettle")
	p := payword.Proposal{PayerNode: device.Public(), Number: 1, Coin: 1000, Length: 1024, Every: 500, Credit: 1000, Settle: "nobody"}
	answer, err := payword.Consider(p, payword.Policy{MaxCredit: money.MaxAmount}, till)
	if err != nil {
		t.Fatal(err)
	}
	terms := payword.Terms{Proposal: p, Answer: answer}
	payee, err := payword.NewPayee(terms, till)
	if err != nil {
		t.Fatal(err)
	}
	payer, err := payword.NewPayer(terms, device)
	if err != nil {
		t.Fatal(err)
	}

	db, err := mem.New(map[string][]byte{})
	if err != nil {
		t.Fatal(err)
	}
	m := engine.New(t.Context(), engine.Options{Key: till, DB: db})
	defer m.Close()
	if err := m.Host.Add(t.Context(), payword.PayeeName(terms.ID()), payee); err != nil {
		t.Fatal(err)
	}
	w := newWorld("kettle")
	w.devices["kettle"] = mqtt.Device{Name: "kettle", Key: device.Public()}
	d := mqtt.New(mqtt.Setup{Devices: w, Machine: m, Outlets: m.Host})
	b, err := mqtt.Listen(mqtt.Options{Addr: "127.0.0.1:0", Rate: 1e6, Burst: 1e6}, d)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	defer b.Close()
	c := connect(t, b.Addr().String(), "kettle", true)
	c.subscribe("coinop/default/kettle/command/pay")
	c.SetReadDeadline(time.Time{})

	own, err := mem.New(map[string][]byte{})
	if err != nil {
		t.Fatal(err)
	}
	host := drive.NewHost(own, func() step.Time { return step.Time(time.Now().UnixMilli()) })
	ctx, stop := context.WithCancel(t.Context())
	go host.Run(ctx)
	sky := &weather{random: rand.New(rand.NewPCG(3, 4))}
	defer func() { stop(); c.Close(); sky.live.Wait() }()
	peer := till.Public().PeerName()
	host.Outlet(peer, func(p step.Packet) {
		raw := p.Msg.(message.Message).Append(nil)
		sky.carry(func() { c.Publish(mqtt.Message{Topic: "coinop/default/kettle/event/pay", Payload: raw, QoS: 1}) })
	})
	name := payword.PayerName(terms.ID())
	opened, err := host.Await(name, payword.Opened)
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Add(ctx, name, payer); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			got, err := c.Read()
			if err != nil {
				return
			}
			in, ok := got.(mqtt.Message)
			if !ok {
				continue
			}
			msg, err := message.Decode(in.Payload)
			if err != nil {
				t.Error(err)
				return
			}
			sky.carry(func() { host.Tell(ctx, name, step.Recv{From: peer, Msg: msg}) })
		}
	}()
	go func() { // as if the link came up again and again: the time to say all again
		for n := uint64(1); ctx.Err() == nil; n++ {
			host.Tell(ctx, name, step.Linked{Peer: peer, Link: n})
			time.Sleep(40 * time.Millisecond)
		}
	}()
	if _, err := opened(ctx); err != nil {
		t.Fatal(err)
	}
	var paid sync.WaitGroup
	for i := range 40 {
		time.Sleep(5 * time.Millisecond)
		paid.Go(func() {
			o := money.Order{ID: money.OrderID{byte(i + 1)}, Amount: money.Amount(i%3+1) * 1000}
			ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			if _, err := host.Ask(ctx, name, o.ID.Key(), o); err != nil {
				t.Errorf("order %d: %v", i, err)
			}
		})
	}
	paid.Wait()
	var got payword.Summary
	m.Host.Do(t.Context(), func(m *drive.Machine) { got = m.Core(payword.PayeeName(terms.ID())).(*payword.Payee).Summary() })
	want := money.Amount(0)
	for i := range 40 {
		want += money.Amount(i%3+1) * 1000
	}
	if got.Paid != want {
		t.Errorf("the till has %v; %v were paid", got.Paid, want)
	}
}
