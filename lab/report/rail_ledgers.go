package report

import (
	"context"
	"fmt"
	"time"

	"coinop.dev/lab"
)

// The ledgers: four nodes with equal votes, each a process, and wallets that sign
// beforehand. A receipt is finality at the node that was asked.
var (
	nano Rail = ledgerRail{About{
		Name: "nano", Title: "Block lattice (Nano)", Class: NewCoin,
		Kind: "final votes", Finality: "when final votes of two thirds of the weight are for its block",
		Attacker: "a representative with almost a third of the weight votes for whatever it sees; a payer signs two sends for one place and gives them to different nodes",
	}, "lattice"}
	iota Rail = ledgerRail{About{
		Name: "iota", Title: "Tangle (IOTA)", Class: NewCoin,
		Kind: "milestone", Finality: "when a milestone of the coordinator refers to it; in the lab one comes every second",
		Attacker: "an evil coordinator of four, of which three must sign; a payer signs two transactions for one output; in every fourth seed three keys are stolen, and all nodes must stop",
	}, "tangle"}
)

type ledgerRail struct {
	about About
	world string // of the simulator
}

func (l ledgerRail) About() About { return l.about }

// ledgerRate is how many transfers a second there are where a workload asks for a few
// at a time: far from what the nodes can do.
const ledgerRate = 50

// ledgerAccounts are at least so many, that send to each other in turns.
const ledgerAccounts = 200

func (l ledgerRail) Plan(w *Workload, b *Bench) (*Plan, error) {
	switch {
	case w.Seeds > 0:
		return attack(l.world, w, b)
	case w.Times > 0:
		return nil, absent("a ledger routes nothing")
	case w.Devices > 0:
		return nil, absent("the devices of the lab pay at the door mqtt by tickets and coins only")
	case w.Outage > 0:
		return nil, absent("the lab does not kill nodes of a ledger")
	}
	if b.Quick && w.InFlight == 1 {
		return nil, fmt.Errorf("%w: to a ledger it is vending again, transfers at a steady rate", errOmitted)
	}
	o := lab.LedgerOptions{Rail: l.about.Name, Accounts: max(w.InFlight, ledgerAccounts), Transfers: w.payments(b.Quick)}
	switch {
	case w.Burst:
		o.Transfers = w.InFlight // one burst
	case w.InFlight < 8:
		if o.Rate, o.Transfers = ledgerRate, 400; b.Quick {
			o.Transfers = 50
		}
	}
	o.Fill()
	planned := o
	o.Dir, o.Command = b.Dir, b.Command
	if err := o.Check(); err != nil {
		return nil, err
	}
	takes := 5 * time.Second
	if o.Rate > 0 {
		takes += time.Duration(o.Transfers) * time.Second / ledgerRate
	}
	return &Plan{
		Options: planned, Takes: takes,
		Run: func(ctx context.Context, _ uint64, progress func(float64)) (*Outcome, error) {
			r, err := lab.RunLedger(ctx, o, func(done uint64) { progress(float64(done) / float64(o.Transfers)) })
			if err != nil {
				return nil, err
			}
			return ledgerFigures(&r), nil
		},
	}, nil
}

// ledgerFigures are those of all nodes together. Payer and payee are wallets, and none
// of them.
func ledgerFigures(r *lab.LedgerResult) *Outcome {
	f := figures{"payments": float64(r.Transfers)}
	if r.Rate == 0 {
		f.add("pps", r.Tps)
	}
	f.add("p50_ms", r.P50Ms)
	f.add("p95_ms", r.P95Ms)
	f.add("p99_ms", r.P99Ms)
	f.add("cpu_ms", r.CPUMs)
	f.add("store_bytes", r.StoreBytes)
	f.add("disk_bytes", r.DiskBytes)
	f.add("fsyncs", r.Fsyncs)
	f.add("payee_rss_mib", r.PeakRSSMiB)
	missing := map[string]string{}
	if r.Linked != nil {
		f["linked_payer"], f["linked_payee"], f["linked_amount"], f["linked_all"] = r.Linked.Payer, r.Linked.Payee, r.Linked.Amount, r.Linked.All
	}
	// Nothing that was taken is no satoshi either, whatever a unit is worth.
	if r.Taken != nil && *r.Taken == 0 {
		f["route_fee_msat"], f["fee_1_sat"], f["fee_10_sat"], f["fee_50_sat"] = 0, 0, 0, 0
	}
	for _, name := range []string{"payer_cpu_ms", "payee_cpu_ms", "payer_store_bytes", "payer_growth_bytes", "payer_fsyncs", "payer_rss_mib", "payee_growth_bytes"} {
		missing[name] = "payer and payee are wallets that have signed beforehand; the figures are the nodes'"
	}
	for _, name := range []string{"chain_txs", "chain_vb", "chain_vb_1000", "chain_pps"} {
		missing[name] = "the ledger is a chain of its own, without blocks to fill"
	}
	for _, name := range []string{"close_ms", "payer_risk_msat", "payee_risk_msat"} {
		missing[name] = "there is no channel, and nothing is delivered before it is final"
	}
	for _, name := range []string{"route_fee_msat", "fee_1_sat", "fee_10_sat", "fee_50_sat"} {
		missing[name] = "what was taken is in the ledger's own unit, which has no price here"
	}
	if r.Rate > 0 {
		missing["pps"] = fmt.Sprintf("transfers are offered at %d a second; the sensor market asks for as many as get through", r.Rate)
	}
	missing["wire_bytes"] = "the nodes' links are not counted"
	return &Outcome{Figures: f, Raw: r, Missing: missing}
}
