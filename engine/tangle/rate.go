package tanglenet

import (
	"sync"

	"golang.org/x/time/rate"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/message"
	"coinop.dev/engine"
)

// MaxRate is how many bytes of frames are taken from one peer in a second, twice that
// at once. Ten thousand transactions a second are less.
const MaxRate = 8 << 20

// maxRated bounds the peers whose rate is known: all that a machine has links to, and
// some that it had.
const maxRated = 4 * engine.MaxPeers

// rates are how fast peers send.
type rates struct {
	limit int

	mu sync.Mutex
	of map[keys.Public]*rate.Limiter
}

func newRates(limit int) rates { return rates{limit: limit, of: map[keys.Public]*rate.Limiter{}} }

func (r *rates) find(key keys.Public) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.of[key]
	if l == nil {
		if len(r.of) >= maxRated {
			clear(r.of) // who sends too much has waited for what it has sent already
		}
		l = rate.NewLimiter(rate.Limit(r.limit), max(2*r.limit, gossip.MaxFrame))
		r.of[key] = l
	}
	return l
}

// door holds back, on its own goroutine, a peer that sends too fast. It takes nothing.
func (n *Node) door(from keys.Public, msg message.Message) bool {
	if f, ok := msg.(gossip.Frame); ok && f.Ledger == gossip.Tangle {
		n.rates.find(from).WaitN(n.ctx, len(f.Raw))
	}
	return false
}
