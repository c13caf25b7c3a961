package sealed

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// A Stream is the seller's end. It is a value without hands: whoever holds it keeps
// its Record before the offer is out, and its Place in the same durable write as the
// payments that it is told of, and sends what it answers. A stream is one buyer's:
// its ID is new, and only the buyer is answered, because what is paid for is in the
// answers. Its keys follow from the seller's secret and what is sold, so after a
// crash the same payment reveals the same key; a seller that would rather keep
// nothing gives its buyer the Ticket.
//
// Invariant: a key leaves (Answer) only when every chunk up to its own is paid.
type Stream struct {
	Offer
	ciphers [][]byte
	goods   [32]byte // a MAC of what is sold, from which the keys follow
	keys    []Key    // by chunk; the first is the anchor
	orders  map[money.OrderID]int
	paid    []bool // by chunk, from 1
	done    int    // so many are paid without a gap
}

// purposeStream is what the last key of a stream is made for.
const purposeStream = "coinop/sealed/stream"

// begin makes the keys, from the last to the anchor, and the orders.
func (s *Stream) begin(seller keys.Secret) {
	n := len(s.ciphers)
	s.keys = make([]Key, n+1)
	s.keys[n] = NewKey(seller.MAC(purposeStream, s.goods[:]))
	for i := n; i > 0; i-- {
		s.keys[i-1] = s.keys[i].next()
	}
	s.orders, s.paid = make(map[money.OrderID]int, n), make([]bool, n+1)
	for i := 1; i <= n; i++ {
		s.orders[s.Order(i)] = i
	}
}

// NewStream seals chunks and signs the offer. The same chunks under the same ID
// give the same stream again; other chunks have other keys.
func NewStream(seller keys.Secret, id ID, price money.Amount, meta []byte, chunks [][]byte) (*Stream, error) {
	n := len(chunks)
	if n == 0 || n > MaxChunks {
		return nil, fmt.Errorf("the stream has %d chunks; it must have 1 to %d", n, MaxChunks)
	}
	if len(meta) > MaxMeta {
		return nil, fmt.Errorf("the description has %d bytes; the limit is %d", len(meta), MaxMeta)
	}
	s := &Stream{Offer: Offer{ID: id, Seller: seller.Public(), Price: price, Meta: meta}}
	s.ciphers, s.Digests = make([][]byte, n), make([][32]byte, n)
	sums := append([]byte(nil), id[:]...)
	for i, c := range chunks {
		if len(c) > MaxPlain {
			return nil, fmt.Errorf("chunk %d has %d bytes; the limit is %d", i+1, len(c), MaxPlain)
		}
		sum := sha256.Sum256(c)
		sums = append(sums, sum[:]...)
	}
	sum := sha256.Sum256(sums)
	s.goods = seller.MAC("coinop/sealed/goods", sum[:])
	s.begin(seller)
	for i := range n {
		s.ciphers[i] = s.keys[i+1].seal(purposeChunk, aboutChunk(id, i+1), chunks[i])
		s.Digests[i] = digest(s.ciphers[i])
	}
	s.Anchor = s.keys[0].Reveal()
	s.Sig = seller.Sign(s.Commitment())
	return s, s.Check(s.Seller)
}

// Paid is told of every payment that arrives, and reports whether it was for a
// chunk of this stream, enough, and new. Then the Place has changed.
func (s *Stream) Paid(order money.OrderID, amount money.Amount) bool {
	i := s.orders[order]
	if i == 0 || amount < s.Price || s.paid[i] {
		return false
	}
	s.paid[i] = true
	s.count()
	return true
}

func (s *Stream) count() {
	for s.done < len(s.ciphers) && s.paid[s.done+1] {
		s.done++
	}
}

// Answer is what a buyer who wants something gets: the offer, or the chunk and the
// newest key that is paid for. The same question has the same answer, so nothing
// that is lost is lost for long.
func (s *Stream) Answer(w Want) (out []Message) {
	n := len(s.ciphers)
	if w.ID != s.ID || w.I > n+1 || w.I < 0 {
		return nil
	}
	if w.I == 0 {
		offer := s.Offer
		return append(out, &offer)
	}
	if w.I <= n {
		out = append(out, Chunk{s.ID, w.I, s.ciphers[w.I-1]})
	}
	if r, ok := s.Reveal(); ok {
		out = append(out, r)
	}
	return out
}

// Reveal is the newest key that is paid for.
func (s *Stream) Reveal() (r Reveal, any bool) {
	if s.done == 0 {
		return r, false
	}
	return Reveal{s.ID, s.done, s.keys[s.done]}, true
}

// Sold is how many chunks are paid without a gap.
func (s *Stream) Sold() int { return s.done }

// Record is what is sold, on disk, without its keys. It never changes.
func (s *Stream) Record() []byte {
	b := s.append(nil)
	for i := range s.ciphers {
		b = codec.AppendBytes(b, s.ciphers[i])
	}
	return append(b, s.goods[:]...)
}

// Place is what is paid, on disk: a bit for each chunk.
func (s *Stream) Place() []byte { return bits(s.paid) }

// LoadStream reads a stream back. Without a place nothing is paid.
func LoadStream(seller keys.Secret, record, place []byte) (*Stream, error) {
	r := codec.NewReader(record)
	s := &Stream{Offer: readOffer(r)}
	s.ciphers = make([][]byte, len(s.Digests))
	for i := range s.ciphers {
		s.ciphers[i] = r.Bytes(maxCipher, "ciphertext")
	}
	r.Fill(s.goods[:])
	err := r.Close()
	if err == nil {
		err = s.Check(seller.Public())
	}
	if err != nil {
		return nil, fmt.Errorf("record of a stream: %w", err)
	}
	s.begin(seller)
	if place != nil {
		r = codec.NewReader(place)
		readBits(r, s.paid)
		if err := r.Close(); err != nil {
			return nil, fmt.Errorf("record of a stream's payments: %w", err)
		}
	}
	s.count()
	return s, nil
}

func bits(set []bool) []byte {
	b := make([]byte, (len(set)+7)/8)
	for i, on := range set {
		if on {
			b[i/8] |= 1 << (i % 8)
		}
	}
	return b
}

func readBits(r *codec.Reader, set []bool) {
	b := r.Take((len(set) + 7) / 8)
	if b == nil {
		return
	}
	for i := range len(b) * 8 {
		on := b[i/8]>>(i%8)&1 == 1
		if i < len(set) && i > 0 {
			set[i] = on
		} else if on {
			r.Fail(errors.New("a payment of no chunk"))
		}
	}
}
