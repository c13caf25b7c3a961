package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// kioskRail is a rail core that holds money until the till has said what becomes of
// it (core/receipt, held.go). Payments with an even number it takes and gives back
// by itself, in the same write as the till's word; of the others a vault outside
// has the money, which is asked until it answers. Cash is the same without holding.
type kioskRail struct {
	name     string
	payments map[uint64]*payment
	now      step.Time
}

const (
	holdName  = "hold"
	cashName  = "cash"
	vaultName = "vault"
)

// A pay is the payer's: an amount for an order, to be held or not. Told twice it is
// one.
type pay struct {
	n      uint64
	order  money.OrderID
	amount money.Amount
	until  step.Time // it is held until then; 0 if it is not held
}

type payState uint8

const (
	payHeld payState = iota
	payTaking
	payTaken
	payReturning
	payReturned
)

type payment struct {
	pay
	state payState
}

// Holding and Until are receipt.Held's.
func (p *payment) Holding() receipt.Entry { return receipt.Entry{Order: p.order, Amount: p.amount} }
func (p *payment) Until() step.Time       { return p.until }

// incomeOf is what the till hears of money that is taken.
type incomeOf receipt.Entry

func (e incomeOf) Income() receipt.Entry { return receipt.Entry(e) }

// A vaultWord asks the vault to take a payment or give it back; vaultDone is its
// answer.
type (
	vaultWord struct {
		n    uint64
		take bool
	}
	vaultDone struct{ n uint64 }
)

func (k *kioskRail) Step(in step.Input) (fx step.Effects) {
	k.now = in.At
	for _, event := range in.Events {
		switch ev := event.(type) {
		case pay:
			k.paid(ev, &fx)
		case vaultDone:
			if p := k.payments[ev.n]; p != nil {
				k.finish(p, &fx)
			}
		case step.Recv:
			switch msg := ev.Msg.(type) {
			case receipt.Release:
				k.say(msg.Order, true, &fx)
			case receipt.Cancel:
				k.say(msg.Order, false, &fx)
			}
		case step.Rang:
			k.again(ev.ID == step.Start, &fx)
		}
	}
	return fx
}

func (k *kioskRail) paid(ev pay, fx *step.Effects) {
	if k.payments[ev.n] != nil {
		return
	}
	for _, p := range k.payments {
		if ev.until != 0 && p.order == ev.order && p.state != payReturned {
			return // refused: it is paid, or on its way
		}
	}
	p := &payment{pay: ev}
	k.payments[ev.n] = p
	if ev.until == 0 {
		p.state = payTaken
		fx.Done = append(fx.Done, step.Outcome{ID: p.order.Key(), Value: incomeOf(p.Holding())})
	} else {
		k.tell(p, fx)
	}
	fx.Put = append(fx.Put, k.record(p))
}

func (k *kioskRail) tell(p *payment, fx *step.Effects) {
	fx.Done = append(fx.Done, step.Outcome{ID: "held/" + p.order.Key(), Value: p})
	fx.Wake = append(fx.Wake, step.Alarm{ID: "until", At: p.until})
}

func (k *kioskRail) say(order money.OrderID, take bool, fx *step.Effects) {
	for _, p := range k.sorted() {
		if p.order == order && p.state == payHeld {
			k.begin(p, take, fx)
		}
	}
}

func (k *kioskRail) begin(p *payment, take bool, fx *step.Effects) {
	p.state = payReturning
	if take {
		p.state = payTaking
	}
	if p.n%2 == 0 {
		k.finish(p, fx)
		return
	}
	fx.Put = append(fx.Put, k.record(p))
	k.ask(p, fx)
}

func (k *kioskRail) ask(p *payment, fx *step.Effects) {
	fx.Send = append(fx.Send, step.Packet{To: vaultName, Msg: vaultWord{p.n, p.state == payTaking}})
	fx.Wake = append(fx.Wake, step.Alarm{ID: fmt.Sprint("ask", p.n), At: k.now + 2*step.Second})
}

func (k *kioskRail) finish(p *payment, fx *step.Effects) {
	switch p.state {
	case payTaking:
		p.state = payTaken
		fx.Done = append(fx.Done, step.Outcome{ID: p.order.Key(), Value: incomeOf(p.Holding())})
	case payReturning:
		p.state = payReturned
		err := &money.Error{Kind: money.Unpaid, Op: "hold", Err: errors.New("it went back")}
		fx.Done = append(fx.Done, step.Outcome{ID: "held/" + p.order.Key(), Err: err, Value: receipt.Returned{Entry: p.Holding()}})
	default:
		return
	}
	fx.Put = append(fx.Put, k.record(p))
}

// again says after a start what is held, and asks the vault; what has been held
// long enough goes back.
func (k *kioskRail) again(start bool, fx *step.Effects) {
	for _, p := range k.sorted() {
		switch {
		case p.state == payTaking || p.state == payReturning:
			k.ask(p, fx)
		case p.state == payHeld && p.until <= k.now:
			k.begin(p, false, fx)
		case p.state == payHeld && start:
			k.tell(p, fx)
		case p.state == payHeld:
			fx.Wake = append(fx.Wake, step.Alarm{ID: "until", At: p.until})
		}
	}
}

// holds reports whether a payment of an order is here that is not the till's yet.
func (k *kioskRail) holds(order money.OrderID) (sum money.Amount) {
	for _, p := range k.payments {
		if p.order == order && (p.state == payHeld || p.state == payTaking || p.state == payReturning) {
			sum += p.amount
		}
	}
	return sum
}

func (k *kioskRail) taken() (sum money.Amount) {
	for _, p := range k.payments {
		if p.state == payTaken {
			sum += p.amount
		}
	}
	return sum
}

func (k *kioskRail) takenOf(order money.OrderID) (sum money.Amount) {
	for _, p := range k.payments {
		if p.order == order && p.state == payTaken {
			sum += p.amount
		}
	}
	return sum
}

func (k *kioskRail) sorted() (all []*payment) {
	for _, n := range slices.Sorted(maps.Keys(k.payments)) {
		all = append(all, k.payments[n])
	}
	return all
}

func (k *kioskRail) record(p *payment) step.Record {
	b := append([]byte{byte(p.state)}, p.order[:]...)
	b = codec.AppendUint(b, p.amount)
	b = codec.AppendUint(b, uint64(p.until))
	return step.Record{Key: string(binary.BigEndian.AppendUint64([]byte("rail/"+k.name+"/"), p.n)), Value: b}
}

// Durable is everything.
func (k *kioskRail) Durable() (all []step.Record) {
	for _, p := range k.sorted() {
		all = append(all, k.record(p))
	}
	slices.SortFunc(all, func(a, b step.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

func loadKioskRail(db step.Reader, name string) (*kioskRail, error) {
	k := &kioskRail{name: name, payments: map[uint64]*payment{}}
	return k, codec.Scan(db, "rail/"+name+"/", func(key string, r *codec.Reader) {
		p := &payment{state: payState(r.U8())}
		r.Fill(p.order[:])
		p.n, p.amount, p.until = binary.BigEndian.Uint64([]byte(key)), r.Amount(), step.Time(r.Uvarint())
		k.payments[p.n] = p
	})
}
