package lnrail_test

import (
	"testing"

	"coinop.dev/core/lightning/node"
	"coinop.dev/core/lightning/tower"
	"coinop.dev/core/money"
	"coinop.dev/world/drive"
)

func (m *machine) tower() (sessions, blobs int) {
	m.y.must(m.m.Host.Do(m.y.ctx, func(machine *drive.Machine) {
		s := machine.Core(tower.ServerName).(*tower.Server)
		sessions, blobs = s.Sessions(), s.Blobs()
	}))
	return sessions, blobs
}

// Bob is away when Alice publishes a commitment that she has revoked. Carol, who
// never learnt of the channel, punishes her; Bob finds the money in his wallet.
func TestATowerPunishes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ static, offer string }{
		{"0", "&watch=1&watch_base=1000sat&watch_ppm=10000"},
		{"1", "&watch=1"},
	} {
		y := newYard(t)
		carol := y.machine("carol", c.offer)
		a, b := y.machine("alice"), y.machine("bob", "&tower="+carol.key.Public().String()+"@127.0.0.1:1")
		b.m.Close() // the tower could not be reached; now it can
		hired := "&tower=" + carol.key.Public().String() + "@" + carol.addr
		b.start(hired)
		a.open(b.uri() + "?capacity=1000000sat&static=" + c.static)
		old := a.commitment() // nearly everything is Alice's
		for i := range byte(5) {
			a.pay(i, b.uri(), 100_000*money.Sat)
		}
		if b.summary().Channels[0].Commitment < 5 {
			t.Fatal("nothing was revoked")
		}
		y.until("Carol has it all", false, func() bool { return b.summary().Channels[0].Unguarded == 0 })
		if sessions, blobs := carol.tower(); sessions != 1 || blobs < 5 {
			t.Errorf("Carol has %d sessions, %d blobs", sessions, blobs)
		}
		before, reward := b.coins(), carol.coins()
		y.must(b.m.Close())

		y.must(y.chain.Publish(y.ctx, old))
		want := before + 950_000
		if c.static == "0" {
			want -= 11_000
		}
		y.until("Bob's wallet has it all", true, func() bool { return b.coins() > want })
		switch got := carol.coins() - reward; {
		case c.static == "0" && (got < 10_000 || got > 11_000):
			t.Errorf("Carol's reward is %d", got)
		case c.static == "1" && got != 0:
			t.Errorf("Carol, who asked for nothing, has %d", got)
		}

		b.start(hired)
		y.until("the channel is over", true, func() bool { return len(b.summary().Channels) == 0 })
		y.until("Carol has forgotten it", true, func() bool { n, _ := carol.tower(); return n == 0 })
	}
}

// A channel is opened when there is too little to send, and not more often than
// the limits say.
func TestAutomaticOpening(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	b := y.machine("bob")
	a := y.machine("alice", "&autopen=300000sat&autopen_size=400000sat&autopen_count=2&autopen_to="+b.key.Public().String()+"@"+b.addr)
	channels := func(n int) func() bool {
		return func() bool {
			s := a.summary()
			usable := 0
			for _, ch := range s.Channels {
				if ch.Usable {
					usable++
				}
			}
			return usable == n
		}
	}
	y.until("there is a channel", true, channels(1))
	a.pay(1, b.uri(), 50_000*money.Sat)
	a.pay(2, b.uri(), 150_000*money.Sat)
	y.until("there is another", true, channels(2))
	refused, err := a.m.Host.Await(node.Name, node.AutoID)
	y.must(err)
	a.pay(3, b.uri(), 190_000*money.Sat)
	a.pay(4, b.uri(), 190_000*money.Sat)
	answer := make(chan error, 1)
	go func() {
		_, err := refused(y.ctx)
		answer <- err
	}()
	y.until("a third is refused", true, func() bool { return len(answer) > 0 })
	if err := <-answer; money.KindOf(err) != money.Refused {
		t.Errorf("a third channel in a day: %v", err)
	}
}
