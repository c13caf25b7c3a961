package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
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

// MaxProofs bounds the proofs that are remembered.
const MaxProofs = MaxWatched

// proofs remembers where coins are, for as long as blocks only come on top: who
// watches many coins would have as many blocks fetched at every change of the tip.
type proofs struct {
	tip   chainhash.Hash
	known map[wire.OutPoint]proved
}

type proved struct {
	tx    *wire.MsgTx
	proof merkle.Proof
}

// follow forgets everything unless the tip has stayed, or one block came on top.
func (p *proofs) follow(ctx context.Context, s Source) {
	height, tip, err := s.Tip(ctx)
	if err == nil && tip == p.tip {
		return
	}
	if err == nil && p.known != nil {
		var h wire.BlockHeader
		if h, err = HeaderAt(ctx, s, height); err == nil && h.PrevBlock == p.tip && h.BlockHash() == tip {
			p.tip = tip
			return
		}
	}
	p.tip, p.known = tip, map[wire.OutPoint]proved{}
}

// prove fills in the proofs that coins lack.
func prove(ctx context.Context, s Source, coins []watch.Coin, tip int32, p *proofs) error {
	for i := range coins {
		c := &coins[i]
		if c.Depth == 0 || c.Proof != nil && c.Tx != nil {
			continue
		}
		if k, ok := p.known[c.Point]; ok && k.proof.Height == tip-c.Depth+1 {
			c.Tx, c.Proof = k.tx, &k.proof
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
		if len(p.known) >= MaxProofs {
			clear(p.known)
		}
		p.known[c.Point] = proved{c.Tx, proof}
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

// maxBack is how far HeadersAfter goes back to find what the asker has, block by
// block, in a source that does not know where a hash is.
const maxBack = 50_000

// A Heighter is a source that knows at which height a block of the best chain is.
// It need not know all of them.
type Heighter interface {
	Height(ctx context.Context, hash chainhash.Hash) (height int32, known bool, err error)
}

// HeadersAfter lists the headers that follow the first hash of a locator that is
// in the best chain; if none is, those from the first the source has.
func HeadersAfter(ctx context.Context, s Source, ask watch.HeadersAfter) (watch.Headers, error) {
	answer := watch.Headers{To: ask.To, At: ask.At, From: ask.At}
	tip, _, err := s.Tip(ctx)
	if err != nil {
		return answer, err
	}
	last := tip
	if ask.At > 0 {
		last = min(tip, (ask.At+header.Interval-1)/header.Interval*header.Interval)
	} else if answer.From, err = following(ctx, s, ask.Locator, tip); err != nil {
		return answer, err
	}
	for height := answer.From; height <= last && len(answer.Headers) < MaxHeaders; height++ {
		h, err := HeaderAt(ctx, s, height)
		if err != nil {
			return answer, err
		}
		answer.Headers = append(answer.Headers, h)
	}
	return answer, nil
}

// following is the height above the first hash of a locator that is in the best
// chain.
func following(ctx context.Context, s Source, locator []chainhash.Hash, tip int32) (int32, error) {
	if h, ok := s.(Heighter); ok {
		for _, hash := range locator {
			if height, known, err := h.Height(ctx, hash); err != nil || known {
				return height + 1, err
			}
		}
		return 1, nil
	}
	known := make(map[chainhash.Hash]bool, len(locator))
	for _, hash := range locator {
		known[hash] = true
	}
	height := tip + 1
	for height > max(1, tip-maxBack) {
		h, err := HeaderAt(ctx, s, height-1)
		if errors.Is(err, ErrNoBlock) {
			break
		}
		if err != nil {
			return 0, err
		}
		if known[h.BlockHash()] {
			break
		}
		height--
	}
	return height, nil
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
