package dag

import (
	"fmt"
	"slices"

	"coinop.dev/core/step"
)

// Confirm takes out what a milestone confirms. Ids are all unconfirmed blocks that
// it approves, in any order: what WhiteFlag returns. They must be in the DAG, and so
// must their past be: ErrUnknown, ErrCone. Blocks that approve them then hang on the
// confirmed past, and all tips get a new score. It costs one pass over all blocks.
func (d *DAG) Confirm(milestone uint32, ids []ID) error {
	gone := d.mark()
	list := make([]int32, 0, len(ids))
	for _, id := range ids {
		i, ok := d.slots[id]
		if !ok {
			return fmt.Errorf("%w: %x, of milestone %d", ErrUnknown, id, milestone)
		}
		if !gone.has(i) {
			gone.set(i)
			list = append(list, i)
		}
	}
	for _, i := range list {
		for _, e := range d.up(i) {
			if e.parent >= 0 && !gone.has(e.parent) {
				return fmt.Errorf("%w: %x, a parent of %x", ErrCone, d.ids[e.parent], d.ids[i])
			}
		}
	}
	d.milestone = max(d.milestone, milestone)
	for _, i := range list {
		for k := d.nodes[i].approver; k != none; {
			e := &d.edges[k]
			next := e.next
			e.parent = entry(milestone)
			if !gone.has(e.child) {
				d.link(k)
			}
			k = next
		}
		d.remove(i)
	}
	d.sift(root)
	d.tidy()
	d.rescore()
	return nil
}

// remove empties a slot. Its edges stay, and lead nowhere that counts.
func (d *DAG) remove(i int32) {
	n := &d.nodes[i]
	if n.children == 0 {
		d.tips--
	}
	d.leave(i)
	n.own, n.approver, n.children, n.weight = 0, none, 0, 0
	delete(d.slots, d.ids[i])
	if !d.options.Unweighted {
		d.waiting[i] = bitset{}
	}
	d.live--
}

// sift takes edges from empty slots off the list of a parent.
func (d *DAG) sift(parent int32) {
	at := &d.nodes[parent].approver
	for *at != none {
		e := &d.edges[*at]
		if d.nodes[e.child].own != 0 {
			at = &e.next
			continue
		}
		*at = e.next
		d.nodes[parent].children--
	}
}

// Drop takes out a block and all that approves it: see DropAll.
func (d *DAG) Drop(id ID, at step.Time) []ID { return d.DropAll([]ID{id}, at) }

// DropAll takes out blocks and all that approve them, for good: they are invalid, or
// so old that no milestone will approve them. It returns what it took out, oldest
// first. Weights of what they approved sink, and it may be a tip again as of the time.
// It costs a few passes over all blocks, and one per batch of those taken out.
func (d *DAG) DropAll(ids []ID, at step.Time) (dropped []ID) {
	var slots []int32
	for _, id := range ids {
		if i, ok := d.slots[id]; ok {
			slots = append(slots, i)
		}
	}
	if len(slots) == 0 {
		return nil
	}
	future := d.future(slots...)
	var gone []int32
	for i := slices.Min(slots); int(i) < len(d.ids); i++ {
		if future.has(i) {
			gone = append(gone, i)
			dropped = append(dropped, d.ids[i])
		}
	}
	if !d.options.Unweighted {
		d.unweigh(gone)
	}
	for _, i := range gone {
		d.remove(i)
	}
	sifted := d.mark()
	for _, i := range gone {
		for _, e := range d.up(i) {
			p := max(e.parent, root)
			if sifted.has(p) || p != root && d.nodes[p].own == 0 {
				continue
			}
			sifted.set(p)
			d.sift(p)
			if p != root && d.nodes[p].children == 0 {
				d.tips++
				d.leave(p) // a new tip, as if nobody had approved it
				d.enter(p, at)
			}
		}
	}
	d.tidy()
	return dropped
}

// tidy moves all blocks together when more slots are empty than full.
func (d *DAG) tidy() {
	for d.low < len(d.ids) && d.nodes[d.low].own == 0 {
		d.low++
	}
	const worth = 1024 // empty slots that are not worth a move
	if empty := len(d.ids) - 1 - d.live; empty > max(worth, d.live) {
		d.compact()
	}
}

// compact renumbers slots and edges. Their order stays, also in lists of approvers.
func (d *DAG) compact() {
	slots := make([]int32, len(d.ids)) // old to new
	edges := make([]int32, len(d.edges))
	slot, k := int32(1), int32(0)
	for i := 1; i < len(d.ids); i++ {
		if d.nodes[i].own == 0 {
			continue
		}
		slots[i] = slot
		slot++
		for e := d.nodes[i].edge; e < d.nodes[i+1].edge; e++ {
			edges[e] = k
			k++
		}
	}
	to := func(e int32) int32 {
		if e == none {
			return none
		}
		return edges[e]
	}
	// Fresh arrays, so that those of a busy hour are given back.
	was := *d
	d.ids = append(make([]ID, 0, slot+slot/4), ID{})
	d.nodes = append(make([]node, 0, slot+slot/4+1), was.nodes[root])
	d.edges = make([]edge, 0, k+k/4)
	d.nodes[root].approver = to(was.nodes[root].approver)
	if !d.options.Unweighted {
		d.waiting = append(make([]bitset, 0, slot+slot/4), bitset{})
	}
	d.slots = make(map[ID]int32, slot+slot/4)
	for i := int32(1); int(i) < len(was.ids); i++ {
		n := was.nodes[i]
		if n.own == 0 {
			continue
		}
		for _, e := range was.up(i) {
			if e.parent >= 0 {
				e.parent = slots[e.parent]
			}
			e.child, e.next = slots[i], to(e.next)
			d.edges = append(d.edges, e)
		}
		n.edge, n.approver = uint32(edges[n.edge]), to(n.approver)
		d.nodes = append(d.nodes, n)
		d.ids = append(d.ids, was.ids[i])
		d.slots[was.ids[i]] = slots[i]
		if !d.options.Unweighted {
			d.waiting = append(d.waiting, was.waiting[i])
		}
	}
	d.nodes = append(d.nodes, node{edge: uint32(len(d.edges))})
	for _, pool := range d.pools {
		for k := range pool {
			pool[k].slot = slots[pool[k].slot]
		}
	}
	d.low = 1
	d.fresh = true // exact meant an old slot; the next pass begins at the top
}
