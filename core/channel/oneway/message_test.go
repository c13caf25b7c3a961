package oneway_test

import (
	"bytes"
	"testing"

	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
)

func everyMessage(t testing.TB) []oneway.Message {
	terms, _ := newTerms(t, 1, 10_000*money.Sat)
	id := terms.ID()
	entries := []receipt.Entry{{Order: money.OrderID{1}, Amount: 5}, {Order: money.OrderID{2}, Amount: money.MaxAmount - 5}, {Order: money.OrderID{3}}}
	run := receipt.Run{Base: 1 << 40, Acked: 1<<40 - 3, Seq: 1<<40 + 2, Sizes: []int{1, 2}, Entries: entries}
	return []oneway.Message{
		oneway.Open{ID: id, Proposal: terms.Proposal},
		oneway.Accept{ID: id, Answer: terms.Answer},
		oneway.Reject{ID: id, Why: "no"},
		oneway.Funded{Terms: *terms},
		oneway.Ready{ID: id},
		oneway.Ticket{ID: id, Total: money.MaxAmount, Run: run, Sig: keys.Signature{9}},
		oneway.Taken{ID: id, Stamped: receipt.Stamped{From: 3, To: 300, Total: 7, Sig: [64]byte{8}}},
		oneway.Offer{ID: id, Total: 3, Fee: 184, Sig: keys.Signature{7}},
		oneway.Leave{ID: id},
	}
}

func TestMessagesArriveAsTheyWereSent(t *testing.T) {
	for _, m := range everyMessage(t) {
		raw := m.Append(nil)
		got, err := oneway.Decode(raw)
		if err != nil {
			t.Errorf("%T: %v", m, err)
			continue
		}
		if !bytes.Equal(got.Append(nil), raw) || got.Core() != m.Core() {
			t.Errorf("%T: sent %x, got %x", m, raw, got.Append(nil))
		}
		for n := range raw {
			if _, err := oneway.Decode(raw[:n]); err == nil {
				t.Errorf("%T: %d of %d bytes are taken for a message", m, n, len(raw))
			}
		}
		if _, err := oneway.Decode(append(raw, 0)); err == nil {
			t.Errorf("%T: a byte too many is not noticed", m)
		}
	}
}

// The largest ticket must fit a message of BOLT 8.
func TestTheLargestTicketFits(t *testing.T) {
	m := oneway.Ticket{Total: money.MaxAmount, Run: receipt.Run{Base: 1 << 62}}
	for range receipt.MaxPending {
		m.Sizes = append(m.Sizes, 1)
		m.Entries = append(m.Entries, receipt.Entry{Amount: money.MaxAmount / receipt.MaxPending})
	}
	if n := len(m.Append(nil)); n > 65535 {
		t.Errorf("%d orders make a message of %d bytes", receipt.MaxPending, n)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range everyMessage(f) {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := oneway.Decode(raw)
		if err != nil {
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, raw) {
			t.Errorf("%x is read, and written as %x", raw, again)
		}
	})
}
