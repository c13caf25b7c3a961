package tower_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/lightning/tower"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// disk is a store in memory.
type disk map[string][]byte

func (d disk) Get(key string) ([]byte, error) { return d[key], nil }

func (d disk) Scan(prefix string, yield func(key string, value []byte) bool) error {
	var found []string
	for key := range d {
		if strings.HasPrefix(key, prefix) {
			found = append(found, key)
		}
	}
	slices.Sort(found)
	for _, key := range found {
		if !yield(key, d[key]) {
			break
		}
	}
	return nil
}

func (d disk) put(records []step.Record) {
	for _, r := range records {
		if r.Value == nil {
			delete(d, r.Key)
		} else {
			d[r.Key] = bytes.Clone(r.Value)
		}
	}
}

// is reports whether d is exactly what a core says it has on disk.
func (d disk) is(t *testing.T, records []step.Record) {
	t.Helper()
	want := disk{}
	want.put(records)
	if len(want) != len(d) {
		t.Errorf("%d records on disk, %d in memory", len(d), len(want))
	}
	for key, value := range want {
		if !bytes.Equal(d[key], value) {
			t.Errorf("record %s is %x on disk, %x in memory", key, d[key], value)
		}
	}
}

func secret(t testing.TB, name string) keys.Secret {
	t.Helper()
	b := sha256.Sum256([]byte(name))
	s, err := keys.SecretFromBytes(b[:])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// life is a channel between a victim, who is "local", and a cheater.
type life struct {
	t               testing.TB
	id              tower.ChannelID
	channel         commit.Channel
	victim, cheater commit.Secrets
}

const capacity = 10_000_000 // satoshi

func open(t testing.TB, typ commit.Type) *life {
	return openNamed(t, typ, "")
}

func openNamed(t testing.TB, typ commit.Type, name string) *life {
	l := &life{t: t, id: sha256.Sum256([]byte("channel" + name)), victim: commit.NewSecrets(secret(t, "victim"+name)), cheater: commit.NewSecrets(secret(t, "cheater"+name))}
	l.channel = commit.Channel{
		Type: typ, Funding: wire.OutPoint{Hash: sha256.Sum256([]byte("funding" + name)), Index: 1}, Capacity: capacity,
		Local:  commit.Party{Basepoints: l.victim.Basepoints(), Dust: 354, Delay: 144},
		Remote: commit.Party{Basepoints: l.cheater.Basepoints(), Dust: 354, Delay: 720},
	}
	return l
}

// state is commitment n: the cheater has more the smaller n is. It carries
// HTLCs in both directions.
func (l *life) state(n uint64, htlcs int) commit.State {
	s := commit.State{Number: n, FeeRate: 1000, Local: money.Amount(200_000+n) * money.Sat}
	s.Remote = capacity*money.Sat - s.Local
	for i := range htlcs {
		amount := money.Amount(2000+i) * money.Sat
		s.HTLCs = append(s.HTLCs, commit.HTLC{
			Ours: i%2 == 0, Amount: amount, Hash: sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))), Expiry: 500_000 + uint32(i),
		})
		s.Remote -= amount
	}
	return s
}

// build is the cheater's commitment as the victim knows it.
func (l *life) build(s commit.State) *commit.Commitment {
	l.t.Helper()
	k, err := l.channel.Build(commit.Remote, l.cheater.Point(s.Number), s)
	if err != nil {
		l.t.Fatal(err)
	}
	return k
}

// breach is that commitment as the cheater publishes it, fully signed.
func (l *life) breach(s commit.State) *wire.MsgTx {
	l.t.Helper()
	theirs, _ := l.build(s).Sign(l.victim)
	own := s
	own.Local, own.Remote, own.HTLCs = s.Remote, s.Local, slices.Clone(s.HTLCs)
	for i := range own.HTLCs {
		own.HTLCs[i].Ours = !own.HTLCs[i].Ours
	}
	c := l.channel
	c.Local, c.Remote, c.Opener = c.Remote, c.Local, c.Opener.Other()
	k, err := c.Build(commit.Local, l.cheater.Point(s.Number), own)
	if err != nil {
		l.t.Fatal(err)
	}
	t := k.Signed(l.cheater, theirs)
	if err := execute(t, c.FundingOutput()); err != nil {
		l.t.Fatalf("the breach is no valid transaction: %v", err)
	}
	return t
}

func (l *life) guard(s commit.State) tower.Guard {
	return tower.Guard{Channel: l.id, Params: l.channel, Secrets: l.victim, State: s, Revealed: l.cheater.PerCommitment(s.Number)}
}

func (l *life) justice(terms tower.Terms, s commit.State) (*tower.Justice, chainhash.Hash) {
	l.t.Helper()
	k := l.build(s)
	j, err := tower.NewJustice(terms, &l.channel, k, l.victim, l.cheater.PerCommitment(s.Number), payout)
	if err != nil {
		l.t.Fatal(err)
	}
	return j, k.ID
}

var (
	payout      = append([]byte{txscript.OP_1, txscript.OP_DATA_32}, bytes.Repeat([]byte{7}, 32)...)
	towerScript = append([]byte{txscript.OP_0, txscript.OP_DATA_20}, bytes.Repeat([]byte{9}, 20)...)
	rates       = [2]tx.FeeRate{5_000, 50_000}
	terms       = tower.Terms{Rates: rates, Reward: tower.Reward{Base: 1000, PPM: 10_000, Script: towerScript}, Blobs: 1000}
)

// execute runs the scripts of all inputs of t, which spend outs in order.
func execute(t *wire.MsgTx, outs ...*wire.TxOut) error {
	prev := map[wire.OutPoint]*wire.TxOut{}
	for i, in := range t.TxIn {
		prev[in.PreviousOutPoint] = outs[i]
	}
	fetch := txscript.NewMultiPrevOutFetcher(prev)
	hashes := txscript.NewTxSigHashes(t, fetch)
	for i := range t.TxIn {
		engine, err := txscript.NewEngine(outs[i].PkScript, t, i, txscript.StandardVerifyFlags, nil, hashes, outs[i].Value, fetch)
		if err != nil {
			return err
		}
		if err := engine.Execute(); err != nil {
			return err
		}
	}
	return nil
}

// punished checks that penalties are valid transactions on a breach, at a fee
// rate at least and not much above, and returns what they pay to whom.
func punished(t *testing.T, breach *wire.MsgTx, penalties []*wire.MsgTx, rate tx.FeeRate) (spent []uint32, paid map[string]int64) {
	t.Helper()
	paid = map[string]int64{}
	id := breach.TxHash()
	for n, p := range penalties {
		var outs []*wire.TxOut
		fee := int64(0)
		for _, in := range p.TxIn {
			if in.PreviousOutPoint.Hash != id {
				t.Fatalf("penalty %d spends %v", n, in.PreviousOutPoint)
			}
			o := breach.TxOut[in.PreviousOutPoint.Index]
			outs = append(outs, o)
			fee += o.Value
			spent = append(spent, in.PreviousOutPoint.Index)
		}
		if err := execute(p, outs...); err != nil {
			t.Errorf("penalty %d: %v", n, err)
		}
		for _, o := range p.TxOut {
			paid[string(o.PkScript)] += o.Value
			fee -= o.Value
		}
		least := rate.For(tx.VSize(p))
		// Pairs pay for a transaction each, and signatures can be shorter.
		if fee < least || fee > least*11/10+rate.For(12*len(p.TxIn)) {
			t.Errorf("penalty %d has a fee of %d sat for %d vB at %d sat/kvB", n, fee, tx.VSize(p), rate)
		}
	}
	slices.Sort(spent)
	return spent, paid
}
