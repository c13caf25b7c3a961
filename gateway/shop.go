// Package gateway sells: it is what every door of a machine (HTTP, MQTT, CoAP, a
// serial line, the API, the console) has in common. A door asks for an offer, shows
// it to whoever stands there, and comes back with a proof that it is paid; prices,
// orders, prepaid sessions and refunds are the same behind all of them.
//
// The shop keeps nothing for an offer that is not paid: the offer's token has the
// quote in it, under the shop's own key. Orders and sessions are cores of the
// machine (core/earn, core/tab), so what is paid is on disk before it is served.
package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"coinop.dev/core/earn"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

// Options are what a shop is made of.
type Options struct {
	Machine  *engine.Machine
	Purse    *purse.Purse        // pays refunds
	Rails    func() []*rail.Rail // the open rails; those that earn are offered, in this order
	Services []offer.Service     // of the config; SetService overrides them
	Rates    []*RateSource       // for prices in a currency
	Ready    func() error        // whether new sales may begin; nil: always
}

// MaxServices bounds what a shop sells.
const MaxServices = trade.MaxItems

// A Shop sells the services of one machine.
type Shop struct {
	o    Options
	m    *engine.Machine
	root keys.Secret // of tokens
	hold atomic.Uint64

	seats seats // devices at the doors

	mu       sync.Mutex
	services []offer.Service
	watchers map[money.OrderID][]chan earn.Order
	sessions map[money.OrderID]offer.Quote // that have been claimed since the start
	free     freeTier
	shadow   map[string]Shadow

	refunding chan struct{} // room for refunds under way
}

// rootPurpose derives the key of tokens from the machine's.
const rootPurpose = "coinop/gateway/tokens"

// Open starts selling. The till's book must be on the machine already, and rails
// after it.
func Open(ctx context.Context, o Options) (*Shop, error) {
	s := &Shop{
		o: o, m: o.Machine, root: o.Machine.Key.Derive(rootPurpose),
		watchers: map[money.OrderID][]chan earn.Order{}, sessions: map[money.OrderID]offer.Quote{}, shadow: map[string]Shadow{},
		refunding: make(chan struct{}, maxRefunds),
	}
	if err := s.loadServices(); err != nil {
		return nil, err
	}
	s.m.Host.Outlet(earn.Refunds, s.toRefunds)
	s.m.Host.Hear(s.hear)
	for _, r := range o.Rates {
		go r.run(s.m.Context(), s.m.Host.Now, func() { s.reprice(s.m.Context()) })
	}
	s.reprice(ctx)
	return s, nil
}

// Root is the key under which the shop's tokens and the fleet's credentials are
// baked.
func (s *Shop) Root() keys.Secret { return s.root }

// Machine is the machine that sells.
func (s *Shop) Machine() *engine.Machine { return s.m }

const serviceKey = "shop/service/"

// loadServices reads what was set while running over what the config says.
func (s *Shop) loadServices() error {
	services := slices.Clone(s.o.Services)
	var fault error
	err := s.m.DB.Scan(serviceKey, func(_ string, value []byte) bool {
		var set offer.Service
		if fault = json.Unmarshal(value, &set); fault != nil {
			return false
		}
		for i := range services {
			if services[i].Name == set.Name {
				set.From = services[i].From // who delivers is the config's to say
				services[i] = set
			}
		}
		return true
	})
	if err = errors.Join(err, fault); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	if len(services) > MaxServices {
		return fmt.Errorf("%d services; the limit is %d", len(services), MaxServices)
	}
	for i, v := range services {
		if err := v.Check(); err != nil {
			return err
		}
		if slices.IndexFunc(services, func(w offer.Service) bool { return w.Name == v.Name }) != i {
			return fmt.Errorf("two services are called %s", v.Name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services = services
	return nil
}

// Services lists what is for sale.
func (s *Shop) Services() []offer.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.services)
}

// Service finds one by its name.
func (s *Shop) Service(name string) (offer.Service, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.services {
		if v.Name == name {
			return v, true
		}
	}
	return offer.Service{}, false
}

func (s *Shop) find(name string) (offer.Service, error) {
	v, ok := s.Service(name)
	if !ok {
		return v, invalid("quote", fmt.Errorf("%.80q is not for sale", name))
	}
	return v, nil
}

// SetService changes a service's price and terms from now on, and for the next
// start. What was quoted stays at its price.
func (s *Shop) SetService(ctx context.Context, v offer.Service) error {
	if err := v.Check(); err != nil {
		return invalid("set price", err)
	}
	was, err := s.find(v.Name)
	if err != nil {
		return err
	}
	if v.Fiat != (offer.Fiat{}) && !slices.ContainsFunc(s.o.Rates, func(r *RateSource) bool { return r.Currency == v.Fiat.Currency }) {
		return invalid("set price", fmt.Errorf("nobody says what a bitcoin costs in %s: name it in [[rate]] first", v.Fiat.Currency))
	}
	v.From = was.From
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := s.m.DB.Commit([]step.Record{{Key: serviceKey + v.Name, Value: data}}); err != nil {
		return &money.Error{Kind: money.Broken, Op: "set price", Err: err}
	}
	s.mu.Lock()
	for i := range s.services {
		if s.services[i].Name == v.Name {
			s.services[i] = v
		}
	}
	s.mu.Unlock()
	s.reprice(ctx)
	return s.m.Host.Tell(ctx, journal.Name, journal.Note{Type: journal.PriceChanged, Subject: v.Name, Data: data})
}

// Reload takes the services of a config that has changed: those that it has changed
// are as it says, whatever was set before.
func (s *Shop) Reload(ctx context.Context, services []offer.Service) error {
	was := s.o.Services
	s.mu.Lock()
	s.o.Services = services
	s.mu.Unlock()
	var drop []step.Record
	for _, v := range services {
		if !slices.Contains(was, v) {
			drop = append(drop, step.Record{Key: serviceKey + v.Name})
		}
	}
	err := s.m.DB.Commit(drop)
	if err == nil {
		err = s.loadServices()
	}
	if err == nil {
		s.reprice(ctx)
	}
	return err
}

// reprice tells the till what its tariff is now, for machines that buy over a link.
func (s *Shop) reprice(ctx context.Context) {
	var items []trade.Item
	for _, v := range s.Services() {
		if per := max(v.Per, 1); per == 1 && v.Dynamic == "" {
			if due, err := v.Due(max(v.Min, 1), s.rate(v), 0); err == nil && max(v.Min, 1) == 1 {
				items = append(items, trade.Item{Name: v.Name, Unit: v.Unit, Price: due})
			}
		}
	}
	s.m.Host.Tell(ctx, earn.Name, earn.Reprice{Items: items})
}

// Order reads one order.
func (s *Shop) Order(ctx context.Context, id money.OrderID) (o earn.Order, err error) {
	err = s.m.Host.Do(ctx, func(m *drive.Machine) { o = m.Core(earn.Name).(*earn.Book).Order(id) })
	return o, err
}

// Wait returns an order once is says so of it. It is told of every change, and of
// how the order stands now.
func (s *Shop) Wait(ctx context.Context, id money.OrderID, is func(earn.Order) bool) (earn.Order, error) {
	c := make(chan earn.Order, maxUnseen)
	s.mu.Lock()
	if len(s.watchers) >= maxWatched {
		s.mu.Unlock()
		return earn.Order{}, &money.Error{Kind: money.Refused, Op: "wait", Err: fmt.Errorf("%d orders are waited for already", maxWatched)}
	}
	s.watchers[id] = append(s.watchers[id], c)
	s.mu.Unlock()
	defer s.unwatch(id, c)
	o, err := s.Order(ctx, id)
	for err == nil && !is(o) {
		select {
		case o = <-c:
		case <-ctx.Done():
			return o, ctx.Err()
		case <-s.m.Stopped():
			return o, drive.ErrStopped
		}
	}
	return o, err
}

const (
	// maxWatched bounds the orders that are waited for at a time, and maxUnseen the
	// changes of one that a waiter has not looked at: only the last ones matter.
	maxWatched = 16_384
	maxUnseen  = 8
)

func (s *Shop) unwatch(id money.OrderID, c chan earn.Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers[id] = slices.DeleteFunc(s.watchers[id], func(have chan earn.Order) bool { return have == c })
	if len(s.watchers[id]) == 0 {
		delete(s.watchers, id)
	}
}

// hear runs on the host's goroutine.
func (s *Shop) hear(out step.Outcome) {
	o, ok := out.Value.(earn.Order)
	if !ok || out.Core != earn.Name || strings.HasPrefix(out.ID, "sell/") {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.watchers[o.ID] {
		if len(c) == cap(c) {
			<-c
		}
		c <- o
	}
}

func invalid(op string, err error) error {
	return &money.Error{Kind: money.Invalid, Op: op, Err: err}
}

func refused(op string, err error) error {
	return &money.Error{Kind: money.Refused, Op: op, Err: err}
}

// AddCores puts the cores beside the till onto a machine: the journal and the
// sessions. It is called before the till is opened, which delivers to them.
func AddCores(ctx context.Context, m *engine.Machine) error {
	j, err := journal.Load(m.DB)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	t, err := tab.Load(m.DB)
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	t.Journal = true
	return errors.Join(m.Host.Add(ctx, journal.Name, j), m.Host.Add(ctx, tab.Name, t))
}
