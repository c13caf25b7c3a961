package dag_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"coinop.dev/core/ledger/tangle/dag"
	"coinop.dev/core/step"
)

// naive is a DAG as one would write it down: maps, and a search for every question.
type naive struct {
	parents   map[dag.ID][]dag.ID
	own       map[dag.ID]uint64
	confirmed map[dag.ID]uint32
	order     []dag.ID // as attached, without what is gone
}

func newNaive() *naive {
	return &naive{map[dag.ID][]dag.ID{}, map[dag.ID]uint64{}, map[dag.ID]uint32{genesis: 1}, nil}
}

func (n *naive) milestone(id dag.ID) (uint32, bool) { m, ok := n.confirmed[id]; return m, ok }

// past is what a block approves, with itself, as far as it is not confirmed.
func (n *naive) past(id dag.ID, seen map[dag.ID]bool) map[dag.ID]bool {
	if _, ok := n.parents[id]; !ok || seen[id] {
		return seen
	}
	seen[id] = true
	for _, p := range n.parents[id] {
		n.past(p, seen)
	}
	return seen
}

func (n *naive) weights() map[dag.ID]uint64 {
	w := map[dag.ID]uint64{}
	for id := range n.parents {
		for p := range n.past(id, map[dag.ID]bool{}) {
			w[p] += n.own[id]
		}
	}
	return w
}

func (n *naive) tips() map[dag.ID]bool {
	tips := map[dag.ID]bool{}
	for id := range n.parents {
		tips[id] = true
	}
	for _, parents := range n.parents {
		for _, p := range parents {
			delete(tips, p)
		}
	}
	return tips
}

// children counts those that name a block as a parent, once each.
func (n *naive) children() map[dag.ID]int {
	count := map[dag.ID]int{}
	for _, parents := range n.parents {
		for k, p := range parents {
			if _, ok := n.parents[p]; ok && !slices.Contains(parents[:k], p) {
				count[p]++
			}
		}
	}
	return count
}

// whiteFlag is TIP-2, recursive.
func (n *naive) whiteFlag(parents []dag.ID, seen map[dag.ID]bool) (order []dag.ID) {
	for _, p := range parents {
		if _, ok := n.parents[p]; !ok || seen[p] {
			continue
		}
		seen[p] = true
		order = append(append(order, n.whiteFlag(n.parents[p], seen)...), p)
	}
	return order
}

// heaviest adds the tip with most new blocks in its past, again and again.
func (n *naive) heaviest(k int) (chosen []dag.ID) {
	tips, seen := n.tips(), map[dag.ID]bool{}
	for len(chosen) < k {
		var best dag.ID
		most := 0
		for _, id := range n.order {
			if !tips[id] {
				continue
			}
			if more := len(n.past(id, maps.Clone(seen))) - len(seen); more > most {
				best, most = id, more
			}
		}
		if most == 0 {
			break
		}
		n.past(best, seen)
		chosen = append(chosen, best)
	}
	return chosen
}

func (n *naive) roots(id dag.ID) (youngest, oldest uint32) {
	oldest = math.MaxUint32
	for b := range n.past(id, map[dag.ID]bool{}) {
		for _, p := range n.parents[b] {
			if m, ok := n.confirmed[p]; ok {
				youngest, oldest = max(youngest, m), min(oldest, m)
			}
		}
	}
	return youngest, oldest
}

func (n *naive) remove(ids []dag.ID) {
	gone := map[dag.ID]bool{}
	for _, id := range ids {
		gone[id] = true
		delete(n.parents, id)
	}
	n.order = slices.DeleteFunc(n.order, func(id dag.ID) bool { return gone[id] })
}

// story lives through random attachments, milestones and drops, and compares.
type story struct {
	t *testing.T
	*naive
	d         *dag.DAG
	r         *rand.Rand
	n         int
	milestone uint32
	everyOne  bool // all weights are asked for every time
}

func newStory(t *testing.T, seed uint64, o dag.Options) *story {
	s := &story{t: t, naive: newNaive(), r: rand.New(rand.NewPCG(seed, 0)), milestone: 1}
	o.Confirmed, o.Milestone = s.naive.milestone, 1
	o.Pool = dag.Pool{Young: 1 << 20, Old: 1 << 20, MaxDepth: 1 << 20} // nothing is lazy
	s.d = dag.New(o)
	return s
}

func (s *story) attach(own uint32) {
	var parents []dag.ID
	for range 1 + s.r.IntN(3) {
		switch n := len(s.order); {
		case n == 0 || s.r.IntN(40) == 0:
			parents = append(parents, s.anyConfirmed())
		case s.r.IntN(8) == 0:
			parents = append(parents, s.order[s.r.IntN(n)])
		default:
			parents = append(parents, s.order[n-1-s.r.IntN(min(n, 6))])
		}
	}
	s.n++
	id := name(s.n)
	if err := s.d.Attach(dag.Block{ID: id, Parents: parents, Own: own}, step.Time(s.n)); err != nil {
		s.t.Fatal(err)
	}
	s.parents[id], s.own[id] = parents, uint64(own)
	s.order = append(s.order, id)
}

func (s *story) anyConfirmed() dag.ID {
	ids := make([]dag.ID, 0, len(s.confirmed))
	for id := range s.confirmed {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b dag.ID) int { return slices.Compare(a[:], b[:]) })
	return ids[s.r.IntN(len(ids))]
}

func (s *story) confirm() {
	if len(s.order) == 0 {
		return
	}
	parents := []dag.ID{s.order[s.r.IntN(len(s.order))], s.order[s.r.IntN(len(s.order))]}
	want := s.whiteFlag(parents, map[dag.ID]bool{})
	got, err := s.d.WhiteFlag(parents)
	if err != nil || !slices.Equal(got, want) {
		s.t.Fatalf("white flag: %x, %v, want %x", got, err, want)
	}
	s.milestone++
	if err := s.d.Confirm(s.milestone, got); err != nil {
		s.t.Fatal(err)
	}
	for _, id := range got {
		s.confirmed[id] = s.milestone
	}
	s.remove(got)
}

func (s *story) drop() {
	if len(s.order) == 0 {
		return
	}
	var ids []dag.ID
	for range 1 + s.r.IntN(3) {
		ids = append(ids, s.order[s.r.IntN(len(s.order))])
	}
	var want []dag.ID
	for _, b := range s.order {
		past := s.past(b, map[dag.ID]bool{})
		if slices.ContainsFunc(ids, func(id dag.ID) bool { return past[id] }) {
			want = append(want, b)
		}
	}
	if got := s.d.DropAll(ids, step.Time(s.n)); !slices.Equal(got, want) {
		s.t.Fatalf("dropped %x, want %x", got, want)
	}
	s.remove(want)
}

func (s *story) check() {
	if s.d.Len() != len(s.order) {
		s.t.Fatalf("%d blocks, want %d", s.d.Len(), len(s.order))
	}
	weights := s.weights()
	for _, id := range s.order {
		if !s.everyOne && s.r.IntN(4) > 0 {
			continue
		}
		if got := s.d.Weight(id); got != weights[id] {
			s.t.Fatalf("block %x of %d weighs %d, want %d", id[:4], len(s.order), got, weights[id])
		}
		y, o, _ := s.d.Roots(id)
		if wy, wo := s.roots(id); y != wy || o != wo {
			s.t.Fatalf("roots of block %x: %d to %d, want %d to %d", id[:4], o, y, wo, wy)
		}
	}
	for id, want := range s.children() {
		if got := s.d.Children(id); len(got) != want {
			s.t.Fatalf("block %x has %d children, want %d", id[:4], len(got), want)
		}
	}
	tips := s.tips()
	got := s.d.Tips()
	if len(got) != len(tips) || s.d.TipCount() != len(tips) {
		s.t.Fatalf("%d tips, %d counted, want %d", len(got), s.d.TipCount(), len(tips))
	}
	for _, id := range got {
		if !tips[id] {
			s.t.Fatalf("%x is no tip", id)
		}
	}
	if len(s.order) == 0 {
		return
	}
	if got, want := s.d.Heaviest(4), s.heaviest(4); !slices.Equal(got, want) {
		s.t.Fatalf("heaviest tips %x, want %x", got, want)
	}
	id := s.order[s.r.IntN(len(s.order))]
	past := s.past(id, map[dag.ID]bool{})
	seen := 0
	for p := range s.d.PastCone(id) {
		if !past[p] || !s.d.Approves(id, p) {
			s.t.Fatalf("%x is not in the past of %x", p, id)
		}
		seen++
	}
	if seen != len(past) {
		s.t.Fatalf("past of %d, want %d", seen, len(past))
	}
	for f := range s.d.FutureCone(id) {
		if f == id || !s.past(f, map[dag.ID]bool{})[id] {
			s.t.Fatalf("%x does not approve %x", f, id)
		}
	}
}

// Whatever is attached, confirmed and dropped: all that the DAG says is what one
// finds by searching.
func TestAllIsAsASearchFinds(t *testing.T) {
	for seed := range uint64(6) {
		o := dag.Options{MaxOwn: 1}
		if seed%3 == 1 {
			o.MaxOwn = 7
		}
		o.Unweighted = seed%3 == 2
		s := newStory(t, seed, o)
		s.everyOne = seed%2 == 0
		for range 700 {
			switch k := s.r.IntN(100); {
			case k < 90:
				s.attach(1 + s.r.Uint32N(o.MaxOwn))
			case k < 92 && len(s.order) > 60:
				s.confirm()
			case k == 92:
				s.drop()
			case k < 96:
				s.check()
			case len(s.order) > 0: // weights of a few, and a walk, leave passes half done
				s.d.Weight(s.order[s.r.IntN(len(s.order))])
				s.d.MCMC(dag.Walk{Alpha: 0.1, Depth: 1 + s.r.IntN(40)}, s.r.Uint64)
			}
		}
		s.everyOne = true
		s.check()
	}
}

// A long life needs no more slots than twice its blocks: milestones come, empty
// slots are given back, and everything is still right after that.
func TestALongLifeIsTidy(t *testing.T) {
	s := newStory(t, 7, dag.Options{Limit: 400})
	for i := range 40_000 {
		s.attach(1)
		if len(s.order) >= 300 {
			s.confirm()
		}
		if i%9973 == 0 {
			s.everyOne = true
			s.check()
		}
		if len(s.order) == 400 {
			s.drop()
		}
		if slots := s.d.Slots(); slots > 2*400+1024+2 {
			t.Fatalf("%d slots for %d blocks", slots, s.d.Len())
		}
		if len(s.confirmed) > 200 {
			s.confirmed = map[dag.ID]uint32{genesis: 1} // or it takes a minute
			for id := range s.parents {
				for k, p := range s.parents[id] {
					if _, ok := s.parents[p]; !ok {
						s.parents[id][k] = genesis
					}
				}
			}
			for _, id := range slices.Clone(s.order) {
				if s.d.Has(id) {
					s.remove(s.d.Drop(id, 0))
				}
			}
		}
	}
	s.check()
}

func TestWhatIsRefusedChangesNothing(t *testing.T) {
	d := dag.New(dag.Options{Limit: 3, Confirmed: confirmedGenesis, Milestone: 1})
	block := func(n int, parents ...dag.ID) error { return d.Attach(dag.Block{ID: name(n), Parents: parents}, 0) }
	var nine []dag.ID
	for n := range 9 {
		nine = append(nine, name(n))
	}
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"no parent", block(1), dag.ErrParents},
		{"nine parents", block(1, nine...), dag.ErrParents},
		{"an unknown parent", block(1, genesis, name(9)), dag.ErrUnknown},
		{"first", block(1, genesis), nil},
		{"again", block(1, genesis), dag.ErrKnown},
		{"second, twice the same parent", block(2, name(1), name(1)), nil},
		{"third", block(3, name(2), name(1)), nil},
		{"fourth of three", block(4, name(3)), dag.ErrFull},
		{"a milestone without its past", d.Confirm(2, []dag.ID{name(2)}), dag.ErrCone},
		{"a milestone of an unknown block", d.Confirm(2, []dag.ID{name(1), name(8)}), dag.ErrUnknown},
	} {
		if !errors.Is(c.err, c.want) || c.err != nil && c.want == nil {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
	if _, err := d.WhiteFlag([]dag.ID{name(3), name(8)}); !errors.Is(err, dag.ErrUnknown) {
		t.Errorf("white flag over an unknown block: %v", err)
	}
	if d.Len() != 3 || d.Milestone() != 1 || d.Weight(name(1)) != 3 || d.Weight(name(2)) != 2 || d.Weight(name(9)) != 0 {
		t.Error("something has changed")
	}
	if err := d.Confirm(2, []dag.ID{name(1), name(2)}); err != nil || d.Len() != 1 || d.Has(name(1)) || d.Milestone() != 2 {
		t.Errorf("confirming in any order: %v", err)
	}
	if err := block(4, name(3)); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

// An own weight is what it says, up to the cap.
func TestOwnWeightIsCapped(t *testing.T) {
	for _, c := range []struct{ max, own, want uint32 }{{0, 1000, 1}, {0, 0, 1}, {9, 5, 5}, {9, 1000, 9}} {
		d := dag.New(dag.Options{MaxOwn: c.max, Confirmed: confirmedGenesis})
		if err := d.Attach(dag.Block{ID: name(1), Parents: []dag.ID{genesis}, Own: c.own}, 0); err != nil {
			t.Fatal(err)
		}
		if got := d.Weight(name(1)); got != uint64(c.want) {
			t.Errorf("cap %d, own %d: weight %d, want %d", c.max, c.own, got, c.want)
		}
	}
}

// letter names the blocks of TIP-2's example.
func letters(s string) (ids []dag.ID) {
	for _, c := range s {
		ids = append(ids, dag.ID{0: byte(c)})
	}
	return ids
}

// TIP-2's example: A, B, C, E, F, H are confirmed; milestone V confirms D, G, J, L, M,
// R, I, K, N, O, S, V, in this order. The text of the TIP gives sets and order; its
// edges are only drawn, so those here are ours, and produce the same.
func TestWhiteFlagExample(t *testing.T) {
	const order = "DGJLMRIKNOSV"
	red := letters("ABCEFH")
	options := dag.Options{Confirmed: func(id dag.ID) (uint32, bool) { return 1, slices.Contains(red, id) }}
	edges := []struct{ block, parents string }{
		{"D", "AB"}, {"G", "DE"}, {"I", "FC"}, {"J", "GH"}, {"K", "HI"}, {"L", "JG"}, {"M", "LJ"}, {"N", "KI"},
		{"O", "KN"}, {"R", "ML"}, {"S", "NO"}, {"P", "LM"}, {"Q", "OS"}, {"V", "RS"}, {"T", "PR"}, {"W", "VQ"},
	}
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := dag.New(options)
		for todo := slices.Clone(edges); len(todo) > 0; { // in any order that is solid
			k := r.IntN(len(todo))
			b := dag.Block{ID: letters(todo[k].block)[0], Parents: letters(todo[k].parents)}
			if err := d.Attach(b, 0); err == nil {
				todo = slices.Delete(todo, k, k+1)
			} else if !errors.Is(err, dag.ErrUnknown) {
				t.Fatal(err)
			}
		}
		got, err := d.WhiteFlag(letters("V"))
		if err != nil || !slices.Equal(got, letters(order)) {
			t.Fatalf("seed %d: %s, %v", seed, got, err)
		}
		if err := d.Confirm(2, got); err != nil {
			t.Fatal(err)
		}
		if got, err := d.WhiteFlag(letters("WT")); err != nil || !slices.Equal(got, letters("QWPT")) {
			t.Fatalf("seed %d: the next milestone: %s, %v", seed, got, err)
		}
	}
}

// Two nodes that hear of blocks in different order agree on every milestone.
func TestWhiteFlagIsTheSameWhateverCameFirst(t *testing.T) {
	for seed := range uint64(10) {
		s := newStory(t, seed, dag.Options{})
		for range 300 {
			s.attach(1)
		}
		other := dag.New(dag.Options{Confirmed: s.naive.milestone})
		todo := slices.Clone(s.order)
		for len(todo) > 0 {
			s.r.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
			todo = slices.DeleteFunc(todo, func(id dag.ID) bool {
				return other.Attach(dag.Block{ID: id, Parents: s.parents[id]}, 0) == nil
			})
		}
		for range 20 {
			parents := []dag.ID{s.order[s.r.IntN(300)], s.order[s.r.IntN(300)], s.order[s.r.IntN(300)]}
			a, _ := s.d.WhiteFlag(parents)
			b, _ := other.WhiteFlag(parents)
			if !slices.Equal(a, b) || len(a) == 0 {
				t.Fatalf("seed %d: %x and %x", seed, a, b)
			}
		}
		for _, id := range s.order {
			if s.d.Weight(id) != other.Weight(id) {
				t.Fatalf("seed %d: weights differ", seed)
			}
		}
	}
}

// A chain of thirty thousand is neither too deep nor too slow for anything.
func TestALongChain(t *testing.T) {
	const n = 30_000
	d := dag.New(dag.Options{Confirmed: confirmedGenesis})
	parent := genesis
	for i := range n {
		if err := d.Attach(dag.Block{ID: name(i), Parents: []dag.ID{parent}}, 0); err != nil {
			t.Fatal(err)
		}
		parent = name(i)
	}
	if w := d.Weight(name(0)); w != n {
		t.Errorf("weight %d", w)
	}
	order, err := d.WhiteFlag([]dag.ID{parent})
	if err != nil || len(order) != n || order[0] != name(0) || order[n-1] != parent {
		t.Errorf("%d in order, %v", len(order), err)
	}
	if tips := d.MCMC(dag.Walk{Alpha: 1}, dag.NewRandom(1)); len(tips) != 2 || tips[0] != parent {
		t.Errorf("tips %x", tips)
	}
	if err := d.Confirm(2, order); err != nil || d.Len() != 0 || d.Slots() != 0 {
		t.Errorf("%v: %d blocks, %d slots", err, d.Len(), d.Slots())
	}
}

func ExampleDAG_WhiteFlag() {
	d := dag.New(dag.Options{Confirmed: confirmedGenesis})
	d.Attach(dag.Block{ID: dag.ID{'a'}, Parents: []dag.ID{genesis}}, 0)
	d.Attach(dag.Block{ID: dag.ID{'b'}, Parents: []dag.ID{genesis}}, 0)
	d.Attach(dag.Block{ID: dag.ID{'m'}, Parents: []dag.ID{{'b'}, {'a'}}}, 0)
	order, _ := d.WhiteFlag([]dag.ID{{'m'}})
	for _, id := range order {
		fmt.Printf("%c weighs %d\n", id[0], d.Weight(id))
	}
	// Output:
	// b weighs 2
	// a weighs 2
	// m weighs 1
}
