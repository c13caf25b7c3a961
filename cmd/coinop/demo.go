//go:build !omit_demo

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/spf13/cobra"

	"coinop.dev"
	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/trade"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/world/chain/regtest"
)

// A scenario is what the demo's seller sells.
type scenario struct {
	item   trade.Item
	source string // where it comes from, honestly
	// units is how much one payment buys when there are so many a second.
	units func(perSecond float64) uint64
	usual float64 // payments a second, unless --rate says otherwise
}

// scenarios. The sensor's readings are real; the charger's meter is simulated:
// 7.4 kW is 2,055 mWh a second.
var scenarios = map[string]scenario{
	"sensor": {
		trade.Item{Name: "reading", Unit: "readings", Price: 10 * coinop.Sat}, "this computer",
		func(float64) uint64 { return 1 }, 50,
	},
	"charger": {
		trade.Item{Name: "energy", Unit: "mWh", Price: 500 * coinop.Msat}, "a simulated meter",
		func(perSecond float64) uint64 { return max(1, uint64(7_400_000/3600/perSecond)) }, 20,
	},
}

const (
	demoFunds    = 10_000_000 // satoshi the faucet gives the buyer
	demoCapacity = 5_000_000 * coinop.Sat
	demoCredit   = 4000 * coinop.Sat // of the hash-chain rail, between settlements
	demoInFlight = 64
	demoPage     = "127.0.0.1:8402"
	// demoOpen, demoClose and demoDrain bound the phases around the paying.
	demoOpen  = 30 * time.Second
	demoClose = 30 * time.Second
	demoDrain = 15 * time.Second
	// demoBlock is how often a block comes by itself.
	demoBlock = 10 * time.Second
	// demoDown is how long a killed machine stays down.
	demoDown = 1500 * time.Millisecond
	// demoLinger lets a page show the settlement before the program ends.
	demoLinger = 3 * time.Second
)

type demoOptions struct {
	scenario, rail string
	length         time.Duration
	rate           float64
	noBrowser      bool
	listen         string
}

func demoCommand(u *ui) *cobra.Command {
	o := demoOptions{}
	c := &cobra.Command{
		Use: "demo", Short: "Watch one machine pay another, and settle on a Bitcoin chain", Args: noArgs,
		Long: "Two machines, each with its own key and store, over TCP, and a Bitcoin regtest chain in the box.\n" +
			"The buyer pays for every reading of this computer, or for energy from a simulated meter. At the end the\n" +
			"channel is closed, the closing transaction mined, and the balances are read back from the chain.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, ok := scenarios[o.scenario]; !ok {
				return usage{fmt.Errorf("no scenario is called %q; there is sensor and charger", o.scenario)}
			}
			if o.rail != "oneway" && o.rail != "payword" {
				return usage{fmt.Errorf("the demo runs on oneway or payword, not on %q", o.rail)}
			}
			if o.rate < 0 || o.rate > 5000 {
				return usage{fmt.Errorf("rate is %v; it must be 0 (the scenario's own) to 5000 payments a second", o.rate)}
			}
			return runDemo(cmd.Context(), u, o)
		},
	}
	c.Flags().StringVar(&o.scenario, "scenario", "sensor", "what is sold: sensor, charger")
	c.Flags().StringVar(&o.rail, "rail", "oneway", "how it is paid: oneway, payword")
	c.Flags().DurationVar(&o.length, "for", 0, "how long to pay, such as 20s; 0 until Ctrl-C")
	c.Flags().Float64Var(&o.rate, "rate", 0, "payments a second; 0 for the scenario's own")
	c.Flags().BoolVar(&o.noBrowser, "no-browser", false, "do not open the page in a browser")
	c.Flags().StringVar(&o.listen, "http", demoPage, "address of the page, on loopback")
	return c
}

// demo is the running demonstration.
type demo struct {
	demoOptions
	scenario
	u     *ui
	dir   string
	node  *regtest.Node
	hub   *page.Hub
	begin time.Time

	mu            sync.Mutex
	buyer, seller demoMachine
	phase         page.Phase
	linkDown      bool
	payments      uint64
	units         uint64
	paid          coinop.Amount
	inFlight      coinop.Amount
	latencies     []float64 // milliseconds, the newest maxLatencies
	rates         []tick
	readings      []page.Reading
	events        []page.Event
	receipt       coinop.Receipt
	channel       oneway.Terms
	closed        *settlement
	left          coinop.Amount // as the two channel ends say
	sellerRisk    coinop.Amount
	depth         int32
}

type demoMachine struct {
	name    string
	config  Config
	station *station // nil while it is killed
	state   page.Life
	kills   int
	onchain int64
}

type tick struct {
	at       time.Time
	payments uint64
}

const maxLatencies = 4096

// settlement is what the chain says at the end.
type settlement struct {
	txid        chainhash.Hash
	seller      int64
	buyer       int64
	fees        int64
	conserved   bool
	receiptOK   bool
	paidOnChain bool
}

func runDemo(ctx context.Context, u *ui, o demoOptions) (err error) {
	dir, err := os.MkdirTemp("", "coinop-demo-")
	if err != nil {
		return fmt.Errorf("a place for the demo's stores: %w", err)
	}
	defer os.RemoveAll(dir)
	d := &demo{demoOptions: o, scenario: scenarios[o.scenario], u: u, dir: dir, hub: page.NewHub(), begin: time.Now(), phase: page.Opening}
	if d.rate == 0 {
		d.rate = d.usual
	}
	// The machines live until the settlement is over: Ctrl-C ends the paying,
	// not them.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if d.node, err = regtest.Open(regtest.Options{Dir: filepath.Join(dir, "chain")}); err != nil {
		return err
	}
	defer d.node.Close()
	closePage, err := d.servePage(life)
	if err != nil {
		return err
	}
	defer closePage()
	if err := d.open(life); err != nil {
		return err
	}
	defer d.buyer.close()
	defer d.seller.close()
	d.setPhase(page.Paying)
	paying, done := ctx, context.CancelFunc(func() {})
	if o.length > 0 {
		paying, done = context.WithTimeout(ctx, o.length)
	}
	defer done()
	watching, stopWatching := context.WithCancel(life)
	defer stopWatching()
	go d.watch(watching)
	err = d.pay(paying, life)
	stopWatching()
	if err != nil {
		return err
	}
	d.setPhase(page.Closing)
	if err := d.settle(life); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	d.setPhase(page.Settled)
	return d.report()
}

// open funds the buyer, starts both machines and opens the rail.
func (d *demo) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoOpen)
	defer cancel()
	d.note(page.Info, "a Bitcoin regtest chain starts, with the mainnet's consensus rules")
	d.seller = demoMachine{name: "seller", config: Config{Name: "seller", Data: filepath.Join(d.dir, "seller"), Listen: "127.0.0.1:0", Rails: []string{"oneway:"}}}
	d.buyer = demoMachine{name: "buyer", config: Config{Name: "buyer", Data: filepath.Join(d.dir, "buyer")}}
	if d.demoOptions.rail == "payword" {
		d.seller.config.Rails = append(d.seller.config.Rails, fmt.Sprintf("payword:?max_credit=%dsat", demoCredit.Sats()))
	}
	d.seller.config.Sell = append(d.seller.config.Sell, struct {
		Item  string        `toml:"item"`
		Unit  string        `toml:"unit"`
		Price coinop.Amount `toml:"price"`
		From  string        `toml:"from"`
	}{d.item.Name, d.item.Unit, d.item.Price, d.demoOptions.scenario})
	if err := d.start(&d.seller); err != nil {
		return err
	}
	// A restarted seller is found at the same place.
	d.seller.config.Listen = d.seller.station.addr
	key, err := loadKey(d.buyer.config.Data)
	if err != nil {
		return err
	}
	if _, err := d.node.Faucet(tx.P2WPKH(tx.WalletKey(key).Public()), demoFunds); err != nil {
		return err
	}
	if _, err := d.node.Mine(1); err != nil {
		return err
	}
	at := fmt.Sprintf("://%v@%s", d.seller.station.key.Public(), d.seller.station.addr)
	d.buyer.config.Rails = []string{fmt.Sprintf("oneway%s?capacity=%dsat", at, demoCapacity.Sats())}
	if d.demoOptions.rail == "payword" {
		d.buyer.config.Rails = append(d.buyer.config.Rails, fmt.Sprintf("payword%s?coin=%dmsat&credit=%dsat", at, uint64(d.item.Price), demoCredit.Sats()))
	}
	// Opening waits for a confirmation, so blocks must come meanwhile.
	mining, stop := context.WithCancel(ctx)
	defer stop()
	go d.mineEvery(mining, 150*time.Millisecond)
	if err := d.start(&d.buyer); err != nil {
		return err
	}
	d.channel, err = d.terms(ctx)
	d.note(page.Good, fmt.Sprintf("a channel of %v is open; it is funded by %v", d.channel.Capacity, d.channel.Point.Hash))
	return err
}

func (d *demo) start(m *demoMachine) error {
	ctx := context.Background()
	s, err := openStation(ctx, m.config, d.node, d.u.log(m.name))
	if err != nil {
		return err
	}
	open, cancel := context.WithTimeout(ctx, demoOpen)
	defer cancel()
	if err := s.openRails(open); err != nil {
		s.close()
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	m.station, m.state = s, page.Running
	return nil
}

func (m *demoMachine) close() {
	if m.station != nil {
		m.station.close()
	}
}

func (d *demo) terms(ctx context.Context) (t oneway.Terms, err error) {
	r := d.buyer.station.rail("oneway")
	if r == nil {
		return t, errors.New("the buyer has no channel")
	}
	termed, ok := rail.As[interface {
		Terms(context.Context) (oneway.Terms, error)
	}](r)
	if !ok {
		return t, errors.New("the buyer's rail has no terms")
	}
	return termed.Terms(ctx)
}

func (d *demo) mineEvery(ctx context.Context, every time.Duration) {
	for t := time.NewTicker(every); ; {
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
			d.node.Mine(1)
		}
	}
}

// pay buys at the rate asked for until ctx ends, and then waits for what is in
// flight. No order is given up: one that may be paid is asked again.
func (d *demo) pay(ctx, life context.Context) error {
	var flying sync.WaitGroup
	room := make(chan struct{}, demoInFlight)
	every := time.Duration(float64(time.Second) / d.rate)
	draining, stop := context.WithCancel(life)
	defer stop()
	failed := make(chan error, 1)
	next := time.Now()
	for ctx.Err() == nil && len(failed) == 0 {
		select {
		case <-ctx.Done():
			continue
		case room <- struct{}{}:
		}
		flying.Go(func() {
			defer func() { <-room }()
			if err := d.buy(draining); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		if next = next.Add(every); time.Until(next) < -time.Second {
			next = time.Now() // the machines were down: do not catch up in a rush
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(next)):
		}
	}
	d.mend()
	timer := time.AfterFunc(demoDrain, stop)
	defer timer.Stop()
	flying.Wait()
	select {
	case err := <-failed:
		if errors.Is(err, oneway.ErrFull) {
			d.note(page.Warn, "the channel's capacity is spent")
			return nil
		}
		return err
	default:
		return nil
	}
}

// buy buys once, exactly once, whatever happens to the machines meanwhile.
func (d *demo) buy(ctx context.Context) error {
	units := d.scenario.units(d.rate)
	amount, _ := d.item.Price.Times(units)
	o := coinop.Order{ID: purse.NewOrderID(), Amount: amount, For: d.item.Name, Units: units}
	d.mu.Lock()
	d.inFlight += amount
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.inFlight -= amount
		d.mu.Unlock()
	}()
	begin := time.Now()
	for {
		d.mu.Lock()
		buyer, seller := d.buyer.station, d.seller.config.Listen
		sellerKey := d.channel.Payee.Node
		d.mu.Unlock()
		if buyer != nil {
			o.To = fmt.Sprintf("%s://%v@%s", d.demoOptions.rail, sellerKey, seller)
			r, goods, err := buyer.purse.Buy(ctx, o, sellerKey)
			if err == nil {
				d.bought(o, r, goods, time.Since(begin))
				return nil
			}
			if errors.Is(err, oneway.ErrFull) {
				return err
			}
		}
		// Killed, cut off, or the funding was reorganised away: ask again.
		select {
		case <-ctx.Done():
			return fmt.Errorf("order %v is not settled: %w", o.ID, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *demo) bought(o coinop.Order, r coinop.Receipt, goods trade.Goods, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.payments++
	d.units += o.Units
	d.paid += o.Amount
	d.receipt = r
	if len(d.latencies) == maxLatencies {
		d.latencies = d.latencies[maxLatencies/2:]
	}
	d.latencies = append(d.latencies, float64(took.Microseconds())/1000)
	var read reading
	if json.Unmarshal(goods.Payload, &read) == nil {
		d.readings = append(d.readings, page.Reading{AtMs: d.sinceMs(), Name: read.Name, Value: read.Value, PaidMsat: uint64(o.Amount)})
		d.readings = d.readings[max(0, len(d.readings)-page.MaxReadings):]
	}
}

func (d *demo) sinceMs() int64 { return time.Since(d.begin).Milliseconds() }

// mend undoes what the buttons did, so that the demo can end.
func (d *demo) mend() {
	d.mu.Lock()
	down := d.linkDown
	d.mu.Unlock()
	if down {
		d.toggleLink(context.Background())
	}
}

// settle closes the channel, mines, and reads the balances from the chain.
func (d *demo) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoClose)
	defer cancel()
	for d.isDown() { // a killed machine is on its way back
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	mining, stop := context.WithCancel(ctx)
	defer stop()
	go d.mineEvery(mining, 150*time.Millisecond)
	// The rail opened last is closed first: a meter settles over its channel.
	for _, r := range slices.Backward(d.buyer.station.rails) {
		if c, ok := rail.As[rail.Closer](r); ok {
			if err := c.Shut(ctx, false); err != nil {
				return err
			}
		}
	}
	stop()
	spent, err := d.node.Status(ctx, d.channel.Watched())
	if err != nil {
		return err
	}
	if spent.Spender == nil {
		return errors.New("the closing transaction is not in the chain")
	}
	s := &settlement{txid: spent.Spender.TxHash(), receiptOK: d.payments == 0 || d.buyer.station.purse.Verify(d.receipt) == nil}
	if s.seller, err = d.onchain(ctx, d.channel.PayeeScript); err != nil {
		return err
	}
	if s.buyer, err = d.onchain(ctx, d.channel.PayerScript); err != nil {
		return err
	}
	funding, _ := d.node.Tx(d.channel.Point.Hash)
	s.fees = demoFunds
	for _, out := range funding.TxOut {
		s.fees -= out.Value // the funding's own fee
	}
	s.fees += d.channel.Capacity.Sats()
	for _, out := range spent.Spender.TxOut {
		s.fees -= out.Value
	}
	s.paidOnChain = s.seller == d.paid.Sats() || d.paid.Sats() < tx.DustP2WPKH && s.seller == 0
	s.conserved = s.seller+s.buyer+s.fees == demoFunds && s.paidOnChain
	d.mu.Lock()
	d.closed = s
	d.seller.onchain, d.buyer.onchain = s.seller, s.buyer
	d.mu.Unlock()
	d.note(page.Good, fmt.Sprintf("the last ticket is mined: %v", s.txid))
	return nil
}

func (d *demo) onchain(ctx context.Context, script []byte) (sum int64, err error) {
	coins, err := d.node.Coins(ctx, script)
	for _, c := range coins {
		if c.Depth > 0 {
			sum += c.Value
		}
	}
	return sum, err
}

func (d *demo) isDown() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.buyer.station == nil || d.seller.station == nil
}

func (d *demo) setPhase(p page.Phase) {
	d.mu.Lock()
	d.phase = p
	d.mu.Unlock()
	d.hub.Publish(d.picture())
}

func (d *demo) note(level page.Level, text string) {
	d.mu.Lock()
	d.events = append(d.events, page.Event{AtMs: d.sinceMs(), Level: level, Text: text})
	d.events = d.events[max(0, len(d.events)-page.MaxEvents):]
	d.mu.Unlock()
	d.u.log("demo").Info(text)
}

// report prints the end.
func (d *demo) report() error {
	if terminal(d.u.err) && !d.u.json {
		fmt.Fprint(d.u.err, "\r\x1b[K")
	}
	s := d.closed
	p50, p99 := d.percentiles()
	result := map[string]any{
		"scenario": d.demoOptions.scenario, "rail": d.demoOptions.rail, "payments": d.payments, "paid_msat": uint64(d.paid),
		"delivered_units": d.units, "unit": d.item.Unit, "settle_txid": s.txid.String(),
		"seller_onchain_sat": s.seller, "buyer_onchain_sat": s.buyer, "fees_sat": s.fees, "conserved": s.conserved,
		"p50_ms": p50, "p99_ms": p99, "seconds": time.Since(d.begin).Seconds(),
		"receipt": d.receipt, "receipt_verifies": s.receiptOK,
	}
	if d.u.json || !terminal(d.u.out) {
		if err := d.u.print(result); err != nil {
			return err
		}
	} else {
		receipt, _ := json.MarshalIndent(d.receipt, "  ", "  ")
		fmt.Fprintf(d.u.out, "%d payments for %d %s of %s, %v in all; half of them took less than %.1f ms\n", d.payments, d.units, d.item.Unit, d.source, d.paid, p50)
		fmt.Fprintf(d.u.out, "closed by %v\n", s.txid)
		fmt.Fprintf(d.u.out, "read back from the chain: seller %d sat, buyer %d sat, fees %d sat; together %d sat, as at the start: %v\n", s.seller, s.buyer, s.fees, s.seller+s.buyer+s.fees, s.conserved)
		fmt.Fprintf(d.u.out, "the last receipt, which anybody can check offline:\n  %s\n", receipt)
	}
	if !s.conserved {
		return &coinop.Error{Kind: coinop.Broken, Op: "demo", Err: fmt.Errorf("seller %d, buyer %d and fees %d sat do not add up to %d, or the seller did not get the %v it was paid", s.seller, s.buyer, s.fees, demoFunds, d.paid)}
	}
	return nil
}
