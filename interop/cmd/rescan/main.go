// Rescan measures light clients of different make, side by side, on one machine:
// each a process that follows a chain from its first block, over loopback, by
// compact filters (BIP 157), and finds the coins of a wallet in it.
//
//	cd interop && go run ./cmd/rescan
//	cd interop && go run ./cmd/rescan --runs 3 --json
//
// The chain is made anew, by our node in a process of its own, and is the same
// for all; what a client says is checked against what was put there. The bytes
// are counted on the way. Compare only runs whose other-cores column is near 0.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

type options struct {
	Shape
	who      []string
	runs     int
	uri      string
	json     bool
	patience time.Duration
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == childFlag {
		if err := serveChild(os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "rescan:", err)
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
		fmt.Fprintln(os.Stderr, "rescan:", err)
		os.Exit(1)
	}
}

func parse(args []string, out io.Writer) (o options, err error) {
	f := flag.NewFlagSet("rescan", flag.ContinueOnError)
	f.SetOutput(out)
	who := f.String("who", "neutrino,coinop", "clients, with commas")
	f.IntVar(&o.Blocks, "blocks", 10_000, "length of the chain; our node keeps at most 10,000")
	f.IntVar(&o.Lanes, "txs", 20, "transactions of a block, beside the coinbase")
	f.IntVar(&o.Scripts, "scripts", 20, "scripts to look for, of which some have nothing")
	f.IntVar(&o.Matches, "matches", 50, "blocks that pay one of them or spend from it")
	f.IntVar(&o.runs, "runs", 1, "times that every client does it, in turns")
	f.StringVar(&o.uri, "uri", "p2p://%s", "chain that coinop opens; %s is the server and %h an empty folder")
	f.BoolVar(&o.json, "json", false, "print JSON, one result a line")
	f.DurationVar(&o.patience, "patience", 10*time.Minute, "when to give up")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.who = strings.Split(*who, ",")
	for _, name := range o.who {
		if clients[name] == nil {
			return o, fmt.Errorf("--who: %q is unknown; there are coinop and neutrino", name)
		}
	}
	if min(o.Blocks, o.Lanes, o.Scripts, o.runs) < 1 || o.Matches < 0 {
		return o, errors.New("--blocks, --txs, --scripts and --runs must be above 0")
	}
	return o, nil
}

func run(ctx context.Context, o options, out io.Writer) error {
	s, err := startChild(ctx, server, o.Shape)
	if err != nil {
		return err
	}
	defer s.stop()
	made, err := s.hear()
	if err != nil {
		return fmt.Errorf("make the chain: %w", errors.Join(ctx.Err(), err))
	}
	if !o.json {
		fmt.Fprintf(out, "%d blocks of %d transactions, made in %.1f s; %d scripts, %d blocks that matter, %d coins\n\n",
			made.Height, o.Lanes, made.Seconds, o.Scripts, o.Matches, len(made.Coins))
		printHead(out)
	}
	results := map[string][]Result{}
	for range o.runs {
		for _, who := range o.who {
			r, err := measure(ctx, who, o.uri, s, made)
			if err != nil {
				return fmt.Errorf("%s: %w", who, err)
			}
			r.Shape = o.Shape
			results[who] = append(results[who], r)
			if o.json {
				err = json.NewEncoder(out).Encode(r)
			} else {
				err = r.print(out)
			}
			if err != nil {
				return err
			}
		}
	}
	if !o.json {
		fmt.Fprintln(out)
		for _, who := range o.who {
			if err := results[who][0].printMessages(out); err != nil {
				return err
			}
		}
	}
	ours, theirs := results["coinop"], results["neutrino"]
	if len(ours) == 0 || len(theirs) == 0 {
		return nil
	}
	return compare(median(ours), median(theirs)).print(out, o.json)
}

// median takes every figure by itself.
func median(all []Result) (m Result) {
	m = all[0]
	of := func(figure func(Result) float64) float64 {
		var values []float64
		for _, r := range all {
			values = append(values, figure(r))
		}
		slices.SortFunc(values, cmp.Compare[float64])
		return values[len(values)/2]
	}
	m.Seconds = of(func(r Result) float64 { return r.Seconds })
	m.CPU = of(func(r Result) float64 { return r.CPU })
	m.Peak = int64(of(func(r Result) float64 { return float64(r.Peak) }))
	m.In = int64(of(func(r Result) float64 { return float64(r.In) }))
	m.Out = int64(of(func(r Result) float64 { return float64(r.Out) }))
	m.ServerCPU = of(func(r Result) float64 { return r.ServerCPU })
	return m
}
