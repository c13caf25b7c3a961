package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
)

// describe is one line for the transcript: the same for the same event, and
// without addresses of memory.
func describe(what any) string {
	switch ev := what.(type) {
	case step.Recv:
		over := ""
		if ev.Link != 0 {
			over = fmt.Sprintf(" over %d", ev.Link)
		}
		return "from " + ev.From[:min(9, len(ev.From))] + over + " " + describe(ev.Msg)
	case message.Message:
		return fmt.Sprintf("%T %x", ev, ev.Append(nil))
	case watch.Status:
		spender := ""
		if ev.Spender != nil {
			spender = ev.Spender.TxHash().String()
		}
		return fmt.Sprintf("status depth %d tip %d spent %s at %d", ev.Depth, ev.Tip, spender, ev.SpendDepth)
	case watch.Coins:
		return fmt.Sprintf("%s (tip %d)", describeCoins(ev), ev.Tip)
	case watch.Headers:
		if n := len(ev.Headers); n > 0 {
			return fmt.Sprintf("%d headers from %d to %v", n, ev.From, ev.Headers[n-1].BlockHash())
		}
		return "no headers"
	case step.Outcome:
		if p, ok := ev.Value.(receipt.Paid); ok {
			return fmt.Sprintf("paid %v", p.Entry())
		}
		return fmt.Sprintf("outcome %x %v", ev.ID, ev.Err)
	case spend.Ask:
		return fmt.Sprintf("ask %v %v", ev.Order.ID, ev.Order.Amount)
	case step.Rang, step.Linked, step.Unlinked, oneway.Close, payword.Close, money.Order:
		return fmt.Sprintf("%T %v", ev, ev)
	}
	return fmt.Sprintf("%T", what)
}

// forge returns a copy of a message with what is under its signature changed,
// or nil if the message has none: the rest is the peer's to say, and the link
// keeps strangers out.
func forge(raw []byte, r *rand.Rand) []byte {
	msg, err := message.Decode(raw)
	if err != nil {
		return nil
	}
	switch m := msg.(type) {
	case oneway.Ticket:
		more := money.Amount(r.Int64N(5000))
		m.Total += more
		m.Entries = slices.Clone(m.Entries)
		m.Entries[r.IntN(len(m.Entries))].Amount += more
		m.Sig[r.IntN(64)] ^= byte(1 + r.IntN(255))
		return m.Append(nil)
	case payword.Coins:
		switch r.IntN(3) {
		case 0:
			m.Word[r.IntN(32)] ^= byte(1 + r.IntN(255))
		case 1:
			m.Index = (m.Index + 1 + r.Uint64N(31)) % 32
		case 2:
			m.Epoch++
			m.Commit = &payword.Commitment{Epoch: m.Epoch, Start: r.Uint64N(100), Root: m.Word}
		}
		return m.Append(nil)
	case oneway.Taken, oneway.Offer, payword.Taken:
		bad := slices.Clone(raw)
		bad[18+r.IntN(len(bad)-18)] ^= byte(1 + r.IntN(255))
		return bad
	}
	return nil
}
