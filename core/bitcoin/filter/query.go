package filter

import (
	"math"
	"math/bits"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
)

// A Query is a set of scripts to look for in many filters. It keeps its buffers,
// so it is for one goroutine.
type Query struct {
	scripts []string
	words   [][]uint64 // each script as SipHash takes it
	place   map[string]int

	hashes []uint64 // buffer: the scripts' in one block, sorted
	spread []uint64 // buffer: for sorting
	starts []uint32 // buffer: for sorting
	chunk  [256]uint64
}

// NewQuery returns a query without scripts.
func NewQuery() *Query { return &Query{place: map[string]int{}} }

// Len is how many scripts are looked for.
func (q *Query) Len() int { return len(q.scripts) }

// Add looks for a script from now on.
func (q *Query) Add(script []byte) {
	if _, ok := q.place[string(script)]; ok {
		return
	}
	q.place[string(script)] = len(q.scripts)
	q.scripts = append(q.scripts, string(script))
	q.words = append(q.words, appendWords(nil, script))
}

// Remove looks for a script no longer.
func (q *Query) Remove(script []byte) {
	i, ok := q.place[string(script)]
	if !ok {
		return
	}
	delete(q.place, string(script))
	last := len(q.scripts) - 1
	if i != last {
		q.scripts[i], q.words[i] = q.scripts[last], q.words[last]
		q.place[q.scripts[i]] = i
	}
	q.scripts[last], q.words[last] = "", nil
	q.scripts, q.words = q.scripts[:last], q.words[:last]
}

// Match tells whether a filter, of the block of that hash, has one of the
// scripts, or seems to: once in 784,931 per script it has none. It reads the
// filter to its end, so what is malformed is an error whatever is looked for.
func (q *Query) Match(raw []byte, block chainhash.Hash) (bool, error) {
	r, err := newReader(raw)
	if err != nil {
		return false, err
	}
	wanted := q.sorted(newHasher(block, r.n))
	next, found := 0, false
	for r.left > 0 {
		for _, v := range r.read(q.chunk[:]) {
			for wanted[next] < v {
				next++
			}
			if wanted[next] == v {
				found = true
			}
		}
	}
	if err := r.close(); err != nil {
		return false, err
	}
	return found, nil
}

// sorted is the scripts' values in one block and one more at the end that no
// filter reaches.
func (q *Query) sorted(h hasher) []uint64 {
	q.hashes = q.hashes[:0]
	for _, words := range q.words {
		q.hashes = append(q.hashes, sipHash(h.k0, h.k1, words))
	}
	q.sort()
	for i, v := range q.hashes { // keeps the order
		q.hashes[i], _ = bits.Mul64(v, h.span)
	}
	q.hashes = append(q.hashes, math.MaxUint64)
	return q.hashes
}

// few is where sorting by comparison is no slower.
const few = 24

// sort sorts the hashes. They are spread evenly, so their highest bits put them
// next to their place.
func (q *Query) sort() {
	n := len(q.hashes)
	if n < few {
		slices.Sort(q.hashes)
		return
	}
	shift := 64 - bits.Len(uint(n))
	starts := append(q.starts[:0], make([]uint32, 1<<(64-shift)+1)...)
	for _, v := range q.hashes {
		starts[v>>shift+1]++
	}
	for i := 1; i < len(starts); i++ {
		starts[i] += starts[i-1]
	}
	spread := append(q.spread[:0], q.hashes...)
	for _, v := range q.hashes {
		spread[starts[v>>shift]] = v
		starts[v>>shift]++
	}
	for i := 1; i < n; i++ {
		v, j := spread[i], i
		for ; j > 0 && spread[j-1] > v; j-- {
			spread[j] = spread[j-1]
		}
		spread[j] = v
	}
	q.hashes, q.spread, q.starts = spread, q.hashes, starts
}
