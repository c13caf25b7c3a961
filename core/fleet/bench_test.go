package fleet_test

import (
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A sale by a device: its command signed and its acknowledgement checked.
func BenchmarkDelivered(b *testing.B) {
	for name, key := range map[string]keys.Secret{"key": secret("tap"), "shared": {}} {
		b.Run(name, func(b *testing.B) {
			h := newHouse(b)
			h.must(fleet.Add{Devices: []fleet.Profile{{Name: "tap", Key: public(key)}}})
			shared := keys.Secret{}
			if key.IsZero() {
				shared = fleet.Secret(h.config.Root, "tap", h.device("tap").Generation)
			}
			for n := range b.N {
				fx := h.fleet.Step(step.Input{At: noon, Events: []any{deliver(n, "tap", 0)}})
				c := one[fleet.Command](b, fx)
				a := ack(c, uint64(n+1)).Seal(key, shared)
				fx = h.fleet.Step(step.Input{At: noon, Events: []any{fleet.Acked{Name: "tap", Ack: a}}})
				if d := one[earn.Delivered](b, fx); d.Err != nil {
					b.Fatal(d.Err)
				}
			}
		})
	}
}

func BenchmarkSpend(b *testing.B) {
	h := newHouse(b)
	h.tap("tap", fleet.Limits{Total: money.MaxAmount})
	for n := range b.N {
		h.fleet.Step(step.Input{At: noon, Events: []any{spendOf("tap", n, 1), fleet.Spent{Device: "tap", ID: id(n)}}})
	}
}
