// Package consent is the core that holds a wallet's keys and consents to
// transactions, or refuses them with a reason.
//
// The wallet has no keys: it finds coins, builds a transaction as a PSBT and
// proposes it, from the same machine or from a gateway across a link. The
// signer believes nothing of it. It takes the transaction apart, derives every
// script that is said to be its own, takes amounts only from what a signature
// or a transaction ID commits to, follows each Merkle proof to its own headers,
// and counts what leaves against the device's policy. What it cannot account
// for it does not sign.
//
// A consent is durable before it is visible, and so is its counter. With an
// outside counter (a TPM's), the counter is raised there between the two: an
// older copy of the disk then has a smaller counter than the outside, and signs
// nothing any more.
//
// Invariants, asserted at every step:
//
//   - consents are numbered without a gap up to the counter, the latest
//     MaxConsents of them are kept, and each ID, transaction and order is in at
//     most one of them (an order also in what replaces it).
//   - counted ≤ counter unless the disk was set back; a consent whose number is
//     above counted was shown to nobody.
package consent

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

const (
	// MaxAccounts bounds the accounts of a signer.
	MaxAccounts = 8
	// MaxConsents bounds the consents that are kept to be repeated, replaced or
	// built on. Older ones are forgotten, but for what Policy.Joint needs.
	MaxConsents = 256
	// MaxWaiting bounds the consents that wait for the outside counter.
	MaxWaiting = 16
	// MaxExpected bounds the orders that the device has said and that have no
	// consent yet.
	MaxExpected = 256
	// MaxJoint bounds the transactions with others' inputs over the life of an
	// account: none of them may ever be proposed again.
	MaxJoint = 4096
	// MaxOld bounds the blocks older than the tail that are kept in memory.
	MaxOld = 64
	// MaxJump is how far change may lie above the highest index known: a restore
	// from the seed looks no further.
	MaxJump = 100
	// MaxReach is the highest index of an input that makes change above it
	// credible. Anybody can pay a satoshi to any of our scripts, so without it
	// change could go where no restore looks; a deep one takes seconds to here.
	MaxReach = 100_000
)

// A Config is a signer's fixed part.
type Config struct {
	Params   *chaincfg.Params
	Accounts []descriptor.Account
	Identity keys.Secret // signs the Mark of a consent
	// Wallet is who may propose: the core Wallet of this machine, or the
	// PeerName of a gateway.
	Wallet string
	Policy Policy
	// Outside says that the machine has a counter behind the outlet Secret.
	Outside bool
}

// A Signer is the core. Make one with New or Load.
type Signer struct {
	Config
	payees   payees
	accounts []account

	counter uint64 // of the last consent
	counted uint64 // the outside counter's, as far as known
	shown   uint64 // the highest counter of a mark of ours, if above counter
	day     window
	top     []uint32 // for each account: the highest index of change, or of an input up to MaxReach
	given   []*given // by counter
	byID    map[ID]*given
	byTx    map[chainhash.Hash]*given
	orders  map[money.OrderID]*given
	asked   map[money.OrderID]Expect
	joint   map[[16]byte]bool
	chain   *header.Chain

	// What lives until the process ends.
	old     map[int32]chainhash.Hash // Merkle roots of proven blocks below the tail
	lost    bool                     // the last headers followed nothing, and others were asked for
	signs   uint64
	refused uint64
	last    Reason
}

// New makes a signer that has consented to nothing yet. On a machine with an
// outside counter that has ever moved, use Load.
func New(c Config) (*Signer, error) {
	switch {
	case len(c.Accounts) == 0 || len(c.Accounts) > MaxAccounts:
		return nil, fmt.Errorf("signer has %d accounts; it must be 1 to %d", len(c.Accounts), MaxAccounts)
	case c.Identity.IsZero():
		return nil, errors.New("signer has no identity key")
	case c.Wallet == "":
		return nil, errors.New("signer is bound to no wallet; name the core or the peer that may propose")
	}
	accounts, err := newAccounts(c.Accounts)
	if err != nil {
		return nil, err
	}
	p, err := newPayees(c.Policy.Payees, c.Params)
	if err != nil {
		return nil, err
	}
	return &Signer{
		Config: c, accounts: accounts, payees: p, top: make([]uint32, len(c.Accounts)),
		byID: map[ID]*given{}, byTx: map[chainhash.Hash]*given{}, orders: map[money.OrderID]*given{},
		asked: map[money.OrderID]Expect{}, joint: map[[16]byte]bool{},
		chain: header.New(c.Params), old: map[int32]chainhash.Hash{},
	}, nil
}

// A given is a consent that was given, and what later proposals need of it.
type given struct {
	Consent
	digest [32]byte        // of the proposal
	txid   chainhash.Hash  // of the unsigned transaction
	final  chainhash.Hash  // of the signed one; zero if others' signatures decide it
	cost   money.Amount    // the most that this or any that it replaces takes away
	points []wire.OutPoint // own inputs; only those in common with all that it replaces
	orders []Order
	before ID // what it replaces; zero if nothing
	after  ID // what replaces it; zero if nothing
}

// behind reports that this is an older copy of the signer's disk.
func (s *Signer) behind() bool { return s.latest() > s.counter }

func (s *Signer) latest() uint64 { return max(s.counted, s.shown) }

// Step is the whole signer.
func (s *Signer) Step(in step.Input) step.Effects {
	s.check()
	var fx step.Effects
	for _, event := range in.Events {
		switch ev := event.(type) {
		case Expect:
			s.expect(ev, &fx)
		case Forget:
			s.forget(ev, &fx)
		case step.Recv:
			s.recv(ev, in.At, &fx)
		case step.Linked:
			if ev.Peer == s.Wallet {
				s.askHeaders(&fx)
			}
		case step.Unlinked:
		case step.Rang:
			if ev.ID == step.Start {
				s.askHeaders(&fx)
				s.count(&fx)
			}
		default:
			panic(fmt.Sprintf("consent: signer cannot handle %T", event))
		}
	}
	return fx
}

func (s *Signer) recv(ev step.Recv, now step.Time, fx *step.Effects) {
	if m, ok := ev.Msg.(Counted); ok && ev.From == Secret && s.Outside {
		s.raised(m.At, fx)
		return
	}
	if m, ok := ev.Msg.(Forget); ok && ev.From == Wallet { // this machine's, whoever proposes
		s.unask(m.Order, fx)
		return
	}
	if ev.From != s.Wallet {
		return
	}
	switch m := ev.Msg.(type) {
	case Proposal:
		s.propose(&m, now, fx)
	case Headers:
		s.takeHeaders(&m, now, fx)
	case Seen:
		s.see(&m, fx)
	}
}

// propose answers a proposal: with what it was answered before, a consent that
// is put first, or a refusal, of which nothing is kept.
func (s *Signer) propose(p *Proposal, now step.Time, fx *step.Effects) {
	v, g, err := s.judge(p, now)
	if err != nil {
		s.refuse(p.ID, err, fx)
		return
	}
	if g == nil {
		g = s.consent(p, v)
		s.keep(g, v, fx)
	}
	if s.Outside && g.Counter > s.counted {
		s.count(fx)
		return
	}
	s.send(g.Consent, fx)
}

// keep makes a consent durable, with the sums that count it.
func (s *Signer) keep(g *given, v *verdict, fx *step.Effects) {
	s.counter = g.Counter
	s.day = v.day
	for i, top := range v.top {
		s.top[i] = max(s.top[i], top)
	}
	for _, o := range g.orders {
		if _, ok := s.asked[o.ID]; ok {
			delete(s.asked, o.ID)
			fx.Put = append(fx.Put, step.Record{Key: askedKey(o.ID)})
		}
	}
	if v.joint {
		s.joint[jointName(g.txid)] = true
		fx.Put = append(fx.Put, jointRecord(jointName(g.txid)))
	}
	if len(s.given) == MaxConsents {
		fx.Put = append(fx.Put, step.Record{Key: givenKey(s.given[0].Counter)})
		s.drop(s.given[0])
		s.given = s.given[1:]
	}
	s.add(g)
	fx.Put = append(fx.Put, g.record(), s.head())
	fx.Done = append(fx.Done, step.Outcome{ID: g.ID.String(), Value: Given{ID: g.ID, Counter: g.Counter, TxID: g.txid, Orders: g.orders, Cost: v.spent}})
}

// Given is the value of the Outcome of a consent, whose ID is the proposal's.
type Given struct {
	ID      ID
	Counter uint64
	TxID    chainhash.Hash // of the unsigned transaction
	Orders  []Order
	Cost    money.Amount // what leaves the signer's accounts, fee included
}

func (s *Signer) add(g *given) {
	s.given = append(s.given, g)
	s.byID[g.ID], s.byTx[g.txid] = g, g
	if g.final != (chainhash.Hash{}) {
		s.byTx[g.final] = g
	}
	for _, o := range g.orders {
		s.orders[o.ID] = g
	}
	if old := s.byID[g.before]; old != nil {
		old.after = g.ID
	}
}

func (s *Signer) drop(g *given) {
	delete(s.byID, g.ID)
	delete(s.byTx, g.txid)
	delete(s.byTx, g.final)
	for _, o := range g.orders {
		if s.orders[o.ID] == g {
			delete(s.orders, o.ID)
		}
	}
}

func (s *Signer) send(m Message, fx *step.Effects) {
	fx.Send = append(fx.Send, step.Packet{To: s.Wallet, Msg: m})
}

func (s *Signer) refuse(id ID, err error, fx *step.Effects) {
	r := (*Refusal)(nil)
	step.Assert(errors.As(err, &r), "consent: refusal without a reason: %v", err)
	if ask := (*needHeaders)(nil); errors.As(err, &ask) {
		s.send(ask.AskHeaders, fx)
	}
	s.refused++
	s.last = r.Reason
	s.send(Refusal{ID: id, Reason: r.Reason, Text: r.Text}, fx)
}

// count asks the outside counter for what the consents that wait need.
func (s *Signer) count(fx *step.Effects) {
	if s.Outside && s.counted < s.counter {
		fx.Send = append(fx.Send, step.Packet{To: Secret, Msg: Count{To: s.counter}})
	}
}

// raised hears from the outside counter: the consents it covers may be seen.
func (s *Signer) raised(at uint64, fx *step.Effects) {
	if at <= s.counted {
		return
	}
	was := s.counted
	s.counted = at
	if s.behind() {
		s.refuse(ID{}, s.rollback(), fx)
		return
	}
	for _, g := range s.given {
		if g.Counter > was && g.Counter <= at {
			s.send(g.Consent, fx)
		}
	}
}

// see looks at a consent that is said to be ours. Only our own mark says so.
func (s *Signer) see(m *Seen, fx *step.Effects) {
	if m.Consent.Counter <= s.latest() || m.Consent.Check(m.TxID, s.Identity.Public()) != nil {
		return
	}
	if m.Consent.Counter > s.counter {
		s.shown = m.Consent.Counter
		fx.Put = append(fx.Put, s.head())
		s.refuse(m.Consent.ID, s.rollback(), fx)
	}
}

func (s *Signer) rollback() error {
	return refuse(ReasonRollback, "the signer's disk ends at consent %d and consent %d was given: it is an older copy; put the newest back, or move the money to a new account", s.counter, s.latest())
}

// expect notes what the device itself wants paid.
func (s *Signer) expect(e Expect, fx *step.Effects) {
	err := s.canExpect(e)
	if err == nil && s.orders[e.Order] == nil {
		s.asked[e.Order] = e
		fx.Put = append(fx.Put, e.record())
	}
	fx.Done = append(fx.Done, step.Outcome{ID: e.Order.Key(), Err: err})
}

func (s *Signer) canExpect(e Expect) error {
	_, known := s.asked[e.Order]
	switch {
	case e.Amount == 0 || e.Amount > money.MaxAmount || e.Amount%money.Sat != 0:
		return fmt.Errorf("order %v is of %v; it must be whole satoshi", e.Order, e.Amount)
	case len(e.Script) == 0 || len(e.Script) > MaxScript:
		return fmt.Errorf("order %v pays a script of %d bytes; it must be 1 to %d", e.Order, len(e.Script), MaxScript)
	case !known && len(s.asked) == MaxExpected:
		return fmt.Errorf("%d orders wait for a consent already, which is the limit; Forget some", MaxExpected)
	}
	return nil
}

func (s *Signer) unask(id money.OrderID, fx *step.Effects) {
	if _, ok := s.asked[id]; ok {
		delete(s.asked, id)
		fx.Put = append(fx.Put, step.Record{Key: askedKey(id)})
	}
}

func (s *Signer) forget(f Forget, fx *step.Effects) {
	s.unask(f.Order, fx)
	fx.Done = append(fx.Done, step.Outcome{ID: f.Order.Key()})
}

func (s *Signer) check() {
	for i, g := range s.given {
		want := s.counter - uint64(len(s.given)-1-i)
		step.Assert(g.Counter == want, "consent: number %d stands where %d belongs", g.Counter, want)
	}
	step.Assert(len(s.given) <= MaxConsents && len(s.byID) == len(s.given), "consent: %d kept, %d by ID", len(s.given), len(s.byID))
	step.Assert(len(s.asked) <= MaxExpected && len(s.joint) <= MaxJoint, "consent: %d expected, %d joint", len(s.asked), len(s.joint))
}

// A Summary reads the signer, for people.
type Summary struct {
	Counter    uint64       `json:"counter"`
	Outside    uint64       `json:"outside_counter"`
	RolledBack bool         `json:"rolled_back"`
	Kept       int          `json:"kept"`
	Waiting    int          `json:"waiting"` // for the outside counter
	Expected   int          `json:"expected"`
	Day        money.Amount `json:"day_msat"` // left within the window of 24 to 25 hours
	Left       money.Amount `json:"left_msat"`
	Tip        int32        `json:"tip"`
	Refused    uint64       `json:"refused"` // since the start
	Last       string       `json:"last_refusal,omitempty"`
	Signatures uint64       `json:"signatures"` // since the start
}

// Summary reads the signer as of now.
func (s *Signer) Summary(now step.Time) Summary {
	w := s.day.at(now)
	sum := Summary{
		Counter: s.counter, Outside: s.counted, RolledBack: s.behind(), Kept: len(s.given), Waiting: s.waiting(),
		Expected: len(s.asked), Day: w.total(), Refused: s.refused, Signatures: s.signs,
	}
	if limit := s.Policy.PerDay; limit > sum.Day {
		sum.Left = limit - sum.Day
	}
	if s.last != ReasonNone {
		sum.Last = s.last.String()
	}
	sum.Tip, _ = s.chain.Tip()
	return sum
}

func (s *Signer) waiting() int {
	if !s.Outside || s.counted >= s.counter {
		return 0
	}
	return int(min(s.counter-s.counted, uint64(len(s.given))))
}

// digest names what a proposal would do: its transaction, orders and what it
// replaces. How the wallet shows that it may be done can differ.
func (m *Proposal) digest(t *wire.MsgTx) [32]byte {
	b := append(m.Replaces[:], tx.Bytes(t)...)
	for i := range m.Orders {
		b = m.Orders[i].append(b)
	}
	return keys.Digest("coinop/consent/proposal", b)
}

// jointName is what is kept of a joint transaction's ID.
func jointName(txid chainhash.Hash) [16]byte { return [16]byte(txid[:16]) }
