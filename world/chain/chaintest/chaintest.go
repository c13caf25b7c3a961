// Package chaintest is what every chain.Source must pass.
package chaintest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
)

// A Miner makes the chain that the source sees. The regtest node is one.
type Miner interface {
	Mine(blocks int) ([]chainhash.Hash, error)
	MineTo(script []byte, blocks int) ([]chainhash.Hash, error)
	MineOnly(txs ...*wire.MsgTx) (chainhash.Hash, error)
	Faucet(script []byte, sat int64) (wire.OutPoint, error)
	Reorg(depth int) error
	ReorgDropping(depth int) error
	Tip(ctx context.Context) (int32, chainhash.Hash, error)
}

// Patience is how long a source may take to see what the miner did.
const Patience = 20 * time.Second

// Fee is what the transactions of this package pay, in satoshi.
const Fee = 1000

// A story is one test, told on a fresh chain.
type story func(t *testing.T, s chain.Source, m Miner)

// Test tells every story. open brings a source and the miner of its chain.
func Test(t *testing.T, open func(t *testing.T) (chain.Source, Miner)) {
	for _, c := range []struct {
		name string
		tell story
	}{
		{"the tip follows the miner and changes are told", tip},
		{"an unknown output has depth 0", unknownOutput},
		{"an output is seen deeper with every block", depth},
		{"a spend is seen with its transaction and witness", spend},
		{"a reorganisation takes depth and spender back", reorg},
		{"a spender on one branch gives way to another", rival},
		{"a longer reorganisation is followed", longReorg},
		{"publishing again is harmless", publishAgain},
		{"a double spend is refused or never confirmed", doubleSpend},
		{"a spend of nothing is not taken", spendOfNothing},
		{"coins are listed until they are spent", coins},
		{"block rewards ripen", rewards},
		{"a follower reports levels", follower},
		{"blocks are followed in order", blocks},
		{"a closed source says so", closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, m := open(t)
			c.tell(t, s, m)
		})
	}
}

func tip(t *testing.T, s chain.Source, m Miner) {
	agree(t, s, m)
	changed := s.Changed()
	mine(t, m, 3)
	select {
	case <-changed:
	case <-time.After(Patience):
		t.Fatal("three blocks were mined and the channel of Changed is still open")
	}
	agree(t, s, m)
}

func unknownOutput(t *testing.T, s chain.Source, m Miner) {
	mine(t, m, 2)
	agree(t, s, m)
	point := wire.OutPoint{Hash: chainhash.HashH([]byte("no such transaction"))}
	if got := status(t, s, watch.Output{Point: point, Script: Script(1)}); got != (watch.Status{Point: point, Tip: 2}) {
		t.Errorf("status is %+v; want nothing but the tip", got)
	}
	coin := fund(t, m, 1)
	mine(t, m, 1)
	point = wire.OutPoint{Hash: coin.Point.Hash, Index: 1000}
	await(t, s, coin, func(w watch.Status) bool { return w.Depth == 1 })
	if got := status(t, s, watch.Output{Point: point, Script: Script(1)}); got.Depth != 0 || got.Value != 0 {
		t.Errorf("output 1000 of a transaction with two has depth %d and value %d", got.Depth, got.Value)
	}
}

func depth(t *testing.T, s chain.Source, m Miner) {
	o := fund(t, m, 1)
	for want := int32(1); want <= 3; want++ {
		mine(t, m, 1)
		got := await(t, s, o, func(w watch.Status) bool { return w.Depth == want })
		if got.Value != Value || got.Spender != nil || got.SpendDepth != 0 {
			t.Errorf("status at depth %d is %+v", want, got)
		}
	}
}

func spend(t *testing.T, s chain.Source, m Miner) {
	o := fund(t, m, 1)
	mine(t, m, 1)
	await(t, s, o, func(w watch.Status) bool { return w.Depth == 1 })
	spender := Spend(o.Point, Value, 1, 2)
	publish(t, s, spender)
	if got := status(t, s, o); got.Spender != nil {
		t.Error("a spender is reported that no block has yet")
	}
	mine(t, m, 1)
	got := await(t, s, o, func(w watch.Status) bool { return w.SpendDepth == 1 })
	if got.Depth != 2 || got.Spender.WitnessHash() != spender.WitnessHash() {
		t.Errorf("depth is %d, spender %v; want 2, %v", got.Depth, got.Spender.WitnessHash(), spender.WitnessHash())
	}
	mine(t, m, 1)
	await(t, s, o, func(w watch.Status) bool { return w.SpendDepth == 2 && w.Depth == 3 })
}

func reorg(t *testing.T, s chain.Source, m Miner) {
	o := fund(t, m, 1)
	mine(t, m, 2)
	spender := Spend(o.Point, Value, 1, 2)
	await(t, s, o, func(w watch.Status) bool { return w.Depth == 2 })
	publish(t, s, spender)
	mine(t, m, 1)
	await(t, s, o, func(w watch.Status) bool { return w.SpendDepth == 1 && w.Depth == 3 })

	must(t, m.Reorg(1))
	await(t, s, o, func(w watch.Status) bool { return w.Spender == nil && w.Depth == 4 })
	must(t, m.Reorg(4))
	await(t, s, o, func(w watch.Status) bool { return w.Depth == 0 && w.Value == 0 })
	agree(t, s, m)

	// Both wait in the pool again, so the next block has them.
	mine(t, m, 1)
	await(t, s, o, func(w watch.Status) bool { return w.Depth == 1 && w.SpendDepth == 1 })
}

func rival(t *testing.T, s chain.Source, m Miner) {
	o := fund(t, m, 1)
	mine(t, m, 1)
	first, second := Spend(o.Point, Value, 1, 2), Spend(o.Point, Value, 1, 3)
	for _, spender := range []*wire.MsgTx{first, second} {
		if _, err := m.MineOnly(spender); err != nil {
			t.Fatal(err)
		}
		await(t, s, o, func(w watch.Status) bool {
			return w.SpendDepth == 1 && w.Spender.TxHash() == spender.TxHash()
		})
		must(t, m.ReorgDropping(1))
		await(t, s, o, func(w watch.Status) bool { return w.Spender == nil })
	}
}

func longReorg(t *testing.T, s chain.Source, m Miner) {
	mine(t, m, 40)
	agree(t, s, m)
	o := fund(t, m, 1)
	mine(t, m, 30)
	await(t, s, o, func(w watch.Status) bool { return w.Depth == 30 })
	must(t, m.Reorg(33))
	agree(t, s, m)
	mine(t, m, 1)
	await(t, s, o, func(w watch.Status) bool { return w.Depth == 1 })
}

func publishAgain(t *testing.T, s chain.Source, m Miner) {
	o := fund(t, m, 1)
	mine(t, m, 1)
	await(t, s, o, func(w watch.Status) bool { return w.Depth == 1 })
	spender := Spend(o.Point, Value, 1, 2)
	publish(t, s, spender)
	publish(t, s, spender)
	mine(t, m, 1)
	publish(t, s, spender)
	await(t, s, o, func(w watch.Status) bool { return w.SpendDepth == 1 })
	publish(t, s, spender)
}

func doubleSpend(t *testing.T, s chain.Source, m Miner) {
	o := fund(t, m, 1)
	mine(t, m, 1)
	await(t, s, o, func(w watch.Status) bool { return w.Depth == 1 })
	first, second := Spend(o.Point, Value, 1, 2), Spend(o.Point, Value, 1, 3)
	publish(t, s, first)
	if err := s.Publish(t.Context(), second); err != nil && !errors.Is(err, chain.ErrRefused) {
		t.Logf("double spend of a waiting transaction: %v", err)
	}
	mine(t, m, 1)
	await(t, s, o, func(w watch.Status) bool { return w.SpendDepth == 1 && w.Spender.TxHash() == first.TxHash() })
	if err := s.Publish(t.Context(), second); !errors.Is(err, chain.ErrRefused) {
		t.Errorf("double spend of a mined transaction gives %v; want ErrRefused", err)
	}
	mine(t, m, 1)
	await(t, s, o, func(w watch.Status) bool { return w.SpendDepth == 2 && w.Spender.TxHash() == first.TxHash() })
}

func spendOfNothing(t *testing.T, s chain.Source, m Miner) {
	mine(t, m, 1)
	agree(t, s, m)
	point := wire.OutPoint{Hash: chainhash.HashH([]byte("no such transaction"))}
	if err := s.Publish(t.Context(), Spend(point, Value, 1, 2)); err == nil {
		t.Error("a spend of an output that does not exist was published")
	}
}

func coins(t *testing.T, s chain.Source, m Miner) {
	a, b := fund(t, m, 1), fund(t, m, 1)
	mine(t, m, 1)
	await(t, s, b, func(w watch.Status) bool { return w.Depth == 1 })
	got := list(t, s, Script(1))
	if !slices.Equal(points(got), sorted(a.Point, b.Point)) {
		t.Fatalf("coins are %v; want %v", points(got), sorted(a.Point, b.Point))
	}
	for _, c := range got {
		if c.Value != Value || c.Depth != 1 || c.Coinbase || !c.Spendable() {
			t.Errorf("coin is %+v", c)
		}
	}
	spender := Spend(a.Point, Value, 1, 2)
	publish(t, s, spender)
	if got := list(t, s, Script(1)); !slices.Equal(points(got), []wire.OutPoint{b.Point}) {
		t.Errorf("coins are %v with a spend waiting; want only %v", points(got), b.Point)
	}
	waits := list(t, s, Script(2))
	if len(waits) != 1 || waits[0].Depth != 0 || waits[0].Point.Hash != spender.TxHash() {
		t.Errorf("coins of a waiting transaction are %+v", waits)
	}
	mine(t, m, 1)
	await(t, s, a, func(w watch.Status) bool { return w.SpendDepth == 1 })
	if got := list(t, s, Script(2)); len(got) != 1 || got[0].Depth != 1 {
		t.Errorf("coins of a mined transaction are %+v", got)
	}
}

func rewards(t *testing.T, s chain.Source, m Miner) {
	if _, err := m.MineTo(Script(7), 1); err != nil {
		t.Fatal(err)
	}
	mine(t, m, 98)
	agree(t, s, m)
	got := list(t, s, Script(7))
	if len(got) != 1 || !got[0].Coinbase || got[0].Depth != 99 || got[0].Spendable() {
		t.Fatalf("a reward 99 deep is %+v", got)
	}
	spender := Spend(got[0].Point, got[0].Value, 7, 2)
	if err := s.Publish(t.Context(), spender); !errors.Is(err, chain.ErrRefused) {
		t.Errorf("spending a reward 99 deep gives %v; want ErrRefused", err)
	}
	mine(t, m, 1)
	agree(t, s, m)
	if got = list(t, s, Script(7)); !got[0].Spendable() {
		t.Errorf("a reward 100 deep is %+v", got[0])
	}
	publish(t, s, spender)
}

func follower(t *testing.T, s chain.Source, m Miner) {
	o := fund(t, m, 1)
	mine(t, m, 1)
	agree(t, s, m)
	reports := make(chan watch.Status, 100)
	f := chain.NewFollower(s, func(w any) { reports <- w.(watch.Status) }, func(err error) { t.Log(err) })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	next := func(why string, want func(w watch.Status) bool) {
		t.Helper()
		for late := time.After(Patience); ; {
			select {
			case w := <-reports:
				if w.Point == o.Point && want(w) {
					return
				}
			case <-late:
				t.Fatal("no report of " + why)
			}
		}
	}
	must(t, f.Watch(o))
	next("the output", func(w watch.Status) bool { return w.Depth == 1 })
	must(t, f.Watch(o))
	next("the output that was asked for again", func(w watch.Status) bool { return w.Depth == 1 })
	mine(t, m, 1)
	next("the second block", func(w watch.Status) bool { return w.Depth == 2 })
	must(t, m.Reorg(2))
	next("the reorganisation", func(w watch.Status) bool { return w.Depth == 0 })
}

func blocks(t *testing.T, s chain.Source, m Miner) {
	if _, ok := s.(chain.Blocker); !ok {
		t.Skip("it shows no blocks")
	}
	mine(t, m, 3)
	agree(t, s, m)
	type block struct {
		height int32
		txs    []*wire.MsgTx
	}
	seen := make(chan block, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- chain.FollowBlocks(ctx, s, 2, func(height int32, txs []*wire.MsgTx) error {
			seen <- block{height, txs}
			return nil
		}, func(err error) { t.Log(err) })
	}()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	}()
	// until expects every block up to one that has a transaction.
	next := int32(2)
	until := func(id chainhash.Hash) {
		t.Helper()
		for late := time.After(Patience); ; {
			select {
			case b := <-seen:
				if b.height > next {
					t.Fatalf("block %d comes where %d should", b.height, next)
				}
				next = b.height + 1
				for _, tx := range b.txs {
					if tx.TxHash() == id {
						return
					}
				}
			case <-late:
				t.Fatal("the block does not come")
			}
		}
	}
	o := fund(t, m, 1)
	mine(t, m, 2)
	until(o.Point.Hash)
	first := next
	// The chain is reorganised: the transaction is mined again, in another block.
	must(t, m.Reorg(3))
	mine(t, m, 1)
	until(o.Point.Hash)
	if next < first {
		t.Errorf("the branch is followed to %d only", next)
	}
}

func closed(t *testing.T, s chain.Source, _ Miner) {
	changed := s.Changed()
	must(t, s.Close())
	select {
	case <-changed:
	case <-time.After(Patience):
		t.Error("Changed is still open after Close")
	}
	if _, err := s.Status(t.Context(), watch.Output{Script: Script(1)}); !errors.Is(err, chain.ErrClosed) {
		t.Errorf("Status of a closed source gives %v; want ErrClosed", err)
	}
	if err := s.Publish(t.Context(), Spend(wire.OutPoint{}, Value, 1, 2)); !errors.Is(err, chain.ErrClosed) {
		t.Errorf("Publish to a closed source gives %v; want ErrClosed", err)
	}
}

// Value is what the coins of this package hold, in satoshi.
const Value = 100_000

// program is satisfied by anyone; n makes its hash one of many.
func program(n byte) []byte {
	return []byte{txscript.OP_DATA_2, 'c', n, txscript.OP_DROP, txscript.OP_TRUE}
}

// Script pays to a hash whose program anyone satisfies, one for every n.
func Script(n byte) []byte { return tx.P2WSH(program(n)) }

// Spend moves the coin of value satoshi at point from Script(from) to Script(to).
func Spend(point wire.OutPoint, value int64, from, to byte) *wire.MsgTx {
	t := wire.NewMsgTx(2)
	t.AddTxIn(wire.NewTxIn(&point, nil, wire.TxWitness{program(from)}))
	t.AddTxOut(wire.NewTxOut(value-Fee, Script(to)))
	return t
}

// Await waits until the status of o is as wanted.
func Await(ctx context.Context, s chain.Source, o watch.Output, want func(watch.Status) bool) (watch.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	for {
		changed := s.Changed()
		got, err := s.Status(ctx, o)
		if err == nil && want(got) {
			return got, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return got, fmt.Errorf("after %v the status is %+v, error %v", Patience, got, err)
		}
	}
}

// Agree waits until two sources have the same tip.
func Agree(ctx context.Context, a chain.Source, b interface {
	Tip(ctx context.Context) (int32, chainhash.Hash, error)
}) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	for {
		changed := a.Changed()
		ha, ta, err := a.Tip(ctx)
		hb, tb, errB := b.Tip(ctx)
		if errB != nil {
			return errB
		}
		if err == nil && ta == tb {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("after %v the tips are %d %v and %d %v, error %v", Patience, ha, ta, hb, tb, err)
		}
	}
}

func agree(t *testing.T, s chain.Source, m Miner) {
	t.Helper()
	must(t, Agree(t.Context(), s, m))
}

func await(t *testing.T, s chain.Source, o watch.Output, want func(watch.Status) bool) watch.Status {
	t.Helper()
	got, err := Await(t.Context(), s, o, want)
	must(t, err)
	return got
}

func status(t *testing.T, s chain.Source, o watch.Output) watch.Status {
	t.Helper()
	got, err := s.Status(t.Context(), o)
	must(t, err)
	return got
}

func fund(t *testing.T, m Miner, n byte) watch.Output {
	t.Helper()
	point, err := m.Faucet(Script(n), Value)
	must(t, err)
	return watch.Output{Point: point, Script: Script(n)}
}

func mine(t *testing.T, m Miner, blocks int) {
	t.Helper()
	if _, err := m.Mine(blocks); err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, s chain.Source, spender *wire.MsgTx) {
	t.Helper()
	must(t, s.Publish(t.Context(), spender))
}

func list(t *testing.T, s chain.Source, script []byte) []watch.Coin {
	t.Helper()
	got, err := s.Coins(t.Context(), script)
	must(t, err)
	return got
}

func points(coins []watch.Coin) []wire.OutPoint {
	var all []wire.OutPoint
	for _, c := range coins {
		all = append(all, c.Point)
	}
	return sorted(all...)
}

func sorted(points ...wire.OutPoint) []wire.OutPoint {
	slices.SortFunc(points, func(a, b wire.OutPoint) int { return slices.Compare(a.Hash[:], b.Hash[:]) })
	return points
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
