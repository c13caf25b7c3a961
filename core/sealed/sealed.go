// Package sealed sells data fairly: it is published encrypted, and what the payment
// reveals is the key.
//
// Over Lightning the key is the preimage of the invoice (Sealed). Whoever can pay
// has the ciphertext already, and whoever has paid has the key, in one: there is no
// moment between the two in which either side could fall silent. The seller has
// signed the ciphertext and the hash of the key, so if the two do not fit, the
// buyer holds proof of it for anybody (Fraud).
//
// On rails of stamped orders, whose payment reveals nothing, data goes chunk by
// chunk (Stream, Reader): each is sealed with the next key of a hash chain, which
// the seller reveals for its money, and the buyer checks before it pays another. So
// neither risks more than one chunk.
//
// What the package cannot prove is that the data is any good. What it can: that it
// is what the seller has signed, whole, and that nobody has it who has not paid.
// How long it is can be seen.
package sealed

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// Limits. A message must fit BOLT 8's 65,535 bytes.
const (
	// MaxPlain bounds what is sealed at once, in bytes.
	MaxPlain = 32 << 10
	// MaxMeta bounds what the seller says about it.
	MaxMeta = 1024
)

const maxCipher = MaxPlain + overhead

// Errors that a caller tells apart. What is wrong with data is an error of its own.
var (
	ErrForged = errors.New("the seller has not signed it")
	ErrKey    = errors.New("the key is not the one that was sold")
)

// A Sealed is data in its envelope.
type Sealed struct {
	Order  money.OrderID // that buys the key
	Amount money.Amount
	Seller keys.Public
	Hash   [32]byte // of the key: the payment hash
	Meta   []byte   // what the seller says is inside
	Cipher []byte
	Sig    keys.Signature
}

const purposeOne = "coinop/sealed"

// Seal encrypts data for whoever pays the order, with its preimage, and signs it.
func Seal(seller keys.Secret, order money.OrderID, amount money.Amount, key Key, meta, plain []byte) (s Sealed, err error) {
	switch {
	case len(plain) > MaxPlain:
		return s, fmt.Errorf("the data has %d bytes; the limit is %d; sell it as a stream", len(plain), MaxPlain)
	case len(meta) > MaxMeta:
		return s, fmt.Errorf("the description has %d bytes; the limit is %d", len(meta), MaxMeta)
	case key.IsZero():
		return s, errors.New("there is no key")
	}
	s = Sealed{Order: order, Amount: amount, Seller: seller.Public(), Hash: key.Hash(), Meta: meta}
	s.Cipher = key.seal(purposeOne, s.about(), plain)
	s.Sig = seller.Sign(s.Commitment())
	return s, nil
}

// about is what the ciphertext is bound to.
func (s *Sealed) about() []byte {
	b := append([]byte(nil), s.Order[:]...)
	return append(b, s.Meta...)
}

// Commitment is what the seller signs. Stored or published elsewhere, it shows that
// the data was there, unchanged.
func (s *Sealed) Commitment() [32]byte {
	var sizes [16]byte
	binary.BigEndian.PutUint64(sizes[:], uint64(s.Amount))
	binary.BigEndian.PutUint64(sizes[8:], uint64(len(s.Cipher)))
	meta, cipher := sha256.Sum256(s.Meta), sha256.Sum256(s.Cipher)
	return keys.Digest("coinop/sealed", s.Order[:], s.Seller[:], s.Hash[:], sizes[:], meta[:], cipher[:])
}

// Check is the buyer's before it pays: the seller has signed it, and paying the
// invoice with that hash, for that amount, buys its key.
func (s *Sealed) Check(seller keys.Public, paymentHash [32]byte, amount money.Amount) error {
	switch {
	case s.Seller != seller || !seller.Verify(s.Commitment(), s.Sig):
		return ErrForged
	case s.Hash != paymentHash:
		return fmt.Errorf("%w: the invoice pays %x, and the data is sealed with %x", ErrKey, paymentHash, s.Hash)
	case s.Amount != amount:
		return fmt.Errorf("it is sold for %v, and the invoice asks for %v", s.Amount, amount)
	}
	return nil
}

// Size is how many bytes are inside.
func (s *Sealed) Size() int { return max(0, len(s.Cipher)-overhead) }

// Open decrypts with the preimage that the payment has revealed. ErrKey means that
// it is another one, and any other error that the seller has cheated: see Fraud.
func (s *Sealed) Open(key Key) ([]byte, error) {
	if key.IsZero() || key.Hash() != s.Hash {
		return nil, ErrKey
	}
	return key.open(purposeOne, s.about(), s.Cipher)
}

// Fraud judges a seller by what it has signed and the key it has sold. If it is
// proven, why is what is wrong; if it is not, why is what is wrong with the
// evidence, or nil: the data is as promised.
func Fraud(s *Sealed, key Key) (proven bool, why error) {
	if !s.Seller.Verify(s.Commitment(), s.Sig) {
		return false, ErrForged
	}
	_, err := s.Open(key)
	return err != nil && !errors.Is(err, ErrKey), err
}

// append writes what readSealed reads.
func (s *Sealed) append(b []byte) []byte {
	b = append(b, s.Order[:]...)
	b = codec.AppendUint(b, s.Amount)
	b = append(append(b, s.Seller[:]...), s.Hash[:]...)
	b = codec.AppendBytes(codec.AppendBytes(b, s.Meta), s.Cipher)
	return append(b, s.Sig[:]...)
}

func readSealed(r *codec.Reader) (s Sealed) {
	r.Fill(s.Order[:])
	s.Amount = r.Amount()
	r.Fill(s.Seller[:])
	r.Fill(s.Hash[:])
	s.Meta = r.Bytes(MaxMeta, "description")
	s.Cipher = r.Bytes(maxCipher, "ciphertext")
	r.Fill(s.Sig[:])
	return s
}
