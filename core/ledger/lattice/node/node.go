// Package node is a node of a block lattice, in Nano's rules and messages, as one
// core: the ledger, the votes, the peers' queues and the bootstrap.
//
// A Step takes everything that waited. All signatures of the batch are verified
// together, blocks are judged one after another by the facts that each of them
// wants, votes are counted, and everything that follows is one durable write. What
// is read comes from the same reader that the node was loaded by, through what the
// step has put already.
//
// Invariants, whatever peers say:
//
//   - a block is cemented only after those it depends on, and never undone;
//   - a representative of this node gives one final vote for a root, and the vote is
//     durable before it is sent;
//   - balances, what waits to be received, and nothing else, add up to the supply.
package node

import (
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

// Core is the node's name on its machine.
var Core = gossip.Lattice.String()

// Config is what a node is made of.
type Config struct {
	Network lattice.Network
	// ID signs what the node says of itself (telemetry); engine/lattice shakes
	// hands with it.
	ID eddsa.Secret
	// Reps are the representatives that the node votes for.
	Reps []eddsa.Secret
	// Peers are there from the beginning: the simulator's. Others join.
	Peers []string
	// Spread lends the node processors to check signatures with; nil is none.
	Spread eddsa.Spread
	// MaxBacklog is less than the constant on small machines; 0 is that.
	MaxBacklog int
	// Keep is how many blocks of an account stay when its older ones are pruned; 0
	// keeps all.
	Keep uint64
}

// Joined says that a peer has shaken hands, and Left that it is gone.
type (
	Joined struct {
		Peer string // what frames to it are addressed to
		ID   lattice.Key
	}
	Left struct{ Peer string }
)

// Process asks for a block to be judged. The outcome has its ID, and Processed or
// an error whose cause is a lattice.Refusal.
type Process struct {
	ID    string
	Block lattice.Block
	// Force takes a fork's side: the block that stands is rolled back unless it is
	// cemented (RPC's "force").
	Force bool
}

// Processed answers Process.
type Processed struct {
	Hash lattice.Hash
	Kind lattice.Kind
}

// Elect asks for the election of a block that is not cemented (RPC's block_confirm).
type Elect struct {
	ID   string
	Hash lattice.Hash
}

// Certify asks representatives for final votes on one cemented block. The outcome's
// ID is CertifyID, its value a lattice.Certificate.
type Certify struct{ Hash lattice.Hash }

// CertifyID is the outcome's.
func CertifyID(h lattice.Hash) string { return "certify/" + h.String() }

// Watch says which of the outcomes below somebody hears. Confirmed is always told.
type Watch struct{ Votes, Elections, Blocks, Telemetry bool }

// The IDs of outcomes that nobody has asked for, and their values.
const (
	ConfirmedID   = "confirmed"   // Confirmed
	UnconfirmedID = "unconfirmed" // Unconfirmed
	StartedID     = "started"     // Started
	StoppedID     = "stopped"     // Stopped
	VotedID       = "voted"       // Voted
	TelemetryID   = "telemetry"   // Reported
)

// Confirmed tells of a cemented block.
type Confirmed struct {
	Hash   lattice.Hash
	Block  lattice.Block
	Kind   lattice.Kind
	Amount lattice.Raw // that it moved
	Height uint64
	// How it came to be cemented: by an election of its own, or as something that
	// one depends on.
	Active   bool
	Election Election // of itself if Active
}

// Election is what is known of one that has ended, or has not.
type Election struct {
	Root     lattice.Hash
	Winner   lattice.Hash
	Began    step.Time
	Took     step.Time // so far
	Tally    lattice.Raw
	Final    lattice.Raw
	Blocks   int // candidates
	Voters   int
	Requests int // for votes
	Votes    map[lattice.Key]Ballot
}

// Ballot is what a representative has said last.
type Ballot struct {
	Hash      lattice.Hash
	Timestamp uint64
	Weight    lattice.Raw
}

type (
	// Unconfirmed tells of a new block of the ledger.
	Unconfirmed struct {
		Hash  lattice.Hash
		Block lattice.Block
		Kind  lattice.Kind
	}
	// Started tells of an election, Stopped of its end without a cemented block.
	Started struct{ Root, Hash lattice.Hash }
	Stopped struct{ Root, Hash lattice.Hash }
	// Voted tells of a vote that was counted.
	Voted struct {
		Vote lattice.Vote
		Peer string
	}
	// Reported is a peer's telemetry.
	Reported struct {
		Peer      string
		Telemetry lattice.Telemetry
	}
)

// Account is an account of the ledger.
type Account struct {
	Key               Key
	Frontier, Open    lattice.Hash
	Representative    lattice.Key
	Balance           lattice.Raw
	Height            uint64 // blocks
	Pruned            uint64 // of them, the oldest, that are gone
	Modified          step.Time
	ConfirmedHeight   uint64
	ConfirmedFrontier lattice.Hash
}

// Key is short for an account's.
type Key = lattice.Key

// A Stored block is one of the ledger, with what its chain says of it.
type Stored struct {
	lattice.Block
	Kind      lattice.Kind
	Height    uint64
	Amount    lattice.Raw // that it moved
	Time      step.Time   // when this node took it
	Confirmed bool
	Successor lattice.Hash // the account's next block; zero for its newest
}

// Counts says how large things are.
type Counts struct {
	Blocks, Cemented, Accounts uint64
	Unchecked                  int // blocks that wait for another
	Elections                  int
	Backlog                    int // blocks that wait for an election
	Peers                      int
	// Since the start: signatures made and checked, blocks that there was no room
	// for, and forks that were decided against the one that was here first.
	Signed, Checked, Dropped, Switched uint64
}

// Quorum is how many votes it takes now.
type Quorum struct {
	Delta, Online, Trended, Minimum, Peers lattice.Raw
}
