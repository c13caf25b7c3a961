// Package report fills the survey's Table II by running every rail.
//
// A plan of workloads and rails becomes runs; each run is a line of JSON in a
// file (Sample); a Report is a function of such lines and of nothing else, and is
// written as HTML, Markdown and CSV. A figure that could not be had is missing
// with its reason, never zero and never a guess.
//
// A rail appears in the report by being in Rails. It says what it runs for a
// workload, or why it cannot.
package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/lab"
	"coinop.dev/rail"

	_ "coinop.dev/rail/all"
)

// A Rail is a column of every table.
type Rail interface {
	About() About
	// Plan says how a workload is run once. Its error is what the table shows where
	// the figures would be.
	Plan(w *Workload, b *Bench) (*Plan, error)
}

// About is what is known of a rail before it is measured.
type About struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Class Class  `json:"class"`
	// Kind of finality in a word or two, and Finality: when a payment is the payee's,
	// and what makes it so.
	Kind     string `json:"kind"`
	Finality string `json:"finality"`
	// Attacker is who tries to pay twice in the rail's simulated world.
	Attacker string `json:"attacker,omitempty"`
}

// A Class is one of the survey's.
type Class string

// The survey's classes.
const (
	Direct  Class = "direct integration"
	Channel Class = "payment channel"
	NewCoin Class = "new coin"
)

// A Bench is where and how much is measured.
type Bench struct {
	Quick bool
	Dir   string // where stores are made; "" is the system's place for such
	Peers string // interop of the sources, which runs other people's nodes; "" is none
	// Command starts an end of a measurement: a program and its arguments.
	Command []string
}

// A Plan is one run.
type Plan struct {
	// Options are all that decides what comes out. Samples whose options differ are
	// never put together.
	Options any
	// Takes is a guess, for who waits, until a run was timed.
	Takes time.Duration
	// Run measures once. progress hears which share is done.
	Run func(ctx context.Context, seed uint64, progress func(share float64)) (*Outcome, error)
}

// An Outcome is what came out of a run: figures by the names of Metrics, and why
// others are missing.
type Outcome struct {
	Figures map[string]float64
	Missing map[string]string
	Raw     any // the whole result, for who wants to look
}

// Rails are all that appear, in the order of the tables.
var Rails = []Rail{bitcoin, oneway, payword, lightning, routed, lnd, lndRouted, nano, iota}

// absent is a reason why there is nothing to run.
func absent(format string, args ...any) error { return fmt.Errorf(format, args...) }

// errOmitted is why a quick report lacks what takes long.
var errOmitted = errors.New("left out by --quick")

// built is the reason why a rail cannot be run if this build has none of that name.
func built(scheme string) error {
	if _, err := rail.Default.Parse(scheme + ":"); err != nil {
		return absent("this build has no rail %s", scheme)
	}
	return nil
}

// figures collects what is there of a result.
type figures map[string]float64

func (f figures) add(name string, v *float64) {
	if v != nil {
		f[name] = *v
	}
}

// pairFigures are those of two machines with nothing between them but routers.
func pairFigures(r *lab.Result, amount money.Amount) *Outcome {
	f := figures{}
	f.add("pps", r.Pps)
	f.add("p50_ms", r.P50Ms)
	f.add("p95_ms", r.P95Ms)
	f.add("p99_ms", r.P99Ms)
	f.add("close_ms", r.FinalityMs)
	f.add("cpu_ms", r.CPUMs)
	f.add("wire_bytes", r.WireBytes)
	f.add("disk_bytes", r.DiskBytes)
	f.add("store_bytes", r.StoreBytes)
	f.add("fsyncs", r.Fsyncs)
	f.add("signatures", r.Signatures)
	f.add("payer_cpu_ms", r.PayerCPUMs)
	f.add("payee_cpu_ms", r.PayeeCPUMs)
	f.add("payer_rss_mib", r.PayerPeakRSSMiB)
	f.add("payee_rss_mib", r.PayeePeakRSSMiB)
	f.add("payer_risk_msat", r.PayerAtRiskMsat)
	f.add("payee_risk_msat", r.PayeeAtRiskMsat)
	f.add("chain_txs", r.ChainTxs)
	f.add("chain_vb", r.ChainVBytes)
	o := &Outcome{Figures: f, Raw: r, Missing: map[string]string{}}
	f["payments"] = float64(r.Payments)
	for _, name := range []string{"linked_payer", "linked_payee", "linked_amount", "linked_all"} {
		o.Missing[name] = "not measured: the lab does not search the chain for its payments"
	}
	f.onchain(r, amount, o.Missing)
	if len(r.Ends) > 0 {
		payer := &r.Ends[0]
		f.add("payer_store_bytes", payer.StoreBytes)
		f.add("payer_fsyncs", payer.Fsyncs)
		f.add("payer_growth_bytes", payer.GrowthBytes)
		f.add("payee_growth_bytes", r.Ends[len(r.Ends)-1].GrowthBytes)
	}
	if r.Rail == "lightning" {
		routers := 0.0
		for _, e := range r.Ends[1 : len(r.Ends)-1] {
			if e.EarnedMsat == nil {
				routers = -1
				break
			}
			routers += *e.EarnedMsat
		}
		if routers >= 0 {
			f["route_fee_msat"] = routers
		}
	} else {
		f["route_fee_msat"] = 0 // nobody stands between: the books of both ends agree to the msat
	}
	f.limits(r)
	return o
}

// onchain is what payments take of the chain.
func (f figures) onchain(r *lab.Result, amount money.Amount, missing map[string]string) {
	if r.Rail != "bitcoin" {
		// What opens and closes a channel is as large however many payments it carries.
		f.add("chain_vb_1000", r.ChainVBytes)
		missing["chain_pps"] = "payments are not on the chain"
		return
	}
	const none = "there is no channel"
	missing["close_ms"] = none
	missing["payer_risk_msat"], missing["payee_risk_msat"] = none+", and nothing is delivered before it is in a block", none+", and nothing is delivered before it is in a block"
	if paid := float64(r.PaidMsat / amount); r.ChainVBytes != nil && paid > 0 {
		f["chain_vb_1000"] = *r.ChainVBytes / paid * 1000
		f["chain_pps"] = chainVBSecond / (*r.ChainVBytes / paid)
	}
}

// chainVBSecond is what the chain has room for: a million virtual bytes in ten minutes.
const chainVBSecond = 1e6 / 600

// limits are what this computer can do at best, in the same run, and how far the
// rail is from it.
func (f figures) limits(r *lab.Result) {
	f.add("sign_us", r.SignUs)
	f.add("verify_us", r.VerifyUs)
	f.add("stamp_sign_us", r.StampSignUs)
	f.add("stamp_verify_us", r.StampVerifyUs)
	f.add("hash_us", r.HashUs)
	f.add("fsync_us", r.FsyncUs)
	f.add("round_trip_us", r.RoundTripUs)
	if r.Concurrency == 1 && r.P50Ms != nil && r.FsyncUs != nil && r.RoundTripUs != nil {
		f["latency_ratio"] = *r.P50Ms * 1e3 / (*r.FsyncUs + *r.RoundTripUs)
	}
	if r.CPUMs != nil && r.SignUs != nil && r.VerifyUs != nil {
		f["cpu_ratio"] = *r.CPUMs * 1e3 / (*r.SignUs + *r.VerifyUs)
	}
}

// pair runs a workload between a payer and a payee of one rail.
func pair(o lab.Options, w *Workload, b *Bench) (*Plan, error) {
	if err := built(o.Rail); err != nil {
		return nil, err
	}
	if w.Outage > 0 {
		return outage(o, w, b)
	}
	switch {
	case w.Times > 0:
		return nil, absent("it pays its peer directly: there is nothing to route")
	case w.Devices > 0 || w.Seeds > 0:
		return nil, absent("two machines are no %s", w.Name)
	}
	o.Payments, o.Concurrency, o.Amount = cmp.Or(o.Payments, w.payments(b.Quick)), w.InFlight, w.Amount
	o.Orders = !w.Metered
	if w.Burst {
		o.Pause = w.Pause
	}
	if err := filled(&o, b); err != nil {
		return nil, err
	}
	return &Plan{
		Options: planned(o), Takes: 3 * time.Second,
		Run: func(ctx context.Context, _ uint64, progress func(float64)) (*Outcome, error) {
			r, err := lab.Run(ctx, o, func(done uint64) { progress(float64(done) / float64(o.Payments)) })
			if err == nil && !r.Conserved {
				err = errors.New("the books and the chain do not agree")
			}
			if err != nil {
				return nil, err
			}
			return pairFigures(&r, o.Amount), nil
		},
	}, nil
}

func filled(o *lab.Options, b *Bench) error {
	o.Dir, o.Command = b.Dir, b.Command
	o.Fill()
	return o.Check()
}

// planned leaves out what does not decide a result: where it is measured.
func planned(o lab.Options) lab.Options {
	o.Dir, o.Command, o.Profile = "", nil, ""
	return o
}

// outage kills the node after the payer.
func outage(o lab.Options, w *Workload, b *Bench) (*Plan, error) {
	o.Payments, o.Concurrency, o.Amount = w.payments(b.Quick), w.InFlight, w.Amount
	if err := filled(&o, b); err != nil {
		return nil, err
	}
	return &Plan{
		Options: struct {
			lab.Options
			Down time.Duration
		}{planned(o), w.Outage}, Takes: 2*time.Second + w.Outage,
		Run: func(ctx context.Context, _ uint64, _ func(float64)) (*Outcome, error) {
			r, err := lab.Outage(ctx, o, w.Outage)
			if err == nil && !r.Conserved {
				err = errors.New("the books of payer and payee do not agree after the outage")
			}
			if err != nil {
				return nil, err
			}
			f := figures{"paid_down": float64(r.Paid) / float64(r.Tried)}
			f.add("back_ms", r.BackMs)
			return &Outcome{Figures: f, Raw: r}, nil
		},
	}, nil
}
