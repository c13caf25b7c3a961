package node_test

import (
	"testing"

	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/node"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/step"
)

// Whoever connects is told of both sides of a public channel, ours and the
// peer's, and of what the peer changes later, at a rate.
func TestBothSidesOfAChannel(t *testing.T) {
	w := newWorld(t, "car", "charger", "station")
	car, charger, station := w.machines[0], w.machines[1], w.machines[2]
	w.connect(charger, station)
	w.open(charger, station, node.Open{Capacity: 100_000, Public: true})

	updates := func(events ...any) (told []*ln.ChannelUpdate) {
		t.Helper()
		for _, p := range charger.n.Step(step.Input{At: w.at, Events: events}).Send {
			if u, ok := p.Msg.(*ln.ChannelUpdate); ok && p.To == car.peer() {
				told = append(told, u)
			} else if ok {
				t.Errorf("an update for %s", p.To)
			}
		}
		return told
	}
	told := updates(
		step.Linked{Peer: car.peer(), Link: 99},
		step.Recv{From: car.peer(), Link: 99, Msg: &ln.Init{Features: ln.NewFeatures(ln.GossipQueries.Optional())}},
	)
	if len(told) != 2 || told[0].ChannelFlags&ln.Direction == told[1].ChannelFlags&ln.Direction {
		t.Fatalf("told %+v", told)
	}
	theirs := told[1]
	if !station.key.Public().Verify(theirs.Digest(), theirs.Signature) {
		t.Error("the second update is not the peer's")
	}

	change := func(seconds uint32) []*ln.ChannelUpdate {
		u := *theirs
		u.Timestamp += seconds
		u.Signature = station.key.Sign(u.Digest())
		return updates(step.Recv{From: station.peer(), Link: charger.link[station], Msg: &u})
	}
	if told := change(0); len(told) != 0 {
		t.Errorf("an update that is not new is told: %+v", told)
	}
	if told := change(graph.Ahead + 1000); len(told) != 0 {
		t.Errorf("an update out of the future is told: %+v", told)
	}
	relayed := 0
	for i := range uint32(2 * graph.UpdateBurst) {
		relayed += len(change(i + 1))
	}
	if relayed != graph.UpdateBurst-1 {
		t.Errorf("%d updates are told at once", relayed)
	}
	w.at += graph.UpdateEvery * step.Second
	if told := change(1000); len(told) != 1 {
		t.Errorf("an hour later %d updates are told", len(told))
	}
}
