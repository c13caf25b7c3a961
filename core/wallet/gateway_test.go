package wallet_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
)

// run delivers what is on its way until all are quiet.
func (k *talk) run() {
	for n := 0; ; n++ {
		if n > 1000 {
			k.t.Fatal("they talk for ever")
		}
		if len(k.inbox) == 0 {
			if k.wake > 0 && k.wake <= k.now+1 {
				k.now, k.wake = k.now+1, 0
				k.tell(step.Rang{ID: "wallet"})
				continue
			}
			return
		}
		f := k.inbox[0]
		k.inbox = k.inbox[1:]
		if f.to == wallet.Name {
			k.tell(step.Recv{From: f.from, Msg: f.msg})
			continue
		}
		d := k.byPeer(f.to)
		switch {
		case !d.online:
		case d.lose > 0:
			d.lose--
			k.say("lost: %s", k.describe(f.msg))
		default:
			k.step(d, step.Recv{From: "peer/gateway", Msg: f.msg})
		}
	}
}

// step lets a device's signer decide; wallet messages are for the device.
func (k *talk) step(d *device, event any) {
	if r, ok := event.(step.Recv); ok {
		switch m := r.Msg.(type) {
		case wallet.Settled:
			k.proofs[m.ID] = m.Proof
			k.told[m.ID]++
			k.say("%s hears that %s is paid", d.name, orderName(m.ID))
			return
		case wallet.Failed:
			k.failed[m.ID] = true
			k.say("%s hears that %s is %v: %s", d.name, orderName(m.ID), m.Kind, k.clean(m.Why))
			return
		case wallet.Claimed:
			k.say("%s has account %s", d.name, m.Account)
			return
		case wallet.Refused:
			k.say("%s is refused: %s", d.name, m.Why)
			return
		case wallet.Shown:
			return
		}
	}
	began := time.Now()
	fx := d.signer.Step(step.Input{At: k.now, Events: []any{event}})
	k.signing += time.Since(began)
	d.disk.Commit(fx.Put)
	for _, p := range fx.Send {
		switch m := p.Msg.(type) {
		case consent.Consent:
			k.say("%s consents", d.name)
		case consent.Refusal:
			k.say("%s refuses: %s", d.name, m.Reason)
		}
		k.inbox = append(k.inbox, flight{d.peer(), wallet.Name, reread(k.t, p.Msg)})
	}
}

// reread is a message as it comes out at the other end of a link.
func reread(t *testing.T, msg any) any {
	m, ok := msg.(interface{ Append([]byte) []byte })
	if !ok {
		return msg
	}
	raw := m.Append(nil)
	var back any
	var err error
	if wallet.Owns(binary.BigEndian.Uint16(raw)) {
		back, err = wallet.Decode(raw)
	} else {
		back, err = consent.Decode(raw)
	}
	if err != nil {
		t.Fatalf("%T: %v", msg, err)
	}
	return back
}

func (k *talk) start() {
	core, err := wallet.Load(k.disk, k.options)
	if err != nil {
		k.t.Fatal(err)
	}
	k.core, k.wake, k.scripts, k.points, k.watched = core, 0, map[string]bool{}, map[wire.OutPoint]bool{}, nil
	k.inbox = slices.DeleteFunc(k.inbox, func(f flight) bool { return true })
	k.tell(step.Rang{ID: step.Start})
	for _, name := range k.names {
		k.link(k.devices[name])
	}
}

// tell steps the wallet and carries out what it wants.
func (k *talk) tell(event any) {
	if r, ok := event.(step.Recv); ok {
		r.Msg = reread(k.t, r.Msg)
		event = r
	}
	began := time.Now()
	fx := k.core.Step(step.Input{At: k.now, Events: []any{event}})
	k.spent += time.Since(began)
	if len(fx.Put) > 0 {
		k.writes++
	}
	if len(fx.Put) > 0 && (k.doomed || k.writes == k.crashAt) {
		k.doomed = false
		k.say("the write fails")
		if k.after {
			k.disk.Commit(fx.Put) // it does not, but nothing else happens
		}
		k.start()
		return
	}
	k.core.Check()
	if k.disk.Commit(fx.Put); len(fx.Put) > 0 && !k.quiet {
		k.compare()
	}
	for _, p := range fx.Send {
		k.send(p)
	}
	for _, a := range fx.Wake {
		k.wake = a.At // asking again moves it
	}
	for _, d := range fx.Done {
		k.done(d)
	}
}

// compare asserts that what is on disk loads to what is in memory.
func (k *talk) compare() {
	onDisk := map[string]string{}
	k.disk.Scan("", func(key string, value []byte) bool { onDisk[key] = string(value); return true })
	inMemory := map[string]string{}
	for _, r := range k.core.Durable() {
		inMemory[r.Key] = string(r.Value)
	}
	if !maps.Equal(onDisk, inMemory) {
		for key := range inMemory {
			if onDisk[key] != inMemory[key] {
				k.t.Errorf("%q on disk is %x, in memory %x", key, onDisk[key], inMemory[key])
			}
		}
		for key := range onDisk {
			if _, ok := inMemory[key]; !ok {
				k.t.Errorf("%q is on disk, and not in memory", key)
			}
		}
		k.t.FailNow()
	}
	loaded, err := wallet.Load(k.disk, k.options)
	if err != nil {
		k.t.Fatal(err)
	}
	for _, r := range loaded.Durable() {
		if inMemory[r.Key] != string(r.Value) {
			k.t.Fatalf("%q loads as %x, and was %x", r.Key, r.Value, inMemory[r.Key])
		}
		delete(inMemory, r.Key)
	}
	if len(inMemory) > 0 {
		k.t.Fatalf("%d records are not loaded", len(inMemory))
	}
	loaded.Check()
}

func (k *talk) send(p step.Packet) {
	switch m := p.Msg.(type) {
	case watch.Script:
		if !k.scripts[string(m.Script)] {
			k.scripts[string(m.Script)] = true
			k.watched = append(k.watched, m)
		}
		k.inbox = append(k.inbox, flight{watch.Chain, wallet.Name, k.chain.coins(m.Script, m.Prove)})
	case watch.Output:
		k.points[m.Point] = true
		k.inbox = append(k.inbox, flight{watch.Chain, wallet.Name, k.chain.status(m.Point)})
	case watch.HeadersAfter:
		k.inbox = append(k.inbox, flight{watch.Chain, wallet.Name, k.chain.headersAfter(m)})
	case watch.Publish:
		known := slices.ContainsFunc(k.chain.all(), func(t *wire.MsgTx) bool { return t.TxHash() == m.Tx.TxHash() })
		err := k.chain.publish(m.Tx)
		switch {
		case err != nil:
			k.say("the chain refuses: %s", k.clean(err.Error()))
		case !known:
			fee, _ := k.chain.fee(m.Tx)
			k.say("published: %s, fee %d sat for %d vB", k.describeTx(m.Tx), fee, tx.VSize(m.Tx))
			k.report()
		}
	default:
		if d := k.byPeer(p.To); d != nil {
			if m, ok := p.Msg.(consent.Proposal); ok {
				k.say("to %s: %s", d.name, k.describe(m))
			}
			k.inbox = append(k.inbox, flight{wallet.Name, p.To, reread(k.t, p.Msg)})
		}
	}
}

// report tells the wallet of all it watches.
func (k *talk) report() {
	for _, s := range k.watched {
		if c := k.chain.coins(s.Script, s.Prove); len(c.Coins) > 0 || k.scripts["told"+string(s.Script)] {
			k.scripts["told"+string(s.Script)] = true
			k.inbox = append(k.inbox, flight{watch.Chain, wallet.Name, c})
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(k.points), byPoint) {
		k.inbox = append(k.inbox, flight{watch.Chain, wallet.Name, k.chain.status(p)})
	}
}

func (k *talk) describe(msg any) string {
	p, ok := msg.(consent.Proposal)
	if !ok {
		return strings.ToLower(fmt.Sprintf("%T", msg))
	}
	var names []string
	for _, o := range p.Orders {
		names = append(names, orderName(o.ID))
	}
	if names == nil {
		names = []string{"nobody"}
	}
	text := "a proposal to pay " + strings.Join(names, " ")
	if !p.Replaces.IsZero() {
		text += ", in place of another"
	}
	return text
}

func (k *talk) describeTx(t *wire.MsgTx) string {
	return fmt.Sprintf("%d inputs, %d outputs", len(t.TxIn), len(t.TxOut))
}

// clean takes out of a text what differs from run to run of the maker's mind.
func (k *talk) clean(text string) string {
	words := strings.Fields(text)
	for i, w := range words {
		if len(w) > 60 {
			words[i] = "(id)"
		}
	}
	return strings.Join(words, " ")
}

func (k *talk) done(d step.Outcome) {
	name := d.ID
	id, isOrder := money.OrderIDFromKey(d.ID)
	if isOrder {
		name = orderName(id)
	}
	if rest, ok := strings.CutPrefix(d.ID, "bill/"); ok {
		id, _ = money.OrderIDFromKey(rest)
		name = "bill " + orderName(id)
	}
	switch v := d.Value.(type) {
	case wallet.Address:
		if who, ok := strings.CutPrefix(d.ID, "fresh/"); ok {
			k.devices[who].fresh = v
			return
		}
		k.bills[id] = v.Script
		k.say("%s: address %d of %s", name, v.Index, v.Account)
	case wallet.View:
		k.say("%s: %s", name, v.Account)
	case receipt.Evidence:
		k.told[id]++
		if was := k.proofs[id]; was != nil && !bytes.Equal(was, v.Proof()) {
			k.t.Errorf("order %s has another proof", name)
		}
		k.proofs[id] = v.Proof()
		k.say("%s is paid, %v", name, v.Entry().Amount)
	case receipt.Income:
		k.say("the till has %v for %s", v.Income().Amount, orderName(v.Income().Order))
	default:
		if d.Err != nil {
			k.say("%s: %s", name, k.clean(strings.ReplaceAll(d.Err.Error(), id.String(), name)))
			return
		}
		k.say("%s: done", name)
	}
}
