package consent_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/consent"
)

func samples() []consent.Message {
	genesis := chaincfg.RegressionNetParams.GenesisBlock.Header
	first := next(genesis, chainhash.Hash{1})
	given := consent.Consent{ID: consent.ID{3}, Counter: 400, Signatures: [][]byte{bytes.Repeat([]byte{4}, 64), bytes.Repeat([]byte{5}, 72)}}
	return []consent.Message{
		consent.Proposal{},
		consent.Proposal{
			ID: consent.ID{1}, Replaces: consent.ID{2}, PSBT: []byte("psbt\xff"),
			Proofs: []merkle.Proof{{Height: 7, Branch: merkle.Branch{Index: 1, Hashes: make([]chainhash.Hash, 2)}}},
			Orders: []consent.Order{{ID: orderID("o"), Output: 3, Script: shop("shop"), Amount: 9, Index: 10}},
		},
		given,
		consent.Refusal{ID: consent.ID{1}, Reason: consent.ReasonFee, Text: "the fee"},
		consent.AskHeaders{},
		consent.AskHeaders{At: 12, Locator: make([]chainhash.Hash, 3)},
		consent.Headers{},
		consent.Headers{From: 1, Headers: []wire.BlockHeader{first, next(first, chainhash.Hash{2})}},
		consent.Seen{TxID: chainhash.Hash{9}, Consent: given},
	}
}

func TestMessages(t *testing.T) {
	types := map[string]bool{}
	for _, m := range samples() {
		raw := m.Append(nil)
		got, err := consent.Decode(raw)
		if err != nil || !bytes.Equal(got.Append(nil), raw) || got.Core() != m.Core() {
			t.Errorf("%T: %+v, %v", m, got, err)
		}
		typ := uint16(raw[0])<<8 | uint16(raw[1])
		if !consent.Owns(typ) || consent.Owns(typ+1) {
			t.Errorf("%T: type %x", m, typ)
		}
		types[string(raw[:2])] = true
		if _, err := consent.Decode(append(raw, 0)); err == nil && len(raw) > 2 {
			t.Errorf("%T was read with a byte behind it", m)
		}
		for n := range raw {
			if _, err := consent.Decode(raw[:n]); err == nil {
				t.Errorf("%T was read from %d of %d bytes", m, n, len(raw))
			}
		}
	}
	if len(types) != 6 || consent.Owns(0x86ff) || consent.Owns(0x870d) || !consent.Owns(0x8701) || !consent.Owns(0x870b) {
		t.Errorf("%d types", len(types))
	}
	long := consent.Refusal{Text: strings.Repeat("x", 5000)}.Append(nil)
	if _, err := consent.Decode(long); err != nil {
		t.Errorf("a long reason is not cut: %v", err)
	}
	if _, err := consent.Decode(make([]byte, consent.MaxMessage+1)); err == nil {
		t.Error("a message of more than the limit was read")
	}
}

// Every reason has its own name, for logs and refusals.
func TestReasonsHaveNames(t *testing.T) {
	names := map[string]bool{}
	for r := consent.ReasonNone; r <= consent.ReasonPerDay; r++ {
		if names[r.String()] || r.String() == "" || strings.HasPrefix(r.String(), "reason") {
			t.Errorf("reason %d is called %q", r, r)
		}
		names[r.String()] = true
	}
	if got := (consent.ReasonPerDay + 1).String(); got != "reason 32" {
		t.Errorf("an unknown reason is called %q", got)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := consent.Decode(raw)
		if err != nil {
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, raw) {
			t.Errorf("%x is read, and written as %x", raw, again)
		}
	})
}
