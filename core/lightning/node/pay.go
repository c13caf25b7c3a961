package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/lightning/onion"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A payment is an order that is not answered yet.
type payment struct {
	money.Order
	payee   keys.Public
	hash    [32]byte
	secret  [32]byte
	delta   uint32 // final cltv
	hints   [][]invoice.Hint
	meta    []byte
	keysend *[32]byte
	mpp     bool
	terms   *terms
	place   int
	maxFee  money.Amount

	asked  step.Time // when the payee was asked for terms; 0: not yet, or no need
	parts  int       // HTLCs that are in flight or wait to be
	left   money.Amount
	tries  int
	began  step.Time // 0: before a restart
	failed error     // why it is given up; the parts in flight are awaited
	paid   bool
	until  step.Time // when it stops waiting for a channel; 0: it does not wait
}

// Why a payment is given up. All of them are certain.
var (
	ErrExpired = errors.New("the invoice has expired")
	ErrNetwork = errors.New("the invoice is for another network")
	ErrTries   = fmt.Errorf("%d paths were tried", MaxTries)
	ErrTime    = errors.New("a path failed, and it is too late to try another")
	ErrPayee   = errors.New("the payee does not take it")
	ErrSilent  = errors.New("the payee is not linked, or does not say how to pay it")
)

// Scheme is the word of Lightning's payment URIs.
const Scheme = "lightning"

// order takes an order, or answers one that is known.
func (n *Node) order(o money.Order, bill *bolt11) {
	if s, ok := n.paid.by[o.ID]; ok {
		n.fx.Done = append(n.fx.Done, step.Outcome{ID: o.ID.Key(), Value: n.evidence(o.ID, s)})
		return
	}
	if n.paying[o.ID] != nil {
		return // it is on its way, and its outcome will come
	}
	p := &payment{Order: o, left: o.Amount, began: n.at}
	if err := n.begin(p, bill); err != nil {
		kind := money.Unpaid
		if o.Amount == 0 || o.Amount > money.MaxAmount {
			kind = money.Invalid
		}
		n.failed(o.ID.Key(), kind, "pay "+short(o.To), err)
		return
	}
	n.paying[o.ID] = p
}

// short is a payment URI for people.
func short(uri string) string {
	if len(uri) > 80 {
		return uri[:77] + "..."
	}
	return uri
}

// begin reads where an order goes.
func (n *Node) begin(p *payment, i *bolt11) error {
	if p.Amount == 0 || p.Amount > money.MaxAmount {
		return fmt.Errorf("the amount is %v", p.Amount)
	}
	if len(n.paying) >= MaxPayments {
		return fmt.Errorf("%d payments are under way; try again when one is answered", MaxPayments)
	}
	p.maxFee = n.MaxFeeBase + p.Amount/1_000_000*money.Amount(n.MaxFeePPM)
	rest, ok := strings.CutPrefix(p.To, Scheme+":")
	if !ok {
		return errors.New("it is not a lightning: URI")
	}
	if address, node := strings.CutPrefix(rest, "//"); node {
		return n.beginNode(p, address)
	}
	switch {
	case i == nil:
		return errors.New("it names neither an invoice nor a node")
	case i.err != nil:
		return i.err
	case i.Network != n.Network:
		return fmt.Errorf("%w: %s, and this node is on %s", ErrNetwork, i.Network, n.Network)
	case i.Amount != 0 && i.Amount != p.Amount:
		return fmt.Errorf("the invoice is for %v, the order for %v", i.Amount, p.Amount)
	case i.Expired(n.at):
		return ErrExpired
	case i.Payee == n.id:
		return errors.New("the invoice is our own")
	case n.byHash[i.Hash] != nil:
		return errors.New("another order pays this invoice already")
	}
	p.payee, p.hash, p.secret, p.delta, p.hints, p.meta = i.Payee, i.Hash, i.Secret, i.FinalCLTV+blockRace, i.Hints, i.Metadata
	p.mpp = i.Features.Has(invoice.BasicMPP)
	n.route(p)
	return nil
}

// beginNode is an order to a node: by asking it for terms, or, if the URI says
// keysend, with a preimage of our own.
func (n *Node) beginNode(p *payment, address string) (err error) {
	address, query, _ := strings.Cut(address, "?")
	node, _, _ := strings.Cut(address, "@")
	if p.payee, err = n.tables.parse(node); err != nil {
		return err
	}
	if p.payee == n.id {
		return errors.New("the payee is this node")
	}
	if slices.Contains(strings.Split(query, "&"), "keysend=1") {
		pre := n.seed.MAC("keysend", p.ID[:])
		p.keysend, p.hash, p.delta = &pre, hashOf(pre), keysendCLTV
		n.route(p)
		return nil
	}
	name := p.payee.PeerName()
	n.peerOf(name)
	n.asking[name] = append(n.asking[name], p)
	return nil
}

// payFor is how long other paths are tried. What is in flight then is awaited.
const payFor = step.Minute

// keysendCLTV is how many blocks a payment without an invoice leaves its payee,
// who had no chance to say how many it wants: more than the default of any node
// we know.
const keysendCLTV = 144

// blockRace is how many blocks the payee may see before us without calling the
// expiry too low.
const blockRace = 3

// conclude ends a payment that is paid, or that is given up and has nothing in
// flight any more.
func (n *Node) conclude(p *payment) {
	switch {
	case p.paid:
		n.forget(p)
	case p.failed != nil && p.parts == 0:
		n.giveUp(p, p.failed)
	}
}

// giveUp says that an order is certainly not paid.
func (n *Node) giveUp(p *payment, err error) {
	if n.paying[p.ID] != p {
		return
	}
	n.forget(p)
	n.failed(p.ID.Key(), money.Unpaid, "pay "+short(p.To), err)
}

func (n *Node) forget(p *payment) {
	delete(n.paying, p.ID)
	if n.byHash[p.hash] == p {
		delete(n.byHash, p.hash)
	}
	if p.terms != nil && !p.paid {
		n.drop(p.terms.ref)
	}
}

// fulfilled takes the preimage of an HTLC of ours: as a hop it is passed on, as
// the payer it is the proof.
func (n *Node) fulfilled(h *channel.HTLC) {
	o, err := readOutgoing(h.Note)
	step.Assert(err == nil, "lightning: the note of HTLC %d: %v", h.ID, err)
	if o.from != 0 {
		n.passBack(o, *h.Settle.Preimage)
		return
	}
	for i := range o.path {
		n.learnt.Succeeded(o.path[i].SCID, n.fromOf(&o, i), o.path[i].Amount, n.at)
	}
	p := n.paying[o.order]
	if p != nil {
		p.parts--
	}
	if _, known := n.paid.by[o.order]; known {
		return // another part was first
	}
	s := &Settled{order: o.order, amount: o.amount, preimage: *h.Settle.Preimage, ref: o.ref, place: o.place}
	n.fx.Done = append(n.fx.Done, step.Outcome{ID: o.order.Key(), Value: n.evidence(o.order, s)})
	if old, forgot := n.paid.add(o.order, s, n.fx); forgot {
		n.drop(old.ref)
	}
	if p != nil {
		p.paid = true
		n.conclude(p)
	}
}

func (n *Node) fromOf(o *outgoing, i int) keys.Public {
	if i == 0 {
		return n.id
	}
	return o.path[i-1].Node
}

// removed is an HTLC of ours that failed.
func (n *Node) removed(c *chanState, h *channel.HTLC) {
	o, err := readOutgoing(h.Note)
	step.Assert(err == nil, "lightning: the note of HTLC %d: %v", h.ID, err)
	if o.from != 0 {
		if c.Status() >= channel.Failed {
			n.failBack(o, nil) // the chain decided
		} else {
			n.failBack(o, h.Settle)
		}
		return
	}
	if _, known := n.paid.by[o.order]; known {
		return
	}
	p := n.revive(&o, h)
	p.parts--
	p.left += o.arrives()
	final := n.learn(c, &o, h)
	if final != nil && p.failed == nil {
		p.failed = final
	}
	if p.failed == nil {
		n.waiting = append(n.waiting, p)
	}
	n.conclude(p)
}

// learn reads why an HTLC failed, and returns an error if no other path can do.
func (n *Node) learn(c *chanState, o *outgoing, h *channel.HTLC) error {
	if h.Settle == nil || h.Settle.Code != 0 || c.Status() >= channel.Failed {
		n.learnt.Failed(o.path[0].SCID, n.id, o.path[0].Amount, n.at)
		switch {
		case c.Status() >= channel.Failed:
			return errors.New("its channel was closed, and the chain gave it back")
		case len(o.path) == 1:
			return errors.New("the payee could not read the onion")
		}
		return nil
	}
	_, secrets, err := onion.New(n.session(o), h.Hash, o.hops(h.Expiry, nil))
	step.Assert(err == nil, "lightning: an onion cannot be made again: %v", err)
	hop, f, err := onion.Open(secrets, h.Settle.Reason)
	switch {
	case hop < 0:
		n.learnt.Failed(o.path[len(o.path)-1].SCID, n.fromOf(o, len(o.path)-1), o.path[len(o.path)-1].Amount, n.at)
		if len(o.path) == 1 {
			return err
		}
		return nil
	case hop == len(o.path)-1:
		if f.Code == onion.CodeMPPTimeout {
			return nil
		}
		return fmt.Errorf("%w: %v", ErrPayee, f.Code)
	}
	for i := 0; i <= hop; i++ {
		n.learnt.Succeeded(o.path[i].SCID, n.fromOf(o, i), o.path[i].Amount, n.at)
	}
	next := &o.path[hop+1]
	n.learnt.Failed(next.SCID, o.path[hop].Node, next.Amount, n.at)
	if f.Code.Has(onion.FlagUpdate) {
		n.enclosed(f)
	}
	return nil
}

// unsent is an HTLC of ours that its channel gave back.
func (n *Node) unsent(c *chanState, h *channel.HTLC, err error) {
	o, bad := readOutgoing(h.Note)
	step.Assert(bad == nil, "lightning: the note of an HTLC: %v", bad)
	if o.from != 0 {
		n.refuse(o.from, o.id, onion.TemporaryChannelFailure(nil))
		return
	}
	if p := n.paying[o.order]; p != nil {
		p.parts--
		p.left += o.arrives()
		if errors.Is(err, channel.ErrNoLink) && p.failed == nil && !p.paid {
			n.pause(p)
			return
		}
		if p.failed == nil {
			p.failed = err
		}
		n.conclude(p)
	}
}
