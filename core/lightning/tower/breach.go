package tower

import (
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/codec"
	"coinop.dev/core/step"
)

// A breach is a case the tower follows: a revoked commitment in a block, until
// its outputs are spent and buried.
type breach struct {
	id      chainhash.Hash
	tx      *wire.MsgTx
	height  int32 // of the block it was found in
	terms   Terms
	justice *Justice

	// What the chain says again: not on disk.
	tip   int32 // of the last publication
	spent map[wire.OutPoint]int32
}

// stripped is t without the witness, of which nothing depends.
func stripped(t *wire.MsgTx) *wire.MsgTx {
	t = t.Copy()
	for _, in := range t.TxIn {
		in.Witness = nil
	}
	return t
}

func (s *Server) follow(b *breach) {
	b.spent = map[wire.OutPoint]int32{}
	s.cases[b.id] = b
	for _, point := range b.justice.Outputs(b.tx, b.id) {
		b.spent[point] = 0
		s.points[point] = b
	}
}

// watch asks to be told what becomes of the outputs.
func (s *Server) watch(b *breach, fx *step.Effects) {
	for _, point := range b.justice.Outputs(b.tx, b.id) {
		out := watch.Output{Point: point, Script: b.tx.TxOut[point.Index].PkScript}
		fx.Send = append(fx.Send, step.Packet{To: watch.Chain, Msg: out})
	}
}

// start takes up all cases again.
func (s *Server) start(fx *step.Effects) {
	for _, key := range s.caseOrder() {
		b := s.cases[key]
		s.watch(b, fx)
		b.publish(fx)
	}
}

// status counts how deep an output of a breach is spent. At every new tip what
// is left is published again: blocks may have been undone, fees may have risen.
func (s *Server) status(st watch.Status, fx *step.Effects) {
	b := s.points[st.Point]
	if b == nil {
		return
	}
	b.spent[st.Point] = 0
	if st.Spender != nil {
		b.spent[st.Point] = st.SpendDepth
	}
	if b.buried() {
		s.close(b, fx)
		return
	}
	if st.Tip > b.tip {
		b.tip = st.Tip
		b.publish(fx)
	}
}

func (b *breach) buried() bool {
	for _, depth := range b.spent {
		if depth < Buried {
			return false
		}
	}
	return true
}

func (b *breach) publish(fx *step.Effects) {
	urgent := b.tip-b.height >= UrgentAfter
	penalties, err := b.justice.Penalties(b.terms, b.tx, b.id, urgent, func(p wire.OutPoint) bool { return b.spent[p] > 0 })
	step.Assert(err == nil, "tower: penalties of a case are gone: %v", err) // they were checked when it began
	publish(penalties, fx)
}

func (s *Server) close(b *breach, fx *step.Effects) {
	for point := range b.spent {
		delete(s.points, point)
	}
	delete(s.cases, b.id)
	fx.Put = append(fx.Put, step.Record{Key: b.key()})
	fx.Done = append(fx.Done, step.Outcome{ID: b.id.String(), Value: Served{b.id}})
}

func unspent(wire.OutPoint) bool { return false }

func (b *breach) key() string { return casePrefix + b.id.String() }

func (b *breach) record() step.Record {
	v := codec.AppendBytes(nil, tx.Bytes(b.tx))
	v = codec.AppendUint(v, b.height)
	return step.Record{Key: b.key(), Value: b.justice.append(b.terms.append(v))}
}

func readBreach(r *codec.Reader) *breach {
	b := &breach{}
	raw := r.Bytes(tx.MaxSize, "transaction")
	b.height = r.Height()
	b.terms = readTerms(r)
	b.justice = readJustice(r)
	if r.Err() != nil {
		return nil
	}
	t, err := tx.Parse(raw)
	if err != nil {
		r.Fail(err)
		return nil
	}
	b.tx, b.id, b.tip = t, t.TxHash(), b.height
	if _, err := b.justice.Penalties(b.terms, b.tx, b.id, false, unspent); err != nil {
		r.Fail(err)
		return nil
	}
	return b
}
