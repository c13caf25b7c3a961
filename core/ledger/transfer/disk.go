package transfer

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Records, each under the wallet's name:
//
//	h             the numbers of the next bill and transfer, and Ledger.Head
//	o/<order>     an order that has a transfer
//	t/<number>    a transfer as it was signed, until it is final or dead
//	p/<number>    the proof of a final one
//	b/<order>     a bill

func (w *Wallet) headKey() string                  { return w.o.Name + "/h" }
func (w *Wallet) orderKey(id money.OrderID) string { return w.o.Name + "/o/" + id.Key() }
func (w *Wallet) billKey(id money.OrderID) string  { return w.o.Name + "/b/" + id.Key() }
func (w *Wallet) transferKey(n uint64) string      { return w.o.Name + "/t/" + number(n) }
func (w *Wallet) proofKey(n uint64) string         { return w.o.Name + "/p/" + number(n) }
func number(n uint64) string                       { return string(binary.BigEndian.AppendUint64(nil, n)) }
func (w *Wallet) orderRecord(o *order, i int) step.Record {
	return step.Record{Key: w.orderKey(o.Order), Value: o.append(i)}
}
func (w *Wallet) billRecord(b *bill) step.Record {
	return step.Record{Key: w.billKey(b.order), Value: b.append(nil)}
}

// putHead writes the head if it has changed.
func (w *Wallet) putHead(fx *step.Effects) {
	if head := w.appendHead(nil); !bytes.Equal(head, w.head) {
		w.head = head
		fx.Put = append(fx.Put, step.Record{Key: w.headKey(), Value: head})
	}
}

func (w *Wallet) appendHead(b []byte) []byte {
	b = codec.AppendUint(b, w.nextBill)
	b = codec.AppendUint(b, w.nextTransfer)
	return codec.AppendBytes(b, w.ledger.Head())
}

// append encodes an order, the i-th of its transfer.
func (o *order) append(i int) []byte {
	b := codec.AppendUint(nil, o.sent.n)
	b = codec.AppendUint(b, i)
	b = codec.AppendUint(b, o.Amount)
	b = codec.AppendBytes(b, o.To)
	b = codec.AppendBytes(b, o.Bill)
	b = append(b, o.Word[:]...)
	if o.sent.final {
		return append(b, 1)
	}
	return append(b, 0)
}

// place is where an order from disk belongs.
type place struct {
	o     *order
	n     uint64
	i     int
	final bool
}

func readOrder(id money.OrderID, raw []byte) (p place, err error) {
	r := codec.NewReader(raw)
	p.o = &order{Pay: Pay{Order: id}}
	p.n, p.i = r.Uvarint(), r.Int(MaxTogether, "place")
	p.o.Amount, p.o.To, p.o.Bill = r.Amount(), r.String(MaxPayee, "payee"), r.String(MaxBill, "bill")
	r.Fill(p.o.Word[:])
	switch r.U8() {
	case 0:
	case 1:
		p.final = true
	default:
		r.Fail(errors.New("order is in no known state"))
	}
	return p, r.Close()
}

func (b *bill) append(out []byte) []byte {
	out = codec.AppendUint(out, b.n)
	out = codec.AppendUint(out, b.amount)
	out = codec.AppendUint(out, uint64(b.at))
	out = codec.AppendBytes(out, b.text)
	out = codec.AppendBytes(out, b.key)
	out = codec.AppendUint(out, b.got)
	out = codec.AppendUint(out, b.told)
	out = codec.AppendUint(out, len(b.coins))
	for _, c := range b.coins {
		spent := byte(0)
		if c.spent {
			spent = 1
		}
		out = append(codec.AppendBytes(out, c.id), spent)
	}
	return out
}

func readBill(id money.OrderID, raw []byte) (*bill, error) {
	r := codec.NewReader(raw)
	b := &bill{order: id, n: r.Uvarint(), amount: r.Amount(), at: step.Time(r.Uvarint())}
	b.text, b.key = r.String(MaxBill, "bill"), r.String(maxKey, "key")
	b.got, b.told = r.Amount(), r.Amount()
	for range r.Int(MaxBillCoins, "coins") {
		c := coin{id: r.String(maxKey, "coin")}
		switch r.U8() {
		case 0:
		case 1:
			c.spent = true
		default:
			r.Fail(errors.New("coin is in no known state"))
		}
		if r.Err() != nil {
			break
		}
		b.coins = append(b.coins, c)
	}
	return b, r.Close()
}

// Load reads a wallet from disk; a new one is empty. The ledger is loaded with what
// belongs to it.
func Load(db step.Reader, o Options, ledger Ledger) (*Wallet, error) {
	o.Again = cmp.Or(o.Again, 10*step.Second)
	w := &Wallet{
		o: o, ledger: ledger, db: db,
		orders: map[money.OrderID]*order{}, byID: map[ID]*sent{},
		bills: map[money.OrderID]*bill{}, byKey: map[string]*bill{}, byCoin: map[string]*bill{},
		fresh: map[uint64][]byte{},
	}
	raw, err := db.Get(w.headKey())
	if err != nil {
		return nil, err
	}
	var head []byte
	if raw != nil {
		r := codec.NewReader(raw)
		w.nextBill, w.nextTransfer = r.Uvarint(), r.Uvarint()
		head = r.Bytes(maxHead, "head of the ledger")
		if err := r.Close(); err != nil {
			return nil, fmt.Errorf("record %s: %w", w.headKey(), err)
		}
		w.head = slices.Clone(raw)
	}
	byNumber, err := w.loadTransfers(head)
	if err == nil {
		err = w.loadOrders(byNumber)
	}
	if err == nil {
		err = w.loadBills()
	}
	if err != nil {
		return nil, fmt.Errorf("wallet %s: %w", o.Name, err)
	}
	return w, nil
}

func (w *Wallet) loadTransfers(head []byte) (map[uint64]*sent, error) {
	byNumber := map[uint64]*sent{}
	var raws [][]byte
	prefix := w.o.Name + "/t/"
	err := w.db.Scan(prefix, func(key string, value []byte) bool {
		n := binary.BigEndian.Uint64([]byte(key[len(prefix):] + "\x00\x00\x00\x00\x00\x00\x00\x00"))
		w.open = append(w.open, &sent{n: n})
		raws = append(raws, slices.Clone(value))
		return true
	})
	if err != nil {
		return nil, err
	}
	list, err := w.ledger.Load(head, raws)
	if err != nil {
		return nil, err
	}
	if len(list) != len(raws) {
		return nil, fmt.Errorf("the ledger takes %d of %d transfers back", len(list), len(raws))
	}
	for i, s := range w.open {
		s.Transfer = list[i]
		if w.byID[s.ID] != nil {
			return nil, fmt.Errorf("transfer %x is there twice", s.ID)
		}
		byNumber[s.n], w.byID[s.ID] = s, s
	}
	return byNumber, nil
}

func (w *Wallet) loadOrders(byNumber map[uint64]*sent) error {
	var places []place
	var fault error
	err := w.scan("/o/", func(id money.OrderID, value []byte) error {
		p, err := readOrder(id, value)
		places = append(places, p)
		return err
	})
	slices.SortFunc(places, func(a, b place) int { return cmp.Or(cmp.Compare(a.n, b.n), cmp.Compare(a.i, b.i)) })
	for _, p := range places {
		s := byNumber[p.n]
		if s == nil && p.final {
			s = &sent{n: p.n, final: true}
			byNumber[p.n] = s
			w.settled = append(w.settled, s)
		}
		if s == nil || s.final != p.final {
			fault = fmt.Errorf("order %v has no transfer %d", p.o.Order, p.n)
			break
		}
		p.o.sent, s.orders = s, append(s.orders, p.o)
		w.orders[p.o.Order] = p.o
		if p.final {
			w.kept++
		} else {
			w.busy++
		}
	}
	return errors.Join(err, fault)
}

func (w *Wallet) loadBills() error {
	var all []*bill
	err := w.scan("/b/", func(id money.OrderID, value []byte) error {
		b, err := readBill(id, value)
		all = append(all, b)
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b *bill) int { return cmp.Compare(a.n, b.n) })
	for _, b := range all {
		w.fileBill(b)
	}
	return nil
}

// scan reads the records that are named by an order.
func (w *Wallet) scan(kind string, read func(id money.OrderID, value []byte) error) error {
	prefix := w.o.Name + kind
	var fault error
	err := w.db.Scan(prefix, func(key string, value []byte) bool {
		id, ok := money.OrderIDFromKey(strings.TrimPrefix(key, prefix))
		if !ok {
			fault = fmt.Errorf("record %q names no order", key)
			return false
		}
		if fault = read(id, value); fault != nil {
			fault = fmt.Errorf("record %s%v: %w", prefix, id, fault)
		}
		return fault == nil
	})
	return errors.Join(err, fault)
}

// Durable is what must be on disk, but for proofs: for whoever wants to check it.
func (w *Wallet) Durable() []step.Record {
	var all []step.Record
	if w.head != nil {
		all = append(all, step.Record{Key: w.headKey(), Value: w.appendHead(nil)})
	}
	for _, s := range w.open {
		all = append(all, step.Record{Key: w.transferKey(s.n), Value: s.Raw})
	}
	for _, list := range [][]*sent{w.open, w.settled} {
		for _, s := range list {
			for i, o := range s.orders {
				all = append(all, w.orderRecord(o, i))
			}
		}
	}
	for _, b := range w.billList {
		all = append(all, w.billRecord(b))
	}
	slices.SortFunc(all, func(a, b step.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// A Proof is what a receipt has: what was paid, the payee's word that this pays the
// order, and what the ledger says. Without a word it proves that an address was
// paid, and not for what.
type Proof struct {
	Bill   string
	Word   keys.Signature
	Ledger []byte
}

// Append writes what ReadProof reads.
func (p Proof) Append(b []byte) []byte {
	b = codec.AppendBytes(b, p.Bill)
	b = append(b, p.Word[:]...)
	return append(b, p.Ledger...)
}

// ReadProof reads a whole proof. The ledger's part is for the ledger to read.
func ReadProof(b []byte) (p Proof, err error) {
	r := codec.NewReader(b)
	p.Bill = r.String(MaxBill, "bill")
	r.Fill(p.Word[:])
	p.Ledger = r.Take(r.Len())
	return p, r.Close()
}
