package daemon

import (
	"context"
	"crypto/tls"
	"net/http"

	"coinop.dev"
	"coinop.dev/core/fleet"
	"coinop.dev/engine"
)

// openFleet adds the fleet's core, before the till that delivers to it.
func (d *Daemon) openFleet(ctx context.Context, m *engine.Machine) error {
	f, err := fleet.Load(m.DB, fleet.Config{Root: m.Key.Derive("gateway/fleet"), Node: m.Key})
	if err != nil {
		return err
	}
	return m.Host.Add(ctx, fleet.Name, f)
}

// mount adds pages to the HTTP door.
func (d *Daemon) mount(*http.ServeMux) error { return nil }

// openOthers opens the doors that are not HTTP.
func (d *Daemon) openOthers(context.Context, *tls.Config) error { return nil }

// Reload takes a config that has changed while the gateway runs: services and their
// prices, rates. Rails, doors and stores are opened at a start.
func (d *Daemon) Reload(ctx context.Context, c coinop.Config) error {
	return d.Machine.Shop.Reload(ctx, c.Services())
}
