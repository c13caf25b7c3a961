package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"rsc.io/qr"

	fleetcore "coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/gateway/fleet"
)

// defaultInvite is how long a claim code is good unless it is said.
const defaultInvite = step.Day

type (
	devicePage struct {
		Devices []fleetcore.Device `json:"devices"`
		Next    string             `json:"next,omitempty" doc:"after= of the next page"`
	}
	// A newDevice is what an operator says of one.
	newDevice struct {
		Name   string           `json:"name" maxLength:"64"`
		Tenant string           `json:"tenant,omitempty" maxLength:"64"`
		Tags   []string         `json:"tags,omitempty" maxItems:"8"`
		Limits fleetcore.Limits `json:"limits,omitzero"`
		Key    keys.Public      `json:"key,omitzero" doc:"node key, in hex; none for a device that shares a secret"`
	}
	deviceChange struct {
		Tenant *string           `json:"tenant,omitempty" maxLength:"64"`
		Tags   *[]string         `json:"tags,omitempty" maxItems:"8"`
		Limits *fleetcore.Limits `json:"limits,omitempty"`
	}
	// A Card is everything a device must know, once.
	Card struct {
		Device     string           `json:"device"`
		Tenant     string           `json:"tenant,omitempty"`
		Gateway    keys.Public      `json:"gateway" doc:"node key; its commands and its policy are signed by it"`
		Number     int              `json:"number" doc:"of this gateway among those of the fleet"`
		Limits     fleetcore.Limits `json:"limits,omitzero"`
		Credential string           `json:"credential"`
		Secret     string           `json:"secret" doc:"shared with the gateway, in hex: for DTLS, and to sign with if the device has no key"`
		Password   string           `json:"password" doc:"for doors that have no room for the credential"`
		Policy     []byte           `json:"policy" doc:"the limits, signed into the device: a binary message"`
	}
	invitation struct {
		Code    string    `json:"code"`
		Expires step.Time `json:"expires_ms"`
		SVG     string    `json:"svg" doc:"the code as a QR code"`
		PNG     []byte    `json:"png" doc:"the same, in base64"`
	}
)

// devices is about the fleet.
func (a *API) devices() {
	huma.Register(a.huma, op("GET", "/v1/devices", Read, "Devices, by name"), func(ctx context.Context, in *struct {
		Tenant string `query:"tenant" maxLength:"64"`
		Tag    string `query:"tag" maxLength:"64"`
		State  string `query:"state" enum:"online,offline,revoked,faulty,outstanding"`
		After  string `query:"after" maxLength:"64"`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}) (*body[devicePage], error) {
		page := devicePage{}
		list, err := a.Fleet.List(ctx, fleetcore.Filter{Tenant: in.Tenant, Tag: in.Tag, State: in.State, After: in.After, Limit: in.Limit})
		if len(list) == in.Limit {
			page.Next = list[len(list)-1].Name
		}
		page.Devices = append([]fleetcore.Device{}, list...)
		return answer(page, err)
	})
	huma.Register(a.huma, op("POST", "/v1/devices", Admin, "Take a device into the fleet"), func(ctx context.Context, in *struct{ Body newDevice }) (*body[fleetcore.Device], error) {
		if err := a.Fleet.Add(ctx, in.Body.profile()); err != nil {
			return nil, problem(err)
		}
		return a.device(ctx, in.Body.Name)
	})
	huma.Register(a.huma, op("GET", "/v1/devices/{name}", Read, "A device: its budget, its faults, what it owes an answer for"), func(ctx context.Context, in *Named) (*body[fleetcore.Device], error) {
		return a.device(ctx, in.Name)
	})
	huma.Register(a.huma, op("PATCH", "/v1/devices/{name}", Admin, "Change a device's tenant, tags or limits; what is not named stays"), func(ctx context.Context, in *struct {
		Named
		Body deviceChange
	}) (*body[fleetcore.Device], error) {
		return a.changeDevice(ctx, in.Name, in.Body)
	})
	huma.Register(a.huma, op("DELETE", "/v1/devices/{name}", Admin, "Revoke a device, now and for good; forget=true forgets one that is revoked"), func(ctx context.Context, in *struct {
		Named
		Forget bool `query:"forget"`
	}) (*body[fleetcore.Device], error) {
		d, err := a.device(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		if in.Forget {
			if err := a.Fleet.Forget(ctx, in.Name); err != nil {
				return nil, problem(err)
			}
			return d, nil
		}
		return answer(a.Fleet.Revoke(ctx, in.Name))
	})
	list := op("POST", "/v1/devices/import", Admin, "Add the devices of a CSV list, all or none: "+strings.Join(fleet.Columns, ", "))
	list.MaxBodyBytes = fleet.MaxCSV + 1
	huma.Register(a.huma, list, func(ctx context.Context, in *struct {
		RawBody []byte `contentType:"text/csv"`
	}) (*body[struct {
		Added int `json:"added"`
	}], error) {
		added, err := a.Fleet.Import(ctx, bytes.NewReader(in.RawBody))
		return answer(struct {
			Added int `json:"added"`
		}{added}, err)
	})
	a.joining()
}

// joining is how a device gets what it must know.
func (a *API) joining() {
	huma.Register(a.huma, secret(op("POST", "/v1/devices/{name}/credential", Admin, "What a device must know, with its credential as narrow as you like")), func(ctx context.Context, in *struct {
		Named
		Body *struct {
			Services []string         `json:"services,omitempty" maxItems:"16" doc:"none: all"`
			Expires  step.Time        `json:"expires_ms,omitempty" minimum:"0"`
			Limits   fleetcore.Limits `json:"limits,omitzero" doc:"at most the device's own"`
			Payees   []string         `json:"payees,omitempty" maxItems:"16" doc:"for the policy: payment URIs up to ?; none: anybody"`
		}
	}) (*body[Card], error) {
		if _, ok := a.Fleet.Device(in.Name); !ok {
			return nil, notFound(fmt.Sprintf("no device in service is called %.64q", in.Name))
		}
		if in.Body == nil {
			return answer(a.card(in.Name, nil, 0))
		}
		c, err := a.card(in.Name, in.Body.Payees, in.Body.Expires)
		if err == nil {
			c.Credential, err = a.credential(in.Name, in.Body.Expires, in.Body.Services, in.Body.Limits)
		}
		return answer(c, err)
	})
	huma.Register(a.huma, secret(op("POST", "/v1/invites", Admin, "A claim code: whoever shows it, once, becomes the device")), func(ctx context.Context, in *struct {
		Body struct {
			Device  newDevice `json:"device"`
			Replace bool      `json:"replace,omitempty" doc:"the device is there, and another hardware takes its place"`
			Valid   step.Time `json:"valid_ms,omitempty" minimum:"0" doc:"default: a day"`
		}
	}) (*body[invitation], error) {
		return answer(a.invite(ctx, in.Body.Device.profile(), in.Body.Replace, in.Body.Valid))
	})
	huma.Register(a.huma, secret(op("POST", "/v1/claims", Public, "A device shows its claim code and its key")), func(ctx context.Context, in *struct {
		Body struct {
			Code string      `json:"code" maxLength:"64"`
			Key  keys.Public `json:"key,omitzero" doc:"node key, in hex; none for a device that will share a secret"`
		}
	}) (*body[Card], error) {
		if a.claims.Take(who(ctx).from, time.Now()) > 0 {
			return nil, refusal(http.StatusTooManyRequests, "RATE_LIMITED", "too many claim codes were tried; wait a minute")
		}
		c, err := a.Fleet.Claim(ctx, in.Body.Code, in.Body.Key)
		if err != nil {
			return nil, problem(err)
		}
		return answer(a.shown(c, nil, 0))
	})
}

func (d newDevice) profile() fleetcore.Profile {
	return fleetcore.Profile{Name: d.Name, Tenant: d.Tenant, Tags: d.Tags, Limits: d.Limits, Key: d.Key}
}

// device reads one.
func (a *API) device(ctx context.Context, name string) (*body[fleetcore.Device], error) {
	d, err := a.Fleet.Show(ctx, name)
	if errors.Is(err, money.Invalid) {
		err = notFound(fmt.Sprintf("there is no device %.64q", name))
	}
	return answer(d, err)
}

func (a *API) changeDevice(ctx context.Context, name string, c deviceChange) (*body[fleetcore.Device], error) {
	d, err := a.device(ctx, name)
	if err != nil {
		return nil, err
	}
	p := d.Body.Profile
	if c.Tenant != nil {
		p.Tenant = *c.Tenant
	}
	if c.Tags != nil {
		p.Tags = *c.Tags
	}
	if c.Limits != nil {
		p.Limits = *c.Limits
	}
	return answer(a.Fleet.Change(ctx, p))
}

func (a *API) card(name string, payees []string, expires step.Time) (Card, error) {
	c, err := a.Fleet.Card(name)
	if err != nil {
		return Card{}, err
	}
	return a.shown(c, payees, expires)
}

// shown is a card with the policy that goes with it: what the device itself may pay,
// signed by this gateway's node key.
func (a *API) shown(c fleet.Card, payees []string, expires step.Time) (Card, error) {
	shared := keys.Secret{}
	if c.Key == (keys.Public{}) {
		shared = a.Fleet.Secret(c.Profile)
	}
	policy := fleetcore.Policy{Device: c.Name, Version: c.Version, Limits: c.Limits, Payees: payees, Expires: expires}.Seal(a.Machine.Key, c.Key, shared)
	return Card{
		Device: c.Name, Tenant: c.Tenant, Gateway: c.Gateway, Number: c.Number, Limits: c.Limits,
		Credential: c.Credential, Secret: c.Secret, Password: c.Password, Policy: policy.Append(nil),
	}, nil
}

// credential bakes a device's credential, narrower than the device's limits.
func (a *API) credential(name string, expires step.Time, services []string, l fleetcore.Limits) (string, error) {
	p, ok := a.Fleet.Device(name)
	if !ok {
		return "", notFound("no device in service is called " + name)
	}
	for _, s := range services {
		if !offer.ValidName(s) {
			return "", invalid(fmt.Sprintf("%.40q is no name of a service", s))
		}
	}
	m, err := fleetcore.Credential(a.FleetRoot, p, expires, services...)
	if err == nil {
		m, err = narrow(m, l)
	}
	if err == nil {
		// One that allows more than the device's own limits would not be taken.
		_, err = fleetcore.Verify(a.FleetRoot, m, a.Machine.Engine.Host.Now())
	}
	if err != nil {
		return "", invalid(err.Error())
	}
	return m.Text(), nil
}

func (a *API) invite(ctx context.Context, p fleetcore.Profile, replace bool, valid step.Time) (v invitation, err error) {
	if valid == 0 {
		valid = defaultInvite
	}
	valid = min(valid, fleetcore.MaxValid)
	v.Expires = a.Machine.Engine.Host.Now() + valid
	if v.Code, err = a.Fleet.Invite(ctx, p, replace, valid); err != nil {
		return v, err
	}
	code, err := qr.Encode(v.Code, qr.M)
	if err != nil {
		return v, err
	}
	v.SVG, v.PNG = svg(code), code.PNG()
	return v, nil
}

// svg draws a QR code with the quiet zone that readers need.
func svg(code *qr.Code) string {
	const quiet = 4
	var path strings.Builder
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	size := code.Size + 2*quiet
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h%dv%dH0z"/><path d="%s"/></svg>`,
		size, size, size, size, path.String())
}
