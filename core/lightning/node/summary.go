package node

import (
	"fmt"
	"strings"

	"coinop.dev"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
)

// A ChannelSummary is one channel for people.
type ChannelSummary struct {
	ID         ln.ChannelID  `json:"-"`
	Channel    string        `json:"channel"`
	SCID       string        `json:"short_channel_id,omitempty"`
	Peer       keys.Public   `json:"peer"`
	Funding    string        `json:"funding"`
	State      string        `json:"state"`
	Usable     bool          `json:"usable"`
	Type       string        `json:"type"`
	Opener     bool          `json:"opener"`
	Public     bool          `json:"public"`
	Capacity   int64         `json:"capacity_sat"`
	Local      coinop.Amount `json:"local_msat"`
	Remote     coinop.Amount `json:"remote_msat"`
	Spendable  coinop.Amount `json:"spendable_msat"`
	Receivable coinop.Amount `json:"receivable_msat"`
	HTLCs      int           `json:"htlcs"`
	Dust       coinop.Amount `json:"dust_in_flight_msat"`
	Commitment uint64        `json:"commitment"`
	Depth      int32         `json:"depth"`
	SpendDepth int32         `json:"spend_depth,omitempty"`
	Failure    string        `json:"failure,omitempty"`
}

// A Summary is the node for people.
type Summary struct {
	Node     keys.Public      `json:"node"`
	Tip      int32            `json:"tip"`
	Channels []ChannelSummary `json:"channels"`
	// Value at risk: what is in flight and too small for the chain to enforce.
	Dust     coinop.Amount `json:"dust_in_flight_msat"`
	MaxDust  coinop.Amount `json:"max_dust_in_flight_msat"` // of one channel
	Paying   int           `json:"paying"`
	Graph    int           `json:"graph_channels"`
	CanSend  coinop.Amount `json:"can_send_msat"`
	CanTake  coinop.Amount `json:"can_receive_msat"`
	Sentence string        `json:"liquidity"`
}

// Summary reads the node.
func (n *Node) Summary() Summary {
	s := Summary{Node: n.id, Tip: n.tip, MaxDust: n.MaxDust, Paying: len(n.paying), Graph: n.graph.Channels()}
	pending, largest := coinop.Amount(0), int64(0)
	for _, c := range n.ordered() {
		v := c.Value()
		cs := ChannelSummary{
			ID: c.ID, Channel: c.ID.String(), Peer: c.Peer, Funding: c.Commit.Funding.String(), State: c.Status().String(),
			Usable: c.Usable(), Type: c.Commit.Type.String(), Opener: c.Commit.Opener == commit.Local, Public: c.Announce, Capacity: c.Commit.Capacity,
			Local: v.Local, Remote: v.Remote, HTLCs: v.HTLCs, Dust: v.Dust, Commitment: c.Number(), Depth: c.status.Depth,
			SpendDepth: c.status.SpendDepth, Failure: c.Failure(),
		}
		if scid := c.SCID(); scid != 0 {
			cs.SCID = scid.String()
		}
		if c.Usable() {
			cs.Spendable, cs.Receivable = v.Spendable, v.Receivable
			s.CanSend += v.Spendable
			s.CanTake += v.Receivable
		}
		if c.Status() == channel.Pending && c.Commit.Opener == commit.Remote {
			pending += v.Remote
		}
		largest = max(largest, c.Commit.Capacity)
		s.Dust += v.Dust
		s.Channels = append(s.Channels, cs)
	}
	s.Sentence = sentence(s.CanSend, s.CanTake, pending, len(s.Channels))
	return s
}

// sentence is the liquidity in words.
func sentence(send, take, pending coinop.Amount, channels int) string {
	if channels == 0 {
		return "no channel yet: can neither send nor receive; open one with coinop channel open"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "can send %v and receive %v now", sats(send), sats(take))
	switch {
	case pending > 0:
		fmt.Fprintf(&b, "; receive %v more when the channel that is opening is deep enough", sats(pending))
	case take == 0:
		b.WriteString("; to receive, spend some of it or let a peer open a channel to this node")
	case send == 0:
		b.WriteString("; to send, open a channel of your own with coinop channel open")
	}
	return b.String()
}

func sats(a coinop.Amount) string { return fmt.Sprintf("%d sat", a.Sats()) }
