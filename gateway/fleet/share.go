package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	core "coinop.dev/core/fleet"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/world/books"
)

// A Ledger is where gateways that share a fleet keep it (books.Books).
type Ledger interface {
	Lease(ctx context.Context, device string, window step.Time, limit, want money.Amount, gateway string) (granted money.Amount, err error)
	Leased(ctx context.Context, device string, window step.Time, gateway string) (held money.Amount, err error)
	Unlease(ctx context.Context, device string, window step.Time, held, keep money.Amount, gateway string) error
	Devices(ctx context.Context, after uint64) ([]books.Device, error)
	PutDevice(ctx context.Context, name, data string, version uint64, at step.Time) (now uint64, err error)
}

// pollEvery is how soon a device that is revoked at one gateway is at all others.
const pollEvery = time.Second

// Share keeps the fleet in step with other gateways until ctx ends: it answers
// what the core asks of a budget's keeper, writes what was changed here and takes
// what was changed there. gateway is this one's name in the ledger. While the
// ledger cannot be reached the fleet goes on with what it has.
func (f *Fleet) Share(ctx context.Context, l Ledger, gateway string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.keep(ctx, l, gateway)
	}()
	follow := follower{f: f, ledger: l, known: map[string]uint64{}}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	down := false
	for ctx.Err() == nil {
		err := follow.round(ctx)
		if (err != nil) != down && ctx.Err() == nil {
			down = err != nil
			f.o.Log.Warn("the fleet's shared ledger", "reached", !down, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-f.news:
			time.Sleep(20 * time.Millisecond) // an import is many
		}
	}
	<-done
}

// lease takes a question of the core's, on the host's goroutine.
func (f *Fleet) lease(p step.Packet) {
	if l, ok := p.Msg.(core.Lease); ok {
		select {
		case f.leases <- l:
		default:
		}
	}
}

// keep answers the core's questions one by one, so that the ledger hears them in
// the sequence of their numbers.
func (f *Fleet) keep(ctx context.Context, l Ledger, gateway string) {
	last := map[string]uint64{}
	answer := func(ask core.Lease) {
		if ask.N < last[ask.Device] {
			return
		}
		last[ask.Device] = ask.N
		hold, err := hold(ctx, l, ask, gateway)
		if err != nil {
			f.o.Log.Debug("lease", "device", ask.Device, "err", err)
			return // the core asks again, and is told then what it holds
		}
		f.tell(core.Leased{Device: ask.Device, Window: ask.Window, Hold: hold, N: ask.N})
	}
	for {
		select {
		case <-ctx.Done():
			return
		case ask := <-f.leases:
			answer(ask)
		case kept := <-f.flush:
			for n := len(f.leases); n > 0; n-- {
				answer(<-f.leases)
			}
			close(kept)
		}
	}
}

// hold makes what the ledger has for this gateway what the core wants, as far as
// there is any left.
func hold(ctx context.Context, l Ledger, ask core.Lease, gateway string) (money.Amount, error) {
	held, err := l.Leased(ctx, ask.Device, ask.Window, gateway)
	switch {
	case err != nil:
		return 0, err
	case ask.Hold < held:
		return ask.Hold, l.Unlease(ctx, ask.Device, ask.Window, held, ask.Hold, gateway)
	case ask.Hold == held:
		return held, nil
	}
	more, err := l.Lease(ctx, ask.Device, ask.Window, ask.Limit, ask.Hold-held, gateway)
	return held + more, err
}

// Release gives back what is leased and not spent, before the gateway stops, and
// waits until the ledger has it, while Share runs. What it cannot give back in time
// stays this gateway's until it asks for something again.
func (f *Fleet) Release(ctx context.Context) error {
	f.tell(core.Release{})
	// Its word comes after those of the release.
	if _, err := ask[int](ctx, f, func(id string) any { return core.Sync{Ask: id} }); err != nil {
		return err
	}
	kept := make(chan struct{})
	select {
	case f.flush <- kept:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-kept:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A follower reads and writes profiles in the ledger.
type follower struct {
	f      *Fleet
	ledger Ledger
	after  uint64            // the last change that was read
	known  map[string]uint64 // versions in the ledger
	begun  bool              // all of the ledger was read once
}

func (w *follower) round(ctx context.Context) error {
	if err := w.pull(ctx); err != nil {
		return err
	}
	if !w.begun {
		w.begun = true
		w.f.mu.Lock()
		for name := range w.f.profiles {
			w.f.dirty[name] = w.f.dirty[name] || w.known[name] == 0
		}
		w.f.mu.Unlock()
	}
	return w.push(ctx)
}

// pull takes what is new.
func (w *follower) pull(ctx context.Context) error {
	for {
		page, err := w.ledger.Devices(ctx, w.after)
		if err != nil || len(page) == 0 {
			return err
		}
		profiles := make([]core.Profile, 0, len(page))
		for _, d := range page {
			w.known[d.Name], w.after = d.Version, d.Change
			var p core.Profile
			if err := json.Unmarshal([]byte(d.Data), &p); err != nil || p.Name != d.Name {
				w.f.o.Log.Warn("a device in the shared ledger cannot be read", "device", d.Name, "err", err)
				continue
			}
			profiles = append(profiles, p)
		}
		if _, err := ask[int](ctx, w.f, func(id string) any { return core.Sync{Ask: id, Devices: profiles} }); err != nil {
			return err
		}
		w.settle(profiles)
	}
}

// settle marks what is here as it is there.
func (w *follower) settle(profiles []core.Profile) {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	for _, p := range profiles {
		if w.f.profiles[p.Name].Version == p.Version {
			delete(w.f.dirty, p.Name)
		}
	}
}

// push writes what was changed here. Whoever was first wins; the other one reads
// that in its next round.
func (w *follower) push(ctx context.Context) error {
	w.f.mu.RLock()
	var names []string
	for name, yes := range w.f.dirty {
		if yes {
			names = append(names, name)
		}
	}
	profiles := maps.Clone(w.f.profiles)
	w.f.mu.RUnlock()
	slices.Sort(names)
	for _, name := range names {
		p := profiles[name]
		raw, err := json.Marshal(p)
		if err != nil {
			return err
		}
		now, err := w.ledger.PutDevice(ctx, name, string(raw), w.known[name], w.f.host.Now())
		if errors.Is(err, books.ErrChanged) {
			w.f.o.Log.Warn("a device was changed at two gateways at once; the other one's change stands", "device", name)
			continue
		}
		if err != nil {
			return fmt.Errorf("share device %s: %w", name, err)
		}
		w.known[name] = now
		w.settle([]core.Profile{p})
	}
	return nil
}
