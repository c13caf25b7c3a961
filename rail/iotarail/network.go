package iotarail

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"coinop.dev/core/ledger/tangle"
)

// maxNetworkFile bounds a network's file, in bytes.
const maxNetworkFile = 256 << 10

// file is a network as people write it down. What is 0 may be left out.
type file struct {
	Name          string   `json:"name"`
	HRP           string   `json:"hrp"` // of its addresses
	Coordinators  []string `json:"coordinators"`
	Threshold     int      `json:"threshold"`
	MinScore      uint32   `json:"min_score,omitempty"`
	MinZeros      int      `json:"min_zeros,omitempty"`
	BelowMaxDepth uint32   `json:"below_max_depth,omitempty"`
	StorageCost   uint64   `json:"storage_cost,omitempty"`
	Genesis       []output `json:"genesis"`
}

type output struct {
	Address string `json:"address"` // bech32
	Amount  uint64 `json:"amount"`  // base units
}

// ReadNetwork reads a network from a file.
func ReadNetwork(path string) (*tangle.Network, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	n, err := ParseNetwork(raw)
	if err != nil {
		return nil, fmt.Errorf("network file %s: %w", path, err)
	}
	return n, nil
}

// ParseNetwork reads what is in such a file, and checks it.
func ParseNetwork(raw []byte) (*tangle.Network, error) {
	if len(raw) > maxNetworkFile {
		return nil, fmt.Errorf("it is %d bytes; the limit is %d", len(raw), maxNetworkFile)
	}
	var f file
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	var keys [][32]byte
	for _, text := range f.Coordinators {
		key, err := hex.DecodeString(text)
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("coordinator %.70q is not 64 hex digits", text)
		}
		keys = append(keys, [32]byte(key))
	}
	var genesis []tangle.BasicOutput
	for _, out := range f.Genesis {
		address, err := tangle.ParseAddress(f.HRP, out.Address)
		if err != nil {
			return nil, err
		}
		genesis = append(genesis, tangle.BasicOutput{Amount: out.Amount, Address: address})
	}
	n, err := tangle.NewNetwork(f.Name, f.HRP, f.Threshold, slices.Clone(keys), genesis)
	if err != nil {
		return nil, err
	}
	n.MinScore, n.MinZeros, n.StorageCost = f.MinScore, f.MinZeros, f.StorageCost
	if f.BelowMaxDepth != 0 {
		n.BelowMaxDepth = f.BelowMaxDepth
	}
	return n, n.Check()
}

// FormatNetwork writes what ParseNetwork reads.
func FormatNetwork(n *tangle.Network) ([]byte, error) {
	f := file{
		Name: n.Name, HRP: n.HRP, Threshold: n.Threshold, MinScore: n.MinScore, MinZeros: n.MinZeros,
		BelowMaxDepth: n.BelowMaxDepth, StorageCost: n.StorageCost,
	}
	for _, key := range n.Coordinators {
		f.Coordinators = append(f.Coordinators, hex.EncodeToString(key[:]))
	}
	for _, out := range n.Genesis {
		f.Genesis = append(f.Genesis, output{out.Address.Bech32(n.HRP), out.Amount})
	}
	raw, err := json.MarshalIndent(f, "", "  ")
	return append(raw, '\n'), err
}
