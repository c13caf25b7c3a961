package lab

import (
	"fmt"
	"io"
	"time"
)

// A LedgerResult is one run of a network of nodes. A figure that could not be had is
// nil. All nodes and whoever submits share this computer's processors.
type LedgerResult struct {
	Rail      string `json:"rail"`
	Store     string `json:"store"`
	Nodes     int    `json:"nodes"`
	Accounts  int    `json:"accounts"`
	Transfers int    `json:"transfers"`
	Rate      int    `json:"rate_per_s"` // that was asked for; 0: as many as get through
	Units     int    `json:"units_per_transfer"`

	Tps *float64 `json:"tps"` // transfers that are final on all nodes, a second

	// From handing the unit to a node until it is final there, and on all nodes.
	P50Ms           *float64 `json:"p50_ms"`
	P95Ms           *float64 `json:"p95_ms"`
	P99Ms           *float64 `json:"p99_ms"`
	P50EverywhereMs *float64 `json:"p50_everywhere_ms"`
	P99EverywhereMs *float64 `json:"p99_everywhere_ms"`

	// Of all nodes together, for a transfer.
	CPUMs       *float64 `json:"cpu_ms_per_transfer"`
	DiskBytes   *float64 `json:"disk_bytes_per_transfer"`
	StoreBytes  *float64 `json:"store_bytes_per_transfer"`
	Fsyncs      *float64 `json:"fsyncs_per_transfer"`
	GrowthBytes *float64 `json:"growth_bytes_per_transfer"` // of all stores' files
	PeakRSSMiB  *float64 `json:"peak_rss_mib"`              // of the largest node
	PerRound    *float64 `json:"events_per_commit"`         // of the first node
	Lost        uint64   `json:"messages_lost"`             // that found no room in a queue, and were asked for again

	// VerifyUs is one signature in a batch of the run's own, on one processor of this
	// computer and after the run. LimitTps is what all processors could do if every
	// node did nothing but check each unit's signature once.
	VerifyUs   *float64 `json:"batch_verify_us"`
	LimitTps   *float64 `json:"limit_tps"`
	LimitShare *float64 `json:"tps_to_limit"`
	IntervalMs *float64 `json:"milestone_interval_ms"` // of iota

	// What the last node's copy of the ledger tells anybody, and how much of a transfer
	// did not get to its payee, in the ledger's unit.
	Linked *Linked  `json:"linked"`
	Taken  *float64 `json:"taken_per_transfer"`

	latencies [2]*histogram
}

func newLedgerResult(l *ledgerBench, took time.Duration, before, after []counts) LedgerResult {
	n := float64(l.Transfers)
	r := LedgerResult{
		Rail: l.Rail, Store: l.Store, Nodes: l.Nodes, Accounts: l.Accounts, Transfers: l.Transfers, Rate: l.Rate, Units: l.network.units(),
		Tps: figure(n / took.Seconds()),
	}
	if l.Rail == railIota {
		r.IntervalMs = figure(l.Interval.Seconds() * 1e3)
	}
	s := stages{idle: before, before: before, after: after, rested: after}
	r.CPUMs, r.DiskBytes, r.StoreBytes, r.Fsyncs = figure(0), figure(0), figure(0), figure(0)
	for i := range l.nodes {
		e := s.end("", i, n)
		r.CPUMs, r.DiskBytes = sum(r.CPUMs, e.CPUMs), sum(r.DiskBytes, e.DiskBytes)
		r.StoreBytes, r.Fsyncs = sum(r.StoreBytes, e.StoreBytes), sum(r.Fsyncs, e.Fsyncs)
		if e.PeakRSSMiB != nil && (r.PeakRSSMiB == nil || *e.PeakRSSMiB > *r.PeakRSSMiB) {
			r.PeakRSSMiB = e.PeakRSSMiB
		}
	}
	if rounds := after[0].Rounds - before[0].Rounds; rounds > 0 {
		r.PerRound = figure(float64(after[0].Events-before[0].Events) / float64(rounds))
	}
	return r
}

// limit puts beside the run what the processors could do at best.
func (r *LedgerResult) limit(verifyUs *float64, processors, units int) {
	quantile := func(h *histogram, q float64) *float64 { return figure(h.quantile(q).Seconds() * 1e3) }
	if own, all := r.latencies[0], r.latencies[1]; own != nil {
		r.P50Ms, r.P95Ms, r.P99Ms = quantile(own, 0.5), quantile(own, 0.95), quantile(own, 0.99)
		r.P50EverywhereMs, r.P99EverywhereMs = quantile(all, 0.5), quantile(all, 0.99)
	}
	r.VerifyUs = verifyUs
	if verifyUs == nil {
		return
	}
	r.LimitTps = figure(float64(processors) * 1e6 / (*verifyUs * float64(r.Nodes*units)))
	r.LimitShare = figure(*r.Tps / *r.LimitTps)
}

// WriteLedger prints results for a person.
func WriteLedger(w io.Writer, all []LedgerResult) {
	show := func(v *float64, format string) string {
		if v == nil {
			return "-"
		}
		return fmt.Sprintf(format, *v)
	}
	fmt.Fprintf(w, "%-5s %5s %8s %9s %9s %9s %12s %8s %8s %9s %8s %10s %7s\n",
		"rail", "nodes", "rate/s", "final/s", "p50 ms", "p99 ms", "everywhere", "CPU ms", "fsyncs", "disk B", "RSS MiB", "limit/s", "of it")
	for _, r := range all {
		rate := "-"
		if r.Rate > 0 {
			rate = fmt.Sprint(r.Rate)
		}
		share := "-"
		if r.LimitShare != nil {
			share = fmt.Sprintf("%.0f %%", 100**r.LimitShare)
		}
		fmt.Fprintf(w, "%-5s %5d %8s %9s %9s %9s %12s %8s %8s %9s %8s %10s %7s\n", r.Rail, r.Nodes, rate,
			show(r.Tps, "%.0f"), show(r.P50Ms, "%.1f"), show(r.P99Ms, "%.1f"), show(r.P50EverywhereMs, "%.1f"), show(r.CPUMs, "%.3f"),
			show(r.Fsyncs, "%.3f"), show(r.DiskBytes, "%.0f"), show(r.PeakRSSMiB, "%.0f"), show(r.LimitTps, "%.0f"), share)
	}
}
