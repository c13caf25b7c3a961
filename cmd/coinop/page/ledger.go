package page

import "slices"

// A Network is what a demo over a ledger shows besides: the nodes that keep it.
// Lattice or Tangle is the picture of what they keep.
type Network struct {
	Nodes     []Node  `json:"nodes"`            // at most MaxNodes are shown
	Blocks    uint64  `json:"blocks"`           // of the ledger, as the node that knows most has it
	Confirmed uint64  `json:"confirmed_blocks"` // of them, for ever
	Waiting   int     `json:"waiting_blocks"`
	PerS      float64 `json:"blocks_per_s"`
	P50Ms     float64 `json:"confirm_p50_ms"` // from when a node has seen a block to when it is final there
	P99Ms     float64 `json:"confirm_p99_ms"`
	Split     bool    `json:"split"` // nodes of side 0 and of side 1 do not hear each other
	Doubles   int     `json:"double_spends"`
	Last      *Double `json:"last_double_spend,omitempty"`
	Agree     int     `json:"nodes_agree"`  // settled: nodes that have the same balances
	HeldMsat  uint64  `json:"held_msat"`    // by others than buyer and seller
	GivenMsat uint64  `json:"given_msat"`   // to all of them, at first
	WorkIs    string  `json:"work"`         // what a block takes, in words
	Ledger    string  `json:"ledger_unit"`  // raw, base units
	Quorum    float64 `json:"quorum_share"` // of all votes; or of coordinators
	Online    float64 `json:"online_share"` // of the votes; or of coordinators
}

// A Node is one of a Network.
type Node struct {
	Name   string  `json:"name"`
	State  Life    `json:"state"`
	Kills  int     `json:"kills"`
	Role   string  `json:"role"`   // representative, coordinator, or nothing
	Share  float64 `json:"share"`  // of the votes
	Behind uint64  `json:"behind"` // blocks or milestones that others have confirmed and it has not
	Side   int     `json:"side"`
	Silent bool    `json:"silent"` // a coordinator that was told to be
}

// A Double is an attempt to pay two payees with the same money.
type Double struct {
	A     string `json:"a"` // payees
	B     string `json:"b"`
	NodeA string `json:"node_a"` // that heard of it first
	NodeB string `json:"node_b"`
	Wins  string `json:"wins"`  // the payee; "" until it is decided
	Nodes int    `json:"nodes"` // that have the same winner
}

// A Lattice is a part of one: some accounts' newest blocks, and what is voted on.
type Lattice struct {
	Accounts  []Account  `json:"accounts"`  // at most MaxAccounts
	Elections []Election `json:"elections"` // newest last; at most MaxElections
}

// An Account is a row of blocks.
type Account struct {
	Name    string         `json:"name"`
	Address string         `json:"address"`
	Msat    uint64         `json:"msat"`
	Height  uint64         `json:"height"`
	Blocks  []LatticeBlock `json:"blocks"` // newest last; at most MaxRow
}

// A LatticeBlock is one of an account's. Seq counts all blocks in the order in which
// they were seen, so what follows from another stands to the right of it.
type LatticeBlock struct {
	Seq    uint64 `json:"seq"`
	Hash   string `json:"hash"`
	Kind   string `json:"kind"` // send, receive, open, change
	State  Fate   `json:"state"`
	Height uint64 `json:"height"`
	Msat   uint64 `json:"msat"` // that it moves
	To     string `json:"to"`   // of a send: the account's name, if it has one
	From   string `json:"from"` // of a receive: the hash of the send
}

// A Fate is what has become of a block.
type Fate string

const (
	Tip         Fate = "tip"     // nothing builds on it
	Waits       Fate = "waiting" // for votes, or for a milestone
	Final       Fate = "final"
	Lost        Fate = "lost"        // against another block of the same place
	Conflicting Fate = "conflicting" // in the Tangle, with a transaction that changed nothing
)

// An Election is the votes on one block.
type Election struct {
	Hash   string   `json:"hash"`
	Whose  string   `json:"whose"` // account's name
	Kind   string   `json:"kind"`
	Blocks int      `json:"blocks"` // that stand for one place: 2 is a fork
	Votes  []Ballot `json:"votes"`
	Final  float64  `json:"final_share"` // of all votes
	Over   bool     `json:"over"`
	TookMs float64  `json:"took_ms"`
}

// A Ballot is what a representative has said.
type Ballot struct {
	Node  string  `json:"node"`
	Share float64 `json:"share"`
	Final bool    `json:"final"`
	Other bool    `json:"other"` // it is for another block
}

// A Tangle is the newest part of one.
type Tangle struct {
	Blocks      []TangleBlock `json:"blocks"` // by Seq; at most MaxTangle
	Tips        int           `json:"tips"`
	Milestone   uint32        `json:"milestone"`
	SinceMs     int64         `json:"since_milestone_ms"`
	EveryMs     int64         `json:"milestone_every_ms"`
	Threshold   int           `json:"threshold"`
	Signers     int           `json:"coordinators"`
	Zeros       int           `json:"work_zeros"` // trailing zero trits of the newest block's hash
	Conflicting uint64        `json:"conflicting_blocks"`
}

// A TangleBlock is one. Its parents are Seqs, as far as they are not too old.
type TangleBlock struct {
	Seq       uint64   `json:"seq"`
	ID        string   `json:"id"`
	Parents   []uint64 `json:"parents"`
	Kind      string   `json:"kind"` // payment, data, milestone, empty
	State     Fate     `json:"state"`
	Milestone uint32   `json:"milestone"` // that it is, or by which it is final
}

// What there is room for.
const (
	MaxNodes     = 8
	MaxAccounts  = 8
	MaxRow       = 12 // blocks of an account
	MaxElections = 5
	MaxTangle    = 200 // blocks
)

func (n *Network) fit() *Network {
	if n == nil {
		return nil
	}
	fit := *n
	fit.Nodes = slices.Clone(first(n.Nodes, MaxNodes))
	finite(&fit.PerS, &fit.P50Ms, &fit.P99Ms, &fit.Quorum, &fit.Online)
	for i := range fit.Nodes {
		finite(&fit.Nodes[i].Share)
	}
	return &fit
}

func (l *Lattice) fit() *Lattice {
	if l == nil {
		return nil
	}
	fit := Lattice{slices.Clone(first(l.Accounts, MaxAccounts)), slices.Clone(newest(l.Elections, MaxElections))}
	for i := range fit.Accounts {
		fit.Accounts[i].Blocks = newest(fit.Accounts[i].Blocks, MaxRow)
	}
	for i := range fit.Elections {
		e := &fit.Elections[i]
		e.Votes = slices.Clone(first(e.Votes, MaxNodes))
		finite(&e.Final, &e.TookMs)
		for k := range e.Votes {
			finite(&e.Votes[k].Share)
		}
	}
	return &fit
}

func (t *Tangle) fit() *Tangle {
	if t == nil {
		return nil
	}
	fit := *t
	fit.Blocks = slices.Clone(newest(t.Blocks, MaxTangle))
	for i := range fit.Blocks {
		fit.Blocks[i].Parents = first(fit.Blocks[i].Parents, maxParents)
	}
	return &fit
}

// maxParents of a block (TIP-24).
const maxParents = 8

func first[T any](list []T, n int) []T {
	if list == nil {
		return []T{}
	}
	return list[:min(n, len(list))]
}
