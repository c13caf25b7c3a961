package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/engine"
	"coinop.dev/world/store"
)

// A ledgerNode is a running node, as its process has it.
type ledgerNode interface {
	// submit hands a unit to the node, and does not wait.
	submit(ctx context.Context, raw []byte) error
	// verify checks the signatures of units in batches, and says how many there were.
	verify(units []unit) (signatures int, err error)
	// seen reads a transfer from the node's copy of the ledger, by its units' IDs.
	seen(units [][32]byte) (sighting, bool)
	addr() string
	state() string // of the ledger, for an error
	lost() uint64  // messages that there was no room for
	close()
}

// finals notes when units were final here. The node's host calls it.
type finals struct {
	mu      sync.Mutex
	count   uint64
	own     map[[32]byte]int64 // that this node has submitted, and when
	ownDone int                // of them are final
	times   map[[32]byte]int64 // when they were final, by the list that is fed
	wanted  map[[32]byte]bool
	done    chan struct{} // closed when nothing is wanted any more
	freed   chan struct{} // one of our own is final

	// Where milestones make things final: when each was confirmed here, and which one
	// a unit is final by.
	marks map[uint64]int64
	by    map[[32]byte]uint64
}

func (f *finals) final(id [32]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	if !f.wanted[id] {
		return
	}
	delete(f.wanted, id)
	f.times[id] = time.Now().UnixNano()
	if _, mine := f.own[id]; mine {
		f.ownDone++
		select {
		case f.freed <- struct{}{}:
		default:
		}
	}
	if len(f.wanted) == 0 {
		close(f.done)
	}
}

// ledger answers the questions about a node.
func (e *end) ledgerDo(ctx context.Context, q question) (a answer, err error) {
	switch q.Do {
	case "ledger open":
		a.Ledger, err = e.ledgerOpen(ctx, q.Ledger)
	case "ledger want":
		a.Ledger, err = e.ledgerWant(q.Ledger)
	case "ledger feed":
		a.Ledger, err = e.ledgerFeed(ctx, q.Ledger)
	case "ledger count":
		a.Counts, err = e.count(ctx, q.Rest)
		a.Ledger = &ledgerNews{Lost: e.ledger.lost()}
	case "ledger grow":
		a.Ledger, err = e.ledgerGrow(ctx, q.Ledger)
	case "ledger seen":
		a.Ledger = e.ledgerSeen(q.Ledger)
	case "ledger verify":
		a.Ledger, err = e.ledgerVerify(q.Ledger)
	default:
		err = fmt.Errorf("nothing is called %q", q.Do)
	}
	return a, err
}

func (e *end) ledgerOpen(ctx context.Context, t *ledgerTask) (*ledgerNews, error) {
	e.profiler.start(t.Profile)
	var err error
	if e.db, err = store.Default.Open(t.Store); err != nil {
		return nil, err
	}
	var key [32]byte
	key[0], key[31] = 1, byte(t.Node+1)
	secret, err := keys.SecretFromBytes(key[:])
	if err != nil {
		return nil, err
	}
	e.machine = engine.New(ctx, engine.Options{Key: secret, DB: e.db})
	e.finals = &finals{}
	switch t.Rail {
	case railNano:
		e.ledger, err = openLatticeNode(ctx, e, t)
	default:
		e.ledger, err = openTangleNode(ctx, e, t)
	}
	if err != nil {
		return nil, err
	}
	return &ledgerNews{Addr: e.ledger.addr()}, nil
}

// ledgerWant reads a list, and notes from now on when its units are final here: some
// are as soon as another node begins to submit them.
func (e *end) ledgerWant(t *ledgerTask) (*ledgerNews, error) {
	var err error
	if e.units, err = readUnits(t.Feed); err != nil {
		return nil, err
	}
	f := e.finals
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own, f.times, f.wanted = map[[32]byte]int64{}, make(map[[32]byte]int64, len(e.units)), make(map[[32]byte]bool, len(e.units))
	f.ownDone, f.done, f.freed = 0, make(chan struct{}), make(chan struct{}, 1)
	for _, u := range e.units {
		// What others have submitted is final by a milestone, which is noted.
		if t.Rail == railNano || u.node == t.Node {
			f.wanted[u.id] = true
		}
	}
	if len(f.wanted) == 0 {
		close(f.done)
	}
	return &ledgerNews{}, nil
}

// ledgerFeed submits what is this node's, at a rate or within a window, and waits
// until everything of the list is final here.
func (e *end) ledgerFeed(ctx context.Context, t *ledgerTask) (*ledgerNews, error) {
	f, units := e.finals, e.units
	wanted := len(units)
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(e.submitAll(ctx, t, units, began)) }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	last, moved := 0, time.Now()
	for {
		select {
		case <-f.done:
			took := time.Since(began)
			return &ledgerNews{Took: took, Final: f.count}, f.write(t.Times)
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, errSubmitted) {
				return nil, err
			}
			ctx = context.WithoutCancel(ctx)
		case <-tick.C:
			f.mu.Lock()
			done := len(f.times)
			f.mu.Unlock()
			if done != last {
				last, moved = done, time.Now()
				e.out.Encode(answer{Done: uint64(done)})
			}
			if time.Since(moved) > ledgerPatience {
				return nil, fmt.Errorf("%d of %d units are final, and nothing has happened for %v: %s", done, wanted, ledgerPatience, e.ledger.state())
			}
		}
	}
}

// errSubmitted is how the submitting ends well.
var errSubmitted = errors.New("all is submitted")

func (e *end) submitAll(ctx context.Context, t *ledgerTask, units []unit, began time.Time) error {
	f := e.finals
	sent, flying := 0, func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.own) - f.ownDone
	}
	room := t.Window
	for _, u := range units {
		if u.node != t.Node {
			continue
		}
		if t.Rate > 0 {
			due := began.Add(time.Duration(float64(sent) / t.Rate * 1e9))
			if wait := time.Until(due); wait > 2*time.Millisecond {
				select {
				case <-time.After(wait):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		} else {
			for room == 0 {
				select {
				case <-f.freed:
					room = max(0, t.Window-flying())
				case <-time.After(10 * time.Millisecond):
					room = max(0, t.Window-flying())
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			room--
		}
		f.mu.Lock()
		f.own[u.id] = time.Now().UnixNano()
		f.mu.Unlock()
		if err := e.ledger.submit(ctx, u.raw); err != nil {
			return err
		}
		sent++
	}
	return errSubmitted
}

// momentSize is what one entry of the file of times has: the beginning of the unit's
// ID, when it was submitted here and final, and by which milestone. One without an
// ID is of a milestone itself.
const momentSize = 32

// write says when everything was submitted and final.
func (f *finals) write(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	f.mu.Lock()
	defer f.mu.Unlock()
	put := func(id [32]byte, submitted, final int64, by uint64) {
		var b [momentSize]byte
		copy(b[:8], id[:8])
		binary.BigEndian.PutUint64(b[8:], uint64(submitted))
		binary.BigEndian.PutUint64(b[16:], uint64(final))
		binary.BigEndian.PutUint64(b[24:], by)
		w.Write(b[:])
	}
	for id, at := range f.times {
		put(id, f.own[id], at, f.by[id])
	}
	for index, at := range f.marks {
		put([32]byte{}, 0, at, index)
	}
	return errors.Join(w.Flush(), file.Close())
}

func (e *end) ledgerVerify(t *ledgerTask) (*ledgerNews, error) {
	units, err := readUnits(t.Verify)
	if err != nil {
		return nil, err
	}
	units = units[:min(len(units), 20_000)]
	began := time.Now()
	n, err := e.ledger.verify(units)
	if err != nil || n == 0 {
		return &ledgerNews{}, err
	}
	us := float64(time.Since(began).Nanoseconds()) * microsPerNano / float64(n)
	return &ledgerNews{VerifyUs: &us}, nil
}
