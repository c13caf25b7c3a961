package node

import (
	"encoding/binary"
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/step"
)

// A Snapshot is the ledger as a milestone has left it: the milestone's block, which
// coordinators have signed, and all unspent outputs.
//
// Milestones do not sign the ledger, only the blocks that they include. So nothing
// but the digest says that the outputs are right, and whoever begins with a snapshot
// trusts whoever told the digest: the operator's other node, a site that many can
// see. That the sum is the supply and that the milestone is signed is checked.
type Snapshot struct {
	Mark
	Digest tangle.Hash
	Raw    []byte
}

// Trust names the snapshot that an empty node begins with.
type Trust struct {
	Digest tangle.Hash
	Raw    []byte // nil asks peers for it
}

// Export asks for a snapshot of the ledger as it is; the outcome has its ID, and the
// *Snapshot. The node keeps the last one and serves it to peers.
type Export struct{ ID string }

// MaxSnapshot bounds a snapshot in bytes: some 570,000 outputs. A ledger of more is
// copied with its store.
const MaxSnapshot = 64 << 20

const snapshotMagic = "coinop/tangle/snapshot/1"

var (
	errNoMilestone  = errors.New("nothing is confirmed yet; a snapshot is of a milestone")
	errSnapshotSize = fmt.Errorf("a snapshot would be more than %d bytes; copy the store instead", MaxSnapshot)
	errSnapshotBusy = errors.New("a milestone is being written; try again")
)

func (n *Node) export(e Export) {
	s, err := n.Snapshot()
	if err == nil {
		n.exported = s
	}
	n.done(e.ID, s, err)
}

// Snapshot is the ledger as it is.
func (n *Node) Snapshot() (*Snapshot, error) {
	value := n.db.get(mileKey(n.head.Index))
	switch {
	case n.load != nil || value == nil:
		return nil, errNoMilestone
	case n.job != nil && n.job.begun || n.decided != (tangle.MilestoneID{}):
		return nil, errSnapshotBusy
	}
	m, _ := readMilestone(value)
	raw := binary.BigEndian.AppendUint64([]byte(snapshotMagic), n.net.ID)
	raw = codec.AppendBytes(raw, m.Raw)
	var ids []byte
	const size = len(tangle.OutputID{})
	room := (MaxSnapshot - len(raw)) / (size + outputSize)
	n.db.scan(ownerPre, func(key string, _ []byte) bool {
		ids = append(ids, key[len(key)-size:]...)
		return len(ids) <= room*size
	})
	if len(ids) > room*size {
		return nil, errSnapshotSize
	}
	for ; len(ids) > 0; ids = ids[size:] {
		record := n.db.get(outputPre + string(ids[:size]))
		step.Assert(len(record) == outputSize, "tangle: output %x is listed as unspent", ids[:size])
		raw = append(append(raw, ids[:size]...), record...)
	}
	return &Snapshot{n.head.Mark, tangle.Hash(tangle.IDOf(raw)), raw}, nil
}

// serveSnapshot answers for the snapshot that was exported last.
func (n *Node) serveSnapshot(p *peer, m AskSnapshot) {
	s := n.exported
	if s == nil || s.Digest != m.Digest {
		return
	}
	pieces := (len(s.Raw) + MaxSnapshotData - 1) / MaxSnapshotData
	if int(m.Piece) >= pieces {
		return
	}
	data := s.Raw[int(m.Piece)*MaxSnapshotData:]
	data = data[:min(len(data), MaxSnapshotData)]
	if n.allow(p, len(data)) {
		n.send(p.name, Piece{m.Digest, uint16(pieces), m.Piece, data})
	}
}

// importing is an empty node that takes a snapshot over.
type importing struct {
	raw    []byte
	pieces int
	got    int
	asked  step.Time
	tries  int
	at     int // in raw, from which outputs are written
	head   head
	block  []byte
	failed bool
}

// importStep is how many outputs one step writes.
const importStep = 20_000

// takeOver goes on with the snapshot that Config.Trust names.
func (n *Node) takeOver() {
	l := n.load
	for _, s := range n.later {
		if m, ok := s.msg.(Piece); ok {
			n.pieceCame(m)
		}
	}
	clear(n.later)
	n.later = n.later[:0]
	if l.failed {
		return
	}
	if n.c.Trust.Raw != nil && l.raw == nil {
		l.raw, l.got, l.pieces = n.c.Trust.Raw, 1, 1
	}
	if l.pieces == 0 || l.got < l.pieces {
		if n.now >= l.asked+2*AskAgain {
			l.asked, l.tries = n.now, l.tries+1
			if p := n.other(l.tries); p != nil {
				n.send(p.name, AskSnapshot{n.c.Trust.Digest, uint16(l.got)})
			}
		}
		return
	}
	if err := n.writeOutputs(); err != nil {
		if n.c.Trust.Raw == nil {
			*l = importing{tries: l.tries, asked: n.now} // a peer lied; another one
			n.rejected.Invalid++
			return
		}
		l.failed = true
		n.done(HaltID, nil, fmt.Errorf("snapshot %v: %w", n.c.Trust.Digest, err))
	}
}

func (n *Node) pieceCame(m Piece) {
	l := n.load
	if m.Digest != n.c.Trust.Digest || int(m.Piece) != l.got || n.c.Trust.Raw != nil || l.at > 0 ||
		l.pieces != 0 && int(m.Pieces) != l.pieces || int(m.Pieces) > MaxSnapshot/MaxSnapshotData+1 {
		return
	}
	l.pieces = int(m.Pieces)
	l.raw = append(l.raw, m.Data...)
	l.got++
	l.asked = 0
}

// writeOutputs checks the snapshot and writes it, a part in each step; the head comes
// last, and makes it count.
func (n *Node) writeOutputs() error {
	l := n.load
	if l.at == 0 {
		if err := n.openSnapshot(); err != nil {
			return err
		}
		n.db.put(importKey, n.c.Trust.Digest[:])
	}
	const size = len(tangle.OutputID{}) + outputSize
	for range importStep {
		if l.at == len(l.raw) {
			n.takenOver()
			return nil
		}
		o := readOutput(tangle.OutputID(l.raw[l.at:]), l.raw[l.at+len(tangle.OutputID{}):l.at+size])
		for _, r := range o.records() {
			n.db.add(r)
		}
		l.at += size
	}
	n.busy = true
	return nil
}

// openSnapshot checks everything before anything is written.
func (n *Node) openSnapshot() error {
	l := n.load
	if tangle.Hash(tangle.IDOf(l.raw)) != n.c.Trust.Digest {
		return errors.New("it has another digest")
	}
	r := codec.NewReader(l.raw)
	if string(r.Take(len(snapshotMagic))) != snapshotMagic || r.U64() != n.net.ID {
		return fmt.Errorf("it is none of %s", n.net.Name)
	}
	b, err := ReadBlock(r.Bytes(tangle.MaxBlockSize, "block"))
	if r.Err() != nil || err != nil || b.Milestone() == nil || !n.isSigned(b.Milestone()) {
		return errors.New("its milestone is not signed by the coordinators")
	}
	m := b.Milestone()
	const size = len(tangle.OutputID{}) + outputSize
	if r.Len()%size != 0 {
		return codec.ErrShort
	}
	from, sum := len(l.raw)-r.Len(), uint64(0)
	for at := from; at < len(l.raw); at += size {
		o := readOutput(tangle.OutputID(l.raw[at:]), l.raw[at+len(tangle.OutputID{}):at+size])
		if o.Amount > n.net.Supply-sum {
			return fmt.Errorf("it has more than the supply of %d", n.net.Supply)
		}
		sum += o.Amount
	}
	if sum != n.net.Supply {
		return fmt.Errorf("it has %d base units of %d", sum, n.net.Supply)
	}
	l.at, l.block = from, b.Raw
	l.head = head{Mark: Mark{m.Index, m.Timestamp}, ID: m.ID(), Oldest: m.Index + 1}
	return nil
}

func (n *Node) takenOver() {
	n.head = n.load.head
	_, err := ReadBlock(n.load.block)
	step.Assert(err == nil, "tangle: milestone of the snapshot: %v", err)
	n.db.put(importKey, nil)
	n.changed = true
	n.load = nil
	n.newDAG()
	n.nextDue()
	n.catchUp()
}
