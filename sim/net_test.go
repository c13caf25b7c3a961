package sim_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

// A talker sends numbered messages over the connection it has, some at every
// tick, and keeps account of what it hears. A crash makes it new.
type talker struct {
	*account
	peer string
	link uint64
	sent uint64
	got  uint64
	over money.OrderID // which connection, as the sender calls it, that was from
}

// An account is of all lives of a talker.
type account struct {
	fault                          error
	links, ends, sent, got, strays int
	ended                          map[uint64]bool
}

func (a *account) check(ok bool, format string, args ...any) {
	if !ok && a.fault == nil {
		a.fault = fmt.Errorf(format, args...)
	}
}

func (k *talker) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Linked:
			k.check(k.link == 0 && ev.Link != 0 && ev.Peer == k.peer && !k.ended[ev.Link], "linked %d beside %d", ev.Link, k.link)
			k.link, k.sent, k.got, k.over = ev.Link, 0, 0, money.OrderID{}
			k.account.links++
		case step.Unlinked:
			k.check(ev.Link == k.link && ev.Peer == k.peer, "unlinked %d beside %d", ev.Link, k.link)
			k.link, k.ended[ev.Link] = 0, true
			k.account.ends++
		case step.Rang:
			k.talk(&fx)
			fx.Wake = append(fx.Wake, step.Alarm{ID: "tick", At: in.At + 50})
			fx.Put = append(fx.Put, step.Record{Key: "tick", Value: []byte{1}}) // a chance to crash
		case step.Recv:
			k.hear(ev)
		}
	}
	return fx
}

func (k *talker) talk(fx *step.Effects) {
	if k.link == 0 {
		return
	}
	say := func(link, n uint64) {
		m := trade.Buy{Units: n}
		binary.BigEndian.PutUint64(m.Order[:], link)
		fx.Send = append(fx.Send, step.Packet{To: k.peer, Link: link, Msg: m})
	}
	for range 5 {
		k.sent++
		k.account.sent++
		say(k.link, k.sent)
	}
	say(0, 0)        // this one may be lost, repeated and late
	say(k.link-1, 0) // a number of the other end, or of another time
}

func (k *talker) hear(ev step.Recv) {
	m := ev.Msg.(trade.Buy)
	if m.Units == 0 {
		k.check(ev.Link == 0 && m.Order == money.OrderID{}, "a message over %v came over %d", m.Order, ev.Link)
		k.strays++
		return
	}
	k.check(ev.Link == k.link, "a message over %d, and up is %d", ev.Link, k.link)
	k.got++
	k.account.got++
	k.check(m.Units == k.got, "message %d over %d is number %d", m.Units, ev.Link, k.got)
	if k.over == (money.OrderID{}) {
		k.over = m.Order
	}
	k.check(m.Order == k.over, "messages of two connections come over %d", ev.Link)
}

// Each connection carries a beginning of what was sent over it, whatever else
// goes wrong.
func TestConnections(t *testing.T) {
	var sum account
	for s := *seed; s < *seed+uint64(*seeds); s++ {
		w := sim.NewWorld(s, sim.Faults{Lose: 20, Repeat: 20, Cut: 1, Crash: 1, Partition: 2, DelayMax: 300})
		accounts := map[string]*account{}
		var both []*sim.Machine
		for _, names := range [][2]string{{"one", "two"}, {"two", "one"}} {
			a := &account{ended: map[uint64]bool{}}
			accounts[names[0]] = a
			m, err := w.Add(names[0], func(step.Reader) (*drive.Machine, error) {
				m := drive.NewMachine()
				m.Add(earn.Name, &talker{account: a, peer: names[1]})
				return m, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			both = append(both, m)
		}
		w.Check = func() error {
			for _, a := range accounts {
				if a.fault != nil {
					return a.fault
				}
			}
			return nil
		}
		w.Connect(both[0], both[1])
		w.Weather(w.Now + step.Minute)
		if err := w.Run(w.Now + step.Minute); err != nil {
			t.Fatalf("seed %d: %v", s, err)
		}
		w.Calm()
		for _, a := range accounts { // what is on the way from before still counts
			sum.links, sum.ends, sum.sent, sum.got, sum.strays = sum.links+a.links, sum.ends+a.ends, sum.sent+a.sent, sum.got+a.got, sum.strays+a.strays
		}
	}
	lost := sum.sent - sum.got
	t.Logf("%d connections, %d ends told, %d messages sent, %d lost, %d strays", sum.links, sum.ends, sum.sent, lost, sum.strays)
	if sum.ends < sum.links/2 || sum.links < 10**seeds || sum.got < sum.sent/3 || lost < sum.links || sum.strays == 0 {
		t.Error("the weather was not rough, or too rough")
	}
}
