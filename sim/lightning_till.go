package sim

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"coinop.dev/core/codec"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// till is what a node's machine has earned, by order, in the same durable write
// as the node's own records.
type till struct {
	by map[money.OrderID]*earned
}

type earned struct {
	amount money.Amount
	times  int
}

const (
	tillName   = "till"
	tillPrefix = "till/"
)

func loadTill(db step.Reader) (*till, error) {
	t := &till{by: map[money.OrderID]*earned{}}
	return t, codec.Scan(db, tillPrefix, func(name string, r *codec.Reader) {
		id, ok := money.OrderIDFromKey(name)
		if !ok {
			r.Fail(fmt.Errorf("%q is no order", name))
		}
		t.by[id] = &earned{r.Amount(), r.Int(1<<20, "times")}
	})
}

// Step hears the node.
func (t *till) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		if late, rang := event.(step.Rang); rang {
			if id, ok := money.OrderIDFromKey(late.ID); ok {
				fx.Send = append(fx.Send, word(id))
			}
			continue
		}
		r, _ := event.(step.Recv)
		out, _ := r.Msg.(step.Outcome)
		if v, held := out.Value.(receipt.Held); held {
			if id := v.Holding().Order; id[3]%2 == 0 {
				fx.Send = append(fx.Send, word(id))
			} else {
				fx.Wake = append(fx.Wake, step.Alarm{ID: id.Key(), At: in.At + step.Time(id[3])*100*step.Millisecond})
			}
			continue
		}
		v, ok := out.Value.(node.Earned)
		if !ok {
			continue
		}
		e := t.by[v.Entry().Order]
		if e == nil {
			e = &earned{}
			t.by[v.Entry().Order] = e
		}
		e.amount += v.Entry().Amount
		e.times++
		fx.Put = append(fx.Put, t.record(v.Entry().Order))
	}
	return fx
}

// held and cancels say of an order by invoice whether its money is held first, and
// then given back.
func held(id money.OrderID) bool    { return id[1]%2 == 0 }
func cancels(id money.OrderID) bool { return held(id) && id[2]%4 == 0 }

// word is what the till says of money that is held.
func word(id money.OrderID) step.Packet {
	if cancels(id) {
		return step.Packet{To: node.Name, Msg: receipt.Cancel{Order: id}}
	}
	return step.Packet{To: node.Name, Msg: receipt.Release{Order: id}}
}

func (t *till) record(id money.OrderID) step.Record {
	e := t.by[id]
	return step.Record{Key: tillPrefix + id.Key(), Value: codec.AppendUint(codec.AppendUint(nil, e.amount), e.times)}
}

// Durable is everything.
func (t *till) Durable() (all []step.Record) {
	ids := slices.SortedFunc(maps.Keys(t.by), func(a, b money.OrderID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		all = append(all, t.record(id))
	}
	return all
}

func (t *till) total() (sum money.Amount) {
	for _, e := range t.by {
		sum += e.amount
	}
	return sum
}
