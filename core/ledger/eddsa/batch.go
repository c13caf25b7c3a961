package eddsa

import (
	"encoding/binary"
	"slices"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
)

// chunk is how many signatures are checked by one equation: more are hardly
// faster, and one bad one makes all of its chunk be checked again one by one.
const chunk = 128

// A Batch checks many signatures by one equation, which says of each what
// VerifyCofactored says.
//
// Every signature has a coefficient in that equation, which must not be known
// before all signatures are. Batch verifiers draw them at random; a core draws
// nothing, so they are derived from a hash of everything that is checked: who
// could choose signatures by their coefficients has to find 128 bits.
type Batch struct {
	hash    Hash
	cache   *Cache
	entries []entry
	keys    []*key                // the different ones of every chunk
	first   []int                 // where the keys of every chunk begin
	places  map[[KeySize]byte]int // in keys, of the last chunk's
	strict  bool
	spread  Spread
}

// A Spread calls do for 0 up to n, in any order, and returns when all are done. Who
// has processors to lend calls them at the same time: the answers are the same.
type Spread func(n int, do func(i int))

type entry struct {
	key    int // place in keys, -1 if the signature cannot be good
	public [KeySize]byte
	sig    [SignatureSize]byte
	wide   [64]byte // hash of R, key and message
	r      curve.EdwardsPoint
	s, k   scalar.Scalar
}

// open reads what does not need the key. R is left for later, as it is dear.
func (e *entry) open(h Hash, public [KeySize]byte, msg []byte, sig [SignatureSize]byte) bool {
	e.public, e.sig = public, sig
	if _, err := e.s.SetCanonicalBytes(sig[32:]); err != nil {
		return false
	}
	e.wide = h(sig[:32], public[:], msg)
	must(e.k.SetBytesModOrderWide(e.wide[:]))
	return true
}

// NewBatch makes an empty batch.
func NewBatch(h Hash) *Batch { return &Batch{hash: h, places: map[[KeySize]byte]int{}} }

// Use makes the batch look keys up in a cache.
func (b *Batch) Use(c *Cache) *Batch {
	b.cache = c
	return b
}

// Strict makes the batch refuse keys of small order; see SmallOrder.
func (b *Batch) Strict() *Batch {
	b.strict = true
	return b
}

// Lend has the batch's equations solved by s; nil is one after the other.
func (b *Batch) Lend(s Spread) *Batch {
	b.spread = s
	return b
}

// Len is how many signatures wait.
func (b *Batch) Len() int { return len(b.entries) }

// Reset empties the batch for another one.
func (b *Batch) Reset() {
	clear(b.keys)
	b.entries, b.keys, b.first = b.entries[:0], b.keys[:0], b.first[:0]
}

// Add puts a signature in. The message is not kept.
func (b *Batch) Add(public [KeySize]byte, msg []byte, sig [SignatureSize]byte) {
	if len(b.entries)%chunk == 0 {
		clear(b.places)
		b.first = append(b.first, len(b.keys))
	}
	b.entries = append(b.entries, entry{})
	e := &b.entries[len(b.entries)-1]
	e.key = -1
	if e.open(b.hash, public, msg, sig) && !(b.strict && SmallOrder(public)) {
		e.key = b.place(public)
	}
}

// place is where the key stands in keys, or -1 if it is no point.
func (b *Batch) place(public [KeySize]byte) int {
	at, ok := b.places[public]
	if !ok {
		at = -1
		if k := b.cache.get(public); k != nil {
			at = len(b.keys)
			b.keys = append(b.keys, k)
		}
		b.places[public] = at
	}
	return at
}

// Verify tells whether all signatures are good. If they are not, each says which
// ones are, in the order of Add. An empty batch is good.
func (b *Batch) Verify() (all bool, each []bool) {
	each = make([]bool, len(b.entries))
	spread := b.spread
	if spread == nil || len(b.first) == 1 {
		spread = inTurn
	}
	spread(len(b.first), func(c int) {
		from, end := c*chunk, len(b.keys)
		if c+1 < len(b.first) {
			end = b.first[c+1]
		}
		part := b.entries[from:min(from+chunk, len(b.entries))]
		for i := range part {
			if e := &part[i]; e.key >= 0 && !decompress(&e.r, e.sig[:32]) {
				e.key = -1
			}
		}
		together := b.together(part, b.first[c], end)
		for i := range part {
			each[from+i] = part[i].key >= 0 && (together || b.alone(&part[i]))
		}
	})
	if !slices.Contains(each, false) {
		return true, nil
	}
	return false, each
}

func inTurn(n int, do func(int)) {
	for i := range n {
		do(i)
	}
}

// alone is VerifyCofactored of an entry.
func (b *Batch) alone(e *entry) bool {
	if e.key < 0 {
		return false
	}
	var difference curve.EdwardsPoint
	if k := b.keys[e.key]; k.table != nil {
		difference.ExpandedTripleScalarMulBasepointVartime(&e.k, k.table, &e.s, &e.r)
	} else {
		difference.TripleScalarMulBasepointVartime(&e.k, &k.neg, &e.s, &e.r)
	}
	return difference.IsSmallOrder()
}

// together checks the entries of a chunk, whose keys stand from first to end, by
// one equation: with z an entry's coefficient, the sum of z·R + z·k·A - z·S·B over
// all of them is of small order. The terms of one key are one term, and the base
// point's are one. What cannot be good is left out.
func (b *Batch) together(part []entry, first, end int) bool {
	if len(part) == 1 {
		return b.alone(&part[0])
	}
	keys := b.keys[first:end]
	var base, product scalar.Scalar
	ofR, ofKey := make([]scalar.Scalar, len(part)), make([]scalar.Scalar, len(keys))
	for i, z := range b.coefficients(part) {
		e := &part[i]
		if e.key < 0 {
			continue
		}
		f := &ofKey[e.key-first]
		must(ofR[i].SetBytesModOrder(z[:]))
		base.Add(&base, product.Mul(&ofR[i], &e.s))
		f.Sub(f, product.Mul(&ofR[i], &e.k)) // the key is negated
	}
	base.Neg(&base)

	// A static point has a table, a dynamic one has none.
	size := 1 + len(part) + len(keys)
	scalars, points := make([]*scalar.Scalar, 0, size), make([]*curve.EdwardsPoint, 0, size)
	scalars, points = append(scalars, &base), append(points, curve.ED25519_BASEPOINT_POINT)
	for i := range part {
		if part[i].key >= 0 {
			scalars, points = append(scalars, &ofR[i]), append(points, &part[i].r)
		}
	}
	var staticScalars []*scalar.Scalar
	var static []*curve.ExpandedEdwardsPoint
	for i, k := range keys {
		if k.table != nil {
			staticScalars, static = append(staticScalars, &ofKey[i]), append(static, k.table)
		} else {
			scalars, points = append(scalars, &ofKey[i]), append(points, &k.neg)
		}
	}
	var sum curve.EdwardsPoint
	return sum.ExpandedMultiscalarMulVartime(staticScalars, static, scalars, points).IsSmallOrder()
}

// coefficients derives 128 bits for every entry from all of them.
func (b *Batch) coefficients(part []entry) [][KeySize]byte {
	all := make([]byte, 0, len(part)*(KeySize+2*SignatureSize))
	for i := range part {
		e := &part[i]
		all = append(append(append(all, e.public[:]...), e.sig[:]...), e.wide[:]...)
	}
	seed := b.hash([]byte("coinop/eddsa/batch"), all)
	z := make([][KeySize]byte, len(part))
	var counter [4]byte
	for i := 0; i < len(z); i += 4 {
		binary.LittleEndian.PutUint32(counter[:], uint32(i))
		four := b.hash(seed[:], counter[:])
		for j := i; j < min(i+4, len(z)); j++ {
			copy(z[j][:16], four[16*(j-i):])
		}
	}
	return z
}
