package sim_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/codec"
	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

// withinKiosk is how many stories may pass before a mistake of a gateway or a device
// is caught, from the one on at which each begins: to save time, shortly before it
// is.
const withinKiosk = 30

// Mistakes that cost a buyer or an owner money do not survive.
func TestPlantedKioskBugsAreCaught(t *testing.T) {
	for _, c := range []struct {
		name string
		from uint64
		bug  func(t *testing.T, seed uint64) sim.Bug
		want []string // part of the failure, one of them
	}{
		{"send before commit", 3, func(*testing.T, uint64) sim.Bug { return sim.Bug{SendBeforeCommit: true} },
			[]string{"which is quoted", "acts 2 times", "both taken and given back", "is delivered, and is quoted", "payer signed", "the purse has paid", "came in", "was paid back", "and is not known"}},
		{"an acknowledgement's signature is not checked", 1, wrapFleet(func(f fleetBug) drive.Core { return &believing{fleetBug: f} }),
			[]string{"by a word that device"}},
		{"an acknowledgement's counter is not checked", 8, wrapFleet(func(f fleetBug) drive.Core { return &believing{fleetBug: f, signed: true} }),
			[]string{"are delivered by acknowledgement"}},
		{"a command has a new number after a restart", 1, wrapFleet(func(f fleetBug) drive.Core { return &renumbering{fleetBug: f} }),
			[]string{"acts 2 times", "was acknowledged in time"}},
		{"a shared budget is spent without a lease", 1, wrapFleet(unleased), []string{"has spent"}},
		{"held money is credited before it went back", 2, wrapCore(earn.Name, func(c drive.Core) drive.Core { return &crediting{wrapped{c}} }),
			[]string{"for credit"}},
		{"a deadline is forgotten after a restart", 4, wrapCore(earn.Name, func(c drive.Core) drive.Core { return &timeless{wrapped: wrapped{c}} }),
			[]string{"nothing has become of it", "was acknowledged in time"}},
		{"a refund that nobody knows the end of is taken for a no", 7, wrapCore(earn.Name, func(c drive.Core) drive.Core { return &certain{wrapped{c}} }),
			[]string{"was paid back"}},
		{"a settlement gives back twice", 1, wrapCore(tab.Name, func(c drive.Core) drive.Core { return &generous{wrapped{c}} }),
			[]string{"was drawn for"}},
		{"the journal is trimmed too far", 1, wrapCore(journal.Name, func(c drive.Core) drive.Core { return &trimming{wrapped{c}} }),
			[]string{"the next one in the journal is"}},
		{"a device does not look at the clock", 1, wrapCore(fleet.EndName, func(c drive.Core) drive.Core { return &timelessEnd{wrapped{c}} }),
			[]string{"after its expiry"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for s := c.from; s < c.from+withinKiosk; s++ {
				_, err := sim.Worlds["kiosk"](s, nil, c.bug(t, s))
				if err == nil {
					continue
				}
				for _, want := range c.want {
					if strings.Contains(err.Error(), want) {
						t.Logf("seed %d: %.300v", s, err)
						return
					}
				}
				t.Fatalf("seed %d fails for another reason: %.2000v", s, err)
			}
			t.Errorf("%d seeds pass", withinKiosk)
		})
	}
}

func wrapCore(name string, wrap func(drive.Core) drive.Core) func(*testing.T, uint64) sim.Bug {
	return func(*testing.T, uint64) sim.Bug {
		return sim.Bug{Wrap: func(n string, core drive.Core) drive.Core {
			if n == name {
				return wrap(core)
			}
			return core
		}}
	}
}

// fleetBug is a fleet with a mistake in it.
type fleetBug struct {
	wrapped
	config fleet.Config
}

func (f *fleetBug) fleet() *fleet.Fleet { return f.Core.(*fleet.Fleet) }

// verifies checks a signature as the fleet does.
func (f *fleetBug) verifies(a fleet.Ack, now step.Time) bool {
	d, ok := f.fleet().Device(a.Device, now)
	if !ok {
		return false
	}
	if d.Key == (keys.Public{}) {
		return a.Verify(d.Key, fleet.Secret(f.config.Root, d.Name, d.Generation))
	}
	return a.Verify(d.Key, keys.Secret{})
}

func wrapFleet(wrap func(fleetBug) drive.Core) func(*testing.T, uint64) sim.Bug {
	return func(t *testing.T, seed uint64) sim.Bug {
		config, err := sim.KioskFleet(seed)
		if err != nil {
			t.Fatal(err)
		}
		return sim.Bug{Wrap: func(name string, core drive.Core) drive.Core {
			if name == fleet.Name {
				return wrap(fleetBug{wrapped{core}, config})
			}
			return core
		}}
	}
}

// believing takes an acknowledgement's word for an order that waits, whatever the
// fleet thinks of it.
type believing struct {
	fleetBug
	signed bool // it does check the signature
	waits  map[money.OrderID]bool
}

func (b *believing) Step(in step.Input) step.Effects {
	fx := b.Core.Step(in)
	if b.waits == nil {
		b.waits = map[money.OrderID]bool{}
	}
	for _, p := range fx.Send {
		if c, ok := p.Msg.(fleet.Command); ok {
			b.waits[c.Order] = true
		}
		if d, ok := p.Msg.(earn.Delivered); ok {
			delete(b.waits, d.Order)
		}
	}
	for _, event := range in.Events {
		r, _ := event.(step.Recv)
		a, ok := r.Msg.(fleet.Ack)
		if ok && a.OK && b.waits[a.Order] && (!b.signed || b.verifies(a, in.At)) {
			fx.Send = append(fx.Send, step.Packet{To: earn.Name, Msg: earn.Delivered{Order: a.Order, Ack: a.Append(nil)}})
		}
	}
	return fx
}

// renumbering counts on by Window for each start.
type renumbering struct {
	fleetBug
	more uint64
}

func (n *renumbering) Step(in step.Input) step.Effects {
	if slices.Contains(in.Events, any(step.Rang{ID: step.Start})) {
		n.more = uint64(in.At) / 1000 * fleet.Window % (1 << 40)
	}
	fx := n.Core.Step(in)
	for i, p := range fx.Send {
		c, ok := p.Msg.(fleet.Command)
		if !ok {
			continue
		}
		d, _ := n.fleet().Device(c.Device, in.At)
		c.Seq += n.more
		if d.Key == (keys.Public{}) {
			c = c.Seal(n.config.Node, d.Key, fleet.Secret(n.config.Root, d.Name, d.Generation))
		} else {
			c = c.Seal(n.config.Node, d.Key, keys.Secret{})
		}
		fx.Send[i].Msg = c
	}
	return fx
}

// unleased is a fleet that takes its budgets for its own.
func unleased(f fleetBug) drive.Core {
	disk := sim.Disk{}
	disk.Commit(f.fleet().Durable())
	f.config.Shared = false
	alone, err := fleet.Load(&disk, f.config)
	if err != nil {
		panic(err)
	}
	return &wrapped{alone}
}

// crediting gives credit for what is still held.
type crediting struct{ wrapped }

func (h *crediting) Step(in step.Input) step.Effects {
	fx := h.Core.Step(in)
	for _, p := range fx.Send {
		if c, ok := p.Msg.(receipt.Cancel); ok {
			if o := h.Core.(*earn.Book).Order(c.Order); o.State == "failed" {
				fx.Send = append(fx.Send, step.Packet{To: earn.Tab, Msg: earn.Credit{Order: c.Order, Amount: o.Paid}})
			}
		}
	}
	return fx
}

// timeless knows no deadline any more once it was started again.
type timeless struct {
	wrapped
	again bool
}

func (d *timeless) Step(in step.Input) step.Effects {
	for _, event := range in.Events {
		if event == any(step.Rang{ID: step.Start}) {
			d.again = d.Core.(*earn.Book).Summary().Orders > 0
		}
	}
	if d.again {
		in.Events = slices.DeleteFunc(in.Events, func(e any) bool { return e == any(step.Rang{ID: "deadline"}) })
	}
	fx := d.Core.Step(in)
	for i, p := range fx.Send {
		if m, ok := p.Msg.(earn.Deliver); ok && d.again {
			m.Until = 0
			fx.Send[i].Msg = m
		}
	}
	return fx
}

// certain says no where nobody knows.
type certain struct{ wrapped }

func (c *certain) Step(in step.Input) step.Effects {
	for i, event := range in.Events {
		if r, ok := event.(earn.Refunded); ok && r.Err != nil {
			r.Err = &money.Error{Kind: money.Unpaid, Err: errors.New("no answer")}
			in.Events[i] = r
		}
	}
	return c.Core.Step(in)
}

// generous puts what a settlement gives back into the session twice.
type generous struct{ wrapped }

func (g *generous) Step(in step.Input) step.Effects {
	tabs := g.Core.(*tab.Tabs)
	for _, event := range in.Events {
		s, ok := event.(tab.Settle)
		if !ok {
			continue
		}
		was, _ := tabs.Balance(s.Tab)
		fx := tabs.Step(in)
		now, _ := tabs.Balance(s.Tab)
		more := min(now.Left-was.Left, now.In-now.Left)
		if more == 0 || now.State != "open" {
			return fx
		}
		disk := sim.Disk{}
		for _, r := range tabs.Durable() {
			if strings.HasSuffix(r.Key, s.Tab.Key()) {
				old := codec.NewReader(r.Value)
				v := codec.AppendUint(nil, old.Uvarint())
				v = codec.AppendUint(v, old.Uvarint())
				v = codec.AppendUint(v, old.Amount()+more)
				r.Value = append(v, old.Take(old.Len())...)
				fx.Put = append(fx.Put, r)
			}
			disk.Commit([]step.Record{r})
		}
		again, err := tab.Load(&disk)
		if err != nil {
			panic(err)
		}
		again.Journal = true
		g.Core = again
		return fx
	}
	return tabs.Step(in)
}

// trimming forgets one event more than the books have.
type trimming struct{ wrapped }

func (j *trimming) Step(in step.Input) step.Effects {
	for i, event := range in.Events {
		if t, ok := event.(journal.Trim); ok {
			in.Events[i] = journal.Trim{UpTo: t.UpTo + 1}
		}
	}
	return j.Core.Step(in)
}

// timelessEnd takes every command to come an hour earlier.
type timelessEnd struct{ wrapped }

func (d *timelessEnd) Step(in step.Input) step.Effects {
	in.At -= step.Hour
	return d.Core.Step(in)
}
