package graph

import (
	"encoding/binary"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// MaxLearned is how many channel directions a Liquidity remembers, the ones
// heard of last: about 100 bytes each, and more than a day of a device's payments
// meets.
const MaxLearned = 4096

// LearnedFor is how long a failure or success means anything. Its bounds widen
// all that time, evenly: money in other people's channels moves.
const LearnedFor = 6 * step.Hour

// Liquidity is what earlier payments taught about the balances of other
// people's channels: bounds per direction. The zero value knows nothing.
type Liquidity struct {
	known []belief
	index map[way]int32
}

// A way is a channel in one direction. The node it leaves is eight bytes of its
// key: it only has to differ from the node at the other end.
type way struct {
	scid wire.SCID
	from uint64
}

func wayOf(scid wire.SCID, from keys.Public) way {
	return way{scid, binary.BigEndian.Uint64(from[1:])}
}

// A belief: at a time, the balance was low or more and less than high.
type belief struct {
	way
	low, high uint64 // msat
	at        step.Time
}

// unbounded is the high of who never saw a failure.
const unbounded = uint64(money.MaxAmount) + 1

// spread is how far, in multiples of itself, an upper bound widens within
// LearnedFor where the capacity is larger or unknown.
const spread = 4

// Failed notes that an HTLC of amount did not pass a channel in the direction
// that leaves from.
func (l *Liquidity) Failed(scid wire.SCID, from keys.Public, amount money.Amount, at step.Time) {
	b := l.of(wayOf(scid, from), at)
	b.high = min(b.high, max(uint64(amount), 1))
	b.low = min(b.low, b.high-1)
}

// Succeeded notes that an HTLC of amount passed a channel, settled or not: also
// for the channels before the one that failed. The channel is taken to carry
// that again, though a settled HTLC took its amount away: routing nodes
// rebalance, and a failure corrects it.
func (l *Liquidity) Succeeded(scid wire.SCID, from keys.Public, amount money.Amount, at step.Time) {
	amount = min(amount, money.MaxAmount)
	b := l.of(wayOf(scid, from), at)
	b.low = max(b.low, uint64(amount))
	b.high = max(b.high, b.low+1)
}

// Len is how many channel directions l remembers.
func (l *Liquidity) Len() int { return len(l.known) }

// of is what l believes of w at a time, to be changed.
func (l *Liquidity) of(w way, at step.Time) *belief {
	i, ok := l.index[w]
	if !ok {
		i = l.slot()
		l.known[i] = belief{way: w, high: unbounded, at: at}
		l.index[w] = i
	}
	b := &l.known[i]
	b.low, b.high = b.bounds(uint64(money.MaxAmount), at)
	b.at = max(b.at, at)
	return b
}

// slot is a free one, or the one unheard of longest.
func (l *Liquidity) slot() int32 {
	if l.index == nil {
		l.index = map[way]int32{}
	}
	if len(l.known) < MaxLearned {
		l.known = append(l.known, belief{})
		return int32(len(l.known) - 1)
	}
	oldest := 0
	for i := range l.known {
		if l.known[i].at < l.known[oldest].at {
			oldest = i
		}
	}
	delete(l.index, l.known[oldest].way)
	return int32(oldest)
}

// between are the bounds of a balance that is at most top: low or more, less
// than high.
func (l *Liquidity) between(w way, top uint64, at step.Time) (low, high uint64) {
	i, ok := l.index[w]
	if !ok {
		return 0, top + 1
	}
	return l.known[i].bounds(top, at)
}

func (b *belief) bounds(top uint64, at step.Time) (low, high uint64) {
	age := max(0, at-b.at)
	if age >= LearnedFor {
		return 0, top + 1
	}
	shrink, _ := mulDiv(b.low, uint64(age), uint64(LearnedFor))
	low, high = min(b.low-shrink, top), min(b.high, top+1)
	widen, _ := mulDiv(min(top+1, spread*high)-high, uint64(age), uint64(LearnedFor))
	return low, high + widen
}

// Append encodes l: a record for the next start.
func (l *Liquidity) Append(b []byte) []byte {
	b = codec.AppendUint(b, len(l.known))
	for i := range l.known {
		k := &l.known[i]
		b = binary.BigEndian.AppendUint64(b, uint64(k.scid))
		b = binary.BigEndian.AppendUint64(b, k.from)
		b = codec.AppendUint(b, k.low)
		b = codec.AppendUint(b, k.high)
		b = codec.AppendUint(b, uint64(k.at))
	}
	return b
}

// ReadLiquidity reads what Append wrote.
func ReadLiquidity(r *codec.Reader) *Liquidity {
	l := &Liquidity{}
	for range r.Int(MaxLearned, "learned channels") {
		k := belief{way: way{scid: wire.SCID(r.U64()), from: r.U64()}}
		k.low, k.high, k.at = r.Uvarint(), r.Uvarint(), step.Time(r.Uvarint())
		if r.Err() != nil {
			return &Liquidity{}
		}
		if _, twice := l.index[k.way]; twice || k.low >= k.high || k.high > unbounded || k.at < 0 {
			r.Fail(fmt.Errorf("what was learned of channel %d contradicts itself", k.scid))
			return &Liquidity{}
		}
		i := l.slot()
		l.known[i], l.index[k.way] = k, i
	}
	return l
}
