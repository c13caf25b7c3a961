package sim

import (
	"math/rand/v2"
	"slices"

	btc "github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/node"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// What an adversary does, from a moment on.
const (
	virtuous    = ""
	stalling    = "stalling"    // revocations and signatures do not come
	withholding = "withholding" // preimages come late
	lying       = "lying"       // messages that are wrong, or contradict others
	cheating    = "cheating"    // an old commitment is published
)

// An adversary is one of the three nodes, whose messages are not what its core
// has decided.
type adversary struct {
	l     *Lightning
	party *party
	does  string
	from  step.Time
	r     *rand.Rand

	mute map[uint64]bool          // links over which nothing is said any more
	held map[uint64][]step.Packet // what waits to be said
	old  []*btc.MsgTx             // commitments that may be revoked by now
	over bool                     // it has become honest
}

// newAdversary makes one of the nodes of every other seed an adversary.
func (l *Lightning) newAdversary(r *rand.Rand) *adversary {
	a := &adversary{l: l, r: l.Random("evil"), mute: map[uint64]bool{}, held: map[uint64][]step.Packet{}}
	if l.seed%2 == 0 {
		return a
	}
	a.does = []string{stalling, withholding, lying, cheating}[r.IntN(4)]
	a.party = l.parties[r.IntN(len(l.parties))]
	a.party.honest = false
	return a
}

func (a *adversary) honest() bool { return a.does == virtuous }

// plan decides when it begins.
func (a *adversary) plan(begin, rough step.Time) {
	a.from = begin + step.Time(a.r.Int64N(int64(rough)))
	if a.does == cheating {
		for i := range step.Time(4) {
			a.l.At(begin+i*rough/8, a.remember)
		}
		a.l.At(a.from, func() { a.l.At(max(a.l.Now, begin+rough/2)+1, a.cheat) })
	}
}

// rest ends it: the node says what its core has decided, over new connections.
func (a *adversary) rest() {
	a.over = true
	clear(a.held)
	if a.party != nil {
		a.l.unplug(a.party.Machine)
	}
}

// remember keeps the commitments of now.
func (a *adversary) remember() {
	for _, c := range a.party.node().Channels() {
		a.old = append(a.old, c.Commitment())
	}
}

// cheat publishes one that it has kept.
func (a *adversary) cheat() {
	if len(a.old) > 0 {
		t := a.old[a.r.IntN(len(a.old))]
		a.l.log("the %s publishes %v: %v", a.party.name, t.TxHash(), a.l.Chain.Publish(t))
	}
}

func (a *adversary) wrap(core drive.Core) drive.Core { return &villain{core, a} }

// villain is the adversary's node.
type villain struct {
	core drive.Core
	a    *adversary
}

func (v *villain) Unwrap() drive.Core { return v.core }

func (v *villain) Step(in step.Input) step.Effects {
	fx := v.core.Step(in)
	if v.a.l.trading && v.a.l.Now >= v.a.from && !v.a.over {
		var out []step.Packet
		for _, p := range fx.Send {
			out = append(out, v.a.twist(p)...)
		}
		fx.Send = out
	}
	return fx
}

// twist is what becomes of a message.
func (a *adversary) twist(p step.Packet) []step.Packet {
	msg, ok := p.Msg.(ln.Message)
	if !ok || p.Link == 0 {
		return []step.Packet{p}
	}
	p.From = node.Name
	switch a.does {
	case stalling:
		switch msg.(type) {
		case *ln.CommitmentSigned, *ln.RevokeAndAck:
			a.mute[p.Link] = a.mute[p.Link] || a.r.IntN(4) == 0
		}
		if a.mute[p.Link] {
			return nil
		}
	case withholding:
		_, begun := a.held[p.Link]
		if _, preimage := msg.(*ln.UpdateFulfillHTLC); preimage && !begun && a.r.IntN(2) == 0 {
			a.l.At(a.l.Now+step.Second+step.Time(a.r.Int64N(int64(a.patience()))), func() { a.release(p.Link) })
			begun = true
		}
		if begun {
			a.held[p.Link] = append(a.held[p.Link], p)
			return nil
		}
	case lying:
		if a.r.IntN(12) == 0 {
			var out []step.Packet
			for _, m := range a.lie(msg) {
				p.Msg = m
				out = append(out, p)
			}
			return out
		}
	}
	return []step.Packet{p}
}

// patience is how long at most a preimage is withheld: in some stories until the
// HTLC has expired.
func (a *adversary) patience() step.Time {
	if a.l.seed%4 == 1 {
		return 20 * step.Second
	}
	return 400 * step.Second
}

// release says what was withheld over a connection.
func (a *adversary) release(link uint64) {
	held := a.held[link]
	delete(a.held, link)
	for _, p := range held {
		(*hands)(&view{a.l.World, a.party.Machine}).Send(p)
	}
}

// lie is one or more messages in the place of an honest one. The honest one is
// left as it is, because the core may say it again.
func (a *adversary) lie(msg ln.Message) []ln.Message {
	r := a.r
	flip := func(b []byte) { b[r.IntN(len(b))] ^= byte(1 + r.IntN(255)) }
	switch m := msg.(type) {
	case *ln.UpdateAddHTLC:
		x := *m
		switch r.IntN(6) {
		case 0:
			x.ID += uint64(r.IntN(3)) - 1
		case 1:
			x.AmountMsat *= money.Amount(1 + r.IntN(100_000))
		case 2:
			x.CLTVExpiry = []uint32{0, 1, uint32(a.l.Chain.Tip()), 499_999_999, 1<<32 - 1}[r.IntN(5)]
		case 3:
			flip(x.OnionRoutingPacket[:])
		case 4:
			flip(x.PaymentHash[:])
		case 5:
			return []ln.Message{m, m}
		}
		return []ln.Message{&x}
	case *ln.UpdateFulfillHTLC:
		x := *m
		switch r.IntN(4) {
		case 0:
			flip(x.PaymentPreimage[:])
		case 1:
			x.ID += uint64(r.IntN(5)) - 2
		case 2:
			return []ln.Message{m, m}
		case 3:
			return []ln.Message{m, &ln.UpdateFailHTLC{ChannelID: m.ChannelID, ID: m.ID, Reason: make([]byte, 292)}}
		}
		return []ln.Message{&x}
	case *ln.UpdateFailHTLC:
		x := *m
		switch r.IntN(5) {
		case 0:
			x.Reason = make([]byte, r.IntN(2000))
		case 1:
			x.ID += uint64(r.IntN(5)) - 2
		case 2:
			return []ln.Message{&ln.UpdateFailMalformedHTLC{ChannelID: m.ChannelID, ID: m.ID, FailureCode: uint16(r.Uint32())}}
		case 3:
			return []ln.Message{m, m}
		case 4:
			return []ln.Message{&ln.UpdateFulfillHTLC{ChannelID: m.ChannelID, ID: m.ID}}
		}
		return []ln.Message{&x}
	case *ln.CommitmentSigned:
		x := *m
		x.HTLCSignatures = slices.Clone(m.HTLCSignatures)
		switch r.IntN(4) {
		case 0:
			flip(x.Signature[:])
		case 1:
			x.HTLCSignatures = append(x.HTLCSignatures, m.Signature)
		case 2:
			if len(x.HTLCSignatures) > 0 {
				flip(x.HTLCSignatures[r.IntN(len(x.HTLCSignatures))][:])
			}
		case 3:
			return []ln.Message{m, m}
		}
		return []ln.Message{&x}
	case *ln.RevokeAndAck:
		x := *m
		switch r.IntN(4) {
		case 0:
			flip(x.PerCommitmentSecret[:])
		case 1:
			flip(x.NextPerCommitmentPoint[:])
		case 2: // a point, of another secret
			s, err := keys.NewSecret(byteStream{r})
			if err == nil {
				x.NextPerCommitmentPoint = s.Public()
			}
		case 3:
			return []ln.Message{m, m}
		}
		return []ln.Message{&x}
	case *ln.ChannelReestablish:
		x := *m
		switch r.IntN(4) {
		case 0:
			x.NextCommitmentNumber += uint64(r.IntN(5)) - 2
		case 1:
			x.NextRevocationNumber += uint64(r.IntN(5)) - 2
		case 2:
			flip(x.YourLastPerCommitmentSecret[:])
		case 3:
			x.NextCommitmentNumber, x.NextRevocationNumber = 1, 0
		}
		return []ln.Message{&x, m}[:1+r.IntN(2)]
	}
	id, ok := a.someChannel()
	if !ok {
		return []ln.Message{msg}
	}
	// Something that nobody has asked for, behind an honest message.
	return []ln.Message{msg, []ln.Message{
		&ln.UpdateFee{ChannelID: id, FeeratePerKW: uint32(r.Uint64())},
		&ln.Shutdown{ChannelID: id, ScriptPubKey: make([]byte, r.IntN(40))},
		&ln.ClosingSigned{ChannelID: id, FeeSatoshis: r.Int64N(1 << 40)},
		&ln.ChannelReady{ChannelID: id},
		&ln.RevokeAndAck{ChannelID: id},
		&ln.CommitmentSigned{ChannelID: id},
		&ln.UpdateFulfillHTLC{ChannelID: id, ID: r.Uint64N(20)},
		&ln.UpdateFailHTLC{ChannelID: id, ID: r.Uint64N(20)},
		&ln.FundingCreated{TemporaryChannelID: id},
		&ln.FundingSigned{ChannelID: id},
		&ln.ClosingComplete{Closing: ln.Closing{ChannelID: id}},
		&ln.ClosingSig{Closing: ln.Closing{ChannelID: id}},
		&ln.ChannelReestablish{ChannelID: id, NextCommitmentNumber: r.Uint64N(50), NextRevocationNumber: r.Uint64N(50)},
		&ln.AnnouncementSignatures{ChannelID: id},
		&ln.OpenChannel{ChainHash: a.party.config.Chain, TemporaryChannelID: id, FundingSatoshis: r.Int64N(1 << 30)},
		&ln.Init{},
		&ln.Error{ChannelID: id, Data: "no"},
	}[r.IntN(17)]}
}

func (a *adversary) someChannel() (ln.ChannelID, bool) {
	all := a.party.node().Channels()
	if len(all) == 0 {
		return ln.ChannelID{}, false
	}
	return all[a.r.IntN(len(all))].ID, true
}
