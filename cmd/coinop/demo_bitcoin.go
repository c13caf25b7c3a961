//go:build !omit_demo

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/consent"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
	"coinop.dev/rail/bitcoinrail"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/drive"
)

const (
	// custodyRate is how many payments there are in a second unless --rate says
	// otherwise.
	custodyRate = 1
	// custodyFunds, in satoshi, are the meter's: a quarter of an hour of paying.
	custodyFunds = 1_000_000
	// What the meter's signer consents to.
	custodyPerPayment = 2_000 * money.Sat
	custodyPerDay     = custodyFunds * money.Sat
	custodyMaxFee     = 10_000 * money.Sat
	// custodyBlock is how often a block comes, and custodyHurry how often once
	// nothing new is paid.
	custodyBlock = 3 * time.Second
	custodyHurry = 250 * time.Millisecond
	// custodyBumpAfter is how many blocks may leave a transaction out before the
	// gateway proposes a higher fee.
	custodyBumpAfter = 2
	// custodyFull is what full blocks ask for: more than the wallet begins with,
	// and less than its first bump.
	custodyFull = 19 * tx.MinFeeRate / 10
	// custodyLeast is the least that is sold at once, in mWh: 500 sat, which is
	// above the dust limit.
	custodyLeast = 1000
	// custodyWindow is the time that the rate is taken over: blocks come in
	// seconds.
	custodyWindow = 10 * time.Second
	// custodyScan is how often the gateway's disk is searched for secrets.
	custodyScan = 3 * time.Second
	// custodyReorg undoes the newest payments.
	custodyReorg = 2

	custodyAccount = "meter-7"
	custodyCode    = "CLAIM-THIS-ACCOUNT-ONCE"
)

// A custody is the demo of three machines on the chain: a meter that holds the
// only key and sees no chain, a gateway that sees the chain and has public keys
// only, and a charger that is paid.
type custody struct {
	chained
	gateway demoMachine
	every   time.Duration // a block comes

	stopMiner func()
	meterKey  keys.Secret
	books     *books
	whole     page.Custody // but for what is looked up when it is shown
	sending   []wallet.Sending
	versions  map[uint64]sent // of each transaction, by the wallet's number
	device    wallet.View
	floor     tx.FeeRate // of blocks that are full; 0: they are not
	proposed  *consent.Proposal
	tried     int // lies
	scanned   time.Time
}

// sent is what is known of a transaction that was seen on its way.
type sent struct {
	id       string
	versions int
}

// wholeSats is a charger's slice of energy whose price the chain can carry: half
// a satoshi for a mWh, and no fractions.
func wholeSats(perSecond float64) uint64 {
	return max(custodyLeast, uint64(7_400_000/3600/perSecond)/custodyLeast*custodyLeast)
}

func newCustody(d *demo) course {
	d.scenario.units, d.scenario.usual, d.window = wholeSats, custodyRate, custodyWindow
	return &custody{chained: chained{demo: d, funds: custodyFunds}, every: custodyBlock, versions: map[uint64]sent{}, whole: page.Custody{
		Account: custodyAccount, PerPaymentMsat: uint64(custodyPerPayment), PerDayMsat: uint64(custodyPerDay), LeftMsat: uint64(custodyPerDay),
		MaxFeeMsat: uint64(custodyMaxFee), Txs: []page.Tx{}, Refusals: []page.Refusal{},
	}}
}

// open starts the three, has the gateway invite the meter and the meter claim
// its account, and gives the meter money.
func (d *custody) open(ctx context.Context) (err error) {
	d.seller, d.gateway, d.buyer = d.newMachine("charger", "bitcoin:"), d.newMachine("gateway", fmt.Sprintf("bitcoin:?keys=0&bump_after=%d", custodyBumpAfter)), d.newMachine("meter")
	d.buyer.blind = true
	d.machines = []*demoMachine{&d.buyer, &d.gateway, &d.seller}
	d.sells(&d.seller)
	for _, m := range []*demoMachine{&d.seller, &d.gateway} {
		m.config.Listen = "127.0.0.1:0"
		if err := d.start(m); err != nil {
			return err
		}
		m.config.Listen = m.station.Addr // where it is found when it is back
	}
	d.sellerKey = d.seller.station.Key.Public()
	d.note(page.Info, "the gateway follows the chain; it has no keys")
	at := d.gateway.station
	_, err = at.Engine.Host.Ask(ctx, wallet.Name, "invite", wallet.Invite{
		Ask: "invite", Code: custodyCode, Account: custodyAccount, Expires: at.Engine.Host.Now() + step.Hour,
	})
	if err != nil {
		return err
	}
	d.buyer.config.Rails = []string{fmt.Sprintf("bitcoin://%v@%s?claim=%s&per_payment=%dsat&per_day=%dsat&max_fee=%dsat",
		at.Key.Public(), at.Addr, custodyCode, custodyPerPayment.Sats(), custodyPerDay.Sats(), custodyMaxFee.Sats())}
	if err := d.start(&d.buyer); err != nil {
		return err
	}
	d.meterKey = d.buyer.station.Key
	if d.books, err = newBooks(d.node, &d.buyer, &d.seller); err != nil {
		return err
	}
	if err := d.give(ctx); err != nil {
		return err
	}
	d.note(page.Good, "the meter has claimed its account with a public descriptor; its key, limits and counter stay with it")
	mining, stop := context.WithCancel(context.Background())
	mined := make(chan struct{})
	d.stopMiner = func() { stop(); <-mined }
	go func() { defer close(mined); d.miner(mining) }()
	return nil
}

// give has the faucet pay the meter, and waits until the gateway has seen it.
func (d *custody) give(ctx context.Context) error {
	script, err := bitcoinrail.Fund(d.buyer.station.Key, regtest.Params())
	if err != nil {
		return err
	}
	if _, err := d.node.Faucet(script, custodyFunds); err != nil {
		return err
	}
	if _, err := d.node.Mine(1); err != nil {
		return err
	}
	for {
		if d.look(ctx); d.device.Confirmed == custodyFunds {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the gateway does not see the meter's %d sat: %w", custodyFunds, ctx.Err())
		}
	}
}

// started tells the meter where the charger is: prices, addresses and goods go
// straight from one to the other.
func (d *custody) started(ctx context.Context, m *demoMachine, s *station) error {
	if m != &d.buyer {
		return nil
	}
	return s.Engine.Connect(ctx, d.seller.config.Listen, d.sellerKey)
}

// miner makes the blocks, and hurries at the end.
func (d *custody) miner(ctx context.Context) {
	tick := time.NewTicker(custodyHurry / 5)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		every := d.every
		if d.paidUp() {
			every = min(every, custodyHurry)
		}
		if time.Since(last) < every {
			continue
		}
		last = time.Now()
		if err := d.block(); err != nil {
			d.u.log("demo").Warn("mine", "err", err)
		}
	}
}

// paidUp reports whether no more is going to be paid.
func (d *custody) paidUp() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.ended.IsZero()
}

// block mines one. A full one takes only what pays the fee it asks for.
func (d *custody) block() error {
	d.mu.Lock()
	if !d.ended.IsZero() {
		d.floor = 0
	}
	floor := d.floor
	d.mu.Unlock()
	if floor == 0 {
		_, err := d.node.Mine(1)
		return err
	}
	rich := slices.DeleteFunc(d.node.MempoolTxs(), func(t *wire.MsgTx) bool { return d.books.rate(t) < floor })
	if _, err := d.node.MineOnly(rich...); err != nil || len(rich) == 0 {
		return err
	}
	d.mu.Lock()
	d.floor = 0
	d.mu.Unlock()
	d.note(page.Good, fmt.Sprintf("a block has room for the dearer transaction %v; the cheaper one can never be mined", short(rich[0].TxHash().String())))
	return nil
}

func short(hex string) string { return hex[:6] + "…" + hex[len(hex)-6:] }

// slow fills the blocks with others' transactions until the gateway has raised
// the fee, for which it needs the device's consent.
func (d *custody) slow(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.phase != page.Paying:
		return errors.New("nothing is being paid")
	case d.floor > 0:
		return errors.New("the blocks are full already; wait for the bump")
	}
	d.floor = custodyFull
	d.events = append(d.events, page.Event{AtMs: d.sinceMs(), Level: page.Warn, Text: fmt.Sprintf("blocks are full: they take nothing below %.1f sat/vB; after %d of them the gateway proposes a higher fee", perVB(custodyFull), custodyBumpAfter)})
	return nil
}

// perVB is a fee rate in sat/vB.
func perVB(r tx.FeeRate) float64 { return float64(r) / 1000 }

// look asks the gateway, the signer and the chain.
func (d *custody) look(ctx context.Context) {
	d.mu.Lock()
	gateway, device := d.gateway.station, d.buyer.station
	d.mu.Unlock()
	var sum wallet.Summary
	var proposed []consent.Proposal
	ask(ctx, gateway, wallet.Name, func(w *wallet.Wallet, _ step.Time) { sum, proposed = w.Summary(), w.Proposed() })
	var signer *consent.Summary
	ask(ctx, device, consent.Core, func(s *consent.Signer, now step.Time) { v := s.Summary(now); signer = &v })
	if err := d.books.read(ctx); err != nil {
		d.u.log("demo").Warn("read the chain", "err", err)
	}
	if gateway != nil && time.Since(d.scanned) > custodyScan {
		d.scanned = time.Now()
		d.scan(gateway)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(sum.Accounts) > 0 {
		d.device, d.sending = sum.Accounts[0], sum.Sending
		d.whole.Descriptor, d.whole.Waiting = d.device.Descriptor, d.device.Orders
	}
	for _, s := range d.sending {
		d.versions[s.N] = sent{s.TxID, max(s.Versions, d.versions[s.N].versions)}
	}
	if len(proposed) > 0 {
		d.proposed = &proposed[len(proposed)-1]
	}
	if signer != nil {
		d.whole.Consents, d.whole.DeviceTip, d.whole.LeftMsat = signer.Counter, signer.Tip, uint64(signer.Left)
	}
	d.buyer.onchain, d.seller.onchain = d.books.has(&d.buyer), d.books.has(&d.seller)
}

// ask reads a core of a machine that may be down.
func ask[C any](ctx context.Context, s *station, name string, read func(C, step.Time)) {
	if s == nil {
		return
	}
	_ = s.Engine.Host.Do(ctx, func(m *drive.Machine) { // it has just been killed: nothing is read
		if c, ok := m.Core(name).(C); ok {
			read(c, s.Engine.Host.Now())
		}
	})
}

// bumps is how many versions there were besides each transaction's first. It is
// called with d.mu held.
func (d *custody) bumps() (n int) {
	for _, s := range d.versions {
		n += s.versions - 1
	}
	return n
}

// show is called with d.mu held.
func (d *custody) show(p *page.State) {
	d.showChain(p)
	defer d.showEnd(p)
	c := d.whole
	c.Gateway = d.gateway.picture()
	for m, shown := range map[*demoMachine]*page.Machine{&d.buyer: &p.Buyer, &d.gateway: &c.Gateway, &d.seller: &p.Seller} {
		if m.station != nil {
			shown.NodeKey = m.station.Key.Public().String()
		}
	}
	p.AtRiskBuyerMsat = uint64(d.inFlight)
	c.FullMsatPerVB = uint64(d.floor)
	c.Refusals = slices.Clone(c.Refusals)
	c.Bumps = d.bumps()
	if d.books != nil {
		mined := d.books.paid()
		c.Mined, c.Orders, c.FeesSat = len(mined), 0, 0
		for _, t := range mined {
			c.Orders, c.FeesSat = c.Orders+t.Orders, c.FeesSat+t.FeeSat
		}
		c.Txs = d.newest(mined)
	}
	p.Chain.FeesSat = c.FeesSat
	p.Custody = &c
}

// newest are the transactions that the page has room for, those on their way
// last.
func (d *custody) newest(mined []page.Tx) []page.Tx {
	byID := map[string]int{}
	for _, v := range d.versions {
		byID[v.id] = v.versions
	}
	all := slices.Clone(mined[max(0, len(mined)-page.MaxTxs):])
	for i := range all {
		all[i].Versions = max(1, byID[all[i].TxID])
	}
	for _, s := range d.sending {
		if slices.ContainsFunc(all, func(t page.Tx) bool { return t.TxID == s.TxID }) {
			continue
		}
		all = append(all, page.Tx{TxID: s.TxID, Orders: s.Orders, FeeSat: s.Fee, State: s.State, Versions: s.Versions})
	}
	return all[max(0, len(all)-page.MaxTxs):]
}

// cut is of the link between meter and gateway.
func (d *custody) cut(down bool) {
	d.buyer.station.Engine.Cut(d.gateway.station.Key.Public(), down)
}

func (d *custody) actions() map[string]func(context.Context) error {
	all := d.buttons(d.reorg)
	all["kill-gateway"] = func(context.Context) error { return d.kill(&d.gateway) }
	all["lie"], all["slow"] = d.lie, d.slow
	return all
}

func (d *custody) reorg(context.Context) error {
	if err := d.node.Reorg(custodyReorg); err != nil {
		return err
	}
	d.note(page.Warn, fmt.Sprintf("%d blocks are undone; their payments wait in the mempool for others", custodyReorg))
	return nil
}

// spent reports whether the meter's money is used up.
func (d *custody) spent(err error) bool {
	if !errors.Is(err, money.Unpaid) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	price, _ := d.item.Price.Times(d.scenario.units(d.rate))
	return d.phase == page.Paying && d.device.Confirmed+d.device.Waiting < price.Sats()+custodyMaxFee.Sats()
}

// settle mines until nothing is on its way, and reads the chain.
func (d *custody) settle(ctx context.Context) (*settlement, error) {
	defer d.stopMiner()
	if err := d.quiet(ctx); err != nil {
		return nil, err
	}
	d.stopMiner()
	d.scan(d.gateway.station)
	d.look(ctx)
	e, err := d.read()
	if err != nil {
		return nil, err
	}
	return d.finish(e), nil
}

// read makes up what there is to say at the end.
func (d *custody) read() (*chainEnd, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	txs := d.books.paid()
	c := d.whole
	s := &chainEnd{
		onchain: map[string]int64{d.buyer.name: d.books.has(&d.buyer), d.seller.name: d.books.has(&d.seller), d.gateway.name: 0},
		fees:    d.books.fees, left: d.books.left,
	}
	orders := 0
	for _, t := range slices.Backward(txs) {
		id, err := chainhash.NewHashFromStr(t.TxID)
		if err != nil {
			return nil, err
		}
		s.txids = append(s.txids, *id)
		orders += t.Orders
	}
	if len(s.txids) == 0 {
		return nil, errors.New("nothing was paid in the time there was; let the demo run longer")
	}
	s.conserved = d.books.given == d.funds && s.sum() == d.funds && s.left == 0 && s.onchain[d.seller.name] == d.paid.Sats()
	refusals := map[string]int{}
	for _, r := range c.Refusals {
		refusals[r.Reason] += r.Count
	}
	s.more = map[string]any{
		"txs": len(txs), "payments_per_tx": float64(orders) / float64(len(txs)), "fee_sat_per_payment": float64(s.fees) / float64(max(orders, 1)),
		"consents": c.Consents, "refusals": refusals, "lies_signed": c.Signed, "bumps": d.bumps(),
		"gateway_records": c.Records, "gateway_private_records": c.Private, "kills": d.kills(),
	}
	s.words = []string{
		fmt.Sprintf("%d transactions with %.1f payments in each; %.0f sat of fees for a payment; %d bumps", len(txs), s.more["payments_per_tx"], s.more["fee_sat_per_payment"], d.bumps()),
		fmt.Sprintf("the meter consented %d times and refused %d lies (%v); lies signed: %d", c.Consents, d.refused(), reasons(refusals), c.Signed),
		fmt.Sprintf("of the gateway's %d records, %d hold a private key", c.Records, c.Private),
	}
	return s, nil
}

func (d *custody) kills() (n int) {
	for _, m := range d.machines {
		n += m.kills
	}
	return n
}

// refused counts the lies that were. It is called with d.mu held.
func (d *custody) refused() (n int) {
	for _, r := range d.whole.Refusals {
		n += r.Count
	}
	return n
}

func reasons(counts map[string]int) string {
	if len(counts) == 0 {
		return "none was told"
	}
	text := ""
	for _, r := range slices.Sorted(maps.Keys(counts)) {
		text += ", " + r
	}
	return text[2:]
}

// quiet waits until the gateway has nothing on its way, and the pool is empty.
func (d *custody) quiet(ctx context.Context) error {
	for {
		d.look(ctx)
		d.mu.Lock()
		moving := len(d.sending) + d.device.Orders
		d.mu.Unlock()
		if moving += len(d.node.MempoolTxs()); moving == 0 {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d orders and transactions are still on their way: %w", moving, ctx.Err())
		}
	}
}
