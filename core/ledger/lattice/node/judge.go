package node

import (
	"coinop.dev/core/ledger/lattice"
)

// Facts are all that Judge knows of the ledger: the account as its newest block has
// left it, and what the block's previous and link name.
type Facts struct {
	Account Account // zero Height: it has no block yet
	// Previous is whether the account has a block of that hash at all, at its end or
	// further back.
	Previous bool
	// Source is whether the block named by the link is in the ledger, and Waits
	// whether it has left Amount for this account, which nobody has received yet.
	Source, Waits bool
	Amount        lattice.Raw
}

// A Verdict is what a block does, if nothing speaks against it.
type Verdict struct {
	Kind   lattice.Kind
	Height uint64
	Amount lattice.Raw // that it moves
}

// Wants names the records that Judge needs to know of, in the order of Facts: the
// account, the previous block, the source and what it has left.
func Wants(b *lattice.Block) []string {
	return []string{keyAccount(b.Account), keyBlock(b.Previous), keyBlock(lattice.Hash(b.Link)), keyReceivable(b.Account, lattice.Hash(b.Link))}
}

// FactsOf reads the records that Wants names, nil for one that is missing.
func FactsOf(b *lattice.Block, records [][]byte) (f Facts, err error) {
	if records[0] != nil {
		if f.Account, err = decodeAccount(b.Account, records[0]); err != nil {
			return f, err
		}
	}
	if records[1] != nil {
		previous, err := decodeStored(records[1])
		if err != nil {
			return f, err
		}
		f.Previous = previous.Account == b.Account
	}
	f.Source = records[2] != nil
	if records[3] != nil {
		waits, err := decodeReceivable(lattice.Hash(b.Link), records[3])
		if err != nil {
			return f, err
		}
		f.Source, f.Waits, f.Amount = true, true, waits.Amount
	}
	return f, nil
}

// Judge says what a block does to an account, or why it does nothing: Nano's rules
// for state blocks, without epochs. Signature and work are not its business. A
// block that is in the ledger already is a Fork to it, of itself.
func Judge(b *lattice.Block, f Facts) (v Verdict, why lattice.Refusal) {
	var zero lattice.Hash
	switch {
	case b.Account == (Key{}):
		return v, lattice.OpenedBurn
	case f.Account.Height == 0 && b.Previous != zero:
		return v, lattice.GapPrevious
	case f.Account.Height > 0 && b.Previous != f.Account.Frontier:
		if b.Previous != zero && !f.Previous {
			return v, lattice.GapPrevious
		}
		return v, lattice.Fork
	}
	v.Height = f.Account.Height + 1
	v.Kind = b.Kind(f.Account.Balance, f.Account.Height == 0)
	switch v.Kind {
	case lattice.Send:
		v.Amount, _ = f.Account.Balance.Sub(b.Balance)
		return v, ""
	case lattice.Change:
		return v, ""
	case lattice.Receive, lattice.Open:
		v.Amount, _ = b.Balance.Sub(f.Account.Balance)
		switch {
		case !f.Source:
			return v, lattice.GapSource
		case !f.Waits:
			return v, lattice.Unreceivable
		case v.Amount != f.Amount:
			return v, lattice.BalanceWrong
		}
		return v, ""
	}
	return v, lattice.BalanceWrong // an epoch, or a link that does nothing
}
