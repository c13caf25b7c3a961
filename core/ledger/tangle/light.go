package tangle

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/blake2b"

	"coinop.dev/core/codec"
)

// What a wallet and a node say to each other: as packets between two cores of one
// machine, or over the node's REST. All of it may be said again at any time.

// Follow asks the node to say what an address has, now and whenever a milestone
// changes that.
type Follow struct{ Address Address }

// State answers Follow: the ledger as the milestone Index has left it.
type State struct {
	Address Address
	Index   uint32
	Unspent []Unspent // at most MaxUnspent, those of older milestones first
}

// MaxUnspent bounds what State lists. A wallet gathers its outputs, so what is not
// listed is listed later.
const MaxUnspent = 512

// An Unspent is an output that a milestone has applied and none has consumed.
type Unspent struct {
	ID     OutputID
	Amount uint64
	// Note is the tagged data of the transaction that made it, not to be changed;
	// nil if it has none, or if the node has pruned it.
	Note *TaggedData
}

// Submit hands a signed transaction to the node, which puts it into blocks until it
// is applied or can never be. The answer is Rejected, or Final once a milestone has
// applied it, however often it stands in the Tangle; until then the wallet asks
// again.
type Submit struct{ Transaction *Transaction }

// Rejected says that the node does not take a transaction.
type Rejected struct {
	Transaction TransactionID
	Why         Refusal
}

// Final says that a milestone has applied a transaction, with what shows it to
// anybody.
type Final struct {
	Transaction TransactionID
	Proof       Proof
}

// Refusal is why a transaction is not taken.
type Refusal string

const (
	BadTransaction Refusal = "The transaction breaks the rules of its network"
	SpentInput     Refusal = "An input was spent by another transaction"
	NoInput        Refusal = "An input is not in the ledger"
	Pruned         Refusal = "The transaction was applied and the node has pruned what shows it"
	Busy           Refusal = "The node's queue is full; try again"
	NotSynced      Refusal = "The node is still fetching the Tangle; try again"
)

// Forever reports whether the transaction can never be applied. An input that is not
// in the ledger may still come.
func (r Refusal) Forever() bool { return r == BadTransaction || r == SpentInput }

// A Proof shows that a milestone has applied a block: it leads from the block to the
// milestone's AppliedRoot.
type Proof struct {
	Block     []byte // with its transaction
	Milestone *Milestone
	Path      Path
}

// A Path is an Inclusion without the place and the count, which say no more than on
// which side each sibling stands.
type Path struct {
	Lefts    uint32 // bit i: Siblings[i] is on the left
	Siblings []Hash // from the leaf up, at most MaxPath
}

// NewProof is a node's: of a block as it came, the place it has among those that the
// milestone has applied.
func NewProof(block []byte, m *Milestone, in Inclusion) Proof {
	return Proof{block, m, Path{in.lefts(), in.Path}}
}

// Coordinators are whose milestones count: Keys ascending, Threshold of which sign.
type Coordinators struct {
	Threshold int
	Keys      [][32]byte
}

// Trust is whose milestones a network goes by.
func (n *Network) Trust() Coordinators { return Coordinators{n.Threshold, n.Coordinators} }

// Digest names the coordinators (BLAKE2b-256): who has it knows whom to believe.
func (c Coordinators) Digest() Hash { return blake2b.Sum256(c.Append(nil)) }

// Append writes what ReadCoordinators reads.
func (c Coordinators) Append(b []byte) []byte {
	b = codec.AppendUint(b, c.Threshold)
	b = codec.AppendUint(b, len(c.Keys))
	for i := range c.Keys {
		b = append(b, c.Keys[i][:]...)
	}
	return b
}

// ReadCoordinators reads keys that make sense.
func ReadCoordinators(r *codec.Reader) (c Coordinators) {
	c.Threshold = r.Int(MaxCoordinator, "signatures that a milestone needs")
	c.Keys = make([][32]byte, r.Int(MaxCoordinator, "coordinator keys"))
	for i := range c.Keys {
		r.Fill(c.Keys[i][:])
		if i > 0 && bytes.Compare(c.Keys[i-1][:], c.Keys[i][:]) >= 0 {
			r.Fail(errors.New("coordinator keys must ascend and differ"))
		}
	}
	if c.Threshold < 1 || c.Threshold > len(c.Keys) {
		r.Fail(fmt.Errorf("%d of %d coordinators sign; at least 1 must, and all can", c.Threshold, len(c.Keys)))
	}
	return c
}

// Verify checks that coordinators have signed the milestone and that it has applied
// the block, and returns the transaction in it. Whether they signed another one with
// the same index, which would be their fraud, a proof cannot show.
func (p *Proof) Verify(c Coordinators) (*Transaction, error) {
	block, err := DecodeBlock(p.Block)
	if err != nil {
		return nil, err
	}
	t, ok := block.Payload.(*Transaction)
	if !ok {
		return nil, errors.New("the block has no transaction")
	}
	m := p.Milestone
	if m == nil {
		return nil, errors.New("the proof has no milestone")
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	if len(m.Signatures) < c.Threshold {
		return nil, fmt.Errorf("milestone %d has %d signatures; %d must sign", m.Index, len(m.Signatures), c.Threshold)
	}
	for _, s := range m.Signatures {
		if !slices.Contains(c.Keys, s.Public) {
			return nil, fmt.Errorf("milestone %d is signed by %x, which is no coordinator", m.Index, s.Public)
		}
	}
	if root := p.Path.root(IDOf(p.Block)); root != m.AppliedRoot {
		return nil, fmt.Errorf("block %s leads to root %s; milestone %d has applied %s", IDOf(p.Block), root, m.Index, m.AppliedRoot)
	}
	return t, verified(m.Checks())
}

// Append writes what ReadProof reads.
func (p *Proof) Append(b []byte) []byte {
	b = codec.AppendBytes(b, p.Block)
	b = codec.AppendBytes(b, p.Milestone.Append(nil))
	b = codec.AppendUint(b, len(p.Path.Siblings))
	b = codec.AppendUint(b, p.Path.Lefts)
	for i := range p.Path.Siblings {
		b = append(b, p.Path.Siblings[i][:]...)
	}
	return b
}

// ReadProof reads a proof; what it shows is for Verify to say.
func ReadProof(r *codec.Reader) (p Proof) {
	p.Block = r.Bytes(MaxBlockSize, "block")
	m, err := DecodeMilestone(r.Take(r.Int(MaxBlockSize, "milestone length")))
	if err != nil {
		r.Fail(err)
		return p
	}
	p.Milestone = m
	n := r.Int(MaxPath, "steps to the root")
	p.Path.Lefts = uint32(r.Uint(1<<n-1, "sides of the steps"))
	p.Path.Siblings = make([]Hash, n)
	for i := range p.Path.Siblings {
		r.Fill(p.Path.Siblings[i][:])
	}
	return p
}

func (p Path) root(id BlockID) Hash {
	sum := leafHash(id)
	for i, sibling := range p.Siblings {
		if p.Lefts>>i&1 == 1 {
			sum = nodeHash(sibling, sum)
		} else {
			sum = nodeHash(sum, sibling)
		}
	}
	return sum
}

// lefts is Root's way up.
func (p Inclusion) lefts() (bits uint32) {
	if p.Count == 0 {
		return 0
	}
	at, last := p.Index, p.Count-1
	for i := range p.Path {
		if at&1 == 1 || at == last {
			bits |= 1 << i
			for at&1 == 0 && at != 0 {
				at, last = at>>1, last>>1
			}
		}
		at, last = at>>1, last>>1
	}
	return bits
}
