package tower_test

import (
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/lightning/tower"
	"coinop.dev/core/step"
)

// What a peer revokes before the tower has granted a session waits, over a
// restart too.
func TestCommitmentsWaitForASession(t *testing.T) {
	p := newPair(t, 1)
	l := open(t, commit.Anchors)
	cover := tower.Cover{Channel: l.id, Secrets: &l.victim}
	p.stepClient(cover)
	p.toServer = nil // the tower does not hear of it
	for n := range uint64(3) {
		p.stepClient(l.guard(l.state(n, 4)))
	}
	if p.client.AtRisk(l.id) != 3 || len(p.outcomes) > 0 {
		t.Fatalf("%d wait; %v", p.client.AtRisk(l.id), p.outcomes)
	}
	p.boot()
	p.run() // granted, and still nobody knows the channel's secrets
	if p.client.AtRisk(l.id) != 3 || p.server.Blobs() != 0 {
		t.Fatalf("%d wait, %d blobs", p.client.AtRisk(l.id), p.server.Blobs())
	}
	p.stepClient(cover)
	p.run()
	if v, _ := last[tower.Guarded](p); v.Number != 2 || p.client.AtRisk(l.id) != 0 || p.server.Blobs() != 9 {
		t.Fatalf("guarded to %d, %d blobs", v.Number, p.server.Blobs())
	}
	p.stepServer(tower.Block{Height: 7, Txs: []*wire.MsgTx{l.breach(l.state(1, 4))}})
	if len(p.published) == 0 {
		t.Error("the tower does not punish")
	}
}

// A session that is full is followed by another, and both go with the channel.
func TestAFullSessionIsRenewed(t *testing.T) {
	p := newPair(t, 1)
	p.options.Blobs = 4
	p.boot()
	l := open(t, commit.Anchors)
	p.stepClient(tower.Cover{Channel: l.id, Secrets: &l.victim})
	p.run()
	for n := range uint64(9) { // of two blobs each
		p.stepClient(l.guard(l.state(n, 2)))
		if n%3 == 1 {
			p.run()
		}
		if n == 5 {
			p.boot()
			p.stepClient(tower.Cover{Channel: l.id, Secrets: &l.victim})
		}
	}
	p.run()
	if v, _ := last[tower.Guarded](p); v.Number != 8 || p.server.Sessions() != 5 || p.server.Blobs() != 18 {
		t.Errorf("guarded to %d, %d sessions, %d blobs", v.Number, p.server.Sessions(), p.server.Blobs())
	}
	for _, n := range []uint64{0, 8} {
		p.published = nil
		p.stepServer(tower.Block{Height: 7, Txs: []*wire.MsgTx{l.breach(l.state(n, 2))}})
		if len(p.published) == 0 {
			t.Errorf("commitment %d is not punished", n)
		}
	}
	p.stepClient(tower.Forget{Channel: l.id})
	p.run()
	if _, ok := last[tower.Forgotten](p); !ok || p.server.Sessions() != 0 || len(p.clientDisk) != 0 {
		t.Errorf("%d sessions, %d records", p.server.Sessions(), len(p.clientDisk))
	}
}

// A tower that has no room for another session keeps what it has.
func TestNoRoomToRenew(t *testing.T) {
	p := newPair(t, 1)
	p.options.Blobs, p.offer.Capacity = 4, 4
	p.boot()
	l := open(t, commit.Anchors)
	p.stepClient(tower.Cover{Channel: l.id, Secrets: &l.victim})
	p.run()
	for n := range uint64(4) {
		p.stepClient(l.guard(l.state(n, 2)))
	}
	p.run()
	p.stepClient(l.guard(l.state(4, 2)))
	p.run()
	if !p.failure(tower.ErrNoSession) || !p.failure(tower.ErrFull) || p.server.Blobs() != 4 || p.client.AtRisk(l.id) != 0 {
		t.Errorf("%d blobs; %v", p.server.Blobs(), p.outcomes)
	}
}

// What a revocation costs a client: building the commitment, signing penalties at
// two fee rates, sealing.
func BenchmarkGuard(b *testing.B) {
	for _, htlcs := range []int{0, 20} {
		b.Run(fmt.Sprint(htlcs), func(b *testing.B) {
			c, err := tower.NewClient(tower.Options{Tower: secret(b, "tower").Public(), Rates: rates, Blobs: tower.MaxBlobs, MaxBase: 1000, MaxPPM: 10_000, Payout: payout}, secret(b, "client"))
			if err != nil {
				b.Fatal(err)
			}
			l := open(b, commit.Anchors)
			from := secret(b, "tower").Public().PeerName()
			fx := c.Step(step.Input{Events: []any{step.Linked{Peer: from, Link: 1}, tower.Cover{Channel: l.id}}})
			ask := fx.Send[0].Msg.(tower.Ask)
			c.Step(step.Input{Events: []any{step.Recv{From: from, Msg: tower.Grant{ID: ask.ID, Terms: tower.Terms{Rates: rates, Reward: terms.Reward, Blobs: tower.MaxBlobs}}}}})
			g := l.guard(l.state(1, htlcs))
			taken := uint32(0)
			for b.Loop() {
				c.Step(step.Input{Events: []any{g}})
				taken += uint32(1 + htlcs/2)
				c.Step(step.Input{Events: []any{step.Recv{From: from, Msg: tower.Ack{ID: ask.ID, Taken: taken}}}})
			}
		})
	}
}
