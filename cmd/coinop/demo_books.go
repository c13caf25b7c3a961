//go:build !omit_demo

package main

import (
	"bytes"
	"context"
	"sync"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/store"
)

// books follow the faucet's gift through the blocks, and know nothing but what
// is in them and whose scripts are whose.
type books struct {
	node *regtest.Node

	mu     sync.Mutex
	owners []owner
	whose  map[string]*demoMachine // by script
	blocks []chainhash.Hash        // that were read, from the first
	coins  map[wire.OutPoint]entry // unspent, of the gift and what came of it
	txs    []page.Tx               // that paid, oldest first
	given  int64                   // satoshi by the faucet
	fees   int64
	left   int64 // satoshi in scripts that are nobody's
}

// An owner is a machine with an account, of which so many scripts are known.
type owner struct {
	*demoMachine
	descriptor.Descriptor
	known uint32
}

type entry struct {
	sat   int64
	whose *demoMachine
}

// ahead is how many scripts of each branch are derived at a time, and more than
// a wallet leaves out (its gap).
const ahead = 256

func newBooks(n *regtest.Node, machines ...*demoMachine) (*books, error) {
	b := &books{node: n, whose: map[string]*demoMachine{}}
	b.forget()
	for _, m := range machines {
		a, err := accountOf(m.station.Key)
		if err != nil {
			return nil, err
		}
		b.owners = append(b.owners, owner{demoMachine: m, Descriptor: a.Descriptor()})
	}
	return b, b.derive()
}

// accountOf is the account that a machine's key gives (bitcoinrail.Fund).
func accountOf(key keys.Secret) (a descriptor.Account, err error) {
	seed, err := mnemonic.SeedFromBytes(walletSeed(key))
	if err != nil {
		return a, err
	}
	return descriptor.NewAccount(seed, descriptor.BIP84, 1, 0, regtest.Params())
}

func walletSeed(key keys.Secret) []byte { return key.Derive("wallet/seed").Reveal() }

// derive makes the next scripts of everybody known.
func (b *books) derive() error {
	for i := range b.owners {
		o := &b.owners[i]
		for end := o.known + ahead; o.known < end; o.known++ {
			for branch := range uint32(2) {
				s, err := o.At(branch, o.known)
				if err != nil {
					return err
				}
				b.whose[string(s.Script)] = o.demoMachine
			}
		}
	}
	return nil
}

func (b *books) forget() {
	b.blocks, b.coins, b.txs, b.given, b.fees, b.left = nil, map[wire.OutPoint]entry{}, nil, 0, 0, 0
}

// read takes in the blocks that are new. After a reorganisation it begins again.
func (b *books) read(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	tip, hash, err := b.node.Tip(ctx)
	if err != nil {
		return err
	}
	if n := len(b.blocks); n == int(tip) && n > 0 && b.blocks[n-1] == hash {
		return nil
	}
	for height := int32(len(b.blocks)) + 1; height <= tip; height++ {
		block, err := b.node.Block(ctx, height)
		if err != nil {
			return err
		}
		if n := len(b.blocks); n > 0 && block.Header.PrevBlock != b.blocks[n-1] {
			b.forget()
			height = 0
			continue
		}
		b.blocks = append(b.blocks, block.BlockHash())
		for _, t := range block.Transactions {
			if err := b.enter(t, height); err != nil {
				return err
			}
		}
	}
	if len(b.blocks) > int(tip) {
		b.forget() // the chain is shorter: read it next time
	}
	return nil
}

// enter books one transaction.
func (b *books) enter(t *wire.MsgTx, height int32) error {
	in, ours := int64(0), false
	for _, i := range t.TxIn {
		if e, ok := b.coins[i.PreviousOutPoint]; ok {
			ours = true
			in += e.sat
			if e.whose == nil {
				b.left -= e.sat
			}
			delete(b.coins, i.PreviousOutPoint)
		}
	}
	out, paid := int64(0), page.Tx{TxID: t.TxHash().String(), State: "mined", Height: height}
	for i, o := range t.TxOut {
		whose := b.whose[string(o.PkScript)]
		if !ours && whose == nil {
			continue // not of the gift
		}
		out += o.Value
		b.coins[wire.OutPoint{Hash: t.TxHash(), Index: uint32(i)}] = entry{o.Value, whose}
		switch whose {
		case nil:
			b.left += o.Value
		case b.owners[1].demoMachine:
			paid.Orders++
		}
	}
	if !ours {
		b.given += out
		return nil
	}
	paid.FeeSat = in - out
	b.fees += paid.FeeSat
	b.txs = append(b.txs, paid)
	// Scripts must be known before they are paid.
	if uint32(len(b.txs)+len(b.coins))+ahead/2 > b.owners[0].known {
		return b.derive()
	}
	return nil
}

// has is what a machine owns, in satoshi.
func (b *books) has(m *demoMachine) (sum int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.coins {
		if e.whose == m {
			sum += e.sat
		}
	}
	return sum
}

// paid lists the transactions, the oldest first.
func (b *books) paid() []page.Tx {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]page.Tx(nil), b.txs...)
}

// rate is the fee rate of a transaction of the pool; 0 if it spends what waits
// for a block itself.
func (b *books) rate(t *wire.MsgTx) tx.FeeRate {
	fee := int64(0)
	for _, in := range t.TxIn {
		from, depth := b.node.Tx(in.PreviousOutPoint.Hash)
		if from == nil || depth == 0 {
			return 0
		}
		fee += from.TxOut[in.PreviousOutPoint.Index].Value
	}
	for _, out := range t.TxOut {
		fee -= out.Value
	}
	return tx.FeeRate(fee * 1000 / int64(tx.VSize(t)))
}

// private are the byte strings that a machine must not have of another's
// account: key, seed, leaf keys, and how an extended private key begins.
func private(key keys.Secret, leaves uint32) (all [][]byte, err error) {
	a, err := accountOf(key)
	if err != nil {
		return nil, err
	}
	all = [][]byte{key.Reveal(), walletSeed(key), []byte("xprv"), []byte("tprv")}
	for i := range leaves {
		for branch := range uint32(2) {
			leaf, err := a.Secret(branch, i)
			if err != nil {
				return nil, err
			}
			all = append(all, leaf.Reveal())
		}
	}
	return all, nil
}

// search counts the records of a store, and those that hold one of the needles.
func search(db store.DB, needles [][]byte) (records, found int, err error) {
	err = db.Scan("", func(key string, value []byte) bool {
		records++
		for _, n := range needles {
			if bytes.Contains(value, n) || bytes.Contains([]byte(key), n) {
				found++
				break
			}
		}
		return true
	})
	return records, found, err
}
