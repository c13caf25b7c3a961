// Package fleet is how doors, the API and the console reach the devices of a
// gateway: who may come in, what is said of them, and how they come into the
// fleet. The deciding is done by the core of the same name (core/fleet); this
// package keeps a copy of what doors ask at every login, leases shared budgets
// from the books, and follows what other gateways change.
package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	core "coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/macaroon"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// Options are what a fleet must be told.
type Options struct {
	core.Config
	Log *slog.Logger // nil: silence
}

// A Fleet is the devices of one gateway. All methods are safe for use by several
// goroutines.
type Fleet struct {
	host *drive.Host
	o    Options
	life context.Context
	asks atomic.Uint64

	mu       sync.RWMutex
	profiles map[string]core.Profile
	dirty    map[string]bool // changed here and not in the shared books
	news     chan struct{}   // has room for one

	leases chan core.Lease
	flush  chan chan struct{} // closed when those before it are answered
}

// maxLeases bounds the questions that wait for the books. One more is lost, and
// the core asks again.
const maxLeases = 1024

// Open loads the fleet and adds its core to a machine that runs, before the till
// that delivers to it. life ends with the gateway.
func Open(life context.Context, host *drive.Host, db step.Reader, o Options) (*Fleet, error) {
	c, err := core.Load(db, o.Config)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	f := &Fleet{
		host: host, o: o, life: life, profiles: map[string]core.Profile{}, dirty: map[string]bool{},
		news: make(chan struct{}, 1), leases: make(chan core.Lease, maxLeases), flush: make(chan chan struct{}),
	}
	for _, p := range c.Profiles() {
		f.profiles[p.Name] = p
	}
	host.Hear(f.hear)
	if o.Shared {
		host.Outlet(core.Quota, f.lease)
	}
	return f, host.Add(life, core.Name, c)
}

// hear keeps the copy. It runs on the host's goroutine.
func (f *Fleet) hear(out step.Outcome) {
	if out.Core != core.Name || out.ID != core.Heard {
		return
	}
	f.mu.Lock()
	switch v := out.Value.(type) {
	case core.Profile:
		f.profiles[v.Name] = v
		f.dirty[v.Name] = f.o.Shared
	case core.Forgotten:
		delete(f.profiles, v.Name)
		delete(f.dirty, v.Name)
	}
	f.mu.Unlock()
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// Device finds a device in service.
func (f *Fleet) Device(name string) (core.Profile, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	p, ok := f.profiles[name]
	return p, ok && !p.Revoked
}

// Secret is what the fleet shares with a device: it keys DTLS, and for one without
// a key of its own it signs.
func (f *Fleet) Secret(p core.Profile) keys.Secret {
	return core.Secret(f.o.Root, p.Name, p.Generation)
}

// Password is what a device that cannot show a credential logs in with: a child of
// its secret, in hex. The secret itself never leaves the device.
func Password(secret keys.Secret) string {
	return hex.EncodeToString(secret.Derive("password").Reveal())
}

// ErrLogin answers a login that is wrong; which part is nobody's business.
var ErrLogin = errors.New("unknown name, or wrong password")

// Authenticate lets a device in by its name and its credential or its password.
func (f *Fleet) Authenticate(name, password string) (core.Profile, error) {
	p, ok := f.Device(name)
	if !ok {
		return core.Profile{}, ErrLogin
	}
	if want := Password(f.Secret(p)); subtle.ConstantTimeCompare([]byte(want), []byte(password)) == 1 {
		return p, nil
	}
	m, err := macaroon.Parse(password)
	if err != nil {
		return core.Profile{}, ErrLogin
	}
	g, err := core.Verify(f.o.Root, m, f.host.Now())
	switch {
	case errors.Is(err, macaroon.ErrForged):
		return core.Profile{}, ErrLogin
	case err != nil:
		return core.Profile{}, err // its holder should know why
	case g.Device != name || g.Generation != p.Generation:
		return core.Profile{}, ErrLogin
	}
	return p, nil
}

// Seen says that a device is there, or has gone.
func (f *Fleet) Seen(name string, online bool, firmware string) {
	f.tell(core.Seen{Name: name, Online: online, Firmware: firmware})
}

// Fault says that something is wrong with a device.
func (f *Fleet) Fault(name, text string) { f.tell(core.Failed{Name: name, Text: text}) }

// Acked takes a device's acknowledgement, unchecked.
func (f *Fleet) Acked(name string, ack core.Ack) { f.tell(core.Acked{Name: name, Ack: ack}) }

// tell waits while the machine is busy: that is how a flood is slowed.
func (f *Fleet) tell(event any) { f.host.Tell(f.life, core.Name, event) }

// ask gives an event its ID and waits for the outcome.
func ask[T any](ctx context.Context, f *Fleet, event func(id string) any) (v T, err error) {
	id := fmt.Sprint("ask/", f.asks.Add(1))
	got, err := f.host.Ask(ctx, core.Name, id, event(id))
	if err != nil {
		return v, err
	}
	return got.(T), nil
}

// Add takes devices into the fleet, all or none.
func (f *Fleet) Add(ctx context.Context, devices ...core.Profile) error {
	_, err := ask[int](ctx, f, func(id string) any { return core.Add{Ask: id, Devices: devices} })
	return err
}

// Change gives a device the tenant, tags, limits and payees of p.
func (f *Fleet) Change(ctx context.Context, p core.Profile) (core.Device, error) {
	return ask[core.Device](ctx, f, func(id string) any {
		return core.Change{Ask: id, Name: p.Name, Tenant: p.Tenant, Tags: p.Tags, Limits: p.Limits, Payees: p.Payees}
	})
}

// Revoke ends a device, now.
func (f *Fleet) Revoke(ctx context.Context, name string) (core.Device, error) {
	return ask[core.Device](ctx, f, func(id string) any { return core.Revoke{Ask: id, Name: name} })
}

// Forget removes a revoked device from this gateway. Shared books still know that
// it is revoked, and bring it back as such.
func (f *Fleet) Forget(ctx context.Context, name string) error {
	_, err := ask[string](ctx, f, func(id string) any { return core.Forget{Ask: id, Name: name} })
	return err
}

// Invite returns a claim code that is good once and for a while.
func (f *Fleet) Invite(ctx context.Context, p core.Profile, replace bool, valid step.Time) (code string, err error) {
	var raw [core.CodeSize]byte
	for range 4 { // in case the code looks like another one
		rand.Read(raw[:])
		code, err = ask[string](ctx, f, func(id string) any {
			return core.Invite{Ask: id, Code: raw, Device: p, Replace: replace, Expires: f.host.Now() + valid}
		})
		if err == nil {
			break
		}
	}
	return code, err
}

// A Card is everything a device must know, once. It is shown to whoever claims the
// device and to its operator, and to nobody else.
type Card struct {
	core.Claimed
	Secret     string // in hex
	Password   string
	Credential string
}

// Claim binds a device's key to its place. A device without a key gives a zero
// one.
func (f *Fleet) Claim(ctx context.Context, code string, key keys.Public) (Card, error) {
	c, err := ask[core.Claimed](ctx, f, func(id string) any { return core.Claim{Ask: id, Code: code, Key: key} })
	if err != nil {
		return Card{}, err
	}
	return f.card(c)
}

// Card is that of a device in service.
func (f *Fleet) Card(name string) (Card, error) {
	p, ok := f.Device(name)
	if !ok {
		return Card{}, &money.Error{Kind: money.Invalid, Op: "show device " + name, Err: errors.New("no device in service has that name")}
	}
	return f.card(core.Claimed{Profile: p, Gateway: f.o.Node.Public(), Number: f.o.Number})
}

func (f *Fleet) card(c core.Claimed) (Card, error) {
	m, err := core.Credential(f.o.Root, c.Profile, 0)
	if err != nil {
		return Card{}, err
	}
	secret := f.Secret(c.Profile)
	return Card{Claimed: c, Secret: hex.EncodeToString(secret.Reveal()), Password: Password(secret), Credential: m.Text()}, nil
}

// List reads a page of devices.
func (f *Fleet) List(ctx context.Context, q core.Filter) (page []core.Device, err error) {
	now := f.host.Now()
	err = f.look(ctx, func(c *core.Fleet) { page = c.Devices(q, now) })
	return page, err
}

// Show reads one device.
func (f *Fleet) Show(ctx context.Context, name string) (d core.Device, err error) {
	ok, now := false, f.host.Now()
	err = f.look(ctx, func(c *core.Fleet) { d, ok = c.Device(name, now) })
	if err == nil && !ok {
		err = &money.Error{Kind: money.Invalid, Op: "show device " + name, Err: errors.New("no device has that name")}
	}
	return d, err
}

// Counts reads how many devices there are, by state.
func (f *Fleet) Counts(ctx context.Context) (n core.Counts, err error) {
	err = f.look(ctx, func(c *core.Fleet) { n = c.Counts() })
	return n, err
}

// look looks at the core, between two rounds.
func (f *Fleet) look(ctx context.Context, at func(*core.Fleet)) error {
	err := drive.ErrNoCore
	if fault := f.host.Do(ctx, func(m *drive.Machine) {
		if c, ok := m.Core(core.Name).(*core.Fleet); ok {
			at(c)
			err = nil
		}
	}); fault != nil {
		return fault
	}
	return err
}

// all is a copy of every profile, revoked ones included.
func (f *Fleet) all() map[string]core.Profile {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return maps.Clone(f.profiles)
}
