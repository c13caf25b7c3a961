package books

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coinop.dev/core/journal"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// A Host runs the machine whose journal is followed; *drive.Host is one.
type Host interface {
	Hear(func(step.Outcome))
	Do(ctx context.Context, f func(*drive.Machine)) error
	Tell(ctx context.Context, core string, what any) error
}

const (
	// gather is how long events wait for more, so that a busy machine's books are
	// synced twenty times a second and not with every order.
	gather = 50 * time.Millisecond
	// maxAway is the longest pause between tries while the database does not answer.
	maxAway = 30 * time.Second
)

// Follow files what the machine's journal has and gets, and has it trimmed, until
// ctx ends, the host stops, or the journal is another one than these books have
// followed. While the database does not answer it goes on trying; told is called
// with the fault each time, and with nil when all is filed again. told may be nil.
func (b *Books) Follow(ctx context.Context, host Host, told func(error)) error {
	news := make(chan struct{}, 1)
	host.Hear(func(o step.Outcome) {
		if o.Core == journal.Name {
			select {
			case news <- struct{}{}:
			default:
			}
		}
	})
	if told == nil {
		told = func(error) {}
	}
	pause, away := time.Duration(0), false
	for {
		err := b.catchUp(ctx, host)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrOtherJournal) || errors.Is(err, drive.ErrStopped) || errors.Is(err, drive.ErrNoCore):
			return err
		case err != nil:
			told(err)
			away, pause = true, min(max(2*pause, gather), maxAway)
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			continue
		case away:
			told(nil)
		}
		away, pause = false, 0
		select {
		case <-news:
			if err := sleep(ctx, gather); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// catchUp files all that the journal has.
func (b *Books) catchUp(ctx context.Context, host Host) error {
	after, err := b.Cursor(ctx)
	if err != nil {
		return err
	}
	known := after
	after -= min(after, 1) // one that is known, if it is still there, shows whose journal it is
	for {
		var events []journal.Event
		var fault error
		err := host.Do(ctx, func(m *drive.Machine) {
			j, ok := m.Core(journal.Name).(*journal.Journal)
			switch {
			case !ok:
				fault = drive.ErrNoCore
			case j.Last() < known:
				fault = fmt.Errorf("%w: it has %d events and the books %d; the machine's store is new or an old copy, give the gateway a new name", ErrOtherJournal, j.Last(), known)
			default:
				events = j.Since(after, MaxBatch)
			}
		})
		if err = errors.Join(err, fault); err != nil || len(events) == 0 {
			return err
		}
		if after, err = b.Apply(ctx, events); err != nil {
			return err
		}
		if err := host.Tell(ctx, journal.Name, journal.Trim{UpTo: after}); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
