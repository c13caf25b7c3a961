package lattice

import (
	"errors"
	"fmt"

	"coinop.dev/core/ledger/eddsa"
)

// Magics of Nano's networks: the first two bytes of every message.
const (
	MagicDev  = 0x5241 // RA
	MagicBeta = 0x5242 // RB
	MagicLive = 0x5243 // RC
	MagicTest = 0x5258 // RX
)

// MaxName is how long a network's name may be, in bytes.
const MaxName = 64

// A Network is a ledger of its own: what all of its nodes must agree on.
type Network struct {
	Magic         uint16
	Name          string
	Genesis       Block   // opens the account that everything comes from
	WorkSend      uint64  // threshold of sends and changes
	WorkReceive   uint64  // threshold of what opens and receives
	OnlineMinimum Raw     // quorum is of no less weight than this
	Reps          Weights // who wallets without a ledger trust to be final; may be empty
}

// NewNetwork makes a network whose whole supply is the genesis account's, which
// represents itself. It follows from name, key, supply and thresholds alone. The
// genesis block is a state block that receives from the hash of the name; Nano's
// own is of a legacy kind. Magic is MagicTest, and quorum is of the whole supply, so
// that no part of the network can decide anything by itself; the caller may change
// them, and add Reps.
func NewNetwork(name string, genesis eddsa.Secret, supply Raw, workSend, workReceive uint64) Network {
	key := Key(genesis.Public())
	n := Network{
		Magic: MagicTest, Name: name, WorkSend: workSend, WorkReceive: workReceive, OnlineMinimum: supply,
		Genesis: Block{Account: key, Representative: key, Balance: supply, Link: genesisLink(name)},
	}
	n.Genesis.Work = Work(n.Genesis.Root(), workReceive, 0)
	n.Genesis.Sign(genesis)
	return n
}

func genesisLink(name string) [32]byte { return sum([]byte("coinop/lattice/network/"), []byte(name)) }

// Check finds what is wrong with a network that somebody else has written down.
func (n *Network) Check() error {
	g := &n.Genesis
	switch {
	case n.Name == "" || len(n.Name) > MaxName:
		return fmt.Errorf("network name is %d bytes; it must be 1 to %d", len(n.Name), MaxName)
	case g.Balance.IsZero():
		return errors.New("genesis block opens nothing: a network needs a supply")
	case g.Kind(Raw{}, true) != Open || g.Link != genesisLink(n.Name):
		return fmt.Errorf("genesis block is not that of network %q", n.Name)
	case !g.Signed():
		return errors.New("genesis block is not signed by its account")
	case WorkValue(g.Root(), g.Work) < n.WorkReceive:
		return errors.New("genesis block has not enough work")
	case n.OnlineMinimum.Cmp(g.Balance) > 0:
		return errors.New("online minimum is more than the supply")
	case len(n.Reps) > 0:
		return n.Reps.Check()
	}
	return nil
}

// Supply is all there is.
func (n *Network) Supply() Raw { return n.Genesis.Balance }

// Threshold is what the work of a kind of block must reach.
func (n *Network) Threshold(k Kind) uint64 {
	switch k {
	case Receive, Open, Epoch:
		return n.WorkReceive
	}
	return n.WorkSend
}

// EnoughWork reports whether a block has the work that its kind takes.
func (n *Network) EnoughWork(b *Block, k Kind) bool {
	return WorkValue(b.Root(), b.Work) >= n.Threshold(k)
}
