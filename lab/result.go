package lab

import (
	"fmt"
	"io"
	"runtime"
	"time"

	"coinop.dev/core/money"
)

// A Result is one run. A figure that could not be had is nil. Payments of the
// warm-up count for conservation and fees, and for nothing else.
type Result struct {
	Rail        string `json:"rail"`
	Store       string `json:"store"`
	Link        string `json:"link"`
	Hops        int    `json:"hops"`
	Channels    int    `json:"channels"` // of the payer
	Payments    int    `json:"payments"`
	Concurrency int    `json:"concurrency"`
	Metered     bool   `json:"metered"` // paid by a meter's ticks, not by orders

	Pps   *float64 `json:"pps"`
	P50Ms *float64 `json:"p50_ms"` // from asking the purse to its receipt
	P95Ms *float64 `json:"p95_ms"`
	P99Ms *float64 `json:"p99_ms"`

	// Processor time of all ends, user and system, as the kernel accounts it.
	CPUMs      *float64 `json:"cpu_ms_per_payment"`
	PayerCPUMs *float64 `json:"payer_cpu_ms_per_payment"`
	PayeeCPUMs *float64 `json:"payee_cpu_ms_per_payment"`

	DiskBytes  *float64 `json:"disk_bytes_per_payment"`  // all ends, as the kernel accounts them
	StoreBytes *float64 `json:"store_bytes_per_payment"` // all ends, as the stores wrote them
	Fsyncs     *float64 `json:"fsyncs_per_payment"`
	WireBytes  *float64 `json:"wire_bytes_per_payment"` // both directions of all links, inside TCP
	Signatures *float64 `json:"signatures_per_payment"` // both ends: tickets and stamps
	PerRound   *float64 `json:"payer_events_per_commit"`

	RSSMiB          *float64 `json:"rss_mib"` // of the larger end, at its peak
	PayerRSSMiB     *float64 `json:"payer_rss_mib"`
	PayeeRSSMiB     *float64 `json:"payee_rss_mib"`
	PayerPeakRSSMiB *float64 `json:"payer_peak_rss_mib"`
	PayeePeakRSSMiB *float64 `json:"payee_peak_rss_mib"`
	// Private is RSS without the pages of the program's file, which both ends
	// share with the page cache and the kernel takes back when it likes.
	PayerPrivateMiB *float64 `json:"payer_private_mib"`
	PayeePrivateMiB *float64 `json:"payee_private_mib"`

	Ends []EndResult `json:"ends"` // the payer, the routers, the payee

	// FeeMsatPerPayment is what the funding and closing transactions paid to
	// miners, read back from the chain.
	FeeMsatPerPayment *float64 `json:"fee_msat_per_payment"`
	// FinalityMs is from asking the payer to close until it sees the closing
	// transaction in a block, where a block comes as soon as a transaction
	// waits. On a real chain add the wait for a block. A receipt needs none of
	// it: P50Ms is how long a payment takes to be the payee's, because from then
	// on only the payee can decide whether it is mined.
	FinalityMs *float64 `json:"finality_ms"`

	// What the channels of the run, from funding to closing, put into the chain.
	ChainTxs    *float64 `json:"chain_transactions"`
	ChainVBytes *float64 `json:"chain_vbytes"`

	// AtRisk is the most that an end had at risk while paying, as its rail said
	// when it was asked every tenth of a second: paid and not stamped, promised and
	// not settled, or too small in flight for the chain to enforce.
	PayerAtRiskMsat *float64 `json:"payer_at_risk_msat"`
	PayeeAtRiskMsat *float64 `json:"payee_at_risk_msat"`

	Conserved       bool         `json:"conserved"` // books and chain agree to the satoshi
	PaidMsat        money.Amount `json:"paid_msat"`
	PayerOnchainSat int64        `json:"payer_onchain_sat"`
	PayeeOnchainSat int64        `json:"payee_onchain_sat"`
	FeesSat         int64        `json:"fees_sat"`

	Limits
	// LatencyRatio is p50 beside one fsync and one round trip, and CPURatio the
	// processor time beside one signature and one verification. They say
	// something of payments one by one, and are nil of others.
	LatencyRatio *float64 `json:"p50_to_fsync_and_round_trip"`
	CPURatio     *float64 `json:"cpu_to_sign_and_verify"`
	// CPULimitMs is what a Lightning payment's arithmetic takes at least, with
	// calls as timed above, and CPUShare its part of CPUMs.
	CPULimitMs *float64 `json:"cpu_limit_ms_per_payment"`
	CPUShare   *float64 `json:"cpu_limit_to_cpu"`
}

// An EndResult is what one end's process took. Idle is with channels open and
// nothing paid yet, Rested after the payments; both with all garbage collected.
type EndResult struct {
	Name         string   `json:"name"`
	CPUMs        *float64 `json:"cpu_ms_per_payment"`
	DiskBytes    *float64 `json:"disk_bytes_per_payment"`
	StoreBytes   *float64 `json:"store_bytes_per_payment"`
	GrowthBytes  *float64 `json:"growth_bytes_per_payment"` // of its folder; a young store's log is in it
	Fsyncs       *float64 `json:"fsyncs_per_payment"`
	IdleRSSMiB   *float64 `json:"idle_rss_mib"`
	RSSMiB       *float64 `json:"rss_mib"`
	PrivateMiB   *float64 `json:"private_mib"`
	PeakRSSMiB   *float64 `json:"peak_rss_mib"`
	RestedRSSMiB *float64 `json:"rested_rss_mib"`
	EarnedMsat   *float64 `json:"earned_msat_per_payment"` // by a router
}

// stages are the counters of all ends at four times; payments were made between
// before and after.
type stages struct{ idle, before, after, rested []counts }

func figure(v float64) *float64 { return &v }

func newResult(b *bench, p *paid, at stages, l *Limits) Result {
	n := float64(b.Payments)
	r := Result{
		Rail: b.Rail, Store: b.Store, Link: "tcp", Hops: b.Hops, Channels: b.Channels, Payments: b.Payments, Concurrency: b.Concurrency,
		Metered: p.Metered, Limits: *l,
		Pps:   figure(n / p.Took.Seconds()),
		P50Ms: figure(p.P50.Seconds() * 1e3), P95Ms: figure(p.P95.Seconds() * 1e3), P99Ms: figure(p.P99.Seconds() * 1e3),
	}
	for i, end := range b.ends {
		r.Ends = append(r.Ends, at.end(end.name, i, n))
	}
	r.total(at, n)
	payer, payee := &r.Ends[0], &r.Ends[len(r.Ends)-1]
	r.PayerCPUMs, r.PayeeCPUMs = payer.CPUMs, payee.CPUMs
	r.PayerRSSMiB, r.PayeeRSSMiB = payer.RSSMiB, payee.RSSMiB
	r.PayerPrivateMiB, r.PayeePrivateMiB = payer.PrivateMiB, payee.PrivateMiB
	r.PayerPeakRSSMiB, r.PayeePeakRSSMiB = payer.PeakRSSMiB, payee.PeakRSSMiB
	if rounds := at.after[0].Rounds - at.before[0].Rounds; rounds > 0 {
		r.PerRound = figure(float64(at.after[0].Events-at.before[0].Events) / float64(rounds))
	}
	if b.Concurrency == 1 {
		r.LatencyRatio = quotient(scaled(r.P50Ms, 1e3), sum(l.FsyncUs, l.RoundTripUs))
		r.CPURatio = quotient(scaled(r.CPUMs, 1e3), sum(l.SignUs, l.VerifyUs))
	}
	if b.Rail == lightning {
		r.CPULimitMs = l.lightning(b.Hops, b.enforceable())
		r.CPUShare = quotient(r.CPULimitMs, r.CPUMs)
	}
	return r
}

// end is what one end took for n payments.
func (at *stages) end(name string, i int, n float64) EndResult {
	before, after := &at.before[i], &at.after[i]
	each := func(read func(*counts) *float64) *float64 {
		return scaled(difference(read(after), read(before)), 1/n)
	}
	return EndResult{
		Name:         name,
		CPUMs:        scaled(each((*counts).cpu), 1e-3),
		DiskBytes:    each(func(c *counts) *float64 { return whole(c.DiskBytes) }),
		StoreBytes:   each(func(c *counts) *float64 { return c.stored(true) }),
		Fsyncs:       each(func(c *counts) *float64 { return c.stored(false) }),
		IdleRSSMiB:   mib(at.idle[i].RSS),
		RSSMiB:       mib(after.RSS),
		PrivateMiB:   mib(after.Private),
		PeakRSSMiB:   mib(after.Peak),
		RestedRSSMiB: mib(at.rested[i].RSS),
	}
}

// total adds up what the ends took.
func (r *Result) total(at stages, n float64) {
	all := func(read func(*EndResult) *float64) *float64 {
		total := figure(0)
		for i := range r.Ends {
			total = sum(total, read(&r.Ends[i]))
		}
		return total
	}
	r.CPUMs = all(func(e *EndResult) *float64 { return e.CPUMs })
	r.DiskBytes = all(func(e *EndResult) *float64 { return e.DiskBytes })
	r.StoreBytes = all(func(e *EndResult) *float64 { return e.StoreBytes })
	r.Fsyncs = all(func(e *EndResult) *float64 { return e.Fsyncs })
	sent := uint64(0) // by one end, and received by another
	r.Signatures, r.RSSMiB = figure(0), figure(0)
	for i := range r.Ends {
		sent += at.after[i].Wire.Sent - at.before[i].Wire.Sent
		r.Signatures = sum(r.Signatures, scaled(difference(whole(at.after[i].Signatures), whole(at.before[i].Signatures)), 1/n))
		r.RSSMiB = combine(r.RSSMiB, r.Ends[i].PeakRSSMiB, func(a, b float64) float64 { return max(a, b) })
	}
	r.WireBytes = figure(float64(sent) / n)
}

// cpu is the processor time in microseconds.
func (c *counts) cpu() *float64 { return sum(c.User, c.Sys) }

// stored is what the store says it wrote, or how often it synced.
func (c *counts) stored(bytes bool) *float64 {
	switch {
	case c.Store == nil:
		return nil
	case bytes:
		return figure(float64(c.Store.Bytes))
	}
	return figure(float64(c.Store.Fsyncs))
}

func whole(v *uint64) *float64 {
	if v == nil {
		return nil
	}
	return figure(float64(*v))
}

func mib(bytes *uint64) *float64 { return scaled(whole(bytes), 1.0/(1<<20)) }

func combine(a, b *float64, f func(a, b float64) float64) *float64 {
	if a == nil || b == nil {
		return nil
	}
	return figure(f(*a, *b))
}

func sum(a, b *float64) *float64 { return combine(a, b, func(a, b float64) float64 { return a + b }) }
func difference(a, b *float64) *float64 {
	return combine(a, b, func(a, b float64) float64 { return a - b })
}
func quotient(a, b *float64) *float64 {
	return combine(a, b, func(a, b float64) float64 { return a / b })
}
func scaled(a *float64, by float64) *float64 {
	return combine(a, &by, func(a, b float64) float64 { return a * b })
}

// WriteBench prints a run as a line that benchstat reads. A figure that could
// not be had is left out.
func WriteBench(w io.Writer, r *Result) {
	fmt.Fprintf(w, "BenchmarkLab/rail=%s/store=%s/hops=%d/c=%d-%d\t%d", r.Rail, r.Store, r.Hops, r.Concurrency, runtime.GOMAXPROCS(0), r.Payments)
	for _, f := range []struct {
		v    *float64
		unit string
	}{
		{quotient(figure(float64(time.Second)), r.Pps), "ns/op"},
		{scaled(r.P50Ms, 1e6), "p50-ns"}, {scaled(r.P99Ms, 1e6), "p99-ns"},
		{scaled(r.CPUMs, 1e6), "cpu-ns/op"},
		{r.DiskBytes, "diskbytes/op"}, {r.Fsyncs, "fsyncs/op"}, {r.WireBytes, "wirebytes/op"},
		{r.Signatures, "sigs/op"}, {r.FeeMsatPerPayment, "msat-fee/op"},
		{r.PayerPeakRSSMiB, "payer-MiB"}, {r.PayeePeakRSSMiB, "payee-MiB"},
	} {
		if f.v != nil {
			fmt.Fprintf(w, "\t%.6g %s", *f.v, f.unit)
		}
	}
	fmt.Fprintln(w)
}
