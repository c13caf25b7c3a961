package sim_test

import (
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/step"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

// program is a script that waits: for a height, or for the age of its coin.
func program(t *testing.T, op byte, n int64) []byte {
	t.Helper()
	script, err := txscript.NewScriptBuilder().AddInt64(n).AddOp(op).Script()
	if err != nil {
		t.Fatal(err)
	}
	return script
}

func spending(point wire.OutPoint, program []byte, sequence, lockTime uint32, to []byte) *wire.MsgTx {
	t := wire.NewMsgTx(2)
	t.AddTxIn(&wire.TxIn{PreviousOutPoint: point, Sequence: sequence, Witness: wire.TxWitness{program}})
	t.AddTxOut(wire.NewTxOut(1000, tx.P2WSH(to)))
	t.LockTime = lockTime
	return t
}

// Locks hold as on the real chain.
func TestLocks(t *testing.T) {
	const last = wire.MaxTxInSequenceNum
	young, late := program(t, txscript.OP_CHECKSEQUENCEVERIFY, 3), program(t, txscript.OP_CHECKLOCKTIMEVERIFY, sim.Genesis+3)
	open := program(t, txscript.OP_NOP, 1)
	for _, c := range []struct {
		name               string
		program            []byte
		sequence, lockTime uint32
		depth              int // blocks on top of the coin's transaction, its own included
		refused            string
	}{
		{"too young", young, 3, 0, 2, "waits for depth 3 and has 2"},
		{"old enough", young, 3, 0, 3, ""},
		{"unconfirmed", young, 3, 0, 0, "waits for depth 3 and has 0"},
		{"age not claimed", young, 2, 0, 3, "input 0"},
		{"age in seconds", open, 1<<22 | 1, 0, 9, "waits for depth"},
		{"too early", late, 0, sim.Genesis + 3, 2, "lock time 103 is not reached at 102"},
		{"in time", late, 0, sim.Genesis + 3, 3, ""},
		{"time not claimed", late, last, sim.Genesis + 3, 3, "input 0"},
		{"no input minds the lock time", open, last, sim.Genesis + 3, 0, ""},
		{"a commitment's lock time is long past", open, 0x80abcdef, 0x20abcdef, 0, ""},
		{"a lock until another time", open, 0, sim.Began + 1, 0, "is not reached"},
	} {
		l := sim.NewLedger()
		coin := wire.OutPoint{Hash: chainhash.Hash{1}}
		l.Mint(coin, wire.NewTxOut(2000, tx.P2WSH(open)))
		parent := spending(coin, open, last, 0, c.program)
		if err := l.Publish(parent); err != nil {
			t.Fatal(err)
		}
		for range c.depth {
			l.Mine()
		}
		err := l.Publish(spending(wire.OutPoint{Hash: parent.TxHash()}, c.program, c.sequence, c.lockTime, open))
		if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A watcher is told at once and at every block, until its machine crashes.
func TestChainTellsWatchers(t *testing.T) {
	w := sim.NewWorld(1, sim.Faults{})
	c := sim.NewChain(w)
	w.Outlet = func(m *sim.Machine, p step.Packet) { c.Take(m, p) }
	coin := wire.OutPoint{Hash: chainhash.Hash{1}}
	open := program(t, txscript.OP_NOP, 1)
	c.Mint(coin, wire.NewTxOut(2000, tx.P2WSH(open)))
	parent := spending(coin, open, wire.MaxTxInSequenceNum, 0, open)
	var told []watch.Status
	watcher := func(in step.Input) (fx step.Effects) {
		for _, event := range in.Events {
			switch ev := event.(type) {
			case step.Rang:
				fx.Send = []step.Packet{
					{To: watch.Chain, Msg: watch.Publish{Tx: parent}},
					{To: watch.Chain, Msg: watch.Output{Point: wire.OutPoint{Hash: parent.TxHash()}}},
					{To: watch.Chain, Msg: watch.Output{Point: wire.OutPoint{Hash: parent.TxHash(), Index: 9}}},
				}
			case step.Recv:
				told = append(told, ev.Msg.(watch.Status))
			}
		}
		return fx
	}
	if _, err := w.Add("watcher", func(step.Reader) (*drive.Machine, error) {
		m := drive.NewMachine()
		m.Add("watcher", stepper(watcher))
		return m, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.Run(w.Now + step.Second); err != nil {
		t.Fatal(err)
	}
	c.Blocks(w.Now + 30*step.Second)
	if err := w.Run(w.Now + 40*step.Second); err != nil {
		t.Fatal(err)
	}
	depth, none := int32(-1), 0
	for _, s := range told {
		if s.Point.Index != 0 {
			none++
			if s.Depth != 0 {
				t.Errorf("an output that is not there: %+v", s)
			}
			continue
		}
		if s.Depth != depth+1 {
			t.Errorf("depth %d follows %d", s.Depth, depth)
		}
		depth = s.Depth
	}
	if depth < 3 || none != int(depth)+1 {
		t.Errorf("told of depth %d, and %d times of nothing", depth, none)
	}
}

type stepper func(step.Input) step.Effects

func (s stepper) Step(in step.Input) step.Effects { return s(in) }
