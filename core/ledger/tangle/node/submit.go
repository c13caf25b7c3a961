package node

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/dag"
)

// Submit asks for a payload, or a block that is complete, to be attached. The
// outcome has its ID, and Attached or an error. A payload that is submitted again is
// not attached again; the node does that by itself while no milestone includes it.
//
// What becomes of a transaction is the outcome TxID(its ID).
type Submit struct {
	ID      string
	Payload tangle.Payload // transaction or tagged data, or nil
	Block   []byte         // serialised; then Payload is not looked at
}

// Attached answers Submit.
type Attached struct {
	Block   tangle.BlockID
	Payload [32]byte // hash of its bytes; of a transaction, its ID. Zero for none
}

// The IDs of outcomes that nobody has asked for.
const (
	ConfirmedID = "milestone" // Confirmed: a milestone has been confirmed
	HaltID      = "halt"      // only an error: nothing is confirmed any more
	DoubleID    = "double"    // Double: a coordinator has signed two milestones of one index
	CameID      = "blocks"    // Came, if Watch wants it
)

// Watch says which of the outcomes somebody hears that would be many. It is forgotten
// when the node is.
type Watch struct{ Blocks bool }

// Came tells of the blocks that a step has attached, in that order. They are not to be
// changed.
type Came struct{ Raw [][]byte }

// TxID is the ID of the outcome that tells what has become of a transaction: Settled,
// or an error whose cause is a Conflict or ErrOrphan.
func TxID(id tangle.TransactionID) string { return "tx/" + hex.EncodeToString(id[:]) }

// DataID is the ID of the outcome that tells that a milestone has included tagged
// data that this node attached, by the hash of its payload.
func DataID(payload [32]byte) string { return "data/" + hex.EncodeToString(payload[:]) }

// Settled says that a milestone has included a payload, and applied it if it is a
// transaction.
type Settled struct {
	Block     tangle.BlockID
	Milestone Mark
}

var (
	// ErrOrphan says that no milestone has included a payload although it was
	// attached MaxAttach times.
	ErrOrphan = fmt.Errorf("no milestone has included it in %d attempts", MaxAttach)
	// ErrUnsolid says that a submitted block has parents that this node does not know.
	ErrUnsolid = errors.New("the block has parents that this node does not know")

	// ErrTooOld says that its parents are below max depth.
	ErrTooOld = errors.New("the block has parents that are too old for any milestone to include it; ask for new ones")

	// ErrInvalid says that no block can carry the payload on this network.
	ErrInvalid = errors.New("the payload breaks the rules of its network")
	// ErrBlock says that the block is wrong; its payload may be right in another one.
	ErrBlock = errors.New("the block breaks the rules of its network")

	errPayload = fmt.Errorf("%w: only transactions and tagged data can be submitted", ErrInvalid)
	errSigned  = fmt.Errorf("%w: a signature does not hold", ErrInvalid)
	errWork    = fmt.Errorf("%w: its work is too little", ErrBlock)
	errBusy    = fmt.Errorf("%d submissions or %d bytes of them wait already, or %d payloads are not confirmed; try again", MaxSubmits, MaxBatch, MaxOwn)
)

// A submit waits for the step's signatures.
type submit struct {
	Submit
	wallet string // core that waits for tangle.Final; "" for an outcome
	block  *Block // if it came whole, or is made
	made   *unworked
	id     [32]byte
	raw    []byte
	first  int // of its signatures in the batch
	last   int
	bad    error
}

// An own payload is one that this node has attached and no milestone has included.
type own struct {
	id     [32]byte
	raw    []byte // payload
	block  tangle.BlockID
	since  uint32 // milestone after which it was attached or promoted last
	tries  int
	wallet string
}

func (o *own) record() []byte {
	b := append([]byte{}, o.block[:]...)
	b = codec.AppendUint(b, o.since)
	b = codec.AppendUint(b, o.tries)
	b = codec.AppendBytes(b, o.wallet)
	return codec.AppendBytes(b, o.raw)
}

func readOwn(id [32]byte, value []byte) (*own, error) {
	r := codec.NewReader(value)
	o := &own{id: id}
	r.Fill(o.block[:])
	o.since, o.tries = uint32(r.Height()), r.Int(MaxAttach, "attempts")
	o.wallet = r.String(64, "name")
	o.raw = r.Bytes(tangle.MaxBlockSize, "payload")
	return o, r.Close()
}

// submit takes a submission; its outcome follows in the same step.
func (n *Node) submit(s submit) {
	refuse := func(err error) { n.answerSubmit(&s, Attached{}, err) }
	if n.halt != nil {
		refuse(ErrHalted)
		return
	}
	if len(n.submits) >= MaxSubmits || len(n.own) >= MaxOwn || n.load != nil {
		refuse(errBusy)
		return
	}
	if s.Block != nil {
		b, err := ReadBlock(s.Block)
		if err != nil {
			refuse(fmt.Errorf("%w: %w", ErrBlock, err))
			return
		}
		s.block, s.Payload = b, b.Payload
	}
	switch p := s.Payload.(type) {
	case *tangle.Transaction:
		if err := p.Check(n.net); err != nil {
			refuse(fmt.Errorf("%w: %w", ErrInvalid, err))
			return
		}
	case *tangle.TaggedData:
	case nil:
		if s.block == nil {
			refuse(errPayload)
			return
		}
	default:
		refuse(errPayload)
		return
	}
	if s.Payload != nil {
		s.raw = s.Payload.Append(nil)
		s.id = tangle.IDOf(s.raw)
	}
	if n.submitted += len(s.raw) + len(s.Block); n.submitted > MaxBatch {
		refuse(errBusy)
		return
	}
	n.submits = append(n.submits, s)
}

// addSubmits puts the signatures of submissions into the batch.
func (n *Node) addSubmits() {
	for i := range n.submits {
		s := &n.submits[i]
		s.first = n.batch.Len()
		if t, ok := s.Payload.(*tangle.Transaction); ok {
			n.add(t.Checks())
		}
		s.last = n.batch.Len()
		if s.block != nil && !n.net.Enough(len(s.block.Raw), tangle.Zeros(s.block.Raw)) {
			s.bad = errWork
		}
	}
}

func (n *Node) judgeSubmits(each []bool) {
	for i := range n.submits {
		s := &n.submits[i]
		if slices.Contains(each[s.first:s.last], false) {
			s.bad = errSigned
		}
	}
}

// attachSubmits attaches what was submitted and is good. The work of a few blocks is done
// together.
func (n *Node) attachSubmits() {
	var group []*submit
	for i := range n.submits {
		s := &n.submits[i]
		if builds(group, s) {
			group = n.attachGroup(group)
		}
		attached, done, err := n.look(s)
		if done || err != nil {
			n.answerSubmit(s, attached, err)
			continue
		}
		group = append(group, s)
		if s.made == nil || len(group) >= together(s.made.zeros) {
			group = n.attachGroup(group)
		}
	}
	n.attachGroup(group)
	clear(n.submits)
	n.submits, n.submitted = n.submits[:0], 0
}

// builds reports whether a payload is in a group already, or spends what one there
// makes, whose block it is to approve.
func builds(group []*submit, s *submit) bool {
	t, _ := s.Payload.(*tangle.Transaction)
	for _, g := range group {
		if g.id == s.id || t != nil && slices.ContainsFunc(t.Essence.Inputs, func(in tangle.OutputID) bool { return in.Transaction() == g.id }) {
			return true
		}
	}
	return false
}

// attachGroup does the work of a group and attaches it. What is left of it is returned.
func (n *Node) attachGroup(group []*submit) []*submit {
	var list []*unworked
	for _, s := range group {
		if s.made != nil {
			list = append(list, s.made)
		}
	}
	blocks := work(list)
	for _, s := range group {
		if s.made != nil {
			s.block, blocks = blocks[0], blocks[1:]
		}
		attached, err := n.attachSubmit(s)
		n.answerSubmit(s, attached, err)
	}
	return group[:0]
}

// look looks at a submission before it is attached, and outlines its block if it has
// none. It is done if nothing is to be attached.
func (n *Node) look(s *submit) (attached Attached, done bool, err error) {
	if s.bad != nil {
		return attached, false, s.bad
	}
	if o := n.own[s.id]; o != nil && s.Payload != nil {
		if s.wallet != "" && o.wallet != s.wallet {
			o.wallet = s.wallet
			n.db.put(ownKey(o.id), o.record())
		}
		return Attached{o.block, s.id}, true, nil
	}
	if t, ok := s.Payload.(*tangle.Transaction); ok {
		if block, applied, err := n.applied(s.id, t); applied || err != nil {
			return Attached{block, s.id}, applied, err
		}
	}
	b := s.block
	if b == nil {
		s.made, err = n.outline(s.Payload, n.madeBy(s.Payload)...)
		return attached, false, err
	}
	if !n.solid(b) {
		return attached, false, ErrUnsolid
	}
	if n.tooOld(b) {
		return attached, false, ErrTooOld
	}
	if _, ok := n.confirmed(b.ID); ok {
		return Attached{b.ID, s.id}, true, nil
	}
	return attached, false, nil
}

func (n *Node) attachSubmit(s *submit) (Attached, error) {
	b := s.block
	if !n.attach(b, nil, false) {
		return Attached{}, ErrFull
	}
	n.db.put(blockKey(b.ID), b.Raw) // promised: not lazy
	n.release(b.ID)
	if s.Payload != nil {
		o := &own{id: s.id, raw: s.raw, block: b.ID, since: n.head.Index, wallet: s.wallet}
		n.own[s.id] = o
		n.schedule(o)
	}
	return Attached{b.ID, s.id}, nil
}

func (n *Node) solid(b *Block) bool {
	for _, parent := range b.Parents {
		if _, ok := n.confirmed(parent); !ok && n.vertices[parent] == nil {
			return false
		}
	}
	return true
}

// madeBy are the unconfirmed blocks whose transactions a payload spends from. It
// approves them, so that in no order it comes first.
func (n *Node) madeBy(p tangle.Payload) (must []tangle.BlockID) {
	t, ok := p.(*tangle.Transaction)
	if !ok {
		return nil
	}
	for _, in := range t.Essence.Inputs {
		id, ok := n.makers[in.Transaction()]
		if ok && !slices.Contains(must, id) && len(must) < tangle.MaxParents-1 && n.dag.Score(id) != dag.Lazy {
			must = append(must, id)
		}
	}
	return must
}

// applied finds the block by which a milestone has applied a transaction, or says that
// another one has spent an input of it. What has applied it may be pruned.
func (n *Node) applied(id tangle.TransactionID, t *tangle.Transaction) (b tangle.BlockID, ok bool, err error) {
	here := 0 // inputs that nobody has spent
	for _, in := range t.Essence.Inputs {
		o := n.output(in)
		switch {
		case o == nil:
		case o.Spent.Index == 0:
			here++
		case o.SpentBy == id:
			err = ErrPruned
		default:
			err = AlreadySpent
		}
	}
	if here > 0 && err == nil {
		return b, false, nil
	}
	if made := n.output(tangle.NewOutputID(id, 0)); made != nil {
		return made.Block, true, nil
	}
	return b, false, err
}

// schedule writes an own payload and has it looked at when it should be confirmed.
func (n *Node) schedule(o *own) {
	n.db.put(ownKey(o.id), o.record())
	at := o.since + n.c.PromoteAfter
	n.due[at] = append(n.due[at], o.id)
}

// settled ends an own payload.
func (n *Node) settled(o *own) {
	delete(n.own, o.id)
	n.db.put(ownKey(o.id), nil)
}

// again looks at own payloads that the milestone should have included: the block is
// promoted, that is approved by a new one, the first time, and every other time if
// it still may be; else the payload is attached anew. A milestone that this node only
// catches up with was made without hearing of them, and does not count.
func (n *Node) again(index uint32) {
	list := n.due[index]
	delete(n.due, index)
	synced := n.Synced()
	for _, id := range list {
		o := n.own[id]
		if o == nil || o.since+n.c.PromoteAfter != index {
			continue
		}
		if !synced {
			o.since = index
			n.schedule(o)
			continue
		}
		if o.tries++; o.tries > MaxAttach {
			n.settled(o)
			n.fail(o, ErrOrphan)
			continue
		}
		o.since = index
		if v := n.vertices[o.block]; v != nil && o.tries%2 == 1 && n.dag.Score(o.block) != dag.Lazy {
			if b, err := n.make(nil, o.block); err == nil {
				n.attach(b, nil, false)
			}
		} else if p, err := readPayload(o.raw); err == nil {
			if b, err := n.make(p, n.madeBy(p)...); err == nil && n.attach(b, nil, false) {
				n.db.put(blockKey(b.ID), b.Raw)
				o.block = b.ID
			}
		}
		n.schedule(o)
	}
}

// fail tells that an own payload will not be confirmed.
func (n *Node) fail(o *own, err error) {
	if p, e := readPayload(o.raw); e == nil && p.Type() == tangle.TypeTransaction {
		n.done(TxID(o.id), nil, err)
		n.tellRejected(o, err)
		return
	}
	n.done(DataID(o.id), nil, err)
}

// readPayload reads one that this node has written.
func readPayload(raw []byte) (tangle.Payload, error) {
	b := &tangle.Block{Protocol: tangle.Protocol, Parents: make([]tangle.BlockID, 1)}
	whole := b.AppendUnworked(nil)
	whole = whole[:len(whole)-4]
	whole = append(whole, byte(len(raw)), byte(len(raw)>>8), byte(len(raw)>>16), byte(len(raw)>>24))
	read, err := tangle.DecodeBlock(append(append(whole, raw...), make([]byte, tangle.NonceSize)...))
	if err != nil {
		return nil, err
	}
	return read.Payload, nil
}
