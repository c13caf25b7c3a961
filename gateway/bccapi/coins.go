package bccapi

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
)

var errMoved = errors.New("the tip keeps changing")

// ours are the addresses of a request and what pays them.
type ours map[Address][]byte

func (s *Server) ours(addresses []Address) (ours, error) {
	if len(addresses) > MaxAddresses {
		return nil, &Error{InvalidRequest, fmt.Sprintf("%d addresses; the limit is %d", len(addresses), MaxAddresses)}
	}
	all := ours{}
	for _, a := range addresses {
		script, err := a.Script(s.params)
		if err != nil {
			return nil, &Error{InvalidRequest, err.Error()}
		}
		all[a] = script
	}
	return all, nil
}

// still calls look until the tip is the same before and after, and returns its
// height.
func (s *Server) still(ctx context.Context, look func() error) (int32, error) {
	for range maxMoves {
		height, hash, err := s.options.Source.Tip(ctx)
		if err != nil {
			return 0, err
		}
		if err := look(); err != nil {
			return 0, err
		}
		if _, now, err := s.options.Source.Tip(ctx); err != nil {
			return 0, err
		} else if now == hash {
			return height, nil
		}
	}
	return 0, errMoved
}

// look finds the coins of addresses, in the order of the request.
func (s *Server) look(ctx context.Context, addresses []Address) (height int32, all ours, coins []owned, err error) {
	if all, err = s.ours(addresses); err != nil {
		return 0, nil, nil, err
	}
	height, err = s.still(ctx, func() error {
		coins = nil
		seen := map[Address]bool{}
		for _, a := range addresses {
			if seen[a] {
				continue
			}
			seen[a] = true
			found, err := s.options.Source.Coins(ctx, all[a])
			if err != nil {
				return err
			}
			if len(coins)+len(found) > MaxOutputs {
				return &Error{InvalidRequest, fmt.Sprintf("the addresses have more than %d outputs; ask for fewer", MaxOutputs)}
			}
			for _, c := range found {
				coins = append(coins, owned{c, all[a]})
			}
		}
		return nil
	})
	return height, all, coins, err
}

type owned struct {
	watch.Coin
	script []byte
}

// sets are the three that the protocol has. A reward that is not ripe is in none.
func (s *Server) sets(height int32, all ours, coins []owned) UnspentResponse {
	m := UnspentResponse{Height: height}
	for _, c := range coins {
		o := Output{Point: c.Point, Height: Waiting, Value: c.Value, Script: c.script}
		switch {
		case c.Depth > 0 && c.Spendable():
			o.Height = height - c.Depth + 1
			m.Unspent = append(m.Unspent, o)
		case c.Depth > 0:
		case s.own(c.Tx, all):
			m.Change = append(m.Change, o)
		default:
			m.Receiving = append(m.Receiving, o)
		}
	}
	return m
}

// own tells whether a transaction spends coins of these addresses only: nobody
// else can replace it. One that is not known is not.
func (s *Server) own(t *wire.MsgTx, all ours) bool {
	if t == nil {
		return false
	}
	for _, in := range t.TxIn {
		if s.taken(in, all) == nil {
			return false
		}
	}
	return true
}

func (s *Server) unspent(ctx context.Context, m UnspentRequest) (Message, error) {
	height, all, coins, err := s.look(ctx, m.Addresses)
	if err != nil {
		return nil, err
	}
	return s.sets(height, all, coins), nil
}

func (s *Server) balance(ctx context.Context, m BalanceRequest) (Message, error) {
	height, all, coins, err := s.look(ctx, m.Addresses)
	if err != nil {
		return nil, err
	}
	sets, sum := s.sets(height, all, coins), func(set []Output) (all int64) {
		for _, o := range set {
			all += o.Value
		}
		return all
	}
	sending, err := s.sending(ctx, all, s.waiting(coins))
	if err != nil {
		return nil, err
	}
	return BalanceResponse{Balance{Unspent: sum(sets.Unspent), Receiving: sum(sets.Receiving), Sending: sending, Change: sum(sets.Change)}}, nil
}

// waiting is what is known to wait for a block.
func (s *Server) waiting(coins []owned) []*wire.MsgTx {
	if p, ok := s.options.Source.(chain.Pooler); ok {
		return p.MempoolTxs()
	}
	var txs []*wire.MsgTx
	seen := map[*wire.MsgTx]bool{}
	for _, c := range coins {
		if c.Depth == 0 && c.Tx != nil && !seen[c.Tx] {
			seen[c.Tx] = true
			txs = append(txs, c.Tx)
		}
	}
	return txs
}

// sending is what waiting transactions take from the addresses. What one gives
// back and another takes again counts once.
func (s *Server) sending(ctx context.Context, all ours, waiting []*wire.MsgTx) (sum int64, err error) {
	var takers []*wire.MsgTx
	for _, t := range waiting {
		if slices.ContainsFunc(t.TxIn, func(in *wire.TxIn) bool { return s.taken(in, all) != nil }) {
			takers = append(takers, t)
		}
	}
	if len(takers) == 0 {
		return 0, nil
	}
	byID := make(map[chainhash.Hash]*wire.MsgTx, len(waiting))
	for _, t := range waiting {
		byID[t.TxHash()] = t
	}
	lookups := 0
	for _, t := range takers {
		for _, in := range t.TxIn {
			script := s.taken(in, all)
			parent := byID[in.PreviousOutPoint.Hash]
			switch {
			case script == nil || slices.Contains(takers, parent):
			case parent != nil && int64(in.PreviousOutPoint.Index) < int64(len(parent.TxOut)):
				sum += parent.TxOut[in.PreviousOutPoint.Index].Value
			default:
				if lookups++; lookups > MaxLookups {
					return 0, &Error{InvalidRequest, fmt.Sprintf("transactions that wait spend more than %d coins of the addresses; ask for fewer", MaxLookups)}
				}
				status, err := s.options.Source.Status(ctx, watch.Output{Point: in.PreviousOutPoint, Script: script})
				if err != nil {
					return 0, err
				}
				sum += status.Value
			}
		}
	}
	return sum, nil
}

// taken is the script of the address whose coin an input spends, or nil.
func (s *Server) taken(in *wire.TxIn, all ours) []byte {
	a, ok := sender(in, s.params)
	if !ok {
		return nil
	}
	return all[a]
}
