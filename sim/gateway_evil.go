package sim

import (
	"bytes"
	"math/rand/v2"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/consent"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
	"coinop.dev/world/drive"
)

// A liar has the gateway's key and all that it knows, and some coins of its own.
// It proposes what would be its gain, and publishes whatever it gets signed.
type liar struct {
	g      *Gateway
	lies   bool
	r      *rand.Rand
	key    keys.Secret
	script []byte

	plots map[consent.ID]*plot
	past  []sentProposal // honest ones
	fork  []wire.BlockHeader
	tried map[string]int // lies told, by their kind
	stole int            // transactions that were signed for a lie
}

type sentProposal struct {
	to string
	consent.Proposal
}

// A plot is a transaction that waits for signatures.
type plot struct {
	what   string
	to     *owner
	tx     *wire.MsgTx // shared by all proposals of one joint transaction
	inputs []int       // of to, in order
	locks  []descriptor.Script
	others map[int]*wire.TxOut // inputs of the liar's own
	signed map[int]bool
}

func newLiar(g *Gateway) *liar {
	l := &liar{g: g, lies: g.seed%2 == 1, r: g.Random("evil"), plots: map[consent.ID]*plot{}, tried: map[string]int{}}
	l.key = g.key.Derive("liar")
	l.script = tx.P2WPKH(l.key.Public())
	g.payees[string(l.script)] = true
	return l
}

// villainous is the gateway's wallet in a liar's hands.
type villainous struct {
	core drive.Core
	l    *liar
}

func (v *villainous) Unwrap() drive.Core { return v.core }

func (v *villainous) Step(in step.Input) step.Effects {
	for _, event := range in.Events {
		if r, ok := event.(step.Recv); ok {
			if c, ok := r.Msg.(consent.Consent); ok {
				v.l.signed(&c)
			}
		}
	}
	fx := v.core.Step(in)
	if v.l.g.Faults.Lose == 0 {
		return fx // it has had its time
	}
	var out []step.Packet
	for _, p := range fx.Send {
		out = append(out, v.l.twist(p)...)
	}
	fx.Send = out
	return fx
}

// twist is what becomes of a message.
func (l *liar) twist(p step.Packet) []step.Packet {
	switch m := p.Msg.(type) {
	case consent.Proposal:
		l.past = append(l.past, sentProposal{p.To, m})
		if l.r.IntN(2) == 0 {
			return []step.Packet{p}
		}
		out := l.propose(p.To, m)
		if l.r.IntN(2) == 0 {
			out = append(out, p)
		} else {
			out = append([]step.Packet{p}, out...)
		}
		if len(m.Orders) > 0 && l.r.IntN(4) == 0 { // and then it would be paid all the same
			no := wallet.Failed{ID: m.Orders[0].ID, Kind: money.Unpaid, Why: "a lie"}
			out = append([]step.Packet{{To: p.To, Msg: no}}, out...)
		}
		return out
	case consent.Headers:
		switch l.r.IntN(4) {
		case 0: // fewer than the device has, and others
			return []step.Packet{p, {To: p.To, Msg: consent.Headers{Headers: l.forked(2)}}}
		case 1:
			m.Headers = slices.Clone(m.Headers)
			m.Headers[len(m.Headers)-1].MerkleRoot[3] ^= 1
			return []step.Packet{{To: p.To, Msg: m}, p}
		case 2:
			m.From = 1 + l.r.Int32N(Genesis)
			return []step.Packet{{To: p.To, Msg: m}, p}
		}
	case consent.Seen:
		if l.r.IntN(2) == 0 {
			m.Consent.Counter += 5
			return []step.Packet{{To: p.To, Msg: m}, p}
		}
	case wallet.Settled:
		if len(m.Proof) > 40 && l.r.IntN(3) == 0 {
			m.Proof = slices.Clone(m.Proof)
			m.Proof[l.r.IntN(len(m.Proof))] ^= 1
			return []step.Packet{{To: p.To, Msg: m}, p}
		}
	}
	return []step.Packet{p}
}

// forked are headers of a branch that leaves the chain some blocks below its tip.
func (l *liar) forked(depth int) []wire.BlockHeader {
	m := l.g.Chain.market
	at := len(m.headers) - depth
	branch := slices.Clone(m.headers[:at])
	for i := range depth - 1 {
		branch = append(branch, m.mine(branch, chainhash.Hash{byte(i), byte(l.r.IntN(200))}))
	}
	l.fork = branch[at:]
	return l.fork
}

// propose makes lies of an honest proposal.
func (l *liar) propose(to string, m consent.Proposal) []step.Packet {
	o := l.g.of(l.g.machines[to])
	lie := lies[l.r.IntN(len(lies))]
	packet, err := psbt.NewFromRawBytes(bytes.NewReader(m.PSBT), false)
	if err != nil || o == nil {
		return nil
	}
	d := &draft{l: l, o: o, p: packet, m: m, others: map[int]*wire.TxOut{}}
	d.m.Orders, d.m.Proofs = slices.Clone(m.Orders), slices.Clone(m.Proofs)
	if l.r.IntN(4) > 0 { // else it says that it is the honest one
		d.m.ID = l.id()
	}
	lie.tell(d)
	l.tried[lie.name]++
	var out []step.Packet
	for _, x := range append([]*draft{d}, d.more...) {
		if p, ok := l.send(lie.name, x); ok {
			out = append(out, p)
		}
	}
	return out
}

func (l *liar) id() (id consent.ID) {
	for i := range id {
		id[i] = byte(l.r.IntN(256))
	}
	return id
}

func (l *liar) send(name string, d *draft) (step.Packet, bool) {
	var raw bytes.Buffer
	if err := d.p.Serialize(&raw); err != nil {
		return step.Packet{}, false
	}
	d.m.PSBT = raw.Bytes()
	if len(d.m.Append(nil)) > consent.MaxMessage || len(d.m.PSBT) > consent.MaxPSBT {
		return step.Packet{}, false
	}
	t := &plot{what: name, to: d.o, tx: d.shared, others: d.others, signed: map[int]bool{}}
	if t.tx == nil {
		t.tx = d.p.UnsignedTx.Copy()
	}
	for i := range d.p.Inputs {
		in := &d.p.Inputs[i]
		prev := in.WitnessUtxo
		if x := in.NonWitnessUtxo; x != nil {
			if at := t.tx.TxIn[i].PreviousOutPoint.Index; int(at) < len(x.TxOut) {
				prev = x.TxOut[at]
			}
		}
		if prev == nil {
			continue
		}
		if s := d.o.at(in.Bip32Derivation, in.TaprootBip32Derivation, prev.PkScript); s != nil {
			t.inputs, t.locks = append(t.inputs, i), append(t.locks, *s)
		}
	}
	l.plots[d.m.ID] = t
	return step.Packet{To: d.o.key.Public().PeerName(), Msg: d.m}, true
}

// signed takes a consent to a lie, and publishes what all have signed.
func (l *liar) signed(c *consent.Consent) {
	t := l.plots[c.ID]
	if t == nil || len(c.Signatures) != len(t.inputs) {
		return
	}
	l.stole++
	for k, i := range t.inputs {
		in := t.tx.TxIn[i]
		in.SignatureScript, in.Witness = consent.Unlock(t.locks[k], c.Signatures[k])
	}
	for i, out := range t.others {
		t.tx.TxIn[i].Witness = tx.WitnessP2WPKH(l.key, t.tx, i, out.Value)
	}
	err := l.g.Chain.Publish(t.tx.Copy())
	l.g.log("the liar publishes %v (%s): %v", t.tx.TxHash(), t.what, err)
}

// A draft is a proposal that becomes a lie.
type draft struct {
	l      *liar
	o      *owner
	p      *psbt.Packet
	m      consent.Proposal
	others map[int]*wire.TxOut
	shared *wire.MsgTx
	more   []*draft
}

func (d *draft) outs() []*wire.TxOut { return d.p.UnsignedTx.TxOut }

// change finds the output that is said to be change; -1 if there is none.
func (d *draft) change() int {
	return slices.IndexFunc(d.p.Outputs, func(o psbt.POutput) bool { return len(o.Bip32Derivation)+len(o.TaprootBip32Derivation) > 0 })
}

func (d *draft) add(out *wire.TxOut) uint32 {
	d.p.UnsignedTx.AddTxOut(out)
	d.p.Outputs = append(d.p.Outputs, psbt.POutput{})
	return uint32(len(d.outs()) - 1)
}

// take moves some of the change to the liar.
func (d *draft) take() {
	if i := d.change(); i >= 0 && d.outs()[i].Value > 2_000 {
		some := d.outs()[i].Value / 2
		d.outs()[i].Value -= some
		d.add(wire.NewTxOut(some, d.l.script))
	}
}

// coin is one of the liar's own.
func (d *draft) coin() (c wire.OutPoint, out *wire.TxOut) {
	all := d.l.g.Chain.confirmed(d.l.script)
	if len(all) == 0 {
		return wire.OutPoint{Hash: chainhash.Hash{9}, Index: uint32(d.l.r.IntN(100))}, wire.NewTxOut(30_000, d.l.script)
	}
	x := all[d.l.r.IntN(len(all))]
	return x.Point, wire.NewTxOut(x.Value, d.l.script)
}

// join adds an input of the liar's own.
func (d *draft) join() *wire.TxOut {
	point, out := d.coin()
	t := wire.NewTxIn(&point, nil, nil)
	t.Sequence = wire.MaxTxInSequenceNum - 2
	d.p.UnsignedTx.AddTxIn(t)
	d.p.Inputs = append(d.p.Inputs, psbt.PInput{WitnessUtxo: out})
	d.others[len(d.p.Inputs)-1] = out
	return out
}
