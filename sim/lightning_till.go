package sim

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"coinop.dev/core/codec"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
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
		r, _ := event.(step.Recv)
		out, _ := r.Msg.(step.Outcome)
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
