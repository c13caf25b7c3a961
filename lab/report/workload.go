package report

import (
	"fmt"
	"time"

	"coinop.dev/core/money"
)

// A Workload is what is asked of every rail, in numbers.
type Workload struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Story string `json:"story"`

	Amount   money.Amount  `json:"amount_msat,omitempty"` // of a payment
	InFlight int           `json:"in_flight,omitempty"`   // payments at a time
	Payments int           `json:"payments,omitempty"`
	Brief    int           `json:"payments_quick,omitempty"` // payments of a quick report
	Burst    bool          `json:"burst,omitempty"`          // InFlight at once, and again after Pause
	Pause    time.Duration `json:"pause_ns,omitempty"`
	Metered  bool          `json:"metered,omitempty"` // may be paid by a meter's ticks

	Devices int           `json:"devices,omitempty"` // at a gateway's door, a payment a second each
	For     time.Duration `json:"for_ns,omitempty"`
	Quick   bool          `json:"in_quick"`                // part of a quick report
	Once    bool          `json:"once_in_quick,omitempty"` // and there with one run only

	Outage time.Duration `json:"outage_ns,omitempty"` // how long the next node is dead
	Seeds  int           `json:"seeds,omitempty"`     // of the simulator, a run
	Times  int           `json:"times,omitempty"`     // of a simulated network: the survey's so many times
}

// Workloads are all of them, in the order of the report.
var Workloads = []*Workload{
	{
		Name: "vending", Title: "Vending: independent small purchases",
		Story:  "A machine sells for 2,000 sat. Four buyers are at it at a time; each purchase is an order with a receipt of its own.",
		Amount: 2_000 * money.Sat, InFlight: 4, Payments: 2_000, Brief: 100, Quick: true,
	},
	{
		// A run pays more than the chain's dust limit, or nothing could be settled.
		Name: "streaming", Title: "Streaming: pay per second",
		Story:  "One payer, 1 sat a second, one tick after another. The ticks do not wait for the second to pass, so p50 is the part of a second that a tick takes.",
		Amount: money.Sat, InFlight: 1, Payments: 1_000, Brief: 300, Metered: true, Quick: true,
	},
	{
		Name: "sensors", Title: "Sensor market: many readers of few sensors",
		Story:  "64 readers pay 5 sat a reading through their gateway's channel to the sensors' gateway, all the time.",
		Amount: 5 * money.Sat, InFlight: 64, Payments: 5_000, Brief: 1_000, Quick: true,
	},
	{
		Name: "toll", Title: "Toll: bursts",
		Story:  "A platoon of 200 vehicles passes at once, 500 sat each, and the next one 300 ms after the last has paid. p99 is how long the last vehicles wait.",
		Amount: 500 * money.Sat, InFlight: 200, Payments: 2_000, Brief: 600, Burst: true, Pause: 300 * time.Millisecond, Quick: true, Once: true,
	},
	site(110, true), site(1_000, false), site(10_000, false),
	{
		Name: "outage", Title: "A node is down",
		Story:  "The node next to the payer is killed for a second, while 20 payments are asked for, and started again.",
		Amount: 1_000 * money.Sat, InFlight: 4, Payments: 50, Brief: 50, Outage: time.Second, Quick: true, Once: true,
	},
	{
		Name: "attack", Title: "Double spending",
		Story: "The rail's simulated world, played by seed with its attacker. An attempt succeeds if it breaks one of the world's promises: every order is paid once, every satoshi is accounted for.",
		Seeds: 20, Quick: true, Once: true,
	},
	network(1, 100_000, true), network(10, 3_000, false),
}

func network(times, payments int, quick bool) *Workload {
	w := &Workload{
		Name: "network", Title: "A network of 13,504 nodes and 37,093 channels",
		Story: "The network that the survey counted, made anew in every run (coinop lab scale, docs/lab.md): payments of 1 to 100,000 sat between nodes chosen at random, up to five paths each, nobody rebalances.",
		Times: times, Payments: payments, Brief: 5_000, Quick: quick, Once: quick,
	}
	if times > 1 {
		w.Name, w.Title = fmt.Sprintf("network-x%d", times), fmt.Sprintf("A network %d times as large", times)
		w.Story = "As above, with so many times as many nodes and channels."
	}
	return w
}

func site(devices int, quick bool) *Workload {
	n := map[int]string{110: "110", 1_000: "1,000", 10_000: "10,000"}[devices]
	return &Workload{
		Name: "site-" + map[int]string{110: "110", 1_000: "1000", 10_000: "10000"}[devices], Title: "Site: " + n + " devices",
		Story:   n + " devices pay one gateway once a second each, over MQTT. Gateway and devices share this computer.",
		Devices: devices, For: 10 * time.Second, Quick: quick, Once: quick,
	}
}

func (w *Workload) payments(quick bool) int {
	if quick {
		return w.Brief
	}
	return w.Payments
}

// workload finds one by its name; nil if there is none.
func workload(name string) *Workload {
	for _, w := range Workloads {
		if w.Name == name {
			return w
		}
	}
	return nil
}
