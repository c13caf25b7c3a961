package node

import (
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/lightning/onion"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/sealed"
	"coinop.dev/core/step"
)

// Limits of holding.
const (
	// MaxHolds bounds the invoices whose hash somebody else chose.
	MaxHolds = 1024
	// HoldCLTV is how many blocks a payment that is to be held must have left, or
	// FinalCLTV if that is more: some hours more than holdMargin, and no more,
	// because they are its payer's hours, too.
	HoldCLTV = 42
	// holdMargin is how many blocks before its expiry a held payment is given back:
	// more than claimMargin, so that one that is released can be taken.
	holdMargin = 12
	// quickBlock is how soon blocks may follow one another for long, when one says
	// how much time is left.
	quickBlock = 5 * step.Minute
)

// Why a held payment goes back.
var (
	ErrHeldTooLong = fmt.Errorf("it was held until %d blocks before its expiry", holdMargin)
	ErrCancelled   = errors.New("the payee has cancelled it")
	ErrLostPart    = errors.New("a channel that brought it is over")
)

// A Bill asks for an invoice. Its outcome has the ID BillID and the order, and is
// the text. What is paid by a bill with Hold waits for the till (receipt.Held), or
// for Settle or Cancel.
type Bill struct {
	money.Bill
	Expiry step.Time // how long it can be paid; 0: an hour
	// Known has the preimage follow from order, amount and Hold alone, and the
	// outcome is a Sale, with the ID SaleID and the order. Such an invoice is taken
	// after its expiry, too.
	Known bool
	// Hash holds a payment whose preimage is somebody else's, which Settle brings.
	Hash *[32]byte
}

// How the IDs of a bill's outcomes begin.
const (
	BillID = "bill/"
	SaleID = "sale/"
)

// A Sale is an invoice, and what whoever pays it will know.
type Sale struct {
	Invoice string
	Hash    [32]byte
	Key     sealed.Key
}

// bill makes an invoice. It keeps nothing, unless the hash is somebody else's.
func (n *Node) bill(b Bill) {
	id := BillID + b.ID.Key()
	if b.Known {
		id = SaleID + b.ID.Key()
	}
	refuse := func(kind money.Kind, format string, args ...any) {
		n.failed(id, kind, "bill "+b.ID.String(), fmt.Errorf(format, args...))
	}
	if b.Amount > money.MaxAmount || b.Known && b.Hash != nil {
		refuse(money.Invalid, "the amount is %v, and its preimage is known (%v) and another's (%v)", b.Amount, b.Known, b.Hash != nil)
		return
	}
	if b.Expiry == 0 {
		b.Expiry = step.Hour
	}
	now := int64(n.at / step.Second)
	t := ticket{order: b.ID, amount: b.Amount, expires: uint32(now + int64(b.Expiry/step.Second))}
	if b.Known {
		t.expires = 0
	}
	i := invoice.Invoice{
		Network: n.Network, Amount: b.Amount, At: now, Description: b.For, Expiry: int64(b.Expiry / step.Second), FinalCLTV: n.FinalCLTV,
		Hints: n.hints(), Features: invoice.NewFeatures(invoice.VarOnion, invoice.PaymentSecret, invoice.BasicMPP+1),
	}
	if b.Hold || b.Hash != nil {
		t.kind, i.FinalCLTV = kindHold, n.holdCLTV()
	}
	if b.Hash != nil {
		if n.expireHolds(); len(n.holds) >= MaxHolds {
			refuse(money.Refused, "%d held invoices are open, which is the limit", MaxHolds)
			return
		}
		h := &hold{Hash: *b.Hash, Secret: n.secret(t, *b.Hash), Order: b.ID, Amount: b.Amount, Until: n.at + b.Expiry}
		n.holds[h.Hash] = h
		n.fx.Put = append(n.fx.Put, step.Record{Key: holdKey(h.Hash), Value: h.record()})
		i.Hash, i.Secret = h.Hash, h.Secret
	} else {
		i.Hash, i.Secret = n.issue(t)
	}
	text, err := i.Sign(n.key)
	switch {
	case err != nil:
		n.failed(id, money.Invalid, "bill "+b.ID.String(), err)
	case b.Known:
		n.done(id, Sale{text, i.Hash, sealed.NewKey(n.preimage(t))})
	default:
		n.done(id, text)
	}
}

func (n *Node) holdCLTV() uint32 { return max(n.FinalCLTV, HoldCLTV) }

// A Held says that a payment has arrived and waits for Release or Cancel. It is a
// receipt.Held.
type Held struct {
	Order  money.OrderID
	Hash   [32]byte
	Amount money.Amount
	Expiry uint32 // block height
	until  step.Time
}

// Holding is the order and its money.
func (h Held) Holding() receipt.Entry { return receipt.Entry{Order: h.Order, Amount: h.Amount} }

// Until is when the blocks are there, should they be quick, at which it goes back.
func (h Held) Until() step.Time { return h.until }

// HeldID begins the ID of an outcome whose value is a Held or a receipt.Returned;
// the order follows.
const HeldID = "held/"

// Settle takes a held payment by its hash; Preimage may be zero if the invoice's
// hash was ours. Cancel gives it back. By order receipt.Release and receipt.Cancel
// do the same.
type (
	Settle struct{ Hash, Preimage [32]byte }
	Cancel struct{ Hash [32]byte }
)

// An arrived is a payment that the till has been told to be held. On disk it
// outlives the moment between a restart and the first word from the chain, in which
// the till may decide, and with it the invoice's expiry and the blocks it asked for
// count no more: they were kept when it came.
type arrived struct {
	hash   [32]byte
	t      ticket
	amount money.Amount
	expiry uint32
	word   word
}

// A word is what the till has said.
type word uint8

const (
	none word = iota
	released
	cancelled
)

const recArrived = "ln/h/"

func (a *arrived) record() step.Record {
	t := a.t.bytes()
	b := append(append([]byte(nil), a.hash[:]...), t[:]...)
	b = codec.AppendUint(codec.AppendUint(b, a.amount), a.expiry)
	return step.Record{Key: recArrived + string(a.hash[:]), Value: append(b, byte(a.word))}
}

func readArrived(value []byte) (*arrived, error) {
	r, a := codec.NewReader(value), new(arrived)
	r.Fill(a.hash[:])
	var t [32]byte
	r.Fill(t[:])
	a.t = readTicket(t)
	a.amount, a.expiry = r.Amount(), uint32(r.Int(1<<31-1, "expiry"))
	a.word = word(r.Int(int(cancelled), "word"))
	return a, r.Close()
}

func (n *Node) keepArrived(a *arrived) {
	n.arrived[a.hash], n.holding[a.t.order] = a, a.hash
	n.fx.Put = append(n.fx.Put, a.record())
}

// dropArrived is the end of keepArrived.
func (n *Node) dropArrived(hash [32]byte) {
	if a := n.arrived[hash]; a != nil {
		delete(n.arrived, hash)
		delete(n.holding, a.t.order)
		n.fx.Put = append(n.fx.Put, step.Record{Key: a.record().Key})
	}
}

// hold takes a payment that is complete and is to wait: it is new, or it was held
// before a restart. An order is paid once, whatever its invoices.
func (n *Node) hold(s *set) {
	a := n.arrived[s.hash]
	if hash, busy := n.holding[s.t.order]; busy && hash != s.hash {
		n.giveBack(s, onion.UnknownPaymentDetails(s.have, uint32(n.tip)))
		return
	}
	if a == nil {
		a = &arrived{hash: s.hash, t: s.t, amount: s.amount(), expiry: s.expiry()}
		n.keepArrived(a)
	}
	s.held = true
	n.sets[s.hash] = s
	switch {
	case a.word == released:
		n.settleHeld(Settle{Hash: s.hash})
	case int64(a.expiry) <= int64(n.tip)+holdMargin:
		n.giveBackHeld(s, ErrHeldTooLong)
	default:
		left := step.Time(int64(a.expiry)-int64(n.tip)-holdMargin) * quickBlock
		n.done(HeldID+s.t.order.Key(), Held{s.t.order, s.hash, a.amount, a.expiry, n.at + left})
	}
}

// amount is what the order of a set is paid with: what its bill asked for.
func (s *set) amount() money.Amount {
	if s.t.amount != 0 {
		return s.t.amount
	}
	return s.have
}

// release is the till's word that an order is delivered. If its HTLCs have not been
// looked at again since a restart, the word waits for them on disk.
func (n *Node) release(id money.OrderID) {
	hash, held := n.holding[id]
	if !held {
		return // what became of it has been said
	}
	if s := n.sets[hash]; s != nil && s.held {
		n.settleHeld(Settle{Hash: hash})
		return
	}
	if a := n.arrived[hash]; a.word == none && hashOf(n.preimage(a.t)) == hash {
		a.word = released
		n.keepArrived(a)
	}
}

// cancel is the till's word that an order will not be delivered.
func (n *Node) cancel(id money.OrderID) {
	hash, held := n.holding[id]
	if !held {
		return
	}
	if s := n.sets[hash]; s != nil && s.held {
		n.giveBackHeld(s, ErrCancelled)
		return
	}
	if a := n.arrived[hash]; a.word == none {
		a.word = cancelled
		n.keepArrived(a)
		n.tellReturned(a, ErrCancelled)
	}
}

// tellReturned tells the till that an order's money goes back.
func (n *Node) tellReturned(a *arrived, why error) {
	e := receipt.Entry{Order: a.t.order, Amount: a.amount}
	err := &money.Error{Kind: money.Unpaid, Op: "hold " + e.Order.String(), Err: why}
	n.fx.Done = append(n.fx.Done, step.Outcome{ID: HeldID + e.Order.Key(), Value: receipt.Returned{Entry: e}, Err: err})
}

// giveBackHeld fails a payment that is held, and says why.
func (n *Node) giveBackHeld(s *set, why error) {
	a := n.arrived[s.hash]
	n.dropArrived(s.hash)
	n.unhold(s.hash)
	n.giveBack(s, onion.UnknownPaymentDetails(s.have, uint32(n.tip)))
	n.tellReturned(a, why)
}

// miss lets go of what was held before a restart and is not there any more, once
// all HTLCs have been looked at.
func (n *Node) miss() {
	for _, hash := range sortedHashes(n.arrived) {
		a, s := n.arrived[hash], n.sets[hash]
		if s != nil && s.held {
			continue
		}
		if s != nil {
			n.giveBack(s, onion.UnknownPaymentDetails(s.have, uint32(n.tip)))
		}
		n.dropArrived(hash)
		if a.word != cancelled { // else it has been said
			n.tellReturned(a, ErrLostPart)
		}
	}
}

// endParts ends the payments that a channel which is over has brought in part: no word
// about them could reach the peer.
func (n *Node) endParts(c *chanState) {
	for _, hash := range sortedHashes(n.sets) {
		s := n.sets[hash]
		for _, p := range s.parts {
			if p.c != c {
				continue
			}
			if s.held {
				n.giveBackHeld(s, ErrLostPart)
			} else {
				n.giveBack(s, onion.Failure{Code: onion.CodeMPPTimeout})
			}
			break
		}
	}
}

func (n *Node) settleHeld(m Settle) {
	s := n.sets[m.Hash]
	if s == nil || !s.held {
		return
	}
	pre := m.Preimage
	if pre == ([32]byte{}) {
		pre = n.preimage(s.t)
	}
	if hashOf(pre) != m.Hash {
		return
	}
	delete(n.sets, m.Hash)
	n.unhold(m.Hash)
	n.collect(s, pre)
}

func (n *Node) cancelHeld(m Cancel) {
	n.unhold(m.Hash)
	switch s := n.sets[m.Hash]; {
	case s != nil && s.held:
		n.giveBackHeld(s, ErrCancelled)
	case s != nil:
		n.giveBack(s, onion.UnknownPaymentDetails(s.have, uint32(n.tip)))
	case n.arrived[m.Hash] != nil:
		n.cancel(n.arrived[m.Hash].t.order)
	}
}

// A hold is an invoice whose hash somebody else chose: nothing of ours could
// recognise it, so it is kept.
type hold struct {
	Hash, Secret [32]byte
	Order        money.OrderID
	Amount       money.Amount
	Until        step.Time
}

const recHold = "ln/i/"

func holdKey(hash [32]byte) string { return recHold + string(hash[:]) }

func (h *hold) record() []byte {
	b := append(append([]byte(nil), h.Hash[:]...), h.Secret[:]...)
	b = append(b, h.Order[:]...)
	return codec.AppendUint(codec.AppendUint(b, uint64(h.Amount)), int64(h.Until))
}

func readHold(value []byte) (*hold, error) {
	r, h := codec.NewReader(value), new(hold)
	r.Fill(h.Hash[:])
	r.Fill(h.Secret[:])
	r.Fill(h.Order[:])
	h.Amount, h.Until = r.Amount(), step.Time(r.Uvarint())
	return h, r.Close()
}

func (n *Node) unhold(hash [32]byte) {
	if n.holds[hash] != nil {
		delete(n.holds, hash)
		n.fx.Put = append(n.fx.Put, step.Record{Key: holdKey(hash)})
	}
}

// expireHolds makes room: an invoice that has expired, and that nobody is paying,
// is nobody's.
func (n *Node) expireHolds() {
	if len(n.holds) < MaxHolds {
		return
	}
	for _, hash := range sortedHashes(n.holds) {
		if n.at > n.holds[hash].Until && n.sets[hash] == nil && n.arrived[hash] == nil {
			n.unhold(hash)
		}
	}
}
