package tx_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
)

func secret(t testing.TB, name string) keys.Secret {
	k, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// BIP 143, "Native P2WPKH": the digest of the second input.
func TestSighashOfBIP143(t *testing.T) {
	raw, _ := hex.DecodeString("0100000002fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f0000000000eeffffffef51e1b804cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976a9148280b37df378db99f66f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988ac11000000")
	u, err := tx.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := hex.DecodeString("025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee6357")
	pub, err := keys.ParsePublic(key)
	if err != nil {
		t.Fatal(err)
	}
	digest := tx.Sighash(u, 1, tx.P2WPKH(pub), 600_000_000)
	if got := hex.EncodeToString(digest[:]); got != "c37af31116d1b27caf68aae9e3ac82f1477929014d5b917657d0eb49478cb670" {
		t.Errorf("digest is %s", got)
	}
}

// Whatever the coins, a payment is valid, pays its fee and no more than dust
// beyond it, makes no dust, and loses nothing.
func TestPay(t *testing.T) {
	key := secret(t, "wallet")
	script := tx.P2WPKH(key.Public())
	r := rand.New(rand.NewPCG(1, 1))
	paid := 0
	for n := range 300 {
		coins, have := make([]tx.Coin, 1+r.IntN(6)), int64(0)
		for i := range coins {
			coins[i] = tx.Coin{Value: 300 + r.Int64N(20_000)}
			binary.BigEndian.PutUint32(coins[i].Point.Hash[:], uint32(n))
			coins[i].Point.Index = uint32(i)
			have += coins[i].Value
		}
		outs, need := []*wire.TxOut{wire.NewTxOut(330+r.Int64N(20_000), tx.P2WSH([]byte{1}))}, int64(0)
		need = outs[0].Value
		rate := tx.FeeRate(1000 + r.IntN(20_000))
		p, fee, err := tx.Pay(key, coins, outs, rate)
		if err != nil {
			if !errors.Is(err, tx.ErrFunds) || have >= need+rate.For(11+43+31+68*len(coins)) {
				t.Fatalf("%d sat in %d coins do not pay %d at %d: %v", have, len(coins), need, rate, err)
			}
			continue
		}
		paid++
		fetch, in := txscript.NewMultiPrevOutFetcher(nil), int64(0)
		for _, i := range p.TxIn {
			v := coins[i.PreviousOutPoint.Index].Value
			in += v
			fetch.AddPrevOut(i.PreviousOutPoint, wire.NewTxOut(v, script))
		}
		hashes := txscript.NewTxSigHashes(p, fetch)
		for i, txin := range p.TxIn {
			vm, err := txscript.NewEngine(script, p, i, txscript.StandardVerifyFlags, nil, hashes, coins[txin.PreviousOutPoint.Index].Value, fetch)
			if err == nil {
				err = vm.Execute()
			}
			if err != nil {
				t.Fatalf("input %d: %v", i, err)
			}
		}
		out := int64(0)
		for _, o := range p.TxOut {
			out += o.Value
			if o.Value < tx.DustP2WPKH {
				t.Fatalf("an output of %d sat", o.Value)
			}
		}
		least := rate.For(tx.VSize(p))
		if in-out != fee || fee < least || fee > least+tx.DustP2WPKH+rate.For(31+2*len(p.TxIn)+2) {
			t.Fatalf("fee is %d, said to be %d; at least %d for %d vbytes", in-out, fee, least, tx.VSize(p))
		}
	}
	if paid < 50 {
		t.Errorf("only %d payments were made", paid)
	}
}

func TestRatesThatAreMistakes(t *testing.T) {
	for _, rate := range []tx.FeeRate{0, -1, tx.MinFeeRate - 1, tx.MaxFeeRate + 1} {
		if _, _, err := tx.Pay(secret(t, "wallet"), []tx.Coin{{Value: 1 << 40}}, nil, rate); err == nil || errors.Is(err, tx.ErrFunds) {
			t.Errorf("%d: %v", rate, err)
		}
	}
}

func TestParse(t *testing.T) {
	u := wire.NewMsgTx(2)
	u.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 3}, nil, [][]byte{{1}, {2, 3}}))
	u.AddTxOut(wire.NewTxOut(5, []byte{1}))
	raw := tx.Bytes(u)
	got, err := tx.Parse(raw)
	if err != nil || got.TxHash() != u.TxHash() || !bytes.Equal(tx.Bytes(got), raw) {
		t.Errorf("%v", err)
	}
	for _, bad := range [][]byte{nil, raw[:len(raw)-1], append(bytes.Clone(raw), 0), make([]byte, tx.MaxSize+1)} {
		if _, err := tx.Parse(bad); err == nil {
			t.Errorf("%d bytes are read", len(bad))
		}
	}
}

func FuzzParse(f *testing.F) {
	u := wire.NewMsgTx(2)
	u.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 3}, nil, [][]byte{{1}, {2, 3}}))
	u.AddTxOut(wire.NewTxOut(5, []byte{1}))
	f.Add(tx.Bytes(u))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if u, err := tx.Parse(raw); err == nil {
			tx.VSize(u)
			tx.Bytes(u)
		}
	})
}
