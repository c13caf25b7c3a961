package report

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/lab"
)

var update = flag.Bool("update", false, "rewrite testdata")

// TestMain lets this binary be an end of a measurement, as cmd/coinop is.
func TestMain(m *testing.M) {
	if os.Getenv("COINOP_LAB_END") != "" {
		if err := lab.End(context.Background(), os.Stdin, os.Stdout); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		return
	}
	os.Setenv("COINOP_LAB_END", "1") // of the processes that tests start
	os.Exit(m.Run())
}

// fixed are samples as a session would have left them: two rails measured, one with
// a run that failed and a figure that is missing, one that could not be run.
func fixed() ([]Sample, []Session) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	load := 0.5
	s := Session{
		Env:    Environment{CPU: "A processor", Cores: 2, Memory: 4 << 30, Kernel: "Linux 6", System: "linux/amd64", Go: "go1", Program: "0123"},
		Digest: "e", Runs: 6, Begin: at, End: at.Add(time.Hour), Added: 19,
		Before: Noise{LoadAverage: &load, SpinUs: 700, SpinP99: 1.1, FsyncUs: 200, FsyncP99Us: 400}, After: &Noise{SpinUs: 700, SpinP99: 1.2, FsyncUs: 210, FsyncP99Us: 900},
		Plans: []Planned{
			{Workload: "vending", Rail: "oneway", Plan: "p1"}, {Workload: "vending", Rail: "lightning", Plan: "p2"}, {Workload: "vending", Rail: "nano", Reason: "this build has no rail nano"},
			{Workload: "streaming", Rail: "oneway", Plan: "p3"}, {Workload: "streaming", Rail: "lightning", Reason: errOmitted.Error()},
			{Workload: "site-110", Rail: "oneway", Plan: "p4"}, {Workload: "attack", Rail: "oneway", Plan: "p5"},
		},
	}
	var all []Sample
	add := func(x Sample) {
		x.Env, x.At, x.TookS, x.line = "e", at, 1, len(all)+1
		all = append(all, x)
	}
	for run := 1; run <= 6; run++ {
		r := float64(run)
		add(Sample{Workload: "vending", Rail: "oneway", Run: run, Plan: "p1", Figures: map[string]float64{
			"pps": 1000 + 10*r, "p50_ms": 2 + r/10, "p95_ms": 4 + r/10, "p99_ms": 8 + r, "cpu_ms": 0.5, "chain_vb": 333, "chain_vb_1000": 333, "route_fee_msat": 0,
			"payer_cpu_ms": 0.2, "payee_cpu_ms": 0.3, "wire_bytes": 210, "store_bytes": 700, "cpu_ratio": 3, "sign_us": 34,
		}, Missing: map[string]string{"energy_mj": noJoules}})
		switch run {
		case 3:
			add(Sample{Workload: "vending", Rail: "lightning", Run: run, Plan: "p2", Error: "pay: the payee is <gone>"})
		default:
			add(Sample{Workload: "vending", Rail: "lightning", Run: run, Plan: "p2", Figures: map[string]float64{"pps": 200 - r, "p50_ms": 15, "p95_ms": 20, "p99_ms": 30 * r, "cpu_ratio": 20}})
		}
		add(Sample{Workload: "attack", Rail: "oneway", Run: run, Plan: "p5", Figures: map[string]float64{"broken": 0, "seeds": 4}, Missing: map[string]string{"cheats": "nobody cheats"}})
	}
	add(Sample{Workload: "vending", Rail: "oneway", Run: 1, Plan: "another", Figures: map[string]float64{"pps": 1}})
	return all, []Session{s}
}

// What a report looks like, in all formats; read the diff.
func TestGolden(t *testing.T) {
	r := Build(fixed())
	for name, write := range map[string]func(*bytes.Buffer) error{
		"report.md":   func(b *bytes.Buffer) error { return r.WriteMarkdown(b) },
		"report.csv":  func(b *bytes.Buffer) error { return r.WriteCSV(b) },
		"report.html": func(b *bytes.Buffer) error { return r.WriteHTML(b) },
		"summary.txt": func(b *bytes.Buffer) error { r.WriteSummary(b); return nil },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, wanted := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
		for i := range max(len(got), len(wanted)) {
			if i >= len(got) || i >= len(wanted) || got[i] != wanted[i] {
				t.Errorf("%s, line %d differs (-update, and read the diff):\n%.300s", name, i+1, strings.Join(got[min(i, len(got)):min(i+1, len(got))], ""))
				break
			}
		}
	}
}

// A page that asks for nothing from elsewhere and runs nothing.
func TestPageIsWhole(t *testing.T) {
	var b bytes.Buffer
	if err := Build(fixed()).WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, never := range []string{"<script", "http://", "https://", "<link", "@import", "url(", "NaN", "Inf", "ZgotmplZ", "<gone>", "%!"} {
		if strings.Contains(page, never) {
			t.Errorf("the page has %q", never)
		}
	}
	for _, m := range []string{`href="#vending-oneway"`, `id="vending-oneway"`, "prefers-color-scheme: dark", "@media print", "<svg", "&lt;gone&gt;"} {
		if !strings.Contains(page, m) {
			t.Errorf("the page has no %q", m)
		}
	}
}

// What could not be had is missing, with the reason that fits.
func TestMissing(t *testing.T) {
	r := Build(fixed())
	for _, c := range []struct{ workload, rail, metric, reason string }{
		{"vending", "nano", "pps", "no rail nano"},
		{"streaming", "oneway", "pps", "not run yet"},
		{"streaming", "lightning", "pps", "--quick"},
		{"vending", "oneway", "energy_mj", "no energy counter"},
		{"vending", "oneway", "fsyncs", "does not say"},
		{"vending", "payword", "pps", "not asked for"},
		{"attack", "oneway", "cheats", "nobody cheats"},
	} {
		cell := r.Cell(c.workload, c.rail, c.metric)
		if cell.Spread != nil || cell.text() != "–" || !strings.Contains(cell.Missing, c.reason) {
			t.Errorf("%v: %+v", c, cell)
		}
	}
	if c := r.Cell("vending", "lightning", "pps"); c.N != 5 || len(r.Failed) != 1 || c.Low != nil {
		t.Errorf("%+v, %d failed", c, len(r.Failed))
	}
	all, sessions := fixed()
	var broken []Sample
	for _, s := range all {
		if s.Rail == "lightning" && s.Error != "" {
			broken = append(broken, s)
		}
	}
	if c := Build(broken, sessions).Cell("vending", "lightning", "pps"); !strings.Contains(c.Missing, "failed") || !strings.Contains(c.Missing, "gone") {
		t.Errorf("%+v", c)
	}
	if c := r.Cell("vending", "oneway", "pps"); c.N != 6 || c.Median != 1035 || *c.Low != 1010 || *c.High != 1060 || len(c.Samples) != 6 || c.Samples[1] != 4 {
		t.Errorf("%+v %v", c, c.Samples)
	}
	if c := r.Cell("vending", "oneway", "fee_10_sat"); c.Spread == nil || math.Abs(c.Median-3.33) > 1e-9 {
		t.Errorf("%+v", c)
	}
	if c := r.Cell("attack", "oneway", "broken"); c.Hits != 0 || c.Of != 24 || math.Abs(*c.High-0.1173) > 1e-3 {
		t.Errorf("%+v", c)
	}
}

func TestShareInterval(t *testing.T) {
	for _, c := range []struct {
		hits, n   int
		low, high float64
	}{{0, 10, 0, 0.2589}, {10, 10, 0.7411, 1}, {5, 10, 0.1871, 0.8129}, {1, 1000, 0.0000253, 0.005558}} {
		low, high := shareInterval(c.hits, c.n)
		if math.Abs(low-c.low) > 1e-4 || math.Abs(high-c.high) > 1e-4 {
			t.Errorf("%d of %d: %v to %v, not %v to %v", c.hits, c.n, low, high, c.low, c.high)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1234567: "1,234,567", 12.345: "12.3", 0.0012345: "0.00123", 1000: "1,000", 2: "2", 999.6: "1,000", -1500: "-1,500", 0.5: "0.5"} {
		if got := number(v); got != want {
			t.Errorf("%v is %q, not %q", v, got, want)
		}
	}
}

// Two reports whose samples differ, and two that do not.
func TestCompare(t *testing.T) {
	samples, sessions := fixed()
	a := Build(samples, sessions)
	for _, d := range Compare(a, Build(fixed())) {
		if d.Differs || d.Percent != 0 {
			t.Errorf("a report differs from itself: %+v", d)
		}
	}
	faster, _ := fixed()
	for i := range faster {
		if v, ok := faster[i].Figures["pps"]; ok && faster[i].Rail == "oneway" {
			faster[i].Figures["pps"] = 2 * v
		}
	}
	all := Compare(a, Build(faster, sessions))
	changed := Changed(all)
	if len(changed) != 1 || changed[0].Metric != "pps" || math.Abs(changed[0].Percent-100) > 1e-9 || changed[0].P > 0.01 {
		t.Errorf("%+v", changed)
	}
	_, others := fixed()
	others[0].Plans[0].Plan = "another"
	if other := Compare(a, Build(samples, others)); other[0].Note != otherPlan || other[0].Differs {
		t.Errorf("%+v", other[0])
	}
	var b bytes.Buffer
	WriteDifferences(&b, all)
	for _, want := range []string{"vending over oneway", "+100.00%", "(p=0.002 n=6+6)", "~"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

// A rail of tests.
type testRail struct {
	ran  *int
	fail *bool
	stop context.CancelFunc // after the second run
}

func (r testRail) About() About { return About{Name: "test", Title: "Test", Class: NewCoin} }

func (r testRail) Plan(w *Workload, b *Bench) (*Plan, error) {
	if w.Name != "vending" {
		return nil, errors.New("only vending")
	}
	return &Plan{Options: b.Quick, Takes: time.Second, Run: func(_ context.Context, seed uint64, progress func(float64)) (*Outcome, error) {
		progress(0.5)
		*r.ran++
		if r.stop != nil && *r.ran == 2 {
			defer r.stop()
		}
		if *r.fail && seed == 2 {
			return nil, errors.New("no luck")
		}
		return &Outcome{Figures: map[string]float64{"pps": float64(seed)}, Raw: seed}, nil
	}}, nil
}

// What is there is not run again; what failed is, and so is what was cut off.
func TestResume(t *testing.T) {
	saved := Rails
	defer func() { Rails = saved }()
	ran, fail := 0, true
	Rails = []Rail{testRail{ran: &ran, fail: &fail}}
	o := Options{Out: t.TempDir(), Runs: 3, look: func(string) (Noise, error) { return Noise{}, nil }}
	path := filepath.Join(o.Out, SamplesFile)
	runs := func(ctx context.Context, want, samples int, fault error) {
		t.Helper()
		ran = 0
		last := Progress{}
		if _, err := Run(ctx, o, func(p Progress) { last = p }); !errors.Is(err, fault) {
			t.Fatal(err)
		}
		all, err := ReadSamples(path)
		if err != nil || ran != want || len(all) != samples || want > 0 && (last.Run != want || last.Left > time.Second) {
			t.Errorf("%d runs, %d samples, %v; %+v", ran, len(all), err, last)
		}
	}
	runs(t.Context(), 3, 3, nil)
	runs(t.Context(), 1, 4, nil) // the one that failed
	fail = false
	runs(t.Context(), 1, 5, nil)
	runs(t.Context(), 0, 5, nil)
	if r, err := Read(o.Out); err != nil || r.Cell("vending", "test", "pps").N != 3 || len(r.Failed) != 0 || len(r.Sessions) != 4 || r.Sessions[0].After == nil {
		t.Errorf("%+v %v", r, err)
	}
	if r, err := Read(o.Out); err != nil || r.Cell("toll", "test", "pps").Missing != "only vending" {
		t.Errorf("%+v %v", r, err)
	}

	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw[:len(raw)-20], 0o600); err != nil { // killed while it wrote
		t.Fatal(err)
	}
	runs(t.Context(), 1, 5, nil)

	o.Quick = true // another plan: nothing of it is there; and somebody presses Ctrl-C
	ctx, stop := context.WithCancel(t.Context())
	Rails = []Rail{testRail{ran: &ran, fail: &fail, stop: stop}}
	ran = 0
	if added, err := Run(ctx, o, func(Progress) {}); !errors.Is(err, context.Canceled) || added != 1 {
		t.Errorf("%d added: %v", added, err)
	}

	other := bytes.ReplaceAll(raw, []byte(`"env":"`), []byte(`"env":"x`))
	if err := os.WriteFile(path, other, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), o, func(Progress) {}); !errors.Is(err, money.Invalid) || !strings.Contains(err.Error(), "another computer") {
		t.Error(err)
	}
}

func TestRefuses(t *testing.T) {
	for _, o := range []Options{{Runs: MaxRuns + 1}, {Rails: []string{"rails"}}, {Workloads: []string{"leisure"}}} {
		if err := o.Check(); !errors.Is(err, money.Invalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Every rail answers for every workload: a plan or a reason. Names are found again.
func TestPlans(t *testing.T) {
	o := Options{Out: t.TempDir(), Bench: Bench{Command: []string{os.Args[0]}}}
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	all, tasks, err := o.plan()
	if err != nil || len(all) != len(Rails)*len(Workloads) || len(tasks) == 0 {
		t.Fatalf("%d plans, %d tasks, %v", len(all), len(tasks), err)
	}
	for _, p := range all {
		if (p.Plan == "") == (p.Reason == "") {
			t.Errorf("%+v", p)
		}
	}
	for _, w := range Workloads {
		if workload(w.Name) != w {
			t.Errorf("workload %s is not found", w.Name)
		}
	}
	if runs := map[int]int{}; true {
		for i, task := range tasks {
			if runs[task.run]++; i > 0 && task.run < tasks[i-1].run {
				t.Error("a first run comes after a second one")
			}
		}
	}
}

// A real run, as small as it can be: two processes, a channel, a chain.
func TestRealRun(t *testing.T) {
	w := &Workload{Name: "vending", Amount: 100 * money.Sat, InFlight: 4, Payments: 20}
	p, err := oneway.Plan(w, &Bench{Dir: t.TempDir(), Command: []string{os.Args[0]}})
	if err != nil {
		t.Fatal(err)
	}
	o, err := p.Run(t.Context(), 1, func(float64) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pps", "p50_ms", "p95_ms", "p99_ms", "cpu_ms", "chain_vb", "chain_vb_1000", "route_fee_msat", "payer_risk_msat", "payee_risk_msat", "hash_us", "cpu_ratio", "payer_growth_bytes"} {
		if _, ok := o.Figures[name]; !ok {
			t.Errorf("no %s", name)
		}
	}
	for name := range o.Figures {
		if metric(name) == nil && name != "payments" {
			t.Errorf("nothing shows %s", name)
		}
	}
}

// A peer's figures, as versus prints them.
func TestVersus(t *testing.T) {
	const line = `{"who":"lnd","payments":60,"failed":0,"payments_per_second":34.1,"p50_ms":114,"p99_ms":156,"cpu_ms_per_payment":17.6,"disk_bytes_per_payment":820224,"nodes":[{"cpu_ms_per_payment":9.3,"peak_rss_bytes":1048576},{"cpu_ms_per_payment":8.3,"peak_rss_bytes":2097152}]}`
	o, err := readVersus([]byte("version  hops\n" + line + "\n"))
	if err != nil || o.Figures["pps"] != 34.1 || o.Figures["payee_rss_mib"] != 2 || o.Figures["payer_cpu_ms"] != 9.3 {
		t.Errorf("%+v %v", o, err)
	}
	for _, bad := range []string{"", "{}", strings.Replace(line, `"failed":0`, `"failed":1`, 1)} {
		if _, err := readVersus([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	samples, sessions := fixed()
	if Build(samples, sessions).Peers() != nil {
		t.Error("peers that nobody measured")
	}
	sessions[0].Plans = append(sessions[0].Plans, Planned{Workload: "vending", Rail: "lnd", Plan: "p9"})
	samples = append(samples, Sample{Workload: "vending", Rail: "lnd", Run: 1, Plan: "p9", Figures: map[string]float64{"pps": 19.6}, line: 99})
	p := Build(samples, sessions).Peers()
	if p == nil || len(p.Rows) != 2 || p.Rows[1].Entries[3].Text != "10" {
		t.Errorf("%+v", p)
	}
}

// Axes hold what they were made for, in order, and have ticks.
func TestAxis(t *testing.T) {
	for _, log := range []bool{false, true} {
		for _, values := range [][]float64{{3}, {1, 1000}, {0.02, 0.03}, {5, 7, 80_000}, {}, {1e-6, 1e9}} {
			a := newAxis(values, log, 100, 500)
			for _, v := range values {
				if x := a.at(v); x < 100 || x > 500 {
					t.Errorf("log %v: %v of %v is at %v", log, v, values, x)
				}
			}
			ticks := a.ticks(6)
			if len(ticks) < 2 || len(ticks) > 8 {
				t.Errorf("log %v, %v: ticks %v", log, values, ticks)
			}
			for i, v := range ticks {
				if x := a.at(v); x < 99.9 || x > 500.1 || i > 0 && x <= a.at(ticks[i-1]) {
					t.Errorf("log %v, %v: tick %v is at %v", log, values, v, x)
				}
			}
		}
	}
}

func TestLook(t *testing.T) {
	n, err := Look(t.TempDir())
	if err != nil || n.FsyncUs <= 0 || n.SpinUs <= 0 || n.SpinP99 < 1 || n.FsyncP99Us < n.FsyncUs {
		t.Errorf("%+v %v", n, err)
	}
	if e := Here(); e.Program == "" || e.Cores < 1 || len(e.Digest()) != 12 {
		t.Errorf("%+v", e)
	}
}

// A copy of the README of this repository gets a table between its lines, once and
// again, and keeps the rest.
func TestReadme(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(raw), ReadmeBegin) != 1 || strings.Count(string(raw), ReadmeEnd) != 1 {
		t.Fatalf("README.md must have one line %s and one %s", ReadmeBegin, ReadmeEnd)
	}
	path := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	r := Build(fixed())
	for range 2 {
		if err := r.WriteReadme(path); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cut := func(raw []byte) (string, string, string) {
		before, rest, _ := strings.Cut(string(raw), ReadmeBegin)
		table, after, _ := strings.Cut(rest, ReadmeEnd)
		return before, table, after
	}
	before, _, after := cut(raw)
	b, table, a := cut(got)
	if b != before || a != after || !strings.Contains(table, "| One-way channel |") || strings.Contains(table, "Nano") || strings.Contains(table, "Raiden") || !strings.Contains(table, "load 0.5 before") {
		t.Errorf("%s", got)
	}
	if err := r.WriteReadme(filepath.Join("testdata", "report.md")); err == nil || !strings.Contains(err.Error(), ReadmeBegin) {
		t.Errorf("written into a file without the lines: %v", err)
	}
}

// A quick report says what it leaves out, and runs once what takes long.
func TestQuick(t *testing.T) {
	saved := Rails
	defer func() { Rails = saved }()
	Rails = []Rail{nano, oneway}
	o := Options{Bench: Bench{Quick: true, Command: []string{"true"}}}
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	plans, tasks, err := o.plan()
	if err != nil {
		t.Fatal(err)
	}
	runs := map[string]int{}
	for _, task := range tasks {
		runs[task.name()]++
	}
	for name, want := range map[string]int{"vending over nano": 2, "streaming over oneway": 2, "streaming over nano": 0, "attack over nano": 1, "site-110 over oneway": 1, "site-1000 over oneway": 0} {
		if runs[name] != want {
			t.Errorf("%s is run %d times, not %d", name, runs[name], want)
		}
	}
	said := strings.Join(Build(nil, []Session{{Quick: true, Runs: o.Runs, Plans: plans}}).about(), "\n")
	for _, want := range []string{"one run only of toll, site-110, outage, attack", "left out: streaming over nano, site-1000, site-10000"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in %s", want, said)
		}
	}
}
