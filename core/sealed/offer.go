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

// Limits of a stream.
const (
	// MaxChunks bounds the chunks of one offer: their digests fit one message. What
	// goes on for longer is one offer after the other.
	MaxChunks = 1024
)

// An ID names a stream.
type ID [16]byte

// An Offer is a stream's signed promise: so many chunks, each with its price, its
// digest, and a key that hashes, link by link, to the anchor.
type Offer struct {
	ID      ID
	Seller  keys.Public
	Price   money.Amount // of each chunk
	Anchor  [32]byte     // the hash of the first chunk's key
	Meta    []byte       // what the seller says is inside
	Digests [][32]byte   // of the ciphertexts; chunks are counted from 1
	Sig     keys.Signature
}

// Commitment is what the seller signs.
func (o *Offer) Commitment() [32]byte {
	var n [16]byte
	binary.BigEndian.PutUint64(n[:], uint64(o.Price))
	binary.BigEndian.PutUint64(n[8:], uint64(len(o.Digests)))
	meta, chunks := sha256.Sum256(o.Meta), sha256.New()
	for i := range o.Digests {
		chunks.Write(o.Digests[i][:])
	}
	return keys.Digest("coinop/sealed/offer", o.ID[:], o.Seller[:], n[:], o.Anchor[:], meta[:], chunks.Sum(nil))
}

// Check is the buyer's before it pays anything.
func (o *Offer) Check(seller keys.Public) error {
	switch {
	case len(o.Digests) == 0 || len(o.Digests) > MaxChunks:
		return fmt.Errorf("the stream has %d chunks; it must have 1 to %d", len(o.Digests), MaxChunks)
	case o.Price == 0 || o.Price > money.MaxAmount/MaxChunks:
		return fmt.Errorf("a chunk costs %v, which cannot be", o.Price)
	case o.Seller != seller || !seller.Verify(o.Commitment(), o.Sig):
		return ErrForged
	}
	return nil
}

// Order is what pays for chunk i. Both ends know it without asking.
func (o *Offer) Order(i int) (id money.OrderID) {
	d := keys.Digest("coinop/sealed/order", o.ID[:], o.Seller[:], binary.BigEndian.AppendUint32(nil, uint32(i)))
	copy(id[:], d[:])
	return id
}

const purposeChunk = "coinop/sealed/chunk"

// aboutChunk is what a chunk's ciphertext is bound to.
func aboutChunk(id ID, i int) []byte { return binary.BigEndian.AppendUint32(id[:], uint32(i)) }

func digest(cipher []byte) [32]byte { return sha256.Sum256(cipher) }

// next is the key of the chunk before: links are used from the far end.
func (k Key) next() Key { return NewKey(k.Hash()) }

// back hashes a key so many times.
func (k Key) back(times int) Key {
	for range times {
		k = k.next()
	}
	return k
}

// FraudOf judges the seller of a stream by chunk i: what it has signed, sent, and
// revealed the key of. As in Fraud, if it is proven, why is what is wrong.
func FraudOf(o *Offer, c Chunk, k Key) (proven bool, why error) {
	if err := o.Check(o.Seller); err != nil {
		return false, err
	}
	switch {
	case c.ID != o.ID || c.I < 1 || c.I > len(o.Digests) || digest(c.Cipher) != o.Digests[c.I-1]:
		return false, errors.New("the chunk is not the offer's")
	case k.IsZero() || k.back(c.I).Reveal() != o.Anchor:
		return false, ErrKey
	}
	_, err := k.open(purposeChunk, aboutChunk(o.ID, c.I), c.Cipher)
	return err != nil, err
}

// Messages. Their types are odd and custom (BOLT 1).
const (
	typeSealed = 0x8a01 + 2*iota
	typeOffer
	typeWant
	typeChunk
	typeReveal
	typeEnd
)

// Owns reports whether a message type belongs to this package.
func Owns(typ uint16) bool { return typ >= typeSealed && typ < typeEnd && typ%2 == 1 }

// A Want asks for chunk I of a stream, and says that the buyer has all before it.
// With I 0 it asks for the offer.
type Want struct {
	ID ID
	I  int
}

// A Chunk is a sealed piece of a stream.
type Chunk struct {
	ID     ID
	I      int
	Cipher []byte
}

// A Reveal is the key of chunk I, and so of all before it.
type Reveal struct {
	ID  ID
	I   int
	Key Key
}

// A Message is *Sealed, *Offer, Want, Chunk or Reveal. They are for whoever holds
// the stream or the reader, which is no core of its own.
type Message interface {
	Core() string
	// Append encodes it behind its two-byte type.
	Append(b []byte) []byte
}

// Core is none.
func (*Sealed) Core() string { return "" }

// Core is none.
func (*Offer) Core() string { return "" }

// Core is none.
func (Want) Core() string { return "" }

// Core is none.
func (Chunk) Core() string { return "" }

// Core is none.
func (Reveal) Core() string { return "" }

func head(b []byte, typ uint16) []byte { return binary.BigEndian.AppendUint16(b, typ) }

// Append encodes the message behind its two-byte type.
func (s *Sealed) Append(b []byte) []byte { return s.append(head(b, typeSealed)) }

// Append encodes the message behind its two-byte type.
func (o *Offer) Append(b []byte) []byte { return o.append(head(b, typeOffer)) }

// Append encodes the message behind its two-byte type.
func (m Want) Append(b []byte) []byte {
	return codec.AppendUint(append(head(b, typeWant), m.ID[:]...), m.I)
}

// Append encodes the message behind its two-byte type.
func (m Chunk) Append(b []byte) []byte {
	b = codec.AppendUint(append(head(b, typeChunk), m.ID[:]...), m.I)
	return codec.AppendBytes(b, m.Cipher)
}

// Append encodes the message behind its two-byte type.
func (m Reveal) Append(b []byte) []byte {
	b = codec.AppendUint(append(head(b, typeReveal), m.ID[:]...), m.I)
	key := m.Key.Reveal()
	return append(b, key[:]...)
}

func (o *Offer) append(b []byte) []byte {
	b = append(append(b, o.ID[:]...), o.Seller[:]...)
	b = append(codec.AppendUint(b, o.Price), o.Anchor[:]...)
	b = codec.AppendBytes(b, o.Meta)
	b = codec.AppendUint(b, len(o.Digests))
	for i := range o.Digests {
		b = append(b, o.Digests[i][:]...)
	}
	return append(b, o.Sig[:]...)
}

func readOffer(r *codec.Reader) (o Offer) {
	r.Fill(o.ID[:])
	r.Fill(o.Seller[:])
	o.Price = r.Amount()
	r.Fill(o.Anchor[:])
	o.Meta = r.Bytes(MaxMeta, "description")
	n := r.Int(MaxChunks, "number of chunks")
	if n > r.Len()/32 {
		r.Fail(codec.ErrShort)
		return o
	}
	o.Digests = make([][32]byte, n)
	for i := range o.Digests {
		r.Fill(o.Digests[i][:])
	}
	r.Fill(o.Sig[:])
	return o
}

// Decode reads one message.
func Decode(b []byte) (Message, error) {
	r := codec.NewReader(b)
	var m Message
	switch r.U16() {
	case typeSealed:
		s := readSealed(r)
		m = &s
	case typeOffer:
		o := readOffer(r)
		m = &o
	case typeWant:
		var w Want
		r.Fill(w.ID[:])
		w.I = r.Int(MaxChunks+1, "chunk")
		m = w
	case typeChunk:
		var c Chunk
		r.Fill(c.ID[:])
		c.I, c.Cipher = r.Int(MaxChunks, "chunk"), r.Bytes(maxCipher, "ciphertext")
		m = c
	case typeReveal:
		var v Reveal
		r.Fill(v.ID[:])
		v.I = r.Int(MaxChunks, "chunk")
		var key [32]byte
		r.Fill(key[:])
		v.Key = NewKey(key)
		m = v
	default:
		r.Fail(errors.New("not a message about sealed data"))
	}
	if err := r.Close(); err != nil {
		return nil, err
	}
	return m, nil
}
