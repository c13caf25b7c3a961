package report

import "coinop.dev/lab"

// bitcoin is a transaction for each payment: the survey's direct integration.
var bitcoin Rail = bitcoinRail{}

type bitcoinRail struct{}

func (bitcoinRail) About() About {
	return About{
		Name: "bitcoin", Title: "Bitcoin, on chain", Class: Direct,
		Kind: "probabilistic, 6 blocks", Finality: "probabilistic: the more blocks, the less likely to be undone; six by custom, an hour. Times are the programs' own: in the lab a block comes at once, and one is waited for",
		Attacker: "a gateway without keys that lies; messages lost, repeated, crashes, reorganisations of the chain",
	}
}

func (bitcoinRail) Plan(w *Workload, b *Bench) (*Plan, error) {
	switch {
	case w.Devices > 0:
		return nil, absent("a transaction a second for each device is more than the whole chain takes")
	case w.Times > 0:
		return nil, absent("it pays its peer directly: there is nothing to route")
	case w.Seeds > 0:
		return attack("gateway", w, b)
	}
	p, err := pair(lab.Options{Rail: "bitcoin", Payments: max(w.payments(b.Quick)/5, w.InFlight)}, w, b)
	if err == nil {
		p.Takes *= 3
	}
	return p, err
}
