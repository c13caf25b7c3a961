package wallet

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/step"
)

// Load reads a wallet back.
func Load(db step.Reader, o Options) (*Wallet, error) {
	w := New(o)
	raw, err := db.Get(headKey)
	if err != nil {
		return nil, err
	}
	if raw != nil {
		r := codec.NewReader(raw)
		w.nextOrder, w.nextBatch, w.nextBill = r.Uvarint(), r.Uvarint(), r.Uvarint()
		if err := r.Close(); err != nil {
			return nil, fmt.Errorf("record %s: %w", headKey, err)
		}
	}
	for _, part := range []func(step.Reader) error{w.loadAccounts, w.loadOrders, w.loadBills, w.tail.load} {
		if err := part(db); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *Wallet) loadAccounts(db step.Reader) error {
	err := codec.Scan(db, accountKey, func(name string, r *codec.Reader) {
		a, err := w.readAccount(name, r)
		if err == nil && r.Err() == nil {
			err = w.derive(a, nil)
		}
		if err != nil {
			r.Fail(err)
			return
		}
		w.seat(a)
	})
	if err != nil {
		return err
	}
	err = codec.Scan(db, linesKey, func(name string, r *codec.Reader) {
		owner, number, _ := strings.Cut(name, "/")
		a := w.accounts[owner]
		n, err := strconv.ParseUint(number, 16, 64)
		if a == nil || err != nil {
			r.Fail(fmt.Errorf("%q is no line of an account's history", name))
			return
		}
		if len(a.history) == 0 {
			a.first = n
		}
		e := readEntry(r)
		a.history = append(a.history, e)
		a.noted[e.Point] = true
	})
	if err != nil {
		return err
	}
	return codec.Scan(db, invitesKey, func(name string, r *codec.Reader) {
		hash, err := hex.DecodeString(name)
		v := invite{r.String(maxName, "account"), r.String(maxText, "tenant"), step.Time(r.Uvarint())}
		if err != nil || len(hash) != 32 {
			r.Fail(fmt.Errorf("%q is no hash", name))
			return
		}
		w.invites[[32]byte(hash)] = v
	})
}

func (w *Wallet) loadOrders(db step.Reader) error {
	proofs := map[*order]uint64{}
	err := codec.Scan(db, ordersKey, func(name string, r *codec.Reader) {
		o, batch, has := readOrder(name, r)
		if r.Err() != nil {
			return
		}
		if w.accounts[o.Account] == nil && o.state == waiting {
			r.Fail(fmt.Errorf("account %.90q is unknown", o.Account))
			return
		}
		if has {
			proofs[o] = batch
		}
		w.keep(o)
	})
	if err != nil {
		return err
	}
	slices.SortFunc(w.queue, func(a, b *order) int { return compare(a.n, b.n) })
	err = codec.Scan(db, batchesKey, func(name string, r *codec.Reader) {
		n, err := strconv.ParseUint(name, 16, 64)
		if err != nil {
			r.Fail(err)
		}
		b := w.readBatch(n, r)
		if r.Err() != nil {
			return
		}
		if b.final() {
			w.archive[n] = b
			return
		}
		if err := b.whole(); err != nil {
			r.Fail(err)
			return
		}
		w.reseat(b)
	})
	if err != nil {
		return err
	}
	for _, o := range w.queue {
		if n, ok := proofs[o]; ok {
			if err := w.bind(o, n); err != nil {
				return err
			}
		}
		if o.state == waiting && o.batch == nil {
			w.enqueue(o)
		}
	}
	return nil
}

// whole tells whether a batch from disk hangs together.
func (b *batch) whole() error {
	if len(b.versions) == 0 || len(b.members) == 0 {
		return fmt.Errorf("it has %d versions and %d members", len(b.versions), len(b.members))
	}
	for i, v := range b.versions {
		inputs, seen := 0, map[int]bool{}
		for _, s := range v.shares {
			if m := b.members[s.member]; seen[s.member] || m.gone || s.inputs == 0 || len(s.sigs) != 0 && len(s.sigs) != s.inputs {
				return fmt.Errorf("version %d: the share of account %s has %d inputs and %d signatures", i, m.account, s.inputs, len(s.sigs))
			}
			seen[s.member] = true
			inputs += s.inputs
		}
		for _, t := range v.tx.TxIn {
			if in, _ := v.inputOf(b, t.PreviousOutPoint); in == nil {
				return fmt.Errorf("version %d spends %v, which is no member's", i, t.PreviousOutPoint)
			}
		}
		if inputs == 0 || inputs != len(v.tx.TxIn) || !v.full && i < len(b.versions)-1 {
			return fmt.Errorf("version %d has %d inputs, its members have %d, and signed is %t", i, len(v.tx.TxIn), inputs, v.full)
		}
	}
	return nil
}

// reseat puts a batch from disk in its place.
func (w *Wallet) reseat(b *batch) {
	w.batches = append(w.batches, b)
	for _, m := range b.members {
		if !m.gone {
			w.accounts[m.account].open++
		}
		for _, o := range m.orders {
			o.batch = b
		}
	}
	w.lock(b)
}

// bind finds the batch that has an order's proof.
func (w *Wallet) bind(o *order, n uint64) error {
	if b := w.archive[n]; b != nil {
		o.batch = b
	}
	if o.batch == nil || o.batch.n != n {
		return fmt.Errorf("record of order %v: transaction %d, which settled it, is not there", o.Order, n)
	}
	o.batch.holds++
	return nil
}

func (w *Wallet) loadBills(db step.Reader) error {
	err := codec.Scan(db, billsKey, func(name string, r *codec.Reader) {
		b := readBill(name, r)
		a := w.accounts[b.account]
		if r.Err() != nil || a == nil {
			r.Fail(fmt.Errorf("account %.90q is unknown", b.account))
			return
		}
		s, err := a.script(receive, b.index)
		if err != nil {
			r.Fail(err)
			return
		}
		b.script = s.Script.Script
		w.fileBill(b)
	})
	slices.SortFunc(w.billList, func(a, b *bill) int { return compare(a.n, b.n) })
	return err
}
