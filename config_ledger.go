package coinop

// Ledger is the part of a config that makes the machine a node of a ledger.
type Ledger struct {
	Lattice Lattice `toml:"lattice"`
	Tangle  Tangle  `toml:"tangle"`
}

// Lattice is a node of a block lattice, in Nano's protocol.
type Lattice struct {
	Network string   `toml:"network"` // the network's file; empty: the machine is no node
	Listen  string   `toml:"listen"`  // where nodes connect; empty: nowhere
	Peers   []string `toml:"peers"`   // host:port of nodes that are dialled
	Closed  bool     `toml:"closed"`  // only Peers are dialled, and not those that they tell of
	RPC     string   `toml:"rpc"`     // Nano's RPC over HTTP; empty: none
	Socket  string   `toml:"socket"`  // Nano's WebSocket; empty: none
	Control bool     `toml:"control"` // the RPC may change the node, and do work
	// Vote has the node vote with a representative whose key follows from the
	// machine's; Reps are homes of the private keys of more (world/secret).
	Vote bool     `toml:"vote"`
	Reps []string `toml:"reps"`
	Keep uint64   `toml:"keep"` // blocks of an account that stay when its older ones go; 0: all
}

// Tangle is a node of a Tangle. Its peers are machines, at their links.
type Tangle struct {
	Network string   `toml:"network"`
	Peers   []string `toml:"peers"` // <machine key>@<host>:<port>
	HTTP    string   `toml:"http"`  // Stardust's REST; empty: none
	// Coordinator has the node sign milestones, with a key that follows from the
	// machine's; Key is the home of another one.
	Coordinator bool   `toml:"coordinator"`
	Key         string `toml:"key"`
	// Primary proposes the milestones. One of a network's coordinators does.
	Primary  bool   `toml:"primary"`
	Interval string `toml:"interval"` // between milestones, such as 2s; default 5s
	Keep     uint64 `toml:"keep"`     // milestones whose blocks stay; 0: all
}
