package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// lnd is the peer that most Lightning nodes run, between two of them and over a third.
var (
	lnd       Rail = lndRail{1}
	lndRouted Rail = lndRail{2}
)

type lndRail struct{ hops int }

func (l lndRail) About() About {
	a := About{
		Name: "lnd", Title: "lnd, one channel (peer)", Class: Channel,
		Kind: "instant", Finality: "instant: with the preimage, if the payment is above the dust limit",
	}
	if l.hops > 1 {
		a.Name, a.Title = "lnd-routed", "lnd, over one router (peer)"
	}
	return a
}

// peerPayments bounds a run of a peer, which takes a tenth of a second for each.
const peerPayments = 200

// Plan has interop's versus run lnd as processes, the way its makers ship it.
func (l lndRail) Plan(w *Workload, b *Bench) (*Plan, error) {
	switch {
	case w.Times > 0 || w.Seeds > 0:
		return nil, absent("the simulator has no nodes of other make")
	case w.Outage > 0 || w.Burst || w.Devices > 0:
		return nil, absent("interop's versus, which runs lnd, has no such workload")
	case b.Peers == "":
		return nil, absent("lnd is no part of this program: --peers interop builds it from Go modules, in minutes the first time, and runs it in the same report")
	}
	if _, err := os.Stat(filepath.Join(b.Peers, "cmd", "versus")); err != nil {
		return nil, absent("%s has no cmd/versus: --peers is the folder interop of the sources", b.Peers)
	}
	args := []string{"run", "./cmd/versus", "--json", "--who", "lnd", "--hops", strconv.Itoa(l.hops), "--in-flight", strconv.Itoa(w.InFlight),
		"--amounts", w.Amount.String(), "--payments", strconv.Itoa(min(w.payments(b.Quick), peerPayments))}
	return &Plan{
		Options: args, Takes: 30 * time.Second,
		Run: func(ctx context.Context, _ uint64, _ func(float64)) (*Outcome, error) {
			var out, problems bytes.Buffer
			cmd := exec.CommandContext(ctx, "go", args...)
			cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = b.Peers, &out, &problems, time.Minute
			cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it stops its nodes
			if err := cmd.Run(); err != nil {
				return nil, fmt.Errorf("versus: %w: %.500s", err, bytes.TrimSpace(problems.Bytes()))
			}
			return readVersus(out.Bytes())
		},
	}, nil
}

// versusResult is a line of interop's versus, as far as it is used.
type versusResult struct {
	Version   string  `json:"version"`
	Payments  int     `json:"payments"`
	Failed    int     `json:"failed"`
	Why       string  `json:"why"`
	PerSecond float64 `json:"payments_per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	CPU       float64 `json:"cpu_ms_per_payment"`
	Disk      float64 `json:"disk_bytes_per_payment"`
	Nodes     []struct {
		CPU  float64 `json:"cpu_ms_per_payment"`
		Peak float64 `json:"peak_rss_bytes"`
	} `json:"nodes"`
}

func readVersus(out []byte) (*Outcome, error) {
	for line := range bytes.Lines(out) {
		if line[0] != '{' {
			continue
		}
		var r versusResult
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		if r.Failed > 0 || len(r.Nodes) < 2 {
			return nil, fmt.Errorf("%d of %d payments failed: %s", r.Failed, r.Payments, r.Why)
		}
		payer, payee := r.Nodes[0], r.Nodes[len(r.Nodes)-1]
		return &Outcome{Figures: map[string]float64{
			"pps": r.PerSecond, "p50_ms": r.P50, "p99_ms": r.P99, "cpu_ms": r.CPU, "disk_bytes": r.Disk, "payments": float64(r.Payments),
			"payer_cpu_ms": payer.CPU, "payee_cpu_ms": payee.CPU, "payer_rss_mib": payer.Peak / (1 << 20), "payee_rss_mib": payee.Peak / (1 << 20),
		}, Raw: json.RawMessage(bytes.TrimSpace(line))}, nil
	}
	return nil, errors.New("versus has printed no result")
}
