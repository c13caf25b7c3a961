package sim

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/btcsuite/btcd/txscript/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
)

// purchase makes up an order.
func (g *Gateway) purchase(i int, r *rand.Rand) *purchase {
	p := &purchase{n: i, from: g.owners[r.IntN(len(g.owners))], bill: r.IntN(3) > 0}
	binary.BigEndian.PutUint64(p.id[:], r.Uint64())
	binary.BigEndian.PutUint64(p.id[8:], uint64(i))
	// No two are of the same amount, so that one script may be paid by several.
	p.amount = money.Amount((40+r.Int64N(120)*int64(1+r.IntN(4)))*100+int64(i)) * money.Sat
	if p.from == g.shop {
		p.bill = false
	}
	if r.IntN(4) == 0 {
		p.rate = tx.MinFeeRate * tx.FeeRate(1+r.IntN(5))
	}
	if !p.bill {
		payee := byte(i)
		if r.IntN(3) == 0 {
			payee = 255 // one that everybody pays
		}
		p.script = tx.P2WSH([]byte{txscript.OP_1, payee, txscript.OP_DROP})
		g.payees[string(p.script)] = true
	}
	g.purchases[p.id] = p
	return p
}

func (g *Gateway) sorted() (all []*purchase) {
	for _, p := range g.purchases {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *purchase) int { return a.n - b.n })
	return all
}

// ask does what a rail does (rail/bitcoinrail): it has the payee say where to pay,
// tells the signer, and then the wallet.
func (g *Gateway) ask(p *purchase) {
	switch {
	case p.answer != "":
	case p.script == nil:
		g.Tell(g.Now+1, g.shop.Machine, wallet.Name, wallet.Invoice{Order: p.id, Account: "main", Amount: p.amount})
	default:
		g.Tell(g.Now+1, p.from.Machine, consent.Core, consent.Expect{Order: p.id, Script: p.script, Amount: p.amount})
	}
}

func (g *Gateway) of(m *Machine) *owner {
	for _, o := range g.owners {
		if o.Machine == m || o.key.Public().PeerName() == m.Name {
			return o
		}
	}
	return nil
}

func (g *Gateway) outlet(m *Machine, p step.Packet) {
	if g.Chain.Take(m, p) {
		return
	}
	if c, ok := p.Msg.(consent.Count); ok {
		o := g.of(m)
		o.counter = max(o.counter, c.To)
		g.Tell(g.Now+step.Time(g.Random("secret").Int64N(300)), m, consent.Core, step.Recv{From: consent.Secret, Msg: consent.Counted{At: o.counter}})
	}
}

func (g *Gateway) done(m *Machine, out step.Outcome) {
	o := g.of(m)
	if o == nil {
		return
	}
	if in, ok := out.Value.(wallet.Received); ok {
		g.log("the shop gets %v for order %v", in.Amount, in.Order)
		return
	}
	if at, ok := out.Value.(wallet.Address); ok && out.Core == wallet.Name {
		if id, ok := money.OrderIDFromKey(out.ID[len("bill/"):]); ok {
			g.billed(g.purchases[id], at.Script)
		}
		return
	}
	id, ok := money.OrderIDFromKey(out.ID)
	p := g.purchases[id]
	if !ok || p == nil || p.from != o {
		return
	}
	switch out.Core {
	case consent.Core:
		if p.answer == "" && out.Err == nil {
			account := ""
			if o == g.shop {
				account = "main"
			}
			g.Tell(g.Now+1, m, wallet.Name, wallet.Pay{Order: p.id, Account: account, Script: p.script, Amount: p.amount, Rate: p.rate})
		}
	case wallet.Name:
		g.settle(p, out)
	}
}

func (g *Gateway) billed(p *purchase, script []byte) {
	switch {
	case p.script == nil:
		p.script = script
		g.At(g.Now+step.Time(g.Random("net").Int64N(200)), func() { g.ask(p) })
	case string(p.script) != string(script):
		g.Fail(fmt.Errorf("the bill of order %v had one address, and has another", p.id))
	}
}

// settle takes the answer to an order.
func (g *Gateway) settle(p *purchase, out step.Outcome) {
	answer := "paid"
	if out.Err != nil {
		answer = "unpaid"
		if k := money.KindOf(out.Err); k != money.Unpaid && k != money.Invalid {
			g.Fail(fmt.Errorf("order %v ends as %w", p.id, out.Err))
		}
	}
	if p.answer != "" && p.answer != answer {
		g.Fail(fmt.Errorf("order %v was %s and is %s (%v, %v)", p.id, p.answer, answer, p.why, out.Err))
	}
	p.answer, p.why = answer, out.Err
	if answer == "unpaid" && p.from == g.shop { // a device's end has done so
		g.Tell(g.Now+1, p.from.Machine, consent.Core, consent.Forget{Order: p.id})
	}
	if paid, ok := out.Value.(wallet.Paid); ok && !g.evil.lies {
		g.proven(p, paid)
	}
	g.judgedAt = -1 // look again
}
