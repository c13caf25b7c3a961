package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	core "coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/world/books"
)

// inviteLife is how long a claim code is good.
const inviteLife = step.Day

// deviceStates are what devices are chosen by, and renewals how often a budget
// renews.
var (
	deviceStates = []string{"online", "offline", "faulty", "outstanding", "revoked"}
	renewals     = []string{"daily", "weekly", "monthly", "yearly", "never"}
)

type deviceList struct {
	Filter   core.Filter
	Filtered bool
	States   []string
	Renewals []string
	Counts   core.Counts
	Devices  []deviceRow
	Next     string
	Absent   bool // this gateway has no fleet
}

// A deviceRow is a device in a list.
type deviceRow struct{ core.Device }

// LastFault is the newest one, or none.
func (d deviceRow) LastFault() []core.Fault { return d.Faults[len(d.Faults)-min(len(d.Faults), 1):] }

var errNoFleet = notFound("This gateway has no fleet of devices.")

func (c *Console) devices(w http.ResponseWriter, r *http.Request, v *visit) (err error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	l := deviceList{States: deviceStates, Renewals: renewals, Absent: c.Fleet == nil}
	if c.Fleet == nil {
		return c.show(w, r, v, "devices", "Devices", l)
	}
	q := r.URL.Query()
	l.Filter = core.Filter{Tenant: q.Get("tenant"), Tag: q.Get("tag"), State: q.Get("state"), After: q.Get("after"), Limit: pageSize + 1}
	l.Filtered = l.Filter.Tenant+l.Filter.Tag+l.Filter.State != ""
	if l.Counts, err = c.Fleet.Counts(ctx); err != nil {
		return err
	}
	list, err := c.Fleet.List(ctx, l.Filter)
	if err != nil {
		return err
	}
	for _, d := range list {
		l.Devices = append(l.Devices, deviceRow{d})
	}
	if len(l.Devices) > pageSize {
		l.Devices = l.Devices[:pageSize]
		q.Set("after", l.Devices[pageSize-1].Name)
		l.Next = "?" + q.Encode()
	}
	return c.show(w, r, v, "devices", "Devices", l)
}

// deviceMark is a device's state as a word, a colour and a sign.
func deviceMark(d core.Device) mark {
	switch {
	case d.Revoked:
		return signed("revoked", "bad", "cross")
	case d.Online:
		return signed("online", "good", "check")
	case d.Seen == 0:
		return signed("not seen yet", "quiet", "clock")
	}
	return signed("offline", "warn", "away")
}

// budgetShare is how much of a budget is left, from 0 to 100.
func budgetShare(d core.Device) uint64 {
	if d.Limits.Total == 0 {
		return 0
	}
	return uint64(min(d.Left, d.Limits.Total)) / max(uint64(d.Limits.Total)/100, 1)
}

type devicePage struct {
	core.Device
	HasKey   bool
	Sold     *books.Named // in 30 days
	Orders   []books.Order
	Renewals []string
	Renewal  string
}

func (c *Console) device(w http.ResponseWriter, r *http.Request, v *visit) (err error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if c.Fleet == nil {
		return errNoFleet
	}
	p := devicePage{Renewals: renewals}
	if p.Device, err = c.Fleet.Show(ctx, r.PathValue("name")); err != nil {
		if errors.Is(err, money.Invalid) {
			err = notFound("There is no device of that name.")
		}
		return err
	}
	p.HasKey, p.Renewal = p.Key != noKey, p.Limits.Period.String()
	now := c.now()
	sums, err := c.Books.ByDevice(ctx, now-30*step.Day, now+1)
	if err != nil {
		return err
	}
	for i := range sums {
		if sums[i].Name == p.Name {
			p.Sold = &sums[i]
		}
	}
	if p.Orders, _, err = c.Books.Orders(ctx, books.Filter{Device: p.Name, Limit: 10}); err != nil {
		return err
	}
	return c.show(w, r, v, "device", p.Name, p)
}

// limits reads a budget from a form over what was there.
func limits(f url.Values, l core.Limits) (core.Limits, error) {
	for _, field := range []struct {
		name, what string
		to         *money.Amount
	}{{"budget", "budget", &l.Total}, {"order", "limit of one payment", &l.Order}} {
		text := strings.TrimSpace(f.Get(field.name))
		if *field.to = 0; text == "" {
			continue
		}
		a, err := money.ParseAmount(text)
		if err != nil {
			return l, badForm("Write the " + field.what + " with its unit, such as 500 sat; nothing for no limit. Nothing was changed.")
		}
		*field.to = a
	}
	period, err := spend.ParsePeriod(f.Get("renewal"))
	if err != nil {
		return l, badForm(capital(err.Error()) + " Nothing was changed.")
	}
	l.Period = period
	return l, nil
}

type added struct {
	Name    string
	Code    string // to claim it with; empty if its key is known already
	QR      qrCode
	Expires step.Time
}

// addDevice makes a claim code for a device, or takes one whose key is known. The
// code is shown once, in the answer.
func (c *Console) addDevice(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if c.Fleet == nil {
		return errNoFleet
	}
	f := r.PostForm
	p := core.Profile{Name: strings.TrimSpace(f.Get("name")), Tenant: strings.TrimSpace(f.Get("tenant")), Tags: strings.Fields(f.Get("tags"))}
	var err error
	if p.Limits, err = limits(f, p.Limits); err != nil {
		return err
	}
	if err := p.Check(); err != nil {
		return badForm(capital(err.Error()) + " No device was added.")
	}
	if text := strings.TrimSpace(f.Get("key")); text != "" {
		if p.Key, err = keys.ParsePublicHex(text); err != nil {
			return badForm("A device's key is 66 letters and digits, as its own status says. No device was added.")
		}
		if err := c.Fleet.Add(ctx, p); err != nil {
			return err
		}
		return c.back(w, r, v, "/console/devices/"+p.Name, p.Name+" is in the fleet.")
	}
	code, err := c.Fleet.Invite(ctx, p, false, inviteLife)
	if err != nil {
		return err
	}
	c.Log.Info("console: device invited", "device", p.Name, "by", v.Name)
	return c.show(w, r, v, "added", "Claim code for "+p.Name, added{p.Name, code, drawQR(code), c.now() + inviteLife})
}

func (c *Console) budget(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if c.Fleet == nil {
		return errNoFleet
	}
	p, ok := c.Fleet.Device(r.PathValue("name"))
	if !ok {
		return notFound("No device in service has that name.")
	}
	var err error
	if p.Limits, err = limits(r.PostForm, p.Limits); err != nil {
		return err
	}
	if _, err := c.Fleet.Change(ctx, p); err != nil {
		return err
	}
	c.Log.Info("console: budget", "device", p.Name, "by", v.Name)
	said := p.Name + " may spend what it likes from now on."
	if p.Limits.Total > 0 {
		said = p.Name + " may spend " + sats(p.Limits.Total) + " " + p.Limits.Period.String() + " from now on."
	}
	return c.back(w, r, v, "/console/devices/"+p.Name, said)
}

func (c *Console) revoke(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if c.Fleet == nil {
		return errNoFleet
	}
	if r.PostForm.Get("sure") != "yes" {
		return badForm("Tick the box that says you are sure. Nothing was done.")
	}
	name := r.PathValue("name")
	if _, err := c.Fleet.Revoke(ctx, name); err != nil {
		return err
	}
	c.Log.Info("console: device revoked", "device", name, "by", v.Name)
	return c.back(w, r, v, "/console/devices/"+name, name+" is revoked: nothing is sent to it and it may not spend.")
}
