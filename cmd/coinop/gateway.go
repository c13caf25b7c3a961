//go:build !omit_gateway

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"coinop.dev"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/money"
	"coinop.dev/gateway/api"
	"coinop.dev/gateway/daemon"
	"coinop.dev/rail"
	"coinop.dev/world/systemd"
)

// serveGateway runs a machine that sells at doors, until ctx ends. SIGHUP reads the
// config again.
func serveGateway(ctx context.Context, u *ui, config Config) error {
	mine, err := config.mineEvery()
	if err != nil {
		return err
	}
	log := u.log(config.Name)
	s := &station{Config: config}
	opts, err := s.ledgers.options(config)
	if err != nil {
		return err
	}
	opts = append(opts, coinop.RailURI(config.seeded))
	for name, open := range devices {
		opts = append(opts, coinop.Deliver(name, open()))
	}
	d, err := daemon.Open(ctx, daemon.Options{
		Config: config.Config, Log: log, Machine: opts,
		Serve: func(d *daemon.Daemon) {
			s.Machine = d.Machine
			s.serveLocal(d.API)
		},
	})
	if err != nil {
		if errors.Is(err, coinop.ErrNoChain) {
			err = exit{err, exitConnect}
		}
		return err
	}
	defer d.Close()
	life, stop := context.WithCancel(ctx)
	defer stop()
	ready, stopFronts, err := s.ready(life, mine)
	if err != nil {
		return err
	}
	defer stopFronts()
	for door, at := range d.At() {
		ready[door] = at
	}
	if err := u.showReady(ready, config, s); err != nil {
		return err
	}
	systemd.Notify(systemd.Ready, systemd.Status("sells at "+fmt.Sprint(len(d.At()))+" doors"))
	go systemd.Watch(life, d.Healthy)
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	defer signal.Stop(again)
	for {
		select {
		case <-ctx.Done():
			systemd.Notify(systemd.Stopping)
			log.Info("draining: what is under way ends")
			return nil
		case <-d.Stopped():
			return d.Machine.Engine.Err()
		case <-again:
			systemd.Notify("RELOADING=1")
			if c, err := readConfig(config.path); err != nil {
				log.Error("the config is not read again; the old one stays", "err", err)
			} else if err := d.Reload(ctx, c.Config); err != nil {
				log.Error("the config is not taken; the old one stays", "err", err)
			} else {
				log.Info("the config is read again")
			}
			systemd.Notify(systemd.Ready)
		}
	}
}

// serveLocal adds what the other commands ask a running machine for.
func (s *station) serveLocal(a *api.API) {
	a.Handle("POST /v1/close", api.Admin, s.apiClose)
	a.Handle("GET /v1/channels", api.Read, s.apiChannels)
	a.Handle("POST /v1/channels", api.Admin, s.apiOpenChannel)
	a.Handle("POST /v1/channels/close", api.Admin, s.apiCloseChannel)
	a.Handle("POST /v1/chain/mine", api.Admin, s.apiMine)
	a.Handle("POST /v1/chain/faucet", api.Admin, s.apiFaucet)
	s.accountAPI(a.Handle)
}

// answer writes JSON, or a problem for an error.
func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		api.Problems(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func invalid(op string, err error) error {
	return &money.Error{Kind: money.Invalid, Op: op, Err: err}
}

func (s *station) apiClose(w http.ResponseWriter, r *http.Request) {
	for _, held := range s.Rails() {
		if c, ok := rail.As[rail.Closer](held); ok {
			if err := c.Shut(r.Context(), r.FormValue("force") == "true"); err != nil {
				answer(w, nil, err)
				return
			}
		}
	}
	answer(w, map[string]any{"closed": true}, nil)
}

// maxMine and maxFaucet bound what one request may ask of a chain in the box.
const (
	maxMine   = 1000
	maxFaucet = 1_000_000_000 // satoshi
)

func (s *station) miner(w http.ResponseWriter) minerChain {
	m, ok := s.Chain.(minerChain)
	if !ok {
		answer(w, nil, &money.Error{Kind: money.Refused, Op: "chain", Err: errors.New("only a regtest: chain mines and gives money away")})
		return nil
	}
	return m
}

func (s *station) apiMine(w http.ResponseWriter, r *http.Request) {
	if m := s.miner(w); m != nil {
		n, err := strconv.Atoi(r.FormValue("blocks"))
		if err != nil || n < 1 || n > maxMine {
			answer(w, nil, invalid("mine", fmt.Errorf("blocks=%.20q is not a number from 1 to %d", r.FormValue("blocks"), maxMine)))
			return
		}
		hashes, err := m.Mine(n)
		answer(w, map[string]any{"blocks": len(hashes)}, err)
	}
}

func (s *station) apiFaucet(w http.ResponseWriter, r *http.Request) {
	if m := s.miner(w); m != nil {
		script, err := parseAddress(r.FormValue("address"))
		if err != nil {
			answer(w, nil, invalid("faucet", err))
			return
		}
		sat, err := strconv.ParseInt(r.FormValue("sat"), 10, 64)
		if err != nil || sat < tx.DustP2WPKH || sat > maxFaucet {
			answer(w, nil, invalid("faucet", fmt.Errorf("sat=%.20q is not a number from %d to %d", r.FormValue("sat"), tx.DustP2WPKH, maxFaucet)))
			return
		}
		point, err := m.Faucet(script, sat)
		if err == nil {
			_, err = m.Mine(1)
		}
		answer(w, map[string]any{"txid": point.Hash.String(), "sat": sat}, err)
	}
}
