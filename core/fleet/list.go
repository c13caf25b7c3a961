package fleet

import (
	"slices"

	"coinop.dev/core/keys"
	"coinop.dev/core/step"
)

// MaxList bounds the devices on one page of a list.
const MaxList = 1000

// A Filter chooses devices. A zero field chooses all.
type Filter struct {
	Tenant string
	Tag    string
	State  string // online, offline, revoked, faulty, outstanding
	After  string // the last name of the page before
	Limit  int    // 0 is MaxList
}

func (q Filter) fits(d *device) bool {
	if q.Tenant != "" && d.Tenant != q.Tenant || q.Tag != "" && !slices.Contains(d.Tags, q.Tag) {
		return false
	}
	switch q.State {
	case "online":
		return d.online
	case "offline":
		return !d.online && !d.Revoked
	case "revoked":
		return d.Revoked
	case "faulty":
		return len(d.faults) > 0
	case "outstanding":
		return d.outstanding() > 0
	}
	return q.State == ""
}

// Devices lists devices by name.
func (f *Fleet) Devices(q Filter, now step.Time) []Device {
	at, found := slices.BinarySearchFunc(f.sorted, q.After, byName)
	if found {
		at++
	}
	limit := q.Limit
	if limit <= 0 || limit > MaxList {
		limit = MaxList
	}
	var page []Device
	for _, d := range f.sorted[at:] {
		if len(page) == limit {
			break
		}
		if q.fits(d) {
			page = append(page, f.view(d, now))
		}
	}
	return page
}

// Device reads one device.
func (f *Fleet) Device(name string, now step.Time) (Device, bool) {
	d := f.devices[name]
	if d == nil {
		return Device{}, false
	}
	return f.view(d, now), true
}

// Profiles is all of them, by name.
func (f *Fleet) Profiles() []Profile {
	all := make([]Profile, len(f.sorted))
	for i, d := range f.sorted {
		all[i] = d.Profile.clone()
	}
	return all
}

// ByKey finds the device of a node key: who a peer is.
func (f *Fleet) ByKey(key keys.Public) (name string, ok bool) {
	d := f.byKey[key]
	if d == nil || d.Revoked {
		return "", false
	}
	return d.Name, true
}

// Counts is how many devices there are, by state, for a meter.
type Counts struct {
	Devices     int `json:"devices"`
	Online      int `json:"online"`
	Revoked     int `json:"revoked"`
	Faulty      int `json:"faulty"`
	Outstanding int `json:"outstanding"` // commands
}

// Counts reads the fleet.
func (f *Fleet) Counts() (n Counts) {
	n.Devices = len(f.devices)
	for _, d := range f.sorted {
		n.Online += bit(d.online)
		n.Revoked += bit(d.Revoked)
		n.Faulty += bit(len(d.faults) > 0)
		n.Outstanding += d.outstanding()
	}
	return n
}

func (f *Fleet) view(d *device, now step.Time) Device {
	v := Device{
		Profile: d.Profile.clone(), Firmware: d.firmware, Online: d.online, Seen: d.seen,
		Outstanding: d.outstanding(), Acks: d.acks.last, Faults: slices.Clone(d.faults),
	}
	b := budget{}
	if d.budget != nil {
		b = *d.budget
	}
	t := b.tally.at(d.Limits, now)
	v.Spent = t.spent
	if d.Limits.Total > 0 {
		v.Left = f.most(d, b, t) - min(t.spent, f.most(d, b, t))
		_, v.Renews = d.Limits.Period.Window(now)
	}
	return v
}
