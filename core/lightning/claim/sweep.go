package claim

import (
	"math"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/step"
)

// How much haste there is.
const (
	// maxLevel is how often a transaction is replaced before its deadline, each
	// time for half as much again and 1 sat/vB more (BIP 125, rule 4).
	maxLevel = 10
	// calmLevel is the last level without a deadline, and calmBlocks how long
	// each of those lasts.
	calmLevel  = 4
	calmBlocks = 72
	// patience is how many blocks after its expiry an HTLC of ours should be
	// back: by then the HTLC that came before it must still be safe.
	patience = 18
)

// replaceable is the sequence of inputs that wait for nothing.
const replaceable = wire.MaxTxInSequenceNum - 2

// rateAt is what a transaction pays at a level.
func (c *Claim) rateAt(level int) tx.FeeRate {
	rate := c.rate
	for range level {
		rate = min(rate+rate/2+tx.MinFeeRate, tx.MaxFeeRate)
	}
	return rate
}

// levelAt is the level at a height, of what could be done from one height on and
// should be done by another; deadline 0 is none.
func levelAt(tip, from, deadline int32) int {
	waited := max(int64(tip)-int64(from), 0)
	if deadline == 0 {
		return int(min(waited/calmBlocks, calmLevel))
	}
	span := max(int64(deadline)-int64(from), 1)
	return int(min(maxLevel*waited/span, maxLevel))
}

// An input is an output that we take or shall take.
type input struct {
	output
	isOurs   bool // nothing is missing but time
	ripe     bool // it can be in the next block
	stage    bool // by its second-stage transaction, which is signed already
	sequence uint32
	lockTime uint32
	key      keys.Secret
	rest     [][]byte // of the witness, after the signature
	from     int32    // the height from which it could be taken
	deadline int32    // the height by which it should be, or 0
}

// inputOf says how and when we take an output that nobody has taken.
func (c *Claim) inputOf(t *tree, o *output, st watch.Status) input {
	in := input{output: *o, isOurs: true, sequence: replaceable, from: st.Tip - st.Depth + 1}
	after := func(blocks int32) bool { return st.Depth >= blocks }
	switch o.role {
	case toUs:
		in.key, in.ripe = c.secrets.Payment, after(1)
		if o.script != nil {
			in.sequence = 1
		}
	case delayed:
		delay := c.Channel.Local.Delay
		in.sequence, in.key, in.rest = uint32(delay), t.delayedKey, [][]byte{nil}
		in.ripe, in.from = after(int32(delay)), in.from+int32(delay)
	case penal:
		in.key, in.rest = t.revocation, [][]byte{{1}}
		in.ripe, in.deadline = after(1), in.from+int32(c.Channel.Remote.Delay)
	case htlc:
		c.htlcInput(t, &in, st)
	default:
		in.isOurs = false
	}
	return in
}

// htlcInput is inputOf for an HTLC.
func (c *Claim) htlcInput(t *tree, in *input, st watch.Status) {
	if t.kind == Cheat {
		in.key, in.rest = t.revocation, [][]byte{t.revocationKey[:]}
		in.ripe, in.deadline = st.Depth >= 1, in.from+int32(c.Channel.Remote.Delay)
		return
	}
	in.stage = t.kind == Ours
	in.sequence = c.Channel.Type.HTLCSequence()
	in.key = t.htlcKey
	expiry := height(in.htlc.Expiry)
	if in.htlc.Ours { // comes back after it expired
		in.rest, in.lockTime = [][]byte{nil}, in.htlc.Expiry
		in.ripe = st.Depth >= 1 && st.Tip >= expiry
		in.from, in.deadline = max(in.from, expiry), height(in.htlc.Expiry+patience)
		return
	}
	preimage, ok := c.preimages[in.htlc.Hash]
	in.isOurs, in.ripe, in.deadline = ok, ok && st.Depth >= 1, expiry
	in.rest = [][]byte{preimage[:]}
}

// height is an expiry as a block height.
func height(expiry uint32) int32 { return int32(min(expiry, math.MaxInt32)) }

// never reports whether taking the output alone is not worth its fee at the
// lowest rate that is relayed. A second stage is: it was signed to be.
func (in *input) never(payout []byte) bool {
	if !in.isOurs || in.stage {
		return false
	}
	t := draftOf([]input{*in}, payout)
	return in.value-tx.MinFeeRate.For(tx.VSize(t)) < commit.DustLimit(payout)
}

// draftOf is the transaction that takes inputs to one output, with witnesses of
// the largest size and no value yet.
func draftOf(inputs []input, payout []byte) *wire.MsgTx {
	t := wire.NewMsgTx(2)
	for i := range inputs {
		in := &inputs[i]
		t.AddTxIn(&wire.TxIn{PreviousOutPoint: in.OutPoint, Sequence: in.sequence, Witness: in.witness(blankSig[:])})
		t.LockTime = max(t.LockTime, in.lockTime)
	}
	t.AddTxOut(wire.NewTxOut(0, payout))
	return t
}

// blankSig is as large as a signature in a witness can be.
var blankSig [72]byte

func (in *input) witness(sig []byte) wire.TxWitness {
	if in.script == nil {
		key := in.key.Public()
		return wire.TxWitness{sig, key[:]}
	}
	return append(append(wire.TxWitness{sig}, in.rest...), in.script)
}

func (in *input) sign(t *wire.MsgTx, i int) {
	script := in.script
	if script == nil {
		script = tx.P2WPKH(in.key.Public())
	}
	t.TxIn[i].Witness = in.witness(tx.WitnessSig(in.key.Sign(tx.Sighash(t, i, script, in.value))))
}

// sweep publishes what takes the plan's outputs: second stages each by itself,
// the rest in two groups, with a deadline and without. What is past half its time
// goes by itself as well, so that nothing the peer does to one output, in a block
// or in mempools, holds up another. If the group is still good, nodes refuse its
// parts, and no harm is done.
func (c *Claim) sweep(v *view) {
	var hurried, calm []input
	for _, in := range v.plan {
		switch {
		case in.stage:
			c.stage(&in, v.fx)
		case in.deadline == 0:
			calm = append(calm, in)
		default:
			hurried = append(hurried, in)
			if levelAt(c.tip, in.from, in.deadline) >= maxLevel/2 {
				c.take([]input{in}, v.fx)
			}
		}
	}
	if v.blind {
		return // an answer is on its way, and may be of an output for the same sweep
	}
	for _, group := range [][]input{hurried, calm} {
		for some := range slices.Chunk(group, maxInputs) {
			c.take(some, v.fx)
		}
	}
}

// take publishes one transaction that takes inputs to Payout. Its fee is at most
// half of them, or nine tenths when time runs out.
func (c *Claim) take(inputs []input, fx *step.Effects) {
	level, sum := 0, int64(0)
	for i := range inputs {
		level = max(level, levelAt(c.tip, inputs[i].from, inputs[i].deadline))
		sum += inputs[i].value
	}
	t := draftOf(inputs, c.Payout)
	most := sum / 2
	if level > maxLevel/2 {
		most = sum / 10 * 9
	}
	fee := min(c.rateAt(level).For(tx.VSize(t)), most, sum-commit.DustLimit(c.Payout))
	t.TxOut[0].Value = sum - fee
	if !c.toSay(t) {
		return
	}
	for i := range inputs {
		inputs[i].sign(t, i)
	}
	publish(t, fx)
}

// toSay reports whether t has not been published at this tip.
func (c *Claim) toSay(t *wire.MsgTx) bool {
	id := t.TxHash()
	if c.said[id] {
		return false
	}
	c.said[id] = true
	return true
}

func publish(t *wire.MsgTx, fx *step.Effects) {
	fx.Send = append(fx.Send, step.Packet{To: watch.Chain, Msg: watch.Publish{Tx: t}})
}

// stage publishes the second-stage transaction of an HTLC in our commitment. With
// anchors it has no fee of its own; a coin of the wallet pays it.
func (c *Claim) stage(in *input, fx *step.Effects) {
	t := c.own.HTLCTx(in.index)
	theirs := append(c.LocalHTLCSigs[in.index].DER(), byte(c.Channel.Type.HTLCSigHash()))
	complete := func(sig []byte) {
		t.TxIn[0].Witness = wire.TxWitness{nil, theirs, sig, in.rest[0], in.script}
	}
	sign := func() {
		complete(tx.WitnessSig(in.key.Sign(tx.Sighash(t, 0, in.script, in.value))))
	}
	if c.Channel.Type != commit.Anchors {
		if c.toSay(t) {
			sign()
			publish(t, fx)
		}
		return
	}
	complete(blankSig[:])
	b := boost{spent: in.OutPoint, level: levelAt(c.tip, in.from, in.deadline), stake: in.value}
	if c.addCoin(t, b, fx) && c.toSay(t) {
		sign()
		c.signCoin(t, in.OutPoint)
		publish(t, fx)
	}
}

// force publishes our commitment, and with anchors a child that pays for both.
func (c *Claim) force(fx *step.Effects) {
	parent := c.own.Signed(c.secrets, c.LocalSig)
	if c.toSay(parent) {
		publish(parent, fx)
	}
	if c.own.LocalAnchor < 0 {
		return
	}
	level := levelAt(c.tip, c.Height, c.forceBy())
	size := tx.VSize(parent)
	if c.own.Fee >= c.rateAt(level).For(size) {
		return // it pays for itself
	}
	point := wire.OutPoint{Hash: c.own.ID, Index: uint32(c.own.LocalAnchor)}
	in := input{output: output{OutPoint: point, value: commit.AnchorValue, script: commit.AnchorScript(c.Channel.Local.Funding)}, sequence: replaceable, key: c.secrets.Funding}
	t := wire.NewMsgTx(2)
	t.AddTxIn(&wire.TxIn{PreviousOutPoint: point, Sequence: replaceable, Witness: in.witness(blankSig[:])})
	b := boost{spent: point, level: level, size: size, paid: c.own.Fee, spare: commit.AnchorValue, stake: c.stake()}
	if c.addCoin(t, b, fx) && c.toSay(t) {
		in.sign(t, 0)
		c.signCoin(t, point)
		publish(t, fx)
	}
}

// forceBy is the height by which our commitment should be mined, or 0: when the
// first HTLC comes back to us, or halfway to the expiry of one that we are to
// take, so that as much time is left for its second stage.
func (c *Claim) forceBy() (by int32) {
	for i := range c.own.Outputs {
		o := &c.own.Outputs[i]
		due := height(o.Expiry)
		if _, known := c.preimages[o.Hash]; !o.Offered && !known {
			continue
		}
		if !o.Offered {
			due = c.Height + (due-c.Height)/2
		}
		if by == 0 || due < by {
			by = max(due, 1)
		}
	}
	return by
}

// stake is what our commitment gives us at most, in satoshi.
func (c *Claim) stake() int64 {
	sum := c.Local.Local.Sats()
	for _, h := range c.Local.HTLCs {
		sum += h.Amount.Sats()
	}
	return sum
}

// A boost says what fee a coin of the wallet is to pay.
type boost struct {
	spent wire.OutPoint // by the transaction that the coin is added to
	level int
	size  int   // virtual bytes of a parent that is to be paid for too
	paid  int64 // by that parent
	spare int64 // inputs less outputs before the coin is added
	stake int64 // half of it is the most to pay
}

func (c *Claim) boostFee(b *boost, level, size int) int64 {
	return max(min(c.rateAt(level).For(size+b.size)-b.paid, b.stake/2), tx.MinFeeRate.For(size))
}

// addCoin adds a coin of the wallet to t, and an output with the change. It
// reports false if there is no coin yet: then the wallet has been asked.
func (c *Claim) addCoin(t *wire.MsgTx, b boost, fx *step.Effects) bool {
	coin, ok := c.coins[b.spent]
	t.AddTxIn(&wire.TxIn{PreviousOutPoint: coin.Point, Sequence: replaceable, Witness: wire.TxWitness{blankSig[:], make([]byte, 33)}})
	t.AddTxOut(wire.NewTxOut(0, c.Payout))
	size, dust := tx.VSize(t), commit.DustLimit(c.Payout)
	if !ok {
		c.ask(b.spent, c.boostFee(&b, maxLevel, size)+dust, fx)
		return false
	}
	last := len(t.TxOut) - 1
	t.TxOut[last].Value = max(coin.Value+b.spare-c.boostFee(&b, b.level, size), dust)
	if t.TxOut[last].Value <= coin.Value+b.spare-tx.MinFeeRate.For(size) {
		return true
	}
	t.TxOut = t.TxOut[:last] // too small a coin for change: all of it is fee
	return last > 0
}

// signCoin signs the coin, which is the last input.
func (c *Claim) signCoin(t *wire.MsgTx, spent wire.OutPoint) {
	i := len(t.TxIn) - 1
	t.TxIn[i].Witness = tx.WitnessP2WPKH(c.wallet, t, i, c.coins[spent].Value)
}

// ask asks the wallet for a coin, once per tip.
func (c *Claim) ask(spent wire.OutPoint, sats int64, fx *step.Effects) {
	if tip, ok := c.asked[spent]; ok && tip == c.tip {
		return
	}
	c.asked[spent] = c.tip
	fx.Send = append(fx.Send, step.Packet{To: Wallet, Msg: Bump{For: spent, Sats: sats}})
}

// fund takes a coin of the wallet's.
func (c *Claim) fund(f Funds, fx *step.Effects) bool {
	_, wanted := c.asked[f.For]
	_, have := c.coins[f.For]
	if !wanted || have || f.Coin.Value <= 0 || len(c.coins) >= maxCoins {
		return false
	}
	for _, coin := range c.coins {
		if coin.Point == f.Coin.Point {
			return false // it pays for something else already
		}
	}
	c.coins[f.For] = f.Coin
	fx.Put = append(fx.Put, c.coinRecord(f.For))
	return true
}
