package interop

import (
	"context"
	"fmt"
	"math"
	"testing"

	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/interop/peers"
	"coinop.dev/rail/lndrail/lnrpc"
)

// TestForcedClose: a channel is closed by one side alone, while four payments
// hang in it. Each side has two of the other's; of one it has the preimage, and
// takes it on the chain; the other goes back to its payer. Each side ends with
// what is its own, less fees, and every satoshi can be found.
func TestForcedClose(t *testing.T) {
	ctx, btcd, nodes := lnds(t, 1, "--bitcoin.defaultremotedelay=6")
	lnd := nodes[0]
	b := newBox(t, ctx, btcd, "coinop", 60_000_000)
	for _, static := range []bool{false, true} {
		for _, closer := range []string{"coinop", "lnd"} {
			t.Logf("%s closes; static_remotekey is %v", closer, static)
			mine, theirs, from := b.coins(), balance(t, ctx, lnd), height(t, btcd)
			point := b.open(lnd, node.Open{Capacity: 5_000_000, Push: 2_000_000_000, Public: true, Static: static})
			taken, returned := b.holdAt(lnd, 100_000), b.holdAt(lnd, 200_000)
			earned, refused := b.hold(lnd, 400_000), b.hold(lnd, 800_000)
			if c := b.summary().Channels[0]; c.HTLCs != 4 {
				t.Fatalf("the channel is %+v", c)
			}

			b.m.Cut(b.peer(lnd), true)
			must(t, taken.settle(ctx))
			must(t, earned.settle(ctx))
			if closer == "lnd" {
				must(t, lnd.CloseChannel(ctx, pointOf(point), true))
			} else {
				must(t, b.m.Host.Tell(ctx, node.Name, node.Close{ID: b.summary().Channels[0].ID, Force: true}))
				must(t, btcd.MineMempool(ctx, 1, 1))
			}
			t.Logf("over after %d blocks", b.over(lnd))
			b.m.Cut(b.peer(lnd), false)

			if err := <-taken.paid; err != nil {
				t.Errorf("lnd showed the preimage on the chain, and coinop's payment ends with %v", err)
			}
			if err := <-returned.paid; money.KindOf(err) != money.Unpaid {
				t.Errorf("what went back to coinop ends with %v", err)
			}
			if err := <-earned.paid; err != nil {
				t.Errorf("coinop showed the preimage on the chain, and lnd's payment ends with %v", err)
			}
			if err := <-refused.paid; err == nil {
				t.Error("lnd takes for paid what went back to it")
			}

			const mostFees = 60_000 // sat, of either side
			fees := fees(t, btcd, from)
			mine, theirs = mine-b.coins(), balance(t, ctx, lnd)-theirs
			t.Logf("coinop has %d sat less, lnd %d more, miners %d", mine, theirs, fees)
			if loss := mine - (2_000_000 + 100_000 - 400_000); loss < 0 || loss > mostFees {
				t.Errorf("coinop's fees are %d sat", loss)
			}
			if loss := 2_000_000 + 100_000 - 400_000 - theirs; loss < 0 || loss > mostFees {
				t.Errorf("lnd's fees are %d sat", loss)
			}
			// An anchor that nobody needs may stay where it is.
			if lost := mine - theirs - fees; lost < 0 || lost > 2*330 || static && lost > 0 {
				t.Errorf("%d sat are lost", lost)
			}
		}
	}
}

// balance is what an lnd has on the chain, in satoshi.
func balance(t *testing.T, ctx context.Context, n *peers.Lnd) int64 {
	t.Helper()
	b, err := n.Lightning.WalletBalance(ctx, &lnrpc.WalletBalanceRequest{})
	must(t, err)
	return b.ConfirmedBalance
}

func height(t *testing.T, btcd *peers.Btcd) int64 {
	t.Helper()
	h, err := btcd.Height()
	must(t, err)
	return h
}

// fees is what miners have earned in the blocks after a height, in satoshi: their
// rewards, less what each block is worth by itself.
func fees(t *testing.T, btcd *peers.Btcd, after int64) (sat int64) {
	t.Helper()
	for h := after + 1; h <= height(t, btcd); h++ {
		var hash string
		must(t, btcd.Call("getblockhash", &hash, h))
		var block struct {
			RawTx []struct{ Vout []struct{ Value float64 } }
		}
		must(t, btcd.Call("getblock", &block, hash, 2))
		for _, o := range block.RawTx[0].Vout {
			sat += int64(math.Round(o.Value * 1e8))
		}
		sat -= 50e8 >> (h / 150) // regtest halves every 150 blocks
	}
	return sat
}

// pointOf reads a channel's point as lnd writes it.
func pointOf(text string) *lnrpc.ChannelPoint {
	p := &lnrpc.ChannelPoint{}
	id, index := text[:64], text[65:]
	fmt.Sscan(index, &p.OutputIndex)
	p.FundingTxid = &lnrpc.ChannelPoint_FundingTxidStr{FundingTxidStr: id}
	return p
}
