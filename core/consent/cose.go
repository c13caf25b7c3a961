package consent

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"coinop.dev/core/keys"
)

// algorithmES256K is ECDSA on secp256k1 with SHA-256 (RFC 8812, section 3.2),
// which the library leaves to others.
const algorithmES256K cose.Algorithm = -47

// ES256K signs with a node's key.
func ES256K(key keys.Secret) cose.Signer { return es256k{key} }

// ES256KOf checks what ES256K signed.
func ES256KOf(key keys.Public) cose.Verifier { return es256kOf{key} }

// EdDSA signs with a stamp: for a gateway that has no other key.
func EdDSA(key keys.Stamp) cose.Signer { return eddsa{key} }

// EdDSAOf checks what EdDSA signed.
func EdDSAOf(key keys.StampPublic) cose.Verifier { return eddsaOf{key} }

type es256k struct{ key keys.Secret }

func (es256k) Algorithm() cose.Algorithm { return algorithmES256K }

func (s es256k) Sign(_ io.Reader, content []byte) ([]byte, error) {
	sig := s.key.Sign(sha256.Sum256(content))
	return sig[:], nil
}

type es256kOf struct{ key keys.Public }

func (es256kOf) Algorithm() cose.Algorithm { return algorithmES256K }

func (v es256kOf) Verify(content, sig []byte) error {
	if len(sig) != len(keys.Signature{}) || !v.key.Verify(sha256.Sum256(content), keys.Signature(sig)) {
		return cose.ErrVerification
	}
	return nil
}

type eddsa struct{ key keys.Stamp }

func (eddsa) Algorithm() cose.Algorithm { return cose.AlgorithmEdDSA }

func (s eddsa) Sign(_ io.Reader, content []byte) ([]byte, error) {
	sig := s.key.Sign(content)
	return sig[:], nil
}

type eddsaOf struct{ key keys.StampPublic }

func (eddsaOf) Algorithm() cose.Algorithm { return cose.AlgorithmEdDSA }

func (v eddsaOf) Verify(content, sig []byte) error {
	if len(sig) != 64 || !v.key.Verify(content, [64]byte(sig)) {
		return cose.ErrVerification
	}
	return nil
}

// encoding is core deterministic (RFC 8949, section 4.2.1). decoding takes no
// key twice, no unknown key, and no length that is not given.
var (
	encoding, encodingErr = cbor.CoreDetEncOptions().EncMode()
	decoding, decodingErr = cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 8, MaxArrayElements: 128, MaxMapPairs: 16,
	}.DecMode()
)

// errModes is nil: the options are constants.
var errModes = errors.Join(encodingErr, decodingErr)

// compactConsent is the payload of a consent's COSE_Sign1.
type compactConsent struct {
	ID         []byte   `cbor:"1,keyasint"`
	Counter    uint64   `cbor:"2,keyasint"`
	Signatures [][]byte `cbor:"3,keyasint"`
}

func (m *Consent) payload() ([]byte, error) {
	return encoding.Marshal(compactConsent{m.ID[:], m.Counter, m.Signatures})
}

// cose is the COSE_Sign1 whose signature is Mark. The transaction's ID is under
// it as external data: it says for what the signatures are, and both ends know it.
func (m *Consent) cose() (*cose.Sign1Message, error) {
	payload, err := m.payload()
	if err != nil {
		return nil, err
	}
	msg := cose.NewSign1Message()
	msg.Headers.Protected.SetAlgorithm(algorithmES256K)
	msg.Payload = payload
	return msg, nil
}

// mark is the identity's signature over a consent to a transaction.
func (m *Consent) mark(txid chainhash.Hash, identity keys.Secret) (sig keys.Signature, err error) {
	msg, err := m.cose()
	if err != nil {
		return sig, err
	}
	if err := msg.Sign(nil, txid[:], ES256K(identity)); err != nil {
		return sig, err
	}
	copy(sig[:], msg.Signature)
	return sig, nil
}

// Check reports whether the device with that identity gave this consent for the
// unsigned transaction of that ID. That its signatures fit the transaction is
// for the script engine to say.
func (m *Consent) Check(txid chainhash.Hash, device keys.Public) error {
	msg, err := m.cose()
	if err != nil {
		return err
	}
	msg.Signature = m.Mark[:]
	if err := msg.Verify(txid[:], ES256KOf(device)); err != nil {
		return fmt.Errorf("consent %d to proposal %v is not marked by %v for transaction %v: %w", m.Counter, m.ID, device, txid, err)
	}
	return nil
}

// Compact is the consent for radio: COSE_Sign1 (RFC 9052) around CBOR with
// integer keys. Mark is its signature, so nothing is in it twice.
func (m *Consent) Compact() ([]byte, error) {
	msg, err := m.cose()
	if err != nil {
		return nil, err
	}
	msg.Signature = m.Mark[:]
	return msg.MarshalCBOR()
}

// ParseCompactConsent reads what Compact wrote; who has the transaction Checks.
func ParseCompactConsent(b []byte) (m Consent, err error) {
	msg, err := parseSign1(b)
	if err != nil {
		return m, fmt.Errorf("compact consent: %w", err)
	}
	var c compactConsent
	if err := decoding.Unmarshal(msg.Payload, &c); err != nil {
		return m, fmt.Errorf("compact consent: %w", err)
	}
	if len(c.ID) != len(m.ID) || len(msg.Signature) != len(m.Mark) || len(c.Signatures) > MaxInputs {
		return m, fmt.Errorf("compact consent: ID is %d bytes, mark %d, and there are %d signatures; they must be %d, %d and at most %d",
			len(c.ID), len(msg.Signature), len(c.Signatures), len(m.ID), len(m.Mark), MaxInputs)
	}
	for _, sig := range c.Signatures {
		if len(sig) > maxSig {
			return m, fmt.Errorf("compact consent: signature is %d bytes; the limit is %d", len(sig), maxSig)
		}
	}
	m = Consent{ID: ID(c.ID), Counter: c.Counter, Signatures: c.Signatures, Mark: keys.Signature(msg.Signature)}
	again, err := m.Compact()
	if err == nil && string(again) != string(b) {
		err = errors.New("it is not in its shortest form")
	}
	if err != nil {
		return Consent{}, fmt.Errorf("compact consent: %w", err)
	}
	return m, nil
}

func parseSign1(b []byte) (*cose.Sign1Message, error) {
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes; the limit is %d", errSize, len(b), MaxMessage)
	}
	msg := new(cose.Sign1Message)
	if err := msg.UnmarshalCBOR(b); err != nil {
		return nil, err
	}
	if msg.Payload == nil {
		return nil, cose.ErrMissingPayload
	}
	return msg, errModes
}
