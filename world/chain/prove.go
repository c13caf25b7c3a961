package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/watch"
)

// A Prover is a source that can prove where a transaction is without showing its
// whole block.
type Prover interface {
	// Prove returns the transaction that makes an output, and the proof that it
	// is in the block at the proof's height.
	Prove(ctx context.Context, point wire.OutPoint) (*wire.MsgTx, merkle.Proof, error)
}

// prove fills in the proofs that coins lack.
func prove(ctx context.Context, s Source, coins []watch.Coin, tip int32) error {
	for i := range coins {
		c := &coins[i]
		if c.Depth == 0 || c.Proof != nil && c.Tx != nil {
			continue
		}
		var proof merkle.Proof
		var err error
		switch s := s.(type) {
		case Prover:
			c.Tx, proof, err = s.Prove(ctx, c.Point)
		case Blocker:
			c.Tx, proof, err = proveByBlock(ctx, s, c.Point.Hash, tip-c.Depth+1)
		default:
			err = errors.New("this chain source proves nothing")
		}
		if err != nil {
			return fmt.Errorf("prove coin %v: %w", c.Point, err)
		}
		c.Proof = &proof
	}
	return nil
}

func proveByBlock(ctx context.Context, s Blocker, id chainhash.Hash, height int32) (*wire.MsgTx, merkle.Proof, error) {
	b, err := s.Block(ctx, height)
	if err != nil {
		return nil, merkle.Proof{}, err
	}
	ids := make([]chainhash.Hash, len(b.Transactions))
	at := -1
	for i, t := range b.Transactions {
		if ids[i] = t.TxHash(); ids[i] == id {
			at = i
		}
	}
	if at < 0 {
		return nil, merkle.Proof{}, fmt.Errorf("it is not in the block at height %d", height)
	}
	return b.Transactions[at], merkle.Proof{Height: height, Branch: merkle.Prove(ids, at)}, nil
}

// MaxHeaders bounds an answer of HeadersAfter.
const MaxHeaders = 2000

// maxBack is how far HeadersAfter goes back to find what the asker has.
const maxBack = 50_000

// HeadersAfter lists the headers that follow the first hash of a locator that is
// in the best chain; if none is, those from the first the source has.
func HeadersAfter(ctx context.Context, s Source, ask watch.HeadersAfter) (watch.Headers, error) {
	known := make(map[chainhash.Hash]bool, len(ask.Locator))
	for _, hash := range ask.Locator {
		known[hash] = true
	}
	answer := watch.Headers{To: ask.To}
	tip, _, err := s.Tip(ctx)
	if err != nil {
		return answer, err
	}
	var back []wire.BlockHeader // from the tip down
	for height := tip; height > 0 && len(back) < maxBack; height-- {
		h, err := HeaderAt(ctx, s, height)
		if errors.Is(err, ErrNoBlock) {
			break
		}
		if err != nil {
			return answer, err
		}
		back = append(back, h)
		if known[h.PrevBlock] {
			break
		}
	}
	answer.From = tip - int32(len(back)) + 1
	for i := len(back) - 1; i >= 0 && len(answer.Headers) < MaxHeaders; i-- {
		answer.Headers = append(answer.Headers, back[i])
	}
	return answer, nil
}

// HeaderAt is the header of the best chain at a height.
func HeaderAt(ctx context.Context, s Source, height int32) (wire.BlockHeader, error) {
	switch s := s.(type) {
	case Headerer:
		return s.Header(ctx, height)
	case Blocker:
		b, err := s.Block(ctx, height)
		if err != nil {
			return wire.BlockHeader{}, err
		}
		return b.Header, nil
	}
	return wire.BlockHeader{}, errors.New("this chain source shows no headers")
}
