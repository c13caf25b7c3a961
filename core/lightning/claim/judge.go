package claim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/step"
)

// A view is the tree as the best chain has it now, being looked at.
type view struct {
	*tree
	fx      *step.Effects
	funding watch.Status
	outputs []output // with those of second stages
	plan    []input  // what we can take now
	open    bool     // something is not settled yet
	blind   bool     // the chain has not said anything yet of an output

	ours, theirs int64
	counted      map[chainhash.Hash]bool // transactions of ours whose payout is in ours
	used         map[wire.OutPoint]bool  // coins of the wallet that they spent
}

// act looks at everything and does what is to be done.
func (c *Claim) act(fx *step.Effects) {
	c.watch(watch.Output{Point: c.Channel.Funding, Script: c.Channel.FundingOutput().PkScript}, fx)
	funding, ok := c.status[c.Channel.Funding]
	switch {
	case !ok:
		return
	case funding.Spender == nil:
		if c.Force {
			c.force(fx)
		}
		return
	}
	v := c.look(c.treeOf(funding.Spender), funding, fx)
	if v.unknown && v.kind == Cheat && !c.pleaded {
		c.pleaded = true
		fx.Done = append(fx.Done, step.Outcome{ID: hex.EncodeToString(c.id[:]), Value: Revoked{v.number}})
	}
	if v.unknown && v.funding.SpendDepth < lateTraces {
		v.open = true
	}
	c.sweep(v)
	c.report(v)
	if !v.open {
		c.finish(v)
	}
}

// lateTraces is how many blocks we wait for the traces of a revoked commitment.
const lateTraces = 1008

// watch asks about an output once per life of the process.
func (c *Claim) watch(o watch.Output, fx *step.Effects) {
	if c.watched[o.Point] {
		return
	}
	c.watched[o.Point] = true
	fx.Send = append(fx.Send, step.Packet{To: watch.Chain, Msg: o})
}

// look goes through the outputs of the tree, first stage first.
func (c *Claim) look(t *tree, funding watch.Status, fx *step.Effects) *view {
	v := &view{
		tree: t, fx: fx, funding: funding, open: funding.SpendDepth < c.Depth,
		outputs: append([]output(nil), t.outputs...),
		counted: map[chainhash.Hash]bool{}, used: map[wire.OutPoint]bool{},
	}
	for i := 0; i < len(v.outputs); i++ { // second stages are added on the way
		o := &v.outputs[i]
		switch o.role {
		case peers:
			v.theirs += o.value
			continue
		case paid:
			v.ours += o.value
			continue
		case anchor:
			if _, ok := c.coins[o.OutPoint]; !ok {
				continue // not worth a transaction
			}
		}
		c.watch(watch.Output{Point: o.OutPoint, Script: o.pk}, fx)
		st, ok := c.status[o.OutPoint]
		switch {
		case o.role == anchor && ok:
			if st.Spender != nil {
				c.count(v, st.Spender)
			}
		case !ok || st.Depth < 1:
			v.open, v.blind = true, v.blind || !ok
		case st.Spender != nil:
			c.spent(v, *o, st)
		default:
			c.unspent(v, o, st)
		}
	}
	return v
}

// spent accounts for an output that somebody took.
func (c *Claim) spent(v *view, o output, st watch.Status) {
	s := v.spendOf(&o, st.Spender)
	if s.preimage != nil {
		c.learn(*s.preimage, v.fx)
	}
	if st.SpendDepth < c.Depth {
		v.open = true
	}
	switch {
	case s.vin < 0:
		v.open = true
	case s.second && (s.by == commit.Local || v.kind == Cheat):
		c.follow(v, &o, st.Spender, s)
	case s.by == commit.Local:
		c.count(v, st.Spender)
	default:
		v.theirs += o.value
	}
}

// follow goes on with the output of a second-stage transaction: the one at the
// index of the input that spends o, because that is all its signature may cover.
func (c *Claim) follow(v *view, o *output, spender *wire.MsgTx, s spend) {
	next := output{role: delayed, script: v.second, report: -1, OutPoint: wire.OutPoint{Hash: spender.TxHash(), Index: uint32(s.vin)}}
	if s.by == commit.Remote {
		next.role = penal
	}
	pk := tx.P2WSH(v.second)
	if s.vin >= len(spender.TxOut) || !bytes.Equal(spender.TxOut[s.vin].PkScript, pk) {
		v.theirs += o.value // cannot be: the peer and we signed another script
		return
	}
	next.value, next.pk = spender.TxOut[s.vin].Value, pk
	v.outputs = append(v.outputs, next)
	if s.by == commit.Local {
		c.count(v, spender)
	}
}

// count adds what a transaction of ours paid out, less what the wallet put in.
func (c *Claim) count(v *view, t *wire.MsgTx) {
	id := t.TxHash()
	if v.counted[id] {
		return
	}
	v.counted[id] = true
	for _, o := range t.TxOut {
		if bytes.Equal(o.PkScript, c.Payout) {
			v.ours += o.Value
		}
	}
	for _, in := range t.TxIn {
		for _, coin := range c.coins {
			if coin.Point == in.PreviousOutPoint {
				v.ours -= coin.Value
				v.used[coin.Point] = true
			}
		}
	}
}

// unspent plans to take an output, now or later.
func (c *Claim) unspent(v *view, o *output, st watch.Status) {
	in := c.inputOf(v.tree, o, st)
	switch {
	case c.given(&in) && o.role == htlc:
		v.theirs += o.value // as soon as it likes
	case c.given(&in): // not worth a transaction at any fee
	default:
		v.open = true
		if in.ripe && !in.never(c.Payout) {
			v.plan = append(v.plan, in)
		}
	}
}

// given reports whether we give up an output that nobody has taken: it is not
// worth the fee; or it is an HTLC's that we cannot or shall not take, and so long
// expired that its fate is what it is now.
func (c *Claim) given(in *input) bool {
	if in.isOurs && !in.never(c.Payout) {
		return false
	}
	return in.role != htlc || c.stale(&in.htlc)
}

func (c *Claim) stale(h *commit.HTLC) bool {
	return int64(c.tip) >= int64(h.Expiry)+int64(c.Depth)
}

// learn keeps a preimage that matters, and reports whether it is new.
func (c *Claim) learn(preimage [32]byte, fx *step.Effects) bool {
	hash := sha256.Sum256(preimage[:])
	if _, ok := c.preimages[hash]; ok || !c.wanted[hash] {
		return false
	}
	c.preimages[hash] = preimage
	fx.Put = append(fx.Put, c.preimageRecord(hash))
	return true
}

// report tells the caller the fates that are certain.
func (c *Claim) report(v *view) {
	certain := make([]bool, len(c.HTLCs))
	paid := make([]bool, len(c.HTLCs)) // against the preimage
	for _, i := range v.absent {
		// If we cannot read all of the transaction, the HTLC may be in it.
		opaque := v.kind == Unknown || v.unknown
		certain[i] = v.funding.SpendDepth >= c.Depth && (!opaque || c.stale(&c.HTLCs[i]))
	}
	for i := range v.outputs {
		o := &v.outputs[i]
		st := c.status[o.OutPoint]
		if o.report < 0 || st.Depth < 1 {
			continue
		}
		if st.Spender == nil {
			in := c.inputOf(v.tree, o, st)
			certain[o.report] = c.given(&in)
			continue
		}
		s := v.spendOf(o, st.Spender)
		certain[o.report] = st.SpendDepth >= c.Depth
		paid[o.report] = s.preimage != nil
	}
	changed := false
	for i, h := range c.HTLCs {
		if c.reported[i] {
			continue
		}
		preimage, known := c.preimages[h.Hash]
		r := Resolved{Hash: h.Hash, Index: i}
		switch {
		case h.Ours && known: // whoever gave it to us may give it to others
			r.Preimage = &preimage
		case !certain[i]:
			v.open = true
			continue
		case paid[i]:
			r.Preimage = &preimage
		}
		c.reported[i], changed = true, true
		v.fx.Done = append(v.fx.Done, step.Outcome{ID: hex.EncodeToString(h.Hash[:]), Value: r})
	}
	if changed {
		v.fx.Put = append(v.fx.Put, c.head())
	}
}

// finish reports the end, once, and gives back coins that were not used.
func (c *Claim) finish(v *view) {
	c.finished = &Finished{Ours: v.ours, Theirs: v.theirs, Fees: c.Channel.Capacity - v.ours - v.theirs}
	v.fx.Put = append(v.fx.Put, c.head())
	for _, point := range c.coinPoints() {
		if coin := c.coins[point]; !v.used[coin.Point] {
			v.fx.Send = append(v.fx.Send, step.Packet{To: Wallet, Msg: Release{coin}})
		}
	}
	v.fx.Done = append(v.fx.Done, step.Outcome{ID: hex.EncodeToString(c.id[:]), Value: *c.finished})
}

// A Summary says how far a claim is.
type Summary struct {
	Kind       string // how the channel ended
	Tip        int32
	SpendDepth int32 // of what spends the funding output
	HTLCs      int   // to be resolved
	Coins      int   // of the wallet, lent to this claim
	Finished   *Finished
}

// Summary reads the claim.
func (c *Claim) Summary() Summary {
	s := Summary{Kind: Unspent.String(), Tip: c.tip, Coins: len(c.coins), Finished: c.finished}
	funding := c.status[c.Channel.Funding]
	if funding.Spender != nil {
		s.Kind, s.SpendDepth = c.treeOf(funding.Spender).kind.String(), funding.SpendDepth
	}
	for _, done := range c.reported {
		if !done {
			s.HTLCs++
		}
	}
	return s
}
