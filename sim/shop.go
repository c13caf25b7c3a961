package sim

import (
	"encoding/binary"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/world/drive"
)

// shop is what the worlds of trade have in common: a buyer's book on one
// machine, a seller's book and device on the other, a one-way channel between
// them, and a chain that reorganises.
type shop struct {
	*World
	Chain *Chain

	buyerKey, sellerKey keys.Secret
	buyer, seller       *Machine
	terms               oneway.Terms
	id                  oneway.ID
	price               money.Amount

	to, via string // the payment URI of the orders, and the core that pays them
	// Cores that a world adds to the buyer's and the seller's machine.
	buys, sells func(m *drive.Machine, db step.Reader) error

	asked     map[money.OrderID]money.Order
	receipts  map[money.OrderID]string // what each order was answered with
	goods     map[money.OrderID]string
	delivered map[money.OrderID]int // by the device
}

// newShop agrees on a channel and signs its funding; nothing is published.
func newShop(seed uint64, f Faults) (*shop, *oneway.Payer, error) {
	s := &shop{
		World: NewWorld(seed, f), price: 1_250,
		asked:    map[money.OrderID]money.Order{},
		receipts: map[money.OrderID]string{}, goods: map[money.OrderID]string{}, delivered: map[money.OrderID]int{},
	}
	s.Chain = NewChain(s.World)
	s.OnDone, s.World.Outlet = s.done, s.outlet
	var err error
	if s.buyerKey, err = keys.NewSecret(byteStream{s.Random("keys")}); err != nil {
		return nil, nil, err
	}
	if s.sellerKey, err = keys.NewSecret(byteStream{s.Random("keys")}); err != nil {
		return nil, nil, err
	}
	payer, err := s.open()
	return s, payer, err
}

type byteStream struct{ r interface{ Uint64() uint64 } }

func (s byteStream) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.r.Uint64())
	}
	return len(b), nil
}

const minted = 2_000_000 // satoshi

// open agrees on terms and signs the funding transaction.
func (s *shop) open() (*oneway.Payer, error) {
	wallet := tx.WalletKey(s.buyerKey)
	coin := wire.OutPoint{Hash: chainhash.Hash{1}}
	s.Chain.Mint(coin, wire.NewTxOut(minted, tx.P2WPKH(wallet.Public())))
	p := oneway.Proposal{
		PayerNode: s.buyerKey.Public(), PayerKey: oneway.FundingKey(s.buyerKey, 0).Public(), Capacity: 1_000_000 * money.Sat,
		Expiry: s.Chain.Tip() + 600, FeeRate: tx.MinFeeRate, PayerScript: tx.P2WPKH(wallet.Public()),
	}
	policy := oneway.Policy{MinCapacity: oneway.MinCapacity, MaxCapacity: money.MaxAmount, MinDepth: 2}
	answer, err := oneway.Consider(p, policy, s.sellerKey, s.Chain.Tip())
	if err != nil {
		return nil, err
	}
	s.terms = oneway.Terms{Proposal: p, Answer: answer}
	funding, _, err := tx.Pay(wallet, []tx.Coin{{Point: coin, Value: minted}}, []*wire.TxOut{s.terms.Output()}, tx.MinFeeRate)
	if err != nil {
		return nil, err
	}
	s.terms.Point = wire.OutPoint{Hash: funding.TxHash()}
	s.id = s.terms.ID()
	return oneway.NewPayer(s.terms, s.buyerKey, 0, funding)
}

// start puts the two machines into the world. payer is the channel's first
// payer; later ones come from the disk.
func (s *shop) start(payer *oneway.Payer) (err error) {
	s.buyer, err = s.Add(s.buyerKey.Public().PeerName(), func(db step.Reader) (*drive.Machine, error) {
		m := drive.NewMachine()
		book, err := spend.Load(db, spend.Limits{})
		if err != nil {
			return nil, err
		}
		m.Add(spend.Name, s.wrap(spend.Name, book))
		p, name := payer, oneway.PayerName(s.id)
		if known(db, name) {
			if p, err = oneway.LoadPayer(db, s.id, s.buyerKey); err != nil {
				return nil, err
			}
		}
		m.Add(name, s.wrap(name, p), spend.Name)
		return m, s.buys(m, db)
	})
	if err != nil {
		return err
	}
	s.seller, err = s.Add(s.sellerKey.Public().PeerName(), func(db step.Reader) (*drive.Machine, error) {
		m := drive.NewMachine()
		book, err := earn.Load(db, []trade.Item{{Name: "reading", Unit: "reading", Price: s.price}}, nil)
		if err != nil {
			return nil, err
		}
		m.Add(earn.Name, s.wrap(earn.Name, book))
		load, name := oneway.LoadPayee, oneway.PayeeName(s.id)
		if !known(db, name) {
			load = func(step.Reader, oneway.ID, keys.Secret) (*oneway.Payee, error) {
				return oneway.NewPayee(s.terms, s.sellerKey)
			}
		}
		p, err := load(db, s.id, s.sellerKey)
		if err != nil {
			return nil, err
		}
		m.Add(name, s.wrap(name, p), earn.Name)
		return m, s.sells(m, db)
	})
	if err == nil {
		s.Connect(s.buyer, s.seller) // these cores only hear of it, and send again
	}
	return err
}

// known tells whether a channel's end has been on the disk before.
func known(db step.Reader, name string) bool {
	raw, _ := db.Get(name + "/head")
	return raw != nil
}

// trade is a rough time of trading and a calm one in which all must settle.
func (s *shop) trade(orders int) error {
	begin := s.Now
	rough := step.Time(orders) * 200
	s.Weather(begin + rough)
	s.Chain.Blocks(begin + rough)
	r := s.Random("load")
	for i := range orders {
		order := money.Order{To: s.to, Amount: s.price * money.Amount(1+r.Uint64N(3)), For: "reading"}
		order.Units = uint64(order.Amount / s.price)
		binary.BigEndian.PutUint64(order.ID[:], r.Uint64())
		binary.BigEndian.PutUint64(order.ID[8:], uint64(i))
		s.asked[order.ID] = order
		at := begin + 5*step.Second + step.Time(r.Int64N(int64(rough)))
		s.ask(order, at)
		if r.IntN(4) == 0 { // somebody asks twice
			s.ask(order, at+step.Time(r.Int64N(int64(20*step.Second))))
		}
	}
	if err := s.Run(begin + rough + 30*step.Second); err != nil {
		return err
	}
	s.Calm()
	s.Chain.Blocks(s.Now + 60*step.Second)
	for wait := range step.Time(3) {
		s.At(s.Now+(60+10*wait)*step.Second, s.askAgain)
	}
	if err := s.Run(s.Now + 100*step.Second); err != nil {
		return err
	}
	return s.settled()
}

func (s *shop) ask(order money.Order, at step.Time) {
	s.Tell(at, s.buyer, spend.Name, spend.Ask{Order: order, Via: s.via, Seller: s.seller.Name})
}

// askAgain is for the orders that were refused, and those whose answer was lost
// in a crash.
func (s *shop) askAgain() {
	for _, order := range s.sortedAsked() {
		if s.receipts[order.ID] == "" || s.goods[order.ID] == "" {
			s.ask(order, s.Now+1)
		}
	}
}

// close closes the channel and reads the balances back from the chain.
func (s *shop) close() error {
	s.Tell(s.Now+1, s.buyer, oneway.PayerName(s.id), oneway.Close{})
	s.Chain.Blocks(s.Now + 60*step.Second)
	if err := s.Run(s.Now + 90*step.Second); err != nil {
		return err
	}
	return s.conserved()
}

func (s *shop) outlet(m *Machine, p step.Packet) {
	if s.Chain.Take(m, p) {
		return
	}
	if msg, ok := p.Msg.(earn.Deliver); ok {
		// The device remembers what it has delivered, and does it once.
		if s.delivered[msg.Order] == 0 {
			s.delivered[msg.Order]++
		}
		payload := fmt.Sprintf("goods of %v", msg.Order)
		s.Tell(s.Now+step.Time(s.Random("device").Int64N(100)), m, earn.Name, earn.Delivered{Order: msg.Order, Payload: []byte(payload)})
	}
}

func (s *shop) done(m *Machine, out step.Outcome) {
	if m != s.buyer || out.Core != spend.Name {
		return
	}
	if id, ok := money.OrderIDFromKey(out.ID); ok {
		switch {
		case out.Err == nil:
			s.receipts[id] = "paid"
		case money.KindOf(out.Err) == money.Pending:
			s.Fail(fmt.Errorf("order %v ends as %w", id, out.Err))
		}
		return
	}
	if g, ok := out.Value.(trade.Goods); ok {
		if was, again := s.goods[g.Order]; again && was != string(g.Payload) {
			s.Fail(fmt.Errorf("order %v was delivered %q and then %q", g.Order, was, g.Payload))
		}
		s.goods[g.Order] = string(g.Payload)
	}
}

// ends are the channel's, as they are now.
func (s *shop) ends() (payer, payee oneway.Summary) {
	return s.buyer.Core(oneway.PayerName(s.id)).(*oneway.Payer).Summary(), s.seller.Core(oneway.PayeeName(s.id)).(*oneway.Payee).Summary()
}

func (s *shop) books() (spend.Summary, earn.Summary) {
	return s.buyer.Core(spend.Name).(*spend.Book).Summary(s.Now), s.seller.Core(earn.Name).(*earn.Book).Summary()
}

// agree holds one end of a channel against the other and the book beside it:
// each may promise no more than the other side has promised it.
func agree(purse, stamped, pending, held, till money.Amount) error {
	switch {
	case held > stamped+pending:
		return fmt.Errorf("the payee holds %v, and the payer signed %v", held, stamped+pending)
	case stamped > held:
		return fmt.Errorf("the payer has stamps for %v, and the payee holds %v", stamped, held)
	case purse != stamped:
		return fmt.Errorf("the purse has paid %v, and the payer has stamps for %v", purse, stamped)
	case till != held:
		return fmt.Errorf("the till has %v, and the channel %v", till, held)
	}
	return nil
}

func (s *shop) sortedAsked() (all []money.Order) {
	for _, order := range s.asked {
		all = append(all, order)
	}
	sortOrders(all)
	return all
}

func (s *shop) total() (sum money.Amount) {
	for _, order := range s.asked {
		sum += order.Amount
	}
	return sum
}

// settled is what must hold once all is calm.
func (s *shop) settled() error {
	for _, order := range s.sortedAsked() {
		if s.receipts[order.ID] == "" {
			return fmt.Errorf("order %v was never settled", order.ID)
		}
		if s.goods[order.ID] == "" {
			return fmt.Errorf("order %v was paid, and its goods never came", order.ID)
		}
		if s.delivered[order.ID] != 1 {
			return fmt.Errorf("order %v was delivered %d times", order.ID, s.delivered[order.ID])
		}
	}
	if purse, till := s.books(); purse.Paid != s.total() || till.Earned != s.total() {
		return fmt.Errorf("orders add up to %v, the purse says %v, the till %v", s.total(), purse.Paid, till.Earned)
	}
	return nil
}

// conserved reads the balances back from the chain: all that was sold is there.
func (s *shop) conserved() error {
	_, held := s.ends()
	if held.State != "closed" {
		return fmt.Errorf("the channel is %s", held.State)
	}
	if held.Paid != s.total() {
		return fmt.Errorf("orders add up to %v, and the channel carried %v", s.total(), held.Paid)
	}
	toPayee, toPayer := s.Chain.Paid(s.terms.PayeeScript), s.Chain.Paid(s.terms.PayerScript)
	fee := s.terms.Capacity.Sats()
	for _, out := range s.Chain.Status(s.terms.Point).Spender.TxOut {
		fee -= out.Value
	}
	if want := s.terms.Claimable(held.Paid).Sats(); toPayee != want {
		return fmt.Errorf("the payee holds %v and has %d sat on chain", held.Paid, toPayee)
	}
	fundingFee := int64(minted)
	for _, t := range s.Chain.mined() {
		if t.TxHash() == s.terms.Point.Hash {
			for _, out := range t.TxOut {
				fundingFee -= out.Value
			}
		}
	}
	if sum := toPayee + toPayer + fee + fundingFee; sum != minted {
		return fmt.Errorf("%d sat became %d: %d + %d and fees of %d + %d", minted, sum, toPayee, toPayer, fee, fundingFee)
	}
	return nil
}
