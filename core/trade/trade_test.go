package trade_test

import (
	"bytes"
	"strings"
	"testing"

	"coinop.dev/core/money"
	"coinop.dev/core/trade"
)

func every() []trade.Message {
	id := money.OrderID{1, 2}
	return []trade.Message{
		trade.Browse{},
		trade.Tariff{},
		trade.Tariff{Items: []trade.Item{{Name: "reading", Unit: "reading", Price: 1250}, {}}, PayTo: []string{"oneway://a@b:1", ""}},
		trade.Buy{Order: id, Item: "reading", Units: 1 << 63},
		trade.Goods{Order: id},
		trade.Goods{Order: id, Payload: bytes.Repeat([]byte{7}, trade.MaxPayload)},
		trade.Got{Order: id},
		trade.Decline{Order: id, Due: money.MaxAmount, Why: "paid too little"},
	}
}

func TestMessagesArriveAsTheyWereSent(t *testing.T) {
	for _, m := range every() {
		raw := m.Append(nil)
		got, err := trade.Decode(raw)
		if err != nil || !bytes.Equal(got.Append(nil), raw) || got.Core() != m.Core() {
			t.Errorf("%T: %v: sent %.80x, got %+v", m, err, raw, got)
		}
		for n := range min(len(raw), 300) {
			if _, err := trade.Decode(raw[:n]); err == nil {
				t.Errorf("%T: %d of %d bytes are taken for a message", m, n, len(raw))
			}
		}
		if _, err := trade.Decode(append(raw, 0)); err == nil {
			t.Errorf("%T: a byte too many is not noticed", m)
		}
	}
}

func TestLimits(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, m := range []trade.Message{
		trade.Goods{Payload: make([]byte, trade.MaxPayload+1)},
		trade.Buy{Item: long(trade.MaxName + 1)},
		trade.Tariff{Items: make([]trade.Item, trade.MaxItems+1)},
		trade.Tariff{PayTo: make([]string, 17)},
		trade.Tariff{PayTo: []string{long(513)}},
		trade.Decline{Due: money.MaxAmount + 1},
	} {
		if got, err := trade.Decode(m.Append(nil)); err == nil {
			t.Errorf("%T beyond its limit is read as %.60v", m, got)
		}
	}
	why := trade.Decline{Why: long(1000)}
	if got, err := trade.Decode(why.Append(nil)); err != nil || len(got.(trade.Decline).Why) != trade.MaxWhy {
		t.Errorf("a long reason is not cut: %v", err)
	}
	full := trade.Tariff{}
	for range trade.MaxItems {
		full.Items = append(full.Items, trade.Item{Name: long(trade.MaxName), Unit: long(trade.MaxName), Price: money.MaxAmount})
	}
	for range 16 {
		full.PayTo = append(full.PayTo, long(512))
	}
	if n := len(full.Append(nil)); n > 65535 {
		t.Errorf("the largest tariff has %d bytes, more than a message of BOLT 8", n)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range every() {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := trade.Decode(raw)
		if err != nil {
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, raw) {
			t.Errorf("%x is read, and written as %x", raw, again)
		}
	})
}
