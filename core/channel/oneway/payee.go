package oneway

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// Payee is the earning end of a channel. Make one with NewPayee or LoadPayee.
type Payee struct {
	Terms
	id     ID
	peer   string
	prefix string
	key    keys.Secret

	state  state
	seq    uint64
	held   money.Amount
	sig    keys.Signature // of the payer, for the closing transaction at held
	stamps receipt.Stamps
	offer  Offer // to close at, once Sig is set

	// What a restart asks for again, and what lives for one step.
	status  watch.Status
	told    bool
	tickets []Ticket
	signs   uint64 // signatures made since the start, for the summary
}

// NewPayee starts the earning end of a channel that a payer says it has funded.
// It takes tickets once the chain shows the funding deep enough. The terms must
// be what Consider answers; node is this machine's key.
func NewPayee(t Terms, node keys.Secret) (*Payee, error) {
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("channel terms: %w", err)
	}
	p := newPayee(t, node)
	switch {
	case t.Payee.Node != node.Public() || t.Payee.Stamp != node.Stamp(stampPurpose).Public():
		return nil, errors.New("channel terms: the payee is another node")
	case t.PayeeKey != p.key.Public():
		return nil, errors.New("channel terms: the payee's funding key is another")
	}
	return p, nil
}

func newPayee(t Terms, node keys.Secret) *Payee {
	id := t.ID()
	prefix := PayeeName(id) + "/"
	return &Payee{
		Terms: t, id: id, peer: t.PayerNode.PeerName(), prefix: prefix, key: payeeKey(node, id),
		stamps: receipt.NewStamps(prefix, id, t.Payee, node.Stamp(stampPurpose)),
	}
}

// PayeePrefix is the prefix of all payees' records.
const PayeePrefix = "oneway/payee/"

// PayeeName is the name of a channel's payee among a machine's cores.
func PayeeName(id ID) string { return PayeePrefix + id.String() }

// Step is the whole protocol, seen from the payee. Its outcomes are the orders
// it has stamped, as receipt.Paid.
func (p *Payee) Step(in step.Input) step.Effects {
	p.check()
	var fx step.Effects
	p.tickets = p.tickets[:0]
	for _, event := range in.Events {
		switch ev := event.(type) {
		case Close:
			p.close(ev, &fx)
		case step.Recv:
			p.recv(ev, &fx)
		case step.Linked, step.Unlinked:
		case step.Rang:
			if ev.ID == step.Start {
				p.start(&fx)
			}
			p.leave(&fx)
		default:
			panic(fmt.Sprintf("oneway: payee cannot handle %T", event))
		}
	}
	p.take(&fx)
	return fx
}

func (p *Payee) recv(ev step.Recv, fx *step.Effects) {
	if msg, ok := ev.Msg.(watch.Status); ok {
		if ev.From == watch.Chain && msg.Point == p.Point {
			p.chain(msg, fx)
		}
		return
	}
	if ev.From != p.peer {
		return
	}
	switch msg := ev.Msg.(type) {
	case Funded:
		p.sayReady(fx)
	case Ticket:
		p.tickets = append(p.tickets, msg)
	case Offer:
		p.offered(msg, fx)
	}
}

func (p *Payee) isOpen() bool {
	return p.state == open && p.status.Depth >= p.MinDepth && p.status.Spender == nil
}

// take works off the step's tickets. Only the last signature of a run is
// checked, because it is worth all the others; if it is bad its ticket is
// dropped and the one before is tried.
func (p *Payee) take(fx *step.Effects) {
	if len(p.tickets) == 0 || !p.isOpen() {
		return // the payer offers them again
	}
	from, base := p.seq, p.seq
	var taken []receipt.Entry
	for n := len(p.tickets); n > 0; n-- {
		if taken = p.run(p.tickets[:n]); taken != nil {
			break
		}
	}
	for i := range p.tickets {
		t := &p.tickets[i]
		p.stamps.Drop(t.Acked, fx)
		base = min(base, t.Base)
	}
	if taken != nil {
		fx.Put = append(fx.Put, p.head())
		p.stamps.Stamp(from, p.seq, p.held, taken, fx)
		p.signs++
	}
	// The stamps the payer may have missed, then the new one.
	for _, s := range p.stamps.Since(base) {
		fx.Send = append(fx.Send, step.Packet{To: p.peer, Msg: Taken{p.id, s}})
	}
}

// run follows tickets from what is held, and if the last one that adds anything
// is properly signed, holds it and returns the orders it added.
func (p *Payee) run(tickets []Ticket) (taken []receipt.Entry) {
	seq, held, last := p.seq, p.held, -1
	for i := range tickets {
		t := &tickets[i]
		fresh, ok := t.After(seq)
		if !ok {
			continue // a gap, which the payer will fill, or nothing new
		}
		sum, ok := receipt.Sum(fresh)
		total, fits := held.Add(sum)
		if !ok || !fits || total != t.Total || total > p.Capacity || len(taken)+len(fresh) > receipt.MaxEntries {
			continue
		}
		taken = append(taken, fresh...)
		seq, held, last = t.Seq, total, i
	}
	if last < 0 || !p.signed(&tickets[last]) {
		return nil
	}
	p.seq, p.held, p.sig = seq, held, tickets[last].Sig
	return taken
}

// signed reports whether a ticket's signature would let the payee claim its
// total. Below dust there is nothing to claim, and no signature to check: that
// much the payee trusts the payer for.
func (p *Payee) signed(t *Ticket) bool {
	digest, err := p.sighash(t.Total, p.closingFee())
	return err != nil || p.PayerKey.Verify(digest, t.Sig)
}

func (p *Payee) start(fx *step.Effects) {
	if p.state == opening {
		fx.Put = append(fx.Put, p.head(), p.termsRecord())
	}
	fx.Send = append(fx.Send, step.Packet{To: watch.Chain, Msg: p.Watched()})
}

func (p *Payee) sayReady(fx *step.Effects) {
	if p.state != opening && p.status.Depth >= p.MinDepth {
		fx.Send = append(fx.Send, step.Packet{To: p.peer, Msg: Ready{p.id}})
	}
}

// chain takes in what the chain says of the funding output. A funding that a
// reorganisation took out stops tickets until it is back.
func (p *Payee) chain(s watch.Status, fx *step.Effects) {
	was := p.status
	p.status = s
	if s.Depth > 0 && s.Value != p.Capacity.Sats() {
		p.status.Depth = 0 // not the output that was agreed
		return
	}
	if p.state == opening && s.Depth >= p.MinDepth {
		p.state = open
		fx.Put = append(fx.Put, p.head())
	}
	if was.Depth < p.MinDepth {
		p.sayReady(fx)
	}
	switch {
	case s.Spender != nil:
		p.spent(s, fx)
	case p.state == shut:
		p.state, p.told = closing, false
		fx.Put = append(fx.Put, p.head())
		p.publish(fx)
	case p.state == closing:
		p.publish(fx)
	case p.state == open && s.Tip >= p.Expiry-ClaimMargin:
		p.close(Close{Force: true}, fx)
	}
}

func (p *Payee) spent(s watch.Status, fx *step.Effects) {
	if !p.told {
		p.told = true
		fx.Done = append(fx.Done, step.Outcome{ID: Shut, Value: p.closedBy(s.Spender)})
	}
	if s.SpendDepth >= p.MinDepth && p.state != shut {
		p.state = shut
		fx.Put = append(fx.Put, p.head())
	}
}

// close asks the payer to close together, or claims with the last ticket.
func (p *Payee) close(c Close, fx *step.Effects) {
	switch {
	case p.status.Spender != nil:
		fx.Done = append(fx.Done, step.Outcome{ID: Shut, Value: p.closedBy(p.status.Spender)})
	case c.Force:
		p.state = closing
		fx.Put = append(fx.Put, p.head())
		p.publish(fx)
	default:
		fx.Send = append(fx.Send, step.Packet{To: p.peer, Msg: Leave{p.id}})
	}
}

// leave repeats, after a lost link, what a close that is under way needs.
func (p *Payee) leave(fx *step.Effects) {
	if p.state == closing {
		p.publish(fx)
	}
}

// offered takes the payer's offer to close, if it pays all that is held. From
// then on no ticket is taken, or a later one would be lost to this closing.
func (p *Payee) offered(o Offer, fx *step.Effects) {
	if o.Total != p.held || p.state == opening || p.state == shut || o.Fee > (p.Capacity-p.held).Sats() {
		return
	}
	digest, err := p.sighash(o.Total, o.Fee)
	if err != nil || !p.PayerKey.Verify(digest, o.Sig) {
		return
	}
	p.state, p.offer = closing, o
	fx.Put = append(fx.Put, p.head())
	p.publish(fx)
}

// publish completes and broadcasts the closing transaction: the agreed one, or
// the claim of the last ticket.
func (p *Payee) publish(fx *step.Effects) {
	if p.status.Spender != nil {
		return
	}
	total, fee, sig := p.held, p.closingFee(), p.sig
	if p.offer.Sig != (keys.Signature{}) {
		total, fee, sig = p.offer.Total, p.offer.Fee, p.offer.Sig
	}
	if total < money.Amount(tx.DustP2WPKH)*money.Sat && p.offer.Sig == (keys.Signature{}) {
		return // a claim below dust only pays the fee
	}
	digest, err := p.sighash(total, fee)
	if err != nil {
		return
	}
	p.signs++
	c, err := p.closed(total, fee, sig, p.key.Sign(digest))
	if err != nil {
		return
	}
	fx.Send = append(fx.Send, step.Packet{To: watch.Chain, Msg: watch.Publish{Tx: c}})
}

// Claim is the transaction that the payee could publish now, or nil.
func (p *Payee) Claim() *wire.MsgTx {
	var fx step.Effects
	p.publish(&fx)
	if len(fx.Send) == 0 {
		return nil
	}
	return fx.Send[0].Msg.(watch.Publish).Tx
}

func (p *Payee) check() {
	step.Assert(p.held <= p.Capacity, "oneway %v: holds %v of %v", p.id, p.held, p.Capacity)
	p.stamps.Check(p.seq, p.held)
}

// Summary reads the channel. The payee risks what it holds and could not claim
// on chain.
func (p *Payee) Summary() Summary {
	return Summary{
		ID: p.id, State: p.state.String(), Capacity: p.Capacity, Paid: p.held,
		AtRisk: p.held - min(p.held, p.Claimable(p.held)), Left: p.Capacity - p.held,
		Tickets: p.seq, Depth: p.status.Depth, Tip: p.status.Tip, Expiry: p.Expiry, Signatures: p.signs,
	}
}

func (p *Payee) head() step.Record {
	b := []byte{byte(p.state)}
	b = codec.AppendUint(b, p.seq)
	b = codec.AppendUint(b, p.held)
	b = append(b, p.sig[:]...)
	if p.offer.Sig != (keys.Signature{}) {
		b = codec.AppendUint(b, p.offer.Total)
		b = codec.AppendUint(b, p.offer.Fee)
		b = append(b, p.offer.Sig[:]...)
	}
	return step.Record{Key: p.prefix + "head", Value: b}
}

func (p *Payee) termsRecord() step.Record {
	return step.Record{Key: p.prefix + "terms", Value: p.Terms.append(nil)}
}

// Durable is everything the payee has on disk, for whoever wants to check it.
func (p *Payee) Durable() []step.Record {
	return append([]step.Record{p.head(), p.termsRecord()}, p.stamps.Durable()...)
}

// LoadPayee reads a payee back.
func LoadPayee(db step.Reader, id ID, node keys.Secret) (*Payee, error) {
	prefix := PayeeName(id) + "/"
	var terms Terms
	if err := codec.Record(db, prefix+"terms", func(r *codec.Reader) { terms = readTerms(r) }); err != nil {
		return nil, err
	}
	p := newPayee(terms, node)
	err := codec.Record(db, prefix+"head", func(r *codec.Reader) {
		p.state = state(r.Int(int(shut), "state"))
		p.seq, p.held = r.Uvarint(), r.Amount()
		r.Fill(p.sig[:])
		if r.Len() > 0 {
			p.offer = Offer{ID: id, Total: r.Amount(), Fee: int64(r.Amount())}
			r.Fill(p.offer.Sig[:])
		}
	})
	if err != nil {
		return nil, err
	}
	return p, p.stamps.Load(db)
}
