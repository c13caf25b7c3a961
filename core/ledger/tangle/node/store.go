package node

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/step"
)

// What is on disk, by the first bytes of the keys. IDs and numbers in keys are
// bytes, numbers big-endian.
//
// Records of a milestone that is not finished carry its index, which is above
// the head's, and do not count until the head says so: what a crash interrupts is
// done again from the beginning, to the same end.
const (
	prefix     = "tangle/"
	headKey    = prefix + "head"   // head
	voteKey    = prefix + "vote"   // the milestone that this coordinator signed last
	haltKey    = prefix + "halt"   // why nothing is confirmed any more
	importKey  = prefix + "import" // digest of a snapshot that is being taken over
	blockPre   = prefix + "b/"     // block ID: the block
	metaPre    = prefix + "m/"     // block ID: what a milestone made of it
	pagePre    = prefix + "a/"     // number: IDs attached in one step and not all confirmed
	outputPre  = prefix + "o/"     // output ID: Output
	ownerPre   = prefix + "u/"     // address, output ID: amount, while unspent
	milePre    = prefix + "n/"     // index: milestone
	mileIDPre  = prefix + "i/"     // milestone ID: index
	conePre    = prefix + "r/"     // index, piece: IDs of blocks and which of them changed the ledger
	spentPre   = prefix + "s/"     // index, piece: IDs of outputs
	ownPre     = prefix + "p/"     // payload ID: a payload of this node that is not confirmed
	entryPre   = prefix + "x/"     // block ID: milestone after which it was shown to be included
	witnessPre = prefix + "e/"     // index, milestone ID: a milestone that there should not be
)

func blockKey(id tangle.BlockID) string      { return blockPre + string(id[:]) }
func metaKey(id tangle.BlockID) string       { return metaPre + string(id[:]) }
func outputKey(id tangle.OutputID) string    { return outputPre + string(id[:]) }
func ownerKey(o *Output) string              { return ownerPre + string(o.Address[:]) + string(o.ID[:]) }
func mileKey(index uint32) string            { return milePre + be32(index) }
func mileIDKey(id tangle.MilestoneID) string { return mileIDPre + string(id[:]) }
func entryKey(id tangle.BlockID) string      { return entryPre + string(id[:]) }
func ownKey(id [32]byte) string              { return ownPre + string(id[:]) }

func pageKey(number uint64) string {
	return pagePre + string(binary.BigEndian.AppendUint64(nil, number))
}

func coneKey(index uint32, piece int) string  { return conePre + be32(index) + be32(uint32(piece)) }
func spentKey(index uint32, piece int) string { return spentPre + be32(index) + be32(uint32(piece)) }

func witnessKey(index uint32, id tangle.MilestoneID) string {
	return witnessPre + be32(index) + string(id[:])
}

func be32(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

// An overlay is the disk as it will be once this step's records are on it.
//
// A machine may step a core several times before it commits (drive.Machine), all
// with the same time. So what was put in such a step stays until the time is
// another one.
type overlay struct {
	disk    step.Reader
	at      step.Time
	records []step.Record
	places  map[string]int // in records
	earlier map[string][]byte
	outputs [2]map[string][]byte // records of outputs that were put last, newer ones first
	room    int                  // of each
}

// MaxOutputs bounds the outputs that are known without asking the disk, twice. Most are
// spent soon, and each takes some 250 bytes. A node that keeps fewer unconfirmed blocks
// keeps fewer of them.
const MaxOutputs = MaxUnconfirmed / 4

func newOverlay(disk step.Reader, c *Config) *overlay {
	return &overlay{
		disk: disk, room: c.MaxUnconfirmed * MaxOutputs / MaxUnconfirmed, places: map[string]int{}, earlier: map[string][]byte{},
		outputs: [2]map[string][]byte{{}, {}},
	}
}

// begin starts a step.
func (o *overlay) begin(at step.Time) {
	if at != o.at {
		clear(o.earlier)
		o.at = at
	}
}

// get reads a record; nil is none. A disk that cannot be read ends the core.
func (o *overlay) get(key string) []byte {
	if i, ok := o.places[key]; ok {
		return o.records[i].Value
	}
	if value, ok := o.earlier[key]; ok {
		return value
	}
	for _, outputs := range o.outputs {
		if value, ok := outputs[key]; ok {
			return value
		}
	}
	value, err := o.disk.Get(key)
	if err != nil {
		panic(fmt.Sprintf("tangle: read %q: %v", key, err))
	}
	return value
}

// put takes a record; nil deletes. Each key is once among the step's records.
func (o *overlay) put(key string, value []byte) { o.add(step.Record{Key: key, Value: value}) }

// note is put for what peers would tell again.
func (o *overlay) note(key string, value []byte) {
	o.add(step.Record{Key: key, Value: value, Lazy: true})
}

func (o *overlay) add(r step.Record) {
	if strings.HasPrefix(r.Key, outputPre) {
		o.keep(r)
	}
	if i, ok := o.places[r.Key]; ok {
		r.Lazy = r.Lazy && o.records[i].Lazy
		o.records[i] = r
		return
	}
	o.places[r.Key] = len(o.records)
	o.records = append(o.records, r)
}

// keep remembers an output.
func (o *overlay) keep(r step.Record) {
	delete(o.outputs[0], r.Key)
	delete(o.outputs[1], r.Key)
	if r.Value == nil {
		return
	}
	if len(o.outputs[0]) >= o.room {
		o.outputs[0], o.outputs[1] = map[string][]byte{}, o.outputs[0]
	}
	o.outputs[0][r.Key] = r.Value
}

// take ends a step.
func (o *overlay) take() []step.Record {
	records := o.records
	for _, r := range records {
		o.earlier[r.Key] = r.Value
	}
	clear(o.places)
	o.records = nil
	return records
}

// scan yields records on disk; what steps have put since is not seen.
func (o *overlay) scan(prefix string, yield func(key string, value []byte) bool) {
	if err := o.disk.Scan(prefix, yield); err != nil {
		panic(fmt.Sprintf("tangle: read %q: %v", prefix, err))
	}
}

// maxSkip is how many keys a scan walks over to where it should begin.
const maxSkip = 1024

// keys lists keys on disk that begin with a prefix and come after one, at most limit. A
// store can only scan what has a prefix, from its beginning. So if there is much before
// the one, what has a longer prefix in common with it is listed first, and then its
// neighbours.
func (o *overlay) keys(prefix, after string, limit int) (list []string) {
	skipped := 0
	o.scan(prefix, func(key string, _ []byte) bool {
		if key <= after {
			skipped++
			return skipped <= maxSkip
		}
		list = append(list, key)
		return len(list) < limit
	})
	if skipped <= maxSkip || len(prefix) >= len(after) {
		return list
	}
	list = o.keys(after[:len(prefix)+1], after, limit)
	for next := int(after[len(prefix)]) + 1; next < 256 && len(list) < limit; next++ {
		list = append(list, o.keys(prefix+string([]byte{byte(next)}), "", limit-len(list))...)
	}
	return list
}

// A head is where the ledger stands.
type head struct {
	Mark
	ID     tangle.MilestoneID // of the milestone at Index; zero for the genesis
	Oldest uint32             // milestone whose blocks are still there; 1 if none is gone
	Pages  uint64             // number of the next page
	Blocks uint64             // confirmed, ever
	Txs    uint64             // that changed the ledger, ever
}

func (h *head) record() []byte {
	b := append(h.Mark.append(nil), h.ID[:]...)
	b = binary.BigEndian.AppendUint32(b, h.Oldest)
	b = binary.BigEndian.AppendUint64(b, h.Pages)
	b = binary.BigEndian.AppendUint64(b, h.Blocks)
	return binary.BigEndian.AppendUint64(b, h.Txs)
}

func readHead(value []byte) (h head, err error) {
	r := codec.NewReader(value)
	h.Mark = readMark(r)
	r.Fill(h.ID[:])
	h.Oldest, h.Pages, h.Blocks, h.Txs = r.U32(), r.U64(), r.U64(), r.U64()
	return h, r.Close()
}

// An Inclusion is what a milestone made of a block.
type Inclusion uint8

const (
	Pending     Inclusion = iota // no milestone has included it
	NoTx                         // included, without a transaction
	Applied                      // included, and its transaction changed the ledger
	Conflicting                  // included, and its transaction did not
)

// meta is the record of a block that a milestone included.
type meta struct {
	Index    uint32 // of the milestone
	Place    uint32 // in its order
	State    Inclusion
	Conflict Conflict
}

func (m meta) record() []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 10), m.Index)
	return append(binary.BigEndian.AppendUint32(b, m.Place), byte(m.State), byte(m.Conflict))
}

func readMeta(value []byte) (m meta) {
	r := codec.NewReader(value)
	m = meta{r.U32(), r.U32(), Inclusion(r.U8()), Conflict(r.U8())}
	err := r.Close()
	step.Assert(err == nil, "tangle: record of a block: %v; restore the store", err)
	return m
}

// A milestone is the record of one: its block, and what it included.
type milestone struct {
	Raw         []byte // the block
	Blocks      uint32
	Applied     uint32
	Conflicting uint32
	Pieces      uint16
}

func (m *milestone) record() []byte {
	b := binary.BigEndian.AppendUint32(nil, m.Blocks)
	b = binary.BigEndian.AppendUint32(b, m.Applied)
	b = binary.BigEndian.AppendUint32(b, m.Conflicting)
	return append(binary.BigEndian.AppendUint16(b, m.Pieces), m.Raw...)
}

func readMilestone(value []byte) (m milestone, b *Block) {
	r := codec.NewReader(value)
	m = milestone{Blocks: r.U32(), Applied: r.U32(), Conflicting: r.U32(), Pieces: r.U16()}
	m.Raw = r.Take(r.Len())
	b, err := ReadBlock(m.Raw)
	step.Assert(err == nil && r.Err() == nil && b.Milestone() != nil, "tangle: record of a milestone: %v; restore the store", err)
	return m, b
}

// A cone is a piece of what a milestone included.
type cone struct {
	ids     []tangle.BlockID
	applied []bool // whether the block changed the ledger
}

func (c *cone) record() []byte {
	b := make([]byte, 0, 33*len(c.ids))
	for i, id := range c.ids {
		b = append(b, id[:]...)
		if c.applied[i] {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

func readCone(value []byte) (c cone) {
	for ; len(value) >= 33; value = value[33:] {
		c.ids = append(c.ids, tangle.BlockID(value[:32]))
		c.applied = append(c.applied, value[32] == 1)
	}
	return c
}

// sortedIDs are the keys of a map, in an order that is always the same.
func sortedIDs[K ~[32]byte, V any](m map[K]V) []K {
	ids := make([]K, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b K) int {
		x, y := [32]byte(a), [32]byte(b)
		return bytes.Compare(x[:], y[:])
	})
	return ids
}
