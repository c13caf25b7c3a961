package dag

import "math/bits"

// Heaviest chooses up to n tips that approve as many unconfirmed blocks as possible
// together: the heaviest branch, then the one that adds most to it, and so on; of
// equals the older. A coordinator makes them the parents of its milestone. Tips are
// taken up to SemiLazy, and of many the first batch in the order of Tips. It costs a
// pass over all blocks, and one more per tip.
func (d *DAG) Heaviest(n int) (tips []ID) {
	candidates := d.candidates()
	reached := make([]bitset, len(d.ids))
	var all bitset
	for k, slot := range candidates {
		reached[slot][k>>6] |= 1 << (k & 63)
		all[k>>6] |= 1 << (k & 63)
	}
	for i := len(d.ids) - 1; i >= d.low; i-- {
		for _, e := range d.up(int32(i)) {
			if e.parent >= 0 && d.nodes[i].own != 0 {
				for k := range all {
					reached[e.parent][k] |= reached[i][k]
				}
			}
		}
	}
	for len(tips) < n && len(tips) < len(candidates) {
		best := heaviest(reached[d.low:], &all)
		if best < 0 {
			break // all that is left is approved by those chosen
		}
		tips = append(tips, d.ids[candidates[best]])
		for i := d.low; i < len(d.ids); i++ {
			if reached[i][best>>6]>>(best&63)&1 == 1 {
				reached[i] = bitset{}
			}
		}
	}
	return tips
}

// candidates are slots of tips, oldest first, at most a batch.
func (d *DAG) candidates() (slots []int32) {
	chosen := d.mark()
	left := batch
	for score := NonLazy; score > Lazy; score-- {
		for _, c := range d.pools[score] {
			if left > 0 && d.nodes[c.slot].children == 0 {
				chosen.set(c.slot)
				left--
			}
		}
	}
	for k, word := range chosen {
		for ; word != 0; word &= word - 1 {
			slots = append(slots, int32(k<<6+bits.TrailingZeros64(word)))
		}
	}
	return slots
}

// heaviest finds the bit that stands in most sets, or -1 if none does. Sets with all
// bits are most, and decide nothing but whether there is one.
func heaviest(sets []bitset, all *bitset) int {
	var counts [batch]int
	full := 0
	for i := range sets {
		if sets[i] == *all {
			full++
			continue
		}
		for k, word := range sets[i] {
			for ; word != 0; word &= word - 1 {
				counts[k<<6+bits.TrailingZeros64(word)]++
			}
		}
	}
	best := -1
	for bit, n := range counts {
		if all[bit>>6]>>(bit&63)&1 == 1 && n+full > 0 && (best < 0 || n > counts[best]) {
			best = bit
		}
	}
	return best
}
