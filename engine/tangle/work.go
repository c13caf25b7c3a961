package tanglenet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
)

const (
	// DefaultZeros takes some half a million tries: what a block of 350 bytes needs
	// where the score is IOTA's 1500.
	DefaultZeros = 12
	// MaxWorks bounds the blocks whose work waits or is done at a time. Half of the
	// processors work, for one block each.
	MaxWorks = 64
	// WorkTime bounds the work for one block.
	WorkTime = time.Minute
	// freshTips is how long work is done for the same tips, which grow old.
	freshTips = 10 * time.Second
	// someSteps is how often a search looks whether it is still wanted.
	someSteps = 16
)

// Errors of submitting. Those of the core are node's.
var (
	// ErrNonce says that a block has a nonce and no parents, which its work is for.
	ErrNonce = errors.New("the block has a nonce and no parents; leave out both, or do the work for the parents that it names")
	// ErrWorks says that too much work waits.
	ErrWorks = fmt.Errorf("the work of %d blocks waits already; try again, or do it before submitting the block", MaxWorks)

	errWorkTime = fmt.Errorf("the work of the block was not done within %v; do it before submitting the block", WorkTime)
)

// works is the work that is being done.
type works struct{ places, processors chan struct{} }

func newWorks() works {
	return works{make(chan struct{}, MaxWorks), make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// find does work when a processor is free.
func (w *works) find(ctx context.Context, unworked []byte, zeros int) (nonce uint64, err error) {
	select {
	case w.processors <- struct{}{}:
		defer func() { <-w.processors }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return Work(ctx, unworked, zeros)
}

// Work searches a nonce that gives a block so many trailing zero trits, at most
// tangle.MaxZeros, until it is found or not wanted any more.
func Work(ctx context.Context, unworked []byte, zeros int) (nonce uint64, err error) {
	search := tangle.NewSearch(unworked, zeros)
	for from := rand.Uint64(); ctx.Err() == nil; {
		for range someSteps {
			if nonce, found := search.Step(from); found {
				return nonce, nil
			}
			from += tangle.Lanes
		}
	}
	return 0, ctx.Err()
}

// Submit has a payload attached: a transaction or tagged data. The node attaches it
// again while no milestone includes it; a payload that is submitted again is not.
func (n *Node) Submit(ctx context.Context, p tangle.Payload) (node.Attached, error) {
	return n.Attach(ctx, &tangle.Block{Protocol: tangle.Protocol, Payload: p})
}

// Attach has a block attached, and does what is missing: parents if it has none, and
// work if its nonce is 0 and the network wants work of it. Little work the core does
// by itself, more is done here, at most MaxZeros of it.
func (n *Node) Attach(ctx context.Context, b *tangle.Block) (node.Attached, error) {
	loose := len(b.Parents) == 0
	if loose && b.Nonce != 0 {
		return node.Attached{}, ErrNonce
	}
	if loose && b.Payload != nil {
		full := *b
		full.Parents = make([]tangle.BlockID, tangle.MaxParents)
		if n.zeros(&full) <= n.Config.MaxWork {
			return n.submit(ctx, node.Submit{Payload: b.Payload})
		}
	}
	whole, err := n.worked(ctx, b)
	if err != nil {
		return node.Attached{}, err
	}
	return n.submit(ctx, node.Submit{Block: whole.Append(nil)})
}

func (n *Node) submit(ctx context.Context, s node.Submit) (node.Attached, error) {
	s.ID = fmt.Sprintf("submit/%d", n.asked.Add(1))
	v, err := n.machine.Host.Ask(ctx, node.Core, s.ID, s)
	attached, _ := v.(node.Attached)
	return attached, err
}

// zeros is how many trailing zero trits a block needs.
func (n *Node) zeros(b *tangle.Block) int {
	return n.Config.Network.ZerosNeeded(len(b.AppendUnworked(nil)) + tangle.NonceSize)
}

// worked is a block with parents and enough work, if that is to be done here.
func (n *Node) worked(ctx context.Context, b *tangle.Block) (*tangle.Block, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, WorkTime, errWorkTime)
	defer cancel()
	for {
		whole := *b
		if len(b.Parents) == 0 {
			tips, err := n.Tips(ctx)
			if err != nil {
				return nil, err
			}
			whole.Parents = tips
		}
		err := n.work(ctx, &whole, len(b.Parents) == 0)
		switch {
		case err == nil:
			return &whole, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !errors.Is(err, context.DeadlineExceeded):
			return nil, err
		}
	}
}

// work does the work of a block that has none and needs some. If its parents are tips
// it ends early: newer ones are better.
func (n *Node) work(ctx context.Context, b *tangle.Block, tips bool) error {
	zeros := n.zeros(b)
	if b.Nonce != 0 || zeros == 0 || tangle.Zeros(b.Append(nil)) >= zeros {
		return nil // the core looks whether it is enough
	}
	if zeros > n.MaxZeros {
		return node.ErrWork
	}
	select {
	case n.works.places <- struct{}{}:
		defer func() { <-n.works.places }()
	default:
		return ErrWorks
	}
	if tips {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, freshTips)
		defer cancel()
	}
	var err error
	b.Nonce, err = n.works.find(ctx, b.AppendUnworked(nil), zeros)
	return err
}
