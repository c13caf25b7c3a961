package channel

import (
	"bytes"
	"errors"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
)

// closing is the end of a channel by agreement.
type closing struct {
	simple bool // option_simple_close
	asked  bool // the peer said shutdown first, since the start of the process
	rate   int64
	// fee is what we offered last over this connection, 0 if nothing.
	fee int64
	// done are the transactions that have both signatures; with simple close
	// there may be one of each side.
	done []*wire.MsgTx
}

func (k *closing) unlink() { k.fee = 0 }

// maxDone bounds the closing transactions that are kept: each side's, and a
// few with a higher fee.
const maxDone = 8

// Weights of a closing transaction with two outputs (BOLT 3, expected weights).
const closingWeight = 772

// Shutdown asks the peer to close: no HTLC is added any more, and when the last
// one is gone both sign a transaction at a rate of satoshi per 1,000 weight.
func (c *Channel) Shutdown(rate int64) error {
	switch {
	case c.status == Stale:
		return errors.New("this database is old; only the peer can close the channel")
	case c.status > Shutdown:
		return errors.New("the channel is " + c.status.String() + " already")
	}
	c.closing.rate = max(rate, MinFeeRate)
	if !c.sentShutdown {
		c.sentShutdown = true
		c.change()
		c.unsend(ErrNotOpen)
		if c.synced {
			c.sendShutdown()
		}
	}
	return nil
}

func (c *Channel) sendShutdown() { c.send(&ln.Shutdown{ChannelID: c.ID, ScriptPubKey: c.Payout}) }

func (c *Channel) recvShutdown(m *ln.Shutdown) {
	switch {
	case !commit.ValidShutdown(m.ScriptPubKey, true, c.closing.simple):
		c.fail("shutdown to a script that is not allowed")
		return
	case len(c.Upfront) > 0 && !bytes.Equal(m.ScriptPubKey, c.Upfront):
		c.fail("shutdown to another script than the one of the opening")
		return
	}
	if !bytes.Equal(c.gotShutdown, m.ScriptPubKey) {
		c.gotShutdown = m.ScriptPubKey
		c.change()
	}
	if !c.sentShutdown {
		c.closing.asked = true
		c.sentShutdown, c.closing.rate = true, max(c.closing.rate, c.fees[0].rate)
		c.unsend(ErrNotOpen)
		c.sendShutdown()
	}
}

// close goes on with a closing when nothing hangs in the channel any more.
func (c *Channel) close() {
	if !c.sentShutdown || c.gotShutdown == nil || c.status >= Closing {
		return
	}
	if c.status != Shutdown {
		c.status = Shutdown
		c.change()
	}
	if !c.synced || !c.idle() || c.closing.fee != 0 {
		return
	}
	if c.closing.simple {
		c.offerSimple()
	} else if c.Commit.Opener == commit.Local {
		c.offerClosing(c.idealFee())
	}
}

// idle reports whether both commitments are the same and hold no HTLC.
func (c *Channel) idle() bool {
	return len(c.ours.all)+len(c.theirs.all) == 0 && len(c.fees) == 1 && !c.outstanding
}

// idealFee is what a closing should cost, in satoshi.
func (c *Channel) idealFee() int64 { return max(c.closing.rate, MinFeeRate) * closingWeight / 1000 }

// MostClosing is how many times its own idea of a fee an opener pays.
const mostClosing = 3

// offerClosing sends closing_signed.
func (c *Channel) offerClosing(fee int64) {
	k, err := c.Commit.Closing(c.local, c.remote, c.Payout, c.gotShutdown, fee)
	if err != nil {
		c.fail("closing: %v", err)
		return
	}
	c.closing.fee = fee
	m := &ln.ClosingSigned{ChannelID: c.ID, FeeSatoshis: fee, Signature: k.Sign(c.secrets)}
	if c.Commit.Opener == commit.Local {
		m.FeeRange = &ln.FeeRange{MinFeeSatoshis: MinFeeRate * closingWeight / 1000, MaxFeeSatoshis: mostClosing * c.idealFee()}
	}
	c.send(m)
}

func (c *Channel) recvClosingSigned(m *ln.ClosingSigned) {
	if c.status != Shutdown && c.status != Closing || !c.idle() || c.gotShutdown == nil {
		c.fail("closing_signed before shutdown has ended")
		return
	}
	k, err := c.Commit.Closing(c.local, c.remote, c.Payout, c.gotShutdown, m.FeeSatoshis)
	if err != nil {
		c.fail("closing_signed: %v", err)
		return
	}
	if err := k.Verify(m.Signature); err != nil {
		// The sender may leave out its own output if it is dust to itself.
		if k, err = k.Without(commit.Remote); err != nil || k.Verify(m.Signature) != nil {
			c.fail("closing_signed: the signature does not fit a fee of %d sat", m.FeeSatoshis)
			return
		}
	}
	opener := c.Commit.Opener == commit.Local
	switch {
	case m.FeeSatoshis == c.closing.fee:
	case opener && m.FeeSatoshis > mostClosing*c.idealFee():
		c.offerClosing(mostClosing * c.idealFee())
		return
	default: // the opener pays, so the other side takes what it offers
		c.offerClosing(m.FeeSatoshis)
	}
	c.agree(k.Signed(c.secrets, m.Signature))
}

// agree keeps a transaction that both have signed.
func (c *Channel) agree(t *wire.MsgTx) {
	for _, have := range c.closing.done {
		if have.TxHash() == t.TxHash() {
			return
		}
	}
	if len(c.closing.done) == maxDone {
		return
	}
	c.closing.done = append(c.closing.done, t)
	c.status = Closing
	c.change()
	c.event(Agreed{t})
}

// offerSimple sends closing_complete: we pay the fee out of our own output.
func (c *Channel) offerSimple() {
	fee := c.idealFee()
	c.closing.fee = fee
	switch {
	case c.local.Sats() < fee:
		return // we have nothing to close for: the peer pays
	case c.closing.asked && c.remote.Sats() >= fee:
		return // the peer wants to close, and can pay for it
	}
	m := &ln.ClosingComplete{Closing: ln.Closing{
		ChannelID: c.ID, CloserScriptPubKey: c.Payout, CloseeScriptPubKey: c.gotShutdown, FeeSatoshis: fee,
	}}
	for _, v := range c.variants(c.local.Sats()-fee, c.remote.Sats()) {
		k, err := c.Commit.SimpleClosing(commit.Local, v, c.local, c.remote, c.Payout, c.gotShutdown, fee, 0)
		if err == nil {
			sig := k.Sign(c.secrets)
			*signatureOf(&m.Closing, v) = &sig
		}
	}
	c.send(m)
}

// variants are those a closer signs (BOLT 2, closing_complete): one without its
// own output if that is dust, else with both, and without the closee's if the
// closee might call that dust.
func (c *Channel) variants(closer, closee int64) (all []commit.Variant) {
	if closer < c.Ours.Dust {
		return []commit.Variant{commit.CloseeOnly}
	}
	if closee > 0 {
		all = append(all, commit.CloserAndClosee)
	}
	if closee < c.Theirs.Dust {
		all = append(all, commit.CloserOnly)
	}
	return all
}

func signatureOf(m *ln.Closing, v commit.Variant) **keys.Signature {
	switch v {
	case commit.CloserOnly:
		return &m.CloserOutputOnly
	case commit.CloseeOnly:
		return &m.CloseeOutputOnly
	}
	return &m.CloserAndCloseeOutputs
}

// recvClosingComplete signs what the peer pays for.
func (c *Channel) recvClosingComplete(m *ln.ClosingComplete) {
	if c.status != Shutdown && c.status != Closing || !c.idle() || !bytes.Equal(m.CloseeScriptPubKey, c.Payout) {
		c.warn("closing_complete that does not fit our shutdown")
		return
	}
	if !commit.ValidShutdown(m.CloserScriptPubKey, true, true) {
		c.warn("closing_complete to a script that is not allowed")
		return
	}
	order := [...]commit.Variant{commit.CloserAndClosee, commit.CloseeOnly, commit.CloserOnly}
	dust := c.local.Sats() < c.Ours.Dust
	if dust { // nobody would relay an output of ours
		order = [...]commit.Variant{commit.CloserOnly, commit.CloserAndClosee, commit.CloseeOnly}
	}
	for _, v := range order {
		sig := *signatureOf(&m.Closing, v)
		if sig == nil || v == commit.CloserOnly && !dust {
			continue
		}
		k, err := c.Commit.SimpleClosing(commit.Remote, v, c.local, c.remote, c.Payout, m.CloserScriptPubKey, m.FeeSatoshis, m.Locktime)
		if err != nil || k.Verify(*sig) != nil {
			c.warn("closing_complete has a signature that does not fit")
			return
		}
		c.agree(k.Signed(c.secrets, *sig))
		answer := &ln.ClosingSig{Closing: m.Closing}
		answer.CloserOutputOnly, answer.CloseeOutputOnly, answer.CloserAndCloseeOutputs = nil, nil, nil
		ours := k.Sign(c.secrets)
		*signatureOf(&answer.Closing, v) = &ours
		c.send(answer)
		return
	}
	c.warn("closing_complete has no signature that we can use")
}

func (c *Channel) recvClosingSig(m *ln.ClosingSig) {
	for _, v := range [...]commit.Variant{commit.CloserAndClosee, commit.CloserOnly, commit.CloseeOnly} {
		sig := *signatureOf(&m.Closing, v)
		if sig == nil || c.gotShutdown == nil || !c.idle() {
			continue
		}
		k, err := c.Commit.SimpleClosing(commit.Local, v, c.local, c.remote, c.Payout, c.gotShutdown, m.FeeSatoshis, m.Locktime)
		if err == nil && k.Verify(*sig) == nil {
			c.agree(k.Signed(c.secrets, *sig))
			return
		}
	}
	c.warn("closing_sig does not fit what we offered")
}

// warn tells the peer that a message was dropped; the channel lives on.
func (c *Channel) warn(why string) { c.send(&ln.Warning{ChannelID: c.ID, Data: why}) }

// Spent is told when the funding output is spent in the chain.
func (c *Channel) Spent() {
	if c.status != Closed {
		c.status, c.synced = Closed, false
		c.change()
		c.unsend(ErrNotOpen)
	}
}

// Publishing is what the chain should have of a channel that has not failed: its
// funding, or the agreed closings.
func (c *Channel) Publishing() (txs []*wire.MsgTx) {
	if c.Funding() {
		txs = append(txs, c.funding)
	}
	if c.status == Closing {
		txs = append(txs, c.closing.done...)
	}
	return txs
}

// A Final is all that may be published of a channel: what claim begins with.
type Final struct {
	Local         commit.State
	LocalSig      keys.Signature
	LocalHTLCSigs []keys.Signature
	Remote        commit.State
	RemotePoint   keys.Public
	Next          *commit.State // signed by us, and not yet revoked before
	NextPoint     keys.Public
	Revealed      commit.Revealed
	Live          []Trace // HTLCs of now that may be in revoked commitments, too
}

// Final reads the channel as it was left.
func (c *Channel) Final() Final {
	f := Final{
		Local: c.state(commit.Local, false), LocalSig: c.sig, LocalHTLCSigs: c.htlcSig,
		Remote: c.state(commit.Remote, c.outstanding), RemotePoint: c.point, Revealed: c.revealed,
	}
	if c.outstanding {
		next := c.state(commit.Remote, false)
		f.Next, f.NextPoint = &next, c.next
	}
	for _, l := range [...][]*HTLC{c.ours.all, c.theirs.all} {
		for _, h := range l {
			f.Live = append(f.Live, Trace{h.commit(), h.Entered, c.theirNumber + 1})
		}
	}
	return f
}

// Resolve notes what became of an HTLC of ours on the chain: paid, by a
// preimage, or never. It is final.
func (c *Channel) Resolve(h *HTLC, preimage *[32]byte) {
	h.Settle = &Settle{Preimage: preimage, Chain: preimage == nil}
	c.saveSettle(h)
}

// Decided reports whether the fate of an HTLC of ours in a closed channel is
// known. One that the peer has failed, and not revoked, is as open as before.
func (c *Channel) Decided(h *HTLC) bool {
	return c.status >= Failed && h.Settle != nil && (h.Settle.Preimage != nil || h.Settle.Chain)
}

// Commitment is our commitment transaction, signed by both. Publishing it closes
// the channel.
func (c *Channel) Commitment() *wire.MsgTx {
	k, err := c.secrets.Build(&c.Commit, commit.Local, c.secrets.Point(c.number), c.state(commit.Local, false))
	if err != nil {
		panic(err)
	}
	return k.Signed(c.secrets, c.sig)
}
