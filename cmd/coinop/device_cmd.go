//go:build !omit_gateway

package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	fleetcore "coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/gateway/fleet"
)

// limitFlags are a device's limits as somebody writes them. "none" takes one away.
type limitFlags struct {
	order, unit, total, payee, period string
	minute                            int
}

func (l *limitFlags) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&l.order, "max-payment", "", `at most this for one payment, such as "10 sat"; none for no limit`)
	f.StringVar(&l.unit, "max-unit-price", "", "at most this for one unit")
	f.StringVar(&l.total, "budget", "", "at most this in a period")
	f.StringVar(&l.payee, "payee-budget", "", "at most this to one payee in a period")
	f.StringVar(&l.period, "renew", "", "when the budgets begin anew: daily, weekly, monthly, yearly, never")
	f.IntVar(&l.minute, "per-minute", -1, "payments in a minute; 0 for no limit")
}

// change puts what was written into limits, and says whether anything was.
func (l limitFlags) change(to *fleetcore.Limits) (changed bool, err error) {
	for _, a := range []struct {
		text string
		to   *money.Amount
	}{{l.order, &to.Order}, {l.unit, &to.UnitPrice}, {l.total, &to.Total}, {l.payee, &to.Payee}} {
		switch a.text {
		case "":
			continue
		case "none":
			*a.to = 0
		default:
			if *a.to, err = money.ParseAmount(a.text); err != nil {
				return false, usage{err}
			}
		}
		changed = true
	}
	if l.period != "" {
		changed = true
		if to.Period, err = spend.ParsePeriod(l.period); err != nil {
			return false, usage{err}
		}
	}
	if l.minute >= 0 {
		changed, to.PerMinute = true, l.minute
	}
	return changed, nil
}

func deviceCommand(u *ui) *cobra.Command {
	f := u.family(&cobra.Command{
		Use: "device", Short: "The devices of a gateway: add them, look at them, bound what they spend, revoke them",
		Long: `A device is one thing in the field: a tap, a charger, a sensor. Each has a key of its own
and a credential of its own. Its limits hold at the gateway, and are signed into the device.`,
		Example: `  coinop device add tap-3 --tag cellar --budget "500 sat" --renew daily
  coinop device import devices.csv
  coinop device list --state faulty
  coinop device revoke tap-3`,
	})
	f.addDevices()
	f.lookAtDevices()
	f.changeDevices()
	f.commission()
	f.AddCommand(playCommand(u))
	return f.Command
}

// newcomer is a device to be.
type newcomer struct {
	Name   string           `json:"name"`
	Tenant string           `json:"tenant,omitempty"`
	Tags   []string         `json:"tags,omitempty"`
	Limits fleetcore.Limits `json:"limits,omitzero"`
	Key    *keys.Public     `json:"key,omitempty"`
}

// A claimCode is one, and whose.
type claimCode struct {
	Device  string    `json:"device"`
	Code    string    `json:"code"`
	Expires step.Time `json:"expires_ms"`
}

// addDevices are the ways into the fleet.
func (f *family) addDevices() {
	var d newcomer
	var limits limitFlags
	var key, valid string
	add := f.add("add <name>", "Add a device: prints a claim code, as text and as a QR code", func(ctx context.Context, r *running, args []string) error {
		d.Name = args[0]
		if _, err := limits.change(&d.Limits); err != nil {
			return err
		}
		if key == "" {
			return f.u.invite(ctx, r, d, false, valid)
		}
		public, err := keys.ParsePublicHex(key)
		if err != nil {
			return usage{fmt.Errorf("--key: %w", err)}
		}
		d.Key = &public
		var added fleetcore.Device
		if err := r.ask(ctx, http.MethodPost, "/v1/devices", d, &added); err != nil {
			return err
		}
		return f.u.card(ctx, r, d.Name, map[string]any{})
	})
	add.Long = `Whoever shows the claim code first, once, becomes the device: it brings its own key and
gets its credential, its limits and the gateway's key (POST /v1/claims). With --key the key
is known already, and what the device must know is printed at once.`
	add.Flags().StringVar(&d.Tenant, "tenant", "", "whose it is")
	add.Flags().StringSliceVar(&d.Tags, "tag", nil, "words to find it by")
	add.Flags().StringVar(&key, "key", "", "its node key in hex; no claim code is made")
	add.Flags().StringVar(&valid, "valid", "24h", "how long the claim code is good")
	limits.flags(add)

	invite := f.add("invite <name>", "Make a claim code for hardware that takes a device's place", func(ctx context.Context, r *running, args []string) error {
		var have fleetcore.Device
		if err := r.look(ctx, devicePath(args[0]), nil, &have); err != nil {
			return err
		}
		return f.u.invite(ctx, r, newcomer{Name: have.Name, Tenant: have.Tenant, Tags: have.Tags, Limits: have.Limits}, true, valid)
	})
	invite.Long = "The old hardware is the device until the code is claimed; from then on its key and credential are good for nothing."
	invite.Flags().StringVar(&valid, "valid", "24h", "how long the claim code is good")

	list := f.add("import <file.csv>", "Add the devices of a CSV file: all, or none and every mistake is named", f.u.importDevices)
	list.Long = "The first line names the columns, in any order; only name must be there. They are:\n  " + strings.Join(fleet.Columns, ", ") +
		".\nAmounts are msat, or have their unit; tags and payees are parted by spaces. - reads standard input."
}

func devicePath(name string) string { return "/v1/devices/" + url.PathEscape(name) }

// invite makes a claim code and shows it.
func (u *ui) invite(ctx context.Context, r *running, d newcomer, replace bool, valid string) error {
	good, err := duration(valid)
	if err != nil {
		return err
	}
	v := claimCode{Device: d.Name}
	if err := r.ask(ctx, http.MethodPost, "/v1/invites", map[string]any{"device": d, "replace": replace, "valid_ms": good}, &v); err != nil {
		return err
	}
	return u.show(v, func(w io.Writer) {
		fmt.Fprintf(w, "%s\n%s becomes whoever shows this code first, until %s:\n\n  %s\n\n", qrCode(v.Code), v.Device, when(v.Expires), v.Code)
		fmt.Fprintln(w, "To try it, on any computer: coinop device play --gateway … --broker … --code "+v.Code)
	})
}

// maxStdin is what importDevices reads of standard input, in bytes.
const maxStdin = fleet.MaxCSV

func (u *ui) importDevices(ctx context.Context, r *running, args []string) error {
	raw, err := u.file(args[0], maxStdin)
	if err != nil {
		return err
	}
	progress := newBar(u, "bytes", uint64(len(raw)))
	q := request{method: http.MethodPost, path: "/v1/devices/import", media: "text/csv", size: int64(len(raw)),
		raw: &counted{bytes.NewReader(raw), progress, 0}}
	var v struct {
		Added int `json:"added"`
	}
	err = r.read(ctx, q, &v)
	progress.end()
	if err != nil {
		return err
	}
	return u.show(v, func(w io.Writer) { fmt.Fprintf(w, "%d devices are added\n", v.Added) })
}

// counted shows how much was read.
type counted struct {
	io.Reader
	bar  *bar
	done uint64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.done += uint64(n)
	c.bar.set(c.done)
	return n, err
}

// file reads a whole file, or standard input for "-".
func (u *ui) file(path string, limit int64) ([]byte, error) {
	in := u.in
	if path != "-" {
		f, err := os.Open(filepath.Clean(path))
		if err != nil {
			return nil, exit{err, exitNotFound}
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = usage{fmt.Errorf("%s has more than %d bytes, which is the limit", path, limit)}
	}
	return raw, err
}

// lookAtDevices are those that change nothing.
func (f *family) lookAtDevices() {
	query := url.Values{}
	var tenant, tag, state, after string
	var limit int
	list := f.add("list", "List the devices: their state, when they were seen, what is left of their budgets", func(ctx context.Context, r *running, _ []string) error {
		for key, value := range map[string]string{"tenant": tenant, "tag": tag, "state": state, "after": after} {
			if value != "" {
				query.Set(key, value)
			}
		}
		var all struct {
			Devices []fleetcore.Device `json:"devices"`
			Next    string             `json:"next,omitempty"`
		}
		query.Set("limit", strconv.Itoa(min(limit, fleetcore.MaxList)))
		if err := r.look(ctx, "/v1/devices", query, &all); err != nil {
			return err
		}
		return f.u.show(all, func(w io.Writer) {
			columns(w, "NAME STATE SEEN BUDGET LEFT FAULT TENANT TAGS", func(row func(...any)) {
				for _, d := range all.Devices {
					row(d.Name, deviceState(d), when(d.Seen), amount(d.Limits.Total), left(d), lastFault(d), d.Tenant, strings.Join(d.Tags, ","))
				}
			})
			if all.Next != "" {
				fmt.Fprintf(w, "and more: coinop device list --after %s\n", all.Next)
			}
		})
	})
	flags := list.Flags()
	flags.StringVar(&tenant, "tenant", "", "only this tenant's")
	flags.StringVar(&tag, "tag", "", "only those with this tag")
	flags.StringVar(&state, "state", "", "only those that are online, offline, revoked, faulty, or outstanding")
	flags.StringVar(&after, "after", "", "those after this name")
	flags.IntVar(&limit, "limit", 100, "at most so many")
	f.add("show <name>", "Show a device: its limits, what it owes an answer for, its faults", func(ctx context.Context, r *running, args []string) error {
		var d fleetcore.Device
		if err := r.look(ctx, devicePath(args[0]), nil, &d); err != nil {
			return err
		}
		return f.u.showDevice(d)
	})
}

func deviceState(d fleetcore.Device) string {
	switch {
	case d.Revoked:
		return "revoked"
	case d.Online:
		return "online"
	}
	return "offline"
}

// left is what a device may still spend; nothing if there is no bound.
func left(d fleetcore.Device) string {
	if d.Limits.Total == 0 {
		return ""
	}
	return d.Left.String()
}

func lastFault(d fleetcore.Device) string {
	if len(d.Faults) == 0 {
		return ""
	}
	return d.Faults[len(d.Faults)-1].Text
}

func (u *ui) showDevice(d fleetcore.Device) error {
	return u.show(d, func(w io.Writer) {
		say := func(what, text string) {
			if text != "" {
				fmt.Fprintf(w, "%-12s %s\n", what, clean(text))
			}
		}
		say("device", d.Name)
		say("state", deviceState(d))
		say("seen", cmp.Or(when(d.Seen), "never"))
		say("firmware", d.Firmware)
		say("tenant", d.Tenant)
		say("tags", strings.Join(d.Tags, " "))
		if d.Key != (keys.Public{}) {
			say("key", d.Key.String())
		} else {
			say("key", "none: it signs with a secret that it shares with the gateway")
		}
		if d.Outstanding > 0 {
			say("outstanding", fmt.Sprintf("%d commands are not acknowledged", d.Outstanding))
		}
		l := d.Limits
		say("payment", amount(l.Order))
		say("unit price", amount(l.UnitPrice))
		say("payee", amount(l.Payee))
		if l.Total > 0 {
			text := fmt.Sprintf("%v %v: %v spent, %v left", l.Total, l.Period, d.Spent, d.Left)
			if d.Renews > 0 {
				text += " until " + when(d.Renews)
			}
			say("budget", text)
		}
		if l.PerMinute > 0 {
			say("per minute", strconv.Itoa(l.PerMinute))
		}
		for _, fault := range d.Faults {
			say("fault", fmt.Sprintf("%s  %s (%d times)", when(fault.At), fault.Text, fault.Count))
		}
	})
}

func (f *family) changeDevices() {
	var limits limitFlags
	budget := f.add("budget <name>", "Show what a device may spend, or change it", func(ctx context.Context, r *running, args []string) error {
		var d fleetcore.Device
		if err := r.look(ctx, devicePath(args[0]), nil, &d); err != nil {
			return err
		}
		changed, err := limits.change(&d.Limits)
		if err == nil && changed {
			err = r.ask(ctx, http.MethodPatch, devicePath(args[0]), map[string]any{"limits": d.Limits}, &d)
		}
		if err != nil {
			return err
		}
		return f.u.showDevice(d)
	})
	budget.Long = "What is not named stays. The new limits hold at the gateway at once, and in the device when it has its new policy."
	budget.Example = "  coinop device budget tap-3 --budget \"500 sat\" --renew daily\n  coinop device budget tap-3 --max-payment none"
	limits.flags(budget)

	var forget bool
	revoke := f.add("revoke <name>", "Revoke a device, now and for good", func(ctx context.Context, r *running, args []string) error {
		var d fleetcore.Device
		q := request{method: http.MethodDelete, path: devicePath(args[0]), query: url.Values{}}
		if forget {
			q.query.Set("forget", "true")
		}
		if err := r.read(ctx, q, &d); err != nil {
			return err
		}
		return f.u.show(d, func(w io.Writer) {
			what := "is revoked: it is told nothing more, and may not spend"
			if forget {
				what = "is forgotten"
			}
			fmt.Fprintf(w, "%s %s\n", d.Name, what)
		})
	})
	revoke.Long = "What it was told and has not done ends, and those orders are given back. A new device may not have its key."
	revoke.Flags().BoolVar(&forget, "forget", false, "forget a device that is revoked, so that its name is free")

	var narrower limitFlags
	var services, payees []string
	var expires string
	bake := f.add("credential <name>", "Print what a device must know, with its credential as narrow as you like", func(ctx context.Context, r *running, args []string) error {
		body := map[string]any{"services": services, "payees": payees}
		until, err := later(expires)
		if err != nil {
			return err
		}
		if until > 0 {
			body["expires_ms"] = until
		}
		var l fleetcore.Limits
		if changed, err := narrower.change(&l); err != nil {
			return err
		} else if changed {
			body["limits"] = l
		}
		return f.u.card(ctx, r, args[0], body)
	})
	bake.Long = "It has secrets: whoever reads it is the device. Limits that are wider than the device's own are refused."
	bake.Flags().StringSliceVar(&services, "service", nil, "good for these services only")
	bake.Flags().StringSliceVar(&payees, "payee", nil, "the device itself may pay these only: payment URIs up to ?")
	bake.Flags().StringVar(&expires, "expires", "", "good for so long, such as 24h or 30d")
	narrower.flags(bake)
}

// card prints what a device must know.
func (u *ui) card(ctx context.Context, r *running, name string, narrowed map[string]any) error {
	var c struct {
		Device     string           `json:"device"`
		Tenant     string           `json:"tenant,omitempty"`
		Gateway    keys.Public      `json:"gateway"`
		Number     int              `json:"number"`
		Limits     fleetcore.Limits `json:"limits,omitzero"`
		Credential string           `json:"credential"`
		Secret     string           `json:"secret"`
		Password   string           `json:"password"`
		Policy     []byte           `json:"policy"`
	}
	if err := r.ask(ctx, http.MethodPost, devicePath(name)+"/credential", narrowed, &c); err != nil {
		return err
	}
	return u.show(c, func(w io.Writer) {
		fmt.Fprintf(w, "device      %s\ngateway     %v, number %d\ncredential  %s\npassword    %s\nsecret      %s\npolicy      %x\n",
			c.Device, c.Gateway, c.Number, c.Credential, c.Password, c.Secret, c.Policy)
	})
}
