package lab

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/money"
)

// visit runs a small door, and sees that nothing is left of it.
func visit(t *testing.T, o DoorOptions) DoorResult {
	t.Helper()
	o.Command, o.Dir = []string{os.Args[0]}, t.TempDir()
	o.Fill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := RunDoor(ctx, o, func(uint64) {})
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(o.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	return r
}

// Fifty devices pay a gateway over MQTT for two seconds, in coins and in tickets:
// every payment is stamped, and the till has what the devices have paid.
func TestDevicesAtTheDoor(t *testing.T) {
	for _, rail := range []string{railPayword, railOneway} {
		t.Run(rail, func(t *testing.T) {
			t.Parallel()
			r := visit(t, DoorOptions{Door: doorMQTT, Rail: rail, Devices: 50, For: 2 * time.Second})
			switch {
			case r.Conserved == nil || !*r.Conserved:
				t.Error("the devices' stamps and the till do not agree")
			case r.Pps == nil || *r.Pps < 40 || *r.Lost > 0 || *r.Refused > 0 || *r.Reconnects > 0:
				t.Errorf("%+v", r)
			case r.P99Ms == nil || r.GatewayCPUMs == nil || r.StoreBytes == nil || r.WireBytes == nil || *r.WireBytes < 100:
				t.Errorf("figures are missing: %+v", r)
			}
			var out bytes.Buffer
			WriteDoorTable(&out, []DoorResult{r})
			WriteDoorBench(&out, &r)
			for _, want := range []string{"p99 ms", "BenchmarkDoor/door=mqtt/rail=" + rail, "KiB/device"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is missing from\n%s", want, &out)
				}
			}
		})
	}
}

// The other doors serve who has prepaid, and the paywall keeps nothing of who has
// not.
func TestSessionsAtTheDoor(t *testing.T) {
	t.Run(doorHTTP, func(t *testing.T) {
		t.Parallel()
		r := visit(t, DoorOptions{Door: doorHTTP, Devices: 4, Past: 2000, For: time.Second})
		h := r.HTTP
		switch {
		case r.Pps == nil || *r.Refused > 0 || h == nil || h.BeyondMs == nil:
			t.Errorf("%+v %+v", r, h)
		case h.FloodCodes["402"]+h.FloodCodes["429"] == 0 || h.FloodCodes["200"] > 0:
			t.Errorf("the flood is answered %v", h.FloodCodes)
		case *h.FloodStoreBytes > 0:
			t.Errorf("the flood has written %v bytes", *h.FloodStoreBytes)
		}
		for _, p := range r.Pages {
			if strings.HasPrefix(p.Path, "/v1/orders") && p.Status != 200 {
				t.Errorf("%s: %d", p.Path, p.Status)
			}
		}
	})
	t.Run(doorCoAP, func(t *testing.T) {
		t.Parallel()
		r := visit(t, DoorOptions{Door: doorCoAP, Devices: 10, For: 2 * time.Second})
		if r.Pps == nil || *r.Pps < 8 || *r.Refused > 0 || *r.Lost > 0 {
			t.Errorf("%+v", r)
		}
	})
}

func TestDoorOptions(t *testing.T) {
	for _, o := range []DoorOptions{
		{Door: "window"}, {Door: doorMQTT, Rail: "fake"}, {Door: doorHTTP, Rail: railOneway}, {Door: doorMQTT, Devices: MaxDoorDevices + 1},
		{Door: doorMQTT, For: time.Millisecond}, {Door: doorMQTT, Store: "paper"}, {Door: doorHTTP, DTLS: true}, {Door: doorHTTP, Past: -1},
	} {
		o.Fill()
		if err := o.Check(); !errors.Is(err, money.Invalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
