package report

import "coinop.dev/lab"

// lightning is our node over one channel, and routed over one router.
var (
	lightning Rail = lightningRail{1}
	routed    Rail = lightningRail{2}
)

type lightningRail struct{ hops int }

func (l lightningRail) About() About {
	a := About{
		Name: "lightning", Title: "Lightning, one channel", Class: Channel,
		Kind: "instant", Finality: "instant: with the preimage, if the payment is above the dust limit",
		Attacker: "one of three nodes publishes a commitment that may be revoked, or stalls, lies, withholds preimages",
	}
	if l.hops > 1 {
		a.Name, a.Title = "lightning-routed", "Lightning, over one router"
	}
	return a
}

func (l lightningRail) Plan(w *Workload, b *Bench) (*Plan, error) {
	switch {
	case w.Devices > 0:
		return nil, absent("the devices of the lab pay at the door mqtt by tickets and coins; a Lightning node for each is not built into it")
	case w.Seeds > 0 && l.hops > 1:
		return nil, absent("the world of rail lightning has a router: see there")
	case w.Seeds > 0:
		return attack("lightning", w, b)
	case w.Times > 0 && l.hops > 1:
		return simulated(w, b)
	}
	return pair(lab.Options{Rail: "lightning", Hops: l.hops}, w, b)
}
