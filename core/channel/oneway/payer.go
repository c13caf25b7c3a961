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

// resendAfter is when what has no stamp is sent again, and resendAtMost when it is if
// the payee has not answered often: one that has more to do than it can do must not
// be given more.
const (
	resendAfter  = 2 * step.Second
	resendAtMost = 16 * step.Second
)

// Why a payer does not take an order.
var (
	ErrFull    = errors.New("channel capacity is spent")
	ErrNotOpen = errors.New("channel is not open")
	// ErrNoStamp means the payee claimed an order's ticket on chain and never
	// stamped it: it is paid, and the closing transaction is the only proof.
	ErrNoStamp = errors.New("paid on chain, but the payee never stamped it")
	// ErrAbandoned means the channel closed without an order's ticket.
	ErrAbandoned = errors.New("the channel closed without this order")
)

// Opened and Shut are the IDs of a channel's own outcomes: the first ticket may
// be sent; a closing transaction is in the chain (its value is a Closed).
const (
	Opened = "opened"
	Shut   = "shut"
)

// Closed is how a channel ended.
type Closed struct {
	Tx      *wire.MsgTx
	ToPayee int64 // satoshi
	ToPayer int64
	Fee     int64
}

// Close asks an end to close the channel. A payer offers to close with both
// signatures at FeeRate; a payee asks for that, or claims with its last ticket
// at once if Force is set.
type Close struct {
	FeeRate tx.FeeRate // 0: the rate of the terms
	Force   bool
}

// state is where an end is in a channel's life.
type state uint8

const (
	opening state = iota
	open
	closing
	shut
)

var stateNames = [...]string{"opening", "open", "closing", "closed"}

func (s state) String() string { return stateNames[s] }

// Payer is the paying end of a channel. Make one with NewPayer or LoadPayer.
type Payer struct {
	Terms
	id     ID
	peer   string // the name that packets to the payee go to
	prefix string // of its records
	key    keys.Secret
	index  uint64

	state   state
	funding *wire.MsgTx
	feeRate tx.FeeRate // to close at

	ledger receipt.Ledger

	// promised is the ledger's total, and the orders of the step under way.
	promised money.Amount

	// What a restart asks for again, and what lives for one step.
	status watch.Status
	told   bool            // the closing has been reported
	final  bool            // the closing is deep enough to stay
	fresh  []receipt.Entry // orders taken in this step
	again  bool            // this step should resend what is outstanding
	wait   step.Time       // until it is sent again
	since  step.Time       // when the outstanding was first sent, or sent again
	signs  uint64          // signatures made since the start, for the summary
}

// NewPayer starts the paying end of a channel whose funding transaction is
// signed but not yet published: the core publishes it once its record is
// durable. node is this machine's key, and index the number under which
// FundingKey gave t.PayerKey.
func NewPayer(t Terms, node keys.Secret, index uint64, funding *wire.MsgTx) (*Payer, error) {
	key := FundingKey(node, index)
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("channel terms: %w", err)
	}
	if key.Public() != t.PayerKey {
		return nil, errors.New("channel terms: the key is not the payer's")
	}
	if funding.TxHash() != t.Point.Hash || int(t.Point.Index) >= len(funding.TxOut) {
		return nil, errors.New("channel terms: the funding transaction does not have the funding output")
	}
	p := newPayer(t, key)
	p.index, p.funding = index, funding
	return p, nil
}

func newPayer(t Terms, key keys.Secret) *Payer {
	id := t.ID()
	prefix := PayerName(id) + "/"
	return &Payer{
		Terms: t, id: id, peer: t.Payee.Node.PeerName(), prefix: prefix, key: key,
		feeRate: t.FeeRate, ledger: receipt.NewLedger(prefix, id, t.Payee), wait: resendAfter,
	}
}

// PayerPrefix is the prefix of all payers' records.
const PayerPrefix = "oneway/payer/"

// PayerName is the name of a channel's payer among a machine's cores.
func PayerName(id ID) string { return PayerPrefix + id.String() }

// Step is the whole protocol, seen from the payer.
func (p *Payer) Step(in step.Input) step.Effects {
	p.check()
	var fx step.Effects
	p.fresh, p.again = nil, false
	wasOpen := p.isOpen()
	for _, event := range in.Events {
		switch ev := event.(type) {
		case money.Order:
			p.order(ev, &fx)
		case money.Inquiry:
			p.prove(ev, &fx)
		case Close:
			p.close(ev, &fx)
		case step.Recv:
			p.recv(ev, &fx)
		case step.Linked:
			if ev.Peer == p.peer {
				p.again, p.wait = true, resendAfter
			}
		case step.Unlinked:
		case step.Rang:
			if ev.ID == step.Start {
				p.start(&fx)
			}
			p.again = true
		default:
			panic(fmt.Sprintf("oneway: payer cannot handle %T", event))
		}
	}
	p.sign(&fx)
	p.send(in.At, &fx)
	if !wasOpen && p.isOpen() {
		fx.Done = append(fx.Done, step.Outcome{ID: Opened})
	}
	return fx
}

func (p *Payer) recv(ev step.Recv, fx *step.Effects) {
	switch msg := ev.Msg.(type) {
	case money.Order: // from a purse on this machine
		p.order(msg, fx)
		return
	case money.Inquiry:
		p.prove(msg, fx)
		return
	case watch.Status:
		if ev.From == watch.Chain && msg.Point == p.Point {
			p.chain(msg, fx)
		}
		return
	}
	if ev.From != p.peer {
		return
	}
	switch msg := ev.Msg.(type) {
	case Ready:
		if p.state == opening {
			p.state = open
			fx.Put = append(fx.Put, p.head())
		}
	case Taken:
		p.wait = resendAfter
		p.taken(msg.Stamped, fx)
	case Leave:
		p.close(Close{}, fx)
	}
}

func (p *Payer) isOpen() bool {
	return p.state == open && p.status.Depth > 0 && p.status.Spender == nil
}

// order takes an order, or answers at once if it is settled or cannot be paid.
// A repeated order that is still pending is answered when it settles.
func (p *Payer) order(o money.Order, fx *step.Effects) {
	if at, known := p.ledger.Find(o.ID); known {
		switch {
		case at.Batch != nil:
			fx.Done = append(fx.Done, at.Batch.Outcome(at.I))
		case p.final:
			p.abandon(fx)
		}
		return
	}
	if err := p.refusal(o); err != nil {
		fx.Done = append(fx.Done, step.Outcome{ID: o.ID.Key(), Err: &money.Error{Kind: money.Unpaid, Op: "pay " + o.ID.String(), Err: err}})
		return
	}
	p.promised += o.Amount
	p.ledger.Expect(o.ID)
	p.fresh = append(p.fresh, receipt.Entry{Order: o.ID, Amount: o.Amount})
}

// prove answers for an order that is known, and never pays.
func (p *Payer) prove(q money.Inquiry, fx *step.Effects) {
	if _, known := p.ledger.Find(q.Order); known {
		p.order(money.Order{ID: q.Order}, fx)
		return
	}
	fx.Done = append(fx.Done, step.Outcome{ID: q.Order.Key(), Err: &money.Error{Kind: money.Refused, Op: "prove " + q.Order.String(), Err: money.ErrForgotten}})
}

func (p *Payer) refusal(o money.Order) error {
	total, ok := p.promised.Add(o.Amount)
	switch {
	case !p.isOpen():
		return fmt.Errorf("%w: it is %v, its funding has %d of %d confirmations", ErrNotOpen, p.state, p.status.Depth, p.MinDepth)
	case o.Amount == 0:
		return errors.New("the amount is zero")
	case !ok || total > p.spendable():
		return fmt.Errorf("%w: %v is left of %v", ErrFull, p.spendable()-min(p.promised, p.spendable()), p.Capacity)
	case p.ledger.Full(len(p.fresh)):
		return receipt.ErrBacklog
	}
	return nil
}

// spendable is the capacity without the fee that closing costs the payer.
func (p *Payer) spendable() money.Amount {
	fee, _ := money.FromSats(p.closingFee())
	return p.Capacity - fee
}

// sign makes one ticket of all the orders this step took.
func (p *Payer) sign(fx *step.Effects) {
	if len(p.fresh) == 0 {
		return
	}
	p.ledger.Promise(p.promised, len(p.fresh), p.fresh, fx)
	fx.Put = append(fx.Put, p.head())
}

// send offers the new ticket, or everything outstanding if that may be lost,
// and asks to be woken in case this is lost too.
func (p *Payer) send(now step.Time, fx *step.Effects) {
	var m Message
	pending := len(p.ledger.Pending())
	if pending == 1 && len(p.fresh) > 0 {
		p.since = now // nothing was outstanding before
	}
	// New tickets must not put off the resending of one that was lost.
	if p.again = p.again || pending > 0 && now-p.since >= p.wait; p.again {
		p.since = now
	}
	switch {
	case p.state == shut || p.status.Spender != nil:
		return
	case p.state == opening && p.again:
		m = Funded{p.Terms}
	case pending > 0 && p.again:
		m, p.wait = p.ticket(true), min(2*p.wait, resendAtMost)
		fx.Put = append(fx.Put, p.head()) // it says which stamps are on disk
	case len(p.fresh) > 0:
		m = p.ticket(false)
	case p.state == closing && p.again && pending == 0:
		offer, err := p.offer()
		if err != nil {
			return // nothing above dust: the refund will do
		}
		m = offer
	default:
		return
	}
	if pending == 0 {
		p.since = now // an opening or an offer
	}
	fx.Send = append(fx.Send, step.Packet{To: p.peer, Msg: m})
	fx.Wake = append(fx.Wake, step.Alarm{ID: "resend", At: p.since + p.wait})
}

// ticket signs the total, with the newest orders or all that have no stamp.
func (p *Payer) ticket(all bool) Ticket {
	m := Ticket{ID: p.id, Total: p.ledger.Total, Run: p.ledger.Run(all)}
	if digest, err := p.sighash(m.Total, p.closingFee()); err == nil {
		m.Sig = p.key.Sign(digest)
		p.signs++
	} // below dust there is nothing to claim yet, and so nothing to sign
	return m
}

// taken settles the tickets that a stamp covers.
func (p *Payer) taken(s receipt.Stamped, fx *step.Effects) {
	settled, _ := p.ledger.Taken(s, fx)
	for _, b := range settled {
		for i := range b.Entries {
			fx.Done = append(fx.Done, b.Outcome(i))
		}
	}
	if len(settled) > 0 {
		head := p.head()
		head.Lazy = p.state != closing // a closing is for what is stamped: no way back
		fx.Put = append(fx.Put, head)
		p.again = p.again || p.state == closing
	}
}

// start publishes and watches the funding, on every start: both are harmless
// to repeat.
func (p *Payer) start(fx *step.Effects) {
	if p.state == opening && p.ledger.Seq == 0 {
		fx.Put = append(fx.Put, p.head(), p.termsRecord())
	}
	p.publishFunding(fx)
	fx.Send = append(fx.Send, step.Packet{To: watch.Chain, Msg: p.Watched()})
}

func (p *Payer) publishFunding(fx *step.Effects) {
	if p.state != shut && p.status.Depth == 0 {
		fx.Send = append(fx.Send, step.Packet{To: watch.Chain, Msg: watch.Publish{Tx: p.funding}})
	}
}

// chain takes in what the chain says of the funding output.
func (p *Payer) chain(s watch.Status, fx *step.Effects) {
	was := p.status
	p.status = s
	switch {
	case s.Spender != nil:
		p.spent(s, fx)
	case p.state == shut: // a reorganisation took the closing out again
		p.state, p.told, p.final, p.again = closing, false, false, true
		fx.Put = append(fx.Put, p.head())
	case s.Depth == 0 && (was.Depth > 0 || was.Tip != s.Tip):
		p.publishFunding(fx)
	case s.Tip >= p.Expiry:
		if p.state != closing {
			p.state = closing
			fx.Put = append(fx.Put, p.head())
		}
		fx.Send = append(fx.Send, step.Packet{To: watch.Chain, Msg: watch.Publish{Tx: p.Refund(p.key)}})
	}
}

// spent reports the closing once, and when it is deep enough to stay settles
// what was still pending by what the chain shows.
func (p *Payer) spent(s watch.Status, fx *step.Effects) {
	c := p.closedBy(s.Spender)
	if !p.told {
		p.told = true
		fx.Done = append(fx.Done, step.Outcome{ID: Shut, Value: c})
	}
	if s.SpendDepth < p.MinDepth || p.final {
		return
	}
	p.final = true
	if p.state != shut {
		p.state = shut
		fx.Put = append(fx.Put, p.head())
	}
	p.abandon(fx)
}

// abandon answers the orders that were never stamped, by what the closing
// transaction says of their tickets.
func (p *Payer) abandon(fx *step.Effects) {
	paid := p.closedBy(p.status.Spender).ToPayee
	for _, t := range p.ledger.Pending() {
		kind, cause := money.Unpaid, ErrAbandoned
		if t.Total.Sats() <= paid {
			kind, cause = money.Pending, ErrNoStamp
		}
		for _, e := range t.Entries {
			err := &money.Error{Kind: kind, Op: "pay " + e.Order.String(), Err: cause}
			fx.Done = append(fx.Done, step.Outcome{ID: e.Order.Key(), Err: err})
		}
	}
}

// close stops taking orders; the offer goes out when nothing is pending.
func (p *Payer) close(c Close, fx *step.Effects) {
	if p.status.Spender != nil {
		fx.Done = append(fx.Done, step.Outcome{ID: Shut, Value: p.closedBy(p.status.Spender)})
		return
	}
	if c.FeeRate != 0 {
		p.feeRate = min(max(c.FeeRate, tx.MinFeeRate), tx.MaxFeeRate)
	}
	p.state, p.again = closing, true
	fx.Put = append(fx.Put, p.head())
}

// offer signs the closing transaction at what the payee holds. The fee may
// take the payer's change and no more.
func (p *Payer) offer() (Offer, error) {
	change := (p.Capacity - p.ledger.Stamped).Sats()
	o := Offer{ID: p.id, Total: p.ledger.Stamped, Fee: min(p.feeRate.For(closingVSize), change)}
	digest, err := p.sighash(o.Total, o.Fee)
	if err != nil {
		return o, err
	}
	o.Sig = p.key.Sign(digest)
	p.signs++
	return o, nil
}

// closedBy reads how much a spender of the funding output pays to whom.
func (t *Terms) closedBy(spender *wire.MsgTx) Closed {
	c := Closed{Tx: spender, Fee: t.Capacity.Sats()}
	for _, out := range spender.TxOut {
		c.Fee -= out.Value
		switch string(out.PkScript) {
		case string(t.PayeeScript):
			c.ToPayee += out.Value
		case string(t.PayerScript):
			c.ToPayer += out.Value
		}
	}
	return c
}

func (p *Payer) check() {
	p.ledger.Check()
	step.Assert(p.ledger.Total == p.promised && p.promised <= p.Capacity, "oneway %v: promised %v, tickets for %v, of %v", p.id, p.promised, p.ledger.Total, p.Capacity)
}

// Summary is what people ask of a channel end.
type Summary struct {
	ID       ID           `json:"id"`
	State    string       `json:"state"`
	Capacity money.Amount `json:"capacity_msat"`
	Paid     money.Amount `json:"paid_msat"` // promised and stamped, or held
	Pending  money.Amount `json:"pending_msat"`
	AtRisk   money.Amount `json:"at_risk_msat"`
	Left     money.Amount `json:"left_msat"`
	Tickets  uint64       `json:"tickets"`
	Depth    int32        `json:"depth"`
	Tip      int32        `json:"tip"`
	Expiry   int32        `json:"expiry"`

	Signatures uint64 `json:"signatures"` // made since this end was loaded, stamps included
}

// Summary reads the channel. The payer risks what it promised without a stamp.
func (p *Payer) Summary() Summary {
	return Summary{
		ID: p.id, State: p.state.String(), Capacity: p.Capacity, Paid: p.ledger.Stamped,
		Pending: p.promised - p.ledger.Stamped, AtRisk: p.promised - p.ledger.Stamped, Left: p.spendable() - p.promised,
		Tickets: p.ledger.Seq, Depth: p.status.Depth, Tip: p.status.Tip, Expiry: p.Expiry, Signatures: p.signs,
	}
}

// Records. The head changes with every ticket; the terms never do.

func (p *Payer) head() step.Record {
	b := []byte{byte(p.state)}
	b = codec.AppendUint(b, int64(p.feeRate))
	return step.Record{Key: p.prefix + "head", Value: p.ledger.AppendHead(b)}
}

func (p *Payer) termsRecord() step.Record {
	b := p.Terms.append(nil)
	b = codec.AppendUint(b, p.index)
	return step.Record{Key: p.prefix + "terms", Value: codec.AppendBytes(b, tx.Bytes(p.funding))}
}

// Durable is everything the payer has on disk, for whoever wants to check it.
func (p *Payer) Durable() []step.Record {
	return append([]step.Record{p.head(), p.termsRecord()}, p.ledger.Durable()...)
}

// FundingKey is the key of one channel that a machine funds. Each channel has
// an index of its own, kept with its terms.
func FundingKey(node keys.Secret, index uint64) keys.Secret {
	return node.Derive(fmt.Sprintf("oneway/payer/%d", index))
}

// LoadPayer reads a payer back; node is this machine's key.
func LoadPayer(db step.Reader, id ID, node keys.Secret) (*Payer, error) {
	prefix := PayerName(id) + "/"
	var terms Terms
	var index uint64
	var funding []byte
	err := codec.Record(db, prefix+"terms", func(r *codec.Reader) {
		terms, index, funding = readTerms(r), r.Uvarint(), r.Bytes(tx.MaxSize, "funding transaction")
	})
	if err != nil {
		return nil, err
	}
	p := newPayer(terms, FundingKey(node, index))
	p.index = index
	if p.funding, err = tx.Parse(funding); err != nil {
		return nil, fmt.Errorf("record %sterms: %w", prefix, err)
	}
	err = codec.Record(db, prefix+"head", func(r *codec.Reader) {
		p.state, p.feeRate = state(r.Int(int(shut), "state")), tx.FeeRate(r.Int(int(tx.MaxFeeRate), "fee rate"))
		p.ledger.ReadHead(r)
		p.promised = p.ledger.Total
	})
	if err != nil {
		return nil, err
	}
	return p, p.ledger.Load(db)
}
