package lab

import (
	"fmt"
	"io"
	"runtime"
	"text/tabwriter"
	"time"

	"coinop.dev"
)

// A Result is one run. A figure that could not be had is nil. Payments of the
// warm-up count for conservation and fees, and for nothing else.
type Result struct {
	Rail        string `json:"rail"`
	Store       string `json:"store"`
	Link        string `json:"link"`
	Hops        int    `json:"hops"`
	Payments    int    `json:"payments"`
	Concurrency int    `json:"concurrency"`
	Metered     bool   `json:"metered"` // paid by a meter's ticks, not by orders

	Pps   *float64 `json:"pps"`
	P50Ms *float64 `json:"p50_ms"` // from asking the purse to its receipt
	P99Ms *float64 `json:"p99_ms"`

	// Processor time, user and system, as the kernel accounts it.
	CPUMs      *float64 `json:"cpu_ms_per_payment"`
	PayerCPUMs *float64 `json:"payer_cpu_ms_per_payment"`
	PayeeCPUMs *float64 `json:"payee_cpu_ms_per_payment"`

	DiskBytes  *float64 `json:"disk_bytes_per_payment"`  // both ends, as the kernel accounts them
	StoreBytes *float64 `json:"store_bytes_per_payment"` // both ends, as the stores wrote them
	Fsyncs     *float64 `json:"fsyncs_per_payment"`
	WireBytes  *float64 `json:"wire_bytes_per_payment"` // both directions, inside TCP
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

	// FeeMsatPerPayment is what the funding and closing transactions paid to
	// miners, read back from the chain.
	FeeMsatPerPayment *float64 `json:"fee_msat_per_payment"`
	// FinalityMs is from asking the payer to close until it sees the closing
	// transaction in a block, where a block comes as soon as a transaction
	// waits. On a real chain add the wait for a block. A receipt needs none of
	// it: P50Ms is how long a payment takes to be the payee's, because from then
	// on only the payee can decide whether it is mined.
	FinalityMs *float64 `json:"finality_ms"`

	Conserved       bool          `json:"conserved"` // books and chain agree to the satoshi
	PaidMsat        coinop.Amount `json:"paid_msat"`
	PayerOnchainSat int64         `json:"payer_onchain_sat"`
	PayeeOnchainSat int64         `json:"payee_onchain_sat"`
	FeesSat         int64         `json:"fees_sat"`

	Limits
	// LatencyRatio is p50 beside one fsync and one round trip, and CPURatio the
	// processor time beside one signature and one verification. They say
	// something of payments one by one, and are nil of others.
	LatencyRatio *float64 `json:"p50_to_fsync_and_round_trip"`
	CPURatio     *float64 `json:"cpu_to_sign_and_verify"`
}

func figure(v float64) *float64 { return &v }

func newResult(o Options, a answer, before, after [2]counts, l *Limits) Result {
	n := float64(o.Payments)
	r := Result{
		Rail: o.Rail, Store: o.Store, Link: "tcp", Hops: o.Hops, Payments: o.Payments, Concurrency: o.Concurrency,
		Metered: a.Paid.Metered, Limits: *l,
		Pps:   figure(n / a.Paid.Took.Seconds()),
		P50Ms: figure(a.Paid.P50.Seconds() * 1e3), P99Ms: figure(a.Paid.P99.Seconds() * 1e3),
	}
	cpu := func(c counts) *float64 { return sum(c.User, c.Sys) }
	each := func(read func(counts) *float64) (ends [2]*float64) {
		for i := range ends {
			ends[i] = scaled(difference(read(after[i]), read(before[i])), 1/n)
		}
		return ends
	}
	both := func(read func(counts) *float64) *float64 {
		ends := each(read)
		return sum(ends[0], ends[1])
	}
	us := each(cpu)
	r.PayerCPUMs, r.PayeeCPUMs = scaled(us[0], 1e-3), scaled(us[1], 1e-3)
	r.CPUMs = sum(r.PayerCPUMs, r.PayeeCPUMs)
	r.DiskBytes = both(func(c counts) *float64 { return whole(c.DiskBytes) })
	r.StoreBytes = both(func(c counts) *float64 { return c.stored(true) })
	r.Fsyncs = both(func(c counts) *float64 { return c.stored(false) })
	r.Signatures = both(func(c counts) *float64 { return whole(c.Signatures) })
	// What one end sends the other receives: the payer's link has seen it all.
	r.WireBytes = each(func(c counts) *float64 { return figure(float64(c.Wire.Sent + c.Wire.Received)) })[0]
	if rounds := after[0].Rounds - before[0].Rounds; rounds > 0 {
		r.PerRound = figure(float64(after[0].Events-before[0].Events) / float64(rounds))
	}
	const mib = 1.0 / (1 << 20)
	r.PayerRSSMiB, r.PayeeRSSMiB = scaled(whole(after[0].RSS), mib), scaled(whole(after[1].RSS), mib)
	r.PayerPrivateMiB, r.PayeePrivateMiB = scaled(whole(after[0].Private), mib), scaled(whole(after[1].Private), mib)
	r.PayerPeakRSSMiB, r.PayeePeakRSSMiB = scaled(whole(after[0].Peak), mib), scaled(whole(after[1].Peak), mib)
	if r.PayerPeakRSSMiB != nil && r.PayeePeakRSSMiB != nil {
		r.RSSMiB = figure(max(*r.PayerPeakRSSMiB, *r.PayeePeakRSSMiB))
	}
	if o.Concurrency == 1 {
		r.LatencyRatio = quotient(scaled(r.P50Ms, 1e3), sum(l.FsyncUs, l.RoundTripUs))
		r.CPURatio = quotient(scaled(r.CPUMs, 1e3), sum(l.SignUs, l.VerifyUs))
	}
	return r
}

// stored is what the store says it wrote, or how often it synced.
func (c counts) stored(bytes bool) *float64 {
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

// A row is a line of the table: what, where it is, and what the design asks of
// it.
type row struct {
	name   string
	of     func(r *Result) *float64
	format string
	target func(r *Result) string
}

var rows = []row{
	{"payments/s", func(r *Result) *float64 { return r.Pps }, "%.0f", func(r *Result) string {
		switch {
		case r.Rail == "oneway" && r.Concurrency >= 1000:
			return "≥ 5,000 (aim 50,000)"
		case r.Rail == "payword" && r.Metered:
			return "≥ 200,000"
		}
		return ""
	}},
	{"p50 ms", func(r *Result) *float64 { return r.P50Ms }, "%.3f", nil},
	{"p99 ms", func(r *Result) *float64 { return r.P99Ms }, "%.3f", nil},
	{"CPU ms, both ends", func(r *Result) *float64 { return r.CPUMs }, "%.4f", many("≤ 0.4 (aim 0.04)")},
	{"CPU ms, payer", func(r *Result) *float64 { return r.PayerCPUMs }, "%.4f", nil},
	{"CPU ms, payee", func(r *Result) *float64 { return r.PayeeCPUMs }, "%.4f", nil},
	{"disk bytes (kernel)", func(r *Result) *float64 { return r.DiskBytes }, "%.0f", many("≤ 1024")},
	{"disk bytes (store)", func(r *Result) *float64 { return r.StoreBytes }, "%.0f", nil},
	{"fsyncs", func(r *Result) *float64 { return r.Fsyncs }, "%.4f", nil},
	{"wire bytes", func(r *Result) *float64 { return r.WireBytes }, "%.1f", many("≤ 400")},
	{"signatures", func(r *Result) *float64 { return r.Signatures }, "%.4f", nil},
	{"RSS MiB, payer (now)", func(r *Result) *float64 { return r.PayerRSSMiB }, "%.1f", nil},
	{"RSS MiB, payer (private)", func(r *Result) *float64 { return r.PayerPrivateMiB }, "%.1f", nil},
	{"RSS MiB, payer (peak)", func(r *Result) *float64 { return r.PayerPeakRSSMiB }, "%.1f", always("≤ 40")},
	{"RSS MiB, payee (now)", func(r *Result) *float64 { return r.PayeeRSSMiB }, "%.1f", nil},
	{"RSS MiB, payee (private)", func(r *Result) *float64 { return r.PayeePrivateMiB }, "%.1f", nil},
	{"RSS MiB, payee (peak)", func(r *Result) *float64 { return r.PayeePeakRSSMiB }, "%.1f", always("≤ 40")},
	{"chain fee msat", func(r *Result) *float64 { return r.FeeMsatPerPayment }, "%.1f", nil},
	{"close to mined ms", func(r *Result) *float64 { return r.FinalityMs }, "%.1f", nil},
	{"one signature µs", func(r *Result) *float64 { return r.SignUs }, "%.1f", nil},
	{"one verification µs", func(r *Result) *float64 { return r.VerifyUs }, "%.1f", nil},
	{"one stamp µs", func(r *Result) *float64 { return r.StampSignUs }, "%.1f", nil},
	{"stamp verified µs", func(r *Result) *float64 { return r.StampVerifyUs }, "%.1f", nil},
	{"one fsync µs", func(r *Result) *float64 { return r.FsyncUs }, "%.1f", nil},
	{"one round trip µs", func(r *Result) *float64 { return r.RoundTripUs }, "%.1f", nil},
	{"p50 / (fsync + round trip)", func(r *Result) *float64 { return r.LatencyRatio }, "%.2f", single("≤ 2")},
	{"CPU / (sign + verify)", func(r *Result) *float64 { return r.CPURatio }, "%.2f", single("≤ 2")},
}

func always(target string) func(*Result) string { return func(*Result) string { return target } }

func many(target string) func(*Result) string {
	return func(r *Result) string {
		if r.Rail == "oneway" && r.Concurrency >= 1000 {
			return target
		}
		return ""
	}
}

func single(target string) func(*Result) string {
	return func(r *Result) string {
		if r.Concurrency == 1 {
			return target
		}
		return ""
	}
}

// WriteTable prints runs of one kind for people, a column each.
func WriteTable(w io.Writer, runs []Result) {
	if len(runs) == 0 {
		return
	}
	first := &runs[0]
	fmt.Fprintf(w, "%s over %s, store %s: %d payments, %d in flight, per payment unless it says otherwise\n",
		first.Rail, first.Link, first.Store, first.Payments, first.Concurrency)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range rows {
		fmt.Fprint(t, line.name)
		for i := range runs {
			fmt.Fprint(t, "\t", line.text(&runs[i]))
		}
		if line.target != nil {
			fmt.Fprint(t, "\t", line.target(first))
		}
		fmt.Fprintln(t)
	}
	fmt.Fprint(t, "conserved")
	for i := range runs {
		fmt.Fprint(t, "\t", runs[i].Conserved)
	}
	fmt.Fprintln(t)
	t.Flush()
}

func (l *row) text(r *Result) string {
	if v := l.of(r); v != nil {
		return fmt.Sprintf(l.format, *v)
	}
	return "–"
}

// WriteBench prints a run as a line that benchstat reads. A figure that could
// not be had is left out.
func WriteBench(w io.Writer, r *Result) {
	fmt.Fprintf(w, "BenchmarkLab/rail=%s/store=%s/c=%d-%d\t%d", r.Rail, r.Store, r.Concurrency, runtime.GOMAXPROCS(0), r.Payments)
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
