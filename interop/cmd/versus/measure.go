package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/interop/peers"
)

// A Case is one load.
type Case struct {
	Hops     int          `json:"hops"`
	InFlight int          `json:"in_flight"`
	Amount   money.Amount `json:"amount_msat"`
	Payments int          `json:"payments"`
}

// A Result is what a load did. Figures per payment are sums over all nodes;
// Nodes has them apart.
type Result struct {
	Who     string `json:"who"`
	Version string `json:"version"`
	Case
	Failed     int     `json:"failed"`
	Why        string  `json:"why,omitempty"` // the first failure
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"payments_per_second"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	Max        float64 `json:"max_ms"`
	CPU        float64 `json:"cpu_ms_per_payment"`
	Disk       float64 `json:"disk_bytes_per_payment"` // peers.Usage says how far to trust it
	Written    float64 `json:"written_bytes_per_payment"`
	Syncs      float64 `json:"syncs_per_payment"` // -1 if not counted
	OtherCores float64 `json:"other_cores"`       // CPU that neither the nodes nor this program used
	Nodes      []Part  `json:"nodes"`
}

// A Part is one node's share.
type Part struct {
	Name    string  `json:"name"`
	CPU     float64 `json:"cpu_ms_per_payment"`
	Disk    float64 `json:"disk_bytes_per_payment"`
	Written float64 `json:"written_bytes_per_payment"`
	Syncs   float64 `json:"syncs_per_payment"`
	RSS     int64   `json:"rss_bytes"`
	Peak    int64   `json:"peak_rss_bytes"`
}

// measure puts a load on a network.
func measure(ctx context.Context, n Network, c Case) (r Result, err error) {
	if err := n.Prepare(ctx, c.Payments, c.Amount); err != nil {
		return r, err
	}
	nodes := n.Pids()
	before, busy := usage(nodes), busyCores()
	self := peers.UsageOf(os.Getpid())
	r = Result{Version: n.Version(), Case: c, Syncs: -1}
	load := pay(ctx, n, c)
	used := usage(nodes)
	ours := peers.UsageOf(os.Getpid()).Sub(self).CPU
	r.Seconds = load.took.Seconds()
	r.Failed = len(load.faults)
	if r.Failed > 0 {
		r.Why = load.faults[0].Error()
	}
	paid := len(load.latencies)
	if got, err := n.Count(ctx); err != nil || got != paid {
		return r, fmt.Errorf("the payer has %d proofs, the payee has been paid %d times: %w", paid, got, err)
	}
	if paid == 0 {
		return r, fmt.Errorf("nothing was paid: %s", r.Why)
	}
	r.PerSecond = float64(paid) / r.Seconds
	slices.Sort(load.latencies)
	at := func(share float64) float64 {
		return ms(load.latencies[min(int(share*float64(paid)), paid-1)])
	}
	r.P50, r.P99, r.Max = at(0.5), at(0.99), at(1)
	total := ours
	for i, node := range nodes {
		u := used[i].Sub(before[i])
		total += u.CPU
		part := Part{
			Name: node.Name, CPU: ms(u.CPU) / float64(paid), Disk: float64(u.DiskBytes) / float64(paid),
			Written: float64(u.Written) / float64(paid), Syncs: -1, RSS: u.RSSBytes, Peak: u.PeakBytes,
		}
		r.CPU += part.CPU
		r.Disk += part.Disk
		r.Written += part.Written
		r.Nodes = append(r.Nodes, part)
	}
	r.OtherCores = max(0, (busyCores()-busy-total.Seconds())/r.Seconds)
	return r, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

type load struct {
	latencies []time.Duration
	faults    []error
	took      time.Duration
}

// pay keeps so many payments in flight until all are made.
func pay(ctx context.Context, n Network, c Case) (l load) {
	var (
		next    atomic.Int64
		mu      sync.Mutex
		running sync.WaitGroup
	)
	began := time.Now()
	for range min(c.InFlight, c.Payments) {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < c.Payments; i = int(next.Add(1)) - 1 {
				start := time.Now()
				err := n.Pay(ctx, i)
				took := time.Since(start)
				mu.Lock()
				if err != nil {
					l.faults = append(l.faults, err)
				} else {
					l.latencies = append(l.latencies, took)
				}
				mu.Unlock()
			}
		})
	}
	running.Wait()
	l.took = time.Since(began)
	return l
}

// countSyncs puts the load on once more, slowly, and counts.
func countSyncs(ctx context.Context, n Network, c Case, r *Result) error {
	if err := n.Prepare(ctx, c.Payments, c.Amount); err != nil {
		return err
	}
	var stops []func() (map[string]int64, error)
	for _, node := range n.Pids() {
		stop, err := peers.CountSyncs(ctx, node.Pid)
		if err != nil {
			return err
		}
		stops = append(stops, stop)
	}
	l := pay(ctx, n, c)
	r.Syncs = 0
	for i, stop := range stops {
		calls, err := stop()
		if err != nil {
			return err
		}
		var all int64
		for _, count := range calls {
			all += count
		}
		r.Nodes[i].Syncs = float64(all) / float64(max(1, len(l.latencies)))
		r.Syncs += r.Nodes[i].Syncs
	}
	return nil
}

func usage(nodes []Node) (all []peers.Usage) {
	for _, n := range nodes {
		all = append(all, peers.UsageOf(n.Pid))
	}
	return all
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
