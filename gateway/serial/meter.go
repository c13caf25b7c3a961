package serial

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
	"coinop.dev/gateway"
	"coinop.dev/world/store"
)

// MaxMeters bounds the sessions of a device whose totals are known. The oldest
// goes first, and is not metered any more.
const MaxMeters = 16

// meters are how far a device's sessions have been charged. A total is on disk
// before it is drawn: a crash between the two is one report's units to the
// owner's cost, and nothing is charged twice.
type meters struct {
	db  store.DB
	key string

	mu  sync.Mutex
	all []meter
}

type meter struct {
	session money.OrderID
	total   uint64
}

func (s *meters) load(db store.DB, device string) error {
	s.db, s.key = db, "serial/meters/"+device
	raw, err := db.Get(s.key)
	if err != nil || raw == nil {
		return err
	}
	r := codec.NewReader(raw)
	for n := r.Int(MaxMeters, "number of meters"); n > 0 && r.Err() == nil; n-- {
		var m meter
		r.Fill(m.session[:])
		m.total = r.Uvarint()
		s.all = append(s.all, m)
	}
	return r.Close()
}

func (s *meters) save() error {
	b := codec.AppendUint(nil, len(s.all))
	for _, m := range s.all {
		b = append(b, m.session[:]...)
		b = codec.AppendUint(b, m.total)
	}
	return s.db.Commit([]step.Record{{Key: s.key, Value: b}})
}

// begin takes a new session, at 0.
func (s *meters) begin(session money.OrderID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == MaxMeters {
		s.all = s.all[1:]
	}
	s.all = append(s.all, meter{session, 0})
	return s.save()
}

// advance returns how many units are new, once.
func (s *meters) advance(session money.OrderID, total uint64) (fresh uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		m := &s.all[i]
		if m.session != session {
			continue
		}
		if total <= m.total {
			return 0, nil
		}
		fresh, was := total-m.total, m.total
		m.total = total
		if err := s.save(); err != nil {
			m.total = was
			return 0, err
		}
		return fresh, nil
	}
	return 0, fmt.Errorf("session %v is not metered here: the last %d are", session, MaxMeters)
}

// charge draws what a session's meter has counted since it was last heard. The
// device is to stop if there is an error.
func (s *meters) charge(ctx context.Context, shop *gateway.Shop, m Meter) (Left, error) {
	left := Left{Session: m.Session, Total: m.Total}
	if m.Session == (money.OrderID{}) {
		left.Go = true // it only counts
		return left, nil
	}
	b, ok, err := shop.Balance(ctx, m.Session)
	if err != nil || !ok {
		return left, errors.Join(err, errUnpaid)
	}
	left.Amount = b.Left
	fresh, err := s.advance(m.Session, m.Total)
	if err != nil || fresh == 0 {
		left.Go = err == nil && left.Amount > 0
		return left, err
	}
	d, err := shop.Draw(ctx, m.Session, m.Service, fresh)
	if little := (*tab.Short)(nil); errors.As(err, &little) {
		// The device gave more than there is: take what there is.
		if fresh = affordable(fresh, little); fresh == 0 {
			return left, nil
		}
		d, err = shop.Draw(ctx, m.Session, m.Service, fresh)
	}
	if err != nil {
		return left, err
	}
	d.Settle(fresh)
	left.Amount, left.Go = d.Left, d.Left > 0
	return left, nil
}

var errUnpaid = errors.New("that session is not paid, or used up")

// affordable is how many of n units what is left pays for.
func affordable(n uint64, s *tab.Short) uint64 {
	if s.Want == 0 || s.Left >= s.Want {
		return 0
	}
	hi, lo := bits.Mul64(n, uint64(s.Left))
	units, _ := bits.Div64(hi, lo, uint64(s.Want))
	return units
}
