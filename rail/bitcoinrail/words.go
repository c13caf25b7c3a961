package bitcoinrail

import (
	"coinop.dev"
	"coinop.dev/core/codec"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
	"coinop.dev/world/store"
)

// maxBill bounds a bill in bytes: a BIP 21 URI with an address and an amount.
const maxBill = 512

// words keeps what payees said of orders, on disk before anything is paid: a
// payee that is away later cannot be asked again, and without its word a receipt
// proves nothing.
type words struct{ db store.DB }

const wordsPrefix = "bitcoinrail/to/"

func (w words) put(id coinop.OrderID, t target) error {
	b := codec.AppendBytes(nil, t.to)
	b = codec.AppendBytes(b, t.script)
	b = codec.AppendBytes(b, t.bill)
	return w.db.Commit([]step.Record{{Key: wordsPrefix + id.Key(), Value: append(b, t.word[:]...)}})
}

func (w words) get(id coinop.OrderID) (t target, ok bool, err error) {
	raw, err := w.db.Get(wordsPrefix + id.Key())
	if err != nil || raw == nil {
		return t, false, err
	}
	r := codec.NewReader(raw)
	t.to = r.String(maxBill, "payee")
	t.script = r.Bytes(wallet.MaxScript, "script")
	t.bill = r.String(maxBill, "bill")
	r.Fill(t.word[:])
	return t, true, r.Close()
}

func (w words) drop(id coinop.OrderID) error {
	return w.db.Commit([]step.Record{{Key: wordsPrefix + id.Key()}})
}
