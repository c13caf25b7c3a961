package sim

import (
	"bytes"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
)

// lies are what a liar does to an honest proposal.
var lies = []struct {
	name string
	tell func(d *draft)
}{
	{"an order's output swapped", func(d *draft) {
		if n := len(d.m.Orders); n > 0 {
			o := &d.m.Orders[d.l.r.IntN(n)]
			d.outs()[o.Output].PkScript = d.l.script
			if d.l.r.IntN(2) == 0 {
				o.Script = d.l.script
			}
		}
	}},
	{"another's change", func(d *draft) {
		if i := d.change(); i >= 0 {
			d.outs()[i].PkScript = d.l.script
		}
	}},
	{"another device's change", func(d *draft) {
		other := d.l.g.devices()[d.l.r.IntN(d.l.g.shape.devices)]
		if i := d.change(); i >= 0 && other != d.o {
			script, err := d.l.g.derive(other, 1, 0)
			if err == nil {
				d.outs()[i].PkScript = script
			}
		}
	}},
	{"change without a claim", func(d *draft) {
		if i := d.change(); i >= 0 {
			d.p.Outputs[i] = psbt.POutput{}
			d.outs()[i].PkScript = d.l.script
		}
	}},
	{"one more output", (*draft).take},
	{"one more order", func(d *draft) {
		n := len(d.outs())
		if d.take(); len(d.outs()) > n {
			out := d.outs()[n]
			d.m.Orders = append(d.m.Orders, consent.Order{ID: money.OrderID(d.l.id()), Output: uint32(n), Script: out.PkScript, Amount: money.Amount(out.Value) * money.Sat})
		}
	}},
	{"an order paid twice", func(d *draft) {
		if i := d.change(); i >= 0 && len(d.m.Orders) > 0 {
			o := d.m.Orders[0]
			if d.outs()[i].Value > o.Amount.Sats()+1_000 {
				d.outs()[i].Value -= o.Amount.Sats()
				o.Output = d.add(wire.NewTxOut(o.Amount.Sats(), o.Script))
				d.m.Orders = append(d.m.Orders, o)
			}
		}
	}},
	{"fees that burn", func(d *draft) {
		if i := d.change(); i >= 0 {
			d.outs()[i].Value = max(300, d.outs()[i].Value-10_000-d.l.r.Int64N(50_000))
		}
	}},
	{"change left out", func(d *draft) {
		if i := d.change(); i >= 0 && i == len(d.outs())-1 {
			d.p.UnsignedTx.TxOut, d.p.Outputs = d.outs()[:i], d.p.Outputs[:i]
		}
	}},
	{"the same under a new ID", func(d *draft) { d.m.ID, d.m.Replaces = d.l.id(), consent.ID{} }},
	{"an old order with another coin", func(d *draft) {
		for _, past := range d.l.past {
			if past.to == d.o.key.Public().PeerName() && len(past.Orders) > 0 && past.Orders[0].ID != firstOrder(&d.m) {
				o := past.Orders[0]
				if i := d.change(); i >= 0 && d.outs()[i].Value > o.Amount.Sats()+1_000 {
					d.outs()[i].Value -= o.Amount.Sats()
					o.Output = d.add(wire.NewTxOut(o.Amount.Sats(), o.Script))
					d.m.Orders = append(d.m.Orders, o)
					if d.l.r.IntN(2) == 0 {
						d.m.Replaces = past.ID
					}
					return
				}
			}
		}
	}},
	{"a replacement of something else", func(d *draft) {
		if len(d.l.past) > 0 {
			d.m.Replaces = d.l.past[d.l.r.IntN(len(d.l.past))].ID
		}
		d.take()
	}},
	{"amounts that are lies", func(d *draft) {
		for i := range d.p.Inputs {
			in := &d.p.Inputs[i]
			if prev := in.NonWitnessUtxo; prev != nil {
				point := d.p.UnsignedTx.TxIn[i].PreviousOutPoint
				fake := *prev.TxOut[point.Index]
				fake.Value /= 2
				if in.WitnessUtxo = &fake; d.l.r.IntN(2) == 0 {
					in.NonWitnessUtxo = nil
				} else {
					c := prev.Copy()
					c.TxOut[point.Index].Value /= 2
					in.NonWitnessUtxo = c
				}
			}
		}
	}},
	{"open signatures", func(d *draft) {
		for i := range d.p.Inputs {
			d.p.Inputs[i].SighashType = []txscript.SigHashType{txscript.SigHashNone, txscript.SigHashSingle, txscript.SigHashAll | txscript.SigHashAnyOneCanPay}[d.l.r.IntN(3)]
		}
	}},
	{"a coin that is not in a block", func(d *draft) {
		d.m.Proofs = nil
		if d.l.r.IntN(2) == 0 {
			d.m.Proofs = make([]merkle.Proof, len(d.p.Inputs))
		}
		d.forgeCoin()
	}},
	{"a proof of another block", func(d *draft) {
		for i := range d.m.Proofs {
			d.m.Proofs[i].Height += 1 - 2*d.l.r.Int32N(2)
		}
	}},
	{"a proof in a block of its own", func(d *draft) {
		if id, ok := d.forgeCoin(); ok && len(d.m.Proofs) > 0 {
			// The block has one transaction; whether its header is followed is the question.
			m := d.l.g.Chain.market
			branch := slices.Clone(m.headers[:len(m.headers)-1])
			h := m.mine(branch, id)
			d.l.fork = []wire.BlockHeader{h}
			d.m.Proofs[0] = merkle.Proof{Height: int32(len(branch))}
		}
	}},
	{"a partner who takes the change", func(d *draft) {
		out := d.join()
		if i := d.change(); i >= 0 && d.outs()[i].Value > 2_000 {
			some := d.outs()[i].Value / 2
			d.outs()[i].Value -= some
			d.add(wire.NewTxOut(out.Value+some-300, d.l.script))
		}
	}},
	{"a partner with nothing wrong", func(d *draft) {
		out := d.join()
		d.add(wire.NewTxOut(out.Value-400, d.l.script))
	}},
	{"own inputs in two halves", (*draft).halve},
	{"two devices and one output", (*draft).marry},
	{"change where nobody looks", func(d *draft) {
		if i := d.change(); i >= 0 {
			index := uint32(60 + d.l.r.IntN(900))
			s, err := d.o.desc.At(1, index)
			if err != nil {
				return
			}
			d.l.g.scripts[string(s.Script)] = d.o
			d.outs()[i].PkScript = s.Script
			for _, x := range d.p.Outputs[i].Bip32Derivation {
				x.PubKey, x.Bip32Path = s.Key[:], s.Path
			}
			for _, x := range d.p.Outputs[i].TaprootBip32Derivation {
				x.XOnlyPubKey, x.Bip32Path = s.Key[1:], s.Path
			}
			if len(d.p.Outputs[i].TaprootInternalKey) > 0 {
				d.p.Outputs[i].TaprootInternalKey = s.Key[1:]
			}
			d.p.Outputs[i].RedeemScript = s.Redeem
		}
	}},
	{"locked for years", func(d *draft) {
		d.p.UnsignedTx.LockTime = 400_000
		if d.l.r.IntN(2) == 0 {
			d.p.UnsignedTx.TxIn[0].Sequence = 10
		}
	}},
}

func firstOrder(m *consent.Proposal) (id money.OrderID) {
	if len(m.Orders) > 0 {
		id = m.Orders[0].ID
	}
	return id
}

// forgeCoin has the first input spend an output that is not there and pays the
// device well.
func (d *draft) forgeCoin() (id chainhash.Hash, ok bool) {
	for i := range d.p.Inputs {
		in, point := &d.p.Inputs[i], &d.p.UnsignedTx.TxIn[i].PreviousOutPoint
		if prev := in.NonWitnessUtxo; prev != nil {
			fake := prev.Copy()
			fake.TxOut[point.Index].Value += 1_000_000
			in.NonWitnessUtxo, point.Hash = fake, fake.TxHash()
			if in.WitnessUtxo != nil {
				in.WitnessUtxo = fake.TxOut[point.Index]
			}
			return point.Hash, true
		}
	}
	return id, false
}

// halve shows the device one transaction twice: each time another of its inputs
// is said to be somebody else's, and the change is said to be all of it.
func (d *draft) halve() {
	if len(d.p.Inputs) < 2 || d.change() < 0 {
		return
	}
	other := *d
	other.p = clonePacket(d.p)
	d.p.Outputs = slices.Clone(d.p.Outputs)
	d.hide(0)
	other.hide(1)
	shared := d.p.UnsignedTx.Copy()
	d.shared, other.shared = shared, shared
	other.m.ID, other.more = d.l.id(), nil
	other.m.Orders, other.m.Proofs = nil, other.m.Proofs[:min(1, len(other.m.Proofs))]
	d.m.Proofs = d.m.Proofs[:min(1, len(d.m.Proofs))]
	d.more = []*draft{&other}
}

// hide has an own input look like another's.
func (d *draft) hide(i int) {
	in := &d.p.Inputs[i]
	prev := in.WitnessUtxo
	if in.NonWitnessUtxo != nil {
		prev = in.NonWitnessUtxo.TxOut[d.p.UnsignedTx.TxIn[i].PreviousOutPoint.Index]
	}
	d.p.Inputs[i] = psbt.PInput{WitnessUtxo: prev}
}

func clonePacket(p *psbt.Packet) *psbt.Packet {
	var raw bytes.Buffer
	if err := p.Serialize(&raw); err != nil {
		panic(err)
	}
	again, err := psbt.NewFromRawBytes(&raw, false)
	if err != nil {
		panic(err)
	}
	return again
}

// marry makes one transaction of the proposals of two devices, and has one output
// count for both if it can.
func (d *draft) marry() {
	for _, past := range slices.Backward(d.l.past) {
		o := d.l.g.of(d.l.g.machines[past.to])
		if o == d.o || o == nil {
			continue
		}
		packet, err := psbt.NewFromRawBytes(bytes.NewReader(past.PSBT), false)
		if err != nil {
			return
		}
		other := &draft{l: d.l, o: o, p: packet, m: past.Proposal, others: d.others}
		other.m.ID, other.m.Replaces, d.m.Replaces = d.l.id(), consent.ID{}, consent.ID{}
		other.m.Orders = slices.Clone(past.Orders)
		k := len(d.outs())
		all := d.p.UnsignedTx.Copy()
		for _, in := range packet.UnsignedTx.TxIn {
			all.AddTxIn(in)
		}
		for i, out := range packet.UnsignedTx.TxOut {
			if i == 0 && d.l.r.IntN(2) == 0 { // the liar has it
				out = wire.NewTxOut(out.Value, d.l.script)
			}
			all.AddTxOut(out)
		}
		all.LockTime = 0
		for i := range other.m.Orders {
			other.m.Orders[i].Output += uint32(k)
		}
		one, two := &psbt.Packet{UnsignedTx: all.Copy()}, &psbt.Packet{UnsignedTx: all.Copy()}
		for i := range d.p.Inputs {
			one.Inputs = append(one.Inputs, d.p.Inputs[i])
			two.Inputs = append(two.Inputs, psbt.PInput{WitnessUtxo: spentBy(d.p, i)})
		}
		for i := range packet.Inputs {
			one.Inputs = append(one.Inputs, psbt.PInput{WitnessUtxo: spentBy(packet, i)})
			two.Inputs = append(two.Inputs, packet.Inputs[i])
		}
		one.Outputs = append(slices.Clone(d.p.Outputs), make([]psbt.POutput, len(packet.Outputs))...)
		two.Outputs = append(make([]psbt.POutput, k), packet.Outputs...)
		shared := all.Copy()
		d.p, other.p, d.shared, other.shared = one, two, shared, shared
		d.more = []*draft{other}
		return
	}
}

func spentBy(p *psbt.Packet, i int) *wire.TxOut {
	if t := p.Inputs[i].NonWitnessUtxo; t != nil {
		return t.TxOut[p.UnsignedTx.TxIn[i].PreviousOutPoint.Index]
	}
	return p.Inputs[i].WitnessUtxo
}
