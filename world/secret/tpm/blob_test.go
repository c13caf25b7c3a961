package tpm

import (
	"bytes"
	"testing"
)

func FuzzParseBlob(f *testing.F) {
	good := blob{
		Format: format, Primary: make([]byte, nameSize), Public: []byte{1}, Private: []byte{2},
		PCRs: []pcr{{0, make([]byte, 32)}, {7, make([]byte, 32)}}, Pin: true, Counter: nvCounter(firstIndex),
	}
	f.Add(good.marshal())
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := parseBlob(raw)
		if err != nil {
			return
		}
		once := b.marshal()
		if b, err = parseBlob(once); err != nil || !bytes.Equal(b.marshal(), once) {
			t.Errorf("%s does not come back: %v", once, err)
		}
	})
}

func FuzzParsePayload(f *testing.F) {
	f.Add(payload{offset: 1 << 60, secret: make([]byte, 64)}.marshal())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if p, err := parsePayload(raw); err == nil && !bytes.Equal(p.marshal(), raw) {
			t.Errorf("%x does not come back", raw)
		}
	})
}
