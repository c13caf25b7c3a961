package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"google.golang.org/protobuf/encoding/protowire"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/interop/peers"
	"coinop.dev/rail/lndrail/lnrpc"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/regtest"
)

// TestLndOnOurFilters lets an lnd live on the compact filters that we serve (BIP
// 157): its neutrino finds a payment, follows reorganisations, one of which
// takes the payment back, and pays.
func TestLndOnOurFilters(t *testing.T) {
	n := openNode(t)
	mine(t, n, 1200) // more than one checkpoint (BIP 157)
	l := startLightLnd(t, n)
	l.follows(n)

	t.Log("lnd finds its payment")
	const gift = 100 * chaintest.Value
	script := l.address()
	point, err := n.Faucet(script, gift)
	must(t, err)
	paidAt, err := n.Mine(1)
	must(t, err)
	l.follows(n)
	l.confirmed(gift)

	t.Log("a reorganisation takes it back, and a block brings it again")
	must(t, n.Reorg(4))
	l.follows(n)
	l.confirmed(0)
	again, err := n.Mine(1)
	must(t, err)
	l.follows(n)
	l.confirmed(gift)
	l.minedIn(point.Hash, again[0])
	if again[0] == paidAt[0] {
		t.Error("the payment is in the block it was in")
	}

	t.Log("lnd spends it through us")
	const away = gift / 2
	to, err := address.NewAddressWitnessScriptHash(chaintest.Script(1)[2:], regtest.Params())
	must(t, err)
	id := l.send(to.EncodeAddress(), away)
	until(t, "we have lnd's transaction", func() error {
		if got, _ := n.Tx(id); got == nil {
			return fmt.Errorf("%v is unknown", id)
		}
		return nil
	})
	spent, err := n.Mine(1)
	must(t, err)
	got, err := n.Status(t.Context(), watch.Output{Point: point, Script: script})
	must(t, err)
	if got.SpendDepth != 1 || got.Spender.TxHash() != id {
		t.Errorf("lnd's coin is spent at depth %d; want 1, by %v", got.SpendDepth, id)
	}
	l.follows(n)
	l.minedIn(id, spent[0])
}

// A lightLnd is an lnd on neutrino, whose only peer is ours.
type lightLnd struct {
	*peers.Lnd
	t   *testing.T
	ctx context.Context
}

func startLightLnd(t *testing.T, n *regtest.Node) *lightLnd {
	t.Helper()
	if testing.Short() {
		t.Skip("lnd takes minutes to build the first time")
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	home, err := os.MkdirTemp("", "coinop-lnd-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(home) })
	l, err := peers.StartLnd(ctx, peers.LndOptions{Home: home, Alias: "light", Light: n.Addr()})
	must(t, err)
	t.Cleanup(func() {
		l.Stop()
		if t.Failed() {
			t.Logf("lnd:\n%s", l.Log())
		}
	})
	return &lightLnd{l, t, ctx}
}

// follows waits until lnd has our tip and its wallet too.
func (l *lightLnd) follows(n *regtest.Node) {
	l.t.Helper()
	until(l.t, "lnd has our tip", func() error {
		height, hash, err := n.Tip(l.ctx)
		must(l.t, err)
		i, err := l.Lightning.GetInfo(l.ctx, &lnrpc.GetInfoRequest{})
		if err != nil || i.SyncedToChain && i.BlockHash == hash.String() && i.BlockHeight == uint32(height) {
			return err
		}
		return fmt.Errorf("lnd is at %d %s, synced is %v; we are at %d %v", i.BlockHeight, i.BlockHash, i.SyncedToChain, height, hash)
	})
}

// address is the script of a new address of lnd's.
func (l *lightLnd) address() []byte {
	l.t.Helper()
	a, err := l.Lightning.NewAddress(l.ctx, &lnrpc.NewAddressRequest{})
	must(l.t, err)
	to, err := address.DecodeAddress(a.Address, regtest.Params())
	must(l.t, err)
	script, err := txscript.PayToAddrScript(to)
	must(l.t, err)
	return script
}

// confirmed waits until lnd has so many satoshi in blocks.
func (l *lightLnd) confirmed(sat int64) {
	l.t.Helper()
	until(l.t, fmt.Sprintf("lnd has %d sat", sat), func() error {
		b, err := l.Lightning.WalletBalance(l.ctx, &lnrpc.WalletBalanceRequest{})
		if err == nil && b.ConfirmedBalance != sat {
			err = fmt.Errorf("it has %d sat confirmed and %d not", b.ConfirmedBalance, b.UnconfirmedBalance)
		}
		return err
	})
}

// minedIn waits until lnd says that a transaction of its wallet is in a block.
func (l *lightLnd) minedIn(id, block chainhash.Hash) {
	l.t.Helper()
	until(l.t, fmt.Sprintf("lnd has %v in %v", id, block), func() error {
		// Fields 1 and 4 of a lnrpc.Transaction.
		for _, tx := range fields(l.t, l.call("GetTransactions", nil))[1] {
			if f := fields(l.t, tx); string(f[1][0]) == id.String() && len(f[4]) > 0 && string(f[4][0]) == block.String() {
				return nil
			}
		}
		return errors.New("its wallet does not say so")
	})
}

// send pays satoshi out of lnd's wallet.
func (l *lightLnd) send(to string, sat uint64) chainhash.Hash {
	l.t.Helper()
	var ask []byte // a lnrpc.SendCoinsRequest
	ask = protowire.AppendString(protowire.AppendTag(ask, 1, protowire.BytesType), to)
	ask = protowire.AppendVarint(protowire.AppendTag(ask, 2, protowire.VarintType), sat)
	ask = protowire.AppendVarint(protowire.AppendTag(ask, 4, protowire.VarintType), 2) // sat per vbyte
	id, err := chainhash.NewHashFromStr(string(fields(l.t, l.call("SendCoins", ask))[1][0]))
	must(l.t, err)
	return *id
}

// call is one call of lnd's that coinop's lnrpc leaves out. A message with no
// fields of its own carries any others.
func (l *lightLnd) call(method string, ask []byte) (answer []byte) {
	l.t.Helper()
	in, out := new(lnrpc.GetInfoRequest), new(lnrpc.GetInfoRequest)
	in.ProtoReflect().SetUnknown(ask)
	must(l.t, l.Conn.Invoke(l.ctx, "/lnrpc.Lightning/"+method, in, out))
	return out.ProtoReflect().GetUnknown()
}

// fields are the strings, bytes and messages of a message, by number.
func fields(t *testing.T, raw []byte) map[protowire.Number][][]byte {
	t.Helper()
	all := map[protowire.Number][][]byte{}
	for len(raw) > 0 {
		number, kind, head := protowire.ConsumeTag(raw)
		must(t, protowire.ParseError(head))
		size := protowire.ConsumeFieldValue(number, kind, raw[head:])
		must(t, protowire.ParseError(size))
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(raw[head:])
			all[number] = append(all[number], value)
		}
		raw = raw[head+size:]
	}
	return all
}
