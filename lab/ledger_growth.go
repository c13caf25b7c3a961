package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"coinop.dev/core/money"
)

const (
	// growAccounts is how many accounts a ledger that grows has: their number stays.
	growAccounts = 20_000
	// growChunk is how many transfers are signed at once, and growWindow how many
	// blocks may be on their way into the ledger.
	growChunk  = 1000
	growWindow = 4 * growChunk
	// growSlice is after how many blocks a process says how far it is.
	growSlice = 50_000
)

// A LedgerGrowth is what a block costs one node that has so many already.
type LedgerGrowth struct {
	Rail       string   `json:"rail"`
	Blocks     uint64   `json:"blocks"`           // in the ledger
	Measured   uint64   `json:"measured"`         // the last so many of them
	PerS       *float64 `json:"blocks_per_s"`     // signing them included, on the other processor
	CPUUs      *float64 `json:"cpu_us_per_block"` // signing included
	DiskBytes  *float64 `json:"disk_bytes_per_block"`
	RSSMiB     *float64 `json:"rss_mib"` // with the keys and frontiers of all accounts
	StoreMiB   *float64 `json:"store_mib"`
	BytesBlock *float64 `json:"store_bytes_per_block"`
}

// GrowLedger fills the ledger of one node, which alone decides, up to each of some
// numbers of blocks, and says what the last of them cost.
func GrowLedger(ctx context.Context, o LedgerOptions, sizes []int, progress func(uint64), each func(LedgerGrowth) error) error {
	o.Nodes, o.Accounts = 1, growAccounts
	if o.Rail != railNano {
		return &money.Error{Kind: money.Invalid, Op: "lab", Err: fmt.Errorf("rail %.20q does not grow this way; %s does", o.Rail, railNano)}
	}
	if len(sizes) == 0 || sizes[0] < 5*growAccounts {
		return &money.Error{Kind: money.Invalid, Op: "lab", Err: fmt.Errorf("a ledger of %d accounts has more blocks than that at first; begin with %d", growAccounts, 5*growAccounts)}
	}
	if err := o.Check(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.Dir, "coinop-lab-")
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer os.RemoveAll(dir)
	l := &ledgerBench{LedgerOptions: o, dir: dir}
	defer l.stop()
	c, err := start("node", o.Command)
	if err != nil {
		return err
	}
	l.nodes = append(l.nodes, c)
	net := newLatticeNetwork(LedgerOptions{Nodes: 1, Accounts: 1})
	t := net.task(0)
	t.Rail, t.Listen, t.Profile = o.Rail, "127.0.0.1:0", o.Profile
	t.Store = l.storeURI(0)
	if _, err := c.ask(ctx, question{Do: "ledger open", Ledger: &t}); err != nil {
		return err
	}
	var have uint64
	for _, size := range sizes {
		// The last tenth is measured: caches are full by then.
		for _, upTo := range []uint64{uint64(size) - uint64(size)/10, uint64(size)} {
			before, err := l.count(ctx, false)
			if err != nil {
				return err
			}
			a, err := c.follow(ctx, question{Do: "ledger grow", Ledger: &ledgerTask{Rail: o.Rail, UpTo: upTo}}, progress)
			if err != nil {
				return err
			}
			after, err := l.count(ctx, false)
			if err != nil {
				return err
			}
			n := float64(a.Ledger.Final - have)
			measured := a.Ledger.Final - have
			have = a.Ledger.Final
			if upTo != uint64(size) {
				continue
			}
			s := stages{idle: before, before: before, after: after, rested: after}
			e := s.end("node", 0, n)
			g := LedgerGrowth{Rail: o.Rail, Blocks: have, Measured: measured, PerS: figure(n / a.Ledger.Took.Seconds()), CPUUs: scaled(e.CPUMs, 1000), DiskBytes: e.DiskBytes, RSSMiB: e.RSSMiB, StoreMiB: scaled(l.size(), 1.0/(1<<20))}
			if bytes := l.size(); bytes != nil {
				g.BytesBlock = figure(*bytes / float64(have))
			}
			if err := each(g); err != nil {
				return err
			}
		}
	}
	return nil
}

// ledgerGrow makes and submits transfers until the ledger has so many blocks.
func (e *end) ledgerGrow(ctx context.Context, t *ledgerTask) (*ledgerNews, error) {
	if e.grower == nil {
		e.grower = newLatticeNetwork(LedgerOptions{Nodes: 1, Accounts: growAccounts})
		e.growing = e.grower.growth()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := e.finals
	began, told := time.Now(), uint64(0)
	moved, last := time.Now(), uint64(0)
	for f.total() < t.UpTo {
		for _, u := range <-e.growing {
			if err := e.ledger.submit(ctx, u.raw); err != nil {
				return nil, err
			}
			e.grown++
		}
		for e.grown > f.total()+growWindow {
			time.Sleep(time.Millisecond)
			if now := f.total(); now != last {
				last, moved = now, time.Now()
			} else if time.Since(moved) > ledgerPatience {
				return nil, errors.New("the ledger does not take any more blocks: " + e.ledger.state())
			}
		}
		if n := f.total(); n >= told+growSlice {
			told = n
			e.out.Encode(answer{Done: n})
		}
	}
	return &ledgerNews{Took: time.Since(began), Final: f.total()}, nil
}

func (f *finals) total() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// growth signs transfers in the background, a few chunks ahead.
func (l *latticeNetwork) growth() <-chan []unit {
	chunks := make(chan []unit, 2)
	go func() {
		for _, round := range l.setup() {
			chunks <- round
		}
		for {
			chunks <- l.transfers(growChunk)
			l.deeds = nil // nobody compares them
		}
	}()
	return chunks
}

// WriteLedgerGrowth prints growth for a person.
func WriteLedgerGrowth(w io.Writer, all []LedgerGrowth) {
	fmt.Fprintf(w, "%-5s %10s %9s %12s %12s %9s %10s %12s\n", "rail", "blocks", "blocks/s", "CPU us/block", "disk B/block", "RSS MiB", "store MiB", "store B/block")
	for _, g := range all {
		show := func(v *float64) string {
			if v == nil {
				return "-"
			}
			return fmt.Sprintf("%.0f", *v)
		}
		fmt.Fprintf(w, "%-5s %10d %9s %12s %12s %9s %10s %12s\n", g.Rail, g.Blocks, show(g.PerS), show(g.CPUUs), show(g.DiskBytes), show(g.RSSMiB), show(g.StoreMiB), show(g.BytesBlock))
	}
}
