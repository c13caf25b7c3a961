package payword

import (
	"errors"
	"fmt"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

const (
	// MaxWaiting bounds the orders that wait for a settlement to make room.
	MaxWaiting = 256

	// resendAfter is when what has no stamp is said again, and resendAtMost when it is
	// if the payee has not answered often: a payee that has more to do than it can do
	// must not be given more.
	resendAfter  = 2 * step.Second
	resendAtMost = 16 * step.Second
	retryAfter   = 30 * step.Second
)

// Why a payer does not take an order.
var (
	ErrNotOpen = errors.New("channel is not open")
	ErrNotCoin = errors.New("amount is not in whole coins")
	ErrCredit  = errors.New("the payee's credit does not reach")
	ErrWaiting = fmt.Errorf("%d orders wait for a settlement", MaxWaiting)
	ErrUsedUp  = errors.New("channel has carried all it can")
	// ErrStalled means that settling fails, so nothing more is promised.
	ErrStalled = errors.New("settlement is not paid")
)

// Opened and Shut are the IDs of a channel's own outcomes: orders are taken;
// everything is settled.
const (
	Opened = "opened"
	Shut   = "shut"
)

// A Tick meters: it pays Coins for a session, and unlike an order pays again
// each time. The ticks of a step for one session become one entry, under the
// session's ID.
type Tick struct {
	Session money.OrderID
	Coins   uint64
}

// Metered is how many coins of a session's ticks the payee has stamped so far,
// and how many of them just now. It is the value of the outcome
// MeterID(Session).
type Metered struct {
	Session    money.OrderID
	Coins, New uint64
}

// MeterID is the ID of the outcomes of a session's ticks: a Metered, or an error
// whose value is the Tick that was refused.
func MeterID(session money.OrderID) string { return "meter/" + session.Key() }

// Close asks a payer to take no more orders and settle what is left.
type Close struct{}

// state is where a payer is in a channel's life.
type state uint8

const (
	opening state = iota
	open
	closing
	shut
)

var stateNames = [...]string{"opening", "open", "closing", "closed"}

func (s state) String() string { return stateNames[s] }

// An ask is an order or a tick that wants to be paid.
type ask struct {
	receipt.Entry
	tick bool
}

// Payer is the paying end of a channel. Make one with NewPayer or LoadPayer.
type Payer struct {
	Terms
	id     ID
	peer   string // the name that packets to the payee go to
	prefix string // of its records
	node   keys.Secret

	state       state
	commit      Commitment
	chain, next *Chain // next is the coming epoch's, laid out as this one runs out
	total       uint64 // coins promised
	settled     uint64 // coins
	settlements uint64 // that are paid
	owed        uint64 // coins of the settlement under way, or 0
	ledger      receipt.Ledger
	meters      map[money.OrderID]*meter

	// What a restart does without, or asks for again.
	waiting    []ask
	stalled    error
	settlement money.OrderID // that is under way
	asked      step.Time     // when its order was last sent
	sent       step.Time     // when all that is pending last went out, or a stamp came

	// What lives for one step.
	now           step.Time
	orders, ticks []receipt.Entry
	ticked        map[money.OrderID]int // a session's place in ticks
	again, retry  bool                  // resend what is pending, the settlement
	patience      step.Time             // until what is pending is said again
	signs         uint64                // signatures made since the start, for the summary
	dirty, later  bool                  // the head changed; so that it may be lazy
}

// NewPayer starts the paying end of a channel that the payee accepted; node is
// the secret of t.PayerNode. It hashes a whole chain.
func NewPayer(t Terms, node keys.Secret) (*Payer, error) {
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("channel terms: %w", err)
	}
	if node.Public() != t.PayerNode {
		return nil, errors.New("channel terms: the key is not the payer's")
	}
	p := newPayer(t, node)
	p.next = startChain(Seed(node, p.id, 1), p.Length)
	p.nextChain()
	return p, nil
}

func newPayer(t Terms, node keys.Secret) *Payer {
	id := t.ID()
	return &Payer{
		Terms: t, id: id, peer: t.Payee.Node.PeerName(), prefix: PayerName(id) + "/", node: node,
		ledger: receipt.NewLedger(PayerName(id)+"/", id, t.Payee), patience: resendAfter, meters: map[money.OrderID]*meter{}, ticked: map[money.OrderID]int{},
	}
}

// PayerPrefix is the prefix of all payers' records.
const PayerPrefix = "payword/payer/"

// PayerName is the name of a channel's payer among a machine's cores. The
// machine must let it hear the outcomes of the core called Settle.
func PayerName(id ID) string { return PayerPrefix + id.String() }

// Step is the whole protocol, seen from the payer.
func (p *Payer) Step(in step.Input) step.Effects {
	p.check()
	var fx step.Effects
	p.now, p.orders, p.ticks = in.At, nil, nil
	p.again, p.retry, p.dirty, p.later = false, false, false, false
	clear(p.ticked)
	for _, event := range in.Events {
		switch ev := event.(type) {
		case money.Order:
			p.order(ev, &fx)
		case money.Inquiry:
			p.prove(ev, &fx)
		case Tick:
			p.tick(ev, &fx)
		case Close:
			p.close(&fx)
		case step.Recv:
			p.recv(ev, &fx)
		case step.Linked:
			p.again, p.patience = true, resendAfter
		case step.Unlinked:
		case step.Rang:
			p.rang(ev.ID, &fx)
		default:
			panic(fmt.Sprintf("payword: payer cannot handle %T", event))
		}
	}
	p.settle(&fx)
	p.drain(&fx)
	p.promise(&fx)
	p.send(&fx)
	if p.dirty || p.later {
		head := p.head()
		head.Lazy = !p.dirty
		fx.Put = append(fx.Put, head)
	}
	return fx
}

func (p *Payer) rang(id string, fx *step.Effects) {
	switch id {
	case step.Start:
		p.again, p.retry = true, true
		if p.state == opening {
			p.dirty = true
			fx.Put = append(fx.Put, p.termsRecord(), p.commitRecord())
		}
	case "resend":
		p.again = true
	case "settle":
		p.retry = true
	}
}

func (p *Payer) recv(ev step.Recv, fx *step.Effects) {
	if ev.From != p.peer { // a core of this machine
		switch msg := ev.Msg.(type) {
		case money.Order:
			p.order(msg, fx)
		case money.Inquiry:
			p.prove(msg, fx)
		case Tick:
			p.tick(msg, fx)
		case step.Outcome:
			p.outcome(msg, fx)
		}
		return
	}
	switch msg := ev.Msg.(type) {
	case Ready:
		if p.state == opening {
			p.state, p.dirty = open, true
			fx.Done = append(fx.Done, step.Outcome{ID: Opened})
		}
	case Taken:
		p.patience = resendAfter
		p.taken(msg.Stamped, fx)
	}
}

// order takes an order, or answers at once if it is settled or cannot be paid.
// A repeated order that is still pending is answered when it settles.
func (p *Payer) order(o money.Order, fx *step.Effects) {
	at, known := p.ledger.Find(o.ID)
	if !known {
		p.ask(ask{Entry: receipt.Entry{Order: o.ID, Amount: o.Amount}}, fx)
		return
	}
	if at.Batch != nil {
		fx.Done = append(fx.Done, at.Batch.Outcome(at.I))
	}
}

// prove answers for an order that is known, and never pays.
func (p *Payer) prove(q money.Inquiry, fx *step.Effects) {
	if _, known := p.ledger.Find(q.Order); known {
		p.order(money.Order{ID: q.Order}, fx)
		return
	}
	fx.Done = append(fx.Done, step.Outcome{ID: q.Order.Key(), Err: &money.Error{Kind: money.Refused, Op: "prove " + q.Order.String(), Err: money.ErrForgotten}})
}

func (p *Payer) tick(t Tick, fx *step.Effects) {
	// A number of coins past all bitcoin becomes an amount past all credit.
	n := min(t.Coins, p.maxTotal())
	p.ask(ask{Entry: receipt.Entry{Order: t.Session, Amount: p.worth(n)}, tick: true}, fx)
}

// ask takes an order or tick now, or lets it wait for the settlement that will
// make room, or refuses it.
func (p *Payer) ask(a ask, fx *step.Effects) {
	err := p.refusal(a.Amount)
	switch {
	case err != nil:
	case len(p.waiting) == 0 && p.fits(a.Amount):
		p.take(a)
	case !p.settling():
		err = p.noCredit(a.Amount)
	default:
		err = p.wait(a)
	}
	if err != nil {
		p.refuse(a, err, fx)
	}
}

// refusal is why an amount cannot be paid, however much is settled.
func (p *Payer) refusal(amount money.Amount) error {
	coins, whole := p.coins(amount)
	switch {
	case p.state != open:
		return fmt.Errorf("%w: it is %v", ErrNotOpen, p.state)
	case p.stalled != nil:
		return fmt.Errorf("%w: %d coins of %v: %w", ErrStalled, p.owed, p.Coin, p.stalled)
	case !whole:
		return fmt.Errorf("%w: %v, in coins of %v", ErrNotCoin, amount, p.Coin)
	case coins > p.Credit:
		return p.noCredit(amount)
	case coins > p.maxTotal()-p.total:
		return fmt.Errorf("%w: %d coins of %v, of %d", ErrUsedUp, p.total, p.Coin, p.maxTotal())
	case p.ledger.Full(len(p.orders) + len(p.ticks)):
		return receipt.ErrBacklog
	}
	return nil
}

func (p *Payer) noCredit(amount money.Amount) error {
	return fmt.Errorf("%w: %d coins of %v asked, %d of %d are unsettled", ErrCredit, amount/p.Coin, p.Coin, p.total-p.settled, p.Credit)
}

// settling reports whether a settlement is under way, or will be once what is
// promised is stamped.
func (p *Payer) settling() bool { return p.owed > 0 || p.total-p.settled >= p.Every }

func (p *Payer) fits(amount money.Amount) bool {
	return p.total+uint64(amount/p.Coin) <= p.settled+p.Credit
}

func (p *Payer) take(a ask) {
	p.total += uint64(a.Amount / p.Coin)
	if i, ok := p.ticked[a.Order]; ok && a.tick {
		p.ticks[i].Amount += a.Amount
		return
	}
	if a.tick {
		p.ticked[a.Order] = len(p.ticks)
		p.ticks = append(p.ticks, a.Entry)
		return
	}
	p.ledger.Expect(a.Order)
	p.orders = append(p.orders, a.Entry)
}

// wait keeps an ask in memory: nothing is promised yet, so after a restart it
// is simply asked again.
func (p *Payer) wait(a ask) error {
	if len(p.waiting) == MaxWaiting {
		return ErrWaiting
	}
	if !a.tick {
		p.ledger.Expect(a.Order)
	}
	p.waiting = append(p.waiting, a)
	return nil
}

func (p *Payer) refuse(a ask, err error, fx *step.Effects) {
	d := step.Outcome{ID: a.Order.Key(), Err: &money.Error{Kind: money.Unpaid, Op: "pay " + a.Order.String(), Err: err}}
	if a.tick {
		d.ID, d.Value = MeterID(a.Order), Tick{a.Order, uint64(a.Amount / p.Coin)}
	} else {
		p.ledger.Forsake(a.Order)
	}
	fx.Done = append(fx.Done, d)
}

// drain takes what waits in its turn, as far as the credit reaches, and refuses
// it all if no settlement is on its way to make room.
func (p *Payer) drain(fx *step.Effects) {
	n := 0
	for ; n < len(p.waiting); n++ {
		a := p.waiting[n]
		err := p.refusal(a.Amount)
		switch {
		case err == nil && p.fits(a.Amount):
			p.take(a)
			continue
		case err == nil && !p.settling():
			err = p.noCredit(a.Amount)
		}
		if err == nil {
			break
		}
		p.refuse(a, err, fx)
	}
	p.waiting = p.waiting[n:]
}

// promise makes one ticket of all the orders this step took, and moves the
// chain on by their coins.
func (p *Payer) promise(fx *step.Effects) {
	if len(p.orders)+len(p.ticks) == 0 {
		return
	}
	if coins := p.total - p.commit.Start - p.chain.Index(); coins <= p.chain.Left() {
		p.chain.Jump(coins)
		p.next.layOut(int(p.chain.Left()))
	} else {
		p.nextChain()
		fx.Put = append(fx.Put, p.commitRecord())
	}
	p.ledger.Promise(p.worth(p.total), len(p.orders), append(p.orders, p.ticks...), fx)
	p.dirty = true
}

// nextChain commits to the coming epoch, from the total on. The words that were
// left of the old chain are not needed.
func (p *Payer) nextChain() {
	p.next.layOut(0)
	p.chain = p.next
	p.commit = Commitment{Epoch: p.commit.Epoch + 1, Start: p.total, Root: p.chain.Word()}
	p.commit.Sig = p.node.Sign(p.digest(&p.commit))
	p.signs++
	p.next = startChain(Seed(p.node, p.id, p.commit.Epoch+1), p.Length)
}

// send offers the new ticket, or everything outstanding if that may be lost,
// and asks to be woken in case this is lost too.
func (p *Payer) send(fx *step.Effects) {
	var m Message
	pending := len(p.ledger.Pending())
	switch {
	case p.state == opening && p.again:
		m, p.sent = Agreed{p.Terms}, p.now
	case pending == 0:
		return
	case p.again || pending == 1 && p.fresh() || p.now >= p.sent+p.patience:
		m, p.sent = p.message(true), p.now
		if p.again || len(p.orders)+len(p.ticks) == 0 {
			p.patience = min(2*p.patience, resendAtMost)
		}
		p.dirty = true // it says which stamps are on disk
	case p.fresh():
		m = p.message(false)
	default:
		return
	}
	fx.Send = append(fx.Send, step.Packet{To: p.peer, Msg: m})
	fx.Wake = append(fx.Wake, step.Alarm{ID: "resend", At: p.sent + p.patience})
}

func (p *Payer) fresh() bool { return len(p.orders)+len(p.ticks) > 0 }

func (p *Payer) message(all bool) Coins {
	m := Coins{ID: p.id, Epoch: p.commit.Epoch, Index: p.chain.Index(), Word: p.chain.Word(), Run: p.ledger.Run(all)}
	if p.again || p.ledger.Acked == 0 || p.stamped() < p.commit.Start {
		c := p.commit
		m.Commit = &c
	}
	return m
}
