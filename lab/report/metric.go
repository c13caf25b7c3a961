package report

import "slices"

// A Metric is a figure that runs have: a row of a workload's table.
type Metric struct {
	Name  string `json:"name"` // in samples
	Label string `json:"label"`
	Unit  string `json:"unit"`
	Note  string `json:"note,omitempty"` // what exactly is counted
	Group string `json:"-"`
	// Share is a figure that is counted, not timed: its runs are added up, and its
	// interval is that of a share of Of.
	Of string `json:"of,omitempty"`
	// In are the workloads that have it; empty is all between two machines and at
	// doors.
	In []string `json:"-"`
}

// The groups of metrics.
const (
	groupSpeed   = "Speed"
	groupFinal   = "Finality and fee"
	groupCost    = "Cost of a payment"
	groupDevice  = "On the payer's device"
	groupRisk    = "Risk"
	groupNetwork = "Routing"
	groupPrivacy = "What observers learn, if they put together what they see (share of the payments that arrived)"
	groupLedger  = "What a copy of the ledger tells anybody, of each payment (share of the payments)"
	groupLimits  = "What this computer can do at best, in the same runs"
)

var (
	pairs    = []string{"vending", "streaming", "sensors", "toll"}
	networks = []string{"network", "network-x10"}
	sites    = []string{"site-110", "site-1000", "site-10000"}
)

// Metrics are all of them, in the order of the tables.
var Metrics = []Metric{
	{Name: "pps", Label: "payments", Unit: "1/s", Group: groupSpeed},
	{Name: "offered_ps", Label: "payments offered", Unit: "1/s", Group: groupSpeed, In: sites},
	{Name: "p50_ms", Label: "time to receipt, p50", Unit: "ms", Note: "from asking until the payee's receipt is there; half of the payments are faster", Group: groupSpeed},
	{Name: "p95_ms", Label: "time to receipt, p95", Unit: "ms", Group: groupSpeed},
	{Name: "p99_ms", Label: "time to receipt, p99", Unit: "ms", Group: groupSpeed},
	{Name: "lost", Label: "payments lost or refused", Unit: "", Group: groupSpeed, In: sites},

	{Name: "close_ms", Label: "closing a channel", Unit: "ms", Note: "until the closing transaction is mined, where a block comes at once; add the wait for a block", Group: groupFinal, In: pairs},
	{Name: "chain_txs", Label: "transactions on chain", Unit: "", Note: "of a run: funding and closing of its channels, or its payments", Group: groupFinal, In: pairs},
	{Name: "chain_vb", Label: "their size", Unit: "vB", Group: groupFinal, In: pairs},
	{Name: "chain_vb_1000", Label: "footprint per 1,000 payments", Unit: "vB", Note: "with 1,000 to a channel; what opens and closes it is as large with one", Group: groupFinal, In: pairs},
	{Name: "chain_pps", Label: "payments that fill the whole chain", Unit: "1/s", Note: "a million vB in ten minutes / vB of a payment", Group: groupFinal, In: pairs},
	{Name: "fee_1_sat", Label: "fee at 1 sat/vB", Unit: "sat", Note: "footprint x rate / 1,000, and the routers' fee: with 1,000 payments to a channel", Group: groupFinal, In: pairs},
	{Name: "fee_10_sat", Label: "fee at 10 sat/vB", Unit: "sat", Group: groupFinal, In: pairs},
	{Name: "fee_50_sat", Label: "fee at 50 sat/vB", Unit: "sat", Group: groupFinal, In: pairs},
	{Name: "route_fee_msat", Label: "fee to routers", Unit: "msat", Note: "a payment, as the routers' channels grew", Group: groupFinal, In: pairs},

	{Name: "cpu_ms", Label: "processor time, all ends", Unit: "ms", Group: groupCost},
	{Name: "payee_cpu_ms", Label: "of it the payee's", Unit: "ms", Group: groupCost},
	{Name: "energy_mj", Label: "energy of the processor package", Unit: "mJ", Note: "the machine's counter (RAPL), all of a run's, opening and closing too, per payment", Group: groupCost},
	{Name: "wire_bytes", Label: "bytes on the wire", Unit: "B", Note: "both directions of all links, inside TCP", Group: groupCost},
	{Name: "store_bytes", Label: "bytes to stores", Unit: "B", Note: "all ends, as the stores wrote them; at a door the gateway's", Group: groupCost},
	{Name: "disk_bytes", Label: "bytes to disk", Unit: "B", Note: "all ends, as the kernel counts them; at a door the gateway's", Group: groupCost},
	{Name: "payee_growth_bytes", Label: "growth of the payee's disk", Unit: "B", Note: "of its folder, over the run; a young store's log is in it", Group: groupCost, In: pairs},
	{Name: "fsyncs", Label: "fsyncs", Unit: "", Group: groupCost},
	{Name: "signatures", Label: "signatures", Unit: "", Group: groupCost, In: pairs},
	{Name: "payee_rss_mib", Label: "payee's memory, peak", Unit: "MiB", Note: "resident, the program's own pages in it", Group: groupCost},
	{Name: "rss_kib_device", Label: "gateway's memory for a device", Unit: "KiB", Note: "peak above its start, divided by the devices", Group: groupCost, In: sites},

	{Name: "payer_cpu_ms", Label: "processor time", Unit: "ms", Note: "a payment; on this computer", Group: groupDevice},
	{Name: "payer_store_bytes", Label: "bytes to its store", Unit: "B", Group: groupDevice},
	{Name: "payer_growth_bytes", Label: "growth of its disk", Unit: "B", Group: groupDevice},
	{Name: "payer_fsyncs", Label: "flash writes (fsyncs)", Unit: "", Group: groupDevice},
	{Name: "payer_rss_mib", Label: "memory, peak", Unit: "MiB", Group: groupDevice},

	{Name: "payer_risk_msat", Label: "payer's value at risk, most", Unit: "msat", Note: "paid and not stamped, or too small in flight for the chain; asked every 0.1 s", Group: groupRisk, In: pairs},
	{Name: "payee_risk_msat", Label: "payee's value at risk, most", Unit: "msat", Note: "credit given, or too small in flight for the chain; asked every 0.1 s", Group: groupRisk, In: pairs},
	{Name: "paid_down", Label: "paid while the node is down", Unit: "", Note: "share of the payments asked for", Group: groupRisk, In: []string{"outage"}},
	{Name: "back_ms", Label: "back after it is started again", Unit: "ms", Note: "from starting its process until the next payment is paid", Group: groupRisk, In: []string{"outage"}},
	{Name: "broken", Label: "attempts that succeeded", Unit: "", Of: "seeds", Note: "seeds in which a promise broke", Group: groupRisk, In: []string{"attack"}},
	{Name: "cheats", Label: "seeds with an old commitment on chain", Unit: "", Of: "seeds", Group: groupRisk, In: []string{"attack"}},

	{Name: "success_first", Label: "arrive at the first attempt", Note: "share of payments", Group: groupNetwork, In: networks},
	{Name: "success", Label: "arrive after up to five", Note: "share of payments", Group: groupNetwork, In: networks},
	{Name: "attempts", Label: "attempts for a payment", Group: groupNetwork, In: networks},
	{Name: "hops", Label: "channels on the way, p50", Group: groupNetwork, In: networks},
	{Name: "hops_p95", Label: "channels on the way, p95", Group: groupNetwork, In: networks},
	{Name: "network_fee_msat", Label: "fee to routers, p50", Unit: "msat", Group: groupNetwork, In: networks},
	{Name: "network_fee_p95", Label: "fee to routers, p95", Unit: "msat", Group: groupNetwork, In: networks},
	{Name: "depleted", Label: "depleted channels in the end", Note: "share of which one side has less than a twentieth; a tenth begin so", Group: groupNetwork, In: networks},
	{Name: "search_us", Label: "finding a path, p50", Unit: "µs", Note: "the simulator's own pathfinder", Group: groupNetwork, In: networks},
	{Name: "network_mib", Label: "memory of network and search", Unit: "MiB", Group: groupNetwork, In: networks},

	{Name: "seen_1", Label: "payments that the largest node sees", Note: "and their amount, within its fee", Group: groupPrivacy, In: networks},
	{Name: "seen_10", Label: "that the ten largest see", Group: groupPrivacy, In: networks},
	{Name: "seen_100", Label: "that the hundred largest see", Group: groupPrivacy, In: networks},
	{Name: "linked_1", Label: "beside payer and payee stands the largest", Note: "it can tell that both neighbours have to do with one payment, by its hash", Group: groupPrivacy, In: networks},
	{Name: "linked_10", Label: "beside both stand two of the ten largest", Group: groupPrivacy, In: networks},
	{Name: "linked_100", Label: "beside both stand two of the hundred largest", Group: groupPrivacy, In: networks},

	{Name: "linked_payer", Label: "the payer's key", Note: "read back from the ledger after the run, and compared with what was paid", Group: groupLedger, In: pairs},
	{Name: "linked_payee", Label: "the payee's key", Group: groupLedger, In: pairs},
	{Name: "linked_amount", Label: "the amount", Group: groupLedger, In: pairs},
	{Name: "linked_all", Label: "all three of one payment", Group: groupLedger, In: pairs},

	{Name: "latency_ratio", Label: "p50 / (fsync + round trip)", Unit: "x", Note: "of payments one by one; 1 is what the machine allows if each is durable once and crosses the wire once", Group: groupLimits, In: []string{"streaming"}},
	{Name: "cpu_ratio", Label: "processor time / (signature + verification)", Unit: "x", Note: "below 1 where many payments share a signature, or take none", Group: groupLimits, In: pairs},
	{Name: "sign_us", Label: "a signature (ECDSA)", Unit: "µs", Group: groupLimits, In: pairs},
	{Name: "verify_us", Label: "a verification (ECDSA)", Unit: "µs", Group: groupLimits, In: pairs},
	{Name: "stamp_sign_us", Label: "a stamp (Ed25519)", Unit: "µs", Group: groupLimits, In: pairs},
	{Name: "stamp_verify_us", Label: "a stamp's verification", Unit: "µs", Group: groupLimits, In: pairs},
	{Name: "hash_us", Label: "a hash (SHA-256)", Unit: "µs", Group: groupLimits, In: pairs},
	{Name: "fsync_us", Label: "an fsync of 256 B", Unit: "µs", Group: groupLimits, In: pairs},
	{Name: "round_trip_us", Label: "a round trip on loopback, sealed", Unit: "µs", Group: groupLimits, In: pairs},
}

// of reports whether a workload can have the metric.
func (m *Metric) of(w *Workload) bool {
	if len(m.In) == 0 {
		return slices.Contains(pairs, w.Name) || slices.Contains(sites, w.Name)
	}
	return slices.Contains(m.In, w.Name)
}

// metric finds one by its name; nil if there is none.
func metric(name string) *Metric {
	i := slices.IndexFunc(Metrics, func(m Metric) bool { return m.Name == name })
	if i < 0 {
		return nil
	}
	return &Metrics[i]
}
