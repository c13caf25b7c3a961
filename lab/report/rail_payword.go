package report

import "coinop.dev/lab"

// payword is PayWord: each coin a hash, settled over a one-way channel.
var payword Rail = paywordRail{}

type paywordRail struct{}

func (paywordRail) About() About {
	return About{
		Name: "payword", Title: "Hash chain (PayWord)", Class: Channel,
		Kind: "instant, on credit", Finality: "instant up to the credit: coins are promises until they are settled over the channel below",
		Attacker: "no hostile payer; messages lost, repeated, reordered, crashes at every write, reorganisations of the chain",
	}
}

func (paywordRail) Plan(w *Workload, b *Bench) (*Plan, error) {
	switch {
	case w.Devices > 0:
		return door("payword", w, b)
	case w.Seeds > 0:
		return attack("payword", w, b)
	}
	return pair(lab.Options{Rail: "payword"}, w, b)
}
