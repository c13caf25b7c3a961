package oneway

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

const (
	// MaxPending bounds the orders that are promised and not stamped. All of
	// them fit one message (BOLT 8's 65,535 bytes), so one resend recovers
	// everything.
	MaxPending = 2048

	// Keep is how many settled orders an end remembers, so that an order handed
	// over again is answered with the same proof and not paid twice. It must
	// be at least what a purse can have open.
	Keep = 4096

	resendAfter = 2 * step.Second
)

// Why a payer does not take an order.
var (
	ErrFull    = errors.New("channel capacity is spent")
	ErrBacklog = fmt.Errorf("%d orders wait for the payee's stamp; try again when it answers", MaxPending)
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

// A ticket is the orders that one signature added.
type ticket struct {
	seq     uint64
	total   coinop.Amount // after it
	entries []receipt.Entry
}

// place is where an order is: in a stamped batch, or (batch nil) pending.
type place struct {
	batch *receipt.Batch
	i     int
}

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

	seq, acked       uint64 // last ticket signed, last ticket stamped
	signed, ackedSum coinop.Amount
	pending          []ticket
	pendingOrders    int
	stamped          []*receipt.Batch // oldest first
	stampedOrders    int
	where            map[coinop.OrderID]place

	// What a restart asks for again, and what lives for one step.
	status watch.Status
	told   bool                       // the closing has been reported
	final  bool                       // the closing is deep enough to stay
	fresh  []receipt.Entry            // orders taken in this step
	again  bool                       // this step should resend what is outstanding
	since  step.Time                  // when the outstanding was first sent, or sent again
	early  map[uint64]receipt.Stamped // stamps that wait for the one before, by From
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
	return &Payer{
		Terms: t, id: id, peer: t.Payee.Node.PeerName(), key: key,
		prefix:  PayerPrefix + id.String() + "/",
		feeRate: t.FeeRate,
		where:   map[coinop.OrderID]place{},
		early:   map[uint64]receipt.Stamped{},
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
		case coinop.Order:
			p.order(ev, &fx)
		case coinop.Inquiry:
			p.prove(ev, &fx)
		case Close:
			p.close(ev, &fx)
		case step.Recv:
			p.recv(ev, &fx)
		case step.Linked:
			p.again = p.again || ev.Peer == p.peer
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
	case coinop.Order: // from a purse on this machine
		p.order(msg, fx)
		return
	case coinop.Inquiry:
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
func (p *Payer) order(o coinop.Order, fx *step.Effects) {
	if at, known := p.where[o.ID]; known {
		switch {
		case at.batch != nil:
			fx.Done = append(fx.Done, outcome(receipt.Paid{Batch: at.batch, I: at.i}))
		case p.final:
			p.abandon(fx)
		}
		return
	}
	if err := p.refusal(o); err != nil {
		fx.Done = append(fx.Done, step.Outcome{ID: o.ID.Key(), Err: &coinop.Error{Kind: coinop.Unpaid, Op: "pay " + o.ID.String(), Err: err}})
		return
	}
	p.signed += o.Amount
	p.pendingOrders++
	p.where[o.ID] = place{}
	p.fresh = append(p.fresh, receipt.Entry{Order: o.ID, Amount: o.Amount})
}

// prove answers for an order that is known, and never pays.
func (p *Payer) prove(q coinop.Inquiry, fx *step.Effects) {
	if _, known := p.where[q.Order]; known {
		p.order(coinop.Order{ID: q.Order}, fx)
		return
	}
	fx.Done = append(fx.Done, step.Outcome{ID: q.Order.Key(), Err: &coinop.Error{Kind: coinop.Refused, Op: "prove " + q.Order.String(), Err: coinop.ErrForgotten}})
}

func (p *Payer) refusal(o coinop.Order) error {
	total, ok := p.signed.Add(o.Amount)
	switch {
	case !p.isOpen():
		return fmt.Errorf("%w: it is %v, its funding has %d of %d confirmations", ErrNotOpen, p.state, p.status.Depth, p.MinDepth)
	case o.Amount == 0:
		return errors.New("the amount is zero")
	case !ok || total > p.spendable():
		return fmt.Errorf("%w: %v is left of %v", ErrFull, p.spendable()-min(p.signed, p.spendable()), p.Capacity)
	case p.pendingOrders == MaxPending:
		return ErrBacklog
	}
	return nil
}

// spendable is the capacity without the fee that closing costs the payer.
func (p *Payer) spendable() coinop.Amount {
	fee, _ := coinop.FromSats(p.closingFee())
	return p.Capacity - fee
}

// sign makes one ticket of all the orders this step took.
func (p *Payer) sign(fx *step.Effects) {
	if len(p.fresh) == 0 {
		return
	}
	p.seq++
	t := ticket{p.seq, p.signed, p.fresh}
	p.pending = append(p.pending, t)
	fx.Put = append(fx.Put, p.head(), step.Record{Key: p.ticketKey(t.seq), Value: t.record()})
}

// send offers the new ticket, or everything outstanding if that may be lost,
// and asks to be woken in case this is lost too.
func (p *Payer) send(now step.Time, fx *step.Effects) {
	var m Message
	if len(p.pending) == 1 && len(p.fresh) > 0 {
		p.since = now // nothing was outstanding before
	}
	// New tickets must not put off the resending of one that was lost.
	if p.again = p.again || len(p.pending) > 0 && now-p.since >= resendAfter; p.again {
		p.since = now
	}
	switch {
	case p.state == shut || p.status.Spender != nil:
		return
	case p.state == opening && p.again:
		m = Funded{p.Terms}
	case len(p.pending) > 0 && p.again:
		m = p.ticket(p.pending)
	case len(p.fresh) > 0:
		m = p.ticket(p.pending[len(p.pending)-1:])
	case p.state == closing && p.again && len(p.pending) == 0:
		offer, err := p.offer()
		if err != nil {
			return // nothing above dust: the refund will do
		}
		m = offer
	default:
		return
	}
	if len(p.pending) == 0 {
		p.since = now // an opening or an offer
	}
	fx.Send = append(fx.Send, step.Packet{To: p.peer, Msg: m})
	fx.Wake = append(fx.Wake, step.Alarm{ID: "resend", At: p.since + resendAfter})
}

func (p *Payer) ticket(tickets []ticket) Ticket {
	last := tickets[len(tickets)-1]
	m := Ticket{ID: p.id, Base: tickets[0].seq - 1, Acked: p.acked, Seq: last.seq, Total: last.total, Entries: entries(tickets)}
	for i := range tickets {
		m.Sizes = append(m.Sizes, len(tickets[i].entries))
	}
	if digest, err := p.sighash(m.Total, p.closingFee()); err == nil {
		m.Sig = p.key.Sign(digest)
	} // below dust there is nothing to claim yet, and so nothing to sign
	return m
}

// taken settles the tickets that stamps cover. One that comes before its turn
// waits for it; a stale, repeated or forged one changes nothing.
func (p *Payer) taken(s receipt.Stamped, fx *step.Effects) {
	if s.From < p.acked || s.To > p.seq {
		return
	}
	if len(p.early) < MaxStamps || s.From == p.acked {
		p.early[s.From] = s
	}
	for {
		next, ok := p.early[p.acked]
		if !ok {
			break
		}
		delete(p.early, p.acked)
		p.settle(next, fx)
	}
	if len(p.pending) == 0 {
		clear(p.early)
	}
}

// settle checks a stamp whose turn it is and settles its orders.
func (p *Payer) settle(s receipt.Stamped, fx *step.Effects) {
	if s.To-s.From > uint64(len(p.pending)) {
		return
	}
	n := int(s.To - s.From)
	if s.Total != p.pending[n-1].total {
		return
	}
	b := &receipt.Batch{Channel: p.id, Payee: p.Payee, Stamped: s, Entries: entries(p.pending[:n])}
	b.Tree = receipt.NewTree(b.Entries)
	if !s.Verify(p.Payee.Stamp, p.id, b.Tree.Root()) {
		return
	}
	p.pending = append([]ticket(nil), p.pending[n:]...)
	p.pendingOrders -= len(b.Entries)
	p.acked, p.ackedSum = s.To, s.Total
	p.remember(b)
	fx.Put = append(fx.Put, step.Record{Key: p.stampKey(s.To), Value: s.Append(nil)})
	for i := range b.Entries {
		fx.Done = append(fx.Done, outcome(receipt.Paid{Batch: b, I: i}))
	}
	p.forget(fx)
	fx.Put = append(fx.Put, p.head())
	p.again = p.again || p.state == closing
}

func outcome(paid receipt.Paid) step.Outcome {
	return step.Outcome{ID: paid.Entry().Order.Key(), Value: paid}
}

func entries(tickets []ticket) (all []receipt.Entry) {
	n := 0
	for i := range tickets {
		n += len(tickets[i].entries)
	}
	all = make([]receipt.Entry, 0, n)
	for i := range tickets {
		all = append(all, tickets[i].entries...)
	}
	return all
}

func (p *Payer) remember(b *receipt.Batch) {
	p.stamped = append(p.stamped, b)
	p.stampedOrders += len(b.Entries)
	for i := range b.Entries {
		p.where[b.Entries[i].Order] = place{b, i}
	}
}

// forget drops the oldest batches while the rest still hold Keep orders.
func (p *Payer) forget(fx *step.Effects) {
	n := 0
	for n < len(p.stamped) && p.stampedOrders-len(p.stamped[n].Entries) >= Keep {
		b := p.stamped[n]
		for i := range b.Entries {
			delete(p.where, b.Entries[i].Order)
		}
		for seq := b.Stamped.From + 1; seq <= b.Stamped.To; seq++ {
			fx.Put = append(fx.Put, step.Record{Key: p.ticketKey(seq)})
		}
		fx.Put = append(fx.Put, step.Record{Key: p.stampKey(b.Stamped.To)})
		p.stampedOrders -= len(b.Entries)
		n++
	}
	p.stamped = p.stamped[n:]
}

// start publishes and watches the funding, on every start: both are harmless
// to repeat.
func (p *Payer) start(fx *step.Effects) {
	if p.state == opening && p.seq == 0 {
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
		fx.Send = append(fx.Send, step.Packet{To: watch.Chain, Msg: watch.Publish{Tx: p.refund(p.key)}})
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
	for _, t := range p.pending {
		kind, cause := coinop.Unpaid, ErrAbandoned
		if t.total.Sats() <= paid {
			kind, cause = coinop.Pending, ErrNoStamp
		}
		for _, e := range t.entries {
			err := &coinop.Error{Kind: kind, Op: "pay " + e.Order.String(), Err: cause}
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
	change := (p.Capacity - p.ackedSum).Sats()
	o := Offer{ID: p.id, Total: p.ackedSum, Fee: min(p.feeRate.For(closingVSize), change)}
	digest, err := p.sighash(o.Total, o.Fee)
	if err != nil {
		return o, err
	}
	o.Sig = p.key.Sign(digest)
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
	step.Assert(p.ackedSum <= p.signed && p.signed <= p.Capacity, "oneway %v: stamped %v, signed %v of %v", p.id, p.ackedSum, p.signed, p.Capacity)
	seq, total, orders := p.acked, p.ackedSum, 0
	for i := range p.pending {
		t := &p.pending[i]
		seq++
		step.Assert(t.seq == seq && t.total > total, "oneway %v: ticket %d to %v after %d to %v", p.id, t.seq, t.total, seq-1, total)
		total = t.total
		orders += len(t.entries)
	}
	step.Assert(seq == p.seq && total == p.signed && orders == p.pendingOrders, "oneway %v: %d tickets to %v, signed %d to %v", p.id, seq, total, p.seq, p.signed)
}

// Summary is what people ask of a channel end.
type Summary struct {
	ID       ID            `json:"id"`
	State    string        `json:"state"`
	Capacity coinop.Amount `json:"capacity_msat"`
	Paid     coinop.Amount `json:"paid_msat"` // promised and stamped, or held
	Pending  coinop.Amount `json:"pending_msat"`
	AtRisk   coinop.Amount `json:"at_risk_msat"`
	Left     coinop.Amount `json:"left_msat"`
	Tickets  uint64        `json:"tickets"`
	Depth    int32         `json:"depth"`
	Tip      int32         `json:"tip"`
	Expiry   int32         `json:"expiry"`
}

// Summary reads the channel. The payer risks what it promised without a stamp.
func (p *Payer) Summary() Summary {
	return Summary{
		ID: p.id, State: p.state.String(), Capacity: p.Capacity, Paid: p.ackedSum,
		Pending: p.signed - p.ackedSum, AtRisk: p.signed - p.ackedSum, Left: p.spendable() - p.signed,
		Tickets: p.seq, Depth: p.status.Depth, Tip: p.status.Tip, Expiry: p.Expiry,
	}
}

// Records. The head changes with every ticket; the terms never do.

func (p *Payer) ticketKey(seq uint64) string { return fmt.Sprintf("%st/%016x", p.prefix, seq) }
func (p *Payer) stampKey(seq uint64) string  { return fmt.Sprintf("%ss/%016x", p.prefix, seq) }

func (t ticket) record() []byte {
	return receipt.AppendEntries(codec.AppendUint(nil, t.total), t.entries)
}

func (p *Payer) head() step.Record {
	b := []byte{byte(p.state)}
	b = codec.AppendUint(b, int64(p.feeRate))
	b = codec.AppendUint(b, p.seq)
	b = codec.AppendUint(b, p.acked)
	b = codec.AppendUint(b, p.signed)
	b = codec.AppendUint(b, p.ackedSum)
	return step.Record{Key: p.prefix + "head", Value: b}
}

func (p *Payer) termsRecord() step.Record {
	b := p.Terms.append(nil)
	b = codec.AppendUint(b, p.index)
	return step.Record{Key: p.prefix + "terms", Value: codec.AppendBytes(b, tx.Bytes(p.funding))}
}

// Durable is what the payer has on disk, less the orders of stamped tickets,
// for whoever wants to check it.
func (p *Payer) Durable() (all []step.Record) {
	all = append(all, p.head(), p.termsRecord())
	for _, b := range p.stamped {
		all = append(all, step.Record{Key: p.stampKey(b.Stamped.To), Value: b.Stamped.Append(nil)})
	}
	for _, t := range p.pending {
		all = append(all, step.Record{Key: p.ticketKey(t.seq), Value: t.record()})
	}
	return all
}

// FundingKey is the key of one channel that a machine funds. Each channel has
// an index of its own, kept with its terms.
func FundingKey(node keys.Secret, index uint64) keys.Secret {
	return node.Derive(fmt.Sprintf("oneway/payer/%d", index))
}

// LoadPayer reads a payer back; node is this machine's key.
func LoadPayer(db step.Reader, id ID, node keys.Secret) (*Payer, error) {
	prefix := PayerName(id) + "/"
	raw, err := db.Get(prefix + "terms")
	if err != nil {
		return nil, err
	}
	r := codec.NewReader(raw)
	terms, index := readTerms(r), r.Uvarint()
	funding := r.Bytes(tx.MaxSize, "funding transaction")
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("record %sterms: %w", prefix, err)
	}
	p := newPayer(terms, FundingKey(node, index))
	p.index = index
	if p.funding, err = tx.Parse(funding); err != nil {
		return nil, fmt.Errorf("record %sterms: %w", prefix, err)
	}
	if raw, err = db.Get(prefix + "head"); err != nil {
		return nil, err
	}
	r = codec.NewReader(raw)
	p.state, p.feeRate = state(r.Int(int(shut), "state")), tx.FeeRate(r.Int(int(tx.MaxFeeRate), "fee rate"))
	p.seq, p.acked, p.signed, p.ackedSum = r.Uvarint(), r.Uvarint(), r.Amount(), r.Amount()
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("record %shead: %w", prefix, err)
	}
	return p, p.loadTickets(db)
}

func (p *Payer) loadTickets(db step.Reader) error {
	var fault error
	var tickets []ticket
	err := db.Scan(p.prefix+"t/", func(key string, value []byte) bool {
		t := ticket{}
		if _, fault = fmt.Sscanf(key[len(p.prefix)+2:], "%016x", &t.seq); fault != nil {
			return false
		}
		r := codec.NewReader(value)
		t.total, t.entries = r.Amount(), receipt.ReadEntries(r)
		fault = r.Close()
		tickets = append(tickets, t)
		return fault == nil
	})
	if err == nil && fault == nil {
		err = db.Scan(p.prefix+"s/", func(key string, value []byte) bool {
			r := codec.NewReader(value)
			s := receipt.ReadStamped(r)
			fault = r.Close()
			n := int(s.To - s.From)
			if fault == nil && (n > len(tickets) || tickets[0].seq != s.From+1) {
				fault = fmt.Errorf("stamp of tickets %d to %d without them", s.From+1, s.To)
			}
			if fault != nil {
				return false
			}
			b := &receipt.Batch{Channel: p.id, Payee: p.Payee, Stamped: s, Entries: entries(tickets[:n])}
			b.Tree = receipt.NewTree(b.Entries)
			p.remember(b)
			tickets = tickets[n:]
			return true
		})
	}
	if err != nil {
		return err
	}
	if fault != nil {
		return fmt.Errorf("records %s: %w", p.prefix, fault)
	}
	p.pending = tickets
	for _, t := range tickets {
		p.pendingOrders += len(t.entries)
		for _, e := range t.entries {
			p.where[e.Order] = place{}
		}
	}
	return nil
}
