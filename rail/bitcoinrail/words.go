package bitcoinrail

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
	"coinop.dev/world/store"
)

const (
	// maxBill bounds a bill in bytes: a BIP 21 URI with an address and an amount.
	maxBill = 512

	// KeepWords is how many orders' payees are remembered: as many as the wallet
	// has proofs of.
	KeepWords = wallet.KeepOrders

	wordsPrefix = "bitcoinrail/to/"
)

// words keeps what payees said of orders, on disk before anything is paid: a
// payee that is away later cannot be asked again, and without its word a receipt
// proves nothing.
type words struct {
	db store.DB

	mu    sync.Mutex
	next  uint64
	order []money.OrderID // oldest first
}

// loadWords reads which orders are remembered, and in which order they came.
func loadWords(db store.DB) (*words, error) {
	type place struct {
		id money.OrderID
		n  uint64
	}
	var all []place
	err := db.Scan(wordsPrefix, func(key string, value []byte) bool {
		if id, ok := money.OrderIDFromKey(strings.TrimPrefix(key, wordsPrefix)); ok {
			all = append(all, place{id, codec.NewReader(value).Uvarint()})
		}
		return true
	})
	slices.SortFunc(all, func(a, b place) int { return cmp.Compare(a.n, b.n) })
	w := &words{db: db}
	for _, p := range all {
		w.order, w.next = append(w.order, p.id), p.n+1
	}
	return w, err
}

func (w *words) put(id money.OrderID, t target) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := codec.AppendUint(nil, w.next)
	b = codec.AppendBytes(b, t.to)
	b = codec.AppendBytes(b, t.script)
	b = codec.AppendBytes(b, t.bill)
	put := []step.Record{{Key: wordsPrefix + id.Key(), Value: append(b, t.word[:]...)}}
	forgotten := max(0, len(w.order)+1-KeepWords)
	for _, old := range w.order[:forgotten] {
		put = append(put, step.Record{Key: wordsPrefix + old.Key()})
	}
	if err := w.db.Commit(put); err != nil {
		return err
	}
	w.next++
	w.order = append(slices.Clone(w.order[forgotten:]), id)
	return nil
}

func (w *words) get(id money.OrderID) (t target, ok bool, err error) {
	raw, err := w.db.Get(wordsPrefix + id.Key())
	if err != nil || raw == nil {
		return t, false, err
	}
	r := codec.NewReader(raw)
	r.Uvarint()
	t.to = r.String(maxBill, "payee")
	t.script = r.Bytes(wallet.MaxScript, "script")
	t.bill = r.String(maxBill, "bill")
	r.Fill(t.word[:])
	return t, true, r.Close()
}

func (w *words) drop(id money.OrderID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.order = slices.DeleteFunc(w.order, func(other money.OrderID) bool { return other == id })
	return w.db.Commit([]step.Record{{Key: wordsPrefix + id.Key()}})
}
