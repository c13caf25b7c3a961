package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/spf13/cobra"
)

// minerChain is a chain in the box: it mines and gives money away.
type minerChain interface {
	Mine(blocks int) ([]chainhash.Hash, error)
	Faucet(script []byte, sat int64) (wire.OutPoint, error)
	Addr() string
}

func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVarP(path, "config", "c", "coinop.toml", "the machine's TOML file")
}

func serveCommand(u *ui) *cobra.Command {
	var path string
	var accept bool
	c := &cobra.Command{
		Use: "serve", Short: "Run a machine that sells, until Ctrl-C", Args: noArgs,
		Long: "Runs the machine of a config file: it listens for buyers, is paid on its rails, and delivers. Its channels stay open\nwhen it stops; they are in its store.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			config.AcceptStale = accept
			return serve(cmd.Context(), u, config)
		},
	}
	configFlag(c, &path)
	staleFlag(c, &accept)
	return c
}

// staleFlag is of the commands that start a machine.
func staleFlag(c *cobra.Command, accept *bool) {
	c.Flags().BoolVar(accept, "accept-stale", false, "start although the store may be an old copy; peers close all channels")
}

func serve(ctx context.Context, u *ui, config Config) error {
	if config.Doors() {
		return serveGateway(ctx, u, config)
	}
	mine, err := config.mineEvery()
	if err != nil {
		return err
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s, err := openStation(life, config, nil, u.log(config.Name))
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.OpenRails(ctx); err != nil {
		return err
	}
	ready, stopFronts, err := s.ready(life, mine)
	if err != nil {
		return err
	}
	defer stopFronts()
	if err := u.showReady(ready, config, s); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-s.Engine.Stopped():
		return s.Engine.Err()
	}
}

// mineEvery is how often a chain in the box gets a block; 0 for only when asked.
func (c *Config) mineEvery() (time.Duration, error) {
	if c.Mine == "" {
		return 0, nil
	}
	every, err := time.ParseDuration(c.Mine)
	if err != nil || every < 10*time.Millisecond {
		return 0, usage{fmt.Errorf("mine = %q is not a time of at least 10ms, such as 2s", c.Mine)}
	}
	return every, nil
}

// ready starts the chain in the box and the fronts, and says where all is.
func (s *station) ready(life context.Context, mine time.Duration) (ready map[string]any, stop func(), err error) {
	ready = map[string]any{"ready": true, "name": s.Config.Name, "node": s.Key.Public(), "listen": s.Addr, "pay_to": s.PayTo()}
	if m, ok := s.Chain.(minerChain); ok {
		ready["chain"] = "p2p://" + m.Addr()
		if mine > 0 {
			go mineEvery(life, m, mine)
		}
	}
	s.ledgers.ready(ready)
	fronts, stop, err := s.openFronts()
	for name, uri := range fronts {
		ready[name] = uri
	}
	return ready, stop, err
}

func (u *ui) showReady(ready map[string]any, config Config, s *station) error {
	return u.show(ready, func(w io.Writer) {
		fmt.Fprintf(w, "%s is ready", config.Name)
		if len(s.PayTo()) > 0 {
			fmt.Fprint(w, "; pay it at")
		}
		fmt.Fprintln(w)
		for _, uri := range s.PayTo() {
			fmt.Fprintf(w, "  %s\n", uri)
		}
		for _, ledger := range []string{"lattice", "tangle"} {
			if at, ok := ready[ledger].(map[string]any); ok {
				for _, what := range slices.Sorted(maps.Keys(at)) {
					fmt.Fprintf(w, "%-8s %s %v\n", ledger, what, at[what])
				}
			}
		}
		for _, door := range []string{"chain", "http", "metrics", "mqtt", "coap", "coaps"} {
			if at, ok := ready[door]; ok {
				fmt.Fprintf(w, "%-8s %v\n", door, at)
			}
		}
	})
}

func mineEvery(ctx context.Context, m minerChain, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			m.Mine(1)
		}
	}
}
