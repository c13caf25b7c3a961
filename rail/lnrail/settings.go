package lnrail

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/engine"
	"coinop.dev/rail"
)

// settings are what a rail's URI says. Besides what the node itself takes:
//
//	capacity, push, public, static   of the channel to the peer that the URI names
//	tower=<node>@<host>:<port>       that machine watches the channels while this one is away
//	tower_base, tower_ppm            the largest reward it may take of what it wins back
//	watch=1                          this machine watches for others
//	watch_base, watch_ppm            for this reward
//	autopen=<amount>                 a channel is opened when less than that can be sent
//	autopen_to, autopen_size         to whom (if not to the URI's peer), and how large
//	autopen_count, autopen_sum       at most so many within a day, and so much
type settings struct {
	node   node.Config
	guards guards
	auto   string    // where the peer of automatic openings is found
	addr   string    // of the peer that the rail pays by; empty: it is paid
	open   node.Open // the channel to that peer
	host   string    // where payers find this machine
}

// defaultCapacity is that of a channel which nobody said the size of.
const defaultCapacity = 1_000_000 * money.Sat

func read(u *url.URL, key keys.Secret) (s settings, err error) {
	q := rail.Query(u)
	if s.node, err = configure(q, key); err != nil {
		return s, err
	}
	s.open = node.Open{
		Capacity: q.Amount("capacity", defaultCapacity).Sats(),
		Push:     q.Amount("push", 0),
		Public:   q.Int("public", 0, 0, 1) == 1,
		Static:   q.Int("static", 0, 0, 1) == 1,
	}
	s.host = q.Text("host", "")
	if u.User != nil || u.Host != "" {
		if s.open.Peer, s.addr, err = engine.Address(u.User.Username() + "@" + u.Host); err != nil {
			return s, err
		}
	}
	if s.guards, err = readGuards(q, key); err != nil {
		return s, err
	}
	s.node.Tower = s.guards.client != nil
	if err := s.readAuto(q); err != nil {
		return s, err
	}
	return s, q.Close()
}

// readAuto reads when channels are opened automatically, to whom, and how many.
func (s *settings) readAuto(q *rail.Params) (err error) {
	a := node.Auto{
		Peer: s.open.Peer, Public: s.open.Public,
		Below:    q.Amount("autopen", 0),
		Capacity: q.Amount("autopen_size", money.Amount(s.open.Capacity)*money.Sat).Sats(),
		MaxCount: q.Int("autopen_count", 1, 1, node.MaxAuto),
	}
	a.MaxSum = q.Amount("autopen_sum", money.Amount(a.Capacity)*money.Amount(a.MaxCount)*money.Sat).Sats()
	s.auto = s.addr
	if to := q.Text("autopen_to", ""); to != "" {
		if a.Peer, s.auto, err = engine.Address(to); err != nil {
			return fmt.Errorf("parameter autopen_to: %w", err)
		}
	}
	if a.Below > 0 && s.auto == "" {
		return errors.New("parameter autopen: say to whom with autopen_to=<node>@<host>:<port>")
	}
	s.node.Auto = a
	return nil
}

var networks = map[string]*chaincfg.Params{
	"mainnet": &chaincfg.MainNetParams, "testnet": &chaincfg.TestNet3Params, "signet": &chaincfg.SigNetParams,
	"regtest": &chaincfg.RegressionNetParams, "simnet": &chaincfg.SimNetParams,
}

var prefixes = map[string]string{
	"mainnet": invoice.Mainnet, "testnet": invoice.Testnet, "signet": invoice.Signet, "regtest": invoice.Regtest, "simnet": invoice.Simnet,
}

// configure reads the node's settings.
func configure(q *rail.Params, key keys.Secret) (c node.Config, err error) {
	network := q.Text("network", "regtest")
	if networks[network] == nil {
		return c, fmt.Errorf("parameter network: %.20q is not mainnet, testnet, signet, regtest or simnet", network)
	}
	c = node.Config{
		Chain: *networks[network].GenesisHash, Network: prefixes[network], Alias: q.Text("alias", ""),
		Policy: graph.Policy{
			FeeBase: q.Amount("fee_base", money.Sat), FeePPM: uint32(q.Int("fee_ppm", 100, 0, 1_000_000)),
			CLTVDelta: uint16(q.Int("cltv_delta", 40, 6, 2016)), Min: 1,
		},
		FinalCLTV:  uint32(q.Int("final_cltv", 18, 6, 2016)),
		MaxDust:    q.Amount("max_dust", 50_000*money.Sat),
		MinDepth:   int32(q.Int("min_depth", 1, 1, 144)),
		ClaimDepth: int32(q.Int("claim_depth", 6, 1, 144)),
		Delay:      uint16(q.Int("delay", 144, 1, 2016)),
		FeeRate:    int64(q.Int("fee_rate", 253, 253, 100_000)),
		Payout:     tx.P2WPKH(tx.WalletKey(key).Public()),
	}
	return c, nil
}
