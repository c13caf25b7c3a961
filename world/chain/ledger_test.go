package chain_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
)

// reward is a coinbase that is unlike all others.
func reward(n int) *wire.MsgTx {
	t := wire.NewMsgTx(2)
	t.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: wire.MaxPrevOutIndex}, fmt.Append(nil, n), nil))
	t.AddTxOut(wire.NewTxOut(50, []byte{0x51}))
	return t
}

func name(n int) chainhash.Hash { return chainhash.HashH(fmt.Append(nil, n)) }

func TestLedgerIsBounded(t *testing.T) {
	l := chain.NewLedger(name(0))
	for n := 1; n <= chain.MaxBlocks; n++ {
		if err := l.Connect(name(n), []*wire.MsgTx{reward(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Connect(name(-1), []*wire.MsgTx{reward(-1)}); !errors.Is(err, chain.ErrTooLong) {
		t.Errorf("one block more gives %v; want ErrTooLong", err)
	}
	l.Disconnect()
	if err := l.Connect(name(-1), []*wire.MsgTx{reward(-1)}); err != nil {
		t.Errorf("a block in place of another: %v", err)
	}

	l = chain.NewLedger(name(0))
	fat := reward(0)
	fat.AddTxOut(wire.NewTxOut(0, make([]byte, chain.MaxBytes)))
	if err := l.Connect(name(1), []*wire.MsgTx{fat}); !errors.Is(err, chain.ErrTooLong) {
		t.Errorf("a block above MaxBytes gives %v; want ErrTooLong", err)
	}
}

func TestLedgerRefusesARepeatedTransaction(t *testing.T) {
	l := chain.NewLedger(name(0))
	if err := l.Connect(name(1), []*wire.MsgTx{reward(1)}); err != nil {
		t.Fatal(err)
	}
	if err := l.Connect(name(2), []*wire.MsgTx{reward(1)}); err == nil {
		t.Error("a transaction was connected twice (BIP 30)")
	}
	if height, hash := l.Tip(); height != 1 || hash != name(1) {
		t.Errorf("the refused block changed the tip to %d %v", height, hash)
	}
}

func TestWatchesAreBounded(t *testing.T) {
	f := chain.NewFollower(nil, nil, nil)
	for n := range uint32(chain.MaxWatched) {
		if err := f.Watch(watch.Output{Point: wire.OutPoint{Index: n}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Watch(watch.Output{Point: wire.OutPoint{Index: 7}}); err != nil {
		t.Errorf("asking again: %v", err)
	}
	if err := f.Watch(watch.Output{Point: wire.OutPoint{Index: chain.MaxWatched}}); err == nil {
		t.Errorf("%d outputs are watched", chain.MaxWatched+1)
	}
}

func TestRegistry(t *testing.T) {
	r := chain.Registry{}
	opened := ""
	open := func(_ context.Context, u *url.URL) (chain.Source, error) {
		opened = u.Host
		return nil, nil
	}
	r.Register("p2p", open)
	r.Register("fake", open)
	if _, err := r.Open(t.Context(), "p2p://host:1"); err != nil || opened != "host:1" {
		t.Errorf("opened %q, error %v", opened, err)
	}
	for _, uri := range []string{"", "bitcoind://host", "%"} {
		if _, err := r.Open(t.Context(), uri); err == nil {
			t.Errorf("%q was opened", uri)
		}
	}
	for why, register := range map[string]func(){
		"nil":   func() { r.Register("new", nil) },
		"twice": func() { r.Register("p2p", open) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("registering %s did not panic", why)
				}
			}()
			register()
		}()
	}
}
