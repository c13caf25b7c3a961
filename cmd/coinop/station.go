package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"

	"coinop.dev"
	_ "coinop.dev/all"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/world/chain"
)

// Config is a machine's TOML file, with what the commands ask of it.
type Config struct {
	coinop.Config
	path string // of the file
}

// readConfig reads a config for a command.
func readConfig(path string) (Config, error) {
	c, err := coinop.ReadConfig(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = exit{err, exitNotFound}
	case errors.Is(err, money.Invalid):
		err = usage{err}
	}
	if err == nil {
		err = checkDeliverers(c)
	}
	return Config{c, path}, err
}

// A station is a machine with its config. serve and pay run one, the demo two.
type station struct {
	*coinop.Machine
	Config  Config
	ledgers ledgers
}

// openStation opens everything but the rails. source is the chain to use, or
// nil to open the one that the config names.
func openStation(ctx context.Context, c Config, source chain.Source, log *slog.Logger, more ...coinop.Option) (*station, error) {
	s := &station{Config: c}
	nodes, err := s.ledgers.options(c)
	if err != nil {
		return s, err
	}
	opts := append([]coinop.Option{coinop.OnChain(source), coinop.Log(log), coinop.RailURI(c.seeded)}, append(nodes, more...)...)
	for name, open := range devices {
		opts = append(opts, coinop.Deliver(name, open()))
	}
	s.Machine, err = coinop.OpenIdle(ctx, c.Config, opts...)
	if errors.Is(err, coinop.ErrNoChain) {
		err = exit{err, exitConnect}
	}
	return s, err
}

// loadKey loads the key of a machine whose config names no home for it.
func loadKey(data string) (keys.Secret, error) { return (&coinop.Config{Data: data}).LoadKey() }
