package consent

import (
	"bytes"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/veraison/go-cose"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/keys"
)

// What the wallet may have signed expands to a proposal that compacts to the
// same bytes, or to an error.
func FuzzExpand(f *testing.F) {
	seed, err := mnemonic.SeedFromBytes(make([]byte, 64))
	if err != nil {
		f.Fatal(err)
	}
	a, err := descriptor.NewAccount(seed, descriptor.BIP86, 1, 0, &chaincfg.RegressionNetParams)
	if err != nil {
		f.Fatal(err)
	}
	accounts := []descriptor.Descriptor{a.Descriptor()}
	key, err := keys.SecretFromBytes(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		f.Fatal(err)
	}
	place := &compactPlace{Branch: 1, Index: 5}
	for _, c := range []compactProposal{
		{ID: make([]byte, 16), Inputs: []compactInput{{TxID: make([]byte, 32), Place: place, Value: 7}}, Outputs: []compactOutput{{Value: 3, Place: place}}},
		{ID: make([]byte, 16), Inputs: []compactInput{{TxID: make([]byte, 32), Script: []byte{1}, Value: 7}}, Outputs: []compactOutput{{Value: 3, Script: []byte{2}}},
			Orders: []compactOrder{{ID: make([]byte, 16)}}, Proofs: []byte{1, 0, 0}},
	} {
		b, err := encoding.Marshal(&c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		p, err := expand(payload, accounts)
		if err != nil {
			return
		}
		small, err := p.Compact(accounts, ES256K(key))
		if err != nil {
			return // it does not show what it spends, or is no PSBT
		}
		msg := new(cose.Sign1Message)
		if err := msg.UnmarshalCBOR(small); err != nil {
			t.Fatal(err)
		}
		again, err := expand(msg.Payload, accounts)
		if err != nil || !bytes.Equal(again.Append(nil), p.Append(nil)) {
			t.Errorf("%x expands to %x, then to %x, %v", payload, p.Append(nil), again.Append(nil), err)
		}
	})
}
