package dag

import "math/bits"

// words is how many times 64 blocks share a pass. More cost less per block and 8
// bytes more in every slot; the pass, which one attachment in so many waits for,
// gets longer.
const words = 2

// batch is how many blocks share a pass.
const batch = 64 * words

// bitset says which blocks of the batch approve a slot.
type bitset [words]uint64

// A tally adds new blocks to the weights of what they approve. Walking down the
// whole past for each would cost as much as there are blocks. So each gets a bit;
// one pass from the newest slot down hands bits to parents and adds their number
// to each weight. A pass may stop anywhere above the bottom: bits that arrived
// further down wait there. A walk that starts near the tips thus has exact weights
// for the price of a short pass, and the bottom is reached once per batch.
type tally struct {
	waiting []bitset      // by slot
	bits    int           // of the batch that are taken
	owns    [batch]uint32 // by bit
	plain   bool          // all owns are 1
	fresh   bool          // a block was attached after the last pass
	exact   int           // weights from this slot on are exact, unless fresh
}

func newTally() tally { return tally{waiting: make([]bitset, 1), plain: true} }

// weigh enters the newest block.
func (d *DAG) weigh(i int32, own uint32) {
	d.waiting = append(d.waiting, bitset{})
	if d.bits == batch {
		d.settle(d.low)
		d.bits, d.plain = 0, true
	}
	d.waiting[i][d.bits>>6] = 1 << (d.bits & 63)
	d.owns[d.bits] = own
	d.plain = d.plain && own == 1
	d.bits++
	d.fresh = true
}

// settle makes the weights from slot floor on exact.
func (d *DAG) settle(floor int) {
	floor = max(floor, d.low)
	if d.fresh {
		d.fresh, d.exact = false, len(d.ids)
	}
	if d.exact > floor {
		d.pass(d.exact-1, floor, 1)
		d.exact = floor
	}
}

// pass hands waiting bits down from slot top to slot floor, and adds or takes away
// what they weigh.
func (d *DAG) pass(top, floor int, sign uint64) {
	for i := top; i >= floor; i-- {
		b := d.waiting[i]
		if b == (bitset{}) {
			continue
		}
		d.waiting[i] = bitset{}
		n := &d.nodes[i]
		n.weight += sign * d.sum(&b)
		for _, e := range d.edges[n.edge:d.nodes[i+1].edge] {
			if e.parent >= 0 {
				w := &d.waiting[e.parent]
				for k := range w {
					w[k] |= b[k]
				}
			}
		}
	}
}

// sum is what the blocks of a set weigh.
func (d *DAG) sum(b *bitset) (sum uint64) {
	if d.plain {
		for _, word := range b {
			sum += uint64(bits.OnesCount64(word))
		}
		return sum
	}
	for k, word := range b {
		for ; word != 0; word &= word - 1 {
			sum += uint64(d.owns[k<<6+bits.TrailingZeros64(word)])
		}
	}
	return sum
}

// Weight is a block's cumulative weight: its own and those of all that approve it,
// directly or not. It is 0 if the block is not in the DAG.
func (d *DAG) Weight(id ID) uint64 {
	i, ok := d.slots[id]
	if !ok {
		return 0
	}
	if d.options.Unweighted {
		return d.count(i)
	}
	d.settle(int(i))
	return d.nodes[i].weight
}

// count is a weight by one pass over all later slots.
func (d *DAG) count(i int32) (sum uint64) {
	future := d.future(i)
	for ; int(i) < len(d.ids); i++ {
		if future.has(i) {
			sum += uint64(d.nodes[i].own)
		}
	}
	return sum
}

// unweigh takes blocks, with all that approves them, out of the weights of what
// they approve.
func (d *DAG) unweigh(gone []int32) {
	d.settle(d.low)
	for len(gone) > 0 {
		n := min(len(gone), batch)
		d.plain = true
		for bit, i := range gone[:n] {
			d.waiting[i][bit>>6] |= 1 << (bit & 63)
			d.owns[bit] = d.nodes[i].own
			d.plain = d.plain && d.owns[bit] == 1
		}
		d.pass(len(d.ids)-1, d.low, ^uint64(0))
		gone = gone[n:]
	}
	d.bits, d.plain = 0, true
}
