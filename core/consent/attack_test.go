package consent_test

import (
	"bytes"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// honest is a payment of 50,000 sat from a coin of 100,000, with change and a
// fee of 1,000.
func honest(g *gateway, id string, c coin) *draft {
	d := g.draft(id, c).pay("order-"+id, shop("shop"), 50_000)
	return d.change(g.script(c.account, 1, 0), 49_000)
}

// Every lie of a gateway gets no signature, and its name.
var lies = []struct {
	name string
	want consent.Reason
	tell func(g *gateway, d *draft)
}{
	{"amount above the real one in the output shown", consent.ReasonAmount, func(_ *gateway, d *draft) {
		d.packet.Inputs[0].WitnessUtxo = wire.NewTxOut(200_000, d.coins[0].out().PkScript)
	}},
	{"another previous transaction", consent.ReasonAmount, func(g *gateway, d *draft) {
		t := g.funding(d.coins[0].script.Script, 200_000)
		d.packet.Inputs[0].NonWitnessUtxo, d.packet.Inputs[0].WitnessUtxo = t, t.TxOut[1]
		d.Proofs[0] = g.block(t)
		g.bury(3)
	}},
	{"order's output counted as change too", consent.ReasonFee, func(g *gateway, d *draft) {
		*d = *g.draft("lie", d.coins[0]).pay("order-lie", g.script(wpkh, 1, 0).Script, 50_000)
		d.packet.Outputs[0].Bip32Derivation, _ = consent.Derivation(g.script(wpkh, 1, 0))
	}},
	{"fee burn: no previous transaction, two lies of version 0 amounts", consent.ReasonAmount, func(_ *gateway, d *draft) {
		d.packet.Inputs[0].NonWitnessUtxo = nil
	}},
	{"no output shown at all", consent.ReasonAmount, func(_ *gateway, d *draft) {
		d.packet.Inputs[0].NonWitnessUtxo, d.packet.Inputs[0].WitnessUtxo = nil, nil
	}},
	{"output index that the transaction does not have", consent.ReasonAmount, func(_ *gateway, d *draft) {
		d.tx().TxIn[0].PreviousOutPoint.Index = 7
	}},
	{"one input twice", consent.ReasonMalformed, func(_ *gateway, d *draft) { d.spend(d.coins[0]) }},
	{"invented output", consent.ReasonOutput, func(_ *gateway, d *draft) {
		d.output(shop("thief"), 900)
	}},
	{"data output that nobody ordered", consent.ReasonOutput, func(_ *gateway, d *draft) {
		d.output([]byte{txscript.OP_RETURN, 1, 1}, 0)
	}},
	{"swapped output: the order's script is another", consent.ReasonOrder, func(_ *gateway, d *draft) {
		d.tx().TxOut[0].PkScript = shop("thief")
	}},
	{"swapped script: the gateway's word for the order too", consent.ReasonOrder, func(g *gateway, d *draft) {
		g.tell(consent.Expect{Order: d.Orders[0].ID, Script: shop("shop"), Amount: d.Orders[0].Amount})
		d.tx().TxOut[0].PkScript, d.Orders[0].Script = shop("thief"), shop("thief")
	}},
	{"order of another amount than the device asked for", consent.ReasonOrder, func(g *gateway, d *draft) {
		g.tell(consent.Expect{Order: d.Orders[0].ID, Script: shop("shop"), Amount: 40_000 * money.Sat})
	}},
	{"order's output pays less", consent.ReasonOrder, func(_ *gateway, d *draft) { d.tx().TxOut[0].Value -= 10_000 }},
	{"order's output that is not there", consent.ReasonOrder, func(_ *gateway, d *draft) { d.Orders[0].Output = 9 }},
	{"one output for two orders", consent.ReasonShared, func(_ *gateway, d *draft) {
		second := d.Orders[0]
		second.ID = orderID("second")
		d.Orders = append(d.Orders, second)
	}},
	{"one order paid twice", consent.ReasonPaid, func(g *gateway, d *draft) {
		d.pay("order-lie", shop("shop"), 100)
		d.tx().TxOut[1].Value -= 100
	}},
	{"payee that the policy does not name", consent.ReasonPayee, func(g *gateway, d *draft) {
		g.config.Policy.Payees = []string{"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"}
		g.boot(0)
	}},
	{"change to the gateway, said to be ours", consent.ReasonChange, func(g *gateway, d *draft) {
		d.tx().TxOut[1].PkScript = shop("thief")
	}},
	{"change to the gateway's key at our path", consent.ReasonChange, func(g *gateway, d *draft) {
		thief := secret("thief").Public()
		d.tx().TxOut[1].PkScript = shop("thief")
		d.packet.Outputs[1].Bip32Derivation[0].PubKey = thief[:]
	}},
	{"change to the gateway, not said to be ours", consent.ReasonOutput, func(g *gateway, d *draft) {
		d.tx().TxOut[1].PkScript = shop("thief")
		d.packet.Outputs[1] = psbt.POutput{}
	}},
	{"change where no restore finds it", consent.ReasonChange, func(g *gateway, d *draft) {
		s := g.script(wpkh, 1, 1_000_000)
		d.tx().TxOut[1].PkScript = s.Script
		d.packet.Outputs[1].Bip32Derivation, _ = consent.Derivation(s)
	}},
	{"change where no restore finds it, made credible by a coin nearby", consent.ReasonChange, func(g *gateway, d *draft) {
		d.spend(g.fund(wpkh, 1_000_000, 1_000))
		g.bury(3)
		s := g.script(wpkh, 1, 1_000_001)
		d.tx().TxOut[1].PkScript = s.Script
		d.packet.Outputs[1].Bip32Derivation, _ = consent.Derivation(s)
	}},
	{"change in an account that is not there", consent.ReasonChange, func(g *gateway, d *draft) {
		d.packet.Outputs[1].Bip32Derivation[0].Bip32Path[2]++
	}},
	{"another's script at our path", consent.ReasonMine, func(g *gateway, d *draft) {
		d.coins[0].tx = g.funding(shop("thief"), 100_000)
		d.tx().TxIn[0].PreviousOutPoint = d.coins[0].point()
		d.packet.Inputs[0].NonWitnessUtxo, d.packet.Inputs[0].WitnessUtxo = d.coins[0].tx, d.coins[0].out()
	}},
	{"our script at another path", consent.ReasonMine, func(_ *gateway, d *draft) {
		path := d.packet.Inputs[0].Bip32Derivation[0].Bip32Path
		path[len(path)-1]++
	}},
	{"our master key at a path of no account", consent.ReasonMine, func(_ *gateway, d *draft) {
		d.packet.Inputs[0].Bip32Derivation[0].Bip32Path[0]++
	}},
	{"nothing of ours", consent.ReasonNothing, func(_ *gateway, d *draft) {
		d.packet.Inputs[0].Bip32Derivation = nil
	}},
	{"extra own input, hidden as another's", consent.ReasonForeign, func(g *gateway, d *draft) {
		d.spend(g.fund(wpkh, 5, 30_000))
		d.packet.Inputs[1].Bip32Derivation = nil
		d.Proofs = d.Proofs[:1]
	}},
	{"extra own input at the same key, hidden in a joint transaction", consent.ReasonMine, func(g *gateway, d *draft) {
		g.config.Policy.Joint = true
		g.boot(0)
		d.spend(g.fund(wpkh, 0, 30_000))
		d.packet.Inputs[1].Bip32Derivation = nil
		d.Proofs = d.Proofs[:1]
	}},
	{"extra own input, shown, its value left to the fee", consent.ReasonFee, func(g *gateway, d *draft) {
		d.spend(g.fund(wpkh, 5, 30_000))
		g.bury(3)
	}},
	{"no proof", consent.ReasonProof, func(_ *gateway, d *draft) { d.Proofs = nil }},
	{"a proof for one of two inputs", consent.ReasonProof, func(g *gateway, d *draft) {
		d.spend(g.fund(wpkh, 5, 30_000))
		d.Proofs = d.Proofs[:1]
	}},
	{"forged proof: another transaction's branch", consent.ReasonProof, func(g *gateway, d *draft) {
		d.Proofs[0].Branch.Hashes[0] = chainhash.HashH([]byte("lie"))
	}},
	{"forged proof: another block", consent.ReasonProof, func(g *gateway, d *draft) { d.Proofs[0].Height++ }},
	{"proof without its transaction", consent.ReasonProof, func(g *gateway, d *draft) {
		*d = *g.draft("lie", g.fund(tr, 0, 100_000)).pay("order-lie", shop("shop"), 50_000).change(g.script(tr, 1, 0), 49_000)
		d.packet.Inputs[0].NonWitnessUtxo = nil
		g.bury(3)
	}},
	{"no proof, as for a child of our own transaction", consent.ReasonProof, func(g *gateway, d *draft) {
		d.Proofs[0].Height, d.Proofs[0].Branch.Hashes, d.Proofs[0].Branch.Index = 0, nil, 0
	}},
	{"repeated node (CVE-2012-2459)", consent.ReasonProof, func(g *gateway, d *draft) {
		id := d.coins[0].tx.TxHash()
		d.Proofs[0].Branch.Hashes[0] = id
	}},
	{"coin that is too fresh", consent.ReasonDepth, func(g *gateway, d *draft) {
		*d = *honest(g, "lie", g.fund(wpkh, 3, 100_000))
	}},
	{"coin in a block that the signer does not have", consent.ReasonNeedHeaders, func(g *gateway, d *draft) { d.Proofs[0].Height += 1000 }},
	{"SIGHASH_NONE", consent.ReasonSighash, sighash(txscript.SigHashNone)},
	{"SIGHASH_SINGLE", consent.ReasonSighash, sighash(txscript.SigHashSingle)},
	{"SIGHASH_ALL|ANYONECANPAY", consent.ReasonSighash, sighash(txscript.SigHashAll | txscript.SigHashAnyOneCanPay)},
	{"sighash of a later rule", consent.ReasonSighash, sighash(0x40)},
	{"unknown global field", consent.ReasonField, func(_ *gateway, d *draft) {
		d.packet.Unknowns = []*psbt.Unknown{{Key: []byte{0x0f, 1}, Value: []byte{1}}}
	}},
	{"unknown field of an input", consent.ReasonField, func(_ *gateway, d *draft) {
		d.packet.Inputs[0].Unknowns = []*psbt.Unknown{{Key: []byte{0x0a, 1}, Value: []byte{1}}}
	}},
	{"unknown field of an output", consent.ReasonField, func(_ *gateway, d *draft) {
		d.packet.Outputs[0].Unknowns = []*psbt.Unknown{{Key: []byte{0x03}, Value: []byte{1}}}
	}},
	{"PSBT of version 2", consent.ReasonVersion, func(_ *gateway, d *draft) {
		d.packet.Unknowns = []*psbt.Unknown{{Key: []byte{0xfb}, Value: []byte{2, 0, 0, 0}}}
	}},
	{"witness script around our key", consent.ReasonField, func(_ *gateway, d *draft) { d.packet.Inputs[0].WitnessScript = []byte{txscript.OP_1} }},
	{"another redeem script", consent.ReasonField, func(_ *gateway, d *draft) { d.packet.Inputs[0].RedeemScript = []byte{txscript.OP_1} }},
	{"taproot scripts under our key", consent.ReasonField, func(g *gateway, d *draft) {
		*d = *honest(g, "lie", g.fund(tr, 0, 100_000))
		d.packet.Inputs[0].TaprootMerkleRoot = make([]byte, 32)
	}},
	// A final input has no derivation any more (BIP 174), so it is another's.
	{"final already", consent.ReasonNothing, func(_ *gateway, d *draft) { d.packet.Inputs[0].FinalScriptWitness = []byte{0} }},
	{"locked for ten years, to be mined when it suits", consent.ReasonLockTime, func(_ *gateway, d *draft) { d.tx().LockTime = 600_000 }},
	{"locked by the clock", consent.ReasonLockTime, func(g *gateway, d *draft) { d.tx().LockTime = uint32(g.now/step.Second) + 3600 }},
	{"locked by its sequence", consent.ReasonLockTime, func(_ *gateway, d *draft) { d.tx().TxIn[0].Sequence = 60_000 }},
	{"more satoshi than there are", consent.ReasonMalformed, func(_ *gateway, d *draft) { d.tx().TxOut[0].Value = 1 << 60 }},
	{"negative output", consent.ReasonMalformed, func(_ *gateway, d *draft) { d.tx().TxOut[0].Value = -5 }},
	{"outputs above the inputs", consent.ReasonAmount, func(_ *gateway, d *draft) { d.tx().TxOut[1].Value = 51_000 }},
	{"fee above its cap", consent.ReasonFee, func(_ *gateway, d *draft) { d.tx().TxOut[1].Value -= 2_500 }},
	{"fee rate above its cap", consent.ReasonFeeRate, func(_ *gateway, d *draft) { d.tx().TxOut[1].Value -= 1_900 }},
	{"payment above its cap", consent.ReasonPerPayment, func(_ *gateway, d *draft) {
		d.tx().TxOut[0].Value, d.tx().TxOut[1].Value = 60_001, 38_999
		d.Orders[0].Amount = 60_001 * money.Sat
	}},
	{"day above its cap", consent.ReasonPerDay, func(g *gateway, d *draft) {
		for _, id := range []string{"one", "two"} {
			c := g.fund(wpkh, 7, 100_000)
			g.bury(3)
			g.consented(honest(g, id, c))
		}
	}},
	{"order that the device did not ask for", consent.ReasonNotAsked, func(g *gateway, d *draft) {
		g.config.Policy.OnlyAsked = true
		g.boot(0)
	}},
	{"order that another proposal pays", consent.ReasonPaid, func(g *gateway, d *draft) {
		c := g.fund(wpkh, 7, 100_000)
		g.bury(3)
		g.consented(honest(g, "lie", c))
		d.ID[0] = 'x'
	}},
	{"an ID again with another transaction", consent.ReasonChanged, func(g *gateway, d *draft) {
		c := g.fund(wpkh, 7, 100_000)
		g.bury(3)
		g.consented(honest(g, "lie", c))
	}},
	{"a transaction again under another ID", consent.ReasonReplayed, func(g *gateway, d *draft) {
		g.consented(d)
		d.ID[0] = 'x'
	}},
	{"replacement of nothing", consent.ReasonReplacement, func(_ *gateway, d *draft) { d.Replaces[0] = 9 }},
	{"foreign replacement: no coin in common", consent.ReasonReplacement, func(g *gateway, d *draft) {
		c := g.fund(wpkh, 7, 100_000)
		g.bury(3)
		first := honest(g, "first", c)
		g.consented(first)
		d.Replaces, d.Orders[0].ID = first.ID, first.Orders[0].ID
	}},
	{"replacement that pays another order", consent.ReasonReplacement, func(g *gateway, d *draft) {
		first := honest(g, "first", d.coins[0])
		g.consented(first)
		d.Replaces = first.ID
		d.tx().TxOut[1].Value -= 100
	}},
	{"replacement of what is replaced", consent.ReasonReplacement, func(g *gateway, d *draft) {
		first := honest(g, "first", d.coins[0])
		g.consented(first)
		second := honest(g, "first", d.coins[0])
		second.ID, second.Replaces = consent.ID{2}, first.ID
		second.tx().TxOut[1].Value -= 100
		g.consented(second)
		d.Replaces, d.Orders[0].ID = first.ID, first.Orders[0].ID
		d.tx().TxOut[1].Value -= 200
	}},
	{"joint transaction with a signer that takes none", consent.ReasonForeign, func(g *gateway, d *draft) { d.spend(g.foreign(20_000)) }},
	{"no ID", consent.ReasonMalformed, func(_ *gateway, d *draft) { d.ID = consent.ID{} }},
}

func sighash(h txscript.SigHashType) func(*gateway, *draft) {
	return func(_ *gateway, d *draft) { d.packet.Inputs[0].SighashType = h }
}

func TestNoLieIsSigned(t *testing.T) {
	for _, lie := range lies {
		t.Run(lie.name, func(t *testing.T) {
			g := newGateway(t, usual)
			c := g.fund(wpkh, 0, 100_000)
			g.bury(3)
			d := honest(g, "lie", c)
			lie.tell(g, d)
			before := g.signer.Summary(g.now).Signatures
			g.refused(d.done(t), lie.want)
			if now := g.signer.Summary(g.now); now.Signatures != before || now.Last != lie.want.String() {
				t.Errorf("%d signatures were made, and the last refusal was for %q", now.Signatures-before, now.Last)
			}
		})
	}
}

// The table is worth nothing if what it starts from is refused too.
func TestWhatIsNoLieIsSigned(t *testing.T) {
	for account, kind := range []descriptor.Kind{descriptor.WPKH, descriptor.TR, descriptor.SHWPKH, descriptor.PKH} {
		t.Run(kind.String(), func(t *testing.T) {
			g := newGateway(t, usual)
			c := g.fund(account, 0, 100_000)
			g.bury(3)
			signed, _ := g.consented(honest(g, "honest", c))
			if signed.Counter != 1 || len(signed.Signatures) != 1 {
				t.Errorf("consent %d with %d signatures", signed.Counter, len(signed.Signatures))
			}
		})
	}
}

// A transaction of 64 bytes hashes as an inner node does, so a gateway could
// prove a coin that never was: it puts the bytes of the coin's transaction where
// a block has two hashes (CVE-2017-12842). Our scripts are longer than the four
// bytes such a transaction has room for, and the branch is refused before that.
func TestATransactionThatIsAnInnerNodeProvesNothing(t *testing.T) {
	node := wire.NewMsgTx(2)
	node.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: chainhash.HashH([]byte("left"))}})
	node.AddTxOut(wire.NewTxOut(100_000, []byte{txscript.OP_1, 2, 3, 4}))
	var raw bytes.Buffer
	if err := node.Serialize(&raw); err != nil || raw.Len() != 64 {
		t.Fatal(raw.Len(), err)
	}
	g := newGateway(t, usual)
	c := g.fund(wpkh, 0, 100_000)
	g.bury(3)
	d := honest(g, "node", c)
	d.packet.Inputs[0].NonWitnessUtxo, d.packet.Inputs[0].WitnessUtxo = node, node.TxOut[0]
	d.tx().TxIn[0].PreviousOutPoint = wire.OutPoint{Hash: node.TxHash()}
	g.refused(d.done(t), consent.ReasonMine)
}

// A header without work moves nothing, and neither does a chain with less work.
func TestHeadersAreJudged(t *testing.T) {
	g := newGateway(t, usual)
	c := g.fund(wpkh, 0, 100_000)
	g.bury(3)
	tip := g.signer.Summary(g.now).Tip

	easy := next(g.headers[len(g.headers)-1], chainhash.HashH([]byte("lie")))
	for easy.Nonce++; ; easy.Nonce++ { // until it has no proof of work
		if h := easy.BlockHash(); h[31] > 0x7f {
			break
		}
	}
	g.recv(consent.Headers{Headers: []wire.BlockHeader{easy}})
	if r, ok := g.last().(consent.Refusal); !ok || r.Reason != consent.ReasonHeaders {
		t.Errorf("a header without work was answered with %+v", g.last())
	}
	g.recv(consent.Headers{Headers: []wire.BlockHeader{cheap(g.headers[len(g.headers)-1])}})
	if r, ok := g.last().(consent.Refusal); !ok || r.Reason != consent.ReasonHeaders {
		t.Errorf("a header of another difficulty was answered with %+v", g.last())
	}
	// A fork that is shorter: its block proves nothing.
	fork := g.funding(c.script.Script, 90_000)
	branch := []wire.BlockHeader{next(g.headers[0], fork.TxHash())}
	g.recv(consent.Headers{Headers: branch})
	if now := g.signer.Summary(g.now).Tip; now != tip {
		t.Errorf("the tip moved from %d to %d", tip, now)
	}
	d := g.draft("fork").pay("o", shop("shop"), 50_000).change(g.script(wpkh, 1, 0), 39_000)
	c.tx, c.proof.Height, c.proof.Branch.Hashes, c.proof.Branch.Index = fork, 2, nil, 0
	d.spend(c)
	g.refused(d.done(t), consent.ReasonProof)
	// A stranger's headers are not looked at.
	if fx := g.tell(step.Recv{From: "peer/stranger", Msg: consent.Headers{Headers: branch}}); len(fx.Send)+len(fx.Put) > 0 {
		t.Errorf("a stranger's headers had effects: %+v", fx)
	}
}

// cheap is a header whose difficulty is not the one required.
func cheap(prev wire.BlockHeader) wire.BlockHeader {
	h := next(prev, chainhash.HashH([]byte("cheap")))
	h.Bits = 0x207ffffe
	return h
}

// Whatever bytes come, the signer stands; and what it signs, it accounts for.
func FuzzProposal(f *testing.F) {
	policy := usual
	policy.Joint, policy.NeedProof = true, false
	g := newGateway(f, policy)
	for account := range g.config.Accounts {
		c, other := g.fund(account, uint32(account), 100_000), g.foreign(7_000)
		order := consent.Expect{Order: orderID("o"), Script: shop("shop"), Amount: 50_000 * money.Sat}
		g.tell(order)
		f.Add(honest(g, "one", c).done(f).Append(nil))
		joint := g.draft("joint", c, other).pay("o", shop("shop"), 50_000).change(g.script(account, 1, 0), 49_500)
		joint.output(shop("other"), 6_000)
		f.Add(joint.done(f).Append(nil))
		joint.packet.Inputs[0].SighashType = txscript.SigHashAll
		joint.packet.Inputs[1].NonWitnessUtxo = nil
		f.Add(joint.done(f).Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := consent.Decode(raw)
		if err != nil {
			return
		}
		s, err := consent.Load(g.disk, g.config, 0)
		if err != nil {
			t.Fatal(err)
		}
		fx := s.Step(step.Input{At: g.now, Events: []any{step.Recv{From: peer, Msg: m}}})
		for _, o := range fx.Done {
			given := o.Value.(consent.Given)
			var paid money.Amount
			for _, order := range given.Orders {
				paid += order.Amount
			}
			if given.Cost > paid+policy.FeeMax || given.Cost > policy.PerDay {
				t.Errorf("%v leave for orders of %v", given.Cost, paid)
			}
		}
	})
}
