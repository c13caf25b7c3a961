//go:build !omit_gateway

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"coinop.dev"
	"github.com/spf13/cobra"

	"coinop.dev/core/keys"
	"coinop.dev/device"
	"coinop.dev/world/store"
)

// play is what device play is asked for.
type play struct {
	gateway, broker, code, data string
	slow                        time.Duration
	broken, silent              bool
}

// playCommand is a device on this computer, to try a gateway with, and the shortest
// program that is one.
func playCommand(u *ui) *cobra.Command {
	p := play{}
	c := &cobra.Command{
		Use: "play", Short: "Be a device: say what it is told to do, and acknowledge it", Args: noArgs,
		Long: "A device on this computer, over MQTT: it claims its place at a gateway with a code, once, and from then on prints\n" +
			"each command as a line of JSON and acknowledges it. Its key and what it has done are in its folder.",
		Example: "  coinop device play --gateway http://127.0.0.1:8402 --broker 127.0.0.1:1883 --code CP1…\n" +
			"  coinop device play --broker 127.0.0.1:1883                # the next time\n" +
			"  coinop device play --broker 127.0.0.1:1883 --broken       # it says that it cannot",
		RunE: func(cmd *cobra.Command, _ []string) error { return p.run(cmd.Context(), u) },
	}
	f := c.Flags()
	f.StringVar(&p.gateway, "gateway", "", "the gateway's HTTP address; needed with --code")
	f.StringVar(&p.broker, "broker", "127.0.0.1:1883", "the gateway's MQTT address")
	f.StringVar(&p.code, "code", "", "the claim code that coinop device add prints; needed once")
	f.StringVar(&p.data, "data", "device", "folder of the device's key and memory")
	f.DurationVar(&p.slow, "slow", 0, "take so long to act")
	f.BoolVar(&p.broken, "broken", false, "acknowledge that nothing was done")
	f.BoolVar(&p.silent, "silent", false, "act, and never acknowledge")
	return c
}

// card is what a gateway tells a device that claims its place.
type card struct {
	Device     string      `json:"device"`
	Tenant     string      `json:"tenant"`
	Gateway    keys.Public `json:"gateway"`
	Credential string      `json:"credential"`
}

func (p play) run(ctx context.Context, u *ui) error {
	if err := os.MkdirAll(p.data, 0o700); err != nil {
		return err
	}
	key, err := loadKey(p.data)
	if err != nil {
		return err
	}
	c, err := p.card(ctx, key)
	if err != nil {
		return err
	}
	db, err := store.Default.Open((&coinop.Config{Data: p.data}).StoreURI())
	if err != nil {
		return err
	}
	defer db.Close()
	lines := json.NewEncoder(u.out)
	d, err := device.Open(ctx, device.Options{
		Broker: p.broker, Name: c.Device, Tenant: c.Tenant, Password: c.Credential, Key: key, Gateways: []keys.Public{c.Gateway},
		Firmware: "coinop device play", DB: db, Log: u.log(c.Device),
		Act: func(ctx context.Context, cmd device.Command) ([]byte, error) {
			select {
			case <-time.After(p.slow):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			if p.broken {
				return nil, errors.New("jammed")
			}
			err := lines.Encode(map[string]any{"device": c.Device, "does": cmd.Verb, "item": cmd.Item, "units": cmd.Units, "order": cmd.Order, "test": cmd.Test})
			if p.silent {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return nil, err
		},
	})
	if err != nil {
		return err
	}
	defer d.Close()
	<-ctx.Done()
	return nil
}

// card is that of the folder, or what the gateway answers to the code.
func (p play) card(ctx context.Context, key keys.Secret) (c card, err error) {
	path := filepath.Join(p.data, "card.json")
	raw, err := os.ReadFile(path)
	switch {
	case err == nil:
		return c, json.Unmarshal(raw, &c)
	case !errors.Is(err, fs.ErrNotExist):
		return c, err
	case p.code == "" || p.gateway == "":
		return c, usage{errors.New("this device has no place at a gateway yet: give --gateway and the --code that coinop device add prints")}
	}
	ask, err := json.Marshal(map[string]any{"code": p.code, "key": key.Public()})
	if err != nil {
		return c, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.gateway+"/v1/claims", bytes.NewReader(ask))
	if err != nil {
		return c, usage{err}
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return c, exit{err, exitConnect}
	}
	defer res.Body.Close()
	if raw, err = io.ReadAll(io.LimitReader(res.Body, 64<<10)); err != nil {
		return c, exit{err, exitConnect}
	}
	if res.StatusCode != http.StatusOK {
		var problem struct{ Detail string }
		json.Unmarshal(raw, &problem)
		return c, exit{fmt.Errorf("claim: %s", firstOf(problem.Detail, res.Status)), exitFailed}
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, err
	}
	return c, os.WriteFile(path, raw, 0o600)
}
