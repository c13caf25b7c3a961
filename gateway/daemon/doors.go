package daemon

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coinop.dev"
	"coinop.dev/core/fleet"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/gateway/api"
	gatewaycoap "coinop.dev/gateway/coap"
	"coinop.dev/gateway/console"
	gatewayfleet "coinop.dev/gateway/fleet"
	"coinop.dev/gateway/mqtt"
	gatewayserial "coinop.dev/gateway/serial"
	"coinop.dev/world/link/coap"
	"coinop.dev/world/link/serial"
)

// openFleet adds the fleet's core, before the till that delivers to it.
func (d *Daemon) openFleet(ctx context.Context, m *engine.Machine) (err error) {
	root, shared := m.Key.Derive("gateway/fleet"), d.config.Fleet.Secret != ""
	if shared {
		if root, err = readSecret(d.config.Fleet.Secret); err != nil {
			return fmt.Errorf("fleet: %w", err)
		}
	}
	d.fleetRoot = root
	d.Fleet, err = gatewayfleet.Open(m.Context(), m.Host, m.DB, gatewayfleet.Options{
		Config: fleet.Config{Root: root, Node: m.Key, Number: d.config.Fleet.Number, Shared: shared}, Log: d.Log,
	})
	return err
}

// readSecret reads 32 bytes of hex.
func readSecret(path string) (keys.Secret, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return keys.Secret{}, err
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil {
		return keys.Secret{}, fmt.Errorf("%s has not 64 hex digits", path)
	}
	return keys.SecretFromBytes(b)
}

// share keeps the fleet in step with the other gateways of one database.
func (d *Daemon) share(life context.Context) {
	if d.config.Fleet.Secret == "" {
		return
	}
	d.running.Go(func() { d.Fleet.Share(life, d.Books, d.name()) })
}

// releaseTime is how long a gateway that stops tries to give back what it has leased
// of shared budgets, when nothing spends any more.
const releaseTime = 2 * time.Second

func (d *Daemon) release() {
	if d.Fleet == nil || d.Books == nil || d.config.Fleet.Secret == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	if err := d.Fleet.Release(ctx); err != nil {
		d.Log.Warn("leases of shared budgets are not given back", "err", err)
	}
}

// mount adds the pages for people to the HTTP door.
func (d *Daemon) mount(mux *http.ServeMux) error {
	c := console.New(console.Options{
		Machine: d.Machine, Books: d.Books, Fleet: d.Fleet, Log: d.Log, Lab: filepath.Join(d.config.Data, "lab.html"),
		Principal: func(r *http.Request, token string) (console.Principal, error) {
			asked := r.Clone(r.Context())
			asked.Header = http.Header{"Authorization": {"Bearer " + token}}
			p, err := d.API.Who(asked)
			return console.Principal{Name: p.Name, May: p.May}, err
		},
		Faults: func() (all []string) {
			if away := d.away.Load(); away != nil {
				all = append(all, "The books are away; what happens is kept until they are back: "+(*away).Error())
			}
			return all
		},
	})
	mux.Handle("/console/", c)
	mux.Handle("/pay/", c)
	mux.Handle("GET /{$}", http.RedirectHandler("/console/", http.StatusSeeOther))
	d.API.Handle("POST /v1/console/login", api.Admin, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]string{"path": c.LoginOnce(d.Token)})
	})
	d.closing = append(d.closing, func(context.Context) error { c.Close(); return nil })
	return nil
}

// openOthers opens the doors that are not HTTP.
func (d *Daemon) openOthers(life context.Context, cert *tls.Config) error {
	d.share(life)
	for _, open := range []struct {
		name string
		door func(context.Context, *tls.Config) error
	}{{"mqtt", d.openMQTT}, {"coap", d.openCoAP}, {"serial", d.openSerial}} {
		if err := open.door(life, cert); err != nil {
			return fmt.Errorf("%s: %w", open.name, err)
		}
	}
	return nil
}

func (d *Daemon) openMQTT(life context.Context, cert *tls.Config) error {
	c := d.config.MQTT
	if c.Listen == "" && c.Broker == "" {
		return nil
	}
	door := mqtt.New(mqtt.Setup{
		Devices: mqttDevices{d}, Machine: d.Machine.Engine, Outlets: d.Machine.Engine.Host, Shop: mqtt.Sell(d.Machine.Shop),
		Buyers: true, Log: d.Log, Now: d.Machine.Engine.Host.Now,
	})
	var bus mqtt.Bus
	var err error
	if c.Broker != "" {
		password := ""
		if c.Password != "" {
			raw, err := os.ReadFile(c.Password)
			if err != nil {
				return err
			}
			password = strings.TrimSpace(string(raw))
		}
		bus, err = mqtt.Dial(life, mqtt.Broker{URL: c.Broker, Name: d.name(), User: c.User, Password: password, Log: d.Log}, door)
		d.at["mqtt"] = c.Broker
	} else {
		o := mqtt.Options{Addr: c.Listen, Log: d.Log}
		scheme := "mqtt://"
		if c.TLS {
			if cert == nil {
				return errors.New("tls = true needs a certificate in [tls]")
			}
			o.TLS, scheme = cert, "mqtts://"
		}
		var broker *mqtt.Embedded
		if broker, err = mqtt.Listen(o, door); err == nil {
			bus = broker
			d.at["mqtt"] = scheme + broker.Addr().String()
		}
	}
	if err != nil {
		return err
	}
	d.announce = door.Announce
	d.Machine.Engine.Host.Hear(func(o step.Outcome) { d.tellMQTT(o, door) })
	d.closing = append(d.closing, func(context.Context) error { return errors.Join(bus.Close(), door.Close()) })
	return nil
}

// tellMQTT ends the session of a device that was revoked, here or at another
// gateway, and says new prices. It runs on the host's goroutine, where nothing may
// wait.
func (d *Daemon) tellMQTT(o step.Outcome, door *mqtt.Door) {
	switch v := o.Value.(type) {
	case fleet.Profile:
		if o.Core == fleet.Name && o.ID == fleet.Heard && v.Revoked {
			go door.Revoke(v.Tenant, v.Name)
		}
	case journal.Event:
		if v.Type == journal.PriceChanged {
			go door.Announce()
		}
	}
}

// mqttDevices is the fleet as the MQTT door needs it.
type mqttDevices struct{ d *Daemon }

func (m mqttDevices) Authenticate(name, password, _ string) (mqtt.Device, error) {
	p, err := m.d.Fleet.Authenticate(name, password)
	return mqttDevice(p), err
}

func (m mqttDevices) Device(name string) (mqtt.Device, error) {
	p, ok := m.d.Fleet.Device(name)
	if !ok {
		return mqtt.Device{}, gatewayfleet.ErrLogin
	}
	return mqttDevice(p), nil
}

func mqttDevice(p fleet.Profile) mqtt.Device {
	return mqtt.Device{Name: p.Name, Tenant: p.Tenant, Key: p.Key}
}

func (m mqttDevices) Seen(name string, online bool, firmware string) {
	m.d.Fleet.Seen(name, online, firmware)
}
func (m mqttDevices) Fault(name, text string)           { m.d.Fleet.Fault(name, text) }
func (m mqttDevices) Acked(name string, ack fleet.Ack)  { m.d.Fleet.Acked(name, ack) }
func (m mqttDevices) Meter(name, kind string, b []byte) { m.d.readings.put(name, kind, b) }

func (d *Daemon) openCoAP(_ context.Context, cert *tls.Config) error {
	c := d.config.CoAP
	if c.Listen == "" && c.DTLS == "" {
		return nil
	}
	door := gatewaycoap.New(gatewaycoap.Options{Shop: d.Machine.Shop, Source: coapReadings{d}, Devices: coapDevices{d}})
	start := func(name string, listen func() (*coap.Server, error)) error {
		s, err := listen()
		if err != nil {
			return err
		}
		d.at[name] = name + "://" + s.Addr().String()
		d.closing = append(d.closing, func(context.Context) error { return s.Close() })
		return nil
	}
	if c.Listen != "" {
		if err := start("coap", func() (*coap.Server, error) { return coap.Listen(c.Listen, door.Handle, coap.Options{}) }); err != nil {
			return err
		}
	}
	if c.DTLS == "" {
		return nil
	}
	o := coap.Options{PSK: door.PSK}
	if cert != nil {
		if pair, err := cert.GetCertificate(nil); err == nil && pair != nil {
			o.Certificate = pair
		}
	}
	return start("coaps", func() (*coap.Server, error) { return coap.ListenDTLS(c.DTLS, door.Handle, o) })
}

// coapReadings is what is sold by session: what the device that a service is of
// measures.
type coapReadings struct{ d *Daemon }

func (c coapReadings) Read(ctx context.Context, service string, units uint64) ([]byte, error) {
	name, err := c.measured(service)
	if err != nil {
		return nil, err
	}
	return c.d.readings.Read(ctx, name, units)
}

func (c coapReadings) Follow(ctx context.Context, service string, each func([]byte) error) error {
	name, err := c.measured(service)
	if err != nil {
		return err
	}
	return c.d.readings.Follow(ctx, name, each)
}

// measured is NAME or NAME/KIND of a service from "data:device:NAME".
func (c coapReadings) measured(service string) (string, error) {
	v, _ := c.d.Machine.Shop.Service(service)
	name, ok := strings.CutPrefix(v.From, "data:device:")
	if !ok {
		return "", fmt.Errorf("%s is not what a device measures, and is not sold by session here", service)
	}
	return name, nil
}

type coapDevices struct{ d *Daemon }

func (c coapDevices) Device(name string) (gatewaycoap.Device, bool) {
	p, ok := c.d.Fleet.Device(name)
	return gatewaycoap.Device{Key: p.Key, Secret: c.d.Fleet.Secret(p)}, ok
}

func (d *Daemon) openSerial(context.Context, *tls.Config) error {
	for _, line := range d.config.Gateway.Serial {
		p, ok := d.Fleet.Device(line.Device)
		if !ok {
			return fmt.Errorf("%s: no device is called %q; add it first", line.Port, line.Device)
		}
		open, err := serial.Opener(line.Port)
		if err != nil {
			return err
		}
		door, err := gatewayserial.Open(gatewayserial.Options{Shop: d.Machine.Shop, Name: p.Name, Key: p.Key, Open: open})
		if err != nil {
			return err
		}
		d.closing = append(d.closing, func(context.Context) error { return door.Close() })
		d.at["serial/"+p.Name] = line.Port
	}
	return nil
}

// Reload takes a config that has changed while the gateway runs: services and their
// prices. Rails, doors and stores are opened at a start.
func (d *Daemon) Reload(ctx context.Context, c coinop.Config) error {
	if err := d.Machine.Shop.Reload(ctx, c.Services()); err != nil {
		return err
	}
	if d.announce != nil {
		d.announce()
	}
	return nil
}
