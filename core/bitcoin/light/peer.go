package light

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/step"
)

// a peer, while it is connected.
type peer struct {
	name string

	headersAsked step.Time          // when getheaders was sent; 0 if it is answered
	current      bool               // has told us all the headers it has
	best         int32              // the height up to which it has shown to have our chain
	branch       []wire.BlockHeader // of its chain, with less work than ours
	orphans      int                // messages in a row whose headers lead nowhere

	request  *request       // what it was asked for besides headers
	left     bool           // it had not the last block that it was asked for
	late     bool           // an answer that does not fit may be one to what is not asked any more
	stale    chainhash.Hash // the last block of an answer that nobody waits for any more
	marks    []chainhash.Hash
	marksFor int32 // marks are an answer about this height; 0 if none
	hashes   *filterHashes
	vetted   int   // how many of our checkpoints are its own
	word     int32 // the height up to which its filter headers are ours
	differs  int32 // a height at which they are not; 0 if none is known
	bloom    bloomPeer
}

// A request is what a peer was asked and has not answered in full.
type request struct {
	kind        requestKind
	start, stop int32
	blocks      []chainhash.Hash // that it owes; of filters the last one's
	last        step.Time        // when it said something of it
}

type requestKind uint8

const (
	forMarks requestKind = iota + 1
	forHashes
	forFilters
	forVersion // one filter that is disputed
	forBlocks
	forBloom
	forWord    // the filter header at the tip
	forHeaders // that are below the tail
)

func (k requestKind) String() string {
	return [...]string{"", "filter checkpoints", "filter headers", "filters", "a disputed filter", "blocks", "filtered blocks", "the last filter header", "old headers"}[k]
}

// receive takes one message of a peer.
func (c *Client) receive(p *peer, msg any) {
	switch msg := msg.(type) {
	case *wire.MsgPing:
		c.send(p.name, wire.NewMsgPong(msg.Nonce))
	case *wire.MsgHeaders:
		c.headers(p, msg)
	case *wire.MsgInv:
		c.inventory(p, msg)
	case *wire.MsgCFCheckpt:
		c.marks(p, msg)
	case *wire.MsgCFHeaders:
		c.hashes(p, msg)
	case *wire.MsgCFilter:
		c.filter(p, msg)
	case *wire.MsgBlock:
		c.block(p, msg)
	case *wire.MsgMerkleBlock:
		c.filtered(p, msg)
	case *wire.MsgTx:
		c.transaction(p, msg)
	case *wire.MsgPong:
		c.pong(p, msg)
	case *wire.MsgGetData:
		c.serve(p, msg)
	case *wire.MsgReject:
		c.rejected(p, msg)
	case *wire.MsgNotFound:
		c.notFound(p, msg)
	}
}

func (c *Client) hello(h Hello) {
	if c.peers[h.Peer] != nil || len(c.peers) == MaxPeers {
		c.drop(h.Peer, false, "%d peers are connected, which is the limit", len(c.peers))
		return
	}
	need := wire.SFNodeNetwork | wire.SFNodeWitness
	if c.o.Bloom {
		need |= wire.SFNodeBloom
	} else {
		need |= wire.SFNodeCF
	}
	if h.Services&need != need {
		c.drop(h.Peer, false, "it serves %v; needed is %v", h.Services, need)
		return
	}
	c.peers[h.Peer] = &peer{name: h.Peer, vetted: 1}
	c.trouble = nil
	c.send(h.Peer, wire.NewMsgSendHeaders())
	c.introduce(c.peers[h.Peer])
}

// lost forgets a peer. What it was asked for is asked of another.
func (c *Client) lost(name string, why error) {
	p := c.peers[name]
	if p == nil {
		return
	}
	delete(c.peers, name)
	if why != nil {
		c.trouble = why
	} else if len(c.peers) == 0 {
		c.trouble = fmt.Errorf("node %s: the connection ended", name)
	}
	if c.sync == name {
		c.sync = ""
	}
	if c.deep != nil && c.deep.peer == name {
		c.deep = nil
	}
	c.released(p)
	c.gone(p)
	for _, q := range c.pending {
		delete(q.peers, name) // it may come back without what it took
	}
	if s := c.scan; s != nil && s.toMark && p.request != nil && p.request.kind == forFilters {
		s.restart() // or the next peer would answer for what this one said
	}
}

// drop ends a connection, for good if the peer has lied.
func (c *Client) drop(name string, ban bool, format string, args ...any) {
	why := fmt.Errorf("node %s: %w", name, fmt.Errorf(format, args...))
	c.send(Net, Drop{Peer: name, Why: why, Ban: ban})
	if c.peers[name] == nil {
		c.trouble = why
	}
	c.lost(name, why)
}

// by name, so that the same inputs have the same effects.
func (c *Client) sorted() []*peer {
	all := make([]*peer, 0, len(c.peers))
	for _, p := range c.peers {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *peer) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return all
}

// has tells whether a peer is on our chain and has shown the block at a height.
func (p *peer) has(height int32) bool {
	return p.current && len(p.branch) == 0 && p.best >= height
}

func (c *Client) ask(p *peer, r request, msg wire.Message) {
	r.last = c.now
	p.request = &r
	c.send(p.name, msg)
}

// excuse no longer waits for what p was asked: the answer may be on its way, or
// never come.
func (p *peer) excuse() { p.late, p.request = p.late || p.request != nil, nil }

// answered tells whether p was asked for this, and that it still answers.
func (p *peer) answered(kind requestKind, now step.Time) bool {
	if p.request == nil || p.request.kind != kind {
		return false
	}
	p.request.last = now
	return true
}

// alarm asks to be rung when the first peer has taken too long.
func (c *Client) alarm() {
	var first step.Time
	soon := func(t step.Time) {
		if first == 0 || t < first {
			first = t
		}
	}
	for _, p := range c.peers {
		if p.request != nil {
			soon(p.request.last + AnswerTime)
		}
		if p.headersAsked != 0 {
			soon(p.headersAsked + AnswerTime)
		}
	}
	for _, p := range c.pending {
		if due := p.due(); due != 0 {
			soon(due)
		}
	}
	if first != 0 {
		c.fx.Wake = append(c.fx.Wake, step.Alarm{ID: "late", At: first})
	}
}
