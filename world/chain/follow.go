package chain

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
)

// MaxWatched bounds the outputs a Follower watches. A channel needs one or two,
// and each is looked up again at every change of the tip.
const MaxWatched = 4096

// RetryPause is how long a Follower waits after a source failed to answer. A
// change of the tip cuts it short.
const RetryPause = time.Second

// A Follower reports the status of every watched output: at once, and again
// whenever the tip or the status has changed.
type Follower struct {
	source Source
	report func(watch.Status)
	fail   func(error)

	mu      sync.Mutex
	watched map[wire.OutPoint]*watched
	asked   chan struct{} // holds one token while an output waits for its first report
}

type watched struct {
	output watch.Output
	told   *watch.Status // the last report; nil if one is owed
}

// NewFollower watches source. report and fail are called one at a time, from
// Run. A failed look-up is told to fail and tried again.
func NewFollower(source Source, report func(watch.Status), fail func(error)) *Follower {
	return &Follower{
		source: source, report: report, fail: fail,
		watched: map[wire.OutPoint]*watched{}, asked: make(chan struct{}, 1),
	}
}

// Watch adds an output. Asking again brings a report again, because who asks
// again has forgotten the last one.
func (f *Follower) Watch(o watch.Output) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watched[o.Point] == nil && len(f.watched) == MaxWatched {
		return fmt.Errorf("watch %v: %d outputs are watched, which is the limit", o.Point, MaxWatched)
	}
	f.watched[o.Point] = &watched{output: o}
	select {
	case f.asked <- struct{}{}:
	default: // Run has not come round to the last token, so it will see this one too
	}
	return nil
}

// Run reports until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	for {
		changed := f.source.Changed()
		var retry <-chan time.Time
		if err := f.round(ctx); err != nil {
			if ctx.Err() == nil {
				f.fail(err)
			}
			retry = time.After(RetryPause)
		}
		select {
		case <-changed:
		case <-f.asked:
		case <-retry:
		case <-ctx.Done():
			return
		}
	}
}

// round asks for every watched output and returns the first failure.
func (f *Follower) round(ctx context.Context) (failed error) {
	all := f.snapshot()
	if s, ok := f.source.(Scanner); ok {
		var news []watch.Script
		for _, w := range all {
			if f.owed(w) {
				news = append(news, watch.Script{Script: w.output.Script, Since: w.output.Since})
			}
		}
		s.Scan(news)
	}
	for _, w := range all {
		s, err := f.source.Status(ctx, w.output)
		if err != nil {
			if failed == nil {
				failed = fmt.Errorf("status of %v: %w", w.output.Point, err)
			}
			continue
		}
		if f.news(w, s) {
			f.report(s)
		}
	}
	return failed
}

func (f *Follower) snapshot() []*watched {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]*watched, 0, len(f.watched))
	for _, w := range f.watched {
		all = append(all, w)
	}
	return all
}

// owed tells whether an output has not been reported yet.
func (f *Follower) owed(w *watched) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return w.told == nil
}

// news tells whether s differs from the last report, and notes it as told.
func (f *Follower) news(w *watched, s watch.Status) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.told != nil && same(*w.told, s) {
		return false
	}
	w.told = &s
	return true
}

func same(a, b watch.Status) bool {
	if (a.Spender == nil) != (b.Spender == nil) || a.Spender != nil && a.Spender.TxHash() != b.Spender.TxHash() {
		return false
	}
	a.Spender, b.Spender = nil, nil
	return a == b
}
