package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// exposure is what an owner's signer was shown and has let go of.
type exposure struct {
	shown    map[consent.ID][]shown
	counters map[uint64]chainhash.Hash
	given    map[consent.ID]consent.Consent
	parent   map[consent.ID]consent.ID // what a consent replaces
	signed   map[chainhash.Hash]*signed
	groups   map[consent.ID]*group // by the first of those that replace one another
	spent    []spent
}

func newExposure() exposure {
	return exposure{
		shown: map[consent.ID][]shown{}, counters: map[uint64]chainhash.Hash{}, given: map[consent.ID]consent.Consent{},
		parent: map[consent.ID]consent.ID{}, signed: map[chainhash.Hash]*signed{}, groups: map[consent.ID]*group{},
	}
}

// shown is one proposal as it was made.
type shown struct {
	raw      string
	packet   *psbt.Packet
	replaces consent.ID
	orders   []consent.Order
}

// signed is a transaction with signatures of one owner's.
type signed struct {
	in  map[wire.OutPoint]int64
	out map[int]int64
}

func (s *signed) loss() (sum int64) {
	for _, v := range s.in {
		sum += v
	}
	for _, v := range s.out {
		sum -= v
	}
	return sum
}

// group is transactions of which only one can be mined.
type group struct {
	points []wire.OutPoint
	cost   int64 // the most that one of them takes away
}

type spent struct {
	at   step.Time
	sats int64
}

// sent hears what leaves a machine: proposals to a signer, and its consents.
func (g *Gateway) sent(m *Machine, p step.Packet) {
	switch msg := p.Msg.(type) {
	case consent.Proposal:
		if to := g.machines[p.To]; to != nil {
			g.propose(g.of(to), &msg)
		}
	case consent.Consent:
		if err := g.audit(g.of(m), &msg); err != nil {
			g.Fail(err)
		}
	}
}

func (g *Gateway) propose(o *owner, m *consent.Proposal) {
	for _, s := range o.shown[m.ID] {
		if s.raw == string(m.PSBT) && s.replaces == m.Replaces && slices.EqualFunc(s.orders, m.Orders, sameOrder) {
			return
		}
	}
	if packet, err := psbt.NewFromRawBytes(bytes.NewReader(m.PSBT), false); err == nil {
		o.shown[m.ID] = append(o.shown[m.ID], shown{string(m.PSBT), packet, m.Replaces, m.Orders})
	}
}

func sameOrder(a, b consent.Order) bool { return a.ID == b.ID && a.Output == b.Output }

// audit holds a consent against the policy, without believing the signer or who
// proposed it.
func (g *Gateway) audit(o *owner, c *consent.Consent) error {
	if was, again := o.given[c.ID]; again {
		if was.Counter != c.Counter || was.Mark != c.Mark {
			return fmt.Errorf("the %s gives consent %d to proposal %v, and %d", o.name, was.Counter, c.ID, c.Counter)
		}
		return nil
	}
	s := o.asked(c)
	if s == nil {
		return fmt.Errorf("the %s signs what nobody has proposed", o.name)
	}
	t := s.packet.UnsignedTx
	id := t.TxHash()
	if was, used := o.counters[c.Counter]; used && was != id {
		return fmt.Errorf("the %s uses counter %d twice: for %v and for %v", o.name, c.Counter, was, id)
	}
	o.counters[c.Counter], o.given[c.ID], o.parent[c.ID] = id, *c, s.replaces
	if o.outside && c.Counter > o.counter {
		return fmt.Errorf("the %s shows consent %d before its outside counter, which is at %d", o.name, c.Counter, o.counter)
	}
	x := g.take(o, id, s.packet)
	bought := int64(0)
	root := o.root(c.ID)
	for _, order := range s.orders {
		p := g.purchases[order.ID]
		if p == nil || p.from != o || pays(t, p) == 0 {
			continue // not asked for, so nothing is bought
		}
		bought += p.amount.Sats()
		if limit := o.policy.PerPayment; limit > 0 && p.amount > limit {
			return fmt.Errorf("the %s signs %v for order %v; its limit is %v", o.name, p.amount, p.id, limit)
		}
		if !p.group.IsZero() && p.group != root {
			return fmt.Errorf("the %s signs two transactions for order %v of %v, which do not replace each other; the second is %v and takes %d sat away", o.name, p.id, p.amount, id, x.loss())
		}
		p.group = root
	}
	if fee := x.loss() - bought; fee > o.policy.FeeMax.Sats() {
		return fmt.Errorf("the %s signs away %d sat in %v, and buys for %d sat", o.name, x.loss(), id, bought)
	}
	return g.count(o, root, x)
}

// asked finds the proposal that a consent answers. If a liar has made it in several
// ways, it is one that the signer may have consented to.
func (o *owner) asked(c *consent.Consent) (found *shown) {
	for i := range o.shown[c.ID] {
		s := &o.shown[c.ID][i]
		if len(o.inputs(s.packet)) != len(c.Signatures) || c.Check(s.packet.UnsignedTx.TxHash(), o.key.Public()) != nil {
			continue
		}
		if found = s; s.replaces.IsZero() {
			continue
		}
		before := o.groups[o.root(s.replaces)]
		if before == nil { // a crash came before it was shown
			return s
		}
		for _, in := range s.packet.UnsignedTx.TxIn {
			if slices.Contains(before.points, in.PreviousOutPoint) {
				return s
			}
		}
		found = nil
	}
	return found
}

// root is the first of the consents that replace one another.
func (o *owner) root(id consent.ID) consent.ID {
	for !o.parent[id].IsZero() {
		id = o.parent[id]
	}
	return id
}

// take adds what a proposal shows to what is known of its transaction.
func (g *Gateway) take(o *owner, id chainhash.Hash, p *psbt.Packet) *signed {
	x := o.signed[id]
	if x == nil {
		x = &signed{map[wire.OutPoint]int64{}, map[int]int64{}}
		o.signed[id] = x
	}
	for point, value := range o.inputs(p) {
		x.in[point] = value
	}
	for i, out := range p.UnsignedTx.TxOut {
		f := &p.Outputs[i]
		if o.at(f.Bip32Derivation, f.TaprootBip32Derivation, out.PkScript) != nil || g.scripts[string(out.PkScript)] == o {
			x.out[i] = out.Value
		}
	}
	return x
}

// inputs are those of an owner's that a proposal names, with their values.
func (o *owner) inputs(p *psbt.Packet) map[wire.OutPoint]int64 {
	all := map[wire.OutPoint]int64{}
	for i := range p.Inputs {
		in, point := &p.Inputs[i], p.UnsignedTx.TxIn[i].PreviousOutPoint
		prev := in.WitnessUtxo
		if t := in.NonWitnessUtxo; t != nil && t.TxHash() == point.Hash && int(point.Index) < len(t.TxOut) {
			prev = t.TxOut[point.Index]
		}
		if prev != nil && o.at(in.Bip32Derivation, in.TaprootBip32Derivation, prev.PkScript) != nil {
			all[point] = prev.Value
		}
	}
	return all
}

// at derives the script that a PSBT says is at a place, if it is the one there.
func (o *owner) at(plain []*psbt.Bip32Derivation, tap []*psbt.TaprootBip32Derivation, script []byte) *descriptor.Script {
	try := func(fingerprint uint32, path []uint32) *descriptor.Script {
		var f [4]byte
		binary.LittleEndian.PutUint32(f[:], fingerprint)
		branch, index, ok := o.desc.Locate(f, path)
		if !ok {
			return nil
		}
		if s, err := o.desc.At(branch, index); err == nil && bytes.Equal(s.Script, script) {
			return &s
		}
		return nil
	}
	for _, d := range plain {
		if s := try(d.MasterKeyFingerprint, d.Bip32Path); s != nil {
			return s
		}
	}
	for _, d := range tap {
		if s := try(d.MasterKeyFingerprint, d.Bip32Path); s != nil {
			return s
		}
	}
	return nil
}

// count adds a consent to its group, and the group to the day.
func (g *Gateway) count(o *owner, root consent.ID, x *signed) error {
	var points []wire.OutPoint
	for p := range x.in {
		points = append(points, p)
	}
	all := o.groups[root]
	if all == nil {
		all = &group{points: points}
		o.groups[root] = all
	}
	if all.points = shared(all.points, points); len(all.points) == 0 {
		return fmt.Errorf("the %s signs a replacement of %v that shares no input with all that it replaces", o.name, root)
	}
	if more := x.loss() - all.cost; more > 0 {
		all.cost += more
		o.spent = append(o.spent, spent{g.Now, more})
	}
	day := int64(0)
	for _, s := range o.spent {
		if s.at > g.Now-24*step.Hour+10*step.Second { // clocks are wrong
			day += s.sats
		}
	}
	if limit := o.policy.PerDay; limit > 0 && money.Amount(day)*money.Sat > limit {
		return fmt.Errorf("the %s signs away %d sat in a day; its limit is %v", o.name, day, limit)
	}
	return nil
}
