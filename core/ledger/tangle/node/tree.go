package node

import (
	"golang.org/x/crypto/blake2b"

	"coinop.dev/core/ledger/tangle"
)

// A tree is the Merkle tree over the blocks that one milestone has applied, with all
// its rows, so that a proof costs no more than its length. It is made when the first
// one is wanted.
type tree struct {
	index  uint32
	ids    []tangle.BlockID
	places map[tangle.BlockID]int
	rows   [][]tangle.Hash // leaves first
}

func (t *tree) set(index uint32, applied []tangle.BlockID) {
	*t = tree{index: index, ids: applied, places: make(map[tangle.BlockID]int, len(applied))}
	for i, id := range applied {
		t.places[id] = i
	}
}

// inclusion proves what stands at a place. RFC 6962's tree, which splits at powers of
// two, is the same as one that is built from below and lets the last of an odd row
// rise.
func (t *tree) inclusion(place int) tangle.Inclusion {
	if t.rows == nil {
		t.build()
	}
	in := tangle.Inclusion{Block: t.ids[place], Index: uint32(place), Count: uint32(len(t.ids))}
	for _, row := range t.rows[:len(t.rows)-1] {
		if sibling := place ^ 1; sibling < len(row) {
			in.Path = append(in.Path, row[sibling])
		}
		place /= 2
	}
	return in
}

func (t *tree) build() {
	row := make([]tangle.Hash, len(t.ids))
	for i := range t.ids {
		row[i] = tangle.MerkleRoot(t.ids[i : i+1])
	}
	t.rows = append(t.rows, row)
	for len(row) > 1 {
		next := make([]tangle.Hash, 0, (len(row)+1)/2)
		for i := 0; i+1 < len(row); i += 2 {
			b := [65]byte{0: 1}
			copy(b[1:], row[i][:])
			copy(b[33:], row[i+1][:])
			next = append(next, blake2b.Sum256(b[:]))
		}
		if len(row)%2 == 1 {
			next = append(next, row[len(row)-1])
		}
		row = next
		t.rows = append(t.rows, row)
	}
}
