package rest

import (
	"context"
	"encoding/hex"
	"encoding/json"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
)

// milestoneInfo is the payload of the topics about milestones.
type milestoneInfo struct {
	Index uint32             `json:"index"`
	Time  uint32             `json:"timestamp"`
	ID    tangle.MilestoneID `json:"milestoneId"`
}

func hexText(raw []byte) string { return "0x" + hex.EncodeToString(raw) }

// tellNews tells clients what the node tells.
func (s *Server) tellNews() {
	var lost uint64
	for news := range s.news.C {
		if now := s.news.Lost(); now != lost {
			lost = now
			s.sockets.cut()
		}
		switch v := news.(type) {
		case node.Confirmed:
			s.confirmed(&v)
		case node.Came:
			for _, raw := range v.Raw {
				s.tell(topicBlocks, hexText(raw))
			}
		}
	}
}

// confirmed tells of a milestone and of what it has included.
func (s *Server) confirmed(m *node.Confirmed) {
	info := milestoneInfo{m.Index, m.Time, m.ID}
	s.tell(topicLatest, info)
	c := &call{s: s, ctx: s.ctx}
	if s.sockets.hears(topicMilestone) {
		var payload *tangle.Milestone
		if err := c.look(func(n *node.Node) { payload, _, _ = n.Milestone(m.Index) }); err == nil && payload != nil {
			s.tell(topicMilestone, hexText(payload.Append(nil)))
		}
	}
	if err := c.tellIncluded(m.Index); err != nil {
		s.Log.Debug("Tangle events", "milestone", m.Index, "err", err)
		s.sockets.cut() // they have missed something
	}
	s.tell(topicConfirmed, info) // last, so that who hears it has heard the rest
}

// tellIncluded tells of the blocks of a milestone, as far as somebody wants to know.
func (c *call) tellIncluded(index uint32) error {
	a := &c.s.sockets
	inBlocks := a.wanted(topicIncluded, topicOutput, topicUnlock)
	if !inBlocks && !a.wanted(topicMetadata, topicReferenced) {
		return nil
	}
	var ids []tangle.BlockID
	var applied []bool
	err := c.look(func(n *node.Node) { ids, applied = n.Order(index) })
	for ; err == nil && len(ids) > 0; ids, applied = ids[min(lookAt, len(ids)):], applied[min(lookAt, len(ids)):] {
		some := ids[:min(lookAt, len(ids))]
		referenced := a.hears(topicReferenced)
		var about []node.Metadata
		var raws [][]byte
		err = c.look(func(n *node.Node) {
			for _, id := range some {
				if !referenced && !a.hears(topicMetadata+id.String()) {
					continue
				}
				if m, ok := n.Metadata(id); ok {
					about = append(about, m)
				}
			}
			if inBlocks {
				raws = rawOf(n, some)
			}
		})
		for i := range about {
			c.s.tell(topicMetadata+about[i].ID.String(), describe(&about[i]))
			c.s.tell(topicReferenced, describe(&about[i]))
		}
		for i, raw := range raws {
			if err == nil && applied[i] {
				err = c.tellApplied(raw)
			}
		}
	}
	return err
}

// tellApplied tells of a transaction that was applied, and of its outputs.
func (c *call) tellApplied(raw []byte) error {
	b, err := node.ReadBlock(raw)
	if err != nil || b.Transaction() == nil {
		return err
	}
	c.s.tell(topicIncluded+b.Tx.String()+included, hexText(raw))
	if !c.s.sockets.wanted(topicOutput, topicUnlock) {
		return nil
	}
	e := &b.Transaction().Essence
	ids := append([]tangle.OutputID{}, e.Inputs...)
	for i := range e.Outputs {
		ids = append(ids, tangle.NewOutputID(b.Tx, uint16(i)))
	}
	var outputs []node.Output
	var ledger uint32
	err = c.look(func(n *node.Node) {
		ledger = n.Info().Latest.Index
		for _, id := range ids {
			if o, ok := n.Output(id); ok {
				outputs = append(outputs, o)
			}
		}
	})
	for i := range outputs {
		o := &outputs[i]
		at := topicUnlock + o.Address.Bech32(c.s.hrp())
		d := describeOutput(o, ledger)
		c.s.tell(topicOutput+o.ID.String(), d)
		c.s.tell(at, d)
		if i < len(e.Inputs) {
			c.s.tell(at+spent, d)
		}
	}
	return err
}

// tellNow tells a client what is known already about what it wants to hear of.
func (s *Server) tellNow(ctx context.Context, k *socket, t topic) {
	switch t.kind {
	case topicLatest, topicConfirmed, topicMetadata, topicIncluded, topicOutput:
	default:
		return // what comes is news
	}
	c := &call{s: s, ctx: ctx}
	var payload any
	c.look(func(n *node.Node) {
		switch t.kind {
		case topicLatest, topicConfirmed:
			if i := n.Info(); i.Latest.Index > 0 {
				payload = milestoneInfo{i.Latest.Index, i.Latest.Time, i.Milestone}
			}
		case topicMetadata:
			if m, ok := n.Metadata(t.block); ok {
				payload = describe(&m)
			}
		case topicIncluded:
			if id, ok := n.Included(t.tx); ok {
				if raw := n.Block(id); raw != nil {
					payload = hexText(raw)
				}
			}
		case topicOutput:
			if o, ok := n.Output(t.output); ok {
				payload = describeOutput(&o, n.Info().Latest.Index)
			}
		}
	})
	if payload == nil {
		return
	}
	if raw, err := json.Marshal(event{t.name, payload}); err == nil {
		k.reply(ctx, raw)
	}
}
