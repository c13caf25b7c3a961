package sim_test

import (
	"strings"
	"testing"

	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

// within is how many seeds may pass before a planted bug is caught.
const within = 36

// The test of the tests: mistakes that cost money do not survive.
func TestPlantedBugsAreCaught(t *testing.T) {
	for _, c := range []struct {
		name string
		bug  sim.Bug
		want []string // part of the failure, one of them
		only string   // the world that shows it within so few seeds; "" for all
	}{
		{"send before commit", sim.Bug{SendBeforeCommit: true}, []string{"and the payer signed", "goods never came", "was never settled"}, ""},
		{"map order in effects", sim.Bug{MapOrder: true}, []string{"two runs of one seed differ"}, ""},
		{"stale acknowledgement accepted", sim.Bug{Wrap: wrapPayers(newStale)}, []string{"the purse has paid"}, ""},
		{"forgotten settled order, by the channel", sim.Bug{Wrap: wrapPayers(newForgetful)}, []string{"was never settled"}, "oneway"},
		{"forgotten settled order, by the book", sim.Bug{Wrap: forgetfulBook}, []string{"the purse has paid"}, ""},
	} {
		for _, world := range []string{"oneway", "payword"} { // see bugs_lightning_test.go
			if c.only != "" && c.only != world {
				continue
			}
			t.Run(c.name+"/"+world, func(t *testing.T) {
				t.Parallel()
				for s := *seed; s < *seed+within; s++ {
					err := sim.SeedWithBug(world, s, c.bug)
					if err == nil {
						continue
					}
					for _, want := range c.want {
						if strings.Contains(err.Error(), want) {
							t.Logf("seed %d: %v", s, err)
							return
						}
					}
					t.Fatalf("seed %d fails for another reason: %v", s, err)
				}
				t.Errorf("%d seeds pass", within)
			})
		}
	}
}

// The wrappers themselves break nothing.
func TestAnHonestWrapperIsNotCaught(t *testing.T) {
	honest := sim.Bug{Wrap: func(_ string, core drive.Core) drive.Core { return &wrapped{core} }}
	for _, world := range sim.Names() {
		if _, err := sim.Worlds[world](*seed, nil, honest); err != nil {
			t.Errorf("%s: %v", world, err)
		}
	}
}

type wrapped struct{ drive.Core }

func (w *wrapped) Unwrap() drive.Core { return w.Core }

// wrapPayers wraps the core that the world's orders go to.
func wrapPayers(wrap func(drive.Core) drive.Core) func(string, drive.Core) drive.Core {
	return func(name string, core drive.Core) drive.Core {
		if strings.HasPrefix(name, oneway.PayerPrefix) || strings.HasPrefix(name, payword.PayerPrefix) {
			return wrap(core)
		}
		return core
	}
}

// stale takes any old stamp for an answer to what is pending now.
type stale struct {
	wrapped
	pending map[money.OrderID]money.Amount
	last    uint64 // ticket that is stamped
}

func newStale(core drive.Core) drive.Core {
	return &stale{wrapped: wrapped{core}, pending: map[money.OrderID]money.Amount{}}
}

func (s *stale) Step(in step.Input) step.Effects {
	old := false
	for _, event := range in.Events {
		r, _ := event.(step.Recv)
		switch msg := r.Msg.(type) {
		case money.Order:
			s.pending[msg.ID] = msg.Amount
		case oneway.Taken:
			old = old || msg.To <= s.last
			s.last = max(s.last, msg.To)
		case payword.Taken:
			old = old || msg.To <= s.last
			s.last = max(s.last, msg.To)
		}
	}
	fx := s.Core.Step(in)
	for _, d := range fx.Done {
		if id, ok := money.OrderIDFromKey(d.ID); ok {
			delete(s.pending, id)
		}
	}
	for id, amount := range s.pending {
		if old {
			paid := receipt.Paid{Batch: &receipt.Batch{Entries: []receipt.Entry{{Order: id, Amount: amount}}}}
			fx.Done = append(fx.Done, step.Outcome{ID: id.Key(), Value: paid})
			break
		}
	}
	return fx
}

// forgetful has no proof of what it has settled.
type forgetful struct{ wrapped }

func newForgetful(core drive.Core) drive.Core { return &forgetful{wrapped{core}} }

func (f *forgetful) Step(in step.Input) step.Effects {
	var forgotten []step.Outcome
	events := in.Events
	in.Events = nil
	for _, event := range events {
		r, _ := event.(step.Recv)
		if q, ok := r.Msg.(money.Inquiry); ok {
			forgotten = append(forgotten, step.Outcome{ID: q.Order.Key(), Err: &money.Error{Kind: money.Refused, Err: money.ErrForgotten}})
			continue
		}
		in.Events = append(in.Events, event)
	}
	fx := f.Core.Step(in)
	fx.Done = append(fx.Done, forgotten...)
	return fx
}

// forgetfulBook is a buyer's book that keeps no order once it is paid, in memory
// or on disk.
func forgetfulBook(name string, core drive.Core) drive.Core {
	book, ok := core.(*spend.Book)
	if !ok {
		return core
	}
	return &amnesia{wrapped{book}}
}

type amnesia struct{ wrapped }

func (a *amnesia) Step(in step.Input) step.Effects {
	fx := a.Core.Step(in)
	records := sim.Disk{}
	records.Commit(a.Core.(*spend.Book).Durable())
	forgot := false
	for _, d := range fx.Done {
		if _, ok := money.OrderIDFromKey(d.ID); ok && d.Err == nil {
			gone := step.Record{Key: "spend/o/" + d.ID}
			records.Commit([]step.Record{gone})
			fx.Put = append(fx.Put, gone)
			forgot = true
		}
	}
	if forgot {
		book, err := spend.Load(&records, spend.Limits{})
		if err != nil {
			panic(err)
		}
		a.Core = book
	}
	return fx
}
