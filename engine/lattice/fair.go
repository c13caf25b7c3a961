package nanonet

import (
	"context"
	"sync"

	"coinop.dev/core/ledger/lattice"
)

// A class is a kind of message that waits by itself, so that much of one does not
// hold up another.
type class uint8

const (
	votes class = iota
	blocks
	requests
	bootstrap
	classes
)

// room says how many messages of a class may wait for one peer, and how many bytes
// of them; and how many are taken when it is the peer's turn. A turn is about 40
// signatures to verify, but for the blocks of a bootstrap, which the node has asked
// for: what is not asked for costs it nothing.
var room = [classes]struct{ messages, bytes, turn int }{
	votes:     {1024, 1 << 20, 24},
	blocks:    {2048, 512 << 10, 16},
	requests:  {256, 512 << 10, 8},
	bootstrap: {64, 512 << 10, 2},
}

// classOf is the class of a message's type.
func classOf(typ uint8) class {
	switch typ {
	case lattice.TypeConfirmAck:
		return votes
	case lattice.TypePublish:
		return blocks
	case lattice.TypeAscPullReq, lattice.TypeAscPullAck:
		return bootstrap
	}
	return requests
}

// A flow is what one peer has sent and the node has not yet taken. It is its fair's.
type flow struct {
	peer    string
	waiting [classes]ring
	bytes   [classes]int
	queued  bool // stands in the line
	ended   bool
}

// A ring is a queue that keeps its memory.
type ring struct {
	items [][]byte
	first int
	n     int
}

func (r *ring) push(raw []byte) {
	if r.n == len(r.items) {
		items := make([][]byte, max(8, 2*r.n))
		for i := range r.n {
			items[i] = r.items[(r.first+i)%r.n]
		}
		r.items, r.first = items, 0
	}
	r.items[(r.first+r.n)%len(r.items)] = raw
	r.n++
}

func (r *ring) pop() []byte {
	raw := r.items[r.first]
	r.items[r.first] = nil
	r.first = (r.first + 1) % len(r.items)
	r.n--
	return raw
}

// A fair lets what many peers send through to one node: each peer has its turn, and
// one that sends more than its share loses what is oldest of its own.
type fair struct {
	news chan any      // of peers that come and go: before all messages
	wake chan struct{} // somebody's turn may have come

	mu      sync.Mutex
	line    []*flow // that have something waiting, whose turn is next first
	dropped [classes]uint64
	taken   [classes]uint64
}

// maxNews bounds the peers that wait until the node has heard that they have come or
// gone.
const maxNews = 256

func newFair() *fair { return &fair{news: make(chan any, maxNews), wake: make(chan struct{}, 1)} }

// tell lets the node hear of a peer that comes or goes, and waits for room.
func (f *fair) tell(ctx context.Context, news any) {
	select {
	case f.news <- news:
	case <-ctx.Done():
	}
}

// put adds what a peer has sent, and drops its oldest of the same class if there is
// no room.
func (f *fair) put(l *flow, c class, raw []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.ended {
		return
	}
	for q := &l.waiting[c]; q.n > 0 && (q.n >= room[c].messages || l.bytes[c]+len(raw) > room[c].bytes); {
		l.bytes[c] -= len(q.pop())
		f.dropped[c]++
	}
	l.waiting[c].push(raw)
	l.bytes[c] += len(raw)
	if !l.queued {
		l.queued = true
		f.line = append(f.line, l)
		f.nudge()
	}
}

// end forgets a flow and what waits in it.
func (f *fair) end(l *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.ended = true
	l.waiting, l.bytes = [classes]ring{}, [classes]int{}
}

func (f *fair) counts() (taken, dropped [classes]uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taken, f.dropped
}

func (f *fair) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// next takes what one peer's turn brings: nothing while there is news, which comes
// before whatever a new peer says.
func (f *fair) next(batch [][]byte) (peer string, _ [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.news) > 0 || len(f.line) == 0 {
		return "", batch
	}
	l := f.line[0]
	f.line[0] = nil
	f.line = f.line[1:]
	left := false
	for c := range l.waiting {
		q := &l.waiting[c]
		for range min(q.n, room[c].turn) {
			raw := q.pop()
			l.bytes[c] -= len(raw)
			batch = append(batch, raw)
			f.taken[c]++
		}
		left = left || q.n > 0
	}
	if l.queued = left; left {
		f.line = append(f.line, l)
	}
	return l.peer, batch
}

// run hands everything on, until ctx ends or one of the functions fails. They block
// while the node is busy, and that is what lets queues fill.
func (f *fair) run(ctx context.Context, hear func(news any) error, frame func(peer string, raw []byte) error) {
	var batch [][]byte
	for {
		peer, turn := f.next(batch[:0])
		for _, raw := range turn {
			if frame(peer, raw) != nil {
				return
			}
		}
		clear(turn)
		if batch = turn; len(turn) > 0 {
			continue
		}
		select {
		case what := <-f.news:
			if hear(what) != nil {
				return
			}
			f.nudge() // there may be messages behind it
		case <-f.wake:
		case <-ctx.Done():
			return
		}
	}
}
