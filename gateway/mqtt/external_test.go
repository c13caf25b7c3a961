package mqtt_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"coinop.dev/core/trade"
	"coinop.dev/gateway/mqtt"
)

func join(t testing.TB, w *world, addr, name string) *mqtt.External {
	t.Helper()
	d := mqtt.New(w.setup())
	x, err := mqtt.Dial(t.Context(), mqtt.Broker{URL: "mqtt://" + addr, Name: name}, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close(); d.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := x.AwaitConnection(ctx); err != nil {
		t.Fatal(err)
	}
	return x
}

// The same device and the same buyer, behind mosquitto.
func TestTheUsersOwnBroker(t *testing.T) {
	t.Parallel()
	addr := freePort(t)
	mosquitto(t, addr)
	w := newWorld("kettle")
	x := join(t, w, addr, "gw-1")
	c := connect(t, addr, "kettle", true)
	c.subscribe("coinop/default/kettle/command/+", "coinop/default/kettle/offer", "coinop/offers/b/+")
	c.tell(mqtt.Message{Topic: "coinop/default/kettle/event/up", Payload: []byte(`{"online":true,"firmware":"1.0"}`)})
	if m := next[mqtt.Message](c); m.Topic != "coinop/default/kettle/offer" {
		t.Fatalf("%+v", m)
	}
	c.publish(mqtt.Message{Topic: "coinop/default/kettle/event/pay", Payload: trade.Browse{}.Append(nil)})
	if m := next[mqtt.Message](c); m.Topic != "coinop/default/kettle/command/pay" {
		t.Fatalf("%+v", m)
	}
	request := `{"id":"a","do":"offer","service":"tea","units":2}`
	c.publish(mqtt.Message{Topic: "coinop/offers/b", Payload: []byte(request), Reply: "coinop/offers/b/mine", Match: []byte("m")})
	if m := next[mqtt.Message](c); m.Topic != "coinop/offers/b/mine" || string(m.Match) != "m" || parse(t, m.Payload).Offer == nil {
		t.Fatalf("%+v", m)
	}
	// A response topic that is not the buyer's own is not answered on.
	c.publish(mqtt.Message{Topic: "coinop/offers/b", Payload: []byte(request), Reply: "coinop/default/kettle/command/open"})
	if m := next[mqtt.Message](c); m.Topic != "coinop/offers/b/reply" {
		t.Fatalf("%+v", m)
	}
	if got := x.Connected(); !slices.Equal(got, []string{"default/kettle"}) {
		t.Errorf("connected: %v", got)
	}
	// The price list is retained.
	late := connect(t, addr, "lamp", false)
	late.subscribe("coinop/default/kettle/offer")
	if m := next[mqtt.Message](late); !m.Retain {
		t.Errorf("%+v", m)
	}
	c.tell(mqtt.Message{Topic: "coinop/default/kettle/event/up", Payload: []byte(`{"online":false}`)})
	w.until(t, "it is offline", func() bool { return !w.online["kettle"] })
}

func TestTheUsersBrokerComesBack(t *testing.T) {
	t.Parallel()
	addr := freePort(t)
	stop := mosquitto(t, addr)
	w := newWorld("kettle")
	x := join(t, w, addr, "gw-1")
	pay := func() error {
		c, err := dial(t, addr, "kettle", "k", true)
		if err != nil {
			return err
		}
		defer c.Close()
		c.Subscribe(1, "coinop/default/kettle/command/+")
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
			c.Publish(mqtt.Message{Topic: "coinop/default/kettle/event/pay", Payload: trade.Browse{}.Append(nil)})
			c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			for {
				got, err := c.Read()
				if err != nil {
					break
				}
				if _, ok := got.(mqtt.Message); ok {
					return nil
				}
			}
			c.Close()
			if c, err = dial(t, addr, "kettle", "k", true); err != nil {
				return err
			}
			c.Subscribe(1, "coinop/default/kettle/command/+")
		}
		return fmt.Errorf("no answer")
	}
	if err := pay(); err != nil {
		t.Fatal(err)
	}
	stop()
	w.until(t, "it is noticed", func() bool {
		return x.Publish(mqtt.Message{Topic: "coinop/default/kettle/command/pay"}) == mqtt.ErrAway
	})
	mosquitto(t, addr)
	if err := pay(); err != nil {
		t.Fatal(err)
	}
}

// Two gateways share twenty devices: each message is served once, by the same
// gateway for the same device. When one goes, the other has them all.
func TestGatewaysShareTheDevices(t *testing.T) {
	t.Parallel()
	addr := freePort(t)
	mosquitto(t, addr)
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprint("d", i))
	}
	one, two := newWorld(names...), newWorld(names...)
	a := join(t, one, addr, "gw-1")
	b := join(t, two, addr, "gw-2")
	time.Sleep(100 * time.Millisecond) // they have heard of one another
	c := connect(t, addr, "all", true)
	const rounds = 5
	say := func() {
		for range rounds {
			for _, n := range names {
				c.publish(mqtt.Message{Topic: "coinop/default/" + n + "/event/meter", Payload: []byte("x"), QoS: 1})
			}
		}
	}
	metered := func(w *world) (n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.metered)
	}
	say()
	one.until(t, "all are served", func() bool { return len(one.metered)+metered(two) >= rounds*len(names) })
	time.Sleep(100 * time.Millisecond)
	if n := metered(one) + metered(two); n != rounds*len(names) {
		t.Errorf("%d messages are served %d times", rounds*len(names), n)
	}
	mine, theirs := a.Connected(), b.Connected()
	if len(mine)+len(theirs) != len(names) || len(mine) == 0 || len(theirs) == 0 {
		t.Errorf("%d and %d of %d devices", len(mine), len(theirs), len(names))
	}
	for _, n := range mine {
		if slices.Contains(theirs, n) {
			t.Errorf("both have %s", n)
		}
	}
	b.Close()
	time.Sleep(100 * time.Millisecond)
	before := metered(one)
	say()
	one.until(t, "the other has them all", func() bool { return len(one.metered) == before+rounds*len(names) })
	if got := a.Connected(); len(got) != len(names) {
		t.Errorf("%d of %d devices", len(got), len(names))
	}
}
