package bccapi

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

var errNoHistory = &Error{InvalidRequest, "this server keeps no history: it tells balances and unspent outputs"}

func (s *Server) inventory(ctx context.Context, m InventoryRequest) (Message, error) {
	if s.history == nil {
		return nil, errNoHistory
	}
	if m.Limit < 0 || m.Limit > MaxTransactions {
		return nil, &Error{InvalidRequest, fmt.Sprintf("limit is %d; it is from 0 to %d", m.Limit, MaxTransactions)}
	}
	all, err := s.ours(m.Addresses)
	if err != nil {
		return nil, err
	}
	limit := int(m.Limit)
	var items []InventoryItem
	height, err := s.still(ctx, func() error {
		items = nil
		seen := map[chainhash.Hash]bool{}
		for _, script := range all {
			found, err := s.history.Transactions(ctx, script, limit)
			if err != nil {
				return err
			}
			for _, t := range found {
				if id := t.Tx.TxHash(); !seen[id] {
					seen[id] = true
					items = append(items, InventoryItem{id, t.Height})
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(items, func(a, b InventoryItem) int {
		return cmp.Or(cmp.Compare(age(b.Height), age(a.Height)), slices.Compare(a.ID[:], b.ID[:]))
	})
	return InventoryResponse{items[:min(limit, len(items))], height}, nil
}

// age orders heights so that what waits is newer than any block.
func age(height int32) int32 {
	if height == Waiting {
		return math.MaxInt32
	}
	return height
}

func (s *Server) summary(ctx context.Context, m SummaryRequest) (Message, error) {
	if s.history == nil {
		return nil, errNoHistory
	}
	if len(m.IDs) > MaxTransactions {
		return nil, &Error{InvalidRequest, fmt.Sprintf("%d transactions; the limit is %d", len(m.IDs), MaxTransactions)}
	}
	var all []Summary
	height, err := s.still(ctx, func() error {
		all = nil
		l := lookups{history: s.history, known: map[chainhash.Hash]*wire.MsgTx{}}
		for _, id := range m.IDs {
			t, err := s.history.Transaction(ctx, id)
			if err != nil {
				return err
			}
			if t.Tx == nil {
				return &Error{InvalidRequest, fmt.Sprintf("transaction %v is not known here", id)}
			}
			one, err := s.summarise(ctx, id, t, &l)
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return SummaryResponse{all, height}, nil
}

// lookups are the previous transactions of one request.
type lookups struct {
	history History
	known   map[chainhash.Hash]*wire.MsgTx
}

func (l *lookups) output(ctx context.Context, point wire.OutPoint) (*wire.TxOut, error) {
	t, known := l.known[point.Hash]
	if !known {
		if len(l.known) >= MaxLookups {
			return nil, &Error{InvalidRequest, fmt.Sprintf("the transactions spend those of more than %d others; ask for fewer", MaxLookups)}
		}
		found, err := l.history.Transaction(ctx, point.Hash)
		if err != nil {
			return nil, err
		}
		t = found.Tx
		l.known[point.Hash] = t
	}
	if t == nil || uint64(point.Index) >= uint64(len(t.TxOut)) {
		return nil, fmt.Errorf("history has no output %v, which is spent", point)
	}
	return t.TxOut[point.Index], nil
}

func (s *Server) summarise(ctx context.Context, id chainhash.Hash, t Transaction, l *lookups) (Summary, error) {
	one := Summary{ID: id, Height: t.Height, Time: int32(max(0, min(t.Time.Unix(), math.MaxInt32)))}
	if n := max(len(t.Tx.TxIn), len(t.Tx.TxOut)); n > MaxItems {
		return one, &Error{InvalidRequest, fmt.Sprintf("transaction %v has %d inputs or outputs; a summary holds %d", id, n, MaxItems)}
	}
	var made int64
	for _, out := range t.Tx.TxOut {
		made += out.Value
		one.Outputs = append(one.Outputs, Item{paid(out.PkScript, s.params), out.Value})
	}
	for _, in := range t.Tx.TxIn {
		if in.PreviousOutPoint == *wire.NewOutPoint(&chainhash.Hash{}, math.MaxUint32) {
			// A block reward is from nobody: an input that is not there would make
			// the client believe that all senders are itself.
			one.Inputs = append(one.Inputs, Item{paid(nil, s.params), made})
			continue
		}
		out, err := l.output(ctx, in.PreviousOutPoint)
		if err != nil {
			return one, err
		}
		one.Inputs = append(one.Inputs, Item{paid(out.PkScript, s.params), out.Value})
	}
	return one, nil
}
