package consent

import (
	"bytes"
	"fmt"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// judgeChange finds the outputs that are the signer's.
func (s *Signer) judgeChange(_ *Proposal, v *verdict, _ step.Time) error {
	known := make([]uint32, len(v.top)) // an output is no witness of its own index
	for i := range known {
		known[i] = max(v.top[i], s.top[i])
	}
	for i := range v.Outputs {
		out := &v.Outputs[i]
		all := derivations(out.Bip32Derivation, out.TaprootBip32Derivation)
		at, key, claimed := s.claim(all)
		if !claimed {
			if s.strays(all) {
				return refuse(ReasonChange, "output %d is said to be change, at a path of none of the signer's accounts", i)
			}
			continue
		}
		if _, err := s.mine(at, key, v.tx().TxOut[i].PkScript); err != nil {
			return refuse(ReasonChange, "output %d is not change: %v", i, err)
		}
		if limit := known[at.account] + MaxJump; at.index > limit {
			return refuse(ReasonChange, "output %d is change at index %d, where a restore would not look; the limit is %d", i, at.index, limit)
		}
		v.change[uint32(i)] = true
		v.top[at.account] = max(v.top[at.account], at.index)
	}
	return nil
}

// judgeOrders accounts for every output that is not change.
func (s *Signer) judgeOrders(p *Proposal, v *verdict, _ step.Time) error {
	paid := map[uint32]money.OrderID{}
	ids := map[money.OrderID]bool{}
	for i := range p.Orders {
		o := &p.Orders[i]
		if err := s.judgeOrder(p, o, v); err != nil {
			return err
		}
		if other, ok := paid[o.Output]; ok {
			return refuse(ReasonShared, "output %d pays order %v and is named by order %v; each needs its own", o.Output, other, o.ID)
		}
		if ids[o.ID] {
			return refuse(ReasonPaid, "order %v is named twice", o.ID)
		}
		paid[o.Output], ids[o.ID] = o.ID, true
		delete(v.change, o.Output) // paid, though to ourselves
		if err := s.judgePayee(o, v); err != nil {
			return err
		}
	}
	for i, out := range v.tx().TxOut {
		if _, ok := paid[uint32(i)]; !ok && !v.change[uint32(i)] && !v.joint {
			return refuse(ReasonOutput, "output %d pays %d sat to %s, which is for no order and not change", i, out.Value, s.name(out.PkScript))
		}
	}
	return nil
}

func (s *Signer) judgeOrder(p *Proposal, o *Order, v *verdict) error {
	if o.Output >= uint32(len(v.tx().TxOut)) {
		return refuse(ReasonOrder, "order %v is said to be paid by output %d; there are %d", o.ID, o.Output, len(v.tx().TxOut))
	}
	out := v.tx().TxOut[o.Output]
	if o.Amount != money.Amount(out.Value)*money.Sat || !bytes.Equal(o.Script, out.PkScript) {
		return refuse(ReasonOrder, "order %v is %v to %s; output %d pays %d sat to %s", o.ID, o.Amount, s.name(o.Script), o.Output, out.Value, s.name(out.PkScript))
	}
	if g := s.orders[o.ID]; g != nil {
		if g.ID != p.Replaces {
			return refuse(ReasonPaid, "order %v has a consent, of proposal %v; replace that", o.ID, g.ID)
		}
		return nil // judgeReplay compares it
	}
	e, ok := s.asked[o.ID]
	switch {
	case ok && (e.Amount != o.Amount || !bytes.Equal(e.Script, o.Script)):
		return refuse(ReasonOrder, "order %v is %v to %s; the device asked for %v to %s", o.ID, o.Amount, s.name(o.Script), e.Amount, s.name(e.Script))
	case !ok && s.Policy.OnlyAsked:
		return refuse(ReasonNotAsked, "order %v is none that the device asked for", o.ID)
	case !ok && v.joint:
		return refuse(ReasonFresh, "order %v is none that the device asked for, so others in this joint transaction may count the same output as theirs", o.ID)
	}
	return nil
}

// judgePayee checks whom an order pays. In a joint transaction others may hold
// the same output against the same payee, so its script must be of this order
// alone: no address that the policy fixes, in no other output, and paid by no
// other consent that is kept.
func (s *Signer) judgePayee(o *Order, v *verdict) error {
	fixed, ok := s.payees.allow(o)
	if !ok {
		return refuse(ReasonPayee, "order %v pays %s, which the policy does not name", o.ID, s.name(o.Script))
	}
	if !v.joint {
		return nil
	}
	if fixed {
		return refuse(ReasonFresh, "order %v pays the fixed address %s, which other devices pay too; pay it in a transaction of its own", o.ID, s.name(o.Script))
	}
	for i, out := range v.tx().TxOut {
		if uint32(i) != o.Output && bytes.Equal(out.PkScript, o.Script) {
			return refuse(ReasonFresh, "order %v and output %d pay the same script; the payee cannot tell them apart", o.ID, i)
		}
	}
	for _, g := range s.given {
		for i := range g.orders {
			if before := &g.orders[i]; before.ID != o.ID && bytes.Equal(before.Script, o.Script) {
				return refuse(ReasonFresh, "order %v pays %s, as order %v did; in a joint transaction a payee needs a new address", o.ID, s.name(o.Script), before.ID)
			}
		}
	}
	return nil
}

// pays reports whether g pays an order just so.
func (g *given) pays(o *Order) bool {
	for i := range g.orders {
		if p := &g.orders[i]; p.ID == o.ID {
			return p.Amount == o.Amount && bytes.Equal(p.Script, o.Script)
		}
	}
	return false
}

// payees are the scripts that a policy allows; nil allows all.
type payees struct {
	fixed  map[string]bool // script: whether it is a single one, of no range
	ranged []descriptor.Descriptor
}

func newPayees(texts []string, params *chaincfg.Params) (p payees, err error) {
	if len(texts) > MaxPayees {
		return p, fmt.Errorf("policy names %d payees; the limit is %d", len(texts), MaxPayees)
	}
	for _, text := range texts {
		if p.fixed == nil {
			p.fixed = map[string]bool{}
		}
		if script, err := descriptor.ParseAddress(text, params); err == nil {
			p.fixed[string(script)] = true
			continue
		}
		d, err := descriptor.Parse(text, params)
		if err != nil {
			return p, fmt.Errorf("payee %.100q is neither an address of %s nor a descriptor: %w", text, params.Name, err)
		}
		n := uint32(1)
		if d.Ranged() {
			n = PayeeWindow
			p.ranged = append(p.ranged, d)
		}
		for i := range n {
			script, err := d.At(0, i)
			if err != nil {
				return p, fmt.Errorf("payee %.100q: %w", text, err)
			}
			p.fixed[string(script.Script)] = !d.Ranged()
		}
	}
	return p, nil
}

// allow reports whether an order may be paid, and whether its script is a single
// one that the policy names.
func (p *payees) allow(o *Order) (fixed, ok bool) {
	if p.fixed == nil {
		return false, true
	}
	if fixed, ok := p.fixed[string(o.Script)]; ok {
		return fixed, true
	}
	if o.Index < PayeeWindow {
		return false, false
	}
	for _, d := range p.ranged {
		if s, err := d.At(0, o.Index); err == nil && bytes.Equal(s.Script, o.Script) {
			return false, true
		}
	}
	return false, false
}
