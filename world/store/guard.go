package store

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"coinop.dev/core/step"
)

const (
	// MaxKey is the longest key in bytes: bbolt's limit, the tightest of all.
	MaxKey = 32 << 10
	// MaxCommit is the most bytes of keys and values in one commit. A backend
	// holds a commit in memory, and a whole node has 40 MiB.
	MaxCommit = 16 << 20

	// FormatKey is where Format is kept. It starts with the byte 0, and no key
	// of a user does.
	FormatKey = "\x00format"

	firstKey = "\x01" // every user's key is at or after it
)

// A Guard stands before a backend and gives every store the same manners: it
// checks the format, refuses bad keys, and lets nothing through after a failure
// or Close. Backends embed it, so they need only read and write.
type Guard struct {
	name    string
	db      DB
	mu      sync.RWMutex // held for reading by every call, for writing by Close
	closed  bool
	failure atomic.Pointer[error]
	commits atomic.Uint64
}

// NewGuard takes over db, which it closes if the format is not ours to read.
// name is the store's URI, for errors. db may count on this: no call of it
// overlaps or follows Close, no Commit is empty, every key is good. It must
// itself keep Commits that overlap a failing one from succeeding on top of it.
func NewGuard(name string, db DB) (*Guard, error) {
	g := &Guard{name: name, db: db}
	if err := g.checkFormat(); err != nil {
		return nil, g.named(errors.Join(err, db.Close()))
	}
	return g, nil
}

func (g *Guard) checkFormat() error {
	value, err := g.db.Get(FormatKey)
	if err != nil {
		return err
	}
	number := 0 // a store just made
	if value != nil {
		if number, err = strconv.Atoi(string(value)); err != nil {
			return fmt.Errorf("its format %.20q is not a number; the file is damaged or not coinop's, restore a backup", value)
		}
	}
	switch {
	case number > Format:
		return fmt.Errorf("%w: its format is %d and this build reads up to %d; use the newer coinop that wrote it", ErrNewer, number, Format)
	case number == Format:
		return nil
	}
	return g.db.Commit([]step.Record{{Key: FormatKey, Value: []byte(strconv.Itoa(Format))}})
}

// Commit is DB's.
func (g *Guard) Commit(records []step.Record) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return g.named(ErrClosed)
	}
	if first := g.failure.Load(); first != nil {
		return g.named(fmt.Errorf("%w; it said: %v", ErrFailed, *first))
	}
	if err := check(records); err != nil {
		return g.named(err)
	}
	if len(records) == 0 {
		return nil
	}
	if err := g.db.Commit(records); err != nil {
		g.failure.CompareAndSwap(nil, &err)
		return g.named(fmt.Errorf("commit: %w", err))
	}
	g.commits.Add(1)
	return nil
}

func check(records []step.Record) error {
	size := 0
	for _, r := range records {
		switch {
		case r.Key == "":
			return fmt.Errorf("%w: a key is empty", ErrRefused)
		case r.Key < firstKey:
			return fmt.Errorf("%w: key %.40q starts with the byte 0, which is reserved for the store", ErrRefused, r.Key)
		case len(r.Key) > MaxKey:
			return fmt.Errorf("%w: key %.40q is %d bytes, the limit is %d", ErrRefused, r.Key, len(r.Key), MaxKey)
		}
		size += len(r.Key) + len(r.Value)
	}
	if size > MaxCommit {
		return fmt.Errorf("%w: %d records are %d bytes, the limit is %d; commit them in parts", ErrRefused, len(records), size, MaxCommit)
	}
	return nil
}

// Get is DB's.
func (g *Guard) Get(key string) ([]byte, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return nil, g.named(ErrClosed)
	}
	if key < firstKey {
		return nil, nil
	}
	value, err := g.db.Get(key)
	return value, g.named(err)
}

// Scan is DB's.
func (g *Guard) Scan(prefix string, yield func(key string, value []byte) bool) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return g.named(ErrClosed)
	}
	return g.named(g.db.Scan(prefix, yield))
}

// Close is DB's. The second one does nothing.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	return g.named(g.db.Close())
}

// Commits is how many commits have succeeded.
func (g *Guard) Commits() uint64 { return g.commits.Load() }

func (g *Guard) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store %s: %w", g.name, err)
}

// Range is the half-open range of keys that Scan of prefix covers: from start
// up to end, or to the last key if end is empty. It leaves out reserved keys.
func Range(prefix string) (start, end string) {
	start = max(prefix, firstKey)
	last := len(prefix) - 1
	for last >= 0 && prefix[last] == 0xff { // nothing comes after it at this length
		last--
	}
	if last < 0 {
		return start, ""
	}
	return start, max(start, prefix[:last]+string([]byte{prefix[last] + 1}))
}
