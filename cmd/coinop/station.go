package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/node"
	"coinop.dev/engine"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/till"
	"coinop.dev/world/chain"
	"coinop.dev/world/generation"
	"coinop.dev/world/secret"
	"coinop.dev/world/store"

	_ "coinop.dev/rail/all"
	_ "coinop.dev/world/chain/all"
	_ "coinop.dev/world/secret/all"
	_ "coinop.dev/world/store/all"
)

// A station is a machine as a config file describes it: its store and key, its
// purse, its till and their rails. serve and pay run one, the demo two.
type station struct {
	Config
	home    secret.Home // of the key
	key     keys.Secret
	db      store.DB
	chain   chain.Source
	machine *engine.Machine
	purse   *purse.Purse
	till    *till.Till
	rails   []*rail.Rail
	addr    string // where it listens

	ownsChain bool
}

// openStation opens everything but the rails. source is the chain to use, or
// nil to open the one that the config names.
func openStation(ctx context.Context, c Config, source chain.Source, log *slog.Logger) (s *station, err error) {
	s = &station{Config: c, chain: source}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.home, err = c.home(); err != nil {
		return s, err
	}
	if s.key, err = machineKey(s.home); err != nil {
		return s, err
	}
	if s.db, err = store.Default.Open(c.store()); err != nil {
		return s, err
	}
	o := engine.Options{Key: s.key, DB: s.db, Log: log}
	if c.remembers() {
		if o.Start, err = s.begin(); err != nil {
			return s, err
		}
		o.Backup = c.backup()
	}
	if s.chain == nil && c.Chain != "" {
		if s.chain, err = chain.Default.Open(ctx, c.Chain); err != nil {
			return s, exit{err, exitConnect}
		}
		s.ownsChain = true
	}
	o.Chain = s.chain
	s.machine = engine.New(ctx, o)
	if s.purse, err = purse.Open(ctx, s.machine, c.limits()); err != nil {
		return s, err
	}
	if c.Listen != "" {
		addr, err := s.machine.Listen(c.Listen)
		if err != nil {
			return s, err
		}
		s.addr = addr.String()
	}
	return s, s.openTill(ctx)
}

// begin counts the start. It fails if the store may be an old copy, unless the
// owner accepts that: then Lightning channels are given up first.
func (s *station) begin() (uint64, error) {
	counter := s.counter(s.home, s.key.Public())
	start, err := generation.Begin(s.db, counter)
	var stale *generation.Stale
	if !s.AcceptStale || !errors.As(err, &stale) {
		return start, err
	}
	records, err := node.GiveUp(s.db, s.key)
	if err == nil {
		err = s.db.Commit(records)
	}
	if err != nil {
		return 0, err
	}
	return generation.Accept(s.db, counter, 0)
}

// openTill opens the till if the station earns. Its rails come after it, so
// that their outcomes find its book.
func (s *station) openTill(ctx context.Context) (err error) {
	if s.addr == "" {
		return nil
	}
	sources := map[string]till.Device{}
	for _, item := range s.Sell {
		sources[item.Item] = devices[item.From]()
	}
	device := func(ctx context.Context, d earn.Deliver) ([]byte, error) {
		if sources[d.Item] == nil {
			return nil, fmt.Errorf("nothing delivers %q", d.Item)
		}
		return sources[d.Item](ctx, d)
	}
	var payTo []string
	for _, uri := range s.earning() {
		scheme, _, _ := strings.Cut(uri, ":")
		payTo = append(payTo, fmt.Sprintf("%s://%v@%s", scheme, s.key.Public(), s.addr))
	}
	s.till, err = till.Open(ctx, s.machine, till.Options{Items: s.items(), PayTo: payTo, Device: device})
	return err
}

// earning lists the rails that name no payee.
func (s *station) earning() (uris []string) {
	for _, uri := range s.Rails {
		if u, err := rail.Default.Parse(uri); err == nil && u.Host == "" && u.User == nil {
			uris = append(uris, uri)
		}
	}
	return uris
}

// openRails opens the rails of the config, those that earn first.
func (s *station) openRails(ctx context.Context) error {
	earning := s.earning()
	for _, uri := range earning {
		if s.addr != "" && !strings.Contains(uri, "host=") {
			sep := "?"
			if strings.Contains(uri, "?") {
				sep = "&"
			}
			uri += sep + "host=" + s.addr
		}
		if _, err := s.openRail(ctx, uri); err != nil {
			return err
		}
	}
	for _, uri := range s.Rails {
		if slices.Contains(earning, uri) {
			continue
		}
		if _, err := s.openRail(ctx, uri); err != nil {
			return err
		}
	}
	return nil
}

func (s *station) openRail(ctx context.Context, uri string) (*rail.Rail, error) {
	uri, err := s.seeded(uri)
	if err != nil {
		return nil, err
	}
	r, err := rail.Default.Open(ctx, uri, rail.Env{Machine: s.machine, Rail: s.rail})
	if err != nil {
		return nil, err
	}
	s.rails = append(s.rails, r)
	if _, earns := rail.As[rail.Biller](r); !earns {
		err = s.purse.Hold(ctx, r)
	}
	return r, err
}

// rail finds an open rail by its scheme.
func (s *station) rail(scheme string) *rail.Rail {
	for _, r := range s.rails {
		if r.Scheme() == scheme {
			return r
		}
	}
	return nil
}

// close stops the machine and closes what it stood on. It does not close
// channels.
func (s *station) close() error {
	var errs []error
	if s.machine != nil {
		errs = append(errs, s.machine.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.ownsChain {
		errs = append(errs, s.chain.Close())
	}
	if s.home != nil {
		errs = append(errs, s.home.Close())
	}
	return errors.Join(errs...)
}

// wallet is where the station's money on chain is.
func (s *station) wallet() keys.Secret { return tx.WalletKey(s.key) }
