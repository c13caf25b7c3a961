package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// A Blocker is a source that can show whole blocks of the best chain, for who
// must see every transaction: a watchtower. A source that keeps whole blocks, or
// can ask for them, is one.
type Blocker interface {
	// Block is the block at a height, 0 being the first. ErrNoBlock says that the
	// best chain does not reach so far, or begins later for this source. It is
	// shared and must not be changed.
	Block(ctx context.Context, height int32) (*wire.MsgBlock, error)
}

// ErrNoBlock is what a source says of a height at which it has no block.
var ErrNoBlock = errors.New("no block at this height")

// maxBranch is how many blocks FollowBlocks goes back in a reorganisation: one
// that is longer is followed from there on.
const maxBranch = 1000

// FollowBlocks gives take every block of the best chain from a height on, in
// order, until ctx ends or take fails. After a reorganisation it goes on with the
// first block that is new. A source that does not answer is told to fail and
// asked again.
func FollowBlocks(ctx context.Context, s Source, from int32, take func(height int32, txs []*wire.MsgTx) error, fail func(error)) error {
	b, ok := s.(Blocker)
	if !ok {
		return errors.New("this chain source shows no whole blocks; use regtest:, p2p://, btcd:// or bitcoind://")
	}
	f := &blocks{source: s, show: b, next: from}
	for ctx.Err() == nil {
		changed := s.Changed()
		var retry <-chan time.Time
		var stop stopped
		if err := f.catchUp(ctx, take); errors.As(err, &stop) {
			return stop.error
		} else if err != nil {
			if ctx.Err() == nil {
				fail(err)
			}
			retry = time.After(RetryPause)
		}
		select {
		case <-changed:
		case <-retry:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// stopped is an error of who takes the blocks.
type stopped struct{ error }

type blocks struct {
	source Source
	show   Blocker
	next   int32
	hashes []chainhash.Hash // of the blocks before next, the last one last
}

func (f *blocks) catchUp(ctx context.Context, take func(int32, []*wire.MsgTx) error) error {
	tip, _, err := f.source.Tip(ctx)
	if err != nil {
		return err
	}
	if err := f.rewind(ctx); err != nil {
		return err
	}
	for ; f.next <= tip; f.next++ {
		b, err := f.show.Block(ctx, f.next)
		switch {
		case errors.Is(err, ErrNoBlock) && len(f.hashes) == 0:
			continue // it is older than what the source has
		case err != nil:
			return fmt.Errorf("block at height %d: %w", f.next, err)
		}
		if err := take(f.next, b.Transactions); err != nil {
			return stopped{err}
		}
		if f.hashes = append(f.hashes, b.BlockHash()); len(f.hashes) > maxBranch {
			f.hashes = f.hashes[1:]
		}
	}
	return nil
}

// rewind goes back to the last block that is still in the chain.
func (f *blocks) rewind(ctx context.Context) error {
	for len(f.hashes) > 0 {
		b, err := f.show.Block(ctx, f.next-1)
		if err != nil && !errors.Is(err, ErrNoBlock) {
			return err
		}
		if last := f.hashes[len(f.hashes)-1]; err == nil && b.BlockHash() == last {
			return nil
		}
		f.hashes = f.hashes[:len(f.hashes)-1]
		f.next--
	}
	return nil
}
