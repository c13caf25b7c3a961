package bitcoinrail

import (
	"encoding/binary"
	"testing"

	"coinop.dev/core/money"
	"coinop.dev/world/store/mem"
)

// The payees of the last orders are remembered, across a restart, and no more.
func TestWordsAreBounded(t *testing.T) {
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	id := func(n int) (o money.OrderID) {
		binary.BigEndian.PutUint32(o[:], uint32(n))
		return o
	}
	w, err := loadWords(db)
	if err != nil {
		t.Fatal(err)
	}
	for n := range KeepWords + 10 {
		if n == KeepWords/2 {
			if w, err = loadWords(db); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.put(id(n), target{to: "bitcoin:somebody", script: []byte{byte(n)}}); err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range map[int]bool{0: false, 9: false, 10: true, KeepWords + 9: true} {
		to, got, err := w.get(id(n))
		if err != nil || got != want || got && to.script[0] != byte(n) {
			t.Errorf("order %d is remembered: %v, %+v, %v; want %v", n, got, to, err, want)
		}
	}
	if err := w.drop(id(50)); err != nil {
		t.Fatal(err)
	}
	records := 0
	if err := db.Scan(wordsPrefix, func(string, []byte) bool { records++; return true }); err != nil || records != KeepWords-1 {
		t.Errorf("%d records, want %d: %v", records, KeepWords-1, err)
	}
}
