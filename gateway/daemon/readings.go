package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// maxReadings bounds what devices have measured and is kept: the last one of
	// each kind. maxReading bounds one, in bytes.
	maxReadings = 20_000
	maxReading  = 16 << 10
)

// readings is what devices have measured last. It is what services sell whose From
// names a device's reading: "data:device:NAME" or "data:device:NAME/KIND".
type readings struct {
	mu   sync.Mutex
	last map[string]measured
	news map[string]chan struct{} // closed at the next reading
}

type measured struct {
	data []byte
	at   time.Time
}

// put keeps a copy: a door uses its bytes again.
func (r *readings) put(device, kind string, b []byte) {
	if len(b) > maxReading {
		return
	}
	b = slices.Clone(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last, r.news = map[string]measured{}, map[string]chan struct{}{}
	}
	for _, name := range []string{device, device + "/" + kind} {
		if _, known := r.last[name]; !known && len(r.last) >= maxReadings {
			continue
		}
		r.last[name] = measured{b, time.Now()}
		if c := r.news[name]; c != nil {
			close(c)
			delete(r.news, name)
		}
	}
}

// Read is the last reading of a name.
func (r *readings) Read(_ context.Context, name string, _ uint64) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.last[name].data; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("%s has not been read yet", name)
}

// Follow calls each with every new reading of a name.
func (r *readings) Follow(ctx context.Context, name string, each func([]byte) error) error {
	for {
		r.mu.Lock()
		if r.news == nil {
			r.last, r.news = map[string]measured{}, map[string]chan struct{}{}
		}
		c := r.news[name]
		if c == nil {
			c = make(chan struct{})
			r.news[name] = c
		}
		r.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		}
		b, err := r.Read(ctx, name, 1)
		if err == nil {
			err = each(b)
		}
		if err != nil {
			return err
		}
	}
}
