package consent

import (
	"fmt"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A verdict is what the checks found out about a proposal that may be signed.
type verdict struct {
	*psbt.Packet
	own    []own
	prevs  map[wire.OutPoint]*wire.TxOut // what the inputs spend, as far as shown
	joint  bool                          // others have inputs
	change map[uint32]bool               // outputs that are the signer's
	top    []uint32                      // for each account: as in Signer

	spent    money.Amount // inputs less change
	fee      money.Amount // what of that pays for no order
	cost     money.Amount // spent, or more if what it replaces may cost more
	day      window
	replaced *given
	points   []wire.OutPoint
}

// An own input is one that the signer signs.
type own struct {
	input         int
	account       int
	branch, index uint32
	script        descriptor.Script
	value         int64 // satoshi
	hash          txscript.SigHashType
}

func (v *verdict) tx() *wire.MsgTx { return v.UnsignedTx }

// judge checks a proposal and changes nothing. It returns the consent if there
// is one already, else what to sign. Its error wraps a *Refusal.
func (s *Signer) judge(p *Proposal, now step.Time) (*verdict, *given, error) {
	if s.behind() {
		return nil, nil, s.rollback()
	}
	packet, err := parse(p.PSBT)
	if err != nil {
		return nil, nil, err
	}
	switch g := s.byID[p.ID]; {
	case g != nil && g.digest == p.digest(packet.UnsignedTx):
		return nil, g, nil
	case g != nil:
		return nil, nil, refuse(ReasonChanged, "proposal %v has a consent and came again with another transaction; take a new ID", p.ID)
	case p.ID.IsZero():
		return nil, nil, refuse(ReasonMalformed, "the proposal has no ID; choose one at random")
	case s.waiting() >= MaxWaiting:
		return nil, nil, refuse(ReasonBusy, "%d consents wait for the outside counter, which is the limit; propose again", MaxWaiting)
	}
	v := &verdict{Packet: packet, prevs: map[wire.OutPoint]*wire.TxOut{}, change: map[uint32]bool{}, top: make([]uint32, len(s.accounts))}
	for _, check := range []func(*Proposal, *verdict, step.Time) error{
		s.judgeForm, s.judgeInputs, s.judgeReplay, s.judgeProofs, s.judgeChange, s.judgeOrders, s.judgeMoney,
	} {
		if err := check(p, v, now); err != nil {
			return nil, nil, err
		}
	}
	return v, nil, nil
}

// judgeForm checks the transaction as such.
func (s *Signer) judgeForm(_ *Proposal, v *verdict, now step.Time) error {
	if err := fields(v.Packet); err != nil {
		return err
	}
	t := v.tx()
	if len(t.TxIn) == 0 || len(t.TxOut) == 0 {
		return refuse(ReasonMalformed, "the transaction has %d inputs and %d outputs; it needs one of each", len(t.TxIn), len(t.TxOut))
	}
	for i, in := range t.TxIn {
		for _, before := range t.TxIn[:i] {
			if in.PreviousOutPoint == before.PreviousOutPoint {
				return refuse(ReasonMalformed, "input %d spends %v a second time", i, in.PreviousOutPoint)
			}
		}
		// BIP 125's signal and no more: a lower number may be a lock (BIP 68).
		if in.Sequence < wire.MaxTxInSequenceNum-2 {
			return refuse(ReasonLockTime, "input %d has sequence %08x, which may lock it; the least is %08x", i, in.Sequence, uint32(wire.MaxTxInSequenceNum-2))
		}
	}
	for i, out := range t.TxOut {
		if out.Value < 0 || out.Value > money.MaxAmount.Sats() {
			return refuse(ReasonMalformed, "output %d is of %d sat; there are %d", i, out.Value, money.MaxAmount.Sats())
		}
	}
	tip, _ := s.chain.Tip()
	switch lock := t.LockTime; {
	case lock >= txscript.LockTimeThreshold && step.Time(lock) > now/step.Second:
		return refuse(ReasonLockTime, "the transaction is locked until second %d; it is %d", lock, now/step.Second)
	case lock < txscript.LockTimeThreshold && s.Policy.NeedProof && lock > uint32(tip):
		return &needHeaders{
			refuse(ReasonLockTime, "the transaction is locked until block %d; the signer's headers end at %d", lock, tip),
			s.locate(),
		}
	}
	return nil
}

// judgeReplay looks for the transaction and for what it replaces among the
// consents.
func (s *Signer) judgeReplay(p *Proposal, v *verdict, _ step.Time) error {
	txid := v.tx().TxHash()
	if g := s.byTx[txid]; g != nil {
		return refuse(ReasonReplayed, "transaction %v has a consent, of proposal %v; ask by that ID", txid, g.ID)
	}
	// The one danger of others' inputs is that they are ours too: shown two at a
	// time in two proposals of one transaction, with the same change in both.
	if s.joint[jointName(txid)] {
		return refuse(ReasonReplayed, "joint transaction %v has a consent; it gets no other", txid)
	}
	if v.joint && len(s.joint) == MaxJoint {
		return refuse(ReasonBusy, "there were %d joint transactions, which is the limit of an account; move the money to a new one", MaxJoint)
	}
	for _, o := range v.own {
		v.points = append(v.points, v.tx().TxIn[o.input].PreviousOutPoint)
	}
	if p.Replaces.IsZero() {
		return nil
	}
	old := s.byID[p.Replaces]
	switch {
	case old == nil:
		return refuse(ReasonReplacement, "proposal %v has no consent that is still known; propose without replacing", p.Replaces)
	case !old.after.IsZero():
		return refuse(ReasonReplacement, "proposal %v is replaced by %v already; replace that", p.Replaces, old.after)
	}
	if v.points = common(old.points, v.points); len(v.points) == 0 {
		return refuse(ReasonReplacement, "the transaction spends no input that all it replaces spend, so two of them could be mined; spend the coins of %v", p.Replaces)
	}
	for i := range p.Orders {
		if !old.pays(&p.Orders[i]) {
			return refuse(ReasonReplacement, "order %v is not paid so by proposal %v; a replacement changes only fee, inputs and change", p.Orders[i].ID, p.Replaces)
		}
	}
	v.replaced = old
	return nil
}

func common(a, b []wire.OutPoint) (both []wire.OutPoint) {
	for _, p := range a {
		for _, q := range b {
			if p == q {
				both = append(both, p)
			}
		}
	}
	return both
}

// judgeMoney adds up what leaves and compares it with the policy.
func (s *Signer) judgeMoney(p *Proposal, v *verdict, now step.Time) error {
	var in, change, paid int64
	for _, o := range v.own {
		in += o.value
	}
	for i := range v.change {
		change += v.tx().TxOut[i].Value
	}
	for i := range p.Orders {
		paid += p.Orders[i].Amount.Sats()
	}
	if in > money.MaxAmount.Sats() || !v.joint && in < change+paid {
		return refuse(ReasonAmount, "the inputs are %d sat and the outputs %d sat", in, change+paid)
	}
	v.spent, _ = money.FromSats(max(0, in-change))
	v.fee, _ = money.FromSats(max(0, in-change-paid))
	if limit := s.Policy.FeeMax; limit > 0 && v.fee > limit {
		return refuse(ReasonFee, "the fee is %v; the limit is %v", v.fee, limit)
	}
	rate := s.Policy.FeeRateMax
	if rate == 0 {
		rate = tx.MaxFeeRate
	}
	size := v.vsize(p)
	if limit := rate.For(size); v.fee.Sats() > limit {
		return refuse(ReasonFeeRate, "the fee is %d sat for %d vB; the limit is %d sat, at %d sat/kvB", v.fee.Sats(), size, limit, rate)
	}
	if limit := s.Policy.PerPayment; limit > 0 {
		for i := range p.Orders {
			if o := &p.Orders[i]; o.Amount > limit {
				return refuse(ReasonPerPayment, "order %v is %v; the limit is %v", o.ID, o.Amount, limit)
			}
		}
	}
	extra := v.spent
	v.cost, v.day = v.spent, s.day.at(now)
	if v.replaced != nil { // only one of them is ever mined
		v.cost = max(v.spent, v.replaced.cost)
		extra = v.cost - v.replaced.cost
	}
	if limit := s.Policy.PerDay; limit > 0 && extra > 0 {
		if total := v.day.total(); plus(total, extra) > limit {
			return refuse(ReasonPerDay, "%v would leave, after %v in the last 24 hours; the limit is %v", extra, total, limit)
		}
	}
	v.day.add(extra)
	return nil
}

// Sizes in virtual bytes: of what every transaction has, and of an input with
// its signature.
const vsizeBase = 11

var vsizeInput = map[descriptor.Kind]int{descriptor.PKH: 148, descriptor.SHWPKH: 91, descriptor.WPKH: 68, descriptor.TR: 58}

// vsize is the part of the transaction that the signer pays the fee for: all of
// it, or of a joint one its own inputs, change and orders.
func (v *verdict) vsize(p *Proposal) int {
	size := vsizeBase
	for _, o := range v.own {
		size += vsizeInput[o.script.Kind]
	}
	add := func(i uint32) { size += 9 + len(v.tx().TxOut[i].PkScript) }
	for i := range v.change {
		add(i)
	}
	for i := range p.Orders {
		add(p.Orders[i].Output)
	}
	return size
}

// name is a script for people.
func (s *Signer) name(script []byte) string {
	if a, err := descriptor.Address(script, s.Params); err == nil {
		return a
	}
	return fmt.Sprintf("script %.84x", script)
}
