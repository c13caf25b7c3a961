package payword

import (
	"fmt"
	"slices"

	"coinop.dev"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// Records of a payer. The head changes with every ticket, the commitment with
// every epoch, the terms never. The chain is not on disk: it is hashed again.

func (p *Payer) ticketKey(seq uint64) string { return fmt.Sprintf("%st/%016x", p.prefix, seq) }
func (p *Payer) stampKey(seq uint64) string  { return fmt.Sprintf("%ss/%016x", p.prefix, seq) }
func (p *Payer) meterKey(session coinop.OrderID) string {
	return p.prefix + "m/" + session.String()
}

func (t ticket) record() []byte {
	b := codec.AppendUint(nil, t.total)
	b = codec.AppendUint(b, t.orders)
	return receipt.AppendEntries(b, t.entries)
}

func (p *Payer) head() step.Record {
	b := []byte{byte(p.state)}
	for _, n := range []uint64{p.seq, p.acked, p.total, p.ackedTotal, p.settled, p.settlements, p.owed} {
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

func (p *Payer) meterRecord(session coinop.OrderID, m *meter) step.Record {
	return step.Record{Key: p.meterKey(session), Value: codec.AppendUint(nil, m.coins)}
}

// Durable is everything the payer has on disk, in key order, for whoever wants
// to check it. Orders that wait are not: nothing is promised of them.
func (p *Payer) Durable() []step.Record {
	all := []step.Record{p.head(), p.termsRecord(), p.commitRecord()}
	for _, b := range p.stamped {
		all = append(all, step.Record{Key: p.stampKey(b.Stamped.To), Value: b.Stamped.Append(nil)})
		for _, t := range b.tickets {
			all = append(all, step.Record{Key: p.ticketKey(t.seq), Value: t.record()})
		}
	}
	for _, t := range p.pending {
		all = append(all, step.Record{Key: p.ticketKey(t.seq), Value: t.record()})
	}
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

// read decodes one record.
func read(db step.Reader, key string, decode func(r *codec.Reader)) error {
	raw, err := db.Get(key)
	if err != nil {
		return err
	}
	return decodeRecord(key, raw, decode)
}

func decodeRecord(key string, raw []byte, decode func(r *codec.Reader)) error {
	r := codec.NewReader(raw)
	decode(r)
	if err := r.Close(); err != nil {
		return fmt.Errorf("record %s: %w", key, err)
	}
	return nil
}

// scan decodes the records whose keys start with prefix.
func scan(db step.Reader, prefix string, decode func(name string, r *codec.Reader)) (err error) {
	fault := db.Scan(prefix, func(key string, value []byte) bool {
		err = decodeRecord(key, value, func(r *codec.Reader) { decode(key[len(prefix):], r) })
		return err == nil
	})
	if fault != nil {
		return fault
	}
	return err
}

// LoadPayer reads a payer back; node is the secret of its node key. It hashes a
// whole chain.
func LoadPayer(db step.Reader, id ID, node keys.Secret) (*Payer, error) {
	var t Terms
	prefix := PayerName(id) + "/"
	if err := read(db, prefix+"terms", func(r *codec.Reader) { t = readTerms(r) }); err != nil {
		return nil, err
	}
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("record %sterms: %w", prefix, err)
	}
	p := newPayer(t, node)
	if err := read(db, prefix+"commit", func(r *codec.Reader) { p.commit = readCommitment(r) }); err != nil {
		return nil, err
	}
	err := read(db, prefix+"head", func(r *codec.Reader) {
		p.state = state(r.Int(int(shut), "state"))
		for _, n := range []*uint64{&p.seq, &p.acked, &p.total, &p.ackedTotal, &p.settled, &p.settlements, &p.owed} {
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
	return p, p.loadTickets(db)
}

func (p *Payer) loadTickets(db step.Reader) error {
	var tickets []ticket
	err := scan(db, p.prefix+"t/", func(name string, r *codec.Reader) {
		t := ticket{}
		if _, err := fmt.Sscanf(name, "%016x", &t.seq); err != nil {
			r.Fail(err)
		}
		t.total, t.orders = r.Uvarint(), r.Int(MaxPending, "orders of a ticket")
		t.entries = receipt.ReadEntries(r)
		tickets = append(tickets, t)
	})
	if err != nil {
		return err
	}
	err = scan(db, p.prefix+"s/", func(_ string, r *codec.Reader) {
		s := receipt.ReadStamped(r)
		n := s.To - s.From
		if n > uint64(len(tickets)) || tickets[0].seq != s.From+1 {
			r.Fail(fmt.Errorf("stamp of tickets %d to %d without them", s.From+1, s.To))
			return
		}
		p.remember(p.batch(s, tickets[:n]))
		tickets = tickets[n:]
	})
	if err != nil {
		return err
	}
	p.pending = tickets
	for _, t := range tickets {
		p.pendingOrders += len(t.entries)
		for _, e := range t.entries[:t.orders] {
			p.where[e.Order] = place{}
		}
	}
	return scan(db, p.prefix+"m/", func(name string, r *codec.Reader) {
		var session coinop.OrderID
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
