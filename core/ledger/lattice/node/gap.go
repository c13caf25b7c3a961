package node

import (
	"coinop.dev/core/ledger/lattice"
)

const (
	// MaxUnchecked bounds the blocks that wait for another one.
	MaxUnchecked = 65_536
	// maxWaiting bounds those that wait for the same one.
	maxWaiting = 64
)

// gaps are blocks that cannot be judged before another one is there; the oldest go.
type gaps struct {
	by     map[lattice.Hash][]asked      // by what they wait for
	hashes map[lattice.Hash]lattice.Hash // what each waits for
	order  []lattice.Hash                // a ring of hashes that wait, or have
	next   int
}

func (g *gaps) has(h lattice.Hash) bool {
	_, waits := g.hashes[h]
	return waits
}

// add has a block wait. Whoever waits for an answer gets it, and is not told again.
func (g *gaps) add(a *asked, missing lattice.Hash) {
	if g.by == nil {
		g.by, g.hashes = map[lattice.Hash][]asked{}, map[lattice.Hash]lattice.Hash{}
	}
	if g.has(a.hash) || len(g.by[missing]) >= maxWaiting {
		return
	}
	if len(g.order) < MaxUnchecked {
		g.order = append(g.order, a.hash)
	} else {
		g.drop(g.order[g.next])
		g.order[g.next] = a.hash
		g.next = (g.next + 1) % MaxUnchecked
	}
	kept := *a
	kept.process, kept.checked = nil, true
	g.hashes[a.hash] = missing
	g.by[missing] = append(g.by[missing], kept)
}

func (g *gaps) drop(h lattice.Hash) {
	missing, waits := g.hashes[h]
	if !waits {
		return
	}
	delete(g.hashes, h)
	list := g.by[missing]
	for i := range list {
		if list[i].hash == h {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(g.by, missing)
	} else {
		g.by[missing] = list
	}
}

// take is what has waited for a block, which is there now.
func (g *gaps) take(h lattice.Hash) []asked {
	list := g.by[h]
	delete(g.by, h)
	for i := range list {
		delete(g.hashes, list[i].hash)
	}
	return list
}

// recent is a set of hashes that forgets the oldest: when the young half is full,
// the old one goes.
type recent struct{ young, old map[lattice.Hash]struct{} }

func (r *recent) has(h lattice.Hash) bool {
	if _, ok := r.young[h]; ok {
		return true
	}
	_, ok := r.old[h]
	return ok
}

func (r *recent) add(h lattice.Hash) {
	if r.young == nil || len(r.young) >= MaxRecent/2 {
		r.old, r.young = r.young, make(map[lattice.Hash]struct{})
	}
	r.young[h] = struct{}{}
}
