package bccapi_test

import (
	"bytes"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/gateway/bccapi"
)

// roundTrip checks that what is read is written as the same bytes, but for bytes
// that are ignored and integers longer than they need to be, which are dropped.
func roundTrip(t *testing.T, frame []byte) bccapi.Message {
	m, err := bccapi.Decode(frame)
	if err != nil {
		if _, ok := err.(*bccapi.Error); !ok {
			t.Fatalf("error %v has no code", err)
		}
		return nil
	}
	again := bccapi.Append(nil, m)
	if len(again) > len(frame) || len(again) == len(frame) && !bytes.Equal(again, frame) {
		t.Fatalf("%x is written again as %x", frame, again)
	}
	m2, err := bccapi.Decode(again)
	if err != nil {
		t.Fatalf("%x is not read again: %v", again, err)
	}
	if third := bccapi.Append(nil, m2); !bytes.Equal(third, again) {
		t.Fatalf("%x becomes %x", again, third)
	}
	return m
}

// FuzzRequest also lets a server answer, on every path.
func FuzzRequest(f *testing.F) {
	for _, g := range goldens(f) {
		f.Add(unhex(f, g.frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		roundTrip(t, frame)
		s := bccapi.New(bccapi.Options{Source: still{}, Params: &chaincfg.MainNetParams})
		answers := 0
		for _, call := range []string{"queryBalance", "queryUnspentOutputs", "queryTransactionInventory", "queryTransactionSummary", "broadcastTransaction"} {
			if _, refused := ask(t, s, call, home, frame).(*bccapi.Error); !refused {
				answers++
			}
		}
		if answers > 1 {
			t.Fatalf("%x is a request of %d calls", frame, answers)
		}
	})
}

// FuzzResponse is what a client reads, with the check that precedes a signature.
func FuzzResponse(f *testing.F) {
	for _, g := range goldens(f) {
		f.Add(unhex(f, g.frame), []byte{})
		f.Add(unhex(f, g.frame), unhex(f, exampleTx))
	}
	f.Fuzz(func(t *testing.T, frame, prev []byte) {
		m, _ := roundTrip(t, frame).(bccapi.UnspentResponse)
		shown, _ := roundTrip(t, append([]byte{0x12, byte(len(prev)), byte(len(prev) >> 8), byte(len(prev) >> 16), 0}, prev...)).(bccapi.BroadcastRequest)
		for _, o := range m.Unspent {
			if shown.Tx != nil && o.Check(shown.Tx) == nil && o.Value != shown.Tx.TxOut[o.Point.Index].Value {
				t.Fatal("a lie goes through")
			}
		}
	})
}
