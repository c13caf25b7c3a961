package consent_test

import (
	"bytes"
	"fmt"
	"math/rand"
	"reflect"
	"strings"
	"testing"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// sameAsDisk compares a signer with what Load makes of its disk.
func sameAsDisk(t *testing.T, g *gateway) {
	t.Helper()
	kept := disk{}
	for k, v := range g.disk {
		if !strings.HasPrefix(k, "consent/header/") {
			kept[k] = v
		}
	}
	want := disk{}
	want.put(g.signer.Durable())
	if !reflect.DeepEqual(kept, want) {
		t.Fatalf("the disk has %d records, the signer %d", len(kept), len(want))
	}
	was := g.signer.Summary(g.now)
	loaded, err := consent.Load(g.disk, g.config, was.Outside)
	if err != nil {
		t.Fatal(err)
	}
	is := loaded.Summary(g.now)
	was.Refused, was.Last, was.Signatures = 0, "", 0
	if is != was {
		t.Fatalf("loaded it is\n%+v, it was\n%+v", is, was)
	}
	if !reflect.DeepEqual(loaded.Durable(), g.signer.Durable()) {
		t.Fatal("what is loaded would be put otherwise")
	}
}

// After any step, Load equals memory; and whatever was promised before, no day
// has more than its cap and no ID, order or counter two consents.
func TestLoadEqualsMemory(t *testing.T) {
	for seed := range int64(8) {
		r := rand.New(rand.NewSource(seed))
		policy := usual
		policy.Joint, policy.PerDay = true, 400_000*money.Sat
		g := newGateway(t, policy)
		g.config.Outside = seed%2 == 0
		g.boot(0)
		h := &history{t: t, g: g, r: r, seen: map[consent.ID][]byte{}, counters: map[uint64]consent.ID{}}
		for range 120 {
			h.act()
			sameAsDisk(t, g)
		}
		if len(h.seen) < 6 {
			t.Errorf("seed %d: only %d consents", seed, len(h.seen))
		}
	}
}

type history struct {
	t        *testing.T
	g        *gateway
	r        *rand.Rand
	n        int
	coins    []coin
	old      []*draft
	seen     map[consent.ID][]byte
	counters map[uint64]consent.ID
}

func (h *history) act() {
	g := h.g
	h.n++
	switch h.r.Intn(11) {
	case 0, 1:
		for range 2 {
			h.coins = append(h.coins, g.fund(h.r.Intn(4), uint32(h.r.Intn(50)), 100_000))
		}
		g.bury(3)
	case 2:
		g.tell(consent.Expect{Order: orderID(fmt.Sprint("order-", h.n+1)), Script: shop(fmt.Sprint(h.n + 1)), Amount: 50_000 * money.Sat})
	case 3:
		g.tell(consent.Forget{Order: orderID(fmt.Sprint("order-", h.n-h.r.Intn(9)))})
	case 4:
		g.boot(g.signer.Summary(g.now).Outside)
	case 5:
		g.now += step.Time(h.r.Intn(8)) * step.Hour
	case 6:
		if s := g.signer.Summary(g.now); g.config.Outside {
			g.tell(step.Recv{From: consent.Secret, Msg: consent.Counted{At: s.Counter}})
		}
	case 7:
		if len(h.old) > 0 { // again, or a bump
			h.repeat(h.old[h.r.Intn(len(h.old))])
		}
	default:
		h.pay()
	}
	h.listen()
}

func (h *history) pay() {
	if len(h.coins) == 0 {
		return
	}
	c := h.coins[0]
	h.coins = h.coins[1:]
	d := h.g.draft(fmt.Sprint("p", h.n), c).pay(fmt.Sprint("order-", h.n), shop(fmt.Sprint(h.n)), 50_000).change(h.g.script(c.account, 1, 0), 49_000)
	if h.r.Intn(4) == 0 {
		d.spend(h.g.foreign(30_000))
		d.output(tx.P2WPKH(secret("other").Public()), 29_000)
		h.g.bury(3)
	}
	h.old = append(h.old, d)
	h.g.answer(d.done(h.t))
}

func (h *history) repeat(d *draft) {
	if h.r.Intn(2) == 0 {
		d.tx().TxOut[1].Value -= int64(h.r.Intn(900))
		if h.r.Intn(3) > 0 {
			d.Replaces = d.ID
			copy(d.ID[:], fmt.Sprint("p", h.n))
		}
	}
	h.g.answer(d.done(h.t))
}

func (h *history) listen() {
	for _, p := range h.g.sent {
		c, ok := p.Msg.(consent.Consent)
		if !ok {
			continue
		}
		raw := c.Append(nil)
		if before := h.seen[c.ID]; before != nil && !bytes.Equal(before, raw) {
			h.t.Fatalf("proposal %v has two consents", c.ID)
		}
		if id, ok := h.counters[c.Counter]; ok && id != c.ID {
			h.t.Fatalf("counter %d has two consents", c.Counter)
		}
		h.seen[c.ID], h.counters[c.Counter] = raw, c.ID
	}
	if s := h.g.signer.Summary(h.g.now); s.Day > h.g.config.Policy.PerDay {
		h.t.Fatalf("%v left in a day", s.Day)
	}
}

// A disk that does not hold together is an error, never a signer that forgot.
func TestLoadRefusesADamagedDisk(t *testing.T) {
	g := newGateway(t, usual)
	g.tell(consent.Expect{Order: orderID("x"), Script: shop("x"), Amount: 1000})
	for i := range 2 {
		c := g.fund(wpkh, uint32(i), 100_000)
		g.bury(3)
		g.consented(honest(g, fmt.Sprint(i), c))
	}
	for key, value := range g.disk {
		if strings.HasPrefix(key, "consent/header/") {
			continue
		}
		for name, damage := range map[string]func(disk){
			"cut":   func(d disk) { d[key] = value[:len(value)-1] },
			"grown": func(d disk) { d[key] = append(bytes.Clone(value), 0) },
		} {
			d := g.disk.copy()
			damage(d)
			if _, err := consent.Load(d, g.config, 0); err == nil {
				t.Errorf("%q %s was loaded", key, name)
			}
		}
		d := g.disk.copy()
		delete(d, key)
		if _, err := consent.Load(d, g.config, 0); err == nil && !strings.HasPrefix(key, "consent/asked/") && key != "consent/given/0000000000000001" {
			t.Errorf("without %q it was loaded", key)
		}
	}
}
