package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/world/chain/regtest"
)

// A Shape is the chain to make.
type Shape struct {
	Blocks  int `json:"blocks"`  // all of it, the faucet's hundred included
	Lanes   int `json:"lanes"`   // transactions of a block, each the next of its own row
	Scripts int `json:"scripts"` // that the clients look for
	Matches int `json:"matches"` // blocks that have something for one of them
}

const (
	fee  = 500     // sat, of every transaction
	gift = 10_000  // sat, that it pays to a script of its own
	rest = 500_000 // sat, that a lane is left with

	// used is the share of the scripts that ever get anything.
	used = 0.6
	// Every so many of the blocks that matter, one spends instead of paying.
	spends = 5

	sizeSignature = 71 // of a DER signature, most often, with its sighash type
)

// maker makes a chain whose every transaction spends one output and has two, of
// scripts that are used once, and weighs what one with a signature does.
type maker struct {
	Shape
	node    *regtest.Node
	lanes   []lane
	matched int
	unspent map[wire.OutPoint]int // a watched output, and whose it is
	order   []wire.OutPoint       // of unspent, oldest first
}

type lane struct {
	program []byte // of the output that the next transaction spends
	point   wire.OutPoint
	value   int64
}

// program is a script that anybody can satisfy, and that nothing else has. The
// number of a kind tells lanes, their gifts and the watched from one another.
func program(kind, a, b int) []byte {
	number := binary.BigEndian.AppendUint32(nil, uint32(kind))
	number = binary.BigEndian.AppendUint32(number, uint32(a))
	number = binary.BigEndian.AppendUint32(number, uint32(b))
	return append(append([]byte{byte(len(number))}, number...), txscript.OP_2DROP, txscript.OP_TRUE)
}

const (
	ofLane = iota
	ofGift
	ofWatched
)

func (s Shape) script(i int) []byte { return tx.P2WSH(program(ofWatched, i, 0)) }

// spend is an input with a witness that is nearly as long as that of P2WPKH: a
// signature's place, which the program drops, and the program.
func spend(point wire.OutPoint, program []byte) *wire.TxIn {
	return wire.NewTxIn(&point, nil, wire.TxWitness{make([]byte, sizeSignature), program})
}

// makeChain mines the chain into a node that has none.
func makeChain(ctx context.Context, n *regtest.Node, s Shape) (*maker, error) {
	m := &maker{Shape: s, node: n, unspent: map[wire.OutPoint]int{}}
	need := int64(s.Blocks)*(fee+gift) + rest
	for i := range s.Lanes {
		p := program(ofLane, i, 0)
		point, err := n.Faucet(tx.P2WSH(p), need)
		if err != nil {
			return nil, err
		}
		m.lanes = append(m.lanes, lane{p, point, need})
	}
	if _, err := n.Mine(1); err != nil {
		return nil, err
	}
	first, _, err := n.Tip(ctx)
	if err != nil {
		return nil, err
	}
	left := s.Blocks - int(first)
	if left < 2*s.Matches {
		return nil, fmt.Errorf("%d blocks are too few: the faucet needs %d and %d are to match", s.Blocks, first, s.Matches)
	}
	every := left / max(1, s.Matches)
	for i := range left {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		matches := i%every == every/2 && m.matched < s.Matches
		if _, err := n.MineOnly(m.block(i+1, matches)...); err != nil {
			return nil, fmt.Errorf("block %d of %d: %w", i, left, err)
		}
	}
	return m, nil
}

// block is the transactions of the next one.
func (m *maker) block(number int, matches bool) []*wire.MsgTx {
	chosen := -1
	if matches {
		chosen = m.matched % m.Lanes
	}
	txs := make([]*wire.MsgTx, m.Lanes)
	for i := range m.lanes {
		l := &m.lanes[i]
		t := wire.NewMsgTx(2)
		t.AddTxIn(spend(l.point, l.program))
		l.program = program(ofLane, i, number)
		l.value -= fee + gift
		t.AddTxOut(wire.NewTxOut(l.value, tx.P2WSH(l.program)))
		to := tx.P2WSH(program(ofGift, i, number))
		if i == chosen {
			to = m.match(t, to)
		}
		t.AddTxOut(wire.NewTxOut(gift, to))
		txs[i], l.point = t, wire.OutPoint{Hash: t.TxHash()}
		if i == chosen && m.matched%spends != 0 {
			point := wire.OutPoint{Hash: l.point.Hash, Index: 1}
			m.unspent[point] = m.turn()
			m.order = append(m.order, point)
		}
	}
	return txs
}

// turn is the watched script whose turn it is.
func (m *maker) turn() int { return m.matched % max(1, int(used*float64(m.Scripts))) }

// match makes t one that a client must find: every fifth spends a watched
// output, the others pay one. It returns what t's gift pays to.
func (m *maker) match(t *wire.MsgTx, to []byte) []byte {
	m.matched++
	if m.matched%spends != 0 {
		return m.script(m.turn())
	}
	point := m.order[0]
	m.order = m.order[1:]
	t.AddTxIn(spend(point, program(ofWatched, m.unspent[point], 0)))
	delete(m.unspent, point)
	return to // what it brought is the miner's
}

// coins is what a client must find unspent.
func (m *maker) coins() []string {
	var all []string
	for point := range maps.Keys(m.unspent) {
		all = append(all, point.String())
	}
	slices.Sort(all)
	return all
}
