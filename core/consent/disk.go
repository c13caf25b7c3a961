package consent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// The records of a signer: its head, a record for each consent that is kept, for
// each order that is expected and each joint transaction, and the headers.
const (
	headKey      = "consent/head"
	givenPrefix  = "consent/given/"
	askedPrefix  = "consent/asked/"
	jointPrefix  = "consent/joint/"
	headerPrefix = "consent/header/"
)

func givenKey(counter uint64) string   { return fmt.Sprintf("%s%016x", givenPrefix, counter) }
func askedKey(id money.OrderID) string { return askedPrefix + id.Key() }
func jointRecord(name [16]byte) step.Record {
	return step.Record{Key: jointPrefix + string(name[:]), Value: []byte{1}}
}

func (s *Signer) head() step.Record {
	b := codec.AppendUint(nil, s.counter)
	b = codec.AppendUint(b, s.shown)
	b = s.day.append(b)
	b = codec.AppendUint(b, len(s.top))
	for _, top := range s.top {
		b = codec.AppendUint(b, top)
	}
	return step.Record{Key: headKey, Value: b}
}

func (s *Signer) loadHead(r *codec.Reader) {
	s.counter, s.shown = r.Uvarint(), r.Uvarint()
	s.day = readWindow(r)
	n := r.Int(MaxAccounts, "number of accounts")
	if n > len(s.top) { // more may be added at the end
		r.Fail(fmt.Errorf("it is of %d accounts; the signer has %d; name them all, in the same order", n, len(s.top)))
	}
	for i := range min(n, len(s.top)) {
		s.top[i] = uint32(r.Int(maxIndex, "index"))
	}
}

func (g *given) record() step.Record {
	b := g.Consent.append(nil)
	b = append(b, g.digest[:]...)
	b = append(b, g.txid[:]...)
	b = append(b, g.final[:]...)
	b = append(b, g.before[:]...)
	b = codec.AppendUint(b, g.cost)
	b = codec.AppendUint(b, len(g.points))
	for _, p := range g.points {
		b = append(b, p.Hash[:]...)
		b = codec.AppendUint(b, p.Index)
	}
	b = codec.AppendUint(b, len(g.orders))
	for i := range g.orders {
		b = g.orders[i].append(b)
	}
	return step.Record{Key: givenKey(g.Counter), Value: b}
}

func readGiven(r *codec.Reader) *given {
	g := &given{Consent: readConsent(r)}
	r.Fill(g.digest[:])
	r.Fill(g.txid[:])
	r.Fill(g.final[:])
	r.Fill(g.before[:])
	g.cost = r.Amount()
	for n := r.Int(MaxInputs, "number of inputs"); n > 0 && r.Err() == nil; n-- {
		var p wire.OutPoint
		r.Fill(p.Hash[:])
		p.Index = uint32(r.Uint(1<<32-1, "output index"))
		g.points = append(g.points, p)
	}
	for n := r.Int(MaxOrders, "number of orders"); n > 0 && r.Err() == nil; n-- {
		g.orders = append(g.orders, readOrder(r))
	}
	return g
}

func (e Expect) record() step.Record {
	b := codec.AppendBytes(nil, e.Script)
	return step.Record{Key: askedKey(e.Order), Value: codec.AppendUint(b, e.Amount)}
}

// Durable is everything the signer has on disk but its headers, for whoever
// wants to check it.
func (s *Signer) Durable() []step.Record {
	var all []step.Record
	if s.counter > 0 || s.shown > 0 {
		all = append(all, s.head())
	}
	for _, g := range s.given {
		all = append(all, g.record())
	}
	for _, e := range s.asked {
		all = append(all, e.record())
	}
	for name := range s.joint {
		all = append(all, jointRecord(name))
	}
	slices.SortFunc(all, func(a, b step.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// Load reads a signer back, or makes a new one if nothing was put. minimum is
// the outside counter's value now, 0 if there is none: a disk that ends below it
// is an older copy, or was emptied, and the signer then refuses everything.
func Load(db step.Reader, c Config, minimum uint64) (*Signer, error) {
	s, err := New(c)
	if err != nil {
		return nil, err
	}
	s.counted = minimum
	if s.chain, err = header.Load(db, headerPrefix, c.Params); err != nil {
		return nil, err
	}
	if raw, err := db.Get(headKey); err != nil {
		return nil, err
	} else if raw != nil {
		if err := codec.Record(db, headKey, s.loadHead); err != nil {
			return nil, err
		}
	}
	if err := s.loadGiven(db); err != nil {
		return nil, err
	}
	err = codec.Scan(db, askedPrefix, func(name string, r *codec.Reader) {
		id, ok := money.OrderIDFromKey(name)
		if !ok || len(s.asked) == MaxExpected {
			r.Fail(fmt.Errorf("key is not an order's, or there are more than %d", MaxExpected))
		}
		s.asked[id] = Expect{Order: id, Script: r.Bytes(MaxScript, "script"), Amount: r.Amount()}
	})
	if err != nil {
		return nil, err
	}
	return s, codec.Scan(db, jointPrefix, func(name string, r *codec.Reader) {
		if len(name) != 16 || r.U8() != 1 || len(s.joint) == MaxJoint {
			r.Fail(fmt.Errorf("record is no joint transaction's, or there are more than %d", MaxJoint))
			return
		}
		s.joint[[16]byte([]byte(name))] = true
	})
}

// loadGiven reads the consents, which must end at the counter without a gap.
func (s *Signer) loadGiven(db step.Reader) error {
	err := codec.Scan(db, givenPrefix, func(name string, r *codec.Reader) {
		g := readGiven(r)
		if n := len(s.given); r.Err() == nil && (n == MaxConsents || givenPrefix+name != givenKey(g.Counter) || n > 0 && g.Counter != s.given[n-1].Counter+1) {
			r.Fail(fmt.Errorf("consent %d stands at the wrong place", g.Counter))
		}
		if r.Err() == nil {
			s.add(g)
		}
	})
	if err != nil {
		return err
	}
	last := uint64(0)
	if n := len(s.given); n > 0 {
		last = s.given[n-1].Counter
	}
	if last != s.counter {
		return fmt.Errorf("record %q ends at consent %d; the consents end at %d", headKey, s.counter, last)
	}
	return nil
}
