package wallet_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
	"coinop.dev/sim"
)

// A device's end, its disk, and what the gateway is sent.
type endBench struct {
	t    *testing.T
	o    wallet.EndOptions
	disk *sim.Disk
	end  *wallet.End
}

func newEnd(t *testing.T) *endBench {
	seed, err := mnemonic.SeedFromBytes(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	a, err := descriptor.NewAccount(seed, descriptor.BIP84, 1, 0, &chaincfg.RegressionNetParams)
	if err != nil {
		t.Fatal(err)
	}
	b := &endBench{t: t, disk: &sim.Disk{}, o: wallet.EndOptions{
		Params: &chaincfg.RegressionNetParams, Gateway: "peer/02", Claim: "ONE-CODE-OF-SIXTEEN", Descriptor: a.Descriptor().String(), Depth: 1,
	}}
	b.load()
	return b
}

func (b *endBench) load() {
	b.t.Helper()
	var err error
	if b.end, err = wallet.LoadEnd(b.disk, b.o); err != nil {
		b.t.Fatal(err)
	}
}

func (b *endBench) step(events ...any) step.Effects {
	fx := b.end.Step(step.Input{At: 1, Events: events})
	b.disk.Commit(fx.Put)
	return fx
}

func (b *endBench) gateway(msg any) step.Effects {
	return b.step(step.Recv{From: b.o.Gateway, Msg: msg})
}

// claimed is an end that has its account and one order at the gateway.
func (b *endBench) ordered() money.OrderID {
	b.gateway(wallet.Claimed{Account: "meter"})
	id := money.OrderID{1}
	fx := b.step(wallet.Pay{Order: id, Script: []byte{0x51}, Amount: 1000 * money.Sat})
	if len(fx.Put) == 0 || !slices.ContainsFunc(fx.Send, func(p step.Packet) bool { _, ok := p.Msg.(wallet.Order); return ok && p.To == b.o.Gateway }) {
		b.t.Fatalf("an order does %+v", fx)
	}
	return id
}

func TestEndClaims(t *testing.T) {
	b := newEnd(t)
	fx := b.step(step.Linked{Peer: b.o.Gateway, Link: 1})
	if len(fx.Send) != 1 || fx.Send[0].Msg.(wallet.Claim).Descriptor != b.o.Descriptor {
		t.Fatalf("linked, it sends %+v", fx.Send)
	}
	b.gateway(wallet.Claimed{Account: "meter"})
	b.load()
	if got := b.end.Summary().Account; got != "meter" {
		t.Errorf("after a restart the account is %q", got)
	}
}

// Nobody but the gateway is heard.
func TestEndIsDeafToStrangers(t *testing.T) {
	b := newEnd(t)
	id := b.ordered()
	if fx := b.step(step.Recv{From: "peer/03", Msg: wallet.Failed{ID: id, Kind: money.Unpaid}}); len(fx.Done) > 0 {
		t.Errorf("a stranger ends the order: %+v", fx.Done)
	}
}

// The gateway says that an order has failed, and could publish it all the same.
func TestGatewayDeniesWhatWasConsentedTo(t *testing.T) {
	for _, consented := range []bool{false, true} {
		b := newEnd(t)
		id := b.ordered()
		if consented {
			b.step(step.Recv{From: consent.Core, Msg: step.Outcome{Value: consent.Given{Orders: []consent.Order{{ID: id}}}}})
			b.load() // the device remembers it
		}
		fx := b.gateway(wallet.Failed{ID: id, Kind: money.Unpaid, Why: "no coins"})
		switch {
		case consented && len(fx.Done) > 0:
			t.Errorf("consented to, and the gateway's word ends it: %+v", fx.Done)
		case !consented && (len(fx.Done) != 1 || !errors.Is(fx.Done[0].Err, money.Unpaid)):
			t.Errorf("not consented to, and the gateway's word gives %+v", fx.Done)
		}
		if b.end.Known(id) != consented {
			t.Errorf("consented %v, and the order is known: %v", consented, b.end.Known(id))
		}
	}
}

// The gateway shows an address of its own as the device's.
func TestGatewayShowsAnotherAddress(t *testing.T) {
	b := newEnd(t)
	b.ordered()
	d, err := descriptor.Parse(b.o.Descriptor, b.o.Params)
	if err != nil {
		t.Fatal(err)
	}
	for shown, want := range map[uint32]error{3: nil, 4: wallet.ErrForged} {
		b.step(wallet.Peek{Ask: "look", Fresh: true})
		s, err := d.At(0, 3)
		if err != nil {
			t.Fatal(err)
		}
		text, err := descriptor.Address(s.Script, b.o.Params)
		if err != nil {
			t.Fatal(err)
		}
		fx := b.gateway(wallet.Shown{Account: "meter", Index: shown, Address: text})
		if len(fx.Done) != 1 || !errors.Is(fx.Done[0].Err, want) {
			t.Errorf("address 3 shown as %d gives %+v", shown, fx.Done)
		}
	}
}

// A receipt that proves nothing settles nothing.
func TestGatewayInventsAReceipt(t *testing.T) {
	b := newEnd(t)
	id := b.ordered()
	if fx := b.gateway(wallet.Settled{ID: id, Proof: []byte{1, 2, 3}}); len(fx.Done) > 0 || !b.end.Known(id) {
		t.Errorf("an invented receipt gives %+v", fx.Done)
	}
}
