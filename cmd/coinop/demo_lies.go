//go:build !omit_demo

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/consent"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
)

const (
	// lieWait is how long the meter may take to answer a lie.
	lieWait = 8 * time.Second
	// lieLeaves is how many keys of each branch the gateway's disk is searched
	// for.
	lieLeaves = 64
	// lieDust is an output that nodes relay.
	lieDust = 1000
)

// A forgery is the last proposal that the meter consented to, about to be
// changed. As it comes it claims to replace that one, by its rights as a bump.
type forgery struct {
	consent.Proposal
	packet *psbt.Packet
	thief  []byte // the gateway's own script
	change int    // output
}

func (f *forgery) tx() *wire.MsgTx { return f.packet.UnsignedTx }

// again takes the claim back that it is a bump.
func (f *forgery) again() { f.Replaces = consent.ID{} }

// A lie is a way to cheat, and why it is refused.
type lie struct {
	name string
	why  consent.Reason
	tell func(f *forgery)
}

var lies = []lie{
	{"the payment goes to the gateway, the order says to the charger", consent.ReasonOrder, func(f *forgery) {
		f.tx().TxOut[f.Orders[0].Output].PkScript = f.thief
	}},
	{"the change goes to the gateway, and is said to be the meter's", consent.ReasonChange, func(f *forgery) {
		f.tx().TxOut[f.change].PkScript = f.thief
	}},
	{"the change goes to the miner, as a fee", consent.ReasonFee, func(f *forgery) {
		f.tx().TxOut[f.change].Value = lieDust
	}},
	{"an input is said to hold more than it does, so that the rest is burnt", consent.ReasonAmount, func(f *forgery) {
		in, point := &f.packet.Inputs[0], f.tx().TxIn[0].PreviousOutPoint
		real := in.NonWitnessUtxo.TxOut[point.Index]
		in.WitnessUtxo = wire.NewTxOut(real.Value+100_000, real.PkScript)
	}},
	{"orders that are paid already are proposed as new ones", consent.ReasonPaid, func(f *forgery) {
		f.again()
		f.tx().TxOut[f.change].Value -= 10
	}},
	{"an old proposal is replayed under a new name", consent.ReasonReplayed, (*forgery).again},
	{"an old name gets a new transaction", consent.ReasonChanged, func(f *forgery) {
		f.ID = f.Replaces
		f.tx().TxOut[f.change].Value -= 10
	}},
	{"an order is made up that pays the gateway", consent.ReasonNotAsked, func(f *forgery) {
		f.again()
		o := f.Orders[0]
		rand.Read(o.ID[:])
		o.Script = f.thief
		f.tx().TxOut[o.Output].PkScript = f.thief
		f.Orders = []consent.Order{o}
	}},
	{"an output more, for the gateway", consent.ReasonOutput, func(f *forgery) {
		f.tx().TxOut[f.change].Value -= lieDust
		f.tx().AddTxOut(wire.NewTxOut(lieDust, f.thief))
		f.packet.Outputs = append(f.packet.Outputs, psbt.POutput{})
	}},
	{"a coin with a proof that is forged", consent.ReasonProof, func(f *forgery) {
		f.Proofs = append([]merkle.Proof(nil), f.Proofs...)
		f.Proofs[0].Branch.Index ^= 1
		f.tx().TxOut[f.change].Value -= 10
	}},
	{"a signature is asked for that leaves the outputs open", consent.ReasonSighash, func(f *forgery) {
		f.packet.Inputs[0].SighashType = txscript.SigHashNone
	}},
}

// forge makes the lie out of a true proposal; false if it has nothing to lie
// about.
func (l *lie) forge(p consent.Proposal, thief []byte) (consent.Proposal, bool) {
	packet, err := psbt.NewFromRawBytes(bytes.NewReader(p.PSBT), false)
	if err != nil || len(p.Orders) == 0 || len(p.Proofs) == 0 || packet.Inputs[0].NonWitnessUtxo == nil {
		return p, false
	}
	f := &forgery{Proposal: p, packet: packet, thief: thief, change: -1}
	for i, out := range packet.Outputs {
		if len(out.Bip32Derivation) > 0 {
			f.change = i
		}
	}
	if f.change < 0 || f.tx().TxOut[f.change].Value < custodyMaxFee.Sats()+2*lieDust {
		return p, false
	}
	f.Replaces = p.ID
	rand.Read(f.ID[:])
	l.tell(f)
	var raw bytes.Buffer
	if err := f.packet.Serialize(&raw); err != nil {
		return p, false
	}
	f.PSBT = raw.Bytes()
	return f.Proposal, true
}

// lie has the gateway send the meter's signer a forged proposal over the link,
// the next kind each time, and waits for the answer.
func (d *custody) lie(ctx context.Context) error {
	d.mu.Lock()
	gateway, device, proposed := d.gateway.station, d.buyer.station, d.proposed
	ready := d.phase == page.Paying && !d.down() && !d.linkDown
	l := &lies[d.tried%len(lies)]
	d.mu.Unlock()
	switch {
	case !ready:
		return errors.New("the gateway lies while it is in touch with the meter; wait until all three run")
	case proposed == nil:
		return errors.New("the meter has consented to nothing yet: there is nothing to forge")
	}
	forged, ok := l.forge(*proposed, tx.P2WPKH(gateway.Key.Public()))
	if !ok {
		return errors.New("the last transaction has no change worth stealing; wait for the next")
	}
	d.note(page.Warn, "the gateway lies: "+l.name)
	answer, err := tell(ctx, gateway, device.Key.Public(), forged)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.tried++
	d.mu.Unlock()
	if no, ok := answer.(consent.Refusal); ok {
		d.wasRefused(l.name, no)
		return nil
	}
	d.mu.Lock()
	d.whole.Signed++
	d.mu.Unlock()
	d.note(page.Warn, "the meter has signed it. That is a bug: please report it")
	return nil
}

// tell sends a proposal and returns what the signer answers.
func tell(ctx context.Context, from *station, to keys.Public, p consent.Proposal) (message.Message, error) {
	ctx, stop := context.WithTimeout(ctx, lieWait)
	defer stop()
	answers := make(chan message.Message, 1)
	defer from.Engine.AddDoor(func(who keys.Public, msg message.Message) bool {
		var id consent.ID
		switch msg := msg.(type) {
		case consent.Refusal:
			id = msg.ID
		case consent.Consent:
			id = msg.ID
		}
		if who != to || id != p.ID {
			return false
		}
		select {
		case answers <- msg:
		default:
		}
		return true
	})()
	from.Engine.Send(to, p)
	select {
	case a := <-answers:
		return a, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("the meter does not answer the lie: %w", ctx.Err())
	}
}

func (d *custody) wasRefused(lie string, no consent.Refusal) {
	d.mu.Lock()
	r := page.Refusal{Lie: lie, Reason: no.Reason.String(), Text: no.Text, Count: 1}
	d.whole.Last = &r
	found := false
	for i := range d.whole.Refusals {
		if old := &d.whole.Refusals[i]; old.Lie == lie && old.Reason == r.Reason {
			old.Count, old.Text, found = old.Count+1, r.Text, true
		}
	}
	if !found {
		d.whole.Refusals = append(d.whole.Refusals, r)
	}
	d.mu.Unlock()
	d.note(page.Good, "the meter refuses ("+r.Reason+"): "+r.Text)
}

// scan searches the gateway's disk for what only the meter may have.
func (d *custody) scan(gateway *station) {
	needles, err := private(d.meterKey, lieLeaves)
	if err == nil {
		var records, found int
		if records, found, err = search(gateway.DB, needles); err == nil {
			d.mu.Lock()
			d.whole.Records, d.whole.Private = records, found
			d.mu.Unlock()
			return
		}
	}
	d.u.log("demo").Warn("search the gateway's disk", "err", err)
}
