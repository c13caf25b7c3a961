package node

import (
	"encoding/binary"
	"errors"
	"fmt"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/dag"
	"coinop.dev/core/step"
)

// Load reads the node from disk, or begins with the network's genesis. r is asked
// again in every step.
func Load(r step.Reader, c Config) (*Node, error) {
	if err := c.normal(); err != nil {
		return nil, err
	}
	n := &Node{
		c: c, net: c.Network, db: newOverlay(r, &c),
		vertices: map[tangle.BlockID]*vertex{}, makers: map[tangle.TransactionID]tangle.BlockID{},
		pages: map[uint64]*page{}, recent: map[tangle.BlockID]uint32{}, entries: map[tangle.BlockID]uint32{},
		refused: [2]map[tangle.BlockID]bool{{}, {}},
		peers:   map[string]*peer{}, queued: map[tangle.BlockID]*arrival{},
		pool: map[tangle.BlockID]*unsolid{}, waiters: map[tangle.BlockID][]*unsolid{},
		wants: map[tangle.BlockID]*want{}, keys: eddsa.NewCache(eddsa.DefaultKeys),
		milestones: map[uint32]*Block{}, own: map[[32]byte]*own{}, due: map[uint32][][32]byte{},
		followers: newFollows(),
	}
	n.batch = eddsa.NewBatch(eddsa.SHA512).Use(n.keys)
	for _, name := range c.Peers {
		p := n.join(name)
		if p == nil {
			return nil, fmt.Errorf("tangle: %d peers are named; at most %d can be", len(c.Peers), MaxPeers)
		}
		p.fixed = true
	}
	if err := n.read(r); err != nil {
		return nil, fmt.Errorf("tangle: %w", err)
	}
	return n, nil
}

// normal fills in what is 0 and refuses what cannot work.
func (c *Config) normal() error {
	if c.Network == nil {
		return errors.New("tangle: Config.Network is missing")
	}
	if err := c.Network.Check(); err != nil {
		return fmt.Errorf("tangle: %w", err)
	}
	if least := MinKeep(c.Network); c.Keep != 0 && c.Keep < least {
		return fmt.Errorf("tangle: Config.Keep is %d milestones; blocks may refer to the last %d", c.Keep, least)
	}
	if co := &c.Coordinator; !co.Secret.IsZero() {
		public := co.Secret.Public()
		found := false
		for _, key := range c.Network.Coordinators {
			found = found || key == public
		}
		if !found {
			return fmt.Errorf("tangle: Config.Coordinator.Secret is of key %x, which is no coordinator of %s", public, c.Network.Name)
		}
	} else if co.Primary {
		return errors.New("tangle: Config.Coordinator.Primary wants a Secret")
	}
	set(&c.Coordinator.Interval, 5*step.Second)
	set(&c.PromoteAfter, 2)
	set(&c.MaxWork, DefaultWork)
	set(&c.Tips.Count, 2)
	set(&c.MaxUnconfirmed, MaxUnconfirmed)
	c.Tips.Count = min(c.Tips.Count, tangle.MaxParents-1)
	c.MaxUnconfirmed = min(c.MaxUnconfirmed, MaxUnconfirmed)
	return nil
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (n *Node) read(r step.Reader) error {
	value, err := r.Get(headKey)
	if err != nil {
		return err
	}
	if value == nil {
		return n.begun(r)
	}
	if n.head, err = readHead(value); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	return n.resume(r)
}

// begun is a node that has nothing yet: its first step writes the genesis, or takes
// a snapshot over.
func (n *Node) begun(r step.Reader) error {
	n.head.Oldest = 1
	if n.c.Trust != nil {
		n.load = &importing{}
	} else if value, err := r.Get(importKey); err != nil || value != nil {
		return errors.Join(err, errors.New("a snapshot was not taken over to its end; set Config.Trust to it, or begin with an empty store"))
	} else {
		for i, basic := range n.net.Genesis {
			o := Output{BasicOutput: basic, ID: tangle.GenesisOutput(uint16(i))}
			for _, record := range o.records() {
				n.db.add(record)
			}
		}
		n.changed = true
	}
	n.newDAG()
	return nil
}

func (n *Node) newDAG() {
	n.dag = dag.New(dag.Options{
		Limit:      maxAttached,
		Confirmed:  func(id dag.ID) (uint32, bool) { return n.confirmed(id) },
		Milestone:  n.head.Index,
		Unweighted: !n.c.Tips.MCMC,
		Pool:       dag.Pool{MaxDepth: n.net.BelowMaxDepth},
	})
}

// resume reads what a node that was stopped had in memory.
func (n *Node) resume(r step.Reader) error {
	for back := min(n.net.BelowMaxDepth, n.head.Index-min(n.head.Index, n.head.Oldest-1)); back > 0; back-- {
		index := n.head.Index - back + 1
		value := n.db.get(mileKey(index))
		if value == nil {
			continue
		}
		m, _ := readMilestone(value)
		var ids []tangle.BlockID
		for piece := range int(m.Pieces) {
			ids = append(ids, readCone(n.db.get(coneKey(index, piece))).ids...)
		}
		n.addRecent(index, ids)
	}
	if value := n.db.get(mileKey(n.head.Index + 1)); value != nil {
		_, b := readMilestone(value)
		n.decided = b.Milestone().ID()
	}
	if value := n.db.get(haltKey); value != nil {
		n.halt = errors.New(string(value))
	}
	if value := n.db.get(voteKey); value != nil {
		m, err := tangle.DecodeMilestone(value)
		if err != nil {
			return fmt.Errorf("last vote: %w", err)
		}
		n.vote = m
	}
	err := r.Scan(entryPre, func(key string, value []byte) bool {
		n.entries[tangle.BlockID([]byte(key[len(entryPre):]))] = binary.BigEndian.Uint32(value)
		return true
	})
	if err != nil {
		return err
	}
	n.newDAG()
	if err := n.readPages(r); err != nil {
		return err
	}
	return n.readOwn(r)
}

// readPages attaches again what was attached.
func (n *Node) readPages(r step.Reader) error {
	var order []*page // by number, as keys are
	err := r.Scan(pagePre, func(key string, value []byte) bool {
		p := &page{}
		for _, b := range []byte(key[len(pagePre):]) {
			p.number = p.number<<8 | uint64(b)
		}
		for ; len(value) >= 32; value = value[32:] {
			p.ids = append(p.ids, tangle.BlockID(value))
		}
		n.pages[p.number] = p
		order = append(order, p)
		n.head.Pages = max(n.head.Pages, p.number+1)
		return true
	})
	if err != nil {
		return err
	}
	for _, p := range order {
		for _, id := range p.ids {
			if err := n.reattach(id, p); err != nil {
				return err
			}
		}
		if p.left == 0 { // the first step's records begin with this
			delete(n.pages, p.number)
			n.db.put(pageKey(p.number), nil)
		}
	}
	return nil
}

func (n *Node) reattach(id tangle.BlockID, p *page) error {
	if value := n.db.get(metaKey(id)); value != nil && readMeta(value).Index <= n.head.Index {
		return nil
	}
	raw := n.db.get(blockKey(id))
	if raw == nil {
		return nil // dropped as too old
	}
	b, err := ReadBlock(raw)
	if err != nil {
		return fmt.Errorf("block %v: %w", id, err)
	}
	if n.vertices[id] != nil {
		return nil
	}
	if !n.solid(b) {
		n.db.put(blockKey(id), nil) // peers have it
		return nil
	}
	n.place(b)
	n.vertices[id].page = p.number
	p.left++
	m := b.Milestone()
	if m == nil || m.Index <= n.head.Index || n.milestones[m.Index] != nil {
		return nil
	}
	if m.Index > n.head.Index+1 || n.decided == (tangle.MilestoneID{}) || m.ID() == n.decided {
		n.milestones[m.Index] = b
	}
	return nil
}

func (n *Node) readOwn(r step.Reader) (failed error) {
	err := r.Scan(ownPre, func(key string, value []byte) bool {
		o, err := readOwn([32]byte([]byte(key[len(ownPre):])), value)
		if err != nil {
			failed = fmt.Errorf("own payload: %w", err)
			return false
		}
		n.own[o.id] = o
		at := max(o.since+n.c.PromoteAfter, n.head.Index+1)
		o.since = at - n.c.PromoteAfter
		n.due[at] = append(n.due[at], o.id)
		return true
	})
	return errors.Join(err, failed)
}

// Durable is what of the node's memory is on disk: where the ledger stands, what
// this coordinator has signed, why it has stopped, which blocks are attached, and
// the payloads of this node. Outputs and blocks are on disk and nowhere else.
func (n *Node) Durable() []step.Record {
	if n.load != nil {
		return nil
	}
	h := n.head
	h.Pages = 0 // the rest of it follows from the pages
	records := []step.Record{{Key: headKey, Value: h.record()}}
	if n.vote != nil {
		records = append(records, step.Record{Key: voteKey, Value: n.vote.Append(nil)})
	}
	if n.halt != nil {
		records = append(records, step.Record{Key: haltKey, Value: []byte(n.halt.Error())})
	}
	for _, id := range sortedIDs(n.vertices) {
		records = append(records, step.Record{Key: blockKey(id), Value: n.vertices[id].Raw})
	}
	for _, id := range sortedIDs(n.own) {
		records = append(records, step.Record{Key: ownKey(id), Value: n.own[id].record()})
	}
	return records
}
