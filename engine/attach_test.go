package engine_test

import (
	"testing"
	"time"

	"coinop.dev/core/message"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/world/store/mem"
)

// asker is a core that asks whoever speaks to it what is for sale.
type asker struct{}

func (asker) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		if got, ok := event.(step.Recv); ok {
			fx.Send = append(fx.Send, step.Packet{To: got.From, Msg: trade.Browse{}})
		}
	}
	return fx
}

// A device behind a broker: its messages reach the core, the core's answers reach
// the broker, and nothing of it is left when it goes.
func TestAttach(t *testing.T) {
	db, err := mem.New(map[string][]byte{})
	if err != nil {
		t.Fatal(err)
	}
	m := engine.New(t.Context(), engine.Options{Key: secret("broker"), DB: db})
	defer m.Close()
	if err := m.Host.Add(t.Context(), trade.Seller, asker{}); err != nil {
		t.Fatal(err)
	}
	device := secret("device").Public()
	first, second := make(chan message.Message, 4), make(chan message.Message, 4)
	attach := func(to chan message.Message) (func(message.Message), func()) {
		receive, detach, err := m.Attach(device, func(msg message.Message) { to <- msg })
		if err != nil {
			t.Fatal(err)
		}
		return receive, detach
	}
	hears := func(c chan message.Message) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(5 * time.Second):
			t.Fatal("no answer")
		}
	}
	receive, detachFirst := attach(first)
	receive(trade.Browse{})
	hears(first)

	// It comes back by another connection before the old one is known to be gone.
	receive, detach := attach(second)
	detachFirst()
	receive(trade.Browse{})
	hears(second)

	detach()
	m.Send(device, trade.Browse{})
	if len(first)+len(second) != 0 || len(m.Peers()) != 0 {
		t.Fatalf("%d messages and %d peers after it has gone", len(first)+len(second), len(m.Peers()))
	}
}
