package coap

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func FuzzSplit(f *testing.F) {
	f.Add([]byte{0, 1, 7, 0, 0, 0, 2, 8, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		msgs, err := split(b)
		if err != nil {
			return
		}
		var again []byte
		for _, m := range msgs {
			again = append(binary.BigEndian.AppendUint16(again, uint16(len(m))), m...)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x is split, and joined to %x", b, again)
		}
	})
}
