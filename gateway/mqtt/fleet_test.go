package mqtt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/gateway/mqtt"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/mem"
)

// realFleet is the fleet's core behind the door.
type realFleet struct {
	*world
	host *drive.Host
}

func (f realFleet) Seen(name string, online bool, firmware string) {
	f.world.Seen(name, online, firmware)
	f.host.Tell(context.Background(), fleet.Name, fleet.Seen{Name: name, Online: online, Firmware: firmware})
}

func (f realFleet) Acked(name string, a fleet.Ack) {
	f.host.Tell(context.Background(), fleet.Name, step.Recv{From: fleet.Outlet(name), Msg: a})
}

// book is the till's place: it keeps what was delivered.
type book struct{ got chan earn.Delivered }

func (b book) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		if recv, ok := event.(step.Recv); ok {
			if d, ok := recv.Msg.(earn.Delivered); ok {
				b.got <- d
			}
		}
	}
	return fx
}

// The fleet's own commands reach a device with a key as messages, one with a
// secret as JSON, also when they were given while it was away; the signed
// acknowledgement makes the order delivered.
func TestTheFleetCommands(t *testing.T) {
	t.Parallel()
	for _, withKey := range []bool{true, false} {
		node, root, device := secret("gateway"), secret("root"), secret("kettle")
		db, err := mem.New(map[string][]byte{})
		if err != nil {
			t.Fatal(err)
		}
		m := engine.New(t.Context(), engine.Options{Key: node, DB: db})
		t.Cleanup(func() { m.Close() })
		b := book{make(chan earn.Delivered, 4)}
		profile, shared := fleet.Profile{Name: "kettle"}, keys.Secret{}
		w := newWorld()
		w.devices["kettle"] = mqtt.Device{Name: "kettle"}
		if withKey {
			profile.Key = device.Public()
			w.devices["kettle"] = mqtt.Device{Name: "kettle", Key: profile.Key}
		}
		for name, core := range map[string]drive.Core{fleet.Name: fleet.New(fleet.Config{Root: root, Node: node}), earn.Name: b} {
			if err := m.Host.Add(t.Context(), name, core); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := m.Host.Ask(t.Context(), fleet.Name, "add", fleet.Add{Ask: "add", Devices: []fleet.Profile{profile}}); err != nil {
			t.Fatal(err)
		}
		m.Host.Do(t.Context(), func(m *drive.Machine) {
			if is, _ := m.Core(fleet.Name).(*fleet.Fleet).Device("kettle", 0); !withKey {
				shared = fleet.Secret(root, "kettle", is.Generation)
			}
		})
		door := mqtt.New(mqtt.Setup{Devices: realFleet{w, m.Host}, Machine: m, Outlets: m.Host})
		bus, err := mqtt.Listen(mqtt.Options{Addr: "127.0.0.1:0"}, door)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { bus.Close(); door.Close() })

		order := money.OrderID{7}
		m.Host.Tell(t.Context(), fleet.Name, step.Recv{From: earn.Name, Msg: earn.Deliver{Order: order, Item: "tea", Units: 1, Device: "kettle"}})
		time.Sleep(20 * time.Millisecond) // it is away
		client, err := mqtt.Connect(t.Context(), mqtt.ClientOptions{
			Addr: bus.Addr().String(), Login: mqtt.Login{ClientID: "k", User: "kettle", Password: "secret kettle"}, V5: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		c := thing{client, t}
		start := time.Now()
		c.subscribe("coinop/default/kettle/command/+")
		var command fleet.Command
		for command.Seq == 0 { // its policy comes too
			in := next[mqtt.Message](c)
			if !withKey {
				if in.Topic == "coinop/default/kettle/command/open" {
					err = json.Unmarshal(in.Payload, &command)
				}
			} else if msg, bad := message.Decode(in.Payload); bad != nil {
				err = bad
			} else if m, ok := msg.(fleet.Command); ok {
				command = m
			}
			if err != nil {
				t.Fatalf("%s: %v", in.Payload, err)
			}
		}
		if !command.Verify(node.Public(), profile.Key, shared) || command.Order != order || command.Verb != fleet.Open {
			t.Fatalf("%+v", command)
		}
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("it had to wait %v for what was outstanding", waited)
		}
		ack := fleet.Ack{Device: "kettle", Seq: command.Seq, Order: order, Counter: 1, OK: true, Reading: []byte("1 cup")}.Seal(device, shared)
		raw := ack.Append(nil)
		if !withKey {
			if raw, err = json.Marshal(ack); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // repeated, as QoS 1 may
			if v := c.tell(mqtt.Message{Topic: "coinop/default/kettle/event/ack", Payload: raw}); v.Code != mqtt.Success {
				t.Fatalf("%+v", v)
			}
		}
		select {
		case d := <-b.got:
			if d.Order != order || d.Err != nil || !bytes.Contains(d.Ack, []byte("1 cup")) {
				t.Errorf("%+v", d)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("it is not delivered")
		}
		time.Sleep(20 * time.Millisecond)
		if len(b.got) != 0 {
			t.Error("delivered twice")
		}
	}
}
