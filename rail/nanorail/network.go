package nanorail

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"coinop.dev/core/ledger/lattice"
)

// maxNetworkFile bounds a network's file, in bytes: a table of all representatives.
const maxNetworkFile = 256 << 10

// file is a network as people write it down.
type file struct {
	Name          string      `json:"name"`
	Magic         string      `json:"magic"` // two letters: RA, RB, RC, RX
	Genesis       genesis     `json:"genesis"`
	WorkSend      hexU64      `json:"work_send"`
	WorkReceive   hexU64      `json:"work_receive"`
	OnlineMinimum lattice.Raw `json:"online_minimum"`
	Reps          []weight    `json:"representatives,omitempty"`
}

// genesis is the block that opens the account that everything comes from; the rest of
// it follows from the network's name.
type genesis struct {
	Account        lattice.Key  `json:"account"`
	Representative lattice.Key  `json:"representative"`
	Balance        lattice.Raw  `json:"balance"`
	Link           lattice.Hash `json:"link"`
	Signature      string       `json:"signature"`
	Work           hexU64       `json:"work"`
}

type weight struct {
	Account lattice.Key `json:"account"`
	Weight  lattice.Raw `json:"weight"`
}

// hexU64 is 16 hex digits, as work is in Nano's RPC.
type hexU64 uint64

func (h hexU64) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(h)), nil }

func (h *hexU64) UnmarshalText(text []byte) error {
	var raw [8]byte
	if n, err := hex.Decode(raw[:min(len(text)/2, 8)], text[:min(len(text), 16)]); err != nil || n != 8 || len(text) != 16 {
		return fmt.Errorf("%.40q is not 16 hex digits", text)
	}
	*h = 0
	for _, b := range raw {
		*h = *h<<8 | hexU64(b)
	}
	return nil
}

// ReadNetwork reads a network from a file.
func ReadNetwork(path string) (n lattice.Network, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return n, err
	}
	if n, err = ParseNetwork(raw); err != nil {
		return n, fmt.Errorf("network file %s: %w", path, err)
	}
	return n, nil
}

// ParseNetwork reads what is in such a file, and checks it.
func ParseNetwork(raw []byte) (n lattice.Network, err error) {
	if len(raw) > maxNetworkFile {
		return n, fmt.Errorf("it is %d bytes; the limit is %d", len(raw), maxNetworkFile)
	}
	var f file
	if err := json.Unmarshal(raw, &f); err != nil {
		return n, err
	}
	if len(f.Magic) != 2 {
		return n, fmt.Errorf("magic %.10q is not two letters, as RX", f.Magic)
	}
	g := f.Genesis
	n = lattice.Network{
		Magic: uint16(f.Magic[0])<<8 | uint16(f.Magic[1]), Name: f.Name,
		WorkSend: uint64(f.WorkSend), WorkReceive: uint64(f.WorkReceive), OnlineMinimum: f.OnlineMinimum,
		Genesis: lattice.Block{Account: g.Account, Representative: g.Representative, Balance: g.Balance, Link: g.Link, Work: uint64(g.Work)},
	}
	sig, err := hex.DecodeString(g.Signature)
	if err != nil || len(sig) != len(n.Genesis.Signature) {
		return n, fmt.Errorf("the genesis block's signature is not %d hex digits", 2*len(n.Genesis.Signature))
	}
	copy(n.Genesis.Signature[:], sig)
	for _, w := range f.Reps {
		n.Reps = append(n.Reps, lattice.Weight{Rep: w.Account, Weight: w.Weight})
	}
	return n, n.Check()
}

// FormatNetwork writes what ParseNetwork reads.
func FormatNetwork(n lattice.Network) ([]byte, error) {
	f := file{
		Name: n.Name, Magic: string([]byte{byte(n.Magic >> 8), byte(n.Magic)}),
		WorkSend: hexU64(n.WorkSend), WorkReceive: hexU64(n.WorkReceive), OnlineMinimum: n.OnlineMinimum,
		Genesis: genesis{
			Account: n.Genesis.Account, Representative: n.Genesis.Representative, Balance: n.Genesis.Balance, Link: n.Genesis.Link,
			Signature: hex.EncodeToString(n.Genesis.Signature[:]), Work: hexU64(n.Genesis.Work),
		},
	}
	for _, w := range n.Reps {
		f.Reps = append(f.Reps, weight{w.Rep, w.Weight})
	}
	raw, err := json.MarshalIndent(f, "", "  ")
	return append(raw, '\n'), err
}
