package link_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/world/link"
)

var errNobody = errors.New("dial nowhere: connection refused")

// A brief link is up for a while and then hangs up; it says hello first.
type brief struct {
	greeted bool
	end     <-chan time.Time
	closed  chan struct{}
}

func newBrief(up time.Duration) *brief {
	return &brief{end: time.After(up), closed: make(chan struct{}, 2)}
}

func (b *brief) Peer() keys.Public { return keys.Public{2} }
func (b *brief) Send([]byte) error { return nil }
func (b *brief) Add([]byte) error  { return nil }
func (b *brief) Flush() error      { return nil }
func (b *brief) Close() error      { b.closed <- struct{}{}; return nil }

func (b *brief) Recv() ([]byte, error) {
	if !b.greeted {
		b.greeted = true
		return []byte("hello"), nil
	}
	select {
	case <-b.end:
		return nil, io.EOF
	case <-b.closed:
		return nil, io.ErrClosedPipe
	}
}

// dials runs a Keep whose n-th dial is answered by answer(n), and returns when
// each dial came.
func dials(t *testing.T, random float64, count int, answer func(n int) (link.Link, error)) (at []time.Duration) {
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	link.Keep{
		Dial: func(context.Context) (link.Link, error) {
			at = append(at, time.Since(began))
			if len(at) == count {
				cancel()
			}
			return answer(len(at))
		},
		OnUp:      func(link.Link) {},
		OnMessage: func(keys.Public, []byte) {},
		OnDown:    func(error) {},
		Random:    func() float64 { return random },
	}.Run(ctx)
	return at
}

func waits(at []time.Duration) (list []time.Duration) {
	for i := range at[1:] {
		list = append(list, at[i+1]-at[i])
	}
	return list
}

func TestKeepWaitsLongerEachTime(t *testing.T) {
	const ms = time.Millisecond
	for random, want := range map[float64][]time.Duration{
		0:   {50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 2500 * ms, 2500 * ms},
		0.5: {75 * ms, 150 * ms, 300 * ms, 600 * ms, 1200 * ms, 2400 * ms, 3750 * ms, 3750 * ms},
	} {
		synctest.Test(t, func(t *testing.T) {
			at := dials(t, random, 9, func(int) (link.Link, error) { return nil, errNobody })
			if got := waits(at); !slices.Equal(got, want) {
				t.Errorf("random %v: waits %v, want %v", random, got, want)
			}
			for _, w := range waits(at) {
				if w < link.MinBackoff || w > link.MaxBackoff {
					t.Errorf("wait %v is out of bounds", w)
				}
			}
		})
	}
}

func TestKeepStartsSmallAgainOnlyAfterASteadyLink(t *testing.T) {
	for up, want := range map[time.Duration]time.Duration{
		time.Second: 400 * time.Millisecond,
		time.Minute: link.MinBackoff,
	} {
		synctest.Test(t, func(t *testing.T) {
			at := dials(t, 0, 5, func(n int) (link.Link, error) {
				if n == 4 {
					return newBrief(up), nil
				}
				return nil, errNobody
			})
			if got := waits(at)[3] - up; got != want {
				t.Errorf("after a link of %v it waits %v, want %v", up, got, want)
			}
		})
	}
}

// Whatever a Keep is doing when its context ends, it stops, and closes the link
// it holds.
func TestKeepEndsWithItsContext(t *testing.T) {
	for name, after := range map[string]time.Duration{
		"dialling": 100 * time.Millisecond,
		"up":       1100 * time.Millisecond,
		"waiting":  2020 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), after)
				defer cancel()
				began, ups, downs, said := time.Now(), 0, 0, ""
				var held *brief
				link.Keep{
					Dial: func(ctx context.Context) (link.Link, error) {
						select {
						case <-time.After(time.Second):
							held = newBrief(time.Second)
							return held, nil
						case <-ctx.Done():
							return nil, ctx.Err()
						}
					},
					OnUp:      func(link.Link) { ups++ },
					OnMessage: func(_ keys.Public, msg []byte) { said = string(msg) },
					OnDown:    func(error) { downs++ },
				}.Run(ctx)
				if took := time.Since(began); took != after {
					t.Errorf("ended after %v, want %v", took, after)
				}
				if downs != 1 || held == nil && ups != 0 || held != nil && (ups != 1 || said != "hello" || len(held.closed) == 0) {
					t.Errorf("up %d times, down %d times, heard %q, link %+v", ups, downs, said, held)
				}
			})
		})
	}
}

func TestKeepSaysWhenItTriesAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	link.Keep{
		Dial: func(context.Context) (link.Link, error) { return nil, errNobody },
		OnDown: func(err error) {
			if !errors.Is(err, errNobody) || !strings.HasSuffix(err.Error(), "; next try in 50ms") {
				t.Errorf("got %q", err)
			}
			cancel()
		},
		Random: func() float64 { return 0 },
		After:  func(time.Duration) <-chan time.Time { return nil }, // a clock that stands still
	}.Run(ctx)
}
