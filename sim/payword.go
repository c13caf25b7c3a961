package sim

import (
	"fmt"

	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// Payword is the world of a buyer who pays a seller with hash-chain coins, and
// settles them over a one-way channel. Chains are short and credit is small, so
// a story has many epochs and settlements.
type Payword struct {
	*shop
	coins payword.Terms
	coin  payword.ID
}

// NewPayword sets the world up.
func NewPayword(seed uint64, f Faults, b Bug) (*Payword, error) {
	s, settler, err := newShop(seed, f)
	if err != nil {
		return nil, err
	}
	p := &Payword{shop: s}
	proposal := payword.Proposal{
		PayerNode: p.buyerKey.Public(), Coin: p.price / 5, Length: 32,
		Every: 20, Credit: 50, Settle: oneway.PayerName(p.id),
	}
	answer, err := payword.Consider(proposal, payword.Policy{MaxCredit: 100 * p.price}, p.sellerKey)
	if err != nil {
		return nil, err
	}
	p.coins = payword.Terms{Proposal: proposal, Answer: answer}
	p.coin = p.coins.ID()
	p.Bug, p.Check = b, p.invariants
	p.to, p.via = "payword://seller", payword.PayerName(p.coin)
	p.buys, p.sells = p.addPayer, p.addPayee
	return p, p.start(settler)
}

func (p *Payword) addPayer(m *drive.Machine, db step.Reader) error {
	load, name := payword.LoadPayer, payword.PayerName(p.coin)
	if !known(db, name) {
		load = func(step.Reader, payword.ID, keys.Secret) (*payword.Payer, error) {
			return payword.NewPayer(p.coins, p.buyerKey)
		}
	}
	core, err := load(db, p.coin, p.buyerKey)
	if err != nil {
		return err
	}
	m.Add(name, p.wrap(name, core), spend.Name)
	m.Listen(p.coins.Settle, name)
	return nil
}

func (p *Payword) addPayee(m *drive.Machine, db step.Reader) error {
	load, name := payword.LoadPayee, payword.PayeeName(p.coin)
	if !known(db, name) {
		load = func(step.Reader, payword.ID, keys.Secret) (*payword.Payee, error) {
			return payword.NewPayee(p.coins, p.sellerKey)
		}
	}
	core, err := load(db, p.coin, p.sellerKey)
	if err != nil {
		return err
	}
	m.Add(name, p.wrap(name, core), earn.Name)
	return nil
}

// Play runs the whole story: trading, the last settlement, and a closing.
func (p *Payword) Play(orders int) error {
	if err := p.trade(orders); err != nil {
		return err
	}
	p.Tell(p.Now+1, p.buyer, payword.PayerName(p.coin), payword.Close{})
	if err := p.Run(p.Now + 60*step.Second); err != nil {
		return err
	}
	payer, payee := p.meters()
	if payer.State != "closed" || payer.Settled != p.total() || payee.Settled != p.total() {
		return fmt.Errorf("the coins are %s: the payer settled %v and the payee %v of %v", payer.State, payer.Settled, payee.Settled, p.total())
	}
	return p.close()
}

func (p *Payword) meters() (payer, payee payword.Summary) {
	return p.buyer.Core(payword.PayerName(p.coin)).(*payword.Payer).Summary(), p.seller.Core(payword.PayeeName(p.coin)).(*payword.Payee).Summary()
}

// invariants hold after every step, whatever has failed.
func (p *Payword) invariants() error {
	if p.buyer == nil || p.seller == nil {
		return nil
	}
	payer, payee := p.meters()
	below, held := p.ends()
	purse, till := p.books()
	// After a restart a settlement may be in the till before it is claimed.
	unclaimed := held.Paid - payee.Settled
	if err := agree(purse.Paid, payer.Paid, payer.Pending, payee.Paid, till.Earned-unclaimed); err != nil {
		return err
	}
	if payer.Settled > held.Paid || payer.Settled+payer.Settling < below.Paid {
		return fmt.Errorf("the payer settled %v and %v are on the way; the channel below carries %v, stamped %v", payer.Settled, payer.Settling, held.Paid, below.Paid)
	}
	return nil
}
