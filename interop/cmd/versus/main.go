// Versus measures payments over Lightning nodes of different make, side by
// side, on one machine: nodes in a row on loopback, each a process, with the
// durability their makers ship.
//
//	cd interop && go run ./cmd/versus --hops 1,2 --in-flight 1,10,50,483
//
// Every case runs on the same network after the one before, as in life; the
// first one also pays for what is cold. Compare only runs whose other-cores
// column is near 0.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"coinop.dev/core/money"
)

type options struct {
	who      []string
	hops     []int
	inFlight []int
	amounts  []money.Amount
	payments int
	syncs    bool
	json     bool
	args     []string
	patience time.Duration
}

// payments that a case makes when --payments does not say: enough for a p99,
// in seconds rather than minutes.
func (o options) count(inFlight int) int {
	if o.payments > 0 {
		return o.payments
	}
	return min(100+8*inFlight, 1500)
}

const (
	warmUp      = 20          // payments before the first case
	capacitySat = 100_000_000 // of each channel
	syncCount   = 50          // payments under strace, at least the case's in-flight
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == childFlag {
		if err := serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "versus:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		ctx, cancel := context.WithTimeout(ctx, o.patience)
		defer cancel()
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "versus:", err)
		os.Exit(1)
	}
}

func parse(args []string, out io.Writer) (o options, err error) {
	f := flag.NewFlagSet("versus", flag.ContinueOnError)
	f.SetOutput(out)
	who := f.String("who", "lnd,coinop", "implementations, with commas: "+strings.Join(names(), ", "))
	hops := f.String("hops", "1,2", "channels between payer and payee, with commas: 1, 2")
	inFlight := f.String("in-flight", "1,10,50", "payments at a time, with commas; 483 is a channel's limit")
	amounts := f.String("amounts", "1000sat,10sat", "amounts, with commas; below 354 sat an HTLC is dust and not in the commitment")
	f.IntVar(&o.payments, "payments", 0, "payments of each case (default 100 + 8 for each in flight, at most 1500)")
	f.BoolVar(&o.syncs, "syncs", false, "count fsync and fdatasync too, in a second, slow pass under strace")
	f.BoolVar(&o.json, "json", false, "print JSON, one result a line")
	lndArgs := f.String("lnd-args", "", "more flags for lnd, with spaces, such as --db.backend=sqlite")
	f.DurationVar(&o.patience, "patience", 20*time.Minute, "when to give up; building lnd the first time takes minutes")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.who, o.args = strings.Split(*who, ","), strings.Fields(*lndArgs)
	for _, name := range o.who {
		if implementations[name] == nil {
			return o, fmt.Errorf("--who: %q is unknown; there are %s", name, strings.Join(names(), ", "))
		}
	}
	number := func(low, high int) func(string) (int, error) {
		return func(text string) (int, error) {
			n, err := strconv.Atoi(text)
			if err != nil || n < low || n > high {
				return 0, fmt.Errorf("%q is not a number from %d to %d", text, low, high)
			}
			return n, nil
		}
	}
	var faults [3]error
	o.hops, faults[0] = list("--hops", *hops, number(1, 2))
	o.inFlight, faults[1] = list("--in-flight", *inFlight, number(1, 10_000))
	o.amounts, faults[2] = list("--amounts", *amounts, money.ParseAmount)
	return o, errors.Join(faults[:]...)
}

func list[T any](flag, text string, read func(string) (T, error)) (all []T, err error) {
	for part := range strings.SplitSeq(text, ",") {
		v, err := read(part)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		all = append(all, v)
	}
	return all, nil
}

func names() (all []string) {
	for name := range implementations {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func run(ctx context.Context, o options, out io.Writer) error {
	t := newTable(out)
	if o.json {
		t = nil
	}
	for _, who := range o.who {
		for _, hops := range o.hops {
			if err := runNetwork(ctx, o, who, hops, out, t); err != nil {
				return fmt.Errorf("%s over %d channels: %w", who, hops, err)
			}
		}
	}
	return nil
}

func runNetwork(ctx context.Context, o options, who string, hops int, out io.Writer, t *table) error {
	home, err := os.MkdirTemp("", "coinop-versus-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	n, err := implementations[who](ctx, Setup{Hops: hops, CapacitySat: capacitySat, Home: home, Args: o.args})
	if err != nil {
		return err
	}
	defer n.Stop()
	if _, err := measure(ctx, n, Case{hops, 1, o.amounts[0], warmUp}); err != nil {
		return err
	}
	for _, amount := range o.amounts {
		for _, inFlight := range o.inFlight {
			c := Case{hops, inFlight, amount, o.count(inFlight)}
			r, err := measure(ctx, n, c)
			if err != nil {
				return err
			}
			r.Who = who
			if o.syncs {
				c.Payments = max(syncCount, inFlight)
				if err := countSyncs(ctx, n, c, &r); err != nil {
					return err
				}
			}
			if t == nil {
				err = json.NewEncoder(out).Encode(r)
			} else {
				err = t.add(r)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// A table prints one result a line as it comes.
type table struct{ w io.Writer }

const row = "%-18v %4v %9v %9v %6v %6v %8v %8v %8v %7v %9v %9v %7v %7v  %v\n"

func newTable(out io.Writer) *table {
	t := &table{out}
	fmt.Fprintf(t.w, row, "version", "hops", "in flight", "amount", "paid", "failed", "pay/s", "p50 ms", "p99 ms", "CPU ms", "disk kB", "write kB", "syncs", "others", "RSS MB of each node")
	return t
}

func (t *table) add(r Result) error {
	syncs := "-"
	if r.Syncs >= 0 {
		syncs = fmt.Sprintf("%.1f", r.Syncs)
	}
	var rss []string
	for _, n := range r.Nodes {
		rss = append(rss, fmt.Sprint(n.RSS>>20))
	}
	one := func(v float64) string { return fmt.Sprintf("%.1f", v) }
	_, err := fmt.Fprintf(t.w, row, r.Version, r.Hops, r.InFlight, r.Amount, r.Payments-r.Failed, r.Failed, one(r.PerSecond), one(r.P50), one(r.P99),
		one(r.CPU), one(r.Disk/1000), one(r.Written/1000), syncs, fmt.Sprintf("%.2f", r.OtherCores), strings.Join(rss, " "))
	if err == nil && r.Failed > 0 {
		_, err = fmt.Fprintf(t.w, "  the first of %d failures: %s\n", r.Failed, r.Why)
	}
	return err
}
