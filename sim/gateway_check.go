package sim

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/consent"
	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/trade"
	"coinop.dev/core/wallet"
	"coinop.dev/world/drive"
)

// ledger is what the invariants remember of the chain: every output and every
// transaction that was ever in a mempool or a block.
type ledger struct {
	minted   int64
	scripts  map[string]*owner // of the owners, as far as derived
	payees   map[string]bool   // others that may be paid
	trusted  map[chainhash.Hash]bool
	outputs  map[wire.OutPoint]*wire.TxOut
	seen     map[chainhash.Hash]bool
	judgedAt int                      // changes of the chain when it was looked at last
	common   map[int][]wire.OutPoint  // inputs that all transactions of a purchase share
	mined    map[chainhash.Hash]int32 // whatever was in a block, and when first
}

func newLedger() ledger {
	return ledger{
		scripts: map[string]*owner{}, payees: map[string]bool{string(faucet): true, "": true, string([]byte{txscript.OP_RETURN}): true}, trusted: map[chainhash.Hash]bool{},
		outputs: map[wire.OutPoint]*wire.TxOut{}, seen: map[chainhash.Hash]bool{}, judgedAt: -1, common: map[int][]wire.OutPoint{},
		mined: map[chainhash.Hash]int32{},
	}
}

// derive is the script of an owner at a place.
func (g *Gateway) derive(o *owner, branch, index uint32) ([]byte, error) {
	for uint32(len(o.list[branch])) <= index {
		s, err := o.desc.At(branch, uint32(len(o.list[branch])))
		if err != nil {
			return nil, err
		}
		o.list[branch] = append(o.list[branch], s.Script)
		g.scripts[string(s.Script)] = o
	}
	return o.list[branch][index], nil
}

// ownerOf finds whose script it is, among some that lie ahead of those known.
func (g *Gateway) ownerOf(script []byte) *owner {
	const ahead = 24
	for range ahead {
		o := g.scripts[string(script)]
		if o != nil || g.payees[string(script)] {
			return o
		}
		for _, o := range g.owners {
			for branch := range uint32(2) {
				if _, err := g.derive(o, branch, uint32(len(o.list[branch]))); err != nil {
					g.Fail(err)
				}
			}
		}
	}
	return nil
}

// invariants hold after every step, whatever has failed and whoever lies.
func (g *Gateway) invariants() error {
	if g.shop == nil || g.shop.Machine == nil || g.judgedAt == g.Chain.changes {
		return nil
	}
	g.judgedAt = g.Chain.changes
	fees := int64(0)
	for _, t := range g.Chain.all() {
		if err := g.judge(t); err != nil {
			return err
		}
		fees += g.fee(t)
	}
	for _, t := range g.Chain.mined() {
		if id := g.Chain.id(t); g.mined[id] == 0 {
			g.mined[id] = g.Chain.Tip()
		}
	}
	sum := fees
	for _, out := range g.Chain.unspent(g.Chain.all()) {
		sum += out.Value
	}
	if sum != g.minted {
		return fmt.Errorf("%d sat became %d, fees of %d included", g.minted, sum, fees)
	}
	return g.paidOnce()
}

func (g *Gateway) fee(t *wire.MsgTx) (fee int64) {
	if len(t.TxIn) == 1 && t.TxIn[0].PreviousOutPoint.Hash == (chainhash.Hash{}) {
		return 0 // a block's own
	}
	for _, in := range t.TxIn {
		fee += g.previous(in.PreviousOutPoint).Value
	}
	for _, out := range t.TxOut {
		fee -= out.Value
	}
	return fee
}

func (g *Gateway) previous(p wire.OutPoint) *wire.TxOut {
	if out := g.outputs[p]; out != nil {
		return out
	}
	if out := g.Chain.coins[p]; out != nil {
		return out
	}
	return wire.NewTxOut(0, nil)
}

// judge looks at a transaction when it is first seen: whose money it moves, and
// for what.
func (g *Gateway) judge(t *wire.MsgTx) error {
	id := g.Chain.id(t)
	if g.seen[id] {
		return nil
	}
	g.seen[id] = true
	left := map[*owner]int64{}
	for _, in := range t.TxIn {
		if o := g.ownerOf(g.previous(in.PreviousOutPoint).PkScript); o != nil {
			left[o] += g.previous(in.PreviousOutPoint).Value
		}
	}
	for i, out := range t.TxOut {
		g.outputs[wire.OutPoint{Hash: id, Index: uint32(i)}] = out
		if out.Value == 0 {
			continue // a block's own
		}
		o := g.ownerOf(out.PkScript)
		if o == nil && !g.payees[string(out.PkScript)] {
			return fmt.Errorf("output %d of %v pays %d sat to %x, which is nobody's", i, id, out.Value, out.PkScript)
		}
		if o != nil {
			left[o] -= out.Value
		}
	}
	if g.trusted[id] {
		return nil
	}
	for _, o := range g.owners {
		if left[o] <= 0 {
			continue
		}
		bought := int64(0)
		for _, p := range g.bought(o, t, left[o]) {
			bought += p.amount.Sats()
			if err := g.conflicting(p, t); err != nil && !g.evil.lies { // else another may have paid
				return err
			}
		}
		if fee := left[o] - bought; fee > o.policy.FeeMax.Sats() {
			return fmt.Errorf("the %s loses %d sat in %v, and buys for %d sat", o.name, left[o], id, bought)
		}
	}
	return nil
}

// bought are an owner's purchases that a transaction pays, if the owner loses more
// than a fee in it: else somebody else has paid.
func (g *Gateway) bought(o *owner, t *wire.MsgTx, loss int64) (all []*purchase) {
	for _, p := range g.sorted() {
		if p.from == o && pays(t, p) > 0 {
			all = append(all, p)
		}
	}
	if loss <= maxFee {
		return nil
	}
	return all
}

// pays counts the outputs that are a purchase's.
func pays(t *wire.MsgTx, p *purchase) (n int) {
	for _, out := range t.TxOut {
		if p.script != nil && out.Value == p.amount.Sats() && bytes.Equal(out.PkScript, p.script) {
			n++
		}
	}
	return n
}

// conflicting: of all transactions that pay a purchase only one can be mined,
// because they share an input.
func (g *Gateway) conflicting(p *purchase, t *wire.MsgTx) error {
	var points []wire.OutPoint
	for _, in := range t.TxIn {
		points = append(points, in.PreviousOutPoint)
	}
	before, known := g.common[p.n]
	if known {
		points = shared(before, points)
	}
	if g.common[p.n] = points; len(points) == 0 {
		return fmt.Errorf("order %v could be paid twice, as %v shares no input with all before", p.id, t.TxHash())
	}
	return nil
}

func shared(a, b []wire.OutPoint) (both []wire.OutPoint) {
	for _, p := range a {
		for _, q := range b {
			if p == q {
				both = append(both, p)
			}
		}
	}
	return both
}

// paidOnce: no order is paid twice, and none that counts as unpaid.
func (g *Gateway) paidOnce() error {
	all := g.Chain.all()
	for _, p := range g.sorted() {
		n := 0
		for _, t := range all {
			n += pays(t, p)
		}
		switch {
		case n > 1:
			return fmt.Errorf("order %v of the %s is paid %d times", p.id, p.from.name, n)
		case n > 0 && p.answer == "unpaid":
			return fmt.Errorf("order %v of the %s counts as unpaid (%v) and is paid", p.id, p.from.name, p.why)
		}
	}
	return nil
}

// proven is that the receipt of an order is good, and its transaction was mined.
func (g *Gateway) proven(p *purchase, paid wallet.Paid) {
	depth := g.shape.wallet.Depth
	if p.from == g.shop {
		depth = ShopOptions().Depth
	}
	got, err := wallet.Verify(receipt.Entry{Order: p.id, Amount: p.amount}, p.script, depth, regtest, paid.Proof())
	if err == nil && g.mined[got.Tx.TxHash()] == 0 {
		err = errors.New("its transaction was never mined")
	}
	if err != nil {
		g.Fail(fmt.Errorf("order %v of the %s counts as paid: %w", p.id, p.from.name, err))
	}
}

func (g *Gateway) answered() bool {
	for _, p := range g.purchases {
		if p.answer == "" {
			return false
		}
	}
	return true
}

// settled is what must hold once all is calm.
func (g *Gateway) settled() error {
	if err := g.restart(); err != nil || g.evil.lies {
		return err
	}
	bills, doubts := money.Amount(0), map[*owner]int{}
	mined := g.Chain.mined()
	for _, p := range g.sorted() {
		n := 0
		for _, t := range mined {
			n += pays(t, p)
		}
		switch {
		case p.answer == "" && n == 0 && g.doubtful(p):
			doubts[p.from]++
		case p.answer == "":
			return fmt.Errorf("order %v of the %s was never answered: %+v", p.id, p.from.name, g.summary())
		case p.answer == "paid" && n != 1:
			return fmt.Errorf("order %v of the %s counts as paid, and is in %d transactions of the chain", p.id, p.from.name, n)
		case p.answer == "unpaid" && n != 0:
			return fmt.Errorf("order %v of the %s counts as unpaid, and is in %d transactions of the chain", p.id, p.from.name, n)
		}
		if p.bill && p.answer == "paid" {
			bills += p.amount
		}
	}
	if e := g.shop.Core(trade.Seller).(*earn.Book).Summary().Earned; e != bills {
		return fmt.Errorf("the till has %v; bills of %v are paid", e, bills)
	}
	for _, w := range []*wallet.Wallet{g.wallet(), g.shop.Core(wallet.Name).(*wallet.Wallet)} {
		w.Check()
		if s := w.Summary(); s.Waiting > 0 || len(s.Sending) > 0 {
			return fmt.Errorf("a wallet still has work: %+v", s)
		}
	}
	return g.balances(doubts)
}

// doubtful is an order that the gateway says has failed after its device has
// consented to it. A device that sees no chain cannot know, and waits.
func (g *Gateway) doubtful(p *purchase) bool {
	e, ok := p.from.Core(wallet.Name).(*wallet.End)
	return ok && e.Known(p.id) && strings.Contains(e.Summary().Refused, "may still be paid")
}

func (g *Gateway) wallet() *wallet.Wallet { return g.gateway.Core(wallet.Name).(*wallet.Wallet) }

func (g *Gateway) summary() wallet.Summary { return g.wallet().Summary() }

// balances are the wallets' against the chain's.
func (g *Gateway) balances(doubts map[*owner]int) error {
	held := map[*owner]int64{}
	for _, out := range g.Chain.unspent(g.Chain.mined()) {
		if o := g.ownerOf(out.PkScript); o != nil {
			held[o] += out.Value
		}
	}
	views := append(g.summary().Accounts, g.shop.Core(wallet.Name).(*wallet.Wallet).Summary().Accounts...)
	for _, v := range views {
		o := g.shop
		for _, d := range g.devices() {
			if d.name == v.Account {
				o = d
			}
		}
		if v.Confirmed != held[o] || v.Waiting != 0 || v.Reserved != 0 {
			return fmt.Errorf("the %s has %d sat in the chain; its wallet says %+v", o.name, held[o], v)
		}
	}
	for _, o := range g.devices() {
		if e := o.Core(wallet.Name).(*wallet.End).Summary(); e.Waiting != doubts[o] || e.Account == "" {
			return fmt.Errorf("the %s still waits: %+v", o.name, e)
		}
	}
	return nil
}

// restart is that every machine, loaded again, is what it was, headers included.
func (g *Gateway) restart() error {
	for _, m := range g.order {
		if err := g.memoryEqualsDisk(m); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	for _, o := range g.owners {
		again, err := o.boot(o.Disk.with(o.writer.Waiting()))
		if err != nil {
			return err
		}
		now, then := o.Core(consent.Core).(*consent.Signer).Summary(g.Now), signerOf(again).Summary(g.Now)
		if now.Tip != then.Tip || now.Counter != then.Counter || now.Day != then.Day || now.Expected != then.Expected {
			return fmt.Errorf("the signer of the %s, loaded again, is %+v; it was %+v", o.name, then, now)
		}
		if now.RolledBack {
			return fmt.Errorf("the signer of the %s believes that its disk is older: %+v", o.name, now)
		}
	}
	return nil
}

func signerOf(m *drive.Machine) *consent.Signer {
	return unwrap(m.Core(consent.Core)).(*consent.Signer)
}
