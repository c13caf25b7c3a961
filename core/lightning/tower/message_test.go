package tower_test

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/lightning/tower"
)

func messages(t testing.TB) []tower.Message {
	l := open(t, commit.Anchors)
	j, id := l.justice(terms, l.state(1, 3))
	ses := tower.SessionID{1, 2}
	full := tower.Put{ID: ses, First: 7, Blobs: make([]tower.Blob, tower.MaxBatch)}
	free := terms
	free.Reward, free.Rates[1] = tower.Reward{}, 0
	return []tower.Message{
		tower.Ask{ID: ses, Rates: rates, Blobs: 5}, tower.Grant{ID: ses, Terms: terms, Taken: 3}, tower.Grant{ID: ses, Terms: free},
		tower.Reject{ID: ses, Why: "no"}, tower.Put{ID: ses, First: 9, Blobs: j.Seal(id)}, full,
		tower.Ack{ID: ses, Taken: 8}, tower.Delete{ID: ses}, tower.Deleted{ID: ses},
	}
}

func TestMessagesComeBack(t *testing.T) {
	types := map[uint16]bool{}
	for _, m := range messages(t) {
		raw := m.Append(nil)
		typ := binary.BigEndian.Uint16(raw)
		types[typ] = true
		if !tower.Owns(typ) || m.Core() != tower.ServerName && m.Core() != tower.ClientName {
			t.Errorf("%T is of nobody", m)
		}
		got, err := tower.Decode(raw)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%T: %v", m, err)
		}
		for n := range min(len(raw), 200) {
			if _, err := tower.Decode(raw[:n]); err == nil {
				t.Errorf("%T cut to %d bytes accepted", m, n)
			}
		}
		if len(raw) > 65535 {
			t.Errorf("%T is %d bytes", m, len(raw))
		}
	}
	if len(types) != 7 || tower.Owns(0x84ff) || tower.Owns(0x8502) || tower.Owns(0x850f) {
		t.Errorf("owns %v", types)
	}
	long := tower.Reject{Why: strings.Repeat("x", 1000)}
	if _, err := tower.Decode(long.Append(nil)); err != nil {
		t.Errorf("a long reason: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages(f) {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := tower.Decode(raw)
		if err == nil && !bytes.Equal(m.Append(nil), raw) {
			t.Errorf("%x decodes to %v, which encodes to %x", raw, m, m.Append(nil))
		}
	})
}
