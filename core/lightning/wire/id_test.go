package wire_test

import (
	"strings"
	"testing"

	"coinop.dev/core/lightning/wire"
)

// The example of BOLT 7, and the ends of each part.
func TestSCID(t *testing.T) {
	id, ok := wire.NewSCID(539268, 845, 1)
	if !ok || id != 0x083a8400034d0001 || id.String() != "539268x845x1" {
		t.Errorf("got %v, %x", id, uint64(id))
	}
	if id.Block() != 539268 || id.TxIndex() != 845 || id.Output() != 1 {
		t.Errorf("got %d, %d, %d", id.Block(), id.TxIndex(), id.Output())
	}
	for _, text := range []string{"539268x845x1", "0x0x0", "16777215x16777215x65535"} {
		if id, err := wire.ParseSCID(text); err != nil || id.String() != text {
			t.Errorf("%s: got %v, %v", text, id, err)
		}
	}
	for _, text := range []string{"", "1x2", "1x2x3x4", "16777216x0x0", "0x16777216x0", "0x0x65536", "-1x0x0", "1x 2x3", "ax0x0", strings.Repeat("1", 1000)} {
		if id, err := wire.ParseSCID(text); err == nil {
			t.Errorf("%q is taken for %v", text, id)
		}
	}
	if _, ok := wire.NewSCID(1<<24, 0, 0); ok {
		t.Error("a block of 25 bits is taken")
	}
	if _, ok := wire.NewSCID(0, 1<<24, 0); ok {
		t.Error("a transaction of 25 bits is taken")
	}
}

// BOLT 2: the output's index changes the last two bytes.
func TestChannelID(t *testing.T) {
	txid := fill32(0xf)
	got := wire.NewChannelID(txid, 0x0102)
	if want := strings.Repeat("0f", 30) + "0e0d"; got.String() != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if wire.NewChannelID(txid, 0) != wire.ChannelID(txid) {
		t.Error("output 0 changes the ID")
	}
}
