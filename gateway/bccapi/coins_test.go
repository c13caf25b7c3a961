package bccapi_test

import (
	"context"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/gateway/bccapi"
)

// one is a source with one transaction that waits; every other output that is
// asked for is in a block and worth 5,000 sat.
type one struct {
	still
	tx   *wire.MsgTx
	tips *int // the tip changes so often
}

func (o one) Tip(context.Context) (int32, chainhash.Hash, error) {
	if o.tips == nil || *o.tips == 0 {
		return 7, chainhash.Hash{}, nil
	}
	*o.tips--
	return 7, chainhash.Hash{byte(*o.tips + 1)}, nil
}

func (o one) Coins(_ context.Context, script []byte) (coins []watch.Coin, err error) {
	for i, out := range o.tx.TxOut {
		if string(out.PkScript) == string(script) {
			point := wire.OutPoint{Hash: o.tx.TxHash(), Index: uint32(i)}
			coins = append(coins, watch.Coin{Coin: tx.Coin{Point: point, Value: out.Value}, Tx: o.tx})
		}
	}
	return coins, nil
}

func (o one) Status(_ context.Context, out watch.Output) (watch.Status, error) {
	return watch.Status{Point: out.Point, Depth: 1, Value: 5000}, nil
}

func push(t testing.TB, data ...[]byte) []byte {
	t.Helper()
	b := txscript.NewScriptBuilder()
	for _, d := range data {
		b.AddData(d)
	}
	script, err := b.Script()
	must(t, err)
	return script
}

// TestWhoseChange tells change from what others can take back.
func TestWhoseChange(t *testing.T) {
	d, other := newDevice(t, 1), newDevice(t, 2)
	sig := make([]byte, 71)
	ours := &wire.TxIn{SignatureScript: push(t, sig, d.public[:])}
	theirs := &wire.TxIn{SignatureScript: push(t, sig, other.public[:])}
	redeem := tx.P2WPKH(d.public) // BIP 49
	nested := bccapi.Address{regtestParams.ScriptHashAddrID}
	copy(nested[1:], tx.Hash160(redeem))
	inP2SH := &wire.TxIn{SignatureScript: push(t, redeem), Witness: wire.TxWitness{sig, d.public[:]}}
	segwit := &wire.TxIn{Witness: wire.TxWitness{sig, d.public[:]}}
	broken := &wire.TxIn{SignatureScript: []byte{txscript.OP_PUSHDATA4, 1}}

	for name, c := range map[string]struct {
		ins       []*wire.TxIn
		addresses []bccapi.Address
		want      bccapi.Balance
	}{
		"from the device":                 {[]*wire.TxIn{ours}, []bccapi.Address{d.address}, bccapi.Balance{Sending: 5000, Change: 1000}},
		"from two of its addresses":       {[]*wire.TxIn{ours, inP2SH}, []bccapi.Address{d.address, nested}, bccapi.Balance{Sending: 10_000, Change: 1000}},
		"asked with one of them":          {[]*wire.TxIn{ours, inP2SH}, []bccapi.Address{d.address}, bccapi.Balance{Sending: 5000, Receiving: 1000}},
		"from somebody":                   {[]*wire.TxIn{theirs}, []bccapi.Address{d.address}, bccapi.Balance{Receiving: 1000}},
		"from the device and somebody":    {[]*wire.TxIn{ours, theirs}, []bccapi.Address{d.address}, bccapi.Balance{Sending: 5000, Receiving: 1000}},
		"from a witness, with no address": {[]*wire.TxIn{segwit}, []bccapi.Address{d.address}, bccapi.Balance{Receiving: 1000}},
		"from a script nobody can read":   {[]*wire.TxIn{broken}, []bccapi.Address{d.address}, bccapi.Balance{Receiving: 1000}},
	} {
		waits := wire.NewMsgTx(1)
		waits.TxIn = slices.Clone(c.ins)
		waits.AddTxOut(wire.NewTxOut(1000, d.script))
		body := bccapi.Append(nil, bccapi.BalanceRequest{Addresses: c.addresses})
		m := ask(t, bccapi.New(bccapi.Options{Source: one{tx: waits}}), "queryBalance", home, body)
		if want := (bccapi.BalanceResponse{Balance: c.want}); m != want {
			t.Errorf("%s: %+v; want %+v", name, m, want)
		}
	}
}

// TestTipMoves begins again when a block comes in the middle, but not for ever.
func TestTipMoves(t *testing.T) {
	body := bccapi.Append(nil, bccapi.BalanceRequest{Addresses: []bccapi.Address{newDevice(t, 1).address}})
	for moves, want := range map[int]bool{1: true, 3: true, 100: false} {
		m := ask(t, bccapi.New(bccapi.Options{Source: one{tx: wire.NewMsgTx(1), tips: &moves}}), "queryBalance", home, body)
		if _, ok := m.(bccapi.BalanceResponse); ok != want {
			t.Errorf("after %d moves: %v", moves, m)
		}
	}
}

// TestWitnessTransaction is one that the original could not make. Ours takes it.
func TestWitnessTransaction(t *testing.T) {
	m := bccapi.BroadcastRequest{Tx: wire.NewMsgTx(2)}
	m.Tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 7}, nil, wire.TxWitness{make([]byte, 300), {}, {1}}))
	m.Tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 8}, []byte{1}, nil))
	m.Tx.AddTxOut(wire.NewTxOut(1, make([]byte, 40)))
	frame := bccapi.Append(nil, m)
	for n := 5; n < len(frame)-1; n++ {
		if _, err := bccapi.Decode(frame[:n]); err == nil {
			t.Fatal("a cut transaction is read")
		}
	}
	got, err := bccapi.Decode(append(frame, 9))
	must(t, err)
	if got := got.(bccapi.BroadcastRequest).Tx; got.WitnessHash() != m.Tx.WitnessHash() {
		t.Error("it is read as", got)
	}
	source := &taker{}
	if _, ok := ask(t, bccapi.New(bccapi.Options{Source: source}), "broadcastTransaction", home, frame).(bccapi.BroadcastResponse); !ok || source.got.WitnessHash() != m.Tx.WitnessHash() {
		t.Error("the source is given", source.got)
	}
}

type taker struct {
	still
	got *wire.MsgTx
}

func (s *taker) Publish(_ context.Context, t *wire.MsgTx) error { s.got = t; return nil }
