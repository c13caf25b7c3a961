package page

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// maxSamples is the chart's minute at four states a second.
const maxSamples = 240

// A Hub holds the newest State and wakes whoever looks at it. A viewer that is
// slow skips states and gets the newest: nothing queues up.
type Hub struct {
	run    string // tells a restarted demo from a reconnection
	closed chan struct{}

	mu      sync.Mutex
	seq     uint64 // counts states; 0: none yet
	state   []byte // the newest, as JSON
	changed chan struct{}
	samples []sample
	viewers int
	shut    bool
}

// A sample is one point of the chart.
type sample struct {
	seq          uint64
	elapsed, pps float64
}

// MarshalJSON writes [elapsed_s, rate_per_s].
func (s sample) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "[%.2f,%.1f]", s.elapsed, s.pps), nil
}

// NewHub returns a Hub without a State: its viewers wait for the first.
func NewHub() *Hub {
	return &Hub{run: rand.Text()[:8], closed: make(chan struct{}), changed: make(chan struct{})}
}

// Publish makes s the newest State. It copies what it needs and never waits
// for a viewer.
func (h *Hub) Publish(s State) {
	s = s.fit()
	body, err := json.Marshal(s)
	if err != nil {
		panic("page: a State must marshal: " + err.Error()) // fit left nothing that can fail
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	h.state = body
	h.record(sample{h.seq, s.ElapsedS, s.RatePerS})
	close(h.changed)
	h.changed = make(chan struct{})
}

// record keeps the chart's last minute. A clock that stands still (settled)
// adds nothing; one that goes back begins a new chart.
func (h *Hub) record(p sample) {
	if n := len(h.samples); n > 0 && p.elapsed <= h.samples[n-1].elapsed {
		if p.elapsed == h.samples[n-1].elapsed {
			return
		}
		h.samples = nil
	}
	if len(h.samples) == maxSamples {
		h.samples = append(h.samples[:0], h.samples[1:]...)
	}
	h.samples = append(h.samples, p)
}

// Close tells every viewer that the demo has ended and ends their streams, so
// that http.Server.Shutdown does not wait for them.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.shut {
		h.shut = true
		close(h.closed)
	}
}

// latest returns the newest state, its number, and what closes at the next.
func (h *Hub) latest() (state []byte, seq uint64, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state, h.seq, h.changed
}

// since returns the chart after the event id last, and whether last is of this
// run, so that the viewer may keep what it has drawn.
func (h *Hub) since(last string) (points []sample, resumed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	run, number, _ := strings.Cut(last, "-")
	seq, err := strconv.ParseUint(number, 10, 64)
	resumed = run == h.run && err == nil
	points = []sample{}
	for _, p := range h.samples {
		if !resumed || p.seq > seq {
			points = append(points, p)
		}
	}
	return points, resumed
}

func (h *Hub) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.viewers == MaxViewers || h.shut {
		return false
	}
	h.viewers++
	return true
}

func (h *Hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.viewers--
}
