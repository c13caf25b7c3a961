package channel

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// Bounds of what we propose and accept.
const (
	// MinCapacity and MaxCapacity in satoshi. The upper one is BOLT 2's, which
	// option_support_large_channel lifts.
	MinCapacity = 20_000
	MaxCapacity = 1<<24 - 1
	// Dust is the smallest output that every script may have (Bitcoin Core's
	// limit for an unknown segwit output).
	Dust = 354
	// maxDust is where a peer's dust limit would put too much at its mercy.
	maxDust = 1062
	// maxDelay is how many blocks a peer may make our money wait: two weeks.
	maxDelay = 2016
	// Delay is how long the peer's money waits when it closes alone: a day.
	Delay = 144
)

// A Proposal is what one side decides about a channel of its own or of the
// peer's before it opens.
type Proposal struct {
	Index    uint64
	Peer     keys.Public
	Chain    chainhash.Hash
	Capacity int64 // satoshi; the opener's choice
	Push     money.Amount
	Announce bool
	Type     commit.Type
	Alias    bool  // option_scid_alias in the channel type
	FeeRate  int64 // satoshi per 1,000 weight
	MinDepth int32
	Payout   []byte // where a closing pays us
	Upfront  bool   // bind ourselves to Payout
	Large    bool   // option_support_large_channel
	Delay    uint16 // of the peer's money; 0: Delay
}

// limits are what we demand of the peer for a capacity.
func (p *Proposal) limits(capacity int64) Limits {
	delay := p.Delay
	if delay == 0 {
		delay = Delay
	}
	return Limits{
		Dust: Dust, Reserve: max(capacity/100, Dust), MaxInFlight: money.Amount(capacity) * money.Sat, MinHTLC: 1, MaxHTLCs: MaxHTLCs, Delay: delay,
	}
}

// features is the channel type that a proposal asks for.
func (p *Proposal) features() ln.Features {
	t := ln.ChannelStaticRemoteKey
	if p.Type == commit.Anchors {
		t = ln.ChannelAnchors
	}
	if p.Alias {
		t = t.With(ln.SCIDAlias)
	}
	return t
}

// typeOf reads a channel type; ok is false for one that we do not speak.
func typeOf(fs ln.Features) (t commit.Type, alias, ok bool) {
	alias = fs.Has(ln.SCIDAlias)
	bare := ln.NewFeatures()
	for _, bit := range fs.Bits(ln.MaxListed) {
		if bit != ln.SCIDAlias {
			bare = bare.With(bit)
		}
	}
	switch {
	case bare.Equal(ln.ChannelAnchors):
		return commit.Anchors, alias, true
	case bare.Equal(ln.ChannelStaticRemoteKey):
		return commit.StaticRemoteKey, alias, true
	}
	return 0, false, false
}

// An Opening is a channel that is being agreed on. It lives in memory: until the
// funding is signed nobody has anything to lose, so a lost connection ends it.
type Opening struct {
	Proposal
	Temp    ln.ChannelID
	secrets commit.Secrets
	terms   Terms
	opener  bool
	first   keys.Public // the peer's first per-commitment point
	funding *wire.MsgTx
	channel *Channel
}

// Offer begins an opening of ours.
func Offer(p Proposal, root keys.Secret) (*Opening, *ln.OpenChannel, error) {
	most := int64(MaxCapacity)
	if p.Large {
		most = 21e6 * 1e8
	}
	switch {
	case p.Capacity < MinCapacity || p.Capacity > most:
		return nil, nil, fmt.Errorf("capacity is %d sat; it must be %d to %d", p.Capacity, int64(MinCapacity), most)
	case p.Push > money.Amount(p.Capacity)*money.Sat:
		return nil, nil, fmt.Errorf("push of %v is more than the capacity of %d sat", p.Push, p.Capacity)
	case p.FeeRate < MinFeeRate || p.FeeRate > MaxFeeRate:
		return nil, nil, fmt.Errorf("fee rate is %d sat/kw; it must be %d to %d", p.FeeRate, MinFeeRate, MaxFeeRate)
	}
	o := &Opening{Proposal: p, secrets: commit.NewSecrets(root), opener: true}
	l, points := p.limits(p.Capacity), o.secrets.Basepoints()
	o.Temp = keys.Digest("coinop/ln/temporary", points.Funding[:])
	m := &ln.OpenChannel{
		ChainHash: p.Chain, TemporaryChannelID: o.Temp, FundingSatoshis: p.Capacity, PushMsat: p.Push,
		DustLimitSatoshis: l.Dust, MaxHTLCValueInFlightMsat: l.MaxInFlight, ChannelReserveSatoshis: l.Reserve,
		HTLCMinimumMsat: l.MinHTLC, FeeratePerKW: uint32(p.FeeRate), ToSelfDelay: l.Delay, MaxAcceptedHTLCs: uint16(l.MaxHTLCs),
		FundingPubkey: points.Funding, RevocationBasepoint: points.Revocation, PaymentBasepoint: points.Payment,
		DelayedPaymentBasepoint: points.Delayed, HTLCBasepoint: points.HTLC, FirstPerCommitmentPoint: o.secrets.Point(0),
		UpfrontShutdownScript: p.upfront(), ChannelType: p.features(),
	}
	if p.Announce {
		m.ChannelFlags = 1
	}
	return o, m, nil
}

// upfront binds us to the script, or says that nothing binds us.
func (p *Proposal) upfront() []byte {
	if p.Upfront {
		return p.Payout
	}
	return []byte{}
}

// Accept answers an opening of the peer's. p.Capacity and what else the opener
// decides is taken from its message.
func Accept(m *ln.OpenChannel, p Proposal, root keys.Secret) (*Opening, *ln.AcceptChannel, error) {
	t, alias, known := typeOf(m.ChannelType)
	most := int64(MaxCapacity)
	if p.Large {
		most = 21e6 * 1e8
	}
	switch {
	case m.ChainHash != p.Chain:
		return nil, nil, errors.New("open_channel is for another chain")
	case !known:
		return nil, nil, fmt.Errorf("channel type %v is not one of ours: static_remotekey, or anchors", m.ChannelType)
	case m.FundingSatoshis < MinCapacity || m.FundingSatoshis > most:
		return nil, nil, fmt.Errorf("funding is %d sat; it must be %d to %d", m.FundingSatoshis, int64(MinCapacity), most)
	case m.PushMsat > money.Amount(m.FundingSatoshis)*money.Sat:
		return nil, nil, errors.New("push_msat is more than the funding")
	case int64(m.FeeratePerKW) < MinFeeRate || m.FeeratePerKW > MaxFeeRate:
		return nil, nil, fmt.Errorf("feerate_per_kw is %d; it must be %d to %d", m.FeeratePerKW, MinFeeRate, MaxFeeRate)
	case alias && m.ChannelFlags&1 != 0:
		return nil, nil, errors.New("a public channel cannot have option_scid_alias")
	}
	p.Capacity, p.Push, p.Announce, p.Type, p.Alias = m.FundingSatoshis, m.PushMsat, m.ChannelFlags&1 != 0, t, alias
	p.FeeRate = int64(m.FeeratePerKW)
	theirs := Limits{m.DustLimitSatoshis, m.ChannelReserveSatoshis, m.MaxHTLCValueInFlightMsat, m.HTLCMinimumMsat, int(m.MaxAcceptedHTLCs), m.ToSelfDelay}
	points := commit.Basepoints{Funding: m.FundingPubkey, Revocation: m.RevocationBasepoint, Payment: m.PaymentBasepoint, Delayed: m.DelayedPaymentBasepoint, HTLC: m.HTLCBasepoint}
	o := &Opening{Proposal: p, Temp: m.TemporaryChannelID, secrets: commit.NewSecrets(root), first: m.FirstPerCommitmentPoint}
	if err := o.agree(theirs, points, m.UpfrontShutdownScript); err != nil {
		return nil, nil, err
	}
	l, ours := o.terms.Ours, o.secrets.Basepoints()
	return o, &ln.AcceptChannel{
		TemporaryChannelID: o.Temp, DustLimitSatoshis: l.Dust, MaxHTLCValueInFlightMsat: l.MaxInFlight,
		ChannelReserveSatoshis: l.Reserve, HTLCMinimumMsat: l.MinHTLC, MinimumDepth: uint32(p.MinDepth), ToSelfDelay: l.Delay,
		MaxAcceptedHTLCs: uint16(l.MaxHTLCs), FundingPubkey: ours.Funding, RevocationBasepoint: ours.Revocation,
		PaymentBasepoint: ours.Payment, DelayedPaymentBasepoint: ours.Delayed, HTLCBasepoint: ours.HTLC,
		FirstPerCommitmentPoint: o.secrets.Point(0), UpfrontShutdownScript: p.upfront(), ChannelType: p.features(),
	}, nil
}

// Accepted takes the peer's answer. The opener then funds Output.
func (o *Opening) Accepted(m *ln.AcceptChannel) error {
	if o.first != (keys.Public{}) {
		return errors.New("accept_channel came twice")
	}
	if m.ChannelType != "" && !m.ChannelType.Equal(o.features()) {
		return fmt.Errorf("accept_channel is for channel type %v; we asked for %v", m.ChannelType, o.features())
	}
	if m.MinimumDepth > MaxDepth {
		return fmt.Errorf("accept_channel wants %d confirmations; the limit is %d", m.MinimumDepth, MaxDepth)
	}
	o.MinDepth = int32(m.MinimumDepth)
	o.first = m.FirstPerCommitmentPoint
	theirs := Limits{m.DustLimitSatoshis, m.ChannelReserveSatoshis, m.MaxHTLCValueInFlightMsat, m.HTLCMinimumMsat, int(m.MaxAcceptedHTLCs), m.ToSelfDelay}
	points := commit.Basepoints{Funding: m.FundingPubkey, Revocation: m.RevocationBasepoint, Payment: m.PaymentBasepoint, Delayed: m.DelayedPaymentBasepoint, HTLC: m.HTLCBasepoint}
	return o.agree(theirs, points, m.UpfrontShutdownScript)
}

// MaxDepth is how many confirmations a peer may make us wait.
const MaxDepth = 144

// agree checks the peer's half of the terms and joins it with ours.
func (o *Opening) agree(theirs Limits, points commit.Basepoints, upfront []byte) error {
	ours := o.limits(o.Capacity)
	for _, p := range [...]keys.Public{points.Funding, points.Revocation, points.Payment, points.Delayed, points.HTLC, o.first} {
		if _, err := keys.ParsePublic(p[:]); err != nil {
			return err
		}
	}
	switch {
	case theirs.Dust < Dust || theirs.Dust > maxDust:
		return fmt.Errorf("dust_limit_satoshis is %d; it must be %d to %d", theirs.Dust, Dust, maxDust)
	case theirs.Delay > maxDelay:
		return fmt.Errorf("to_self_delay is %d; the limit is %d", theirs.Delay, maxDelay)
	case theirs.MaxHTLCs < 1 || theirs.MaxHTLCs > MaxHTLCs:
		return fmt.Errorf("max_accepted_htlcs is %d; it must be 1 to %d", theirs.MaxHTLCs, MaxHTLCs)
	case theirs.Reserve > o.Capacity/5 || theirs.Reserve < ours.Dust:
		return fmt.Errorf("channel_reserve_satoshis is %d; it must be %d to %d", theirs.Reserve, ours.Dust, o.Capacity/5)
	case theirs.MinHTLC > money.Amount(o.Capacity)*money.Sat/10:
		return fmt.Errorf("htlc_minimum_msat is %d, more than a tenth of the channel", uint64(theirs.MinHTLC))
	case len(upfront) > 0 && !commit.ValidShutdown(upfront, true, false):
		return errors.New("upfront_shutdown_script is not one that is allowed")
	}
	ours.Reserve = max(ours.Reserve, theirs.Dust)
	theirs.MaxInFlight = min(theirs.MaxInFlight, ours.MaxInFlight) // it may say any number
	o.terms = Terms{
		Index: o.Index, Peer: o.Peer, Ours: ours, Theirs: theirs, Announce: o.Announce, ScidAlias: o.Alias, MinDepth: o.MinDepth,
		FeeRate: o.FeeRate, Payout: o.Payout, Upfront: upfront, Push: o.Push,
		Commit: commit.Channel{
			Type: o.Type, Capacity: o.Capacity, Opener: commit.Remote,
			Local:  commit.Party{Basepoints: o.secrets.Basepoints(), Dust: ours.Dust, Delay: theirs.Delay},
			Remote: commit.Party{Basepoints: points, Dust: theirs.Dust, Delay: ours.Delay},
		},
	}
	if o.opener {
		o.terms.Commit.Opener = commit.Local
	}
	return nil
}

// Output is what the funding transaction must have.
func (o *Opening) Output() *wire.TxOut { return o.terms.Commit.FundingOutput() }

// Fund names the funding transaction, signed and not yet published, and signs
// the peer's first commitment.
func (o *Opening) Fund(t *wire.MsgTx) (*ln.FundingCreated, error) {
	want := o.Output()
	for i, out := range t.TxOut {
		if out.Value == want.Value && string(out.PkScript) == string(want.PkScript) && i <= 0xffff {
			o.funding = t
			o.point(t.TxHash(), uint32(i))
			c := newChannel(o.terms, o.secrets, o.first)
			sig, err := c.firstSignature()
			if err != nil {
				return nil, err
			}
			o.channel = c
			return &ln.FundingCreated{TemporaryChannelID: o.Temp, FundingTxid: t.TxHash(), FundingOutputIndex: uint16(i), Signature: sig}, nil
		}
	}
	return nil, errors.New("the funding transaction does not have the channel's output")
}

func (o *Opening) point(txid chainhash.Hash, vout uint32) {
	o.terms.Commit.Funding = wire.OutPoint{Hash: txid, Index: vout}
	o.terms.ID = ln.NewChannelID(txid, uint16(vout))
}

// firstSignature signs the peer's commitment 0.
func (c *Channel) firstSignature() (keys.Signature, error) {
	k, err := c.secrets.Build(&c.Commit, commit.Remote, c.point, c.state(commit.Remote, false))
	if err != nil {
		return keys.Signature{}, err
	}
	sig, _ := k.Sign(c.secrets)
	return sig, nil
}

// firstVerified checks the peer's signature over our commitment 0.
func (c *Channel) firstVerified(sig keys.Signature) error {
	k, err := c.secrets.Build(&c.Commit, commit.Local, c.secrets.Point(0), c.state(commit.Local, false))
	if err == nil {
		err = k.Verify(sig, nil)
	}
	c.sig, c.sigChanged = sig, true
	return err
}

// Created takes the opener's signature, and returns the channel, which must be
// on disk before the answer is sent.
func (o *Opening) Created(m *ln.FundingCreated) (*Channel, *ln.FundingSigned, error) {
	if o.opener {
		return nil, nil, errors.New("funding_created for a channel that we open")
	}
	o.point(m.FundingTxid, uint32(m.FundingOutputIndex))
	c := newChannel(o.terms, o.secrets, o.first)
	if err := c.firstVerified(m.Signature); err != nil {
		return nil, nil, err
	}
	sig, err := c.firstSignature()
	if err != nil {
		return nil, nil, err
	}
	return c, &ln.FundingSigned{ChannelID: c.ID, Signature: sig}, nil
}

// Signed takes the acceptor's signature, and returns the channel, which must be
// on disk before its funding is published.
func (o *Opening) Signed(m *ln.FundingSigned) (*Channel, error) {
	if o.channel == nil || m.ChannelID != o.channel.ID {
		return nil, errors.New("funding_signed for a channel that is not funded")
	}
	if err := o.channel.firstVerified(m.Signature); err != nil {
		return nil, err
	}
	o.channel.funding = o.funding
	return o.channel, nil
}

// newChannel is a channel at commitment 0.
func newChannel(t Terms, s commit.Secrets, first keys.Public) *Channel {
	c := &Channel{Terms: t, secrets: s, prefix: Prefix(t.Index), peer: t.Peer.PeerName(), point: first, fees: []fee{{t.FeeRate, Committed}}}
	all := money.Amount(t.Commit.Capacity) * money.Sat
	c.local, c.remote = all-t.Push, t.Push
	if t.Commit.Opener == commit.Remote {
		c.local, c.remote = c.remote, c.local
	}
	c.alias = aliasOf(t.ID)
	c.newTerms, c.dirty = true, true
	return c
}

// aliasOf is the short channel id by which the peer may mean the channel before
// it has one, and ever after if it is private. It lies before any channel of the
// chain's could (BOLT 2 leaves the choice).
func aliasOf(id ln.ChannelID) ln.SCID {
	d := keys.Digest("coinop/ln/alias", id[:])
	block := uint32(16_000_000) + uint32(d[0])<<8 + uint32(d[1])
	alias, _ := ln.NewSCID(block, uint32(d[2])<<16|uint32(d[3])<<8|uint32(d[4]), uint16(d[5])<<8|uint16(d[6]))
	return alias
}

// Begun starts the life of a channel over the connection it was opened on:
// nothing was lost, so there is nothing to reestablish.
func (c *Channel) Begun(link uint64, simple bool) {
	c.link, c.synced, c.closing.simple = link, true, simple
}
