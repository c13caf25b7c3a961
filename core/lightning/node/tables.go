package node

import (
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/onion"
)

const (
	// maxTables bounds the nodes for which an onion is made the fast way: 31 kB
	// each.
	maxTables = 16
	// tableAfter is how many HTLCs to a node make its table worth what it costs.
	tableAfter = 16
	// maxSeen bounds the nodes whose HTLCs are counted, and whose keys are known
	// to be on the curve.
	maxSeen = 256
)

// tables are the nodes that payments pass again and again. It is a cache: what an
// onion looks like does not depend on it.
type tables struct {
	uses  map[keys.Public]int
	made  map[keys.Public]*onion.Table
	names map[string]keys.Public
}

// use counts an HTLC that a node will see.
func (t *tables) use(node keys.Public) {
	if t.uses == nil || len(t.uses) >= maxSeen {
		t.uses = map[keys.Public]int{}
	}
	t.uses[node]++
	if t.uses[node] != tableAfter || t.made[node] != nil {
		return
	}
	if t.made == nil || len(t.made) >= maxTables {
		t.made = map[keys.Public]*onion.Table{}
	}
	if table, err := onion.NewTable(node); err == nil {
		t.made[node] = table
	}
}

// of is the table of a node, or nil.
func (t *tables) of(node keys.Public) *onion.Table {
	if t == nil {
		return nil
	}
	return t.made[node]
}

// parse reads a key in hex, and checks only once that it is on the curve.
func (t *tables) parse(text string) (keys.Public, error) {
	if key, ok := t.names[text]; ok {
		return key, nil
	}
	key, err := keys.ParsePublicHex(text)
	if err != nil {
		return key, err
	}
	if t.names == nil || len(t.names) >= maxSeen {
		t.names = map[string]keys.Public{}
	}
	t.names[text] = key
	return key, nil
}
