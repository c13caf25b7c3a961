package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
)

// created answers a block that was attached.
type created struct {
	Block tangle.BlockID `json:"blockId"`
}

var errBody = fmt.Errorf("a block is at most %d bytes, and %d in JSON", tangle.MaxBlockSize, tangle.MaxJSON)

// submit attaches a block, and does what it lacks.
func (c *call) submit() (any, error) {
	form, _, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil {
		form = ""
	}
	limit, read := int64(tangle.MaxJSON), ReadBlockJSON
	switch form {
	case "application/json":
	case binary:
		limit, read = tangle.MaxBlockSize, ReadBlock
	default:
		return nil, &Fault{http.StatusUnsupportedMediaType, "the content type is neither application/json nor " + binary, ""}
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, limit))
	if err != nil {
		return nil, invalid(errBody)
	}
	b, err := read(body)
	if err != nil {
		return nil, invalid(fmt.Errorf("invalid block, error: %w", err))
	}
	synced := false
	if err := c.look(func(n *node.Node) { synced = n.Synced() }); err != nil {
		return nil, err
	}
	if !synced {
		return nil, notSynced
	}
	attached, err := c.s.Node.Attach(c.ctx, b)
	switch {
	case err != nil && c.ctx.Err() != nil:
		return nil, tooBusy
	case err != nil:
		return nil, refused(err)
	}
	return created{attached.Block}, nil
}

// nobody is the parent that stands for parents that the node is to choose: tangle's
// decoders want one.
var nobody tangle.BlockID

// ReadBlock reads a block that may lack parents.
func ReadBlock(raw []byte) (*tangle.Block, error) {
	if len(raw) < 2 || raw[1] != 0 {
		return tangle.DecodeBlock(raw)
	}
	if len(raw) > tangle.MaxBlockSize-len(nobody) {
		return nil, errBody
	}
	whole := append([]byte{raw[0], 1}, nobody[:]...)
	b, err := tangle.DecodeBlock(append(whole, raw[2:]...))
	if err != nil {
		return nil, err
	}
	b.Parents = nil
	return b, nil
}

// ReadBlockJSON reads a block that may lack parents and nonce.
func ReadBlockJSON(raw []byte) (*tangle.Block, error) {
	var posted struct {
		Protocol json.RawMessage   `json:"protocolVersion"`
		Parents  []json.RawMessage `json:"parents"`
		Payload  json.RawMessage   `json:"payload,omitempty"`
		Nonce    json.RawMessage   `json:"nonce"`
	}
	if err := json.Unmarshal(raw, &posted); err != nil {
		return nil, err
	}
	if len(posted.Protocol) == 0 {
		return nil, errors.New("protocolVersion is missing")
	}
	loose := len(posted.Parents) == 0
	if loose {
		posted.Parents = []json.RawMessage{json.RawMessage(`"` + nobody.String() + `"`)}
	}
	if len(posted.Nonce) == 0 || bytes.Equal(posted.Nonce, []byte(`""`)) {
		posted.Nonce = json.RawMessage(`"0"`)
	}
	whole, err := json.Marshal(posted)
	if err != nil {
		return nil, err
	}
	b := new(tangle.Block)
	if err := json.Unmarshal(whole, b); err != nil {
		return nil, err
	}
	if loose {
		b.Parents = nil
	}
	return b, nil
}

// text reads an ID out of the path.
func (c *call) text(id interface{ UnmarshalText([]byte) error }) error {
	if err := id.UnmarshalText([]byte(c.PathValue("id"))); err != nil {
		return invalid(err)
	}
	return nil
}

// answerBlock is a block as the client wants it.
func (c *call) answerBlock(raw []byte) (any, error) {
	if c.accepts(binary) {
		return serialized(raw), nil
	}
	return tangle.DecodeBlock(raw)
}

func (c *call) block() (any, error) {
	var id tangle.BlockID
	if err := c.text(&id); err != nil {
		return nil, err
	}
	var raw []byte
	if err := c.look(func(n *node.Node) { raw = n.Block(id) }); err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, notFound("block %s", id)
	}
	return c.answerBlock(raw)
}

func (c *call) blockMetadata() (any, error) {
	var id tangle.BlockID
	if err := c.text(&id); err != nil {
		return nil, err
	}
	var m node.Metadata
	var ok bool
	if err := c.look(func(n *node.Node) { m, ok = n.Metadata(id) }); err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound("block %s", id)
	}
	return describe(&m), nil
}

// metadata is what became of a block.
type metadata struct {
	ID         tangle.BlockID   `json:"blockId"`
	Parents    []tangle.BlockID `json:"parents"`
	Solid      bool             `json:"isSolid"`
	Referenced uint32           `json:"referencedByMilestoneIndex,omitempty"`
	Milestone  uint32           `json:"milestoneIndex,omitempty"`
	State      string           `json:"ledgerInclusionState,omitempty"`
	Conflict   node.Conflict    `json:"conflictReason,omitempty"`
	Promote    *bool            `json:"shouldPromote,omitempty"`
	Reattach   *bool            `json:"shouldReattach,omitempty"`
	Place      *uint32          `json:"whiteFlagIndex,omitempty"`
}

var states = map[node.Inclusion]string{node.NoTx: "noTransaction", node.Applied: "included", node.Conflicting: "conflicting"}

func describe(m *node.Metadata) metadata {
	d := metadata{ID: m.ID, Parents: m.Parents, Solid: m.Solid, Milestone: m.Milestone, State: states[m.State]}
	switch {
	case m.State != node.Pending:
		d.Referenced, d.Conflict, d.Place = m.Included, m.Conflict, &m.Place
	case m.Solid:
		d.Promote, d.Reattach = &m.SemiLazy, &m.Lazy
	}
	return d
}

// included finds the block whose transaction a milestone has applied.
func (c *call) included(also func(*node.Node, tangle.BlockID)) error {
	var tx tangle.TransactionID
	if err := c.text(&tx); err != nil {
		return err
	}
	var ok bool
	err := c.look(func(n *node.Node) {
		var id tangle.BlockID
		if id, ok = n.Included(tx); ok {
			also(n, id)
		}
	})
	if err == nil && !ok {
		err = notFound("included block of transaction %s", tx)
	}
	return err
}

func (c *call) includedBlock() (any, error) {
	var raw []byte
	if err := c.included(func(n *node.Node, id tangle.BlockID) { raw = n.Block(id) }); err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, pruned
	}
	return c.answerBlock(raw)
}

func (c *call) includedMetadata() (any, error) {
	var m node.Metadata
	var ok bool
	if err := c.included(func(n *node.Node, id tangle.BlockID) { m, ok = n.Metadata(id) }); err != nil {
		return nil, err
	}
	if !ok {
		return nil, pruned
	}
	return describe(&m), nil
}
