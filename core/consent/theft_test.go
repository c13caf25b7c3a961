package consent_test

import (
	"fmt"
	"math/rand"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
)

// A gateway lies at random, several lies to a proposal and several proposals to
// a signer, keeps every signature, and in the end looks for a transaction that
// it can have mined and that takes more from the device than the orders it asked
// for and the fee it allows.
func TestRandomLiesStealNothing(t *testing.T) {
	consents := 0
	for seed := range int64(40) {
		policy := usual
		policy.OnlyAsked, policy.Joint, policy.PerDay = true, seed%2 == 0, 0
		policy.NeedProof = seed%3 == 0
		g := newGateway(t, policy)
		th := &thief{t: t, g: g, r: rand.New(rand.NewSource(seed)), mine: map[string]bool{}, asked: map[money.OrderID]consent.Expect{}, txs: map[chainhash.Hash]*loot{}, coins: map[wire.OutPoint]coin{}}
		th.prepare()
		for n := range 20 {
			th.propose(n)
		}
		consents += len(th.txs)
		th.count(seed)
	}
	if consents < 100 {
		t.Errorf("only %d lies were signed, so the test says little", consents)
	}
}

type thief struct {
	t     *testing.T
	g     *gateway
	r     *rand.Rand
	own   []coin
	other []coin
	coins map[wire.OutPoint]coin
	mine  map[string]bool // every script that is really the device's
	asked map[money.OrderID]consent.Expect
	txs   map[chainhash.Hash]*loot
}

// loot is a transaction and the inputs of it that are signed.
type loot struct {
	tx     *wire.MsgTx
	signed map[int]bool
	orders map[money.OrderID]consent.Order
}

func (th *thief) prepare() {
	for i := range 6 {
		c := th.g.fund(th.r.Intn(4), uint32(i), 50_000+int64(i)*10_000)
		th.own = append(th.own, c)
		o := th.g.foreign(70_000)
		th.other = append(th.other, o)
		th.coins[c.point()], th.coins[o.point()] = c, o
	}
	th.g.bury(3)
	for account := range th.g.config.Accounts {
		for branch := range uint32(2) {
			for i := range uint32(10) {
				th.mine[string(th.g.script(account, branch, i).Script)] = true
			}
		}
	}
	for i := range 12 {
		e := consent.Expect{Order: orderID(fmt.Sprint("o", i)), Script: shop(fmt.Sprint("shop", i)), Amount: money.Amount(10_000+1_000*i) * money.Sat}
		th.asked[e.Order] = e
		th.g.tell(e)
	}
}

// propose makes an honest payment, in company or alone, and spoils some of it.
func (th *thief) propose(n int) {
	r := th.r
	var d *draft
	var sum int64
	d = th.g.draft(fmt.Sprint("p", n))
	for range 1 + r.Intn(2) {
		c := th.own[r.Intn(len(th.own))]
		d.spend(c)
		sum += c.out().Value
	}
	if r.Intn(4) == 0 { // two of ours, with the value of one in the thief's hands
		c := th.own[r.Intn(len(th.own))]
		d.spend(c)
		d.packet.Inputs[len(d.packet.Inputs)-1].Bip32Derivation, d.packet.Inputs[len(d.packet.Inputs)-1].TaprootBip32Derivation = nil, nil
		if n := len(d.Proofs); n > 0 {
			d.Proofs = d.Proofs[:n-1]
		}
		d.output(shop("thief"), c.out().Value)
	}
	e := th.asked[orderID(fmt.Sprint("o", r.Intn(len(th.asked))))]
	d.Orders = append(d.Orders, consent.Order{ID: e.Order, Output: d.output(e.Script, e.Amount.Sats()), Script: e.Script, Amount: e.Amount})
	d.change(th.g.script(r.Intn(4), 1, uint32(r.Intn(10))), sum-e.Amount.Sats()-800)
	for range r.Intn(3) {
		th.lie(d)
	}
	th.ask(d)
	for again := range r.Intn(3) {
		th.disguise(d, fmt.Sprint("p", n, "again", again))
		th.ask(d)
	}
}

func (th *thief) ask(d *draft) {
	if m, ok := th.g.answer(d.done(th.t)).(consent.Consent); ok {
		th.keep(d, m)
	}
}

// disguise proposes the same transaction as if it were another: other inputs are
// shown as ours, other orders named, or none.
func (th *thief) disguise(d *draft, id string) {
	d.ID, d.Replaces = consent.ID{}, consent.ID{}
	copy(d.ID[:], id)
	d.Proofs = nil
	for i, c := range d.coins {
		in := &d.packet.Inputs[i]
		in.NonWitnessUtxo, in.WitnessUtxo, in.SighashType = c.tx, nil, 0
		in.Bip32Derivation, in.TaprootBip32Derivation = nil, nil
		if c.account >= 0 && th.r.Intn(2) == 0 {
			in.Bip32Derivation, in.TaprootBip32Derivation = consent.Derivation(c.script)
			d.Proofs = append(d.Proofs, c.proof)
		}
	}
	if th.r.Intn(2) == 0 {
		d.Orders = nil
	}
}

func (th *thief) lie(d *draft) {
	r, t := th.r, d.tx()
	in, out := r.Intn(len(t.TxIn)), r.Intn(len(t.TxOut))
	lies := []func(){
		func() { t.TxOut[out].Value += int64(r.Intn(60_000)) - 30_000 },
		func() { t.TxOut[out].PkScript = shop("thief") },
		func() { d.output(shop("thief"), int64(r.Intn(90_000))) },
		func() {
			d.spend(th.other[r.Intn(len(th.other))])
			d.output(shop("thief"), int64(60_000+r.Intn(40_000)))
		},
		func() { // hide an own input
			d.packet.Inputs[in].Bip32Derivation, d.packet.Inputs[in].TaprootBip32Derivation = nil, nil
			if th.coins[t.TxIn[in].PreviousOutPoint].account >= 0 && len(d.Proofs) > in {
				d.Proofs = append(d.Proofs[:in:in], d.Proofs[in+1:]...)
			}
		},
		func() { // another amount for a coin
			lie := *d.coins[in].out()
			lie.Value += int64(r.Intn(100_000)) - 50_000
			d.packet.Inputs[in].WitnessUtxo = &lie
			if r.Intn(2) == 0 {
				d.packet.Inputs[in].NonWitnessUtxo = nil
			}
		},
		func() { // spend one more, whole value to the thief or to change
			c := th.own[r.Intn(len(th.own))]
			d.spend(c)
			if r.Intn(2) == 0 {
				d.output(shop("thief"), c.out().Value)
			} else {
				d.change(th.g.script(wpkh, 1, 2), c.out().Value)
			}
		},
		func() { d.Orders[0].Amount += money.Amount(r.Intn(5_000)) * money.Sat },
		func() { // another output for the order, or the same for a second order
			o := d.Orders[0]
			o.ID = orderID(fmt.Sprint("o", r.Intn(12)))
			d.Orders = append(d.Orders, o)
		},
		func() { d.Orders[0].Output = uint32(out) },
		func() { d.packet.Inputs[in].SighashType = txscript.SigHashType(r.Intn(256)) },
		func() { // a bump of something
			copy(d.Replaces[:], fmt.Sprint("p", r.Intn(25)))
			t.TxOut[len(t.TxOut)-1].Value -= int64(r.Intn(900))
		},
		func() { // derivations of another output
			s := th.g.script(r.Intn(4), uint32(r.Intn(2)), uint32(r.Intn(10)))
			d.packet.Outputs[out].Bip32Derivation, d.packet.Outputs[out].TaprootBip32Derivation = consent.Derivation(s)
		},
		func() { // an input of another's, said to be ours
			d.packet.Inputs[in].Bip32Derivation, d.packet.Inputs[in].TaprootBip32Derivation = consent.Derivation(th.own[0].script)
		},
	}
	lies[r.Intn(len(lies))]()
}

// keep takes the signatures that are good on the real chain.
func (th *thief) keep(d *draft, c consent.Consent) {
	id := d.tx().TxHash()
	l := th.txs[id]
	if l == nil {
		l = &loot{tx: d.tx().Copy(), signed: map[int]bool{}, orders: map[money.OrderID]consent.Order{}}
		th.txs[id] = l
	}
	for _, o := range d.Orders {
		l.orders[o.ID] = o
	}
	prevs := map[wire.OutPoint]*wire.TxOut{}
	for _, in := range l.tx.TxIn {
		real := th.coins[in.PreviousOutPoint]
		prevs[in.PreviousOutPoint] = real.out()
	}
	fetch := txscript.NewMultiPrevOutFetcher(prevs)
	cache := txscript.NewTxSigHashes(l.tx, fetch)
	for _, sig := range c.Signatures {
		for i, in := range l.tx.TxIn { // whatever input it fits
			real := th.coins[in.PreviousOutPoint]
			if real.account >= 0 && fits(l.tx, i, real.script, sig, real.out(), cache, fetch) {
				l.signed[i] = true
			}
		}
	}
}

func fits(t *wire.MsgTx, i int, s descriptor.Script, sig []byte, prev *wire.TxOut, cache *txscript.TxSigHashes, fetch txscript.PrevOutputFetcher) bool {
	signed := t.Copy()
	signed.TxIn[i].SignatureScript, signed.TxIn[i].Witness = consent.Unlock(s, sig)
	vm, err := txscript.NewEngine(prev.PkScript, signed, i, txscript.StandardVerifyFlags, nil, cache, prev.Value, fetch)
	return err == nil && vm.Execute() == nil
}

// count adds up what each transaction that is complete really takes.
func (th *thief) count(seed int64) {
	paid := map[money.OrderID]map[wire.OutPoint]bool{} // inputs that all payments of an order share
	for id, l := range th.txs {
		var loss int64
		complete := true
		for i, in := range l.tx.TxIn {
			if c := th.coins[in.PreviousOutPoint]; c.account >= 0 {
				loss += c.out().Value
				complete = complete && l.signed[i]
			}
		}
		if !complete {
			continue
		}
		for _, out := range l.tx.TxOut {
			if th.mine[string(out.PkScript)] {
				loss -= out.Value
			}
		}
		used := map[uint32]bool{}
		for _, o := range l.orders {
			e, out := th.asked[o.ID], l.tx.TxOut[o.Output]
			if string(out.PkScript) != string(e.Script) || out.Value != e.Amount.Sats() || used[o.Output] {
				th.t.Errorf("seed %d: transaction %v does not pay order %v as the device asked", seed, id, o.ID)
			}
			used[o.Output] = true
			loss -= out.Value
			th.share(seed, paid, o.ID, l)
		}
		if loss > usual.FeeMax.Sats() {
			th.t.Errorf("seed %d: transaction %v takes %d sat more than its orders", seed, id, loss)
		}
	}
}

// share wants all transactions that pay an order to conflict with each other.
func (th *thief) share(seed int64, paid map[money.OrderID]map[wire.OutPoint]bool, id money.OrderID, l *loot) {
	now := map[wire.OutPoint]bool{}
	for _, in := range l.tx.TxIn {
		if before := paid[id]; before == nil || before[in.PreviousOutPoint] {
			now[in.PreviousOutPoint] = true
		}
	}
	if len(now) == 0 {
		th.t.Errorf("seed %d: order %v can be paid twice", seed, id)
	}
	paid[id] = now
}
