package node

import (
	"fmt"
	"strings"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// A ChannelSummary is one channel for people.
type ChannelSummary struct {
	ID         ln.ChannelID `json:"-"`
	Channel    string       `json:"channel"`
	SCID       string       `json:"short_channel_id,omitempty"`
	Peer       keys.Public  `json:"peer"`
	Funding    string       `json:"funding"`
	State      string       `json:"state"`
	Usable     bool         `json:"usable"`
	Type       string       `json:"type"`
	Opener     bool         `json:"opener"`
	Public     bool         `json:"public"`
	Capacity   int64        `json:"capacity_sat"`
	Local      money.Amount `json:"local_msat"`
	Remote     money.Amount `json:"remote_msat"`
	Spendable  money.Amount `json:"spendable_msat"`
	Receivable money.Amount `json:"receivable_msat"`
	HTLCs      int          `json:"htlcs"`
	Dust       money.Amount `json:"dust_in_flight_msat"`
	Commitment uint64       `json:"commitment"`
	Depth      int32        `json:"depth"`
	SpendDepth int32        `json:"spend_depth,omitempty"`
	Failure    string       `json:"failure,omitempty"`
	// Unguarded is how many revoked commitments the watchtower has not got yet, for
	// whoever knows its client to fill in.
	Unguarded int `json:"unguarded,omitempty"`
}

// A Summary is the node for people.
type Summary struct {
	Node     keys.Public      `json:"node"`
	Tip      int32            `json:"tip"`
	Channels []ChannelSummary `json:"channels"`
	// Value at risk: what is in flight and too small for the chain to enforce.
	Dust    money.Amount `json:"dust_in_flight_msat"`
	MaxDust money.Amount `json:"max_dust_in_flight_msat"` // of one channel
	Paying  int          `json:"paying"`
	// Held is what payers have paid and the till has not decided about.
	Held    money.Amount `json:"held_msat"`
	Holding int          `json:"holding"` // payments
	Graph   int          `json:"graph_channels"`
	CanSend money.Amount `json:"can_send_msat"`
	CanTake money.Amount `json:"can_receive_msat"`
	// One channel more, as large as the largest one or as those that are opened
	// automatically, lets its opener send so much.
	OneMore  money.Amount `json:"one_more_channel_msat"`
	Sentence string       `json:"liquidity"`
}

// newChannel is the capacity, in satoshi, of the next channel where there is none
// to go by.
const newChannel = 1_000_000

// Summary reads the node.
func (n *Node) Summary() Summary {
	s := Summary{Node: n.id, Tip: n.tip, MaxDust: n.MaxDust, Paying: len(n.paying), Graph: n.graph.Channels()}
	for _, a := range n.arrived {
		if a.word == none {
			s.Held, s.Holding = s.Held+a.amount, s.Holding+1
		}
	}
	var l liquidity
	next := int64(0) // the capacity of the channel after these
	for _, c := range n.ordered() {
		v := c.Value()
		cs := ChannelSummary{
			ID: c.ID, Channel: c.ID.String(), Peer: c.Peer, Funding: c.Commit.Funding.String(), State: c.Status().String(),
			Usable: c.Usable(), Type: c.Commit.Type.String(), Opener: c.Commit.Opener == commit.Local, Public: c.Announce, Capacity: c.Commit.Capacity,
			Local: v.Local - v.Paid + v.Got, Remote: v.Remote - v.Got + v.Paid, HTLCs: v.HTLCs, Dust: v.Dust, Commitment: c.Number(), Depth: c.status.Depth,
			SpendDepth: c.status.SpendDepth, Failure: c.Failure(),
		}
		if scid := c.SCID(); scid != 0 {
			cs.SCID = scid.String()
		}
		if c.Status() == channel.Open {
			cs.Spendable, cs.Receivable = v.Spendable, v.Receivable
		}
		l.add(c.Channel, v)
		next = max(next, c.Commit.Capacity)
		s.Dust += v.Dust
		s.Channels = append(s.Channels, cs)
	}
	s.CanSend, s.CanTake = l.now.send, l.now.take
	if n.Auto.Below > 0 {
		next = n.Auto.Capacity
	}
	s.OneMore = n.oneMore(next)
	s.Sentence = l.sentence(s.OneMore)
	return s
}

// oneMore is what a channel of a capacity lets its opener send.
func (n *Node) oneMore(capacity int64) money.Amount {
	if capacity == 0 {
		capacity = newChannel
	}
	c := commit.Channel{Type: commit.Anchors, Capacity: capacity}
	kept := capacity/100 + c.Fee(commit.Remote, 2*n.FeeRate, 1) + 2*commit.AnchorValue
	return money.Amount(max(capacity-kept, 0)) * money.Sat
}

// liquidity is what can be sent and received: now, when peers are connected, and
// when channels are deep enough.
type liquidity struct{ now, away, pending ways }

type ways struct{ send, take money.Amount }

func (l *liquidity) add(c *channel.Channel, v channel.Value) {
	w := &l.away
	switch {
	case c.Usable():
		w = &l.now
	case c.Status() == channel.Pending:
		w = &l.pending
	case c.Status() != channel.Open:
		return
	}
	w.send += v.Spendable
	w.take += v.Receivable
}

// sentence is the liquidity in words.
func (l *liquidity) sentence(oneMore money.Amount) string {
	var b strings.Builder
	fmt.Fprintf(&b, "can send %v and receive %v now", sats(l.now.send), sats(l.now.take))
	if l.away != (ways{}) {
		fmt.Fprintf(&b, "; %v and %v more when the peers are connected", sats(l.away.send), sats(l.away.take))
	}
	if l.pending != (ways{}) {
		fmt.Fprintf(&b, "; %v and %v more when the channel that is opening is deep enough", sats(l.pending.send), sats(l.pending.take))
	}
	fmt.Fprintf(&b, "; %v more after one more channel", sats(oneMore))
	return b.String()
}

// sats is an amount in whole satoshi for people.
func sats(a money.Amount) string {
	digits := fmt.Sprint(a.Sats())
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits + " sat"
}
