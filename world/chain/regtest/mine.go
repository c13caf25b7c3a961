package regtest

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/mining"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
)

const (
	// MaxMine bounds the blocks of one call. Each pushes the clock of the chain
	// a sixth of a second into the future, and two hours are allowed.
	MaxMine = 2016

	// MaxFaucetCoins bounds the inputs of one gift.
	MaxFaucetCoins = 200

	// faucetRate is what the faucet pays for its transactions.
	faucetRate tx.FeeRate = 2 * tx.MinFeeRate

	// vsizeAnyoneInput is an input that spends the anyone script, in virtual
	// bytes, rounded up: 41 and a witness of 4.
	vsizeAnyoneInput = 42

	// blockWeight leaves room below the limit of 4,000,000 (BIP 141).
	blockWeight = 3_000_000
)

// anyone is the program that anyone can satisfy. The faucet and the miner are
// paid to its hash, so a regtest chain has no keys to lose.
var anyone = []byte{txscript.OP_TRUE}

// till is where block rewards and the faucet's change go.
var till = tx.P2WSH(anyone)

// Mine adds n blocks, the first with all that waits in the pool.
func (n *Node) Mine(blocks int) ([]chainhash.Hash, error) { return n.MineTo(till, blocks) }

// MineTo is Mine with the rewards paid to script.
func (n *Node) MineTo(script []byte, blocks int) (hashes []chainhash.Hash, err error) {
	err = n.change(func() error {
		hashes, err = n.mine(n.pool, script, blocks)
		return err
	})
	return hashes, err
}

// MineOnly adds a block of exactly these transactions, parents first. They may
// conflict with the pool and may pay no fee. One that is not valid is left out,
// which is an error.
func (n *Node) MineOnly(txs ...*wire.MsgTx) (hash chainhash.Hash, err error) {
	err = n.change(func() error {
		hashes, err := n.mine(newPicked(txs), till, 1)
		if err != nil {
			return err
		}
		hash = hashes[0]
		for _, t := range txs {
			if known, depth := n.ledger.Tx(t.TxHash()); known == nil || depth != 1 {
				return fmt.Errorf("block %v left out transaction %v: it is not valid there", hash, t.TxHash())
			}
		}
		return nil
	})
	return hash, err
}

// Reorg replaces the last depth blocks by depth+1 empty ones. Transactions that
// lose their block wait in the pool again.
func (n *Node) Reorg(depth int) error { return n.change(func() error { return n.reorg(depth) }) }

// ReorgDropping is Reorg, and the transactions that lose their block are
// forgotten, with all that spend them.
func (n *Node) ReorgDropping(depth int) error {
	return n.change(func() error {
		err := n.reorg(depth)
		n.disconnected = nil // nothing for settle to bring back
		for _, t := range n.waiting() {
			n.pool.RemoveTransaction(t, true)
		}
		return err
	})
}

func (n *Node) reorg(depth int) error {
	height, _ := n.ledger.Tip()
	if depth < 1 || depth > int(height) {
		return fmt.Errorf("reorg of %d blocks: the chain has %d", depth, height)
	}
	hash := n.ledger.Hash(height - int32(depth) + 1)
	if err := n.chain.InvalidateBlock(&hash); err != nil {
		return err
	}
	if _, err := n.mine(newPicked(nil), till, depth+1); err != nil {
		return err
	}
	// What was replaced is not wrong, it has less work: a peer may still bring
	// more on top of it.
	return n.chain.ReconsiderBlock(&hash)
}

// Invalidate declares a block and all above it invalid for good. The tip falls
// to the best chain without it; peers stay where they are until that has more
// work.
func (n *Node) Invalidate(hash chainhash.Hash) error {
	return n.change(func() error { return n.chain.InvalidateBlock(&hash) })
}

// Faucet pays sat to script and returns the output, which waits for a block. It
// mines coins for itself when it has too few.
func (n *Node) Faucet(script []byte, sat int64) (point wire.OutPoint, err error) {
	err = n.change(func() error {
		gift, err := n.gift(script, sat)
		if errors.Is(err, tx.ErrFunds) {
			if _, err := n.mine(n.pool, till, watch.Maturity+1); err != nil {
				return err
			}
			gift, err = n.gift(script, sat)
		}
		if err != nil {
			return err
		}
		point.Hash = gift.TxHash()
		return n.submit(gift, nil)
	})
	if err != nil {
		return wire.OutPoint{}, fmt.Errorf("faucet of %d sat: %w", sat, err)
	}
	return point, nil
}

// gift spends the till's largest coins. Output 0 is the gift.
func (n *Node) gift(script []byte, sat int64) (*wire.MsgTx, error) {
	coins := slices.DeleteFunc(n.ledger.Coins(till, n.poolTxs()), func(c watch.Coin) bool { return !c.Spendable() })
	slices.SortStableFunc(coins, func(a, b watch.Coin) int { return cmp.Compare(b.Value, a.Value) })
	t := wire.NewMsgTx(2)
	t.AddTxOut(wire.NewTxOut(sat, script))
	t.AddTxOut(wire.NewTxOut(0, till))
	size := tx.VSize(t)
	for _, c := range coins[:min(len(coins), MaxFaucetCoins)] {
		in := wire.NewTxIn(&c.Point, nil, wire.TxWitness{anyone})
		t.AddTxIn(in)
		size += vsizeAnyoneInput
		t.TxOut[1].Value += c.Value
		if t.TxOut[1].Value >= sat+faucetRate.For(size)+tx.DustP2WSH {
			t.TxOut[1].Value -= sat + faucetRate.For(size)
			return t, nil
		}
	}
	return nil, fmt.Errorf("%w: the %d largest hold %d sat", tx.ErrFunds, len(t.TxIn), t.TxOut[1].Value)
}

func (n *Node) mine(from mining.TxSource, script []byte, blocks int) ([]chainhash.Hash, error) {
	height, _ := n.ledger.Tip()
	if blocks < 1 || blocks > MaxMine || int(height)+blocks > chain.MaxBlocks {
		return nil, fmt.Errorf("mine %d blocks on %d: at most %d at once and %d in all", blocks, height, MaxMine, chain.MaxBlocks)
	}
	template := mining.NewBlkTmplGenerator(&mining.Policy{BlockMaxWeight: blockWeight}, Params(), from, n.chain, n.clock, n.sigs, n.hashes)
	hashes := make([]chainhash.Hash, 0, blocks)
	for range blocks {
		b, err := n.mineOne(template, script)
		if err != nil {
			return hashes, err
		}
		hashes = append(hashes, b)
	}
	return hashes, nil
}

func (n *Node) mineOne(from *mining.BlkTmplGenerator, script []byte) (hash chainhash.Hash, err error) {
	made, err := from.NewBlockTemplate(nil)
	if err != nil {
		return hash, err
	}
	block := made.Block
	block.Transactions[0].TxOut[0].PkScript = script
	// Without a number of its own, a block mined again after Invalidate would
	// be the very one that was declared invalid.
	n.nonce++
	if err := from.UpdateExtraNonce(block, made.Height, n.nonce&math.MaxInt64); err != nil {
		return hash, err
	}
	if err := solve(&block.Header); err != nil {
		return hash, err
	}
	if err := n.store(block.SerializeSize()); err != nil {
		return hash, err
	}
	if _, orphan, err := n.chain.ProcessBlock(btcutil.NewBlock(block), blockchain.BFNone); err != nil || orphan {
		return hash, fmt.Errorf("own block: orphan %v: %w", orphan, err)
	}
	return block.BlockHash(), n.broken
}

// solve finds a nonce. On regtest every second one will do.
func solve(h *wire.BlockHeader) error {
	target := blockchain.CompactToBig(h.Bits)
	for h.Nonce = 0; h.Nonce < math.MaxUint16; h.Nonce++ {
		hash := h.BlockHash()
		if blockchain.HashToBig(&hash).Cmp(target) <= 0 {
			return nil
		}
	}
	return errors.New("no nonce found: this is not a regtest chain")
}

// picked is a mining.TxSource of just these transactions.
type picked []*mining.TxDesc

func newPicked(txs []*wire.MsgTx) picked {
	p := make(picked, len(txs))
	for i, t := range txs {
		p[i] = &mining.TxDesc{Tx: btcutil.NewTx(t)}
	}
	return p
}

func (p picked) LastUpdated() time.Time        { return time.Time{} }
func (p picked) MiningDescs() []*mining.TxDesc { return p }
func (p picked) HaveTransaction(hash *chainhash.Hash) bool {
	return slices.ContainsFunc(p, func(d *mining.TxDesc) bool { return d.Tx.Hash().IsEqual(hash) })
}
