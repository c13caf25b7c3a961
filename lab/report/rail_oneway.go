package report

import "coinop.dev/lab"

// oneway is the one-way channel: each payment a signature over all so far.
var oneway Rail = onewayRail{}

type onewayRail struct{}

func (onewayRail) About() About {
	return About{
		Name: "oneway", Title: "One-way channel", Class: Channel,
		Kind: "instant", Finality: "instant: with the ticket the payee can close the channel alone",
		Attacker: "no hostile payer; messages lost, repeated, reordered, crashes at every write, reorganisations of the chain",
	}
}

func (onewayRail) Plan(w *Workload, b *Bench) (*Plan, error) {
	switch {
	case w.Devices > 0:
		return door("oneway", w, b)
	case w.Seeds > 0:
		return attack("oneway", w, b)
	}
	return pair(lab.Options{Rail: "oneway"}, w, b)
}
