package node_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/lightning/tower"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// What is too small for the chain is paid up to the limit, and beyond it refused
// for certain; what is large enough goes on.
func TestOwnDustIsBounded(t *testing.T) {
	w := newWorld(t, "car", "charger")
	w.config.MaxDust = 1_000_000
	car, charger := w.machines[0], w.machines[1]
	car.restart()
	w.connect(car, charger)
	w.open(car, charger, node.Open{Capacity: 1_000_000})
	pay := func(n byte, amount money.Amount) *step.Outcome {
		id := money.OrderID{n}
		charger.step(node.Bill{Bill: money.Bill{ID: id, Amount: amount, Hold: true}})
		car.step(money.Order{ID: id, To: "lightning:" + charger.last(node.BillID+id.Key()).Value.(string), Amount: amount})
		w.settle()
		return car.last(id.Key())
	}
	for n := range byte(3) {
		if o := pay(n, 300_000); o != nil {
			t.Fatalf("payment %d does not hang: %+v", n, o)
		}
	}
	o := pay(3, 300_000)
	if o == nil || !errors.Is(o.Err, channel.ErrDust) || money.KindOf(o.Err) != money.Unpaid {
		t.Fatalf("a fourth: %+v", o)
	}
	if o := pay(4, 5_000_000); o != nil {
		t.Errorf("one that the chain enforces: %+v", o)
	}
	s := car.n.Summary()
	if s.Dust != 900_000 || s.MaxDust != 1_000_000 || s.Channels[0].Dust != 900_000 {
		t.Errorf("%v of %v hang, %v in the channel", s.Dust, s.MaxDust, s.Channels[0].Dust)
	}
	held := charger.last(node.HeldID + money.OrderID{4}.Key()).Value.(node.Held)
	charger.step(node.Cancel{Hash: held.Hash})
	w.settle()
}

// The node asks for a channel when there is too little to send, keeps to its
// limits over a restart, and asks again the next day.
func TestAutomaticOpening(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.config.Auto = node.Auto{Peer: charger.key.Public(), Below: 300_000_000, Capacity: 500_000, MaxCount: 5, MaxSum: 1_000_000}
	car.restart()
	w.connect(car, charger)
	wait := func(d step.Time) { w.at += d; car.step(step.Rang{ID: "auto"}) }
	// grant carries out what the node asks for, and pays it all away.
	grant := func(n byte) {
		t.Helper()
		asked := car.last(node.AutoID)
		if asked == nil || asked.Err != nil {
			t.Fatalf("channel %d is not asked for: %+v", n, asked)
		}
		o := asked.Value.(node.Open)
		car.done = nil
		car.step(o)
		w.settle()
		f := car.last(node.FundID + o.Tag)
		if f == nil || f.Err != nil {
			t.Fatalf("nothing to fund: %+v", f)
		}
		tx := wire.NewMsgTx(2)
		tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: uint32(len(w.mined))}, nil, nil))
		tx.AddTxOut(f.Value.(node.Funding).Output)
		car.step(node.Fund{Tag: o.Tag, Tx: tx})
		w.settle()
		w.mine(6)
		w.mine(1)
		wait(2 * step.Second)
		if a := car.last(node.AutoID); a != nil {
			t.Fatalf("there is enough, and yet: %+v", a)
		}
		id := money.OrderID{n}
		car.step(money.Order{ID: id, To: charger.bill(400_000_000, n), Amount: 400_000_000})
		w.settle()
		if d := car.last(id.Key()); d == nil || d.Err != nil {
			t.Fatalf("payment %d: %+v", n, d)
		}
		wait(2 * step.Second)
	}
	grant(1)
	// The shell has no money at the first try: a minute later it is asked again.
	tag := car.last(node.AutoID).Value.(node.Open).Tag
	car.step(car.last(node.AutoID).Value)
	w.settle()
	car.step(node.Fund{Tag: tag})
	car.done = nil
	wait(2 * step.Second)
	if a := car.last(node.AutoID); a != nil {
		t.Fatalf("asked at once: %+v", a)
	}
	wait(step.Minute)
	grant(2)
	if a := car.last(node.AutoID); a == nil || money.KindOf(a.Err) != money.Refused {
		t.Fatalf("a third channel: %+v", a)
	}
	car.done = nil
	car.restart()
	w.connect(car, charger)
	w.mine(1)
	wait(2 * step.Second)
	if a := car.last(node.AutoID); a == nil || a.Err == nil {
		t.Fatalf("a third channel after a restart: %+v", a)
	}
	car.done = nil
	wait(24 * 60 * step.Minute)
	grant(3)
}

// The tower's client hears of every revoked commitment of a guarded channel.
func TestTheTowerIsTold(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	w.config.Tower = true
	car.restart()
	w.connect(car, charger)
	o := w.open(car, charger, node.Open{Capacity: 1_000_000})
	for n := range byte(3) {
		car.step(money.Order{ID: money.OrderID{n}, To: charger.bill(5_000_000, n), Amount: 5_000_000})
		w.settle()
	}
	covers, guards := 0, uint64(0)
	for _, msg := range car.tower {
		switch m := msg.(type) {
		case tower.Cover:
			covers++
		case tower.Guard:
			if m.Channel != tower.ChannelID(o.ID) || m.State.Number != guards {
				t.Errorf("guard %d is of commitment %d", guards, m.State.Number)
			}
			guards++
		}
	}
	if covers != 1 || guards < 6 || len(charger.tower) != 0 {
		t.Errorf("%d covers, %d guards; %d of a machine without a tower", covers, guards, len(charger.tower))
	}
}

func TestLiquidityInOneSentence(t *testing.T) {
	w := newWorld(t, "car", "charger")
	car, charger := w.machines[0], w.machines[1]
	is := func(want string) {
		t.Helper()
		if got := car.n.Summary().Sentence; got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
	is("can send 0 sat and receive 0 sat now; 988,685 sat more after one more channel")
	w.connect(car, charger)
	w.open(car, charger, node.Open{Capacity: 500_000, Push: 200_000_000})
	is("can send 293,685 sat and receive 195,000 sat now; 493,685 sat more after one more channel")
	car.restart()
	if got := car.n.Summary().Sentence; !strings.Contains(got, "can send 0 sat and receive 0 sat now; 293,685 sat and 195,000 sat more when the peers are connected") {
		t.Errorf("%q", got)
	}
}
