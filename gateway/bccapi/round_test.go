package bccapi_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/gateway/bccapi"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/regtest"
)

var regtestParams = &chaincfg.RegressionNetParams

var (
	_ bccapi.Source = chain.Source(nil)
	_ chain.Pooler  = (*regtest.Node)(nil)
)

// past is a node that tells the past by looking through all of it.
type past struct{ *regtest.Node }

func (p past) all(ctx context.Context) (all []bccapi.Transaction, err error) {
	tip, _, err := p.Tip(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range p.MempoolTxs() {
		all = append(all, bccapi.Transaction{Tx: t, Height: bccapi.Waiting})
	}
	for height := tip; height > 0; height-- {
		b, err := p.Block(ctx, height)
		if err != nil {
			return nil, err
		}
		for _, t := range b.Transactions {
			all = append(all, bccapi.Transaction{Tx: t, Height: height, Time: b.Header.Timestamp})
		}
	}
	return all, nil
}

func (p past) Transactions(ctx context.Context, script []byte, limit int) ([]bccapi.Transaction, error) {
	all, err := p.all(ctx)
	if err != nil {
		return nil, err
	}
	pays := func(t *wire.MsgTx) bool {
		return slices.ContainsFunc(t.TxOut, func(o *wire.TxOut) bool { return string(o.PkScript) == string(script) })
	}
	all = slices.DeleteFunc(all, func(t bccapi.Transaction) bool {
		return !pays(t.Tx) && !slices.ContainsFunc(t.Tx.TxIn, func(in *wire.TxIn) bool {
			prev, _ := p.Tx(in.PreviousOutPoint.Hash)
			return prev != nil && string(prev.TxOut[in.PreviousOutPoint.Index].PkScript) == string(script)
		})
	})
	return all[:min(limit, len(all))], nil
}

func (p past) Transaction(ctx context.Context, id chainhash.Hash) (bccapi.Transaction, error) {
	all, err := p.all(ctx)
	for _, t := range all {
		if t.Tx.TxHash() == id {
			return t, err
		}
	}
	return bccapi.Transaction{}, err
}

func openNode(t testing.TB) *regtest.Node {
	t.Helper()
	n, err := regtest.Open(regtest.Options{})
	must(t, err)
	t.Cleanup(func() { n.Close() })
	return n
}

func serve(t testing.TB, o bccapi.Options) *bccapi.Client {
	t.Helper()
	server := httptest.NewServer(bccapi.New(o))
	t.Cleanup(server.Close)
	return &bccapi.Client{URL: server.URL}
}

// A device has what a client of 2013 had: one key and its address.
type device struct {
	key     keys.Secret
	public  keys.Public
	address bccapi.Address
	script  []byte
}

func newDevice(t testing.TB, seed byte) device {
	t.Helper()
	key, err := keys.SecretFromBytes(slices.Repeat([]byte{seed}, 32))
	must(t, err)
	d := device{key: key, public: key.Public()}
	d.address = bccapi.KeyAddress(d.public[:], regtestParams)
	d.script, err = d.address.Script(regtestParams)
	must(t, err)
	return d
}

// pay builds and signs what StandardTransactionBuilder.java did: version 1,
// P2PKH, the change to the device. Unlike that, it first holds every coin
// against its previous transaction.
func (d device) pay(coins []bccapi.Output, to bccapi.Address, sat, fee int64, prev func(chainhash.Hash) *wire.MsgTx) (*wire.MsgTx, error) {
	t := wire.NewMsgTx(1)
	change := -sat - fee
	for _, c := range coins {
		if err := c.Check(prev(c.Point.Hash)); err != nil {
			return nil, err
		}
		t.AddTxIn(wire.NewTxIn(&c.Point, nil, nil))
		change += c.Value
	}
	script, err := to.Script(regtestParams)
	if err != nil {
		return nil, err
	}
	if t.AddTxOut(wire.NewTxOut(sat, script)); change < 0 {
		return nil, errors.New("not enough")
	}
	t.AddTxOut(wire.NewTxOut(change, d.script))
	for i := range t.TxIn {
		digest, err := txscript.CalcSignatureHash(d.script, txscript.SigHashAll, t, i)
		if err != nil {
			return nil, err
		}
		sig := append(d.key.Sign([32]byte(digest)).DER(), byte(txscript.SigHashAll))
		t.TxIn[i].SignatureScript, err = txscript.NewScriptBuilder().AddData(sig).AddData(d.public[:]).Script()
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (d device) has(t *testing.T, c *bccapi.Client, when string, want bccapi.Balance) {
	t.Helper()
	got, err := c.Balance(t.Context(), d.address)
	must(t, err)
	if got != want {
		t.Errorf("%s the balance is %+v and must be %+v", when, got, want)
	}
	sets, err := c.Unspent(t.Context(), d.address, d.address)
	must(t, err)
	sum := func(all []bccapi.Output) (sat int64) {
		for _, o := range all {
			sat += o.Value
		}
		return sat
	}
	if sum(sets.Unspent) != want.Unspent || sum(sets.Receiving) != want.Receiving || sum(sets.Change) != want.Change {
		t.Errorf("%s the outputs are %+v, the balance %+v", when, sets, got)
	}
}

// TestDeviceOf2013 pays with a coin that it learned of, over HTTP.
func TestDeviceOf2013(t *testing.T) {
	node := openNode(t)
	c := serve(t, bccapi.Options{Source: past{node}, Burst: 1000})
	d, shop := newDevice(t, 1), newDevice(t, 2)
	prev := func(id chainhash.Hash) *wire.MsgTx { found, _ := node.Tx(id); return found }

	d.has(t, c, "at first", bccapi.Balance{})
	gift, err := node.Faucet(d.script, 1_000_000)
	must(t, err)
	d.has(t, c, "before a block", bccapi.Balance{Receiving: 1_000_000})
	mine(t, node)
	d.has(t, c, "in a block", bccapi.Balance{Unspent: 1_000_000})

	sets, err := c.Unspent(t.Context(), d.address)
	must(t, err)
	tip, _, err := node.Tip(t.Context())
	must(t, err)
	if want := (bccapi.Output{Point: gift, Height: tip, Value: 1_000_000, Script: d.script}); len(sets.Unspent) != 1 || sets.Height != tip ||
		sets.Unspent[0].Point != want.Point || sets.Unspent[0].Height != want.Height {
		t.Fatalf("unspent outputs are %+v; want %+v", sets, want)
	}
	first, err := d.pay(sets.Unspent, shop.address, 300_000, 10_000, prev)
	must(t, err)
	must(t, c.Broadcast(t.Context(), first))
	must(t, c.Broadcast(t.Context(), first)) // harmless
	d.has(t, c, "after paying", bccapi.Balance{Sending: 1_000_000, Change: 690_000})
	shop.has(t, c, "before the payment's block", bccapi.Balance{Receiving: 300_000})

	sets, err = c.Unspent(t.Context(), d.address)
	must(t, err)
	second, err := d.pay(sets.Change, shop.address, 100_000, 10_000, prev)
	must(t, err)
	must(t, c.Broadcast(t.Context(), second))
	d.has(t, c, "after paying with the change", bccapi.Balance{Sending: 1_000_000, Change: 580_000})

	mine(t, node)
	d.has(t, c, "at last", bccapi.Balance{Unspent: 580_000})
	shop.has(t, c, "at last", bccapi.Balance{Unspent: 400_000})

	past, err := c.Inventory(t.Context(), 2, d.address, shop.address)
	must(t, err)
	if len(past.Transactions) != 2 || past.Height != tip+1 || past.Transactions[0].Height != tip+1 {
		t.Fatalf("the newest two transactions are %+v", past)
	}
	summary, err := c.Summary(t.Context(), first.TxHash(), gift.Hash)
	must(t, err)
	paid := summary.Transactions[0]
	if want := (bccapi.Item{Address: d.address, Value: 1_000_000}); len(paid.Inputs) != 1 || paid.Inputs[0] != want || paid.Height != tip+1 || paid.Time == 0 {
		t.Errorf("the payment is %+v", paid)
	}
	if want := []bccapi.Item{{Address: shop.address, Value: 300_000}, {Address: d.address, Value: 690_000}}; !slices.Equal(paid.Outputs, want) {
		t.Errorf("the payment's outputs are %+v", paid.Outputs)
	}
	if nobody := summary.Transactions[1].Inputs[0].Address; nobody != (bccapi.Address{regtestParams.PubKeyHashAddrID}) {
		t.Error("the faucet has no address of 2013, and is shown as", nobody)
	}
	if none, err := c.Summary(t.Context()); err != nil || len(none.Transactions) != 0 {
		t.Errorf("the summary of nothing is %+v, error %v", none, err) // SimpleClient.java asks for it
	}
}

// TestPlainSource has no pool to look into and no past.
func TestPlainSource(t *testing.T) {
	node := openNode(t)
	c := serve(t, bccapi.Options{Source: struct{ chain.Source }{node}, Burst: 1000})
	d, shop := newDevice(t, 1), newDevice(t, 2)
	_, err := node.Faucet(d.script, 1_000_000)
	must(t, err)
	mine(t, node)
	sets, err := c.Unspent(t.Context(), d.address)
	must(t, err)
	paid, err := d.pay(sets.Unspent, shop.address, 300_000, 10_000, func(id chainhash.Hash) *wire.MsgTx { found, _ := node.Tx(id); return found })
	must(t, err)
	must(t, c.Broadcast(t.Context(), paid))
	d.has(t, c, "after paying", bccapi.Balance{Sending: 1_000_000, Change: 690_000})
	if _, err := c.Inventory(t.Context(), 1, d.address); code(err) != bccapi.InvalidRequest {
		t.Error("an inventory without a history gives", err)
	}
	if _, err := c.Summary(t.Context(), paid.TxHash()); code(err) != bccapi.InvalidRequest {
		t.Error("a summary without a history gives", err)
	}
}

// TestBlockRewards shows no reward before it can be spent, or a client that
// believes would build a transaction that nobody takes; and a reward's summary
// has somebody else for its sender.
func TestBlockRewards(t *testing.T) {
	node := openNode(t)
	c := serve(t, bccapi.Options{Source: past{node}, Burst: 1000})
	d := newDevice(t, 1)
	hashes, err := node.MineTo(d.script, 1)
	must(t, err)
	d.has(t, c, "with an unripe reward", bccapi.Balance{})
	b, err := node.Block(t.Context(), 1)
	must(t, err)
	if b.BlockHash() != hashes[0] {
		t.Fatal("block 1 is", b.BlockHash())
	}
	summary, err := c.Summary(t.Context(), b.Transactions[0].TxHash())
	must(t, err)
	if in := summary.Transactions[0].Inputs; len(in) != 1 || in[0].Address == d.address || in[0].Value != 50e8 {
		t.Errorf("the reward comes from %+v", in)
	}
	_, err = node.Mine(watch.Maturity - 1)
	must(t, err)
	d.has(t, c, "with a ripe reward", bccapi.Balance{Unspent: 50e8})
}

// understating is a source whose coins are worth less than they are.
type understating struct{ *regtest.Node }

func (u understating) Coins(ctx context.Context, script []byte) ([]watch.Coin, error) {
	coins, err := u.Node.Coins(ctx, script)
	for i := range coins {
		coins[i].Value /= 2
	}
	return coins, err
}

// TestAttackFeeBurn is what the protocol cannot see: a signature of before BIP
// 143 is good whatever the coin is worth, so half of it would be the miner's.
func TestAttackFeeBurn(t *testing.T) {
	node := openNode(t)
	c := serve(t, bccapi.Options{Source: understating{node}})
	d := newDevice(t, 1)
	_, err := node.Faucet(d.script, 1_000_000)
	must(t, err)
	mine(t, node)
	sets, err := c.Unspent(t.Context(), d.address)
	must(t, err)
	signed, err := d.pay(sets.Unspent, newDevice(t, 2).address, 100_000, 10_000, func(id chainhash.Hash) *wire.MsgTx { found, _ := node.Tx(id); return found })
	if lie := new(bccapi.Lie); signed != nil || !errors.As(err, &lie) || !strings.Contains(err.Error(), "500000") || !strings.Contains(err.Error(), "1000000") {
		t.Fatalf("the device signed %v, error %v", signed, err)
	}
}

func TestAttackWrongPreviousTransaction(t *testing.T) {
	d := newDevice(t, 1)
	prev := wire.NewMsgTx(1)
	prev.AddTxOut(wire.NewTxOut(1000, d.script))
	honest := bccapi.Output{Point: wire.OutPoint{Hash: prev.TxHash()}, Value: 1000, Script: d.script}
	must(t, honest.Check(prev))
	for name, lie := range map[string]func(*bccapi.Output){
		"another transaction": func(o *bccapi.Output) { o.Point.Hash[0]++ },
		"no such output":      func(o *bccapi.Output) { o.Point.Index = 1 },
		"another script":      func(o *bccapi.Output) { o.Script = newDevice(t, 2).script },
		"another amount":      func(o *bccapi.Output) { o.Value++ },
	} {
		o := honest
		lie(&o)
		if err := o.Check(prev); !errors.As(err, new(*bccapi.Lie)) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func mine(t testing.TB, n *regtest.Node) {
	t.Helper()
	_, err := n.Mine(1)
	must(t, err)
}

func code(err error) bccapi.Code {
	if e := new(bccapi.Error); errors.As(err, &e) {
		return e.Code
	}
	return 0
}
