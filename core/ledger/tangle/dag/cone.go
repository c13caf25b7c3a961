package dag

import (
	"fmt"
	"iter"
	"slices"
)

// future marks slots and all that approve one of them, directly or not.
func (d *DAG) future(slots ...int32) marks {
	m := d.mark()
	for _, i := range slots {
		m.set(i)
	}
	for k := slices.Min(slots) + 1; int(k) < len(d.ids); k++ {
		for _, e := range d.up(k) {
			if e.parent >= 0 && m.has(e.parent) && d.nodes[k].own != 0 {
				m.set(k)
				break
			}
		}
	}
	return m
}

// FutureCone yields the blocks that approve a block, directly or not, oldest first,
// without itself. The DAG must not change meanwhile.
func (d *DAG) FutureCone(id ID) iter.Seq[ID] {
	return func(yield func(ID) bool) {
		i, ok := d.slots[id]
		if !ok {
			return
		}
		m := append(marks(nil), d.future(i)...)
		for i++; int(i) < len(d.ids); i++ {
			if m.has(i) && !yield(d.ids[i]) {
				return
			}
		}
	}
}

// PastCone yields the unconfirmed blocks that blocks approve, directly or not, and
// the blocks themselves, newest first. The DAG must not change meanwhile.
func (d *DAG) PastCone(ids ...ID) iter.Seq[ID] {
	return func(yield func(ID) bool) {
		m := append(marks(nil), d.mark()...)
		top := int32(0)
		for _, id := range ids {
			if i, ok := d.slots[id]; ok {
				m.set(i)
				top = max(top, i)
			}
		}
		for i := top; int(i) >= d.low; i-- {
			if !m.has(i) {
				continue
			}
			for _, e := range d.up(i) {
				if e.parent >= 0 {
					m.set(e.parent)
				}
			}
			if !yield(d.ids[i]) {
				return
			}
		}
	}
}

// Approves reports whether block a approves block b, directly or not, or is b.
func (d *DAG) Approves(a, b ID) bool {
	target, ok := d.slots[b]
	if !ok || !d.Has(a) {
		return false
	}
	for id := range d.PastCone(a) {
		if id == b {
			return true
		}
		if d.slots[id] < target {
			return false
		}
	}
	return false
}

// WhiteFlag orders the unconfirmed past of a milestone's parents, and these
// themselves: depth first, a block after all its parents, parents in the order in
// which their block names them (TIP-2). So it depends on nothing but the blocks. A
// parent that is neither attached nor confirmed is ErrUnknown.
func (d *DAG) WhiteFlag(parents []ID) ([]ID, error) {
	var order []ID
	var path []visit
	seen := d.mark()
	for _, p := range parents {
		i, ok := d.slots[p]
		if !ok {
			if _, confirmed := d.options.Confirmed(p); !confirmed {
				return nil, fmt.Errorf("%w: %x, a parent of a milestone", ErrUnknown, p)
			}
			continue
		}
		if seen.has(i) {
			continue
		}
		seen.set(i)
		path = append(path, d.visit(i))
		for len(path) > 0 {
			v := &path[len(path)-1]
			if v.edge == v.end {
				order = append(order, d.ids[v.slot])
				path = path[:len(path)-1]
				continue
			}
			parent := d.edges[v.edge].parent
			v.edge++
			if parent >= 0 && !seen.has(parent) {
				seen.set(parent)
				path = append(path, d.visit(parent))
			}
		}
	}
	return order, nil
}

// A visit is a slot on the path of a depth-first search, and its edges to follow.
type visit struct {
	slot      int32
	edge, end uint32
}

func (d *DAG) visit(i int32) visit {
	return visit{slot: i, edge: d.nodes[i].edge, end: d.nodes[i+1].edge}
}
