package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"coinop.dev/core/money"
)

// The files of a report.
const (
	SamplesFile  = "lab-samples.jsonl"
	SessionsFile = "lab-sessions.jsonl"
)

const (
	// QuickRuns and FullRuns are how often each is measured. Six is the least that
	// has a 95 % interval of its median.
	QuickRuns = 2
	FullRuns  = 10
	// MaxRuns bounds a report.
	MaxRuns = 100
)

// Options say what to measure.
type Options struct {
	Bench
	Out  string // the folder of samples and report
	Runs int    // 0: QuickRuns or FullRuns
	// Rails and Workloads are names; none is all.
	Rails, Workloads []string

	look func(dir string) (Noise, error) // Look, but in tests, which have no time
}

// Check reports what cannot be measured, and fills in what is not said.
func (o *Options) Check() error {
	invalid := func(format string, args ...any) error {
		return &money.Error{Kind: money.Invalid, Op: "lab report", Err: fmt.Errorf(format, args...)}
	}
	if o.Runs == 0 {
		o.Runs = FullRuns
		if o.Quick {
			o.Runs = QuickRuns
		}
	}
	if o.look == nil {
		o.look = Look
	}
	if o.Runs < 1 || o.Runs > MaxRuns {
		return invalid("runs is %d; it must be 1 to %d", o.Runs, MaxRuns)
	}
	known := map[string]bool{}
	for _, r := range Rails {
		known[r.About().Name] = true
	}
	for _, name := range o.Rails {
		if !known[name] {
			return invalid("no rail of the report is called %.40q", name)
		}
	}
	for _, name := range o.Workloads {
		if workload(name) == nil {
			return invalid("no workload is called %.40q", name)
		}
	}
	return nil
}

// Planned is what a session meant to measure, or why it could not.
type Planned struct {
	Workload string          `json:"workload"`
	Rail     string          `json:"rail"`
	Plan     string          `json:"plan,omitempty"` // digest
	Options  json.RawMessage `json:"options,omitempty"`
	Reason   string          `json:"reason,omitempty"`
}

// A task is one run that is to be made.
type task struct {
	w    *Workload
	rail string
	plan *Plan
	id   string // digest
	run  int
}

func (t *task) name() string { return t.w.Name + " over " + t.rail }

// plan asks all rails, and lists the runs: the first of everything, then the second,
// so that what changes on the computer meanwhile changes for all.
func (o *Options) plan() (all []Planned, tasks []task, err error) {
	var once []task
	for _, w := range Workloads {
		for _, r := range Rails {
			name := r.About().Name
			if len(o.Workloads) > 0 && !slices.Contains(o.Workloads, w.Name) || len(o.Rails) > 0 && !slices.Contains(o.Rails, name) {
				continue
			}
			p := Planned{Workload: w.Name, Rail: name}
			plan, reason := r.Plan(w, &o.Bench)
			if reason == nil && o.Quick && !w.Quick {
				reason = errOmitted
			}
			if reason != nil {
				p.Reason = words(reason)
			} else {
				if p.Options, err = json.Marshal(plan.Options); err != nil {
					return nil, nil, err
				}
				p.Plan = digest(plan.Options)
				once = append(once, task{w, name, plan, p.Plan, 0})
			}
			all = append(all, p)
		}
	}
	for run := range o.Runs {
		for _, t := range once {
			if run > 0 && t.w.Once && o.brief() {
				continue
			}
			t.run = run + 1
			tasks = append(tasks, t)
		}
	}
	return all, tasks, nil
}

// brief reports whether what takes long is run once only: in a quick report, unless
// somebody has asked for more runs.
func (o *Options) brief() bool { return o.Quick && o.Runs == QuickRuns }

// words are an error's own, without who says so and of what kind it is.
func words(err error) string {
	var kind *money.Error
	if errors.As(err, &kind) && kind.Err != nil {
		return kind.Err.Error()
	}
	return err.Error()
}

// Progress is how far a session is.
type Progress struct {
	What       string        // that runs now
	Run, Runs  int           // of all that are left to do
	Done, Left time.Duration // estimated from what the runs before took
}

// Run makes the runs that the folder does not have yet, and returns how many were
// added. What is there when ctx ends stays.
func Run(ctx context.Context, o Options, seen func(Progress)) (added int, err error) {
	if err := o.Check(); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return 0, err
	}
	path := filepath.Join(o.Out, SamplesFile)
	samples, err := ReadSamples(path)
	if err != nil {
		return 0, err
	}
	env := Here()
	if err := sameComputer(samples, env.Digest(), path); err != nil {
		return 0, err
	}
	plans, tasks, err := o.plan()
	if err != nil {
		return 0, err
	}
	tasks = left(tasks, samples)
	s := &session{Session: Session{Env: env, Digest: env.Digest(), Quick: o.Quick, Runs: o.Runs, Plans: plans, Begin: time.Now().UTC().Round(0)}}
	s.look = func() (Noise, error) { return o.look(o.Dir) }
	if err := s.open(o.Out); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	out, err := openLines(path)
	if err != nil {
		return 0, err
	}
	defer out.close()
	c := newClock(tasks)
	for i := range tasks {
		t := &tasks[i]
		sample := s.measure(ctx, t, func(share float64) { seen(c.at(i, share)) })
		if ctx.Err() != nil {
			return s.Added, ctx.Err() // a run that was cut off is no failure of its rail
		}
		if err := out.add(sample); err != nil {
			return s.Added, err
		}
		s.Added++
		c.took(t, sample.TookS)
	}
	return s.Added, nil
}

func sameComputer(samples []Sample, here, path string) error {
	for i := range samples {
		if samples[i].Env != here {
			return &money.Error{Kind: money.Invalid, Op: "lab report", Err: fmt.Errorf("%s, line %d is of another computer or another build (%s, not %s): give another --out, or remove the file", path, samples[i].line, samples[i].Env, here)}
		}
	}
	return nil
}

// left leaves out the runs that are there. Those that failed are made again.
func left(tasks []task, samples []Sample) []task {
	there := map[string]bool{}
	for i := range samples {
		if samples[i].Error == "" {
			there[samples[i].key()] = true
		}
	}
	return slices.DeleteFunc(tasks, func(t task) bool {
		s := Sample{Workload: t.w.Name, Rail: t.rail, Run: t.run, Plan: t.id}
		return there[s.key()]
	})
}

// session is a Session that is going on.
type session struct {
	Session
	out  *lines
	look func() (Noise, error)
}

func (s *session) open(folder string) (err error) {
	if s.Before, err = s.look(); err != nil {
		return err
	}
	if s.out, err = openLines(filepath.Join(folder, SessionsFile)); err != nil {
		return err
	}
	return s.out.add(s.Session)
}

func (s *session) close() error {
	after, err := s.look()
	if err == nil {
		s.After, s.End = &after, time.Now().UTC().Round(0)
		err = s.out.add(s.Session)
	}
	return errors.Join(err, s.out.close())
}

func (s *session) measure(ctx context.Context, t *task, progress func(float64)) Sample {
	sample := Sample{Workload: t.w.Name, Rail: t.rail, Run: t.run, Plan: t.id, Env: s.Digest, Seed: uint64(t.run), At: time.Now().UTC().Round(0)}
	progress(0)
	energy, counted := joules()
	begin := time.Now()
	o, err := t.plan.Run(ctx, sample.Seed, progress)
	sample.TookS = time.Since(begin).Seconds()
	if err == nil {
		sample.Result, err = json.Marshal(o.Raw)
	}
	if err != nil {
		sample.Error, sample.Result = err.Error(), nil
		return sample
	}
	sample.Figures, sample.Missing = o.Figures, o.Missing
	if after, ok := joules(); !counted || !ok || after < energy {
		sample.miss("energy_mj", noJoules)
	} else if n := o.payments(); n > 0 {
		sample.Figures["energy_mj"] = (after - energy) * 1e3 / n
	}
	return sample
}

func (s *Sample) miss(name, reason string) {
	if s.Missing == nil {
		s.Missing = map[string]string{}
	}
	s.Missing[name] = reason
}

// payments is how many were made, as far as the outcome says.
func (o *Outcome) payments() float64 { return o.Figures["payments"] }

// A clock tells how much time is left, from what runs of the same kind took.
type clock struct {
	tasks []task
	mean  map[string][2]float64 // seconds and how often
	begin time.Time
}

func newClock(tasks []task) *clock {
	return &clock{tasks, map[string][2]float64{}, time.Now()}
}

func (c *clock) took(t *task, seconds float64) {
	m := c.mean[t.name()]
	c.mean[t.name()] = [2]float64{m[0] + seconds, m[1] + 1}
}

func (c *clock) guess(t *task) float64 {
	if m := c.mean[t.name()]; m[1] > 0 {
		return m[0] / m[1]
	}
	return t.plan.Takes.Seconds()
}

func (c *clock) at(i int, share float64) Progress {
	seconds := c.guess(&c.tasks[i]) * (1 - min(share, 1))
	for j := i + 1; j < len(c.tasks); j++ {
		seconds += c.guess(&c.tasks[j])
	}
	return Progress{What: c.tasks[i].name(), Run: i + 1, Runs: len(c.tasks), Done: time.Since(c.begin), Left: time.Duration(seconds * float64(time.Second))}
}
