//go:build !omit_demo

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"coinop.dev"
	"github.com/spf13/cobra"

	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/trade"
	"coinop.dev/rail/bitcoinrail"
	"coinop.dev/rail/lnrail"
	"coinop.dev/world/chain"
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
		trade.Item{Name: "reading", Unit: "readings", Price: 10 * money.Sat}, "this computer",
		func(float64) uint64 { return 1 }, 50,
	},
	"charger": {
		trade.Item{Name: "energy", Unit: "mWh", Price: 500 * money.Msat}, "a simulated meter",
		func(perSecond float64) uint64 { return max(1, uint64(7_400_000/3600/perSecond)) }, 20,
	},
}

const (
	demoFunds    = 10_000_000 // satoshi the faucet gives a machine that pays
	demoCapacity = 5_000_000 * money.Sat
	demoCredit   = 4000 * money.Sat // of the hash-chain rail, between settlements
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
	chain          string
	length         time.Duration
	rate           float64
	noBrowser      bool
	listen         string
}

// demoChains are the ways in which a machine may see the chain in the box.
var demoChains = []string{"regtest", "p2p", "spv"}

func demoCommand(u *ui) *cobra.Command {
	o := demoOptions{}
	c := &cobra.Command{
		Use: "demo", Short: "Watch one machine pay another, and settle on a Bitcoin chain or a ledger", Args: noArgs,
		Long: "Two machines, each with its own key and store, over TCP, and a Bitcoin regtest chain in the box.\n" +
			"The buyer pays for every reading of this computer, or for energy from a simulated meter. At the end the\n" +
			"channel is closed, the closing transaction mined, and the balances are read back from the chain.\n" +
			"Over lightning there are three: a car pays a charger through a router, which can be made to cheat.\n" +
			"Over bitcoin a meter that sees no chain pays through a gateway that has no keys, and can be made to lie.\n" +
			"Over nano and iota there is no chain: four nodes keep a ledger, and can be killed, parted and paid with the same\n" +
			"money twice. At the end the balances are read back from every node.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.scenario == "" {
				o.scenario = "sensor"
				if o.rail == lnrail.Scheme || o.rail == bitcoinrail.Scheme {
					o.scenario = "charger"
				}
			}
			if _, ok := scenarios[o.scenario]; !ok {
				return usage{fmt.Errorf("no scenario is called %q; there is sensor and charger", o.scenario)}
			}
			if courses()[o.rail] == nil {
				return usage{fmt.Errorf("the demo runs on %s, not on %q", strings.Join(slices.Sorted(maps.Keys(courses())), ", "), o.rail)}
			}
			if o.rail == bitcoinrail.Scheme && o.scenario != "charger" {
				return usage{fmt.Errorf("a reading is %v, which is dust on the chain; over bitcoin there is only the charger", scenarios["sensor"].item.Price)}
			}
			if o.rate < 0 || o.rate > 5000 {
				return usage{fmt.Errorf("rate is %v; it must be 0 (the scenario's own) to 5000 payments a second", o.rate)}
			}
			if !slices.Contains(demoChains, o.chain) {
				return usage{fmt.Errorf("the machines see the chain by %s, not by %q", strings.Join(demoChains, ", "), o.chain)}
			}
			return newDemo(u, o).run(cmd.Context())
		},
	}
	c.Flags().StringVar(&o.scenario, "scenario", "", "what is sold: sensor, charger (default sensor; over lightning and bitcoin, charger)")
	c.Flags().StringVar(&o.rail, "rail", "oneway", "how it is paid: "+strings.Join(slices.Sorted(maps.Keys(courses())), ", "))
	c.Flags().StringVar(&o.chain, "chain", demoChains[0], "how each machine sees the chain: regtest (as the node itself), p2p or spv (a light client of its own)")
	c.Flags().DurationVar(&o.length, "for", 0, "how long to pay, such as 20s; 0 until Ctrl-C")
	c.Flags().Float64Var(&o.rate, "rate", 0, "payments a second; 0 for the scenario's own")
	c.Flags().BoolVar(&o.noBrowser, "no-browser", false, "do not open the page in a browser")
	c.Flags().StringVar(&o.listen, "http", demoPage, "address of the page, on loopback")
	return c
}

// A course is what is different from rail to rail: what the money is on, which
// machines there are, what is opened between them, and how it ends.
type course interface {
	// ground opens what the money is on, a chain or the nodes of a ledger, and
	// clear closes it.
	ground(ctx context.Context) error
	clear()
	// sees is the view of a chain that a machine has, open or by its URI.
	sees(m *demoMachine) (source chain.Source, uri string)
	// beat is called every demoBlock while it is paid.
	beat()
	// open starts the machines and opens their channels.
	open(ctx context.Context) error
	// started is told of a machine that runs, for the first time or again.
	started(ctx context.Context, m *demoMachine, s *station) error
	// look asks the machines, and the chain or the nodes, how things are.
	look(ctx context.Context)
	// show puts what look has found onto the page. It is called with d.mu held.
	show(p *page.State)
	// cut takes the links down that the button is for, or mends them. It is
	// called with d.mu held, and all machines run.
	cut(down bool)
	// heal undoes what other buttons did, so that the demo can end.
	heal()
	actions() map[string]func(context.Context) error
	// spent reports whether there is nothing left to pay with.
	spent(err error) bool
	// settle closes what is open, and reads the balances back.
	settle(ctx context.Context) (*settlement, error)
}

// courses are the demo's by their rail.
func courses() map[string]func(*demo) course {
	all := maps.Clone(chainCourses)
	maps.Copy(all, ledgerCourses)
	return all
}

var chainCourses = map[string]func(*demo) course{
	"oneway":           func(d *demo) course { return &pair{chained: chained{demo: d, funds: demoFunds}} },
	"payword":          func(d *demo) course { return &pair{chained: chained{demo: d, funds: demoFunds}} },
	lnrail.Scheme:      func(d *demo) course { return &relay{chained: chained{demo: d, funds: relayFunds + relayRouterFunds}} },
	bitcoinrail.Scheme: newCustody,
}

// demo is the running demonstration.
type demo struct {
	demoOptions
	scenario
	course
	u      *ui
	dir    string
	hub    *page.Hub
	begin  time.Time
	window time.Duration // that the rate is taken over
	most   int           // orders at a time
	drain  time.Duration // what is under way at the end may take so long
	level  slog.Level    // from which on machines log

	mu            sync.Mutex
	buyer, seller demoMachine
	machines      []*demoMachine // buyer, who is in between, seller
	sellerKey     keys.Public
	phase         page.Phase
	linkDown      bool
	paused        bool // by a fault that wants nothing in flight
	flying        int  // purchases under way
	began, ended  time.Time
	payments      uint64
	units         uint64
	paid          money.Amount
	inFlight      money.Amount
	latencies     []float64 // milliseconds, the newest maxLatencies
	rates         []tick
	readings      []page.Reading
	events        []page.Event
	receipt       money.Receipt
	closed        *settlement
}

type demoMachine struct {
	name    string
	config  Config
	blind   bool     // it has no view of the chain
	station *station // nil while it is killed
	end     func()   // ends what its purse has under way
	state   page.Life
	kills   int
	onchain int64        // satoshi
	holds   money.Amount // by what the nodes of a ledger say
}

// newMachine is one that is not started yet.
func (d *demo) newMachine(name string, rails ...string) demoMachine {
	return demoMachine{name: name, config: Config{Config: coinop.Config{Name: name, Data: filepath.Join(d.dir, name), Rails: rails}}}
}

// sells makes a machine the demo's seller.
func (d *demo) sells(m *demoMachine) {
	m.config.Sell = append(m.config.Sell, coinop.Service{Item: d.item.Name, Unit: d.item.Unit, Price: coinop.Price{Amount: d.item.Price}, From: d.demoOptions.scenario})
}

type tick struct {
	at       time.Time
	payments uint64
}

const maxLatencies = 4096

// settlement is what was read back at the end.
type settlement struct {
	conserved bool
	receiptOK bool
	more      map[string]any // for the report
	words     []string       // the same for a person
	wrong     string         // what to say if it is not conserved
}

func newDemo(u *ui, o demoOptions) *demo {
	o.chain = cmp.Or(o.chain, demoChains[0])
	d := &demo{demoOptions: o, scenario: scenarios[o.scenario], u: u, hub: page.NewHub(), begin: time.Now(), phase: page.Opening, window: time.Second, most: demoInFlight, drain: demoDrain, level: slog.LevelWarn}
	d.course = courses()[o.rail](d)
	if d.rate == 0 {
		d.rate = d.usual
		if o.rail == lnrail.Scheme {
			d.rate = relayRate
		}
	}
	return d
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "coinop-demo-"); err != nil {
		return fmt.Errorf("a place for the demo's stores: %w", err)
	}
	defer os.RemoveAll(d.dir)
	// The machines live until the settlement is over: Ctrl-C ends the paying,
	// not them.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	closePage, err := d.servePage(life)
	if err != nil {
		return err
	}
	defer closePage()
	defer d.clear()
	defer d.stop()
	opening, opened := context.WithTimeout(life, demoOpen)
	if err = d.ground(opening); err == nil {
		err = d.open(opening)
	}
	opened()
	if err != nil {
		return err
	}
	d.setPhase(page.Paying)
	paying, done := ctx, context.CancelFunc(func() {})
	if d.length > 0 {
		paying, done = context.WithTimeout(ctx, d.length)
	}
	defer done()
	watching, stopWatching := context.WithCancel(life)
	defer stopWatching()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		d.watch(watching)
	}()
	err = d.pay(paying, life)
	stopWatching()
	<-watched // what it saw last must not come after what is settled
	if err != nil {
		return err
	}
	d.setPhase(page.Closing)
	if err := d.close(life); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	d.setPhase(page.Settled)
	return d.report()
}

func (d *demo) start(m *demoMachine) error {
	ctx := context.Background()
	source, uri := d.sees(m)
	m.config.Chain = uri
	s, err := openStation(ctx, m.config, source, d.u.logAt(m.name, d.level))
	if err != nil {
		return err
	}
	// A purse pays within the context that its rails were opened in.
	life, end := context.WithCancel(ctx)
	late := time.AfterFunc(demoOpen, end)
	err = s.OpenRails(life)
	if err == nil {
		err = d.started(life, m, s)
	}
	if !late.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		end()
		s.Close()
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	m.station, m.end, m.state = s, end, page.Running
	return nil
}

// stop ends all machines.
func (d *demo) stop() {
	for _, m := range d.machines {
		if m.station != nil {
			m.end()
			m.station.Close()
		}
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
	d.heal()
}

// close settles as soon as all machines are there.
func (d *demo) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoClose)
	defer cancel()
	for d.isDown() { // a killed machine is on its way back
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s, err := d.settle(ctx)
	if err != nil {
		return err
	}
	s.receiptOK = d.payments == 0 || d.buyer.station.Purse.Verify(d.receipt) == nil
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = s
	return nil
}

func (d *demo) isDown() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.down()
}

// down is isDown with d.mu held.
func (d *demo) down() bool {
	return slices.ContainsFunc(d.machines, func(m *demoMachine) bool { return m.station == nil })
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
	opening := d.phase == page.Opening
	d.mu.Unlock()
	if opening { // nothing watches yet
		d.hub.Publish(d.picture())
	}
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
		"delivered_units": d.units, "unit": d.item.Unit, "conserved": s.conserved,
		"pps": float64(d.payments) / max(d.ended.Sub(d.began).Seconds(), 0.001), "p50_ms": p50, "p99_ms": p99, "seconds": time.Since(d.begin).Seconds(),
		"receipt": d.receipt, "receipt_verifies": s.receiptOK,
	}
	maps.Copy(result, s.more)
	if d.u.json || !terminal(d.u.out) {
		if err := d.u.print(result); err != nil {
			return err
		}
	} else {
		d.tell(p50)
	}
	if !s.conserved {
		return &money.Error{Kind: money.Broken, Op: "demo", Err: errors.New(s.wrong)}
	}
	return nil
}

// tell is the report for a person.
func (d *demo) tell(p50 float64) {
	s, out := d.closed, d.u.out
	receipt, _ := json.MarshalIndent(d.receipt, "  ", "  ")
	fmt.Fprintf(out, "%d payments for %d %s of %s, %v in all; half of them took less than %.1f ms\n", d.payments, d.units, d.item.Unit, d.source, d.paid, p50)
	for _, line := range s.words {
		fmt.Fprintln(out, line)
	}
	fmt.Fprintf(out, "the last receipt, which anybody can check offline:\n  %s\n", receipt)
}
