package p2p

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/world/chain"
)

const (
	// MaxPending bounds the transactions kept until they are mined for good.
	MaxPending = 256

	// Settled is the depth at which a transaction is no longer kept: no
	// reorganisation we expect reaches it.
	Settled = 6

	// AskTimeout is how long a node may take to ask for a transaction that was
	// announced. It is then sent anyway: some nodes remember for a while what
	// they have refused and do not ask.
	AskTimeout = time.Second

	// PublishTimeout is how long Publish waits for a verdict.
	PublishTimeout = 10 * time.Second
)

// A publication is a transaction that is sent to every node we connect to until
// it is mined.
type publication struct {
	tx      *wire.MsgTx
	id      chainhash.Hash
	sent    bool         // to the node we are connected to
	known   bool         // that node has it
	asked   int          // times it was asked back and not answered yet
	waiting []chan error // calls of Publish; each channel has room for its verdict
}

func (p *publication) tell(verdict error) {
	for _, w := range p.waiting {
		w <- verdict
	}
	p.waiting = nil
}

func (p *publication) forgetNode(why error) {
	p.sent, p.known, p.asked = false, false, 0
	p.tell(why)
}

// A finding is what the node lets us know of a transaction.
type finding int

const (
	accepted finding = iota // it sends it, so it has it
	refused                 // it says so (BIP 61)
	unknown                 // it has not got it
)

// Publish implements chain.Source. It announces t, sends it when asked, and asks
// for it back: a node that has it took it. A node that says why it refused t
// (BIP 61: ours and btcd do) makes that the error. t is kept and sent again to
// every later connection until it is mined, unless it was refused.
func (c *Client) Publish(ctx context.Context, t *wire.MsgTx) error {
	n, p, verdict, err := c.propose(t)
	if n == nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, PublishTimeout, fmt.Errorf("node %s says nothing of transaction %v", n.conn.Addr(), p.id))
	defer cancel()
	announce := wire.NewMsgInv()
	announce.InvList = []*wire.InvVect{wire.NewInvVect(wire.InvTypeTx, &p.id)}
	defer c.leave(p, verdict)
	if err := errors.Join(n.conn.Write(announce), n.askBack(p)); err != nil {
		return err
	}
	push := time.NewTimer(AskTimeout)
	defer push.Stop()
	for {
		select {
		case err := <-verdict:
			return err
		case <-push.C:
			if err := n.send(p); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("%w; it is kept and sent again", context.Cause(ctx))
		}
	}
}

// propose keeps t for publication and returns the node to send it to. Without
// one, err is the answer.
func (c *Client) propose(t *wire.MsgTx) (n *node, p *publication, verdict chan error, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ready(); err != nil && !errors.Is(err, chain.ErrSyncing) {
		return nil, nil, nil, err
	}
	if size := t.SerializeSize(); size > tx.MaxSize {
		return nil, nil, nil, fmt.Errorf("%w: it is %d bytes; the limit is %d", chain.ErrRefused, size, tx.MaxSize)
	}
	id := t.TxHash()
	if mined, _ := c.ledger.Tx(id); mined != nil {
		return nil, nil, nil, nil
	}
	for _, in := range t.TxIn {
		if other, depth := c.ledger.Spender(in.PreviousOutPoint); other != nil {
			return nil, nil, nil, fmt.Errorf("%w: %v is spent by %v at depth %d", chain.ErrRefused, in.PreviousOutPoint, other.TxHash(), depth)
		}
	}
	if p = c.publication(id); p == nil {
		if len(c.pending) == MaxPending {
			return nil, nil, nil, fmt.Errorf("%d published transactions wait for a block, which is the limit", MaxPending)
		}
		p = &publication{tx: t.Copy(), id: id}
		c.pending = append(c.pending, p)
	}
	switch {
	case c.node == nil:
		return nil, nil, nil, fmt.Errorf("kept until there is a connection: %w", c.trouble)
	case p.known:
		return nil, nil, nil, nil
	}
	verdict = make(chan error, 1)
	p.waiting = append(p.waiting, verdict)
	return c.node, p, verdict, nil
}

func (c *Client) publication(id chainhash.Hash) *publication {
	i := slices.IndexFunc(c.pending, func(p *publication) bool { return p.id == id })
	if i < 0 {
		return nil
	}
	return c.pending[i]
}

// leave takes a call of Publish off those who wait.
func (c *Client) leave(p *publication, verdict chan error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.waiting = slices.DeleteFunc(p.waiting, func(w chan error) bool { return w == verdict })
}

// verdict takes note of what the node lets us know of a transaction.
func (c *Client) verdict(id chainhash.Hash, f finding, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.publication(id)
	if p == nil {
		return
	}
	if f != refused {
		p.asked = max(0, p.asked-1)
	}
	switch {
	case f == accepted:
		p.known = true
		p.tell(nil)
	case f == refused && len(p.waiting) == 0:
		// Sent again after a reorganisation, it may only be too early, and nobody
		// would hear that it was dropped.
	case f == refused:
		c.pending = slices.DeleteFunc(c.pending, func(q *publication) bool { return q == p })
		p.tell(fmt.Errorf("%w: %v: node says %.400q", chain.ErrRefused, id, reason))
	case p.sent && p.asked == 0:
		// Only the last answer counts: one before it may be from before the node
		// was sent the transaction.
		p.tell(fmt.Errorf("node did not take transaction %v and does not say why; it is kept and sent again", id))
	}
}

// prune forgets what is settled: mined deep enough, or made impossible by what
// is.
func (c *Client) prune() {
	c.pending = slices.DeleteFunc(c.pending, func(p *publication) bool {
		if _, depth := c.ledger.Tx(p.id); depth >= Settled {
			p.tell(nil)
			return true
		}
		for _, in := range p.tx.TxIn {
			other, depth := c.ledger.Spender(in.PreviousOutPoint)
			if other != nil && depth >= Settled && other.TxHash() != p.id {
				p.tell(fmt.Errorf("%w: %v is spent by %v at depth %d", chain.ErrRefused, in.PreviousOutPoint, other.TxHash(), depth))
				return true
			}
		}
		return false
	})
}

// rebroadcast announces what has no block, parents first, as it was published.
func (n *node) rebroadcast() error {
	c, inv := n.client, wire.NewMsgInv()
	var again []*publication
	c.mu.Lock()
	for _, p := range c.pending {
		if mined, _ := c.ledger.Tx(p.id); mined == nil {
			p.sent, p.known = false, false
			again = append(again, p)
			inv.InvList = append(inv.InvList, wire.NewInvVect(wire.InvTypeTx, &p.id))
		}
	}
	c.mu.Unlock()
	if len(again) == 0 {
		return nil
	}
	return errors.Join(n.conn.Write(inv), n.askBack(again...))
}

// serve sends the transactions of ours that the node asks for.
func (n *node) serve(msg *wire.MsgGetData) error {
	for _, iv := range msg.InvList {
		n.client.mu.Lock()
		p := n.client.publication(iv.Hash)
		n.client.mu.Unlock()
		if p == nil || iv.Type&^wire.InvWitnessFlag != wire.InvTypeTx {
			continue
		}
		if err := n.send(p); err != nil {
			return err
		}
	}
	return nil
}

// send sends a transaction and asks for it back.
func (n *node) send(p *publication) error {
	if err := n.conn.Write(p.tx); err != nil {
		return err
	}
	n.client.mu.Lock()
	p.sent = true
	n.client.mu.Unlock()
	return n.askBack(p)
}

func (n *node) askBack(ps ...*publication) error {
	ask := wire.NewMsgGetData()
	n.client.mu.Lock()
	for _, p := range ps {
		p.asked++
		ask.InvList = append(ask.InvList, wire.NewInvVect(wire.InvTypeWitnessTx, &p.id))
	}
	n.client.mu.Unlock()
	return n.conn.Write(ask)
}
