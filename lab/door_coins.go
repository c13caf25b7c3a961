package lab

import (
	"errors"
	"fmt"

	"coinop.dev/core/channel/payword"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// A lightPayer goes on where a payword.Payer stands still: it shows the words of the
// same chain, and settles over the same channel. It keeps nothing to prove orders by
// and checks the signature of one stamp in so many, of the others only what they
// say. So the devices of a measurement take less of the processor that they share
// with the gateway, for which nothing changes.
type lightPayer struct {
	payword.Terms
	id      payword.ID
	peer    string
	chain   *payword.Chain
	epoch   uint64
	total   uint64 // coins
	stamped uint64
	settled uint64
	counted uint64 // settlements
	owed    uint64
	seq     uint64
	acked   uint64
	pending []receipt.Entry // of the tickets after acked, one each
	every   uint64          // how seldom a stamp's signature is checked
	metered uint64
	since   step.Time // when all that is pending last went out, or a stamp came
}

const lightResend = 2 * step.Second

// newLightPayer takes over from p, of which nothing may be pending.
func newLightPayer(p *payword.Payer, key keys.Secret, peer string, every int) (*lightPayer, error) {
	s := p.Summary()
	if s.Pending != 0 || s.Settling != 0 || s.Waiting != 0 || s.State != "open" {
		return nil, fmt.Errorf("channel %v is %s with %v pending", s.ID, s.State, s.Pending)
	}
	chain := payword.NewChain(payword.Seed(key, s.ID, s.Epoch), p.Length)
	chain.Jump(s.Index)
	coins := uint64(s.Paid / s.Coin)
	return &lightPayer{
		Terms: p.Terms, id: s.ID, peer: peer, chain: chain, epoch: s.Epoch, total: coins, stamped: coins,
		settled: uint64(s.Settled / s.Coin), counted: s.Settlements, seq: s.Tickets, acked: s.Tickets, every: uint64(every),
	}, nil
}

// Step is a payer's.
func (p *lightPayer) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		switch ev := event.(type) {
		case payword.Tick:
			p.tick(ev, in.At, &fx)
		case step.Recv:
			switch msg := ev.Msg.(type) {
			case payword.Taken:
				p.taken(msg, in.At, &fx)
			case step.Outcome:
				p.outcome(msg)
			}
		case step.Rang, step.Linked:
			p.since = in.At
			p.send(p.acked, &fx)
		}
	}
	if p.owed == 0 && p.stamped-p.settled >= p.Every {
		p.owed = p.Every
		fx.Send = append(fx.Send, step.Packet{To: p.Settle, Msg: money.Order{ID: payword.SettlementID(p.id, p.counted+1), Amount: p.Coin * money.Amount(p.owed)}})
	}
	return fx
}

func (p *lightPayer) tick(t payword.Tick, now step.Time, fx *step.Effects) {
	if p.total+t.Coins > p.settled+p.Credit || t.Coins > p.chain.Left() {
		fx.Done = append(fx.Done, step.Outcome{ID: payword.MeterID(t.Session), Value: t, Err: payword.ErrCredit})
		return
	}
	p.chain.Jump(t.Coins)
	p.total += t.Coins
	p.seq++
	p.pending = append(p.pending, receipt.Entry{Order: t.Session, Amount: p.Coin * money.Amount(t.Coins)})
	base := p.seq - 1
	if base == p.acked || now >= p.since+lightResend { // what is outstanding may be lost
		base, p.since = p.acked, now
	}
	p.send(base, fx)
}

// send shows the last word for the tickets after base.
func (p *lightPayer) send(base uint64, fx *step.Effects) {
	entries := p.pending[base-p.acked:]
	if len(entries) == 0 {
		return
	}
	m := payword.Coins{ID: p.id, Epoch: p.epoch, Index: p.chain.Index(), Word: p.chain.Word(), Run: receipt.Run{Base: base, Acked: p.acked, Seq: p.seq, Sizes: make([]int, len(entries)), Entries: entries}}
	for i := range m.Sizes {
		m.Sizes[i] = 1
	}
	fx.Send = append(fx.Send, step.Packet{To: p.peer, Msg: m})
	fx.Wake = append(fx.Wake, step.Alarm{ID: "resend", At: p.since + lightResend})
}

var errStamp = errors.New("the gateway's stamp does not fit")

func (p *lightPayer) taken(m payword.Taken, now step.Time, fx *step.Effects) {
	if m.To <= p.acked {
		return // one that is known
	}
	n := m.To - p.acked
	if m.From != p.acked || n > uint64(len(p.pending)) {
		return // one before it is missing; it is said again
	}
	entries := p.pending[:n]
	sum, _ := receipt.Sum(entries)
	coins := uint64(sum / p.Coin)
	good := m.Total == p.Coin*money.Amount(p.stamped+coins)
	if good && m.To%p.every == 0 {
		good = m.Verify(p.Payee.Stamp, p.id, receipt.NewTree(entries).Root())
	}
	if !good {
		panic(fmt.Errorf("%w: %+v", errStamp, m)) // the crowd fails
	}
	session := entries[0].Order
	p.stamped += coins
	p.acked, p.since = m.To, now
	p.pending = append(p.pending[:0], p.pending[n:]...)
	p.metered += coins
	fx.Done = append(fx.Done, step.Outcome{ID: payword.MeterID(session), Value: payword.Metered{Session: session, Coins: p.metered, New: coins}})
}

func (p *lightPayer) outcome(o step.Outcome) {
	if p.owed > 0 && o.Err == nil && o.ID == payword.SettlementID(p.id, p.counted+1).Key() {
		p.settled += p.owed
		p.counted++
		p.owed = 0
	}
}
