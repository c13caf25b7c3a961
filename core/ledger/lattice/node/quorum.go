package node

import (
	"slices"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

const (
	// quorumPercent is how much of the weight has to agree.
	quorumPercent = 67
	// principal is the part of the weight, one in so many, from which on a
	// representative's votes count and are passed on.
	principal = 1000
	// onlineFor is how long a representative counts as online after a vote.
	onlineFor = 5 * step.Minute
	// sampleEvery is how often the weight online is noted, and MaxSamples for how
	// long: two weeks.
	sampleEvery = 5 * step.Minute
	MaxSamples  = 4032
)

// delta is how much weight a decision takes, while nothing has changed.
type delta struct {
	known           bool
	quorum          lattice.Raw
	base            lattice.Raw
	online, trended lattice.Raw
}

// quorum is 67 % of the largest of the weight that is online, of what was online
// over the last two weeks, and of the network's least, or all weight there is if that
// is less: what was sent and not received has none. The least is what keeps a part
// of the network, cut off from the rest, from deciding by itself.
func (n *Node) quorum() lattice.Raw {
	if !n.delta.known {
		n.delta.online = n.onlineWeight()
		least := n.Network.OnlineMinimum
		if all := n.allWeight(); all.Cmp(least) < 0 {
			least = all
		}
		base := n.delta.online
		for _, w := range []lattice.Raw{n.delta.trended, least} {
			if w.Cmp(base) > 0 {
				base = w
			}
		}
		n.delta.base, n.delta.quorum, n.delta.known = base, base.Percent(quorumPercent), true
	}
	return n.delta.quorum
}

// allWeight is what all accounts have together.
func (n *Node) allWeight() lattice.Raw {
	if n.early() {
		return n.Network.Reps.Total()
	}
	return n.delegated
}

func (n *Node) onlineWeight() (sum lattice.Raw) {
	for rep, at := range n.online {
		if n.now-at <= onlineFor {
			sum, _ = sum.Add(n.weight(rep))
		} else {
			delete(n.online, rep)
		}
	}
	return sum
}

// weight is a representative's: by the ledger here, or, as long as that ends before
// the weight was given out, by the network's table. A ledger that begins with all
// weight in one hand could not be fetched else once that hand is gone.
func (n *Node) weight(rep Key) lattice.Raw {
	if n.early() {
		return n.Network.Reps.Of(rep)
	}
	return n.weights[rep]
}

// early tells whether the ledger here ends before the table's representatives have
// the quorum by it.
func (n *Node) early() bool {
	if len(n.Network.Reps) == 0 || n.grown {
		return false
	}
	var sum lattice.Raw
	for _, row := range n.Network.Reps {
		sum, _ = sum.Add(n.weights[row.Rep])
	}
	n.grown = sum.Cmp(n.Network.Reps.Quorum()) >= 0
	return !n.grown
}

// isPrincipal tells whether a representative's votes count.
func (n *Node) isPrincipal(rep Key) bool {
	n.quorum()
	least, _ := n.delta.base.Div(principal)
	w := n.weight(rep)
	return w.Cmp(least) >= 0 && !w.IsZero()
}

// sample notes the weight that is online, and takes the median of what was noted
// before.
func (n *Node) sample() {
	if n.now < n.sampled+sampleEvery {
		return
	}
	n.sampled = n.now
	n.delta.known = false
	n.samples = append(n.samples, n.onlineWeight())
	n.samples = n.samples[max(0, len(n.samples)-MaxSamples):]
	n.delta.trended = median(n.samples)
	var b []byte
	for _, s := range n.samples {
		b = s.Append(b)
	}
	n.disk.set(atTrend, b)
}

func median(samples []lattice.Raw) lattice.Raw {
	if len(samples) == 0 {
		return lattice.Raw{}
	}
	sorted := slices.SortedFunc(slices.Values(samples), lattice.Raw.Cmp)
	return sorted[len(sorted)/2]
}

func decodeSamples(b []byte) (samples []lattice.Raw, err error) {
	r := codec.NewReader(b)
	for r.Len() > 0 && len(samples) < MaxSamples {
		samples = append(samples, readRaw(r))
	}
	return samples, broken("online weight", r)
}
