package scale

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"coinop.dev/core/money"
)

// graphFile is what lncli describegraph prints, as far as it is used.
type graphFile struct {
	Edges []struct {
		Node1    string      `json:"node1_pub"`
		Node2    string      `json:"node2_pub"`
		Capacity string      `json:"capacity"` // sat
		Policy1  *filePolicy `json:"node1_policy"`
		Policy2  *filePolicy `json:"node2_policy"`
	} `json:"edges"`
}

type filePolicy struct {
	Base     string `json:"fee_base_msat"`
	PPM      string `json:"fee_rate_milli_msat"`
	Disabled bool   `json:"disabled"`
}

// maxFile bounds a graph's file, in bytes: ten times the whole network's.
const maxFile = 1 << 30

// readGraph reads a graph. A side without a policy forwards nothing.
func readGraph(path string) (*network, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes; %d are read at most", path, info.Size(), maxFile)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file graphFile
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("%s is no graph as lncli describegraph prints it: %w", path, err)
	}
	if len(file.Edges) == 0 || len(file.Edges) > MaxChannels {
		return nil, fmt.Errorf("%s has %d channels; it must be 1 to %d", path, len(file.Edges), MaxChannels)
	}
	g, number := &network{}, map[string]int32{}
	node := func(key string) int32 {
		n, ok := number[key]
		if !ok {
			n = int32(len(number))
			number[key] = n
		}
		return n
	}
	for i, e := range file.Edges {
		sat, err := strconv.ParseInt(e.Capacity, 10, 64)
		if err != nil || sat < 1 || sat > money.MaxAmount.Sats() {
			return nil, fmt.Errorf("%s, channel %d: the capacity is %.40q", path, i+1, e.Capacity)
		}
		if e.Node1 == e.Node2 {
			return nil, fmt.Errorf("%s, channel %d: both ends are %.70q", path, i+1, e.Node1)
		}
		c := channel{ends: [2]int32{node(e.Node1), node(e.Node2)}, capacity: sat * int64(money.Sat)}
		for side, p := range []*filePolicy{e.Policy1, e.Policy2} {
			if c.policy[side], err = p.read(); err != nil {
				return nil, fmt.Errorf("%s, channel %d: %w", path, i+1, err)
			}
		}
		g.channels = append(g.channels, c)
	}
	if len(number) > MaxNodes {
		return nil, fmt.Errorf("%s has %d nodes; %d are read at most", path, len(number), MaxNodes)
	}
	g.index(len(number))
	return g, nil
}

func (p *filePolicy) read() (policy, error) {
	if p == nil || p.Disabled {
		return policy{ppm: off}, nil
	}
	base, err := strconv.ParseUint(p.Base, 10, 31)
	ppm, fault := strconv.ParseUint(p.PPM, 10, 31)
	return policy{uint32(base), uint32(ppm)}, errors.Join(err, fault)
}
