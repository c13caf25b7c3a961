package wallet_test

import (
	"bytes"
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
	"coinop.dev/internal/persisted"
	"coinop.dev/sim"
)

var messages = []wallet.Message{
	wallet.Order{ID: orderID("o1"), Account: "alice", Script: tx.P2WPKH(secret("shop").Public()), Amount: 5 * money.Sat, Rate: 2000},
	wallet.Settled{ID: orderID("o1"), Proof: []byte{1, 2, 3}},
	wallet.Failed{ID: orderID("o1"), Kind: money.Unpaid, Why: "no coins"},
	wallet.Claim{Code: "0123456789abcdef", Descriptor: "wpkh(tpub/<0;1>/*)", Since: 7},
	wallet.Claimed{Account: "alice"},
	wallet.Refused{Why: "the claim code is unknown"},
	wallet.Look{Account: "alice", Fresh: true},
	wallet.Shown{Account: "alice", Tip: 8, Confirmed: 1, Waiting: 2, Reserved: 3, Address: "bcrt1q"},
}

func TestMessagesComeBack(t *testing.T) {
	for i, m := range messages {
		raw := m.Append(nil)
		if typ := uint16(raw[0])<<8 | uint16(raw[1]); typ != 0x8801+2*uint16(i) || !wallet.Owns(typ) || wallet.Owns(typ+1) || m.Core() != wallet.Name {
			t.Errorf("%T has type %#x and goes to %q", m, typ, m.Core())
		}
		back, err := wallet.Decode(raw)
		if err != nil || !bytes.Equal(back.Append(nil), raw) || fmt.Sprintf("%+v", back) != fmt.Sprintf("%+v", m) {
			t.Errorf("%+v comes back as %+v, %v", m, back, err)
		}
		for n := range raw {
			if _, err := wallet.Decode(raw[:n]); err == nil {
				t.Errorf("%T of %d bytes is read from %d", m, len(raw), n)
			}
		}
		if _, err := wallet.Decode(append(raw, 0)); err == nil {
			t.Errorf("%T is read with a byte too many", m)
		}
	}
	long := wallet.Refused{Why: strings.Repeat("no ", 1000)}
	if _, err := wallet.Decode(long.Append(nil)); err != nil {
		t.Errorf("a long reason: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := wallet.Decode(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Append(nil), raw) {
			t.Errorf("%x is another way to write %+v", raw, m)
		}
	})
}

// A proof that verifies is one that the wallet made, but for its witnesses.
func FuzzVerify(f *testing.F) {
	k := newTalk(&testing.T{})
	k.obey("wallet depth=2\nopen alice 84\nfund alice 50000\nmine\npay alice o1 5000\nmine 2")
	p := k.pays[orderID("o1")]
	proof := k.proofs[p.Order]
	e := receipt.Entry{Order: p.Order, Amount: p.Amount}
	made, err := wallet.Verify(e, p.Script, 2, regtest, proof)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(proof)
	f.Add(proof[:40])
	f.Fuzz(func(t *testing.T, proof []byte) {
		// A chain of two regtest blocks is made in no time: only one without work is
		// impossible, and so only the known block counts.
		got, err := wallet.Verify(e, p.Script, 2, regtest, proof)
		if err == nil && got.Block == made.Block && got.Tx.TxHash() != made.Tx.TxHash() {
			t.Errorf("block %v proves %v", got.Block, got.Tx.TxHash())
		}
	})
}

// written is what a gateway has on disk in the middle of everything: a joint
// transaction whose silent member was left behind, a bump that waits, settled and
// failed orders, bills, an invitation.
func written(t testing.TB) map[string][]byte {
	k := newTalk(&testing.T{})
	k.quiet = true
	k.obey("wallet joint gather=1 bump=2 gap=2\nopen alice 84\nopen bob 86\nopen carol 49\nfund alice 50000\nfund bob 60000\nfund carol 70000\nmine")
	k.obey("order alice o1 1000\nwait 1\nmine\norder alice big 1000000\nbill bob b1 5000\nsend b1 6000\nmine\nbill bob b2 5000\ninvite 0123456789abcdef dave")
	k.obey("order alice o2 1000\nwait 1\nstuck\noffline alice\nstuck\norder bob o3 2000\norder carol o4 2000\nlose bob\nlose bob\nlose bob\nwait 1\noffline bob\nwait 61")
	return persisted.Records(k.disk)
}

// Records of version 1 must be read for ever, so their bytes are kept.
func TestPersistedFormat(t *testing.T) {
	update := flag.Lookup("update").Value.String() == "true"
	persisted.Test(t, filepath.Join("testdata", "persisted", "v1.hex"), update, written(t), func(d *sim.Disk) (*wallet.Wallet, error) {
		return wallet.Load(d, wallet.Options{Params: regtest, Depth: 1, Gap: 2})
	})
}

// FuzzLoad changes one record: whatever a bad disk says, loading is an error or
// gives a wallet, and stepping that at worst asserts.
func FuzzLoad(f *testing.F) {
	records := written(f)
	for i := range byte(20) {
		f.Add(i, uint16(0), []byte{1})
		f.Add(i, uint16(3), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
		f.Add(i, uint16(9), []byte{})
	}
	var keys []string
	for key := range records {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	f.Fuzz(func(t *testing.T, which byte, at uint16, with []byte) {
		key := keys[int(which)%len(keys)]
		if strings.HasPrefix(key, "wallet/a/") && len(with) > 0 && int(at)%(len(records[key])+1)+len(with) > 150 {
			t.Skip() // the numbers of addresses, of which there may be many
		}
		d := persisted.Disk(records)
		d.Commit([]step.Record{{Key: key, Value: spoil(records[key], int(at), with)}})
		w, err := wallet.Load(d, wallet.Options{Params: regtest, Depth: 1, Gap: 2})
		if err != nil {
			return
		}
		defer func() {
			r := recover()
			if _, bug := r.(runtime.Error); bug || r != nil && !strings.HasPrefix(fmt.Sprint(r), "assert: ") {
				panic(r)
			}
		}()
		w.Step(step.Input{At: 1, Events: []any{step.Rang{ID: step.Start}}})
		w.Check()
		w.Durable()
		w.Summary()
	})
}

// spoil writes with over a value from at on, or cuts it there.
func spoil(value []byte, at int, with []byte) []byte {
	value = bytes.Clone(value)
	at %= len(value) + 1
	if len(with) == 0 {
		return value[:at:at]
	}
	return append(value[:at], append(with, value[min(len(value), at+len(with)):]...)...)
}
