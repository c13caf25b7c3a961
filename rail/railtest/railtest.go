// Package railtest is what every rail must pass: two machines, each with its own
// key and store on disk, over TCP on loopback, with a regtest chain of their
// own.
package railtest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/engine"
	"coinop.dev/rail"
)

// A Rig says how both ends of the rail under test are opened. Each function
// lists the rails of one machine in the order they are opened; the last is the
// one under test.
type Rig struct {
	Drivers map[string]rail.Driver
	// Earn is for a payee that listens on addr.
	Earn func(addr string) []string
	// Pay is for a payer to the holder of node, who listens on addr.
	Pay func(node keys.Public, addr string) []string
	// Alone means that both ends are on one machine.
	Alone bool
	// Late means that the payee may learn of a payment after the payer has its
	// receipt, because the money is kept by others.
	Late bool
	// Fund is the script that the payer's money is sent to; nil means its wallet's
	// key.
	Fund func(payer keys.Secret) ([]byte, error)
	// Join puts a machine into the ledger that the rail needs, whenever the machine
	// starts and before its rails are opened. leave is called before it stops.
	Join func(m *engine.Machine) (leave func(), err error)

	Unit    money.Amount // an order that can be paid a hundred times over
	TooMuch money.Amount // an order that cannot be paid
}

// Test checks the promises of rail.Conn. start is called for each test.
func Test(t *testing.T, start func(t *testing.T) Rig) {
	for _, test := range []struct {
		name string
		run  func(*pair)
	}{
		{"an order", testPay},
		{"an order twice", testTwice},
		{"many orders at once", testConcurrent},
		{"orders that make no sense", testSenseless},
		{"an order that is too large", testTooMuch},
		{"a context that ends", testContext},
		{"forged receipts", testForged},
		{"the payer starts again", testPayerRestarts},
		{"the payer stops in the middle", testPayerStops},
		{"the payee starts again", testPayeeRestarts},
		{"the link is cut", testCut},
		{"unknown parameters", testParameters},
		{"bills", testBills},
	} {
		t.Run(test.name, func(t *testing.T) {
			noLeaks(t)
			test.run(newPair(t, start(t)))
		})
	}
}

func testPay(p *pair) {
	o := p.order(1)
	r := p.pay(o)
	if r.Order != o.ID || r.Amount != o.Amount || !strings.HasPrefix(o.To, r.To) || r.At == 0 {
		p.t.Errorf("paid %+v, and the receipt is %+v", o, r)
	}
	p.earned(o.Amount)
}

func testTwice(p *pair) {
	o := p.order(1)
	first, second := p.pay(o), p.pay(o)
	p.sameProof(first, second)
	var proofs [4]money.Receipt
	o = p.order(2)
	p.all(len(proofs), func(i int) { proofs[i] = p.pay(o) })
	for _, r := range proofs {
		p.sameProof(proofs[0], r)
	}
	p.earned(2 * p.rig.Unit)
}

const many = 100

func testConcurrent(p *pair) {
	var receipts [many]money.Receipt
	p.all(many, func(i int) { receipts[i] = p.pay(p.order(i)) })
	for i, r := range receipts {
		if r.Order != p.order(i).ID {
			p.t.Errorf("order %v got the receipt of %v", p.order(i).ID, r.Order)
		}
	}
	p.earned(many * p.rig.Unit)
}

func testSenseless(p *pair) {
	for _, c := range []struct {
		name   string
		change func(*money.Order)
		kind   money.Kind
	}{
		{"nothing", func(o *money.Order) { o.Amount = 0 }, money.Invalid},
		{"more than there can be", func(o *money.Order) { o.Amount = money.MaxAmount + 1 }, money.Invalid},
		{"another scheme", func(o *money.Order) { o.To = "cash" + o.To }, money.Invalid},
		{"no scheme", func(o *money.Order) { o.To = "" }, money.Invalid},
		{"another payee", func(o *money.Order) { o.To = strings.Replace(o.To, "://0", "://1", 1) }, money.Unpaid},
	} {
		o := p.order(1)
		c.change(&o)
		if _, err := p.payer.rail().Pay(p.ctx(), o); err == nil || money.KindOf(err) != c.kind {
			p.t.Errorf("%s: got %v, want a kind of %v", c.name, err, c.kind)
		}
	}
	if _, err := p.earner().Pay(p.ctx(), p.order(1)); !errors.Is(err, money.Unpaid) {
		p.t.Errorf("the payee's end pays: %v", err)
	}
	p.earned(0)
}

func testTooMuch(p *pair) {
	p.pay(p.order(1))
	o := p.order(2)
	o.Amount = p.rig.TooMuch
	if _, err := p.payer.rail().Pay(p.ctx(), o); !errors.Is(err, money.Unpaid) {
		p.t.Fatalf("%v is paid: %v", o.Amount, err)
	}
	// Nothing of it is kept: the rest is still there, and the ID is free.
	p.pay(p.order(2))
	p.pay(p.order(3))
	p.earned(3 * p.rig.Unit)
}

func testContext(p *pair) {
	ended, end := context.WithCancel(context.Background())
	end()
	o := p.order(1)
	if _, err := p.payer.rail().Pay(ended, o); err != nil && money.KindOf(err) != money.Pending {
		p.t.Errorf("the context had ended: %v", err)
	}
	p.pay(o)
	p.earned(o.Amount)
	if p.rig.Alone {
		return
	}
	p.cut(true)
	soon, end := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer end()
	o = p.order(2)
	if _, err := p.payer.rail().Pay(soon, o); money.KindOf(err) != money.Pending || !errors.Is(err, context.DeadlineExceeded) {
		p.t.Errorf("the context ended on the way: %v", err)
	}
	p.cut(false)
	p.pay(o)
	p.earned(2 * o.Amount)
}

func testForged(p *pair) {
	var receipts [7]money.Receipt
	p.all(len(receipts), func(i int) { receipts[i] = p.pay(p.order(i)) })
	for name, verify := range map[string]func(money.Receipt) error{"payer": p.payer.rail().Verify, "payee": p.earner().Verify} {
		r := receipts[3]
		if err := verify(r); err != nil {
			p.t.Fatalf("%s does not take an honest receipt: %v", name, err)
		}
		for _, bits := range []byte{0x01, 0x02, 0x80, 0xff} {
			for i := range r.Proof {
				bad := r
				bad.Proof = bytes.Clone(r.Proof)
				bad.Proof[i] ^= bits
				if verify(bad) == nil {
					p.t.Errorf("%s takes a proof with byte %d of %d changed by %#x", name, i, len(r.Proof), bits)
				}
			}
		}
		for what, change := range map[string]func(*money.Receipt){
			"another order":  func(r *money.Receipt) { r.Order[5] ^= 1 },
			"another amount": func(r *money.Receipt) { r.Amount++ },
			"another payee":  func(r *money.Receipt) { r.To = strings.Replace(r.To, "://0", "://1", 1) },
			"no payee":       func(r *money.Receipt) { r.To = "" },
			"another's":      func(r *money.Receipt) { r.Proof = receipts[4].Proof },
			"half a proof":   func(r *money.Receipt) { r.Proof = r.Proof[:len(r.Proof)/2] },
			"too much proof": func(r *money.Receipt) { r.Proof = append(bytes.Clone(r.Proof), 0) },
			"no proof":       func(r *money.Receipt) { r.Proof = nil },
		} {
			bad := r
			change(&bad)
			if verify(bad) == nil {
				p.t.Errorf("%s takes a receipt with %s", name, what)
			}
		}
	}
}

func testPayerRestarts(p *pair) {
	var before [10]money.Receipt
	p.all(len(before), func(i int) { before[i] = p.pay(p.order(i)) })
	p.restart(p.payer)
	for i, r := range before {
		p.sameProof(r, p.pay(p.order(i)))
	}
	p.pay(p.order(len(before)))
	p.earned(money.Amount(len(before)+1) * p.rig.Unit)
}

func testPayerStops(p *pair) {
	p.whileMany(func() { p.restart(p.payer) })
	p.all(many, func(i int) { p.pay(p.order(i)) })
	p.earned(many * p.rig.Unit)
}

func testPayeeRestarts(p *pair) {
	first := p.pay(p.order(0))
	p.whileMany(func() { p.restart(p.payee) })
	p.all(many, func(i int) { p.pay(p.order(i)) })
	p.sameProof(first, p.pay(p.order(0)))
	p.earned(many * p.rig.Unit)
}

func testCut(p *pair) {
	if p.rig.Alone {
		p.t.Skip("there is no link")
	}
	p.whileMany(func() {
		p.cut(true)
		p.cut(false)
	})
	p.all(many, func(i int) { p.pay(p.order(i)) })
	p.earned(many * p.rig.Unit)
}

// whileMany does something when half of many orders are paid, and waits until
// the others have ended, well or not.
func (p *pair) whileMany(do func()) {
	var paid sync.WaitGroup
	half, pay := make(chan struct{}, many), p.payer.rail()
	for i := range many {
		paid.Go(func() {
			if _, err := pay.Pay(p.ctx(), p.order(i)); err != nil && money.KindOf(err) != money.Pending {
				p.t.Errorf("order %d: %v", i, err)
			}
			half <- struct{}{}
		})
	}
	for range many / 2 {
		<-half
	}
	do()
	paid.Wait()
}

func testParameters(p *pair) {
	for r, e := range map[*rail.Rail]*end{p.payer.rail(): p.payer, p.earner(): p.payee} {
		uri := r.String()
		sep := "?"
		if strings.Contains(uri, "?") {
			sep = "&"
		}
		for _, bad := range []string{"colour=red", "COLOUR", "%zz=1", "fee=1;life=2"} {
			if _, err := p.registry.Open(p.ctx(), uri+sep+bad, e.env()); err == nil {
				p.t.Errorf("%s%s%s is opened", uri, sep, bad)
			} else if bad == "colour=red" && !strings.Contains(err.Error(), "colour") {
				p.t.Errorf("%v: it does not name the parameter", err)
			}
		}
	}
}

func testBills(p *pair) {
	biller, ok := rail.As[rail.Biller](p.earner())
	if !ok {
		p.t.Fatal("the payee's end makes no bills")
	}
	o := p.order(1)
	uri, err := biller.Bill(money.Bill{ID: o.ID, Amount: o.Amount})
	if err != nil || !strings.HasPrefix(uri, biller.PayTo()) || !strings.Contains(uri, o.ID.String()) {
		p.t.Fatalf("bill %q, %v", uri, err)
	}
	if _, err := biller.Bill(money.Bill{ID: o.ID}); money.KindOf(err) != money.Invalid {
		p.t.Errorf("a bill for nothing: %v", err)
	}
	o.To = uri
	p.pay(o)
	if r, err := biller.Settled(p.ctx()); err != nil || r.Order != o.ID || r.Amount != o.Amount {
		p.t.Errorf("settled %+v, %v", r, err)
	}
	ended, end := context.WithCancel(context.Background())
	end()
	if _, err := biller.Settled(ended); !errors.Is(err, context.Canceled) {
		p.t.Errorf("nothing is settled: %v", err)
	}
}
