package node

import (
	"slices"

	"coinop.dev/core/ledger/tangle"
)

const (
	// MaxTrees bounds the milestones whose Merkle trees are kept for proofs, and MaxLeaves
	// the blocks of all of them, which take some 170 bytes each.
	MaxTrees  = 16
	MaxLeaves = 1 << 17
)

// trees are the Merkle trees that were asked for last, the latest one last, so that
// those who ask for proofs of different milestones in turn do not have them made again.
type trees []*tree

// A tree is over the blocks that one milestone has applied. Most are never asked for, so
// it is made when the first proof is.
type tree struct {
	index   uint32
	applied []tangle.BlockID
	places  map[tangle.BlockID]int
	made    *tangle.Tree
}

// of finds a milestone's tree, or nil.
func (l trees) of(index uint32) *tree {
	for i, t := range l {
		if t.index == index {
			copy(l[i:], l[i+1:])
			l[len(l)-1] = t
			return t
		}
	}
	return nil
}

// add keeps a milestone's tree instead of those that nobody has asked for, at all or for
// longest.
func (l *trees) add(index uint32, applied []tangle.BlockID) *tree {
	t := &tree{index: index, applied: applied}
	*l = append(slices.DeleteFunc(*l, func(t *tree) bool { return t.places == nil }), t)
	leaves := 0
	for i := len(*l) - 1; i >= 0; i-- {
		leaves += len((*l)[i].applied)
		if (*l)[i] != t && (leaves > MaxLeaves || len(*l)-i > MaxTrees) {
			*l = slices.Delete(*l, 0, i+1)
			break
		}
	}
	return t
}

func (t *tree) place(id tangle.BlockID) (int, bool) {
	if t.places == nil {
		t.places = make(map[tangle.BlockID]int, len(t.applied))
		for i, id := range t.applied {
			t.places[id] = i
		}
	}
	i, ok := t.places[id]
	return i, ok
}

func (t *tree) hashes() *tangle.Tree {
	if t.made == nil {
		t.made = tangle.NewTree(t.applied)
	}
	return t.made
}
