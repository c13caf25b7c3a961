package link

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"coinop.dev/core/keys"
)

const (
	// MinBackoff is the shortest wait before dialling again: a link that is cut
	// by accident is back before a person notices.
	MinBackoff = 50 * time.Millisecond

	// MaxBackoff is the longest wait: a peer that comes back is found soon.
	MaxBackoff = 5 * time.Second

	// Steady is how long a link must last for the waits to start small again.
	// A peer that lets us in only to hang up is not dialled in a tight loop.
	Steady = MaxBackoff
)

// A Keep holds one link up. Its functions are called one at a time, from Run.
type Keep struct {
	Dial func(ctx context.Context) (Link, error)

	// OnUp is told of every new link. It may keep it to Send, and must not
	// Recv.
	OnUp func(l Link)
	// OnMessage gets what the peer says. msg is valid only during the call.
	OnMessage func(peer keys.Public, msg []byte)
	// OnDown ends every attempt: a dial that failed, or a link that was up.
	OnDown func(err error)

	// Random gives numbers in [0,1); nil means math/rand/v2. Jitter keeps
	// machines that lost the same peer from coming back all at once.
	Random func() float64
	// After is the clock; nil means time.After.
	After func(d time.Duration) <-chan time.Time
}

// Run dials, receives and dials again until ctx ends.
func (k Keep) Run(ctx context.Context) {
	if k.Random == nil {
		k.Random = rand.Float64
	}
	if k.After == nil {
		k.After = time.After
	}
	for ceiling := 2 * MinBackoff; ; ceiling = min(2*ceiling, MaxBackoff) {
		steady, err := k.once(ctx)
		if ctx.Err() != nil {
			k.OnDown(context.Cause(ctx))
			return
		}
		if steady {
			ceiling = 2 * MinBackoff
		}
		wait := ceiling/2 + time.Duration(k.Random()*float64(ceiling/2))
		k.OnDown(fmt.Errorf("%w; next try in %v", err, wait.Round(time.Millisecond)))
		select {
		case <-k.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// once is one attempt, from dialling to the error that ends it. It reports
// whether the link proved steady.
func (k Keep) once(ctx context.Context) (steady bool, err error) {
	l, err := k.Dial(ctx)
	if err != nil {
		return false, err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	proof := k.After(Steady)
	k.OnUp(l)
	for {
		msg, err := l.Recv()
		if err != nil {
			select {
			case <-proof:
				return true, err
			default:
				return false, err
			}
		}
		k.OnMessage(l.Peer(), msg)
	}
}
