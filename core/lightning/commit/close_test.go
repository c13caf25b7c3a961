package commit_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/money"
)

func payTo(name string) []byte { return tx.P2WPKH(secretOf(name).Public()) }

// closes signs a closing transaction at both ends and lets the engine judge it.
func closes(t *testing.T, e *ends, alice, bob *commit.Closing) {
	t.Helper()
	if alice.Digest() != bob.Digest() {
		t.Fatal("the ends build different transactions")
	}
	sig := bob.Sign(e.bobSecrets)
	if err := alice.Verify(sig); err != nil {
		t.Fatal(err)
	}
	if err := bob.Verify(sig); !errors.Is(err, commit.ErrSignature) {
		t.Errorf("Bob takes his own signature for Alice's: %v", err)
	}
	if err := runs(alice.Signed(e.aliceSecrets, sig), 0, e.alice.FundingOutput()); err != nil {
		t.Error(err)
	}
	sum := alice.Fee
	for _, o := range alice.Tx.TxOut {
		sum += o.Value
	}
	if sum != e.alice.Capacity {
		t.Errorf("outputs and fee are %d sat", sum)
	}
}

func TestClosingSigned(t *testing.T) {
	for _, opener := range []commit.Owner{commit.Local, commit.Remote} {
		e := newEnds(commit.StaticRemoteKey, 100_000, opener)
		local, remote := money.Amount(60_000_999), money.Amount(39_999_001)
		alice, err := e.alice.Closing(local, remote, payTo("alice"), payTo("bob"), 500)
		if err != nil {
			t.Fatal(err)
		}
		bob, err := e.bob.Closing(remote, local, payTo("bob"), payTo("alice"), 500)
		if err != nil {
			t.Fatal(err)
		}
		closes(t, e, alice, bob)
		paid := map[commit.Owner]int64{commit.Local: 60_000, commit.Remote: 39_999}
		paid[opener] -= 500
		if got := alice.Tx.TxOut[alice.ToLocal].Value; got != paid[commit.Local] {
			t.Errorf("Alice gets %d sat", got)
		}
		if got := alice.Tx.TxOut[alice.ToRemote].Value; got != paid[commit.Remote] {
			t.Errorf("Bob gets %d sat", got)
		}
		if alice.Tx.LockTime != 0 || alice.Tx.TxIn[0].Sequence != final {
			t.Error("the transaction is not final")
		}
		// Bob leaves out his own output; Alice finds the variant he means.
		less, err := bob.Without(commit.Local)
		if err != nil {
			t.Fatal(err)
		}
		if alice.Verify(less.Sign(e.bobSecrets)) == nil {
			t.Error("a signature fits two variants")
		}
		variant, err := alice.Without(commit.Remote)
		if err != nil {
			t.Fatal(err)
		}
		closes(t, e, variant, less)
		if _, err := variant.Without(commit.Local); err == nil {
			t.Error("a closing transaction without outputs")
		}
	}
}

func TestClosingLeavesOutDustAndRefusesWhatIsNotThere(t *testing.T) {
	e := newEnds(commit.StaticRemoteKey, 100_000, commit.Local)
	k, err := e.alice.Closing(99_900_000, 100_000, payTo("alice"), payTo("bob"), 500)
	if err != nil {
		t.Fatal(err)
	}
	if k.ToRemote != -1 || k.ToLocal != 0 || k.Fee != 600 {
		t.Errorf("%d outputs, a fee of %d sat", len(k.Tx.TxOut), k.Fee)
	}
	if k, err = e.alice.Closing(99_646_000, 354_000, payTo("alice"), payTo("bob"), 500); err != nil || k.ToRemote != 0 {
		t.Errorf("an output at the dust limit is left out: %v", err)
	}
	for name, a := range map[string]struct {
		local, remote money.Amount
		fee           int64
	}{
		"fee above the opener's balance": {10_000_000, 90_000_000, 10_001},
		"negative fee":                   {10_000_000, 90_000_000, -1},
		"more than the capacity":         {10_000_000, 91_000_000, 10},
		"nothing left":                   {100_000, 100_000, 100},
	} {
		if _, err := e.alice.Closing(a.local, a.remote, payTo("alice"), payTo("bob"), a.fee); !errors.Is(err, commit.ErrClosing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSimpleClose(t *testing.T) {
	e := newEnds(commit.Anchors, 100_000, commit.Local)
	local, remote := money.Amount(60_000_000), money.Amount(40_000_000)
	burn := append([]byte{txscript.OP_RETURN, 8}, "farewell"...)
	for _, closer := range []commit.Owner{commit.Local, commit.Remote} {
		for v, outputs := range map[commit.Variant]int{commit.CloserAndClosee: 2, commit.CloserOnly: 1, commit.CloseeOnly: 1} {
			for _, script := range [][]byte{payTo("bob"), burn} {
				alice, err := e.alice.SimpleClosing(closer, v, local, remote, payTo("alice"), script, 700, 801_000)
				if err != nil {
					t.Fatal(err)
				}
				bob, err := e.bob.SimpleClosing(closer.Other(), v, remote, local, script, payTo("alice"), 700, 801_000)
				if err != nil {
					t.Fatal(err)
				}
				closes(t, e, alice, bob)
				if n := len(alice.Tx.TxOut); n != outputs {
					t.Errorf("variant %d has %d outputs", v, n)
				}
				if alice.Tx.LockTime != 801_000 || alice.Tx.TxIn[0].Sequence != 0xFFFFFFFD {
					t.Error("the transaction cannot be replaced")
				}
				if alice.ToRemote >= 0 && bytes.Equal(script, burn) && alice.Tx.TxOut[alice.ToRemote].Value != 0 {
					t.Error("money goes to OP_RETURN")
				}
			}
		}
		k, err := e.alice.SimpleClosing(closer, commit.CloserAndClosee, local, remote, payTo("alice"), payTo("bob"), 700, 0)
		if err != nil {
			t.Fatal(err)
		}
		if k.Fee != 700 {
			t.Errorf("the fee is %d sat", k.Fee)
		}
	}
}

// BOLT 2, shutdown: what scriptpubkey may be.
func TestValidShutdown(t *testing.T) {
	ret := func(n int) []byte { return append([]byte{txscript.OP_RETURN, byte(n)}, make([]byte, n)...) }
	long := func(n int) []byte {
		return append([]byte{txscript.OP_RETURN, txscript.OP_PUSHDATA1, byte(n)}, make([]byte, n)...)
	}
	program := func(op byte, n int) []byte { return append([]byte{op, byte(n)}, make([]byte, n)...) }
	for _, v := range []struct {
		name                     string
		script                   []byte
		plain, any, simple, both bool
	}{
		{"P2WPKH", program(0, 20), true, true, true, true},
		{"P2WSH", program(0, 32), true, true, true, true},
		{"version 0 of 33 bytes", program(0, 33), false, false, false, false},
		{"P2TR", program(txscript.OP_1, 32), false, true, false, true},
		{"version 16 of 2 bytes", program(txscript.OP_16, 2), false, true, false, true},
		{"version 1 of 40 bytes", program(txscript.OP_1, 40), false, true, false, true},
		{"version 1 of 41 bytes", program(txscript.OP_1, 41), false, false, false, false},
		{"version 1 of 1 byte", program(txscript.OP_1, 1), false, false, false, false},
		{"OP_RETURN of 6", ret(6), false, false, true, true},
		{"OP_RETURN of 75", ret(75), false, false, true, true},
		{"OP_RETURN of 5", ret(5), false, false, false, false},
		{"OP_RETURN of 76", long(76), false, false, true, true},
		{"OP_RETURN of 80", long(80), false, false, true, true},
		{"OP_RETURN of 81", long(81), false, false, false, false},
		{"OP_RETURN of 75, long way", long(75), false, false, false, false},
		{"OP_RETURN and more", append(ret(6), 0), false, false, false, false},
		{"P2PKH", append(append([]byte{txscript.OP_DUP, txscript.OP_HASH160, 20}, make([]byte, 20)...), txscript.OP_EQUALVERIFY, txscript.OP_CHECKSIG), false, false, false, false},
		{"nothing", nil, false, false, false, false},
	} {
		for i, want := range []bool{v.plain, v.any, v.simple, v.both} {
			if got := commit.ValidShutdown(v.script, i&1 != 0, i&2 != 0); got != want {
				t.Errorf("%s: %v with features %02b", v.name, got, i)
			}
		}
	}
}

func TestDustLimits(t *testing.T) {
	key := keys.Public{}
	for want, script := range map[int64][]byte{
		294: tx.P2WPKH(key),
		330: tx.P2WSH(nil),
		354: append([]byte{txscript.OP_1, 32}, make([]byte, 32)...),
		0:   {txscript.OP_RETURN},
		540: append(append([]byte{txscript.OP_HASH160, 20}, make([]byte, 20)...), txscript.OP_EQUAL),
		546: append(append([]byte{txscript.OP_DUP, txscript.OP_HASH160, 20}, make([]byte, 20)...), txscript.OP_EQUALVERIFY, txscript.OP_CHECKSIG),
	} {
		if got := commit.DustLimit(script); got != want {
			t.Errorf("the dust limit of %x is %d sat, want %d", script, got, want)
		}
	}
}
