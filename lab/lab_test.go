package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/money"
)

// TestMain lets this binary be an end, as cmd/coinop is.
func TestMain(m *testing.M) {
	if os.Getenv("COINOP_LAB_END") != "" {
		if err := End(context.Background(), os.Stdin, os.Stdout); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		return
	}
	os.Setenv("COINOP_LAB_END", "1") // of the processes that tests start
	os.Exit(m.Run())
}

func run(t *testing.T, o Options) (Result, uint64) {
	t.Helper()
	o.Fill()
	o.Command = []string{os.Args[0]}
	o.Dir = t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	last := uint64(0)
	r, err := Run(ctx, o, func(done uint64) { last = done })
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(o.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	return r, last
}

func TestRunOnStores(t *testing.T) {
	for _, store := range []string{"mem", "pebble", "bbolt"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			r, _ := run(t, Options{Store: store, Payments: 300, Concurrency: 50})
			switch {
			case !r.Conserved:
				t.Errorf("not conserved: %+v", r)
			case r.PaidMsat != money.Amount(300+100)*10*money.Sat:
				t.Errorf("paid %v", r.PaidMsat)
			case *r.Pps <= 0 || *r.P50Ms <= 0 || *r.P99Ms < *r.P50Ms || *r.CPUMs <= 0 || *r.WireBytes < 17:
				t.Errorf("impossible figures: %+v", r)
			case *r.Signatures <= 0 || *r.Signatures > 2:
				t.Errorf("%v signatures a payment", *r.Signatures)
			case *r.FeeMsatPerPayment <= 0 || *r.FinalityMs <= 0:
				t.Errorf("fee %v, finality %v", *r.FeeMsatPerPayment, *r.FinalityMs)
			case (store == "mem") != (*r.Fsyncs == 0):
				t.Errorf("%v fsyncs on %s", *r.Fsyncs, store)
			case r.LatencyRatio != nil:
				t.Error("a ratio that says nothing of payments in flight together")
			}
		})
	}
}

func TestOneByOne(t *testing.T) {
	t.Parallel()
	r, _ := run(t, Options{Payments: 50, Concurrency: 1})
	if *r.Signatures != 2 || *r.PerRound != 1 {
		t.Errorf("%v signatures and %v events a commit; a payment alone takes a ticket and a stamp", *r.Signatures, *r.PerRound)
	}
	if r.LatencyRatio == nil || r.CPURatio == nil || *r.LatencyRatio <= 1 {
		t.Errorf("ratios %v %v", r.LatencyRatio, r.CPURatio)
	}
}

// Over two routers everybody is counted, the routers earn what the payer lost
// besides, and the arithmetic that nobody can do without is part of the bill.
func TestRouters(t *testing.T) {
	t.Parallel()
	r, _ := run(t, Options{Rail: lightning, Hops: 3, Payments: 100, Concurrency: 50})
	if !r.Conserved || len(r.Ends) != 4 {
		t.Fatalf("not conserved, or ends are missing: %+v", r)
	}
	cpu := 0.0
	for _, e := range r.Ends {
		cpu += *e.CPUMs
		if *e.CPUMs <= 0 || *e.Fsyncs <= 0 || *e.StoreBytes <= 0 || *e.IdleRSSMiB <= 0 || *e.PeakRSSMiB < *e.IdleRSSMiB {
			t.Errorf("impossible figures: %+v", e)
		}
		if router := strings.HasPrefix(e.Name, "router"); router != (e.EarnedMsat != nil) || router && (*e.EarnedMsat < 1000 || *e.EarnedMsat > 1010) {
			t.Errorf("%s earned %v msat; a satoshi and 100 ppm was asked for", e.Name, e.EarnedMsat)
		}
	}
	if math.Abs(cpu-*r.CPUMs) > 1e-6 || *r.CPULimitMs <= 0 || *r.CPUShare <= 0 {
		t.Errorf("CPU %v of %v, at least %v, share %v", cpu, *r.CPUMs, *r.CPULimitMs, *r.CPUShare)
	}
}

// It runs alone: on a busy machine channels that are opened side by side stall now
// and then, which is a fault that is not found yet.
func TestChannelsSideBySide(t *testing.T) {
	r, _ := run(t, Options{Rail: lightning, Channels: 3, Static: true, Amount: 1000 * money.Sat, Payments: 100, Concurrency: 50})
	if !r.Conserved || r.Channels != 3 {
		t.Errorf("%+v", r)
	}
}

// A node that is killed and started again: what was asked for meanwhile is paid
// once or not at all, and payments go on.
func TestOutage(t *testing.T) {
	for _, rail := range []string{"oneway", lightning} {
		t.Run(rail, func(t *testing.T) {
			t.Parallel()
			o := Options{Rail: rail, Payments: 20, Concurrency: 10, Command: []string{os.Args[0]}, Dir: t.TempDir()}
			o.Fill()
			r, err := Outage(t.Context(), o, 300*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Conserved || r.Paid > 0 || r.BackMs == nil || *r.BackMs <= 0 || r.Down != "payee" {
				t.Errorf("%+v", r)
			}
			t.Logf("back after %.0f ms", *r.BackMs)
		})
	}
	o := Options{Store: "mem"}
	o.Fill()
	if _, err := Outage(t.Context(), o, time.Second); !errors.Is(err, money.Invalid) {
		t.Error(err)
	}
}

// Bursts rest in between, and the rest is no part of the rate.
func TestBursts(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	r, _ := run(t, Options{Payments: 60, Concurrency: 20, Pause: 300 * time.Millisecond})
	if !r.Conserved || *r.Pps < 100 || time.Since(begin) < 600*time.Millisecond {
		t.Errorf("%v payments/s, conserved %v", *r.Pps, r.Conserved)
	}
	if *r.ChainVBytes < 200 || *r.ChainTxs != 2 || r.PayeeAtRiskMsat == nil || *r.P95Ms < *r.P50Ms || *r.HashUs <= 0 {
		t.Errorf("figures are missing: %+v", r)
	}
}

// Every payment is on the chain, many of them in a transaction.
func TestOnChain(t *testing.T) {
	t.Parallel()
	r, _ := run(t, Options{Rail: onchain, Payments: 40, Concurrency: 20, Amount: 1000 * money.Sat})
	if !r.Conserved || *r.ChainTxs < 2 || *r.ChainTxs >= 140 || *r.ChainVBytes < 31*140 || r.FeesSat <= 0 || r.FinalityMs != nil {
		t.Errorf("%+v, %v transactions of %v vB", r, *r.ChainTxs, *r.ChainVBytes)
	}
}

// BOLT 3 adds the fee of a transaction of its own to the dust limit of 354 sat,
// unless the channel has anchors.
func TestEnforceable(t *testing.T) {
	for _, c := range []struct {
		sat    money.Amount
		static bool
		want   bool
	}{{353, false, false}, {354, false, true}, {354, true, false}, {532, true, true}} {
		if o := (Options{Amount: c.sat * money.Sat, Static: c.static}); o.enforceable() != c.want {
			t.Errorf("%d sat, static %v: %v", c.sat, c.static, !c.want)
		}
	}
}

// A payment over one channel is one key, two secrets, and two signatures; each
// further channel is a key, three secrets and two signatures more.
func TestLightningLimit(t *testing.T) {
	l := Limits{SignUs: figure(1000), VerifyUs: figure(10_000), ECDHUs: figure(100_000), BaseMultUs: figure(1_000_000)}
	for _, c := range []struct {
		hops        int
		enforceable bool
		ms          float64
	}{{1, false, 1200}, {1, true, 1222}, {2, false, 2500}, {2, true, 2544}} {
		if got := *l.lightning(c.hops, c.enforceable); math.Abs(got-c.ms) > 1e-6 {
			t.Errorf("%d hops, enforceable %v: %v ms, not %v", c.hops, c.enforceable, got, c.ms)
		}
	}
}

// Ends that are started again have their channel and pay on, and the money of
// all processes adds up.
func TestGrow(t *testing.T) {
	t.Parallel()
	o := Options{Rail: lightning, Payments: 20, Concurrency: 50, Command: []string{os.Args[0]}, Dir: t.TempDir()}
	o.Fill()
	var all []Growth
	err := Grow(t.Context(), o, []int{100, 200}, func(uint64) {}, func(g Growth) error { all = append(all, g); return nil })
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range all {
		for _, e := range g.Ends {
			if *e.RSSMiB <= 0 || e.DiskBytes <= 0 || *e.StartMs <= 0 || (i > 0) != (e.DiskGrowth != nil) {
				t.Errorf("%+v", e)
			}
		}
		if g.Past != 100*(i+1) || len(g.Ends) != 2 || *g.Pps <= 0 || *g.CPUMs <= 0 {
			t.Errorf("%+v", g)
		}
	}
	var b bytes.Buffer
	if WriteGrowth(&b, all); len(all) != 2 || !strings.Contains(b.String(), "payee: start ms") {
		t.Errorf("%d results:\n%s", len(all), &b)
	}
}

func TestGrowRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		store string
		pasts []int
	}{"a store that forgets": {"mem", []int{1000}}, "falling": {"pebble", []int{1000, 100}}, "too near": {"pebble", []int{1000, 1020}}} {
		o := Options{Rail: lightning, Store: c.store, Payments: 20}
		o.Fill()
		if err := Grow(t.Context(), o, c.pasts, nil, nil); !errors.Is(err, money.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecades(t *testing.T) {
	if got := Decades(1000, 100_000); !slices.Equal(got, []int{1000, 10_000, 100_000}) {
		t.Error(got)
	}
	if got := Decades(math.MaxInt/2, math.MaxInt); len(got) != 1 {
		t.Error(got)
	}
}

// Whoever reads the JSON finds every field, and null where there is no figure.
func TestFields(t *testing.T) {
	raw, err := json.Marshal(Result{})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(`rail store link hops payments concurrency conserved`) {
		if _, there := fields[name]; !there {
			t.Errorf("no field %s", name)
		}
	}
	for _, name := range strings.Fields(`pps p50_ms p99_ms cpu_ms_per_payment payer_cpu_ms_per_payment payee_cpu_ms_per_payment
		disk_bytes_per_payment fsyncs_per_payment wire_bytes_per_payment signatures_per_payment rss_mib payer_rss_mib
		fee_msat_per_payment finality_ms sign_us verify_us stamp_sign_us stamp_verify_us fsync_us round_trip_us`) {
		if v, there := fields[name]; !there || v != nil {
			t.Errorf("field %s is %v, there %v; it must be null", name, v, there)
		}
	}
}

// The format is the one of golang.org/design/14313-benchmark-format.
func TestBenchLine(t *testing.T) {
	var b bytes.Buffer
	WriteBench(&b, &Result{Rail: "oneway", Store: "pebble", Payments: 300, Concurrency: 1000, Pps: figure(20_000), Fsyncs: figure(0.01)})
	line := b.String()
	words := strings.Fields(line)
	if !regexp.MustCompile(`^BenchmarkLab/rail=oneway/store=pebble/hops=\d/c=1000-\d+$`).MatchString(words[0]) || words[1] != "300" || !strings.HasSuffix(line, "\n") {
		t.Fatalf("%q", line)
	}
	if len(words)%2 != 0 || !slices.Contains(words, "ns/op") || !slices.Contains(words, "fsyncs/op") || slices.Contains(words, "p50-ns") {
		t.Errorf("%q", line)
	}
	for i := 2; i < len(words); i += 2 {
		if _, err := strconv.ParseFloat(words[i], 64); err != nil {
			t.Errorf("%q is not a number", words[i])
		}
	}
	if words[2] != "50000" || words[3] != "ns/op" {
		t.Errorf("%q", line)
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	WriteTable(&b, []Result{{Rail: "oneway", Concurrency: 1000, Pps: figure(20_000)}, {Pps: figure(21_000)}})
	for _, want := range []string{"payments/s", "20000", "21000", "≥ 5,000", "–", "conserved"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, &b)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, o := range map[string]Options{
		"hops":     {Hops: 2}, // oneway does not route
		"too far":  {Rail: "lightning", Hops: MaxHops + 1},
		"channels": {Rail: "lightning", Hops: 2, Channels: 2},
		"payments": {Payments: -1},
		"too many": {Concurrency: MaxConcurrency + 1},
		"amount":   {Amount: money.BTC},
		"dust":     {Rail: onchain, Amount: money.Sat},
		"pause":    {Pause: time.Hour},
		"store":    {Store: "paper"},
		"rail":     {Rail: "railway"},
	} {
		o.Fill()
		if err := o.Check(); !errors.Is(err, money.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An end that dies says why, and its partner is not left behind.
func TestAnEndThatFails(t *testing.T) {
	o := Options{Command: []string{"/bin/sh", "-c", "echo no disk >&2; exit 1"}}
	o.Fill()
	_, err := Run(t.Context(), o, func(uint64) {})
	if err == nil || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("%v", err)
	}
}

func TestAnEndStopsWithItsInput(t *testing.T) {
	done := make(chan error, 1)
	go func() {
		done <- End(t.Context(), strings.NewReader("{\"do\":\"sing\"}\n"), &bytes.Buffer{})
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it goes on")
	}
}

func TestHistogram(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 255, 256, 257, 999, 1 << 20, 1<<40 + 12345, 1<<63 - 1} {
		got := uint64(value(bucket(v)))
		if off := max(got, v) - min(got, v); off > v/128 {
			t.Errorf("%d is kept as %d", v, got)
		}
	}
	h := new(histogram)
	for i := range 1000 {
		h.add(time.Duration(i) * time.Microsecond)
	}
	if p50 := h.quantile(0.5); p50 < 495*time.Microsecond || p50 > 505*time.Microsecond {
		t.Errorf("p50 %v", p50)
	}
}
