//go:build !omit_electrum

package main

import (
	"context"
	"errors"

	"coinop.dev/world/chain"
	"coinop.dev/world/chain/electrum"
)

func (s *station) serveElectrum(addr string) (uri string, stop func() error, err error) {
	if s.Chain == nil {
		return "", nil, errors.New("an Electrum server shows a chain; configure one that has whole blocks: regtest:, btcd:// or bitcoind://")
	}
	o := electrum.ServerOptions{
		Source: s.Chain, Listen: addr, Banner: s.Config.Name,
		OnDrop: func(client string, reason error) {
			s.Engine.Log.Debug("electrum client", "client", client, "err", reason)
		},
		OnDown: func(err error) { s.Engine.Log.Debug("electrum", "err", err) },
	}
	if r, ok := s.Chain.(chain.Ruled); ok {
		o.Params = r.Rules()
	}
	e, err := electrum.Serve(context.Background(), o)
	if err != nil {
		return "", nil, err
	}
	return "electrum://" + e.Addr(), e.Close, nil
}
