package interop

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/interop/peers"
	"coinop.dev/rail/lndrail/lnrpc"
)

// Fields of lnd's OpenChannelRequest that the rail has no use for, and kinds of
// channel.
const (
	fieldCommitmentType = 18
	fieldScidAlias      = 20
	staticRemoteKey     = 2
	anchors             = 3
)

// A kind is a channel that lnd can be asked for.
type kind struct {
	name           string
	typ            uint64
	private, alias bool
}

// openedBy has an lnd open a channel to the machine and waits until both can use
// it.
func (b *box) openedBy(ctx context.Context, n *peers.Lnd, sat, push int64, k kind) *lnrpc.ChannelPoint {
	b.t.Helper()
	must(b.t, b.follow(n))
	must(b.t, n.Connect(ctx, b.key.Public().String(), b.addr))
	key := b.key.Public()
	r := &lnrpc.OpenChannelRequest{NodePubkey: key[:], LocalFundingAmount: sat, PushSat: push, SatPerVbyte: 2, Private: k.private}
	more := protowire.AppendVarint(protowire.AppendTag(nil, fieldCommitmentType, protowire.VarintType), k.typ)
	if k.alias {
		more = protowire.AppendVarint(protowire.AppendTag(more, fieldScidAlias, protowire.VarintType), 1)
	}
	r.ProtoReflect().SetUnknown(more)
	point, err := n.Lightning.OpenChannelSync(ctx, r)
	must(b.t, err)
	must(b.t, b.chain.MineMempool(ctx, 1, 1))
	b.active(n, peers.Outpoint(point))
	must(b.t, n.Routes(ctx, 1))
	if k.private {
		return point
	}
	// Only now: lnd, if it does aliases, makes the channel's place in its graph anew
	// at the sixth confirmation, and what it hears of it in that moment it drops,
	// and never listens to again.
	must(b.t, b.chain.Mine(5))
	until(b.t, "lnd has announced the channel", func() error {
		g, err := n.Lightning.DescribeGraph(ctx, &lnrpc.ChannelGraphRequest{})
		if err != nil || slices.ContainsFunc(g.Edges, func(e *lnrpc.ChannelEdge) bool {
			return e.ChanPoint == peers.Outpoint(point) && e.Node1Policy != nil && e.Node2Policy != nil
		}) {
			return err
		}
		return fmt.Errorf("it knows %d public channels", len(g.Edges))
	})
	return point
}

// TestLndOpens: lnd opens channels to coinop, of all kinds; money goes both ways;
// and lnd closes them.
func TestLndOpens(t *testing.T) {
	ctx, btcd, nodes := lnds(t, 1, "--protocol.option-scid-alias")
	lnd := nodes[0]
	b := newBox(t, ctx, btcd, "coinop", 0)
	for _, k := range []kind{
		{"public with anchors", anchors, false, false},
		{"public with static_remotekey", staticRemoteKey, false, false},
		{"private with anchors", anchors, true, false},
		{"private with anchors and an alias", anchors, true, true},
	} {
		t.Log(k.name)
		before := b.coins()
		point := b.openedBy(ctx, lnd, 2_000_000, 500_000, k)
		if c := b.summary().Channels[0]; c.Opener || c.Public == k.private || c.Remote != 1_500_000*money.Sat {
			t.Errorf("the channel is %+v", c)
		}
		_, err := lnd.Pay(ctx, b.bill(200_000*money.Sat, false))
		must(t, err)
		bill, _, err := lnd.Bill(ctx, 300_000_000)
		must(t, err)
		b.pay("lightning:"+bill, 300_000*money.Sat)
		b.idle(lnd, peers.Outpoint(point))
		must(t, lnd.CloseChannel(ctx, point, false))
		b.over(lnd)
		if got := b.coins() - before; got != 400_000 {
			t.Errorf("the closing pays coinop %d sat; 400000 are its own", got)
		}
	}
}

// TestFeeUpdate: coinop pays for the commitments of a channel that it opened, and
// lnd follows it to another rate, with a payment in flight, up and down.
func TestFeeUpdate(t *testing.T) {
	ctx, btcd, nodes := lnds(t, 1)
	lnd := nodes[0]
	b := newBox(t, ctx, btcd, "coinop", 10_000_000)
	point := b.open(lnd, node.Open{Capacity: 5_000_000, Push: 2_000_000_000, Public: true})
	for _, rate := range []int64{2_000, 253, 1_000} {
		h := b.holdAt(lnd, 10_000)
		must(t, b.m.Host.Tell(ctx, node.Name, node.SetFee{ID: b.summary().Channels[0].ID, FeeRate: rate}))
		until(t, "lnd has the new rate", func() error { return rateIs(ctx, lnd, point, rate) })
		_, err := lnd.Pay(ctx, b.bill(3_000*money.Sat, false))
		must(t, err)
		must(t, h.settle(ctx))
		must(t, <-h.paid)
	}
}

// rateIs reports whether lnd has a channel's commitments at a rate.
func rateIs(ctx context.Context, n *peers.Lnd, point string, satPerKW int64) error {
	c, err := n.Channel(ctx, point)
	if err == nil && c.FeePerKw != satPerKW {
		err = fmt.Errorf("it has %d sat/kw, and %d is wanted", c.FeePerKw, satPerKW)
	}
	return err
}
