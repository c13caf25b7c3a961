package light

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
)

// Limits of the BIP 37 mode.
const (
	// BloomSpan is how many blocks are asked for at once by BIP 37.
	BloomSpan = 100

	// BloomWitnesses is how many peers are asked for the same blocks: a peer
	// cannot prove that nothing is missing.
	BloomWitnesses = 2

	// MaxMatched bounds the transactions that a peer may match in BloomSpan
	// blocks: some four times what the filter matches by chance in full ones, of
	// 4,000 transactions.
	MaxMatched = 20_000

	// MaxWithheld bounds the blocks of an answer whose transactions were proved
	// and not sent; such a block is fetched whole.
	MaxWithheld = 8
)

// barrier is the nonce of the pings that follow a request: as peers answer in
// order, the pong is the end of the answer.
const barrier = 0x636f696e6f70

// bloomState is the client's part of this mode.
type bloomState struct {
	noise keys.Secret // what the decoys are made of
	kept  bool        // tweak and noise are on disk
	base  []byte      // the filter's bits that are decoys'
	alone blockSpan
}

// A blockSpan is the blocks that only one peer has told of, or some of them
// have; from is 0 if there are none. They are looked through again once there
// are two peers.
type blockSpan struct{ from, to int32 }

func (b *blockSpan) add(from, to int32) {
	if b.from == 0 {
		b.from = from
	}
	b.from, b.to = min(b.from, from), max(b.to, to)
}

// bloomPeer is a peer's part.
type bloomPeer struct {
	scripts map[string]bool // that its filter surely has; nil if it has no filter
	points  map[wire.OutPoint]bool
	noise   int // transactions that it matched: each may have left an outpoint in its filter

	pings    int // barriers that it has not answered
	height   int32
	owed     map[chainhash.Hash]bool // transactions of the block at height that it proved and has not sent
	matched  int                     // in this answer
	withheld int
}

// bloomScan is a range's part.
type bloomScan struct {
	again  bool // only one peer has told of it
	told   []*told
	points map[wire.OutPoint]bool // what the range pays our scripts, as peers tell
}

// told is what a peer says of a range.
type told struct {
	peer string
	ids  []map[chainhash.Hash]bool // by block, proved
	done bool
}

func (b *bloomScan) of(peer string) *told {
	for _, t := range b.told {
		if t.peer == peer {
			return t
		}
	}
	return nil
}

// hit has a block fetched whole: it holds a transaction that matters, whose
// witness no filtered block proves, or one that was not shown.
func (s *scan) hit(height int32) {
	at, there := slices.BinarySearchFunc(s.hits, height, func(h hit, height int32) int { return int(h.height - height) })
	if !there {
		s.hits = slices.Insert(s.hits, at, hit{height: height, hash: s.hash(height)})
	}
}

// askBlooms asks two peers for the blocks of a range, and goes on when both have
// answered. If there is only one it is taken at its word until there is another.
func (c *Client) askBlooms(s *scan) {
	b := &s.bloom
	b.told = slices.DeleteFunc(b.told, func(t *told) bool {
		p := c.peers[t.peer]
		return !t.done && (p == nil || p.request == nil || p.request.kind != forBloom)
	})
	waits := false // for a peer that is busy with something else
	for _, p := range c.witnesses() {
		switch {
		case len(b.told) == BloomWitnesses || b.of(p.name) != nil || !p.has(s.stop):
		case p.request != nil:
			waits = true
		default:
			c.askBloom(p, s)
		}
	}
	enough := len(b.told) == BloomWitnesses || len(b.told) > 0 && !waits
	if enough && !slices.ContainsFunc(b.told, func(t *told) bool { return !t.done }) {
		s.next = s.stop + 1
	}
}

func (c *Client) askBloom(p *peer, s *scan) {
	c.loadFilter(p)
	ask := wire.NewMsgGetDataSizeHint(uint(len(s.hashes)))
	for i := range s.hashes {
		ask.InvList = append(ask.InvList, wire.NewInvVect(wire.InvTypeFilteredBlock, &s.hashes[i]))
	}
	p.bloom.owed, p.bloom.matched, p.bloom.withheld = nil, 0, 0
	c.ask(p, request{kind: forBloom, start: s.start, stop: s.stop, blocks: slices.Clone(s.hashes)}, ask)
	p.bloom.pings++
	c.send(p.name, wire.NewMsgPing(barrier))
	s.bloom.told = append(s.bloom.told, &told{peer: p.name, ids: make([]map[chainhash.Hash]bool, len(s.hashes))})
}

// answering returns the range that a peer is telling of, or nil: what comes
// before the last barrier answers a request that is not waited for any more.
func (c *Client) answering(p *peer) (*scan, *told) {
	if c.scan == nil || p.bloom.pings != 1 || !p.answered(forBloom, c.now) {
		return nil, nil
	}
	return c.scan, c.scan.bloom.of(p.name)
}

// filtered takes the proof of what a peer's filter matches in a block.
func (c *Client) filtered(p *peer, msg *wire.MsgMerkleBlock) {
	s, t := c.answering(p)
	if t == nil {
		return
	}
	r, hash := p.request, msg.Header.BlockHash()
	switch {
	case !slices.Contains(r.blocks, hash):
		c.drop(p.name, true, "filtered block %v was not asked for", hash)
		return
	case r.blocks[0] != hash:
		c.drop(p.name, false, "filtered block %v comes before %v, which was asked for first", hash, r.blocks[0])
		return
	}
	matches, err := merkle.Partial(msg, merkle.MaxTxs)
	if err != nil {
		c.drop(p.name, true, "filtered block %v: %w", hash, err)
		return
	}
	if !c.shown(p, s) {
		return
	}
	if p.bloom.matched += len(matches); p.bloom.matched > MaxMatched {
		c.drop(p.name, false, "it matches more than %d transactions in %d blocks", MaxMatched, len(s.hashes))
		return
	}
	p.bloom.noise += len(matches)
	p.bloom.height = s.stop + 1 - int32(len(r.blocks))
	r.blocks = r.blocks[1:]
	p.bloom.owed = make(map[chainhash.Hash]bool, len(matches))
	ids := make(map[chainhash.Hash]bool, len(matches))
	for _, m := range matches {
		p.bloom.owed[m.ID], ids[m.ID] = true, true
	}
	t.ids[p.bloom.height-s.start] = ids
}

// shown has a block fetched whole of whose transactions the peer has not sent
// all that it proved. Some nodes leave out those that we should know.
func (c *Client) shown(p *peer, s *scan) bool {
	if len(p.bloom.owed) == 0 {
		return true
	}
	s.hit(p.bloom.height)
	p.bloom.owed = nil
	if p.bloom.withheld++; p.bloom.withheld > MaxWithheld {
		c.drop(p.name, false, "it proves transactions in more than %d of %d blocks and does not send them", MaxWithheld, len(s.hashes))
		return false
	}
	return true
}

// transaction takes one that was asked back, or that follows its proof. One that
// was not proved is of no use.
func (c *Client) transaction(p *peer, msg *wire.MsgTx) {
	c.cameBack(p, msg)
	s, t := c.answering(p)
	if t == nil || len(p.bloom.owed) == 0 {
		return
	}
	id := msg.TxHash()
	if !p.bloom.owed[id] {
		return
	}
	delete(p.bloom.owed, id)
	ours := c.matters(msg) || slices.ContainsFunc(msg.TxIn, func(in *wire.TxIn) bool { return s.bloom.points[in.PreviousOutPoint] })
	if !ours {
		return
	}
	s.hit(p.bloom.height)
	if s.bloom.points == nil {
		s.bloom.points = map[wire.OutPoint]bool{}
	}
	for i, out := range msg.TxOut {
		if c.scripts[string(out.PkScript)] != nil {
			s.bloom.points[wire.OutPoint{Hash: id, Index: uint32(i)}] = true
		}
	}
}

// pong ends an answer.
func (c *Client) pong(p *peer, msg *wire.MsgPong) {
	if msg.Nonce != barrier || p.bloom.pings == 0 {
		return
	}
	if s, t := c.answering(p); t != nil {
		if n := len(p.request.blocks); n > 0 {
			c.drop(p.name, false, "it has not answered for %d of the %d blocks from height %d on", n, len(s.hashes), s.start)
			return
		}
		if !c.shown(p, s) {
			return
		}
		t.done, p.request, p.left = true, nil, false
	}
	p.bloom.pings--
}

// omitted bans who left out a transaction that its filter surely matches, and notes
// what the filters of the others have now: the outputs of ours that it pays.
func (c *Client) omitted(h hit, m *wire.MsgTx, id chainhash.Hash) {
	s := c.scan
	for _, t := range slices.Clone(s.bloom.told) {
		p := c.peers[t.peer]
		switch {
		case p == nil || p.bloom.scripts == nil:
		case t.ids[h.height-s.start][id]:
			for i, out := range m.TxOut {
				if p.bloom.scripts[string(out.PkScript)] {
					p.bloom.points[wire.OutPoint{Hash: id, Index: uint32(i)}] = true
				}
			}
		case p.bloom.surely(m):
			c.liar(t, "it leaves transaction %v out of its answer about height %d, which its filter matches", id, h.height)
		}
	}
}

// invented bans who has proved what the block has not.
func (c *Client) invented(h hit, ids []chainhash.Hash) {
	s := c.scan
	for _, t := range slices.Clone(s.bloom.told) {
		left := len(t.ids[h.height-s.start])
		for _, id := range ids {
			if t.ids[h.height-s.start][id] {
				left--
			}
		}
		if left > 0 {
			c.liar(t, "it proves %d transactions in the block at height %d that are not there", left, h.height)
		}
	}
}

func (c *Client) liar(t *told, format string, args ...any) {
	c.scan.bloom.told = slices.DeleteFunc(c.scan.bloom.told, func(o *told) bool { return o == t })
	c.drop(t.peer, true, format, args...)
}

// surely tells whether a filter that has at least this matches a transaction.
func (b *bloomPeer) surely(t *wire.MsgTx) bool {
	return slices.ContainsFunc(t.TxOut, func(out *wire.TxOut) bool { return b.scripts[string(out.PkScript)] }) ||
		slices.ContainsFunc(t.TxIn, func(in *wire.TxIn) bool { return b.points[in.PreviousOutPoint] })
}

// lookAlone chooses a range that only one peer has told of, if there are two now.
func (c *Client) lookAlone() bool {
	a := &c.bloom.alone
	if a.to = min(a.to, c.scanned); a.from > a.to {
		*a = blockSpan{}
	}
	var heights []int32 // that peers have, the lowest first
	for _, p := range c.witnesses() {
		heights = append(heights, p.best)
	}
	slices.Sort(heights)
	if a.from == 0 || len(heights) < BloomWitnesses {
		return false
	}
	to := min(a.to, heights[len(heights)-BloomWitnesses])
	if to < a.from {
		return false
	}
	if c.scan = c.span(a.from, to); c.scan != nil {
		c.scan.bloom.again = true
	}
	return true
}

// witnessed notes how many have told of a range, and whether it was looked
// through only for that.
func (c *Client) witnessed(s *scan) (again bool) {
	a, two := &c.bloom.alone, len(s.bloom.told) >= BloomWitnesses
	before := *a
	switch {
	case !two:
		a.add(s.start, s.stop)
	case s.bloom.again:
		if a.from = s.stop + 1; a.from > a.to {
			*a = blockSpan{}
		}
	}
	if *a != before {
		c.put(aloneKey, codec.AppendUint(codec.AppendUint(nil, a.from), a.to))
	}
	return s.bloom.again
}

// bloomWarning is what an operator is told.
func (c *Client) bloomWarning() string {
	if a := c.bloom.alone; a.from != 0 {
		return fmt.Sprintf("%s; what the only peer left out of heights %d to %d would not be seen: name a second one (peers=)", BloomWarning, a.from, a.to)
	}
	if len(c.peers) < BloomWitnesses {
		return BloomWarning + "; what an only peer leaves out is not seen: name a second one (peers=)"
	}
	return BloomWarning
}
