package report

import (
	"context"
	"errors"
	"time"

	"coinop.dev/lab"
)

// quickFor is how long devices pay in a quick report.
const quickFor = 2 * time.Second

// door runs a workload of many devices at a gateway's door.
func door(rail string, w *Workload, b *Bench) (*Plan, error) {
	o := lab.DoorOptions{Door: "mqtt", Rail: rail, Devices: w.Devices, For: w.For}
	if b.Quick {
		o.For = quickFor
	}
	o.Fill()
	digested := o
	o.Dir, o.Command = b.Dir, b.Command
	if err := o.Check(); err != nil {
		return nil, err
	}
	payments := float64(o.Devices) * o.For.Seconds()
	return &Plan{
		Options: digested, Takes: 6*time.Second + o.For + time.Duration(o.Devices)*4*time.Millisecond,
		Run: func(ctx context.Context, _ uint64, progress func(float64)) (*Outcome, error) {
			r, err := lab.RunDoor(ctx, o, func(done uint64) { progress(float64(done) / payments) })
			if err == nil && r.Conserved != nil && !*r.Conserved {
				err = errors.New("the devices' stamps and the gateway's till do not agree")
			}
			if err != nil {
				return nil, err
			}
			return doorFigures(&r), nil
		},
	}, nil
}

// doorFigures are those of a gateway and its devices. The payee is the gateway; what
// one of the payers takes cannot be told from the others.
func doorFigures(r *lab.DoorResult) *Outcome {
	f := figures{}
	f.add("pps", r.Pps)
	f.add("p50_ms", r.P50Ms)
	f.add("p95_ms", r.P95Ms)
	f.add("p99_ms", r.P99Ms)
	f.add("payee_cpu_ms", r.GatewayCPUMs)
	f.add("payer_cpu_ms", r.LoadCPUMs)
	if r.GatewayCPUMs != nil && r.LoadCPUMs != nil {
		f["cpu_ms"] = *r.GatewayCPUMs + *r.LoadCPUMs
	}
	f.add("payee_rss_mib", r.PeakRSSMiB)
	f.add("rss_kib_device", r.DeviceKiB)
	f.add("wire_bytes", r.WireBytes)
	f.add("disk_bytes", r.DiskBytes)
	f.add("store_bytes", r.StoreBytes)
	f.add("fsyncs", r.Fsyncs)
	if r.Lost != nil && r.Refused != nil {
		f["lost"] = float64(*r.Lost + *r.Refused)
	}
	f.add("offered_ps", r.OfferedPs)
	const open = "the channels stay open when a door is measured"
	const together = "all devices are one process, whose disks are left out"
	if r.Pps != nil {
		f["payments"] = *r.Pps * r.ForS
	}
	return &Outcome{Figures: f, Raw: r, Missing: map[string]string{
		"chain_txs": open, "chain_vb": open, "chain_vb_1000": open, "close_ms": open,
		"payer_rss_mib": together, "payer_store_bytes": together, "payer_fsyncs": together, "payer_growth_bytes": together,
	}}
}
