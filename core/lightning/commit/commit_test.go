package commit_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/money"
)

// Whatever the state, both ends build the same transaction for either owner, its
// outputs and fee are the capacity, and each signs what the other takes.
func TestBothEndsBuildTheSameAndNothingIsLost(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	built := 0
	for i := range 300 {
		typ, opener := types[i%2], commit.Owner(i/2%2)
		e := newEnds(typ, 1_000+r.Int64N(200_000), opener)
		s := randomState(r, e.alice.Capacity)
		point := e.aliceSecrets.Point(s.Number)
		mine, err := e.alice.Build(commit.Local, point, s)
		theirs, err2 := e.bob.Build(commit.Remote, point, mirror(s))
		if (err == nil) != (err2 == nil) {
			t.Fatalf("one end builds it, the other does not: %v; %v", err, err2)
		}
		if err != nil {
			if !errors.Is(err, commit.ErrState) || typ != commit.Anchors {
				t.Fatal(err)
			}
			continue
		}
		built++
		for view, k := range map[*commit.Channel]*commit.Commitment{&e.alice: mine, &e.bob: theirs} {
			secrets, state := e.aliceSecrets, s
			if view == &e.bob {
				secrets, state = e.bobSecrets, mirror(s)
			}
			derived, err := secrets.Keys(view, k.Owner, point, s.Number)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := view.BuildWith(derived, k.Owner, point, state); err != nil || again.ID != k.ID {
				t.Fatalf("with keys from secrets it is another transaction: %v", err)
			}
		}
		if !bytes.Equal(tx.Bytes(mine.Tx), tx.Bytes(theirs.Tx)) {
			t.Fatalf("state %+v: the ends build different transactions", s)
		}
		conserved(t, e, s, mine)
		if i%10 == 0 {
			sig, htlcs := theirs.Sign(e.bobSecrets)
			if err := mine.Verify(sig, htlcs); err != nil {
				t.Fatal(err)
			}
			if err := runs(mine.Signed(e.aliceSecrets, sig), 0, e.alice.FundingOutput()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if built < 200 {
		t.Errorf("only %d of 300 states could be built", built)
	}
}

func conserved(t *testing.T, e *ends, s commit.State, k *commit.Commitment) {
	t.Helper()
	sum, base := k.Fee, e.alice.Fee(commit.Local, s.FeeRate, len(k.Outputs))
	for i, o := range k.Tx.TxOut {
		sum += o.Value
		if isAnchor := i == k.LocalAnchor || i == k.RemoteAnchor; !isAnchor && o.Value < e.alice.Local.Dust {
			t.Errorf("an output of %d sat is dust", o.Value)
		}
		if i > 0 && (o.Value < k.Tx.TxOut[i-1].Value || o.Value == k.Tx.TxOut[i-1].Value && bytes.Compare(o.PkScript, k.Tx.TxOut[i-1].PkScript) < 0) {
			t.Error("outputs are not in the order of BIP 69")
		}
	}
	if sum != e.alice.Capacity || k.Fee < 0 {
		t.Errorf("outputs and a fee of %d sat are %d sat of %d", k.Fee, sum, e.alice.Capacity)
	}
	opener := s.Local
	if e.alice.Opener == commit.Remote {
		opener = s.Remote
	}
	if k.Fee < min(base, opener.Sats()-2*commit.AnchorValue) {
		t.Errorf("the fee is %d sat; the opener has %v for %d sat", k.Fee, opener, base)
	}
	for i := 1; i < len(k.Outputs); i++ {
		a, b := k.Outputs[i-1], k.Outputs[i]
		if a.Vout >= b.Vout || a.Value == b.Value && bytes.Equal(a.Script, b.Script) && a.Expiry > b.Expiry {
			t.Error("HTLCs are out of order")
		}
	}
}

func TestWhatIsNoStateIsRefused(t *testing.T) {
	e := newEnds(commit.Anchors, 100_000, commit.Local)
	point := e.aliceSecrets.Point(0)
	good := stateOf(100_000, 2, 253)
	for name, change := range map[string]func(s *commit.State){
		"money out of nothing": func(s *commit.State) { s.Local++ },
		"money lost":           func(s *commit.State) { s.Remote-- },
		"overflow":             func(s *commit.State) { s.Local, s.Remote = 1<<63, 1<<63+100_000_000-s.HTLCs[0].Amount*2 },
		"number":               func(s *commit.State) { s.Number = commit.MaxNumber + 1 },
		"fee rate":             func(s *commit.State) { s.FeeRate = -1 },
		"too many HTLCs": func(s *commit.State) {
			s.Local, s.Remote, s.HTLCs = 50_000_000, 50_000_000, make([]commit.HTLC, commit.MaxHTLCs+1)
		},
		"anchors from nothing": func(s *commit.State) { s.Local, s.Remote, s.HTLCs = 0, 100_000_000, nil },
	} {
		s := good
		change(&s)
		if _, err := e.alice.Build(commit.Local, point, s); !errors.Is(err, commit.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := e.alice.Build(commit.Local, keys.Public{2}, good); err == nil {
		t.Error("a point that is not on the curve is taken")
	}
}

func TestABadSignatureIsNamed(t *testing.T) {
	e := newEnds(commit.Anchors, 10_000_000, commit.Local)
	s := stateOf(e.alice.Capacity, 20, 253)
	point := e.bobSecrets.Point(s.Number)
	sig, htlcs := build(t, &e.alice, commit.Remote, point, s).Sign(e.aliceSecrets)
	k := build(t, &e.bob, commit.Local, point, mirror(s))
	if err := k.Verify(sig, htlcs); err != nil {
		t.Fatal(err)
	}
	bad := sig
	bad[40]++
	if err := k.Verify(bad, htlcs); !errors.Is(err, commit.ErrSignature) {
		t.Error(err)
	}
	for _, some := range [][]keys.Signature{htlcs[1:], append(htlcs[:20:20], sig), nil} {
		if err := k.Verify(sig, some); !errors.Is(err, commit.ErrSignature) {
			t.Error(err)
		}
	}
	for i := range htlcs {
		htlcs[i][40]++
		want := fmt.Sprintf("%v: HTLC %d of 20 in the local commitment", commit.ErrSignature, i+1)
		if err := k.Verify(sig, htlcs); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		htlcs[i][40]--
	}
}

// The peer's secrets come in order; each can be looked up ever after, in 49
// slots, and a record of them reads back.
func TestRevealedSecretsAreFoundAgain(t *testing.T) {
	s := commit.NewSecrets(secretOf("carol"))
	var r commit.Revealed
	for n := range uint64(1_000) {
		kept := r
		if err := r.Add(n, s.PerCommitment(n)); err != nil {
			t.Fatal(err)
		}
		if kept.Next() != n {
			t.Fatal("a copy changed")
		}
		if n%100 == 99 {
			reader := codec.NewReader(r.Append(nil))
			again := commit.ReadRevealed(reader)
			if err := reader.Close(); err != nil || again.Next() != r.Next() {
				t.Fatal(err, again.Next())
			}
			r = again
		}
	}
	for n := range uint64(1_000) {
		if got, ok := r.Secret(n); !ok || got != s.PerCommitment(n) {
			t.Fatalf("secret %d is %x", n, got)
		}
	}
	if _, ok := r.Secret(1_000); ok {
		t.Error("a secret is known that was not revealed")
	}
	if err := r.Add(999, s.PerCommitment(999)); err == nil {
		t.Error("a secret was taken twice")
	}
	if size := len(r.Append(nil)); size > 2+10*32 {
		t.Errorf("1,000 secrets take %d bytes", size)
	}
	other := commit.NewSecrets(secretOf("dave"))
	odd := r
	if err := odd.Add(1_000, other.PerCommitment(1_000)); err != nil {
		t.Fatal("nothing can be known of a secret at an even number:", err)
	}
	if err := odd.Add(1_001, s.PerCommitment(1_001)); !errors.Is(err, commit.ErrRevealed) {
		t.Errorf("a secret of another seed was taken: %v", err)
	}
}

func FuzzRevealed(f *testing.F) {
	s := commit.NewSecrets(secretOf("carol"))
	var r commit.Revealed
	f.Add(r.Append(nil))
	for n := range uint64(5) {
		if err := r.Add(n, s.PerCommitment(n)); err != nil {
			f.Fatal(err)
		}
		f.Add(r.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		reader := codec.NewReader(raw)
		r := commit.ReadRevealed(reader)
		if reader.Close() != nil {
			return
		}
		if got := r.Append(nil); !bytes.Equal(got, raw) {
			t.Errorf("%x, want %x", got, raw)
		}
		r.Secret(r.Next() / 2)
		_ = r.Add(r.Next(), [32]byte{1})
	})
}

func TestSecretsDoNotPrint(t *testing.T) {
	s := commit.NewSecrets(secretOf("alice"))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(verb, s); got != "secrets" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

// BOLT 3, fee calculation, "Example".
func TestTheExampleOfFees(t *testing.T) {
	c := commit.Channel{Local: commit.Party{Dust: 546}}
	untrimmed, trimmed := 0, money.Amount(0)
	for _, h := range []commit.HTLC{{Ours: true, Amount: 5_000_000}, {Ours: true, Amount: 1_000_000}, {Amount: 7_000_000}, {Amount: 800_000}} {
		if c.Trimmed(commit.Local, 5_000, h) {
			trimmed += h.Amount
			continue
		}
		untrimmed++
	}
	fee := c.Fee(commit.Local, 5_000, untrimmed)
	if fee != 5_340 || fee+trimmed.Sats() != 7_140 {
		t.Errorf("the base fee is %d sat, the actual fee %d sat", fee, fee+trimmed.Sats())
	}
}

// BOLT 3, commitment transaction outputs: a side has an anchor if it has an
// output to care for, which an HTLC is for both.
func TestWhoHasAnAnchor(t *testing.T) {
	e := newEnds(commit.Anchors, 10_000_000, commit.Local)
	const all = 10_000_000_000
	htlc := commit.HTLC{Amount: 5_000_000_000, Expiry: 1}
	for name, v := range map[string]struct {
		state                          commit.State
		toLocal, toRemote, mine, other bool
	}{
		"both":                {commit.State{Local: all / 2, Remote: all / 2}, true, true, true, true},
		"only we":             {commit.State{Local: all}, true, false, true, false},
		"only the peer":       {commit.State{Local: 700_000, Remote: all - 700_000}, false, true, false, true},
		"an HTLC and we":      {commit.State{Local: all / 2, HTLCs: []commit.HTLC{htlc}}, true, false, true, true},
		"an HTLC and dust":    {commit.State{Local: 700_000, Remote: 5_000_000_000 - 700_000, HTLCs: []commit.HTLC{htlc}}, false, true, true, true},
		"only an HTLC":        {commit.State{Local: 1_000_000, HTLCs: []commit.HTLC{{Amount: all - 1_000_000}}}, false, false, true, true},
		"a trimmed HTLC, we":  {commit.State{Local: all - 1_000, HTLCs: []commit.HTLC{{Amount: 1_000}}}, true, false, true, false},
		"only a trimmed HTLC": {commit.State{Local: 700_000, Remote: all - 800_000, HTLCs: []commit.HTLC{{Amount: 100_000}}}, false, true, false, true},
	} {
		k := build(t, &e.alice, commit.Local, e.aliceSecrets.Point(0), v.state)
		if has := [4]bool{k.ToLocal >= 0, k.ToRemote >= 0, k.LocalAnchor >= 0, k.RemoteAnchor >= 0}; has != [4]bool{v.toLocal, v.toRemote, v.mine, v.other} {
			t.Errorf("%s: to_local, to_remote and their anchors are there: %v", name, has)
		}
	}
}

// Only what looks like a commitment has a number.
func TestNumber(t *testing.T) {
	e := newEnds(commit.Anchors, 10_000_000, commit.Local)
	k := build(t, &e.alice, commit.Local, e.aliceSecrets.Point(7), stateOf(10_000_000, 0, 253))
	if n, ok := e.bob.Number(k.Tx); !ok || n != 7 {
		t.Errorf("the number is %d", n)
	}
	for name, change := range map[string]func(t *wire.MsgTx){
		"lock time":      func(t *wire.MsgTx) { t.LockTime &= 0xffffff },
		"sequence":       func(t *wire.MsgTx) { t.TxIn[0].Sequence = final },
		"another output": func(t *wire.MsgTx) { t.TxIn[0].PreviousOutPoint.Index++ },
		"two inputs":     func(t *wire.MsgTx) { t.AddTxIn(t.TxIn[0]) },
	} {
		other := k.Tx.Copy()
		change(other)
		if n, ok := e.alice.Number(other); ok {
			t.Errorf("%s: it has the number %d", name, n)
		}
	}
}

// A channel and its states read back from their records.
func TestRecordsReadBack(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 50 {
		e := newEnds(types[i%2], 1_000+r.Int64N(200_000), commit.Owner(i/2%2))
		s := randomState(r, e.alice.Capacity)
		raw := s.Append(e.alice.Append(nil))
		reader := codec.NewReader(raw)
		c, again := commit.ReadChannel(reader), commit.ReadState(reader)
		if err := reader.Close(); err != nil || c != e.alice {
			t.Fatal(err)
		}
		if got := again.Append(c.Append(nil)); !bytes.Equal(got, raw) {
			t.Fatalf("%x, want %x", got, raw)
		}
		for n := range raw {
			reader := codec.NewReader(raw[:n])
			commit.ReadChannel(reader)
			commit.ReadState(reader)
			if reader.Close() == nil {
				t.Fatalf("%d bytes of %d are enough", n, len(raw))
			}
		}
	}
}

func FuzzRecords(f *testing.F) {
	e := newEnds(commit.Anchors, 100_000, commit.Local)
	s := stateOf(100_000, 3, 253)
	f.Add(s.Append(e.alice.Append(nil)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		reader := codec.NewReader(raw)
		c, s := commit.ReadChannel(reader), commit.ReadState(reader)
		if reader.Close() != nil {
			return
		}
		if got := s.Append(c.Append(nil)); !bytes.Equal(got, raw) {
			t.Errorf("%x, want %x", got, raw)
		}
		_, _ = c.Build(commit.Local, c.Local.Funding, s)
	})
}
