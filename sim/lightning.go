package sim

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/claim"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// Lightning is the world of three nodes in a row: a car and a charger that pay
// each other through a router, and each of them the router. Two channels are
// opened on the chain; then orders go in both directions, by terms, by invoice
// and by keysend, large, small and below dust, alone and in bursts.
type Lightning struct {
	*World
	Chain *Chain

	car, router, charger *party
	parties              []*party
	cables               [][2]*party // each with a channel, from the side that opens it
	deals                map[money.OrderID]*deal
	tags                 map[string]*party // openings
	public               bool
	static               bool
	began                money.Amount // what all nodes had in channels
	trading              bool
	coins                int       // that wallets have lent
	forced               bool      // somebody closes a channel alone
	retry                step.Time // until when unpaid orders are asked for again
	evil                 *adversary
	broken               map[string]string // channels that broke, and why
}

// sample is how many steps share one comparison of memory and disk: to load a
// node costs as much as ten of its steps.
const sample = 12

// A party is one machine: a purse, a till and a node.
type party struct {
	*Machine
	name   string
	key    keys.Secret
	wallet keys.Secret
	config node.Config
	honest bool
	began  money.Amount // what it had in channels when trade began
	payer  bool         // it has orders of its own

	lent map[wire.OutPoint]tx.Coin // of its wallet, by what they help to spend
	over map[uint64]money.Amount   // what it had in channels that are over, by their numbers
}

// A deal is an order between two parties.
type deal struct {
	money.Order
	from, to *party
	kind     string
	answer   string // "paid", "unpaid", or "" if none has come

	again int // how often it was asked for again because it was
}

// NewLightning sets the world up: three machines without channels.
func NewLightning(seed uint64, f Faults, b Bug) (*Lightning, error) {
	l := &Lightning{
		World: NewWorld(seed, f), deals: map[money.OrderID]*deal{}, tags: map[string]*party{}, broken: map[string]string{},
	}
	l.Chain, l.Sample = NewChain(l.World), sample
	l.Bug, l.Check = b, l.invariants
	l.OnDone, l.World.Outlet = l.done, l.outlet
	r := l.Random("shape")
	l.public, l.static = r.IntN(3) > 0, r.IntN(2) == 0
	for _, name := range []string{"car", "router", "charger"} {
		p, err := l.party(name, r)
		if err != nil {
			return nil, err
		}
		l.parties = append(l.parties, p)
	}
	l.car, l.router, l.charger = l.parties[0], l.parties[1], l.parties[2]
	l.evil = l.newAdversary(r)
	for _, p := range l.parties {
		var err error
		if p.Machine, err = l.Add(p.key.Public().PeerName(), p.boot(l)); err != nil {
			return nil, err
		}
	}
	l.cables = [][2]*party{{l.car, l.router}, {l.router, l.charger}}
	for i := range l.cables {
		if r.IntN(3) == 0 {
			l.cables[i][0], l.cables[i][1] = l.cables[i][1], l.cables[i][0]
		}
		l.Connect(l.cables[i][0].Machine, l.cables[i][1].Machine)
	}
	// The charger's terms are asked for over a link of their own.
	l.Connect(l.car.Machine, l.charger.Machine)
	return l, nil
}

func (l *Lightning) party(name string, r *rand.Rand) (p *party, err error) {
	p = &party{name: name, honest: true, over: map[uint64]money.Amount{}}
	if p.key, err = keys.NewSecret(byteStream{l.Random("keys")}); err != nil {
		return nil, err
	}
	p.wallet, p.lent = tx.WalletKey(p.key), map[wire.OutPoint]tx.Coin{}
	p.config = node.Config{
		Chain: chainhash.Hash{7}, Network: invoice.Regtest, Alias: name, Payout: tx.P2WPKH(p.wallet.Public()), Delay: 10,
		// Deeper than any reorganisation of this chain.
		MinDepth: 4 + r.Int32N(2),
	}
	return p, nil
}

// boot builds the machine's cores.
func (p *party) boot(l *Lightning) func(step.Reader) (*drive.Machine, error) {
	return func(db step.Reader) (*drive.Machine, error) {
		m := drive.NewMachine()
		purse, err := spend.Load(db, spend.Limits{})
		if err != nil {
			return nil, err
		}
		till, err := loadTill(db)
		if err != nil {
			return nil, err
		}
		n, err := node.Load(db, p.key, p.config)
		if err != nil {
			return nil, err
		}
		m.Add(spend.Name, l.wrap(spend.Name, purse))
		m.Add(tillName, till)
		core := l.wrap(node.Name, n)
		if !p.honest {
			core = l.evil.wrap(core)
		}
		m.Add(node.Name, core, spend.Name, tillName)
		return m, nil
	}
}

func (p *party) node() *node.Node { return p.Core(node.Name).(*node.Node) }
func (p *party) till() *till      { return p.Core(tillName).(*till) }
func (p *party) purse(now step.Time) spend.Summary {
	return p.Core(spend.Name).(*spend.Book).Summary(now)
}

// worth is what a node has in channels: its balances, less what it has been
// shown the preimage of, and with that whose preimage it knows.
func (p *party) worth() (sum money.Amount) {
	for _, was := range p.over {
		sum += was
	}
	for _, c := range p.node().Channels() {
		if _, over := p.over[c.Index]; !over {
			sum += worthOf(c)
		}
	}
	return sum
}

func worthOf(c *channel.Channel) money.Amount {
	sum := c.Value().Local
	ours, theirs := c.HTLCs()
	for _, h := range ours {
		if h.Settle != nil && h.Settle.Preimage != nil {
			sum -= h.Amount
		}
	}
	for _, h := range theirs {
		if h.Settle != nil && h.Settle.Preimage != nil {
			sum += h.Amount
		}
	}
	return sum
}

// Play runs the whole story: opening, trading in rough weather, a calm in which
// all must settle, and closing.
func (l *Lightning) Play(orders int) error {
	weather := l.Faults
	l.Calm()
	if err := l.open(); err != nil {
		return err
	}
	l.Faults = weather
	if err := l.trade(orders * 2 / 3); err != nil { // each has a dozen messages and signatures
		return err
	}
	return l.close()
}

// open opens the channels while the weather is good.
func (l *Lightning) open() error {
	r := l.Random("open")
	for i, pair := range l.cables {
		from, to := pair[0], pair[1]
		capacity := 100_000 + r.Int64N(900_000)
		tag := fmt.Sprint("open", i)
		l.tags[tag] = from
		coin := wire.OutPoint{Hash: chainhash.Hash{1, byte(i)}}
		l.Chain.Mint(coin, wire.NewTxOut(capacity+100_000, from.config.Payout))
		l.Tell(l.Now+10*step.Second, from.Machine, node.Name, node.Open{
			Tag: tag, Peer: to.key.Public(), Capacity: capacity, Push: money.Amount(capacity) * 10 * money.Amount(20+r.Int64N(60)), Public: l.public,
			Static: l.static, FeeRate: 253 + r.Int64N(500),
		})
	}
	l.Chain.Blocks(l.Now + 100*step.Second)
	if err := l.Run(l.Now + 110*step.Second); err != nil {
		return err
	}
	for _, p := range l.parties {
		for _, c := range p.node().Channels() {
			if !c.Usable() {
				return fmt.Errorf("a channel of the %s is %v and cannot be used", p.name, c.Status())
			}
		}
		p.began = p.worth()
		l.began += p.began
	}
	if n := len(l.router.node().Channels()); n != 2 {
		return fmt.Errorf("the router has %d channels", n)
	}
	l.trading = true
	return nil
}

// fund pays for a channel with the coin that was minted for it.
func (l *Lightning) fund(p *party, tag string, f node.Funding) {
	var i byte
	fmt.Sscanf(tag, "open%d", &i)
	coin := wire.OutPoint{Hash: chainhash.Hash{1, i}}
	t, _, err := tx.Pay(p.wallet, []tx.Coin{{Point: coin, Value: l.Chain.coins[coin].Value}}, []*wire.TxOut{f.Output}, tx.MinFeeRate)
	if err != nil {
		l.Fail(err)
		return
	}
	l.Tell(l.Now+1, p.Machine, node.Name, node.Fund{Tag: tag, Tx: t})
}

// trade is a rough time of trading and a calm one in which all must settle.
func (l *Lightning) trade(orders int) error {
	begin := l.Now
	rough := 30 * step.Second
	l.Weather(begin + rough)
	l.Chain.Blocks(begin + rough)
	l.force(begin, rough)
	r := l.Random("load")
	at := begin
	for i := range orders {
		if r.IntN(3) > 0 { // else it comes with the one before
			at = begin + step.Time(r.Int64N(int64(rough)))
		}
		d := l.deal(i, r)
		l.deals[d.ID] = d
		d.from.payer = true
		l.At(at, func() { l.ask(d) })
		if r.IntN(5) == 0 { // somebody asks twice
			l.At(at+step.Time(r.Int64N(int64(10*step.Second))), func() { l.ask(d) })
		}
	}
	l.evil.plan(begin, rough)
	l.retry = begin + rough + 60*step.Second
	if err := l.Run(begin + rough + 10*step.Second); err != nil {
		return err
	}
	l.Calm()
	if l.forced || !l.evil.honest() {
		if err := l.expire(); err != nil {
			return err
		}
		l.evil.rest()
	}
	// Parts that wait for others are given back after a minute.
	l.Chain.Blocks(l.Now + 190*step.Second)
	for wait := range step.Time(3) {
		l.At(l.Now+(70+15*wait)*step.Second, l.askAgain)
	}
	if err := l.Run(l.Now + 190*step.Second); err != nil {
		return err
	}
	return l.settled()
}

// force has an honest node close a channel alone, in some stories.
func (l *Lightning) force(begin, rough step.Time) {
	r := l.Random("force")
	at := begin + step.Time(r.Int64N(int64(rough)))
	if r.IntN(4) > 0 {
		return
	}
	p := l.parties[r.IntN(3)]
	if !p.honest {
		return
	}
	l.forced = true
	l.At(at, func() {
		list := p.node().Channels()
		if len(list) > 0 {
			l.Tell(l.Now, p.Machine, node.Name, node.Close{ID: list[r.IntN(len(list))].ID, Force: true})
		}
	})
}

// deal makes up an order.
func (l *Lightning) deal(i int, r *rand.Rand) *deal {
	d := &deal{}
	switch r.IntN(8) {
	case 0, 1, 2, 3:
		d.from, d.to = l.car, l.charger
	case 4, 5:
		d.from, d.to = l.charger, l.car
	case 6:
		d.from, d.to = l.car, l.router
	default:
		pairs := [][2]*party{{l.router, l.charger}, {l.charger, l.router}, {l.router, l.car}}
		p := pairs[r.IntN(len(pairs))]
		d.from, d.to = p[0], p[1]
	}
	if l.seed%3 > 0 && d.from == l.router { // mostly it only forwards, so that it can be watched
		d.from = l.car
		d.to = l.charger
	}
	d.kind = []string{"terms", "terms", "invoice", "keysend"}[r.IntN(4)]
	chain := l.forced || !l.evil.honest()
	if chain && l.seed%8 > 1 && d.kind == "keysend" { // they take so long to expire
		d.kind = "terms"
	}
	switch r.IntN(6) {
	case 0, 1:
		d.Amount = money.Amount(1 + r.Int64N(350_000)) // below dust
		if chain && l.seed%4 > 1 {
			d.Amount += 4000 * money.Sat
		}
	case 2, 3, 4:
		d.Amount = money.Amount(400_000 + r.Int64N(5_000_000))
	default:
		d.Amount = money.Amount(1_000_000 + r.Int64N(300_000_000))
	}
	binary.BigEndian.PutUint64(d.ID[:], r.Uint64())
	binary.BigEndian.PutUint64(d.ID[8:], uint64(i))
	d.For = "energy"
	return d
}

// ask hands an order to its payer's purse, or first asks the payee for an
// invoice.
func (l *Lightning) ask(d *deal) {
	d.answer = ""
	if d.To == "" {
		to := "lightning://" + d.to.key.Public().String() + "@sim:1"
		switch d.kind {
		case "invoice":
			l.Tell(l.Now, d.to.Machine, node.Name, node.Bill{Bill: money.Bill{ID: d.ID, Amount: d.Amount, For: d.For, Hold: held(d.ID)}})
			return
		case "keysend":
			to += "?keysend=1"
		}
		d.To = to
	}
	l.Tell(l.Now, d.from.Machine, spend.Name, spend.Ask{Order: d.Order, Via: node.Name})
}

// askAgain is for the orders whose answer was lost in a crash.
func (l *Lightning) askAgain() {
	for _, d := range l.sorted() {
		if d.answer == "" {
			l.ask(d)
		}
	}
}

func (l *Lightning) sorted() (all []*deal) {
	for _, d := range l.deals {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b *deal) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return all
}

func (l *Lightning) outlet(m *Machine, p step.Packet) {
	if l.Chain.Take(m, p) {
		return
	}
	if bump, ok := p.Msg.(claim.Bump); ok {
		l.lend(l.of(m), p.From, bump)
	}
}

// lend is the wallet: it has a coin for every purpose, always the same one.
func (l *Lightning) lend(p *party, to string, bump claim.Bump) {
	coin, ok := p.lent[bump.For]
	if !ok {
		l.coins++
		coin = tx.Coin{Point: wire.OutPoint{Hash: chainhash.Hash{2, byte(l.coins), byte(l.coins >> 8)}}, Value: bump.Sats}
		p.lent[bump.For] = coin
		l.Chain.Mint(coin.Point, wire.NewTxOut(coin.Value, p.config.Payout))
	}
	l.log("the wallet of the %s lends %d sat for %v", p.name, coin.Value, bump.For)
	l.Tell(l.Now+1, p.Machine, to, step.Recv{From: claim.Wallet, Msg: claim.Funds{For: bump.For, Coin: coin}})
}

func (l *Lightning) of(m *Machine) *party {
	for _, p := range l.parties {
		if p.Machine == m || p.key.Public().PeerName() == m.Name {
			return p
		}
	}
	return nil
}

func (l *Lightning) done(m *Machine, out step.Outcome) {
	p := l.of(m)
	switch out.Core {
	case spend.Name:
		if id, ok := money.OrderIDFromKey(out.ID); ok {
			l.answered(l.deals[id], out)
		}
	case node.Name:
		switch v := out.Value.(type) {
		case node.Funding:
			l.fund(p, out.ID[len(node.FundID):], v)
		case string:
			if len(out.ID) <= len(node.BillID) {
				return
			}
			id, ok := money.OrderIDFromKey(out.ID[len(node.BillID):])
			if d := l.deals[id]; ok && d != nil && d.To == "" {
				d.To = "lightning:" + v
				l.ask(d)
			}
		case node.Broke:
			l.broke(p, v)
		case node.Traces:
			l.traces(p, v)
		case node.Buried:
			l.buried(p, v)
		}
	}
}

// broke is a channel that was given up: between two honest nodes that is a
// mistake of one of them.
func (l *Lightning) broke(p *party, v node.Broke) {
	if l.forced {
		return
	}
	for _, c := range p.node().Channels() {
		if c.ID != v.ID {
			continue
		}
		l.broken[c.ID.String()] = v.Why
		for _, peer := range l.parties {
			if peer.key.Public() == c.Peer && peer.honest && p.honest {
				l.Fail(fmt.Errorf("the %s gives up its channel with the %s: %s; at %d there hangs%s", p.name, peer.name, v.Why, l.Chain.Tip(), l.hanging()))
			}
		}
	}
}
