package sim

import (
	"fmt"
	"math/rand/v2"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/consent"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/core/wallet"
	"coinop.dev/world/drive"
)

// Gateway is the world of devices that hold keys and see no chain, a gateway that
// sees it and has no keys, and a shop with a wallet of its own. Devices pay the
// shop's bills and plain addresses through the gateway; blocks are slow, full and
// undone, fees are bumped, machines crash. In every other seed the gateway lies.
type Gateway struct {
	*World
	Chain *Chain
	shape gatewayShape

	key       keys.Secret // the gateway's
	gateway   *Machine
	owners    []*owner // devices, and the shop last
	shop      *owner
	purchases map[money.OrderID]*purchase
	evil      *liar
	ledger
}

// gatewayShape is what differs between seeds besides faults.
type gatewayShape struct {
	devices    int
	wallet     wallet.Options // the gateway's
	forgetful  bool           // nodes lose what was reorganised, and their mempools
	elsewhere  bool           // a device's coin is spent by another copy of its wallet
	revokes    bool           // the operator revokes a device
	registered step.Time      // how long after the beginning the operator first invites
}

func newGatewayShape(r *rand.Rand) gatewayShape {
	s := gatewayShape{devices: 2 + r.IntN(2), registered: step.Time(r.IntN(5)) * step.Second}
	s.wallet = wallet.Options{
		Params: regtest, Depth: []int32{1, 2, 4, 4}[r.IntN(4)], Joint: r.IntN(2) == 0, BumpAfter: 2 + r.Int32N(2),
		Gather: []step.Time{0, step.Second, 4 * step.Second}[r.IntN(3)], Patience: 4*step.Second + step.Time(r.IntN(10))*step.Second,
		Gap: 3, MaxBumps: 3 + r.IntN(4), LockTime: r.IntN(2) == 0, FeeRate: tx.MinFeeRate * tx.FeeRate(1+r.IntN(3)),
	}
	if s.wallet.Joint { // nobody shares without waiting
		s.wallet.Gather += step.Second
	}
	// Whoever settles at less than the depth of a reorganisation lives with what is
	// lost in one.
	deep := s.wallet.Depth > maxUndo
	s.forgetful, s.elsewhere = deep && r.IntN(2) == 0, deep && r.IntN(2) == 0
	s.revokes = r.IntN(8) == 0
	return s
}

// maxUndo is the most blocks that a reorganisation takes away.
const maxUndo = 3

var regtest = &chaincfg.RegressionNetParams

// GatewayWallet is what a Bug knows the gateway's wallet by, which is another than
// the shop's.
const GatewayWallet = "wallet of the gateway"

// GatewayOptions are the options of the gateway's wallet in a seed.
func GatewayOptions(seed uint64) wallet.Options {
	return newGatewayShape(NewWorld(seed, Faults{}).Random("shape")).wallet
}

// ShopOptions are those of the shop's.
func ShopOptions() wallet.Options {
	return wallet.Options{Params: regtest, Account: "main", Depth: maxUndo + 1, Gap: 16, BumpAfter: 3, LockTime: true}
}

// An owner is a machine with keys.
type owner struct {
	*Machine
	name    string
	key     keys.Secret
	account descriptor.Account
	desc    descriptor.Descriptor
	policy  consent.Policy
	outside bool
	counter uint64 // the outside one, which no crash takes back

	list     [2][][]byte // scripts derived so far, by branch
	exposure             // what its signer has let go of
}

// A purchase is an order of an owner's.
type purchase struct {
	id     money.OrderID
	n      int
	from   *owner
	bill   bool   // the shop is paid, and says where
	script []byte // nil until it has
	amount money.Amount
	rate   tx.FeeRate // 0: as the wallet thinks fit
	answer string     // "paid", "unpaid", or "" if none has come
	why    error

	group consent.ID // of the consents that pay it
}

// NewGateway sets the world up.
func NewGateway(seed uint64, f Faults, b Bug) (*Gateway, error) {
	g := &Gateway{World: NewWorld(seed, f), purchases: map[money.OrderID]*purchase{}, ledger: newLedger()}
	g.Chain, g.Sample = NewChain(g.World), 80
	g.Chain.Price(regtest, func() step.Time { return g.Now })
	g.Bug, g.Check = b, g.invariants
	g.OnDone, g.World.Outlet, g.World.Sent = g.done, g.outlet, g.sent
	r := g.Random("shape")
	g.shape = newGatewayShape(r)
	var err error
	if g.key, err = keys.NewSecret(byteStream{g.Random("keys")}); err != nil {
		return nil, err
	}
	g.evil = newLiar(g)
	if g.gateway, err = g.Add(g.key.Public().PeerName(), g.bootGateway); err != nil {
		return nil, err
	}
	for i := range g.shape.devices + 1 {
		o, err := g.newOwner(i, r)
		if err != nil {
			return nil, err
		}
		boot := g.bootDevice(o)
		if i == g.shape.devices {
			g.shop, boot = o, g.bootShop(o)
		}
		g.owners = append(g.owners, o)
		if o.Machine, err = g.Add(o.key.Public().PeerName(), boot); err != nil {
			return nil, err
		}
	}
	for _, o := range g.devices() {
		g.Connect(g.gateway, o.Machine)
	}
	return g, g.fund(r)
}

func (g *Gateway) devices() []*owner { return g.owners[:g.shape.devices] }

func (g *Gateway) newOwner(i int, r *rand.Rand) (o *owner, err error) {
	o = &owner{name: "shop", exposure: newExposure()}
	if i < g.shape.devices {
		o.name = fmt.Sprintf("device-%d", i)
	}
	if o.key, err = keys.NewSecret(byteStream{g.Random("keys")}); err != nil {
		return nil, err
	}
	seed, err := mnemonic.SeedFromBytes(o.key.Derive("wallet/seed").Reveal())
	if err != nil {
		return nil, err
	}
	purpose := []descriptor.Purpose{descriptor.BIP84, descriptor.BIP84, descriptor.BIP86, descriptor.BIP49, descriptor.BIP44}[r.IntN(5)]
	if o.account, err = descriptor.NewAccount(seed, purpose, 1, 0, regtest); err != nil {
		return nil, err
	}
	o.desc = o.account.Descriptor()
	o.policy = consent.Policy{
		PerPayment: 45_000 * money.Sat, FeeMax: maxFee * money.Sat, NeedProof: r.IntN(4) > 0, MinDepth: 1 + r.Int32N(2),
		OnlyAsked: true, Joint: r.IntN(4) > 0,
	}
	if r.IntN(3) == 0 {
		o.policy.PerDay = money.Amount(40_000+r.Int64N(60_000)) * money.Sat
	}
	o.outside = r.IntN(3) == 0
	return o, nil
}

func (g *Gateway) bootGateway(db step.Reader) (*drive.Machine, error) {
	w, err := wallet.Load(db, g.shape.wallet)
	if err != nil {
		return nil, err
	}
	m := drive.NewMachine()
	core := g.wrap(GatewayWallet, w)
	if g.evil.lies {
		core = &villainous{core, g.evil}
	}
	m.Add(wallet.Name, core)
	return m, nil
}

func (g *Gateway) signer(db step.Reader, o *owner, boss string) (drive.Core, error) {
	s, err := consent.Load(db, consent.Config{
		Params: regtest, Accounts: []descriptor.Account{o.account}, Identity: o.key, Wallet: boss, Policy: o.policy, Outside: o.outside,
	}, o.counter)
	if err != nil {
		return nil, err
	}
	return g.wrap(consent.Core, s), nil
}

func (g *Gateway) bootDevice(o *owner) func(step.Reader) (*drive.Machine, error) {
	return func(db step.Reader) (*drive.Machine, error) {
		s, err := g.signer(db, o, g.key.Public().PeerName())
		if err != nil {
			return nil, err
		}
		end, err := wallet.LoadEnd(db, wallet.EndOptions{
			Params: regtest, Gateway: g.key.Public().PeerName(), Claim: claimCode(o), Descriptor: o.desc.String(),
			Since: Genesis, Depth: g.shape.wallet.Depth,
		})
		if err != nil {
			return nil, err
		}
		m := drive.NewMachine()
		m.Add(consent.Core, s, wallet.Name)
		m.Add(wallet.Name, g.wrap(wallet.Name, end))
		return m, nil
	}
}

func claimCode(o *owner) string { return "claim-code-of-" + o.name }

func (g *Gateway) bootShop(o *owner) func(step.Reader) (*drive.Machine, error) {
	return func(db step.Reader) (*drive.Machine, error) {
		s, err := g.signer(db, o, consent.Wallet)
		if err != nil {
			return nil, err
		}
		w, err := wallet.Load(db, ShopOptions())
		if err != nil {
			return nil, err
		}
		book, err := earn.Load(db, nil, nil)
		if err != nil {
			return nil, err
		}
		m := drive.NewMachine()
		m.Add(consent.Core, s)
		m.Add(wallet.Name, g.wrap(wallet.Name, w), trade.Seller)
		m.Add(trade.Seller, book)
		return m, nil
	}
}

// maxFee is what a signer lets go of as a fee, in satoshi. Every order is larger, so
// that nobody takes one for the other.
const maxFee = 3_500

// faucet is where money comes from, and what is nobody's goes to.
var faucet = tx.P2WSH([]byte{txscript.OP_1})

// fund gives every owner some coins that are in a block.
func (g *Gateway) fund(r *rand.Rand) error {
	t := wire.NewMsgTx(2)
	sum := int64(0)
	pay := func(value int64, script []byte) {
		t.AddTxOut(wire.NewTxOut(value, script))
		sum += value
	}
	for _, o := range g.owners {
		for i := range 3 + r.IntN(3) {
			script, err := g.derive(o, 0, uint32(i%3))
			if err != nil {
				return err
			}
			pay(20_000+r.Int64N(80_000), script)
		}
	}
	for range 4 {
		pay(50_000, g.evil.script)
	}
	point := wire.OutPoint{Hash: chainhash.Hash{1}}
	g.minted = sum + 10_000
	g.Chain.Mint(point, wire.NewTxOut(g.minted, faucet))
	in := wire.NewTxIn(&point, nil, wire.TxWitness{{txscript.OP_1}})
	t.AddTxIn(in)
	if err := g.Chain.Publish(t); err != nil {
		return err
	}
	g.trusted[t.TxHash()] = true
	for range 3 {
		g.Chain.Mine()
	}
	return nil
}

// Play runs the whole story: buying in rough weather, and a calm in which all
// must settle.
func (g *Gateway) Play(orders int) error {
	begin, rough := g.Now, 75*step.Second
	g.Weather(begin + rough)
	g.operate(begin)
	g.blocks(begin + rough)
	r := g.Random("load")
	at := begin
	for i := range orders * 2 / 3 {
		p := g.purchase(i, r)
		if i == 0 || r.IntN(2) == 0 { // else it comes with the one before
			at = begin + 3*step.Second + step.Time(r.Int64N(int64(rough-15*step.Second)))
		}
		g.At(at, func() { g.ask(p) })
		if r.IntN(3) == 0 { // somebody asks twice
			g.At(at+step.Time(r.Int64N(int64(20*step.Second))), func() { g.ask(p) })
		}
	}
	if g.shape.elsewhere {
		g.At(begin+15*step.Second+step.Time(r.Int64N(int64(40*step.Second))), g.spendElsewhere)
	}
	if g.shape.revokes {
		o := g.devices()[r.IntN(g.shape.devices)]
		at := begin + 20*step.Second + step.Time(r.Int64N(int64(50*step.Second)))
		for i := range step.Time(4) { // until it is durable
			g.Tell(at+i*20*step.Second, g.gateway, wallet.Name, wallet.Revoke{Ask: "revoke", Account: o.name})
		}
	}
	if err := g.Run(begin + rough); err != nil {
		return err
	}
	g.Calm()
	g.operate(g.Now)
	g.rest(150 * step.Second)
	if err := g.Run(g.Now + 150*step.Second); err != nil {
		return err
	}
	// A limit of a day is waited for, but no longer than two.
	for range 3 {
		if g.answered() {
			break
		}
		g.Skip(26 * step.Hour)
		g.rest(60 * step.Second)
		if err := g.Run(g.Now + 60*step.Second); err != nil {
			return err
		}
	}
	return g.settled()
}

// rest is a time without faults, in which the orders whose answer was lost in a
// crash are asked for again.
func (g *Gateway) rest(d step.Time) {
	g.blocks(g.Now + d)
	for i := range step.Time(4) {
		g.At(g.Now+1+i*d/5, func() {
			for _, p := range g.sorted() {
				g.ask(p)
			}
		})
	}
}

// operate is what the operators do: they open accounts, and do it again if the
// answer does not come.
func (g *Gateway) operate(begin step.Time) {
	for i := range step.Time(3) {
		at := begin + g.shape.registered + i*8*step.Second
		g.At(at, func() {
			g.Tell(g.Now, g.shop.Machine, wallet.Name, wallet.Open{Ask: "open", Account: "main", Descriptor: g.shop.desc.String(), Signer: wallet.LocalSigner, Since: Genesis})
			for _, o := range g.devices() {
				g.Tell(g.Now, g.gateway, wallet.Name, wallet.Invite{Ask: "invite", Code: claimCode(o), Account: o.name, Expires: g.Now + step.Hour})
			}
		})
	}
}

// blocks come every four seconds or so, until a time; in rough weather some are
// full, some are undone, and nodes forget.
func (g *Gateway) blocks(until step.Time) {
	r := g.Random("blocks")
	for t := g.Now; t < until; t += step.Second + step.Time(r.Int64N(int64(7*step.Second))) {
		what, undo, rate := r.IntN(16), 1+r.IntN(maxUndo), tx.FeeRate(0)
		switch r.IntN(8) {
		case 0, 1:
			rate = g.shape.wallet.FeeRate * 5 / 4
		case 2:
			rate = g.shape.wallet.FeeRate * 2
		case 3:
			rate = 1 << 30
		}
		g.At(t, func() {
			switch rough := g.Faults.Lose > 0; {
			case rough && what < 2:
				g.Chain.Reorg(undo)
				if g.shape.forgetful && what == 0 {
					g.Chain.Drop()
				}
				g.log("reorganisation of %d blocks", undo)
			case rough:
				g.Chain.MineAbove(rate)
			default:
				g.Chain.Mine()
			}
			g.Chain.tell()
		})
	}
}

// spendElsewhere has the owner of a device spend one of its coins with another
// copy of its wallet.
func (g *Gateway) spendElsewhere() {
	r := g.Random("elsewhere")
	o := g.devices()[r.IntN(g.shape.devices)]
	if o.desc.Kind() != descriptor.WPKH {
		return
	}
	for branch := range o.list {
		for index, script := range o.list[branch] {
			for _, c := range g.Chain.confirmed(script) {
				if r.IntN(2) == 0 {
					continue
				}
				key, err := o.account.SigningKey(uint32(branch), uint32(index))
				if err != nil {
					g.Fail(err)
					return
				}
				t := wire.NewMsgTx(2)
				t.AddTxIn(wire.NewTxIn(&c.Point, nil, nil))
				t.AddTxOut(wire.NewTxOut(c.Value-15_000, faucet))
				t.TxIn[0].Witness = tx.WitnessP2WPKH(key, t, 0, c.Value)
				g.trusted[t.TxHash()] = true
				g.log("%s spends %v elsewhere: %v", o.name, c.Point, g.Chain.Publish(t))
				return
			}
		}
	}
}
