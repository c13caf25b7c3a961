package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// booksFault notes that events cannot be filed, or can be again.
func (d *Daemon) booksFault(err error) {
	if err == nil {
		d.away.Store(nil)
		return
	}
	d.Log.Warn("the books are away; the journal keeps what happens", "err", err)
	d.away.Store(&err)
}

// ready says whether new sales may begin: while the books are away, until the
// journal has no more room.
func (d *Daemon) ready() (err error) {
	away := d.away.Load()
	if away == nil {
		return nil
	}
	full := false
	err = d.Machine.Engine.Host.Do(context.Background(), func(m *drive.Machine) {
		full = m.Core(journal.Name).(*journal.Journal).Full()
	})
	if err == nil && full {
		err = fmt.Errorf("the books have been away for too long: %w", *away)
	}
	return err
}

// metrics are counted as things happen; the rest is asked for when somebody looks.
type metrics struct {
	registry *prometheus.Registry
	orders   *prometheus.CounterVec
	payments *prometheus.CounterVec
	income   prometheus.Counter
	refused  *prometheus.CounterVec
	requests *prometheus.CounterVec
}

func newMetrics(d *Daemon) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		orders:   counter("coinop_orders_total", "Orders of doors, by the state they came to.", "state"),
		payments: counter("coinop_payments_total", "What this machine was asked to pay, by result.", "result"),
		income:   prometheus.NewCounter(prometheus.CounterOpts{Name: "coinop_income_payments_total", Help: "Payments that came in."}),
		refused:  counter("coinop_budget_refusals_total", "Payments that a limit refused, by the limit.", "limit"),
		requests: counter("coinop_http_requests_total", "Requests of the HTTP door, by status.", "code"),
	}
	m.registry.MustRegister(m.orders, m.payments, m.income, m.refused, m.requests, &gauges{d},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "coinop_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	m.registry.MustRegister(build)
	return m
}

// hear runs on the host's goroutine.
func (m *metrics) hear(o step.Outcome) {
	switch v := o.Value.(type) {
	case earn.Order:
		if o.Core == earn.Name && o.ID == v.ID.Key() {
			m.orders.WithLabelValues(v.State).Inc()
		}
	case receipt.Income:
		if o.Core != spend.Name && o.Err == nil {
			m.income.Inc()
		}
	}
	if o.Core == spend.Name || o.Core == fleet.Name {
		var refusal *spend.Refusal
		if errors.As(o.Err, &refusal) {
			m.refused.WithLabelValues(refusal.Limit).Inc()
		}
	}
	if o.Core == spend.Name {
		result := "settled"
		if o.Err != nil {
			result = money.KindOf(o.Err).Error()
		}
		m.payments.WithLabelValues(result).Inc()
	}
}

// gauges asks the machine when it is looked at.
type gauges struct{ d *Daemon }

var (
	receivable = prometheus.NewDesc("coinop_receivable_msat", "What can be received now.", []string{"rail"}, nil)
	spendable  = prometheus.NewDesc("coinop_spendable_msat", "What can be paid now.", []string{"rail"}, nil)
	inFlight   = prometheus.NewDesc("coinop_in_flight_msat", "On its way.", []string{"rail"}, nil)
	inDust     = prometheus.NewDesc("coinop_at_risk_msat", "In flight without protection on chain, and credit given.", []string{"rail"}, nil)
	sessions   = prometheus.NewDesc("coinop_sessions_left_msat", "Prepaid and not used.", nil, nil)
	owed       = prometheus.NewDesc("coinop_orders_owed", "Paid and not delivered.", nil, nil)
	earned     = prometheus.NewDesc("coinop_earned_msat_total", "Ever.", nil, nil)
	returned   = prometheus.NewDesc("coinop_refunded_msat_total", "Ever.", nil, nil)
	devices    = prometheus.NewDesc("coinop_devices", "Devices of the fleet, by state.", []string{"state"}, nil)
	booksAway  = prometheus.NewDesc("coinop_books_away", "1 while the books cannot be written.", nil, nil)
	events     = prometheus.NewDesc("coinop_journal_events", "Events that the books have not taken yet.", nil, nil)
)

// Describe lists nothing: what there is depends on the rails.
func (*gauges) Describe(chan<- *prometheus.Desc) {}

// Collect reads the machine.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	o, err := g.d.Machine.Shop.Outlook(ctx)
	if err != nil {
		return
	}
	seen := map[string]bool{} // a rail that is open twice is one
	for _, r := range o.Rails {
		if seen[r.Rail] {
			continue
		}
		seen[r.Rail] = true
		gauge(receivable, float64(r.Receivable), r.Rail)
		gauge(spendable, float64(r.Spendable), r.Rail)
		gauge(inFlight, float64(r.InFlight), r.Rail)
		gauge(inDust, float64(r.AtRisk), r.Rail)
	}
	away := 0.0
	if g.d.away.Load() != nil {
		away = 1
	}
	gauge(booksAway, away)
	gauge(sessions, float64(o.OwedSessions))
	gauge(owed, float64(o.OwedOrders))
	g.d.Machine.Engine.Host.Do(ctx, func(m *drive.Machine) {
		sum := m.Core(earn.Name).(*earn.Book).Summary()
		gauge(earned, float64(sum.Earned))
		gauge(returned, float64(sum.Back))
		if j, ok := m.Core(journal.Name).(*journal.Journal); ok {
			gauge(events, float64(len(j.Since(0, journal.MaxKept))))
		}
		if f, ok := m.Core(fleet.Name).(*fleet.Fleet); ok {
			c := f.Counts()
			gauge(devices, float64(c.Online), "online")
			gauge(devices, float64(c.Revoked), "revoked")
			gauge(devices, float64(c.Devices), "all")
		}
	})
}

// openMetrics serves /metrics, /healthz and /readyz.
func (d *Daemon) openMetrics(addr string) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.metrics.registry, promhttp.HandlerOpts{}))
	say := func(w http.ResponseWriter, err error) {
		w.Header().Set("Content-Type", "application/json")
		v := map[string]any{"ok": err == nil}
		if away := d.away.Load(); away != nil {
			v["books"] = (*away).Error() // sales go on until the journal is full
		}
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			v["why"] = err.Error()
		}
		json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { say(w, d.Healthy(r.Context())) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		err := d.Healthy(r.Context())
		if err == nil {
			err = d.ready()
		}
		if err == nil && len(d.Machine.PayTo()) == 0 {
			err = errors.New("no rail of this machine is paid")
		}
		say(w, err)
	})
	l, err := listen(addr)
	if err != nil {
		return err
	}
	if err := loopback(l.Addr(), d.config.InsecureHTTP); err != nil {
		l.Close()
		return err
	}
	d.serve(&http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, l)
	d.at["metrics"] = "http://" + l.Addr().String()
	return nil
}

// Healthy reports whether the machine does its rounds.
func (d *Daemon) Healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return d.Machine.Engine.Host.Do(ctx, func(*drive.Machine) {})
}
