package gossip_test

import (
	"bytes"
	"testing"

	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/message"
)

func TestFrame(t *testing.T) {
	f := gossip.Frame{Ledger: gossip.Lattice, Raw: []byte("RA\x15\x15\x14\x0c\x00\x00")}
	got, err := message.Decode(f.Append(nil))
	if back, ok := got.(gossip.Frame); err != nil || !ok || back.Core() != "lattice" || !bytes.Equal(back.Raw, f.Raw) {
		t.Errorf("%v came back as %v: %v", f, got, err)
	}
	largest := gossip.Frame{Ledger: gossip.Tangle, Raw: make([]byte, gossip.MaxFrame)}.Append(nil)
	if len(largest) > 65535 {
		t.Errorf("the largest frame is %d bytes", len(largest))
	}
	for name, raw := range map[string][]byte{
		"no such ledger": gossip.Frame{Ledger: 9, Raw: f.Raw}.Append(nil),
		"too large":      gossip.Frame{Ledger: gossip.Tangle, Raw: make([]byte, gossip.MaxFrame+1)}.Append(nil),
		"a byte more":    append(f.Append(nil), 0),
	} {
		if _, err := gossip.Decode(raw); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(gossip.Frame{Ledger: gossip.Tangle, Raw: []byte("raw")}.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		frame, err := gossip.Decode(raw)
		if err == nil && !bytes.Equal(frame.Append(nil), raw) {
			t.Errorf("%x comes back as %x", raw, frame.Append(nil))
		}
	})
}
