package tower

import (
	"bytes"
	"testing"
)

// What a client seals is a stranger's bytes to the tower that opens it.
func FuzzBlob(f *testing.F) {
	j := &Justice{Delay: 144, Payout: append([]byte{0, 20}, make([]byte, 20)...), HTLCs: []HTLC{{Vout: 3, Offered: true, Expiry: 9}, {}, {}}}
	f.Add(j.appendMain(nil))
	f.Add(j.appendHTLCs(nil, 1))
	f.Add(j.appendHTLCs(nil, 2))
	if size := max(len(j.appendMain(nil)), len(j.appendHTLCs(nil, 1))); size > plainSize {
		f.Fatalf("a part is %d bytes; %d are sealed", size, plainSize)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got, parts, err := readMain(raw); err == nil {
			got.HTLCs = make([]HTLC, (parts-1)*htlcsPerBlob)
			if again := got.appendMain(nil); !bytes.HasPrefix(raw, again) {
				t.Errorf("%x is read as %x", raw, again)
			}
		}
		var got Justice
		if err := got.readHTLCs(raw); err == nil {
			if again := got.appendHTLCs(nil, 1); !bytes.HasPrefix(raw, again) {
				t.Errorf("%x is read as %x", raw, again)
			}
		}
	})
}
