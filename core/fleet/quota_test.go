package fleet_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"coinop.dev/core/fleet"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// keeper is the shared quota as Lease's comment has it.
type keeper map[string]map[int]held // by device and window, by gateway

type held struct {
	hold money.Amount
	n    uint64
}

func (k keeper) take(gateway int, l fleet.Lease) (fleet.Leased, bool) {
	key := fmt.Sprint(l.Device, l.Window)
	if k[key] == nil {
		k[key] = map[int]held{}
	}
	mine := k[key][gateway]
	if l.N < mine.n {
		return fleet.Leased{}, false
	}
	others := money.Amount(0)
	for g, h := range k[key] {
		if g != gateway {
			others += h.hold
		}
	}
	free := l.Limit - min(l.Limit, others)
	k[key][gateway] = held{min(l.Hold, free), l.N}
	return fleet.Leased{Device: l.Device, Window: l.Window, Hold: min(l.Hold, free), N: l.N}, true
}

// Two gateways, one budget; messages to and from its keeper are lost, repeated and
// reordered, gateways stop and start anywhere, and the day ends. The budget is
// never overspent, and where nothing is lost all of it can be spent.
func TestNoBudgetIsOverspentAcrossGateways(t *testing.T) {
	const limit = 1000
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 2))
		calm := seed%4 == 0
		keeper, now := keeper{}, noon
		type mail struct {
			gateway int
			msg     any
		}
		var flying []mail
		houses := []*house{newHouse(t), newHouse(t)}
		allowed := map[money.OrderID]money.Amount{}
		spent := map[step.Time]money.Amount{} // by day
		day := map[money.OrderID]step.Time{}
		var open []money.OrderID
		at := map[money.OrderID]int{}
		for i, h := range houses {
			h.config.Shared, h.config.Number = true, i
			h.reload()
			h.must(fleet.Add{Devices: []fleet.Profile{{Name: "tap", Limits: fleet.Limits{Total: limit, Period: period(t, "daily")}}}})
		}
		tell := func(i int, event any) {
			h := houses[i]
			h.now = now
			fx := h.fleet.Step(step.Input{At: now, Events: []any{event}})
			if !calm && r.IntN(15) == 0 {
				h.reload() // before the write
				return
			}
			h.disk.Commit(fx.Put)
			same(t, h.disk, h.fleet.Durable())
			for _, p := range fx.Send {
				if p.To == fleet.Quota {
					flying = append(flying, mail{i, p.Msg})
				}
			}
			for _, d := range fx.Done {
				id, _ := money.OrderIDFromKey(d.ID[len("spend/tap/"):])
				if d.Err == nil && allowed[id] == 0 {
					allowed[id], at[id] = d.Value.(money.Amount), i
					day[id] = now - now%step.Day
					spent[day[id]] += allowed[id]
					open = append(open, id)
				}
			}
			if !calm && r.IntN(15) == 0 {
				h.reload() // after it
			}
		}
		order := 0
		for range 1500 {
			i := r.IntN(2)
			switch r.IntN(8) {
			case 0, 1:
				order++
				tell(i, spendOf("tap", order, money.Amount(1+r.IntN(60))))
			case 2, 3, 4, 5:
				if len(flying) == 0 {
					continue
				}
				n := r.IntN(len(flying))
				m := flying[n]
				if calm || r.IntN(4) != 0 {
					flying = slices.Delete(flying, n, n+1)
				}
				if !calm && r.IntN(4) == 0 {
					continue
				}
				if l, ok := m.msg.(fleet.Lease); ok {
					if answer, ok := keeper.take(m.gateway, l); ok {
						flying = append(flying, mail{m.gateway, answer})
					}
					continue
				}
				tell(m.gateway, m.msg)
			case 6:
				if !calm {
					now += step.Time(r.IntN(2000))
					if r.IntN(200) == 0 {
						now += 6 * step.Hour
					}
				}
				tell(i, step.Rang{ID: "due"})
			case 7:
				if r.IntN(5) == 0 {
					tell(i, fleet.Release{})
				}
				if len(open) == 0 || r.IntN(3) > 0 {
					continue
				}
				n := r.IntN(len(open))
				id := open[n]
				if r.IntN(3) == 0 && now-now%step.Day == day[id] {
					tell(at[id], fleet.Unspent{Device: "tap", ID: id})
					if _, still := houses[at[id]].disk["fleet/s/tap/"+id.Key()]; !still {
						spent[day[id]] -= allowed[id]
						open = slices.Delete(open, n, n+1)
					}
				} else {
					tell(at[id], fleet.Spent{Device: "tap", ID: id})
					open = slices.Delete(open, n, n+1)
				}
			}
			for d, sum := range spent {
				if sum > limit {
					t.Fatalf("seed %d: on day %d %v of %v is spent", seed, d/step.Day, sum, money.Amount(limit))
				}
			}
		}
		if calm && spent[now-now%step.Day] < limit-2*limit/fleet.LeaseParts {
			t.Errorf("seed %d: nothing was lost, and only %v of %v could be spent", seed, spent[now-now%step.Day], money.Amount(limit))
		}
	}
}
