// Package wallet finds coins, makes transactions and follows them, and never
// has a key. It knows accounts by their output descriptors; for every payment
// it proposes a transaction to whoever holds the key, core/consent on this
// machine or on a device behind a link, and publishes what was consented to.
//
// Payments that wait go into one transaction, of one account or, if Options
// say so, of several devices together. An order is settled when its transaction
// has Options.Depth confirmations; its receipt is the transaction, its Merkle
// proof and the headers above it. A stuck transaction is replaced (BIP 125) or
// pulled by a child, again with consent.
//
// Invariants, asserted after every step for what it touched:
//
//   - of every version of a transaction: inputs = outputs + fee, and of every
//     account in it: its inputs - its change = its orders + its share of the fee;
//   - a coin is in at most one transaction that may still be published;
//   - an order is in at most one transaction that may still be published;
//   - nothing is published that the script engine does not accept.
package wallet

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Name is the wallet's name among a machine's cores, and of a device's remote
// end of one.
const Name = "wallet"

// LocalSigner is the signer of an account whose key is on this machine.
const LocalSigner = "consent"

// Limits.
const (
	// MaxAccounts bounds accounts; each costs Gap scripts to be watched.
	MaxAccounts = 10_000
	// MaxWaiting bounds orders that are not settled, of all accounts.
	MaxWaiting = 16_384
	// MaxAccountWaiting bounds those of one account, so that a device cannot
	// take the place of the others.
	MaxAccountWaiting = 1024
	// KeepOrders is how many answered orders are remembered, with their proofs.
	KeepOrders = 8192
	// MaxOrders bounds the orders of one account in a transaction.
	MaxOrders = 64
	// MaxInputs bounds the inputs of one account in a transaction.
	MaxInputs = 32
	// MaxMembers bounds the accounts of a joint transaction.
	MaxMembers = 16
	// MaxOpen bounds the transactions of one account that are on their way.
	MaxOpen = 16
	// MaxVersions bounds the versions of a transaction; Options.MaxBumps is
	// below it.
	MaxVersions = 16
	// MaxPrevious bounds the transactions that spent coins come from, in bytes
	// for one proposal: it has to fit a BOLT 8 message.
	MaxPrevious = 40_000
	// MaxCoins bounds the coins of one account that are looked at; the rest waits
	// until some are spent.
	MaxCoins = 4096
	// MaxAddresses bounds the addresses of one branch of an account, which are all
	// derived again at every start (0.1 ms each).
	MaxAddresses = 1 << 16
	// MaxInvites bounds claim codes that nobody has used.
	MaxInvites = 1024
	// MaxBills bounds bills that are not paid, and KeepBills those that are.
	MaxBills  = 4096
	KeepBills = 8192
	// MaxHeld bounds questions for an address that wait for the chain.
	MaxHeld = 1024
	// MaxGap bounds Options.Gap and Options.Ahead.
	MaxGap = 10_000
	// MaxHistory is how many entries of an account's history are kept.
	MaxHistory = 1024
	// ConflictDepth is how deep another spender of a coin must be before the
	// transaction that wanted it counts as impossible.
	ConflictDepth = 6
	// GiveUp is how old an order is when a refusal that might pass, such as a day's
	// limit, counts as the last one.
	GiveUp = 2 * step.Day
	// ProofGrace is how many blocks beyond Options.Depth a settlement waits for
	// its Merkle proof.
	ProofGrace = 6

	maxName = 80  // bytes of an account's name, and of a peer's
	maxText = 256 // bytes of what a tenant is called, and of a reason
)

// Options are the wallet's policy. The zero value of a field means what its
// comment says.
type Options struct {
	Params  *chaincfg.Params // required
	Account string           // whose money money.Orders move; "": that of the only account

	Depth      int32        // confirmations that settle; 0: once a node or a block has it
	FeeRate    tx.FeeRate   // of a payment that names none; 0: tx.MinFeeRate
	MaxFeeRate tx.FeeRate   // no bump goes higher; 0: 100 sat/vB
	MaxFee     money.Amount // of one account in one transaction; 0: 100,000 sat
	BumpAfter  int32        // blocks without a confirmation before a bump; 0: never
	MaxBumps   int          // of one transaction; 0: 5

	Gather   step.Time // how long a payment waits for company; 0: for its step only
	Joint    bool      // several accounts share a transaction
	Patience step.Time // how long a joint transaction waits for a consent; 0: a minute

	Gap      uint32         // addresses in a row that are out and never paid; 0: 20 (BIP 44)
	Ahead    uint32         // scripts watched beyond those used, at least; more while a wallet is being restored, whose spent coins do not show
	LockTime bool           // lock to the tip, against fee sniping
	Base     chainhash.Hash // a recent block to follow headers from at first; zero: the first block
}

func (o Options) normal() Options {
	if o.FeeRate == 0 {
		o.FeeRate = tx.MinFeeRate
	}
	if o.MaxFeeRate == 0 {
		o.MaxFeeRate = 100 * tx.MinFeeRate
	}
	if o.MaxFee == 0 {
		o.MaxFee = 100_000 * money.Sat
	}
	if o.MaxBumps == 0 {
		o.MaxBumps = 5
	}
	o.MaxBumps = min(o.MaxBumps, MaxVersions-1)
	if o.Patience == 0 {
		o.Patience = step.Minute
	}
	if o.Gap == 0 {
		o.Gap = 20
	}
	o.Gap, o.Ahead = min(o.Gap, MaxGap), min(o.Ahead, MaxGap)
	if o.Base == (chainhash.Hash{}) {
		o.Base = *o.Params.GenesisHash
	}
	return o
}

const (
	resendAfter = 5 * step.Second
	alarmID     = "wallet"
)

// Why an order is not paid.
var (
	ErrFunds    = tx.ErrFunds
	ErrRevoked  = errors.New("the account is revoked")
	ErrConflict = errors.New("a coin of it was spent otherwise")
)

// A ConsentError is a signer's refusal.
type ConsentError struct {
	Reason consent.Reason
	Text   string
}

func (e *ConsentError) Error() string { return fmt.Sprintf("the signer refuses: %s", e.Text) }

// Wallet is the core. Make one with New or Load.
type Wallet struct {
	o   Options
	tip int32

	accounts map[string]*account
	names    []string              // of accounts, sorted
	bySigner map[string][]*account // sorted by name
	scripts  map[string]*script
	invites  map[[32]byte]invite

	nextOrder uint64
	orders    map[money.OrderID]*order
	queue     []*order        // all, by place
	waiting   int             // not answered
	hungry    map[string]bool // accounts that may have a transaction to make

	nextBatch uint64
	batches   []*batch                  // on their way, by number
	archive   map[uint64]*batch         // settled, while an order needs their proof
	byTx      map[chainhash.Hash]*batch // by what may be in a block
	locked    map[wire.OutPoint]*batch
	follows   map[wire.OutPoint]*batch
	proposals map[consent.ID]*batch

	nextBill uint64
	bills    map[money.OrderID]*bill
	billed   map[string]*bill // by script
	billList []*bill
	unpaid   int
	held     []any // Fresh and Invoice that wait for the chain; who asked asks again after a restart

	tail   tail
	linked map[string]bool
	alarm  step.Time // when it rings next; 0 if it does not

	// What lives for one step.
	now         step.Time
	touched     map[*batch]bool
	dirty       map[string]bool // accounts to be put
	head        bool
	wakeAt      step.Time
	wantHeaders bool
}

// New returns a wallet without accounts.
func New(o Options) *Wallet {
	return &Wallet{
		o: o.normal(), accounts: map[string]*account{}, bySigner: map[string][]*account{}, scripts: map[string]*script{}, invites: map[[32]byte]invite{},
		orders: map[money.OrderID]*order{}, locked: map[wire.OutPoint]*batch{}, follows: map[wire.OutPoint]*batch{},
		proposals: map[consent.ID]*batch{}, hungry: map[string]bool{}, archive: map[uint64]*batch{}, byTx: map[chainhash.Hash]*batch{}, bills: map[money.OrderID]*bill{}, billed: map[string]*bill{}, linked: map[string]bool{},
	}
}

// Step is the whole wallet.
func (w *Wallet) Step(in step.Input) step.Effects {
	var fx step.Effects
	w.now, w.touched, w.dirty, w.head, w.wakeAt = in.At, map[*batch]bool{}, map[string]bool{}, false, 0
	tip := w.tip
	for _, event := range in.Events {
		switch ev := event.(type) {
		case Open:
			w.open(ev, &fx)
		case Revoke:
			w.revoke(ev, &fx)
		case Invite:
			w.invite(ev, &fx)
		case Fresh:
			w.freshAddress(ev, &fx)
		case Invoice:
			w.invoice(ev, &fx)
		case Pay:
			w.pay(ev, "", &fx)
		case Bump:
			w.bumpAsked(ev, &fx)
		case money.Order:
			w.payURI(ev, &fx)
		case money.Inquiry:
			w.prove(ev, &fx)
		case step.Recv:
			w.recv(ev, &fx)
		case step.Linked:
			w.linkedTo(ev.Peer, &fx)
		case step.Unlinked:
			delete(w.linked, ev.Peer)
		case step.Rang:
			if ev.ID == step.Start {
				w.start(&fx)
			}
			w.alarm = 0 // whoever needs another asks again in this step
			w.proposeAgain(&fx)
		default:
			panic(fmt.Sprintf("wallet: it cannot handle %T", event))
		}
	}
	if w.tip != tip {
		w.newTip(&fx)
	}
	w.settle(&fx)
	w.form(&fx)
	w.impatient(&fx)
	w.forget(&fx)
	w.write(&fx)
	return fx
}

func (w *Wallet) recv(ev step.Recv, fx *step.Effects) {
	switch msg := ev.Msg.(type) {
	case money.Order:
		w.payURI(msg, fx)
		return
	case money.Inquiry:
		w.prove(msg, fx)
		return
	case consent.Consent:
		w.consented(ev.From, msg, fx)
		return
	case consent.Refusal:
		w.refused(ev.From, msg, fx)
		return
	}
	if ev.From != watch.Chain {
		w.heard(ev.From, ev.Msg, fx)
		return
	}
	switch msg := ev.Msg.(type) {
	case watch.Coins:
		w.coins(msg, fx)
	case watch.Status:
		w.status(msg, fx)
	case watch.Headers:
		w.headers(msg, fx)
	}
}

// start asks for everything again that a restart has forgotten.
func (w *Wallet) start(fx *step.Effects) {
	for _, name := range w.names {
		a := w.accounts[name]
		w.watchAll(a, fx)
		if a.seen != nil && a.signer == LocalSigner {
			w.send(LocalSigner, *a.seen, fx)
		}
	}
	for _, b := range w.batches {
		w.watchBatch(b, fx)
		w.publish(b, fx)
	}
	w.askHeaders(fx)
}

// newTip is for what depends on the height of the chain.
func (w *Wallet) newTip(fx *step.Effects) {
	for _, b := range w.batches {
		if b.mined < 0 {
			w.publish(b, fx) // it may have fallen out of the mempool
		}
	}
	if w.tip > w.tail.tip() {
		w.askHeaders(fx)
	}
	w.bumpStuck(fx)
}

func (w *Wallet) wake(at step.Time) {
	if w.wakeAt == 0 || at < w.wakeAt {
		w.wakeAt = at
	}
}

func (w *Wallet) send(to string, msg any, fx *step.Effects) {
	fx.Send = append(fx.Send, step.Packet{To: to, Msg: msg})
}

// write puts what the step has changed in front of everything else.
func (w *Wallet) write(fx *step.Effects) {
	var put []step.Record
	if w.head {
		put = append(put, w.headRecord())
	}
	for _, name := range sortedKeys(w.dirty) {
		put = append(put, w.accounts[name].record())
	}
	for _, b := range w.batches {
		if w.touched[b] {
			put = append(put, b.record())
			b.check()
		}
	}
	fx.Put = append(fx.Put, put...)
	// There is one alarm, and asking again moves it: only forwards.
	if w.wakeAt > 0 && (w.alarm == 0 || w.wakeAt < w.alarm) {
		w.alarm = w.wakeAt
		fx.Wake = append(fx.Wake, step.Alarm{ID: alarmID, At: w.alarm})
	}
}
