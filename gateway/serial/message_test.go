package serial_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"coinop.dev/core/money"
	door "coinop.dev/gateway/serial"
)

var samples = []door.Message{
	door.Price{Service: "beer", Unit: "l", Per: 1, Amount: 1000, Text: "A beer"},
	door.Ask{Nonce: 7, Service: "beer", Units: 2},
	door.Prepay{Nonce: 8, Service: "beer", Units: 200},
	door.Offer{Nonce: 7, Order: money.OrderID{1}, Service: "beer", Units: 2, Due: 2000, Until: 1_800_000_000_000, Pay: "lightning:lnbc1", Token: []byte{1, 2}},
	door.State{Order: money.OrderID{1}, State: "paid", Why: "x"},
	door.Meter{Session: money.OrderID{2}, Service: "beer", Total: 3, Reading: []byte{4}},
	door.Left{Session: money.OrderID{2}, Total: 3, Amount: 4, Go: true},
	door.No{Nonce: 9, Why: "sold out"},
}

func TestMessages(t *testing.T) {
	for i, m := range samples {
		raw := m.Append(nil)
		if raw[0] != 0x91 || !door.Owns(uint16(raw[0])<<8|uint16(raw[1])) {
			t.Errorf("%T has type %x", m, raw[:2])
		}
		if got, err := door.Decode(raw); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("sample %d: %+v, %v", i, got, err)
		}
		if _, err := door.Decode(raw[:len(raw)-1]); err == nil {
			t.Errorf("sample %d is read though its end is missing", i)
		}
	}
	if raw := (door.No{Why: strings.Repeat("x", 999)}).Append(nil); len(raw) > 210 {
		t.Errorf("a reason of %d bytes", len(raw))
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range samples {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if m, err := door.Decode(raw); err == nil && !bytes.Equal(m.Append(nil), raw) {
			t.Errorf("%x is read, and written as %x", raw, m.Append(nil))
		}
	})
}
