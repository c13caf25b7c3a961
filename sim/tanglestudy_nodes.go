package sim

import (
	"fmt"
	"math"
	"slices"
	"strings"

	stardust "coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// tangleNeighbours is how many other nodes each is linked with, in a study.
const tangleNeighbours = 6

// TangleConfirmation simulates a network of nodes, some of which are coordinators of
// whom two thirds must sign, on an earth, and has so many blocks confirmed at a rate.
// Nodes are linked with some others only.
func TangleConfirmation(seed uint64, nodes, coordinators, blocks int, rate float64, interval step.Time, e Earth) (c Confirmation, err error) {
	c = Confirmation{Nodes: nodes, Voters: coordinators, Rate: rate, Runs: blocks}
	w := NewWorld(seed, Faults{DelayMax: e.Jitter, Lose: e.Lose})
	w.Silent, w.Sample, w.MaxEvents = true, math.MaxInt, math.MaxInt
	w.Distance = e.distance(w)
	var keys [][32]byte
	for i := range coordinators {
		keys = append(keys, tangleKey(fmt.Sprint("coordinator", i)).Public())
	}
	network, err := stardust.NewNetwork("study", "sim", coordinators*2/3+1, keys, []stardust.BasicOutput{{Amount: 1, Address: stardust.NewAddress(keys[0])}})
	if err != nil {
		return c, err
	}
	messages := 0
	w.Sent = func(*Machine, step.Packet) { messages++ }
	due, final, by := map[string]step.Time{}, map[string]step.Time{}, map[string]uint32{}
	marks := map[uint32][]step.Time{}
	w.OnDone = func(_ *Machine, o step.Outcome) {
		switch v := o.Value.(type) {
		case node.Settled:
			if _, ours := due[o.ID]; ours && strings.HasPrefix(o.ID, "data/") {
				final[o.ID], by[o.ID] = w.Now, v.Milestone.Index
			}
		case node.Confirmed:
			marks[v.Index] = append(marks[v.Index], w.Now)
		}
	}
	var machines []*Machine
	for i := range nodes {
		m, err := w.Add(nodeName(i), tangleStudyBoot(i, nodes, coordinators, interval, network))
		if err != nil {
			return c, err
		}
		machines = append(machines, m)
	}
	began := w.Now + 2*interval
	for i := range blocks {
		data := &stardust.TaggedData{Tag: []byte("study"), Data: fmt.Append(nil, i)}
		at := began + step.Time(float64(i)*1000/rate)
		id := node.DataID(stardust.IDOf(data.Append(nil)))
		due[id] = at
		w.Tell(at, machines[i%nodes], node.Core, node.Submit{ID: fmt.Sprint("study", i), Payload: data})
	}
	done := func() bool {
		for id := range due {
			if _, ok := final[id]; !ok || len(marks[by[id]]) < nodes {
				return false
			}
		}
		return true
	}
	for end := began + step.Time(float64(blocks)*1000/rate) + studyPatience; w.Now < end && !done(); {
		if err := w.Run(w.Now + step.Second); err != nil {
			return c, err
		}
	}
	var here, all []float64
	for id, at := range due {
		if final[id] == 0 || len(marks[by[id]]) < nodes {
			return c, fmt.Errorf("%d of %d blocks are confirmed, and the last one not on all %d nodes", len(final), blocks, nodes)
		}
		here, all = append(here, float64(final[id]-at)), append(all, float64(slices.Max(marks[by[id]])-at))
	}
	c.times(here, all)
	c.Messages = float64(messages) / float64(blocks)
	return c, nil
}

func tangleStudyBoot(i, nodes, coordinators int, interval step.Time, network *stardust.Network) func(step.Reader) (*drive.Machine, error) {
	return func(r step.Reader) (*drive.Machine, error) {
		c := node.Config{Network: network, Seed: [32]byte{byte(i), byte(i >> 8)}}
		if i < coordinators {
			c.Coordinator = node.Coordinator{Secret: tangleKey(fmt.Sprint("coordinator", i)), Primary: i == 0, Interval: interval}
			if i > 0 {
				c.Coordinator.Follows = tangleKey("coordinator0").Public()
			}
		}
		for k := 1; k <= tangleNeighbours/2; k++ {
			// Steps of 1, and ever longer ones, both ways.
			far := max(k, nodes*(k-1)/tangleNeighbours)
			for _, j := range []int{(i + far) % nodes, (i - far + nodes) % nodes} {
				if name := nodeName(j); j != i && !slices.Contains(c.Peers, name) {
					c.Peers = append(c.Peers, name)
				}
			}
		}
		n, err := node.Load(r, c)
		if err != nil {
			return nil, err
		}
		m := drive.NewMachine()
		m.Add(node.Core, n)
		return m, nil
	}
}
