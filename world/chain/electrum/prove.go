package electrum

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/merkle"
)

// maxTx bounds a transaction of a server's in bytes: a block (BIP 141).
const maxTx = 4_000_000

// prove adds to known what a server's list has in blocks, or says where it lies.
func (l *look) prove(ctx context.Context, list []seen, known map[seen]proven, tip chainhash.Hash) error {
	list = slices.DeleteFunc(slices.Clone(list), func(one seen) bool {
		_, is := known[one]
		return is || one.height <= 0
	})
	for len(list) > 0 {
		some := list[:min(len(list), pipeline/2)]
		list = list[len(some):]
		err := l.proveSome(ctx, some, known)
		if lied(err) {
			// A reorganisation between its answers looks like a lie.
			if moved := l.at(ctx, tip); moved != nil {
				return moved
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// branchAnswer is the result of get_merkle.
type branchAnswer struct {
	Height int32    `json:"block_height"`
	Pos    uint32   `json:"pos"`
	Merkle []string `json:"merkle"`
}

func (l *look) proveSome(ctx context.Context, some []seen, known map[seen]proven) error {
	ctx, cancel := context.WithTimeout(ctx, l.remote.client.options.CallTimeout)
	defer cancel()
	branches := make([]merkle.Branch, len(some))
	err := ask(ctx, l.conn, len(some), func(i int) (string, []any) {
		return methodBranch, []any{some[i].id.String(), some[i].height}
	}, func(i int, a branchAnswer, err error) error {
		if err != nil {
			return errors.Join(errMoved, err) // it may be in another block now
		}
		if a.Height != some[i].height {
			return l.conn.lie(BadBranch, fmt.Sprintf("%v is in the block at %d", some[i].id, some[i].height), fmt.Sprintf("its branch is of %d", a.Height))
		}
		branches[i], err = parseBranch(a)
		if err != nil {
			return l.conn.lie(BadReply, "a branch", err.Error())
		}
		return nil
	})
	if err != nil {
		return err
	}
	txs, err := l.transactions(ctx, some)
	if err != nil {
		return err
	}
	for i, one := range some {
		h, hash, err := l.remote.headerAt(l.conn, one.height)
		if err != nil {
			return err
		}
		root, err := branches[i].Root(txs[i])
		if err != nil {
			return l.conn.lie(BadBranch, fmt.Sprintf("%v is in the block at %d", one.id, one.height), err.Error())
		}
		if root != h.MerkleRoot {
			return l.conn.lie(BadBranch, fmt.Sprintf("the branch of %v leads to %v", one.id, root), fmt.Sprintf("the block at %d has the root %v", one.height, h.MerkleRoot))
		}
		known[one] = proven{one.id, txs[i], one.height, hash, branches[i]}
	}
	return nil
}

func parseBranch(a branchAnswer) (merkle.Branch, error) {
	b := merkle.Branch{Index: a.Pos}
	if len(a.Merkle) > merkle.MaxBranch {
		return b, fmt.Errorf("it has %d hashes at most", merkle.MaxBranch)
	}
	for _, text := range a.Merkle {
		h, err := parseHash(text)
		if err != nil {
			return b, err
		}
		b.Hashes = append(b.Hashes, h)
	}
	return b, nil
}

// transactions are those of a list, from what is kept or from the server.
func (l *look) transactions(ctx context.Context, some []seen) ([]*wire.MsgTx, error) {
	c := l.remote.client
	txs := make([]*wire.MsgTx, len(some))
	var missing []int
	c.mu.Lock()
	for i, one := range some {
		if txs[i] = c.txs[one.id]; txs[i] == nil {
			missing = append(missing, i)
		}
	}
	c.mu.Unlock()
	size := 0
	return txs, ask(ctx, l.conn, len(missing), func(i int) (string, []any) {
		return methodTx, []any{some[missing[i]].id.String()}
	}, func(i int, text string, err error) error {
		if err != nil {
			return errors.Join(errMoved, err)
		}
		if size += len(text) / 2; size > MaxKept {
			return fmt.Errorf("server %s: the transactions have more than %d bytes, which is the limit", l.conn.addr, MaxKept)
		}
		txs[missing[i]], err = l.conn.parseTx(some[missing[i]].id, text)
		return err
	})
}

// transaction is one that waits for a block.
func (l *look) transaction(ctx context.Context, id chainhash.Hash) (*wire.MsgTx, error) {
	ctx, cancel := context.WithTimeout(ctx, l.remote.client.options.CallTimeout)
	defer cancel()
	txs, err := l.transactions(ctx, []seen{{id: id}})
	return txs[0], err
}

// parseTx reads the transaction of an id.
func (c *conn) parseTx(id chainhash.Hash, text string) (*wire.MsgTx, error) {
	if len(text) > 2*maxTx {
		return nil, c.lie(BadTx, fmt.Sprintf("a transaction of %d bytes", len(text)/2), fmt.Sprintf("a block has %d at most", maxTx))
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, c.lie(BadReply, "a transaction", "it is hexadecimal")
	}
	t, in := new(wire.MsgTx), bytes.NewReader(raw)
	if err := t.Deserialize(in); err != nil || in.Len() != 0 {
		return nil, c.lie(BadTx, fmt.Sprintf("%v is %d bytes", id, len(raw)), "they are no transaction")
	}
	if got := t.TxHash(); got != id {
		return nil, c.lie(BadTx, fmt.Sprintf("it is %v", id), fmt.Sprintf("its id is %v", got))
	}
	return t, nil
}

// headerAt is the header of our chain at a height. One below the tail is fetched
// again, with those up to the next checkpoint of the chain, which prove it.
func (r *remote) headerAt(conn *conn, height int32) (h wire.BlockHeader, hash chainhash.Hash, err error) {
	c := r.client
	c.mu.Lock()
	tip, _ := c.chain.Tip()
	h, known := c.chain.At(height)
	base := c.chain.Base()
	c.mu.Unlock()
	switch {
	case known:
		return h, header.Hash(&h), nil
	case height > tip:
		return h, hash, fmt.Errorf("%w: server %s shows height %d, ours is %d", errMoved, conn.addr, height, tip)
	}
	to := min(base, (height/header.Interval+1)*header.Interval)
	list, err := r.headers(conn, height, to-height+1)
	if err != nil {
		return h, hash, err
	}
	if len(list) == 0 {
		return h, hash, errMoved
	}
	c.mu.Lock()
	err = c.chain.Verify(list, height)
	c.mu.Unlock()
	if err != nil {
		return h, hash, conn.lie(BadHeader, fmt.Sprintf("old headers from height %d", height), err.Error())
	}
	return list[0], header.Hash(&list[0]), nil
}

// credible are the waiting transactions that pay a script, or spend what did
// with a witness that satisfies it. What a server invents that pays us cannot be
// told from the truth before it is in a block; an invented spend of a coin of
// ours can.
func (c *Client) credible(script []byte, mined []proven, waiting []*wire.MsgTx) (good []*wire.MsgTx) {
	paid, outs := map[wire.OutPoint]bool{}, map[wire.OutPoint]*wire.TxOut{}
	note := func(id chainhash.Hash, t *wire.MsgTx) {
		for i, out := range t.TxOut {
			outs[wire.OutPoint{Hash: id, Index: uint32(i)}] = out
		}
	}
	for _, p := range mined {
		touches(script, p.id, p.tx, paid)
		note(p.id, p.tx)
	}
	for _, t := range waiting {
		note(t.TxHash(), t)
	}
	for range 2 { // a child may be listed before its parent
		good = good[:0]
		for _, t := range waiting {
			if touches(script, t.TxHash(), t, paid) && satisfied(t, paid, outs) {
				good = append(good, t)
			}
		}
	}
	return good
}

// satisfied runs the scripts of the inputs that spend coins of ours.
func satisfied(t *wire.MsgTx, paid map[wire.OutPoint]bool, outs map[wire.OutPoint]*wire.TxOut) bool {
	known := map[wire.OutPoint]*wire.TxOut{}
	for _, in := range t.TxIn {
		known[in.PreviousOutPoint] = &wire.TxOut{}
		if out := outs[in.PreviousOutPoint]; out != nil {
			known[in.PreviousOutPoint] = out
		}
	}
	fetch := txscript.NewMultiPrevOutFetcher(known)
	sums := txscript.NewTxSigHashes(t, fetch)
	for i, in := range t.TxIn {
		if !paid[in.PreviousOutPoint] {
			continue
		}
		out := outs[in.PreviousOutPoint]
		e, err := txscript.NewEngine(out.PkScript, t, i, txscript.StandardVerifyFlags, nil, sums, out.Value, fetch)
		if err != nil || e.Execute() != nil {
			return false
		}
	}
	return true
}
