package oneway_test

import (
	"encoding/binary"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/money"
)

// newTerms returns the terms of a channel whose keys no other i has.
func newTerms(t testing.TB, i uint32, capacity money.Amount) (*oneway.Terms, tests) {
	payer, payee := secret("payer"), secret("payee")
	key := oneway.FundingKey(payer, uint64(i))
	p := oneway.Proposal{
		PayerNode: payer.Public(), PayerKey: key.Public(), Capacity: capacity,
		Expiry: 1 << 20, FeeRate: tx.MinFeeRate, PayerScript: tx.P2WPKH(payer.Public()),
	}
	answer, err := oneway.Consider(p, oneway.Policy{MaxCapacity: money.MaxAmount, MinDepth: 1}, payee, 100)
	if err != nil {
		t.Fatal(err)
	}
	terms := &oneway.Terms{Proposal: p, Answer: answer, Point: wire.OutPoint{Index: 1}}
	binary.BigEndian.PutUint32(terms.Point.Hash[:], i)
	if err := terms.Check(); err != nil {
		t.Fatal(err)
	}
	return terms, tests{t, terms}
}

type tests struct {
	testing.TB
	terms *oneway.Terms
}

// runs lets Bitcoin's own script engine judge the transaction.
func (t tests) runs(c *wire.MsgTx) error {
	out := t.terms.Output()
	fetch := txscript.NewCannedPrevOutputFetcher(out.PkScript, out.Value)
	vm, err := txscript.NewEngine(out.PkScript, c, 0, txscript.StandardVerifyFlags, nil, txscript.NewTxSigHashes(c, fetch), out.Value, fetch)
	if err != nil {
		return err
	}
	return vm.Execute()
}

// The sizes that fees are computed from bound the real ones, and not by much:
// signatures differ by a byte or two.
func TestTransactionsAreValidAndNoLargerThanPaidFor(t *testing.T) {
	payer, payee := secret("payer"), secret("payee")
	largest := map[string]int{}
	for i := range uint32(64) {
		terms, t := newTerms(t, i, 10_000*money.Sat)
		mine, theirs := oneway.FundingKey(payer, uint64(i)), oneway.PayeeKeyOf(payee, terms)
		closing, err := terms.ClosedAt(5_000*money.Sat, terms.ClosingFee(), mine, theirs)
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]*wire.MsgTx{"closing": closing, "refund": terms.Refunded(mine)} {
			if err := t.runs(c); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			largest[name] = max(largest[name], tx.VSize(c))
		}
		wrong, err := terms.ClosedAt(5_000*money.Sat, terms.ClosingFee(), mine, mine)
		if err != nil {
			t.Fatal(err)
		}
		if t.runs(wrong) == nil {
			t.Error("a closing without the payee's signature is valid")
		}
		early := terms.Refunded(mine)
		early.LockTime--
		if t.runs(early) == nil {
			t.Error("a refund before the expiry is valid")
		}
		if t.runs(terms.Refunded(theirs)) == nil {
			t.Error("the payee can refund")
		}
	}
	for name, bound := range map[string]int{"closing": oneway.ClosingVSize, "refund": oneway.RefundVSize} {
		if n := largest[name]; n > bound || n < bound-4 {
			t.Errorf("the largest %s has %d virtual bytes, and the bound is %d", name, n, bound)
		}
	}
}

// Whatever a ticket promises, the closing pays the payee all of it in whole
// satoshi, unless that is dust or the fee needs it, and nothing is made or lost.
func TestAClosingPaysWhatItPromises(t *testing.T) {
	payer, payee := secret("payer"), secret("payee")
	for _, capacity := range []money.Amount{oneway.MinCapacity, 10_000 * money.Sat} {
		terms, t := newTerms(t, 7, capacity)
		mine, theirs := oneway.FundingKey(payer, 7), oneway.PayeeKeyOf(payee, terms)
		for total := money.Amount(0); total <= capacity; total += 333_337 {
			c, err := terms.ClosedAt(total, terms.ClosingFee(), mine, theirs)
			if err != nil {
				t.Fatalf("%v: %v", total, err)
			}
			toPayee, toPayer, sum := int64(0), int64(0), int64(0)
			for _, out := range c.TxOut {
				if out.Value < tx.DustP2WPKH {
					t.Errorf("%v: an output of %d sat", total, out.Value)
				}
				sum += out.Value
				if string(out.PkScript) == string(terms.PayeeScript) {
					toPayee += out.Value
				} else {
					toPayer += out.Value
				}
			}
			fee := capacity.Sats() - sum
			if want := terms.Claimable(total).Sats(); toPayee != want {
				t.Errorf("%v: the payee gets %d sat, want %d", total, toPayee, want)
			}
			if fee < terms.ClosingFee() || fee >= terms.ClosingFee()+2*tx.DustP2WPKH {
				t.Errorf("%v: the fee is %d sat", total, fee)
			}
			if left := (capacity - total).Sats() - terms.ClosingFee(); toPayer > max(left, 0)+1 {
				t.Errorf("%v: the payer gets %d sat back of %d", total, toPayer, left)
			}
		}
	}
}
