package spend

import (
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

// orderKey is where an order is kept. What follows is all that a book has on
// disk: its head, a tally for each payee, a record for each order.
func orderKey(id money.OrderID) string { return "spend/o/" + id.Key() }

func (o *order) record() step.Record {
	b := codec.AppendUint(nil, o.n)
	b = append(b, byte(o.state))
	b = codec.AppendUint(b, o.Amount)
	b = codec.AppendUint(b, int64(o.at))
	b = codec.AppendBytes(b, o.payee.key[len("spend/p/"):])
	b = codec.AppendBytes(b, suffix(o.To, o.payee.to))
	b = codec.AppendBytes(b, o.via)
	b = codec.AppendBytes(b, o.seller)
	b = codec.AppendBytes(b, o.For)
	b = codec.AppendUint(b, o.Units)
	if o.goods != nil {
		b = codec.AppendBytes(b, o.goods)
	}
	return step.Record{Key: orderKey(o.ID), Value: b}
}

// suffix is what to adds to the payee's name, which its tally keeps.
func suffix(to, payee string) string { return strings.TrimPrefix(to, payee) }

func (p *payee) record() step.Record {
	if p.to == "" {
		return step.Record{Key: p.key}
	}
	b := codec.AppendBytes(nil, p.to)
	b = codec.AppendUint(b, int64(p.start))
	return step.Record{Key: p.key, Value: codec.AppendUint(b, p.spent)}
}

func (b *Book) head() step.Record {
	v := codec.AppendUint(nil, b.next)
	v = codec.AppendUint(v, int64(b.start))
	v = codec.AppendUint(v, b.spent)
	v = codec.AppendUint(v, int64(b.minute))
	v = codec.AppendUint(v, b.count)
	v = codec.AppendUint(v, b.paid)
	return step.Record{Key: "spend/head", Value: codec.AppendUint(v, b.settled)}
}

// Durable is everything the book has on disk, for whoever wants to check it.
func (b *Book) Durable() []step.Record {
	all := []step.Record{}
	if b.next > 0 {
		all = append(all, b.head())
	}
	for _, o := range b.orders {
		all = append(all, o.record())
	}
	for _, p := range b.payees {
		if p.spent > 0 || p.orders > 0 {
			all = append(all, p.record())
		}
	}
	slices.SortFunc(all, func(a, b step.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// Load reads a book back.
func Load(db step.Reader, l Limits) (*Book, error) {
	b := NewBook(l)
	raw, err := db.Get("spend/head")
	if err != nil || raw == nil {
		return b, err
	}
	r := codec.NewReader(raw)
	b.next, b.start, b.spent = r.Uvarint(), step.Time(r.Uvarint()), r.Amount()
	b.minute, b.count, b.paid, b.settled = step.Time(r.Uvarint()), int(r.Uvarint()), r.Amount(), r.Uvarint()
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("record spend/head: %w", err)
	}
	byKey := map[string]*payee{}
	var fault error
	err = db.Scan("spend/p/", func(key string, value []byte) bool {
		r := codec.NewReader(value)
		p := &payee{key: strings.Clone(key), to: r.String(maxText, "payee"), start: step.Time(r.Uvarint()), spent: r.Amount()}
		fault = r.Close()
		b.payees[p.to], byKey[p.key] = p, p
		return fault == nil
	})
	if err == nil && fault == nil {
		err = db.Scan("spend/o/", func(key string, value []byte) bool {
			fault = b.loadOrder(key, value, byKey)
			return fault == nil
		})
	}
	if fault != nil {
		return nil, fmt.Errorf("records spend/: %w", fault)
	}
	slices.SortFunc(b.queue, func(x, y *order) int {
		if x.n < y.n {
			return -1
		}
		return 1
	})
	return b, err
}

func (b *Book) loadOrder(key string, value []byte, byKey map[string]*payee) error {
	id, ok := money.OrderIDFromKey(strings.TrimPrefix(key, "spend/o/"))
	if !ok {
		return fmt.Errorf("key %q is not an order's", key)
	}
	r := codec.NewReader(value)
	o := &order{n: r.Uvarint(), state: orderState(r.Int(int(unknown), "state"))}
	o.Amount, o.at = r.Amount(), step.Time(r.Uvarint())
	o.ID, o.payee = id, byKey["spend/p/"+r.String(maxText, "payee")]
	if o.payee == nil {
		return fmt.Errorf("order %v has no payee", id)
	}
	o.To = o.payee.to + r.String(maxText, "payee's suffix")
	o.via, o.seller, o.For, o.Units = r.String(maxText, "rail"), r.String(maxText, "seller"), r.String(trade.MaxName, "purpose"), r.Uvarint()
	if r.Len() > 0 {
		if o.goods = r.Bytes(trade.MaxPayload, "goods"); o.goods == nil {
			o.goods = []byte{}
		}
	}
	o.payee.orders++
	b.orders[id] = o
	b.queue = append(b.queue, o)
	if o.state == pending {
		b.open++
	}
	return r.Close()
}
