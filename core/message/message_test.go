package message_test

import (
	"bytes"
	"reflect"
	"testing"

	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/trade"
)

var samples = []message.Message{
	oneway.Ready{ID: oneway.ID{1}},
	oneway.Taken{ID: oneway.ID{2}, Stamped: receipt.Stamped{From: 1, To: 2, Total: 3}},
	payword.Ready{ID: payword.ID{3}},
	trade.Buy{Order: money.OrderID{4}, Item: "reading", Units: 5},
	trade.Browse{},
	&wire.Init{Features: wire.NewFeatures(wire.StaticRemoteKey, wire.Anchors.Optional())},
	&wire.UpdateAddHTLC{ID: 6, AmountMsat: 7, CLTVExpiry: 8},
	&wire.CommitmentSigned{HTLCSignatures: make([]keys.Signature, 2)},
	&wire.ChannelUpdate{ShortChannelID: 9, Extra: []byte{1}},
}

func TestEveryProtocolIsRead(t *testing.T) {
	for _, m := range samples {
		got, err := message.Decode(m.Append(nil))
		if err != nil || got == nil || got.Core() != m.Core() || !bytes.Equal(got.Append(nil), m.Append(nil)) {
			t.Errorf("%T: got %+v, %v", m, got, err)
		}
	}
}

// BOLT 1, "It's OK to be odd".
func TestUnknownTypes(t *testing.T) {
	for _, c := range []struct {
		raw     []byte
		ignored bool
	}{
		{[]byte{0xff, 0xff}, true},
		{[]byte{0x81, 0xff, 1, 2, 3}, true},
		{[]byte{0x00, 0x15, 9}, true},
		{[]byte{0xff, 0xfe}, false},
		{[]byte{0x81, 0x02, 1}, false},
		{[]byte{0x81}, false},
		{nil, false},
	} {
		if m, err := message.Decode(c.raw); m != nil || (err == nil) != c.ignored {
			t.Errorf("%x: %v, %v", c.raw, m, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range samples {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := message.Decode(raw)
		if err != nil || m == nil {
			return
		}
		again := m.Append(nil)
		if m.Core() == wire.Core {
			// It may have lost what BOLT 1 says to skip, but only that.
			if second, err := message.Decode(again); err != nil || !reflect.DeepEqual(second, m) {
				t.Errorf("%x is read as %+v, then as %+v, %v", raw, m, second, err)
			}
		} else if !bytes.Equal(again, raw) {
			t.Errorf("%x is read, and written as %x", raw, again)
		}
		m.Core()
	})
}
