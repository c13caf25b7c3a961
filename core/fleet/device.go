package fleet

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"coinop.dev/core/earn"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

const (
	// MaxDevices bounds a fleet, revoked devices included. One that has never
	// failed and has no tags takes less than 1 KiB of memory.
	MaxDevices = 50_000
	// MaxTags bounds a device's tags.
	MaxTags = 8
	// MaxFaults is how many faults are kept of each device.
	MaxFaults = 16
)

// Limits are spend.Limits with names for JSON: those of credentials.
type Limits struct {
	Order     money.Amount `json:"max_payment_msat,omitempty"`
	UnitPrice money.Amount `json:"price_per_unit_max_msat,omitempty"`
	Total     money.Amount `json:"budget_msat,omitempty"`
	Payee     money.Amount `json:"payee_budget_msat,omitempty"`
	Period    spend.Period `json:"budget_renewal,omitzero"`
	PerMinute int          `json:"per_minute,omitempty"`
}

// A Profile is what an operator says of a device. Gateways that share a fleet
// share it.
type Profile struct {
	Name   string   `json:"name"`
	Tenant string   `json:"tenant,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	Limits Limits   `json:"limits,omitzero"`
	// Payees are whom the device itself may pay: payment URIs up to "?"; none:
	// anybody. They and the limits are signed into the device (Policy).
	Payees []string `json:"payees,omitempty"`
	// Key signs the device's acknowledgements and is its name as a peer. A device
	// without one shares a secret with the fleet (Secret).
	Key        keys.Public `json:"key,omitzero"`
	Generation uint32      `json:"generation,omitempty"` // of its hardware; no two have the same. The fleet counts it
	Revoked    bool        `json:"revoked,omitempty"`
	Version    uint64      `json:"version"` // counts the changes
}

// A Device is what people ask about one.
type Device struct {
	Profile
	Firmware    string       `json:"firmware,omitempty"`
	Online      bool         `json:"online"`
	Seen        step.Time    `json:"seen_ms,omitempty"` // to the minute
	Outstanding int          `json:"outstanding"`       // commands that are not acknowledged
	Acks        uint64       `json:"acks"`              // the highest counter of an acknowledgement
	Faults      []Fault      `json:"faults,omitempty"`  // the newest last
	Spent       money.Amount `json:"spent_msat"`        // reserved or paid in this period, at this gateway
	Left        money.Amount `json:"left_msat"`         // of the budget; 0 without one. Shared: of what is leased
	Renews      step.Time    `json:"renews_ms,omitempty"`
}

// A Fault is something that went wrong with a device.
type Fault struct {
	At    step.Time `json:"at_ms"` // the last time
	Text  string    `json:"text"`
	Count int       `json:"count"` // in a row
}

// Events. Each is answered with an outcome of the ID Ask; nothing has changed if
// that carries an error.

// Add takes devices into the fleet: all of them, or none and the error names the
// first that is wrong. The outcome's value is their number.
type Add struct {
	Ask     string
	Devices []Profile
}

// Change gives a device another tenant, tags, limits and payees. The value is the
// Device.
type Change struct {
	Ask    string
	Name   string
	Tenant string
	Tags   []string
	Limits Limits
	Payees []string
}

// Revoke ends a device, now: nothing is sent to it any more, its outstanding
// commands end, it may not spend, and it cannot come back under this key. The
// value is the Device.
type Revoke struct {
	Ask  string
	Name string
}

// Forget removes a revoked device.
type Forget struct {
	Ask  string
	Name string
}

// Sync takes what other gateways have changed, from where they all keep it:
// profiles of a higher version, or of the same one where two have changed at once.
// A device that is revoked anywhere stays revoked. The outcome's value is how many
// were taken.
type Sync struct {
	Ask     string
	Devices []Profile
}

// Seen says that a device was heard of, or has gone. It has no outcome.
type Seen struct {
	Name     string
	Firmware string // "" if it did not say
	Online   bool
}

// Failed says that something is wrong with a device. It has no outcome.
type Failed struct {
	Name string
	Text string
}

// Heard is the ID of the outcomes that tell drivers of every change: its value is
// the device's new Profile, or Forgotten.
const Heard = "device"

// Forgotten says that a device is not in the fleet any more.
type Forgotten struct{ Name string }

type device struct {
	Profile
	firmware string
	online   bool
	linked   bool      // as a peer of this machine
	seen     step.Time // to the minute, so that it is written once a minute at most
	faults   []Fault

	next     uint64     // number of the next command
	acks     acks       // counters that were used
	commands []*command // by number
	spends   int        // open ones
	budget   *budget    // nil until it spends

	touched bool // to be written with this step
}

// Check reports what is wrong with a profile.
func (p Profile) Check() error {
	l := p.Limits
	switch {
	case !offer.ValidName(p.Name):
		return fmt.Errorf("device %.80q: a name is 1 to %d of a-z 0-9 . _ -", p.Name, trade.MaxName)
	case p.Tenant != "" && !offer.ValidName(p.Tenant):
		return fmt.Errorf("device %s: tenant %.80q: a name is 1 to %d of a-z 0-9 . _ -", p.Name, p.Tenant, trade.MaxName)
	case len(p.Tags) > MaxTags:
		return fmt.Errorf("device %s has %d tags; the limit is %d", p.Name, len(p.Tags), MaxTags)
	case len(p.Payees) > MaxPolicyPayees || slices.ContainsFunc(p.Payees, badPayee):
		return fmt.Errorf("device %s: payees are at most %d payment URIs of at most %d bytes without \"?\"", p.Name, MaxPolicyPayees, maxTo)
	case l.PerMinute < 0 || l.PerMinute > maxPerMinute:
		return fmt.Errorf("device %s: %d orders in a minute are not 0 to %d", p.Name, l.PerMinute, maxPerMinute)
	case max(l.Order, l.UnitPrice, l.Total, l.Payee) > money.MaxAmount:
		return fmt.Errorf("device %s: a limit is more than all the bitcoin there can be", p.Name)
	case len(l.Period.String()) > maxPeriod:
		return fmt.Errorf("device %s: its period is longer than %d bytes", p.Name, maxPeriod)
	}
	for _, tag := range p.Tags {
		if !offer.ValidName(tag) {
			return fmt.Errorf("device %s: tag %.80q: a name is 1 to %d of a-z 0-9 . _ -", p.Name, tag, trade.MaxName)
		}
	}
	if p.Key != (keys.Public{}) {
		if _, err := keys.ParsePublic(p.Key[:]); err != nil {
			return fmt.Errorf("device %s: %w", p.Name, err)
		}
	}
	return nil
}

func badPayee(to string) bool { return to == "" || len(to) > maxTo || strings.ContainsAny(to, "? \n") }

const (
	maxPerMinute = 1_000_000
	maxPeriod    = 64
)

// Secret is what the fleet shares with a device that has no key. It comes from
// the fleet's root, so it is on no disk; another generation has another one.
func Secret(root keys.Secret, name string, generation uint32) keys.Secret {
	return root.Derive(fmt.Sprintf("fleet/device/%d/%s", generation, name))
}

// shared is that secret, or none for a device with a key.
func (f *Fleet) shared(d *device) keys.Secret {
	if d.Key != (keys.Public{}) {
		return keys.Secret{}
	}
	return Secret(f.config.Root, d.Name, d.Generation)
}

func (f *Fleet) fail(id string, kind money.Kind, op string, err error, fx *step.Effects) {
	fx.Done = append(fx.Done, step.Outcome{ID: id, Err: &money.Error{Kind: kind, Op: op, Err: err}})
}

func (f *Fleet) done(id string, value any, fx *step.Effects) {
	fx.Done = append(fx.Done, step.Outcome{ID: id, Value: value})
}

var errUnknown = errors.New("no device has that name")

func (f *Fleet) add(ev Add, fx *step.Effects) {
	if err := f.mayAdd(ev.Devices); err != nil {
		f.fail(ev.Ask, money.Refused, "add devices", err, fx)
		return
	}
	for _, p := range ev.Devices {
		p.Revoked, p.Version, p.Generation = false, 1, 0
		f.enrol(p, fx)
	}
	f.done(ev.Ask, len(ev.Devices), fx)
}

func (f *Fleet) mayAdd(profiles []Profile) error {
	if n := len(f.devices) + len(profiles); n > MaxDevices {
		return fmt.Errorf("the fleet would have %d devices; the limit is %d; forget revoked ones", n, MaxDevices)
	}
	names, known := map[string]bool{}, map[keys.Public]bool{}
	for _, p := range profiles {
		if err := p.Check(); err != nil {
			return err
		}
		if f.devices[p.Name] != nil || names[p.Name] {
			return fmt.Errorf("device %s is there already", p.Name)
		}
		names[p.Name] = true
		if p.Key == (keys.Public{}) {
			continue
		}
		if d := f.byKey[p.Key]; d != nil {
			return fmt.Errorf("device %s: its key is that of %s; every device needs one of its own", p.Name, d.Name)
		}
		if known[p.Key] {
			return fmt.Errorf("device %s: another one has the same key; every device needs one of its own", p.Name)
		}
		known[p.Key] = true
	}
	return nil
}

// enrol adds a device whose profile was checked.
func (f *Fleet) enrol(p Profile, fx *step.Effects) *device {
	p = p.clone()
	f.renew(&p)
	d := &device{Profile: p, next: 1}
	f.insert(d)
	f.touch(d)
	f.firm = true
	f.note(journal.DeviceAdded, p.Name, p, fx)
	f.done(Heard, p, fx)
	return d
}

func (p Profile) clone() Profile {
	p.Tags, p.Payees = append([]string(nil), p.Tags...), append([]string(nil), p.Payees...) // nil if empty
	return p
}

// renew gives a profile a generation that no device has had, unless it comes from
// another gateway: a name that is used again never gets its old secret back.
func (f *Fleet) renew(p *Profile) {
	if p.Generation == 0 {
		p.Generation = f.generation + 1
	}
	if p.Generation > f.generation {
		f.generation, f.changed = p.Generation, true
	}
}

// insert puts a device into the indexes.
func (f *Fleet) insert(d *device) {
	f.devices[d.Name] = d
	f.sorted = append(f.sorted, d)
	f.unsorted = true
	if d.Key != (keys.Public{}) {
		f.byKey[d.Key] = d
	}
}

func byName(d *device, name string) int { return strings.Compare(d.Name, name) }

func (f *Fleet) change(ev Change, now step.Time, fx *step.Effects) {
	d := f.devices[ev.Name]
	if d == nil {
		f.fail(ev.Ask, money.Invalid, "change device "+ev.Name, errUnknown, fx)
		return
	}
	p := d.Profile
	p.Tenant, p.Tags, p.Limits, p.Payees = ev.Tenant, ev.Tags, ev.Limits, ev.Payees
	p = p.clone()
	p.Version++
	if err := p.Check(); err != nil {
		f.fail(ev.Ask, money.Invalid, "change device "+ev.Name, err, fx)
		return
	}
	f.apply(d, p, now, fx)
	f.note(journal.DeviceChanged, d.Name, p, fx)
	f.done(ev.Ask, f.view(d, now), fx)
}

// apply gives a device a new profile.
func (f *Fleet) apply(d *device, p Profile, now step.Time, fx *step.Effects) {
	if p.Key != d.Key {
		delete(f.byKey, d.Key)
		if p.Key != (keys.Public{}) {
			f.byKey[p.Key] = d
		}
	}
	if p.Key != d.Key || p.Generation != d.Generation {
		d.acks, d.online, d.linked = acks{}, false, false // another hardware counts from 1
		f.endCommands(d, errReplaced, now, fx)
	}
	if d.budget != nil && p.Limits.Period != d.Limits.Period {
		d.budget.rebase(p.Limits, now)
		f.touchBudget(d)
	}
	d.Profile = p
	f.renew(&d.Profile)
	if d.online || p.Revoked {
		f.sign(d, fx)
	}
	f.touch(d)
	f.firm = true
	f.done(Heard, d.Profile, fx)
}

func (f *Fleet) revoke(ev Revoke, now step.Time, fx *step.Effects) {
	d := f.devices[ev.Name]
	if d == nil {
		f.fail(ev.Ask, money.Invalid, "revoke device "+ev.Name, errUnknown, fx)
		return
	}
	if !d.Revoked {
		p := d.Profile
		p.Revoked = true
		p.Version++
		f.apply(d, p, now, fx)
		f.end(d, now, fx)
	}
	f.done(ev.Ask, f.view(d, now), fx)
}

// end lets go of everything a revoked device is in the middle of.
func (f *Fleet) end(d *device, now step.Time, fx *step.Effects) {
	d.online, d.linked = false, false
	f.endCommands(d, errRevoked, now, fx)
	f.note(journal.DeviceRevoked, d.Name, d.Profile, fx)
}

func (f *Fleet) endCommands(d *device, why error, now step.Time, fx *step.Effects) {
	for _, c := range slices.Clone(d.commands) {
		if !c.late {
			f.giveUp(c, earn.Delivered{Err: c.error(money.Pending, why)}, now, fx)
		}
	}
}

var (
	errRevoked  = errors.New("the device is revoked")
	errReplaced = errors.New("the device was replaced by another one")
)

func (f *Fleet) forget(ev Forget, fx *step.Effects) {
	d := f.devices[ev.Name]
	switch {
	case d == nil:
		f.fail(ev.Ask, money.Invalid, "forget device "+ev.Name, errUnknown, fx)
		return
	case !d.Revoked:
		f.fail(ev.Ask, money.Refused, "forget device "+ev.Name, errors.New("it is in service; revoke it first"), fx)
		return
	case d.spends > 0:
		f.fail(ev.Ask, money.Refused, "forget device "+ev.Name, fmt.Errorf("%d payments of it are under way", d.spends), fx)
		return
	}
	for _, c := range slices.Clone(d.commands) {
		f.drop(c, fx)
	}
	delete(f.devices, d.Name)
	delete(f.byKey, d.Key)
	at, _ := slices.BinarySearchFunc(f.sorted, d.Name, byName)
	f.sorted = slices.Delete(f.sorted, at, at+1)
	fx.Put = append(fx.Put, step.Record{Key: deviceKey(d.Name)})
	if d.budget != nil {
		fx.Put = append(fx.Put, step.Record{Key: budgetKey(d.Name)})
	}
	d.touched, d.budget = false, nil
	f.done(Heard, Forgotten{d.Name}, fx)
	f.done(ev.Ask, ev.Name, fx)
}

// sync takes profiles that another gateway has changed. What cannot be taken is
// left out: there is nobody to ask.
func (f *Fleet) sync(ev Sync, now step.Time, fx *step.Effects) {
	taken := 0
	for _, p := range ev.Devices {
		d := f.devices[p.Name]
		owner := f.byKey[p.Key]
		if p.Check() != nil || p.Version == 0 || owner != nil && owner != d {
			continue
		}
		switch {
		case d == nil && len(f.devices) < MaxDevices:
			f.enrol(p, fx)
		case d != nil && (p.Version > d.Version || p.Version == d.Version && !reflect.DeepEqual(p, d.Profile)):
			ended := p.Revoked && !d.Revoked
			p = p.clone()
			if d.Revoked && !p.Revoked { // somebody has changed it meanwhile, and it stays revoked
				p.Revoked = true
				p.Version++
			}
			f.apply(d, p, now, fx)
			if ended {
				f.end(d, now, fx)
			}
		default:
			continue
		}
		taken++
	}
	f.done(ev.Ask, taken, fx)
}
