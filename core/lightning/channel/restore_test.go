package channel_test

import (
	"testing"

	"coinop.dev/core/lightning/backup"
	"coinop.dev/core/lightning/channel"
	ln "coinop.dev/core/lightning/wire"
)

// restored puts an end back from its backup.
func (e *end) restored() {
	e.t.Helper()
	k := e.c.Backup("host:1")
	sealed := (&backup.Backup{Channels: []backup.Channel{k}}).Seal(e.root, 0)
	b, err := backup.Open(e.root, sealed)
	if err != nil {
		e.t.Fatal(err)
	}
	if e.c, err = channel.Restore(&b.Channels[0], e.root); err != nil {
		e.t.Fatal(err)
	}
	e.disk = disk{}
	e.do(func(*channel.Channel) {})
	e.same()
}

// What is left of a channel asks the peer to close in the two ways that BOLTs 1
// and 2 give. The first is enough, however young or old the channel is.
func TestThePeerCloses(t *testing.T) {
	for _, payments := range []int{0, 1, 3} {
		w := open(t, channel.Proposal{Push: 4_000_000_000})
		for i := range payments {
			w.must(w.a.add(i, 1_000_000))
			w.settle()
		}
		w.a.restored()
		w.a.do(func(c *channel.Channel) { c.Linked(2, false) })
		w.b.do(func(c *channel.Channel) { c.Linked(2, false) })
		if len(w.a.out) != 2 {
			t.Fatalf("said %d things", len(w.a.out))
		}
		m, ok := w.a.out[0].(*ln.ChannelReestablish)
		if !ok || m.NextCommitmentNumber != 0 || m.NextRevocationNumber != 0 || m.YourLastPerCommitmentSecret != [32]byte{} {
			t.Errorf("%+v", w.a.out[0])
		}
		if _, ok := w.a.out[1].(*ln.Error); !ok {
			t.Errorf("%T", w.a.out[1])
		}
		w.a.out = w.a.out[:1]
		w.settle()
		if w.b.c.Status() != channel.Failed {
			t.Errorf("after %d payments the peer's channel is %v", payments, w.b.c.Status())
		}
		// Whatever the peer says, nothing is signed, revealed or published.
		w.a.do(func(c *channel.Channel) {
			for _, m := range []ln.Message{
				&ln.ChannelReestablish{ChannelID: c.ID, NextCommitmentNumber: 1}, &ln.ChannelReady{ChannelID: c.ID},
				&ln.CommitmentSigned{ChannelID: c.ID}, &ln.Shutdown{ChannelID: c.ID, ScriptPubKey: c.Payout}, &ln.RevokeAndAck{ChannelID: c.ID},
			} {
				c.Recv(m, nil)
			}
			c.Break("no")
		})
		if len(w.a.out) != 0 || w.a.c.Status() != channel.Stale || len(w.a.c.Publishing()) != 0 {
			t.Errorf("it said %d things and is %v", len(w.a.out), w.a.c.Status())
		}
	}
}

// Secrets that do not belong to the backup are noticed before anything is asked of
// a peer.
func TestRestoreWithAnotherRoot(t *testing.T) {
	w := open(t, channel.Proposal{})
	k := w.a.c.Backup("")
	if _, err := channel.Restore(&k, w.b.root); err == nil {
		t.Error("restored with the wrong secrets")
	}
	k.Commit.Remote.Revocation = [33]byte{9}
	if _, err := channel.Restore(&k, w.a.root); err == nil {
		t.Error("restored with a point that is none")
	}
	k = w.a.c.Backup("")
	k.Payout = nil
	if _, err := channel.Restore(&k, w.a.root); err == nil {
		t.Error("restored without a script to be paid to")
	}
}
