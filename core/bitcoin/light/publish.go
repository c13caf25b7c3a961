package light

import (
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/step"
)

const (
	// MaxPending bounds the transactions kept until they are mined for good.
	MaxPending = 256

	// Settled is the depth at which a transaction is no longer kept: no
	// reorganisation we expect reaches it.
	Settled = 6

	// AskTime is how long a peer may take to ask for a transaction that was
	// announced. It is then sent anyway: some nodes remember for a while what
	// they have refused and do not ask.
	AskTime = step.Second

	// VerdictTime is how long the peers have to say that they took a transaction.
	VerdictTime = 10 * step.Second
)

// A publication is a transaction that is sent to every peer until it is mined.
type publication struct {
	tx      *wire.MsgTx
	id      chainhash.Hash
	since   step.Time // when the caller began to wait; 0 if none does
	peers   map[string]*offer
	reason  string // of the last peer that refused it
	taken   bool   // a peer took it once
	mined   bool
	watched bool // a script of it was added, to see it mined
}

// An offer is how far a publication has come with one peer. A peer is asked for
// the transaction back: one that has it took it.
type offer struct {
	announced step.Time
	sent      bool
	asked     int // times it was asked back and has not answered
	known     bool
	refused   bool
}

// due is when something is to be done about it.
func (p *publication) due() (at step.Time) {
	if p.mined {
		return 0
	}
	for _, o := range p.peers {
		if !o.sent && !o.known && !o.refused && (at == 0 || o.announced+AskTime < at) {
			at = o.announced + AskTime
		}
	}
	if p.since != 0 && (at == 0 || p.since+VerdictTime < at) {
		at = p.since + VerdictTime
	}
	return at
}

func (p *publication) known() bool {
	for _, o := range p.peers {
		if o.known {
			return true
		}
	}
	return false
}

func (c *Client) publication(id chainhash.Hash) *publication {
	for _, p := range c.pending {
		if p.id == id {
			return p
		}
	}
	return nil
}

// publish announces a transaction to every peer. The outcome comes when one has
// taken it, or all have refused it.
func (c *Client) publish(t *wire.MsgTx) {
	id := t.TxHash()
	if size := t.SerializeSize(); size > tx.MaxSize {
		c.verdict(id, fmt.Errorf("%w: it is %d bytes; the limit is %d", watch.ErrRefused, size, tx.MaxSize))
		return
	}
	if c.ledger.Find(id) != nil {
		c.verdict(id, nil)
		return
	}
	for _, in := range t.TxIn {
		if other, depth := c.ledger.Spender(in.PreviousOutPoint); other != nil {
			c.verdict(id, fmt.Errorf("%w: %v is spent by %v at depth %d", watch.ErrRefused, in.PreviousOutPoint, other.TxHash(), depth))
			return
		}
	}
	p := c.publication(id)
	if p == nil {
		if len(c.pending) == MaxPending {
			c.verdict(id, fmt.Errorf("%d published transactions wait for a block, which is the limit", MaxPending))
			return
		}
		p = &publication{tx: t.Copy(), id: id, peers: map[string]*offer{}}
		c.pending = append(c.pending, p)
		c.expect(p)
	}
	if p.known() {
		c.verdict(id, nil)
		return
	}
	if len(c.peers) == 0 {
		c.verdict(id, fmt.Errorf("it is kept until there is a connection: %w", c.reason()))
		return
	}
	p.since, p.peers = c.now, map[string]*offer{} // who refused it once may think again
	c.overdue()
}

// expect watches one of its scripts, so that its block is found.
func (c *Client) expect(p *publication) {
	for _, out := range p.tx.TxOut {
		if c.scripts[string(out.PkScript)] != nil {
			return
		}
	}
	for _, in := range p.tx.TxIn {
		if script, ok := c.ledger.Pays(in.PreviousOutPoint); ok && c.scripts[string(script)] != nil {
			return
		}
	}
	for _, out := range p.tx.TxOut {
		if len(out.PkScript) > 0 && out.PkScript[0] != 0x6a && (!c.o.Bloom || BloomFinds(out.PkScript)) {
			c.watch([]watch.Script{{Script: out.PkScript, Since: c.scanned + 1}})
			if s := c.scripts[string(out.PkScript)]; s != nil {
				s.brief, p.watched = true, true
				c.put(scriptKey(s.script), nil)
			}
			return
		}
	}
}

func (c *Client) reason() error {
	if c.trouble != nil {
		return c.trouble
	}
	return errors.New("not connected yet")
}

func (c *Client) verdict(id chainhash.Hash, err error) {
	c.fx.Done = append(c.fx.Done, step.Outcome{ID: id.String(), Err: err})
}

// decide answers who waits for p.
func (c *Client) decide(p *publication, err error) {
	if p.since != 0 {
		p.since = 0
		c.verdict(p.id, err)
	}
}

// overdue announces what was not announced to a peer, sends what was announced
// and not asked for, and answers callers that have waited long enough.
func (c *Client) overdue() {
	for _, p := range c.pending {
		if p.mined {
			continue
		}
		for _, peer := range c.sorted() {
			o := p.peers[peer.name]
			switch {
			case o == nil:
				o = &offer{announced: c.now}
				p.peers[peer.name] = o
				inv := wire.NewMsgInv()
				inv.InvList = append(inv.InvList, wire.NewInvVect(wire.InvTypeTx, &p.id))
				c.send(peer.name, inv)
				c.askBack(peer, p)
			case !o.sent && !o.known && !o.refused && c.now >= o.announced+AskTime:
				c.offer(peer, p)
			}
		}
		if p.since != 0 && c.now >= p.since+VerdictTime {
			c.decide(p, fmt.Errorf("no node says anything of transaction %v; it is kept and sent again", p.id))
		}
	}
}

// offer sends a transaction and asks for it back.
func (c *Client) offer(peer *peer, p *publication) {
	c.send(peer.name, p.tx)
	p.peers[peer.name].sent = true
	c.askBack(peer, p)
}

func (c *Client) askBack(peer *peer, p *publication) {
	p.peers[peer.name].asked++
	ask := wire.NewMsgGetData()
	ask.InvList = append(ask.InvList, wire.NewInvVect(wire.InvTypeWitnessTx, &p.id))
	c.send(peer.name, ask)
}

// serve sends the transactions of ours that a peer asks for.
func (c *Client) serve(peer *peer, msg *wire.MsgGetData) {
	for _, iv := range msg.InvList {
		if p := c.publication(iv.Hash); p != nil && p.peers[peer.name] != nil && iv.Type&^wire.InvWitnessFlag == wire.InvTypeTx {
			c.offer(peer, p)
		}
	}
}

// announced is a peer that says it has a transaction.
func (c *Client) announced(peer *peer, id chainhash.Hash) {
	if p := c.publication(id); p != nil && p.peers[peer.name] != nil {
		p.peers[peer.name].known, p.taken = true, true
		c.decide(p, nil)
	}
}

// cameBack is a transaction that a peer sends, so it has it.
func (c *Client) cameBack(peer *peer, t *wire.MsgTx) {
	p := c.publication(t.TxHash())
	if p == nil || p.peers[peer.name] == nil {
		return
	}
	o := p.peers[peer.name]
	o.asked, o.known, p.taken = max(0, o.asked-1), true, true
	c.decide(p, nil)
}

// unknown is a peer that has not got a transaction it was asked back. Only the
// last answer counts: one before may be from before it was sent.
func (c *Client) unknown(peer *peer, id chainhash.Hash) {
	p := c.publication(id)
	if p == nil || p.peers[peer.name] == nil {
		return
	}
	o := p.peers[peer.name]
	if o.asked = max(0, o.asked-1); o.sent && o.asked == 0 && !o.known {
		o.refused = true
		c.allRefused(p)
	}
}

// rejected is a peer that says why it will not have a transaction (BIP 61).
func (c *Client) rejected(peer *peer, msg *wire.MsgReject) {
	p := c.publication(msg.Hash)
	if msg.Cmd != wire.CmdTx || p == nil || p.peers[peer.name] == nil {
		return
	}
	p.peers[peer.name].refused = true
	p.reason = fmt.Sprintf("node says %.200q", msg.Reason)
	c.allRefused(p)
}

// allRefused answers the caller if no peer is left that may take it. It is then
// forgotten if a peer said why; sent again after a reorganisation, it may only be
// too early, and nobody would hear that it was dropped.
func (c *Client) allRefused(p *publication) {
	if p.since == 0 || p.known() {
		return
	}
	for _, peer := range c.sorted() {
		if o := p.peers[peer.name]; o == nil || !o.refused {
			return
		}
	}
	if p.reason == "" {
		c.decide(p, fmt.Errorf("no node took transaction %v, and none says why; it is kept and sent again", p.id))
		return
	}
	c.decide(p, fmt.Errorf("%w: %v: %s", watch.ErrRefused, p.id, p.reason))
	c.dismiss(p)
}

// dismiss no longer keeps a publication.
func (c *Client) dismiss(p *publication) {
	c.pending = slices.DeleteFunc(c.pending, func(q *publication) bool { return q == p })
	if !p.watched {
		return
	}
	for _, out := range p.tx.TxOut {
		if s := c.scripts[string(out.PkScript)]; s != nil && s.brief {
			c.unwatch(s)
		}
	}
}

// prune forgets what is settled: mined deep enough, or made impossible by what
// is.
func (c *Client) prune() {
	for _, p := range slices.Clone(c.pending) {
		mined, depth := c.ledger.Tx(p.id)
		if p.mined && mined == nil {
			p.peers = map[string]*offer{} // it lost its block, and is announced again
		}
		if p.mined = mined != nil; p.mined {
			c.decide(p, nil)
		}
		if depth >= Settled {
			c.dismiss(p)
			continue
		}
		for _, in := range p.tx.TxIn {
			other, depth := c.ledger.Spender(in.PreviousOutPoint)
			if other != nil && depth >= Settled && other.TxHash() != p.id {
				c.decide(p, fmt.Errorf("%w: %v is spent by %v at depth %d", watch.ErrRefused, in.PreviousOutPoint, other.TxHash(), depth))
				c.dismiss(p)
				break
			}
		}
	}
}

// Waiting is what was published, taken by a peer, and has no block.
func (c *Client) Waiting() (txs []*wire.MsgTx) {
	for _, p := range c.pending {
		if !p.mined && p.taken {
			txs = append(txs, p.tx)
		}
	}
	return txs
}
