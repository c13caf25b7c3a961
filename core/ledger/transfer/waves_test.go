package transfer_test

import (
	"errors"
	"testing"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/transfer"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// atOnce is a node that is a core of the wallet's machine and answers within the
// round: everything is final as soon as it is there, or refused for ever.
type atOnce struct {
	ledger
	refuse bool
}

func (n *atOnce) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		r, ok := event.(step.Recv)
		if !ok {
			continue
		}
		if n.refuse {
			switch m := r.Msg.(type) {
			case lattice.Submit:
				fx.Send = append(fx.Send, step.Packet{To: "rich", Msg: lattice.Rejected{Hash: m.Block.Hash(), Why: lattice.BalanceWrong}})
				continue
			case tangle.Submit:
				fx.Send = append(fx.Send, step.Packet{To: "rich", Msg: tangle.Rejected{Transaction: m.Transaction.ID(), Why: tangle.SpentInput}})
				continue
			}
		}
		n.tell(r.From, r.Msg)
		n.tick()
	}
	for _, s := range n.take() {
		fx.Send = append(fx.Send, step.Packet{To: s.to, Msg: s.msg})
	}
	return fx
}

// However fast the node answers, a round of the machine comes to an end, and the
// orders do in a later one.
func TestANodeThatAnswersAtOnce(t *testing.T) {
	for name, open := range ledgers {
		for _, refuse := range []bool{false, true} {
			l := open()
			m := drive.NewMachine()
			core, err := transfer.Load(disk{}, transfer.Options{Name: "rich", Node: "node", Follow: l.follow("rich")}, l.open("rich"))
			if err != nil {
				t.Fatal(err)
			}
			m.Add("rich", core)
			m.Add("node", &atOnce{l, refuse})
			payee := l.open("poor")
			events := []drive.Event{{Core: "rich", What: step.Rang{ID: step.Start}}}
			const orders = 300
			for n := range orders {
				text, _, err := payee.Bill(orderID(n), 3, uint64(n))
				if err != nil {
					t.Fatal(err)
				}
				events = append(events, drive.Event{Core: "rich", What: transfer.Pay{Order: orderID(n), Amount: 3, Bill: text}})
			}
			paid, unpaid := 0, 0
			for now := step.Time(1); len(events) > 0 && now < 10_000; now++ {
				fx := m.Round(now, events)
				events = nil
				for _, o := range fx.Done {
					switch _, ok := o.Value.(transfer.Paid); {
					case ok:
						paid++
					case errors.Is(o.Err, money.Unpaid):
						unpaid++
					default:
						t.Fatalf("%+v", o)
					}
				}
				for _, a := range fx.Wake {
					if a.At <= now+1 {
						events = append(events, drive.Event{Core: "rich", What: step.Rang{ID: a.ID}})
					}
				}
			}
			if refuse && unpaid != orders || !refuse && paid != orders {
				t.Errorf("%s: %d orders are paid, %d are not", name, paid, unpaid)
			}
		}
	}
}
