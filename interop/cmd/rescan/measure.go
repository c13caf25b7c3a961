package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"coinop.dev/interop/peers"
)

// A Result is what one client took for the whole of it, from the start of its
// process to the last coin.
type Result struct {
	Who string `json:"who"`
	Shape
	Seconds     float64 `json:"seconds"`
	SyncSeconds float64 `json:"sync_seconds"` // of those, until it had the headers; all that the client can tell apart
	CPU         float64 `json:"cpu_seconds"`
	Peak        int64   `json:"peak_rss_bytes"`
	In          int64   `json:"bytes_in"` // from the server, without TCP's own
	Out         int64   `json:"bytes_out"`
	SyncIn      int64   `json:"sync_bytes_in"`
	Dials       int64   `json:"connections"`
	ServerCPU   float64 `json:"server_cpu_seconds"`
	OtherCores  float64 `json:"other_cores"` // CPU that client, server and this program did not use

	Messages map[string]Kind `json:"messages"` // both ways
}

// measure has a client do the task once.
func measure(ctx context.Context, who, uri string, s *child, made report) (r Result, err error) {
	r.Who = who
	dir, err := home()
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	m, err := newMeter(ctx, made.Addr)
	if err != nil {
		return r, err
	}
	defer m.close()
	t := Task{
		Peer: m.addr(), URI: strings.NewReplacer("%s", m.addr(), "%h", dir).Replace(uri), Home: dir,
		Height: made.Height, Hash: made.Hash, Scripts: made.Scripts,
	}
	busy, self, server := busyCores(), peers.UsageOf(os.Getpid()), s.usage()
	began := time.Now()
	c, err := startChild(ctx, who, t)
	if err != nil {
		return r, err
	}
	defer c.stop()
	var said report
	for said.Stage != "done" {
		if said, err = c.hear(); err != nil {
			return r, fmt.Errorf("%w (messages so far: %v)", errors.Join(ctx.Err(), err), m.kinds.copy())
		}
		if said.Stage == "synced" {
			r.SyncSeconds, r.SyncIn = time.Since(began).Seconds(), m.in.Load()
		}
	}
	r.Seconds = time.Since(began).Seconds()
	used := c.usage()
	r.CPU, r.Peak = used.CPU.Seconds(), used.PeakBytes
	r.In, r.Out, r.Dials, r.Messages = m.in.Load(), m.out.Load(), m.dials.Load(), m.kinds.copy()
	r.ServerCPU = s.usage().Sub(server).CPU.Seconds()
	all := r.CPU + r.ServerCPU + peers.UsageOf(os.Getpid()).Sub(self).CPU.Seconds()
	r.OtherCores = max(0, (busyCores()-busy-all)/r.Seconds)
	if !slices.Equal(said.Coins, made.Coins) {
		return r, fmt.Errorf("found the coins %v; there are %v", said.Coins, made.Coins)
	}
	return r, nil
}

// busyCores is the seconds that all cores together have not been idle.
func busyCores() float64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	busy := 0.0
	for i, f := range strings.Fields(line) {
		// cpu user nice system idle iowait irq softirq steal guest guest_nice
		if v, err := strconv.ParseFloat(f, 64); err == nil && i >= 1 && i <= 8 && i != 4 && i != 5 {
			busy += v / 100
		}
	}
	return busy
}

const row = "%-10v %8v %8v %8v %9v %9v %9v %6v %9v %7v\n"

func printHead(out io.Writer) {
	fmt.Fprintf(out, row, "client", "s", "s sync", "s CPU", "MB peak", "kB in", "kB out", "dials", "s server", "others")
}

func (r Result) print(out io.Writer) error {
	two := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
	mb := strconv.FormatFloat(float64(r.Peak)/(1<<20), 'f', 1, 64)
	_, err := fmt.Fprintf(out, row, r.Who, two(r.Seconds), two(r.SyncSeconds), two(r.CPU), mb, r.In/1000, r.Out/1000, r.Dials, two(r.ServerCPU), two(r.OtherCores))
	return err
}

// printMessages says what a client's bytes were.
func (r Result) printMessages(out io.Writer) error {
	var text []string
	for _, command := range slices.Sorted(maps.Keys(r.Messages)) {
		k := r.Messages[command]
		text = append(text, fmt.Sprintf("%d %s %.1f kB", k.Count, command, float64(k.Bytes)/1000))
	}
	_, err := fmt.Fprintf(out, "%s: %s\n", r.Who, strings.Join(text, ", "))
	return err
}

// A Ratio is ours to theirs: below 1, ours is ahead.
type Ratio struct {
	Seconds float64 `json:"seconds_ratio"`
	CPU     float64 `json:"cpu_ratio"`
	Peak    float64 `json:"peak_rss_ratio"`
	Bytes   float64 `json:"bytes_ratio"` // both ways
}

func compare(ours, theirs Result) Ratio {
	return Ratio{
		Seconds: ours.Seconds / theirs.Seconds,
		CPU:     ours.CPU / theirs.CPU,
		Peak:    float64(ours.Peak) / float64(theirs.Peak),
		Bytes:   float64(ours.In+ours.Out) / float64(theirs.In+theirs.Out),
	}
}

func (r Ratio) print(out io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	_, err := fmt.Fprintf(out, "\ncoinop to neutrino: %.2f of the time, %.2f of the CPU, %.2f of the peak memory, %.2f of the bytes\n", r.Seconds, r.CPU, r.Peak, r.Bytes)
	return err
}
