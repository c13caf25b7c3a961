package payword

import (
	"fmt"
	"slices"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Records of a payer. The head changes with every ticket, the commitment with
// every epoch, the terms never. The chain is not on disk: it is hashed again.

func (p *Payer) meterKey(session money.OrderID) string {
	return p.prefix + "m/" + session.String()
}

func (p *Payer) head() step.Record {
	b := p.ledger.AppendHead([]byte{byte(p.state)})
	for _, n := range []uint64{p.settled, p.settlements, p.owed} {
		b = codec.AppendUint(b, n)
	}
	return step.Record{Key: p.prefix + "head", Value: b}
}

func (p *Payer) termsRecord() step.Record {
	return step.Record{Key: p.prefix + "terms", Value: p.Terms.append(nil)}
}

func (p *Payer) commitRecord() step.Record {
	return step.Record{Key: p.prefix + "commit", Value: p.commit.append(nil)}
}

func (p *Payer) meterRecord(session money.OrderID, m *meter) step.Record {
	return step.Record{Key: p.meterKey(session), Value: codec.AppendUint(nil, m.coins)}
}

// Durable is everything the payer has on disk, in key order, for whoever wants
// to check it. Orders that wait are not: nothing is promised of them.
func (p *Payer) Durable() []step.Record {
	all := []step.Record{p.head(), p.termsRecord(), p.commitRecord()}
	all = append(all, p.ledger.Durable()...)
	for session, m := range p.meters {
		all = append(all, p.meterRecord(session, m))
	}
	return inOrder(all)
}

func inOrder(all []step.Record) []step.Record {
	slices.SortFunc(all, func(a, b step.Record) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return all
}

// LoadPayer reads a payer back; node is the secret of its node key. It hashes a
// whole chain.
func LoadPayer(db step.Reader, id ID, node keys.Secret) (*Payer, error) {
	var t Terms
	prefix := PayerName(id) + "/"
	if err := codec.Record(db, prefix+"terms", func(r *codec.Reader) { t = readTerms(r) }); err != nil {
		return nil, err
	}
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("record %sterms: %w", prefix, err)
	}
	p := newPayer(t, node)
	if err := codec.Record(db, prefix+"commit", func(r *codec.Reader) { p.commit = readCommitment(r) }); err != nil {
		return nil, err
	}
	err := codec.Record(db, prefix+"head", func(r *codec.Reader) {
		p.state = state(r.Int(int(shut), "state"))
		p.ledger.ReadHead(r)
		p.total = uint64(p.ledger.Total / p.Coin)
		for _, n := range []*uint64{&p.settled, &p.settlements, &p.owed} {
			*n = r.Uvarint()
		}
		if index := p.total - p.commit.Start; index > p.Length {
			r.Fail(fmt.Errorf("index is %d in a chain of %d words", index, p.Length))
		}
	})
	if err != nil {
		return nil, err
	}
	p.chain = loadChain(Seed(node, id, p.commit.Epoch), p.Length, p.total-p.commit.Start)
	p.next = startChain(Seed(node, id, p.commit.Epoch+1), p.Length)
	p.next.layOut(int(p.chain.Left()))
	p.settlement = SettlementID(id, p.settlements+1)
	if err := p.ledger.Load(db); err != nil {
		return nil, err
	}
	return p, p.loadMeters(db)
}

func (p *Payer) loadMeters(db step.Reader) error {
	for _, b := range p.ledger.Remembered() {
		p.meter(b)
	}
	return codec.Scan(db, p.prefix+"m/", func(name string, r *codec.Reader) {
		var session money.OrderID
		if err := session.UnmarshalText([]byte(name)); err != nil {
			r.Fail(err)
		}
		m := p.meters[session]
		if m == nil {
			r.Fail(fmt.Errorf("meter of session %s, of which no tick is left", session))
			return
		}
		m.coins = r.Uvarint()
		m.told = m.coins
	})
}
