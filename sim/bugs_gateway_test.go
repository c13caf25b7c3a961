package sim_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/psbt/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

// withinGateway is how many stories may pass before a mistake of a wallet, a
// signer or a device is caught.
const withinGateway = 30

// Mistakes that cost a device money do not survive, wherever they are.
func TestPlantedGatewayBugsAreCaught(t *testing.T) {
	for _, c := range []struct {
		name string
		from uint64 // even: the gateway is honest; odd: it lies; not far from a story that shows it
		wrap func(seed uint64, name string, core drive.Core) drive.Core
		want []string // part of the failure, one of them
	}{
		{"a signer forgets to put its counter", 2, wrapSigner(func(s *consent.Signer) drive.Core { return &uncounted{wrapped{s}} }),
			[]string{"memory and disk differ", "uses counter", "gives consent", "which do not replace each other", "would not start from its disk"}},
		{"a signer shows a consent before its outside counter", 2, wrapSigner(func(s *consent.Signer) drive.Core { return &early{wrapped{s}} }),
			[]string{"before its outside counter"}},
		{"a wallet publishes before it is durable", 2, wrapWallet(func(w *wallet.Wallet, _ wallet.Options) drive.Core { return &hurried{wrapped: wrapped{w}} }),
			[]string{"memory and disk differ", "counts as unpaid", "was never answered", "could be paid twice"}},
		{"a wallet forgets what it has published, and has its coins for others", 2, wrapWallet(func(w *wallet.Wallet, o wallet.Options) drive.Core {
			return &relapsing{wrapped: wrapped{w}, options: o}
		}),
			[]string{"counts as unpaid", "was never answered", "could be paid twice"}},
		{"a signer does not check change", 25, wrapSigner(func(s *consent.Signer) drive.Core { return &trusting{wrapped{s}} }),
			[]string{"signs away", "loses"}},
		{"a signer believes all that are asked for twice", 1, wrapSigner(func(s *consent.Signer) drive.Core { return &unlimited{wrapped{s}} }),
			[]string{"signs away", "loses"}},
		{"a device takes no answer for a no", 2, func(_ uint64, _ string, core drive.Core) drive.Core {
			if e, ok := core.(*wallet.End); ok {
				return &impatient{wrapped: wrapped{e}}
			}
			return core
		}, []string{"counts as unpaid", "was unpaid and is paid"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for s := c.from; s < c.from+2*withinGateway; s += 2 {
				bug := sim.Bug{Wrap: func(name string, core drive.Core) drive.Core { return c.wrap(s, name, core) }}
				_, err := sim.Worlds["gateway"](s, nil, bug)
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
			t.Errorf("%d seeds pass", withinGateway)
		})
	}
}

func wrapSigner(wrap func(*consent.Signer) drive.Core) func(uint64, string, drive.Core) drive.Core {
	return func(_ uint64, _ string, core drive.Core) drive.Core {
		if s, ok := core.(*consent.Signer); ok {
			return wrap(s)
		}
		return core
	}
}

// wrapWallet wraps the gateway's wallet, which has no signer beside it.
func wrapWallet(wrap func(*wallet.Wallet, wallet.Options) drive.Core) func(uint64, string, drive.Core) drive.Core {
	return func(seed uint64, name string, core drive.Core) drive.Core {
		if name == sim.GatewayWallet {
			return wrap(core.(*wallet.Wallet), sim.GatewayOptions(seed))
		}
		return core
	}
}

// uncounted puts a consent and not the counter.
type uncounted struct{ wrapped }

func (u *uncounted) Step(in step.Input) step.Effects {
	fx := u.Core.Step(in)
	var put []step.Record
	for _, r := range fx.Put {
		if r.Key != "consent/head" && !strings.HasPrefix(r.Key, "consent/given/") {
			put = append(put, r)
		}
	}
	fx.Put = put
	return fx
}

// early shows a consent as soon as it is made.
type early struct{ wrapped }

func (e *early) Step(in step.Input) step.Effects {
	s := e.Core.(*consent.Signer)
	outside := s.Outside
	for _, event := range in.Events {
		if r, ok := event.(step.Recv); ok {
			if _, ok := r.Msg.(consent.Proposal); ok {
				s.Outside = false
			}
		}
	}
	fx := s.Step(in)
	s.Outside = outside
	return fx
}

// hurried puts what belongs to a publication one step later.
type hurried struct {
	wrapped
	late []step.Record
}

func (h *hurried) Step(in step.Input) step.Effects {
	fx := h.Core.Step(in)
	fx.Put, h.late = append(h.late, fx.Put...), nil
	for _, p := range fx.Send {
		if _, ok := p.Msg.(watch.Publish); ok {
			fx.Put, h.late = nil, fx.Put
			break
		}
	}
	return fx
}

// relapsing forgets a transaction once it is published, in memory and on disk.
type relapsing struct {
	wrapped
	options wallet.Options
	once    bool
}

func (f *relapsing) Step(in step.Input) step.Effects {
	fx := f.Core.Step(in)
	for _, p := range fx.Send {
		if _, ok := p.Msg.(watch.Publish); !ok || f.once {
			continue
		}
		f.once = true
		kept := sim.Disk{}
		for _, r := range f.Core.(*wallet.Wallet).Durable() {
			if strings.HasPrefix(r.Key, "wallet/b/") {
				fx.Put = append(fx.Put, step.Record{Key: r.Key})
				continue
			}
			kept.Commit([]step.Record{r})
		}
		w, err := wallet.Load(&kept, f.options)
		if err != nil {
			return fx // something settled needs its transaction
		}
		f.Core = w
		more := w.Step(step.Input{At: in.At, Events: []any{step.Rang{ID: step.Start}}})
		fx.Put, fx.Send, fx.Wake = append(fx.Put, more.Put...), append(fx.Send, more.Send...), append(fx.Wake, more.Wake...)
	}
	return fx
}

// trusting takes for change whatever is said to be: it has what is not signed as
// an order, and asks for no order's origin.
type trusting struct{ wrapped }

func (u *trusting) Step(in step.Input) step.Effects {
	s := u.Core.(*consent.Signer)
	policy := s.Policy
	for i, event := range in.Events {
		r, _ := event.(step.Recv)
		p, ok := r.Msg.(consent.Proposal)
		if !ok {
			continue
		}
		if packet, err := psbt.NewFromRawBytes(bytes.NewReader(p.PSBT), false); err == nil {
			more := believe(s, p, packet)
			s.Policy.OnlyAsked = s.Policy.OnlyAsked && len(more.Orders) == len(p.Orders)
			r.Msg = more
			in.Events[i] = r
		}
	}
	fx := s.Step(in)
	s.Policy = policy
	return fx
}

func believe(s *consent.Signer, p consent.Proposal, packet *psbt.Packet) consent.Proposal {
	changed := false
	for i := range packet.Outputs {
		out := &packet.Outputs[i]
		var path []uint32
		for _, d := range out.Bip32Derivation {
			path = d.Bip32Path
		}
		for _, d := range out.TaprootBip32Derivation {
			path = d.Bip32Path
		}
		if len(path) != 5 {
			continue
		}
		script, err := s.Accounts[0].Descriptor().At(path[3], path[4])
		real := packet.UnsignedTx.TxOut[i]
		if err != nil || bytes.Equal(script.Script, real.PkScript) {
			continue
		}
		*out = psbt.POutput{}
		id := money.OrderID{0xfe, byte(i)}
		copy(id[2:], p.ID[:])
		p.Orders = append(p.Orders, consent.Order{ID: id, Output: uint32(i), Script: real.PkScript, Amount: money.Amount(real.Value) * money.Sat})
		changed = true
	}
	if changed {
		var raw bytes.Buffer
		if packet.Serialize(&raw) == nil {
			p.PSBT = raw.Bytes()
		}
	}
	return p
}

// unlimited has no limits.
type unlimited struct{ wrapped }

func (u *unlimited) Step(in step.Input) step.Effects {
	s := u.Core.(*consent.Signer)
	s.Policy.FeeMax, s.Policy.PerDay, s.Policy.PerPayment, s.Policy.OnlyAsked = 0, 0, 0, false
	return s.Step(in)
}

// impatient says that an order is unpaid if the link goes.
type impatient struct {
	wrapped
	open []money.OrderID
}

func (e *impatient) Step(in step.Input) step.Effects {
	gone := false
	for _, event := range in.Events {
		switch ev := event.(type) {
		case wallet.Pay:
			e.open = append(e.open, ev.Order)
		case step.Unlinked:
			gone = true
		}
	}
	fx := e.Core.Step(in)
	for _, id := range e.open {
		if gone && e.Core.(*wallet.End).Known(id) {
			fx.Done = append(fx.Done, step.Outcome{ID: id.Key(), Err: &money.Error{Kind: money.Unpaid, Op: "pay", Err: drive.ErrStopped}})
		}
	}
	return fx
}
