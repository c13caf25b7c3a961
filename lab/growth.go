package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"coinop.dev/core/money"
)

// A Growth is what payments cost after so many others, all of them really made
// over the same channel.
type Growth struct {
	Past  int          `json:"past"`
	Pps   *float64     `json:"pps"`
	P50Ms *float64     `json:"p50_ms"`
	CPUMs *float64     `json:"cpu_ms_per_payment"`
	Ends  []AfterPasts `json:"ends"`
}

// AfterPasts is how an end stands after so many payments.
type AfterPasts struct {
	Name string `json:"name"`
	// RSSMiB and, without the pages of the program's file, PrivateMiB are at
	// rest, with all garbage collected, before the end is started again. Its
	// process has seen the payments since the last time.
	RSSMiB     *float64 `json:"rss_mib"`
	PrivateMiB *float64 `json:"private_mib"`
	// DiskBytes is its folder while it does not run, and DiskGrowth how much that
	// grew for each payment since the Growth before.
	DiskBytes  int64    `json:"disk_bytes"`
	DiskGrowth *float64 `json:"disk_growth_per_payment"`
	// StartMs is from starting its process until its channel takes payments, or
	// until it listens if it is the payee.
	StartMs *float64 `json:"start_ms"`
}

// Grow measures after each number of past payments, given in rising order;
// Payments of the options are measured after each, over the connections of ends
// that were just started again. heard gets each result when it is there.
func Grow(ctx context.Context, o Options, pasts []int, progress func(done uint64), heard func(Growth) error) error {
	each, last := o.Payments, 0
	for _, past := range pasts {
		if past <= last+each {
			return &money.Error{Kind: money.Invalid, Op: "lab", Err: fmt.Errorf("%d past payments; %d and %d measured ones are over by then", past, last, each)}
		}
		last = past
	}
	if o.Store == "mem" {
		return &money.Error{Kind: money.Invalid, Op: "lab", Err: errors.New("store mem forgets everything when an end is started again")}
	}
	o.Orders = true          // what went through a meter is not on the books of an end that starts again
	o.Payments = last + each // for the channel's capacity
	return o.bench(ctx, func(ctx context.Context, b *bench) error {
		var before *Growth
		for _, past := range pasts {
			done := b.paid
			if _, err := b.pay(ctx, past-int(done), func(n uint64) { progress(done + n) }); err != nil {
				return fmt.Errorf("pay: %w", err)
			}
			g, err := b.grown(ctx, before, past, each)
			if err != nil {
				return fmt.Errorf("after %d payments: %w", past, err)
			}
			before = &g
			if err := heard(g); err != nil {
				return err
			}
		}
		r := Result{Ends: make([]EndResult, len(b.ends))}
		if err := b.close(ctx, &r); err != nil {
			return fmt.Errorf("close the rail: %w", err)
		}
		if !r.Conserved {
			return errors.New("the books and the chain do not agree")
		}
		return nil
	})
}

// grown looks at the ends, starts them again, and measures some payments.
func (b *bench) grown(ctx context.Context, before *Growth, past, payments int) (g Growth, err error) {
	g = Growth{Past: past, Ends: make([]AfterPasts, len(b.ends))}
	if _, err := b.settled(ctx); err != nil {
		return g, err
	}
	rested, err := b.count(ctx, true)
	if err != nil {
		return g, err
	}
	b.stop()
	for i, p := range b.ends {
		e := &g.Ends[i]
		e.Name = p.name
		e.RSSMiB, e.PrivateMiB = mib(rested[i].RSS), mib(rested[i].Private)
		if e.DiskBytes, err = size(b.file(p, "")); err != nil {
			return g, err
		}
		if before != nil {
			e.DiskGrowth = figure(float64(e.DiskBytes-before.Ends[i].DiskBytes) / float64(past-before.Past))
		}
	}
	if err := b.again(ctx, &g); err != nil {
		return g, err
	}
	at := stages{}
	if at.before, err = b.count(ctx, false); err != nil {
		return g, err
	}
	paid, err := b.pay(ctx, payments, func(uint64) {})
	if err != nil {
		return g, err
	}
	if at.after, err = b.count(ctx, false); err != nil {
		return g, err
	}
	n := float64(payments)
	g.Pps, g.P50Ms, g.CPUMs = figure(n/paid.Took.Seconds()), figure(paid.P50.Seconds()*1e3), figure(0)
	for i := range b.ends {
		g.CPUMs = sum(g.CPUMs, scaled(difference(at.after[i].cpu(), at.before[i].cpu()), 1e-3/n))
	}
	return g, nil
}

// again starts all ends with what they have on disk.
func (b *bench) again(ctx context.Context, g *Growth) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	echo := ""
	for i := len(b.ends) - 1; i >= 0; i-- {
		p, begin := b.ends[i], time.Now()
		if err := b.boot(ctx, p); err != nil {
			return err
		}
		p.joined.Echo = echo
		a, err := p.ask(ctx, p.joined)
		if err != nil {
			return err
		}
		if i == len(b.ends)-1 {
			echo = a.Echo
		}
		g.Ends[i].StartMs = figure(time.Since(begin).Seconds() * 1e3)
	}
	return nil
}

// size is the bytes of all files of a folder, or of a file.
func size(path string) (sum int64, err error) {
	err = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// Decades are the powers of ten between from and to.
func Decades(from, to int) (pasts []int) {
	for n := from; n <= to && n > 0; n *= 10 {
		pasts = append(pasts, n)
		if n > math.MaxInt/10 {
			break
		}
	}
	return pasts
}

// WriteGrowth prints what grew for people, a column for each number of past
// payments.
func WriteGrowth(w io.Writer, all []Growth) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(name, format string, of func(*Growth) *float64) {
		fmt.Fprint(t, name)
		for i := range all {
			fmt.Fprint(t, "\t", text(of(&all[i]), format))
		}
		fmt.Fprintln(t, "\t")
	}
	line("past payments", "%.0f", func(g *Growth) *float64 { return figure(float64(g.Past)) })
	line("payments/s", "%.0f", func(g *Growth) *float64 { return g.Pps })
	line("p50 ms", "%.3f", func(g *Growth) *float64 { return g.P50Ms })
	line("CPU ms, all ends", "%.4f", func(g *Growth) *float64 { return g.CPUMs })
	if len(all) > 0 {
		for i, e := range all[0].Ends {
			line(e.Name+": RSS MiB (rested)", "%.1f", func(g *Growth) *float64 { return g.Ends[i].RSSMiB })
			line(e.Name+": private MiB (rested)", "%.1f", func(g *Growth) *float64 { return g.Ends[i].PrivateMiB })
			line(e.Name+": disk MiB", "%.2f", func(g *Growth) *float64 { return figure(float64(g.Ends[i].DiskBytes) / (1 << 20)) })
			line(e.Name+": disk bytes a payment", "%.1f", func(g *Growth) *float64 { return g.Ends[i].DiskGrowth })
			line(e.Name+": start ms", "%.0f", func(g *Growth) *float64 { return g.Ends[i].StartMs })
		}
	}
	t.Flush()
}
