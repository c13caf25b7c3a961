package rpc

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"math"
	"runtime"
	"strconv"
	"sync"
	"time"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
)

const (
	// MaxMultiplier is how many times the work of a send a client may ask for.
	MaxMultiplier = 64
	// MaxWorks bounds the requests for work that wait or are done at a time. Half of
	// the processors work, for one request each.
	MaxWorks = 64
	// WorkTime bounds the search for one: on Nano's live network a send takes minutes
	// of an ordinary processor.
	WorkTime = 10 * time.Minute
	// someTries is how often a search looks whether it is still wanted.
	someTries = 1 << 16
)

// works is the work that is being done.
type works struct {
	processors chan struct{}

	mu   sync.Mutex
	jobs map[*job]bool
}

type job struct {
	root   [32]byte
	cancel context.CancelFunc
}

func newWorks() *works {
	return &works{processors: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), jobs: map[*job]bool{}}
}

// find does work, when a processor is free, until it is done or not wanted any more.
func (w *works) find(ctx context.Context, root [32]byte, difficulty uint64) (work uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, WorkTime)
	defer cancel()
	j := &job{root, cancel}
	w.mu.Lock()
	full := len(w.jobs) >= MaxWorks
	if !full {
		w.jobs[j] = true
	}
	w.mu.Unlock()
	if full {
		return 0, workFailed
	}
	defer func() {
		w.mu.Lock()
		delete(w.jobs, j)
		w.mu.Unlock()
	}()
	select {
	case w.processors <- struct{}{}:
		defer func() { <-w.processors }()
	case <-ctx.Done():
		return 0, cancelled
	}
	start := random()
	for from := binary.BigEndian.Uint64(start[:]); ctx.Err() == nil; from += someTries {
		if work, ok := lattice.TryWork(root, difficulty, from, someTries); ok {
			return work, nil
		}
	}
	return 0, cancelled
}

// stop ends the search for a root's work.
func (w *works) stop(root [32]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for j := range w.jobs {
		if j.root == root {
			j.cancel()
		}
	}
}

func random() (b [32]byte) {
	rand.Read(b[:]) // it never fails
	return b
}

// multiply is the threshold that takes so many times the tries.
func multiply(base uint64, times float64) uint64 {
	if times <= 0 {
		return 0
	}
	tries := float64(-base) / times
	if tries >= math.MaxUint64 {
		return 0
	}
	return -uint64(max(1, tries))
}

func multiplier(value, base uint64) string {
	return strconv.FormatFloat(lattice.Multiplier(value, base), 'f', 15, 64)
}

// difficulty is what a request asks for, by name or by multiplier.
func (c *call) difficulty(otherwise uint64) (difficulty uint64, given bool) {
	difficulty = c.hex64("difficulty", otherwise, badDifficulty)
	given = c.has("difficulty")
	if text, asked := c.optional("multiplier"); asked {
		times, err := strconv.ParseFloat(text, 64)
		if err != nil || times <= 0 || math.IsNaN(times) {
			c.fail(badMultiplier)
		}
		difficulty, given = multiply(c.s.Node.Network().WorkSend, times), true
	}
	return difficulty, given
}

// difficultyOf is what a block's kind takes, as far as the ledger knows its kind.
func (c *call) difficultyOf(b *lattice.Block) (difficulty uint64, err error) {
	network := c.s.Node.Network()
	difficulty = network.WorkSend
	_, err = c.look(func(n *node.Node, _ *object) error {
		previous, known := n.Block(b.Previous)
		if known || b.Previous.IsZero() {
			difficulty = network.Threshold(b.Kind(previous.Balance, b.Previous.IsZero()))
		}
		return nil
	})
	return difficulty, err
}

func (c *call) workGenerate() (*object, error) {
	c.workVersion()
	network := c.s.Node.Network()
	root := c.hash("hash")
	difficulty, given := c.difficulty(network.WorkSend)
	if difficulty > c.s.MaxWork || difficulty < min(network.WorkSend, network.WorkReceive) {
		c.fail(difficultyLimit)
	}
	if c.has("block") && c.fault == nil {
		b := c.block()
		if lattice.Hash(b.Root()) != root {
			c.fail(rootMismatch)
		}
		if c.fault == nil && !given {
			var err error
			if difficulty, err = c.difficultyOf(&b); err != nil {
				return nil, err
			}
		}
		if lattice.WorkValue(root, b.Work) >= difficulty {
			c.fail(workEnough)
		}
	}
	if c.fault != nil {
		return nil, c.fault
	}
	began := time.Now()
	work, err := c.s.works.find(c.ctx, root, difficulty)
	c.s.tellWork(root, work, difficulty, time.Since(began), err)
	if err != nil {
		return nil, err
	}
	value := lattice.WorkValue(root, work)
	return new(object).put("hash", root).put("work", hex16(work)).put("difficulty", hex16(value)).
		put("multiplier", multiplier(value, network.WorkSend)), nil
}

func (c *call) workCancel() (*object, error) {
	root := c.hash("hash")
	if c.fault == nil {
		c.s.works.stop(root)
	}
	return new(object).put("success", ""), c.fault
}

func (c *call) workValidate() (*object, error) {
	c.workVersion()
	network := c.s.Node.Network()
	root, work := c.hash("hash"), c.hex64("work", 0, badWork)
	difficulty, _ := c.difficulty(network.WorkSend)
	value := lattice.WorkValue(root, work)
	o := new(object)
	if c.has("difficulty") {
		o.put("valid", flag(value >= difficulty))
	}
	return o.put("valid_all", flag(value >= network.WorkSend)).put("valid_receive", flag(value >= network.WorkReceive)).
		put("difficulty", hex16(value)).put("multiplier", multiplier(value, network.WorkSend)), c.fault
}

func (c *call) activeDifficulty() (*object, error) {
	network := c.s.Node.Network()
	send, receive := hex16(network.WorkSend), hex16(network.WorkReceive)
	return new(object).put("deprecated", "1").put("network_minimum", send).put("network_receive_minimum", receive).
		put("network_current", send).put("network_receive_current", receive).put("multiplier", "1"), nil
}
