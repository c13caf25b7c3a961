package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
)

// findMilestone finds a milestone by its index or ID in the path. iota.go writes an
// index also where others have an ID.
func (c *call) findMilestone() (m *tangle.Milestone, err error) {
	text := c.PathValue("index")
	var id tangle.MilestoneID
	if text == "" {
		if text = c.PathValue("id"); strings.HasPrefix(text, "0x") {
			if err := c.text(&id); err != nil {
				return nil, err
			}
			text = ""
		}
	}
	var index uint64
	if text != "" {
		if index, err = strconv.ParseUint(text, 10, 32); err != nil {
			return nil, invalid(fmt.Errorf("milestone %.80q is neither an index nor an ID", text))
		}
	}
	ok := true
	err = c.look(func(n *node.Node) {
		at := uint32(index)
		if text == "" {
			at, ok = n.MilestoneIndex(id)
		}
		if ok {
			m, _, ok = n.Milestone(at)
		}
	})
	if err == nil && !ok {
		err = notFound("milestone %.80s", c.PathValue("index")+c.PathValue("id"))
	}
	return m, err
}

func (c *call) milestone() (any, error) {
	m, err := c.findMilestone()
	switch {
	case err != nil:
		return nil, err
	case c.accepts(binary):
		return serialized(m.Append(nil)), nil
	}
	return m, nil
}

// milestoneChanges lists the outputs that a milestone made and spent.
func (c *call) milestoneChanges() (any, error) {
	if c.PathValue("what") != "utxo-changes" {
		return c.nowhere()
	}
	m, err := c.findMilestone()
	if err != nil {
		return nil, err
	}
	made, spent := []tangle.OutputID{}, []tangle.OutputID{}
	err = c.applied(m.Index, func(tx tangle.TransactionID, t *tangle.Transaction) error {
		for i := range t.Essence.Outputs {
			made = append(made, tangle.NewOutputID(tx, uint16(i)))
		}
		spent = append(spent, t.Essence.Inputs...)
		if len(made)+len(spent) > MaxChanges {
			return &Fault{http.StatusBadRequest, fmt.Sprintf("milestone %d changes more than %d outputs; ask for those that you know", m.Index, MaxChanges), ""}
		}
		return nil
	})
	return object{"index": m.Index, "createdOutputs": made, "consumedOutputs": spent}, err
}

// applied yields the transactions that a milestone has applied, in its order.
func (c *call) applied(index uint32, yield func(tangle.TransactionID, *tangle.Transaction) error) error {
	var ids []tangle.BlockID
	err := c.look(func(n *node.Node) {
		order, changed := n.Order(index)
		for i, id := range order {
			if changed[i] {
				ids = append(ids, id)
			}
		}
	})
	for ; err == nil && len(ids) > 0; ids = ids[min(lookAt, len(ids)):] {
		var raws [][]byte
		if err = c.look(func(n *node.Node) { raws = rawOf(n, ids[:min(lookAt, len(ids))]) }); err != nil {
			break
		}
		for _, raw := range raws {
			b, bad := node.ReadBlock(raw)
			if bad != nil || b.Transaction() == nil {
				return notFound("a block of milestone %d, which is pruned,", index)
			}
			if err = yield(b.Tx, b.Transaction()); err != nil {
				break
			}
		}
	}
	return err
}

func rawOf(n *node.Node, ids []tangle.BlockID) [][]byte {
	raws := make([][]byte, len(ids))
	for i, id := range ids {
		raws[i] = n.Block(id)
	}
	return raws
}

// proofType is the type of a proof in binary form: tangle.Proof.Append.
const proofType = "application/vnd.coinop.tangle-proof-v1"

// proofBytes is a proof in binary form.
type proofBytes []byte

// A jsonProof is a proof for people, and for those who check it by themselves.
type jsonProof struct {
	Transaction  tangle.TransactionID `json:"transactionId"`
	ID           tangle.BlockID       `json:"blockId"`
	Block        *tangle.Block        `json:"block"`
	Milestone    *tangle.Milestone    `json:"milestone"`
	Lefts        uint32               `json:"lefts"` // bit i: siblings[i] is on the left
	Siblings     []tangle.Hash        `json:"siblings"`
	Coordinators tangle.Hash          `json:"coordinators"` // the digest of their keys, which bills name
}

// proof shows that a milestone has applied a transaction: ours.
func (c *call) proof() (any, error) {
	var id tangle.TransactionID
	if err := c.text(&id); err != nil {
		return nil, err
	}
	var p tangle.Proof
	var err error
	if gone := c.look(func(n *node.Node) { p, err = n.Proof(id) }); gone != nil {
		return nil, gone
	}
	switch {
	case errors.Is(err, node.ErrNotApplied):
		return nil, notApplied
	case errors.Is(err, node.ErrPruned):
		return nil, pruned
	case err != nil:
		return nil, err
	case c.accepts(proofType):
		return proofBytes(p.Append(nil)), nil
	}
	b, err := tangle.DecodeBlock(p.Block)
	if err != nil {
		return nil, err
	}
	siblings := p.Path.Siblings
	if siblings == nil {
		siblings = []tangle.Hash{}
	}
	return jsonProof{id, tangle.IDOf(p.Block), b, p.Milestone, p.Path.Lefts, siblings, c.s.trust().Digest()}, nil
}

// readProof reads the binary form.
func readProof(raw []byte) (tangle.Proof, error) {
	r := codec.NewReader(raw)
	p := tangle.ReadProof(r)
	return p, r.Close()
}
