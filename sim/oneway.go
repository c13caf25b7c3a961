package sim

import (
	"encoding/binary"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/world/drive"
)

// Oneway is the world of a buyer and a seller with a one-way channel between
// them: a buyer's book and payer on one machine, a seller's book, payee and
// device on the other, and a chain that reorganises.
type Oneway struct {
	*World
	Ledger        *Ledger
	buyer, seller *Machine
	terms         oneway.Terms
	id            oneway.ID
	price         coinop.Amount
	watched       map[*Machine]bool

	asked     map[coinop.OrderID]coinop.Order
	receipts  map[coinop.OrderID]string // what each order was answered with
	goods     map[coinop.OrderID]string
	delivered map[coinop.OrderID]int // by the device
	refused   int
}

// NewOneway sets the world up: terms agreed, funding signed, nothing published.
func NewOneway(seed uint64, f Faults) (*Oneway, error) {
	o := &Oneway{
		World: NewWorld(seed, f), Ledger: NewLedger(), price: 1_250,
		watched: map[*Machine]bool{}, asked: map[coinop.OrderID]coinop.Order{},
		receipts: map[coinop.OrderID]string{}, goods: map[coinop.OrderID]string{}, delivered: map[coinop.OrderID]int{},
	}
	o.OnDone, o.World.Outlet, o.Check = o.done, o.outlet, o.invariants
	buyer, err := keys.NewSecret(byteStream{o.Random("keys")})
	if err != nil {
		return nil, err
	}
	seller, err := keys.NewSecret(byteStream{o.Random("keys")})
	if err != nil {
		return nil, err
	}
	payer, err := o.open(buyer, seller)
	if err != nil {
		return nil, err
	}
	o.buyer, err = o.Add(buyer.Public().PeerName(), func(db step.Reader) (*drive.Machine, error) {
		m := drive.NewMachine()
		book, err := spend.Load(db, spend.Limits{})
		if err != nil {
			return nil, err
		}
		m.Add(spend.Name, book)
		p := payer
		if raw, _ := db.Get(oneway.PayerName(o.id) + "/head"); raw != nil {
			if p, err = oneway.LoadPayer(db, o.id, buyer); err != nil {
				return nil, err
			}
		}
		m.Add(oneway.PayerName(o.id), p, spend.Name)
		return m, nil
	})
	if err != nil {
		return nil, err
	}
	o.seller, err = o.Add(seller.Public().PeerName(), func(db step.Reader) (*drive.Machine, error) {
		m := drive.NewMachine()
		book, err := earn.Load(db, []trade.Item{{Name: "reading", Unit: "reading", Price: o.price}}, nil)
		if err != nil {
			return nil, err
		}
		m.Add(earn.Name, book)
		load := func() (*oneway.Payee, error) { return oneway.LoadPayee(db, o.id, seller) }
		if raw, _ := db.Get(oneway.PayeeName(o.id) + "/head"); raw == nil {
			load = func() (*oneway.Payee, error) { return oneway.NewPayee(o.terms, seller) }
		}
		p, err := load()
		if err != nil {
			return nil, err
		}
		m.Add(oneway.PayeeName(o.id), p, earn.Name)
		return m, nil
	})
	return o, err
}

// open agrees on terms and signs the funding transaction.
func (o *Oneway) open(buyer, seller keys.Secret) (*oneway.Payer, error) {
	wallet := oneway.PayoutKey(buyer)
	coin := wire.OutPoint{Hash: chainhash.Hash{1}}
	o.Ledger.Mint(coin, wire.NewTxOut(2_000_000, tx.P2WPKH(wallet.Public())))
	key := oneway.FundingKey(buyer, 0)
	p := oneway.Proposal{
		PayerNode: buyer.Public(), PayerKey: key.Public(), Capacity: 1_000_000 * coinop.Sat,
		Expiry: o.Ledger.Tip() + 600, FeeRate: tx.MinFeeRate, PayerScript: tx.P2WPKH(wallet.Public()),
	}
	answer, err := oneway.Consider(p, oneway.Policy{MinCapacity: oneway.MinCapacity, MaxCapacity: coinop.MaxAmount, MinDepth: 2}, seller, o.Ledger.Tip())
	if err != nil {
		return nil, err
	}
	o.terms = oneway.Terms{Proposal: p, Answer: answer}
	funding, _, err := tx.Pay(wallet, []tx.Coin{{Point: coin, Value: 2_000_000}}, []*wire.TxOut{o.terms.Output()}, tx.MinFeeRate)
	if err != nil {
		return nil, err
	}
	o.terms.Point = wire.OutPoint{Hash: funding.TxHash()}
	o.id = o.terms.ID()
	return oneway.NewPayer(o.terms, buyer, 0, funding)
}

type byteStream struct{ r interface{ Uint64() uint64 } }

func (s byteStream) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.r.Uint64())
	}
	return len(b), nil
}

// Play runs the whole story: a rough time of trading, a calm one in which all
// must settle, a closing, and the balances read back from the chain.
func (o *Oneway) Play(orders int) error {
	begin := o.Now
	rough := step.Time(orders) * 200
	o.Weather(begin + rough)
	o.blocks(begin + rough)
	r := o.Random("load")
	for i := range orders {
		order := coinop.Order{To: "oneway://seller", Amount: o.price * coinop.Amount(1+r.Uint64N(3)), For: "reading"}
		order.Units = uint64(order.Amount / o.price)
		binary.BigEndian.PutUint64(order.ID[:], r.Uint64())
		binary.BigEndian.PutUint64(order.ID[8:], uint64(i))
		o.asked[order.ID] = order
		at := begin + 5*step.Second + step.Time(r.Int64N(int64(rough)))
		o.ask(order, at)
		if r.IntN(4) == 0 { // somebody asks twice
			o.ask(order, at+step.Time(r.Int64N(int64(20*step.Second))))
		}
	}
	if err := o.Run(begin + rough + 30*step.Second); err != nil {
		return err
	}
	o.Calm()
	o.blocks(o.Now + 60*step.Second)
	o.At(o.Now+70*step.Second, func() {
		for _, order := range o.sortedAsked() {
			if o.receipts[order.ID] == "" || o.goods[order.ID] == "" { // the answer was lost in a crash
				o.ask(order, o.Now+1)
			}
		}
	})
	if err := o.Run(o.Now + 100*step.Second); err != nil {
		return err
	}
	if err := o.settled(); err != nil {
		return err
	}
	o.Tell(o.Now+1, o.buyer, oneway.PayerName(o.id), oneway.Close{})
	o.blocks(o.Now + 60*step.Second)
	if err := o.Run(o.Now + 90*step.Second); err != nil {
		return err
	}
	return o.conserved()
}

func (o *Oneway) ask(order coinop.Order, at step.Time) {
	o.Tell(at, o.buyer, spend.Name, spend.Ask{Order: order, Via: oneway.PayerName(o.id), Seller: o.seller.Name})
}

// blocks come every five seconds or so; in rough times some are undone.
func (o *Oneway) blocks(until step.Time) {
	r := o.Random("chain")
	for t := o.Now; t < until; t += step.Second + step.Time(r.Int64N(int64(8*step.Second))) {
		undo := 0
		if r.IntN(8) == 0 {
			undo = 1 + r.IntN(3)
		}
		o.At(t, func() {
			if undo > 0 && o.Faults.Lose > 0 {
				o.Ledger.Reorg(undo)
				o.log("reorganisation of %d blocks", undo)
			} else {
				o.Ledger.Mine()
			}
			for _, m := range o.order {
				o.report(m)
			}
		})
	}
}

// report tells a machine what its chain view sees, sooner or later.
func (o *Oneway) report(m *Machine) {
	if !o.watched[m] {
		return
	}
	core := oneway.PayerName(o.id)
	if m == o.seller {
		core = oneway.PayeeName(o.id)
	}
	s := o.Ledger.Status(o.terms.Point)
	o.Tell(o.Now+step.Time(o.Random("chain").Int64N(500)), m, core, step.Recv{From: watch.Chain, Msg: s})
}

func (o *Oneway) outlet(m *Machine, p step.Packet) {
	switch msg := p.Msg.(type) {
	case watch.Publish:
		err := o.Ledger.Publish(msg.Tx)
		o.log("publish %v: %v", msg.Tx.TxHash(), err)
	case watch.Output:
		o.watched[m] = true
		o.report(m)
	case earn.Deliver:
		// The device remembers what it has delivered, and does it once.
		if o.delivered[msg.Order] == 0 {
			o.delivered[msg.Order]++
		}
		payload := fmt.Sprintf("goods of %v", msg.Order)
		o.Tell(o.Now+step.Time(o.Random("device").Int64N(100)), m, earn.Name, earn.Delivered{Order: msg.Order, Payload: []byte(payload)})
	}
}

func (o *Oneway) done(m *Machine, out step.Outcome) {
	if m != o.buyer || out.Core != spend.Name {
		return
	}
	if id, ok := coinop.OrderIDFromKey(out.ID); ok {
		if out.Err != nil {
			if coinop.KindOf(out.Err) == coinop.Pending {
				o.Fail(fmt.Errorf("order %v ends as %w", id, out.Err))
			}
			o.refused++
			return
		}
		o.receipts[id] = "paid"
		return
	}
	if g, ok := out.Value.(trade.Goods); ok {
		if was, again := o.goods[g.Order]; again && was != string(g.Payload) {
			o.Fail(fmt.Errorf("order %v was delivered %q and then %q", g.Order, was, g.Payload))
		}
		o.goods[g.Order] = string(g.Payload)
	}
}

func (o *Oneway) ends() (*oneway.Payer, *oneway.Payee) {
	return o.buyer.Core(oneway.PayerName(o.id)).(*oneway.Payer), o.seller.Core(oneway.PayeeName(o.id)).(*oneway.Payee)
}

// invariants hold after every step, whatever has failed.
func (o *Oneway) invariants() error {
	if o.buyer == nil || o.seller == nil {
		return nil
	}
	payer, payee := o.ends()
	promised, held := payer.Summary(), payee.Summary()
	if held.Paid > promised.Paid+promised.Pending {
		return fmt.Errorf("the payee holds %v, and the payer signed %v", held.Paid, promised.Paid+promised.Pending)
	}
	if promised.Paid > held.Paid {
		return fmt.Errorf("the payer has stamps for %v, and the payee holds %v", promised.Paid, held.Paid)
	}
	book := o.seller.Core(earn.Name).(*earn.Book).Summary()
	if book.Earned != held.Paid {
		return fmt.Errorf("the till has %v, and the channel %v", book.Earned, held.Paid)
	}
	return nil
}

func (o *Oneway) sortedAsked() (all []coinop.Order) {
	for _, order := range o.asked {
		all = append(all, order)
	}
	sortOrders(all)
	return all
}

// settled is what must hold once all is calm.
func (o *Oneway) settled() error {
	total := coinop.Amount(0)
	for _, order := range o.sortedAsked() {
		total += order.Amount
		if o.receipts[order.ID] == "" {
			return fmt.Errorf("order %v was never settled", order.ID)
		}
		if o.goods[order.ID] == "" || o.delivered[order.ID] != 1 {
			return fmt.Errorf("order %v was paid, and delivered %d times", order.ID, o.delivered[order.ID])
		}
	}
	payer, payee := o.ends()
	book := o.buyer.Core(spend.Name).(*spend.Book).Summary(o.Now)
	if payee.Summary().Paid != total || payer.Summary().Paid != total || book.Paid != total {
		return fmt.Errorf("orders add up to %v, the purse says %v, the payer %v, the payee %v", total, book.Paid, payer.Summary().Paid, payee.Summary().Paid)
	}
	return nil
}

// conserved reads the balances back from the chain.
func (o *Oneway) conserved() error {
	_, payee := o.ends()
	held := payee.Summary()
	if held.State != "closed" {
		return fmt.Errorf("the channel is %s", held.State)
	}
	toPayee, toPayer := o.Ledger.Paid(o.terms.PayeeScript), o.Ledger.Paid(o.terms.PayerScript)
	closed := o.Ledger.Status(o.terms.Point).Spender
	fee := o.terms.Capacity.Sats()
	for _, out := range closed.TxOut {
		fee -= out.Value
	}
	if want := payee.Claimable(held.Paid).Sats(); toPayee != want {
		return fmt.Errorf("the payee holds %v and has %d sat on chain", held.Paid, toPayee)
	}
	fundingFee := int64(2_000_000)
	for _, t := range o.Ledger.mined() {
		if t.TxHash() == o.terms.Point.Hash {
			for _, out := range t.TxOut {
				fundingFee -= out.Value
			}
		}
	}
	if sum := toPayee + toPayer + fee + fundingFee; sum != 2_000_000 {
		return fmt.Errorf("2000000 sat became %d: %d + %d and fees of %d + %d", sum, toPayee, toPayer, fee, fundingFee)
	}
	return nil
}
