package gateway

import (
	"slices"
	"strings"

	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
)

// maxFree bounds the buyers that are remembered in a day for what they had free.
// One more has nothing free: it pays, or comes back tomorrow.
const maxFree = 65_536

// freeTier counts units that buyers had free today. It is in memory: a restart
// gives everybody a new day, and nobody loses anything.
type freeTier struct {
	day  step.Time
	used map[string]uint64 // by service and buyer
}

func (f *freeTier) take(v offer.Service, buyer string, units uint64, now step.Time) bool {
	if day := now / step.Day; f.used == nil || day != f.day {
		f.day, f.used = day, map[string]uint64{}
	}
	key := v.Name + " " + buyer
	used, known := f.used[key]
	if !known && len(f.used) >= maxFree || used+units > v.Free || used+units < used {
		return false
	}
	f.used[key] = used + units
	return true
}

// A Shadow is what a service would have earned if it had been charged for.
type Shadow struct {
	Service string       `json:"service"`
	Orders  uint64       `json:"orders"`
	Units   uint64       `json:"units"`
	Due     money.Amount `json:"due_msat"`
}

// isFree decides whether an ask is free, and counts it if it is.
func (s *Shop) isFree(v offer.Service, a Ask, due money.Amount, now step.Time) bool {
	if !v.Shadow && v.Free == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.Shadow {
		c := s.shadow[v.Name]
		c.Service = v.Name
		c.Orders++
		c.Units += a.Units
		c.Due += due
		s.shadow[v.Name] = c
		return true
	}
	return !a.Tab && s.free.take(v, a.Buyer, a.Units, now)
}

// TakeFree reports whether units of a service are free for a buyer now, and counts
// them if they are: for doors that serve at once.
func (s *Shop) TakeFree(a Ask) bool {
	v, ok := s.Service(a.Service)
	if !ok {
		return false
	}
	due, _ := v.Due(max(a.Units, v.Min, 1), s.rate(v), 0)
	return s.isFree(v, a, due, s.m.Host.Now())
}

// Shadows lists what services without a charge would have earned since the start.
func (s *Shop) Shadows() (list []Shadow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.shadow {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Shadow) int { return strings.Compare(a.Service, b.Service) })
	return list
}
