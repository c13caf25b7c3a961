package chain

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/watch"
)

// MaxWatched bounds the outputs and scripts that a Follower watches. A channel
// needs one or two, a wallet one for every address; each is looked up again at
// every change of the tip.
const MaxWatched = 16_384

// RetryPause is how long a Follower waits after a source failed to answer. A
// change of the tip cuts it short.
const RetryPause = time.Second

// A Follower reports what became of every watched output, and the coins of every
// watched script: at once, and again whenever the tip or the answer has changed.
type Follower struct {
	source Source
	report func(any)
	fail   func(error)

	mu      sync.Mutex
	outputs map[wire.OutPoint]*watched
	scripts map[string]*watched
	news    []*watched    // wait for their first report
	asked   chan struct{} // holds one token while something does

	proofs proofs // Run's
}

// watched is an output, or if ask.Prove or its point is none, a script.
type watched struct {
	point *wire.OutPoint
	ask   watch.Script
	told  any // the last report; nil if one is owed
}

// NewFollower watches source. report is given watch.Status and watch.Coins;
// report and fail are called one at a time, from Run. A failed look-up is told to
// fail and tried again.
func NewFollower(source Source, report func(any), fail func(error)) *Follower {
	return &Follower{
		source: source, report: report, fail: fail,
		outputs: map[wire.OutPoint]*watched{}, scripts: map[string]*watched{}, asked: make(chan struct{}, 1),
	}
}

// Watch adds an output. Asking again brings a report again, because who asks
// again has forgotten the last one.
func (f *Follower) Watch(o watch.Output) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outputs[o.Point] == nil {
		if err := f.room(); err != nil {
			return fmt.Errorf("watch %v: %w", o.Point, err)
		}
	}
	w := &watched{point: &o.Point, ask: watch.Script{Script: o.Script, Since: o.Since}}
	f.outputs[o.Point] = w
	f.ring(w)
	return nil
}

// WatchScript adds a script, as Watch does an output.
func (f *Follower) WatchScript(s watch.Script) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.scripts[string(s.Script)] == nil {
		if err := f.room(); err != nil {
			return fmt.Errorf("watch script %x: %w", s.Script, err)
		}
	}
	w := &watched{ask: s}
	f.scripts[string(s.Script)] = w
	f.ring(w)
	return nil
}

func (f *Follower) room() error {
	if len(f.outputs)+len(f.scripts) >= MaxWatched {
		return fmt.Errorf("%d outputs and scripts are watched, which is the limit", MaxWatched)
	}
	return nil
}

func (f *Follower) ring(w *watched) {
	f.news = append(f.news, w)
	select {
	case f.asked <- struct{}{}:
	default: // Run has not come round to the last token, so it will see this one too
	}
}

// Run reports until ctx ends. What is new is asked about by itself: with thousands
// of channels that open together, all of them again for each would take minutes.
func (f *Follower) Run(ctx context.Context) {
	for {
		changed := f.source.Changed() // that one, until all were asked about again
		retry := f.round(ctx, f.snapshot)
		for again := false; !again; {
			select {
			case <-changed:
				again = true
			case <-retry:
				again = true
			case <-f.asked:
				if failed := f.round(ctx, f.fresh); retry == nil {
					retry = failed
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// round asks about what list names. If that fails it returns when to try again.
func (f *Follower) round(ctx context.Context, list func() (all []*watched, news []watch.Script)) (retry <-chan time.Time) {
	err := f.ask(ctx, list)
	if err == nil {
		return nil
	}
	if ctx.Err() == nil {
		f.fail(err)
	}
	return time.After(RetryPause)
}

// ask asks about what list names and returns the first failure.
func (f *Follower) ask(ctx context.Context, list func() (all []*watched, news []watch.Script)) (failed error) {
	all, news := list()
	if slices.ContainsFunc(all, func(w *watched) bool { return w.ask.Prove }) {
		f.proofs.follow(ctx, f.source)
	}
	if s, ok := f.source.(Scanner); ok && len(news) > 0 {
		s.Scan(news)
	}
	for _, w := range all {
		answer, err := f.lookUp(ctx, w)
		if err != nil {
			if failed == nil {
				failed = err
			}
			continue
		}
		if f.changed(w, answer) {
			f.report(answer)
		}
	}
	return failed
}

func (f *Follower) lookUp(ctx context.Context, w *watched) (any, error) {
	if w.point != nil {
		s, err := f.source.Status(ctx, watch.Output{Point: *w.point, Script: w.ask.Script, Since: w.ask.Since})
		if err != nil {
			return nil, fmt.Errorf("status of %v: %w", *w.point, err)
		}
		return s, nil
	}
	coins, err := coinsOf(ctx, f.source, w.ask, &f.proofs)
	if err != nil {
		return nil, fmt.Errorf("coins of script %x: %w", w.ask.Script, err)
	}
	return coins, nil
}

// snapshot lists what is watched, and of that what was not reported yet.
func (f *Follower) snapshot() (all []*watched, news []watch.Script) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.news = nil
	all = make([]*watched, 0, len(f.outputs)+len(f.scripts))
	for _, w := range f.outputs {
		all = append(all, w)
	}
	for _, w := range f.scripts {
		all = append(all, w)
	}
	for _, w := range all {
		if w.told == nil {
			news = append(news, w.ask)
		}
	}
	return all, news
}

// fresh lists what was not asked about yet.
func (f *Follower) fresh() (all []*watched, news []watch.Script) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all, f.news = f.news, nil
	for _, w := range all {
		news = append(news, w.ask)
	}
	return all, news
}

// changed tells whether an answer differs from the last report, and notes it as
// told.
func (f *Follower) changed(w *watched, answer any) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.told != nil && same(w.told, answer) {
		return false
	}
	w.told = answer
	return true
}

func same(a, b any) bool {
	if a, ok := a.(watch.Coins); ok {
		b := b.(watch.Coins)
		return slices.EqualFunc(a.Coins, b.Coins, func(a, b watch.Coin) bool {
			return a.Point == b.Point && a.Depth == b.Depth && sameProof(a.Proof, b.Proof)
		})
	}
	return sameStatus(a.(watch.Status), b.(watch.Status))
}

// sameProof tells whether a coin is in the same block: after a reorganisation it
// may be in another at the same height.
func sameProof(a, b *merkle.Proof) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Height == b.Height && a.Branch.Index == b.Branch.Index && slices.Equal(a.Branch.Hashes, b.Branch.Hashes)
}

func sameStatus(a, b watch.Status) bool {
	if (a.Spender == nil) != (b.Spender == nil) || a.Spender != nil && a.Spender.TxHash() != b.Spender.TxHash() {
		return false
	}
	a.Spender, b.Spender = nil, nil
	return a == b
}

// coinsOf asks a source for the coins of a script as of one tip, with their proofs
// if that is asked for.
func coinsOf(ctx context.Context, s Source, ask watch.Script, known *proofs) (watch.Coins, error) {
	for {
		before, hash, err := s.Tip(ctx)
		if err != nil {
			return watch.Coins{}, err
		}
		coins, err := s.Coins(ctx, ask.Script)
		if err == nil && ask.Prove {
			err = prove(ctx, s, coins, before, known)
		}
		after, now, tipErr := s.Tip(ctx)
		if tipErr == nil && bytes.Equal(hash[:], now[:]) || err != nil && tipErr != nil {
			return watch.Coins{Script: ask.Script, Tip: after, Coins: coins}, err
		}
		if ctx.Err() != nil {
			return watch.Coins{}, ctx.Err()
		}
	}
}
