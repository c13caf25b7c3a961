package gateway_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"coinop.dev/core/fleet"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/gateway"
)

// heard is a fleet that only notes what it is told, and says what it is asked to.
type heard chan any

func (h heard) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Packet:
			fx.Send = append(fx.Send, ev)
		case step.Rang:
		default:
			h <- ev
		}
	}
	return fx
}

// A device that comes to a second door before it has left the first sits at the
// second: commands go there, and when the first notices, it is not away.
func TestDeviceChangesDoors(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "db"), newKey(t))
	m, told := k.shop.Machine(), make(heard, 16)
	must(t, m.Host.Add(t.Context(), fleet.Name, told))
	key := newKey(t).Public()
	said := make(chan string, 16)
	seat := func(door string) *gateway.Seat {
		s, err := k.shop.Seat("tap", key, func(msg gateway.Saying) { said <- fmt.Sprintf("%s %T", door, msg) })
		must(t, err)
		return s
	}
	command := func() {
		must(t, m.Host.Tell(t.Context(), fleet.Name, step.Packet{To: fleet.Outlet("tap"), Msg: fleet.Command{}}))
	}
	next := func(want string) {
		t.Helper()
		select {
		case got := <-said:
			if got != want {
				t.Errorf("%q, want %q", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("nothing is said; want %q", want)
		}
	}
	event := func(want any) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Errorf("the fleet is told %+v, want %+v", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("the fleet is told nothing; want %+v", want)
		}
	}
	first := seat("first")
	must(t, first.Online(t.Context(), true))
	event(fleet.Seen{Name: "tap", Online: true})
	command()
	next("first fleet.Command")

	second := seat("second")
	first.Leave()
	command()
	next("second fleet.Command")
	must(t, second.Hear(t.Context(), trade.Browse{}.Append(nil)))
	next("second trade.Tariff")
	must(t, second.Hear(t.Context(), fleet.Trouble{Device: "another", Text: "no water"}.Append(nil)))
	event(fleet.Failed{Name: "tap", Text: "no water"}) // under the door's name for it
	for _, raw := range [][]byte{nil, {1}, {0x89, 1}, fleet.Command{}.Append(nil)} {
		if second.Hear(t.Context(), raw) == nil {
			t.Errorf("%x is heard", raw)
		}
	}
	second.Leave()
	event(fleet.Seen{Name: "tap"})
	first.Leave()
	command()
	select {
	case got := <-said:
		t.Errorf("it has left, and is told %s", got)
	case <-time.After(20 * time.Millisecond):
	}
}
