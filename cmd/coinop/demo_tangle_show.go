//go:build !omit_demo && !omit_ledger

package main

import (
	"encoding/hex"
	"math"
	"slices"
	"sync"
	"time"

	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
)

const (
	// maxDrawn bounds the blocks that a picture remembers, maxWalk those that one look
	// finds.
	maxDrawn = 2 * page.MaxTangle
	maxWalk  = 512
)

// A tanglePicture is what the page shows of a Tangle: what a node has attached, in the
// order in which it was found.
type tanglePicture struct {
	grid *grid

	mu        sync.Mutex
	seq       uint64
	seen      map[tangle.BlockID]*tangleSeen
	list      []*tangleSeen // oldest first
	milestone uint32        // up to which the node was read
	came      time.Time     // the newest
	tipCount  int
	conflict  uint64
	zeros     int
}

type tangleSeen struct {
	page.TangleBlock
	id tangle.BlockID
	at time.Time
}

func newTanglePicture(g *grid) *tanglePicture {
	return &tanglePicture{grid: g, seen: map[tangle.BlockID]*tangleSeen{}}
}

// read looks for what is new in a node: blocks from its tips down, and what milestones
// have included.
func (p *tanglePicture) read(n *node.Node) {
	p.mu.Lock()
	now := time.Now()
	latest := n.Info().Latest.Index
	if latest > p.milestone {
		for index := max(p.milestone+1, latest-min(latest, 32)+1); index <= latest; index++ {
			ids, _ := n.Order(index)
			for _, id := range ids {
				p.find(n, id, now)
			}
		}
		p.milestone, p.came = latest, now
	}
	for _, id := range n.Tips() {
		p.find(n, id, now)
	}
	approved := map[uint64]bool{}
	for _, s := range p.list {
		for _, parent := range s.Parents {
			approved[parent] = true
		}
	}
	var took []time.Duration
	for _, s := range p.list {
		if s.State == page.Final || s.State == page.Conflicting {
			continue
		}
		m, ok := n.Metadata(s.id)
		switch {
		case ok && m.State == node.Conflicting:
			s.State, s.Milestone = page.Conflicting, m.Included
			p.conflict++
		case ok && m.State != node.Pending:
			s.State = page.Final
			if s.Kind != "milestone" {
				s.Milestone = m.Included
			}
			took = append(took, now.Sub(s.at))
		case s.Kind == "milestone" && s.Milestone <= latest:
			s.State = page.Final
		case approved[s.Seq]:
			s.State = page.Waits
		default:
			s.State = page.Tip
		}
	}
	p.mu.Unlock()
	p.grid.mu.Lock() // which show takes before p.mu
	defer p.grid.mu.Unlock()
	for _, d := range took {
		p.grid.final(d)
	}
}

// find notes a block and all before it that are not known, parents first.
func (p *tanglePicture) find(n *node.Node, id tangle.BlockID, now time.Time) {
	type visit struct {
		id    tangle.BlockID
		block *tangle.Block // set once its parents are pushed
		raw   []byte
	}
	stack := []visit{{id: id}}
	for walked := 0; len(stack) > 0 && walked < maxWalk; walked++ {
		v := &stack[len(stack)-1]
		if p.seen[v.id] != nil {
			stack = stack[:len(stack)-1]
			continue
		}
		if v.block != nil {
			p.add(v.id, v.block, v.raw, now)
			stack = stack[:len(stack)-1]
			continue
		}
		raw := n.Block(v.id)
		b, err := tangle.DecodeBlock(raw)
		if raw == nil || err != nil { // the genesis, or pruned
			stack = stack[:len(stack)-1]
			continue
		}
		v.block, v.raw = b, raw
		if m, ok := n.Metadata(v.id); ok && m.State != node.Pending && m.Included+1 < p.milestone {
			continue // its past is older than the picture
		}
		for _, parent := range b.Parents {
			if p.seen[parent] == nil {
				stack = append(stack, visit{id: parent})
			}
		}
	}
}

// add draws a block at the right.
func (p *tanglePicture) add(id tangle.BlockID, b *tangle.Block, raw []byte, now time.Time) {
	p.seq++
	s := &tangleSeen{id: id, at: now}
	s.TangleBlock = page.TangleBlock{Seq: p.seq, ID: hex.EncodeToString(id[:8]), Kind: "empty", State: page.Tip}
	switch payload := b.Payload.(type) {
	case *tangle.Transaction:
		s.Kind = "payment"
	case *tangle.TaggedData:
		s.Kind = "data"
	case *tangle.Milestone:
		s.Kind, s.Milestone = "milestone", payload.Index
	}
	for _, parent := range b.Parents {
		if known := p.seen[parent]; known != nil {
			s.Parents = append(s.Parents, known.Seq)
		}
	}
	if z := tangle.Zeros(raw); s.Kind != "milestone" {
		p.zeros = z
	}
	p.seen[id] = s
	p.list = append(p.list, s)
	if len(p.list) > maxDrawn {
		for _, old := range p.list[:maxDrawn/2] {
			delete(p.seen, old.id)
		}
		p.list = slices.Clone(p.list[maxDrawn/2:])
	}
}

func (p *tanglePicture) tips(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tipCount = n
}

func (p *tanglePicture) conflicts() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conflict
}

// state is the page's part.
func (p *tanglePicture) state() *page.Tangle {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &page.Tangle{
		Tips: p.tipCount, Milestone: p.milestone, EveryMs: int64(tangleEvery), Threshold: tangleThreshold, Signers: tangleSigners,
		Zeros: min(p.zeros, math.MaxInt32), Conflicting: p.conflict,
	}
	if !p.came.IsZero() {
		t.SinceMs = time.Since(p.came).Milliseconds()
	}
	for _, s := range p.list[max(0, len(p.list)-page.MaxTangle):] {
		b := s.TangleBlock
		b.Parents = slices.Clone(b.Parents)
		t.Blocks = append(t.Blocks, b)
	}
	return t
}
